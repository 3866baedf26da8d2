//! Who stands where in each table, how sure that is, and how small a difference would have been seen.
//!
//! One row loses to another if (a) the whole interval of the ratio lies beyond the margin, which is what is worth telling
//! here, and (b) chance does not explain it, with all pairs of ranked rows of the table counted: so the best row may be
//! chosen after the fact. How much rows scatter under a load, all tables of that load say together.

use std::collections::{BTreeMap, HashMap};

use super::{Cell, Noise, Outcome, Pairs, Standing, Summary, cost, twin};
use crate::measure::family::{Family, Prior, Scatter};
use crate::measure::stats::{self, Estimate, SMALLEST_EFFECT};

/// CPU time for each request in every round that was timed.
type Rounds = BTreeMap<u32, f64>;

/// What a row is to the best of its table.
struct Found {
    cell: usize,
    ratio: Option<Estimate>,
    smallest_effect: Option<f64>,
    standing: Standing,
}

/// All comparisons of a record.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    /// As the cells of the summary.
    rounds: Vec<Rounds>,
    /// One for each table.
    families: Vec<Family>,
    /// Rows of a table.
    rows: usize,
    /// Where in the family of their table two cells are, the earlier one first.
    places: HashMap<(usize, usize), usize>,
    seed: u64,
}

impl Summary<'_> {
    /// Puts every row in its place.
    pub(super) fn rank(&mut self) {
        let judge = self.judge();
        self.noise = self.noise(&judge);
        let sum = |of: fn(&Family) -> usize| judge.families.iter().map(of).sum();
        self.pairs = Pairs { all: sum(Family::size), differ: sum(Family::found) };
        let tables = self.cells.len().checked_div(self.subjects.len()).unwrap_or(0);
        for one in (0..tables).flat_map(|table| self.ranks(&judge, table)).collect::<Vec<_>>() {
            if let Outcome::Measured(figures) = &mut self.cells[one.cell].outcome {
                (figures.ratio, figures.smallest_effect) = (one.ratio, one.smallest_effect);
                figures.standing = one.standing;
            }
        }
        self.judge = judge;
    }

    fn judge(&self) -> Judge {
        let rounds = self.cells.iter().map(|cell| self.rounds(cell)).collect::<Vec<_>>();
        let rows = self.subjects.len().max(1);
        let (mut tables, mut places) = (Vec::new(), HashMap::new());
        let mut by_load = BTreeMap::<_, Vec<Scatter>>::new();
        for first in (0..self.cells.len()).step_by(rows) {
            let (contenders, mut comparisons) = (self.contenders(first), Vec::new());
            for (at, &one) in contenders.iter().enumerate() {
                for &other in &contenders[at + 1..] {
                    if let Some(scatter) = Scatter::of(ratios(&rounds[one], &rounds[other])) {
                        places.insert((one, other), comparisons.len());
                        comparisons.push(scatter);
                    }
                }
            }
            let load = self.cells[first].load;
            by_load.entry(load).or_default().extend(&comparisons);
            tables.push((load, comparisons));
        }
        let families = tables.iter().map(|(load, table)| Family::of(Prior::of(&by_load[load]), table)).collect();
        Judge { rounds, families, rows, places, seed: self.record.seed }
    }

    /// The rows of the table with this first cell that are ranked.
    fn contenders(&self, first: usize) -> Vec<usize> {
        let table = first..first + self.subjects.len();
        // Each was asked for a part of its own capacity: who can do more was asked for more.
        if self.cells[table.clone()].iter().any(|cell| cell.load.offered.is_some()) {
            return Vec::new();
        }
        table.filter(|&cell| self.is_ranked(&self.cells[cell]) && cost(&self.cells[cell]).is_some()).collect()
    }

    fn is_ranked(&self, cell: &Cell) -> bool {
        let subject = &self.subjects[cell.subject];
        !subject.control && subject.class.is_none()
    }

    fn ranks(&self, judge: &Judge, table: usize) -> Vec<Found> {
        let first = table * self.subjects.len();
        let contenders = self.contenders(first);
        let cpu = |cell: usize| cost(&self.cells[cell]).unwrap_or(f64::INFINITY);
        let Some(best) = contenders.iter().copied().min_by(|a, b| cpu(*a).total_cmp(&cpu(*b))) else {
            return Vec::new();
        };
        let margin = self.noise.margin;
        let loses = |cell: usize, to: usize| {
            judge.differ(cell, to) && judge.ratio(cell, to).is_some_and(|ratio| ratio.is_beyond(margin))
        };
        let found = |cell: usize| {
            let ratio = judge.ratio(cell, best);
            // Seen only once, a difference is not one, and neither is its absence.
            let once = ratio.is_none_or(|ratio| ratio.interval.is_none());
            let standing = if !self.is_ranked(&self.cells[cell]) || once {
                Standing::Unranked
            } else if cell == best {
                Standing::Best
            } else if !loses(cell, best) {
                Standing::Indistinguishable
            } else {
                Standing::Rank(1 + contenders.iter().filter(|&&other| loses(cell, other)).count())
            };
            let smallest_effect = (cell != best).then(|| judge.smallest_effect(cell, best, margin)).flatten();
            Found { cell, ratio, smallest_effect, standing }
        };
        (first..first + self.subjects.len()).filter(|&cell| cost(&self.cells[cell]).is_some()).map(found).collect()
    }

    fn noise(&self, judge: &Judge) -> Noise {
        let (mut ratios, mut told_apart) = (Vec::new(), 0);
        for (at, cell) in self.cells.iter().enumerate().filter(|(_, cell)| self.subjects[cell.subject].control) {
            let Some(twin) = twin(&self.subjects, &self.subjects[cell.subject].name) else { continue };
            let twin = at - cell.subject + twin;
            let Some(ratio) = judge.ratio(at, twin) else { continue };
            ratios.push(ratio.value);
            let beyond = ratio.is_beyond(SMALLEST_EFFECT) || ratio.is_below(SMALLEST_EFFECT);
            told_apart += usize::from(beyond && judge.differ(at, twin));
        }
        let (spread, margin) = (stats::spread(&ratios), stats::margin(&ratios));
        Noise { cells: ratios.len(), spread, margin, told_apart }
    }

    /// CPU time for each request of one cell to that of another of the same table, paired by round.
    pub(in super::super) fn ratio(&self, cell: &Cell, to: &Cell) -> Option<Estimate> {
        let [of, to] = [cell, to].map(|cell| self.rounds(cell));
        Estimate::of(&ratios(&of, &to).collect::<Vec<_>>(), self.record.seed)
    }

    /// Whether more than chance makes two cells of a table differ, by the rule of the ranks: (b) of what it takes to lose.
    pub(in super::super) fn differ(&self, cell: &Cell, to: &Cell) -> bool {
        let place = |cell: &Cell| {
            let (idle, load) = (self.idle.binary_search(&cell.idle), self.loads.binary_search(&cell.load));
            Some((idle.ok()? * self.loads.len() + load.ok()?) * self.subjects.len() + cell.subject)
        };
        place(cell).zip(place(to)).is_some_and(|(cell, to)| self.judge.differ(cell, to))
    }

    fn rounds(&self, cell: &Cell) -> Rounds {
        if cell.figures().is_none() {
            return Rounds::new();
        }
        self.trials(cell).timed().filter_map(|trial| Some((trial.round, trial.request_ns()?))).collect()
    }
}

impl Judge {
    /// CPU time for each request of one cell to that of another, paired by round.
    fn ratio(&self, cell: usize, to: usize) -> Option<Estimate> {
        Estimate::of(&ratios(&self.rounds[cell], &self.rounds[to]).collect::<Vec<_>>(), self.seed)
    }

    fn scatter(&self, cell: usize, to: usize) -> Option<Scatter> {
        Scatter::of(ratios(&self.rounds[cell], &self.rounds[to]))
    }

    /// Of the table that this cell is in.
    fn family(&self, cell: usize) -> &Family {
        &self.families[cell / self.rows]
    }

    fn place(&self, cell: usize, to: usize) -> Option<usize> {
        self.places.get(&(cell.min(to), cell.max(to))).copied()
    }

    /// Whether more than chance makes them differ.
    fn differ(&self, cell: usize, to: usize) -> bool {
        match self.place(cell, to) {
            Some(place) => self.family(cell).tells(place),
            None => self.scatter(cell, to).is_some_and(|scatter| self.family(cell).would_tell(scatter)),
        }
    }

    /// The ratio that would have lost, less 1: as it was in each round, times what it takes for both (a) and (b).
    fn smallest_effect(&self, cell: usize, to: usize, margin: f64) -> Option<f64> {
        let ratio = self.ratio(cell, to)?;
        let low = ratio.interval?.low;
        let sure = self.family(cell).short_by(self.place(cell, to), self.scatter(cell, to)?);
        let effect = ratio.value * sure.max((1.0 + margin) / low) - 1.0;
        effect.is_finite().then_some(effect)
    }
}

/// The one to the other in every round that has both.
fn ratios(subject: &Rounds, baseline: &Rounds) -> impl Iterator<Item = f64> {
    let both = subject.iter().filter_map(|(round, value)| Some((*value, *baseline.get(round)?)));
    both.filter(|(_, base)| *base > 0.0).map(|(value, base)| value / base)
}
