//! The measured server, in a process that does nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, process};

use pollmark_backends::Registry;

use super::instructions::Counters;
use super::orders::answer;
use super::wire::{Instructions, Lap, ServerAnswer, ServerOrder};
use crate::mechanism::Mechanism;
use crate::protocol::Echo;
use crate::server::{Config, Control, Server, Stats};
use crate::usage;

/// Outside the range from which connecting sockets take their ports, on Linux and elsewhere: a socket that connects
/// to a port it was itself given connects to itself.
const PORTS: std::ops::Range<u16> = if cfg!(linux_like) { 20_000..30_000 } else { 7_000..10_000 };
/// How many of them are tried.
const ATTEMPTS: u32 = 100;

/// Obeys until the parent is gone, which ends the process elsewhere.
pub(super) fn run(registry: &Registry, orders: &Receiver<ServerOrder>) {
    let mut serving = None;
    while let Ok(order) = orders.recv() {
        let reply = match (order, &mut serving) {
            (ServerOrder::Serve { mechanism, cpu, count_instructions }, serving @ None) => {
                match Serving::begin(registry, &mechanism, cpu, count_instructions) {
                    Ok((begun, reply)) => {
                        *serving = Some(begun);
                        reply
                    }
                    Err(error) => ServerAnswer::Failed(error.to_string()),
                }
            }
            (ServerOrder::Lap { memory }, Some(serving)) => match serving.lap(memory) {
                Ok(lap) => ServerAnswer::Lap(Box::new(lap)),
                Err(error) => ServerAnswer::Failed(error.to_string()),
            },
            (order, _) => ServerAnswer::Failed(format!("not now: {order:?}")),
        };
        answer(&reply);
    }
}

struct Serving {
    control: Control,
    counters: Option<Counters>,
    running: Option<JoinHandle<io::Result<Stats>>>,
    before: Account,
}

/// All that was used and done, from the beginning.
#[derive(Clone, Copy, Default)]
struct Account {
    cpu: Option<Duration>,
    user: Option<Duration>,
    system: Option<Duration>,
    instructions: Option<Instructions>,
    stats: Stats,
}

impl Serving {
    fn begin(
        registry: &Registry,
        mechanism: &str,
        cpu: Option<usize>,
        count_instructions: bool,
    ) -> io::Result<(Serving, ServerAnswer)> {
        let mechanism = Mechanism::parse(registry, mechanism)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        // Pinned, and counted, before there is any other thread: threads inherit both.
        let unpinned = cpu.and_then(|cpu| usage::pin(cpu).err()).map(|error| error.to_string());
        let (counters, uncounted) = match count_instructions.then(Counters::open) {
            None => (None, None),
            Some(Ok(counters)) => (Some(counters), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        let server = bind(registry, &mechanism)?;
        let address = server.addresses()[0].tcp().ok_or_else(|| io::Error::other("the server is bound to no port"))?;
        let control = server.control();
        let running = Some(thread::Builder::new().name("server".into()).spawn(move || server.run())?);
        let serving = Serving { control, counters, running, before: Account::default() };
        Ok((serving, ServerAnswer::Serving { address, unpinned, uncounted }))
    }

    fn lap(&mut self, memory: bool) -> io::Result<Lap> {
        let Ok(stats) = self.control.stats() else { return Err(self.reason()) };
        let (user, system) = usage::user_and_system().unzip();
        let instructions = self.counters.as_mut().and_then(Counters::read);
        let now = Account { cpu: usage::cpu_time(), user, system, instructions, stats };
        let before = std::mem::replace(&mut self.before, now);
        let stats = now.stats - before.stats;
        Ok(Lap {
            cpu: since(now.cpu, before.cpu),
            user: since(now.user, before.user),
            system: since(now.system, before.system),
            instructions: now.instructions.map(|now| now - before.instructions.unwrap_or_default()),
            ledger: stats.into(),
            refused: stats.refused,
            memory: if memory { usage::private_memory() } else { None },
        })
    }

    /// Why the server does not answer any more.
    fn reason(&mut self) -> io::Error {
        match self.running.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => io::Error::new(error.kind(), format!("the server has failed: {error}")),
            Some(Err(_)) => io::Error::other("the server has panicked"),
            Some(Ok(Ok(_))) | None => io::Error::other("the server has stopped"),
        }
    }
}

fn since(now: Option<Duration>, before: Option<Duration>) -> Option<Duration> {
    // The clocks that are sampled may step back a little.
    Some(now?.saturating_sub(before.unwrap_or_default()))
}

fn bind(registry: &Registry, mechanism: &Mechanism) -> io::Result<Box<dyn Server>> {
    // Children that are started together begin at different ports.
    let first = process::id().wrapping_mul(7);
    let span = u32::from(PORTS.end - PORTS.start);
    let candidates = (0..ATTEMPTS).map(|attempt| PORTS.start + (first.wrapping_add(attempt) % span) as u16);
    for port in candidates.chain([0]) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match mechanism.bind(registry, Config::listen(address.into()), Echo) {
            Err(error) if port != 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    unreachable!("port 0 is tried last, and its result returned")
}
