//! The ceiling: what the load does at most, and which cells are too near to it for their throughput to be the server's.

use std::collections::BTreeMap;

use super::Figures;
use crate::measure::record::{CEILING, Load, Record, Trial};
use crate::measure::stats;

/// From this part of the ceiling on the load is the limit.
const NEAR: f64 = 0.95;

/// What each load did against the cheapest server, in requests a second: half way among the rounds.
pub(super) struct Ceilings(BTreeMap<Load, f64>);

impl Ceilings {
    pub(super) fn of(record: &Record) -> Ceilings {
        let mut rates: BTreeMap<Load, Vec<f64>> = BTreeMap::new();
        for cell in record.cells_of(CEILING) {
            for trial in cell.timed().filter(|trial| trial.duration_ns > 0) {
                let rate = trial.requests as f64 * 1e9 / trial.duration_ns as f64;
                rates.entry(cell.load).or_default().push(rate);
            }
        }
        let medians = rates.into_iter().filter_map(|(load, rates)| Some((load, stats::median(&rates)?)));
        Ceilings(medians.filter(|(_, rate)| *rate > 0.0).collect())
    }

    /// Holds a cell to the ceiling of its load, whose timed trials are these.
    pub(super) fn hold(&self, figures: &mut Figures, load: Load, timed: &[&Trial]) {
        // The ceiling is one thread: several may well do more.
        let alone = timed.iter().all(|trial| trial.open_by_thread.len() <= 1);
        let ceiling = self.0.get(&load).filter(|_| alone);
        figures.ceiling_share = ceiling.and_then(|ceiling| Some(figures.throughput?.value / ceiling));
        figures.client_limited |= figures.ceiling_share.is_some_and(|share| share >= NEAR);
    }
}
