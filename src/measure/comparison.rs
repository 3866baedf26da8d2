//! The whole comparison: whole rounds, interleaved, as many as the budget allows.

mod contestants;
mod grid;
mod keeper;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use pollmark_backends::Registry;

#[cfg(unix)]
use super::alone;
use super::calibrate::Calibrator;
use super::contestant::Contestant;
use super::host::Host;
use super::impossible::Impossible;
use super::journal::{Kept, Round};
use super::missing::{absent, name_what_is_missing};
use super::placement::Placement;
use super::plan::{self, Plan, Subject, Visit};
use super::progress::{Progress, VisitDone};
use super::record::{self, Missing, Record, Settings, Trial};
use super::schedule::Schedule;
use super::shape;
use super::visit::{self, Errand, Report};
use super::workload::{Shape, Workload};
use crate::child::{self, Crew};
use crate::limits::Limits;
use crate::mechanism::{Mechanism, UnknownMechanism};
use crate::server::Sharing;
use crate::usage;
use crate::workload::Sources;
use keeper::Keeper;

/// A comparison to be made. Set what differs from the defaults, then [`run`](Comparison::run) it.
///
/// The program must have called [`child::enter`](crate::child::enter) first thing in `main`, with the same registry.
///
/// ```no_run
/// use pollmark::measure::{Comparison, Workload};
/// use pollmark_backends::Registry;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let registry = Registry::builtin();
///     pollmark::child::enter(&registry);
///     let record = Comparison::new(&registry).workload(&Workload::find("quick")?)?.run(&mut ())?;
///     println!("{} trials", record.trials.len());
///     Ok(())
/// }
/// ```
pub struct Comparison<'a> {
    registry: &'a Registry,
    subjects: Vec<Subject>,
    contestants: Vec<Contestant>,
    workload: Workload,
    sources: Option<Sources>,
    seed: u64,
    stop: Arc<AtomicBool>,
    /// Where it is kept while it is made.
    directory: Option<PathBuf>,
    /// What is there of it, if it was interrupted.
    kept: Option<Kept>,
}

impl<'a> Comparison<'a> {
    /// By the workload `default`: one mechanism of each family the registry has, up to 5,000 idle connections, 1, 10
    /// and 100 active ones, 64-byte echoes over TCP, within 84 seconds.
    pub fn new(registry: &'a Registry) -> Comparison<'a> {
        Comparison {
            registry,
            subjects: plan::subjects(registry),
            contestants: Vec::new(),
            workload: Workload::find("default").expect("it comes with the program"),
            sources: None,
            seed: fastrand::u64(..),
            stop: Arc::default(),
            directory: None,
            kept: None,
        }
    }

    /// By another workload, which replaces all that one says: what differs from it is set afterwards.
    ///
    /// # Errors
    /// [`UnknownMechanism`] if it names one that the registry does not have.
    pub fn workload(mut self, workload: &Workload) -> Result<Comparison<'a>, UnknownMechanism> {
        self.workload = workload.clone();
        match workload.grid.mechanisms.as_slice() {
            [] => {
                self.subjects = plan::subjects(self.registry);
                Ok(self)
            }
            names => self.subjects(names),
        }
    }

    /// Compares the mechanisms of these names, or of [groups](Mechanism::parse_all) of them.
    ///
    /// # Errors
    /// [`UnknownMechanism`], which lists those there are.
    pub fn subjects<S: AsRef<str>>(mut self, names: &[S]) -> Result<Comparison<'a>, UnknownMechanism> {
        // Named twice, it is one row all the same.
        self.subjects = Mechanism::parse_all(self.registry, names)?.into_iter().map(Subject::new).collect();
        Ok(self)
    }

    /// Servers that are not ours beside them, in the same rounds and under the same load. One that is not here, or tells
    /// no version, is missing in the record, with what to do about it.
    #[must_use]
    pub fn contestants(mut self, contestants: Vec<Contestant>) -> Comparison<'a> {
        self.contestants = contestants;
        self
    }

    /// The numbers of idle connections. Sizes asked for are never dropped to save time.
    #[must_use]
    pub fn idle(mut self, sizes: Vec<usize>) -> Comparison<'a> {
        (self.workload.grid.idle, self.workload.grid.drop_idle_to_fit) = (sizes, false);
        self
    }

    /// The numbers of active connections.
    #[must_use]
    pub fn active(mut self, sizes: Vec<usize>) -> Comparison<'a> {
        self.workload.grid.active = sizes;
        self
    }

    /// Bytes of each payload, and of its echo.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Comparison<'a> {
        self.workload.grid.payload = vec![bytes];
        self
    }

    /// So many server processes on one port for each visit, and as many load processes: for more connections than one
    /// process may have. They share the CPUs that server and load have otherwise.
    #[must_use]
    pub fn processes(mut self, processes: usize) -> Comparison<'a> {
        self.workload.grid.processes = processes;
        self
    }

    /// A row for each of these numbers of threads; of more than one, for each of these ways to share a port. With fewer
    /// CPUs than threads and load need, the record says so.
    #[must_use]
    pub fn threads(mut self, threads: Vec<usize>, sharing: Vec<Sharing>) -> Comparison<'a> {
        (self.workload.grid.threads, self.workload.grid.sharing) = (threads, sharing);
        self
    }

    /// Where connections come from, instead of from where the kernel likes, or from as many addresses of the loopback
    /// as it takes.
    #[must_use]
    pub fn sources(mut self, sources: Sources) -> Comparison<'a> {
        self.sources = Some(sources);
        self
    }

    /// Exactly so many rounds, instead of as many as the budget allows.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Comparison<'a> {
        self.workload.time.rounds = Some(rounds);
        self
    }

    /// How long all may take.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Comparison<'a> {
        self.workload.time.budget = budget;
        self
    }

    /// How long each cell is kept busy before it is measured, and how long it is measured.
    #[must_use]
    pub fn interval(mut self, warm_up: Duration, interval: Duration) -> Comparison<'a> {
        (self.workload.time.warm_up, self.workload.time.interval) = (warm_up, interval);
        self
    }

    /// What the random order is made from: the same seed, the same order.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Comparison<'a> {
        self.seed = seed;
        self
    }

    /// Lets whoever sets `stop` end the comparison early. What was measured is kept.
    #[must_use]
    pub fn stop_on(mut self, stop: Arc<AtomicBool>) -> Comparison<'a> {
        self.stop = stop;
        self
    }

    /// Keeps what is measured in `directory` while it is measured, as [`journal`](super::journal) says, so that what
    /// ends the program does not end the comparison: it can be [resumed](Comparison::resume).
    #[must_use]
    pub fn keep_in(mut self, directory: &Path) -> Comparison<'a> {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Makes the comparison.
    ///
    /// # Errors
    /// [`Impossible`], before anything is measured. Later trouble is in the record, in place of what it hindered; if
    /// that it can no longer be kept is the trouble, the comparison ends early and says so in its last warning.
    pub fn run(self, progress: &mut dyn Progress) -> Result<Record, Impossible> {
        if child::is_unentered_child() {
            return Err(Impossible::NotEntered);
        }
        let mut missing = Vec::new();
        let (present, about) = self.present(&mut missing)?;
        let mut plan = self.plan(&present, &mut missing)?;
        let calibrator = Calibrator::of(&plan, self.workload.grid.processes, self.workload.time.interval, self.seed);
        if let Ok(Some(calibrator)) = &calibrator {
            plan = plan.with_calibration(calibrator.time());
        }
        let time = &self.workload.time;
        let counters = child::can_count_instructions();
        let mut schedule = Schedule {
            budget: time.budget,
            exactly: time.rounds,
            may_drop: self.workload.grid.drop_idle_to_fit,
            extra: usize::from(counters.is_ok()),
            began: Instant::now(),
            done: 0,
        };
        let mut record = self.begin(&plan, &schedule, missing);
        record.contestants = about;
        if let Err(why) = calibrator {
            warn(&mut record, format!("calibration: {why}"));
        }
        let mut keeper = self.keeper(&plan, &mut record)?;
        schedule.budget = schedule.budget.saturating_sub(keeper.spent(&plan));
        let wanted = plan.clone();
        let mut rng = Rng::with_seed(self.seed);
        while let Some(dropped) = keeper.another(&mut schedule, &mut plan) {
            for &idle in &dropped {
                self.leave_out(&plan, idle, schedule.done, &mut record);
            }
            progress.round(schedule.done, schedule.expected(&plan));
            let visits = plan.round(false, &mut rng);
            keeper.begin(Round::new(false, dropped, &plan, &visits), &record);
            let (began, kept) = (Instant::now(), keeper.passed_over());
            if let Ok(Some(calibrator)) = &calibrator {
                calibrate(calibrator, schedule.done as u32, &mut record, &mut keeper);
            }
            self.round(false, &plan, &visits, &schedule, &mut record, &mut keeper, progress);
            if self.stopped() {
                break;
            }
            schedule.done += 1;
            record.settings.rounds_done = schedule.done as u32;
            // What was measured before took no time now.
            if kept == keeper.passed_over() {
                plan.learn(began.elapsed());
            }
        }
        match counters {
            Ok(()) if !self.stopped() => {
                let visits = plan.round(true, &mut rng);
                keeper.begin(Round::new(true, Vec::new(), &plan, &visits), &record);
                self.round(true, &plan, &visits, &schedule, &mut record, &mut keeper, progress);
            }
            Ok(()) => {}
            Err(why) => warn(&mut record, format!("instructions: unavailable: {why}")),
        }
        record.settings.rounds_done = schedule.done as u32;
        if record.settings.budget_ns.is_some() && !self.stopped() {
            // It was the budget that planned: what has fitted is what there was to be.
            record.settings.rounds = record.settings.rounds_done;
        }
        record.finished = !self.stopped();
        name_what_is_missing(&wanted, &mut record);
        record.gates = self
            .workload
            .gates
            .iter()
            .flat_map(|shape| match shape {
                Shape::Growth => shape::growth(&wanted.subjects, self.registry, &record, &mut self.over_pipes()),
                Shape::Spinning => shape::spinning(&wanted.subjects, self.registry, &record),
                Shape::Deadlines => shape::deadlines(&wanted.subjects, &record),
                Shape::AllActive => shape::all_active(&wanted.subjects, self.registry, &record),
                Shape::Payload => shape::payload(&wanted.subjects, &record),
            })
            .collect();
        keeper.end(&mut record);
        record.warnings.iter().for_each(|warning| progress.note(warning));
        Ok(record)
    }

    fn begin(&self, plan: &Plan, schedule: &Schedule, missing: Vec<Missing>) -> Record {
        let listed = plan.subjects.iter().filter(|subject| !subject.is_control()).map(Subject::label);
        let settings = Settings {
            rounds: schedule.expected(plan) as u32,
            mechanisms: listed.collect(),
            idle: plan.idle.iter().map(|&idle| idle as u32).collect(),
            ..self.workload.settings()
        };
        let command = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let mut record = Record::begin(command, self.seed, Host::gather(), settings);
        (record.missing, record.workload) = (missing, Some(self.workload.about()));
        let placement = Placement::choose();
        if let Some(most) = self.workload.grid.threads.iter().filter(|threads| **threads > 1).max()
            && placement.is_shared(&placement.of_threads(*most))
        {
            let why = "share a CPU with the load: what they do more than one thread does not show what they could do";
            warn(&mut record, format!("{most} threads {why}"));
        }
        if placement.server.is_none() {
            warn(&mut record, "unpinned: server and load are not bound to CPUs of their own here".into());
        }
        if let Some(tick) = usage::cpu_tick() {
            warn(
                &mut record,
                format!("coarse: CPU time is counted in steps of {tick:?} here: short intervals tell little"),
            );
        }
        for warning in [Limits::gather().warning(), record.host.warning()].into_iter().flatten() {
            warn(&mut record, warning);
        }
        record
    }

    /// Puts down that an idle size is given up, for every subject. After a round it has figures all the same, and then
    /// the reader is told why they are not ranked.
    fn leave_out(&self, plan: &Plan, idle: usize, rounds: usize, record: &mut Record) {
        let why = format!("left out to stay within {} s", self.workload.time.budget.as_secs());
        if rounds > 0 {
            warn(
                record,
                format!("{idle} idle connections: {why}, after {rounds} round{}", if rounds == 1 { "" } else { "s" }),
            );
        }
        record.missing.extend(plan.subjects.iter().map(|subject| absent(subject, Some(idle), None, why.clone())));
    }

    #[expect(clippy::too_many_arguments, reason = "each is another idea, and there is one caller of each kind")]
    fn round(
        &self,
        counted: bool,
        plan: &Plan,
        visits: &[Visit],
        schedule: &Schedule,
        record: &mut Record,
        keeper: &mut Keeper,
        progress: &mut dyn Progress,
    ) {
        let placement = Placement::choose();
        let rounds_after = schedule.expected(plan).saturating_sub(schedule.done + 1) + schedule.extra;
        for (at, visit) in visits.iter().enumerate() {
            let &Visit { idle, transport, ref loads, .. } = visit;
            let subject = plan.visited(visit);
            if self.stopped() {
                return;
            }
            let mut possible = self.possible(subject, idle, loads, record);
            let label = subject.label();
            let trial = Trial {
                order: record.visits.len() as u32,
                round: schedule.done as u32,
                counted,
                mechanism: subject.mechanism().map_or(&*label, Mechanism::name).to_owned(),
                subject: label.clone(),
                set_to: subject.knobs(),
                control: subject.is_control(),
                ceiling: subject.is_ceiling(),
                idle: idle as u32,
                transport,
                ..Trial::default()
            };
            keeper.pass_over(&trial, &mut possible);
            if possible.is_empty() {
                continue;
            }
            let after = if counted { 0 } else { rounds_after };
            let remaining = plan.time(&visits[at..]) + plan.round_time() * after as u32;
            progress.visiting(&label, idle, remaining);
            let sources = self.sources_for(idle + possible.iter().map(|load| load.active as usize).max().unwrap_or(0));
            let crew = (subject.threads() > 1).then(|| Crew {
                threads: subject.threads(),
                sharing: subject.sharing(),
                pin: placement.pin(subject.threads()),
            });
            let errand = Errand {
                trial: &trial,
                loads: &possible,
                contestant: subject.contestant(),
                crew: crew.as_ref(),
                knobs: subject.knobs(),
                processes: self.workload.grid.processes,
                sources: sources.as_ref(),
                warm_up: self.workload.time.warm_up,
                interval: self.workload.time.interval,
                placement: if crew.is_some() { Placement { server: None, ..placement } } else { placement },
                began: keeper.began,
            };
            let report = self.visit(&errand, &mut |trial| keeper.trial(trial));
            progress.visited(&VisitDone {
                subject: &label,
                idle,
                measured: report.trials.iter().filter(|trial| trial.void.is_none()).count(),
                trouble: report.trials.iter().find_map(|trial| trial.void.as_deref()),
            });
            put_down(&errand, report, record);
            keeper.visited(record);
        }
    }

    /// What goes over pipes, to see whether a scan grows there as it has over connections.
    fn over_pipes(&self) -> impl FnMut(&Mechanism, u32) -> Result<record::Scan, String> {
        #[cfg(unix)]
        let mut drills = None;
        move |mechanism, idle| {
            if self.stopped() {
                return Err("interrupted".to_owned());
            }
            #[cfg(unix)]
            return alone::scan(&mut drills, mechanism, idle as usize, self.workload.time.interval);
            #[cfg(not(unix))]
            Err(format!("there are no pipes for {idle} waits of {mechanism} on this system"))
        }
    }

    /// To a server, or to a poller alone.
    fn visit(&self, errand: &Errand<'_>, keep: &mut dyn FnMut(&Trial)) -> Report {
        #[cfg(unix)]
        if self.workload.exercise.is_some() {
            return alone::visit(errand, &self.stop, keep);
        }
        visit::visit(errand, &self.stop, keep)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Measures what calls cost, unless that was done before an interruption. Without it there are no reasons, and all else.
fn calibrate(calibrator: &Calibrator, round: u32, record: &mut Record, keeper: &mut Keeper) {
    if record.calibrations.iter().any(|row| row.round == round) {
        return;
    }
    match calibrator.run(round) {
        Ok(rows) => {
            keeper.calibrated(&rows);
            record.calibrations.extend(rows);
        }
        Err(failure) => warn(record, format!("calibration: {failure}")),
    }
}

fn put_down(errand: &Errand<'_>, report: Report, record: &mut Record) {
    record.visits.push(record::Visit {
        order: errand.trial.order,
        round: errand.trial.round,
        subject: errand.trial.subject.clone(),
        idle: errand.trial.idle,
        transport: errand.trial.transport,
        active: report.trials.iter().map(|trial| trial.active).collect(),
        population: report.population,
    });
    record.trials.extend(report.trials);
    if let Some(why) = report.unpinned {
        warn(record, format!("unpinned: {why}"));
    }
    if let Some(why) = report.uncounted {
        warn(record, format!("instructions: {why}"));
    }
}

/// Says it once.
fn warn(record: &mut Record, warning: String) {
    if !record.warnings.contains(&warning) {
        record.warnings.push(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_named_twice_is_one_row() {
        let registry = Registry::builtin();
        let comparison = Comparison::new(&registry).subjects(&["poll", "threads", "poll"]).expect("known everywhere");
        assert_eq!(comparison.subjects.iter().map(Subject::label).collect::<Vec<_>>(), ["poll", "threads"]);
    }

    #[test]
    fn a_number_of_threads_or_a_way_of_sharing_asked_for_twice_is_one_row() {
        let registry = Registry::builtin();
        let comparison = Comparison::new(&registry).subjects(&["poll"]).expect("known everywhere");
        let comparison =
            comparison.threads(vec![2, 1, 2, 1], vec![Sharing::Shared, Sharing::Exclusive, Sharing::Shared]);
        let mut missing = Vec::new();
        let plan = comparison.plan(&[], &mut missing).expect("a plan");
        let rows = plan.subjects.iter().map(Subject::label).chain(missing.iter().map(|one| one.subject.clone()));
        let mut rows = rows.collect::<Vec<_>>();
        rows.sort_unstable();
        let all = rows.len();
        rows.dedup();
        assert_eq!((rows.len(), all), (4, 4), "by one, by two in two ways, and the control: {rows:?}");
    }

    #[test]
    fn a_size_given_up_after_a_round_is_told_where_its_figures_are_read() {
        let registry = Registry::builtin();
        let comparison = Comparison::new(&registry).subjects(&["poll"]).expect("known everywhere");
        let plan = comparison.plan(&[], &mut Vec::new()).expect("a plan");
        let mut record = Record::begin(Vec::new(), 1, Host::default(), Settings::default());
        comparison.leave_out(&plan, 1_000, 0, &mut record);
        assert!(record.warnings.is_empty() && record.missing.iter().any(|one| one.idle == Some(1_000)));
        comparison.leave_out(&plan, 100, 1, &mut record);
        assert_eq!(record.warnings, ["100 idle connections: left out to stay within 84 s, after 1 round"]);
    }
}
