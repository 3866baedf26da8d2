//! What every mechanism says of the same situation: the kernel's own words beside the event a program gets.
//!
//! The [conformance suite](crate::conformance) asserts what all mechanisms have in common. This is the other half:
//! forty situations are played out in front of each of them, and what it says is written down. Where that is not what
//! the contract leads a program to expect, a [`Note`] explains it; a difference without one is a bug, or a discovery.
//!
//! ```
//! use pollmark_backends::{Registry, Trigger, semantics};
//!
//! let columns = [semantics::Column::new("poll", Trigger::Level), semantics::Column::new("select", Trigger::Level)];
//! let matrix = semantics::run(&Registry::builtin(), &columns)?;
//! let row = matrix.row("half-close").expect("one of the scenarios");
//! for (column, cell) in columns.iter().zip(&row.steps[0].cells) {
//!     println!("{}: {} means {}", column.name, cell.raw, cell.outcome);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | idea | file |
//! |---|---|
//! | what a program is told, and how that compares with what is expected | `outcome.rs` |
//! | the stage: one poller, one source, and poll(2) to see when a situation has come about | `scene.rs` |
//! | the situations, a function each | `streams.rs` `sockets.rs` `files.rs` `registration.rs` `triggers.rs` `waiting.rs` |
//! | why a mechanism differs, and where that is written | `notes.rs` |

mod files;
mod notes;
mod outcome;
mod registration;
mod scene;
mod sockets;
mod streams;
mod triggers;
mod waiting;

use std::io;

use crate::event::{Interest, Trigger};
use crate::poller::Capabilities;
use crate::registry::Registry;

pub use notes::{NOTES, Note};
pub use outcome::{Expected, Facts, Outcome};
use scene::{Ended, Scene};

/// A situation, and what is to be learnt from it.
pub struct Scenario {
    /// A short name, unique: `half-close`.
    pub name: &'static str,
    /// What it shows, in a line or two.
    pub shows: &'static str,
    /// What the source is watched for.
    pub asked: Interest,
    /// The trigger it is about; `None` if it is played with the column's.
    pub trigger: Option<Trigger>,
    /// The moments at which the poller is looked at.
    pub moments: &'static [Moment],
    play: fn(&mut Scene<'_>) -> Play,
}

/// A moment of a [`Scenario`], and what a program is to be told in it.
pub struct Moment {
    /// What has happened by then.
    pub when: &'static str,
    /// What the contract of [`Poller`](crate::Poller), or where that is silent the majority, leads one to expect.
    pub expected: Expected,
}

/// How a scenario's function ends: with everything looked at, or before.
type Play = Result<(), Ended>;

/// Scenarios of one subject.
pub struct Chapter {
    /// What they are about.
    pub title: &'static str,
    /// In the order they are played.
    pub scenarios: &'static [Scenario],
}

/// Every scenario, in the order they are played.
pub const CHAPTERS: &[Chapter] = &[
    Chapter { title: "Streams: data, ends, errors", scenarios: streams::SCENARIOS },
    Chapter { title: "Other sockets", scenarios: sockets::SCENARIOS },
    Chapter { title: "Pipes and files", scenarios: files::SCENARIOS },
    Chapter { title: "Registration, and closing behind the poller's back", scenarios: registration::SCENARIOS },
    Chapter { title: "Triggers", scenarios: triggers::SCENARIOS },
    Chapter { title: "Waiting", scenarios: waiting::SCENARIOS },
];

/// A column of the matrix: a mechanism of the registry and how its sources are watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// What stands above it: `epoll`, `epoll-edge`.
    pub name: String,
    /// The registry's entry.
    pub backend: String,
    /// The trigger of all scenarios that are not about one themselves.
    pub trigger: Trigger,
}

impl Column {
    /// The column of a backend with a trigger, named as the rest of pollmark names it.
    pub fn new(backend: &str, trigger: Trigger) -> Column {
        let name = match trigger {
            Trigger::Level => backend.to_owned(),
            other => format!("{backend}-{other}"),
        };
        Column { name, backend: backend.to_owned(), trigger }
    }

    /// The backend it is about, or that it is a variant of: `epoll` of `epoll-busy`.
    pub fn family(&self) -> &str {
        self.backend.split('-').next().unwrap_or(&self.backend)
    }

    /// Every backend available here, level-triggered: the columns one would want. A variant says what its base says.
    pub fn all(registry: &Registry) -> Vec<Column> {
        let available = registry.entries().filter(|entry| entry.base().is_none() && entry.probe().is_ok());
        available.map(|entry| Column::new(entry.name(), Trigger::Level)).collect()
    }
}

/// Plays every scenario on every column, each on a poller of its own.
///
/// It uses loopback sockets and, on Unix, pipes and files that are there anyway; raises the soft limit of open files;
/// and takes a second or two, most of it to be sure of silences. What it finds is the same each time.
///
/// # Errors
/// `InvalidInput` if a column names no entry of `registry`, or asks for a trigger that is not offered; `Unsupported` if
/// its entry is not available here. What goes wrong within a scenario is that scenario's [`Outcome::Failed`].
pub fn run(registry: &Registry, columns: &[Column]) -> io::Result<Matrix> {
    run_where(registry, columns, |_| true)
}

/// As [`run`], but only the scenarios whose name `wanted` likes.
///
/// # Errors
/// As [`run`].
pub fn run_where(registry: &Registry, columns: &[Column], wanted: impl Fn(&str) -> bool) -> io::Result<Matrix> {
    crate::conformance::system::raise_descriptor_limit();
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let mut subjects = Vec::new();
    for column in columns {
        let entry = registry.get(&column.backend).map_err(|unknown| invalid(unknown.to_string()))?;
        let capabilities = entry.open()?.capabilities();
        if !capabilities.supports(column.trigger) {
            return Err(invalid(format!("{} has no {} trigger", column.backend, column.trigger)));
        }
        subjects.push((column, entry, capabilities));
    }
    let mut rows = Vec::new();
    for chapter in CHAPTERS {
        for scenario in chapter.scenarios.iter().filter(|scenario| wanted(scenario.name)) {
            let mut steps =
                scenario.moments.iter().map(|moment| Step { moment, cells: Vec::new() }).collect::<Vec<_>>();
            for (column, entry, capabilities) in &subjects {
                let seen = scene::play(scenario, column, entry);
                for (step, (outcome, raw)) in steps.iter_mut().zip(seen) {
                    let notes = notes::on(scenario, step.moment, column, capabilities, &outcome);
                    step.cells.push(Cell { outcome, raw, notes });
                }
            }
            rows.push(Row { chapter, scenario, steps });
        }
    }
    let columns = subjects.into_iter().map(|(column, _, capabilities)| (column.clone(), capabilities)).collect();
    Ok(Matrix { columns, rows })
}

/// What every column said of every scenario.
pub struct Matrix {
    /// The columns, and what each can do.
    pub columns: Vec<(Column, Capabilities)>,
    /// A row for each scenario.
    pub rows: Vec<Row>,
}

impl Matrix {
    /// The row of the scenario called `name`.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario.name == name)
    }

    /// Every cell, with the scenario, the moment and the column it belongs to.
    pub fn cells(&self) -> impl Iterator<Item = (&Row, &Step, &Column, &Cell)> {
        let steps = self.rows.iter().flat_map(|row| row.steps.iter().map(move |step| (row, step)));
        steps.flat_map(|(row, step)| {
            let columns = self.columns.iter().map(|(column, _)| column);
            columns.zip(&step.cells).map(move |(column, cell)| (row, step, column, cell))
        })
    }
}

/// One scenario as all columns played it.
pub struct Row {
    /// The chapter it stands in.
    pub chapter: &'static Chapter,
    /// What was played.
    pub scenario: &'static Scenario,
    /// What was seen at each of its moments.
    pub steps: Vec<Step>,
}

/// One moment of a scenario.
pub struct Step {
    /// Which.
    pub moment: &'static Moment,
    /// What each column said, in the order of the columns.
    pub cells: Vec<Cell>,
}

/// What one mechanism said at one moment.
pub struct Cell {
    /// What a program is told.
    pub outcome: Outcome,
    /// What the kernel said, in its own words; empty if it said nothing.
    pub raw: String,
    /// Why the outcome is not the expected one.
    pub notes: Notes,
}

/// How a cell compares with what was expected of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notes {
    /// It is as expected, or there is nothing to compare.
    AsExpected,
    /// It differs, and these say why.
    Explained(Vec<&'static Note>),
    /// It differs, and nobody has said why.
    Unexplained,
}
