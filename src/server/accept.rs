//! Taking connections on: how many at a time, and what to do when descriptors run out.
//!
//! A listener whose queue is not emptied stays readable. A driver that cannot accept, for want of a descriptor, and
//! goes back to wait would spin. So one descriptor is held in reserve: given up, it lets the connection in, to be
//! closed at once, which the peer sees; after libev's and libuv's remedy. If even that fails, or was not asked for, the
//! listeners rest.

use std::io;
use std::time::{Duration, Instant};

use pollmark_backends::{OwnedSource, Source};

use super::policy::{AcceptPolicy, Exhaustion};
use super::{Config, Excess, Kernel, Net, Stats};
use crate::protocol::Peer;

/// So many attempts may fail in a row, each perhaps for another connection that died in the queue. After as many it is
/// perhaps always the same one: a system's policy may forbid it and leave it there.
const MOST_IN_VAIN: u32 = 64;

/// The part of a driver that accepts: the policy, the descriptor in reserve, the pause.
pub(super) struct Acceptor {
    attempts: u32,
    remedy: Exhaustion,
    nonblocking: bool,
    pause: Duration,
    spare: Option<OwnedSource>,
    paused_until: Option<Instant>,
    in_vain: u32,
    overloaded: bool,
}

/// What is left of the attempts that one event is worth.
pub(super) struct Turn {
    left: u32,
    is_first: bool,
}

/// What came of a turn.
pub(super) enum Next {
    /// A connection, to be admitted; there may be more.
    Connection(OwnedSource, Peer),
    /// The queue is empty, or the turn is over.
    Done,
    /// To try again soon would be to spin: the listeners have to rest.
    Pause,
}

impl Acceptor {
    /// Accepts by `policy`, which the driver can, sockets that are `nonblocking` or not.
    pub(super) fn new(config: &Config, policy: AcceptPolicy, nonblocking: bool) -> Acceptor {
        let (attempts, remedy, pause) = (policy.attempts(), config.on_exhaustion, config.accept_pause);
        let (spare, paused_until, in_vain, overloaded) = (None, None, 0, false);
        let mut acceptor = Acceptor { attempts, remedy, nonblocking, pause, spare, paused_until, in_vain, overloaded };
        acceptor.reserve();
        acceptor
    }

    /// Begins what one event of one listener is worth.
    pub(super) fn turn(&self) -> Turn {
        Turn { left: self.attempts, is_first: true }
    }

    /// Begins the last one: all that may be in the queue are taken on. That there are none is no false alarm.
    pub(super) fn last_turn(config: &Config) -> Turn {
        Turn { left: config.most_queued(), is_first: false }
    }

    /// Takes the next connection off the listener's queue, and does what is to be done about those that cannot be had.
    pub(super) fn next<N: Net>(&mut self, turn: &mut Turn, net: &N, listener: Source<'_>, stats: &mut Stats) -> Next {
        while turn.left > 0 {
            turn.left -= 1;
            let is_first = std::mem::take(&mut turn.is_first);
            stats.accept_calls += 1;
            match net.accept(listener, self.nonblocking) {
                Ok((source, peer)) => {
                    self.has_accepted();
                    return Next::Connection(source, peer);
                }
                Err(error) => match Trouble::of(&error) {
                    Trouble::Empty => {
                        stats.empty_accepts += 1;
                        stats.spurious += u64::from(is_first);
                        self.has_accepted();
                        return Next::Done;
                    }
                    Trouble::OfThisConnection => {
                        if self.was_in_vain() {
                            return Next::Pause;
                        }
                    }
                    Trouble::Exhausted => {
                        self.overload(
                            "descriptors or memory have run out",
                            Some(&error),
                            self.remedy == Exhaustion::Shed,
                        );
                        match self.shed(net, listener, stats) {
                            Shed::One => {}
                            Shed::Nobody => return Next::Done,
                            Shed::Failed => return Next::Pause,
                        }
                    }
                },
            }
        }
        Next::Done
    }

    /// Gives up the descriptor in reserve, if there is one.
    pub(super) fn give_up_spare(&mut self, stats: &mut Stats) -> bool {
        let spare = self.spare.take();
        stats.other_calls += u64::from(spare.is_some());
        spare.is_some()
    }

    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// An attempt has failed for what was to be accepted. Whether that has happened too often in a row.
    pub(super) fn was_in_vain(&mut self) -> bool {
        self.in_vain += 1;
        self.in_vain >= MOST_IN_VAIN
    }

    /// An attempt has not failed.
    pub(super) fn has_accepted(&mut self) {
        self.in_vain = 0;
    }

    /// Lets one connection in on the spare descriptor, and closes it.
    pub(super) fn shed<N: Net>(&mut self, net: &N, listener: Source<'_>, stats: &mut Stats) -> Shed {
        if !self.give_up_spare(stats) {
            return Shed::Failed;
        }
        stats.other_calls += 1; // to have it back
        stats.accept_calls += 1;
        let shed = match net.accept(listener, self.nonblocking) {
            Ok((refused, _)) => {
                drop(refused);
                stats.refused += 1;
                Shed::One
            }
            // accept4(2) of Linux takes a descriptor before it looks at the queue, and fails even if that is empty.
            Err(error) if matches!(Trouble::of(&error), Trouble::Empty) => {
                stats.empty_accepts += 1;
                Shed::Nobody
            }
            Err(_) => Shed::Failed,
        };
        self.reserve();
        if self.has_spare() { shed } else { Shed::Failed }
    }

    /// Takes the spare descriptor back, if it is gone and was meant to be there. Called when one may have come free.
    pub(super) fn restock(&mut self, stats: &mut Stats) {
        if self.spare.is_none() && self.remedy == Exhaustion::Shed {
            stats.other_calls += 1;
            self.reserve();
        }
    }

    fn reserve(&mut self) {
        if self.remedy == Exhaustion::Shed {
            self.spare = reserve();
        }
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    /// Until when it is paused, from now.
    pub(super) fn sleep(&self, now: Instant) -> Option<Duration> {
        self.paused_until.map(|until| until.saturating_duration_since(now))
    }

    pub(super) fn pause_is_over(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until <= now)
    }

    /// Begins a pause, or begins it anew.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_until = Some(later(now, self.pause));
    }

    /// Begins a pause until a connection has gone. Of others', who do not say so, it may have been.
    pub(super) fn wait_for_room(&mut self, now: Instant, is_shared: bool) {
        self.overload("the limit of connections is reached", None, false);
        self.paused_until = Some(later(now, if is_shared { self.pause } else { Duration::MAX }));
    }

    /// Ends the pause. Says whether there was one.
    pub(super) fn end_pause(&mut self) -> bool {
        self.paused_until.take().is_some()
    }

    /// Says it once, not once for each connection turned away.
    pub(super) fn overload(&mut self, what: &str, error: Option<&io::Error>, are_refused: bool) {
        if !std::mem::replace(&mut self.overloaded, true) {
            let error = error.map(tracing::field::display);
            tracing::debug!(
                error,
                "overload: {what}; until there is room, {}",
                if are_refused { "connections are turned away" } else { "connections wait in the queue" }
            );
        }
    }

    /// A connection was admitted: the next overload is worth a word again.
    pub(super) fn has_room(&mut self) {
        self.overloaded = false;
    }
}

/// Turns away one that was accepted: says so first, as far as that can be done at once, if it is to be said.
pub(super) fn say_no(excess: Excess, word: &[u8], source: Source<'_>, stats: &mut Stats) {
    if excess == Excess::Reply && !word.is_empty() {
        stats.other_calls += 1;
        let _ = Kernel.send(source, word); // a new socket has room for it, unless it is dead
    }
}

/// What came of giving up the spare descriptor.
pub(super) enum Shed {
    /// A connection was turned away.
    One,
    /// The queue was empty.
    Nobody,
    /// There is no spare descriptor, or it did not help, or could not be had back.
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
            // What wine says of a connection that was reset in the queue.
            NotConnected => Trouble::OfThisConnection,
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

/// `pause` after `now`. "For ever" is no point in time; a century is as good.
pub(super) fn later(now: Instant, pause: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    now + pause.min(CENTURY)
}

/// A descriptor to give up when the last one is gone: an unbound socket, which both kinds of system have.
fn reserve() -> Option<OwnedSource> {
    use socket2::{Domain, Socket, Type};
    Socket::new(Domain::IPV4, Type::DGRAM, None).ok().map(OwnedSource::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_any_length_ends_after_it_began() {
        let now = Instant::now();
        for pause in [Duration::ZERO, Duration::from_millis(50), Duration::MAX] {
            assert!(later(now, pause) >= now);
        }
        assert_eq!(later(now, Duration::from_millis(50)) - now, Duration::from_millis(50));
    }
}
