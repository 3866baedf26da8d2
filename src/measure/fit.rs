//! The cost model: what a wait, a watched connection and a request cost each mechanism, and where two of them cross.
//!
//! CPU of the server for a wait that returns k events of N watched connections is taken as `c0 + c1·N + c2·k`; for a
//! request that is `(c0 + c1·N) / k + c2`. With one connection active each wait sleeps, and is woken, which costs
//! `s` more; with more it seldom does, and the model takes it that it never does. The four are found by least squares
//! of the *relative* errors, since costs span a factor of a hundred and more, and none is below 0. Intervals are by
//! bootstrap over the rounds.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::AddAssign;

use fastrand::Rng;
use serde::Serialize;

use super::cells::Cell;
use super::record::{Load, Record, Trial};
use super::stats::{self, Interval};
use crate::exercise::{Task, Wait};

/// How many times the rounds are drawn anew.
const DRAWS: usize = 200;
/// Costs of a wait, of a watched connection, of a request, of a sleep.
pub(super) const TERMS: usize = 4;

/// What one mechanism costs, in nanoseconds of CPU time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fit {
    /// The row of the record.
    pub subject: String,
    /// c0: a wait by itself.
    pub wait: Coefficient,
    /// c1: each connection that is watched, at each wait; by several processes or threads, each of those of one.
    pub watched: Coefficient,
    /// c2: each request, but for the waiting.
    pub request: Coefficient,
    /// s: what a wait costs more that sleeps. 0 where no trial had one connection active.
    pub sleep: Coefficient,
    /// How far the model is from half of the trials, as a part of what was measured: above 0.15 or so it explains
    /// little.
    pub residual: f64,
    /// Trials it was found from.
    pub trials: usize,
    /// Among how many its connections are shared out.
    #[serde(skip)]
    pub(super) pollers: f64,
    #[serde(skip)]
    draws: Vec<[f64; TERMS]>,
    /// The fewest and the most connections that were watched at a wait.
    #[serde(skip)]
    pub(super) watched_between: (f64, f64),
    /// Requests at a wait, likewise.
    #[serde(skip)]
    pub(super) per_wait_between: (f64, f64),
}

/// A cost, and where it lies.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Coefficient {
    /// Nanoseconds.
    pub value: f64,
    /// 95 % of the bootstrap; `None` from a single round.
    pub interval: Option<Interval>,
}

/// Below how many idle connections a mechanism that scans costs less than one that does not.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Crossover {
    /// The one that scans.
    pub scanning: String,
    /// The other.
    pub flat: String,
    /// With so many active connections.
    pub active: u32,
    /// The number of idle connections; 0 or less: it never costs less.
    pub idle: f64,
    /// 95 % of the bootstrap; `None` from a single round.
    pub interval: Option<Interval>,
}

/// One trial, as the model sees it.
#[derive(Clone, Copy)]
struct Point {
    round: u32,
    pollers: f64,
    watched: f64,
    per_wait: f64,
    sleeps: bool,
    cost: f64,
}

/// What the model takes a request to cost in a cell it was made from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Expected {
    pub(crate) idle: u32,
    pub(crate) load: Load,
    /// Nanoseconds of CPU time.
    pub(crate) request_ns: f64,
}

impl Fit {
    /// c0, c1, c2 and s.
    pub(super) fn costs(&self) -> [f64; TERMS] {
        [self.wait, self.watched, self.request, self.sleep].map(|cost| cost.value)
    }

    /// The same of each draw of the bootstrap; none from a single round.
    pub(super) fn drawn(&self) -> &[[f64; TERMS]] {
        &self.draws
    }

    /// What the model says of each cell it was made from, with as many requests at a wait as there were in it.
    pub(crate) fn expected(&self, record: &Record) -> Vec<Expected> {
        let found = self.costs();
        let of_cell = |cell: &Cell<'_>| {
            let points = points(std::iter::once(cell), record);
            let costs = points.iter().map(|point| predicted(&found, point) / point.per_wait).collect::<Vec<_>>();
            Some(Expected { idle: cell.idle, load: cell.load, request_ns: stats::median(&costs)? })
        };
        cells(&self.subject, record).iter().filter_map(of_cell).collect()
    }
}

/// A fit for each row from whose trials one can be found, in the order in which they were asked for: it waits for its
/// connections, at two numbers of them and more, and with more and fewer requests at a wait. Trials of the first traffic
/// and transport only, on connections that stay, and in a closed loop: in an open one waits sleep whatever the number of
/// connections. Of a poller alone, those of the first exercise.
pub fn fits(record: &Record) -> Vec<Fit> {
    // Trials are in random order.
    let mut subjects = record.settings.mechanisms.iter().map(String::as_str).collect::<Vec<_>>();
    for trial in record.trials.iter().filter(|trial| !trial.control && !trial.ceiling) {
        if !subjects.contains(&trial.subject.as_str()) {
            subjects.push(&trial.subject);
        }
    }
    subjects.into_iter().filter_map(|subject| fit(subject, record)).collect()
}

/// The cells that the model is made for: those of the first load, with whatever number of connections active.
fn cells<'a>(subject: &str, record: &'a Record) -> Vec<Cell<'a>> {
    let stays = |load: &Load| load.traffic.exchanges == 0 && load.exercise.is_none_or(|one| one.task == Task::Relay);
    let first =
        record.settings.loads().next().filter(|load| stays(load) && load.offered.is_none() && load.firehoses == 0);
    let Some(first) = first else { return Vec::new() };
    let mut cells = record.cells_of(subject);
    cells.retain(|cell| Load { active: first.active, ..cell.load } == first);
    cells
}

fn points<'a>(cells: impl IntoIterator<Item = &'a Cell<'a>>, record: &Record) -> Vec<Point> {
    let of_cell = |cell: &Cell<'_>| cell.timed().filter_map(|trial| point(trial, record)).collect::<Vec<_>>();
    cells.into_iter().flat_map(of_cell).collect()
}

fn point(trial: &Trial, record: &Record) -> Option<Point> {
    let (waits, requests) = (trial.ledger.waits as f64, trial.requests as f64);
    let cost = trial.server_cpu_ns? as f64 / waits;
    let per_wait = requests / waits;
    // More requests at a wait than connections: what is waited for are not these, as where each has a thread.
    let waits_for_them = per_wait <= f64::from(trial.active) + 1.0;
    let pollers = pollers(trial, record);
    (waits > 0.0 && cost > 0.0 && requests > 0.0 && waits_for_them).then(|| Point {
        round: trial.round,
        pollers,
        watched: (f64::from(trial.idle) + f64::from(trial.active)) / pollers,
        per_wait,
        sleeps: trial.exercise.map_or(trial.active == 1, |exercise| exercise.wait == Wait::Sleeping),
        cost,
    })
}

/// Processes and threads share the connections out among them, and each watches its share.
pub(super) fn pollers(trial: &Trial, record: &Record) -> f64 {
    let processes = record.settings.processes.unwrap_or(1).max(1);
    // Of all processes together; told only where there are several.
    f64::from(processes).max(trial.open_by_thread.len() as f64)
}

fn fit(subject: &str, record: &Record) -> Option<Fit> {
    let (points, seed) = (&points(&cells(subject, record), record), record.seed);
    let between = |value: fn(&Point) -> f64| {
        let values = points.iter().map(value);
        (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max))
    };
    let spans = |value: fn(&Point) -> f64| {
        let (least, most) = between(value);
        most > 1.2 * least
    };
    if !spans(|point| point.watched) || !spans(|point| point.per_wait) {
        return None;
    }
    let found = points.iter().map(Moments::of).sum::<Moments>().least_squares()?;
    let errors = points.iter().map(|point| (predicted(&found, point) / point.cost - 1.0).abs()).collect::<Vec<_>>();
    let draws = draws(points, seed);
    let coefficient = |term: usize| {
        let values = draws.iter().map(|draw| draw[term]).collect::<Vec<_>>();
        Coefficient { value: found[term], interval: interval(&values) }
    };
    Some(Fit {
        subject: subject.to_owned(),
        wait: coefficient(0),
        watched: coefficient(1),
        request: coefficient(2),
        sleep: coefficient(3),
        residual: stats::median(&errors)?,
        trials: points.len(),
        pollers: stats::median(&points.iter().map(|point| point.pollers).collect::<Vec<_>>())?,
        draws,
        watched_between: between(|point| point.watched),
        per_wait_between: between(|point| point.per_wait),
    })
}

/// The fit from rounds drawn with replacement, again and again; the same draws for every row of a record, so that what
/// is made of two fits has an interval too. None from a single round.
fn draws(points: &[Point], seed: u64) -> Vec<[f64; TERMS]> {
    let mut by_round: BTreeMap<u32, Moments> = BTreeMap::new();
    points.iter().for_each(|point| *by_round.entry(point.round).or_default() += Moments::of(point));
    let rounds = by_round.into_values().collect::<Vec<_>>();
    if rounds.len() < 2 {
        return Vec::new();
    }
    let mut rng = Rng::with_seed(seed);
    let mut draw = || rounds.iter().map(|_| rounds[rng.usize(..rounds.len())]).sum::<Moments>().least_squares();
    (0..DRAWS).filter_map(|_| draw()).collect()
}

pub(super) fn interval(values: &[f64]) -> Option<Interval> {
    Some(Interval { low: stats::quantile(values, 0.025)?, high: stats::quantile(values, 0.975)? })
}

fn terms(point: &Point) -> [f64; TERMS] {
    [1.0, point.watched, point.per_wait, f64::from(u8::from(point.sleeps))]
}

fn predicted(found: &[f64; TERMS], point: &Point) -> f64 {
    found.iter().zip(terms(point)).map(|(cost, term)| cost * term).sum()
}

/// All of the trials that least squares need: sums, so that those of several rounds are added.
#[derive(Clone, Copy, Default)]
struct Moments {
    /// Products of the terms with one another, each relative to what was measured.
    products: [[f64; TERMS]; TERMS],
    /// The terms themselves, as above; what was measured is 1 by that.
    terms: [f64; TERMS],
    count: f64,
}

impl Moments {
    fn of(point: &Point) -> Moments {
        let terms = terms(point).map(|value| value / point.cost);
        Moments { products: terms.map(|one| terms.map(|other| one * other)), terms, count: 1.0 }
    }

    /// The least sum of squared relative errors with no term below 0: of all ways to leave terms out, the best that
    /// needs none below.
    fn least_squares(&self) -> Option<[f64; TERMS]> {
        let of_terms = |chosen: u8| {
            let chosen = (0..TERMS).filter(|term| chosen & (1 << term) != 0).collect::<Vec<_>>();
            let found = self.solve(&chosen)?;
            let error = self.error(&found);
            (error.is_finite() && found.iter().all(|value| *value >= 0.0)).then_some((error, found))
        };
        let best = (1..1 << TERMS).filter_map(of_terms).min_by(|(one, _), (other, _)| one.total_cmp(other));
        best.map(|(_, found)| found)
    }

    fn error(&self, found: &[f64; TERMS]) -> f64 {
        let dot = |row: &[f64; TERMS]| row.iter().zip(found).map(|(one, other)| one * other).sum::<f64>();
        let squares = self.products.iter().zip(found).map(|(row, value)| value * dot(row)).sum::<f64>();
        self.count - 2.0 * dot(&self.terms) + squares
    }

    /// The normal equations of these terms, by elimination; 0 for the others. `None` if the trials do not tell them
    /// apart.
    fn solve(&self, chosen: &[usize]) -> Option<[f64; TERMS]> {
        let count = chosen.len();
        // Scaled, so that a small pivot says that terms are not told apart, whatever their units.
        let scale = |term: usize| self.products[term][term].sqrt();
        let mut rows = [[0.0; TERMS + 1]; TERMS];
        for (row, &one) in rows.iter_mut().zip(chosen) {
            for (value, &other) in row.iter_mut().zip(chosen) {
                *value = self.products[one][other] / (scale(one) * scale(other));
            }
            row[count] = self.terms[one] / scale(one);
        }
        for at in 0..count {
            let pivot = rows[at];
            if pivot[at].abs() <= 1e-9 {
                return None;
            }
            for (_, row) in rows.iter_mut().enumerate().filter(|(other, _)| *other != at) {
                let factor = row[at] / pivot[at];
                row.iter_mut().zip(pivot).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
            }
        }
        let mut found = [0.0; TERMS];
        for (at, &term) in chosen.iter().enumerate() {
            found[term] = rows[at][count] / rows[at][at] / scale(term);
        }
        Some(found)
    }
}

impl AddAssign for Moments {
    fn add_assign(&mut self, other: Moments) {
        let add =
            |sum: &mut [f64; TERMS], more: [f64; TERMS]| sum.iter_mut().zip(more).for_each(|(sum, one)| *sum += one);
        self.products.iter_mut().zip(other.products).for_each(|(sum, more)| add(sum, more));
        add(&mut self.terms, other.terms);
        self.count += other.count;
    }
}

impl Sum for Moments {
    fn sum<I: Iterator<Item = Moments>>(all: I) -> Moments {
        all.fold(Moments::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// Where each row that scans crosses one that does not grow with the connections it watches, with each number of
/// active connections that was measured; at one, every wait returns one event, and at more as many as were measured.
/// Of the rows that are not to be told from the one that grows least it is the first that was asked for: on a system
/// that has such a list, its own.
pub fn crossovers(record: &Record) -> Vec<Crossover> {
    let fits = fits(record);
    let low = |fit: &Fit| fit.watched.interval.map_or(fit.watched.value, |interval| interval.low);
    let high = |fit: &Fit| fit.watched.interval.map_or(fit.watched.value, |interval| interval.high);
    let Some(least) = fits.iter().min_by(|one, other| one.watched.value.total_cmp(&other.watched.value)) else {
        return Vec::new();
    };
    let flat = fits.iter().find(|fit| low(fit) <= high(least)).unwrap_or(least);
    let mut found = Vec::new();
    for scanning in fits.iter().filter(|fit| low(fit) > high(flat)) {
        for &active in &record.settings.active {
            let per_wait = |fit: &Fit| {
                let here = points_at(&fit.subject, active, record);
                stats::median(&here.iter().map(|point| point.per_wait).collect::<Vec<_>>())
            };
            let shares = [scanning.pollers, flat.pollers];
            let Some((scanned, waited)) = per_wait(scanning).zip(per_wait(flat)) else { continue };
            let idle = |scanning: &[f64; TERMS], flat: &[f64; TERMS]| {
                let sleeps = f64::from(u8::from(active == 1));
                let beside = |[wait, _, request, sleep]: &[f64; TERMS], per_wait: f64| {
                    (wait + sleep * sleeps) / per_wait + request
                };
                let growth = scanning[1] / shares[0] / scanned - flat[1] / shares[1] / waited;
                (beside(flat, waited) - beside(scanning, scanned)) / growth - f64::from(active)
            };
            let drawn = scanning.draws.iter().zip(&flat.draws).map(|(one, other)| idle(one, other)).collect::<Vec<_>>();
            found.push(Crossover {
                scanning: scanning.subject.clone(),
                flat: flat.subject.clone(),
                active,
                idle: idle(&scanning.costs(), &flat.costs()),
                interval: interval(&drawn),
            });
        }
    }
    found
}

/// What a few idle connections leave of the events at a wait: from the smallest idle population, where the two are to
/// be compared.
fn points_at(subject: &str, active: u32, record: &Record) -> Vec<Point> {
    let mut cells = cells(subject, record);
    cells.retain(|cell| cell.load.active == active && !cell.is_void());
    // Ascending by idle population.
    points(cells.first(), record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Host;
    use crate::measure::record::{Ledger, Settings};
    use crate::workload::Traffic;

    /// A record of two rows: one that scans, one that does not; costs are those of the model, times some noise.
    fn record(noise: f64, rounds: u32) -> Record {
        let mechanisms = vec!["scan".to_owned(), "flat".to_owned()];
        let (idle, active) = (vec![0, 100, 1_000, 5_000], vec![1, 10, 100]);
        let settings = Settings { idle, active, mechanisms, payload_bytes: 64, ..Settings::default() };
        let mut record = Record::begin(Vec::new(), 9, Host::default(), settings.clone());
        let mut rng = Rng::with_seed(3);
        for round in 0..rounds {
            for (subject, wait, watched, request) in [("scan", 800.0, 90.0, 4_000.0), ("flat", 1_700.0, 0.0, 4_100.0)] {
                for (idle, active) in
                    settings.idle.iter().flat_map(|idle| settings.active.iter().map(move |one| (*idle, *one)))
                {
                    let per_wait = f64::from(active).sqrt();
                    let sleep = if active == 1 { 9_000.0 } else { 0.0 };
                    let cost = wait + watched * f64::from(idle + active) + request * per_wait + sleep;
                    let cost = cost * (1.0 + noise * (rng.f64() - 0.5));
                    record.trials.push(Trial {
                        round,
                        subject: subject.into(),
                        idle,
                        active,
                        requests: (per_wait * 100_000.0) as u64,
                        server_cpu_ns: Some((cost * 100_000.0) as u64),
                        ledger: Ledger { waits: 100_000, ..Ledger::default() },
                        ..Trial::default()
                    });
                }
            }
        }
        record
    }

    fn near(found: f64, wanted: f64, by: f64) -> bool {
        (found - wanted).abs() <= by * wanted.abs()
    }

    #[test]
    fn known_costs_are_found_again() {
        let fits = fits(&record(0.0, 3));
        let [scan, flat] = fits.as_slice() else { panic!("two rows: {fits:?}") };
        assert!(near(scan.wait.value, 800.0, 1e-3) && near(scan.watched.value, 90.0, 1e-3), "{scan:?}");
        assert!(near(scan.request.value, 4_000.0, 1e-3) && scan.residual < 1e-3, "{scan:?}");
        assert!(near(flat.wait.value, 1_700.0, 1e-3) && flat.watched.value < 1e-3, "{flat:?}");
        assert!(near(scan.sleep.value, 9_000.0, 1e-3) && near(flat.sleep.value, 9_000.0, 1e-3), "{scan:?} {flat:?}");
        assert_eq!((scan.trials, flat.trials), (36, 36));
    }

    #[test]
    fn known_costs_are_within_the_intervals_in_spite_of_noise() {
        let fits = fits(&record(0.2, 10));
        for (fit, watched, request) in [(&fits[0], 90.0, 4_000.0), (&fits[1], 0.0, 4_100.0)] {
            for (found, wanted) in [(fit.watched, watched), (fit.request, request)] {
                let Interval { low, high } = found.interval.expect("ten rounds");
                assert!(low <= wanted * 1.02 && wanted * 0.98 <= high && low <= found.value, "{wanted}: {fit:?}");
            }
            assert!((0.02..0.1).contains(&fit.residual), "half of a noise of 10 %: {}", fit.residual);
        }
    }

    #[test]
    fn what_is_expected_of_each_cell_is_what_it_was_made_of() {
        let record = record(0.0, 3);
        let fits = fits(&record);
        let scan = fits[0].expected(&record);
        assert_eq!(scan.len(), 12, "four populations, three loads");
        for one in scan {
            let per_wait = f64::from(one.load.active).sqrt();
            let sleep = if one.load.active == 1 { 9_000.0 } else { 0.0 };
            let wait = 800.0 + 90.0 * f64::from(one.idle + one.load.active) + sleep;
            assert!(near(one.request_ns, wait / per_wait + 4_000.0, 1e-3), "{one:?}");
        }
    }

    #[test]
    fn a_crossover_is_where_both_cost_the_same() {
        let found = crossovers(&record(0.0, 3));
        assert_eq!(found.len(), 3, "one for each number of active connections: {found:?}");
        let one = &found[0];
        assert_eq!((one.scanning.as_str(), one.flat.as_str(), one.active), ("scan", "flat", 1));
        // 800 + 90 (idle + 1) + 4,000 = 1,700 + 4,100
        assert!(near(one.idle, 1_000.0 / 90.0 - 1.0, 1e-2), "{one:?}");
        assert!(one.interval.is_some_and(|at| at.low <= one.idle + 0.1 && one.idle <= at.high + 0.1), "{one:?}");
        // 100 active at 10 a wait: (800 + 90 (idle + 100)) / 10 + 4,000 = 1,700 / 10 + 4,100
        assert!(near(found[2].idle, 1_900.0 / 90.0 - 100.0, 1e-1), "never: {:?}", found[2]);
    }

    #[test]
    fn of_rows_that_do_not_grow_the_first_that_was_asked_for_is_crossed_whatever_the_order_of_the_trials() {
        let mut record = record(0.0, 3);
        let twin = |trial: &Trial| Trial { subject: "as flat".to_owned(), ..trial.clone() };
        let twins = record.trials.iter().filter(|trial| trial.subject == "flat").map(twin).collect::<Vec<_>>();
        record.trials.splice(0..0, twins);
        record.settings.mechanisms.push("as flat".to_owned());
        let order = |record: &Record| fits(record).into_iter().map(|fit| fit.subject).collect::<Vec<_>>();
        assert_eq!(order(&record), ["scan", "flat", "as flat"]);
        assert!(crossovers(&record).iter().all(|one| one.scanning == "scan" && one.flat == "flat"));
        record.settings.mechanisms.swap(1, 2);
        assert_eq!(order(&record), ["scan", "as flat", "flat"]);
        assert!(crossovers(&record).iter().all(|one| one.scanning == "scan" && one.flat == "as flat"));
    }

    #[test]
    fn other_traffic_moves_neither_a_cost_nor_a_crossover() {
        let mut record = record(0.0, 3);
        let alone = crossovers(&record);
        let usual = Traffic { payload: 64, ..Traffic::default() };
        let other = Traffic { outstanding: 16, ..usual };
        record.settings.traffic = vec![usual, other];
        let requests = |trial: &Trial| trial.requests * if trial.subject == "flat" { 16 } else { 1 };
        let more = |trial: &Trial| Trial { traffic: Some(other), requests: requests(trial), ..trial.clone() };
        record.trials.extend(record.trials.iter().map(more).collect::<Vec<_>>());
        assert_eq!(crossovers(&record), alone);
    }

    #[test]
    fn of_a_cell_with_a_void_trial_no_round_counts() {
        let (sound, mut record) = (record(0.0, 3), record(0.0, 3));
        let broken = |trial: &Trial| trial.subject == "scan" && trial.idle == 1_000 && trial.active == 10;
        for trial in record.trials.iter_mut().filter(|trial| broken(trial)) {
            trial.server_cpu_ns = Some(1);
            trial.void = (trial.round == 1).then(|| "a wrong byte".to_owned());
        }
        let (found, wanted) = (fits(&record), fits(&sound));
        assert_eq!(found[0].trials, wanted[0].trials - 3);
        assert!(near(found[0].watched.value, 90.0, 1e-3) && found[0].residual < 1e-3, "{:?}", found[0]);
    }

    #[test]
    fn by_several_processes_or_threads_each_watches_its_share_of_the_connections() {
        let (one, mut four, mut threads) = (record(0.0, 3), record(0.0, 3), record(0.0, 3));
        four.settings.processes = Some(4);
        threads.trials.iter_mut().filter(|trial| trial.subject == "scan").for_each(|trial| {
            trial.open_by_thread = vec![1; 2];
        });
        assert!(near(fits(&four)[0].watched.value, 4.0 * 90.0, 1e-3), "90 ns for all is 360 ns for a fourth");
        assert!(near(fits(&threads)[0].watched.value, 2.0 * 90.0, 1e-3));
        for shared in [&four, &threads] {
            let (found, wanted) = (crossovers(shared), crossovers(&one));
            assert!(found.iter().zip(&wanted).all(|(one, other)| (one.idle - other.idle).abs() < 1.0), "{found:?}");
        }
    }

    #[test]
    fn without_enough_to_tell_terms_apart_there_is_no_fit() {
        let mut one_size = record(0.0, 3);
        one_size.trials.retain(|trial| trial.idle == 0 && trial.active == 1);
        assert!(fits(&one_size).is_empty() && crossovers(&one_size).is_empty());
        let mut threads = record(0.0, 3);
        threads.trials.iter_mut().for_each(|trial| trial.ledger.waits = 7);
        assert!(fits(&threads).is_empty(), "seven waits for all of its requests are not waits for them");
        assert!(fits(&record(0.0, 1)).iter().all(|fit| fit.watched.interval.is_none()), "one round has no spread");
    }
}
