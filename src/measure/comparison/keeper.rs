//! Keeping what is measured while it is, and going on with what was interrupted: the same order, what is left of it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use pollmark_backends::Registry;

use super::{Comparison, warn};
use crate::measure::impossible::Impossible;
use crate::measure::journal::{Journal, Kept, PlanFile, Planned, Round};
use crate::measure::plan::{Plan, Subject, Visit};
use crate::measure::record::{Calibration, Load, Record, Settings, Trial};
use crate::measure::schedule::Schedule;
use crate::measure::visit::Began;

/// One cell in one round: which round, whether it counts instructions, the row, the idle population, the load.
type Cell = (u32, bool, String, u32, Load);

/// What was kept, and where more is kept.
pub(super) struct Keeper {
    journal: Option<Journal>,
    /// How the plan looks on disk, but for what changes: rounds, what is missing, warnings.
    file: PlanFile,
    /// The rounds that had been begun before an interruption.
    past: Vec<Round>,
    /// What had been measured in them, or found impossible to measure.
    tried: BTreeSet<Cell>,
    /// How many cells have been passed over because of that.
    passed_over: usize,
    pub(super) began: Began,
    /// Raised when nothing can be kept any more.
    stop: Arc<AtomicBool>,
    trouble: Option<io::Error>,
}

impl<'a> Comparison<'a> {
    /// The comparison that was interrupted, and is kept in `directory`: [`run`](Comparison::run) measures what is
    /// missing of it, in the order it would have been measured in.
    ///
    /// # Errors
    /// As [`journal::read`](crate::measure::journal::read); `InvalidData` too if the plan is of mechanisms that
    /// `registry` does not have, or if there is nothing left to do.
    pub fn resume(registry: &'a Registry, directory: &Path) -> io::Result<Comparison<'a>> {
        let kept = Kept::read(directory)?;
        let invalid =
            |why: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", directory.display()));
        if kept.record.finished {
            return Err(invalid("the comparison is finished: nothing of it is left to do".to_owned()));
        }
        let plan = &kept.plan;
        let workload = Comparison::new(registry).workload(&plan.workload);
        let mut comparison = workload.map_err(|unknown| invalid(unknown.to_string()))?;
        (comparison.sources, comparison.seed) = (plan.sources.clone(), kept.record.seed);
        comparison.contestants.clone_from(&plan.contestants);
        (comparison.directory, comparison.kept) = (Some(directory.to_owned()), Some(kept));
        Ok(comparison)
    }

    /// Puts what was kept into `record`, once it is certain that it can be gone on with.
    pub(super) fn keeper(&self, plan: &Plan, record: &mut Record) -> Result<Keeper, Impossible> {
        let unwritable = |error: io::Error| Impossible::Unwritable(error.to_string());
        let now = Began { resumed: Instant::now(), before: Duration::ZERO };
        let mut keeper = Keeper {
            journal: None,
            file: self.plan_file(record),
            past: Vec::new(),
            tried: BTreeSet::new(),
            passed_over: 0,
            began: now,
            stop: Arc::clone(&self.stop),
            trouble: None,
        };
        let Some(kept) = &self.kept else {
            let begin = |directory| Journal::begin(directory, record, keeper.file.clone());
            keeper.journal = self.directory.as_deref().map(begin).transpose().map_err(unwritable)?;
            return Ok(keeper);
        };
        let differences = self.differences(kept, plan, record);
        if !differences.is_empty() {
            return Err(Impossible::Differs(differences));
        }
        keeper.journal = Some(Journal::go_on(kept).map_err(unwritable)?);
        keeper.past.clone_from(&kept.plan.rounds);
        keeper.tried =
            kept.record.trials.iter().map(|trial| cell(trial, kept.record.settings.load_of(trial))).collect();
        keeper.began.before = since(&kept.record.started);
        let fresh = std::mem::replace(record, Record { finished: false, gates: Vec::new(), ..kept.record.clone() });
        (record.settings, record.missing) = (fresh.settings, fresh.missing);
        fresh.warnings.into_iter().for_each(|warning| warn(record, warning));
        let again = humantime::format_rfc3339_seconds(SystemTime::now());
        let trials = record.trials.len();
        warn(record, format!("interrupted, and resumed at {again}: {trials} trials had been measured before"));
        Ok(keeper)
    }

    fn plan_file(&self, record: &Record) -> PlanFile {
        let mut workload = self.workload.clone();
        let mechanisms = self.subjects.iter().filter_map(Subject::mechanism);
        workload.grid.mechanisms = mechanisms.map(|one| one.name().to_owned()).collect();
        PlanFile {
            finished: false,
            settings: record.settings.clone(),
            workload,
            sources: self.sources.clone(),
            contestants: self.contestants.clone(),
            rounds: Vec::new(),
            missing: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Why this is not what was begun: the program, the host, the plan.
    fn differences(&self, kept: &Kept, plan: &Plan, record: &Record) -> Vec<String> {
        let facts = kept.record.host.differences(&record.host).into_iter();
        let mut differences =
            facts.map(|(name, then, now)| format!("{name}: {then} then, {now} now")).collect::<Vec<_>>();
        let (then, now) = (&kept.plan.settings, &record.settings);
        let plain = |settings: &Settings| Settings { rounds: 0, rounds_done: 0, ..settings.clone() };
        if plain(then) != plain(now) {
            differences.push(format!("plan: {:?} then, {:?} now", plain(then), plain(now)));
        }
        if kept.record.contestants != record.contestants {
            let versions = |record: &Record| {
                let each = record.contestants.iter().map(|one| format!("{} {}", one.label, one.version));
                each.collect::<Vec<_>>().join(", ")
            };
            differences.push(format!("contestants: {} then, {} now", versions(&kept.record), versions(record)));
        }
        if !differences.is_empty() {
            return differences;
        }
        let (mut plan, mut rng) = (plan.clone(), Rng::with_seed(self.seed));
        for (at, past) in kept.plan.rounds.iter().enumerate() {
            plan.idle.retain(|idle| !past.left_out.contains(idle));
            let visits = plan.round(past.counted, &mut rng);
            if *past != Round::new(past.counted, past.left_out.clone(), &plan, &visits) {
                differences.push(format!("plan: round {} is not in the order that the seed gives", at + 1));
                break;
            }
        }
        differences
    }
}

impl Round {
    pub(super) fn new(counted: bool, left_out: Vec<usize>, plan: &Plan, visits: &[Visit]) -> Round {
        let planned = |visit: &Visit| Planned {
            subject: plan.visited(visit).label(),
            idle: visit.idle,
            loads: visit.loads.clone(),
        };
        Round { counted, left_out, visits: visits.iter().map(planned).collect() }
    }
}

impl Keeper {
    /// Whether to make another timed round, as [`Schedule::another`]; those that had been begun are made again.
    pub(super) fn another(&mut self, schedule: &mut Schedule, plan: &mut Plan) -> Option<Vec<usize>> {
        match self.past.get(schedule.done) {
            Some(past) if past.counted => None,
            Some(past) => {
                plan.idle.retain(|idle| !past.left_out.contains(idle));
                Some(past.left_out.clone())
            }
            // The counting round is the last.
            None if self.past.last().is_some_and(|past| past.counted) => None,
            None => schedule.another(plan),
        }
    }

    /// How much of the budget had been spent, as far as can be told.
    pub(super) fn spent(&self, plan: &Plan) -> Duration {
        let cells = plan.subjects.len() * plan.idle.len() * plan.loads.len();
        plan.round_time().mul_f64(self.tried.len() as f64 / cells.max(1) as f64)
    }

    /// A round begins.
    pub(super) fn begin(&mut self, round: Round, record: &Record) {
        self.file.rounds.push(round);
        self.write_plan(record);
    }

    /// Takes out of `loads` what has been tried already; the rest of the cell is that of `trial`.
    pub(super) fn pass_over(&mut self, trial: &Trial, loads: &mut Vec<Load>) {
        let before = loads.len();
        loads.retain(|load| !self.tried.contains(&cell(trial, *load)));
        self.passed_over += before - loads.len();
    }

    /// How many cells have been passed over.
    pub(super) fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// A trial has been measured.
    pub(super) fn trial(&mut self, trial: &Trial) {
        self.keep(|journal| journal.trial(trial));
    }

    /// A calibration has been made.
    pub(super) fn calibrated(&mut self, rows: &[Calibration]) {
        self.keep(|journal| journal.calibrated(rows));
    }

    /// A visit has ended: the last of `record`.
    pub(super) fn visited(&mut self, record: &Record) {
        if let Some(visit) = record.visits.last() {
            self.keep(|journal| journal.visit(visit));
        }
        self.write_plan(record);
    }

    /// Nothing more will be measured.
    pub(super) fn end(&mut self, record: &mut Record) {
        let file = self.plan_now(record);
        self.keep(|journal| journal.end(record, file));
        if let Some(error) = self.trouble.take() {
            record.finished = false;
            warn(record, format!("ended early, for what is measured can no longer be kept: {error}"));
        }
    }

    fn plan_now(&self, record: &Record) -> PlanFile {
        // Rounds that were begun before the interruption are planned, whether or not they are come to again.
        let again = self.past.iter().skip(self.file.rounds.len());
        PlanFile {
            finished: record.finished,
            settings: record.settings.clone(),
            rounds: self.file.rounds.iter().chain(again).cloned().collect(),
            missing: record.missing.clone(),
            warnings: record.warnings.clone(),
            ..self.file.clone()
        }
    }

    fn write_plan(&mut self, record: &Record) {
        if self.journal.is_some() {
            let file = self.plan_now(record);
            self.keep(|journal| journal.plan(file));
        }
    }

    /// Once something could not be kept, the comparison ends, and nothing more is tried.
    fn keep(&mut self, what: impl FnOnce(&mut Journal) -> io::Result<()>) {
        if let Some(Err(error)) = self.journal.as_mut().map(what) {
            (self.journal, self.trouble) = (None, Some(error));
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn cell(trial: &Trial, load: Load) -> Cell {
    (trial.round, trial.counted, trial.subject.clone(), trial.idle, load)
}

/// How long ago that was, by the clock on the wall, which may have been set back.
fn since(started: &str) -> Duration {
    let then = humantime::parse_rfc3339(started).unwrap_or_else(|_| SystemTime::now());
    then.elapsed().unwrap_or_default()
}
