//! epoll(7): the kernel keeps the list, and a wait costs what is ready.
//!
//! What is odd about it:
//! (a) A registration belongs to the pair of number and open file description. close(2) ends it only when no
//!     duplicate of the description is left. We never duplicate one, so closing alone is enough, but for a moment when
//!     another thread spawns a process: the child has duplicates of all until it calls exec(2), and so long the end of
//!     what was closed is told by every wait, and cannot be taken out any more. Its token is nobody's by then. To take
//!     it out before it is closed would be a call for each connection.
//! (b) Errors and hang-ups are reported even for an empty interest: a loop that is merely not interested would
//!     spin. So "empty" means taken out of the kernel's list, and remembered in `parked`, the only table kept here.
//! (c) Regular files are refused with EPERM, also when they are to be modified or deleted.
//! (d) The peer's half-close is EPOLLRDHUP, and only if asked for. We ask whenever we ask to read, and never else:
//!     a paused reader would be woken for ever.
//! (e) In edge mode a wait that reports data says nothing later of a FIN that was already there. So edge also asks
//!     for EPOLLRDHUP and EPOLLPRI, and the reader knows when a short read is not the end.
//! (f) A level-triggered item that was returned is queued again and polled once more by the next wait.
//! (g) EPOLLEXCLUSIVE goes with EPOLLIN and EPOLLOUT, but not with (d) and (e), and such a registration cannot be
//!     modified: EINVAL. It is then taken out and put in again, as (b) does.

mod busy;

use std::collections::BTreeSet;
use std::io;
#[cfg(uring)]
use std::os::fd::{AsFd, BorrowedFd};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::event::{Interest, Token, Trigger};
use crate::events::Events;
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller, exists, is_exclusive, not_exclusively, unknown};
use crate::source::{OwnedSource, RawSource, Source, raw};
use crate::time;

pub use busy::BusyPoll;

/// The epoll(7) poller of Linux.
pub struct Epoll {
    queue: OwnedFd,
    parked: BTreeSet<RawSource>, // no hash: its seed would be a call, and a move may open an instance at any time
    ledger: Ledger,
}

impl Epoll {
    /// Opens an epoll instance.
    ///
    /// # Errors
    /// The kernel's: too many descriptors, or no memory.
    pub fn open() -> io::Result<Epoll> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Epoll { queue, parked: BTreeSet::new(), ledger: Ledger::default() })
    }

    /// The instance, for another way to wait.
    #[cfg(uring)]
    pub(crate) fn queue(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }

    /// As [`Poller::add`], of a source known by its number only, and for some interest.
    pub(crate) fn add_number(
        &mut self,
        source: RawSource,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        self.control_add(source, token, flags(interest, trigger))?;
        self.ledger.changes += 1;
        Ok(())
    }

    fn control_add(&mut self, source: RawSource, token: Token, flags: EventFlags) -> io::Result<()> {
        self.ledger.change_calls += 1;
        let mut event = libc::epoll_event { events: flags.bits(), u64: token.0 };
        // SAFETY: `event` lasts until the return, and is only read. Any number may be asked about: one that is not open
        // is answered with EBADF, and of one that has become another file there is an event at worst.
        let added = unsafe {
            libc::epoll_ctl(self.queue.as_raw_fd(), libc::EPOLL_CTL_ADD, source, std::ptr::from_mut(&mut event))
        };
        if added == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        Err(match error.raw_os_error() {
            Some(libc::EPERM) => io::Error::new(
                io::ErrorKind::Unsupported,
                "epoll cannot watch this kind of file: regular files and directories are always ready (EPERM)",
            ),
            _ => error,
        })
    }

    /// (b) Takes a source out of the kernel's list, and remembers it.
    fn park(&mut self, source: Source<'_>) -> io::Result<()> {
        self.control_delete(source)?;
        self.parked.insert(raw(source));
        Ok(())
    }

    /// (b) Puts it back.
    fn unpark(&mut self, source: Source<'_>, token: Token, flags: EventFlags) -> io::Result<()> {
        self.control_add(raw(source), token, flags)?;
        self.parked.remove(&raw(source));
        Ok(())
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
        CAPABILITIES
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.is_parked(source) {
            return Err(exists("epoll"));
        }
        self.control_add(raw(source), token, flags(interest, trigger))?;
        if interest.is_empty() {
            // Added first, because only the kernel knows whether it can be watched, or already is.
            self.park(source)?;
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        if !is_exclusive(interest) {
            return Err(not_exclusively("epoll"));
        }
        if self.is_parked(source) {
            return Err(exists("epoll"));
        }
        let flags = flags(interest, Trigger::Level).difference(EventFlags::RDHUP) | EventFlags::EXCLUSIVE; // (g)
        self.control_add(raw(source), token, flags)?;
        self.ledger.changes += 1;
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        match (self.is_parked(source), interest.is_empty()) {
            (false, false) => {
                self.ledger.change_calls += 1;
                let (data, flags) = (epoll::EventData::new_u64(token.0), flags(interest, trigger));
                match epoll::modify(&self.queue, source, data, flags) {
                    Err(Errno::INVAL) => {
                        self.park(source)?; // (g)
                        self.unpark(source, token, flags)?;
                    }
                    modified => modified.map_err(not_there)?,
                }
            }
            (false, true) => self.park(source)?,
            (true, false) => self.unpark(source, token, flags(interest, trigger))?,
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

    // However many loops there are: one that sees which buffer was filled asks that but once, not for every event.
    #[inline(always)]
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

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    edge: true,
    oneshot: true,
    exclusive: true,
    growth: Growth::Ready,
    half_close: true,
    errors: true,
    priority: true,
    calls: Calls { wait: &["epoll_pwait", "epoll_wait"], change: &["epoll_ctl"] },
    ..Capabilities::least()
};

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
