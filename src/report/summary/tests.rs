//! What a summary says, on made-up records.

use super::*;
use crate::report::sample;

fn load(summary: &Summary<'_>, active: u32) -> Load {
    summary.loads.iter().copied().find(|load| load.active == active).expect("a load")
}

fn figures<'a>(summary: &'a Summary<'_>, subject: &str, idle: u32, active: u32) -> &'a Figures {
    let at = summary.subjects.iter().position(|one| one.name == subject).expect("a row");
    summary.table(idle, load(summary, active))[at].figures().expect("measured")
}

#[test]
fn a_scanning_mechanism_ranks_below_and_a_twin_is_not_ranked() {
    let record = sample::ordinary();
    let summary = Summary::of(&record);
    assert_eq!(figures(&summary, "epoll", 5_000, 1).standing, Standing::Best);
    assert_eq!(figures(&summary, "select", 5_000, 1).standing, Standing::Rank(2));
    assert_eq!(figures(&summary, "poll", 5_000, 1).standing, Standing::Rank(3));
    assert_eq!(figures(&summary, "epoll (A/A)", 5_000, 1).standing, Standing::Unranked);
    let twin = figures(&summary, "epoll (A/A)", 5_000, 1).ratio.expect("paired with the best").value;
    assert!((twin - 1.0).abs() < 0.1, "{twin}");
    let ratio = figures(&summary, "poll", 5_000, 1).ratio.expect("paired with the best");
    assert!(ratio.value > 30.0, "{ratio:?}");
}

#[test]
fn what_was_seen_in_one_round_only_is_shown_and_not_ranked() {
    let mut record = sample::ordinary();
    record.trials.retain(|trial| trial.round == 0);
    let summary = Summary::of(&record);
    assert_eq!(figures(&summary, "poll", 5_000, 1).standing, Standing::Unranked);
    assert!(figures(&summary, "poll", 5_000, 1).ratio.is_some_and(|ratio| ratio.value > 30.0));
    assert!(summary.leaders().is_empty());
}

#[test]
fn what_the_repeats_do_not_separate_is_not_separated() {
    let mut record = sample::ordinary();
    for trial in record.trials.iter_mut().filter(|trial| trial.subject == "poll") {
        trial.requests = 1_000;
        trial.server_cpu_ns = Some(if trial.round == 1 { 300_000_000 } else { 3_000_000 });
    }
    let summary = Summary::of(&record);
    for (idle, Load { active, .. }) in summary.tables() {
        assert_eq!(figures(&summary, "poll", idle, active).standing, Standing::Best, "in two rounds of three");
        assert_eq!(figures(&summary, "epoll", idle, active).standing, Standing::Indistinguishable);
    }
}

#[test]
fn the_noise_is_that_of_the_twins_in_every_cell() {
    let record = sample::ordinary();
    let noise = Summary::of(&record).noise;
    assert_eq!(noise.cells, 12);
    assert!(noise.spread.is_some_and(|spread| spread < 0.08) && noise.margin >= 0.05, "{noise:?}");
}

#[test]
fn the_twin_of_a_control_is_the_row_of_its_name_and_not_another_of_its_mechanism() {
    let mut record = sample::ordinary();
    // epoll by two threads costs what poll costs, and its control what epoll by one does.
    for trial in &mut record.trials {
        (trial.subject, trial.mechanism) = match trial.subject.as_str() {
            "epoll (A/A)" => ("epoll ×2 reuseport (A/A)".into(), "epoll".into()),
            "poll" => ("epoll ×2 reuseport".into(), "epoll".into()),
            other => (other.into(), trial.mechanism.clone()),
        };
    }
    record.settings.mechanisms[2] = "epoll ×2 reuseport".into();
    let summary = Summary::of(&record);
    let names = summary.subjects.iter().map(|one| (one.name.as_str(), one.mechanism.as_str())).collect::<Vec<_>>();
    assert_eq!(names[2..4], [("epoll ×2 reuseport", "epoll"), ("epoll ×2 reuseport (A/A)", "epoll")], "{names:?}");
    assert_eq!(summary.noise.cells, 12);
    assert!(summary.noise.spread.is_some_and(|spread| spread > 10.0), "{:?}", summary.noise);
    record.trials.retain(|trial| trial.subject != "epoll ×2 reuseport");
    assert_eq!(Summary::of(&record).noise.cells, 0, "what has no twin says nothing");
}

#[test]
fn a_void_cell_says_nothing_of_the_noise() {
    let mut record = sample::ordinary();
    let void = |trial: &&mut Trial| trial.subject == "epoll (A/A)" && trial.idle == 100 && trial.round == 2;
    record.trials.iter_mut().filter(void).for_each(|trial| trial.void = Some("a wrong byte".into()));
    assert_eq!(Summary::of(&record).noise.cells, 9);
}

#[test]
fn one_void_trial_voids_the_cell_and_says_why() {
    let record = sample::ordinary();
    let summary = Summary::of(&record);
    let threads = summary.subjects.iter().position(|one| one.name == "threads").expect("a row");
    match &summary.table(5_000, load(&summary, 10))[threads].outcome {
        Outcome::Void(reason) => assert!(reason.starts_with("wrong byte"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(summary.table(1_000, load(&summary, 10))[threads].figures().is_some());
    let mut record = record;
    record.trials.iter_mut().filter(|trial| trial.void.is_some()).for_each(|trial| trial.errors = 1);
    let summary = Summary::of(&record);
    match &summary.table(5_000, load(&summary, 10))[threads].outcome {
        Outcome::Void(reason) => assert!(!reason.contains("failed"), "said once: {reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_counting_round_gives_instructions_and_no_time() {
    let record = sample::ordinary();
    let summary = Summary::of(&record);
    let epoll = figures(&summary, "epoll", 0, 10);
    assert_eq!((epoll.rounds, epoll.instructions_user), (3, Some(104.0)));
    let mut slow = record.clone();
    slow.trials.iter_mut().filter(|trial| trial.counted).for_each(|trial| trial.server_cpu_ns = Some(u64::MAX / 2));
    let slow = Summary::of(&slow);
    assert_eq!(figures(&slow, "epoll", 0, 10).cpu_ns, figures(&summary, "epoll", 0, 10).cpu_ns);
}

#[test]
fn no_cell_is_left_out_and_each_without_figures_has_a_reason() {
    for (name, record) in sample::all() {
        let summary = Summary::of(&record);
        let grid = summary.idle.len() * summary.loads.len() * summary.subjects.len();
        assert_eq!(summary.cells.len(), grid, "{name}");
        for cell in &summary.cells {
            match &cell.outcome {
                Outcome::Measured(figures) => assert!(figures.rounds > 0, "{name}"),
                Outcome::Missing(reason) | Outcome::Void(reason) => assert!(!reason.is_empty(), "{name}"),
            }
        }
    }
    let partial = sample::partial();
    let summary = Summary::of(&partial);
    let Outcome::Missing(reason) = &summary.table(5_000, load(&summary, 1))[0].outcome else {
        panic!("it was never reached")
    };
    assert_eq!(reason, "not measured before the comparison ended");
}

#[test]
fn who_does_as_much_as_the_cheapest_server_is_at_the_limit_of_the_load() {
    let mut record = sample::ordinary();
    let is_epoll =
        |trial: &&Trial| (trial.subject.as_str(), trial.idle, trial.active, trial.counted) == ("epoll", 0, 10, false);
    let ceilings = record.trials.iter().filter(is_epoll).map(|trial| {
        let requests = trial.requests + trial.requests / 30;
        Trial { subject: "ceiling".into(), mechanism: "ceiling".into(), ceiling: true, requests, ..trial.clone() }
    });
    let ceilings = ceilings.collect::<Vec<_>>();
    record.trials.extend(ceilings.clone());
    let summary = Summary::of(&record);
    assert!(summary.subjects.iter().all(|subject| subject.name != "ceiling"), "it is no row");
    let epoll = figures(&summary, "epoll", 0, 10);
    assert!(epoll.client_limited && epoll.ceiling_share.is_some_and(|share| (0.95..1.0).contains(&share)), "{epoll:?}");
    assert_eq!(epoll.standing, Standing::Best, "by CPU time it is ranked all the same");
    // Beside idle connections the load can do as much, and poll(2) there does not.
    let poll = figures(&summary, "poll", 5_000, 10);
    assert!(!poll.client_limited && poll.ceiling_share.is_some_and(|share| share < 0.9), "{poll:?}");
    assert_eq!(figures(&summary, "epoll", 0, 1).ceiling_share, None, "of another load nothing is known");
    // Several threads may do more than one, and a ceiling that is void is none.
    let mut several = record.clone();
    several
        .trials
        .iter_mut()
        .filter(|trial| trial.subject == "epoll")
        .for_each(|trial| trial.open_by_thread = vec![5, 5]);
    assert_eq!(figures(&Summary::of(&several), "epoll", 0, 10).ceiling_share, None);
    record.trials.iter_mut().filter(|trial| trial.ceiling).for_each(|trial| trial.void = Some("wrong byte".into()));
    assert!(!figures(&Summary::of(&record), "epoll", 0, 10).client_limited);
}

#[test]
fn rows_that_differ_in_rate_are_not_ranked_and_their_rates_are_told() {
    let mut record = sample::open_loop();
    for trial in &mut record.trials {
        let open = trial.open_loop.as_mut().expect("an open loop");
        open.due_per_second += trial.round;
    }
    let summary = Summary::of(&record);
    let measured = summary.cells.iter().filter_map(Cell::figures).collect::<Vec<_>>();
    assert!(!measured.is_empty() && measured.iter().all(|one| one.standing == Standing::Unranked));
    assert!(measured.iter().all(|one| one.ratio.is_none()), "a multiple of what was asked for something else");
    let rates = measured[0].open.as_ref().and_then(|open| open.due_between);
    assert_eq!(rates, Some((50_000.0, 50_002.0)));
    assert!(crate::report::text::headline(&summary).contains("not for all they can do"));
}

#[test]
fn nothing_due_is_no_riddle() {
    let mut record = sample::open_loop();
    record.trials.iter_mut().filter(|trial| trial.idle == 0).for_each(|trial| trial.requests = 0);
    let summary = Summary::of(&record);
    match &summary.table(0, summary.loads[0])[0].outcome {
        Outcome::Missing(why) => assert_eq!(why, "nothing was due while it was measured"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_margin_of_the_load_is_told_but_does_not_touch_the_ranking() {
    let record = sample::ordinary();
    let summary = Summary::of(&record);
    let (limited, free) = (figures(&summary, "epoll", 0, 100), figures(&summary, "epoll", 0, 10));
    assert!(limited.client_limited && !free.client_limited);
    assert_eq!(limited.standing, Standing::Best);
}

#[test]
fn who_is_not_ours_stands_apart_and_is_never_ranked_however_lean() {
    let record = sample::beside();
    let summary = Summary::of(&record);
    for (idle, load) in summary.tables() {
        let active = load.active;
        let lean = figures(&summary, "lean (floor)", idle, active);
        assert_eq!((lean.standing, lean.calls, lean.events_per_wait), (Standing::Unranked, None, None));
        let is_best = |cell: &&Cell| cell.figures().is_some_and(|figures| figures.standing == Standing::Best);
        let best = summary.table(idle, load).iter().find(is_best).expect("one of ours, though another is leaner");
        assert!(summary.subjects[best.subject].class.is_none());
        let best = summary.ranked(idle, load)[0].subject;
        assert!(summary.subjects[best].class.is_none(), "ours first");
        if summary.subjects[best].name == "epoll" {
            let ratio = lean.ratio.expect("beside the best of ours").value;
            assert!((ratio - 0.5).abs() < 0.01, "{ratio}");
        }
        let order = summary.ranked(idle, load).into_iter().map(|cell| summary.subjects[cell.subject].name.as_str());
        let order = order.collect::<Vec<_>>();
        let place = |name: &str| order.iter().position(|one| *one == name).expect("a row");
        assert!(place("select") < place("lean (floor)") && place("lean (floor)") < place("late (floor)"), "{order:?}");
    }
    assert!(summary.leaders().iter().all(|(subject, _)| subject.class.is_none()));
    let shown = crate::report::terminal::render(&summary, Default::default());
    for words in [
        "lean (floor): The least there can be [cc 1.2.3]. One thread. Kept busy for 500 ms",
        "late (floor), everywhere: missing",
    ] {
        assert!(shown.contains(words), "{words:?} is missing: {shown}");
    }
}

/// As it was, but that in every round the row takes so many times as much CPU.
fn with_more(record: &Record, subject: &str, idle: u32, active: u32, factor: f64) -> Record {
    let mut record = record.clone();
    let of_cell = |trial: &&mut Trial| (trial.subject.as_str(), trial.idle, trial.active) == (subject, idle, active);
    for trial in record.trials.iter_mut().filter(of_cell) {
        trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| (cpu as f64 * factor).round() as u64);
    }
    record
}

#[test]
fn a_row_loses_by_a_little_more_than_the_smallest_effect_of_its_cell_and_not_by_a_little_less() {
    let mut record = sample::ordinary();
    record.settings.idle = vec![100];
    record.trials.retain(|trial| trial.idle == 100);
    let summary = Summary::of(&record);
    let mut cells = 0;
    for (idle, Load { active, .. }) in summary.tables() {
        for subject in ["poll", "select"] {
            let before = figures(&summary, subject, idle, active);
            let (Some(effect), Some(ratio)) = (before.smallest_effect, before.ratio) else { continue };
            assert!(effect >= summary.noise.margin, "{effect}");
            let standing = |more: f64| {
                let record = with_more(&record, subject, idle, active, (1.0 + effect + more) / ratio.value);
                let summary = Summary::of(&record);
                // To be the best is not to lose, either: but then the others are held against it.
                let best = figures(&summary, "epoll", idle, active);
                (best.standing == Standing::Best).then(|| figures(&summary, subject, idle, active).standing)
            };
            let (Some(above), Some(below)) = (standing(0.001), standing(-0.001)) else { continue };
            assert!(matches!(above, Standing::Rank(_)), "{subject}, {idle} idle, {active} active: {effect}");
            assert_eq!(below, Standing::Indistinguishable, "{subject}, {idle} idle, {active} active: {effect}");
            cells += 1;
        }
    }
    assert!(cells >= 3, "{cells}");
}

#[test]
fn the_best_has_no_smallest_effect_and_neither_has_what_was_seen_once() {
    let mut record = sample::ordinary();
    let summary = Summary::of(&record);
    assert_eq!(figures(&summary, "epoll", 5_000, 1).smallest_effect, None);
    assert!(figures(&summary, "epoll (A/A)", 5_000, 1).smallest_effect.is_some_and(|effect| effect < 0.5));
    assert!(summary.pairs.differ > 0 && summary.pairs.differ < summary.pairs.all, "{:?}", summary.pairs);
    record.trials.retain(|trial| trial.round == 0);
    let summary = Summary::of(&record);
    assert!(summary.cells.iter().filter_map(Cell::figures).all(|figures| figures.smallest_effect.is_none()));
    assert_eq!(summary.pairs, Pairs::default());
}

#[test]
fn a_twin_that_differs_is_told_apart_though_the_noise_floor_is_made_of_it() {
    let record = sample::ordinary();
    assert_eq!(Summary::of(&record).noise.told_apart, 0);
    let slow = with_more(&record, "epoll (A/A)", 100, 1, 2.0);
    assert_eq!(Summary::of(&slow).noise.told_apart, 1);
    let fast = with_more(&record, "epoll (A/A)", 100, 1, 0.5);
    assert_eq!(Summary::of(&fast).noise.told_apart, 1);
}

#[test]
fn the_more_rows_are_compared_the_more_it_takes_to_be_told_apart() {
    let few = sample::ordinary();
    let mut many = few.clone();
    for copy in 0..6 {
        let of = few.trials.iter().filter(|trial| trial.subject == "epoll");
        many.trials.extend(of.map(|trial| Trial { subject: format!("epoll {copy}"), ..trial.clone() }));
    }
    let effect = |record: &Record| figures(&Summary::of(record), "poll", 0, 100).smallest_effect;
    assert!(effect(&few) < effect(&many), "{:?} {:?}", effect(&few), effect(&many));
}
