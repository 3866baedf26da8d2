//! Random scripts on every mechanism beside poll(2); what they once found, kept; and that they find what they should.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use pollmark_backends::conformance::differential::{self, Disagreement, Op, Rule, Script, Tally};
use pollmark_backends::{Entry, Registry};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::broken::{self, Flaw};

/// How many scripts run on each mechanism. More, and others every time, with `POLLMARK_DIFFERENTIAL=100000`.
const SCRIPTS: u32 = 2_000;

/// How many of those in which sources are closed behind the poller's back.
const CARELESS: u32 = 500;

/// How many search for a flaw that any few should find.
pub(crate) const FEW: u32 = 500;

const LONGER: &str = "POLLMARK_DIFFERENTIAL";

/// Anything from 20 to 40 steps, and as many more as open and add the first four sources.
pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    prop::collection::vec(any::<[u8; 4]>(), 20..=40).prop_map(|entropy| Script::from_entropy(&entropy))
}

#[test]
fn random_scripts_agree_with_poll_on_every_mechanism() {
    let met = Mutex::new(BTreeSet::new());
    on_every_mechanism(|entry| {
        let began = Instant::now();
        match search(&scripts(), SCRIPTS, |script| differential::run(entry.name(), script, || entry.open())) {
            Ok(tally) => {
                println!("{}, in {:.1} s: {tally}", entry.name(), began.elapsed().as_secs_f32());
                let percent = 100 * tally.delivering / tally.waits;
                assert!(percent >= 30, "only {percent} % of the waits had anything to report");
                assert_eq!(tally.steps.len(), STEPS, "a step that is never made, or one that is not expected");
                let hardly = tally.steps.values().any(|times| *times < u64::from(SCRIPTS / 4));
                assert!(!hardly, "a step that is hardly ever made");
                met.lock().expect("nobody panics with it").extend(tally.allowed.into_keys());
            }
            Err(disagreement) => panic!("\n{disagreement}\nWhen it is mended, keep it in tests/scripts."),
        }
    });
    if cfg!(target_os = "linux") {
        let met = met.into_inner().expect("as above");
        let unmet = |name: &&str| !met.contains(name) && !name.contains("over kqueue");
        let unmet: Vec<_> = differential::allowed().iter().map(|allowed| allowed.name).filter(unmet).collect();
        assert!(unmet.is_empty(), "allowed, and never met: {unmet:?}");
    }
}

/// The kinds of step that `Tally` tells apart, those of `lose` left out.
const STEPS: usize = 18;

/// Closes behind the poller's back wherever another script removes or closes.
fn careless_scripts() -> impl Strategy<Value = Script> {
    scripts().prop_map(|script| {
        let careless = script.ops().iter().map(|op| match *op {
            Op::Close(slot) | Op::Remove(slot) => Op::Lose(slot),
            op => op,
        });
        Script::from(careless.collect::<Vec<_>>())
    })
}

#[test]
fn what_is_closed_behind_a_pollers_back_is_soon_forgotten_and_harms_nobody_else() {
    on_every_mechanism(|entry| {
        match search(&careless_scripts(), CARELESS, |script| differential::run(entry.name(), script, || entry.open())) {
            Ok(tally) => {
                println!("{}: {tally}", entry.name());
                assert!(tally.steps["lose"] >= u64::from(CARELESS), "hardly anything is lost");
            }
            Err(disagreement) => panic!("\n{disagreement}"),
        }
    });
}

/// A script that is printed, and read again from what was printed, is the same.
#[test]
fn scripts_are_read_as_they_are_printed() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&prop_oneof![scripts(), careless_scripts()], |script| {
        let printed = script.to_string();
        prop_assert_eq!(printed.parse::<Script>(), Ok(script));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    for line in ["open 9 tcp", "open 0 door", "add 0 read", "add 0 read+fly level", "wait 0", "wait", "own 0 flies"] {
        let error = line.parse::<Script>().expect_err("no step");
        assert!(error.to_string().contains(line), "{error}");
    }
}

/// What was once found, or is worth being read.
#[test]
fn kept_scripts_agree_with_poll_on_every_mechanism() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let files = fs::read_dir(&folder).expect("the folder is committed").map(|file| file.expect("an entry").path());
    let scripts: Vec<(PathBuf, Script)> = files
        .map(|path| {
            let text = fs::read_to_string(&path).expect("text");
            let script = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, script)
        })
        .collect();
    assert!(scripts.len() >= 9, "only {} scripts in {}", scripts.len(), folder.display());
    on_every_mechanism(|entry| {
        for (path, script) in &scripts {
            if let Err(disagreement) = differential::run(entry.name(), script, || entry.open()) {
                panic!("{}\n{disagreement}", path.display());
            }
        }
    });
}

/// A few at a time: each has descriptors of its own, and what takes time is to wait.
fn on_every_mechanism(case: impl Fn(&Entry) + Sync) {
    const AT_ONCE: usize = 4;
    let _turn = crate::alone();
    #[cfg(any(linux_like, kqueue_like))]
    let registry = crate::adaptive::with_all_moves(Registry::builtin());
    #[cfg(not(any(linux_like, kqueue_like)))]
    let registry = Registry::builtin();
    let entries: Vec<_> = registry.entries().collect();
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            match entry.probe() {
                Ok(_) => case(entry),
                Err(unavailable) => println!("{}: {unavailable}", entry.name()),
            }
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(some))));
}

/// Looks for a script on which `run` fails, and makes it as short as it can be.
pub(crate) fn search(
    scripts: &impl Strategy<Value = Script>,
    cases: u32,
    run: impl Fn(&Script) -> Result<Tally, Disagreement>,
) -> Result<Tally, Disagreement> {
    let longer = std::env::var(LONGER).ok().map(|scripts| scripts.parse().expect("a number of scripts"));
    let config = Config {
        cases: longer.unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut runner = match longer {
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
        Some(_) => TestRunner::new(config),
    };
    let (sum, found) = (RefCell::new(Tally::default()), RefCell::new(None));
    let outcome = runner.run(scripts, |script| match run(&script) {
        Ok(tally) => {
            assert!(script.waits() >= 5, "a script that hardly waits");
            *sum.borrow_mut() += tally;
            Ok(())
        }
        Err(disagreement) => {
            let rule = format!("{:?}", disagreement.rule());
            *found.borrow_mut() = Some(disagreement);
            Err(TestCaseError::fail(rule))
        }
    });
    match outcome {
        Ok(()) => Ok(sum.into_inner()),
        // What was found last is the simplest that proptest came to. Single steps may still be left out.
        Err(TestError::Fail(..)) => Err(found.into_inner().expect("nothing else fails").shortened(run)),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// Mistakes of `broken.rs` that a script can reach, and the rules it finds broken by them. A timeout rounded down, a
/// hidden interruption, a leak and a panic are for other tests.
const FOUND: [(Flaw, &[Rule]); 15] = [
    (Flaw::LosesEveryThousandthEvent, &[Rule::Early, Rule::Untold]),
    (Flaw::LosesEveryTenthEvent, &[Rule::Early, Rule::Untold]),
    (Flaw::ReportsTheClosed, &[Rule::StaleToken]),
    (Flaw::ReturnsEarly, &[Rule::Early]),
    (Flaw::ForgetsModify, &[Rule::StaleToken, Rule::Change, Rule::Early]),
    (Flaw::ForgetsRemove, &[Rule::StaleToken, Rule::Change]),
    (Flaw::SwapsTokens, &[Rule::Untrue, Rule::Unasked]),
    (Flaw::NeverReportsTheEnd, &[Rule::Early, Rule::Untold]),
    (Flaw::Spins, &[Rule::Ledger]),
    (Flaw::ReportsTwice, &[Rule::Twice]),
    (Flaw::PrefersLowTokens, &[Rule::Untold]),
    (Flaw::CutsTokens, &[Rule::StaleToken]),
    (Flaw::ReadsEmptyInterest, &[Rule::Unasked]),
    (Flaw::ReplacesOnAdd, &[Rule::Change]),
    (Flaw::NeverDisarms, &[Rule::Repeated]),
];

#[test]
fn every_flaw_a_script_can_reach_is_found() {
    let _turn = crate::alone();
    for (flaw, rules) in FOUND {
        let found =
            search(&scripts(), SCRIPTS, |script| differential::run("broken", script, || broken::open(Some(flaw))));
        let disagreement = found.expect_err("a poller with a flaw agreed with poll(2)");
        println!("{flaw:?}: {disagreement}");
        assert!(rules.contains(&disagreement.rule()), "{flaw:?} is found by another rule: {:?}", disagreement.rule());
    }
}
