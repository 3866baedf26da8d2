//! Percentiles of one series, as a load and several of them tell theirs.

use std::fmt;

use serde::Serialize;

use crate::measure::stats::Pool;

/// Percentiles in nanoseconds, each `None` with fewer than ten samples beyond it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Percentiles {
    /// Half of the samples take at most this long.
    pub p50_ns: Option<u64>,
    /// 99 of 100; from 1,000 samples on.
    pub p99_ns: Option<u64>,
    /// 999 of 1,000; from 10,000 samples on.
    pub p999_ns: Option<u64>,
    /// All of them.
    pub longest_ns: u64,
}

impl Percentiles {
    /// Those of a histogram: the upper end of each bucket in nanoseconds, ascending, and how many fell into it.
    /// Beside what was recorded, `longer` took longer than all of it: what was due and never sent.
    pub fn of(histogram: &[(u64, u64)], longer: u64) -> Percentiles {
        let mut pool = Pool::default();
        pool.add(histogram);
        pool.add_longer(longer);
        let [p50_ns, p99_ns, p999_ns] = [0.5, 0.99, 0.999].map(|quantile| pool.percentile(quantile));
        Percentiles { p50_ns, p99_ns, p999_ns, longest_ns: histogram.last().map_or(0, |(nanos, _)| *nanos) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |nanos: Option<u64>| nanos.map_or("–".into(), |nanos| format!("{:.1} µs", nanos as f64 / 1e3));
        let [p50, p99, p999, longest] = [self.p50_ns, self.p99_ns, self.p999_ns, Some(self.longest_ns)].map(micros);
        write!(f, "p50 {p50}, p99 {p99}, p99.9 {p999}, longest {longest}")
    }
}
