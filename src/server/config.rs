//! How a server is set up: the same knobs for every driver and mechanism.

use std::io;
use std::time::Duration;

use pollmark_backends::OwnedSource;
use socket2::{Domain, Protocol, Socket, Type};

use super::Address;

/// What a server is bound with. Start from [`Config::listen`] and change what you need.
///
/// ```
/// use pollmark::server::Config;
/// # fn main() -> std::io::Result<()> {
/// let mut config = Config::listen("127.0.0.1:0".parse()?);
/// config.max_connections = Some(1_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; several are served by one loop.
    pub addresses: Vec<Address>,
    /// Length asked for the queue of connections not yet accepted. The kernel's own limit (somaxconn) also holds.
    pub backlog: i32,
    /// TCP_NODELAY on accepted connections.
    pub nodelay: bool,
    /// SO_REUSEADDR on the listeners, so that a restart need not wait for connections in TIME_WAIT. Not on Windows,
    /// where the option means something else.
    pub reuse_address: bool,
    /// SO_RCVBUF of the listeners, inherited by what they accept; the kernel's choice if unset.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF, as above.
    pub send_buffer: Option<usize>,
    /// Connections beyond this many are accepted and closed at once. Limited only by descriptors if unset.
    pub max_connections: Option<usize>,
    /// The most events taken from one wait.
    pub events: usize,
    /// Size of a loop's receive buffer, shared by all of its connections, in bytes.
    pub read_buffer: usize,
    /// How many full receive buffers one connection may have served before others get their turn.
    pub read_budget: u32,
    /// How many connections one listener may have accepted before others get their turn.
    pub accept_budget: u32,
    /// A connection that owes more bytes than this is not read from.
    pub high_water: usize,
    /// It is read from again when it owes no more than this.
    pub low_water: usize,
    /// A connection whose unfinished message grows beyond this many bytes is closed.
    pub max_message: usize,
    /// How long accepting rests when descriptors have run out and the spare one is gone too, or when it only fails.
    pub accept_pause: Duration,
}

impl Config {
    /// The defaults, listening on `address`.
    pub fn listen(address: Address) -> Config {
        Config {
            addresses: vec![address],
            backlog: 4_096,
            nodelay: true,
            reuse_address: true,
            receive_buffer: None,
            send_buffer: None,
            max_connections: None,
            events: 256,
            read_buffer: 64 * 1024,
            read_budget: 4,
            accept_budget: 64,
            high_water: 256 * 1024,
            low_water: 64 * 1024,
            max_message: 1024 * 1024,
            accept_pause: Duration::from_millis(50),
        }
    }

    /// Makes the listening sockets.
    pub(super) fn bind(&self, nonblocking: bool) -> io::Result<(Vec<OwnedSource>, Vec<Address>)> {
        if self.addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot bind a server: no address was given"));
        }
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &self.addresses {
            let (socket, bound) = self.listener(address, nonblocking).map_err(|error| explain(address, error))?;
            tracing::debug!(address = %bound, backlog = self.backlog, "listening");
            listeners.push(socket.into());
            addresses.push(bound);
        }
        Ok((listeners, addresses))
    }

    fn listener(&self, address: &Address, nonblocking: bool) -> io::Result<(Socket, Address)> {
        let Address::Tcp(wanted) = *address;
        let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, Some(Protocol::TCP))?;
        if cfg!(unix) && self.reuse_address {
            socket.set_reuse_address(true)?;
        }
        if self.nodelay {
            // Inherited by accepted sockets on Linux, which saves a call for each; elsewhere set again after accept.
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        socket.set_nonblocking(nonblocking)?;
        socket.bind(&wanted.into())?;
        socket.listen(self.backlog)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(wanted);
        Ok((socket, Address::Tcp(bound)))
    }
}

/// Names the act and the object, and says what to do.
fn explain(address: &Address, error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another socket listens there; stop it, or choose another port (0 takes a free one)"
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address; 127.0.0.1 and [::1] are always there",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privilege; choose a higher one",
        _ => return io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let config = Config::listen("127.0.0.1:0".parse().expect("an address"));
        let (_listeners, addresses) = config.bind(true).expect("a free port");
        let error = Config::listen(addresses[0].clone()).bind(true).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&addresses[0].to_string()), "{error}");
        assert!(error.to_string().contains("choose another port"), "{error}");
    }
}
