//! The cell of an open loop: what was asked of the server, what it can do, and what the latencies hide.

use crate::measure::open_loop::is_late;
use crate::measure::record::{OpenLoop, Trial};
use crate::measure::stats::{self, Estimate, Pool};

/// What the cell of an open loop tells beside what every cell tells.
#[derive(Clone, Debug)]
pub struct OpenFigures {
    /// What the server can do: exchanges a second of a closed loop, in the same visits.
    pub capacity: Option<Estimate>,
    /// The load was the limit of that in most rounds: the server can do more.
    pub capacity_limited: bool,
    /// Exchanges that were due each second, half way among the rounds.
    pub due: Option<f64>,
    /// The least and the most of these: each round has found a capacity of its own.
    pub due_between: Option<(f64, f64)>,
    /// Latency from when exchanges were sent, as generators tell it that know no other: half, 99 of 100 and 999 of
    /// 1,000 took at most this many nanoseconds.
    pub from_send_ns: [Option<u64>; 3],
    /// How late the load itself was, as above.
    pub slip_ns: [Option<u64>; 3],
    /// The part of the exchanges due that was never sent, 0 to 1, not even in as long again as the interval: above 0 the
    /// server did not keep up. They count as longer than all others.
    pub unsent: f64,
    /// The load was late, see [`OpenLoop::is_late`], of all timed trials together.
    pub late: bool,
}

impl OpenFigures {
    /// Of the timed trials of a cell, whose latencies are these; `None` if they are of a closed loop.
    pub(super) fn of(timed: &[&Trial], latency: &Pool, seed: u64) -> Option<OpenFigures> {
        let open = timed.iter().filter_map(|trial| trial.open_loop.as_ref()).collect::<Vec<_>>();
        if open.is_empty() {
            return None;
        }
        let each =
            |value: &dyn Fn(&OpenLoop) -> Option<f64>| open.iter().filter_map(|one| value(one)).collect::<Vec<_>>();
        let (mut from_send, mut slip) = (Pool::default(), Pool::default());
        for one in &open {
            from_send.add(&one.from_send);
            slip.add(&one.slip);
        }
        let due = each(&|one| Some(f64::from(one.due_per_second)));
        let percentiles = |pool: &Pool| [0.5, 0.99, 0.999].map(|at| pool.percentile(at));
        let limited = open.iter().filter(|one| one.capacity_limited == Some(true)).count();
        // Not as whole numbers: a record may say anything.
        let unsent = open.iter().map(|one| one.unsent as f64).sum::<f64>();
        let sent = timed.iter().map(|trial| trial.requests as f64).sum::<f64>();
        Some(OpenFigures {
            capacity: Estimate::of(&each(&|one| one.capacity_per_second), seed),
            capacity_limited: limited * 2 > open.len(),
            due: stats::median(&due),
            due_between: stats::quantile(&due, 0.0).zip(stats::quantile(&due, 1.0)),
            from_send_ns: percentiles(&from_send),
            slip_ns: percentiles(&slip),
            unsent: unsent / (unsent + sent),
            late: is_late(&slip, latency),
        })
    }
}
