//! Advice: what each mechanism would cost a server that is asked what a live one was seen to be asked.
//!
//! The cost model was found with loops that are kept busy, or sleep before every request. A live server is between the
//! two, so how many requests a wait of it finds is predicted, too: see `turns.rs`. What the server does with a request
//! beside reading and answering it is no mechanism's, and comes on top.

mod pattern;
mod replay;
mod turns;

use serde::Serialize;

pub use pattern::{Pattern, Unusable};
pub use replay::{Replayed, replayed};

use super::cells::Cell;
use super::fit::{self, Fit, TERMS};
use super::record::{Record, Trial};
use super::stats::Interval;
use super::units::{Asked, Carried, Units};
use crate::observe::{Activity, Owner};
use crate::workload::Transport;
use turns::Turns;

/// How far beyond what was measured the model is still taken to be inside.
const SLACK: f64 = 1.2;

/// All that is known of a live server, and what follows from it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Advice {
    /// The port that was watched.
    pub port: u16,
    /// Whose it is, as far as that is told: of other users' processes it is told to root alone.
    pub owners: Vec<Owner>,
    /// CPU time these used while they were watched, in nanoseconds.
    pub server_cpu_ns: Option<u64>,
    /// What was seen.
    pub activity: Activity,
    /// Connections that the host accepted meanwhile, at all of its ports.
    pub accepted_on_host: Option<u64>,
    /// What that comes to.
    pub pattern: Pattern,
    /// Where the cost model comes from: the path of a record, or `None` for a comparison that was made for it.
    pub record: Option<String>,
    /// When its comparison began.
    pub record_started: String,
    /// What a reader should know before believing the model.
    pub cautions: Vec<String>,
    /// What each mechanism would cost, the cheapest first.
    pub predicted: Vec<Predicted>,
    /// What each did cost that was asked the same, if that was tried.
    pub replayed: Option<Vec<Replayed>>,
}

impl Advice {
    /// CPU time that the server used for each exchange, in nanoseconds, if it is known.
    pub fn server_request_ns(&self) -> Option<f64> {
        let exchanges = self.pattern.per_second * self.activity.window.as_secs_f64();
        self.server_cpu_ns.filter(|_| exchanges > 0.0).map(|used| used as f64 / exchanges)
    }
}

/// What a mechanism would cost.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Predicted {
    /// The row of the record.
    pub subject: String,
    /// CPU time of the server for each request, in nanoseconds.
    pub request_ns: f64,
    /// 95 % of the bootstrap over the rounds, and to either side what the model is off by for half of its trials; `None`
    /// from a single round.
    pub interval: Option<Interval>,
    /// What the rate takes of a CPU: 1 for all of it, and of several that share the connections for each of them.
    pub share: f64,
    /// Requests that a wait would find.
    pub per_wait: f64,
    /// The part of the waits that would sleep.
    pub asleep: f64,
    /// How many requests a second it can serve, where that is fewer than were asked.
    pub most_per_second: Option<f64>,
    /// How far the model is from half of the trials it was made from, as in [`Fit::residual`].
    pub off_by: f64,
    /// Its interval overlaps that of the cheapest.
    pub indistinguishable: bool,
    /// Where this lies outside of what was measured.
    pub beyond: Vec<Beyond>,
}

/// Why a figure goes beyond what the model was made from.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Beyond {
    /// More, or fewer, connections than were watched.
    Connections {
        /// How many there are.
        asked: f64,
        /// The fewest and the most that were watched.
        measured: (f64, f64),
    },
    /// Messages of another size.
    Payload {
        /// Bytes there are.
        asked: u64,
        /// Bytes that were measured.
        measured: u64,
    },
    /// More requests at a wait than were ever found.
    PerWait {
        /// How many there would be.
        asked: f64,
        /// The most that were found.
        measured: f64,
    },
    /// Connections come and go, and the record has no calibration that says what that costs.
    Churn,
}

/// How the requests come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Asking {
    /// So many a second, whatever becomes of them.
    Rate(f64),
    /// Each connection that is active asks as soon as it is answered.
    Closed,
}

/// What each row of `record` for which there is a model would cost, the cheapest first; after all others those that cannot
/// serve the rate, whose requests are cheap because fewer are served, and more of them are found at each wait.
///
/// Servers that wait for one connection each, by a thread for each of them, have no model.
pub fn predict(record: &Record, pattern: &Pattern) -> Vec<Predicted> {
    let mut all = predictions(record, pattern, Asking::Rate(pattern.per_second));
    let falls_short = |one: &Predicted| one.most_per_second.is_some();
    all.sort_by(|one, other| {
        falls_short(one).cmp(&falls_short(other)).then(one.request_ns.total_cmp(&other.request_ns))
    });
    let Some(best) = all.first().cloned() else { return all };
    for one in &mut all {
        // Of what was seen once nothing is told apart.
        let overlap = best.interval.zip(one.interval).is_none_or(|(best, interval)| interval.low <= best.high);
        one.indistinguishable = overlap && falls_short(one) == falls_short(&best);
    }
    all
}

pub(crate) fn predictions(record: &Record, pattern: &Pattern, asking: Asking) -> Vec<Predicted> {
    fit::fits(record).iter().filter_map(|fit| predicted(record, fit, pattern, asking)).collect()
}

fn predicted(record: &Record, fit: &Fit, pattern: &Pattern, asking: Asking) -> Option<Predicted> {
    // What is shared out among several is asked of each by its share.
    let watched = pattern.connections as f64 / fit.pollers;
    let connection = pattern
        .exchanges_per_connection
        .map(|exchanges| connection_ns(record, &fit.subject).map(|each| each / exchanges.max(1) as f64));
    let once = connection.flatten().unwrap_or(0.0);
    // What connections cost is not of the waits, and keeps the loop from them all the same.
    let costs = |[wait, watching, request, sleep]: &[f64; TERMS]| [*wait, *watching, request + once, *sleep];
    let turns = |costs: &[f64; TERMS]| match asking {
        Asking::Rate(per_second) => {
            Some(Turns::at(costs, watched, per_second / fit.pollers / 1e9, pattern.active as f64 / fit.pollers))
        }
        Asking::Closed => Some(Turns::closed(per_wait_nearest(record, &fit.subject, pattern)?)),
    };
    let cost = |costs: &[f64; TERMS]| Some(turns(costs)?.request_ns(costs, watched));
    let best = costs(&fit.costs());
    let (found, request_ns) = (turns(&best)?, cost(&best)?);
    let drawn = fit.drawn().iter().filter_map(|drawn| cost(&costs(drawn))).collect::<Vec<_>>();
    let interval = fit::interval(&drawn).map(|drawn| Interval {
        low: drawn.low.min(request_ns) * (1.0 - fit.residual).max(0.0),
        high: drawn.high.max(request_ns) * (1.0 + fit.residual),
    });
    let wanted = pattern.per_second * request_ns / 1e9;
    Some(Predicted {
        subject: fit.subject.clone(),
        request_ns,
        interval,
        share: wanted.min(fit.pollers),
        per_wait: found.per_wait,
        asleep: found.asleep,
        most_per_second: found.saturated.then_some(fit.pollers * 1e9 / request_ns),
        off_by: fit.residual,
        indistinguishable: false,
        beyond: beyond(record, fit, pattern, &found, connection == Some(None)),
    })
}

fn beyond(record: &Record, fit: &Fit, pattern: &Pattern, found: &Turns, churn_unknown: bool) -> Vec<Beyond> {
    let (watched, (fewest, most)) = (pattern.connections as f64 / fit.pollers, fit.watched_between);
    let (payload, measured) =
        (pattern.payload as u64, record.settings.loads().next().map_or(0, |load| load.traffic.payload as u64));
    // A hundred bytes more or less are copied in no time.
    let is_other =
        payload.abs_diff(measured) > 128 && (payload.max(measured) as f64) > SLACK * payload.min(measured) as f64;
    let per_wait = fit.per_wait_between.1;
    [
        (watched > SLACK * most || watched * SLACK < fewest)
            .then_some(Beyond::Connections { asked: watched, measured: (fewest, most) }),
        is_other.then_some(Beyond::Payload { asked: payload, measured }),
        (found.per_wait > SLACK * per_wait).then_some(Beyond::PerWait { asked: found.per_wait, measured: per_wait }),
        churn_unknown.then_some(Beyond::Churn),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a connection costs that comes and goes, by the calibration: accepted, watched, watched no more, and closed.
fn connection_ns(record: &Record, subject: &str) -> Option<f64> {
    let rows = record.calibrations.iter().collect::<Vec<_>>();
    let mechanism = &record.trials.iter().find(|trial| trial.subject == subject)?.mechanism;
    let payload = record.settings.loads().next()?.traffic.payload as u64;
    let units = Units::of(&rows, Asked { mechanism, carried: Carried::whole(Transport::Tcp, payload) })?;
    let shared = &units.shared;
    // That it is gone is found by a receive, and that nobody else has come by an accept.
    Some(shared.accept + units.add + shared.nothing * 2.0 + units.remove + shared.close)
}

/// Requests at a wait in the cell of this row that is nearest to the pattern: as to the connections kept busy first.
fn per_wait_nearest(record: &Record, subject: &str, pattern: &Pattern) -> Option<f64> {
    let far = |one: f64, other: f64| ((one + 1.0) / (other + 1.0)).ln().abs();
    let of = |trial: &Trial| {
        let active = far(trial.active.into(), pattern.at_once as f64);
        let idle = far(trial.idle.into(), pattern.connections as f64);
        (active, idle)
    };
    let cells = record.cells_of(subject);
    let closed = cells.iter().filter(|cell| cell.load.offered.is_none()).flat_map(Cell::timed);
    let nearest = closed.filter(|trial| trial.ledger.waits > 0).min_by(|one, other| {
        let ((one, one_idle), (other, other_idle)) = (of(one), of(other));
        one.total_cmp(&other).then(one_idle.total_cmp(&other_idle))
    })?;
    Some(nearest.requests as f64 / nearest.ledger.waits as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::units::sample;
    use std::time::Duration;

    fn pattern(open: usize, active: usize, per_second: u64) -> Pattern {
        let exchanges = per_second * 10;
        let activity = Activity {
            window: Duration::from_secs(10),
            open,
            active,
            at_once: active,
            exchanges,
            received: exchanges * 64,
            sent: exchanges * 64,
            ..Activity::default()
        };
        Pattern::of(&activity, None).expect("it was asked")
    }

    /// The sample, without the cell that costs twice what it should; and threads wait for nothing but one connection each.
    fn record() -> Record {
        let mut record = sample::record();
        record.trials.retain(|trial| (trial.idle, trial.active) != (1_000, 1));
        record.trials.iter_mut().filter(|trial| trial.subject == "threads").for_each(|trial| trial.ledger.waits = 7);
        record
    }

    fn near(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() <= 0.02 * wanted
    }

    #[test]
    fn each_row_costs_what_the_model_says_and_the_cheapest_comes_first() {
        let predicted = predict(&record(), &pattern(1_000, 5, 100));
        let names = predicted.iter().map(|one| one.subject.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["epoll", "select", "poll"], "threads have no model, and the control is no row");
        // A wait of 4 µs and what it scans, and a request of 5.6 µs.
        for (one, scanned) in predicted.iter().zip([0.0, 60.0, 90.0]) {
            let wanted = 4_000.0 + scanned * 1_000.0 + 5_600.0;
            assert!(near(one.request_ns, wanted) && one.asleep > 0.98, "{wanted}: {one:?}");
            assert!(near(one.share, wanted * 100.0 / 1e9) && one.most_per_second.is_none(), "{one:?}");
            assert!(one.interval.is_some_and(|at| at.low <= one.request_ns && one.request_ns <= at.high), "{one:?}");
        }
        assert_eq!(predicted.iter().map(|one| one.indistinguishable).collect::<Vec<_>>(), [true, false, false]);
        assert!(predicted.iter().all(|one| one.beyond.is_empty()), "{predicted:?}");
    }

    #[test]
    fn a_rate_that_is_too_much_for_those_that_scan_is_told_with_what_they_can_do() {
        let predicted = predict(&record(), &pattern(5_000, 3, 20_000));
        let limits = predicted.iter().map(|one| one.most_per_second).collect::<Vec<_>>();
        assert_eq!(limits[0], None, "{predicted:?}");
        assert!(predicted.is_sorted_by_key(|one| one.most_per_second.is_some()), "{predicted:?}");
        // Three requests at a wait of 454 µs, and 5.6 µs for each of them.
        let poll = limits[2].expect("too much");
        assert!(
            near(poll, 3e9 / (454_000.0 + 3.0 * 5_600.0)) && (predicted[2].share - 1.0).abs() < 1e-9,
            "{predicted:?}"
        );
    }

    #[test]
    fn of_a_single_round_nothing_is_told_apart() {
        let mut record = record();
        record.trials.retain(|trial| trial.round == 0);
        let predicted = predict(&record, &pattern(1_000, 5, 100));
        assert!(predicted.len() == 3 && predicted.iter().all(|one| one.indistinguishable && one.interval.is_none()));
    }

    #[test]
    fn what_lies_outside_of_what_was_measured_is_told() {
        let beyond = |pattern: &Pattern| predict(&record(), pattern)[0].beyond.clone();
        let of = |connections: usize| beyond(&pattern(connections, 5, 100));
        assert!(
            matches!(of(9_000)[..], [Beyond::Connections { asked: 9_000.0, measured: (1.0, 5_100.0) }]),
            "{:?}",
            of(9_000)
        );
        assert_eq!(of(5_200), [], "not worth a word");
        let large = Pattern { payload: 4_096, ..pattern(1_000, 5, 100) };
        assert_eq!(beyond(&large), [Beyond::Payload { asked: 4_096, measured: 64 }]);
        assert_eq!(beyond(&Pattern { payload: 150, ..pattern(1_000, 5, 100) }), []);
        // All of 3,000 connections are asked more than can be served, and 10 requests at a wait were the most.
        let crowd = pattern(3_000, 3_000, 1_000_000);
        assert!(matches!(beyond(&crowd)[..], [Beyond::PerWait { asked: 3_000.0, .. }]), "{:?}", beyond(&crowd));
        let churn = Pattern { exchanges_per_connection: Some(1), ..pattern(1_000, 5, 100) };
        let mut record = record();
        record.calibrations.clear();
        assert_eq!(predict(&record, &churn)[0].beyond, [Beyond::Churn]);
    }

    #[test]
    fn connections_that_come_and_go_cost_what_the_calibration_says_shared_among_their_requests() {
        let of = |exchanges| {
            let pattern = Pattern { exchanges_per_connection: exchanges, ..pattern(1_000, 5, 100) };
            predict(&record(), &pattern)[0].request_ns
        };
        // accept, add, two calls in vain, remove, close
        let wanted = 2_000.0 + 400.0 + 1_000.0 + 300.0 + 3_000.0;
        assert!((of(Some(1)) - of(None) - wanted).abs() < 100.0, "{} {}", of(Some(1)), of(None));
        assert!((of(Some(10)) - of(None) - wanted / 10.0).abs() < 100.0);
    }

    #[test]
    fn a_replay_is_held_against_what_the_model_says_of_it_and_no_row_is_lost() {
        let (record, pattern) = (record(), pattern(100, 10, 100));
        let mut replay = record.clone();
        let expected = predictions(&record, &pattern, Asking::Rate(100.0));
        let cost = |subject: &str| expected.iter().find(|one| one.subject == subject).map(|one| one.request_ns);
        replay.trials.retain(|trial| (trial.idle, trial.active) == (100, 10) && !trial.control);
        for trial in &mut replay.trials {
            let factor = if trial.subject == "select" { 2.0 } else { 1.0 };
            trial.server_cpu_ns =
                Some((cost(&trial.subject).unwrap_or(9_000.0) * factor * trial.requests as f64) as u64);
            trial.duration_ns = trial.requests * 10_000_000;
        }
        let rows = replayed(&record, &replay, &pattern);
        let row = |subject: &str| rows.iter().find(|one| one.subject == subject).expect("a row");
        assert_eq!((rows.len(), rows[0].subject.as_str()), (4, "threads"));
        for (subject, residual, is_anomaly) in [("epoll", 0.0, false), ("poll", 0.0, false), ("select", 0.5, true)] {
            let one = row(subject);
            assert!((one.residual.expect("both are known") - residual).abs() < 0.01, "{one:?}");
            assert_eq!((one.is_anomaly, one.fell_short, &one.missing), (is_anomaly, false, &None), "{one:?}");
        }
        assert_eq!((row("threads").predicted_ns, row("threads").residual), (None, None));

        replay.trials.iter_mut().filter(|trial| trial.subject == "select").for_each(|trial| trial.duration_ns *= 2);
        replay.trials.iter_mut().filter(|trial| trial.subject == "poll").for_each(|trial| trial.errors = 1);
        replay.trials.retain(|trial| trial.subject != "epoll");
        let rows = replayed(&record, &replay, &pattern);
        let row = |subject: &str| rows.iter().find(|one| one.subject == subject).expect("a row");
        assert!(row("select").fell_short && !row("select").is_anomaly, "{:?}", row("select"));
        for (subject, why) in [("poll", "failed"), ("epoll", "not measured")] {
            let one = row(subject);
            assert!(
                one.measured_ns.is_none() && one.missing.as_deref().is_some_and(|said| said.contains(why)),
                "{one:?}"
            );
        }
    }
}
