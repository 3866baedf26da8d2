//! epoll(7): the kernel keeps the list, and a wait costs what is ready.
//!
//! What is odd about it:
//! (a) A registration belongs to the pair of number and open file description. close(2) ends it only when no
//!     duplicate of the description is left; we never duplicate one, so closing alone is enough.
//! (b) Errors and hang-ups are reported even for an empty interest: a loop that is merely not interested would
//!     spin. So "empty" means taken out of the kernel's list, and remembered in `parked`, the only table kept here.
//! (c) Regular files are refused with EPERM, also when they are to be modified or deleted.
//! (d) The peer's half-close is EPOLLRDHUP, and only if asked for. We ask whenever we ask to read, and never else:
//!     a paused reader would be woken for ever.
//! (e) In edge mode a wait that reports data says nothing later of a FIN that was already there. So edge also asks
//!     for EPOLLRDHUP and EPOLLPRI, and the reader knows when a short read is not the end.
//! (f) A level-triggered item that was returned is queued again and polled once more by the next wait.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::event::{Interest, Token, Trigger};
use crate::events::Events;
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller, exists, unknown};
use crate::source::{OwnedSource, RawSource, Source, raw};
use crate::time;

/// The epoll(7) poller of Linux.
pub struct Epoll {
    queue: OwnedFd,
    parked: HashSet<RawSource>,
    ledger: Ledger,
}

impl Epoll {
    /// Opens an epoll instance.
    ///
    /// # Errors
    /// The kernel's: too many descriptors, or no memory.
    pub fn open() -> io::Result<Epoll> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Epoll { queue, parked: HashSet::new(), ledger: Ledger::default() })
    }

    fn control_add(&mut self, source: Source<'_>, token: Token, flags: EventFlags) -> io::Result<()> {
        self.ledger.change_calls += 1;
        let added = epoll::add(&self.queue, source, epoll::EventData::new_u64(token.0), flags);
        added.map_err(|errno| match errno {
            Errno::PERM => io::Error::new(
                io::ErrorKind::Unsupported,
                "epoll cannot watch this kind of file: regular files and directories are always ready (EPERM)",
            ),
            errno => errno.into(),
        })
    }

    fn control_delete(&mut self, source: Source<'_>) -> io::Result<()> {
        self.ledger.change_calls += 1;
        epoll::delete(&self.queue, source).map_err(not_there)
    }

    /// (b) Rare, so kept out of the way of the common case, which is an empty table.
    fn is_parked(&self, source: Source<'_>) -> bool {
        !self.parked.is_empty() && self.parked.contains(&raw(source))
    }
}

impl Poller for Epoll {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            edge: true,
            oneshot: true,
            growth: Growth::Ready,
            half_close: true,
            errors: true,
            priority: true,
            calls: Calls { wait: &["epoll_pwait", "epoll_wait"], change: &["epoll_ctl"] },
            ..Capabilities::least()
        }
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.is_parked(source) {
            return Err(exists("epoll"));
        }
        self.control_add(source, token, flags(interest, trigger))?;
        if interest.is_empty() {
            // Added first, because only the kernel knows whether it can be watched, or already is.
            self.control_delete(source)?;
            self.parked.insert(raw(source));
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        match (self.is_parked(source), interest.is_empty()) {
            (false, false) => {
                self.ledger.change_calls += 1;
                let data = epoll::EventData::new_u64(token.0);
                epoll::modify(&self.queue, source, data, flags(interest, trigger)).map_err(not_there)?;
            }
            (false, true) => {
                self.control_delete(source)?;
                self.parked.insert(raw(source));
            }
            (true, false) => {
                self.control_add(source, token, flags(interest, trigger))?;
                self.parked.remove(&raw(source));
            }
            (true, true) => {}
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        if !self.is_parked(source) {
            self.control_delete(source)?;
        } else {
            self.parked.remove(&raw(source));
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        if !self.parked.is_empty() {
            self.parked.remove(&raw(crate::AsSource::as_source(&source)));
        }
        self.ledger.changes += 1;
        drop(source); // (a)
        Ok(())
    }

    #[inline]
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.ledger.waits += 1;
        self.ledger.wait_calls += 1;
        let records = events.kernel_records();
        let timeout = timeout.map(time::whole_millis);
        let waited = epoll::wait(&self.queue, spare_capacity(records), timeout.as_ref());
        let found = records.len();
        self.ledger.events += found as u64;
        self.ledger.empty += u64::from(found == 0);
        waited.map(drop).map_err(io::Error::from)
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}

/// The error of a change to what is not in the kernel's list, (c) or never can be.
fn not_there(errno: Errno) -> io::Error {
    match errno {
        Errno::NOENT | Errno::PERM => unknown("epoll"),
        errno => errno.into(),
    }
}

fn flags(interest: Interest, trigger: Trigger) -> EventFlags {
    let mut flags = match trigger {
        Trigger::Level => EventFlags::empty(),
        Trigger::Edge => EventFlags::ET | EventFlags::RDHUP | EventFlags::PRI, // (e)
        Trigger::Oneshot => EventFlags::ONESHOT,
    };
    if interest.contains(Interest::READABLE) {
        flags |= EventFlags::IN | EventFlags::RDHUP; // (d)
    }
    if interest.contains(Interest::WRITABLE) {
        flags |= EventFlags::OUT;
    }
    if interest.contains(Interest::PRIORITY) {
        flags |= EventFlags::PRI;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paused_reader_does_not_ask_for_the_half_close() {
        assert!(!flags(Interest::WRITABLE, Trigger::Level).contains(EventFlags::RDHUP));
        assert!(flags(Interest::READABLE, Trigger::Level).contains(EventFlags::RDHUP));
    }

    #[test]
    fn edge_always_asks_for_what_makes_a_short_read_inconclusive() {
        let asked = flags(Interest::READABLE, Trigger::Edge);
        assert!(asked.contains(EventFlags::ET | EventFlags::RDHUP | EventFlags::PRI));
    }
}
