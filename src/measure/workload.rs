//! A workload as data: what is done to each server, what that shows and does not show, and what to expect of it.
//!
//! Those that come with the program are files in `benches/workloads`, compiled in; a user's own is a file of the same
//! form. A preset, as the default and `--quick`, is nothing else than one of them.

mod exercises;
mod parse;
mod preset;
mod shipped;
mod tuning;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use exercises::Exercises;
pub use preset::Preset;
pub use tuning::Tuning;

use super::definition::{BadDefinition, Wrong, first_broken, looks_like_a_path, one_line, time};
use super::record::{About, Load, Settings};
use crate::server::Sharing;
use crate::workload::{Arrivals, Offered, Pace, Traffic, Transport};

/// What is done to each server of a [`Comparison`](super::Comparison), and what is to be learnt from it.
///
/// ```
/// use pollmark::measure::Workload;
///
/// let quick = Workload::find("quick")?;
/// assert_eq!(quick.grid.active, [1, 10]);
/// assert!(Workload::find("qick").is_err_and(|error| error.to_string().contains("quick")));
/// # Ok::<(), pollmark::measure::BadDefinition>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Workload {
    /// What it is chosen by: small letters, digits and hyphens.
    pub name: String,
    /// What is done, in a line.
    pub title: String,
    /// What may be concluded from it.
    pub shows: String,
    /// What must not be concluded from it.
    pub hides: String,
    /// The shape of the result that theory expects, written down before anything is measured.
    pub expect: String,
    /// Shapes that are checked when all is measured.
    #[serde(default)]
    pub gates: Vec<Shape>,
    /// What is varied.
    pub grid: Grid,
    /// Not a server under a load is measured, but its poller alone, by these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exercise: Option<Exercises>,
    /// What our servers are set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Tuning>,
    /// How long it takes.
    pub time: Time,
}

/// What is varied: every value of one with every value of the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grid {
    /// Names of mechanisms, or of [groups](crate::mechanism::Mechanism::parse_all) of them; none for one of each
    /// family.
    #[serde(default)]
    pub mechanisms: Vec<String>,
    /// Numbers of connections that are open and silent.
    pub idle: Vec<usize>,
    /// Numbers of idle connections that the limits of the host or the time do not allow are left out, and the record
    /// says so. Otherwise the first is an error, and time is overrun.
    #[serde(default)]
    pub drop_idle_to_fit: bool,
    /// Numbers of connections that are kept busy.
    pub active: Vec<usize>,
    /// Bytes of each payload, and of its echo. None where a poller is alone.
    #[serde(default)]
    pub payload: Vec<usize>,
    /// Payloads that may be under way on each connection at a time.
    #[serde(default = "just_one")]
    pub outstanding: Vec<usize>,
    /// Exchanges after which a connection is closed and another opened; 0 for never.
    #[serde(default = "never")]
    pub exchanges_per_connection: Vec<u64>,
    /// An open loop at these rates, in hundredths of the capacity that a closed loop finds first; none for a closed
    /// loop alone.
    #[serde(default)]
    pub offered: Vec<u32>,
    /// An open loop at so many exchanges a second, the same for every server, beside those rates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_second: Vec<u32>,
    /// How the exchanges of an open loop are spread over time.
    #[serde(default = "at_random")]
    pub arrivals: Vec<Arrivals>,
    /// What carries the bytes.
    #[serde(default = "over_tcp")]
    pub transport: Vec<Transport>,
    /// Numbers of connections beside the active ones that never pause.
    #[serde(default = "without")]
    pub firehoses: Vec<u32>,
    /// Numbers of threads that serve.
    #[serde(default = "just_one")]
    pub threads: Vec<usize>,
    /// How several threads share a port.
    #[serde(default = "by_default", with = "parse::sharing")]
    pub sharing: Vec<Sharing>,
    /// Server processes on one port, and as many load processes.
    #[serde(default = "one")]
    pub processes: usize,
}

/// How long each cell is measured, and all of it may take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Time {
    /// How long each cell is kept busy before it is measured.
    #[serde(with = "time")]
    pub warm_up: Duration,
    /// How long each cell is measured.
    #[serde(with = "time")]
    pub interval: Duration,
    /// How long all may take. At least three rounds are made, whatever they take.
    #[serde(with = "time")]
    pub budget: Duration,
    /// Exactly so many rounds, instead of as many as the budget allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
}

/// A shape of the result that is checked, with a verdict for each mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// What a wait costs grows with the idle connections as the mechanism says of itself: in proportion, or not at all.
    Growth,
    /// A wait of a mechanism that scans costs less when it spins than when it sleeps.
    Spinning,
    /// A deadline costs every poller as much.
    Deadlines,
    /// A mechanism that scans costs no more than one that does not where all connections are active.
    AllActive,
    /// Mechanisms are closer together at the largest payload than at the smallest.
    Payload,
}

/// What a payload may have at most, in bytes.
pub(crate) const LARGEST_PAYLOAD: usize = 1 << 30;

/// What may be offered at most, in hundredths of the capacity: what an overload does shows well before.
pub(crate) const MOST_OFFERED: u32 = 200;

/// How many exchanges a second may be asked for at most: no load on any host makes more.
pub(crate) const MOST_PER_SECOND: u32 = 100_000_000;

/// How many firehoses there may be at most: one already takes all that a server gives it.
pub(crate) const MOST_FIREHOSES: u32 = 64;

/// How many payloads may be under way on a connection at most.
pub(crate) const MOST_OUTSTANDING: usize = 65_536;

/// How many server processes there may be on a port, and as many load processes.
pub(crate) const MOST_PROCESSES: usize = 256;

/// How many threads may share a port.
pub(crate) const MOST_THREADS: usize = 1_024;

/// How long each interval may be, and all of it: what goes on for longer is a mistake, and sums of it would overflow.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How many rounds may be asked for.
const MOST_ROUNDS: usize = 100_000;

fn one() -> usize {
    1
}

fn just_one() -> Vec<usize> {
    vec![1]
}

fn never() -> Vec<u64> {
    vec![0]
}

fn at_random() -> Vec<Arrivals> {
    vec![Arrivals::Poisson]
}

fn over_tcp() -> Vec<Transport> {
    vec![Transport::Tcp]
}

fn without() -> Vec<u32> {
    vec![0]
}

fn by_default() -> Vec<Sharing> {
    vec![Sharing::default()]
}

impl Grid {
    /// What the active connections do, in turn.
    fn traffic(&self) -> Vec<Traffic> {
        let mut all = Vec::new();
        for &exchanges in &self.exchanges_per_connection {
            for &outstanding in &self.outstanding {
                all.extend(self.payload.iter().map(|&payload| Traffic {
                    payload,
                    outstanding,
                    exchanges,
                    pace: Pace::Closed,
                }));
            }
        }
        each(all)
    }

    /// The rates of an open loop, in turn.
    fn offered(&self) -> Vec<Offered> {
        let parts = self.offered.iter().map(|&percent| Offered { percent, ..Offered::default() });
        let rates = self.per_second.iter().map(|&rate| Offered { per_second: Some(rate), ..Offered::default() });
        let spread = |offered: Offered| self.arrivals.iter().map(move |&arrivals| Offered { arrivals, ..offered });
        each(parts.chain(rates).flat_map(spread))
    }
}

/// Each once, ascending.
fn each<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    values.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

impl Workload {
    /// Those that come with the program, in the order they are listed.
    pub fn shipped() -> Vec<Workload> {
        shipped::all()
    }

    /// The one of this name that comes with the program.
    ///
    /// # Errors
    /// [`BadDefinition`], which lists those there are.
    pub fn find(name: &str) -> Result<Workload, BadDefinition> {
        let shipped = Workload::shipped();
        let names = || shipped.iter().map(|one| one.name.clone()).collect();
        let unknown = || BadDefinition::Unknown { kind: "workload", asked: name.to_owned(), names: names() };
        shipped.iter().find(|one| one.name == name).cloned().ok_or_else(unknown)
    }

    /// The one of this name, or that in the file at this path.
    ///
    /// # Errors
    /// [`BadDefinition`]: neither a name nor a file, or a file with something wrong in it.
    pub fn find_or_read(name_or_path: &str) -> Result<Workload, BadDefinition> {
        match Workload::find(name_or_path) {
            Err(_) if looks_like_a_path(name_or_path) => Workload::read(name_or_path.as_ref()),
            found => found,
        }
    }

    /// What is varied, and for how long each cell is measured, as a record keeps it: each value once, ascending. What is
    /// planned of it, and for whom, is not in it.
    pub(super) fn settings(&self) -> Settings {
        let Workload { grid, time, .. } = self;
        let sizes = |sizes: &[usize]| each(sizes.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)));
        Settings {
            warmup_ns: time.warm_up.as_nanos() as u64,
            measure_ns: time.interval.as_nanos() as u64,
            payload_bytes: grid.payload.first().map_or(0, |payload| *payload as u64),
            idle: sizes(&grid.idle),
            active: sizes(&grid.active),
            traffic: grid.traffic(),
            offered: grid.offered(),
            transport: each(grid.transport.iter().copied()),
            firehoses: if grid.firehoses == [0] { Vec::new() } else { each(grid.firehoses.iter().copied()) },
            exercises: self.exercise.as_ref().map(Exercises::all).unwrap_or_default(),
            processes: Some(grid.processes as u32),
            budget_ns: time.rounds.is_none().then_some(time.budget.as_nanos() as u64),
            ..Settings::default()
        }
    }

    /// Every load, none twice.
    pub(super) fn loads(&self) -> Vec<Load> {
        each(self.settings().loads())
    }

    /// Its words, as a record keeps them: on one line each.
    pub(super) fn about(&self) -> About {
        let [name, title, shows, hides, expect] =
            [&self.name, &self.title, &self.shows, &self.hides, &self.expect].map(|text| one_line(text));
        About { name, title, shows, hides, expect }
    }

    /// Whether it makes sense; what cannot be known without a host or a registry is not looked at.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let Workload { name, title, shows, hides, expect, gates, grid, exercise, server, time } = self;
        if let Some(exercise) = exercise {
            exercise.check(grid)?;
        }
        if let Some(server) = server {
            server.check()?;
        }
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let nothing = |prose: &str| prose.trim().is_empty();
        first_broken([
            (name.is_empty() || !name.bytes().all(is_name), "name", "small letters, digits and hyphens are wanted"),
            (nothing(title), "title", "say in a line what is done"),
            (nothing(shows), "shows", "say what may be concluded from it"),
            (nothing(hides), "hides", "say what must not be concluded from it"),
            (nothing(expect), "expect", "say what shape theory expects, before it is measured"),
            (grid.idle.is_empty(), "grid.idle", "no number of idle connections was given; 0 is one"),
            (
                grid.active.is_empty() || grid.active.contains(&0),
                "grid.active",
                "at least one connection must be active: 1, 10 and 100 by default",
            ),
            (
                exercise.is_none() && grid.payload.is_empty()
                    || grid.payload.iter().any(|size| !(1..=LARGEST_PAYLOAD).contains(size)),
                "grid.payload",
                "a payload has at least one byte and at most 1 GiB: 64 by default",
            ),
            (
                grid.outstanding.is_empty()
                    || grid.outstanding.iter().any(|many| !(1..=MOST_OUTSTANDING).contains(many)),
                "grid.outstanding",
                "from 1 to 65536 payloads can be under way on a connection: 1 by default",
            ),
            (
                grid.exchanges_per_connection.is_empty(),
                "grid.exchanges-per-connection",
                "say after how many exchanges a connection is closed: 0, for never, by default",
            ),
            (
                grid.offered.iter().any(|percent| !(1..=MOST_OFFERED).contains(percent)),
                "grid.offered",
                "from 1 to 200 hundredths of the capacity can be offered",
            ),
            (
                grid.per_second.iter().any(|rate| !(1..=MOST_PER_SECOND).contains(rate)),
                "grid.per-second",
                "from 1 to 100000000 exchanges a second can be asked for",
            ),
            (
                !(grid.offered.is_empty() && grid.per_second.is_empty()) && grid.exchanges_per_connection != [0],
                "grid.offered",
                "in an open loop connections stay: leave out exchanges-per-connection, or offered and per-second",
            ),
            (
                grid.arrivals.is_empty(),
                "grid.arrivals",
                "say how exchanges are spread: constant, or poisson by default",
            ),
            (
                grid.threads.is_empty()
                    || grid.threads.iter().any(|threads| !(1..=MOST_THREADS).contains(threads))
                    || grid.sharing.is_empty(),
                "grid.threads",
                "no threads, no server, and at most 1024: 1 by default, which shares nothing",
            ),
            (
                server.is_some() && exercise.is_some(),
                "server",
                "a poller that is measured alone has no server to be set",
            ),
            (grid.transport.is_empty(), "grid.transport", "say what carries the bytes: tcp by default, or unix"),
            (
                grid.processes > 1 && grid.transport.contains(&Transport::Unix),
                "grid.processes",
                "only at a port of TCP does the kernel share connections out among processes",
            ),
            (
                grid.transport.contains(&Transport::Unix)
                    && grid.threads.iter().any(|threads| *threads > 1)
                    && grid.sharing.contains(&Sharing::ReusePort),
                "grid.sharing",
                "a Unix socket has one listener: several threads share it by shared, exclusive or handout",
            ),
            (
                grid.firehoses.is_empty() || grid.firehoses.iter().any(|many| *many > MOST_FIREHOSES),
                "grid.firehoses",
                "from 0 to 64 connections can stream beside the active ones: 0 by default",
            ),
            (
                !(1..=MOST_PROCESSES).contains(&grid.processes),
                "grid.processes",
                "no processes, no server, and at most 256: 1 by default",
            ),
            (time.warm_up > LONGEST, "time.warm-up", "a day is the most"),
            (time.interval.is_zero(), "time.interval", "an interval of nothing measures nothing"),
            (time.interval > LONGEST, "time.interval", "a day is the most"),
            (time.budget > LONGEST, "time.budget", "a day is the most"),
            (time.rounds == Some(0), "time.rounds", "no rounds, no results: ask for at least 1, better 3"),
            (time.rounds.is_some_and(|rounds| rounds > MOST_ROUNDS), "time.rounds", "at most 100000 rounds"),
            (
                gates.contains(&Shape::Growth) && grid.idle.len() < 3,
                "gates",
                "growth is a line through numbers of idle connections: give at least 3",
            ),
            (
                gates.contains(&Shape::Spinning) && !exercise.as_ref().is_some_and(Exercises::spin_and_sleep),
                "gates",
                "spinning waits are held against sleeping ones: ask for both in exercise.waits",
            ),
            (
                gates.contains(&Shape::Deadlines) && !server.as_ref().is_some_and(Tuning::with_and_without_deadline),
                "gates",
                "deadlines are held against none: ask for 0 and another in server.idle-deadline",
            ),
            (
                gates.contains(&Shape::AllActive) && !grid.idle.contains(&0),
                "gates",
                "all connections are active where none is idle: ask for 0 in grid.idle",
            ),
            (
                gates.contains(&Shape::Payload) && grid.payload.len() < 2,
                "gates",
                "the largest payload is held against the smallest: give at least 2 in grid.payload",
            ),
        ])
    }
}
