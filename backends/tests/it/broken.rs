//! Pollers with a flaw each: the suite is only worth something if it catches them.

use std::io;
use std::net::UdpSocket;
use std::sync::Mutex;
use std::time::Duration;

use pollmark_backends::{
    Capabilities, Event, Events, Interest, Ledger, OwnedSource, Poller, Registry, Source, Token, Trigger, conformance,
};

/// A mistake somebody might make, and the cases that must find it.
const FLAWS: [(Flaw, &[&str]); 14] = [
    (Flaw::LosesEveryTenthEvent, &["a_buffer_may_change_its_size", "a_small_buffer_loses_no_oneshot"]),
    (Flaw::ReportsTwice, &["both_directions_arrive_in_one_event", "a_hundred_sources_fire_together"]),
    (Flaw::PrefersLowTokens, &["a_small_buffer_starves_nobody"]),
    (Flaw::ForgetsModify, &["modify_replaces_token"]),
    (Flaw::ForgetsRemove, &["remove_silences_pending_readability", "removing_the_unknown_is_not_found"]),
    (Flaw::CutsTokens, &["every_token_comes_back_as_it_was_given"]),
    (Flaw::ReadsEmptyInterest, &["empty_interest_is_silent_even_at_a_hang_up"]),
    (Flaw::ReplacesOnAdd, &["adding_twice_already_exists"]),
    (Flaw::NeverDisarms, &["oneshot_fires_once_until_rearmed", "oneshot_disarms_both_directions"]),
    (Flaw::ImitatesEdge, &["edge_fires_once_per_arrival"]),
    (Flaw::RoundsDown, &["a_timeout_is_never_early", "more_than_zero_never_becomes_zero"]),
    (Flaw::HidesInterruption, &["a_signal_ends_or_resumes_the_wait_and_loses_nothing"]),
    (Flaw::LeaksADescriptor, &["two_thousand_cycles_leak_no_descriptor"]),
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
    let registry = Registry::builtin();
    let entry = registry.entries().find(|entry| entry.probe().is_ok()).expect("some mechanism is available");
    let open = || {
        if flaw == Some(Flaw::LeaksADescriptor) {
            LEAKED.lock().expect("nobody panics with it").push(UdpSocket::bind(("127.0.0.1", 0))?);
        }
        Ok(Broken { inner: entry.open()?, flaw, seen: 0 })
    };
    conformance::run_where(&format!("{flaw:?}"), open, |name| cases.contains(&name))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
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
    Panics,
}

/// What [`Flaw::LeaksADescriptor`] opened, so that it can be given back.
static LEAKED: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

struct Broken {
    inner: Box<dyn Poller>,
    flaw: Option<Flaw>,
    seen: usize,
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
        if self.has(Flaw::PrefersLowTokens) {
            found.sort_by_key(Event::token);
        }
        for event in found {
            self.seen += 1;
            if self.has(Flaw::LosesEveryTenthEvent) && self.seen.is_multiple_of(10) {
                continue;
            }
            events.push(event);
            if self.has(Flaw::ReportsTwice) {
                events.push(event);
            }
        }
    }
}

impl Poller for Broken {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.edge |= self.has(Flaw::ImitatesEdge);
        capabilities
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let (token, interest, trigger) = self.mistaken(token, interest, trigger);
        match self.inner.add(source, token, interest, trigger) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.has(Flaw::ReplacesOnAdd) => {
                self.inner.modify(source, token, interest, trigger)
            }
            added => added,
        }
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.has(Flaw::ForgetsModify) {
            return Ok(());
        }
        let (token, interest, trigger) = self.mistaken(token, interest, trigger);
        self.inner.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        if self.has(Flaw::ForgetsRemove) {
            return Ok(());
        }
        self.inner.remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.inner.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        assert!(!self.has(Flaw::Panics), "a poller in bad shape");
        events.clear();
        let timeout = match timeout {
            Some(timeout) if self.has(Flaw::RoundsDown) => Some(Duration::from_millis(timeout.as_millis() as u64)),
            timeout => timeout,
        };
        let room = if self.has(Flaw::PrefersLowTokens) { 256 } else { events.capacity() };
        let mut found = Events::with_capacity(room);
        loop {
            match self.inner.wait(&mut found, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && self.has(Flaw::HidesInterruption) => {}
                waited => {
                    self.hand_on(&found, events);
                    return waited;
                }
            }
        }
    }

    fn ledger(&self) -> Ledger {
        self.inner.ledger()
    }
}
