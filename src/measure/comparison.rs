//! The whole comparison: whole rounds, interleaved, as many as the budget allows.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use pollmark_backends::Registry;

use super::host::Host;
use super::placement::Placement;
use super::plan::{self, Plan, Subject, Visit};
use super::progress::{Progress, VisitDone};
use super::record::{self, Missing, Record, Settings, Trial};
use super::schedule::Schedule;
use super::shape;
use super::visit::{self, Errand, Report};
use crate::child;
use crate::limits::{Limits, OTHER_DESCRIPTORS, Shortage, preflight};
use crate::mechanism::{Mechanism, UnknownMechanism};

/// Idle connections, where nothing else was asked for.
const DEFAULT_IDLE: [usize; 4] = [0, 100, 1_000, 5_000];

/// A comparison to be made. Set what differs from the defaults, then [`run`](Comparison::run) it.
///
/// The program must have called [`child::enter`](crate::child::enter) first thing in `main`, with the same registry.
///
/// ```no_run
/// use pollmark::measure::Comparison;
/// use pollmark_backends::Registry;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let registry = Registry::builtin();
///     pollmark::child::enter(&registry);
///     let record = Comparison::new(&registry).quick().run(&mut ())?;
///     println!("{} trials", record.trials.len());
///     Ok(())
/// }
/// ```
pub struct Comparison<'a> {
    registry: &'a Registry,
    subjects: Vec<Subject>,
    /// Subjects without a wait, which have no shape.
    left_out: Vec<Subject>,
    gates: bool,
    idle: Option<Vec<usize>>,
    active: Vec<usize>,
    size: usize,
    rounds: Option<usize>,
    warm_up: Duration,
    interval: Duration,
    budget: Duration,
    seed: u64,
    stop: Arc<AtomicBool>,
}

impl<'a> Comparison<'a> {
    /// The default: one mechanism of each family the registry has, up to 5,000 idle connections, 1, 10 and 100 active
    /// ones, 64-byte echoes over TCP, within 80 seconds.
    pub fn new(registry: &'a Registry) -> Comparison<'a> {
        Comparison {
            registry,
            subjects: plan::subjects(registry, false),
            left_out: Vec::new(),
            gates: false,
            idle: None,
            active: vec![1, 10, 100],
            size: 64,
            rounds: None,
            warm_up: Duration::from_millis(30),
            interval: Duration::from_millis(150),
            budget: Duration::from_secs(80),
            seed: fastrand::u64(..),
            stop: Arc::default(),
        }
    }

    /// A smoke test of some ten seconds: small populations, short intervals. Its figures are not for publishing.
    #[must_use]
    pub fn quick(mut self) -> Comparison<'a> {
        self.idle = Some(vec![0, 100]);
        self.active = vec![1, 10];
        (self.warm_up, self.interval) = (Duration::from_millis(10), Duration::from_millis(50));
        self.budget = Duration::from_secs(10);
        self
    }

    /// Checks shapes instead: how the cost of a wait grows from 1,000 to 9,000 idle connections at one active. The
    /// record then has a gate for each subject that waits. Takes longer than the default budget.
    #[must_use]
    pub fn shape(mut self) -> Comparison<'a> {
        self.idle = Some(shape::IDLE.to_vec());
        self.active = vec![1];
        // A CPU that has slept wakes slowly for a while, and slopes must not show that.
        self.warm_up = Duration::from_millis(100);
        self.gates = true;
        let (waiting, others) = self.subjects.into_iter().partition(|one| one.mechanism().trigger().is_some());
        (self.subjects, self.left_out) = (waiting, others);
        self
    }

    /// Compares the mechanisms of these names.
    ///
    /// # Errors
    /// [`UnknownMechanism`], which lists those there are.
    pub fn subjects<S: AsRef<str>>(mut self, names: &[S]) -> Result<Comparison<'a>, UnknownMechanism> {
        self.subjects.clear();
        for name in names {
            let subject = Subject::new(Mechanism::parse(self.registry, name.as_ref())?);
            // Named twice, it is one row all the same.
            if !self.subjects.contains(&subject) {
                self.subjects.push(subject);
            }
        }
        Ok(self)
    }

    /// Compares every mechanism of the registry with every trigger it has.
    #[must_use]
    pub fn all_subjects(mut self) -> Comparison<'a> {
        self.subjects = plan::subjects(self.registry, true);
        self
    }

    /// The numbers of idle connections. Sizes asked for are never dropped to save time.
    #[must_use]
    pub fn idle(mut self, sizes: Vec<usize>) -> Comparison<'a> {
        self.idle = Some(sizes);
        self
    }

    /// The numbers of active connections.
    #[must_use]
    pub fn active(mut self, sizes: Vec<usize>) -> Comparison<'a> {
        self.active = sizes;
        self
    }

    /// Bytes of each payload, and of its echo.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Comparison<'a> {
        self.size = bytes;
        self
    }

    /// Exactly so many rounds, instead of as many as the budget allows.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Comparison<'a> {
        self.rounds = Some(rounds);
        self
    }

    /// How long all may take.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Comparison<'a> {
        self.budget = budget;
        self
    }

    /// How long each cell is kept busy before it is measured, and how long it is measured.
    #[must_use]
    pub fn interval(mut self, warm_up: Duration, interval: Duration) -> Comparison<'a> {
        (self.warm_up, self.interval) = (warm_up, interval);
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

    /// Makes the comparison.
    ///
    /// # Errors
    /// [`Impossible`], before anything is measured. Later trouble is in the record, in place of what it hindered.
    pub fn run(self, progress: &mut dyn Progress) -> Result<Record, Impossible> {
        if child::is_unentered_child() {
            return Err(Impossible::NotEntered);
        }
        let no_wait = "left out of a run for shapes: it has no wait whose cost could grow";
        let mut missing: Vec<Missing> =
            self.left_out.iter().map(|subject| absent(subject, None, None, no_wait.into())).collect();
        let mut plan = self.plan(&mut missing)?;
        let counters = child::can_count_instructions();
        let mut schedule = Schedule {
            budget: self.budget,
            exactly: self.rounds,
            may_drop: self.idle.is_none(),
            extra: usize::from(counters.is_ok()),
            began: Instant::now(),
            done: 0,
        };
        let mut record = self.begin(&plan, &schedule, missing);
        let wanted = plan.clone();
        let mut rng = Rng::with_seed(self.seed);
        while let Some(dropped) = schedule.another(&mut plan) {
            for idle in dropped {
                self.leave_out(&plan, idle, schedule.done, &mut record);
            }
            progress.round(schedule.done, schedule.expected(&plan));
            let began = Instant::now();
            self.round(false, &plan, &schedule, &mut rng, &mut record, progress);
            if self.stopped() {
                break;
            }
            schedule.done += 1;
            plan.learn(began.elapsed());
        }
        match counters {
            Ok(()) if !self.stopped() => self.round(true, &plan, &schedule, &mut rng, &mut record, progress),
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
        if self.gates {
            record.gates = shape::gates(&wanted.subjects, self.registry, &record);
        }
        record.warnings.iter().for_each(|warning| progress.note(warning));
        Ok(record)
    }

    /// The grid; what cannot be in it is put down as missing.
    fn plan(&self, missing: &mut Vec<Missing>) -> Result<Plan, Impossible> {
        let mut subjects = Vec::new();
        for subject in &self.subjects {
            match subject.mechanism().probe(self.registry) {
                Ok(_) => subjects.push(subject.clone()),
                Err(why) => missing.push(absent(subject, None, None, why.to_string())),
            }
        }
        let Some(first) = subjects.first() else {
            let reasons = missing.iter().map(|one| format!("{} ({})", one.subject, one.reason));
            return Err(Impossible::NothingAvailable(reasons.collect::<Vec<_>>().join(", ")));
        };
        subjects.insert(1, first.again());

        let active = sorted(&self.active);
        if active.first().is_none_or(|least| *least == 0) {
            return Err(Impossible::Invalid("at least one connection must be active: 1, 10 and 100 by default".into()));
        }
        if self.size == 0 {
            return Err(Impossible::Invalid("a payload has at least one byte: 64 by default".into()));
        }
        if self.rounds == Some(0) {
            return Err(Impossible::Invalid("no rounds, no results: ask for at least 1, better 3".into()));
        }
        if self.interval.is_zero() {
            return Err(Impossible::Invalid("an interval of nothing measures nothing".into()));
        }
        let most_active = *active.last().expect("not empty");
        let idle = self.idle_sizes(most_active, &subjects, missing)?;
        Ok(Plan::new(subjects, idle, active, self.warm_up, self.interval))
    }

    fn idle_sizes(
        &self,
        most_active: usize,
        subjects: &[Subject],
        missing: &mut Vec<Missing>,
    ) -> Result<Vec<usize>, Impossible> {
        let allow = |idle: usize| preflight((idle + most_active) as u64);
        if let Some(idle) = &self.idle {
            let idle = sorted(idle);
            let Some(most) = idle.last() else {
                return Err(Impossible::Invalid("no number of idle connections was given; 0 is one".into()));
            };
            allow(*most).map_err(Impossible::Limit)?;
            return Ok(idle);
        }
        allow(0).map_err(Impossible::Limit)?;
        let mut fitting = Vec::new();
        for idle in DEFAULT_IDLE {
            match allow(idle) {
                Ok(_) => fitting.push(idle),
                Err(short) => {
                    missing.extend(subjects.iter().map(|one| absent(one, Some(idle), None, short.to_string())));
                }
            }
        }
        Ok(fitting)
    }

    fn begin(&self, plan: &Plan, schedule: &Schedule, missing: Vec<Missing>) -> Record {
        let listed = plan.subjects.iter().filter(|subject| !subject.is_control()).map(Subject::label);
        let settings = Settings {
            rounds: schedule.expected(plan) as u32,
            rounds_done: 0,
            warmup_ns: self.warm_up.as_nanos() as u64,
            measure_ns: self.interval.as_nanos() as u64,
            payload_bytes: self.size as u64,
            idle: plan.idle.iter().map(|&idle| idle as u32).collect(),
            active: plan.active.iter().map(|&active| active as u32).collect(),
            mechanisms: listed.collect(),
            budget_ns: self.rounds.is_none().then_some(self.budget.as_nanos() as u64),
        };
        let command = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let mut record = Record::begin(command, self.seed, Host::gather(), settings);
        record.missing = missing;
        if Placement::choose().server.is_none() {
            warn(&mut record, "unpinned: server and load are not bound to CPUs of their own here".into());
        }
        if let Some(warning) = Limits::gather().warning() {
            warn(&mut record, warning);
        }
        record
    }

    /// Puts down that an idle size is given up, for every subject. After a round it has figures all the same, and then
    /// the reader is told why they are not ranked.
    fn leave_out(&self, plan: &Plan, idle: usize, rounds: usize, record: &mut Record) {
        let why = format!("left out to stay within {} s", self.budget.as_secs());
        if rounds > 0 {
            warn(
                record,
                format!("{idle} idle connections: {why}, after {rounds} round{}", if rounds == 1 { "" } else { "s" }),
            );
        }
        record.missing.extend(plan.subjects.iter().map(|subject| absent(subject, Some(idle), None, why.clone())));
    }

    fn round(
        &self,
        counted: bool,
        plan: &Plan,
        schedule: &Schedule,
        rng: &mut Rng,
        record: &mut Record,
        progress: &mut dyn Progress,
    ) {
        let placement = Placement::choose();
        let visits = plan.round(rng);
        let rounds_after = schedule.expected(plan).saturating_sub(schedule.done + 1) + schedule.extra;
        for (at, Visit { subject, idle, active }) in visits.iter().enumerate() {
            let subject = &plan.subjects[*subject];
            if self.stopped() {
                return;
            }
            if let Some(why) = self.obstacle(subject, idle + active.iter().max().unwrap_or(&0)) {
                let known =
                    record.missing.iter().any(|one| one.subject == subject.label() && one.idle == Some(*idle as u32));
                if !known {
                    record.missing.push(absent(subject, Some(*idle), None, why));
                }
                continue;
            }
            let after = if counted { 0 } else { rounds_after };
            let remaining = plan.time(&visits[at..]) + plan.round_time() * after as u32;
            let label = subject.label();
            progress.visiting(&label, *idle, remaining);
            let errand = Errand {
                mechanism: subject.mechanism().name(),
                idle: *idle,
                active,
                size: self.size,
                warm_up: self.warm_up,
                interval: self.interval,
                placement,
                counted,
            };
            let report = visit::visit(&errand, &self.stop);
            progress.visited(&VisitDone {
                subject: &label,
                idle: *idle,
                measured: report.trials.iter().filter(|trial| trial.void.is_none()).count(),
                trouble: report.trials.iter().find_map(|trial| trial.void.as_deref()),
            });
            self.put_down(subject, schedule.done as u32, *idle, report, record);
        }
    }

    fn put_down(&self, subject: &Subject, round: u32, idle: usize, report: Report, record: &mut Record) {
        let order = record.visits.len() as u32;
        record.visits.push(record::Visit {
            order,
            round,
            subject: subject.label(),
            idle: idle as u32,
            active: report.trials.iter().map(|trial| trial.active).collect(),
        });
        record.trials.extend(report.trials.into_iter().map(|trial| Trial {
            order,
            round,
            subject: subject.label(),
            control: subject.is_control(),
            ..trial
        }));
        if let Some(why) = report.unpinned {
            warn(record, format!("unpinned: {why}"));
        }
        if let Some(why) = report.uncounted {
            warn(record, format!("instructions: {why}"));
        }
    }

    /// What the mechanism itself cannot watch, it need not be asked to.
    fn obstacle(&self, subject: &Subject, connections: usize) -> Option<String> {
        let capabilities = subject.mechanism().probe(self.registry).ok()??;
        let needed = connections + OTHER_DESCRIPTORS as usize;
        if let Some(below) = capabilities.numbers_below.filter(|below| needed as u64 > *below) {
            return Some(format!("it watches numbers below {below} only, and {connections} connections need more"));
        }
        let most = capabilities.most_sources.filter(|most| needed > *most)?;
        Some(format!("it watches at most {most} sources"))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a comparison cannot be made at all.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Impossible {
    /// The process was started as a child, and has not entered its role.
    NotEntered,
    /// No mechanism asked for is available; each with the reason.
    NothingAvailable(String),
    /// More connections than the host, or this process and so its children, may have.
    Limit(Shortage),
    /// What was asked for makes no sense.
    Invalid(String),
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Impossible::NotEntered => {
                f.write_str("a child does not compare: call pollmark::child::enter first thing in main")
            }
            Impossible::NothingAvailable(reasons) => write!(f, "none of the mechanisms is available here: {reasons}"),
            Impossible::Limit(shortage) => shortage.fmt(f),
            Impossible::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Impossible {}

/// Says it once.
fn warn(record: &mut Record, warning: String) {
    if !record.warnings.contains(&warning) {
        record.warnings.push(warning);
    }
}

/// What is in the plan, has no trial, and no reason for that yet: an interruption came first.
fn name_what_is_missing(plan: &Plan, record: &mut Record) {
    for subject in &plan.subjects {
        let label = subject.label();
        for (&idle, &active) in plan.idle.iter().flat_map(|idle| plan.active.iter().map(move |active| (idle, active))) {
            let (of_idle, of_active) = (idle as u32, active as u32);
            let tried = |trial: &Trial| trial.subject == label && trial.idle == of_idle && trial.active == of_active;
            let named = |one: &Missing| one.subject == label && one.idle.is_none_or(|idle| idle == of_idle);
            if !record.trials.iter().any(tried) && !record.missing.iter().any(named) {
                let why = "interrupted before it was measured".to_owned();
                record.missing.push(absent(subject, Some(idle), Some(active), why));
            }
        }
    }
}

fn absent(subject: &Subject, idle: Option<usize>, active: Option<usize>, reason: String) -> Missing {
    let number = |number: usize| number as u32;
    Missing { subject: subject.label(), idle: idle.map(number), active: active.map(number), reason }
}

fn sorted(sizes: &[usize]) -> Vec<usize> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
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
    fn a_size_given_up_after_a_round_is_told_where_its_figures_are_read() {
        let registry = Registry::builtin();
        let comparison = Comparison::new(&registry).subjects(&["poll"]).expect("known everywhere");
        let plan = comparison.plan(&mut Vec::new()).expect("a plan");
        let mut record = Record::begin(Vec::new(), 1, Host::default(), Settings::default());
        comparison.leave_out(&plan, 1_000, 0, &mut record);
        assert!(record.warnings.is_empty() && record.missing.iter().any(|one| one.idle == Some(1_000)));
        comparison.leave_out(&plan, 100, 1, &mut record);
        assert_eq!(record.warnings, ["100 idle connections: left out to stay within 80 s, after 1 round"]);
    }
}
