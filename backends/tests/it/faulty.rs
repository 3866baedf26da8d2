//! The contract holds over a faulty kernel too: what is late, split, reordered or interrupted is not lost or made up.

use pollmark_backends::conformance::fault::{Faults, Kind, Plan};
use pollmark_backends::conformance::{self, Faulty, Outcome};
use pollmark_backends::{Events, Interest, Poller, Registry, Token, Trigger, waker};

/// Faults under which the contract still holds. A false alarm breaks the silence that most cases listen for, and a
/// failing call is what they take for the poller's failure.
const WITHIN_THE_CONTRACT: [Kind; 4] = [Kind::Late, Kind::Split, Kind::Reordered, Kind::InterruptedWait];

const AT_ONCE: &str = "expects all that is ready from one wait";
const COUNTED: &str = "counts waits";
const UNDISTURBED: &str = "expects one wait not to be interrupted";

/// Cases that ask for more than a caller may rely on when the kernel is in bad weather.
const TOO_STRICT: [(&str, &str); 18] = [
    ("a_buffer_may_change_its_size", AT_ONCE),
    ("a_hundred_sources_fire_together", AT_ONCE),
    ("both_directions_arrive_in_one_event", AT_ONCE),
    ("random_operations_agree_with_poll", AT_ONCE),
    ("a_small_buffer_starves_nobody", COUNTED),
    ("the_ledger_counts_waits_changes_and_events", COUNTED),
    ("a_signal_ends_or_resumes_the_wait_and_loses_nothing", UNDISTURBED),
    ("a_timeout_beyond_all_bounds_still_waits_for_events", UNDISTURBED),
    ("a_timeout_is_never_early", UNDISTURBED),
    ("a_wake_before_the_wait_is_not_lost", UNDISTURBED),
    ("a_wake_during_the_wait_ends_it", UNDISTURBED),
    ("a_wake_wakes_nobody_else", UNDISTURBED),
    ("an_empty_set_honours_the_timeout", UNDISTURBED),
    ("closing_behind_its_back_harms_nobody", UNDISTURBED),
    ("more_than_zero_never_becomes_zero", UNDISTURBED),
    ("two_thousand_cycles_leak_no_descriptor", UNDISTURBED),
    ("without_a_timeout_an_event_ends_the_wait", UNDISTURBED),
    ("zero_looks_and_returns", UNDISTURBED),
];

#[test]
fn every_mechanism_keeps_the_contract_over_a_faulty_kernel() {
    let _turn = crate::alone();
    let plan = Plan::harmless().only(|kind| WITHIN_THE_CONTRACT.contains(&kind));
    for entry in conformance::with_models(Registry::builtin()).entries().filter(|entry| entry.probe().is_ok()) {
        let mut missing = WITHIN_THE_CONTRACT.to_vec();
        // Two at least; more where few cases have more than one source ready, so that batches are rarely split.
        for seed in 0..8 {
            if seed >= 2 && missing.is_empty() {
                break;
            }
            let faults = Faults::new(plan, seed);
            let open = || Ok(Faulty::new(entry.open()?, &faults));
            let wanted = |name: &str| TOO_STRICT.iter().all(|(strict, _)| *strict != name);
            let report = conformance::run_where(entry.name(), open, wanted);
            let passed = report.results().iter().filter(|result| result.outcome == Outcome::Passed).count();
            println!("{}, seed {seed}: {passed} cases passed under {}", entry.name(), faults.tally());
            report.assert_passed();
            missing.retain(|kind| faults.tally().of(*kind) == 0);
        }
        assert!(missing.is_empty(), "{}: these faults never struck: {missing:?}", entry.name());
    }
}

#[test]
fn without_faults_nothing_is_too_strict() {
    let _turn = crate::alone();
    let registry = conformance::with_models(Registry::builtin());
    let entry = registry.entries().find(|entry| entry.probe().is_ok()).expect("some mechanism is available");
    let calm = Faults::new(Plan::none(), 0);
    let strict = |name: &str| TOO_STRICT.iter().any(|(strict, _)| *strict == name);
    let report = conformance::run_where(entry.name(), || Ok(Faulty::new(entry.open()?, &calm)), strict);
    report.assert_passed();
    assert_eq!(report.results().len(), TOO_STRICT.len(), "a case was renamed\n{report}");
}

/// Wakes `times` times, each after the last wake was seen, and returns how many events it took.
fn woken(plan: Plan, trigger: Trigger, times: usize) -> usize {
    let registry = conformance::with_models(Registry::builtin());
    let supports =
        |trigger| move |entry: &&pollmark_backends::Entry| entry.probe().is_ok_and(|one| one.supports(trigger));
    let Some(entry) = registry.entries().find(supports(trigger)) else { return times };
    let mut poller = Faulty::new(entry.open().expect("available"), &Faults::new(plan, 9));
    let (waker, wakes) = waker().expect("a descriptor");
    let mut events = Events::with_capacity(1);
    let mut told = 0;
    poller.add(wakes.as_source(), Token(1), Interest::READABLE, trigger).expect("a new source");
    for _ in 0..times {
        waker.wake();
        loop {
            // For ever: a poller that lost the event would hang here.
            match poller.wait(&mut events, None) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                waited => waited.expect("nothing else fails"),
            }
            assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(1)]);
            told += 1;
            if trigger == Trigger::Oneshot {
                poller.modify(wakes.as_source(), Token(1), Interest::READABLE, trigger).expect("it is known");
            }
            break;
        }
        wakes.drain();
    }
    told
}

#[test]
fn what_is_kept_back_is_told_by_a_later_wait() {
    for trigger in Trigger::ALL {
        let plan = Plan::none().with(Kind::Late, 900).with(Kind::InterruptedWait, 1);
        assert_eq!(woken(plan, trigger, 200), 200, "{trigger}");
    }
}

#[test]
fn a_false_alarm_uses_up_a_oneshot_and_hides_nothing() {
    for trigger in Trigger::ALL {
        let plan = Plan::none().with(Kind::FalseAlarm, 500);
        assert_eq!(woken(plan, trigger, 200), 200, "{trigger}");
    }
}
