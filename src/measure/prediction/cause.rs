//! What is known to make a prediction miss.

use super::{ANOMALY, Basis, Counts, Explained, Part};
use crate::measure::stats::Interval;

/// A part of all that is worth being named as the cause.
const MUCH: f64 = 0.4;
/// The hypervisor took more than this part of the CPU time there was.
const STOLEN: f64 = 0.05;

/// Whichever of it is here: the first that applies.
pub(super) fn of(explained: &Explained, counts: &Counts, basis: &Basis, received: f64) -> Option<String> {
    let predicted = explained.predicted_ns().max(f64::MIN_POSITIVE);
    let is_much = |part: Part| explained.share(part).ns() / predicted.max(explained.measured_ns) > 0.5 * MUCH;
    let within = |one: Interval| {
        (1.0 - ANOMALY) * one.low <= explained.measured_ns && explained.measured_ns <= (1.0 + ANOMALY) * one.high
    };
    if let Basis::Waiting(units, _) = basis
        && counts.watched > 1.2 * units.scan.most()
        && is_much(Part::Scanning)
    {
        let (watched, most) = (counts.watched, units.scan.most());
        return Some(format!(
            "it goes over {watched:.0} descriptors, and the calibration had {most:.0}: what more do to the caches was not seen"
        ));
    }
    if counts.steal_ns > STOLEN * counts.duration_ns {
        let share = 100.0 * counts.steal_ns / counts.duration_ns;
        return Some(format!("the hypervisor took the CPU for {share:.0} % of the time"));
    }
    if matches!(basis, Basis::Blocking(..)) && counts.active > 1.0 {
        return Some(
            "its threads take the CPU from each other, and the calibration only has one that finds it free".to_owned(),
        );
    }
    if explained.interval.is_some_and(within) {
        return Some("the rounds of the calibration differ by as much".to_owned());
    }
    let switches = explained.share(Part::Sleeping).ns() + explained.share(Part::Waking).ns();
    if switches > MUCH * predicted {
        return Some(
            "most of it is sleeping and waking, and what that costs depends on how long and how deep a CPU has slept"
                .to_owned(),
        );
    }
    let largest = match basis {
        Basis::Waiting(units, _) => units.shared.largest,
        Basis::Blocking(shared, _) => shared.largest,
        Basis::None => f64::INFINITY,
    };
    if received > 2.0 * largest {
        return Some(format!("a receive brings {received:.0} bytes here, and at most {largest:.0} in the calibration"));
    }
    if is_much(Part::Scanning) {
        return Some("going over so many descriptors leaves little of anything else in the caches".to_owned());
    }
    if is_much(Part::Connections) {
        return Some("connections come and go: options set and sockets made and unmade are not calibrated".to_owned());
    }
    None
}
