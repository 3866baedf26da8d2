//! Fairness: how evenly a server has shared itself out among connections that all ask for as much as they can get.

use serde::{Deserialize, Serialize};

/// What the active connections of a trial had each, in short. Firehoses are not among them.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// How many there were; two at least.
    pub connections: u32,
    /// Exchanges of the one that had the fewest.
    pub least: u64,
    /// Exchanges of the one that had the most.
    pub most: u64,
    /// Jain's index, (Σx)² ÷ n·Σx²: 1 if all had the same, 1/n if one had everything.
    pub jain: f64,
}

impl Served {
    /// Of the exchanges that each connection made; `None` where there is nothing to share out, or nobody to share it with.
    pub(super) fn of(exchanges: &[u64]) -> Option<Served> {
        let (least, most) = (*exchanges.iter().min()?, *exchanges.iter().max()?);
        if exchanges.len() < 2 || most == 0 {
            return None;
        }
        let sum = exchanges.iter().map(|one| *one as f64).sum::<f64>();
        let squares = exchanges.iter().map(|one| (*one as f64).powi(2)).sum::<f64>();
        let jain = sum * sum / (exchanges.len() as f64 * squares);
        Some(Served { connections: exchanges.len() as u32, least, most, jain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_equals_and_falls_to_one_of_n() {
        let equal = Served::of(&[7; 100]).expect("shared");
        assert!((equal.jain - 1.0).abs() < 1e-12 && (equal.least, equal.most) == (7, 7));
        let greedy = Served::of(&[0, 0, 9, 0]).expect("shared");
        assert!((greedy.jain - 0.25).abs() < 1e-12 && (greedy.least, greedy.most) == (0, 9));
        assert!((Served::of(&[1, 3]).expect("shared").jain - 0.8).abs() < 1e-12);
        for nothing in [&[][..], &[5], &[0, 0]] {
            assert_eq!(Served::of(nothing), None, "{nothing:?}");
        }
    }
}
