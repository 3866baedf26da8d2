//! A poller that does to its caller, by chance and by a seed, all that a kernel may do.
//!
//! What it has to mind:
//! (a) An event of a level-triggered source may be kept back and forgotten: it comes again as long as it is true. One
//!     of an edge or a oneshot comes once, and so does that of a number that is not open: what is kept back of these is
//!     held, and told by a later wait.
//! (b) A wait never sleeps while something is held, and what was passed over [`PATIENCE`] times is told before all
//!     else: every event is told within a bounded number of waits.
//! (c) A false alarm uses up a oneshot. What the mechanism then finds is forgotten until the source is rearmed;
//!     rearming looks again.
//! (d) `modify` looks again with every mechanism, so what was held before it is forgotten, and with it the old token.
//! (e) What a faulty network has [promised](Faults::promise) is told of edge-triggered sources only: level comes again
//!     by itself, and a oneshot is looked at when it is rearmed. It carries all that was last told, for a hang-up or an
//!     urgent mark behind the bytes is as true as before.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::fault::{Faults, Kind, peer_of};
use crate::event::{Event, Interest, Raw, Readiness, Token, Trigger};
use crate::events::Events;
use crate::poller::{Capabilities, Ledger, Poller};
use crate::source::{OwnedSource, RawSource, Source, raw};

/// How often an event may be passed over.
const PATIENCE: u8 = 4;

/// Any poller, and a kernel in bad weather beneath it: false alarms, late, split and reordered batches, interrupted
/// and failing waits, failing registrations.
///
/// For whoever wants to know what a program does then. Every source needs a token of its own.
///
/// ```
/// use pollmark_backends::conformance::Faulty;
/// use pollmark_backends::conformance::fault::{Faults, Plan};
/// use pollmark_backends::{AsSource, Events, Interest, Poller, Token, Trigger, poll::Poll, waker};
///
/// # fn main() -> std::io::Result<()> {
/// let faults = Faults::new(Plan::harmless(), 7);
/// let mut poller = Faulty::new(Poll::open()?, &faults);
/// let (waker, wakes) = waker()?;
/// poller.add(wakes.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
/// waker.wake();
///
/// let mut events = Events::with_capacity(8);
/// while events.is_empty() {
///     match poller.wait(&mut events, None) {
///         Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
///         waited => waited?,
///     }
/// }
/// assert_eq!(events.iter().next().expect("one").token(), Token(1));
/// # Ok(())
/// # }
/// ```
pub struct Faulty<P> {
    inner: P,
    faults: Faults,
    // Ordered, so that what chance chooses from does not depend on a hash.
    watched: BTreeMap<RawSource, Watched>,
    sources: BTreeMap<Token, RawSource>,
    /// What the mechanism found.
    batch: Events,
    /// (a) Found, and not yet told.
    held: Vec<Event>,
    waits: u64,
    events: u64,
    empty: u64,
}

struct Watched {
    token: Token,
    interest: Interest,
    trigger: Trigger,
    /// (c) Its one shot has been fired.
    disarmed: bool,
    /// (e) What the mechanism last found.
    found: Readiness,
    /// (b) How often in a row an event of it was kept back.
    passed_over: u8,
}

impl<P: Poller> Faulty<P> {
    /// Puts `inner` under `faults`.
    pub fn new(inner: P, faults: &Faults) -> Faulty<P> {
        Faulty {
            inner,
            faults: faults.clone(),
            watched: BTreeMap::new(),
            sources: BTreeMap::new(),
            batch: Events::with_capacity(1),
            held: Vec::new(),
            waits: 0,
            events: 0,
            empty: 0,
        }
    }

    fn watch(&mut self, source: RawSource, token: Token, interest: Interest, trigger: Trigger) {
        self.forget(source);
        let (found, disarmed, passed_over) = (Readiness::EMPTY, false, 0);
        self.watched.insert(source, Watched { token, interest, trigger, disarmed, found, passed_over });
        self.sources.insert(token, source);
    }

    fn forget(&mut self, source: RawSource) {
        if let Some(Watched { token, .. }) = self.watched.remove(&source) {
            self.sources.remove(&token);
            self.held.retain(|event| event.token() != token);
        }
    }

    fn watched(&mut self, token: Token) -> Option<&mut Watched> {
        self.sources.get(&token).and_then(|source| self.watched.get_mut(source))
    }

    /// (e)
    fn keep_promises(&mut self) {
        for (source, promised) in self.faults.take_promises() {
            // None: closed meanwhile. If another source has its number by now, this is one more false alarm.
            let Some(watched) = self.watched.get(&source) else { continue };
            let promised = readiness(watched.interest, promised);
            if watched.trigger == Trigger::Edge && !promised.is_empty() {
                merge(&mut self.held, Event::new(watched.token, watched.found | promised, Raw::None));
            }
        }
    }

    /// An event of nothing, if chance wants one.
    fn false_alarm(&mut self) -> Option<Event> {
        let armed = |watched: &&Watched| !watched.interest.is_empty() && !watched.disarmed;
        let candidates = self.watched.values().filter(armed).count();
        if candidates == 0 || !self.faults.strikes(Kind::FalseAlarm) {
            return None;
        }
        let chosen = self.watched.values().filter(armed).nth(self.faults.below(candidates))?;
        let both = readiness(chosen.interest, chosen.interest);
        let one = [Readiness::READABLE, Readiness::WRITABLE][self.faults.below(2)];
        Some(Event::new(chosen.token, if both.intersects(one) { one } else { both }, Raw::None))
    }

    /// Takes in what the mechanism has found.
    fn note(&mut self, event: Event, ready: &mut Vec<Event>) {
        if let Some(watched) = self.watched(event.token()) {
            if watched.disarmed {
                return; // (c)
            }
            watched.found = event.readiness();
            watched.disarmed = watched.trigger == Trigger::Oneshot;
        }
        merge(ready, event);
    }

    /// Tells some of what is ready, or all, or none, and keeps the rest back.
    fn tell(&mut self, mut ready: Vec<Event>, events: &mut Events) {
        // (b)
        ready.sort_by_key(|event| u8::MAX - self.watched(event.token()).map_or(PATIENCE, |one| one.passed_over));
        let (mut told, mut kept) = (Vec::new(), Vec::new());
        for event in ready {
            let is_overdue = self.watched(event.token()).is_none_or(|watched| watched.passed_over >= PATIENCE);
            if !is_overdue && self.faults.strikes(Kind::Late) { kept.push(event) } else { told.push(event) }
        }
        if told.len() > 1 && self.faults.strikes(Kind::Split) {
            kept.extend(told.drain(1 + self.faults.below(told.len() - 1)..));
        }
        if told.len() > events.capacity() {
            kept.extend(told.drain(events.capacity()..));
        }
        if told.is_empty() && !kept.is_empty() && !self.interrupts() {
            told.push(kept.remove(0));
        }
        if told.len() > 1 && self.faults.strikes(Kind::Reordered) {
            for at in (1..told.len()).rev() {
                told.swap(at, self.faults.below(at + 1));
            }
        }
        for event in told {
            if let Some(watched) = self.watched(event.token()) {
                watched.passed_over = 0;
            }
            let has_room = events.push(event);
            debug_assert!(has_room, "cut to the capacity above");
        }
        for event in kept {
            let Some(watched) = self.watched(event.token()) else { continue };
            watched.passed_over = (watched.passed_over + 1).min(PATIENCE);
            if watched.trigger != Trigger::Level || event.readiness().intersects(Readiness::INVALID) {
                self.held.push(event); // (a)
            }
        }
    }

    /// Whether a wait may end as if by a signal. Without that, one that has found something must tell something.
    fn interrupts(&self) -> bool {
        self.faults.per_mille(Kind::InterruptedWait) > 0
    }

    /// ENOMEM.
    fn fail(&self, source: Source<'_>) -> io::Error {
        self.faults.sentence(source);
        io::ErrorKind::OutOfMemory.into()
    }
}

impl<P: Poller> Poller for Faulty<P> {
    /// The mechanism's own, but for interruptions: those it brings itself are not retried.
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.retries_interrupt &= !self.interrupts() && self.faults.per_mille(Kind::FalseAlarm) == 0;
        capabilities
    }

    /// Only a connection fails by a fault, and never the first source: without its waker and listeners a program could
    /// not even begin.
    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let may_fail = !self.watched.is_empty() && peer_of(source).is_some();
        if may_fail && self.faults.strikes(Kind::FailedRegistration) {
            return Err(self.fail(source));
        }
        self.inner.add(source, token, interest, trigger)?;
        self.watch(raw(source), token, interest, trigger);
        Ok(())
    }

    /// As [`add`](Poller::add), for what is never a connection.
    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.inner.add_exclusive(source, token, interest)?;
        self.watch(raw(source), token, interest, Trigger::Level);
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.watched.contains_key(&raw(source)) && self.faults.strikes(Kind::FailedRegistration) {
            return Err(self.fail(source));
        }
        self.inner.modify(source, token, interest, trigger)?;
        self.watch(raw(source), token, interest, trigger); // (d)
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.inner.remove(source)?;
        self.forget(raw(source));
        Ok(())
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.forget(raw(crate::AsSource::as_source(&source)));
        self.inner.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.waits += 1;
        self.empty += 1;
        if self.faults.strikes(Kind::InterruptedWait) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.faults.strikes(Kind::FailedWait) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.keep_promises();
        let alarm = self.false_alarm();
        if self.batch.capacity() != events.capacity() {
            self.batch = Events::with_capacity(events.capacity());
        }
        let may_sleep = self.held.is_empty() && alarm.is_none(); // (b)
        self.inner.wait(&mut self.batch, if may_sleep { timeout } else { Some(Duration::ZERO) })?;

        let mut ready = std::mem::take(&mut self.held);
        let found: Vec<_> = self.batch.iter().collect();
        for event in found {
            self.note(event, &mut ready);
        }
        if let Some(alarm) = alarm.filter(|alarm| ready.iter().all(|event| event.token() != alarm.token())) {
            if let Some(watched) = self.watched(alarm.token()) {
                watched.disarmed = watched.trigger == Trigger::Oneshot; // (c)
            }
            ready.push(alarm);
        }
        let found_nothing = ready.is_empty() && self.batch.is_empty();
        self.tell(ready, events);
        if events.is_empty() && !found_nothing && timeout != Some(Duration::ZERO) {
            // As if what was found had come a moment after the signal: a wait must not end early for nothing.
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.events += events.len() as u64;
        self.empty -= u64::from(!events.is_empty());
        Ok(())
    }

    /// Calls and changes as the mechanism counts them; waits and events as the caller sees them.
    fn ledger(&self) -> Ledger {
        let (waits, events, empty) = (self.waits, self.events, self.empty);
        Ledger { waits, events, empty, ..self.inner.ledger() }
    }
}

/// What both name, as an event tells it.
fn readiness(one: Interest, other: Interest) -> Readiness {
    let directions = [(Interest::READABLE, Readiness::READABLE), (Interest::WRITABLE, Readiness::WRITABLE)];
    let named = directions.into_iter().filter(|(named, _)| one.contains(*named) && other.contains(*named));
    named.fold(Readiness::EMPTY, |all, (_, told)| all | told)
}

/// One event per source and wait.
fn merge(events: &mut Vec<Event>, event: Event) {
    match events.iter_mut().find(|other| other.token() == event.token()) {
        Some(other) => *other = Event::new(event.token(), other.readiness() | event.readiness(), event.raw()),
        None => events.push(event),
    }
}
