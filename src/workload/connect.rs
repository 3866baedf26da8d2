//! Starting connections, by TCP or over a Unix socket, and finding another source address when the ports of one have
//! run out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use pollmark_backends::OwnedSource;
use socket2::{Domain, Protocol, Socket, Type};

use super::Sources;
#[cfg(unix)]
use super::generator::PATIENCE;
use crate::client::Target;

/// Opens connections to one target.
///
/// A port range gives some 28,000 connections per source address. On Linux every 127.x.y.z is this host, so a target
/// on the loopback can be reached from as many addresses as it takes; elsewhere what runs out has run out.
#[derive(Debug)]
pub(super) struct Connector {
    target: Target,
    origin: Origin,
}

/// Where connections come from.
#[derive(Debug)]
enum Origin {
    /// From where the kernel likes, which is the cheapest while ports last; then from one address after the other.
    Anywhere(Option<Ipv4Addr>),
    /// From these in turn. A kernel looks for a free port among all of an address, and the longer the fewer are free.
    Given { sources: Sources, turn: usize },
}

impl Connector {
    pub(super) fn new(target: Target) -> Connector {
        Connector { target, origin: Origin::Anywhere(None) }
    }

    pub(super) fn come_from(&mut self, sources: Sources) {
        self.origin = Origin::Given { sources, turn: 0 };
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Begins one connection. It is open when it becomes writable without an error.
    pub(super) fn start(&mut self) -> io::Result<OwnedSource> {
        let target = match &self.target {
            Target::Tcp(target) => *target,
            #[cfg(unix)]
            Target::Unix(path) => return over_unix(path, PATIENCE),
        };
        let mut tried = 0;
        loop {
            let source = match &mut self.origin {
                Origin::Anywhere(source) => source.map(IpAddr::V4),
                Origin::Given { sources, turn } => {
                    *turn += 1;
                    Some(sources.at(*turn - 1))
                }
            };
            tried += 1;
            match start_from(source, target) {
                Err(error) if out_of_ports(&error) => self.another_source(target, tried).ok_or(error)?,
                started => return started,
            }
        }
    }

    /// Whether there is an address that has not been tried in vain.
    fn another_source(&mut self, target: SocketAddr, tried: u64) -> Option<()> {
        match &mut self.origin {
            Origin::Anywhere(source) => {
                let loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
                let last = source.map_or(1, |source| source.octets()[3]);
                let next = (cfg!(linux_like) && loopback && last < 254).then(|| Ipv4Addr::new(127, 0, 0, last + 1))?;
                *source = Some(next);
                Some(())
            }
            Origin::Given { sources, .. } => (tried < sources.count()).then_some(()),
        }
    }
}

fn start_from(source: Option<IpAddr>, target: SocketAddr) -> io::Result<OwnedSource> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Every close is a reset: thousands left in TIME_WAIT would take the ports of the next run.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if !under_way(&error) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// A Unix socket is connected at once, or not at all: EAGAIN of one that does not wait says that the listen queue is
/// full, and nothing tells when it no longer is. So this one waits for room in it, which the server makes by accepting,
/// and stops waiting only then. (BSD has no such wait: there a full queue refuses.)
#[cfg(unix)]
pub(super) fn over_unix(path: &Path, patience: Duration) -> io::Result<OwnedSource> {
    let address = socket2::SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(patience))?;
    loop {
        match socket.connect(&address) {
            // A signal: nothing has begun.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            connected => break connected?,
        }
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn under_way(error: &io::Error) -> bool {
    // EINPROGRESS has no kind of its own; Windows says WSAEWOULDBLOCK.
    let in_progress = rustix::io::Errno::INPROGRESS.raw_os_error();
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(in_progress)
}

fn out_of_ports(error: &io::Error) -> bool {
    // connect(2) says the one, bind(2) the other.
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}
