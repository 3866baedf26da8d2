//! What a run did.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The load counts as the limit when it was busy for more than this part of the time.
const BUSY: f64 = 0.85;

/// What a run did. There is no outcome of a run with a fault.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exchanges completed, each verified byte by byte.
    pub requests: u64,
    /// Bytes received and verified.
    pub bytes: u64,
    /// From the first send to the last echo; in an open loop of a given time, at least that time.
    pub elapsed: Duration,
    /// CPU time of this process meanwhile, all threads; unknown if the system does not tell.
    pub cpu: Option<Duration>,
    /// How often this process went to sleep meanwhile, to be woken by an answer or by the time; unknown if the system does
    /// not tell.
    pub slept: Option<u64>,
    /// How often the generator waited.
    pub waits: u64,
    /// How long exchanges took, in nanoseconds; with churn, from connect(2) to the verified echo.
    pub latency: Histogram<u64>,
    /// Exchanges completed on each connection; none of connections that do not stay.
    pub served: Vec<u64>,
    /// What an open loop tells beside. `latency` is then counted from when each exchange was due.
    pub open: Option<OpenLoop>,
}

/// What only an open loop tells.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    /// How long exchanges took from when they were sent, in nanoseconds: the series in which a stall is one late echo,
    /// for comparison with generators that know no other.
    pub from_send: Histogram<u64>,
    /// How late the load itself noticed that an exchange was due, in nanoseconds.
    pub slip: Histogram<u64>,
    /// Exchanges that were due and never sent, because their connection was not free even when the time had been over for
    /// as long again, at most ten seconds: the server did not keep up. They would have taken longer than nearly all others.
    pub unsent: u64,
}

impl Outcome {
    /// The latencies as the histogram distinguishes them: the upper end of each bucket in nanoseconds, and how many
    /// exchanges fell into it. Empty buckets are left out.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        buckets(&self.latency)
    }
}

/// The values as the histogram distinguishes them, and how often each was recorded.
pub(crate) fn buckets(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect()
}

/// Whether a load that used so much CPU time in a run of this length was itself the limit, rather than the server.
pub fn was_the_limit(cpu: Duration, elapsed: Duration) -> bool {
    cpu.as_secs_f64() > BUSY * elapsed.as_secs_f64()
}
