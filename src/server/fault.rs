//! A network that does to a server, by chance and by a seed, all that a kernel may do.
//!
//! What it has to mind:
//! (a) A receive that fails with EAGAIN or falls short tells a reader under an edge trigger to wait for the next event.
//!     So one is [promised](Faults::promise), and a faulty poller with the same faults reports it. The same for a send.
//! (b) A socket that blocks does not answer EAGAIN: a plan for the threads' server leaves [`Kind::WouldBlock`] out.
//! (c) A connection that was reset stays dead: it is shut down for the calls that follow.
//! (d) Every connection that a fault may end is put on the account, so that one lost without a fault can be told.
//! (e) Datagrams have no connection that could end. What would end one is told here as another host's complaint about a
//!     message of before, after which the call is to be made again; and where there is no room, a message is lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pollmark_backends::conformance::fault::{Faults, Kind};
use pollmark_backends::datagrams::{Inbound, Outbound};
use pollmark_backends::{Interest, OwnedSource, Source};
use rustix::io::Errno;
use socket2::SockRef;

use super::{Kernel, Net};
use crate::protocol::Peer;

/// Any network under faults: short, interrupted, refused and failing calls.
///
/// Under an edge trigger the poller has to be a [`Faulty`](pollmark_backends::conformance::Faulty) one with the same
/// faults; otherwise the event that follows an EAGAIN of ours is missing.
///
/// ```
/// use pollmark::backends::conformance::fault::{Faults, Plan};
/// use pollmark::backends::{Trigger, conformance::Faulty, poll::Poll};
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, FaultyNet, Kernel, ReadinessServer, Server};
///
/// # fn main() -> std::io::Result<()> {
/// let faults = Faults::new(Plan::harmless(), 7);
/// let beneath = faults.clone();
/// let config = Config::listen("127.0.0.1:0".parse()?);
/// let server = ReadinessServer::bind(config, Echo, Trigger::Level, move || Ok(Faulty::new(Poll::open()?, &beneath)))?;
/// let server = server.with_net(FaultyNet::new(Kernel, &faults));
/// let control = server.control();
/// control.stop();
/// Box::new(server).run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FaultyNet<N = Kernel> {
    inner: N,
    faults: Faults,
    accepting: Arc<Accepting>,
}

/// What one failed accept means for the next.
#[derive(Debug, Default)]
struct Accepting {
    /// So many more accepts fail in this shortage.
    shortage: AtomicU8,
    /// 1: the next connection came in by the last descriptor.
    last_descriptor: AtomicU8,
}

impl<N: Net> FaultyNet<N> {
    /// Puts `inner` under `faults`.
    pub fn new(inner: N, faults: &Faults) -> FaultyNet<N> {
        FaultyNet { inner, faults: faults.clone(), accepting: Arc::default() }
    }

    /// What may befall any call on a connection.
    fn strike(&self, source: Source<'_>, direction: Interest) -> io::Result<()> {
        if self.faults.strikes(Kind::InterruptedCall) {
            return Err(told(Errno::INTR));
        }
        if self.faults.strikes(Kind::WouldBlock) {
            self.faults.promise(source, direction); // (a)
            return Err(Errno::WOULDBLOCK.into());
        }
        if self.faults.strikes(Kind::Reset) {
            self.faults.sentence(source); // (d)
            let _ = SockRef::from(&source).shutdown(std::net::Shutdown::Both); // (c) it may be dead already
            return Err(Errno::CONNRESET.into());
        }
        Ok(())
    }

    /// How much of `whole` bytes a call may move. Small pieces more often than large ones.
    fn cut(&self, kind: Kind, whole: usize) -> usize {
        if whole < 2 || !self.faults.strikes(kind) {
            return whole;
        }
        let most = 1 << self.faults.below(16);
        1 + self.faults.below(most.min(whole - 1))
    }

    fn exhausted(&self) -> io::Error {
        EXHAUSTED[self.faults.below(EXHAUSTED.len())].into()
    }
}

impl<N: Net> Net for FaultyNet<N> {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        // Relaxed: only the thread that accepts looks at these.
        if self.accepting.shortage.swap(0, Ordering::Relaxed) > 0 {
            return Err(self.exhausted());
        }
        if self.accepting.last_descriptor.swap(0, Ordering::Relaxed) > 0 {
            let accepted = self.inner.accept(listener, nonblocking);
            if let Ok((_, Peer { address: Some(peer), .. })) = &accepted {
                self.faults.sentence_peer(*peer); // (d)
            }
            return accepted;
        }
        for (kind, errno) in [
            (Kind::InterruptedCall, Errno::INTR),
            (Kind::WouldBlock, Errno::WOULDBLOCK),
            (Kind::Aborted, Errno::CONNABORTED),
        ] {
            if self.faults.strikes(kind) {
                return Err(told(errno));
            }
        }
        if self.faults.strikes(Kind::Shortage) {
            self.accepting.shortage.store(1, Ordering::Relaxed);
            return Err(self.exhausted());
        }
        if self.faults.strikes(Kind::LastDescriptor) {
            self.accepting.last_descriptor.store(1, Ordering::Relaxed);
            return Err(self.exhausted());
        }
        self.inner.accept(listener, nonblocking)
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        self.strike(source, Interest::READABLE)?;
        let (whole, most) = (buffer.len(), self.cut(Kind::ShortRead, buffer.len()));
        let received = self.inner.recv(source, &mut buffer[..most])?;
        if received == most && most < whole {
            self.faults.promise(source, Interest::READABLE); // (a)
        }
        Ok(received)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        self.strike(source, Interest::WRITABLE)?;
        if self.faults.strikes(Kind::NoBuffers) {
            self.faults.sentence(source); // (d)
            return Err(Errno::NOBUFS.into());
        }
        let most = self.cut(Kind::ShortWrite, bytes.len());
        let sent = self.inner.send(source, &bytes[..most])?;
        if sent == most && most < bytes.len() {
            self.faults.promise(source, Interest::WRITABLE); // (a)
        }
        Ok(sent)
    }

    fn recv_batch(&self, source: Source<'_>, into: &mut Inbound) -> io::Result<usize> {
        if self.faults.strikes(Kind::InterruptedCall) {
            return Err(told(Errno::INTR));
        }
        if self.faults.strikes(Kind::WouldBlock) {
            self.faults.promise(source, Interest::READABLE); // (a)
            return Err(Errno::WOULDBLOCK.into());
        }
        if self.faults.strikes(Kind::Reset) {
            return Err(Errno::CONNREFUSED.into()); // (e)
        }
        self.inner.recv_batch(source, into)
    }

    fn send_batch(&self, source: Source<'_>, from: &mut Outbound) -> io::Result<usize> {
        for (kind, errno) in [
            (Kind::InterruptedCall, Errno::INTR),
            (Kind::WouldBlock, Errno::WOULDBLOCK),
            (Kind::Reset, Errno::CONNREFUSED),
            (Kind::NoBuffers, Errno::NOBUFS),
        ] {
            if self.faults.strikes(kind) {
                return Err(told(errno)); // (e)
            }
        }
        self.inner.send_batch(source, from)
    }
}

/// An error as a call tells it. Windows interrupts no call, and std knows no kind for the number that Winsock has for
/// it.
pub(crate) fn told(number: Errno) -> io::Error {
    match number {
        Errno::INTR if cfg!(windows) => io::ErrorKind::Interrupted.into(),
        number => number.into(),
    }
}

/// What accept(2) says when there is no descriptor or no memory.
#[cfg(unix)]
const EXHAUSTED: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
#[cfg(windows)]
const EXHAUSTED: [Errno; 2] = [Errno::MFILE, Errno::NOBUFS];
