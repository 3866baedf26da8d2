//! Starting connections, and finding another source address when the ports of one have run out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Opens connections to one target.
///
/// A port range gives some 28,000 connections per source address. On Linux every 127.x.y.z is this host, so a target
/// on the loopback can be reached from as many addresses as it takes; elsewhere what runs out has run out.
#[derive(Debug)]
pub(super) struct Connector {
    target: SocketAddr,
    /// `None`: the kernel chooses, which is the cheapest while ports last.
    source: Option<Ipv4Addr>,
}

impl Connector {
    pub(super) fn new(target: SocketAddr) -> Connector {
        Connector { target, source: None }
    }

    pub(super) fn target(&self) -> SocketAddr {
        self.target
    }

    /// Begins one connection. It is open when it becomes writable without an error.
    pub(super) fn start(&mut self) -> io::Result<TcpStream> {
        loop {
            match self.start_from_here() {
                Err(error) if out_of_ports(&error) => self.source = Some(self.next_source().ok_or(error)?),
                started => return started,
            }
        }
    }

    fn start_from_here(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Every close is a reset: thousands left in TIME_WAIT would take the ports of the next run.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&self.target.into()) {
            Err(error) if !under_way(&error) => Err(error),
            _ => Ok(socket.into()),
        }
    }

    fn next_source(&self) -> Option<Ipv4Addr> {
        let loopback = matches!(self.target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let last = self.source.map_or(1, |source| source.octets()[3]);
        (cfg!(linux_like) && loopback && last < 254).then(|| Ipv4Addr::new(127, 0, 0, last + 1))
    }
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
