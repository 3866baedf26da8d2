//! A model of the kernel: kqueue(2) as it was observed on NetBSD 7.99, and as FreeBSD 14 and macOS document it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

pub(super) const EBADF: i64 = 9;

/// A queue of filters, and what is true of the files they are on.
#[derive(Default)]
pub struct Model {
    pub(super) filters: BTreeMap<(RawSource, Filter), Installed>,
    pub(super) queue: VecDeque<(RawSource, Filter)>,
    pub(super) facts: BTreeMap<(RawSource, Filter), Fact>,
    pub(super) gone: BTreeSet<RawSource>,
    pub(super) calls: Vec<Call>,
    /// What the next calls fail with as a whole, after their changes are made.
    pub(super) failures: VecDeque<io::ErrorKind>,
}

#[derive(Clone, Copy)]
pub(super) struct Installed {
    pub(super) mode: u32,
    pub(super) news: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Fact {
    pub(super) flags: u32,
    pub(super) fflags: u32,
    pub(super) data: i64,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) changes: Vec<Change>,
    pub(super) room: usize,
    pub(super) timeout: Option<Duration>,
}

impl Model {
    /// Something arrives. It stays true until `drain`.
    pub(super) fn happen(&mut self, source: RawSource, filter: Filter, fact: Fact) {
        self.facts.insert((source, filter), fact);
        self.activate(source, filter);
    }

    pub(super) fn drain(&mut self, source: RawSource, filter: Filter) {
        self.facts.remove(&(source, filter));
    }

    /// close(2): the number is nobody's, and its filters are gone.
    pub(super) fn close(&mut self, source: RawSource) {
        self.filters.retain(|key, _| key.0 != source);
        self.queue.retain(|key| key.0 != source);
        self.facts.retain(|key, _| key.0 != source);
        self.gone.insert(source);
    }

    /// The number is somebody's again.
    pub(super) fn open(&mut self, source: RawSource) {
        self.gone.remove(&source);
    }

    fn activate(&mut self, source: RawSource, filter: Filter) {
        let key = (source, filter);
        if !self.facts.contains_key(&key) {
            return;
        }
        if let Some(installed) = self.filters.get_mut(&key) {
            installed.news = true;
            if !self.queue.contains(&key) {
                self.queue.push_back(key);
            }
        }
    }

    /// The errno of one change.
    fn register(&mut self, change: &Change) -> i64 {
        let key = (change.source, change.filter);
        if self.gone.contains(&change.source) {
            return EBADF;
        }
        if change.flags & flags::DELETE != 0 {
            self.queue.retain(|queued| *queued != key);
            return if self.filters.remove(&key).is_some() { 0 } else { ENOENT.into() };
        }
        // The mode is fixed by the first EV_ADD.
        let mode = change.flags & (flags::CLEAR | flags::ONESHOT);
        self.filters.entry(key).or_insert(Installed { mode, news: false });
        self.activate(change.source, change.filter);
        0
    }

    fn scan(&mut self, room: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..self.queue.len() {
            if records.len() == room {
                break;
            }
            let key = self.queue.pop_front().expect("counted");
            let installed = self.filters.get_mut(&key).expect("what is queued is installed");
            let oneshot = installed.mode & flags::ONESHOT != 0;
            let fact = self.facts.get(&key).copied();
            // A oneshot record is handed out as it was when it fired.
            let Some(fact) = fact.or(oneshot.then(Fact::default)) else { continue };
            if !std::mem::take(&mut installed.news) && installed.mode & flags::CLEAR != 0 {
                continue;
            }
            let flags = fact.flags | installed.mode;
            records.push(Record { source: key.0, filter: key.1, flags, fflags: fact.fflags, data: fact.data });
            if oneshot {
                self.filters.remove(&key);
            } else if installed.mode & flags::CLEAR == 0 {
                self.queue.push_back(key); // behind those not yet reported
            }
        }
        records
    }
}

impl Kernel for Model {
    fn kevent(
        &mut self,
        changes: &[Change],
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Record>> {
        self.calls.push(Call { changes: changes.to_vec(), room, timeout });
        let mut records = Vec::new();
        for change in changes {
            let errno = self.register(change);
            if errno != 0 || change.flags & flags::RECEIPT != 0 {
                if records.len() == room {
                    return Err(io::Error::from_raw_os_error(errno as i32)); // and the rest is not made
                }
                let Change { source, filter, flags } = *change;
                records.push(Record { source, filter, flags: flags | flags::ERROR, fflags: 0, data: errno });
            }
        }
        if let Some(kind) = self.failures.pop_front() {
            return Err(kind.into());
        }
        if records.is_empty() {
            records = self.scan(room);
        }
        Ok(records.into_iter())
    }
}
