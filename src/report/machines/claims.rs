//! What each machine says of itself, and whether two of them say the same.

use std::collections::{BTreeMap, BTreeSet};

use super::super::diff::{Verdict, stands};
use super::super::format::grouped;
use super::super::summary::{Cell, Outcome, Summary};
use crate::measure::fit::{self, Crossover};
use crate::measure::record::Load;
use crate::measure::stats::{Estimate, Interval};

/// From this factor on a cost is told to grow with the idle connections: what caches and timers add stays far below it, and
/// what scans passes it soon.
pub(super) const GROWS: f64 = 2.0;

/// What is asked of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Question {
    /// Whether one row of a table costs less than another.
    Order,
    /// Whether a row costs at least twice as much with the most idle connections as with the fewest.
    Shape,
    /// Below how many idle connections a mechanism that scans costs less.
    Crossover,
}

impl Question {
    /// All of them.
    pub const ALL: [Question; 3] = [Question::Order, Question::Shape, Question::Crossover];

    /// In JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Question::Order => "order",
            Question::Shape => "shape",
            Question::Crossover => "crossover",
        }
    }

    /// In a sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Question::Order => "who costs less than whom",
            Question::Shape => "what grows with idle connections",
            Question::Crossover => "where costs cross",
        }
    }
}

/// What a machine says.
#[derive(Clone, PartialEq, Debug)]
pub enum Opinion {
    /// The row costs less than the other, beyond noise.
    Less,
    /// It costs more.
    More,
    /// It costs at least twice as much: the whole interval is above 2.
    Grows,
    /// It costs less than twice as much: the whole interval is below.
    Stays,
    /// The crossover lies here, or at the end of what all have measured.
    Turns(Interval),
    /// It was measured, and cannot be told.
    Untold,
    /// It was not measured there, and why.
    Absent(String),
}

impl Opinion {
    /// In JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Opinion::Less => "less",
            Opinion::More => "more",
            Opinion::Grows => "grows",
            Opinion::Stays => "stays",
            Opinion::Turns(_) => "turns",
            Opinion::Untold => "cannot tell",
            Opinion::Absent(_) => "absent",
        }
    }

    /// Whether two say the same; `None` if one of them has nothing to say.
    pub fn with(&self, other: &Opinion) -> Option<Agreement> {
        Some(match (self, other) {
            (Opinion::Absent(_), _) | (_, Opinion::Absent(_)) => return None,
            (Opinion::Untold, Opinion::Untold) => Agreement::NoneTells,
            (Opinion::Untold, _) | (_, Opinion::Untold) => Agreement::SomeCannotTell,
            (Opinion::Turns(one), Opinion::Turns(other)) if one.low <= other.high && other.low <= one.high => {
                Agreement::Agree
            }
            (one, other) if one == other => Agreement::Agree,
            _ => Agreement::Differ,
        })
    }
}

/// Whether machines say the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// All can tell, and say the same; crossovers: their intervals overlap.
    Agree,
    /// Two of them say the opposite; crossovers: their intervals do not overlap.
    Differ,
    /// None says the opposite of another, but not all can tell.
    SomeCannotTell,
    /// None of them can tell.
    NoneTells,
}

impl Agreement {
    /// In a table, and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Agreement::Agree => "agree",
            Agreement::Differ => "differ",
            Agreement::SomeCannotTell => "some cannot tell",
            Agreement::NoneTells => "none can tell",
        }
    }
}

/// What one machine says, and by which figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Said {
    /// What it says.
    pub opinion: Opinion,
    /// How many times as much, on this machine; of a crossover the number of idle connections, as the model has it.
    pub figure: Option<Estimate>,
}

/// One thing that every machine was asked.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What.
    pub question: Question,
    /// Of which row; of a crossover the one that scans.
    pub subject: String,
    /// Held against which; `None` of a shape, where a row is held against itself.
    pub to: Option<String>,
    /// The idle connections: one population, or of a shape the fewest and the most; none of a crossover.
    pub idle: Vec<u32>,
    /// What kept the server busy, in words.
    pub load: String,
    /// One answer for each machine.
    pub said: Vec<Said>,
}

impl Claim {
    /// Whether two of the machines say the same; `None` if one of them was not asked.
    pub fn between(&self, one: usize, other: usize) -> Option<Agreement> {
        self.said[one].opinion.with(&self.said[other].opinion)
    }

    /// Whether all that were asked say the same; `None` if fewer than two were.
    pub fn over_all(&self) -> Option<Agreement> {
        let asked = (0..self.said.len()).filter(|at| !matches!(self.said[*at].opinion, Opinion::Absent(_)));
        self.among(&asked.collect::<Vec<_>>())
    }

    fn among(&self, machines: &[usize]) -> Option<Agreement> {
        let pairs = machines.iter().enumerate();
        let pairs = pairs.flat_map(|(at, one)| machines[at + 1..].iter().map(|other| self.between(*one, *other)));
        let pairs = pairs.collect::<Option<Vec<_>>>()?;
        let any = |what: Agreement| pairs.contains(&what);
        match () {
            () if pairs.is_empty() => None,
            () if any(Agreement::Differ) => Some(Agreement::Differ),
            () if any(Agreement::SomeCannotTell) => Some(Agreement::SomeCannotTell),
            () => pairs.first().copied(),
        }
    }
}

/// How often machines agree about one question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Which: places among the machines of the workload.
    pub machines: Vec<usize>,
    /// About what.
    pub question: Question,
    /// Of how many claims all of them were asked; over all machines, at least two of them.
    pub asked: usize,
    /// See [`Agreement`].
    pub agree: usize,
    /// As above.
    pub differ: usize,
    /// As above.
    pub some_cannot_tell: usize,
    /// As above.
    pub none_tells: usize,
}

/// One for each two machines and question that was asked of both; of more than two machines, one over all for each question.
pub(super) fn tallies(claims: &[Claim], machines: usize) -> Vec<Tally> {
    let tally = |question: Question, of: Vec<usize>, said: &dyn Fn(&Claim) -> Option<Agreement>| {
        let said = claims.iter().filter(|claim| claim.question == question).filter_map(said).collect::<Vec<_>>();
        let count = |what: Agreement| said.iter().filter(|one| **one == what).count();
        Tally {
            machines: of,
            question,
            asked: said.len(),
            agree: count(Agreement::Agree),
            differ: count(Agreement::Differ),
            some_cannot_tell: count(Agreement::SomeCannotTell),
            none_tells: count(Agreement::NoneTells),
        }
    };
    let mut tallies = Vec::new();
    for question in Question::ALL {
        for one in 0..machines {
            for other in one + 1..machines {
                tallies.push(tally(question, vec![one, other], &|claim| claim.between(one, other)));
            }
        }
        if machines > 2 {
            tallies.push(tally(question, (0..machines).collect(), &Claim::over_all));
        }
    }
    tallies.retain(|tally| tally.asked > 0);
    tallies
}

/// Everything that at least two of these can be asked, in the order of questions.
pub(super) fn all(summaries: &[&Summary<'_>]) -> Vec<Claim> {
    if summaries.len() < 2 {
        return Vec::new();
    }
    let mut claims = orders(summaries);
    claims.extend(shapes(summaries));
    claims.extend(crossovers(summaries));
    claims.retain(|claim| claim.over_all().is_some());
    claims
}

/// The rows that are ranked on any of them, in the order of the first that has each.
pub(super) fn rows(summaries: &[&Summary<'_>]) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    let subjects = summaries.iter().flat_map(|summary| &summary.subjects);
    for subject in subjects.filter(|subject| !subject.control && subject.class.is_none()) {
        if !rows.contains(&subject.name) {
            rows.push(subject.name.clone());
        }
    }
    rows
}

/// The loads of all of them, each with its words; open loops are left out, where each row is asked for a rate of its own.
pub(super) fn loads(summaries: &[&Summary<'_>]) -> Vec<(Load, String)> {
    let mut loads = BTreeMap::new();
    for summary in summaries {
        for load in summary.loads.iter().filter(|load| load.offered.is_none()) {
            loads.entry(*load).or_insert_with(|| summary.describe(*load));
        }
    }
    loads.into_iter().collect()
}

fn orders(summaries: &[&Summary<'_>]) -> Vec<Claim> {
    let idle = summaries.iter().flat_map(|summary| summary.idle.iter().copied()).collect::<BTreeSet<_>>();
    let (rows, mut claims) = (rows(summaries), Vec::new());
    for (load, words) in loads(summaries) {
        for &idle in &idle {
            for (at, subject) in rows.iter().enumerate() {
                for to in &rows[at + 1..] {
                    let said = summaries.iter().map(|summary| order(summary, subject, to, idle, load)).collect();
                    let (subject, to) = (subject.clone(), Some(to.clone()));
                    let (idle, load) = (vec![idle], words.clone());
                    claims.push(Claim { question: Question::Order, subject, to, idle, load, said });
                }
            }
        }
    }
    claims
}

fn order(summary: &Summary<'_>, subject: &str, to: &str, idle: u32, load: Load) -> Said {
    let [one, other] = [subject, to].map(|row| measured(summary, row, idle, load));
    let (one, other) = match (one, other) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(why), _) | (_, Err(why)) => return absent(why),
    };
    let Some((ratio, verdict)) = stands(summary, one, other) else { return absent(UNKNOWN.to_owned()) };
    let opinion = match verdict {
        Verdict::Win => Opinion::Less,
        Verdict::Lose => Opinion::More,
        _ => Opinion::Untold,
    };
    Said { opinion, figure: Some(ratio) }
}

fn shapes(summaries: &[&Summary<'_>]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for (load, words) in loads(summaries) {
        for subject in rows(summaries) {
            let known = |summary: &&&Summary<'_>| {
                let idle = summary.idle.iter().copied();
                idle.filter(|idle| measured(summary, &subject, *idle, load).is_ok()).collect::<BTreeSet<_>>()
            };
            let all = summaries.iter().map(|summary| known(&summary)).filter(|idle| !idle.is_empty());
            let Some(common) = all.reduce(|one, other| &one & &other) else { continue };
            let (Some(&fewest), Some(&most)) = (common.first(), common.last()) else { continue };
            if fewest == most {
                continue;
            }
            let said = summaries.iter().map(|summary| shape(summary, &subject, [fewest, most], load)).collect();
            let (idle, load) = (vec![fewest, most], words.clone());
            claims.push(Claim { question: Question::Shape, subject, to: None, idle, load, said });
        }
    }
    claims
}

fn shape(summary: &Summary<'_>, subject: &str, ends: [u32; 2], load: Load) -> Said {
    let (fewest, most) = match ends.map(|idle| measured(summary, subject, idle, load)) {
        [Ok(fewest), Ok(most)] => (fewest, most),
        [Err(why), _] | [_, Err(why)] => return absent(why),
    };
    let Some(ratio) = summary.ratio(most, fewest) else { return absent(UNKNOWN.to_owned()) };
    let opinion = match ratio.interval {
        Some(one) if one.low > GROWS => Opinion::Grows,
        Some(one) if one.high < GROWS => Opinion::Stays,
        _ => Opinion::Untold,
    };
    Said { opinion, figure: Some(ratio) }
}

fn crossovers(summaries: &[&Summary<'_>]) -> Vec<Claim> {
    let found = summaries.iter().map(|summary| fit::crossovers(summary.record)).collect::<Vec<_>>();
    let key = |one: &Crossover| (one.active, one.scanning.clone(), one.flat.clone());
    let keys = found.iter().flatten().map(key).collect::<BTreeSet<_>>();
    let claim = |(active, scanning, flat): (u32, String, String)| {
        let of = |at: usize| found[at].iter().find(|one| key(one) == (active, scanning.clone(), flat.clone()));
        // Beyond what all of these have measured, none is held against another.
        let most = (0..summaries.len()).filter(|at| of(*at).is_some()).filter_map(|at| summaries[at].idle.last());
        let most = f64::from(most.min().copied().unwrap_or(0));
        let said =
            (0..summaries.len()).map(|at| of(at).map_or_else(|| absent(NO_MODEL.to_owned()), |one| turn(one, most)));
        let said = said.collect();
        let load = format!("{} active", grouped(active.into()));
        Claim { question: Question::Crossover, subject: scanning, to: Some(flat), idle: Vec::new(), load, said }
    };
    keys.into_iter().map(claim).collect()
}

fn turn(found: &Crossover, most: f64) -> Said {
    let figure = Some(Estimate { value: found.idle, interval: found.interval });
    let opinion = match found.interval {
        Some(one) if one.low > 0.0 || one.high <= 0.0 => {
            Opinion::Turns(Interval { low: one.low.clamp(0.0, most), high: one.high.clamp(0.0, most) })
        }
        _ => Opinion::Untold,
    };
    Said { opinion, figure }
}

const UNKNOWN: &str = "its CPU time is not known";
const NO_MODEL: &str = "the cost model finds none there";

/// A cell with figures, or why there are none.
pub(super) fn measured<'s>(summary: &'s Summary<'_>, row: &str, idle: u32, load: Load) -> Result<&'s Cell, String> {
    let Some(row) = summary.subjects.iter().position(|subject| subject.name == row) else {
        return Err(format!("{row} is not a row there"));
    };
    match summary.table(idle, load).get(row) {
        None => Err("not asked for".to_owned()),
        Some(Cell { outcome: Outcome::Missing(why), .. }) => Err(why.clone()),
        Some(Cell { outcome: Outcome::Void(why), .. }) => Err(format!("void: {why}")),
        Some(cell) => Ok(cell),
    }
}

fn absent(why: String) -> Said {
    Said { opinion: Opinion::Absent(why), figure: None }
}
