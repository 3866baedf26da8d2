//! The shape of cost: how what a wait costs grows with the connections it watches, checked against what each
//! mechanism says of itself.

use pollmark_backends::{Growth, Registry};

use super::plan::Subject;
use super::record::{Gate, Record, Trial, Verdict};
use super::stats;

/// The idle populations a slope is drawn through.
pub(super) const IDLE: [usize; 4] = [1_000, 2_000, 4_500, 9_000];

/// In proportion, but for what a wait costs beside the scan.
const PROPORTIONAL: (f64, f64) = (0.85, 1.15);
const FLAT: (f64, f64) = (-0.15, 0.15);

/// One gate for each subject: the log-log slope of server CPU for each wait over the connections watched.
pub(super) fn gates(subjects: &[Subject], registry: &Registry, record: &Record) -> Vec<Gate> {
    let growth =
        |subject: &Subject| subject.mechanism().probe(registry).ok().flatten().map(|capabilities| capabilities.growth);
    subjects.iter().filter_map(|subject| Some(gate(&subject.label(), growth(subject)?, record))).collect()
}

fn gate(label: &str, growth: Growth, record: &Record) -> Gate {
    let (low, high) = match growth {
        Growth::Ready => FLAT,
        Growth::Registered | Growth::HighestNumber => PROPORTIONAL,
    };
    let points = points(label, record);
    // Through fewer points than were asked for a line proves nothing.
    let slope = (points.len() >= IDLE.len()).then(|| stats::log_log_slope(&points)).flatten();
    let verdict = match slope {
        None => Verdict::Unavailable,
        Some(slope) if (low..=high).contains(&slope) => Verdict::Pass,
        Some(_) => Verdict::Fail,
    };
    let seen = points.iter().map(|(watched, nanos)| format!("{:.1} µs at {watched:.0}", nanos / 1e3));
    let seen = seen.collect::<Vec<_>>().join(", ");
    Gate {
        name: format!("{label}: growth of CPU per wait, {growth}"),
        value: slope,
        bound: format!("{low} to {high}"),
        verdict,
        explanation: match seen.is_empty() {
            true => "no trial counts".into(),
            false => format!("log-log slope of the median server CPU per wait: {seen} watched connections"),
        },
    }
}

/// Watched connections, and the median over the rounds of what a wait cost.
fn points(label: &str, record: &Record) -> Vec<(f64, f64)> {
    let per_wait = |trial: &Trial| {
        let waits = trial.ledger.waits;
        trial.server_cpu_ns.filter(|_| trial.is_timed() && waits > 0).map(|cpu| cpu as f64 / waits as f64)
    };
    let point = |idle: u32| {
        let trials = record.trials.iter().filter(|trial| trial.subject == label && trial.idle == idle);
        let active = trials.clone().map(|trial| trial.active).min()?;
        let costs: Vec<f64> = trials.filter(|trial| trial.active == active).filter_map(per_wait).collect();
        Some((f64::from(idle + active), stats::median(&costs)?))
    };
    record.settings.idle.iter().filter_map(|idle| point(*idle)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Host;
    use crate::measure::record::{Ledger, Settings};

    /// A record in which a wait at `idle` costs what `cost` says.
    fn record(cost: impl Fn(u32) -> u64) -> Record {
        let idle: Vec<u32> = IDLE.iter().map(|&idle| idle as u32).collect();
        let settings = Settings { idle: idle.clone(), ..Settings::default() };
        let mut record = Record::begin(Vec::new(), 1, Host::default(), settings);
        for (round, idle) in (0..3).flat_map(|round| idle.iter().map(move |idle| (round, *idle))) {
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
        assert_eq!(gate("mine", Growth::Registered, &scan).verdict, Verdict::Pass);
        assert_eq!(gate("mine", Growth::Ready, &scan).verdict, Verdict::Fail);
    }

    #[test]
    fn a_queue_passes_as_a_queue_and_fails_as_a_scan() {
        let queue = record(|idle| 6_000 + u64::from(idle) / 100);
        assert_eq!(gate("mine", Growth::Ready, &queue).verdict, Verdict::Pass);
        assert_eq!(gate("mine", Growth::HighestNumber, &queue).verdict, Verdict::Fail);
    }

    #[test]
    fn a_void_size_makes_the_gate_unavailable_and_not_passed() {
        let mut record = record(|_| 6_000);
        for trial in record.trials.iter_mut().filter(|trial| trial.idle == 2_000) {
            trial.void = Some("a wrong byte".into());
        }
        assert_eq!(gate("mine", Growth::Ready, &record).verdict, Verdict::Unavailable);
        assert_eq!(gate("another", Growth::Ready, &record).verdict, Verdict::Unavailable);
    }
}
