//! Pollers with a flaw each: the suite is only worth something if it catches them.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pollmark_backends::{
    AsSource, Capabilities, Event, Events, Interest, Ledger, OwnedSource, Poller, Raw, RawSource, Readiness, Registry,
    Source, Token, Trigger, conformance, raw,
};

/// A mistake somebody might make, and the cases that must find it.
const FLAWS: [(Flaw, &[&str]); 22] = [
    // Those everybody makes.
    (Flaw::LosesEveryThousandthEvent, &["random_operations_agree_with_poll"]),
    (Flaw::ReportsTheClosed, &["close_closes_and_forgets"]),
    (Flaw::ReturnsEarly, &["a_timeout_is_never_early"]),
    (Flaw::ForgetsModify, &["modify_replaces_token"]),
    (Flaw::SwapsTokens, &["random_operations_agree_with_poll"]),
    (Flaw::NeverReportsTheEnd, &["a_half_close_wakes_the_reader"]),
    (Flaw::LeaksADescriptor, &["two_thousand_cycles_leak_no_descriptor"]),
    (Flaw::Spins, &["a_wait_that_sleeps_makes_few_calls"]),
    // And others.
    (Flaw::LosesEveryTenthEvent, &["a_buffer_may_change_its_size", "a_small_buffer_loses_no_oneshot"]),
    (Flaw::ReportsTwice, &["both_directions_arrive_in_one_event", "a_hundred_sources_fire_together"]),
    (Flaw::PrefersLowTokens, &["a_small_buffer_starves_nobody"]),
    (Flaw::ForgetsRemove, &["remove_silences_pending_readability", "removing_the_unknown_is_not_found"]),
    (Flaw::CutsTokens, &["every_token_comes_back_as_it_was_given"]),
    (Flaw::ReadsEmptyInterest, &["empty_interest_is_silent_even_at_a_hang_up"]),
    (Flaw::ReplacesOnAdd, &["adding_twice_already_exists"]),
    (Flaw::NeverDisarms, &["oneshot_fires_once_until_rearmed", "oneshot_disarms_both_directions"]),
    (Flaw::ImitatesEdge, &["edge_fires_once_per_arrival"]),
    (Flaw::RoundsDown, &["a_timeout_is_never_early", "more_than_zero_never_becomes_zero"]),
    (Flaw::HidesInterruption, &["a_signal_ends_or_resumes_the_wait_and_loses_nothing"]),
    (Flaw::ForgetsWhoShares, &["an_exclusive_source_is_reported_by_one_poller_at_least"]),
    (Flaw::PromisesToShare, &["an_exclusive_source_is_reported_for_as_long_as_it_is_ready"]),
    (Flaw::Panics, &["data_makes_its_stream_readable"]),
];

#[test]
fn every_flaw_is_found_by_the_case_named_for_it() {
    let _turn = crate::alone();
    for (flaw, cases) in FLAWS {
        let report = run(Some(flaw), cases);
        let ran = report.results().iter().filter(|result| !matches!(result.outcome, conformance::Outcome::Skipped(_)));
        let ran: Vec<_> = ran.map(|result| result.name).collect();
        assert_eq!(report.results().len(), cases.len(), "a case was renamed: {cases:?}");
        assert_eq!(report.failed().collect::<Vec<_>>(), ran, "{flaw:?} was overlooked\n{report}");
        // On Windows there are flaws that nothing there could show.
        assert!(!ran.is_empty() || cfg!(windows), "{flaw:?}: each of {cases:?} was skipped\n{report}");
        println!("{flaw:?}: found by {ran:?}");
        LEAKED.lock().expect("nobody panics with it").clear();
    }
}

#[test]
fn without_a_flaw_the_same_wrapper_passes() {
    let _turn = crate::alone();
    let cases: Vec<_> = FLAWS.iter().flat_map(|(_, cases)| *cases).copied().collect();
    run(None, &cases).assert_passed();
}

fn run(flaw: Option<Flaw>, cases: &[&str]) -> conformance::Report {
    conformance::run_where(&format!("{flaw:?}"), || open(flaw), |name| cases.contains(&name))
}

/// A poller with this flaw, around the first mechanism that is here.
pub(crate) fn open(flaw: Option<Flaw>) -> io::Result<Broken> {
    if flaw == Some(Flaw::LeaksADescriptor) {
        LEAKED.lock().expect("nobody panics with it").push(UdpSocket::bind(("127.0.0.1", 0))?);
    }
    let registry = Registry::builtin();
    let entry = registry.entries().find(|entry| entry.probe().is_ok()).expect("some mechanism is available");
    Ok(Broken { inner: entry.open()?, flaw, tokens: HashMap::new(), closed: None, told: Ledger::default() })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    LosesEveryThousandthEvent,
    LosesEveryTenthEvent,
    ReportsTwice,
    PrefersLowTokens,
    ForgetsModify,
    ForgetsRemove,
    CutsTokens,
    ReadsEmptyInterest,
    ReplacesOnAdd,
    NeverDisarms,
    ImitatesEdge,
    RoundsDown,
    HidesInterruption,
    LeaksADescriptor,
    ReportsTheClosed,
    ReturnsEarly,
    SwapsTokens,
    NeverReportsTheEnd,
    Spins,
    ForgetsWhoShares,
    PromisesToShare,
    Panics,
}

/// What [`Flaw::LeaksADescriptor`] opened, so that it can be given back.
static LEAKED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// Events found, by whichever poller: what fails once in a thousand times outlives a poller.
static SEEN: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Broken {
    inner: Box<dyn Poller>,
    flaw: Option<Flaw>,
    tokens: HashMap<RawSource, Token>,
    /// The token of a source that was closed, until it is reported.
    closed: Option<Token>,
    /// What a ledger that believes in the flaw would say; the calls are the inner one's.
    told: Ledger,
}

impl Broken {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The arguments as a flawed poller understands them.
    fn mistaken(&self, token: Token, interest: Interest, trigger: Trigger) -> (Token, Interest, Trigger) {
        let token = if self.has(Flaw::CutsTokens) { Token(token.0 & u64::from(u32::MAX)) } else { token };
        let interest = match interest {
            Interest::EMPTY if self.has(Flaw::ReadsEmptyInterest) => Interest::READABLE,
            interest => interest,
        };
        let trigger = match trigger {
            Trigger::Oneshot if self.has(Flaw::NeverDisarms) => Trigger::Level,
            Trigger::Edge if self.has(Flaw::ImitatesEdge) => Trigger::Level,
            trigger => trigger,
        };
        (token, interest, trigger)
    }

    /// How a flawed poller hands on what was found.
    fn hand_on(&mut self, found: &Events, events: &mut Events) {
        let mut found: Vec<Event> = found.iter().collect();
        match self.flaw {
            Some(Flaw::PrefersLowTokens) => found.sort_by_key(Event::token),
            Some(Flaw::SwapsTokens) if found.len() > 1 => {
                let (first, second) = (found[0], found[1]);
                found[0] = Event::new(second.token(), first.readiness(), first.raw());
                found[1] = Event::new(first.token(), second.readiness(), second.raw());
            }
            Some(Flaw::NeverReportsTheEnd) => found.retain(|event| !event.read_closed()),
            Some(Flaw::ReportsTheClosed) => {
                found.extend(self.closed.take().map(|token| Event::new(token, Readiness::READABLE, Raw::None)));
            }
            _ => {}
        }
        for event in found {
            let seen = 1 + SEEN.fetch_add(1, Ordering::Relaxed);
            if self.has(Flaw::LosesEveryTenthEvent) && seen.is_multiple_of(10)
                || self.has(Flaw::LosesEveryThousandthEvent) && seen.is_multiple_of(1_000)
            {
                continue;
            }
            events.push(event);
            if self.has(Flaw::ReportsTwice) {
                events.push(event);
            }
        }
    }

    fn changed(&mut self, change: io::Result<()>) -> io::Result<()> {
        self.told.changes += u64::from(change.is_ok());
        change
    }
}

impl Poller for Broken {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.edge |= self.has(Flaw::ImitatesEdge);
        capabilities.exclusive |= self.has(Flaw::PromisesToShare);
        capabilities
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let (token, interest, trigger) = self.mistaken(token, interest, trigger);
        let added = match self.inner.add(source, token, interest, trigger) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.has(Flaw::ReplacesOnAdd) => {
                self.inner.modify(source, token, interest, trigger)
            }
            added => added,
        };
        if added.is_ok() {
            self.tokens.insert(raw(source), token);
        }
        self.changed(added)
    }

    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        let added = match self.flaw {
            Some(Flaw::ForgetsWhoShares) => self.inner.add(source, token, Interest::EMPTY, Trigger::Level),
            Some(Flaw::PromisesToShare) => Err(io::ErrorKind::Unsupported.into()),
            _ => self.inner.add_exclusive(source, token, interest),
        };
        self.changed(added)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.has(Flaw::ForgetsModify) {
            return self.changed(Ok(()));
        }
        let (token, interest, trigger) = self.mistaken(token, interest, trigger);
        let modified = self.inner.modify(source, token, interest, trigger);
        if modified.is_ok() {
            self.tokens.insert(raw(source), token);
        }
        self.changed(modified)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let removed = if self.has(Flaw::ForgetsRemove) { Ok(()) } else { self.inner.remove(source) };
        self.changed(removed)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.closed = self.tokens.get(&raw(source.as_source())).copied();
        let closed = self.inner.close(source);
        self.changed(closed)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        assert!(!self.has(Flaw::Panics), "a poller in bad shape");
        events.clear();
        self.told.waits += 1;
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let timeout = match (timeout, self.flaw) {
            (Some(timeout), Some(Flaw::RoundsDown)) => Some(Duration::from_millis(timeout.as_millis() as u64)),
            (Some(_), Some(Flaw::ReturnsEarly | Flaw::Spins)) => Some(Duration::ZERO),
            (timeout, _) => timeout,
        };
        let room = if self.has(Flaw::PrefersLowTokens) { 256 } else { events.capacity() };
        let mut found = Events::with_capacity(room);
        let waited = loop {
            match self.inner.wait(&mut found, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && self.has(Flaw::HidesInterruption) => {}
                Ok(()) if self.has(Flaw::Spins) && found.is_empty() && deadline > Some(Instant::now()) => {}
                waited => break waited,
            }
        };
        self.hand_on(&found, events);
        self.told.events += events.len() as u64;
        self.told.empty += u64::from(events.is_empty());
        waited
    }

    fn ledger(&self) -> Ledger {
        let Ledger { waits, events, empty, changes, .. } = self.told;
        let mut ledger = self.inner.ledger();
        (ledger.waits, ledger.events, ledger.empty, ledger.changes) = (waits, events, empty, changes);
        ledger
    }
}
