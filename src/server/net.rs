//! The calls a server makes on its sockets, as a trait: faults and simulated networks plug in here.

use std::io;

use pollmark_backends::datagrams::{Inbound, Outbound};
use pollmark_backends::{OwnedSource, Source};

use crate::protocol::{Peer, Protocol};
use crate::stream;

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

    /// Receives datagrams, as [`Inbound::receive`] does, which is the default. A network that is not the kernel's
    /// [pushes](Inbound::push) them.
    ///
    /// # Errors
    /// The kernel's.
    fn recv_batch(&self, source: Source<'_>, into: &mut Inbound) -> io::Result<usize> {
        into.receive(source)
    }

    /// Sends datagrams, as [`Outbound::send`] does, which is the default. A network that is not the kernel's
    /// [pops](Outbound::pop) them.
    ///
    /// # Errors
    /// The kernel's.
    fn send_batch(&self, source: Source<'_>, from: &mut Outbound) -> io::Result<usize> {
        from.send(source)
    }
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
        stream::recv(source, buffer)
    }

    #[inline(always)]
    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        stream::send(source, bytes)
    }
}

/// Who is at the other end of `source`: as accepting has told it, or else as the socket itself tells, if the protocol
/// asks. Also how many calls that took.
pub(super) fn acquaint<Q: Protocol>(source: Source<'_>, told: Peer) -> (Peer, usize) {
    if !Q::ASKS_FOR_PEER || told.address.is_some() || told.is_on_unix {
        return (told, 0);
    }
    // A peer that has gone already has no address any more, and will not miss it.
    let address = socket2::SockRef::from(&source).peer_addr();
    (address.map_or(Peer::default(), |address| named(&address)), 1)
}

fn named(address: &socket2::SockAddr) -> Peer {
    Peer { address: address.as_socket(), is_on_unix: address.is_unix() }
}

cfg_if::cfg_if! {
    if #[cfg(accept4)] {
        mod sys {
            use super::*;
            use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags};

            /// One call does it all.
            pub(super) fn accept(listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
                let mut flags = SocketFlags::CLOEXEC;
                flags.set(SocketFlags::NONBLOCK, nonblocking);
                let (source, address) = rustix::net::acceptfrom_with(listener, flags)?;
                let is_on_unix = address.as_ref().map(SocketAddrAny::address_family) == Some(AddressFamily::UNIX);
                let address = address.and_then(|address| address.try_into().ok());
                Ok((source, Peer { address, is_on_unix }))
            }
        }
    } else {
        mod sys {
            use super::*;

            pub(super) fn accept(listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
                let (socket, address) = socket2::SockRef::from(&listener).accept()?;
                socket.set_nonblocking(nonblocking)?;
                Ok((socket.into(), named(&address)))
            }
        }
    }
}
