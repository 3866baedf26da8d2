//! A record against itself, against one that is slower, and against one of another machine.

use super::*;
use crate::report::sample;
use crate::report::terminal::Style;

fn slower(record: &Record, subject: &str, factor: f64) -> Record {
    let mut record = record.clone();
    for trial in record.trials.iter_mut().filter(|trial| trial.subject == subject) {
        trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| (cpu as f64 * factor) as u64);
    }
    record
}

#[test]
fn a_record_is_indistinguishable_from_itself() {
    for (name, record) in sample::all() {
        let diff = Diff::of(&record, &record);
        assert!(diff.is_same_machine(), "{name}");
        let mut compared = 0;
        for change in &diff.changes {
            let measured = change.medians.iter().all(Option::is_some);
            match &change.verdict {
                Verdict::Indistinguishable => {
                    assert_eq!(change.ratio.map(|ratio| ratio.value), Some(1.0), "{name}: {change:?}");
                    compared += 1;
                }
                Verdict::Once => assert!(change.ratio.is_some_and(|ratio| ratio.value == 1.0), "{name}: {change:?}"),
                Verdict::Missing(why) => assert!(!measured && why.starts_with("in both"), "{name}: {change:?}"),
                Verdict::Void(why) => assert!(!why.is_empty(), "{name}"),
                other => panic!("{name}: {other:?} against itself: {change:?}"),
            }
        }
        assert!(name != "ordinary" || compared >= 4 * 3 * 3, "{compared} cells of {name}");
        assert!(!diff.render(Style::default()).contains('\u{1b}'), "{name}");
    }
}

#[test]
fn what_got_slower_loses_what_got_faster_wins_and_the_others_are_left_alone() {
    let before = sample::ordinary();
    let after = slower(&slower(&before, "poll", 1.5), "select", 0.6);
    let diff = Diff::of(&before, &after);
    assert!(diff.is_worse() && !diff.changes.is_empty());
    for change in diff.changes.iter().filter(|change| change.metric == Metric::Cpu) {
        let expected = match (change.subject.as_str(), &change.verdict) {
            (_, Verdict::Missing(_) | Verdict::Void(_)) => continue,
            ("poll", _) => Verdict::Lose,
            ("select", _) => Verdict::Win,
            _ => Verdict::Indistinguishable,
        };
        assert_eq!(change.verdict, expected, "{change:?}");
    }
    let shown = diff.render(Style::default());
    assert!(shown.contains("LOSE") && shown.contains("1.50×") && shown.contains("0.60×"), "{shown}");
    assert!(shown.contains("kqueue") && shown.contains("in both: not on this system"), "{shown}");
    let json = diff.to_json();
    assert_eq!((&json["same_machine"], json["signs"].as_array().map(Vec::len)), (&true.into(), Some(0)));
    let poll = json["changes"].as_array().expect("a list").iter().find(|one| one["subject"] == "poll").expect("a row");
    assert_eq!((&poll["verdict"], &poll["metric"]), (&"lose".into(), &"cpu_ns_per_request".into()));
    assert!(poll["b_to_a"]["interval"][0].as_f64().expect("a number") > 1.05, "{poll}");
}

#[test]
fn a_change_within_the_noise_of_either_record_is_none() {
    let before = sample::ordinary();
    // The control alone is slower: what it differs by is noise, and so is as much of anything else.
    let control = before.trials.iter().find(|trial| trial.control).expect("a control").subject.clone();
    let noisy = slower(&before, &control, 1.6);
    let changed = slower(&before, "poll", 1.5);
    let verdicts = |before: &Record, after: &Record| {
        let changes = Diff::of(before, after).changes.into_iter();
        changes
            .filter(|one| one.subject == "poll" && one.metric == Metric::Cpu)
            .map(|one| one.verdict)
            .collect::<Vec<_>>()
    };
    assert!(verdicts(&before, &changed).contains(&Verdict::Lose));
    assert!(!verdicts(&noisy, &changed).contains(&Verdict::Lose));
}

#[test]
fn of_two_machines_signs_and_shapes_are_compared_and_the_reader_is_cautioned() {
    let before = sample::ordinary();
    let mut after = slower(&before, "poll", 0.1);
    after.host.cpu = Some("another".to_owned());
    let diff = Diff::of(&before, &after);
    assert!(!diff.is_same_machine() && !diff.is_worse(), "{:?}", diff.machines);
    let signs = &diff.signs;
    assert!(signs.iter().any(|sign| sign.subject == "poll" && sign.agree() == Some(false)), "{signs:?}");
    let others = signs.iter().filter(|sign| sign.subject != "poll");
    assert!(others.clone().count() > 4 && others.clone().all(|sign| sign.agree() == Some(true)), "{signs:?}");
    let growths = &diff.growths;
    let poll = growths.iter().find(|growth| growth.subject == "poll").expect("four idle populations");
    assert!((poll.slopes[0] - poll.slopes[1]).abs() < 0.01, "a factor is no shape: {poll:?}");
    let shown = diff.render(Style::default());
    assert!(shown.contains("CAUTION") && shown.contains("another") && shown.contains("the opposite"), "{shown}");
    assert!(!shown.contains("B/A") && !shown.contains("LOSE"), "{shown}");
    assert_eq!(diff.to_json()["changes"].as_array().map(Vec::len), Some(0));
}

#[test]
fn what_one_of_them_has_not_is_named_with_the_reason() {
    let before = sample::ordinary();
    let mut after = before.clone();
    after.trials.retain(|trial| trial.subject != "poll");
    after.settings.mechanisms.retain(|name| name != "poll");
    for trial in after.trials.iter_mut().filter(|trial| trial.subject == "select" && trial.idle == 0) {
        trial.void = Some("wrong byte".to_owned());
    }
    let diff = Diff::of(&before, &after);
    let changes = &diff.changes;
    let of = |subject: &str, idle: u32| {
        let here = |one: &&Change| one.subject == subject && one.idle == idle && one.metric == Metric::Cpu;
        changes.iter().find(here).expect("a cell").verdict.clone()
    };
    assert_eq!(of("poll", 0), Verdict::Missing("in the second: not asked for".to_owned()));
    assert_eq!(of("select", 0), Verdict::Void("wrong byte".to_owned()));
    assert!(diff.is_worse(), "what is void has lost");
}
