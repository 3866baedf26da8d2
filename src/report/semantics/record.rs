//! A semantics matrix as it is kept: what each mechanism said, on which host, and why it differs.

use std::fmt;
use std::io::{self, BufRead, Write};

use pollmark_backends::semantics::{self, Column, Matrix, Notes, Outcome};
use pollmark_backends::{Capabilities, Interest, Registry, Trigger};
use serde::{Deserialize, Serialize};

use crate::mechanism;
use crate::report::json;

/// The form of the file, and its version.
pub const SCHEMA: &str = "pollmark-semantics/1";

/// What every mechanism of a host said of every scenario.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: String,
    /// Version of that program.
    pub pollmark_version: String,
    /// Where it was made.
    pub host: Host,
    /// The mechanisms, in the order of the cells.
    pub mechanisms: Vec<Mechanism>,
    /// Those that this host does not have.
    pub absent: Vec<Absent>,
    /// Every scenario, in the order they were played.
    pub scenarios: Vec<Scenario>,
    /// The notes that cells refer to; the first is number 1.
    pub notes: Vec<Note>,
}

/// The facts of a host that decide what its mechanisms say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// The operating system: `linux`, `macos`, `freebsd`, …
    pub os: String,
    /// Its kernel's name, release and version, where uname(1) shows them.
    pub kernel: Option<String>,
    /// The architecture: `x86_64`, `aarch64`, …
    pub arch: String,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.os, self.arch)?;
        self.kernel.as_ref().map_or(Ok(()), |kernel| write!(f, ", {kernel}"))
    }
}

/// A mechanism and what it can do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mechanism {
    /// The name it is chosen by.
    pub name: String,
    /// The trigger of the scenarios that are not about one.
    pub trigger: String,
    /// All triggers its backend has.
    pub triggers: Vec<String>,
    /// Nanoseconds of the finest timeout.
    pub resolution_ns: u64,
    /// One more than the highest number it can watch, where it sets a limit.
    pub numbers_below: Option<u64>,
    /// The most sources it can watch, where it sets a limit.
    pub most_sources: Option<u64>,
    /// A half-close is told from data.
    pub half_close: bool,
    /// An error is told from data.
    pub errors: bool,
    /// Urgent data is reported.
    pub priority: bool,
    /// Regular files can be watched.
    pub regular_files: bool,
}

impl Mechanism {
    /// How many sources it can watch and of which numbers, in words.
    pub fn limits(&self) -> String {
        let numbers = self.numbers_below.map(|below| format!("numbers below {below}"));
        let sources = self.most_sources.map(|most| format!("{most} sources"));
        let found = numbers.into_iter().chain(sources).collect::<Vec<_>>();
        if found.is_empty() { "none of its own".to_owned() } else { found.join(", ") }
    }
}

/// A mechanism that this host does not have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A situation that was played.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scenario {
    /// The chapter it stands in.
    pub chapter: String,
    /// Its short name.
    pub name: String,
    /// What it shows.
    pub shows: String,
    /// What the source was watched for.
    pub asked: Vec<String>,
    /// The trigger it is about, if it is about one.
    pub trigger: Option<String>,
    /// The moments at which the mechanisms were looked at.
    pub moments: Vec<Moment>,
}

/// A moment of a scenario.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Moment {
    /// What had happened by then.
    pub when: String,
    /// What each mechanism said, in their order.
    pub cells: Vec<Cell>,
}

/// What one mechanism said at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Which.
    pub mechanism: String,
    /// What the kernel said, in its own words. Empty if it said nothing, or nobody shows it.
    pub raw: String,
    /// What a program is told.
    pub said: Said,
    /// That is not what is expected of a mechanism.
    pub differs: bool,
    /// The numbers of the notes that say why; none if it differs and nobody has said why.
    pub notes: Vec<usize>,
}

/// What a program is told. Displays in words.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// An event that states these facts: methods of [`Event`](pollmark_backends::Event).
    Event(Vec<String>),
    /// No event.
    Silence,
    /// A refusal, by the name of its `io::ErrorKind`.
    Refused(String),
    /// A finding that is no event.
    Found(String),
    /// It was not played, for this reason.
    NotPlayed(String),
    /// It went wrong, in this way.
    Failed(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Event(facts) => f.write_str(&facts.join(", ")),
            Said::Silence => f.write_str("silence"),
            Said::Refused(kind) => write!(f, "refused: {kind}"),
            Said::Found(what) => f.write_str(what),
            Said::NotPlayed(why) => f.write_str(why),
            Said::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// Why a mechanism differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// The explanation.
    pub text: String,
    /// Where it is written.
    pub reference: String,
    /// A link to that.
    pub link: String,
}

impl Record {
    /// Plays every scenario on each of `mechanisms`; the families of the registry that are not here are noted.
    ///
    /// # Errors
    /// `InvalidInput` if one of them stands on no poller; else what [`semantics::run`] gives.
    pub fn gather(registry: &Registry, mechanisms: &[mechanism::Mechanism]) -> io::Result<Record> {
        let column = |mechanism: &mechanism::Mechanism| match mechanism.trigger() {
            Some(trigger) => Ok(Column::new(mechanism.family(), trigger)),
            None => {
                let why = format!("{mechanism} waits for nothing: it has no poller, and so nothing is reported");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        };
        let columns = mechanisms.iter().map(column).collect::<io::Result<Vec<_>>>()?;
        let mut record = Record::of(&semantics::run(registry, &columns)?);
        record.absent = registry
            .entries()
            .filter(|entry| entry.base().is_none())
            .filter_map(|entry| {
                let reason = entry.probe().err()?.to_string();
                Some(Absent { name: entry.name().to_owned(), reason })
            })
            .collect();
        Ok(record)
    }

    /// What was found in a matrix made on this host.
    pub fn of(matrix: &Matrix) -> Record {
        let host = crate::measure::Host::gather();
        let mut notes = Vec::<&semantics::Note>::new();
        let scenario = |row: &semantics::Row| Scenario {
            chapter: row.chapter.title.to_owned(),
            name: row.scenario.name.to_owned(),
            shows: row.scenario.shows.to_owned(),
            asked: asked(row.scenario.asked),
            trigger: row.scenario.trigger.map(|trigger| trigger.to_string()),
            moments: row.steps.iter().map(|step| moment(step, matrix, &mut notes)).collect(),
        };
        let scenarios = matrix.rows.iter().map(scenario).collect();
        let note = |note: &semantics::Note| Note {
            text: note.text.to_owned(),
            reference: note.reference.to_owned(),
            link: note.link.to_owned(),
        };
        Record {
            schema: SCHEMA.to_owned(),
            pollmark_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: Host { os: host.os, kernel: host.kernel, arch: host.arch },
            mechanisms: matrix.columns.iter().map(|(column, abilities)| described(column, abilities)).collect(),
            absent: Vec::new(),
            scenarios,
            notes: notes.into_iter().map(note).collect(),
        }
    }

    /// Every cell, with its scenario and moment.
    pub fn cells(&self) -> impl Iterator<Item = (&Scenario, &Moment, &Cell)> {
        let moments = self.scenarios.iter().flat_map(|scenario| scenario.moments.iter().map(move |m| (scenario, m)));
        moments.flat_map(|(scenario, moment)| moment.cells.iter().map(move |cell| (scenario, moment, cell)))
    }

    /// Writes it as JSON, indented.
    ///
    /// # Errors
    /// What writing gave.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut out, self)?;
        out.write_all(b"\n")
    }

    /// A line for each answer, for spreadsheets, after one with the names of its columns.
    ///
    /// # Errors
    /// What writing gave.
    pub fn write_csv(&self, out: impl Write) -> io::Result<()> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(["chapter", "scenario", "when", "mechanism", "kernel_says", "said", "differs", "notes"])?;
        for scenario in &self.scenarios {
            for moment in &scenario.moments {
                for cell in &moment.cells {
                    let (said, differs) = (cell.said.to_string(), cell.differs.to_string());
                    let notes = cell.notes.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
                    let place = [&scenario.chapter, &scenario.name, &moment.when, &cell.mechanism];
                    out.write_record(place.into_iter().chain([&cell.raw, &said, &differs, &notes]))?;
                }
            }
        }
        out.flush()
    }

    /// Reads one that was written here or elsewhere.
    ///
    /// # Errors
    /// `InvalidData` if it is none, or of a schema that this version does not know; else what reading gave.
    pub fn read(from: impl BufRead) -> io::Result<Record> {
        let (text, value) = json::text(from)?;
        match value["schema"].as_str() {
            Some(SCHEMA) => {
                serde_json::from_slice(&text).map_err(|error| json::invalid(format!("not of {SCHEMA}: {error}")))
            }
            Some(other) if other.starts_with("pollmark-semantics/") => {
                Err(json::invalid(format!("written by another version of pollmark: {other}, known is {SCHEMA}")))
            }
            _ => Err(json::invalid("not made by `pollmark semantics --json`".to_owned())),
        }
    }
}

fn moment(step: &semantics::Step, matrix: &Matrix, notes: &mut Vec<&'static semantics::Note>) -> Moment {
    let mut number = |note: &'static semantics::Note| {
        let at = notes.iter().position(|known| *known == note).unwrap_or_else(|| {
            notes.push(note);
            notes.len() - 1
        });
        at + 1
    };
    let cells = matrix.columns.iter().zip(&step.cells).map(|((column, _), cell)| Cell {
        mechanism: column.name.clone(),
        raw: cell.raw.clone(),
        said: said(&cell.outcome),
        differs: cell.notes != Notes::AsExpected,
        notes: match &cell.notes {
            Notes::Explained(notes) => notes.iter().copied().map(&mut number).collect(),
            Notes::AsExpected | Notes::Unexplained => Vec::new(),
        },
    });
    Moment { when: step.moment.when.to_owned(), cells: cells.collect() }
}

fn said(outcome: &Outcome) -> Said {
    match outcome {
        Outcome::Event(facts) => Said::Event(facts.names().map(str::to_owned).collect()),
        Outcome::Silence => Said::Silence,
        Outcome::Refused(_) => Said::Refused(outcome.to_string().trim_start_matches("refused: ").to_owned()),
        Outcome::Found(what) => Said::Found(what.clone()),
        Outcome::NoTrigger(_) => Said::NotPlayed(outcome.to_string()),
        Outcome::NotPlayed(why) => Said::NotPlayed(why.clone()),
        Outcome::Failed(why) => Said::Failed(why.clone()),
    }
}

fn asked(interest: Interest) -> Vec<String> {
    let names = [(Interest::READABLE, "readable"), (Interest::WRITABLE, "writable"), (Interest::PRIORITY, "priority")];
    names.iter().filter(|(one, _)| interest.contains(*one)).map(|(_, name)| (*name).to_owned()).collect()
}

fn described(column: &Column, abilities: &Capabilities) -> Mechanism {
    Mechanism {
        name: column.name.clone(),
        trigger: column.trigger.to_string(),
        triggers: Trigger::ALL.into_iter().filter(|one| abilities.supports(*one)).map(|one| one.to_string()).collect(),
        resolution_ns: abilities.resolution.as_nanos() as u64,
        numbers_below: abilities.numbers_below,
        most_sources: abilities.most_sources.map(|most| most as u64),
        half_close: abilities.half_close,
        errors: abilities.errors,
        priority: abilities.priority,
        regular_files: abilities.regular_files,
    }
}
