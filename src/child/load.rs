//! The load, in a process of its own.

use std::sync::mpsc::Receiver;

use super::orders::answer;
use super::wire::{LoadAnswer, LoadOrder, Ran};
use crate::usage;
use crate::workload::{Fault, Generator};

/// Obeys until the parent is gone, which ends the process elsewhere.
pub(super) fn run(orders: &Receiver<LoadOrder>) {
    usage::raise_descriptor_limit();
    let mut load = None;
    while let Ok(order) = orders.recv() {
        answer(&obey(&mut load, order).unwrap_or_else(|fault| LoadAnswer::Fault(fault.to_string())));
    }
}

fn obey(load: &mut Option<Generator>, order: LoadOrder) -> Result<LoadAnswer, Fault> {
    match (order, load) {
        (LoadOrder::Target { address, size, cpu }, load @ None) => {
            let unpinned = cpu.and_then(|cpu| usage::pin(cpu).err()).map(|error| error.to_string());
            *load = Some(Generator::new(address, size)?);
            return Ok(LoadAnswer::Ready { unpinned });
        }
        (LoadOrder::OpenIdle(connections), Some(load)) => load.open_idle(connections)?,
        (LoadOrder::OpenActive(connections), Some(load)) => load.open_active(connections)?,
        (LoadOrder::Run(span), Some(load)) => return Ok(LoadAnswer::Ran(Ran::from(&load.run(span.into())?))),
        (LoadOrder::VerifyIdle, Some(load)) => load.verify_idle()?,
        (LoadOrder::CloseActive, Some(load)) => load.close_active()?,
        (order, _) => return Ok(LoadAnswer::Fault(format!("not now: {order:?}"))),
    }
    Ok(LoadAnswer::Done)
}
