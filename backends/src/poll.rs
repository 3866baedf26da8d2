//! poll(2): an array of descriptors, scanned on every call.
//!
//! What is odd about it:
//! (a) The kernel reads and writes the whole array each time; there is nothing to register, so changes cost no call.
//! (b) POLLHUP, POLLERR and POLLNVAL are reported even for `events` 0 (macOS differs), so an unwatched source is not
//!     in the array at all.
//! (c) The result is a count, and we must look for the entries ourselves; the search stops at the count.
//! (d) With more ready than the caller's room the lowest entries would win for ever. A wait that ran out of room
//!     is followed by one that searches from where it stopped.
//! (e) A number that is not open is POLLNVAL, in every call, at once. It is reported once and taken out of the array,
//!     or a caller that does not care would spin.
//! (f) WSAPoll knows urgent data as POLLRDBAND, and refuses POLLPRI. It has no POLLRDHUP: a half-close is POLLHUP, told
//!     even to one who asked only for room, and then every wait returns at once until there is room.
//! (g) WSAPoll does not count a socket that is not open, nor does it return early for one; the answer is in its entry
//!     all the same. If no socket is open it fails with WSAENOTSOCK. So here we count.

use std::io;
use std::ops::Range;
use std::time::Duration;

#[cfg(not(linux_like))]
use crate::event::Readiness;
use crate::event::{Interest, Token, Trigger};
use crate::events::{Events, Polled};
use crate::index::{Index, Place};
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller, exists, lacks, unknown};
use crate::source::{RawSource, Source, raw};
use crate::time;

use sys::{PollFd, RDHUP};

/// The poll(2) poller; on Windows, WSAPoll.
#[derive(Default)]
pub struct Poll {
    // Entry i of both belongs to the same source; `index` leads from its number to i.
    entries: Vec<PollFd>,
    tokens: Vec<Token>,
    index: Index,
    from: usize, // (d)
    ledger: Ledger,
}

impl Poll {
    /// Makes an empty array. No system call, so it never fails; the result is for uniformity.
    ///
    /// # Errors
    /// None.
    pub fn open() -> io::Result<Poll> {
        Ok(Poll::default())
    }

    /// As [`Poller::add`], of a source known by its number only.
    pub(crate) fn add_number(
        &mut self,
        source: RawSource,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        if trigger != Trigger::Level {
            return Err(lacks("poll", trigger));
        }
        if self.index.get(source).is_some() {
            return Err(exists("poll"));
        }
        if interest.is_empty() {
            self.index.set(source, Place::Parked); // (b)
        } else {
            self.watch(source, token, interest);
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn watch(&mut self, source: RawSource, token: Token, interest: Interest) {
        self.index.set(source, Place::At(self.entries.len()));
        self.entries.push(PollFd { fd: source as _, events: asked(interest), revents: 0 });
        self.tokens.push(token);
    }

    fn unwatch(&mut self, at: usize) {
        self.entries.swap_remove(at);
        self.tokens.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.index.set(moved.fd as RawSource, Place::At(at));
        }
    }

    /// Reports what fired.
    // All inline, the rare half too: were the buffer's address to leave `wait`, its caller could not keep it in
    // registers.
    #[inline(always)]
    fn search(&self, fired: usize, answers: &mut Polled<'_>) -> Found {
        if self.from == 0 {
            return self.collect(0..self.entries.len(), fired, answers);
        }
        // (d) From where the last search stopped, then from the beginning.
        let from = self.from.min(self.entries.len());
        let behind = self.collect(from..self.entries.len(), fired, answers);
        let before = self.collect(0..from, fired - behind.count, answers);
        let end = if before.count > 0 { before.end } else { behind.end };
        Found { count: behind.count + before.count, end, all: behind.all | before.all }
    }

    /// What is left to do when there was not room for all, or a number was not open.
    #[cold]
    fn clean_up(&mut self, found: Found, fired: usize) {
        let (from, all) = (self.from, found.count == fired);
        self.from = if all { 0 } else { found.end }; // (d)
        if found.all & sys::INVALID != 0 {
            // Those that found no room are found again, and reported then.
            let searched =
                |at| if from < found.end { from <= at && at < found.end } else { from <= at || at < found.end };
            self.unwatch_invalid(|at| all || searched(at));
        }
    }

    /// (e) What is not open has been reported, and is watched no more.
    #[cold]
    fn unwatch_invalid(&mut self, reported: impl Fn(usize) -> bool) {
        // From the end, so that what takes the place of another has been looked at.
        for at in (0..self.entries.len()).rev() {
            let entry = &self.entries[at];
            if entry.revents & sys::INVALID != 0 && reported(at) {
                let source = entry.fd as RawSource;
                self.unwatch(at);
                self.index.set(source, Place::Parked);
            }
        }
    }

    /// (c) Reports up to `most` entries of `range` that fired, as far as there is room.
    #[inline(always)]
    fn collect(&self, range: Range<usize>, most: usize, answers: &mut Polled<'_>) -> Found {
        let (entries, tokens) = (&self.entries[..range.end], &self.tokens[..range.end]);
        let mut found = Found { count: 0, end: range.start, all: 0 };
        found.count = answers.fill(most, || {
            while let Some(entry) = entries.get(found.end) {
                let token = tokens[found.end];
                found.end += 1;
                if entry.revents != 0 {
                    found.all |= entry.revents;
                    return Some((token, u32::from(entry.revents as u16)));
                }
            }
            None
        });
        found
    }
}

/// What one search came to.
struct Found {
    /// How many were reported.
    count: usize,
    /// Where the search ended.
    end: usize,
    /// Their answers, or-ed.
    all: i16,
}

impl Poller for Poll {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.add_number(raw(source), token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if trigger != Trigger::Level {
            return Err(lacks("poll", trigger));
        }
        let source = raw(source);
        match (self.index.get(source).ok_or_else(|| unknown("poll"))?, interest.is_empty()) {
            (Place::At(at), false) => {
                self.entries[at].events = asked(interest);
                self.tokens[at] = token;
            }
            (Place::At(at), true) => {
                self.unwatch(at);
                self.index.set(source, Place::Parked); // (b)
            }
            (Place::Parked, false) => self.watch(source, token, interest),
            (Place::Parked, true) => {}
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let source = raw(source);
        if let Place::At(at) = self.index.get(source).ok_or_else(|| unknown("poll"))? {
            self.unwatch(at);
        }
        self.index.forget(source);
        self.ledger.changes += 1;
        Ok(())
    }

    #[inline(always)] // As epoll's.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut answers = events.polled_records();
        self.ledger.waits += 1;
        let fired = match sys::poll(&mut self.entries, timeout) {
            Ok(fired) if fired > 0 => fired,
            other => {
                self.ledger.empty += 1;
                return other.map(drop);
            }
        };
        let found = self.search(fired, &mut answers);
        self.ledger.events += found.count as u64;
        if (fired - found.count) | self.from > 0 || found.all & sys::INVALID != 0 {
            self.clean_up(found, fired);
        }
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        Ledger { wait_calls: self.ledger.waits, ..self.ledger }
    }
}

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    growth: Growth::Registered,
    resolution: sys::RESOLUTION,
    half_close: RDHUP != 0,
    errors: true,
    priority: sys::PRIORITY != 0,
    regular_files: cfg!(unix),
    calls: Calls { wait: sys::CALLS, change: &[] },
    ..Capabilities::least()
};

/// Whether any of `entries` is ready now, for a poller that wants to be sure.
#[cfg(uring)]
pub(crate) fn look(entries: &mut [libc::pollfd]) -> io::Result<usize> {
    sys::poll(entries, Some(Duration::ZERO))
}

pub(crate) fn asked(interest: Interest) -> i16 {
    let mut bits = 0;
    if interest.contains(Interest::READABLE) {
        bits |= sys::READABLE | RDHUP;
    }
    if interest.contains(Interest::WRITABLE) {
        bits |= sys::WRITABLE;
    }
    if interest.contains(Interest::PRIORITY) {
        bits |= sys::PRIORITY; // (f)
    }
    bits
}

/// What an answer means. On Linux its bits are those of epoll, and are read with that one's.
#[cfg(not(linux_like))]
pub(crate) fn readiness(bits: u32) -> Readiness {
    let names = [
        (sys::READABLE, Readiness::READABLE),
        (sys::WRITABLE, Readiness::WRITABLE),
        (sys::PRIORITY, Readiness::PRIORITY),
        (sys::ERROR, Readiness::ERROR),
        (sys::HANG_UP, Readiness::HANG_UP),
        (sys::INVALID, Readiness::INVALID),
        (RDHUP, Readiness::READ_CLOSED),
    ];
    let set = names.into_iter().filter(|(bit, _)| bits & (*bit as u16 as u32) != 0);
    set.fold(Readiness::EMPTY, |all, (_, fact)| all | fact)
}

#[cfg(unix)]
mod sys {
    use super::*;

    pub(super) use libc::pollfd as PollFd;

    pub(super) const READABLE: i16 = libc::POLLIN;
    pub(super) const WRITABLE: i16 = libc::POLLOUT;
    pub(super) const PRIORITY: i16 = libc::POLLPRI;
    pub(super) const INVALID: i16 = libc::POLLNVAL;

    cfg_if::cfg_if! {
        if #[cfg(linux_like)] {
            pub(super) const RDHUP: i16 = libc::POLLRDHUP;
        } else {
            // FreeBSD 14 has POLLRDHUP; the others do not, and the end of a stream is then simply readable.
            pub(super) const RDHUP: i16 = if cfg!(target_os = "freebsd") { 0x4000 } else { 0 };
            pub(super) const ERROR: i16 = libc::POLLERR;
            pub(super) const HANG_UP: i16 = libc::POLLHUP;
        }
    }

    cfg_if::cfg_if! {
        if #[cfg(ppoll)] {
            pub(super) const RESOLUTION: Duration = Duration::from_nanos(1);
            pub(super) const CALLS: &[&str] = &["ppoll"];

            #[inline]
            pub(super) fn poll(entries: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
                let timeout = timeout.map(time::timespec);
                let mut timeout = timeout.map(|t| libc::timespec { tv_sec: t.tv_sec as _, tv_nsec: t.tv_nsec as _ });
                let timeout = timeout.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
                // SAFETY: `entries` is a valid array of its length for the whole call, and the kernel writes only
                // `revents` of its entries; `timeout` is null or points to a timespec alive until the call returns.
                let found = unsafe { ppoll(entries.as_mut_ptr(), entries.len(), timeout) };
                usize::try_from(found).map_err(|_| io::Error::last_os_error())
            }

            cfg_if::cfg_if! {
                if #[cfg(linux_like)] {
                    /// Without the C library's part, which makes a thread cancellable: 60 instructions.
                    ///
                    /// # Safety
                    /// `entries` are `count` entries, `timeout` is null or a timespec; both last until the return.
                    #[inline]
                    unsafe fn ppoll(entries: *mut PollFd, count: usize, timeout: *mut libc::timespec) -> libc::c_long {
                        let mask = std::ptr::null::<libc::sigset_t>();
                        // SAFETY: the arguments are those ppoll(2) of Linux takes, and the caller vouches for the
                        // pointers; a null mask leaves the signal mask alone, and its size is not looked at.
                        unsafe { libc::syscall(libc::SYS_ppoll, entries, count, timeout, mask, 0_usize) }
                    }
                } else {
                    /// # Safety
                    /// `entries` are `count` entries, `timeout` is null or a timespec; both last until the return.
                    #[inline]
                    unsafe fn ppoll(entries: *mut PollFd, count: usize, timeout: *mut libc::timespec) -> libc::c_int {
                        // SAFETY: the caller vouches for the pointers; a null mask leaves the signal mask alone.
                        unsafe { libc::ppoll(entries, count as libc::nfds_t, timeout, std::ptr::null()) }
                    }
                }
            }
        } else {
            pub(super) const RESOLUTION: Duration = Duration::from_millis(1);
            pub(super) const CALLS: &[&str] = &["poll"];

            pub(super) fn poll(entries: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
                // SAFETY: `entries` is a valid array of its length for the whole call, and the kernel writes only
                // `revents` of its entries.
                let found = unsafe {
                    libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, time::millis(timeout))
                };
                usize::try_from(found).map_err(|_| io::Error::last_os_error())
            }
        }
    }
}

#[cfg(windows)]
mod sys {
    use super::*;
    use windows_sys::Win32::Networking::WinSock;

    pub(super) use WinSock::WSAPOLLFD as PollFd;

    pub(super) const READABLE: i16 = WinSock::POLLRDNORM;
    pub(super) const WRITABLE: i16 = WinSock::POLLWRNORM;
    pub(super) const PRIORITY: i16 = WinSock::POLLRDBAND; // (f)
    pub(super) const RDHUP: i16 = 0;
    pub(super) const ERROR: i16 = WinSock::POLLERR;
    pub(super) const HANG_UP: i16 = WinSock::POLLHUP;
    pub(super) const INVALID: i16 = WinSock::POLLNVAL;
    pub(super) const RESOLUTION: Duration = Duration::from_millis(1);
    pub(super) const CALLS: &[&str] = &["WSAPoll"];

    pub(super) fn poll(entries: &mut [PollFd], timeout: Option<Duration>) -> io::Result<usize> {
        if entries.is_empty() {
            // WSAPoll calls an empty array invalid; the contract says an empty set honours the timeout.
            match timeout {
                Some(timeout) => std::thread::sleep(timeout),
                None => loop {
                    std::thread::park();
                },
            }
            return Ok(0);
        }
        // SAFETY: `entries` is a valid array of its length for the whole call, and Winsock writes only `revents`.
        let found = unsafe { WinSock::WSAPoll(entries.as_mut_ptr(), entries.len() as u32, time::millis(timeout)) };
        if found < 0 {
            // SAFETY: reads the calling thread's last Winsock error; it has no precondition.
            let error = unsafe { WinSock::WSAGetLastError() };
            let told = error == WinSock::WSAENOTSOCK && entries.iter().any(|entry| entry.revents & INVALID != 0);
            if !told {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Ok(entries.iter().filter(|entry| entry.revents != 0).count()) // (g)
    }
}
