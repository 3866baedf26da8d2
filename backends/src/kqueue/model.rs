//! A model of the kernel: kqueue(2)'s queue of filters, as FreeBSD 14 and NetBSD 7.99 have it.
//!
//! What a filter is about, and what happens to it, [`Files`] says: facts a test makes up (`told.rs`), or the
//! sockets and pipes of this system (`real.rs`). In between, this is what sys/kern/kern_event.c does:
//! (a) A filter is *active*, and in the queue, since something happened to it while its condition was true.
//! (b) A scan takes each filter of the queue at most once and, but for EV_ONESHOT, looks again: what is no longer true
//!     is inactive. What it reports goes to the end of the queue, unless it is EV_CLEAR, which waits for the next
//!     happening, or EV_ONESHOT, which is gone.
//! (c) EV_ADD of what is installed renews it and looks again, but leaves the mode as it was.
//! (d) close(2) removes the filters of a number, without a word.
//! (e) A change that fails, or has EV_RECEIPT, is answered in the event list. Without room there, the call fails with
//!     its errno, and the changes behind it are not made. Where anything is answered, there is no scan.

#![cfg_attr(
    kqueue_like,
    allow(unreachable_pub, reason = "only where it stands in for the kernel is it in a public type")
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::*;

/// As on every system.
pub(super) const EBADF: i64 = 9;

/// What the filters are on.
pub trait Files {
    /// Begins to tell of what happens to `source` in the direction of `filter`; or the errno of why it cannot.
    fn attach(&mut self, source: RawSource, filter: Filter) -> Result<(), i64>;

    /// Tells of it no more. The source may have been closed long ago.
    fn detach(&mut self, source: RawSource, filter: Filter);

    /// Whether the number is open.
    fn is_open(&mut self, source: RawSource) -> bool;

    /// Whether the number still names what it named when the filter was attached: it was not closed in between.
    fn is_the_same(&mut self, source: RawSource, filter: Filter) -> bool;

    /// What the filter would report now, if its condition is true.
    fn fact(&mut self, source: RawSource, filter: Filter) -> Option<Fact>;

    /// What happened since it was last asked; sleeps until something does or `timeout` has passed.
    fn happenings(&mut self, timeout: Option<Duration>) -> io::Result<Vec<(RawSource, Filter)>>;
}

/// What a filter reports, but for the flags it was installed with.
#[derive(Clone, Copy, Default)]
pub struct Fact {
    pub(super) flags: u32,
    pub(super) fflags: u32,
    pub(super) data: i64,
}

/// A queue of filters.
#[derive(Default)]
pub struct Model<F> {
    pub(super) filters: BTreeMap<(RawSource, Filter), Installed>,
    /// (a)
    queue: VecDeque<(RawSource, Filter)>,
    pub(super) files: F,
}

/// An installed filter.
pub(super) struct Installed {
    /// EV_CLEAR, EV_ONESHOT, or 0.
    mode: u32,
    /// What was true when it last became active.
    fact: Fact,
}

impl<F: Files> Model<F> {
    #[cfg(all(linux_like, feature = "conformance"))]
    pub(super) fn over(files: F) -> Model<F> {
        Model { filters: BTreeMap::new(), queue: VecDeque::new(), files }
    }

    /// Makes changes, as far as there is room to answer them: (e).
    pub(super) fn make(&mut self, changes: &[Change], room: usize) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for change in changes {
            let errno = self.register(change).err().unwrap_or(0);
            if errno != 0 || change.flags & flags::RECEIPT != 0 {
                if records.len() == room {
                    return Err(io::Error::from_raw_os_error(errno as i32));
                }
                // As on FreeBSD; macOS leaves the change's own flags in.
                let Change { source, filter, .. } = *change;
                records.push(Record { source, filter, flags: flags::ERROR, fflags: 0, data: errno });
            }
        }
        Ok(records)
    }

    fn register(&mut self, change: &Change) -> Result<(), i64> {
        let Change { source, filter, flags } = *change;
        self.forget_if_closed(source);
        if !self.files.is_open(source) {
            return Err(EBADF);
        }
        let key = (source, filter);
        if flags & flags::DELETE != 0 {
            self.filters.remove(&key).ok_or(i64::from(ENOENT))?;
            self.queue.retain(|queued| *queued != key);
            self.files.detach(source, filter);
            return Ok(());
        }
        if !self.filters.contains_key(&key) {
            self.files.attach(source, filter)?;
            let mode = flags & (flags::CLEAR | flags::ONESHOT);
            self.filters.insert(key, Installed { mode, fact: Fact::default() });
        }
        self.look(key); // (c)
        Ok(())
    }

    /// (a) Something may have happened to a filter.
    fn look(&mut self, key: (RawSource, Filter)) {
        let Some(installed) = self.filters.get_mut(&key) else { return };
        let Some(fact) = self.files.fact(key.0, key.1) else { return };
        installed.fact = fact;
        if !self.queue.contains(&key) {
            self.queue.push_back(key);
        }
    }

    /// (b)
    fn scan(&mut self, room: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..self.queue.len() {
            if records.len() == room {
                break;
            }
            // Fewer than there were, if one was found closed.
            let Some(key) = self.queue.pop_front() else { break };
            if self.forget_if_closed(key.0) {
                continue;
            }
            let Installed { mode, fact } = &self.filters[&key];
            let (mode, fact) = match mode & flags::ONESHOT != 0 {
                true => (*mode, *fact),
                false => match self.files.fact(key.0, key.1) {
                    Some(fact) => (*mode, fact),
                    None => continue,
                },
            };
            let Fact { flags, fflags, data } = fact;
            records.push(Record { source: key.0, filter: key.1, flags: flags | mode, fflags, data });
            if mode & flags::ONESHOT != 0 {
                self.filters.remove(&key);
                self.files.detach(key.0, key.1);
            } else if mode & flags::CLEAR == 0 {
                self.queue.push_back(key);
            }
        }
        records
    }

    /// (d) There is nobody to tell us of a close(2), so it is looked for before it could be noticed.
    fn forget_if_closed(&mut self, source: RawSource) -> bool {
        let mut found = false;
        for filter in [Filter::Read, Filter::Write] {
            let key = (source, filter);
            if self.filters.contains_key(&key) && !self.files.is_the_same(source, filter) {
                self.filters.remove(&key);
                self.queue.retain(|queued| *queued != key);
                self.files.detach(source, filter);
                found = true;
            }
        }
        found
    }

    fn happen(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let happened = self.files.happenings(timeout)?;
        let any = !happened.is_empty();
        happened.into_iter().for_each(|key| self.look(key));
        Ok(any)
    }
}

impl<F: Files> Kernel for Model<F> {
    fn kevent(
        &mut self,
        changes: &[Change],
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Record>> {
        let mut records = self.make(changes, room)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout)); // too far is never
        let mut slept = Some(Duration::ZERO);
        while records.is_empty() {
            let happened = self.happen(slept)?;
            records = self.scan(room);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if !happened && left.is_some_and(|left| left.is_zero()) {
                break;
            }
            slept = left;
        }
        Ok(records.into_iter())
    }
}
