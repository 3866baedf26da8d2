//! Facts that a test makes up, of files that are not there: for what cannot be had of sockets when it is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Fact, Files, Model};
use super::*;

/// What a test said is so.
#[derive(Default)]
pub(super) struct Told {
    facts: BTreeMap<(RawSource, Filter), Fact>,
    happened: Vec<(RawSource, Filter)>,
    closed: BTreeSet<RawSource>,
    /// Opened again, and for which filter that is not yet known.
    reopened: BTreeSet<(RawSource, Filter)>,
}

impl Files for Told {
    fn attach(&mut self, source: RawSource, filter: Filter) -> Result<(), i64> {
        self.reopened.remove(&(source, filter));
        Ok(())
    }

    fn detach(&mut self, _: RawSource, _: Filter) {}

    fn is_open(&mut self, source: RawSource) -> bool {
        !self.closed.contains(&source)
    }

    fn is_the_same(&mut self, source: RawSource, filter: Filter) -> bool {
        self.is_open(source) && !self.reopened.contains(&(source, filter))
    }

    fn fact(&mut self, source: RawSource, filter: Filter) -> Option<Fact> {
        self.facts.get(&(source, filter)).copied()
    }

    fn happenings(&mut self, _: Option<Duration>) -> io::Result<Vec<(RawSource, Filter)>> {
        Ok(std::mem::take(&mut self.happened))
    }
}

/// The model over made-up facts, and a record of how it was called.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) model: Model<Told>,
    pub(super) calls: Vec<Call>,
    /// What the next calls fail with as a whole, after their changes are made.
    pub(super) failures: std::collections::VecDeque<io::ErrorKind>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) changes: Vec<Change>,
    pub(super) room: usize,
    pub(super) timeout: Option<Duration>,
}

impl Recorded {
    /// Something arrives. It stays true until `drain`.
    pub(super) fn happen(&mut self, source: RawSource, filter: Filter, fact: Fact) {
        self.model.files.facts.insert((source, filter), fact);
        self.model.files.happened.push((source, filter));
    }

    pub(super) fn drain(&mut self, source: RawSource, filter: Filter) {
        self.model.files.facts.remove(&(source, filter));
    }

    /// close(2): the number is nobody's.
    pub(super) fn close(&mut self, source: RawSource) {
        self.model.files.facts.retain(|key, _| key.0 != source);
        self.model.files.closed.insert(source);
    }

    /// The number is somebody's again.
    pub(super) fn open(&mut self, source: RawSource) {
        self.model.files.closed.remove(&source);
        self.model.files.reopened.extend([(source, Filter::Read), (source, Filter::Write)]);
    }
}

impl Kernel for Recorded {
    fn kevent(
        &mut self,
        changes: &[Change],
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Record>> {
        self.calls.push(Call { changes: changes.to_vec(), room, timeout });
        if let Some(kind) = self.failures.pop_front() {
            self.model.make(changes, room)?;
            return Err(kind.into());
        }
        self.model.kevent(changes, room, timeout)
    }
}
