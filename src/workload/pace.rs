//! When exchanges begin: each after the one before, or by a schedule that does not wait for the server.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// When exchanges begin.
///
/// A closed loop asks the next when it has the answer to the last: a server that stalls is asked less, and its stall is
/// one late answer. An open loop asks when users would, who know nothing of one another: so latency is counted from
/// the moment at which an exchange was due, and a stall makes all late that were due meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// A closed loop.
    #[default]
    Closed,
    /// An open loop: so many a second over all connections, in equal steps.
    Constant {
        /// How many.
        per_second: u32,
    },
    /// The same, at random as of many users: a Poisson process.
    Poisson {
        /// How many, on average.
        per_second: u32,
    },
}

impl Pace {
    /// The same with another rate; a closed loop has none.
    #[must_use]
    pub const fn at(self, per_second: u32) -> Pace {
        match self {
            Pace::Closed => Pace::Closed,
            Pace::Constant { .. } => Pace::Constant { per_second },
            Pace::Poisson { .. } => Pace::Poisson { per_second },
        }
    }

    /// How many exchanges are due each second, if that does not depend on the server.
    pub const fn per_second(self) -> Option<u32> {
        match self {
            Pace::Closed => None,
            Pace::Constant { per_second } | Pace::Poisson { per_second } => Some(per_second),
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Closed => f.write_str("closed loop"),
            Pace::Constant { per_second } => write!(f, "{per_second} a second"),
            Pace::Poisson { per_second } => write!(f, "{per_second} a second (Poisson)"),
        }
    }
}

/// How the arrivals of an open loop are spread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// In equal steps.
    Constant,
    /// At random, as of many users who know nothing of one another: a Poisson process.
    #[default]
    Poisson,
}

impl Arrivals {
    /// So many a second, spread in this way.
    pub const fn at(self, per_second: u32) -> Pace {
        match self {
            Arrivals::Constant => Pace::Constant { per_second },
            Arrivals::Poisson => Pace::Poisson { per_second },
        }
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        })
    }
}

/// The moments at which exchanges are due, from the beginning of the run; without end.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    rng: Rng,
    /// Of equal steps, which part of one goes by before the first.
    phase: f64,
    made: u64,
    seconds: f64,
}

impl Schedule {
    /// The same seed, the same moments. Of several loads at the same time each numbers its connections from another
    /// `first` on, spread over all numbers there are: so are the first moments over the first step, or all loads would
    /// ask at once.
    pub(super) fn new(pace: Pace, seed: u64, first: u32) -> Schedule {
        let phase = f64::from(first) / f64::from(u32::MAX);
        Schedule { pace, rng: Rng::with_seed(seed), phase, made: 0, seconds: 0.0 }
    }

    /// The next; `None` where nothing is ever due.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let due = match self.pace {
            Pace::Closed | Pace::Constant { per_second: 0 } | Pace::Poisson { per_second: 0 } => return None,
            // By the count, so that no error adds up.
            Pace::Constant { per_second } => (self.made as f64 + self.phase) / f64::from(per_second),
            Pace::Poisson { per_second } => {
                // 1 - u is never 0, whose logarithm would be none.
                self.seconds -= (1.0 - self.rng.f64()).ln() / f64::from(per_second);
                self.seconds
            }
        };
        self.made += 1;
        Some(Duration::from_secs_f64(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(pace: Pace, count: usize) -> Vec<f64> {
        let mut schedule = Schedule::new(pace, 7, 0);
        (0..count).map(|_| schedule.next().expect("without end").as_secs_f64()).collect()
    }

    #[test]
    fn a_constant_pace_has_equal_steps_and_does_not_drift() {
        let moments = moments(Pace::Constant { per_second: 3_000 }, 300_001);
        assert_eq!(moments[0], 0.0);
        assert!((moments[300_000] - 100.0).abs() < 1e-6);
        assert!(moments.windows(2).all(|pair| (pair[1] - pair[0] - 1.0 / 3_000.0).abs() < 1e-8));
    }

    #[test]
    fn several_loads_of_a_constant_pace_take_turns() {
        let first = |at: u32| {
            let mut schedule = Schedule::new(Pace::Constant { per_second: 250 }, 7, at * (u32::MAX / 4));
            schedule.next().expect("without end").as_secs_f64()
        };
        for at in 0..4 {
            assert!((first(at) - f64::from(at) / 1_000.0).abs() < 1e-8, "{at}: one is due each ms: {}", first(at));
        }
    }

    #[test]
    fn a_poisson_pace_keeps_its_mean_and_its_spread() {
        let moments = moments(Pace::Poisson { per_second: 1_000 }, 100_000);
        let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((mean * 1_000.0 - 1.0).abs() < 0.02 && (deviation * 1_000.0 - 1.0).abs() < 0.03, "{mean} {deviation}");
        assert!(gaps.iter().all(|gap| *gap >= 0.0));
    }

    #[test]
    fn what_has_no_rate_is_never_due() {
        for pace in [Pace::Closed, Pace::Constant { per_second: 0 }, Pace::Poisson { per_second: 0 }] {
            assert_eq!(Schedule::new(pace, 1, 0).next(), None);
        }
        assert_eq!(Pace::Poisson { per_second: 9 }.at(4).per_second(), Some(4));
        assert_eq!(Pace::Closed.at(4), Pace::Closed);
    }
}
