//! What can be taken to any Unix as one file and run there: no subprocess, no unwinding, no exact clock.
//!
//! Each case is named before it runs, so that where a panic ends the process the last line says which it was.
//! CONTRIBUTING.md says how to build it for another system and what to run there.

#![cfg(unix)]

use pollmark_backends::conformance::differential::{self, Op, Script};
use pollmark_backends::conformance::{self, Outcome};
use pollmark_backends::{Entry, Registry};

/// Cases that ask how long something took, or for a signal at a certain moment.
const BY_THE_CLOCK: [&str; 5] = [
    "a_timeout_is_never_early",
    "an_empty_set_honours_the_timeout",
    "more_than_zero_never_becomes_zero",
    "zero_looks_and_returns",
    "a_signal_ends_or_resumes_the_wait_and_loses_nothing",
];

/// How many scripts are made up for each mechanism; `POLLMARK_DIFFERENTIAL` says otherwise.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("POLLMARK_DIFFERENTIAL").ok();
    0..asked.map_or(100, |scripts| scripts.parse().expect("a number of scripts"))
}

/// The scripts of `tests/scripts`, which need not be there when this runs.
const KEPT: [&str; 13] = [
    include_str!("scripts/a-hang-up-for-whoever-asked-for-urgent-data-only.txt"),
    include_str!("scripts/a-lost-source-where-there-is-never-room-for-all.txt"),
    include_str!("scripts/a-number-used-again-at-once.txt"),
    include_str!("scripts/a-pipe-s-reading-end-watched-for-room.txt"),
    include_str!("scripts/an-edge-for-each-arrival-and-one-for-the-end.txt"),
    include_str!("scripts/both-halves-closed-one-of-them-twice.txt"),
    include_str!("scripts/oneshot-disarms-both-directions-in-little-room.txt"),
    include_str!("scripts/reading-an-eventfd-makes-room-in-it.txt"),
    include_str!("scripts/the-other-number-of-a-closed-file.txt"),
    include_str!("scripts/the-same-file-under-the-same-number-again.txt"),
    include_str!("scripts/two-arrivals-told-one-by-one.txt"),
    include_str!("scripts/two-filters-make-two-edges.txt"),
    include_str!("scripts/urgent-data-nobody-asked-for.txt"),
];

#[test]
fn a_conformance_but_for_clocks() {
    on_every_mechanism(|entry| {
        let left_out = std::cell::Cell::new(0);
        let report = conformance::run_where(
            entry.name(),
            || entry.open(),
            |case| {
                let by_the_clock = BY_THE_CLOCK.contains(&case);
                left_out.set(left_out.get() + usize::from(by_the_clock));
                println!("{}: {case}{}", entry.name(), if by_the_clock { ": left out, it needs a clock" } else { "" });
                !by_the_clock
            },
        );
        println!("{report}");
        report.assert_passed();
        assert_eq!(left_out.get(), BY_THE_CLOCK.len(), "a case that is left out is gone, or has another name");
        let passed = report.results().iter().filter(|result| result.outcome == Outcome::Passed).count();
        assert!(passed >= 40, "only {passed} cases apply here");
    });
}

#[test]
fn b_kept_scripts() {
    on_every_mechanism(|entry| {
        for text in KEPT {
            println!("{}: {}", entry.name(), text.lines().next().unwrap_or_default());
            check(entry, &text.parse().expect("a script"));
        }
    });
    if let Ok(folder) = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts")) {
        assert_eq!(folder.count(), KEPT.len(), "a script is not in the list");
    }
}

#[test]
fn c_random_scripts() {
    on_every_mechanism(|entry| {
        println!("{}: random scripts {:?}", entry.name(), seeds());
        seeds().for_each(|seed| check(entry, &Script::random(seed, 36)));
    });
}

#[test]
fn d_scripts_that_close_behind_the_pollers_back() {
    on_every_mechanism(|entry| {
        println!("{}: careless scripts {:?}", entry.name(), seeds());
        for seed in seeds() {
            let script = Script::random(seed, 36);
            let careless = script.ops().iter().map(|op| match *op {
                Op::Close(slot) | Op::Remove(slot) => Op::Lose(slot),
                op => op,
            });
            check(entry, &Script::from(careless.collect::<Vec<_>>()));
        }
    });
}

fn check(entry: &Entry, script: &Script) {
    let run = |script: &Script| differential::run(entry.name(), script, || entry.open());
    if let Err(disagreement) = run(script) {
        panic!("{}", disagreement.shortened(run));
    }
}

/// One test at a time, whatever the harness was asked for: the suite counts this process's descriptors.
fn on_every_mechanism(case: impl Fn(&Entry)) {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let registry = conformance::with_models(Registry::builtin());
    for entry in registry.entries() {
        match entry.probe() {
            Ok(_) => case(entry),
            Err(unavailable) => println!("{}: {unavailable}", entry.name()),
        }
    }
}
