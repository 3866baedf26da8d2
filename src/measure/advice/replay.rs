//! The pattern asked of our servers, beside what was predicted of them.

use serde::Serialize;

use super::{Asking, Pattern, predictions};
use crate::measure::prediction::ANOMALY;
use crate::measure::record::{Record, Trial};
use crate::measure::stats::{Estimate, Interval};

/// A mechanism that was asked what the live server was.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Replayed {
    /// The row of the replay.
    pub subject: String,
    /// CPU time of the server for each request, in nanoseconds: half way among the rounds. `None` if it was not measured,
    /// or does not count.
    pub measured_ns: Option<f64>,
    /// Where that lies; `None` from a single round.
    pub interval: Option<Interval>,
    /// What was predicted of it under this load; `None` where there is no model.
    pub predicted_ns: Option<f64>,
    /// What the prediction leaves, as a part of what was measured; below 0 if more was predicted.
    pub residual: Option<f64>,
    /// It came to less than nine tenths of the rate that was seen, so it is no replay of it: either the mechanism cannot
    /// serve that rate, or this host had no CPU time left for it.
    pub fell_short: bool,
    /// Whether that is more than 15 %, to either side, of one that did not fall short.
    pub is_anomaly: bool,
    /// Requests completed each second.
    pub per_second: Option<f64>,
    /// Requests that a wait found.
    pub per_wait: Option<f64>,
    /// Why it was not measured, or does not count.
    pub missing: Option<String>,
}

/// What came of a replay of `pattern`, by the model of `record`: those first that cost least.
pub fn replayed(record: &Record, replay: &Record, pattern: &Pattern) -> Vec<Replayed> {
    let asking = match pattern.exchanges_per_connection {
        Some(_) => Asking::Closed,
        None => Asking::Rate(pattern.per_second),
    };
    let predicted = predictions(record, pattern, asking);
    let of_subject = |subject: &String| {
        let expected = predicted.iter().find(|one| one.subject == *subject).map(|one| one.request_ns);
        measured(replay, subject, expected, asking)
    };
    let mut all = replay.settings.mechanisms.iter().map(of_subject).collect::<Vec<_>>();
    let none = replay.missing.iter().filter(|one| !replay.settings.mechanisms.contains(&one.subject));
    all.extend(none.map(|one| Replayed { missing: Some(one.reason.clone()), ..Replayed::of(&one.subject) }));
    all.sort_by(|one, other| {
        let of = |one: &Replayed| one.measured_ns.unwrap_or(f64::INFINITY);
        of(one).total_cmp(&of(other))
    });
    all
}

impl Replayed {
    fn of(subject: &str) -> Replayed {
        Replayed {
            subject: subject.to_owned(),
            measured_ns: None,
            interval: None,
            predicted_ns: None,
            residual: None,
            fell_short: false,
            is_anomaly: false,
            per_second: None,
            per_wait: None,
            missing: None,
        }
    }
}

/// Less than this part of the rate is not the rate.
const ENOUGH: f64 = 0.9;

fn measured(replay: &Record, subject: &str, predicted_ns: Option<f64>, asking: Asking) -> Replayed {
    let row = Replayed { predicted_ns, ..Replayed::of(subject) };
    let Some(cell) = replay.cells_of(subject).into_iter().next() else {
        return Replayed { missing: Some("it was not measured".to_owned()), ..row };
    };
    if let Some(why) = cell.void() {
        return Replayed { missing: Some(why), ..row };
    }
    let trials = cell.timed().filter(|trial| trial.requests > 0).collect::<Vec<_>>();
    let each = trials.iter().filter_map(|trial| trial.request_ns()).collect::<Vec<_>>();
    let Some(estimate) = Estimate::of(&each, replay.seed) else {
        return Replayed { missing: Some("nothing was due, or its CPU time is not known".to_owned()), ..row };
    };
    let sum = |count: fn(&Trial) -> u64| trials.iter().map(|trial| count(trial) as f64).sum::<f64>();
    let (requests, waits) = (sum(|trial| trial.requests), sum(|trial| trial.ledger.waits));
    let residual = predicted_ns.map(|predicted| 1.0 - predicted / estimate.value);
    let per_second = requests * 1e9 / sum(|trial| trial.duration_ns).max(1.0);
    // Of few requests at random there are fewer in every other round.
    let chance = 1.0 - 3.0 / requests.max(1.0).sqrt();
    let fell_short = matches!(asking, Asking::Rate(rate) if per_second < ENOUGH * chance * rate.round());
    Replayed {
        measured_ns: Some(estimate.value),
        interval: estimate.interval,
        residual,
        fell_short,
        is_anomaly: !fell_short && residual.is_some_and(|residual| residual.abs() > ANOMALY),
        per_second: Some(per_second),
        per_wait: (waits > 0.0).then_some(requests / waits),
        ..row
    }
}
