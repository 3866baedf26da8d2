//! Two records, the one against the other: by how much each cell has changed on one machine, and what of one record
//! the other confirms on another.
//!
//! Rounds of different records have nothing to do with each other, so no round of one is paired with one of the other.
//! What counts as a change is at least what the A/A controls of both records differed by, and at least 5 %; and what
//! chance does not explain with all comparisons counted, for of a hundred cells that have not changed five would seem to.

mod programs;
mod signs;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

pub(super) use signs::stands;
pub use signs::{Growth, Sign};

use super::summary::{Cell, Outcome, Subject, Summary, twin};
use crate::measure::family::{Family, Prior, Scatter};
use crate::measure::record::{Load, Record, Trial};
use crate::measure::stats::{self, Estimate};

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// CPU time of the server for each request, in nanoseconds.
    Cpu,
    /// What 99 of 100 requests of a trial do not exceed, in nanoseconds; not of a cell where the load was the limit.
    P99,
}

impl Metric {
    /// Both, the ranked one first.
    pub const ALL: [Metric; 2] = [Metric::Cpu, Metric::P99];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu_ns_per_request",
            Metric::P99 => "p99_ns",
        }
    }

    fn of(self, trial: &Trial) -> Option<f64> {
        match self {
            Metric::Cpu => trial.request_ns(),
            Metric::P99 => trial.latencies().percentile(0.99).map(|nanos| nanos as f64),
        }
    }
}

/// How the second record stands to the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It takes less, beyond noise.
    Win,
    /// It takes more, beyond noise.
    Lose,
    /// Noise would explain the difference.
    Indistinguishable,
    /// One of them has it from a single round only, of which nothing can be concluded.
    Once,
    /// It is not in one of them, or not to be had there, and why.
    Missing(String),
    /// The second record voids it, and why.
    Void(String),
}

impl Verdict {
    /// In a word.
    pub const fn word(&self) -> &'static str {
        match self {
            Verdict::Win => "win",
            Verdict::Lose => "lose",
            Verdict::Indistinguishable => "indistinguishable",
            Verdict::Once => "seen once",
            Verdict::Missing(_) => "missing",
            Verdict::Void(_) => "void",
        }
    }

    /// Of a change, where a smaller value is better.
    fn of(change: Estimate, margin: f64) -> Verdict {
        match change.interval {
            None => Verdict::Once,
            Some(_) if change.is_beyond(margin) => Verdict::Lose,
            Some(_) if change.is_below(margin) => Verdict::Win,
            Some(_) => Verdict::Indistinguishable,
        }
    }
}

/// One metric of one cell, in both records.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The row.
    pub subject: String,
    /// Connections open and silent.
    pub idle: u32,
    /// What kept the server busy.
    pub load: Load,
    /// What is compared.
    pub metric: Metric,
    /// The medians, of the first record and of the second.
    pub medians: [Option<f64>; 2],
    /// The second as a multiple of the first.
    pub ratio: Option<Estimate>,
    /// How likely what has not changed is to look as changed as this, were it the only comparison; `None` of what was seen
    /// once, or not in both.
    pub chance: Option<f64>,
    /// By how much more the second would have had to take to lose, at so many rounds and with the scatter they had: 0.1 is a
    /// tenth.
    pub smallest_effect: Option<f64>,
    /// What would follow, were it the only comparison.
    pub alone: Verdict,
    /// What follows, with all comparisons of its metric counted.
    pub verdict: Verdict,
}

impl Change {
    /// Whether it would count, were it the only comparison, and does not because it is one of many.
    pub fn is_corrected(&self) -> bool {
        self.alone != self.verdict
    }
}

/// Two records, compared.
#[derive(Clone, Debug)]
pub struct Diff<'a> {
    /// The first, against which the second is held.
    pub before: Summary<'a>,
    /// The second.
    pub after: Summary<'a>,
    /// By what their machines differ: name, first, second. None, if it is one, or two of a kind.
    pub machines: Vec<(&'static str, String, String)>,
    /// The smallest change of each metric that counts.
    pub margins: [f64; 2],
    /// How many comparisons of each metric were judged together, by Holm's correction with 5 % for each metric.
    pub compared: [usize; 2],
    /// On one machine every metric of every cell that is in one of them, but for the controls; a metric that is not
    /// ranked, and that one of them does not know, is left out.
    pub changes: Vec<Change>,
    /// On two machines how each row stands to the first row of its table that both records have.
    pub signs: Vec<Sign>,
    /// On two machines how costs grow, of every row and load that both have with three idle populations or more.
    pub growths: Vec<Growth>,
}

impl<'a> Diff<'a> {
    /// Of the first record, and of the second that is held against it.
    pub fn of(before: &'a Record, after: &'a Record) -> Diff<'a> {
        let machines = before.host.machine_differences(&after.host);
        let (before, after) = (Summary::of(before), Summary::of(after));
        let margins = Metric::ALL.map(|metric| margin(&before, metric).max(margin(&after, metric)));
        let (changes, signs, growths) = (Vec::new(), Vec::new(), Vec::new());
        let mut diff = Diff { before, after, machines, margins, compared: [0; 2], changes, signs, growths };
        if diff.is_same_machine() {
            (diff.changes, diff.compared) = diff.all_changes();
        } else {
            (diff.signs, diff.growths) = (diff.all_signs(), diff.all_growths());
        }
        diff
    }

    /// Whether figures of the one may be held against those of the other: it is one machine, or two of a kind.
    pub fn is_same_machine(&self) -> bool {
        self.machines.is_empty()
    }

    fn all_changes(&self) -> (Vec<Change>, [usize; 2]) {
        let cells =
            |summary: &Summary<'_>| summary.cells.iter().map(|cell| key(summary, cell)).collect::<BTreeSet<_>>();
        let all = cells(&self.before).union(&cells(&self.after)).cloned().collect::<Vec<_>>();
        let control = |name: &str| {
            [&self.before, &self.after].iter().any(|one| one.subjects.iter().any(|row| row.control && row.name == name))
        };
        let change = |(idle, load, subject): &(u32, Load, String)| {
            let of_metric = |metric| self.change(subject, *idle, *load, metric);
            Metric::ALL.into_iter().filter_map(of_metric).collect::<Vec<_>>()
        };
        let mut changes = all.iter().filter(|(_, _, subject)| !control(subject)).flat_map(change).collect::<Vec<_>>();
        let compared = Metric::ALL.map(|metric| self.correct(metric, &mut changes));
        (changes.into_iter().map(|(change, _)| change).collect(), compared)
    }

    /// Leaves only those verdicts on a metric that chance does not explain with all of them counted. Returns how many
    /// comparisons these were.
    fn correct(&self, metric: Metric, changes: &mut [(Change, Option<Scatter>)]) -> usize {
        let mut members = changes
            .iter_mut()
            .filter(|(change, _)| change.metric == metric)
            .filter_map(|(change, scatter)| scatter.map(|scatter| (change, scatter)))
            .collect::<Vec<_>>();
        let comparisons = members.iter().map(|(_, scatter)| *scatter).collect::<Vec<_>>();
        let family = Family::of(Prior::of(&comparisons), &comparisons);
        for (at, (change, scatter)) in members.iter_mut().enumerate() {
            change.chance = Some(family.chance(at));
            let interval = change.ratio.and_then(|ratio| Some((ratio.value, ratio.interval?.low)));
            change.smallest_effect = interval.and_then(|(value, low)| {
                let sure = family.short_by(Some(at), *scatter);
                let effect = value * sure.max((1.0 + self.margins[metric as usize]) / low) - 1.0;
                effect.is_finite().then_some(effect)
            });
            if !family.tells(at) && matches!(change.verdict, Verdict::Win | Verdict::Lose) {
                change.verdict = Verdict::Indistinguishable;
            }
        }
        family.size()
    }

    /// Taken by itself, with how it scatters where it was seen more than once in both records.
    fn change(&self, subject: &str, idle: u32, load: Load, metric: Metric) -> Option<(Change, Option<Scatter>)> {
        let both = [&self.before, &self.after];
        let cells = both.map(|summary| find(summary, subject, idle, load));
        let values = both.map(|summary| values(summary.record, subject, idle, load, metric));
        // An unknown figure of a cell that was measured is not a difference, and a load at its limit measures itself.
        let is_void = |cell: &Option<&Cell>| cell.is_some_and(|cell| matches!(cell.outcome, Outcome::Void(_)));
        let is_of_the_load = |cell: &Option<&Cell>| cell.and_then(Cell::figures).is_some_and(|one| one.client_limited);
        let is_unknown = values.iter().any(Vec::is_empty) || cells.iter().any(is_of_the_load);
        if metric == Metric::P99 && is_unknown && !cells.iter().any(is_void) {
            return None;
        }
        let medians = [0, 1].map(|at| stats::median(&values[at]));
        let [before, after] = &values;
        let ratio = Estimate::of_change(after, before, self.after.record.seed);
        let reason = |at: usize| match cells[at].map(|cell| &cell.outcome) {
            None => Some("not asked for".to_owned()),
            Some(Outcome::Missing(why)) => Some(why.clone()),
            Some(Outcome::Void(why)) => Some(format!("void: {why}")),
            Some(Outcome::Measured(_)) if values[at].is_empty() => Some("CPU time is not known".to_owned()),
            Some(Outcome::Measured(_)) => None,
        };
        let verdict = match (&cells[1], [reason(0), reason(1)], ratio) {
            (Some(Cell { outcome: Outcome::Void(why), .. }), ..) => Verdict::Void(why.clone()),
            (_, [None, None], Some(ratio)) => Verdict::of(ratio, self.margins[metric as usize]),
            (_, [None, None], None) => Verdict::Missing("it took nothing in the first".to_owned()),
            (_, [Some(first), Some(second)], _) if first == second => Verdict::Missing(format!("in both: {first}")),
            (_, [Some(first), Some(second)], _) => {
                Verdict::Missing(format!("in the first: {first}; in the second: {second}"))
            }
            (_, [Some(why), None], _) => Verdict::Missing(format!("in the first: {why}")),
            (_, [None, Some(why)], _) => Verdict::Missing(format!("in the second: {why}")),
        };
        let ratio = ratio.filter(|_| !matches!(verdict, Verdict::Void(_) | Verdict::Missing(_)));
        let scatter = ratio.and_then(|_| Scatter::of_change(after, before));
        let (subject, alone) = (subject.to_owned(), verdict.clone());
        let (chance, smallest_effect) = (None, None);
        let change = Change { subject, idle, load, metric, medians, ratio, chance, smallest_effect, alone, verdict };
        Some((change, scatter))
    }

    /// Whether the second record has taken anything from the first: a cell that loses, or that it voids.
    pub fn is_worse(&self) -> bool {
        let worse = |verdict: &Verdict| matches!(verdict, Verdict::Lose | Verdict::Void(_));
        self.changes.iter().any(|change| worse(&change.verdict))
    }
}

fn key(summary: &Summary<'_>, cell: &Cell) -> (u32, Load, String) {
    (cell.idle, cell.load, summary.subjects[cell.subject].name.clone())
}

fn find<'s>(summary: &'s Summary<'_>, subject: &str, idle: u32, load: Load) -> Option<&'s Cell> {
    summary.table(idle, load).iter().find(|cell| summary.subjects[cell.subject].name == subject)
}

/// The metric in each timed trial of a cell.
fn values(record: &Record, subject: &str, idle: u32, load: Load, metric: Metric) -> Vec<f64> {
    record.cell(subject, idle, load).timed().filter_map(|trial| metric.of(trial)).collect()
}

/// One row to another of the same record, within each round.
fn paired(record: &Record, (of, to): (&str, &str), idle: u32, load: Load, metric: Metric) -> Option<Estimate> {
    let (of, to) = (record.cell(of, idle, load), record.cell(to, idle, load));
    let to = to.timed().collect::<Vec<_>>();
    let pair = |trial: &Trial| {
        let base = to.iter().find(|base| base.round == trial.round)?;
        Some((metric.of(trial)?, metric.of(base)?))
    };
    let (of, to): (Vec<_>, Vec<_>) = of.timed().filter_map(pair).unzip();
    Estimate::of_ratio(&of, &to, record.seed)
}

/// The smallest change that counts in one record, by its control.
fn margin(summary: &Summary<'_>, metric: Metric) -> f64 {
    if metric == Metric::Cpu {
        return summary.noise.margin;
    }
    let mut ratios = Vec::new();
    for cell in summary.cells.iter().filter(|cell| summary.subjects[cell.subject].control) {
        let control = &summary.subjects[cell.subject];
        let twin = twin(&summary.subjects, &control.name).map(|at| &summary.subjects[at]);
        let ratio = |twin: &Subject| paired(summary.record, (&control.name, &twin.name), cell.idle, cell.load, metric);
        ratios.extend(twin.and_then(ratio).map(|ratio| ratio.value));
    }
    stats::margin(&ratios)
}
