//! The measured server, in a process that does nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, process};

use pollmark_backends::Registry;

use super::foreign;
use super::instructions::{self, Counters};
use super::knobs::Knobs;
use super::orders::{answer, orders};
use super::wire::{Crew, Instructions, Lap, ServerAnswer, ServerOrder};
use crate::mechanism::Mechanism;
use crate::server::{Address, Config, Control, Server, Stats, UnixName};
use crate::speech::Speech;
use crate::workload::Transport;
use crate::{cpus, usage};

/// Outside the range from which connecting sockets take their ports, on Linux and elsewhere: a socket that connects
/// to a port it was itself given connects to itself.
const PORTS: std::ops::Range<u16> = if cfg!(linux_like) { 20_000..30_000 } else { 7_000..10_000 };
/// How many of them are tried.
const ATTEMPTS: u32 = 100;

/// Obeys until the parent is gone, which ends the process elsewhere.
pub(super) fn run(registry: &Registry) {
    let orders = orders(|_| false);
    usage::raise_descriptor_limit();
    let mut serving = None;
    while let Ok(order) = orders.recv() {
        let reply = match (order, &mut serving) {
            (
                ServerOrder::Serve { mechanism, transport, speech, cpu, crew, knobs, count_instructions, config },
                serving @ None,
            ) => {
                let place = match config {
                    Some(config) => Place::Given(config),
                    None => Place::Free(transport),
                };
                let crew = (crew.as_ref(), knobs);
                match Serving::begin(registry, (&mechanism, &speech), cpu, crew, count_instructions, place) {
                    Ok((begun, reply)) => {
                        *serving = Some(begun);
                        reply
                    }
                    Err(error) => ServerAnswer::Failed(error.to_string()),
                }
            }
            (ServerOrder::Launch { launch, cpu, count_instructions }, None) => {
                return foreign::run(&launch, cpu, count_instructions, &orders);
            }
            (ServerOrder::Lap { memory }, Some(serving)) => match serving.lap(memory) {
                Ok(lap) => ServerAnswer::Lap(Box::new(lap)),
                Err(error) => ServerAnswer::Failed(error.to_string()),
            },
            (ServerOrder::Drain, Some(serving)) => ServerAnswer::Drained(serving.drain()),
            (ServerOrder::Stop, Some(serving)) => match serving.stop() {
                Ok(stats) => ServerAnswer::Stopped(Box::new(stats)),
                Err(error) => ServerAnswer::Failed(error.to_string()),
            },
            (order, _) => ServerAnswer::Failed(format!("not now: {order:?}")),
        };
        answer(&reply);
    }
}

/// Where to listen.
enum Place {
    Given(Box<Config>),
    /// Where nobody does.
    Free(Transport),
}

struct Serving {
    control: Control,
    counters: Option<Counters>,
    running: Option<JoinHandle<io::Result<Stats>>>,
    before: Used,
}

/// All that was used and done, from the beginning.
#[derive(Clone, Copy, Default)]
struct Used {
    cpu: Option<Duration>,
    user: Option<Duration>,
    system: Option<Duration>,
    instructions: Option<Instructions>,
    slept: Option<u64>,
    stats: Stats,
}

impl Serving {
    fn begin(
        registry: &Registry,
        (mechanism, speech): (&str, &Speech),
        cpu: Option<usize>,
        crew: (Option<&Crew>, Knobs),
        count_instructions: bool,
        place: Place,
    ) -> io::Result<(Serving, ServerAnswer)> {
        let mechanism = Mechanism::parse(registry, mechanism)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        // Pinned, and counted, before there is any other thread: threads inherit both.
        let unpinned = cpus::unpinned(cpu);
        let (counters, uncounted) = instructions::open(count_instructions);
        let server = match place {
            Place::Given(config) => speech.bind(&mechanism, registry, by(crew, *config))?,
            Place::Free(Transport::Tcp) => bind(registry, &mechanism, speech, crew)?,
            Place::Free(Transport::Unix) => {
                speech.bind(&mechanism, registry, by(crew, Config::listen(Address::Unix(own_name()))))?
            }
        };
        let address = server.addresses()[0].clone();
        let control = server.control();
        let running = Some(thread::Builder::new().name("server".into()).spawn(move || server.run())?);
        let serving = Serving { control, counters, running, before: Used::default() };
        Ok((serving, ServerAnswer::Serving { address, unpinned, uncounted }))
    }

    fn lap(&mut self, memory: bool) -> io::Result<Lap> {
        let Ok(account) = self.control.account() else { return Err(self.reason()) };
        let (stats, threads) = (account.total, account.threads);
        let (user, system) = usage::user_and_system().unzip();
        let instructions = self.counters.as_mut().and_then(Counters::read);
        let now = Used { cpu: usage::cpu_time(), user, system, instructions, slept: usage::times_slept(), stats };
        let before = std::mem::replace(&mut self.before, now);
        let stats = now.stats - before.stats;
        Ok(Lap {
            cpu: since(now.cpu, before.cpu),
            user: since(now.user, before.user),
            system: since(now.system, before.system),
            instructions: now.instructions.map(|now| now - before.instructions.unwrap_or_default()),
            stats: Some(stats),
            open_by_thread: if threads.len() > 1 { threads.iter().map(|one| one.open).collect() } else { Vec::new() },
            slept: now.slept.map(|now| now.saturating_sub(before.slept.unwrap_or_default())),
            memory: if memory { usage::private_memory() } else { None },
        })
    }

    /// Has it end in good order, and says whether it has.
    fn drain(&self) -> bool {
        self.control.drain();
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it, and returns all it has done.
    fn stop(&mut self) -> io::Result<Stats> {
        self.control.stop();
        match self.running.take().map(JoinHandle::join) {
            Some(Ok(Ok(stats))) => Ok(stats),
            Some(Ok(Err(error))) => Err(io::Error::new(error.kind(), format!("the server has failed: {error}"))),
            Some(Err(_)) => Err(io::Error::other("the server has panicked")),
            None => Err(io::Error::other("the server has stopped")),
        }
    }

    /// Why the server does not answer any more.
    fn reason(&mut self) -> io::Error {
        self.stop().err().unwrap_or_else(|| io::Error::other("the server has stopped"))
    }
}

fn since(now: Option<Duration>, before: Option<Duration>) -> Option<Duration> {
    // The clocks that are sampled may step back a little.
    Some(now?.saturating_sub(before.unwrap_or_default()))
}

/// On a free port.
fn bind(
    registry: &Registry,
    mechanism: &Mechanism,
    speech: &Speech,
    crew: (Option<&Crew>, Knobs),
) -> io::Result<Box<dyn Server>> {
    on_a_free_port(Ipv4Addr::LOCALHOST.into(), |address| {
        speech.bind(mechanism, registry, by(crew, Config::listen(address.into())))
    })
}

/// By several threads, if there are to be several, and set as asked.
fn by((crew, knobs): (Option<&Crew>, Knobs), mut config: Config) -> Config {
    knobs.set(&mut config);
    if let Some(Crew { threads, sharing, pin }) = crew {
        (config.threads, config.sharing, config.pin) = (*threads, *sharing, pin.clone());
    }
    config
}

/// The name of a Unix socket that no other process has. Of a path whoever started this process removes the file.
pub(super) fn own_name() -> UnixName {
    let name = format!("pollmark-{}", process::id());
    match cfg!(linux_like) {
        true => UnixName::Abstract(name),
        false => UnixName::Path(std::env::temp_dir().join(name)),
    }
}

/// An address of this host nobody listens on now.
pub(super) fn free_port(host: IpAddr) -> io::Result<SocketAddr> {
    on_a_free_port(host, TcpListener::bind)?.local_addr()
}

/// The same, of UDP.
pub(super) fn free_udp_port(host: IpAddr) -> io::Result<SocketAddr> {
    on_a_free_port(host, UdpSocket::bind)?.local_addr()
}

pub(super) fn on_a_free_port<T>(host: IpAddr, mut bind: impl FnMut(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    // Children that are started together begin at different ports.
    let first = process::id().wrapping_mul(7);
    let span = u32::from(PORTS.end - PORTS.start);
    let candidates = (0..ATTEMPTS).map(|attempt| PORTS.start + (first.wrapping_add(attempt) % span) as u16);
    for port in candidates.chain([0]) {
        match bind(SocketAddr::from((host, port))) {
            Err(error) if port != 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    unreachable!("port 0 is tried last, and its result returned")
}
