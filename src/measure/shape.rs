//! The shape of cost: how what a wait costs grows with the connections it watches, checked against what each
//! mechanism says of itself.

use pollmark_backends::{Growth, Registry};

use super::plan::Subject;
use super::record::{Gate, Record, Trial, Verdict};
use super::stats;
use crate::exercise::{Exercise, Wait};

/// In proportion, but for what a wait costs beside the scan.
const PROPORTIONAL: (f64, f64) = (0.85, 1.15);
const FLAT: (f64, f64) = (-0.15, 0.15);

/// One gate for each subject: the log-log slope of server CPU for each wait over the connections watched. Where pollers
/// are alone, one for each exercise.
pub(super) fn growth(subjects: &[Subject], registry: &Registry, record: &Record) -> Vec<Gate> {
    let alone = record.settings.exercises.iter().copied().map(Some);
    let exercises = if record.settings.exercises.is_empty() { vec![None] } else { alone.collect::<Vec<_>>() };
    let mut gates = Vec::new();
    for subject in subjects {
        let Some(growth) = growth_of(subject, registry) else { continue };
        gates.extend(exercises.iter().map(|exercise| gate(&subject.label(), growth, *exercise, record)));
    }
    gates
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
    let seen = points.iter().map(|(watched, nanos)| format!("{:.1} µs at {watched:.0}", nanos / 1e3));
    let seen = seen.collect::<Vec<_>>().join(", ");
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
