//! What came of a run: an account of it, or what was found and how to see it again.

use std::any::Any;
use std::fmt;
use std::io;
use std::time::Duration;

use pollmark_backends::Trigger;

use super::SEED_VARIABLE;
use super::faults::Fault;
use super::socket::Phase;
use super::trace::Name;
use super::world::World;
use crate::server::Stats;

/// So many steps are told of a failure.
const TOLD: usize = 40;

/// What a run was made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Its number.
    pub seed: u64,
    /// How connections were watched.
    pub trigger: Trigger,
    /// How many clients connected.
    pub connections: u64,
    /// The most connections open at a time.
    pub most_open: usize,
    /// How long it took, by the clock of the simulation.
    pub time: Duration,
    /// How many things clients and network did.
    pub happenings: u64,
    /// How often a protocol's deadline came.
    pub deadlines: u64,
    /// How many connections met a deadline of the limits.
    pub expired: u64,
    /// How often each kind of fault struck.
    pub faults: Vec<(Fault, u64)>,
    /// The server's own account.
    pub stats: Stats,
    /// A hash of all that happened, in order: the same whenever the same program runs the same seed.
    pub hash: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(|(_, count)| count).sum::<u64>();
        let (seed, trigger, connections, most) = (self.seed, self.trigger, self.connections, self.most_open);
        let (hours, happenings, waits) = (self.time.as_secs_f64() / 3_600.0, self.happenings, self.stats.ledger.waits);
        write!(
            f,
            "seed {seed}, {trigger}: {connections} connections, at most {most} at a time, {hours:.2} h; \
             {happenings} happenings, {waits} waits, {} deadlines, {faults} faults; {:016x}",
            self.deadlines, self.hash
        )
    }
}

/// What was found, and what led to it.
#[derive(Debug)]
pub struct Failure {
    seed: u64,
    what: String,
    steps: u64,
    about: Option<String>,
    story: Vec<String>,
    all: Vec<String>,
}

impl Failure {
    /// The number of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What must not be.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, what, steps, about, .. } = self;
        match about {
            Some(who) => writeln!(f, "seed {seed}, step {steps}: {who}: {what}")?,
            None => writeln!(f, "seed {seed}, step {steps}: {what}")?,
        }
        // The harness runs each test on a thread of its name.
        let thread = std::thread::current();
        let test = thread.name().filter(|name| *name != "main").unwrap_or_default();
        writeln!(f, "to see it again: {SEED_VARIABLE}={seed} cargo test {test}")?;
        if let Some(who) = about {
            writeln!(f, "the last of {who}:\n{}", self.story.join("\n"))?;
        }
        write!(f, "the last of all:\n{}", self.all.join("\n"))
    }
}

impl std::error::Error for Failure {}

/// The host does not let a simulation begin.
pub(super) fn impossible(seed: u64, error: io::Error) -> Box<Failure> {
    let what = format!("cannot be simulated here: {error}");
    Box::new(Failure { seed, what, steps: 0, about: None, story: Vec::new(), all: Vec::new() })
}

/// How a server's run ended, if it did not panic.
type Ran = Result<io::Result<Stats>, Box<dyn Any + Send>>;

impl World {
    /// What is to be said of a run that is over.
    pub(super) fn judge(&mut self, seed: u64, ran: Ran) -> Result<Report, Box<Failure>> {
        let stats = match ran {
            Ok(Ok(stats)) => {
                self.audit(&stats);
                stats
            }
            Ok(Err(error)) => {
                self.fail(None, format!("the server gave up: {error}"));
                Stats::default()
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
                self.fail(None, format!("the server panicked: {text}"));
                Stats::default()
            }
        };
        if let Some((who, what)) = self.failure.take() {
            let about = who.map(|name| name.to_string());
            let story = self.trace.tail(who, TOLD);
            let all = self.trace.tail(None, TOLD);
            return Err(Box::new(Failure { seed, what, steps: self.trace.steps, about, story, all }));
        }
        let came = self.sockets.iter().filter(|socket| socket.phase != Phase::Planned);
        Ok(Report {
            seed,
            trigger: self.trigger,
            connections: came.count() as u64,
            most_open: self.books.most_open,
            time: self.clock.passed(),
            happenings: self.happened,
            deadlines: self.books.due,
            expired: self.books.expired,
            faults: self.faults.met().collect(),
            stats,
            hash: self.trace.hash(),
        })
    }

    /// The server's own account has to be that of the world, and nothing may be left of it.
    fn audit(&mut self, stats: &Stats) {
        // What was accepted last and not registered went with the server, as did what it did not find in its inbox.
        if let Some(id) = self.fresh.take() {
            self.refused(id);
        }
        let left = self.sockets.iter().position(|socket| socket.phase == Phase::Open);
        if let Some(id) = left {
            self.fail(Some(Name::Client(id as u32)), "not closed when the server ended");
        }
        let books = self.books;
        let accounts = [
            ("accept calls", stats.accept_calls, books.accepts),
            ("connections accepted", stats.accepted, books.accepted),
            ("connections refused", stats.refused, books.refused),
            ("connections closed", stats.closed, books.closed),
            ("connections open", stats.open, 0),
            ("connections expired", stats.expired.sum(), books.expired),
            ("recv calls", stats.read_calls, books.receives),
            ("send calls", stats.write_calls, books.sends),
            ("bytes received", stats.bytes_in, books.bytes_in),
            ("bytes sent", stats.bytes_out, books.bytes_out),
            ("messages received", stats.datagrams.received, books.messages_in),
            ("messages cut", stats.datagrams.truncated, books.messages_cut),
            ("messages sent", stats.datagrams.sent, books.messages_out),
        ];
        let answerable = books.messages_in - books.messages_cut;
        if self.echoes && stats.datagrams.sent + stats.datagrams.dropped != answerable {
            let why = format!("of {answerable} messages not all were answered, or counted as dropped: {stats:?}");
            self.fail(None, why);
        }
        for (what, said, seen) in accounts {
            if said != seen {
                self.fail(None, format!("the server counts {said} {what}, and the world {seen}"));
            }
        }
    }
}
