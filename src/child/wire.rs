//! What parent and child say to each other: one JSON value a line, an order in, an answer out.

use std::net::SocketAddr;
use std::ops::Sub;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::record::Ledger;
use crate::workload::{Outcome, Until};

/// What the server is told.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ServerOrder {
    /// First of all, and once.
    Serve { mechanism: String, cpu: Option<usize>, count_instructions: bool },
    /// Asks for the account since it was last asked; that of memory only if wanted, for it takes longest.
    Lap { memory: bool },
}

/// What the server answers.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ServerAnswer {
    Serving {
        address: SocketAddr,
        /// Why it is bound to no CPU, if it is not.
        unpinned: Option<String>,
        /// Why instructions are not counted, if they were to be.
        uncounted: Option<String>,
    },
    Lap(Box<Lap>),
    Failed(String),
}

/// The server's account since the last one, or since it began.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub(crate) struct Lap {
    pub(crate) cpu: Option<Duration>,
    pub(crate) user: Option<Duration>,
    pub(crate) system: Option<Duration>,
    pub(crate) instructions: Option<Instructions>,
    pub(crate) ledger: Ledger,
    /// Connections refused.
    pub(crate) refused: u64,
    /// Bytes of memory the server has to itself now.
    pub(crate) memory: Option<u64>,
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

/// What the load is told.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum LoadOrder {
    /// First of all, and once.
    Target {
        address: SocketAddr,
        size: usize,
        cpu: Option<usize>,
    },
    OpenIdle(usize),
    OpenActive(usize),
    Run(Span),
    VerifyIdle,
    CloseActive,
}

/// An [`Until`], as it travels.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
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
    Ready { unpinned: Option<String> },
    Done,
    Ran(Ran),
    Fault(String),
}

/// An [`Outcome`], as it travels.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Ran {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Option<Duration>,
    pub(crate) waits: u64,
    /// Latencies in nanoseconds, as the histogram distinguishes them, each with how often it was met.
    pub(crate) latency: Vec<(u64, u64)>,
}

impl From<&Outcome> for Ran {
    fn from(outcome: &Outcome) -> Ran {
        Ran {
            requests: outcome.requests,
            bytes: outcome.bytes,
            elapsed: outcome.elapsed,
            cpu: outcome.cpu,
            waits: outcome.waits,
            latency: outcome.buckets(),
        }
    }
}
