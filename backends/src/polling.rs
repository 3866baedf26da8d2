//! The `polling` crate behind our trait: a measured subject, never a foundation.
//!
//! What is odd about it:
//! (a) Level-triggered is `PollMode::Level`, on our contract; its own default is `PollMode::Oneshot`.
//! (b) Its key is a `usize` of which the last value is reserved. Our key is the source's number, which never has that
//!     value, and a table of ours leads from it to the token, which may be any 64 bits.
//! (c) Each wait prepares and rearms a notifier that nobody here uses. On Linux that is five calls: timerfd_settime and
//!     epoll_ctl, for a timer that carries the timeout even when there is none; epoll_wait; read and epoll_ctl, for the
//!     notifier. A change is one epoll_ctl. With kqueue a wait is one kevent where EVFILT_USER exists, else three calls
//!     (kevent; read, kevent), and a change is one kevent. On Windows the number is not known, and nothing is counted.
//! (d) A wait interrupted by a signal is resumed inside, with the first three calls again. They cannot be seen, so the
//!     ledger, which is this formula, is short by three for each.
//! (e) kqueue gives an event for each direction. They are merged here. There `PollMode::Oneshot` disarms a direction,
//!     not the source; the other one may fire once more, is dropped, and that wait may come back empty and early.
//! (f) What is readable is not told apart: on Linux it asks for, and may mean, urgent data whatever was wanted. It does
//!     not ask for EPOLLRDHUP, so a half-close is never told; edge-triggered, a short read proves nothing.
//! (g) epoll(7) reports errors and hang-ups for the empty interest, so a source without interest is taken out of it.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use polling::{Event as Interested, PollMode};

use crate::event::{Event, Interest, Raw, Readiness, Token, Trigger};
use crate::events::Events;
use crate::index::{Index, Place};
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller, exists, lacks, unknown};
use crate::source::{RawSource, Source, raw};

/// The poller of the `polling` crate: epoll(7), kqueue(2), or AFD through a completion port.
pub struct Polling {
    poller: polling::Poller,
    // As long as the caller's buffer, and remade when that changes.
    records: polling::Events,
    entries: Vec<Entry>,
    index: Index,
    // (e) Which entries the records of this wait name, each once.
    fired: Vec<usize>,
    ledger: Ledger,
}

struct Entry {
    source: RawSource,
    token: Token,
    trigger: Trigger,
    // A oneshot source that was reported is not, until it is modified.
    armed: bool,
    found: Readiness,
}

impl Polling {
    /// Opens the crate's poller: on Linux an epoll instance, an eventfd and a timerfd.
    ///
    /// # Errors
    /// The kernel's: too many descriptors, or no memory.
    pub fn open() -> io::Result<Polling> {
        Ok(Polling {
            poller: polling::Poller::new()?,
            records: polling::Events::with_capacity(NonZeroUsize::MIN),
            entries: Vec::new(),
            index: Index::default(),
            fired: Vec::new(),
            ledger: Ledger { derived: true, ..Ledger::default() },
        })
    }

    fn lacks(&self, trigger: Trigger) -> Option<io::Error> {
        (!self.capabilities().supports(trigger)).then(|| lacks("polling", trigger))
    }

    fn watch(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let number = raw(source);
        self.ledger.change_calls += CHANGE_CALLS;
        // SAFETY: The crate asks that a source be deleted before it is closed. Whoever uses our contract does: `remove`
        // and `close` delete first. Whoever closes behind our back leaves a number that the crate only ever hands to
        // epoll_ctl, kevent or its own table: the kernel has dropped the registration or reports an event for it, and
        // nothing is read, written or closed by the number. On Windows the number is a key of its map, and the handle
        // it polls through is its own.
        let added = unsafe { self.poller.add_with_mode(number, asked(number, interest), mode(trigger)) };
        added.map_err(refusal)?;
        self.index.set(number, Place::At(self.entries.len()));
        self.entries.push(Entry { source: number, token, trigger, armed: true, found: Readiness::EMPTY });
        Ok(())
    }

    fn unwatch(&mut self, source: Source<'_>, at: usize) -> io::Result<()> {
        self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.index.set(moved.source, Place::At(at));
        }
        self.ledger.change_calls += CHANGE_CALLS;
        self.poller.delete(source)
    }
}

impl Poller for Polling {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edge: self.poller.supports_edge(),
            oneshot: true,
            growth: Growth::Ready,
            resolution: RESOLUTION,
            errors: cfg!(linux_like),
            priority: cfg!(not(kqueue_like)),
            regular_files: cfg!(kqueue_like),
            retries_interrupt: true,
            calls: CALLS,
            ..Capabilities::least()
        }
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if let Some(refusal) = self.lacks(trigger) {
            return Err(refusal);
        }
        if self.index.get(raw(source)).is_some() {
            return Err(exists("polling"));
        }
        self.watch(source, token, interest, trigger)?;
        if interest.is_empty() {
            // (g) Added first, because only the kernel knows whether it can be watched.
            self.index.set(raw(source), Place::Parked);
            self.unwatch(source, self.entries.len() - 1)?;
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if let Some(refusal) = self.lacks(trigger) {
            return Err(refusal);
        }
        let number = raw(source);
        match (self.index.get(number).ok_or_else(|| unknown("polling"))?, interest.is_empty()) {
            (Place::At(at), false) => {
                self.ledger.change_calls += CHANGE_CALLS;
                self.poller.modify_with_mode(source, asked(number, interest), mode(trigger)).map_err(refusal)?;
                let entry = &mut self.entries[at];
                (entry.token, entry.trigger, entry.armed) = (token, trigger, true);
            }
            (Place::At(at), true) => {
                self.index.set(number, Place::Parked);
                self.unwatch(source, at)?;
            }
            (Place::Parked, false) => self.watch(source, token, interest, trigger)?,
            (Place::Parked, true) => {}
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let place = self.index.get(raw(source)).ok_or_else(|| unknown("polling"))?;
        self.index.forget(raw(source));
        self.ledger.changes += 1;
        match place {
            Place::At(at) => self.unwatch(source, at),
            Place::Parked => Ok(()),
        }
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.records.clear();
        if self.records.capacity().get() != events.capacity() {
            let room = NonZeroUsize::new(events.capacity()).expect("`Events` has room for one at least");
            self.records = polling::Events::with_capacity(room);
        }
        self.ledger.waits += 1;
        self.ledger.wait_calls += WAIT_CALLS;
        let waited = self.poller.wait(&mut self.records, timeout);
        for record in self.records.iter() {
            // (b) A number that is not, or no longer, in the table is of a source closed behind our back.
            let Some(Place::At(at)) = self.index.get(record.key as RawSource) else { continue };
            let entry = &mut self.entries[at];
            if entry.found.is_empty() {
                self.fired.push(at);
            }
            entry.found |= found(&record);
        }
        for at in self.fired.drain(..) {
            let entry = &mut self.entries[at];
            let readiness = std::mem::take(&mut entry.found);
            if std::mem::replace(&mut entry.armed, entry.trigger != Trigger::Oneshot) {
                let had_room = events.push(Event::new(entry.token, readiness, Raw::None));
                debug_assert!(had_room, "no more was asked for than there is room");
            }
        }
        self.ledger.events += events.len() as u64;
        self.ledger.empty += u64::from(events.is_empty());
        waited.map(drop)
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}

fn mode(trigger: Trigger) -> PollMode {
    match trigger {
        Trigger::Level => PollMode::Level,
        Trigger::Edge => PollMode::Edge,
        Trigger::Oneshot => PollMode::Oneshot,
    }
}

fn asked(number: RawSource, interest: Interest) -> Interested {
    let (readable, writable) = (interest.contains(Interest::READABLE), interest.contains(Interest::WRITABLE));
    let mut asked = Interested::new(number as usize, readable, writable); // (b)
    asked.set_priority(interest.contains(Interest::PRIORITY));
    asked.set_interrupt(!interest.is_empty());
    asked
}

fn found(record: &Interested) -> Readiness {
    let facts = [
        (record.readable, Readiness::READABLE),
        (record.writable, Readiness::WRITABLE),
        (record.is_priority(), Readiness::PRIORITY),
        (record.is_interrupt(), Readiness::HANG_UP),
        (record.is_err() == Some(true), Readiness::ERROR),
    ];
    facts.into_iter().filter(|(is, _)| *is).fold(Readiness::EMPTY, |all, (_, fact)| all | fact)
}

/// epoll(7) refuses regular files with EPERM; the contract calls that `Unsupported`.
fn refusal(error: io::Error) -> io::Error {
    if cfg!(linux_like) && error.kind() == io::ErrorKind::PermissionDenied {
        return io::Error::new(
            io::ErrorKind::Unsupported,
            "polling cannot watch this kind of file: regular files and directories are always ready (EPERM)",
        );
    }
    error
}

// (c)
cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        const WAIT_CALLS: u64 = 5;
        const CHANGE_CALLS: u64 = 1;
        const RESOLUTION: Duration = Duration::from_nanos(1);
        const CALLS: Calls = Calls {
            wait: &["timerfd_settime", "epoll_ctl", "epoll_wait", "epoll_pwait", "read"],
            change: &["epoll_ctl"],
        };
    } else if #[cfg(kqueue_like)] {
        const WAIT_CALLS: u64 = if cfg!(no_user_filter) { 3 } else { 1 };
        const CHANGE_CALLS: u64 = 1;
        const RESOLUTION: Duration = Duration::from_nanos(1);
        const CALLS: Calls = Calls { wait: &["kevent", "read"], change: &["kevent"] };
    } else {
        const WAIT_CALLS: u64 = 0;
        const CHANGE_CALLS: u64 = 0;
        const RESOLUTION: Duration = Duration::from_millis(1);
        const CALLS: Calls = Calls { wait: &[], change: &[] };
    }
}
