//! What a deadline costs: the same for every mechanism, or the core's deadlines are not the same for all.
//!
//! (a) A deadline costs so many nanoseconds of a request, whatever that costs anyway. What scatters is a part of what it costs.
//!     So the *delta* of a mechanism is in nanoseconds, and its *gap*, by how much it is off what all have in common, is a part
//!     of the cost.
//! (b) With and without are two rows of the same rounds, and so are the control and its twin, which are one server. So what
//!     noise does to a gap is drawn from those, visit by visit: what one visit meets, all its loads meet.
//! (c) Held against each other are pollers all of whose calls we make and count. The calls of others are theirs, `polling`
//!     makes more in a wait with a timeout, and threads and completion have other ways to wait. Those stand beside it.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::measure::family::critical;
use crate::measure::plan::Subject;
use crate::measure::record::{DeadlineCost, Gate, Record, Trial, Verdict};
use crate::measure::stats::{self, Interval};

/// How often noise is drawn.
const DRAWS: usize = 1_000;
/// How likely noise alone may be to make as much of a gap as fails.
const CHANCE: f64 = 0.05;
/// Beyond so many standard deviations Student's t is with that chance, if it knows the scatter.
const KNOWN: f64 = 1.96;

const COARSE: &str = "the clock of CPU time is too coarse to tell what is noise";

/// A visit of each of two rows: its round and its idle connections.
type At = (u32, u32);

/// What one row of two used more than the other for each request, and what the other uses.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Sample {
    delta: f64,
    cost: f64,
}

/// Two rows, compared.
#[derive(Clone, Default)]
struct Pair {
    label: String,
    samples: BTreeMap<At, Vec<Sample>>,
    /// None of its calls is made by somebody else's crate.
    counted: bool,
    /// Calls for each wait, beyond those without.
    calls: f64,
}

impl Pair {
    fn of(record: &Record, with: &str, without: &str) -> Option<Pair> {
        let mut samples = BTreeMap::<At, Vec<Sample>>::new();
        let (mut calls, mut counted) = ([(0, 0); 2], true);
        for cell in record.cells_of(without) {
            let other = record.cell(with, cell.idle, cell.load);
            let costs = cell.timed().filter_map(cost).collect::<Vec<_>>();
            let Some(typical) = stats::median(&costs) else { continue };
            for trial in cell.timed() {
                let Some(twin) = other.timed().find(|twin| twin.round == trial.round) else { continue };
                let Some((cost, twins)) = cost(trial).zip(cost(twin)) else { continue };
                let sample = Sample { delta: twins - cost, cost: typical };
                samples.entry((trial.round, cell.idle)).or_default().push(sample);
                for ((all, waits), trial) in calls.iter_mut().zip([trial, twin]) {
                    (*all, *waits) = (*all + trial.ledger.wait_calls, *waits + trial.ledger.waits);
                    counted &= !trial.ledger.derived;
                }
            }
        }
        let [without, with] = calls.map(|(calls, waits)| calls as f64 / (waits as f64).max(1.0));
        (!samples.is_empty()).then_some(Pair { label: String::new(), samples, counted, calls: with - without })
    }

    /// Half way among what `of` says of its samples.
    fn typical(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let all = self.samples.values().flatten().map(of).collect::<Vec<_>>();
        stats::median(&all).expect("a pair has samples")
    }

    fn delta(&self) -> f64 {
        self.typical(|sample| sample.delta)
    }

    /// By how much it is off that, as a part of what a request costs (a).
    fn gap(&self, common: f64) -> f64 {
        self.typical(|sample| (sample.delta - common) / sample.cost)
    }

    /// Where its delta may lie, by its visits drawn anew; none of a single one.
    fn interval(&self, rng: &mut Rng) -> Option<Interval> {
        let visits = self.samples.values().collect::<Vec<_>>();
        if visits.len() < 2 {
            return None;
        }
        let drawn = (0..DRAWS).filter_map(|_| {
            let drawn = (0..visits.len()).flat_map(|_| visits[rng.usize(..visits.len())]);
            stats::median(&drawn.map(|sample| sample.delta).collect::<Vec<_>>())
        });
        let drawn = drawn.collect::<Vec<_>>();
        Some(Interval {
            low: stats::quantile(&drawn, CHANCE / 2.0)?,
            high: stats::quantile(&drawn, 1.0 - CHANCE / 2.0)?,
        })
    }
}

/// What a request cost, as far as the clock of CPU time has seen it.
fn cost(trial: &Trial) -> Option<f64> {
    trial.request_ns().filter(|cost| *cost > 0.0)
}

/// One gate for each deadline: how far what it costs the pollers is apart, as a part of how far noise alone puts them.
pub(in crate::measure) fn deadlines(subjects: &[Subject], record: &Record) -> Vec<Gate> {
    let seconds = |subject: &Subject| subject.knobs().idle_deadline;
    let mut all = subjects.iter().filter_map(seconds).collect::<Vec<_>>();
    all.sort_unstable();
    all.dedup();
    let control = subjects.iter().find(|subject| subject.is_control()).and_then(|control| {
        let twin = subjects.iter().find(|one| one.again() == *control && !one.is_control())?;
        Pair::of(record, &control.label(), &twin.label())
    });
    let gate = |seconds: u64| {
        let mut pairs = Vec::new();
        for with in subjects.iter().filter(|one| one.knobs().idle_deadline == Some(seconds) && !one.is_control()) {
            let without = with.without_deadline();
            let pair = Pair::of(record, &with.label(), &without.label());
            let raw = with.mechanism().is_some_and(|mechanism| mechanism.trigger().is_some());
            pairs.extend(pair.map(|pair| {
                let counted = pair.counted && raw;
                Pair { label: without.label(), counted, ..pair }
            }));
        }
        judge(seconds, &pairs, control.as_ref(), record.seed)
    };
    all.into_iter().map(gate).collect()
}

fn judge(seconds: u64, pairs: &[Pair], control: Option<&Pair>, seed: u64) -> Gate {
    let mut rng = Rng::with_seed(seed);
    let (raw, beside): (Vec<_>, Vec<_>) = pairs.iter().partition(|pair| pair.counted);
    let found = |pair: &&Pair, rng: &mut Rng| {
        let interval = pair.interval(rng).map(|ends| [ends.low, ends.high]);
        let (subject, delta_ns, calls_per_wait) = (pair.label.clone(), pair.delta(), pair.calls);
        DeadlineCost { subject, compared: pair.counted, delta_ns, interval, calls_per_wait }
    };
    let costs = raw.iter().chain(&beside).map(|pair| found(pair, &mut rng)).collect::<Vec<_>>();
    let mut gate = Gate {
        name: format!("what a deadline of {seconds} s costs pollers, apart by so much of what noise alone does"),
        bound: "at most 1".into(),
        deadline_costs: costs,
        ..Gate::default()
    };
    let said = gate.deadline_costs.iter().map(|one| (one.compared, said(one)));
    let (compared, others): (Vec<_>, Vec<_>) = said.partition(|(compared, _)| *compared);
    let [compared, others] =
        [compared, others].map(|all| all.into_iter().map(|one| one.1).collect::<Vec<_>>().join(", "));
    let others = if others.is_empty() { others } else { format!("; beside them: {others}") };
    let visits = control.map_or(0, |control| control.samples.len());
    gate.explanation = match control {
        _ if raw.len() < 2 => "it takes two pollers, with and without, in the same rounds".to_owned(),
        Some(control) if visits >= 2 => {
            let common = common(&raw);
            let (apart, noise) = (spread(&raw, common), noise(&raw, control, &mut rng));
            if noise <= 0.0 {
                gate.explanation = format!("the control never differed from its twin: {COARSE}");
                return gate;
            }
            gate.value = Some(apart / noise);
            gate.verdict = if apart <= noise { Verdict::Pass } else { Verdict::Fail };
            let apart = format!(
                "{:.1} % of what a request costs apart; noise alone, by the control, puts so many rows up to {:.1} % apart in \
                 95 of 100 measurements",
                100.0 * apart,
                100.0 * noise
            );
            let why =
                if gate.verdict == Verdict::Fail { excuse(&raw, common, noise, &mut gate) } else { String::new() };
            format!("for each request {compared}: {apart}{why}{others}")
        }
        _ => "the control was not seen twice beside its twin, so how much is noise is not known".to_owned(),
    };
    gate
}

/// What all have in common: half of them have more.
fn common(pairs: &[&Pair]) -> f64 {
    let deltas = pairs.iter().map(|pair| pair.delta()).collect::<Vec<_>>();
    stats::median(&deltas).unwrap_or(0.0)
}

/// From the least gap to the most.
fn spread(pairs: &[&Pair], common: f64) -> f64 {
    range(pairs.iter().map(|pair| pair.gap(common)))
}

fn range(values: impl Iterator<Item = f64>) -> f64 {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), one| (low.min(one), high.max(one)));
    (high - low).max(0.0)
}

/// How far apart as many rows, each seen as often, are of which none differs (b): seldom more.
fn noise(pairs: &[&Pair], control: &Pair, rng: &mut Rng) -> f64 {
    let part = |sample: &Sample| sample.delta / sample.cost;
    let visits = control.samples.values().map(|visit| visit.iter().map(part).collect::<Vec<_>>()).collect::<Vec<_>>();
    let draw = |pair: &&Pair, rng: &mut Rng| {
        let mut drawn = Vec::new();
        for _ in 0..pair.samples.len() {
            // Which of two equals is the control is chance as well.
            let sign = if rng.bool() { 1.0 } else { -1.0 };
            drawn.extend(visits[rng.usize(..visits.len())].iter().map(|one| sign * one));
        }
        stats::median(&drawn).unwrap_or(0.0)
    };
    let ranges = (0..DRAWS).map(|_| range(pairs.iter().map(|pair| draw(pair, rng)))).collect::<Vec<_>>();
    let seldom = stats::quantile(&ranges, 1.0 - CHANCE).unwrap_or(0.0);
    // What was drawn from knows less of the scatter, the fewer visits there were.
    let (visits, freedom) = (visits.len() as f64, visits.len() as f64 - 1.0);
    seldom * (visits / freedom).sqrt() * critical(CHANCE, freedom) / KNOWN
}

/// A row that its own rounds do not tell from the others is no finding, however steady the control was: without those, is
/// it met? Then it is explained.
fn excuse(pairs: &[&Pair], common: f64, noise: f64, gate: &mut Gate) -> String {
    let covers = |pair: &&Pair| {
        let told = gate.deadline_costs.iter().find(|one| one.compared && one.subject == pair.label);
        told.and_then(|one| one.interval).is_some_and(|[low, high]| low <= common && common <= high)
    };
    let (unsure, sure): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().copied().partition(covers);
    // What is sure is held against what all have in common, which has no gap.
    let far = range(sure.iter().map(|pair| pair.gap(common)).chain([0.0]));
    let names = |pairs: &[&Pair]| {
        let most = pairs.iter().map(|pair| pair.gap(common).abs()).fold(0.0, f64::max);
        let off = pairs.iter().filter(|pair| pair.gap(common).abs() >= most.min(noise / 2.0));
        off.map(|pair| pair.label.as_str()).collect::<Vec<_>>().join(", ")
    };
    if far > noise {
        return format!(
            "; off are {}: from {common:.0} ns, which all have in common, by more than their own rounds scatter",
            names(&sure)
        );
    }
    gate.verdict = Verdict::Explained;
    format!(
        "; but off are {}, which scatter more than the control: by their own rounds theirs may be {common:.0} ns, which all \
         have in common",
        names(&unsure)
    )
}

/// `epoll +31 ns (-20 to 80)`, and calls, where it makes more.
fn said(one: &DeadlineCost) -> String {
    let interval = one.interval.map_or(String::new(), |[low, high]| format!(" ({low:+.0} to {high:+.0})"));
    let calls = match one.calls_per_wait {
        calls if calls.abs() < 0.01 => String::new(),
        calls => format!(" and {calls:+.2} calls a wait"),
    };
    format!("{} {:+.0} ns{interval}{calls}", one.subject, one.delta_ns)
}

#[cfg(test)]
mod tests {
    use pollmark_backends::Registry;

    use super::*;
    use crate::child::Knobs;
    use crate::measure::Host;
    use crate::measure::record::{Ledger, Settings};
    use crate::mechanism::Mechanism;

    const SECONDS: u64 = 60;
    const ROWS: [(&str, f64); 4] =
        [("poll", 9_000.0), ("select", 8_000.0), ("threads", 6_000.0), ("polling", 12_000.0)];

    fn subjects() -> Vec<Subject> {
        let registry = Registry::builtin();
        let mut subjects = Vec::new();
        for (name, _) in ROWS {
            let subject = Subject::new(Mechanism::parse(&registry, name).expect("known"));
            subjects.push(subject.set_to(Knobs { idle_deadline: Some(SECONDS), ..Knobs::NONE }));
            subjects.push(subject);
        }
        let control = subjects[1].again();
        subjects.push(control);
        subjects
    }

    /// A record in which each row costs what it does and a deadline 30 ns more, times a noise of so much; and another of a
    /// row on top of it.
    fn record(noise: f64, seed: u64, more: impl Fn(&str) -> f64) -> Record {
        let mut record = Record::begin(Vec::new(), seed, Host::default(), Settings::default());
        let mut rng = Rng::with_seed(seed);
        for (round, idle) in (0..5).flat_map(|round| [0, 1_000].map(|idle| (round, idle))) {
            for subject in subjects() {
                let name = subject.mechanism().expect("ours").to_string();
                let cost = ROWS.iter().find(|row| row.0 == name).expect("a row").1 + f64::from(idle);
                let with = if subject.knobs().idle_deadline.is_some() { 30.0 + more(&name) } else { 0.0 };
                for active in [10, 100] {
                    let scatter = 1.0 + noise * ((0..12).map(|_| rng.f64()).sum::<f64>() - 6.0);
                    record.trials.push(Trial {
                        round,
                        idle,
                        active,
                        subject: subject.label(),
                        requests: 1_000,
                        server_cpu_ns: Some((1_000.0 * (cost + with) * scatter) as u64),
                        ledger: Ledger { waits: 500, wait_calls: 500, ..Ledger::default() },
                        ..Trial::default()
                    });
                }
            }
        }
        record
    }

    fn gate(record: &Record) -> Gate {
        let mut gates = deadlines(&subjects(), record);
        assert_eq!(gates.len(), 1);
        gates.remove(0)
    }

    #[test]
    fn a_deadline_that_costs_all_as_much_passes_whatever_they_cost_and_one_that_costs_one_of_them_more_does_not() {
        let met = |seeds: u64, more: fn(&str) -> f64| {
            (0..seeds).filter(|seed| gate(&record(0.02, *seed, more)).verdict == Verdict::Pass).count()
        };
        let alike = met(16, |_| 0.0);
        assert!(alike >= 14, "5 % of 16 are one: {alike}");
        // As much as a timerfd_settime(2) in each wait of one of them.
        let planted = met(8, |name| if name == "select" { 700.0 } else { 0.0 });
        assert_eq!(planted, 0);
        let another_way = met(2, |name| if name == "threads" { 5_000.0 } else { 0.0 });
        assert_eq!(another_way, 2, "threads have no poller");
    }

    #[test]
    fn what_a_deadline_costs_is_told_of_each_and_of_what_makes_calls_for_it() {
        let mut record = record(0.001, 3, |_| 0.0);
        for trial in record.trials.iter_mut().filter(|trial| trial.subject == "polling 60 s idle deadline") {
            trial.ledger = Ledger { wait_calls: 1_500, derived: true, ..trial.ledger };
        }
        let gate = gate(&record);
        let told = |name: &str| gate.deadline_costs.iter().find(|one| one.subject == name).expect("a row");
        for (name, _) in ROWS {
            let one = told(name);
            let [low, high] = one.interval.expect("ten visits");
            assert!((one.delta_ns - 30.0).abs() < 15.0 && low <= one.delta_ns && one.delta_ns <= high, "{one:?}");
            assert_eq!(one.compared, matches!(name, "poll" | "select"), "{one:?}");
        }
        assert_eq!((told("poll").calls_per_wait, told("polling").calls_per_wait), (0.0, 2.0));
        assert!(
            gate.explanation.contains("; beside them: threads ") || gate.explanation.contains(", threads "),
            "{gate:?}"
        );
        assert!(gate.explanation.contains("and +2.00 calls a wait"), "{gate:?}");
    }

    #[test]
    fn a_row_that_its_own_rounds_do_not_tell_from_the_others_is_explained_and_one_that_is_off_in_all_of_them_fails() {
        let off = |by: fn(u32) -> f64| {
            let mut record = record(0.001, 5, |_| 0.0);
            let rows = record.trials.iter_mut().filter(|trial| trial.subject.starts_with("select 60 s"));
            rows.for_each(|trial| {
                trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| (cpu as f64 * by(trial.round)) as u64);
            });
            gate(&record)
        };
        let scattered = off(|round| if round < 3 { 1.2 } else { 0.8 });
        assert_eq!(scattered.verdict, Verdict::Explained, "{scattered:?}");
        assert!(scattered.value.is_some_and(|value| value > 1.0), "{scattered:?}");
        assert!(scattered.explanation.contains("off are select, which scatter more"), "{scattered:?}");
        let steady = off(|_| 1.2);
        assert_eq!(steady.verdict, Verdict::Fail, "{steady:?}");
        assert!(steady.explanation.contains("; off are select: from 30 ns"), "{steady:?}");
    }

    #[test]
    fn without_a_second_poller_or_a_control_or_a_clock_there_is_no_verdict() {
        let unavailable = |record: &Record, why: &str| {
            let gate = gate(record);
            assert_eq!((gate.verdict, gate.value), (Verdict::Unavailable, None), "{gate:?}");
            assert!(gate.explanation.contains(why), "{gate:?}");
        };
        let without = |of: fn(&Trial) -> bool| {
            let mut record = record(0.01, 7, |_| 0.0);
            record.trials.retain(|trial| !of(trial));
            record
        };
        unavailable(&without(|trial| !trial.subject.starts_with("poll ") && trial.subject != "poll"), "two pollers");
        unavailable(&without(|trial| trial.subject.ends_with("(A/A)")), "the control was not seen");
        unavailable(&without(|trial| trial.round > 0 || trial.idle > 0), "the control was not seen");
        unavailable(&record(0.0, 7, |_| 0.0), "too coarse");
        let mut void = record(0.01, 7, |_| 0.0);
        let of_select = void.trials.iter_mut().filter(|trial| trial.subject == "select");
        of_select.for_each(|trial| trial.void = Some("a wrong byte".into()));
        assert!(gate(&void).deadline_costs.iter().all(|one| one.subject != "select"), "what is void tells nothing");
        assert!(deadlines(&[subjects().remove(1)], &void).is_empty(), "no deadline, no gate");
    }
}
