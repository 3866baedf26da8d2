//! From a record to its cells: one figure each, with its interval, its rank, and why it has none.
//!
//! Every exporter stands on this one summary, so that no two of them can tell different stories.

use std::collections::{BTreeMap, BTreeSet};

use crate::measure::record::{Record, Trial};
use crate::measure::stats::{self, Estimate, Pool};

/// Everything an exporter shows.
#[derive(Clone, Debug)]
pub struct Summary<'a> {
    /// What it was made from.
    pub record: &'a Record,
    /// The rows, in the order asked for; each control stands below its twin.
    pub subjects: Vec<Subject>,
    /// Idle populations, ascending.
    pub idle: Vec<u32>,
    /// Numbers of active connections, ascending.
    pub active: Vec<u32>,
    /// One for each idle population, number of active connections and subject, in that order. None is left out.
    pub cells: Vec<Cell>,
    /// What the A/A control says about the noise.
    pub noise: Noise,
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
}

/// One subject under one load.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Index into [`Summary::subjects`].
    pub subject: usize,
    /// Connections open and silent.
    pub idle: u32,
    /// Connections kept busy.
    pub active: u32,
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
    /// Half of the requests took at most this many nanoseconds.
    pub p50_ns: Option<u64>,
    /// As above, 99 of 100; from 1,000 samples on.
    pub p99_ns: Option<u64>,
    /// As above, 999 of 1,000; from 10,000 samples on.
    pub p999_ns: Option<u64>,
    /// System calls of the server for each request.
    pub calls: Option<f64>,
    /// They are by formula in part: see the mechanism's header.
    pub calls_derived: bool,
    /// Events each wait returned.
    pub events_per_wait: Option<f64>,
    /// Instructions for each request in user mode, from the counting round.
    pub instructions_user: Option<f64>,
    /// As above, in the kernel.
    pub instructions_kernel: Option<f64>,
    /// Memory of the server process for each idle connection, in bytes.
    pub memory_bytes: Option<f64>,
    /// The load was the limit: throughput and latency say more about it than about the server. CPU and calls stand.
    pub client_limited: bool,
    /// CPU time for each request, as a multiple of the best of the table.
    pub ratio: Option<Estimate>,
    /// Its place in the table.
    pub standing: Standing,
}

/// A place in a table. The control has none, nor has a cell without CPU time, or seen in one round only.
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
        let subjects = subjects(record);
        let asked = |axis: &[u32], seen: fn(&Trial) -> u32| {
            let all = axis.iter().copied().chain(record.trials.iter().map(seen));
            all.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        let idle = asked(&record.settings.idle, |trial| trial.idle);
        let active = asked(&record.settings.active, |trial| trial.active);
        let mut cells = Vec::new();
        for &idle in &idle {
            for &active in &active {
                for (subject, row) in subjects.iter().enumerate() {
                    cells.push(Cell { subject, idle, active, outcome: outcome(record, row, idle, active) });
                }
            }
        }
        let mut summary = Summary { record, subjects, idle, active, cells, noise: Noise::NONE };
        summary.measure_noise();
        for table in 0..summary.idle.len() * summary.active.len() {
            summary.rank(table);
        }
        summary
    }

    /// The cells of one table, in the order of the subjects.
    pub fn table(&self, idle: u32, active: u32) -> &[Cell] {
        let of_axis = |axis: &[u32], value| axis.iter().position(|one| *one == value);
        let place = of_axis(&self.idle, idle).zip(of_axis(&self.active, active));
        place.map_or(&[], |(idle, active)| {
            let table = idle * self.active.len() + active;
            &self.cells[table * self.subjects.len()..][..self.subjects.len()]
        })
    }

    /// Every table, as (idle, active), smallest first.
    pub fn tables(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.idle.iter().flat_map(|idle| self.active.iter().map(|active| (*idle, *active)))
    }

    /// Whether any cell of a table has figures.
    pub fn is_measured(&self, idle: u32, active: u32) -> bool {
        self.table(idle, active).iter().any(|cell| cell.figures().is_some())
    }

    /// The cells of a table as a reader wants them: best first, those without figures last.
    pub fn ranked(&self, idle: u32, active: u32) -> Vec<&Cell> {
        let mut cells = self.table(idle, active).iter().collect::<Vec<_>>();
        let cost = |cell: &Cell| cell.figures().map(|figures| figures.cpu_ns.map_or(f64::MAX, |cpu| cpu.value));
        cells.sort_by(|a, b| {
            let (a, b) = (cost(a).unwrap_or(f64::INFINITY), cost(b).unwrap_or(f64::INFINITY));
            a.total_cmp(&b)
        });
        cells
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

    fn measure_noise(&mut self) {
        let mut ratios = Vec::new();
        for cell in self.cells.iter().filter(|cell| self.subjects[cell.subject].control) {
            let mechanism = &self.subjects[cell.subject].mechanism;
            let twin = self.subjects.iter().position(|one| !one.control && one.mechanism == *mechanism);
            let twin = twin.and_then(|twin| self.table(cell.idle, cell.active).get(twin));
            ratios.extend(twin.and_then(|twin| self.ratio(cell, twin)).map(|ratio| ratio.value));
        }
        let (spread, margin) = (stats::spread(&ratios), stats::margin(&ratios));
        self.noise = Noise { cells: ratios.len(), spread, margin };
    }

    fn rank(&mut self, table: usize) {
        let first = table * self.subjects.len();
        let cells = &self.cells[first..][..self.subjects.len()];
        let contends = |cell: &&Cell| !self.subjects[cell.subject].control && cost(cell).is_some();
        let contenders = cells.iter().filter(contends).collect::<Vec<_>>();
        let Some(best) =
            contenders.iter().copied().min_by(|a, b| cost(a).unwrap_or(0.0).total_cmp(&cost(b).unwrap_or(0.0)))
        else {
            return;
        };
        let mut found = Vec::new();
        for cell in cells.iter().filter(|cell| cost(cell).is_some()) {
            let loses = |to: &Cell| self.ratio(cell, to).is_some_and(|ratio| ratio.is_beyond(self.noise.margin));
            let ratio = self.ratio(cell, best);
            // Seen only once, a difference is not one, and neither is its absence.
            let once = ratio.is_none_or(|ratio| ratio.interval.is_none());
            let standing = if self.subjects[cell.subject].control || once {
                Standing::Unranked
            } else if cell.subject == best.subject {
                Standing::Best
            } else if !ratio.is_some_and(|ratio| ratio.is_beyond(self.noise.margin)) {
                Standing::Indistinguishable
            } else {
                Standing::Rank(1 + contenders.iter().filter(|other| loses(other)).count())
            };
            found.push((cell.subject, ratio, standing));
        }
        for (subject, ratio, standing) in found {
            if let Outcome::Measured(figures) = &mut self.cells[first + subject].outcome {
                (figures.ratio, figures.standing) = (ratio, standing);
            }
        }
    }

    /// CPU time for each request of one cell to that of another, paired by round.
    fn ratio(&self, cell: &Cell, to: &Cell) -> Option<Estimate> {
        let by_round = |cell: &Cell| {
            let trials = trials(self.record, &self.subjects[cell.subject], cell.idle, cell.active);
            let timed = trials.filter(|trial| trial.is_timed());
            timed.filter_map(|trial| Some((trial.round, cpu_ns(trial)?))).collect::<BTreeMap<_, _>>()
        };
        let baseline = by_round(to);
        let pairs = by_round(cell).into_iter().filter_map(|(round, value)| Some((value, *baseline.get(&round)?)));
        let (subject, baseline): (Vec<f64>, Vec<f64>) = pairs.unzip();
        Estimate::of_ratio(&subject, &baseline, self.record.seed)
    }
}

impl Noise {
    const NONE: Noise = Noise { cells: 0, spread: None, margin: stats::SMALLEST_EFFECT };
}

/// The rows asked for, then any other that was measured; a control directly below its twin.
fn subjects(record: &Record) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    let asked = record.settings.mechanisms.iter().map(|name| (name, name, false));
    let measured = record.trials.iter().map(|trial| (&trial.subject, &trial.mechanism, trial.control));
    let missing = record.missing.iter().map(|missing| (&missing.subject, &missing.subject, false));
    for (name, mechanism, control) in asked.chain(measured).chain(missing) {
        if subjects.iter().any(|subject| subject.name == *name) {
            continue;
        }
        let subject = Subject { name: name.clone(), mechanism: mechanism.clone(), control };
        let twin = subjects.iter().position(|one| one.mechanism == subject.mechanism).filter(|_| control);
        subjects.insert(twin.map_or(subjects.len(), |twin| twin + 1), subject);
    }
    subjects
}

fn trials<'a>(record: &'a Record, subject: &'a Subject, idle: u32, active: u32) -> impl Iterator<Item = &'a Trial> {
    let here = move |trial: &&Trial| trial.idle == idle && trial.active == active && trial.subject == subject.name;
    record.trials.iter().filter(here)
}

fn outcome(record: &Record, subject: &Subject, idle: u32, active: u32) -> Outcome {
    let all = trials(record, subject, idle, active).collect::<Vec<_>>();
    // Errors without a reason of their own: the reason of a void trial says more.
    let unexplained = all.iter().filter(|trial| trial.errors > 0 && trial.void.is_none());
    let failed = unexplained.map(|trial| format!("{} exchanges or connections failed", trial.errors));
    let void = all.iter().filter_map(|trial| trial.void.clone()).chain(failed).collect::<BTreeSet<_>>();
    if !void.is_empty() {
        return Outcome::Void(void.into_iter().collect::<Vec<_>>().join("; "));
    }
    let timed = all.iter().copied().filter(|trial| trial.is_timed() && trial.requests > 0).collect::<Vec<_>>();
    if timed.is_empty() {
        let concerns = |asked: Option<u32>, here: u32| asked.is_none_or(|asked| asked == here);
        let reason = record.missing.iter().find(|missing| {
            missing.subject == subject.name && concerns(missing.idle, idle) && concerns(missing.active, active)
        });
        return Outcome::Missing(match reason {
            Some(missing) => missing.reason.clone(),
            None if record.finished => "not measured, and the record does not say why".to_owned(),
            None => "not measured before the comparison ended".to_owned(),
        });
    }
    let counted = all.iter().copied().filter(|trial| trial.counted).collect::<Vec<_>>();
    Outcome::Measured(Box::new(figures(&timed, &counted, record.seed)))
}

fn figures(timed: &[&Trial], counted: &[&Trial], seed: u64) -> Figures {
    let mut latency = Pool::default();
    timed.iter().for_each(|trial| latency.add(&trial.latency));
    let each =
        |value: &dyn Fn(&Trial) -> Option<f64>| timed.iter().filter_map(|trial| value(trial)).collect::<Vec<_>>();
    let estimate = |value: &dyn Fn(&Trial) -> Option<f64>| Estimate::of(&each(value), seed);
    let total = |value: &dyn Fn(&Trial) -> u64| timed.iter().map(|trial| value(trial)).sum::<u64>() as f64;
    let per_request = |count: &dyn Fn(&Trial) -> Option<u64>| {
        let counts = counted.iter().filter(|trial| trial.requests > 0);
        stats::median(
            &counts.filter_map(|trial| Some(count(trial)? as f64 / trial.requests as f64)).collect::<Vec<_>>(),
        )
    };
    let (requests, calls) = (total(&|trial| trial.requests), total(&|trial| trial.ledger.calls));
    let (waits, events) = (total(&|trial| trial.ledger.waits), total(&|trial| trial.ledger.events));
    let limited = timed.iter().filter(|trial| trial.client_limited == Some(true)).count();
    Figures {
        rounds: timed.len(),
        cpu_ns: estimate(&cpu_ns),
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
        events_per_wait: (waits > 0.0).then(|| events / waits),
        instructions_user: per_request(&|trial| trial.instructions_user),
        instructions_kernel: per_request(&|trial| trial.instructions_kernel),
        memory_bytes: stats::median(&each(&|trial| trial.rss_per_connection_bytes)),
        client_limited: limited * 2 > timed.len(),
        ratio: None,
        standing: Standing::Unranked,
    }
}

fn cpu_ns(trial: &Trial) -> Option<f64> {
    let cpu = trial.server_cpu_ns? as f64;
    (trial.requests > 0).then(|| cpu / trial.requests as f64)
}

fn cost(cell: &Cell) -> Option<f64> {
    Some(cell.figures()?.cpu_ns?.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn figures<'a>(summary: &'a Summary<'_>, subject: &str, idle: u32, active: u32) -> &'a Figures {
        let at = summary.subjects.iter().position(|one| one.name == subject).expect("a row");
        summary.table(idle, active)[at].figures().expect("measured")
    }

    #[test]
    fn a_scanning_mechanism_ranks_below_and_a_twin_is_not_ranked() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        assert_eq!(figures(&summary, "epoll", 5_000, 1).standing, Standing::Best);
        assert_eq!(figures(&summary, "select", 5_000, 1).standing, Standing::Rank(2));
        assert_eq!(figures(&summary, "poll", 5_000, 1).standing, Standing::Rank(3));
        assert_eq!(figures(&summary, "epoll (A/A)", 5_000, 1).standing, Standing::Unranked);
        let twin = figures(&summary, "epoll (A/A)", 5_000, 1).ratio.expect("paired with the best").value;
        assert!((twin - 1.0).abs() < 0.1, "{twin}");
        let ratio = figures(&summary, "poll", 5_000, 1).ratio.expect("paired with the best");
        assert!(ratio.value > 30.0, "{ratio:?}");
    }

    #[test]
    fn what_was_seen_in_one_round_only_is_shown_and_not_ranked() {
        let mut record = sample::ordinary();
        record.trials.retain(|trial| trial.round == 0);
        let summary = Summary::of(&record);
        assert_eq!(figures(&summary, "poll", 5_000, 1).standing, Standing::Unranked);
        assert!(figures(&summary, "poll", 5_000, 1).ratio.is_some_and(|ratio| ratio.value > 30.0));
        assert!(summary.leaders().is_empty());
    }

    #[test]
    fn what_the_repeats_do_not_separate_is_not_separated() {
        let mut record = sample::ordinary();
        for trial in record.trials.iter_mut().filter(|trial| trial.subject == "poll") {
            trial.requests = 1_000;
            trial.server_cpu_ns = Some(if trial.round == 1 { 300_000_000 } else { 3_000_000 });
        }
        let summary = Summary::of(&record);
        for (idle, active) in summary.tables() {
            assert_eq!(figures(&summary, "poll", idle, active).standing, Standing::Best, "in two rounds of three");
            assert_eq!(figures(&summary, "epoll", idle, active).standing, Standing::Indistinguishable);
        }
    }

    #[test]
    fn the_noise_is_that_of_the_twins_in_every_cell() {
        let record = sample::ordinary();
        let noise = Summary::of(&record).noise;
        assert_eq!(noise.cells, 12);
        assert!(noise.spread.is_some_and(|spread| spread < 0.08) && noise.margin >= 0.05, "{noise:?}");
    }

    #[test]
    fn one_void_trial_voids_the_cell_and_says_why() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        let threads = summary.subjects.iter().position(|one| one.name == "threads").expect("a row");
        match &summary.table(5_000, 10)[threads].outcome {
            Outcome::Void(reason) => assert!(reason.starts_with("wrong byte"), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(summary.table(1_000, 10)[threads].figures().is_some());
        let mut record = record;
        record.trials.iter_mut().filter(|trial| trial.void.is_some()).for_each(|trial| trial.errors = 1);
        match &Summary::of(&record).table(5_000, 10)[threads].outcome {
            Outcome::Void(reason) => assert!(!reason.contains("failed"), "said once: {reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_counting_round_gives_instructions_and_no_time() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        let epoll = figures(&summary, "epoll", 0, 10);
        assert_eq!((epoll.rounds, epoll.instructions_user), (3, Some(104.0)));
        let mut slow = record.clone();
        slow.trials.iter_mut().filter(|trial| trial.counted).for_each(|trial| trial.server_cpu_ns = Some(u64::MAX / 2));
        let slow = Summary::of(&slow);
        assert_eq!(figures(&slow, "epoll", 0, 10).cpu_ns, figures(&summary, "epoll", 0, 10).cpu_ns);
    }

    #[test]
    fn no_cell_is_left_out_and_each_without_figures_has_a_reason() {
        for (name, record) in sample::all() {
            let summary = Summary::of(&record);
            let grid = summary.idle.len() * summary.active.len() * summary.subjects.len();
            assert_eq!(summary.cells.len(), grid, "{name}");
            for cell in &summary.cells {
                match &cell.outcome {
                    Outcome::Measured(figures) => assert!(figures.rounds > 0, "{name}"),
                    Outcome::Missing(reason) | Outcome::Void(reason) => assert!(!reason.is_empty(), "{name}"),
                }
            }
        }
        let partial = sample::partial();
        let summary = Summary::of(&partial);
        let Outcome::Missing(reason) = &summary.table(5_000, 1)[0].outcome else { panic!("it was never reached") };
        assert_eq!(reason, "not measured before the comparison ended");
    }

    #[test]
    fn the_margin_of_the_load_is_told_but_does_not_touch_the_ranking() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        let (limited, free) = (figures(&summary, "epoll", 0, 100), figures(&summary, "epoll", 0, 10));
        assert!(limited.client_limited && !free.client_limited);
        assert_eq!(limited.standing, Standing::Best);
    }
}
