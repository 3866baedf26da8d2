//! The three calls a server makes on its sockets, as a trait: faults and simulated networks plug in here.

use std::io;

use pollmark_backends::{OwnedSource, Source};

use crate::protocol::Peer;

/// How a driver reaches its sockets.
pub trait Net: Clone + Send + 'static {
    /// Takes one connection off the listener's queue: non-blocking if `nonblocking`, not inherited by children.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when the queue is empty and the listener does not block.
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)>;

    /// Receives into `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// The kernel's.
    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends from `bytes`, perhaps not all, but at least one. Never raises SIGPIPE.
    ///
    /// # Errors
    /// The kernel's.
    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize>;
}

/// The operating system: recv(2) and send(2), which cost 2 to 3 % less of the kernel than read(2) and write(2) do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Net for Kernel {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        sys::accept(listener, nonblocking)
    }

    #[inline(always)]
    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = rustix::net::recv(source, buffer, rustix::net::RecvFlags::empty())?;
        Ok(received)
    }

    #[inline(always)]
    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(source, bytes, sys::SEND)?)
    }
}

cfg_if::cfg_if! {
    if #[cfg(accept4)] {
        mod sys {
            use super::*;
            use rustix::net::{SendFlags, SocketFlags};

            pub(super) const SEND: SendFlags = SendFlags::NOSIGNAL;

            /// One call does it all.
            pub(super) fn accept(listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
                let mut flags = SocketFlags::CLOEXEC;
                flags.set(SocketFlags::NONBLOCK, nonblocking);
                let (source, address) = rustix::net::acceptfrom_with(listener, flags)?;
                let address = address.and_then(|address| address.try_into().ok());
                Ok((source, Peer { address }))
            }
        }
    } else {
        mod sys {
            use super::*;

            // No NOSIGNAL on Apple, where SO_NOSIGPIPE is set by socket2's accept instead; no SIGPIPE on Windows.
            pub(super) const SEND: rustix::net::SendFlags = rustix::net::SendFlags::empty();

            pub(super) fn accept(listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
                let (socket, address) = socket2::SockRef::from(&listener).accept()?;
                socket.set_nonblocking(nonblocking)?;
                Ok((socket.into(), Peer { address: address.as_socket() }))
            }
        }
    }
}
