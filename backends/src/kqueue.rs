//! kqueue(2): filters in the kernel, one for each direction; changes of them ride along with the wait.
//!
//! What is odd about it:
//! (a) kevent(2) takes changes and returns records in one call. `add`, `modify` and `remove` only note what is to be;
//!     the next wait brings the notes along. It makes them before it looks for records, so silence holds from the
//!     call on, and a source changed many times between two waits costs at most an EV_DELETE and an EV_ADD a filter.
//! (b) READ and WRITE are filters of their own and report on their own. We merge the two records of a source, and ask
//!     for no more records than the caller has room for events: merging only shrinks the batch.
//! (c) A change that fails comes back as a record with EV_ERROR. Such a record takes room, and without room the rest
//!     of the changes is *not made*. So a call never carries more changes than it has room; a longer list goes ahead
//!     in calls of its own, with EV_RECEIPT, which makes the kernel answer every change and look for nothing else.
//!     Where any change is answered, the kernel neither waits nor looks: we call again, without changes.
//! (d) Whether a filter is level, EV_CLEAR or EV_ONESHOT is fixed when it is first added; a later EV_ADD renews it but
//!     does not change that. A new trigger is EV_DELETE, then EV_ADD.
//! (e) EV_ONESHOT deletes the filter that fired and leaves the other direction armed. Ours disarms the source, so the
//!     other filter's EV_DELETE goes first in the next wait. It is deleted even if the source is rearmed by then: of a
//!     oneshot filter that fired and found no room, FreeBSD hands out the record without another look.
//! (f) close(2) deletes the filters of its descriptor. A number removed and closed may already be somebody else's when
//!     our EV_DELETE arrives: it finds nothing (ENOENT) or nobody (EBADF), and its goal is met.
//! (g) EV_EOF is about one filter. With READ it is the peer's FIN, with what it sent before still in `data`; with
//!     WRITE it says only that nothing can be sent any more, which an own shutdown(2) causes too. `fflags` is then the
//!     socket's errno, 0 for an orderly end.

mod kernel;
#[cfg(any(test, all(linux_like, feature = "conformance")))]
mod model;
#[cfg(all(test, any(kqueue_like, linux_like), feature = "conformance"))]
mod observed;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
#[cfg(all(linux_like, feature = "conformance"))]
mod real;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod told;

use std::io;
use std::time::Duration;

use crate::event::{Event, Interest, Raw, Readiness, Token, Trigger};
use crate::events::Events;
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller};
use crate::source::{OwnedSource, RawSource, Source, raw};
use crate::table::{Row, Table};

use kernel::{Change, Filter, Kernel, Record, flags};

cfg_if::cfg_if! {
    if #[cfg(kqueue_like)] {
        use kernel::system::Queue;
    } else if #[cfg(all(linux_like, feature = "conformance"))] {
        type Queue = model::Model<real::Real>; // no kqueue here, but a model of it over real sockets
    } else if #[cfg(fuzzing)] {
        use properties::Whimsical as Queue;
    } else {
        use told::Recorded as Queue; // nor that; still, all of this file is tested here
    }
}

/// The kqueue(2) poller of macOS and the BSDs.
pub struct Kqueue<K = Queue> {
    kernel: K,
    table: Table<Watch>,
    noted: Vec<RawSource>, // (a) whose `delete` or `add` is not empty, or was
    changes: Vec<Change>,
    fired: Vec<RawSource>, // (b) the source of each event of this wait
    ledger: Ledger,
}

/// What is known of one number.
#[derive(Clone, Copy, Default)]
struct Watch {
    token: Token,
    /// (b) Where in `fired` this source last stood; whether it stands there still, `fired` says.
    at: u32,
    known: bool,
    noted: bool,
    trigger: Trigger,
    /// In the kernel.
    installed: Filters,
    /// To be taken out of the kernel, before `add`.
    delete: Filters,
    /// To be put in, or renewed.
    add: Filters,
}

#[cfg(kqueue_like)]
impl Kqueue {
    /// Opens a queue.
    ///
    /// # Errors
    /// The kernel's: too many descriptors, or no memory.
    pub fn open() -> io::Result<Kqueue> {
        Ok(Kqueue::on(Queue::open()?))
    }
}

#[cfg(all(linux_like, feature = "conformance"))]
impl Kqueue {
    /// Opens a queue of the model's.
    ///
    /// # Errors
    /// Linux's: too many descriptors, or no memory.
    pub fn open() -> io::Result<Kqueue> {
        Ok(Kqueue::on(model::Model::over(real::Real::open()?)))
    }
}

impl<K: Kernel> Kqueue<K> {
    fn on(kernel: K) -> Kqueue<K> {
        Kqueue {
            kernel,
            table: Table::of("kqueue"),
            noted: Vec::new(),
            changes: Vec::new(),
            fired: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    /// As [`Poller::add`], of a source known by its number only.
    pub(crate) fn add_number(
        &mut self,
        source: RawSource,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        let watch = self.table.vacant(source)?;
        watch.known = true;
        watch.token = token;
        watch.want(filters(interest), trigger);
        self.note(source);
        self.ledger.changes += 1;
        Ok(())
    }

    /// (a) Has the next wait look at this source.
    fn note(&mut self, source: RawSource) {
        let watch = &mut self.table[source];
        if !watch.noted && watch.has_changes() {
            watch.noted = true;
            self.noted.push(source);
        }
    }

    /// Moves notes to the change list, at most `room` of them. Whether that was all.
    fn list_changes(&mut self, room: usize) -> bool {
        self.changes.clear();
        let mut done = 0;
        for &source in &self.noted {
            let watch = &mut self.table[source];
            while watch.has_changes() && self.changes.len() < room {
                self.changes.push(watch.next_change(source));
            }
            if watch.has_changes() {
                break;
            }
            watch.noted = false;
            done += 1;
        }
        self.noted.drain(..done);
        let all = self.noted.is_empty();
        if !all {
            self.changes.iter_mut().for_each(|change| change.flags |= flags::RECEIPT); // (c)
        }
        all
    }

    /// The call failed as a whole: notes its changes again. Made or not, they can be made once more.
    fn unlist_changes(&mut self) {
        while let Some(change) = self.changes.pop() {
            let watch = &mut self.table[change.source];
            watch.undo(change);
            self.note(change.source);
        }
    }

    /// One call of the kernel, and what came of it. Whether it is to be followed by another: (c).
    fn call(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<bool> {
        let all = self.list_changes(events.capacity());
        self.ledger.wait_calls += u64::from(all);
        self.ledger.change_calls += u64::from(!all);
        let timeout = if all { timeout } else { Some(Duration::ZERO) };

        let mut answered = false;
        let made = self.kernel.kevent(&self.changes, events.capacity(), timeout).map(|records| {
            for record in records {
                let watch = &mut self.table[record.source];
                let event = if record.flags & flags::ERROR != 0 {
                    answered = true;
                    watch.refused(record, &self.changes)
                } else {
                    watch.reported(record, &mut self.noted)
                };
                if let Some(event) = event {
                    watch.report(event, record.source, &mut self.fired, events);
                }
            }
        });
        if let Err(error) = made {
            // kqueue(2): after EINTR "all changes in the changelist have been applied".
            if error.kind() != io::ErrorKind::Interrupted {
                self.unlist_changes();
            }
            return Err(error);
        }
        Ok(events.is_empty() && (answered || !all))
    }
}

impl Row for Watch {
    fn is_known(&self) -> bool {
        self.known
    }
}

impl Watch {
    fn has_changes(&self) -> bool {
        !self.delete.is_empty() || !self.add.is_empty()
    }

    /// Notes that `wanted` is to be watched for, by `trigger`.
    fn want(&mut self, wanted: Filters, trigger: Trigger) {
        if trigger != self.trigger || trigger == Trigger::Oneshot {
            self.delete = self.installed; // (d), (e)
            self.trigger = trigger;
        }
        self.delete |= self.installed.without(wanted);
        let kept = self.installed.without(self.delete);
        // A level filter that stays needs no change. The others are renewed, so that what is there already is
        // reported once more: that is what rearming means.
        self.add = if trigger == Trigger::Level { wanted.without(kept) } else { wanted };
    }

    /// Takes one change out of the notes, and counts it as made.
    fn next_change(&mut self, source: RawSource) -> Change {
        if let Some(filter) = self.delete.first() {
            self.delete = self.delete.without(filter.into());
            self.installed = self.installed.without(filter.into());
            return Change { source, filter, flags: flags::DELETE };
        }
        let filter = self.add.first().expect("asked only while has_changes");
        self.add = self.add.without(filter.into());
        self.installed |= filter.into();
        let trigger = match self.trigger {
            Trigger::Level => 0,
            Trigger::Edge => flags::CLEAR,
            Trigger::Oneshot => flags::ONESHOT,
        };
        Change { source, filter, flags: flags::ADD | trigger }
    }

    fn undo(&mut self, change: Change) {
        let filter = change.filter.into();
        if change.flags & flags::DELETE != 0 {
            self.installed |= filter;
            self.delete |= filter;
        } else {
            self.installed = self.installed.without(filter);
            self.add |= filter;
        }
    }

    /// A change was answered. An event if it failed, and the failure is anybody's business.
    fn refused(&mut self, record: Record, changes: &[Change]) -> Option<Event> {
        // (f) What was to be deleted is gone, whatever the errno. The record does not say which change it was of, but
        // only an EV_DELETE says ENOENT.
        let of = |change: &&Change| (change.source, change.filter) == (record.source, record.filter);
        let added = |changes: &[Change]| changes.iter().filter(of).any(|change| change.flags & flags::ADD != 0);
        if record.data == 0 || record.data == i64::from(ENOENT) || !added(changes) {
            return None;
        }
        self.installed = self.installed.without(record.filter.into());
        self.known.then(|| translate(self.token, record))
    }

    /// A filter fired.
    fn reported(&mut self, record: Record, noted: &mut Vec<RawSource>) -> Option<Event> {
        if !self.known {
            return None;
        }
        if self.trigger == Trigger::Oneshot {
            // (e) The kernel has deleted this filter; the other one, if it did not fire too, is for us to delete.
            self.installed = self.installed.without(record.filter.into());
            self.delete = self.installed;
            if self.has_changes() && !self.noted {
                self.noted = true;
                noted.push(record.source);
            }
        }
        Some(translate(self.token, record))
    }

    /// (b) Hands an event out, or merges it into the one that this wait already has of the source.
    fn report(&mut self, event: Event, source: RawSource, fired: &mut Vec<RawSource>, events: &mut Events) {
        if fired.get(self.at as usize) == Some(&source) {
            merge(events.pushed_at(self.at as usize), event);
        } else {
            self.at = fired.len() as u32;
            fired.push(source);
            let pushed = events.push(event);
            debug_assert!(pushed, "the kernel was asked for no more records than there is room");
        }
    }
}

impl<K: Kernel> Poller for Kqueue<K> {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.add_number(raw(source), token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let source = raw(source);
        let watch = self.table.known(source)?;
        watch.token = token;
        watch.want(filters(interest), trigger);
        self.note(source);
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let source = raw(source);
        let watch = self.table.known(source)?;
        watch.known = false;
        watch.delete = watch.installed; // (f)
        watch.add = Filters::NONE;
        self.note(source);
        self.ledger.changes += 1;
        Ok(())
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        let watch = self.table.known(raw(crate::AsSource::as_source(&source)))?;
        // (f) Nothing is left to be deleted, and what was to be added never will be.
        *watch = Watch { noted: watch.noted, ..Watch::default() };
        self.ledger.changes += 1;
        drop(source);
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.fired.clear();
        self.ledger.waits += 1;
        // (c) A call that was only about changes did not sleep, so the next may have the whole timeout.
        let waited = loop {
            match self.call(events, timeout) {
                Ok(true) => continue,
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.ledger.events += events.len() as u64;
        self.ledger.empty += u64::from(events.is_empty());
        waited
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    edge: true,
    oneshot: true,
    growth: Growth::Ready,
    resolution: Duration::from_nanos(1),
    half_close: true,
    errors: true,
    regular_files: true,
    calls: Calls { wait: &["kevent"], change: &["kevent"] },
    ..Capabilities::least()
};

/// A set of filters.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Filters(u8);

impl Filters {
    const NONE: Filters = Filters(0);

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn without(self, other: Filters) -> Filters {
        Filters(self.0 & !other.0)
    }

    fn first(self) -> Option<Filter> {
        [Filter::Read, Filter::Write].into_iter().find(|filter| self.0 & Filters::from(*filter).0 != 0)
    }
}

impl From<Filter> for Filters {
    fn from(filter: Filter) -> Filters {
        // As `Raw::Kevent` shows them.
        Filters(match filter {
            Filter::Read => 1,
            Filter::Write => 2,
        })
    }
}

impl std::ops::BitOrAssign for Filters {
    fn bitor_assign(&mut self, other: Filters) {
        self.0 |= other.0;
    }
}

/// There is no filter for urgent data that all of these systems share, so that interest alone installs none.
fn filters(interest: Interest) -> Filters {
    let mut filters = Filters::NONE;
    if interest.contains(Interest::READABLE) {
        filters |= Filter::Read.into();
    }
    if interest.contains(Interest::WRITABLE) {
        filters |= Filter::Write.into();
    }
    filters
}

fn translate(token: Token, record: Record) -> Event {
    let (ready, closed) = match record.filter {
        Filter::Read => (Readiness::READABLE, Readiness::READ_CLOSED),
        Filter::Write => (Readiness::WRITABLE, Readiness::WRITE_CLOSED),
    };
    let mut readiness = ready;
    if record.flags & flags::EOF != 0 {
        readiness |= closed; // (g)
        if record.fflags != 0 {
            readiness |= Readiness::ERROR;
        }
    }
    if record.flags & flags::ERROR != 0 {
        readiness = Readiness::ERROR; // (c) The filter is not installed, so nothing else is known.
    }
    let filters = Filters::from(record.filter).0;
    let data = if record.filter == Filter::Read { record.data } else { 0 };
    Event::new(token, readiness, Raw::Kevent { filters, flags: record.flags, fflags: record.fflags, data })
}

fn merge(event: &mut Event, other: Event) {
    let (Raw::Kevent { filters, flags, fflags, data }, Raw::Kevent { filters: f, flags: g, fflags: h, data: d }) =
        (event.raw(), other.raw())
    else {
        unreachable!("both are from translate");
    };
    let raw = Raw::Kevent { filters: filters | f, flags: flags | g, fflags: fflags | h, data: data | d };
    *event = Event::new(event.token(), event.readiness() | other.readiness(), raw);
}

// The same on every system, and libc is not for Windows.
const ENOENT: i32 = 2;
