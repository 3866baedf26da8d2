//! One record after another, on one machine and on two.

use super::*;
use crate::report::sample;
use crate::report::terminal::Style;

/// The ordinary record of a later day, with the CPU time and the calls of one row multiplied.
fn later(day: u32, subject: &str, cpu: f64, calls: u64) -> Record {
    let mut record = sample::ordinary();
    record.started = format!("2026-02-{day:02}T00:00:00Z");
    record.host.commit = Some(format!("{day:040}"));
    for trial in record.trials.iter_mut().filter(|trial| trial.subject == subject) {
        trial.server_cpu_ns = trial.server_cpu_ns.map(|ns| (ns as f64 * cpu) as u64);
        (trial.ledger.calls, trial.ledger.wait_calls) =
            (trial.ledger.calls * calls, trial.ledger.wait_calls + trial.ledger.calls * (calls - 1));
    }
    record
}

fn track<'h>(history: &'h History<'_>, subject: &str, idle: u32, active: u32) -> &'h Track {
    let here = |one: &&Track| (one.subject.as_str(), one.idle, one.load.active) == (subject, idle, active);
    history.courses[0].tracks.iter().find(here).expect("a cell of all records")
}

#[test]
fn records_stand_in_the_order_they_were_made_and_what_changed_is_found_where_it_did() {
    let records = [later(3, "poll", 1.5, 1), later(1, "poll", 1.0, 1), later(2, "poll", 1.0, 1)];
    let history = History::of(&records);
    let course = &history.courses[0];
    let days = course.records.iter().map(|record| &record.started[8..10]).collect::<Vec<_>>();
    assert_eq!((history.courses.len(), days), (1, vec!["01", "02", "03"]));
    let verdicts = |track: &Track| {
        let steps = track.points.iter().skip(1).map(|point| point.change.as_ref().expect("both").verdict.clone());
        [steps.collect(), vec![track.whole.as_ref().expect("three records").verdict.clone()]].concat()
    };
    let same = Verdict::Indistinguishable;
    assert_eq!(verdicts(track(&history, "poll", 100, 1)), [same.clone(), Verdict::Lose, Verdict::Lose]);
    assert_eq!(verdicts(track(&history, "epoll", 100, 1)), vec![same; 3]);
    assert!(course.changed().all(|track| track.subject == "poll"));
    assert!(course.tracks.iter().all(|track| !track.subject.contains("A/A")), "a control is no row");
    let shown = history.render(Style::default());
    assert!(shown.contains("poll, 1 active, 100 idle: #2 to #3: 1.50× ("), "{shown}");
    assert!(shown.contains("MORE") && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn small_steps_that_are_none_by_themselves_are_a_change_from_the_first_to_the_last() {
    let records = [1.0, 1.035, 1.07, 1.105, 1.14].iter().zip(1..).map(|(cpu, day)| later(day, "poll", *cpu, 1));
    let records = records.collect::<Vec<_>>();
    let history = History::of(&records);
    let poll = track(&history, "poll", 5_000, 1);
    let steps = poll.points.iter().filter_map(|point| point.change.as_ref());
    assert!(steps.clone().count() == 4 && steps.clone().all(|step| !is_a_change(step)), "{poll:?}");
    assert_eq!(poll.whole.as_ref().map(|whole| &whole.verdict), Some(&Verdict::Lose));
    assert!(history.render(Style::default()).contains("poll, 1 active, 5,000 idle: #1 to #5: 1.14× ("));
}

#[test]
fn machines_and_workloads_are_never_mixed_and_what_is_alone_is_named() {
    let mut other = later(2, "poll", 9.0, 1);
    other.host.cpu = Some("another".to_owned());
    let mut shape = later(3, "poll", 9.0, 1);
    shape.workload.as_mut().expect("a workload").name = "shape".to_owned();
    let records = [later(1, "poll", 1.0, 1), other, shape, later(4, "poll", 1.0, 1)];
    let history = History::of(&records);
    assert_eq!((history.courses.len(), history.courses[0].records.len(), history.alone.len()), (1, 2, 2));
    assert_eq!(history.courses[0].changed().count(), 0, "nine times as much was another machine, or workload");
    let shown = history.render(Style::default());
    assert!(shown.contains("shape, 2026-02-03") && shown.contains("another"), "{shown}");
    // Two records of the other machine are a course of their own.
    let [one, mut two] = [records[1].clone(), records[1].clone()];
    two.started = "2026-03-01T00:00:00Z".to_owned();
    let both = [records[0].clone(), records[3].clone(), one, two];
    let history = History::of(&both);
    assert_eq!(history.courses.len(), 2);
    assert_eq!(history.courses[0].records[0].host.cpu.as_deref(), Some("another"), "the newest first");
}

#[test]
fn a_gate_counts_calls_and_instructions_and_no_time() {
    let before = later(1, "poll", 1.0, 1);
    let slower = [before.clone(), later(2, "poll", 3.0, 1)];
    for count in Count::ALL {
        let judged = History::of(&slower).gate(count, 0.0);
        assert!(judged.cells > 20 && judged.over.is_empty(), "{count:?}: {judged:?}");
    }
    let busier = [before.clone(), later(2, "poll", 1.0, 2)];
    let judged = History::of(&busier).gate(Count::Calls, 1.0);
    assert_eq!(judged.over.len(), 4 * 3, "poll under every load: {judged:?}");
    assert!(judged.over.iter().all(|line| line.starts_with("poll, ") && line.contains("100.0 % more")), "{judged:?}");
    assert!(History::of(&busier).gate(Count::Calls, 100.0).over.is_empty(), "twice as many are 100 % more");
    let mut longer = later(2, "poll", 1.0, 1);
    for trial in longer.trials.iter_mut().filter(|trial| trial.subject == "epoll") {
        trial.instructions_user = trial.instructions_user.map(|user| user * 103 / 100);
    }
    let longer = [before, longer];
    assert_eq!(History::of(&longer).gate(Count::Instructions, 2.0).over.len(), 4 * 3);
    assert!(History::of(&longer).gate(Count::Instructions, 4.0).over.is_empty());
}

#[test]
fn a_count_that_is_no_longer_there_does_not_pass_and_one_that_never_was_is_not_judged() {
    let (before, mut after) = (later(1, "poll", 1.0, 1), later(2, "poll", 1.0, 1));
    after.trials.retain(|trial| !trial.counted);
    let lost = [before, after.clone()];
    let judged = History::of(&lost).gate(Count::Instructions, 2.0);
    assert!(judged.cells == 0 && judged.over.iter().all(|line| line.contains("and none now")), "{judged:?}");
    assert!(!judged.over.is_empty());
    let mut first = after.clone();
    first.started = "2026-01-31T00:00:00Z".to_owned();
    let never = [first, after];
    assert_eq!(History::of(&never).gate(Count::Instructions, 2.0), Judged::default());
}

#[test]
fn every_format_has_every_cell_and_nothing_foreign_gets_through() {
    for (name, record) in sample::all() {
        let mut again = record.clone();
        again.started = "2027-01-01T00:00:00Z".to_owned();
        let records = [record, again];
        let history = History::of(&records);
        let cells = history.courses[0].tracks.len();
        let json = history.to_json();
        assert_eq!(json["courses"][0]["cells"].as_array().map(Vec::len), Some(cells), "{name}");
        let mut csv = Vec::new();
        history.write_csv(&mut csv).expect("to memory");
        let lines = csv::Reader::from_reader(&csv[..]).into_records().map(|line| line.expect("lines of one length"));
        assert_eq!(lines.count(), 2 * cells, "{name}");
        let (shown, markdown) = (history.render(Style::default()), history.to_markdown());
        for text in [&shown, &markdown] {
            assert!(!text.contains('\u{1b}'), "{name}");
        }
        assert!(!markdown.contains("<script"), "{name}: {markdown}");
        assert_eq!(history.courses[0].changed().count(), 0, "{name}: nothing changed");
    }
}
