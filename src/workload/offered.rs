//! How much is asked of a server, by how much it can do: a rate that is as hard for the slow as for the fast.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Arrivals, Pace};

/// The rate of an open loop as a part of a server's capacity, which a closed loop has found out before.
///
/// ```
/// use pollmark::workload::{Arrivals, Offered, Pace};
///
/// let half = Offered { percent: 50, arrivals: Arrivals::Constant };
/// assert_eq!(half.of(80_000.0), Pace::Constant { per_second: 40_000 });
/// assert_eq!(half.to_string(), "50 % of capacity, in equal steps");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Offered {
    /// Hundredths of the capacity.
    pub percent: u32,
    /// How exchanges are spread over time.
    pub arrivals: Arrivals,
}

impl Offered {
    /// The pace where the capacity is so many exchanges a second; never none at all.
    pub fn of(self, capacity: f64) -> Pace {
        // As large or as small as it may be: a float becomes the nearest number there is.
        self.arrivals.at(((capacity * f64::from(self.percent) / 100.0).round() as u32).max(1))
    }
}

impl fmt::Display for Offered {
    /// Arrivals at random are what is usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = match self.arrivals {
            Arrivals::Poisson => "",
            Arrivals::Constant => ", in equal steps",
        };
        write!(f, "{} % of capacity{spread}", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_capacity_was_there_is_a_rate() {
        let offered = |percent| Offered { percent, arrivals: Arrivals::Poisson };
        let rate = |percent, capacity| offered(percent).of(capacity).per_second();
        assert_eq!(rate(110, 1_000.0), Some(1_100));
        assert_eq!((rate(5, 0.0), rate(5, f64::NAN)), (Some(1), Some(1)));
        assert_eq!(rate(100, f64::INFINITY), Some(u32::MAX));
    }
}
