//! The shape of cost: how what a wait costs grows with the connections it watches, checked against what each
//! mechanism says of itself.
//!
//! What a scan finds at each descriptor is the kernel's: to look at a connection takes more of its memory than to look at
//! a pipe, and what does not fit the caches of a host any more costs more each. So a scan that has grown too fast over
//! connections is repeated over as many pipes. If it is in proportion there, the mechanism is, and the connections are not.

mod alike;
mod deadlines;

use pollmark_backends::{Growth, Registry};

use super::plan::Subject;
use super::record::{Gate, Record, Scan, Trial, Verdict};
use super::stats;
use crate::exercise::{Exercise, Wait};
use crate::mechanism::Mechanism;
pub(super) use alike::{all_active, payload};
pub(super) use deadlines::deadlines;

/// In proportion, but for what a wait costs beside the scan.
const PROPORTIONAL: (f64, f64) = (0.85, 1.15);
const FLAT: (f64, f64) = (-0.15, 0.15);

/// How often it is gone over the pipes of each number.
const PASSES: usize = 3;

/// Goes over so many pipes and one that is not empty, by this mechanism.
pub(super) type GoOver<'a> = dyn FnMut(&Mechanism, u32) -> Result<Scan, String> + 'a;

/// One gate for each subject: the log-log slope of server CPU for each wait over the connections watched. Where pollers
/// are alone, one for each exercise. What has grown too fast goes over pipes.
pub(super) fn growth(
    subjects: &[Subject],
    registry: &Registry,
    record: &Record,
    go_over: &mut GoOver<'_>,
) -> Vec<Gate> {
    let alone = record.settings.exercises.iter().copied().map(Some);
    let exercises = if record.settings.exercises.is_empty() { vec![None] } else { alone.collect::<Vec<_>>() };
    let mut gates = Vec::new();
    for subject in subjects {
        let Some(growth) = growth_of(subject, registry) else { continue };
        gates.extend(exercises.iter().map(|exercise| {
            let mut gate = gate(&subject.label(), growth, *exercise, record);
            let scans = growth != Growth::Ready && exercise.is_none();
            if let Some(mechanism) = subject.mechanism().filter(|_| scans && grew_too_fast(&gate)) {
                explain(&mut gate, &record.settings.idle, |idle| go_over(mechanism, idle));
            }
            gate
        }));
    }
    gates
}

fn grew_too_fast(gate: &Gate) -> bool {
    gate.verdict == Verdict::Fail && gate.value.is_some_and(|slope| slope > PROPORTIONAL.1)
}

/// Holds what has grown too fast against the same over pipes.
fn explain(gate: &mut Gate, idle: &[u32], mut go_over: impl FnMut(u32) -> Result<Scan, String>) {
    let scans = idle.repeat(PASSES).into_iter().map(&mut go_over).collect::<Result<Vec<_>, _>>();
    gate.over_pipes = match scans {
        Ok(scans) => scans,
        Err(why) => {
            gate.explanation += &format!("; whether it is so over pipes, too, is not known: {why}");
            return;
        }
    };
    let cost = |idle: u32| {
        let of_size = gate.over_pipes.iter().filter(|scan| scan.watched == idle + 1 && scan.waits > 0);
        let costs = of_size.map(|scan| scan.cpu_ns as f64 / scan.waits as f64).collect::<Vec<_>>();
        Some((f64::from(idle + 1), stats::median(&costs)?))
    };
    let points = idle.iter().copied().filter_map(cost).collect::<Vec<_>>();
    let Some(slope) = stats::log_log_slope(&points) else { return };
    let seen = seen(&points);
    let (low, high) = PROPORTIONAL;
    gate.explanation += &if (low..=high).contains(&slope) {
        gate.verdict = Verdict::Explained;
        format!(
            "; over as many pipes the slope is {slope:.2} ({seen}), so the scan is in proportion, and what bends is \
             what it costs to look at a connection: that takes more of the kernel's memory than the caches hold of so many"
        )
    } else {
        format!("; over as many pipes the slope is {slope:.2} ({seen}), so it is not the connections alone")
    };
}

/// Points in words.
fn seen(points: &[(f64, f64)]) -> String {
    let seen = points.iter().map(|(watched, nanos)| format!("{:.1} µs at {watched:.0}", nanos / 1e3));
    seen.collect::<Vec<_>>().join(", ")
}

/// One gate for each subject that scans: what a wait costs that spins, as a part of what one costs that sleeps, at the
/// largest number of descriptors. A sleeping one goes over them three times: to register, to find, to take itself out.
pub(super) fn spinning(subjects: &[Subject], registry: &Registry, record: &Record) -> Vec<Gate> {
    let scans = |subject: &&Subject| growth_of(subject, registry).is_some_and(|growth| growth != Growth::Ready);
    subjects.iter().filter(scans).filter_map(|subject| spins_cheaper(&subject.label(), record)).collect()
}

fn growth_of(subject: &Subject, registry: &Registry) -> Option<Growth> {
    // What a contestant's would be nobody has said.
    Some(subject.mechanism()?.probe(registry).ok()??.growth)
}

fn spins_cheaper(label: &str, record: &Record) -> Option<Gate> {
    let of_wait = |wait: Wait| record.settings.exercises.iter().find(|exercise| exercise.wait == wait).copied();
    let at_most =
        |exercise: Exercise| points(label, Some(exercise), record).pop().filter(|(watched, _)| *watched > 0.0);
    let (spinning, sleeping) = (of_wait(Wait::Spinning)?, of_wait(Wait::Sleeping)?);
    let found = at_most(spinning).zip(at_most(sleeping)).filter(|((some, _), (others, _))| some == others);
    Some(Gate {
        name: format!("{label}: CPU of a wait that spins over that of one that sleeps"),
        value: found.map(|((_, spinning), (_, sleeping))| spinning / sleeping),
        bound: "below 1".into(),
        verdict: match found {
            None => Verdict::Unavailable,
            Some(((_, spinning), (_, sleeping))) if spinning < sleeping => Verdict::Pass,
            Some(_) => Verdict::Fail,
        },
        explanation: match found {
            None => "no trial of each counts at the same number of descriptors".into(),
            Some(((watched, spinning), (_, sleeping))) => {
                let [spinning, sleeping] = [spinning, sleeping].map(|nanos| nanos / 1e3);
                format!(
                    "median CPU per wait, {spinning:.1} µs and {sleeping:.1} µs at {watched:.0} watched descriptors"
                )
            }
        },
        ..Gate::default()
    })
}

fn gate(label: &str, growth: Growth, exercise: Option<Exercise>, record: &Record) -> Gate {
    let (low, high) = match growth {
        Growth::Ready => FLAT,
        Growth::Registered | Growth::HighestNumber => PROPORTIONAL,
    };
    let points = points(label, exercise, record);
    // Through fewer points than were asked for a line proves nothing.
    let slope = (points.len() >= record.settings.idle.len().max(2)).then(|| stats::log_log_slope(&points)).flatten();
    let verdict = match slope {
        None => Verdict::Unavailable,
        Some(slope) if (low..=high).contains(&slope) => Verdict::Pass,
        Some(_) => Verdict::Fail,
    };
    let seen = seen(&points);
    let (of, watched) = match exercise {
        None => (String::new(), "connections"),
        Some(exercise) => (format!(" ({exercise})"), "descriptors"),
    };
    Gate {
        name: format!("{label}{of}: growth of CPU per wait, {growth}"),
        value: slope,
        bound: format!("{low} to {high}"),
        verdict,
        explanation: match seen.is_empty() {
            true => "no trial counts".into(),
            false => format!("log-log slope of the median server CPU per wait: {seen} watched {watched}"),
        },
        ..Gate::default()
    }
}

/// What was watched, ascending, and the median over the rounds of what a wait cost.
fn points(label: &str, exercise: Option<Exercise>, record: &Record) -> Vec<(f64, f64)> {
    let per_wait = |trial: &Trial| {
        let waits = trial.ledger.waits;
        trial.server_cpu_ns.filter(|_| waits > 0).map(|cpu| cpu as f64 / waits as f64)
    };
    let cells = record.cells_of(label);
    let point = |idle: u32| {
        // Ascending by load: the least.
        let cell = cells.iter().find(|cell| cell.idle == idle && cell.load.exercise == exercise)?;
        let costs = cell.timed().filter_map(per_wait).collect::<Vec<_>>();
        Some((f64::from(idle) + f64::from(cell.load.active), stats::median(&costs)?))
    };
    record.settings.idle.iter().filter_map(|idle| point(*idle)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Host;
    use crate::measure::record::{Ledger, Settings};

    const IDLE: [u32; 4] = [1_000, 2_000, 4_500, 9_000];

    /// A record in which a wait at `idle` costs what `cost` says.
    fn record(cost: impl Fn(u32) -> u64) -> Record {
        let settings = Settings { idle: IDLE.to_vec(), ..Settings::default() };
        let mut record = Record::begin(Vec::new(), 1, Host::default(), settings);
        for (round, idle) in (0..3).flat_map(|round| IDLE.map(|idle| (round, idle))) {
            record.trials.push(Trial {
                round,
                subject: "mine".into(),
                idle,
                active: 1,
                server_cpu_ns: Some(10 * cost(idle)),
                ledger: Ledger { waits: 10, ..Ledger::default() },
                ..Trial::default()
            });
        }
        record
    }

    #[test]
    fn a_scan_passes_as_a_scan_and_fails_as_a_queue() {
        let scan = record(|idle| 5_000 + 100 * u64::from(idle));
        assert_eq!(gate("mine", Growth::Registered, None, &scan).verdict, Verdict::Pass);
        assert_eq!(gate("mine", Growth::Ready, None, &scan).verdict, Verdict::Fail);
    }

    #[test]
    fn a_queue_passes_as_a_queue_and_fails_as_a_scan() {
        let queue = record(|idle| 6_000 + u64::from(idle) / 100);
        assert_eq!(gate("mine", Growth::Ready, None, &queue).verdict, Verdict::Pass);
        assert_eq!(gate("mine", Growth::HighestNumber, None, &queue).verdict, Verdict::Fail);
    }

    #[test]
    fn a_void_size_makes_the_gate_unavailable_and_not_passed() {
        let mut record = record(|_| 6_000);
        for trial in record.trials.iter_mut().filter(|trial| trial.idle == 2_000 && trial.round == 1) {
            trial.void = Some("a wrong byte".into());
        }
        assert_eq!(gate("mine", Growth::Ready, None, &record).verdict, Verdict::Unavailable);
        assert_eq!(gate("another", Growth::Ready, None, &record).verdict, Verdict::Unavailable);
    }

    /// A gate not met, because what was watched has outgrown something from 4,500 on.
    fn bent() -> Gate {
        let bent = record(|idle| u64::from(idle) * if idle > 4_500 { 600 } else { 250 });
        let gate = gate("mine", Growth::Registered, None, &bent);
        assert!(grew_too_fast(&gate), "{gate:?}");
        gate
    }

    /// What `cost` a wait has over pipes.
    fn over_pipes(cost: impl Fn(u64) -> u64) -> impl FnMut(u32) -> Result<Scan, String> {
        move |idle| {
            let watched = idle + 1;
            Ok(Scan { watched, waits: 10, cpu_ns: 10 * cost(u64::from(watched)) })
        }
    }

    #[test]
    fn a_bend_over_connections_is_explained_by_none_over_pipes() {
        let mut gate = bent();
        explain(&mut gate, &IDLE, over_pipes(|watched| 20_000 + 200 * watched));
        assert_eq!(gate.verdict, Verdict::Explained, "{gate:?}");
        assert_eq!(gate.over_pipes.len(), PASSES * IDLE.len());
        assert!(gate.explanation.contains("over as many pipes the slope is 0.9"), "{gate:?}");
    }

    #[test]
    fn a_scan_that_bends_over_pipes_too_is_not_explained_nor_one_that_could_not_go_over_them() {
        let mut gate = bent();
        explain(&mut gate, &IDLE, over_pipes(|watched| watched * watched));
        assert_eq!(gate.verdict, Verdict::Fail, "{gate:?}");
        assert!(gate.explanation.ends_with("so it is not the connections alone"), "{gate:?}");

        let mut gate = bent();
        explain(&mut gate, &IDLE, |_| Err("no descriptors".to_owned()));
        assert_eq!((gate.verdict, gate.over_pipes.len()), (Verdict::Fail, 0), "{gate:?}");
        assert!(gate.explanation.ends_with("is not known: no descriptors"), "{gate:?}");
    }

    #[test]
    fn only_what_scans_and_grew_too_fast_goes_over_pipes() {
        let registry = Registry::builtin();
        let mechanism = |name| Mechanism::parse(&registry, name).expect("it is everywhere");
        let subjects = [Subject::new(mechanism("poll")), Subject::new(mechanism("select"))];
        let mut record = record(|idle| u64::from(idle) * u64::from(idle));
        record.trials.iter_mut().for_each(|trial| trial.subject = "poll".into());
        let mut gone = Vec::new();
        let gates = growth(&subjects, &registry, &record, &mut |mechanism, idle| {
            gone.push((mechanism.to_string(), idle));
            Err("seen".to_owned())
        });
        assert_eq!(gates.iter().map(|gate| gate.verdict).collect::<Vec<_>>(), [Verdict::Fail, Verdict::Unavailable]);
        assert_eq!(gone, [("poll".to_owned(), 1_000)], "the first refusal is the last question");
    }

    /// A poller alone, by waits that spin and waits that sleep.
    fn alone(spinning: u64, sleeping: u64) -> Record {
        let mut record = record(u64::from);
        let exercises = [Wait::Spinning, Wait::Sleeping].map(|wait| Exercise { wait, ..Exercise::default() });
        let of = |trial: &Trial| {
            exercises.map(|exercise| Trial {
                exercise: Some(exercise),
                server_cpu_ns: trial.server_cpu_ns.map(|cpu| match exercise.wait {
                    Wait::Sleeping => cpu * sleeping,
                    _ => cpu * spinning,
                }),
                ..trial.clone()
            })
        };
        record.trials = record.trials.iter().flat_map(of).collect();
        record.settings.exercises = exercises.to_vec();
        record
    }

    #[test]
    fn spinning_is_held_against_sleeping_and_each_grows_by_itself() {
        let verdict = |spinning, sleeping| spins_cheaper("mine", &alone(spinning, sleeping)).expect("both").verdict;
        assert_eq!((verdict(100, 300), verdict(300, 100)), (Verdict::Pass, Verdict::Fail));
        let mut record = alone(100, 300);
        let found = spins_cheaper("mine", &record).expect("both");
        assert_eq!(found.value, Some(1.0 / 3.0), "{found:?}");
        for exercise in record.settings.exercises.clone() {
            let gate = gate("mine", Growth::Registered, Some(exercise), &record);
            assert_eq!(gate.verdict, Verdict::Pass, "{gate:?}");
            assert!(gate.name.contains(&exercise.to_string()), "{gate:?}");
        }
        let sleeps = |trial: &Trial| trial.exercise.is_some_and(|exercise| exercise.wait == Wait::Sleeping);
        record.trials.retain(|trial| !sleeps(trial) || trial.idle != 9_000);
        assert_eq!(spins_cheaper("mine", &record).expect("both").verdict, Verdict::Unavailable);
    }
}
