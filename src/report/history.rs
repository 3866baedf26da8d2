//! The same cells over several records: what each cost when, and where that changed.
//!
//! Records stand together only if they are of one machine, or of two of a kind, and of one workload; within such a group
//! they are told in the order they were made. Each is held against the one before it by the rule of a
//! [`Diff`], and the last against the first, because ten steps of which none could be told from noise may together be a
//! slope. System calls and instructions per request stand beside CPU time: they are counts, which repeat where times do
//! not, and so they are what a [gate](History::gate) judges by.

#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use super::diff::{Change, Diff, Metric, Verdict};
use super::format::plain;
use super::summary::{Cell, Outcome, Summary};
use crate::measure::record::{Load, Record};
use crate::measure::stats::Estimate;

/// Several records, by machine and workload.
#[derive(Clone, Debug)]
pub struct History<'a> {
    /// Those that have two records or more, the one with the newest first.
    pub courses: Vec<Course<'a>>,
    /// Records that are alone of their machine and workload, so that there is nothing to hold them against.
    pub alone: Vec<&'a Record>,
}

/// Records of one machine and one workload, the oldest first, and what became of each cell.
#[derive(Clone, Debug)]
pub struct Course<'a> {
    /// The records.
    pub records: Vec<&'a Record>,
    /// Each record but the first, held against the one before it.
    pub steps: Vec<Diff<'a>>,
    /// The last held against the first; `None` of two records, where that is the one step.
    pub whole: Option<Diff<'a>>,
    /// Every cell that two records or more have figures of; without the controls.
    pub tracks: Vec<Track>,
    /// How many cells are in one record alone.
    pub once: usize,
}

/// One cell over the records.
#[derive(Clone, Debug)]
pub struct Track {
    /// The row.
    pub subject: String,
    /// Connections open and silent.
    pub idle: u32,
    /// What kept the server busy.
    pub load: Load,
    /// One for each record of the course.
    pub points: Vec<Point>,
    /// CPU time of the last record against the first; `None` of two records.
    pub whole: Option<Change>,
}

/// One cell in one record.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// CPU time of the server for each request, in nanoseconds.
    pub cpu_ns: Option<Estimate>,
    /// System calls of the server for each request.
    pub calls: Option<f64>,
    /// Instructions for each request in user mode.
    pub instructions_user: Option<f64>,
    /// As above, in the kernel.
    pub instructions_kernel: Option<f64>,
    /// Why there are no figures.
    pub why: Option<String>,
    /// CPU time against the record before; `None` in the first, and where one of the two has none.
    pub change: Option<Change>,
}

/// What repeats well enough to be a gate on a machine that others use, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// System calls of the server for each request.
    Calls,
    /// Instructions for each request in user mode: those of the kernel are its own.
    Instructions,
}

/// How a gate came out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judged {
    /// Cells that both records have the count of.
    pub cells: usize,
    /// What is above the bound, or has lost the count it had: a sentence each.
    pub over: Vec<String>,
}

impl Count {
    /// Both.
    pub const ALL: [Count; 2] = [Count::Calls, Count::Instructions];

    /// The word it is asked for by.
    pub const fn name(self) -> &'static str {
        match self {
            Count::Calls => "calls",
            Count::Instructions => "instructions",
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Count::Calls => "system calls per request",
            Count::Instructions => "user instructions per request",
        }
    }

    fn of(self, point: &Point) -> Option<f64> {
        match self {
            Count::Calls => point.calls,
            Count::Instructions => point.instructions_user,
        }
    }
}

impl<'a> History<'a> {
    /// Of records in any order.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use pollmark::report::{self, history::{Count, History}};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let records = [report::read(Path::new("before"))?, report::read(Path::new("after"))?];
    /// let history = History::of(&records);
    /// let judged = history.gate(Count::Calls, 1.0);
    /// assert!(judged.over.is_empty(), "{:?}", judged.over);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(records: &'a [Record]) -> History<'a> {
        let mut records = records.iter().collect::<Vec<_>>();
        records.sort_by(|one, other| one.started.cmp(&other.started));
        let mut groups: Vec<Vec<&Record>> = Vec::new();
        for record in records {
            let same = |group: &&mut Vec<&Record>| {
                let of = group[0];
                name(of) == name(record) && of.host.machine_differences(&record.host).is_empty()
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push(record),
                None => groups.push(vec![record]),
            }
        }
        let newest = |group: &Vec<&Record>| group.last().map(|last| last.started.clone());
        groups.sort_by_key(|group| std::cmp::Reverse(newest(group)));
        let (several, alone): (Vec<_>, Vec<_>) = groups.into_iter().partition(|group| group.len() > 1);
        let courses = several.into_iter().map(Course::of).collect();
        History { courses, alone: alone.into_iter().flatten().collect() }
    }

    /// Whether the newest record of any course has a count that is more than `percent` above that of the record before.
    ///
    /// No time is judged: on a machine that others use it differs by more than what a gate is there to find. Counts repeat
    /// where one connection is active; where several are, it is chance how many of them a wait finds ready.
    pub fn gate(&self, count: Count, percent: f64) -> Judged {
        let mut judged = Judged::default();
        for course in &self.courses {
            for track in &course.tracks {
                let [.., before, after] = track.points.as_slice() else { continue };
                let place = || plain(&format!("{}, {}", track.subject, course.place(track)));
                match (count.of(before), count.of(after)) {
                    (Some(was), Some(is)) => {
                        judged.cells += 1;
                        if is > was * (1.0 + percent / 100.0) {
                            let by = (is / was - 1.0) * 100.0;
                            let what = count.what();
                            judged.over.push(format!(
                                "{}: {is:.3} {what}, {was:.3} before: {by:.1} % more, of which {percent} % are allowed",
                                place()
                            ));
                        }
                    }
                    // What cannot be seen any more could be anything.
                    (Some(was), None) => {
                        let why = after.why.clone().unwrap_or_else(|| "they were not counted".to_owned());
                        let what = count.what();
                        judged.over.push(format!("{}: {was:.3} {what} before, and none now: {}", place(), plain(&why)));
                    }
                    (None, _) => {}
                }
            }
        }
        judged
    }

    /// All of it, for programs.
    pub fn to_json(&self) -> Value {
        let alone = self.alone.iter().map(|record| about(record)).collect::<Vec<_>>();
        json!({"courses": self.courses.iter().map(Course::to_json).collect::<Vec<_>>(), "alone": alone})
    }

    /// A line for each cell of each record, for spreadsheets.
    ///
    /// # Errors
    /// What writing gave.
    pub fn write_csv(&self, to: impl io::Write) -> io::Result<()> {
        let mut out = csv::Writer::from_writer(to);
        out.write_record(COLUMNS)?;
        for (at, course) in self.courses.iter().enumerate() {
            for track in &course.tracks {
                for (record, point) in course.records.iter().zip(&track.points) {
                    out.write_record(course.line(at, record, track, point))?;
                }
            }
        }
        out.flush()
    }
}

const COLUMNS: [&str; 23] = [
    "course",
    "machine",
    "workload",
    "started",
    "version",
    "commit",
    "subject",
    "idle",
    "active",
    "load",
    "cpu_ns_per_request",
    "cpu_ns_low",
    "cpu_ns_high",
    "ratio_to_before",
    "ratio_low",
    "ratio_high",
    "verdict",
    "ratio_to_first",
    "verdict_to_first",
    "calls_per_request",
    "instructions_user_per_request",
    "instructions_kernel_per_request",
    "reason",
];

impl<'a> Course<'a> {
    fn of(records: Vec<&'a Record>) -> Course<'a> {
        let steps = records.windows(2).map(|pair| Diff::of(pair[0], pair[1])).collect::<Vec<_>>();
        let whole = match records.as_slice() {
            [first, _, .., last] => Some(Diff::of(first, last)),
            _ => None,
        };
        let summaries = steps.iter().take(1).map(|step| &step.before).chain(steps.iter().map(|step| &step.after));
        let of_steps = steps.iter().map(changes).collect::<Vec<_>>();
        let from_first = whole.as_ref().map(changes);
        let mut tracks = BTreeMap::<Key, Vec<Point>>::new();
        for (at, summary) in summaries.enumerate() {
            for cell in summary.cells.iter().filter(|cell| !summary.subjects[cell.subject].control) {
                let key = (cell.idle, cell.load, summary.subjects[cell.subject].name.clone());
                let change = at.checked_sub(1).and_then(|step| of_steps[step].get(&key)).map(|one| (*one).clone());
                let points = tracks.entry(key).or_insert_with(|| vec![absent(); records.len()]);
                points[at] = point(cell, change);
            }
        }
        let figures = |points: &[Point]| points.iter().filter(|point| point.is_known()).count();
        let once = tracks.values().filter(|points| figures(points) == 1).count();
        tracks.retain(|_, points| figures(points) > 1);
        let track = |(key, points): (Key, Vec<Point>)| {
            let whole = from_first.as_ref().and_then(|all| all.get(&key)).map(|one| (*one).clone());
            let (idle, load, subject) = key;
            Track { subject, idle, load, points, whole }
        };
        let tracks = tracks.into_iter().map(track).collect();
        Course { records, steps, whole, tracks, once }
    }

    /// The last summary, which has the words for all.
    fn newest(&self) -> &Summary<'a> {
        &self.steps.last().expect("a course has two records or more").after
    }

    fn place(&self, track: &Track) -> String {
        super::table::load(self.newest(), track.idle, track.load)
    }

    /// Cells of which a step, or the whole, is a change beyond noise.
    pub fn changed(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.changes().any(is_a_change))
    }

    fn to_json(&self) -> Value {
        let estimate = |estimate: &Estimate| {
            let interval = estimate.interval.map(|interval| [interval.low, interval.high]);
            json!({"value": estimate.value, "interval": interval})
        };
        let change =
            |change: &Change| json!({"ratio": change.ratio.as_ref().map(estimate), "verdict": change.verdict.word()});
        let point = |point: &Point| {
            json!({
                "cpu_ns_per_request": point.cpu_ns.as_ref().map(estimate), "calls_per_request": point.calls,
                "instructions_user_per_request": point.instructions_user,
                "instructions_kernel_per_request": point.instructions_kernel,
                "to_before": point.change.as_ref().map(change), "reason": point.why,
            })
        };
        let track = |track: &Track| {
            json!({
                "subject": track.subject, "idle": track.idle, "load": track.load,
                "points": track.points.iter().map(point).collect::<Vec<_>>(),
                "last_to_first": track.whole.as_ref().map(change),
            })
        };
        json!({
            "machine": super::entry::describe(self.records[0]), "workload": name(self.records[0]),
            "records": self.records.iter().map(|record| about(record)).collect::<Vec<_>>(),
            "smallest_changes": self.steps.iter().map(|step| step.margins[Metric::Cpu as usize]).collect::<Vec<_>>(),
            "cells": self.tracks.iter().map(track).collect::<Vec<_>>(), "cells_in_one_record": self.once,
        })
    }

    fn line(&self, at: usize, record: &Record, track: &Track, point: &Point) -> Vec<String> {
        let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
        let three = |estimate: Option<Estimate>| {
            let interval = estimate.and_then(|one| one.interval);
            [estimate.map(|one| one.value), interval.map(|one| one.low), interval.map(|one| one.high)].map(number)
        };
        let is_last = std::ptr::eq(record, *self.records.last().expect("two or more"));
        let whole = track.whole.as_ref().filter(|_| is_last);
        let verdict = |change: Option<&Change>| change.map(|one| one.verdict.word().to_owned()).unwrap_or_default();
        let mut line = vec![
            (at + 1).to_string(),
            super::entry::describe(record),
            name(record).to_owned(),
            record.started.clone(),
            record.pollmark_version.clone(),
            record.host.commit.clone().unwrap_or_default(),
            track.subject.clone(),
            track.idle.to_string(),
            track.load.active.to_string(),
            self.newest().describe(track.load),
        ];
        line.extend(three(point.cpu_ns));
        line.extend(three(point.change.as_ref().and_then(|one| one.ratio)));
        line.push(verdict(point.change.as_ref()));
        line.push(number(whole.and_then(|one| one.ratio).map(|one| one.value)));
        line.push(verdict(whole));
        line.extend([point.calls, point.instructions_user, point.instructions_kernel].map(number));
        line.push(point.why.clone().unwrap_or_default());
        line.iter().map(|field| plain(field)).collect()
    }
}

/// Idle connections, load and row.
type Key = (u32, Load, String);

impl Track {
    /// Every step, and the whole.
    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.points.iter().filter_map(|point| point.change.as_ref()).chain(&self.whole)
    }
}

impl Point {
    fn is_known(&self) -> bool {
        self.why.is_none()
    }
}

fn is_a_change(change: &Change) -> bool {
    matches!(change.verdict, Verdict::Win | Verdict::Lose)
}

fn changes<'d>(diff: &'d Diff<'_>) -> BTreeMap<Key, &'d Change> {
    let cpu = diff.changes.iter().filter(|change| change.metric == Metric::Cpu);
    cpu.map(|change| ((change.idle, change.load, change.subject.clone()), change)).collect()
}

fn point(cell: &Cell, change: Option<Change>) -> Point {
    match &cell.outcome {
        Outcome::Measured(figures) => Point {
            cpu_ns: figures.cpu_ns,
            calls: figures.calls,
            instructions_user: figures.instructions_user,
            instructions_kernel: figures.instructions_kernel,
            why: None,
            change: change.filter(|one| one.ratio.is_some()),
        },
        Outcome::Missing(why) => Point { why: Some(why.clone()), ..Point::default() },
        Outcome::Void(why) => Point { why: Some(format!("void: {why}")), ..Point::default() },
    }
}

fn absent() -> Point {
    Point { why: Some("not asked for".to_owned()), ..Point::default() }
}

/// The workload, which decides with the machine about what may stand together.
fn name(record: &Record) -> &str {
    super::entry::workload(record)
}

fn about(record: &Record) -> Value {
    json!({
        "started": record.started, "version": record.pollmark_version, "commit": record.host.commit,
        "kernel": record.host.kernel, "rustc": record.host.rustc, "rounds": record.settings.rounds_done,
        "finished": record.finished, "seed": record.seed,
    })
}
