//! The calls a client makes on its sockets, as a trait: faults and simulated networks plug in here.

use std::io;

use pollmark_backends::{OwnedSource, Source};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::Target;
use crate::stream;

/// How a client reaches its sockets.
pub trait Net {
    /// Opens a socket, non-blocking and not inherited by children, and begins to connect it. It is to be asked
    /// [`connected`](Net::connected) when it becomes writable.
    ///
    /// # Errors
    /// The kernel's, if the connection has failed already.
    fn connect(&self, target: &Target) -> io::Result<OwnedSource>;

    /// Whether the connection is open; `false` while it is still under way, for an event may be a false alarm.
    ///
    /// # Errors
    /// The kernel's reason why it failed.
    fn connected(&self, source: Source<'_>) -> io::Result<bool>;

    /// Receives into `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// The kernel's.
    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends from `bytes`, perhaps not all. An error means that the kernel took none of them. Never raises SIGPIPE.
    ///
    /// # Errors
    /// The kernel's.
    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize>;
}

/// The operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Net for Kernel {
    fn connect(&self, target: &Target) -> io::Result<OwnedSource> {
        let (socket, address) = match target {
            Target::Tcp(address) => {
                let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
                // A request is sent whole: there is nothing that Nagle's algorithm could wait for.
                socket.set_tcp_nodelay(true)?;
                (socket, SockAddr::from(*address))
            }
            #[cfg(unix)]
            Target::Unix(path) => (Socket::new(Domain::UNIX, Type::STREAM, None)?, SockAddr::unix(path)?),
        };
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Err(error) if !under_way(&error, target) => Err(error),
            _ => Ok(socket.into()),
        }
    }

    fn connected(&self, source: Source<'_>) -> io::Result<bool> {
        let socket = SockRef::from(&source);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        let peer = match socket.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            peer => peer?,
        };
        // A port that nobody listens on may be the very one this socket was given: TCP then connects it to itself.
        if peer.as_socket().is_some() && peer.as_socket() == socket.local_addr()?.as_socket() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    #[inline]
    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        stream::recv(source, buffer)
    }

    #[inline]
    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        stream::send(source, bytes)
    }
}

/// Whether connect(2) means that it goes on without us.
fn under_way(error: &io::Error, target: &Target) -> bool {
    match error.kind() {
        // Windows says so of TCP. For a Unix socket EAGAIN means that the queue is full, and nothing goes on.
        io::ErrorKind::WouldBlock => matches!(target, Target::Tcp(_)),
        // A signal ends the call and not the connecting.
        io::ErrorKind::Interrupted => true,
        // EINPROGRESS has no kind of its own.
        _ => error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()),
    }
}
