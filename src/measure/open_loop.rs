//! The open loop in a record: what was offered, of which capacity, and whether the load itself was late.

use serde::{Deserialize, Serialize};

use super::stats::Pool;
use crate::child::Open;
use crate::workload::Offered;

/// What a trial by an open loop was, and what such a one alone tells.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenLoop {
    /// The rate, as a part of the capacity.
    pub offered: Offered,
    /// The capacity: exchanges a second of a closed loop on the same connections of the same visit, shortly before.
    /// `None` if the trial has not come so far.
    pub capacity_per_second: Option<f64>,
    /// The load was the limit of the capacity, as in [`Trial::client_limited`](super::record::Trial::client_limited):
    /// the server can do more.
    pub capacity_limited: Option<bool>,
    /// How many exchanges were due each second: what comes of both.
    pub due_per_second: u32,
    /// The uncorrected latencies, from when each was sent, as in [`Trial::latency`](super::record::Trial::latency). A
    /// stall of the server is one late echo in them.
    pub from_send: Vec<(u64, u64)>,
    /// How late the load noticed that an exchange was due, as above.
    pub slip: Vec<(u64, u64)>,
    /// Exchanges that were due and never sent, for the time was over before their connection was free.
    pub unsent: u64,
}

/// What a closed loop has found out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Capacity {
    pub(super) per_second: f64,
    pub(super) limited: Option<bool>,
}

/// The load is too late when its slip is more than this part of the latency that was measured with it.
const LATE: f64 = 0.2;

impl OpenLoop {
    /// Of which nothing is known yet but what is offered.
    pub(super) fn begin(offered: Offered) -> OpenLoop {
        OpenLoop { offered, ..OpenLoop::default() }
    }

    /// With what was found out and what came of it.
    pub(super) fn end(offered: Offered, capacity: Capacity, open: Open) -> OpenLoop {
        let Open { from_send, slip, unsent } = open;
        OpenLoop {
            offered,
            capacity_per_second: Some(capacity.per_second),
            capacity_limited: capacity.limited,
            due_per_second: offered.of(capacity.per_second).per_second().unwrap_or(0),
            from_send,
            slip,
            unsent,
        }
    }

    /// Whether the load was so late that these latencies, counted from when exchanges were due, say as much about it as
    /// about the server: for one of two or one of a hundred its slip is more than a fifth of the latency.
    ///
    /// By its CPU time it cannot be told: waiting for the next moment, a load looks at the clock without rest.
    pub fn is_late(&self, latency: &[(u64, u64)]) -> bool {
        let (mut slips, mut latencies) = (Pool::default(), Pool::default());
        slips.add(&self.slip);
        latencies.add(latency);
        latencies.add_longer(self.unsent);
        is_late(&slips, &latencies)
    }
}

/// As [`OpenLoop::is_late`], of one trial or of several together, which tell a p99 sooner.
pub(crate) fn is_late(slip: &Pool, latency: &Pool) -> bool {
    let share = |at: f64| Some(slip.percentile(at)? as f64 / latency.percentile(at)?.max(1) as f64);
    [0.5, 0.99].into_iter().filter_map(share).any(|share| share > LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_was_late_for_one_in_two_or_one_in_a_hundred_is_late() {
        let slip = |slip: &[(u64, u64)]| OpenLoop { slip: slip.to_vec(), ..OpenLoop::default() };
        let latency = [(100_000, 900), (1_000_000, 100)];
        assert!(!slip(&[(2_000, 900), (150_000, 100)]).is_late(&latency), "a fiftieth, and a seventh");
        assert!(slip(&[(30_000, 1_000)]).is_late(&latency), "a third of the median");
        assert!(slip(&[(2_000, 900), (400_000, 100)]).is_late(&latency), "of the p99 two fifths");
        // Too few for a p99, which says nothing then.
        assert!(!slip(&[(2_000, 90), (400_000, 10)]).is_late(&[(100_000, 90), (1_000_000, 10)]));
        assert!(!OpenLoop::default().is_late(&[]));
    }
}
