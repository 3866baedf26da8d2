//! kqueue.rs over epoll(7): a kernel with real sockets, so that the conformance suite runs on it where kqueue is not.
//!
//! This proves the poller's own part: the notes, the table, the merging, the triggers, the errors. It proves nothing
//! about a BSD; what was seen there is in the model of `tests.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::*;
use crate::conformance;
use crate::time;

const FILTERS: [Filter; 2] = [Filter::Read, Filter::Write];

/// The mode of each filter that is installed on a source.
type Modes = [Option<u32>; 2];

struct OverEpoll {
    queue: OwnedFd,
    sources: BTreeMap<RawSource, Modes>,
    /// Fired, and not to be found again by looking: what is not level and found no room.
    left: VecDeque<Record>,
    /// Which direction comes first, in turn: as the queue of a real kernel would have it.
    turn: usize,
}

impl OverEpoll {
    fn open() -> io::Result<Kqueue<OverEpoll>> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Kqueue::on(OverEpoll { queue, sources: BTreeMap::new(), left: VecDeque::new(), turn: 0 }))
    }

    fn modes(&self, source: RawSource) -> Modes {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    fn make(&mut self, change: &Change) -> Result<(), Errno> {
        let source = change.source;
        let mut modes = self.modes(source);
        if self.install(source, modes, modes).is_err() {
            // close(2) has deleted the filters; only now we find out.
            modes = Modes::default();
            self.sources.remove(&source);
            self.left.retain(|record| record.source != source);
        }
        let before = modes;
        let mode = &mut modes[change.filter as usize];
        if change.flags & flags::DELETE == 0 {
            mode.get_or_insert(change.flags & (flags::CLEAR | flags::ONESHOT)); // fixed by the first EV_ADD
        } else {
            mode.take().ok_or(Errno::NOENT)?;
            self.left.retain(|record| (record.source, record.filter) != (source, change.filter));
        }
        self.install(source, before, modes)?;
        self.sources.insert(source, modes);
        Ok(())
    }

    /// Makes epoll's one entry of a source say what its filters say.
    fn install(&self, source: RawSource, before: Modes, now: Modes) -> Result<(), Errno> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN | EventFlags::RDHUP, now[0].is_some());
        wanted.set(EventFlags::OUT, now[1].is_some());
        wanted.set(EventFlags::ET, now.iter().flatten().any(|mode| mode & flags::CLEAR != 0));
        let data = epoll::EventData::new_u64(source as u64);
        // SAFETY: the number is lent to one call, which reads nothing but the number, and says so if it is not open.
        let source = unsafe { BorrowedFd::borrow_raw(source) };
        match (before.iter().any(Option::is_some), now.iter().any(Option::is_some)) {
            (false, false) => Ok(()),
            (false, true) => epoll::add(&self.queue, source, data, wanted),
            (true, true) => epoll::modify(&self.queue, source, data, wanted),
            (true, false) => epoll::delete(&self.queue, source),
        }
    }

    /// What fired, as the filters of a socket would tell it.
    fn sort(&mut self, source: RawSource, bits: EventFlags, records: &mut Vec<Record>, room: usize) {
        let modes = self.modes(source);
        let over = bits.intersects(EventFlags::ERR | EventFlags::HUP);
        let fired =
            [bits.intersects(EventFlags::IN | EventFlags::RDHUP) || over, bits.contains(EventFlags::OUT) || over];
        let ended = [bits.contains(EventFlags::RDHUP) || over, over];
        self.turn ^= 1;
        for at in [self.turn, self.turn ^ 1] {
            let Some(mode) = modes[at].filter(|_| fired[at]) else { continue };
            let flags = mode | if ended[at] { flags::EOF } else { 0 };
            let fflags = if bits.contains(EventFlags::ERR) { Errno::CONNRESET.raw_os_error() as u32 } else { 0 };
            let record = Record { source, filter: FILTERS[at], flags, fflags, data: 0 };
            if records.len() < room {
                records.push(self.hand_out(record));
            } else if mode != 0 {
                self.left.push_back(record);
            }
        }
    }

    /// EV_ONESHOT: the filter goes as its record does.
    fn hand_out(&mut self, record: Record) -> Record {
        if record.flags & flags::ONESHOT != 0 {
            let before = self.modes(record.source);
            let mut modes = before;
            modes[record.filter as usize] = None;
            let _ = self.install(record.source, before, modes); // it may have been closed meanwhile
            self.sources.insert(record.source, modes);
        }
        record
    }
}

impl Kernel for OverEpoll {
    fn kevent(
        &mut self,
        changes: &[Change],
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Record>> {
        let mut records = Vec::new();
        for change in changes {
            let errno = self.make(change).err().map_or(0, Errno::raw_os_error);
            if errno != 0 || change.flags & flags::RECEIPT != 0 {
                assert!(records.len() < room, "the rest of the changes would not be made");
                let Change { source, filter, .. } = *change;
                records.push(Record { source, filter, flags: flags::ERROR, fflags: 0, data: errno.into() });
            }
        }
        if records.is_empty() {
            while records.len() < room
                && let Some(record) = self.left.pop_front()
            {
                records.push(self.hand_out(record));
            }
            if records.len() < room {
                let timeout = if records.is_empty() { timeout } else { Some(Duration::ZERO) };
                let mut found: Vec<epoll::Event> = Vec::with_capacity(room - records.len());
                epoll::wait(&self.queue, spare_capacity(&mut found), timeout.map(time::whole_millis).as_ref())?;
                for event in found {
                    let (bits, source) = (event.flags, event.data.u64() as RawSource);
                    self.sort(source, bits, &mut records, room);
                }
            }
        }
        Ok(records.into_iter())
    }
}

/// Cases that ask for what is not the poller's part.
const NOT_HERE: [(&str, &str); 2] = [
    ("a_regular_file_is_watched_or_unsupported", "kqueue watches them, the epoll beneath does not"),
    ("two_thousand_cycles_leak_no_descriptor", "the tests beside this one open some too"),
];

#[test]
fn the_poller_keeps_the_contract_on_real_sockets() {
    let left_out = std::cell::Cell::new(0);
    let report = conformance::run_where("kqueue over epoll", OverEpoll::open, |case| {
        let Some((name, why)) = NOT_HERE.iter().find(|(name, _)| *name == case) else { return true };
        println!("{name}: left out: {why}");
        left_out.set(left_out.get() + 1);
        false
    });
    println!("{report}");
    report.assert_passed();
    assert_eq!(left_out.get(), NOT_HERE.len(), "a case that was left out is gone, or has another name");
}
