//! How much is asked of a server: by how much it can do, which is as hard for the slow as for the fast, or so many a second.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Arrivals, Pace};

/// The rate of an open loop: a part of a server's capacity, which a closed loop has found out before, or a number of its own,
/// the same for every server.
///
/// ```
/// use pollmark::workload::{Arrivals, Offered, Pace};
///
/// let half = Offered { percent: 50, arrivals: Arrivals::Constant, per_second: None };
/// assert_eq!(half.of(80_000.0), Pace::Constant { per_second: 40_000 });
/// assert_eq!(half.to_string(), "50 % of capacity, in equal steps");
/// let rate = Offered { per_second: Some(700), ..Offered::default() };
/// assert_eq!(rate.of(80_000.0), Pace::Poisson { per_second: 700 });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Offered {
    /// Hundredths of the capacity; 0 beside a number of its own.
    pub percent: u32,
    /// How exchanges are spread over time.
    pub arrivals: Arrivals,
    /// So many exchanges a second, whatever the capacity is; `None` for a part of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

impl Offered {
    /// The pace where the capacity is so many exchanges a second; never none at all.
    pub fn of(self, capacity: f64) -> Pace {
        // As large or as small as it may be: a float becomes the nearest number there is.
        let part = || (capacity * f64::from(self.percent) / 100.0).round() as u32;
        self.arrivals.at(self.per_second.unwrap_or_else(part).max(1))
    }
}

impl fmt::Display for Offered {
    /// Arrivals at random are what is usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = match self.arrivals {
            Arrivals::Poisson => "",
            Arrivals::Constant => ", in equal steps",
        };
        match self.per_second {
            None => write!(f, "{} % of capacity{spread}", self.percent),
            Some(rate) => write!(f, "{rate} a second{spread}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_capacity_was_there_is_a_rate() {
        let offered = |percent| Offered { percent, ..Offered::default() };
        let rate = |percent, capacity| offered(percent).of(capacity).per_second();
        assert_eq!(rate(110, 1_000.0), Some(1_100));
        assert_eq!((rate(5, 0.0), rate(5, f64::NAN)), (Some(1), Some(1)));
        assert_eq!(rate(100, f64::INFINITY), Some(u32::MAX));
        let fixed = |per_second| Offered { per_second: Some(per_second), ..Offered::default() };
        assert_eq!([0, 9].map(|rate| fixed(rate).of(f64::NAN).per_second()), [Some(1), Some(9)]);
    }
}
