//! What must hold of kqueue.rs whatever its kernel reports: for cargo-fuzz, and for `cargo test` through proptest.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;

use super::*;
use crate::AsSource;
use crate::properties::implications;

/// One step in numbers, of which any do: what, of which source, and three whose meaning depends.
pub type Step = (u8, u8, u16, u8, i16);

/// Registers, changes, removes, closes and waits, over a kernel that reports what it likes of the filters it has, and
/// holds every wait to this: one event for each source that was reported, in the order of the first report, which is
/// the union of all its records; nothing of a source that is not registered, or that fired once and was not armed
/// again; no change lost; and every call counted.
///
/// # Panics
/// If any of it does not hold.
pub fn every_wait_reports_the_union_of_its_records(steps: &[Step]) {
    let mut run = Run {
        poller: Kqueue::on(Whimsical::default()),
        sources: [(); 3].map(|()| Watched { file: file(), asked: None, spent: false }),
    };
    for &(what, source, flags, fflags, data) in steps {
        let at = usize::from(source % 3);
        match what % 6 {
            0 => run.register(at, u64::from(source), interest(flags), Trigger::ALL[usize::from(fflags % 3)]),
            1 => run.remove(at),
            2 => run.close(at),
            3 => run.wait(1 + usize::from(source % 4)),
            _ => {
                let filter = if what & 8 == 0 { Filter::Read } else { Filter::Write };
                let (flags, fflags, data) = (flags.into(), fflags.into(), data.into());
                let record = Record { source: run.sources[at].number(), filter, flags, fflags, data };
                run.poller.kernel.to_come.push_back(record);
            }
        }
    }
    run.wait(4);
    run.wait(1);
}

struct Run {
    poller: Kqueue<Whimsical>,
    sources: [Watched; 3],
}

/// A source, and what is to be expected of it.
struct Watched {
    /// Lends its number; what is true of it, the kernel below makes up.
    file: File,
    asked: Option<(Token, Interest, Trigger)>,
    /// It fired once, as asked, and was not armed since.
    spent: bool,
}

impl Watched {
    fn number(&self) -> RawSource {
        raw(self.file.as_source())
    }
}

impl Run {
    fn register(&mut self, at: usize, token: u64, interest: Interest, trigger: Trigger) {
        let (source, token) = (&mut self.sources[at], Token(token));
        let added = self.poller.add(source.file.as_source(), token, interest, trigger);
        assert_eq!(added.is_ok(), source.asked.is_none(), "`add` knows what is registered");
        if added.is_err() {
            self.poller.modify(source.file.as_source(), token, interest, trigger).expect("it is registered");
        }
        source.asked = Some((token, interest, trigger));
        source.spent = false;
    }

    fn remove(&mut self, at: usize) {
        let removed = self.poller.remove(self.sources[at].file.as_source());
        assert_eq!(removed.is_ok(), self.sources[at].asked.take().is_some(), "`remove` knows what is registered");
    }

    fn close(&mut self, at: usize) {
        let number = self.sources[at].number();
        let closed = self.poller.close(std::mem::replace(&mut self.sources[at].file, file()).into());
        assert_eq!(closed.is_ok(), self.sources[at].asked.take().is_some(), "`close` knows what is registered");
        self.poller.kernel.filters.retain(|(source, _), _| *source != number);
    }

    fn wait(&mut self, room: usize) {
        let (mut events, before) = (Events::with_capacity(room), self.poller.ledger());
        self.poller.kernel.reported.clear();
        self.poller.wait(&mut events, Some(Duration::ZERO)).expect("this kernel does not fail as a whole");

        let expected = self.expected();
        assert_eq!(events.iter().collect::<Vec<_>>(), expected);
        expected.iter().for_each(|event| implications(*event));
        let (ledger, calls) = (self.poller.ledger(), std::mem::take(&mut self.poller.kernel.calls));
        assert_eq!(ledger.events - before.events, expected.len() as u64);
        assert_eq!(ledger.wait_calls + ledger.change_calls - before.wait_calls - before.change_calls, calls);

        // A refused change that is told ends the wait; what else there was to change is left to the next.
        let told_all = !expected.iter().any(|event| matches!(event.raw(), Raw::Kevent { flags, .. } if failed(flags)));
        for source in &self.sources {
            let Some(watch) = self.poller.table.get_mut(source.number()) else { continue };
            let installed = self.poller.kernel.installed(source.number());
            // But for what is still to be deleted: a number removed and then closed has lost it by itself, (f).
            let agree = watch.installed.without(watch.delete) == installed.without(watch.delete);
            assert!(agree, "the poller and its kernel disagree about what is installed");
            let wanted = source.asked.map_or(Filters::NONE, |(_, interest, _)| filters(interest));
            assert!(!told_all || installed.without(wanted).is_empty(), "a filter nobody asked for");
            assert!(!told_all || source.spent || !watch.has_changes(), "the kernel was not told everything");
        }
    }

    /// The events of this wait, worked out from the records alone.
    fn expected(&mut self) -> Vec<Event> {
        let mut expected: Vec<(RawSource, Event)> = Vec::new();
        let was_spent = self.sources.each_ref().map(|source| source.spent);
        for record in &self.poller.kernel.reported {
            let met = failed(record.flags) && (record.data == 0 || record.data == i64::from(ENOENT));
            let at = self.sources.iter().position(|source| source.number() == record.source && !met);
            let Some((at, (token, _, trigger))) = at.and_then(|at| Some((at, self.sources[at].asked?))) else {
                continue;
            };
            if !failed(record.flags) && trigger == Trigger::Oneshot {
                assert!(!was_spent[at], "a filter of a disarmed source was left to fire");
                self.sources[at].spent = true;
            }
            let (filters, facts, data) = alone(record);
            let raw = Raw::Kevent { filters, flags: record.flags, fflags: record.fflags, data };
            match expected.iter_mut().find(|(source, _)| *source == record.source) {
                Some((_, event)) => {
                    *event = Event::new(token, event.readiness() | facts, both(event.raw(), raw));
                }
                None => expected.push((record.source, Event::new(token, facts, raw))),
            }
        }
        expected.into_iter().map(|(_, event)| event).collect()
    }
}

fn both(one: Raw, other: Raw) -> Raw {
    match (one, other) {
        (Raw::Kevent { filters, flags, fflags, data }, Raw::Kevent { filters: f, flags: g, fflags: h, data: d }) => {
            Raw::Kevent { filters: filters | f, flags: flags | g, fflags: fflags | h, data: data | d }
        }
        other => unreachable!("{other:?} are not of kevent(2)"),
    }
}

fn failed(flags: u32) -> bool {
    flags & flags::ERROR != 0
}

/// What one record says, by the letters of the header: its filter, what is so, and the bytes it counts.
fn alone(record: &Record) -> (u8, Readiness, i64) {
    let (filter, ready, closed, data) = match record.filter {
        Filter::Read => (1, Readiness::READABLE, Readiness::READ_CLOSED, record.data),
        Filter::Write => (2, Readiness::WRITABLE, Readiness::WRITE_CLOSED, 0),
    };
    let facts = match (failed(record.flags), record.flags & flags::EOF != 0, record.fflags) {
        (true, _, _) => Readiness::ERROR,
        (false, true, 0) => ready | closed,
        (false, true, _) => ready | closed | Readiness::ERROR,
        (false, false, _) => ready,
    };
    (filter, facts, data)
}

/// Reports, of the records it is given, those whose filter is installed; refuses changes, too, if given that.
#[derive(Default)]
pub struct Whimsical {
    /// What is installed, and whether only until it fires.
    filters: BTreeMap<(RawSource, Filter), bool>,
    to_come: VecDeque<Record>,
    reported: Vec<Record>,
    calls: u64,
}

impl Whimsical {
    fn installed(&self, source: RawSource) -> Filters {
        let mut all = Filters::NONE;
        self.filters.keys().filter(|key| key.0 == source).for_each(|key| all |= key.1.into());
        all
    }

    /// The errno of one change. A refused one leaves nothing installed.
    fn make(&mut self, change: &Change) -> i64 {
        let key = (change.source, change.filter);
        let was_there = self.filters.remove(&key).is_some();
        let next = self.to_come.front().filter(|next| failed(next.flags) && (next.source, next.filter) == key);
        let refusal = next.map(|next| next.data).filter(|errno| *errno > i64::from(ENOENT));
        if change.flags & flags::DELETE != 0 {
            return if was_there { 0 } else { ENOENT.into() };
        }
        if let Some(errno) = refusal {
            self.to_come.pop_front();
            return errno;
        }
        self.filters.insert(key, change.flags & flags::ONESHOT != 0);
        0
    }
}

impl Kernel for Whimsical {
    fn kevent(
        &mut self,
        changes: &[Change],
        room: usize,
        _: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Record>> {
        assert!(changes.len() <= room, "the rest of the changes would not be made");
        self.calls += 1;
        let mut records = Vec::new();
        for change in changes {
            let data = self.make(change);
            if data != 0 || change.flags & flags::RECEIPT != 0 {
                let Change { source, filter, flags } = *change;
                records.push(Record { source, filter, flags: flags | flags::ERROR, fflags: 0, data });
            }
        }
        if records.is_empty() {
            while records.len() < room
                && let Some(record) = self.to_come.pop_front()
            {
                let key = (record.source, record.filter);
                let Some(&oneshot) = self.filters.get(&key) else { continue };
                records.push(Record { flags: record.flags & !flags::ERROR, ..record });
                if oneshot {
                    self.filters.remove(&key);
                }
            }
        }
        self.reported.extend(&records);
        Ok(records.into_iter())
    }
}

fn file() -> File {
    File::open("/dev/null").expect("every Unix has it")
}

fn interest(bits: u16) -> Interest {
    let all = [Interest::READABLE, Interest::WRITABLE, Interest::PRIORITY].into_iter().enumerate();
    all.filter(|(at, _)| bits >> at & 1 == 1).fold(Interest::EMPTY, |all, (_, one)| all | one)
}

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn every_wait_reports_the_union_of_its_records_and_loses_no_change(steps: Vec<Step>) {
        every_wait_reports_the_union_of_its_records(&steps);
    }
}
