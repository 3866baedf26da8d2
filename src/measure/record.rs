//! The record: everything a comparison saw, in a versioned schema, so that others can check and repeat it.
//!
//! A record holds trials, not conclusions. Tables and charts are made from it by [`report`](crate::report) and can be
//! made again from a `results.json` years later. Units stand in the names: `_ns` nanoseconds, `_bytes` bytes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::host::Host;

/// The schema written here. A reader of it refuses a higher number; a field added later is optional and leaves it.
pub const SCHEMA: u32 = 1;

/// One comparison.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Version of the program that wrote it.
    pub pollmark_version: String,
    /// The command line, program name first.
    pub command: Vec<String>,
    /// What the random order was drawn from: the same seed and settings give the same plan.
    pub seed: u64,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// False if it was interrupted, or has not ended yet.
    pub finished: bool,
    /// Where it was measured.
    pub host: Host,
    /// What was asked for.
    pub settings: Settings,
    /// The visits made, in order.
    pub visits: Vec<Visit>,
    /// Every trial, counted and void ones included, in order.
    pub trials: Vec<Trial>,
    /// What was asked for and could not be measured.
    pub missing: Vec<Missing>,
    /// Shapes and bounds that were checked. A gate never changes the data.
    pub gates: Vec<Gate>,
    /// What a reader should know before believing the numbers.
    pub warnings: Vec<String>,
}

impl Record {
    /// A record of a comparison that begins now and has measured nothing yet.
    pub fn begin(command: Vec<String>, seed: u64, host: Host, settings: Settings) -> Record {
        Record {
            schema: SCHEMA,
            pollmark_version: env!("CARGO_PKG_VERSION").to_owned(),
            command,
            seed,
            started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            finished: false,
            host,
            settings,
            visits: Vec::new(),
            trials: Vec::new(),
            missing: Vec::new(),
            gates: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// What a comparison was asked to do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Rounds planned. Each visits every mechanism with every idle population once.
    pub rounds: u32,
    /// Rounds completed.
    pub rounds_done: u32,
    /// How long each cell runs before it is measured.
    pub warmup_ns: u64,
    /// How long each cell is measured.
    pub measure_ns: u64,
    /// Size of a request, and of its echo.
    pub payload_bytes: u64,
    /// Idle populations, ascending.
    pub idle: Vec<u32>,
    /// Numbers of active connections, ascending.
    pub active: Vec<u32>,
    /// The subjects, in the order they are listed: row labels, without the control.
    pub mechanisms: Vec<String>,
    /// Time the whole may take, where it was the budget that decided about rounds.
    pub budget_ns: Option<u64>,
}

/// One fresh pair of server and load processes, for one subject and one idle population.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Visit {
    /// Its place among all visits, from 0.
    pub order: u32,
    /// Its round, from 0.
    pub round: u32,
    /// The row it is for.
    pub subject: String,
    /// Its idle population.
    pub idle: u32,
    /// The numbers of active connections, in the order they were measured.
    pub active: Vec<u32>,
}

/// One cell, measured once.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trial {
    /// [`Visit::order`] of the visit it belongs to.
    pub order: u32,
    /// Its round, from 0.
    pub round: u32,
    /// It belongs to the extra round that counts instructions. Counters cost time, so its times are never used.
    pub counted: bool,
    /// The row it belongs to: `epoll`, or `epoll (A/A)` for the control.
    pub subject: String,
    /// The mechanism, by the name it is chosen by.
    pub mechanism: String,
    /// It is the A/A control: a mechanism measured a second time under another label, to show the noise.
    pub control: bool,
    /// Connections open and silent.
    pub idle: u32,
    /// Connections kept busy.
    pub active: u32,
    /// From the first request sent to the last echo received.
    pub duration_ns: u64,
    /// Exchanges completed, each verified byte by byte.
    pub requests: u64,
    /// Bytes received and verified.
    pub bytes: u64,
    /// Exchanges or connections that failed.
    pub errors: u64,
    /// CPU time of the server process, precise. `None` where the system does not tell.
    pub server_cpu_ns: Option<u64>,
    /// The part spent in user mode. Most kernels sample this split by their tick: approximate.
    pub server_user_ns: Option<u64>,
    /// The part spent in the kernel: as above.
    pub server_system_ns: Option<u64>,
    /// CPU time of the load's process.
    pub client_cpu_ns: Option<u64>,
    /// What the server did meanwhile.
    pub ledger: Ledger,
    /// Instructions the server ran in user mode; only in the counting round, where the host permits.
    pub instructions_user: Option<u64>,
    /// Instructions the kernel ran for the server: as above.
    pub instructions_kernel: Option<u64>,
    /// Memory that belongs to the server process alone, at the end of the trial.
    pub server_rss_bytes: Option<u64>,
    /// How much of it came with the idle connections, for each of them.
    pub rss_per_connection_bytes: Option<f64>,
    /// The latency histogram: the upper end of each bucket in nanoseconds, and how many requests fell into it.
    /// Ascending; buckets without a request are left out.
    pub latency: Vec<(u64, u64)>,
    /// The load ran out of CPU before the server did, so throughput and latency say more about the load.
    pub client_limited: Option<bool>,
    /// CPU time the hypervisor gave to others meanwhile, over all CPUs.
    pub steal_ns: Option<u64>,
    /// How much the kernel's counters of trouble rose: `ListenOverflows`, `ListenDrops`, `TCPBacklogDrop`,
    /// `TCPTimeouts`, `RetransSegs`.
    pub kernel: BTreeMap<String, u64>,
    /// Why the trial does not count; then no figure of it is used.
    pub void: Option<String>,
}

impl Trial {
    /// Whether its times may be used.
    pub fn is_timed(&self) -> bool {
        !self.counted && self.void.is_none()
    }
}

/// What a server did during a trial: its poller's ledger and the core's account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Waits.
    pub waits: u64,
    /// Events they returned.
    pub events: u64,
    /// Waits that returned none.
    pub empty: u64,
    /// System calls made for waits.
    pub wait_calls: u64,
    /// System calls made to change what is watched.
    pub change_calls: u64,
    /// Calls of accept(2).
    pub accepts: u64,
    /// Calls of recv(2).
    pub reads: u64,
    /// Calls of send(2).
    pub writes: u64,
    /// Connections closed.
    pub closes: u64,
    /// Events whose first read or accept found nothing.
    pub would_block: u64,
    /// All system calls of the server.
    pub calls: u64,
    /// Calls made inside a crate are in these figures by formula, not by count.
    pub derived: bool,
}

impl From<crate::server::Stats> for Ledger {
    fn from(stats: crate::server::Stats) -> Ledger {
        Ledger {
            waits: stats.ledger.waits,
            events: stats.ledger.events,
            empty: stats.ledger.empty,
            wait_calls: stats.ledger.wait_calls,
            change_calls: stats.ledger.change_calls,
            accepts: stats.accept_calls,
            reads: stats.read_calls,
            writes: stats.write_calls,
            closes: stats.closed + stats.refused,
            would_block: stats.spurious,
            calls: stats.calls(),
            derived: stats.ledger.derived,
        }
    }
}

/// A cell, or a whole row of cells, without a measurement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missing {
    /// The row.
    pub subject: String,
    /// Its idle population; every one if `None`.
    pub idle: Option<u32>,
    /// The number of active connections; every one if `None`.
    pub active: Option<u32>,
    /// Why, in a sentence.
    pub reason: String,
}

/// A shape or a bound that was checked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// What was checked.
    pub name: String,
    /// What was found; `None` if it could not be had.
    pub value: Option<f64>,
    /// The bound, as a reader would write it: "0.85 to 1.15".
    pub bound: String,
    /// How it came out.
    pub verdict: Verdict,
    /// From what the value was computed, or why it is unavailable.
    pub explanation: String,
}

/// How a gate came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within its bound.
    Pass,
    /// Outside of it.
    Fail,
    /// Not to be had on this host, or from these data.
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_json() {
        let settings = Settings { rounds: 3, idle: vec![0, 100], ..Settings::default() };
        let mut record = Record::begin(vec!["pollmark".into(), "compare".into()], 7, Host::default(), settings);
        record.trials.push(Trial {
            subject: "epoll".into(),
            latency: vec![(1_000, 3), (2_047, 1)],
            kernel: BTreeMap::from([("ListenDrops".to_owned(), 1)]),
            rss_per_connection_bytes: Some(96.5),
            ..Trial::default()
        });
        record.gates.push(Gate {
            name: "slope".into(),
            value: None,
            bound: "below 0.15".into(),
            verdict: Verdict::Unavailable,
            explanation: "two idle sizes".into(),
        });
        let json = serde_json::to_string(&record).expect("serialisable");
        assert_eq!(serde_json::from_str::<Record>(&json).expect("read back"), record);
        assert!(json.contains("\"verdict\":\"unavailable\""), "{json}");
    }

    #[test]
    fn a_trial_of_an_older_program_lacks_fields_and_is_read() {
        let trial: Trial = serde_json::from_str(r#"{"subject":"poll","requests":5}"#).expect("defaults fill in");
        assert_eq!((trial.subject.as_str(), trial.requests, trial.server_cpu_ns), ("poll", 5, None));
    }
}
