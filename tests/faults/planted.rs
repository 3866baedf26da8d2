//! Flaws planted on purpose: a suite that passes under faults is only worth something if it fails with these.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use pollmark::backends::conformance::fault::{Faults, Kind, Plan};
use pollmark::backends::datagrams::{Inbound, Outbound};
use pollmark::backends::{
    Capabilities, Event, Events, Interest, Ledger, OwnedSource, Poller, Registry, Source, Token, Trigger,
};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Peer;
use pollmark::server::Net;

use crate::descriptors::{alone, without_a_leak};
use crate::subject::Stormy;
use crate::suite::{Verdict, cases};
use crate::under_faults::was_killed;

/// A mistake that shows when the kernel misbehaves, or always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "some are planted where epoll is"))]
pub(crate) enum Flaw {
    /// After a short write, one byte is taken for sent that was not.
    SkipsAByteAfterAShortWrite,
    /// EAGAIN of a receive is taken for the end of the connection.
    TakesEagainForTheEnd,
    /// Of a batch only the first event is told, whatever the trigger.
    LosesAllButTheFirstEvent,
    /// An event that a faulty poller owes, after EAGAIN, is not told.
    ForgetsWhatItOwes,
    /// No wait sleeps.
    Spins,
    /// The peer's end is never told.
    HidesTheEnd,
    /// For every connection a descriptor stays open.
    LeaksADescriptor,
}

/// A poller or a network, with a flaw or without.
#[derive(Clone)]
pub(crate) struct Flawed<T> {
    inner: T,
    flaw: Option<Flaw>,
}

impl<T> Flawed<T> {
    pub(crate) fn new(inner: T, flaw: Option<Flaw>) -> Flawed<T> {
        Flawed { inner, flaw }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

impl<N: Net> Net for Flawed<N> {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        let accepted = self.inner.accept(listener, nonblocking)?;
        if self.has(Flaw::LeaksADescriptor) {
            std::mem::forget(socket2::SockRef::from(&accepted.0).try_clone()?);
        }
        Ok(accepted)
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.recv(source, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.has(Flaw::TakesEagainForTheEnd) => Ok(0),
            received => received,
        }
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.inner.send(source, bytes)?;
        Ok(sent + usize::from(sent < bytes.len() && self.has(Flaw::SkipsAByteAfterAShortWrite)))
    }

    fn recv_batch(&self, source: Source<'_>, into: &mut Inbound) -> io::Result<usize> {
        self.inner.recv_batch(source, into)
    }

    fn send_batch(&self, source: Source<'_>, from: &mut Outbound) -> io::Result<usize> {
        self.inner.send_batch(source, from)
    }
}

impl<P: Poller> Poller for Flawed<P> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner.add(source, token, interest, trigger)
    }

    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        self.inner.add_exclusive(source, token, interest)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.inner.remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.inner.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = if self.has(Flaw::Spins) { Some(Duration::ZERO) } else { timeout };
        self.inner.wait(events, timeout)?;
        let mut told: Vec<Event> = events.iter().collect();
        match self.flaw {
            Some(Flaw::LosesAllButTheFirstEvent) => told.truncate(1),
            Some(Flaw::HidesTheEnd) => told.retain(|event| !event.read_closed()),
            // What is owed has no record of the kernel's.
            Some(Flaw::ForgetsWhatItOwes) => told.retain(|event| event.raw() != pollmark::backends::Raw::None),
            _ => return Ok(()),
        }
        events.clear();
        told.into_iter().for_each(|event| assert!(events.push(event), "no more than there were"));
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.inner.ledger()
    }
}

/// What a run of `case` with `flaw`, by the mechanism `name`, panics with or loses; `None` if nobody notices.
fn caught(flaw: Option<Flaw>, name: &str, plan: Plan, case: fn(&Stormy) -> Verdict) -> Option<String> {
    let registry = Registry::builtin();
    let mechanism = Mechanism::parse(&registry, name).expect("it is here");
    let faults = Faults::new(plan, 5);
    let subject = Stormy { mechanism, registry, faults: faults.clone(), flaw };
    let run = || without_a_leak(name, || case(&subject));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => None,
        Ok(Err(lost)) if !was_killed(&lost, &faults) => Some(format!("{lost:?}")),
        Ok(Err(lost)) => panic!("no fault of this plan kills: {lost:?}"),
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => Some(*message),
            Err(panic) => Some((*panic.downcast::<&str>().expect("a message")).to_owned()),
        },
    }
}

/// Asserts that with `flaw` the case fails for the reason given, and without it passes.
fn assert_caught(flaw: Flaw, name: &str, plan: Plan, case: fn(&Stormy) -> Verdict, reason: &str) {
    let _turn = alone();
    assert_eq!(caught(None, name, plan, case), None, "without a flaw there is nothing to catch");
    let found = caught(Some(flaw), name, plan, case).unwrap_or_else(|| panic!("{flaw:?} goes unnoticed"));
    assert!(found.contains(reason), "{flaw:?} fails for another reason: {found}");
    println!("{flaw:?}: {found}");
}

#[cfg(target_os = "linux")]
const SILENCE: &str = "a client cannot be";

#[test]
fn a_byte_skipped_after_a_short_write_is_noticed() {
    let plan = Plan::none().with(Kind::ShortWrite, 300);
    let case = cases::more_than_all_buffers_hold_comes_back_whole;
    assert_caught(Flaw::SkipsAByteAfterAShortWrite, "poll", plan, case, "the echo differs");
}

#[test]
fn a_connection_ended_by_eagain_is_noticed() {
    let plan = Plan::none().with(Kind::WouldBlock, 100);
    let case = cases::bytes_come_back_exactly_however_they_are_split;
    assert_caught(Flaw::TakesEagainForTheEnd, "poll", plan, case, "was lost");
}

#[test]
#[cfg(target_os = "linux")]
fn an_edge_lost_from_a_batch_is_noticed() {
    let plan = Plan::none().with(Kind::Late, 300);
    let case = cases::many_connections_are_served_at_once;
    assert_caught(Flaw::LosesAllButTheFirstEvent, "epoll-edge", plan, case, SILENCE);
}

#[test]
#[cfg(target_os = "linux")]
fn an_edge_owed_after_eagain_and_never_told_is_noticed() {
    let plan = Plan::none().with(Kind::WouldBlock, 100);
    let case = cases::bytes_come_back_exactly_however_they_are_split;
    assert_caught(Flaw::ForgetsWhatItOwes, "epoll-edge", plan, case, SILENCE);
}

#[test]
fn a_poller_that_does_not_sleep_is_noticed() {
    let plan = Plan::none().with(Kind::ShortWrite, 100);
    let case = cases::a_peer_that_never_reads_is_not_read_from_without_end_and_hurts_nobody;
    assert_caught(Flaw::Spins, "poll", plan, case, "spins");
}

#[test]
#[cfg(target_os = "linux")]
fn an_end_that_is_never_told_is_noticed() {
    let plan = Plan::none().with(Kind::ShortRead, 100);
    let case = cases::a_half_closed_peer_is_answered_in_full_and_then_closed;
    // Only where poll(2) tells an end from bytes can it be hidden.
    assert_caught(Flaw::HidesTheEnd, "poll", plan, case, SILENCE);
}

#[test]
#[cfg(target_os = "linux")]
fn a_descriptor_kept_for_every_connection_is_noticed() {
    let plan = Plan::none().with(Kind::Aborted, 60);
    let case = cases::resets_and_vanishing_peers_end_their_own_connection_only;
    assert_caught(Flaw::LeaksADescriptor, "threads", plan, case, "a descriptor leaks");
}
