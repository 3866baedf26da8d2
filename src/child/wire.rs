//! What parent and child say to each other: one JSON value a line, an order in, an answer out.

use std::ops::{Add, Sub};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::knobs::Knobs;
use crate::client::Target;
use crate::cpus::Pinning;
#[cfg(unix)]
use crate::exercise::{Done, Terms};
use crate::server::{Address, Config, Sharing, Stats};
use crate::speech::Speech;
use crate::workload::{Outcome, Sources, Traffic, Transport, Until, buckets};

/// What the server is told.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ServerOrder {
    /// First of all, and once. Without a configuration, by the defaults, at an address that nobody listens at.
    Serve {
        mechanism: String,
        #[serde(default)]
        transport: Transport,
        #[serde(default)]
        speech: Speech,
        cpu: Option<usize>,
        #[serde(default)]
        crew: Option<Crew>,
        #[serde(default)]
        knobs: Knobs,
        count_instructions: bool,
        #[serde(default)]
        config: Option<Box<Config>>,
    },
    /// First of all, and once: a server that is not ours, of which only laps are asked.
    Launch { launch: Launch, cpu: Option<usize>, count_instructions: bool },
    /// Asks for the account since it was last asked; that of memory only if wanted, for it takes longest.
    Lap { memory: bool },
    /// Lets the serving end in good order, and asks whether it has.
    Drain,
    /// Ends the serving, not the process, and asks for the whole account.
    Stop,
}

/// A command that starts a server, in whose arguments `{addr}`, or `{host}` and `{port}`, stand for where it is to listen.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Launch {
    /// What it is called when something is said of it.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Where it runs.
    pub(crate) directory: PathBuf,
}

/// Several threads.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Crew {
    pub(crate) threads: usize,
    pub(crate) sharing: Sharing,
    pub(crate) pin: Pinning,
}

/// What the server answers.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ServerAnswer {
    Serving {
        address: Address,
        /// Why it is bound to no CPU, if it is not.
        unpinned: Option<String>,
        /// Why instructions are not counted, if they were to be.
        uncounted: Option<String>,
    },
    Lap(Box<Lap>),
    Drained(bool),
    Stopped(Box<Stats>),
    Failed(String),
}

/// What a server did and used since the last lap, or since it began.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Lap {
    pub(crate) cpu: Option<Duration>,
    pub(crate) user: Option<Duration>,
    pub(crate) system: Option<Duration>,
    pub(crate) instructions: Option<Instructions>,
    /// What it did, by its own account; `None` of one that is not ours.
    pub(crate) stats: Option<Stats>,
    /// Connections that each thread has open, if there are several.
    #[serde(default)]
    pub(crate) open_by_thread: Vec<u64>,
    /// How often its threads went to sleep.
    #[serde(default)]
    pub(crate) slept: Option<u64>,
    /// Bytes of memory the server has to itself now.
    pub(crate) memory: Option<u64>,
}

impl Lap {
    /// Both. What is not known of one is not known of both.
    pub(crate) fn and(self, other: Lap) -> Lap {
        fn sum<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.zip(other).map(|(one, other)| one + other)
        }
        Lap {
            cpu: sum(self.cpu, other.cpu),
            user: sum(self.user, other.user),
            system: sum(self.system, other.system),
            instructions: sum(self.instructions, other.instructions),
            stats: sum(self.stats, other.stats),
            open_by_thread: [self.open_by_thread, other.open_by_thread].concat(),
            slept: sum(self.slept, other.slept),
            memory: sum(self.memory, other.memory),
        }
    }
}

/// Instructions of all the server's threads.
#[derive(Clone, Copy, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Instructions {
    pub(crate) user: u64,
    /// Not to be had everywhere.
    pub(crate) kernel: Option<u64>,
}

impl Sub for Instructions {
    type Output = Instructions;

    fn sub(self, before: Instructions) -> Instructions {
        let kernel = self.kernel.map(|kernel| kernel - before.kernel.unwrap_or_default());
        Instructions { user: self.user - before.user, kernel }
    }
}

impl Add for Instructions {
    type Output = Instructions;

    fn add(self, other: Instructions) -> Instructions {
        let kernel = self.kernel.zip(other.kernel).map(|(one, other)| one + other);
        Instructions { user: self.user + other.user, kernel }
    }
}

/// What a poller alone is told.
#[cfg(unix)]
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum PollerOrder {
    /// To go over a course. The answer is a [`Drilled`], or why there is none.
    Drill(Drill),
}

/// A poller, a course, and how long.
#[cfg(unix)]
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Drill {
    pub(crate) mechanism: String,
    pub(crate) terms: Terms,
    pub(crate) cpu: Option<usize>,
    /// For the process that writes to a poller which sleeps.
    pub(crate) partner_cpu: Option<usize>,
    pub(crate) warm_up: Duration,
    pub(crate) interval: Duration,
    pub(crate) count_instructions: bool,
}

/// What was done on the course, and used for it.
#[cfg(unix)]
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Drilled {
    pub(crate) done: Done,
    pub(crate) cpu: Option<Duration>,
    pub(crate) user: Option<Duration>,
    pub(crate) system: Option<Duration>,
    pub(crate) instructions: Option<Instructions>,
    /// How often the process went to sleep.
    pub(crate) slept: Option<u64>,
    /// Why it is bound to no CPU, if it is not.
    pub(crate) unpinned: Option<String>,
    /// Why instructions are not counted, if they were to be.
    pub(crate) uncounted: Option<String>,
}

/// What the calibrator is told. The answer is the rows, or why there are none.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct CalibrationOrder {
    /// Those with a poller, by name.
    pub(crate) mechanisms: Vec<String>,
    pub(crate) transports: Vec<Transport>,
    /// Bytes of messages; the first is that of most phases.
    pub(crate) payloads: Vec<usize>,
    /// Connections on which nothing is said.
    pub(crate) watched: usize,
    pub(crate) cpu: Option<usize>,
    pub(crate) peer_cpu: Option<usize>,
    /// How long each phase is to take.
    pub(crate) span: Duration,
    /// What the order of the mechanisms is drawn from.
    pub(crate) seed: u64,
}

/// What the load is told.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum LoadOrder {
    /// First of all, and once.
    Target {
        address: Target,
        size: usize,
        cpu: Option<usize>,
        /// The number of its first connection.
        #[serde(default)]
        first: u32,
        /// From where the kernel likes, if none are given.
        #[serde(default)]
        sources: Option<Sources>,
    },
    /// What connections are to do from now on.
    Follow(Traffic),
    OpenIdle(usize),
    OpenActive(usize),
    Run(Span),
    /// So many connections at a time, each for one exchange, or for as many as the traffic says.
    Churn(usize, Span),
    VerifyIdle,
    CloseActive,
    /// Asks for the bytes of memory the load has to itself.
    Memory,
    /// Ends the run that is under way, whose answer then comes early. Has no answer itself.
    Stop,
}

/// An [`Until`], as it travels.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Span {
    Elapsed(Duration),
    Requests(u64),
}

impl From<Span> for Until {
    fn from(span: Span) -> Until {
        match span {
            Span::Elapsed(duration) => Until::Elapsed(duration),
            Span::Requests(requests) => Until::Requests(requests),
        }
    }
}

/// What the load answers.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum LoadAnswer {
    Ready {
        unpinned: Option<String>,
    },
    Done,
    Ran(Ran),
    Memory(Option<u64>),
    Fault {
        why: String,
        /// The server answered, and wrongly.
        voids: bool,
    },
}

/// An [`Outcome`], as it travels.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug, Default)]
pub(crate) struct Ran {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Option<Duration>,
    /// How often the process went to sleep.
    #[serde(default)]
    pub(crate) slept: Option<u64>,
    pub(crate) waits: u64,
    /// Latencies in nanoseconds, as the histogram distinguishes them, each with how often it was met.
    pub(crate) latency: Vec<(u64, u64)>,
    /// Exchanges completed on each connection, if they stay.
    #[serde(default)]
    pub(crate) served: Vec<u64>,
    /// What only an open loop tells.
    #[serde(default)]
    pub(crate) open: Option<Open>,
}

/// An [`OpenLoop`](crate::workload::OpenLoop), as it travels.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug, Default)]
#[serde(default)]
pub(crate) struct Open {
    pub(crate) from_send: Vec<(u64, u64)>,
    pub(crate) slip: Vec<(u64, u64)>,
    pub(crate) unsent: u64,
}

impl From<&Outcome> for Ran {
    fn from(outcome: &Outcome) -> Ran {
        Ran {
            requests: outcome.requests,
            bytes: outcome.bytes,
            elapsed: outcome.elapsed,
            cpu: outcome.cpu,
            slept: outcome.slept,
            waits: outcome.waits,
            latency: outcome.buckets(),
            served: outcome.served.clone(),
            open: outcome.open.as_ref().map(|open| Open {
                from_send: buckets(&open.from_send),
                slip: buckets(&open.slip),
                unsent: open.unsent,
            }),
        }
    }
}
