//! select(2): three sets of numbers, copied in and out on every call.
//!
//! What is odd about it:
//! (a) The kernel overwrites the sets with its answer, so what is asked for lives in master sets that are copied before
//!     each call, and the cost follows the highest number watched, however few are. A set nobody is in is not passed.
//! (b) `FD_SETSIZE`, 1024, is the size of a C type. The kernels of Linux, FreeBSD, NetBSD and OpenBSD take sets of any
//!     size, and so does macOS's through `select$DARWIN_EXTSN`, which rustix calls; these sets are on the heap and as
//!     long as they need be.
//! (c) A number that is not open fails the whole call with EBADF, and does not say which. We look for it, report it on
//!     its token, and take it out of the sets; the others wait for the next call.
//! (d) There is no word for a hang-up or an error: the source is readable, or writable, and the call that follows
//!     tells why.
//! (e) With more ready than the caller's room the lowest numbers would win for ever. A wait that ran out of room is
//!     followed by one that searches from where it stopped.
//! (f) On Windows a set is a count and an array of sockets. `FD_SETSIZE`, 64, is again only the size of a C type. Three
//!     empty sets are invalid there, and a failed connect is told by the except set alone, so whoever asks to write is
//!     in that too. Urgent data on a socket whose buffer is full then looks like an error.
//! (g) There, too, the timeout's microseconds are only its unit: what counts is the tick of the system's clock, a
//!     millisecond at the best. So timeouts are rounded up to whole milliseconds, as with that system's other calls.

use std::io;
use std::time::Duration;

use crate::event::{Event, Interest, Raw, Readiness, Token, Trigger};
use crate::events::Events;
use crate::index::{Index, Place};
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller, exists, lacks, unknown};
use crate::source::{RawSource, Source, raw};
use crate::time;

use sys::Sets;

/// The select(2) poller.
#[derive(Default)]
pub struct Select {
    sets: Sets,
    // `index` leads from a source's number to its entry.
    entries: Vec<Entry>,
    index: Index,
    from: RawSource, // (e)
    ledger: Ledger,
}

struct Entry {
    source: RawSource,
    token: Token,
    interest: Interest,
}

/// Bits of [`Raw::Select`]: which of the three sets named a source.
const READ: u8 = 1;
const WRITE: u8 = 2;
const EXCEPT: u8 = 4;

impl Select {
    /// Makes empty sets. No system call, so it never fails; the result is for uniformity.
    ///
    /// # Errors
    /// None.
    pub fn open() -> io::Result<Select> {
        Ok(Select::default())
    }

    fn watch(&mut self, source: RawSource, token: Token, interest: Interest) {
        self.index.set(source, Place::At(self.entries.len()));
        self.entries.push(Entry { source, token, interest });
        self.sets.change(source, 0, asked(interest));
    }

    fn unwatch(&mut self, at: usize) {
        let gone = self.entries.swap_remove(at);
        self.sets.change(gone.source, asked(gone.interest), 0);
        if let Some(moved) = self.entries.get(at) {
            self.index.set(moved.source, Place::At(at));
        }
    }

    /// Reports the sources of `range` that the sets name, in order, until `left` marks are accounted for or the room
    /// is used up; then returns where it stopped.
    #[inline]
    fn collect(&self, range: std::ops::Range<RawSource>, left: &mut usize, events: &mut Events) -> Option<RawSource> {
        let mut sets = [0, 1, 2].map(|set| self.sets.named(set, range.start).peekable());
        while *left > 0 {
            let source = sets.iter_mut().filter_map(|set| set.peek().copied()).min()?;
            if source >= range.end {
                return None;
            }
            let mut which = 0;
            for (set, named) in sets.iter_mut().enumerate() {
                if named.next_if_eq(&source).is_some() {
                    which |= 1 << set;
                }
            }
            let Some(Place::At(at)) = self.index.get(source) else {
                unreachable!("a source is in the sets only while it has an entry");
            };
            if !events.push(event(&self.entries[at], which)) {
                return Some(source);
            }
            *left -= which.count_ones() as usize;
        }
        None
    }

    /// (c) Reports what is not open as far as there is room, and stops watching it.
    #[cold]
    fn report_invalid(&mut self, events: &mut Events) {
        let mut at = 0;
        while at < self.entries.len() && events.room() > 0 {
            self.ledger.wait_calls += 1;
            let Entry { source, token, .. } = self.entries[at];
            if sys::is_open(source) {
                at += 1;
                continue;
            }
            events.push(Event::new(token, Readiness::INVALID, Raw::Select(0)));
            self.unwatch(at);
            self.index.set(source, Place::Parked);
        }
    }
}

impl Poller for Select {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            growth: sys::GROWTH,
            resolution: sys::RESOLUTION,
            priority: true,
            regular_files: cfg!(unix),
            calls: Calls { wait: sys::CALLS, change: &[] },
            ..Capabilities::least()
        }
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if trigger != Trigger::Level {
            return Err(lacks("select", trigger));
        }
        let source = raw(source);
        if self.index.get(source).is_some() {
            return Err(exists("select"));
        }
        if interest.is_empty() {
            self.index.set(source, Place::Parked);
        } else {
            self.watch(source, token, interest);
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if trigger != Trigger::Level {
            return Err(lacks("select", trigger));
        }
        let source = raw(source);
        match (self.index.get(source).ok_or_else(|| unknown("select"))?, interest.is_empty()) {
            (Place::At(at), false) => {
                let before = std::mem::replace(&mut self.entries[at], Entry { source, token, interest });
                self.sets.change(source, asked(before.interest), asked(interest));
            }
            (Place::At(at), true) => {
                self.unwatch(at);
                self.index.set(source, Place::Parked);
            }
            (Place::Parked, false) => self.watch(source, token, interest),
            (Place::Parked, true) => {}
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let source = raw(source);
        if let Place::At(at) = self.index.get(source).ok_or_else(|| unknown("select"))? {
            self.unwatch(at);
        }
        self.index.forget(source);
        self.ledger.changes += 1;
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.ledger.waits += 1;
        self.ledger.wait_calls += 1;
        let mut found = self.sets.select(timeout);
        if let Err(error) = &found
            && sys::names_a_bad_source(error)
        {
            self.report_invalid(events);
            if !events.is_empty() {
                found = Ok(0);
            }
        }
        let mut left = *found.as_ref().unwrap_or(&0);
        if left > 0 {
            let stopped = self.collect(self.from..RawSource::MAX, &mut left, events);
            let stopped = match stopped {
                None if left > 0 => self.collect(0..self.from, &mut left, events),
                stopped => stopped,
            };
            self.from = stopped.unwrap_or(0);
            debug_assert!(stopped.is_some() || left == 0, "select(2) counted {left} more than it named");
        }
        self.ledger.events += events.len() as u64;
        self.ledger.empty += u64::from(events.is_empty());
        found.map(drop)
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}

fn asked(interest: Interest) -> u8 {
    let mut sets = 0;
    if interest.contains(Interest::READABLE) {
        sets |= READ;
    }
    if interest.contains(Interest::WRITABLE) {
        sets |= WRITE | if cfg!(windows) { EXCEPT } else { 0 }; // (f)
    }
    if interest.contains(Interest::PRIORITY) {
        sets |= EXCEPT;
    }
    sets
}

#[inline]
fn event(entry: &Entry, which: u8) -> Event {
    let mut readiness = Readiness::EMPTY;
    if which & READ != 0 {
        readiness |= Readiness::READABLE;
    }
    if which & WRITE != 0 {
        readiness |= Readiness::WRITABLE;
    }
    if which & EXCEPT != 0 && entry.interest.contains(Interest::PRIORITY) {
        readiness |= Readiness::PRIORITY;
    }
    if cfg!(windows) && which & (WRITE | EXCEPT) == EXCEPT && entry.interest.contains(Interest::WRITABLE) {
        // (f) A connected socket with room is in the write set too; one whose connect failed never is.
        readiness |= Readiness::ERROR;
    }
    Event::new(entry.token, readiness, Raw::Select(which))
}

#[cfg(unix)]
mod sys {
    use super::*;
    use rustix::event::{FdSetElement, FdSetIter, fd_set_bound, fd_set_insert, fd_set_num_elements, fd_set_remove};

    pub(super) const GROWTH: Growth = Growth::HighestNumber;
    pub(super) const RESOLUTION: Duration = Duration::from_micros(1);
    pub(super) const CALLS: &[&str] = &["select", "pselect6", "fcntl"];
    const BITS: usize = 8 * size_of::<FdSetElement>();

    /// Bitmaps, with a bit for each number up to the highest.
    #[derive(Default)]
    pub(super) struct Sets {
        pub(super) master: [Vec<FdSetElement>; 3],
        pub(super) members: [usize; 3],
        // (a) What the last call answered; empty where nothing was asked.
        pub(super) answer: [Vec<FdSetElement>; 3],
        // One more than the highest number in any of the masters.
        pub(super) bound: RawSource,
    }

    impl Sets {
        /// Moves `source` from the sets `before` into the sets `after`.
        pub(super) fn change(&mut self, source: RawSource, before: u8, after: u8) {
            self.bound = self.bound.max(source + 1);
            for (set, words) in self.master.iter_mut().enumerate() {
                let longest = fd_set_num_elements(0, self.bound);
                if words.len() < longest {
                    words.resize(longest, FdSetElement::default());
                }
                match (before >> set & 1, after >> set & 1) {
                    (0, 1) => {
                        fd_set_insert(words, source);
                        self.members[set] += 1;
                    }
                    (1, 0) => {
                        fd_set_remove(words, source);
                        self.members[set] -= 1;
                    }
                    _ => {}
                }
            }
            if after == 0 && source + 1 == self.bound {
                // Looks backwards from the end, and only after the highest number has gone.
                self.bound = self.master.iter().map(|words| fd_set_bound(words)).max().expect("there are three");
            }
        }

        pub(super) fn select(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
            let length = fd_set_num_elements(0, self.bound);
            for ((answer, master), members) in self.answer.iter_mut().zip(&self.master).zip(self.members) {
                answer.clear();
                if members > 0 {
                    answer.extend_from_slice(&master[..length]);
                }
            }
            let timeout = timeout.map(time::micros);
            let [read, write, except] = self.answer.each_mut().map(|set| (!set.is_empty()).then_some(&mut set[..]));
            // SAFETY: each set that is passed has the bits up to `bound`, which is also asserted inside. Every number
            // was lent to `add` while it was open; if one was closed since, or names something else by now, the call
            // fails with EBADF or reports readiness, and does nothing to what the number names.
            let found = unsafe { rustix::event::select(self.bound, read, write, except, timeout.as_ref()) }?;
            Ok(found as usize)
        }

        /// The numbers in the answer's set `set`, ascending from `from` on.
        #[inline]
        pub(super) fn named(&self, set: usize, from: RawSource) -> impl Iterator<Item = RawSource> {
            let answer = &self.answer[set];
            let skipped = (from as usize / BITS).min(answer.len());
            let base = (skipped * BITS) as RawSource;
            FdSetIter::new(&answer[skipped..]).map(move |bit| base + bit).skip_while(move |source| *source < from)
        }
    }

    pub(super) fn names_a_bad_source(error: &io::Error) -> bool {
        error.raw_os_error() == Some(libc::EBADF)
    }

    pub(super) fn is_open(source: RawSource) -> bool {
        // SAFETY: F_GETFD takes no further argument and only reads a flag; any number may be asked about.
        unsafe { libc::fcntl(source, libc::F_GETFD) >= 0 }
    }
}

#[cfg(windows)]
mod sys {
    use super::*;
    use windows_sys::Win32::Networking::WinSock;

    pub(super) const GROWTH: Growth = Growth::Registered;
    pub(super) const RESOLUTION: Duration = Duration::from_millis(1); // (g)
    pub(super) const CALLS: &[&str] = &["select", "getsockopt"];

    /// (f) Arrays laid out as Winsock's `fd_set` of any length: a count, which is 32 bits and padded, then sockets.
    #[derive(Default)]
    pub(super) struct Sets {
        master: [Vec<RawSource>; 3],
        answer: [Vec<RawSource>; 3],
    }

    const _: () = assert!(std::mem::offset_of!(WinSock::FD_SET, fd_array) == size_of::<RawSource>());
    const _: () = assert!(size_of::<WinSock::SOCKET>() == size_of::<RawSource>());
    const _: () = assert!(align_of::<WinSock::FD_SET>() <= align_of::<RawSource>());
    const _: () = assert!(cfg!(target_endian = "little"), "the count is the lower half of the first word");

    impl Sets {
        /// Moves `source` from the sets `before` into the sets `after`.
        pub(super) fn change(&mut self, source: RawSource, before: u8, after: u8) {
            for (set, members) in self.master.iter_mut().enumerate() {
                match (before >> set & 1, after >> set & 1) {
                    (0, 1) => members.push(source),
                    (1, 0) => {
                        // O(n), as every wait is.
                        let at = members.iter().position(|member| *member == source).expect("it was in the set");
                        members.swap_remove(at);
                    }
                    _ => {}
                }
            }
        }

        pub(super) fn select(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
            for (answer, members) in self.answer.iter_mut().zip(&self.master) {
                answer.clear();
                if !members.is_empty() {
                    answer.push(members.len() as u64);
                    answer.extend_from_slice(members);
                }
            }
            if self.answer.iter().all(Vec::is_empty) {
                match timeout {
                    Some(timeout) => std::thread::sleep(timeout),
                    None => loop {
                        std::thread::park();
                    },
                }
                return Ok(0);
            }
            let timeout = timeout
                .map(time::whole_millis) // (g)
                .map(|timeout| WinSock::TIMEVAL { tv_sec: timeout.tv_sec as i32, tv_usec: timeout.tv_nsec / 1_000 });
            let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let [read, write, except] = self.answer.each_mut().map(|set| match set.is_empty() {
                true => std::ptr::null_mut(),
                false => set.as_mut_ptr().cast::<WinSock::FD_SET>(),
            });
            // SAFETY: each set is null or a count and that many sockets, in the layout asserted above, and lives until
            // the call returns; Winsock shortens the array and the count in place. `timeout` is null or lives as long.
            // The first argument is ignored. A stale socket fails the call with WSAENOTSOCK, nothing more.
            let found = unsafe { WinSock::select(0, read, write, except, timeout) };
            if found < 0 {
                self.answer.iter_mut().for_each(Vec::clear);
                // SAFETY: reads the calling thread's last Winsock error; it has no precondition.
                return Err(io::Error::from_raw_os_error(unsafe { WinSock::WSAGetLastError() }));
            }
            for answer in &mut self.answer {
                if let Some(count) = answer.first().map(|count| *count as u32 as usize) {
                    answer.truncate(1 + count);
                    answer[1..].sort_unstable(); // so that the three can be merged
                }
            }
            Ok(found as usize)
        }

        /// The sockets in the answer's set `set`, ascending from `from` on.
        #[inline]
        pub(super) fn named(&self, set: usize, from: RawSource) -> impl Iterator<Item = RawSource> {
            let sockets = self.answer[set].get(1..).unwrap_or_default();
            sockets[sockets.partition_point(|socket| *socket < from)..].iter().copied()
        }
    }

    pub(super) fn names_a_bad_source(error: &io::Error) -> bool {
        error.raw_os_error() == Some(WinSock::WSAENOTSOCK)
    }

    pub(super) fn is_open(source: RawSource) -> bool {
        let mut kind = [0u8; size_of::<i32>()];
        let mut length = kind.len() as i32;
        // SAFETY: `kind` has `length` writable bytes, and both live until the call returns; any number may be asked
        // about.
        let answer = unsafe {
            WinSock::getsockopt(
                source as WinSock::SOCKET,
                WinSock::SOL_SOCKET,
                WinSock::SO_TYPE,
                kind.as_mut_ptr(),
                &mut length,
            )
        };
        answer == 0
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn the_bound_follows_the_highest_number_down_again() {
        let mut sets = Sets::default();
        sets.change(3, 0, READ);
        sets.change(70, 0, READ | WRITE);
        sets.change(70, READ | WRITE, WRITE);
        assert_eq!((sets.bound, sets.members), (71, [1, 1, 0]));
        sets.change(70, WRITE, 0);
        assert_eq!((sets.bound, sets.members), (4, [1, 0, 0]));
        sets.change(3, READ, 0);
        assert_eq!(sets.bound, 0);
    }

    #[test]
    fn a_search_may_start_inside_a_word() {
        let mut sets = Sets::default();
        for source in [1, 5, 63, 64, 200] {
            sets.change(source, 0, READ);
        }
        sets.answer[0] = sets.master[0].clone();
        assert_eq!(sets.named(0, 5).collect::<Vec<_>>(), [5, 63, 64, 200]);
        assert_eq!(sets.named(0, 65).collect::<Vec<_>>(), [200]);
        assert_eq!(sets.named(0, RawSource::MAX).count(), 0);
        assert_eq!(sets.named(1, 0).count(), 0);
    }

    #[test]
    fn a_number_closed_behind_its_back_is_named_once_and_the_others_go_on() {
        let quiet = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let lost = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let mut select = Select::open().expect("never fails");
        select.add(quiet.as_fd(), Token(1), Interest::WRITABLE, Trigger::Level).expect("new");
        // The number is far above what this process opens, so no other test can take it meanwhile.
        let number = rustix::io::fcntl_dupfd_cloexec(&lost, 900).expect("there is room");
        select.add(number.as_fd(), Token(2), Interest::READABLE, Trigger::Level).expect("new");
        drop(number);

        let mut events = Events::with_capacity(8);
        select.wait(&mut events, Some(Duration::ZERO)).expect("the bad number is reported, not returned");
        let found: Vec<_> = events.iter().map(|event| (event.token(), event.error())).collect();
        assert_eq!(found, [(Token(2), true)]);
        for _ in 0..2 {
            select.wait(&mut events, Some(Duration::ZERO)).expect("it is out of the sets");
            assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(1)]);
        }
    }
}
