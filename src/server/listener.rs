//! One listening socket, made as its address and the configuration ask.
//!
//! An address of IPv6 that is `[::]` takes clients of IPv4 too, whatever the system's own default is: IPV6_V6ONLY is
//! set to what [`Config::ipv6_only`] says. OpenBSD has no such sockets: there it serves IPv6 alone, and says so. What
//! else a listener does not pass on to the connections it accepts, [`Unset`] names.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};

use pollmark_backends::{AsSource, OwnedSource, Source};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

#[cfg(unix)]
use super::unix::{self, BoundPath};
use super::{Address, Config, Stats};
#[cfg(completion)]
use crate::protocol::Peer;

/// A socket that listens. Whoever holds it keeps it open: the last loop that ends closes it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Goes first: while the file is there, somebody is to be met at it.
    #[cfg(unix)]
    _path: Option<BoundPath>,
    source: OwnedSource,
    unset: Unset,
    #[cfg_attr(not(completion), expect(dead_code, reason = "an accept of theirs tells it"))]
    is_on_unix: bool,
    takes_datagrams: bool,
}

impl Listener {
    /// Binds, and listens. Returns the address with the port that a 0 has become.
    ///
    /// # Errors
    /// The system's, with the address and what to do about it.
    pub(super) fn open(config: &Config, address: &Address, nonblocking: bool) -> io::Result<(Listener, Address)> {
        let opened = match address {
            Address::Tcp(wanted) => tcp(config, *wanted, nonblocking),
            #[cfg(unix)]
            Address::Unix(name) => {
                refuse_to_share(config).and_then(|()| {
                    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                    socket.set_nonblocking(nonblocking)?;
                    let path = unix::bind(&socket, name, config.unix_mode, || socket.listen(config.backlog))?;
                    // Neither buffers nor anything else is inherited by what it accepts.
                    let unset = Unset { nodelay: false, buffers: true };
                    let (source, is_on_unix, takes_datagrams) = (socket.into(), true, false);
                    Ok((Listener { _path: path, source, unset, is_on_unix, takes_datagrams }, address.clone()))
                })
            }
            Address::Udp(wanted) => udp(config, *wanted),
            #[cfg(unix)]
            Address::UnixDatagram(name) => refuse_to_share(config).and_then(|()| {
                let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
                set_buffers(config, &socket)?;
                socket.set_nonblocking(true)?;
                let path = unix::bind(&socket, name, config.unix_mode, || Ok(()))?;
                let (source, unset, is_on_unix, takes_datagrams) = (socket.into(), Unset::NOTHING, true, true);
                Ok((Listener { _path: path, source, unset, is_on_unix, takes_datagrams }, address.clone()))
            }),
            #[cfg(not(unix))]
            Address::Unix(_) | Address::UnixDatagram(_) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "Unix sockets are served on Unix; listen on HOST:PORT"))
            }
        };
        opened.map_err(|error| explain(address, error))
    }

    /// Whether it accepts no connections, but takes messages.
    pub(super) fn takes_datagrams(&self) -> bool {
        self.takes_datagrams
    }

    /// What is known of whoever connects, without having been asked for.
    #[cfg(completion)]
    pub(super) fn any_peer(&self) -> Peer {
        if self.is_on_unix { Peer::on_unix() } else { Peer::default() }
    }

    /// What the connections it accepts lack.
    pub(super) fn unset(&self) -> Unset {
        self.unset
    }

    /// Whether its accept(2), and that of all who hold it, is not to wait. No driver waits in the calls of datagrams.
    pub(super) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        SockRef::from(&self.source).set_nonblocking(nonblocking || self.takes_datagrams)
    }

    /// The socket, to be watched or accepted from.
    pub(super) fn as_source(&self) -> Source<'_> {
        self.source.as_source()
    }
}

/// What of the configuration a connection has not got from a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unset {
    /// TCP_NODELAY, which accepted sockets inherit on Linux.
    pub(super) nodelay: bool,
    /// SO_RCVBUF and SO_SNDBUF.
    pub(super) buffers: bool,
}

impl Unset {
    /// Of a socket made elsewhere, whose buffers are its maker's affair.
    pub(super) const ADOPTED: Unset = Unset { nodelay: true, buffers: false };
    const NOTHING: Unset = Unset { nodelay: false, buffers: false };
    /// Of one that TCP has accepted.
    const ACCEPTED: Unset = Unset { nodelay: !cfg!(linux_like), buffers: false };

    /// Sets it. What a socket does not have, it does without. Counts the calls it takes.
    #[inline]
    pub(super) fn make_good(self, config: &Config, source: &OwnedSource, stats: &mut Stats) {
        let socket = SockRef::from(source);
        if self.nodelay && config.nodelay {
            stats.other_calls += 1;
            let _ = socket.set_tcp_nodelay(true); // it may be no TCP socket
        }
        if self.buffers {
            if let Some(bytes) = config.receive_buffer {
                stats.other_calls += 1;
                let _ = socket.set_recv_buffer_size(bytes);
            }
            if let Some(bytes) = config.send_buffer {
                stats.other_calls += 1;
                let _ = socket.set_send_buffer_size(bytes);
            }
        }
    }
}

fn tcp(config: &Config, wanted: SocketAddr, nonblocking: bool) -> io::Result<(Listener, Address)> {
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, Some(Protocol::TCP))?;
    if cfg!(unix) && config.reuse_address {
        socket.set_reuse_address(true)?;
    }
    if config.reuse_port {
        share_port(&socket)?;
    }
    if let SocketAddr::V6(wanted) = wanted {
        choose_versions(config, &socket, wanted)?;
    }
    if config.nodelay {
        // Inherited by accepted sockets on Linux, which saves a call for each; elsewhere set again after accept.
        socket.set_tcp_nodelay(true)?;
    }
    set_buffers(config, &socket)?;
    socket.set_nonblocking(nonblocking)?;
    socket.bind(&wanted.into())?;
    socket.listen(config.backlog)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(wanted);
    let listener = Listener {
        #[cfg(unix)]
        _path: None,
        source: socket.into(),
        unset: Unset::ACCEPTED,
        is_on_unix: false,
        takes_datagrams: false,
    };
    Ok((listener, Address::Tcp(bound)))
}

/// No SO_REUSEADDR: it would let another socket take the messages away.
fn udp(config: &Config, wanted: SocketAddr) -> io::Result<(Listener, Address)> {
    let socket = Socket::new(Domain::for_address(wanted), Type::DGRAM, Some(Protocol::UDP))?;
    if config.reuse_port {
        share_port(&socket)?;
    }
    if let SocketAddr::V6(wanted) = wanted {
        choose_versions(config, &socket, wanted)?;
    }
    set_buffers(config, &socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&wanted.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(wanted);
    let listener = Listener {
        #[cfg(unix)]
        _path: None,
        source: socket.into(),
        unset: Unset::NOTHING,
        is_on_unix: false,
        takes_datagrams: true,
    };
    Ok((listener, Address::Udp(bound)))
}

fn set_buffers(config: &Config, socket: &Socket) -> io::Result<()> {
    if let Some(bytes) = config.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    config.send_buffer.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))
}

/// Says whether clients of IPv4 are taken too, and leaves it to no system's default.
fn choose_versions(config: &Config, socket: &Socket, wanted: SocketAddrV6) -> io::Result<()> {
    let both = wanted.ip().is_unspecified() && !config.ipv6_only;
    match socket.set_only_v6(!both) {
        Err(error) if both => {
            tracing::warn!(address = %wanted, %error, "serves IPv6 alone, this system has no sockets for both; \
                listen on 0.0.0.0 too");
            Ok(())
        }
        set => set,
    }
}

#[cfg(unix)]
fn refuse_to_share(config: &Config) -> io::Result<()> {
    if !config.reuse_port {
        return Ok(());
    }
    let why = "SO_REUSEPORT shares the connections of a port out, and a Unix socket has none; \
               its threads can share one listener, or be handed connections";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

cfg_if::cfg_if! {
    if #[cfg(reuse_port)] {
        fn share_port(listener: &Socket) -> io::Result<()> {
            listener.set_reuse_port(true)
        }
    } else if #[cfg(reuse_port_lb)] {
        fn share_port(listener: &Socket) -> io::Result<()> {
            listener.set_reuse_port_lb(true)
        }
    } else {
        fn share_port(_: &Socket) -> io::Result<()> {
            let why = "this system does not share the connections of a port out among several listeners";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
    }
}

/// Names the act and the object, and says what to do.
fn explain(address: &Address, error: io::Error) -> io::Error {
    let advice = match (address, error.kind()) {
        (Address::Tcp(SocketAddr::V6(v6)) | Address::Udp(SocketAddr::V6(v6)), io::ErrorKind::AddrInUse)
            if v6.ip().is_unspecified() =>
        {
            "another socket listens there, of IPv4 perhaps, which [::] takes too unless told otherwise (IPv6 only); \
             stop it, or choose another port (0 takes a free one)"
        }
        (Address::Tcp(_) | Address::Udp(_), io::ErrorKind::AddrInUse) => {
            "another socket listens there; stop it, or choose another port (0 takes a free one)"
        }
        (Address::Tcp(_) | Address::Udp(_), io::ErrorKind::AddrNotAvailable) => {
            "this host has no such address; 127.0.0.1 and [::1] are always there"
        }
        (Address::Tcp(_) | Address::Udp(_), io::ErrorKind::PermissionDenied) => {
            "ports below 1024 need privilege; choose a higher one"
        }
        // The others are explained where they are found.
        _ => return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn several_listen_on_one_port_only_if_all_ask_for_it() {
        let mut config = Config::listen("127.0.0.1:0".parse().expect("an address"));
        config.reuse_port = true;
        if !cfg!(any(reuse_port, reuse_port_lb)) {
            let error = config.bind(true).expect_err("this system shares nothing out");
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            return;
        }
        let (_first, addresses) = config.bind(true).expect("a free port");
        config.addresses = addresses.clone();
        let (_second, again) = config.bind(true).expect("the same port");
        assert_eq!(addresses, again);
        config.reuse_port = false;
        assert_eq!(config.bind(true).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let config = Config::listen("127.0.0.1:0".parse().expect("an address"));
        let (_listeners, addresses) = config.bind(true).expect("a free port");
        let error = Config::listen(addresses[0].clone()).bind(true).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addresses[0].to_string()), "{error}");
        assert!(error.to_string().contains("choose another port"), "{error}");
    }

    #[test]
    fn all_addresses_of_ipv6_are_those_of_ipv4_too_unless_told_otherwise() {
        let mut config = Config::listen("[::]:0".parse().expect("an address"));
        let (listeners, addresses) = match config.bind(true) {
            Ok(bound) => bound,
            Err(error) => return println!("skipped: no IPv6 here: {error}"),
        };
        let port = addresses[0].tcp().expect("TCP").port();
        let both = !SockRef::from(&listeners[0].source).only_v6().expect("a socket of IPv6");
        assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_ok(), both);
        TcpStream::connect(("::1", port)).expect("it listens");
        if both {
            let error = Config::listen(SocketAddr::from(([0, 0, 0, 0], port)).into()).bind(true).expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }

        config.ipv6_only = true;
        let (_alone, addresses) = config.bind(true).expect("a free port");
        let port = addresses[0].tcp().expect("TCP").port();
        TcpStream::connect(("::1", port)).expect("it listens");
        TcpStream::connect(("127.0.0.1", port)).expect_err("nobody listens there");
    }
}
