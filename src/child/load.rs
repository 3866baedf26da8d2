//! The load, in a process of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::orders::{answer, orders};
use super::wire::{LoadAnswer, LoadOrder, Ran};
use crate::workload::{Fault, Generator};
use crate::{cpus, usage};

/// Obeys until the parent is gone, which ends the process elsewhere.
pub(super) fn run() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let orders = orders(move |order| {
        let stops = matches!(order, LoadOrder::Stop);
        stopped.fetch_or(stops, Ordering::Relaxed);
        stops
    });
    usage::raise_descriptor_limit();
    let mut load = None;
    while let Ok(order) = orders.recv() {
        answer(
            &obey(&mut load, order, &stop)
                .unwrap_or_else(|fault| LoadAnswer::Fault { why: fault.to_string(), voids: fault.voids() }),
        );
    }
}

fn obey(load: &mut Option<Generator>, order: LoadOrder, stop: &Arc<AtomicBool>) -> Result<LoadAnswer, Fault> {
    match (order, load) {
        (LoadOrder::Target { address, size, cpu, first, sources }, load @ None) => {
            let unpinned = cpus::unpinned(cpu);
            let mut generator = Generator::new(address, size)?;
            generator.stop_on(Arc::clone(stop));
            generator.number_from(first);
            sources.into_iter().for_each(|sources| generator.come_from(sources));
            *load = Some(generator);
            return Ok(LoadAnswer::Ready { unpinned });
        }
        (LoadOrder::Follow(traffic), Some(load)) => load.follow(traffic),
        (LoadOrder::OpenIdle(connections), Some(load)) => load.open_idle(connections)?,
        (LoadOrder::OpenActive(connections), Some(load)) => load.open_active(connections)?,
        (LoadOrder::Run(span), Some(load)) => return Ok(LoadAnswer::Ran(Ran::from(&load.run(span.into())?))),
        (LoadOrder::Churn(at_once, span), Some(load)) => {
            return Ok(LoadAnswer::Ran(Ran::from(&load.churn(at_once, span.into())?)));
        }
        (LoadOrder::VerifyIdle, Some(load)) => load.verify_idle()?,
        (LoadOrder::CloseActive, Some(load)) => load.close_active()?,
        (LoadOrder::Memory, _) => return Ok(LoadAnswer::Memory(usage::private_memory())),
        (order, _) => return Ok(LoadAnswer::Fault { why: format!("not now: {order:?}"), voids: false }),
    }
    Ok(LoadAnswer::Done)
}
