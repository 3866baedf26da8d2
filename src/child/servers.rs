//! Server processes: one, or several on one port, which the kernel shares out among them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::group::Group;
use super::knobs::Knobs;
use super::parent::Failure;
use super::wire::{Crew, Lap, Launch, ServerAnswer, ServerOrder};
use super::{Role, foreign, serve};
use crate::server::{Address, Config, Stats, UnixName};
use crate::speech::Speech;
use crate::workload::Transport;

/// How long a server may take to answer. To close thousands of connections takes longest.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the servers are to be.
#[derive(Clone, Debug)]
pub(crate) struct Service<'a> {
    pub(crate) mechanism: &'a str,
    /// The cheapest server instead, whatever the mechanism.
    pub(crate) ceiling: bool,
    /// What carries the bytes, where no address is given.
    pub(crate) transport: Transport,
    pub(crate) speech: Speech,
    pub(crate) cpu: Option<usize>,
    /// The threads of each, if there are several; they have CPUs of their own.
    pub(crate) crew: Option<&'a Crew>,
    pub(crate) knobs: Knobs,
    pub(crate) count_instructions: bool,
}

/// The processes, serving. Dropping it ends them.
pub(crate) struct Servers {
    group: Group<ServerOrder, ServerAnswer>,
    addresses: Vec<Address>,
    /// The file of a Unix socket that the server chose.
    _file: Option<OwnFile>,
    /// Why they are bound to no CPU, if they are not.
    pub(crate) unpinned: Option<String>,
    /// Why instructions are not counted, if they were to be.
    pub(crate) uncounted: Option<String>,
}

impl Servers {
    /// Starts `count` of them on a free port of the loopback; one alone also on a Unix socket.
    pub(crate) fn start(count: usize, service: &Service<'_>) -> Result<Servers, Failure> {
        match count {
            // It finds one itself.
            1 => Servers::begin(1, service, None),
            _ if service.transport != Transport::Tcp => {
                Err(Failure(format!("several servers cannot share the connections of {}", service.transport)))
            }
            _ => {
                let config = Config::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into());
                Servers::share(count, service, &config).map_err(|error| Failure(error.to_string()))
            }
        }
    }

    /// Starts `count` of them with this configuration, whose addresses they share.
    ///
    /// # Errors
    /// What binding gives; what a server says that cannot be started is `Other`.
    pub(crate) fn share(count: usize, service: &Service<'_>, config: &Config) -> io::Result<Servers> {
        let mut config = config.clone();
        claim(&mut config)?;
        Servers::begin(count, service, Some(&config)).map_err(|failure| io::Error::other(failure.to_string()))
    }

    /// Starts one that is not ours, on a free port of the loopback.
    pub(crate) fn launch(launch: &Launch, cpu: Option<usize>, count_instructions: bool) -> Result<Servers, Failure> {
        let mut servers = Servers::none_yet(Role::Server, 1)?;
        // Killed, the child could not end what it has started.
        servers.group.give(foreign::END);
        servers.ask_all(|_| ServerOrder::Launch { launch: launch.clone(), cpu, count_instructions })?;
        Ok(servers)
    }

    fn begin(count: usize, service: &Service<'_>, config: Option<&Config>) -> Result<Servers, Failure> {
        let mut servers = Servers::none_yet(if service.ceiling { Role::Ceiling } else { Role::Server }, count)?;
        servers.ask_all(|_| ServerOrder::Serve {
            mechanism: service.mechanism.to_owned(),
            transport: service.transport,
            speech: service.speech.clone(),
            cpu: service.cpu,
            crew: service.crew.cloned(),
            knobs: service.knobs,
            count_instructions: service.count_instructions,
            config: config.cloned().map(Box::new),
        })?;
        if let Some(config) = config {
            servers.addresses.clone_from(&config.addresses);
        } else if let [Address::Unix(UnixName::Path(path))] = servers.addresses.as_slice() {
            servers._file = Some(OwnFile(path.clone()));
        }
        Ok(servers)
    }

    /// The processes, which serve nothing yet.
    fn none_yet(role: Role, count: usize) -> Result<Servers, Failure> {
        let group = Group::start(role, count)?;
        Ok(Servers { group, addresses: Vec::new(), _file: None, unpinned: None, uncounted: None })
    }

    /// Has them begin.
    fn ask_all(&mut self, order: impl Fn(usize) -> ServerOrder) -> Result<(), Failure> {
        for answer in self.group.ask(order, PATIENCE, None)? {
            match answer {
                ServerAnswer::Serving { address, unpinned, uncounted } => {
                    self.addresses = vec![address];
                    self.unpinned = self.unpinned.take().or(unpinned);
                    self.uncounted = self.uncounted.take().or(uncounted);
                }
                answer => return Err(refusal(answer)),
            }
        }
        Ok(())
    }

    /// Where they all listen.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What they did since the last lap, taken together.
    pub(crate) fn lap(&mut self, memory: bool) -> Result<Lap, Failure> {
        let mut all: Option<Lap> = None;
        for answer in self.group.ask(|_| ServerOrder::Lap { memory }, PATIENCE, None)? {
            match answer {
                ServerAnswer::Lap(lap) => {
                    all = Some(match all {
                        Some(others) => others.and(*lap),
                        None => *lap,
                    });
                }
                answer => return Err(refusal(answer)),
            }
        }
        Ok(all.expect("there is at least one server"))
    }

    /// Whether all of them still run.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.group.check()
    }

    /// Lets the serving end in good order, and says whether it has; one that is gone is no more to be waited for.
    pub(crate) fn drain(&mut self) -> bool {
        let answers = self.group.ask_each(&ServerOrder::Drain, PATIENCE);
        !answers.iter().any(|answer| matches!(answer, Ok(ServerAnswer::Drained(false))))
    }

    /// Ends the serving, and tells what each has done in all. One that is gone takes no other's account with it.
    pub(crate) fn stop(mut self) -> Vec<Result<Stats, Failure>> {
        let answers = self.group.ask_each(&ServerOrder::Stop, PATIENCE).into_iter();
        let stopped = answers.map(|answer| match answer? {
            ServerAnswer::Stopped(stats) => Ok(*stats),
            answer => Err(refusal(answer)),
        });
        stopped.collect()
    }
}

/// The file of a Unix socket, gone when this is: a server that is killed, as they are when a visit ends, leaves it.
struct OwnFile(PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        // What is in the way is a later server's to say: one that finds it stale takes it over.
        let _ = fs::remove_file(&self.0);
    }
}

/// Finds ports for addresses given without, and makes sure that nobody listens on any of them. From then on they may be
/// shared.
///
/// To ask for a port that may be shared would find those of other servers of this user free, and take a part of their
/// connections. So each is held for a moment by a listener that shares nothing, and then by one that does, to find out
/// whether this system lets servers share.
fn claim(config: &mut Config) -> io::Result<()> {
    for address in &mut config.addresses {
        // Not of the kernel's choice: that could be given to an outgoing socket before the servers have it.
        match *address {
            Address::Tcp(tcp) if tcp.port() == 0 => *address = Address::Tcp(serve::free_port(tcp.ip())?),
            Address::Udp(udp) if udp.port() == 0 => *address = Address::Udp(serve::free_udp_port(udp.ip())?),
            Address::Tcp(_) | Address::Udp(_) => {}
            Address::Unix(_) | Address::UnixDatagram(_) => {
                let why = format!(
                    "cannot listen on {address} by several processes: each has a socket of its own, and only at a port does \
                     the kernel share out what comes among several (SO_REUSEPORT); listen on HOST:PORT or udp://HOST:PORT, \
                     or serve by --threads, of which all can take from one socket (--sharing shared)"
                );
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
    }
    for shared in [false, true] {
        config.reuse_port = shared;
        config.try_bind()?;
    }
    Ok(())
}

fn refusal(answer: ServerAnswer) -> Failure {
    match answer {
        ServerAnswer::Failed(why) => Failure(why),
        _ => Failure("the server process answered out of turn".to_owned()),
    }
}
