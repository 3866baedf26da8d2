//! The ceiling: the cheapest echo server in the place of a measured one, so that the load shows what it does at most.

mod echo;

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::orders::{answer, orders};
use super::wire::{Lap, ServerAnswer, ServerOrder};
use crate::workload::Transport;
use crate::{cpus, usage};
#[cfg(unix)]
pub(super) use echo::bind;

/// Obeys until the parent is gone, which ends the process elsewhere. It understands what any server does, and has no
/// account but that of its CPU time.
pub(super) fn run() {
    let orders = orders(|_| false);
    usage::raise_descriptor_limit();
    let (mut serving, mut before) = (None, Duration::ZERO);
    while let Ok(order) = orders.recv() {
        let reply = match (order, &mut serving) {
            (ServerOrder::Serve { transport, cpu, .. }, serving @ None) => match begin(transport, cpu) {
                Ok((running, reply)) => {
                    *serving = Some(running);
                    reply
                }
                Err(error) => ServerAnswer::Failed(error.to_string()),
            },
            (ServerOrder::Lap { .. }, Some(running)) if !running.is_finished() => {
                let now = usage::cpu_time();
                let since = std::mem::replace(&mut before, now.unwrap_or_default());
                ServerAnswer::Lap(Box::new(lap(now.map(|now| now.saturating_sub(since)))))
            }
            (ServerOrder::Lap { .. }, running) => ServerAnswer::Failed(why(running.take())),
            (order, _) => ServerAnswer::Failed(format!("not of the ceiling: {order:?}")),
        };
        answer(&reply);
    }
}

type Running = JoinHandle<io::Result<Infallible>>;

fn begin(transport: Transport, cpu: Option<usize>) -> io::Result<(Running, ServerAnswer)> {
    let unpinned = cpus::unpinned(cpu);
    let (listener, address) = echo::bind(transport)?;
    let running = thread::Builder::new().name("ceiling".into()).spawn(move || echo::serve(listener))?;
    Ok((running, ServerAnswer::Serving { address, unpinned, uncounted: None }))
}

fn lap(cpu: Option<Duration>) -> Lap {
    let (user, system, instructions, memory) = (None, None, None, None);
    Lap { cpu, user, system, instructions, stats: None, open_by_thread: Vec::new(), slept: None, memory }
}

/// Why it does not serve.
fn why(running: Option<Running>) -> String {
    match running.map(JoinHandle::join) {
        None => "the ceiling was never begun".to_owned(),
        Some(Ok(Err(error))) => format!("the ceiling has failed: {error}"),
        Some(Err(_)) => "the ceiling has panicked".to_owned(),
        Some(Ok(Ok(never))) => match never {},
    }
}
