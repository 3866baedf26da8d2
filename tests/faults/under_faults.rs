//! The suite under faults: first those no connection may end by, then those it may.

use std::sync::Mutex;

use pollmark::backends::Registry;
use pollmark::backends::conformance::fault::{Faults, Kind, Plan, Tally};
use pollmark::backends::conformance::with_models;
use pollmark::mechanism::Mechanism;

use crate::descriptors::{alone, without_a_leak};
use crate::everywhere::{mechanisms, side_by_side};
use crate::subject::Stormy;
use crate::suite::{Lost, Subject, Verdict, cases};

/// Replays one seed.
const SEED: &str = "POLLMARK_FAULT_SEED";
/// Tries so many.
const SEEDS: &str = "POLLMARK_FAULT_SEEDS";
/// Without either.
const EVERY_DAY: u64 = 2;

/// How many lethal faults may strike one run of a case, before it is repeated with fewer.
const DEATHS: u32 = 3;

/// A variant differs in the poller alone, so there is one seed for it, unless more are asked for.
fn seeds(mechanism: &Mechanism) -> std::ops::Range<u64> {
    let number = |name| Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is not a number")));
    match (number(SEED), number(SEEDS)) {
        (Some(seed), _) => seed..seed + 1,
        (None, None) if mechanism.base().is_some() => 0..1,
        (None, seeds) => 0..seeds.unwrap_or(EVERY_DAY),
    }
}

/// Of `plan` what this mechanism can meet: with even seeds all of it, with odd ones the poller's faults alone or the
/// network's alone.
fn adapted(plan: Plan, mechanism: &Mechanism, seed: u64) -> Plan {
    let blocks = mechanism.abilities().blocking;
    plan.only(|kind| match kind {
        _ if blocks => !kind.is_of_the_poller() && kind != Kind::WouldBlock,
        _ if seed % 4 == 1 => kind.is_of_the_poller(),
        _ if seed % 4 == 3 => !kind.is_of_the_poller(),
        _ => true,
    })
}

/// Runs a case under `plan`, on every mechanism and with every seed. Returns what has struck.
fn storm(name: &str, plan: Plan, case: impl Fn(&Stormy) -> Verdict + Sync) -> Tally {
    everywhere(name, |subject, seed| {
        let plan = adapted(plan, &subject.mechanism, seed);
        weather(plan, seed, |faults| case(&subject.under(&faults)))
    })
}

/// Calls `run` with every mechanism and every seed, side by side. Returns what has struck.
fn everywhere(name: &str, run: impl Fn(&Stormy, u64) -> Tally + Sync) -> Tally {
    let _turn = alone();
    let registry = with_models(Registry::builtin());
    let calm = Faults::new(Plan::none(), 0);
    let mut runs = Vec::new();
    for mechanism in mechanisms(&registry) {
        let seeds = seeds(&mechanism);
        let subject = Stormy { mechanism, registry: registry.clone(), faults: calm.clone(), flaw: None };
        runs.extend(seeds.map(|seed| (subject.under(&calm), seed)));
    }
    let struck = Mutex::new(Tally::default());
    without_a_leak(name, || {
        side_by_side(&runs, |(subject, seed)| {
            let mechanism = &subject.mechanism;
            println!("{mechanism}, seed {seed}; to replay: {SEED}={seed} cargo test --test faults {name}");
            let tally = run(subject, *seed);
            println!("{mechanism}, seed {seed}: {tally}");
            let mut struck = struck.lock().expect("nobody panics here");
            *struck = *struck + tally;
        });
    });
    let struck = struck.into_inner().expect("nobody panicked");
    assert!(struck.total() > 0, "nothing went wrong: the faults do not reach the servers");
    struck
}

/// Whether what was lost may have been killed by a fault.
pub(crate) fn was_killed(lost: &Lost, faults: &Faults) -> bool {
    lost.peer.is_some_and(|peer| faults.victims().contains(&peer))
}

/// Runs a case until no connection of it was killed: each time fewer may be, in the end none. One that was lost must
/// have been killed.
fn weather(plan: Plan, seed: u64, run: impl Fn(Faults) -> Verdict) -> Tally {
    let mut struck = Tally::default();
    for deaths in (0..=DEATHS).rev() {
        let faults = Faults::new(plan.at_most(deaths), seed);
        let verdict = run(faults.clone());
        struck = struck + faults.tally();
        let Err(lost) = verdict else { return struck };
        let killed = was_killed(&lost, &faults);
        assert!(killed, "{lost:?}, and no fault did it; those killed: {:?}", faults.victims());
    }
    unreachable!("the last run kills nobody, so whatever is lost in it fails the assertion")
}

macro_rules! under_faults {
    ($($case:ident,)+) => {
        mod harmless { $(
            #[test]
            fn $case() {
                super::storm(concat!("harmless::", stringify!($case)), super::Plan::harmless(), super::cases::$case);
            }
        )+ }

        mod lethal { $(
            #[test]
            fn $case() {
                super::storm(concat!("lethal::", stringify!($case)), super::Plan::lethal(), super::cases::$case);
            }
        )+ }
    };
}
suite!(under_faults);

/// Messages without connections, under the same.
mod of_datagrams {
    use super::{Plan, cases, storm};

    suite_of_datagrams!(under_faults);
}

/// Connections that go on while others are killed around them, each as long as it may.
fn who_is_not_killed_is_served(subject: &impl Subject) -> Verdict {
    if !subject.can(|has| has.concurrent, "only_those_whom_a_fault_kills_are_lost", "many connections at once") {
        return Ok(());
    }
    const CLIENTS: usize = 24;
    const ROUNDS: usize = 60;
    let faults = subject.faults().expect("under faults");
    let mut limited = cases::config();
    limited.read_buffer = 512; // so that a request takes several reads
    let server = subject.serve(limited, pollmark::protocol::Echo);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    let mut lost = 0;
    for round in 0..ROUNDS {
        let request = cases::pattern(1 + 37 * round);
        for client in &mut clients {
            if let Err(gone) = client.exchange(request) {
                assert!(was_killed(&gone, faults), "{gone:?}, and no fault did it");
                lost += 1;
                *client = server.connect();
            }
        }
    }
    println!("    {lost} connections killed and replaced");
    drop(clients);
    server.settled("nobody is left", |stats| stats.open == 0);
    let stats = server.stop();
    assert!(stats.refused + stats.closed >= lost, "not all that was lost was closed: {stats:?}");
    Ok(())
}

#[test]
fn only_those_whom_a_fault_kills_are_lost() {
    let struck = everywhere("only_those", |subject, seed| {
        let faults = Faults::new(adapted(Plan::lethal(), &subject.mechanism, seed), seed);
        who_is_not_killed_is_served(&subject.under(&faults)).expect("judged inside");
        faults.tally()
    });
    // Whoever replays one seed has not all of them.
    if std::env::var_os(SEED).is_none() {
        let missing: Vec<_> = Kind::ALL.into_iter().filter(|kind| struck.of(*kind) == 0).collect();
        assert!(missing.is_empty(), "these faults never struck: {missing:?}");
    }
}

#[test]
fn a_listener_that_could_not_be_watched_again_is_watched_later() {
    let _turn = alone();
    let registry = with_models(Registry::builtin());
    let plan = Plan::none().with(Kind::Shortage, 400).with(Kind::FailedRegistration, 500);
    for mechanism in Mechanism::all(&registry).into_iter().filter(|one| one.trigger().is_some()) {
        if mechanism.probe(&registry).is_err() {
            continue;
        }
        println!("{mechanism}");
        let faults = Faults::new(plan, 1);
        let subject = Stormy { mechanism, registry: registry.clone(), faults: faults.clone(), flaw: None };
        let server = subject.serve(cases::config(), pollmark::protocol::Echo);
        for _ in 0..40 {
            // One in two is killed, because it cannot be watched. A server that has gone deaf is silent instead.
            if let Err(lost) = server.connect().exchange(b"is anybody there?") {
                assert!(was_killed(&lost, &faults), "{lost:?}, and no fault did it");
            }
        }
        assert!(faults.tally().of(Kind::Shortage) > 0 && faults.tally().of(Kind::FailedRegistration) > 0);
    }
}
