//! Taking connections on: how many at a time, and what to do when descriptors run out.
//!
//! A listener whose queue is not emptied stays readable. A loop that cannot accept, for want of a descriptor, and
//! goes back to wait would spin. So one descriptor is held in reserve: given up, it lets the connection in, to be
//! closed at once, which the peer sees; after libev's and libuv's remedy. If even that fails, the listeners rest.

use std::io;
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Interest, OwnedSource, Poller, Token, Trigger};

use super::readiness::Loop;
use super::slots::Slot;
use super::{Net, Observer};
use crate::protocol::{Peer, Protocol};

/// The loop's part that accepts.
pub(super) struct Acceptor {
    pub(super) listeners: Vec<Token>,
    spare: Option<OwnedSource>,
    paused_until: Option<Instant>,
    overloaded: bool,
}

impl Acceptor {
    pub(super) fn new() -> Acceptor {
        Acceptor { listeners: Vec::new(), spare: reserve(), paused_until: None, overloaded: false }
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    pub(super) fn sleep(&self, now: Instant) -> Option<Duration> {
        self.paused_until.map(|until| until.saturating_duration_since(now))
    }

    pub(super) fn pause_is_over(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until <= now)
    }
}

impl<P: Poller, Q: Protocol, N: Net, O: Observer> Loop<P, Q, N, O> {
    /// Empties the listener's queue, as far as the budget goes.
    #[cold]
    pub(super) fn accept(&mut self, listener: Token) {
        let full = self.config.accept_budget.max(1);
        let mut in_vain = 0;
        for attempt in 0..full {
            let Some(Slot { source: Some(source), .. }) = self.slots.get(listener) else { return };
            self.stats.accept_calls += 1;
            match self.net.accept(source.as_source(), true) {
                Ok((source, peer)) => self.admit(source, &peer, cfg!(linux_like)),
                Err(error) => match Trouble::of(&error) {
                    Trouble::Empty => {
                        self.stats.spurious += u64::from(attempt == 0);
                        return;
                    }
                    Trouble::OfThisConnection => in_vain += 1,
                    Trouble::Exhausted => {
                        self.overload("descriptors or memory have run out", Some(&error));
                        match self.shed(listener) {
                            Shed::One => {}
                            Shed::Nobody => return,
                            Shed::Failed => return self.pause_accepting(),
                        }
                    }
                },
            }
        }
        if in_vain == full {
            // Perhaps it is always the same one: a system's policy may forbid it and leave it in the queue.
            self.pause_accepting();
        }
    }

    /// Opens a connection, or turns it away at the limit. It `has_nodelay` if it inherited that of the listener.
    pub(super) fn admit(&mut self, source: OwnedSource, peer: &Peer, has_nodelay: bool) {
        if self.slots.connections() >= self.config.max_connections.unwrap_or(usize::MAX) {
            self.overload("the limit of connections is reached", None);
            self.stats.refused += 1;
            return;
        }
        if self.config.nodelay && !has_nodelay {
            self.stats.other_calls += 1;
            let _ = socket2::SockRef::from(&source).set_tcp_nodelay(true); // it may be no TCP socket
        }
        self.acceptor.overloaded = false;
        self.open(source, peer);
    }

    /// Lets one connection in on the spare descriptor, and closes it.
    fn shed(&mut self, listener: Token) -> Shed {
        let Some(Slot { source: Some(source), .. }) = self.slots.get(listener) else { return Shed::Failed };
        let Some(spare) = self.acceptor.spare.take() else { return Shed::Failed };
        drop(spare);
        self.stats.other_calls += 2;
        self.stats.accept_calls += 1;
        let shed = match self.net.accept(source.as_source(), true) {
            Ok((refused, _)) => {
                drop(refused);
                self.stats.refused += 1;
                Shed::One
            }
            // accept4(2) of Linux takes a descriptor before it looks at the queue, and fails even if that is empty.
            Err(error) if matches!(Trouble::of(&error), Trouble::Empty) => Shed::Nobody,
            Err(_) => Shed::Failed,
        };
        self.acceptor.spare = reserve();
        if self.acceptor.spare.is_some() { shed } else { Shed::Failed }
    }

    fn pause_accepting(&mut self) {
        let now = self.host.turn.now();
        self.acceptor.paused_until = Some(now + self.config.accept_pause);
        self.watch_listeners(Interest::EMPTY);
    }

    /// Called when a connection has gone, and when the pause is over.
    pub(super) fn resume_accepting(&mut self) {
        if self.acceptor.spare.is_none() {
            self.stats.other_calls += 1;
            self.acceptor.spare = reserve();
        }
        if self.acceptor.paused_until.take().is_some() {
            self.watch_listeners(Interest::READABLE);
        }
    }

    fn watch_listeners(&mut self, interest: Interest) {
        for at in 0..self.acceptor.listeners.len() {
            let token = self.acceptor.listeners[at];
            let Some(Slot { source: Some(source), .. }) = self.slots.get(token) else { continue };
            if let Err(error) = self.poller.modify(source.as_source(), token, interest, Trigger::Level) {
                tracing::warn!(%error, "cannot change the listener's registration");
            }
        }
    }

    /// Says it once, not once for each connection turned away.
    fn overload(&mut self, what: &str, error: Option<&io::Error>) {
        if !self.acceptor.overloaded {
            self.acceptor.overloaded = true;
            let error = error.map(tracing::field::display);
            tracing::debug!(open = self.slots.connections(), error, "overload: {what}; refusing connections");
        }
    }
}

/// What came of giving up the spare descriptor.
enum Shed {
    /// A connection was turned away.
    One,
    /// The queue was empty.
    Nobody,
    /// The spare descriptor did not help, or could not be had back.
    Failed,
}

/// What a failed accept(2) means.
pub(super) enum Trouble {
    /// The queue is empty.
    Empty,
    /// The connection died in the queue, or a signal came: try the next.
    OfThisConnection,
    /// No descriptor, no memory, or something unheard of: trying again at once would spin.
    Exhausted,
}

impl Trouble {
    pub(super) fn of(error: &io::Error) -> Trouble {
        use io::ErrorKind::*;
        use rustix::io::Errno;
        match error.kind() {
            WouldBlock => Trouble::Empty,
            Interrupted | ConnectionAborted | ConnectionReset | NetworkDown | NetworkUnreachable | HostUnreachable
            | PermissionDenied => Trouble::OfThisConnection,
            // accept(2) on Linux passes on errors already pending on the new socket, and says to treat them so.
            _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOPROTOOPT | Errno::OPNOTSUPP | Errno::HOSTDOWN) => Trouble::OfThisConnection,
                #[cfg(unix)]
                Some(Errno::PROTO) => Trouble::OfThisConnection,
                _ => Trouble::Exhausted,
            },
        }
    }
}

/// A descriptor to give up when the last one is gone: an unbound socket, which both kinds of system have.
fn reserve() -> Option<OwnedSource> {
    use socket2::{Domain, Socket, Type};
    Socket::new(Domain::IPV4, Type::DGRAM, None).ok().map(OwnedSource::from)
}
