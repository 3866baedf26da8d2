//! From a record to its cells: one figure each, with its interval, its rank, and why it has none.
//!
//! Every exporter stands on this one summary, so that no two of them can tell different stories.

mod ceiling;
mod open_loop;
mod ranking;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use ceiling::Ceilings;
pub use open_loop::OpenFigures;
use ranking::Judge;

use super::format::grouped;
use crate::measure::cells::{self, Cells};
use crate::measure::record::{CONTROL, Knobs, Ledger, Load, Record, Trial};
use crate::measure::stats::{self, Estimate, Pool};
use crate::workload::{Offered, Traffic};

/// Everything an exporter shows.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    /// What it was made from.
    pub record: &'a Record,
    /// The rows, in the order asked for; each control stands below its twin.
    pub subjects: Vec<Subject>,
    /// Idle populations, ascending.
    pub idle: Vec<u32>,
    /// What kept the servers busy: what connections did, and how many; ascending.
    pub loads: Vec<Load>,
    /// One for each idle population, load and subject, in that order. None is left out.
    pub cells: Vec<Cell>,
    /// What the A/A control says about the noise.
    pub noise: Noise,
    /// The comparisons behind all ranks.
    pub pairs: Pairs,
    trials: Cells<'a>,
    judge: Judge,
}

/// A row: a mechanism, or the control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// Its label.
    pub name: String,
    /// The mechanism it is.
    pub mechanism: String,
    /// It is the A/A control.
    pub control: bool,
    /// The class of a server that is not ours; `None` for ours.
    pub class: Option<String>,
    /// What its server is set to, where that is varied.
    pub set_to: Knobs,
}

/// How far the same mechanism, measured twice, differed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Noise {
    /// Cells in which both twins were measured.
    pub cells: usize,
    /// By how much they differed in 95 % of these; `None` without a control.
    pub spread: Option<f64>,
    /// The smallest difference that counts: the spread, but at least 5 %.
    pub margin: f64,
    /// In how many of these cells they would have been told apart, by the rule for all rows, with 5 % as the margin: the
    /// spread is made of them and cannot judge them.
    pub told_apart: usize,
}

/// Each two rows that a rank tells apart, or not: every two ranked rows of a table, in all tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pairs {
    /// How many pairs were seen in two rounds or more.
    pub all: usize,
    /// How many differ by more than chance, by Holm's correction with 5 % for each table; some by less than
    /// [counts](Noise::margin).
    pub differ: usize,
}

/// One subject under one load.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Index into [`Summary::subjects`].
    pub subject: usize,
    /// Connections open and silent.
    pub idle: u32,
    /// What kept the server busy.
    pub load: Load,
    /// What came of it.
    pub outcome: Outcome,
}

impl Cell {
    /// The figures, if it has any.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            Outcome::Missing(_) | Outcome::Void(_) => None,
        }
    }
}

/// What came of a cell.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Figures.
    Measured(Box<Figures>),
    /// It was not measured, for this reason.
    Missing(String),
    /// It was measured and does not count, for these reasons. One void trial is enough: who echoes a wrong byte in
    /// one round of five is not fast in the other four.
    Void(String),
}

/// The figures of one cell.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Timed trials behind them.
    pub rounds: usize,
    /// CPU time of the server for each request, in nanoseconds: what is ranked.
    pub cpu_ns: Option<Estimate>,
    /// The share of it spent in user mode, 0 to 1; approximate.
    pub user_share: Option<f64>,
    /// Requests per second.
    pub throughput: Option<Estimate>,
    /// Latency samples of all timed trials together.
    pub samples: u64,
    /// Half of the requests took at most this many nanoseconds; those of an open loop that were never sent took longer
    /// than all others.
    pub p50_ns: Option<u64>,
    /// As above, 99 of 100; from 1,000 samples on.
    pub p99_ns: Option<u64>,
    /// As above, 999 of 1,000; from 10,000 samples on.
    pub p999_ns: Option<u64>,
    /// What an open loop tells beside; `None` of a closed one.
    pub open: Option<OpenFigures>,
    /// Jain's index of the exchanges each active connection had: 1 if all had the same. Half way among the rounds.
    pub jain: Option<f64>,
    /// What the one that had the most had, as a multiple of what the one that had the fewest had: as above.
    pub most_to_least: Option<f64>,
    /// Bytes a second that the firehoses got, if there were any.
    pub firehoses: Option<Estimate>,
    /// System calls of the server for each request.
    pub calls: Option<f64>,
    /// They are by formula in part: see the mechanism's header.
    pub calls_derived: bool,
    /// What they are made for; `None` where no call is known.
    pub calls_for: Option<Calls>,
    /// Events each wait returned.
    pub events_per_wait: Option<f64>,
    /// Instructions for each request in user mode, from the counting round.
    pub instructions_user: Option<f64>,
    /// As above, in the kernel.
    pub instructions_kernel: Option<f64>,
    /// Memory of the server process for each idle connection, in bytes.
    pub memory_bytes: Option<f64>,
    /// The load was the limit, or in an open loop itself too late: throughput and latency say more about it than about
    /// the server. CPU and calls stand.
    pub client_limited: bool,
    /// The throughput as a part of the ceiling, which is what the same load does against the cheapest server there can
    /// be; `None` where that was not measured, or is no ceiling: in an open loop, and of several threads.
    pub ceiling_share: Option<f64>,
    /// CPU time for each request, as a multiple of the best of ours in the table.
    pub ratio: Option<Estimate>,
    /// By how much more CPU time for each request than the best this row would have been told apart from it, at so many
    /// rounds and with the scatter they had: 0.1 is a tenth. `None` of the best itself, and of what is compared with none.
    pub smallest_effect: Option<f64>,
    /// Its place in the table.
    pub standing: Standing,
}

/// System calls of the server for each request, by what they are made for; together [`Figures::calls`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Calls {
    /// To wait.
    pub wait: f64,
    /// To change what is waited for.
    pub change: f64,
    /// accept(2).
    pub accept: f64,
    /// recv(2).
    pub read: f64,
    /// send(2).
    pub write: f64,
    /// The rest: to close connections, to wake another thread.
    pub other: f64,
}

impl Calls {
    /// Of all the trials together.
    fn of(timed: &[&Trial], requests: f64) -> Option<Calls> {
        let each =
            |count: fn(&Ledger) -> u64| timed.iter().map(|trial| count(&trial.ledger) as f64).sum::<f64>() / requests;
        let all = each(|ledger| ledger.calls);
        let mut calls = Calls {
            wait: each(|ledger| ledger.wait_calls),
            change: each(|ledger| ledger.change_calls),
            accept: each(|ledger| ledger.accepts),
            read: each(|ledger| ledger.reads),
            write: each(|ledger| ledger.writes),
            other: 0.0,
        };
        let named = calls.wait + calls.change + calls.accept + calls.read + calls.write;
        // What a ring takes with one call are many operations, and no calls.
        if named > all * (1.0 + 1e-9) {
            calls = Calls { wait: calls.wait.min(all), ..Calls::default() };
        }
        calls.other = (all - calls.wait - calls.change - calls.accept - calls.read - calls.write).max(0.0);
        (all > 0.0).then_some(calls)
    }
}

/// A place in a table. The control has none, nor has a server that is not ours, nor a cell without CPU time, or seen in
/// one round only, or of an open loop, where rows differ in rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The lowest CPU time for each request.
    Best,
    /// The repeats do not separate it from the best.
    Indistinguishable,
    /// So many rows use less CPU, beyond noise, plus one.
    Rank(usize),
    /// Not ranked.
    Unranked,
}

impl<'a> Summary<'a> {
    /// Works out every cell.
    pub fn of(record: &'a Record) -> Summary<'a> {
        let (subjects, (idle, loads)) = (subjects(record), axes(record));
        let (ceilings, trials) = (Ceilings::of(record), record.cells());
        let mut cells = Vec::new();
        for &idle in &idle {
            for &load in &loads {
                for (subject, row) in subjects.iter().enumerate() {
                    let of_cell = trials.cell(&row.name, idle, load);
                    let outcome = outcome(record, &ceilings, row, &of_cell);
                    cells.push(Cell { subject, idle, load, outcome });
                }
            }
        }
        let (noise, pairs) = (Noise::NONE, Pairs::default());
        let mut summary =
            Summary { record, subjects, idle, loads, cells, noise, pairs, trials, judge: Judge::default() };
        summary.rank();
        summary
    }

    /// What a cell was made from.
    pub(super) fn trials(&self, cell: &Cell) -> cells::Cell<'a> {
        self.trials.cell(&self.subjects[cell.subject].name, cell.idle, cell.load)
    }

    /// The cells of one table, in the order of the subjects.
    pub fn table(&self, idle: u32, load: Load) -> &[Cell] {
        let place = self.idle.binary_search(&idle).ok().zip(self.loads.binary_search(&load).ok());
        place.map_or(&[], |(idle, load)| {
            let table = idle * self.loads.len() + load;
            &self.cells[table * self.subjects.len()..][..self.subjects.len()]
        })
    }

    /// Every table, as idle population and load, smallest first.
    pub fn tables(&self) -> impl Iterator<Item = (u32, Load)> + '_ {
        self.idle.iter().flat_map(|idle| self.loads.iter().map(|load| (*idle, *load)))
    }

    /// Whether any cell of a table has figures.
    pub fn is_measured(&self, idle: u32, load: Load) -> bool {
        self.table(idle, load).iter().any(|cell| cell.figures().is_some())
    }

    /// The cells of a table as a reader wants them: best first, then those that are not ours, each class for itself;
    /// those without figures last.
    pub fn ranked(&self, idle: u32, load: Load) -> Vec<&Cell> {
        let mut cells = self.table(idle, load).iter().collect::<Vec<_>>();
        let cost = |cell: &Cell| cell.figures().map(|figures| figures.cpu_ns.map_or(f64::MAX, |cpu| cpu.value));
        let class = |cell: &Cell| self.subjects[cell.subject].class.as_deref().filter(|_| cell.figures().is_some());
        let key = |cell: &Cell| (cell.figures().is_none(), cost(cell).unwrap_or(f64::INFINITY));
        cells.sort_by(|a, b| {
            let ((a_absent, a_cost), (b_absent, b_cost)) = (key(a), key(b));
            a_absent.cmp(&b_absent).then_with(|| class(a).cmp(&class(b))).then(a_cost.total_cmp(&b_cost))
        });
        cells
    }

    /// A load in words: how many connections are active, and what of their traffic is not the same in all loads.
    pub fn describe(&self, load: Load) -> String {
        self.words(load).join(", ")
    }

    pub(super) fn words(&self, load: Load) -> Vec<String> {
        let varies = |of: fn(&Traffic) -> u64| {
            let mut all = self.loads.iter().map(|one| of(&one.traffic));
            all.next().is_some_and(|first| all.any(|other| other != first))
        };
        let mut words = vec![format!("{} active", grouped(load.active.into()))];
        if let Some(exercise) = &load.exercise {
            let others = || self.loads.iter().filter_map(|load| load.exercise);
            words.extend(exercise.apart_from(others));
        }
        if varies(|traffic| traffic.payload as u64) {
            words.push(format!("{} B", grouped(load.traffic.payload as u64)));
        }
        if varies(|traffic| traffic.outstanding as u64) {
            words.push(format!("{} outstanding", grouped(load.traffic.outstanding as u64)));
        }
        if varies(|traffic| traffic.exchanges) {
            words.push(match load.traffic.exchanges {
                0 => "connections stay".to_owned(),
                exchanges => format!("{} per connection", grouped(exchanges)),
            });
        }
        if self.loads.iter().any(|one| one.transport != load.transport) {
            words.push(format!("over {}", load.transport));
        }
        if self.loads.iter().any(|one| one.firehoses != load.firehoses) {
            words.push(match load.firehoses {
                0 => "no firehose".to_owned(),
                1 => "1 firehose".to_owned(),
                many => format!("{many} firehoses"),
            });
        }
        if let Some(Offered { percent, arrivals, per_second }) = load.offered {
            words.push(match per_second {
                None => format!("{percent} % of capacity"),
                Some(rate) => format!("{} a second", grouped(rate.into())),
            });
            if self.loads.iter().any(|one| one.offered.is_some_and(|other| other.arrivals != arrivals)) {
                words.push(arrivals.to_string());
            }
        }
        words
    }

    /// Of how many tables each mechanism is the best, or cannot be told from it: (subject, tables), most first.
    pub fn leaders(&self) -> Vec<(&Subject, usize)> {
        let leads = |index: usize| {
            let of_subject = self.cells.iter().filter(|cell| cell.subject == index).filter_map(Cell::figures);
            of_subject.filter(|one| matches!(one.standing, Standing::Best | Standing::Indistinguishable)).count()
        };
        let mut leaders =
            self.subjects.iter().enumerate().map(|(at, subject)| (subject, leads(at))).collect::<Vec<_>>();
        leaders.retain(|(subject, tables)| !subject.control && *tables > 0);
        leaders.sort_by_key(|(_, tables)| std::cmp::Reverse(*tables));
        leaders
    }
}

impl Noise {
    const NONE: Noise = Noise { cells: 0, spread: None, margin: stats::SMALLEST_EFFECT, told_apart: 0 };
}

/// How many cells the summary of `record` would have, without making any of them.
pub(super) fn size(record: &Record) -> usize {
    let settings = &record.settings;
    let idle = settings.idle.iter().copied().chain(record.trials.iter().map(|trial| trial.idle));
    let idle = idle.collect::<BTreeSet<_>>().len();
    let (active, traffic, offered) = (set(&settings.active), set(&settings.traffic), set(&settings.offered));
    let transport = set(&settings.transport);
    let firehoses = set(&settings.firehoses);
    let ways = [traffic.len(), offered.len(), transport.len(), firehoses.len()].map(|ways| ways.max(1));
    let asked = ways.into_iter().fold(active.len(), usize::saturating_mul);
    let seen = record.trials.iter().map(|trial| settings.load_of(trial));
    let is_asked = |load: &Load| {
        let is_offered = load.offered.map_or(offered.is_empty(), |one| offered.contains(&one));
        let is_carried = transport.contains(&load.transport) || transport.is_empty() && load.transport.is_usual();
        let is_beside = firehoses.contains(&load.firehoses) || firehoses.is_empty() && load.firehoses == 0;
        is_offered && is_carried && is_beside && active.contains(&load.active) && traffic.contains(&load.traffic)
    };
    let others = seen.filter(|load| !is_asked(load));
    let loads = asked.saturating_add(others.collect::<BTreeSet<_>>().len());
    subjects(record).len().saturating_mul(idle).saturating_mul(loads)
}

fn set<T: Copy + Ord>(values: &[T]) -> BTreeSet<T> {
    values.iter().copied().collect()
}

/// The idle populations and the loads, those asked for and any other that was measured.
fn axes(record: &Record) -> (Vec<u32>, Vec<Load>) {
    let settings = &record.settings;
    let idle = settings.idle.iter().copied().chain(record.trials.iter().map(|trial| trial.idle));
    let loads = settings.loads().chain(record.trials.iter().map(|trial| settings.load_of(trial)));
    (idle.collect::<BTreeSet<_>>().into_iter().collect(), loads.collect::<BTreeSet<_>>().into_iter().collect())
}

/// The rows asked for, then any other that was measured; a control directly below its twin.
fn subjects(record: &Record) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    let measured_as = |name: &String| record.trials.iter().find(|trial| trial.subject == *name);
    let asked = record.settings.mechanisms.iter();
    let asked = asked.map(|name| (name, measured_as(name).map_or(name, |trial| &trial.mechanism), false));
    let ranked = record.trials.iter().filter(|trial| !trial.ceiling);
    let measured = ranked.map(|trial| (&trial.subject, &trial.mechanism, trial.control));
    let missing = record.missing.iter().map(|missing| (&missing.subject, &missing.subject, false));
    for (name, mechanism, control) in asked.chain(measured).chain(missing) {
        if subjects.iter().any(|subject| subject.name == *name) {
            continue;
        }
        let class = record.contestants.iter().find(|one| one.label == *name).map(|one| one.class.clone());
        let set_to = measured_as(name).map_or(Knobs::NONE, |trial| trial.set_to);
        let subject = Subject { name: name.clone(), mechanism: mechanism.clone(), control, class, set_to };
        let twin = twin(&subjects, name).filter(|_| control);
        subjects.insert(twin.map_or(subjects.len(), |twin| twin + 1), subject);
    }
    subjects
}

/// Which of these the control of this name is a second time: no other row of the same mechanism.
pub(super) fn twin(subjects: &[Subject], control: &str) -> Option<usize> {
    let name = control.strip_suffix(CONTROL)?;
    subjects.iter().position(|one| one.name == name && !one.control)
}

fn outcome(record: &Record, ceilings: &Ceilings, subject: &Subject, cell: &cells::Cell<'_>) -> Outcome {
    let (idle, load) = (cell.idle, cell.load);
    if let Some(why) = cell.void() {
        return Outcome::Void(why);
    }
    let timed = cell.timed().filter(|trial| trial.requests > 0).collect::<Vec<_>>();
    if timed.is_empty() && cell.timed().any(|trial| trial.open_loop.is_some()) {
        return Outcome::Missing("nothing was due while it was measured".to_owned());
    }
    if timed.is_empty() {
        let concerns = |asked: Option<u32>, here: u32| asked.is_none_or(|asked| asked == here);
        let reason = record.missing.iter().find(|missing| {
            missing.subject == subject.name && concerns(missing.idle, idle) && concerns(missing.active, load.active)
        });
        return Outcome::Missing(match reason {
            Some(missing) => missing.reason.clone(),
            None if record.finished => "not measured, and the record does not say why".to_owned(),
            None => "not measured before the comparison ended".to_owned(),
        });
    }
    let mut figures = figures(&timed, &cell.counted().collect::<Vec<_>>(), record.seed);
    ceilings.hold(&mut figures, load, &timed);
    Outcome::Measured(Box::new(figures))
}

fn figures(timed: &[&Trial], counted: &[&Trial], seed: u64) -> Figures {
    let mut latency = Pool::default();
    for trial in timed {
        trial.add_latencies_to(&mut latency);
    }
    let each =
        |value: &dyn Fn(&Trial) -> Option<f64>| timed.iter().filter_map(|trial| value(trial)).collect::<Vec<_>>();
    let estimate = |value: &dyn Fn(&Trial) -> Option<f64>| Estimate::of(&each(value), seed);
    let total = |value: &dyn Fn(&Trial) -> u64| timed.iter().map(|trial| value(trial) as f64).sum::<f64>();
    let per_request = |count: &dyn Fn(&Trial) -> Option<u64>| {
        let counts = counted.iter().filter(|trial| trial.requests > 0);
        stats::median(
            &counts.filter_map(|trial| Some(count(trial)? as f64 / trial.requests as f64)).collect::<Vec<_>>(),
        )
    };
    let (requests, calls) = (total(&|trial| trial.requests), total(&|trial| trial.ledger.calls));
    let (waits, events) = (total(&|trial| trial.ledger.waits), total(&|trial| trial.ledger.events));
    let limited = timed.iter().filter(|trial| trial.client_limited == Some(true)).count();
    let open = OpenFigures::of(timed, &latency, seed);
    Figures {
        rounds: timed.len(),
        cpu_ns: estimate(&Trial::request_ns),
        user_share: stats::median(&each(&|trial| {
            let (user, system) = (trial.server_user_ns? as f64, trial.server_system_ns? as f64);
            (user + system > 0.0).then(|| user / (user + system))
        })),
        throughput: estimate(&|trial| {
            (trial.duration_ns > 0).then(|| trial.requests as f64 * 1e9 / trial.duration_ns as f64)
        }),
        samples: latency.samples(),
        p50_ns: latency.percentile(0.5),
        p99_ns: latency.percentile(0.99),
        p999_ns: latency.percentile(0.999),
        calls: (calls > 0.0).then(|| calls / requests),
        calls_derived: timed.iter().any(|trial| trial.ledger.derived),
        calls_for: Calls::of(timed, requests),
        events_per_wait: (waits > 0.0).then(|| events / waits),
        instructions_user: per_request(&|trial| trial.instructions_user),
        instructions_kernel: per_request(&|trial| trial.instructions_kernel),
        memory_bytes: stats::median(&each(&|trial| trial.rss_per_connection_bytes)),
        client_limited: open.as_ref().map_or(limited * 2 > timed.len(), |open| open.late),
        open,
        ceiling_share: None,
        jain: stats::median(&each(&|trial| Some(trial.served?.jain))),
        most_to_least: stats::median(&each(&|trial| {
            let served = trial.served?;
            Some(served.most as f64 / served.least as f64)
        }))
        .filter(|factor| factor.is_finite()), // or one had none
        firehoses: estimate(&|trial| trial.firehose_bytes_per_second),
        ratio: None,
        smallest_effect: None,
        standing: Standing::Unranked,
    }
}

fn cost(cell: &Cell) -> Option<f64> {
    Some(cell.figures()?.cpu_ns?.value)
}
