//! Two machines: how each row stands to the first row of its table, and how costs grow.

use super::{Diff, Verdict, find};
use crate::measure::record::Load;
use crate::measure::stats::{self, Estimate};
use crate::report::summary::{Cell, Summary};

/// How a row stands to the first row of its table, in CPU time for each request, in both records.
#[derive(Clone, PartialEq, Debug)]
pub struct Sign {
    /// The row.
    pub subject: String,
    /// The row it is held against.
    pub reference: String,
    /// Connections open and silent.
    pub idle: u32,
    /// What kept the server busy.
    pub load: Load,
    /// Multiples of the reference, in the first record and in the second.
    pub ratios: [Estimate; 2],
    /// What follows of each.
    pub verdicts: [Verdict; 2],
}

impl Sign {
    /// Whether both records say the same; `None` if one of them cannot tell and the other can.
    pub fn agree(&self) -> Option<bool> {
        match &self.verdicts {
            [Verdict::Win, Verdict::Lose] | [Verdict::Lose, Verdict::Win] => Some(false),
            [one, other] if one == other && *one != Verdict::Once => Some(true),
            _ => None,
        }
    }

    /// The same in words.
    pub fn word(&self) -> &'static str {
        match self.agree() {
            Some(true) => "the same",
            Some(false) => "the opposite",
            None => "not both anything",
        }
    }
}

/// How what a wait costs a row grows with the connections it watches, in both records.
#[derive(Clone, PartialEq, Debug)]
pub struct Growth {
    /// The row.
    pub subject: String,
    /// What kept the server busy.
    pub load: Load,
    /// Log-log slopes, in the first record and in the second: 1 grows in proportion, 0 stays flat.
    pub slopes: [f64; 2],
}

impl Diff<'_> {
    pub(super) fn all_signs(&self) -> Vec<Sign> {
        let mut signs = Vec::new();
        // In an open loop each is asked for a part of its own capacity: that is no table to be ranked.
        for (idle, load) in self.before.tables().filter(|(_, load)| load.offered.is_none()) {
            let rows = self.before.subjects.iter().filter(|row| !row.control).filter(|row| {
                let measured =
                    |summary| find(summary, &row.name, idle, load).is_some_and(|one| one.figures().is_some());
                measured(&self.before) && measured(&self.after)
            });
            let rows = rows.map(|row| row.name.as_str()).collect::<Vec<_>>();
            let Some((&reference, others)) = rows.split_first() else { continue };
            for subject in others {
                let said = |summary| {
                    let [one, to] = [*subject, reference].map(|row| find(summary, row, idle, load));
                    stands(summary, one?, to?)
                };
                let Some((one, other)) = said(&self.before).zip(said(&self.after)) else { continue };
                signs.push(Sign {
                    subject: (*subject).to_owned(),
                    reference: reference.to_owned(),
                    idle,
                    load,
                    ratios: [one.0, other.0],
                    verdicts: [one.1, other.1],
                });
            }
        }
        signs
    }

    pub(super) fn all_growths(&self) -> Vec<Growth> {
        let mut growths = Vec::new();
        for load in &self.before.loads {
            for row in self.before.subjects.iter().filter(|row| !row.control) {
                let slope = |summary| slope(summary, &row.name, *load);
                if let Some((one, other)) = slope(&self.before).zip(slope(&self.after)) {
                    growths.push(Growth { subject: row.name.clone(), load: *load, slopes: [one, other] });
                }
            }
        }
        growths
    }
}

/// What one cell costs in multiples of another of the same table, and what follows by the rule of the ranks: the whole
/// interval is beyond what counts in this record, and chance does not explain it with all pairs of the table counted. `None`
/// unless both were measured in the same rounds.
pub(in super::super) fn stands(summary: &Summary<'_>, cell: &Cell, to: &Cell) -> Option<(Estimate, Verdict)> {
    let ratio = summary.ratio(cell, to)?;
    let verdict = match Verdict::of(ratio, summary.noise.margin) {
        Verdict::Win | Verdict::Lose if !summary.differ(cell, to) => Verdict::Indistinguishable,
        other => other,
    };
    Some((ratio, verdict))
}

/// The log-log slope of what a wait costs over the connections watched.
fn slope(summary: &Summary<'_>, subject: &str, load: Load) -> Option<f64> {
    let point = |idle: &u32| {
        let figures = find(summary, subject, *idle, load)?.figures()?;
        Some((f64::from(*idle) + f64::from(load.active), figures.cpu_ns?.value * figures.events_per_wait?))
    };
    let points = summary.idle.iter().filter_map(point).collect::<Vec<_>>();
    (points.len() >= 3).then(|| stats::log_log_slope(&points)).flatten()
}
