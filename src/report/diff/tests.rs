//! A record against itself, against one that is slower, and against one of another machine.

use super::*;
use crate::measure::Host;
use crate::measure::record::Settings;
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
    let mut lines = Vec::new();
    diff.write_csv(&mut lines).expect("memory");
    let lines = String::from_utf8(lines).expect("text");
    for (kind, count) in [("sign", diff.signs.len()), ("growth", diff.growths.len()), ("change", 0)] {
        assert_eq!(lines.lines().filter(|line| line.starts_with(&format!("{kind},"))).count(), count, "{lines}");
    }
    assert!(lines.contains(",the opposite,"), "{lines}");
    let markdown = diff.to_markdown();
    assert!(markdown.contains("| poll |") && markdown.contains("CAUTION"), "{markdown}");
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

/// So many rows under four loads beside two populations, of four rounds that scatter by a tenth; the first cell takes so
/// many times more.
fn scattered(seed: u64, rows: usize, planted: f64) -> Record {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mechanisms = (0..rows).map(|row| format!("row {row}")).collect::<Vec<_>>();
    let (idle, active) = (vec![0, 1_000], vec![1, 10, 100, 1_000]);
    let settings = Settings { rounds: 4, rounds_done: 4, idle, active, mechanisms, ..Settings::default() };
    let mut record = Record::begin(Vec::new(), seed, Host::default(), settings.clone());
    for (round, idle) in (0..4).flat_map(|round| [0, 1_000].map(|idle| (round, idle))) {
        for (row, active) in settings.mechanisms.iter().flat_map(|row| [1, 10, 100, 1_000].map(|active| (row, active)))
        {
            let scatter = ((0..12).map(|_| rng.f64()).sum::<f64>() - 6.0) / 10.0;
            let more = if (row.as_str(), idle, active) == ("row 0", 0, 1) { planted } else { 1.0 };
            record.trials.push(Trial {
                round,
                subject: row.clone(),
                mechanism: row.clone(),
                idle,
                active,
                requests: 1_000,
                server_cpu_ns: Some((5e6 * more * scatter.exp()) as u64),
                ..Trial::default()
            });
        }
    }
    record
}

#[test]
fn of_many_cells_that_have_not_changed_almost_none_counts_though_some_would_alone_and_one_that_has_changed_is_found() {
    let (mut false_ones, mut alone) = (0, 0);
    for seed in 0..10 {
        let (before, after) = (scattered(seed, 24, 1.0), scattered(seed + 100, 24, 1.0));
        let diff = Diff::of(&before, &after);
        assert_eq!((diff.compared, diff.changes.len()), ([24 * 8, 0], 24 * 8));
        let counts = |of: fn(&Change) -> &Verdict| {
            usize::from(diff.changes.iter().any(|one| matches!(of(one), Verdict::Win | Verdict::Lose)))
        };
        (false_ones, alone) = (false_ones + counts(|one| &one.verdict), alone + counts(|one| &one.alone));
        let slower = scattered(seed + 100, 24, 1.8);
        let planted = Diff::of(&before, &slower);
        let lost = planted.changes.iter().filter(|one| one.verdict == Verdict::Lose).collect::<Vec<_>>();
        let found = lost.iter().find(|one| (one.subject.as_str(), one.idle, one.load.active) == ("row 0", 0, 1));
        let found = found.unwrap_or_else(|| panic!("{seed}: {lost:?}"));
        assert!(found.chance.is_some_and(|chance| chance < 0.001) && lost.len() <= 2, "{lost:?}");
        let smallest = found.smallest_effect.expect("rounds");
        assert!((0.1..0.8).contains(&smallest), "less than was planted, more than counts: {smallest}");
    }
    assert!(false_ones <= 2, "5 % of 10 are none, or one: {false_ones}");
    assert!(alone >= 6, "without the correction most of them find something: {alone}");
}

#[test]
fn what_counts_alone_and_not_as_one_of_many_stands_beside_the_verdict() {
    let (before, after) = (scattered(1, 24, 1.0), scattered(101, 24, 1.0));
    let diff = Diff::of(&before, &after);
    let one = diff.changes.iter().find(|one| one.is_corrected()).expect("one of 192 would count alone");
    assert_eq!(one.verdict, Verdict::Indistinguishable, "{one:?}");
    assert!(one.ratio.is_some_and(|ratio| ratio.interval.is_some()), "its figures stay: {one:?}");
    let shown = diff.render(Style::default());
    assert!(shown.contains(&format!("indistinguishable ({})", one.alone.word())), "{shown}");
    assert!(shown.contains("would win or lose alone") && shown.contains("192 of CPU and 0 of p99"), "{shown}");
    let json = diff.to_json();
    let same = json["changes"].as_array().expect("a list").iter().find(|it| it["verdict_alone"] != it["verdict"]);
    assert!(same.is_some_and(|it| it["chance"].is_number() && it["smallest_effect"].is_number()), "{json}");
    assert_eq!(json["compared"]["cpu_ns_per_request"], 192);
}
