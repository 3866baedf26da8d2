//! The record: everything a comparison saw, in a versioned schema, so that others can check and repeat it.
//!
//! A record holds trials, not conclusions. Tables and charts are made from it by [`report`](crate::report) and can be
//! made again from a `results.json` years later. Units stand in the names: `_ns` nanoseconds, `_bytes` bytes.

mod settings;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use super::fairness::Served;
use super::host::Host;
pub use super::open_loop::OpenLoop;
use super::stats::Pool;
pub use crate::calibration::Calibration;
pub use crate::child::Knobs;
use crate::exercise::Exercise;
use crate::server::Batches;
use crate::workload::{Traffic, Transport};
pub use settings::{Load, Settings};

/// The schema written here. A reader of it refuses a higher number; a field added later is optional and leaves it.
pub const SCHEMA: u32 = 1;

/// What the label of the A/A control ends with, behind that of the row it is a second time.
pub const CONTROL: &str = " (A/A)";
/// The row that stands beside the others: what the load does against the cheapest server.
pub(crate) const CEILING: &str = "ceiling";

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
    /// Who has measured it, as they want to be cited; nobody, unless they said so (`pollmark report --author`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// Where it was measured.
    pub host: Host,
    /// What was asked for.
    pub settings: Settings,
    /// The servers that are not ours, of those that were measured; none in records of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contestants: Vec<Contestant>,
    /// What was done, with what it shows and what was expected; `None` in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<About>,
    /// The visits made, in order.
    pub visits: Vec<Visit>,
    /// Every trial, counted and void ones included, in order.
    pub trials: Vec<Trial>,
    /// What single calls cost on this host, measured in each round apart from the trials; none in records of before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibrations: Vec<Calibration>,
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
            authors: Vec::new(),
            host,
            settings,
            contestants: Vec::new(),
            workload: None,
            visits: Vec::new(),
            trials: Vec::new(),
            calibrations: Vec::new(),
            missing: Vec::new(),
            gates: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The workload a comparison was made by, in words; its numbers, with what was changed of them, are the [`Settings`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// What it is chosen by.
    pub name: String,
    /// What was done, in a line.
    pub title: String,
    /// What may be concluded from it.
    pub shows: String,
    /// What must not be concluded from it.
    pub hides: String,
    /// The shape that was expected before anything was measured.
    pub expect: String,
}

/// A server that is not ours, as it was when it was measured.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Contestant {
    /// The row it is, as in [`Trial::subject`].
    pub label: String,
    /// Its class: it stands beside those of the same, and apart from ours.
    pub class: String,
    /// What it is, in a line.
    pub title: String,
    /// What makes the comparison fair, or unfair.
    pub settings: String,
    /// What it said of its version.
    pub version: String,
    /// What started it.
    pub command: Vec<String>,
    /// How long it was kept busy before anything was measured of it.
    pub warm_up_ns: u64,
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
    /// What carried the bytes.
    #[serde(default, skip_serializing_if = "Transport::is_usual")]
    pub transport: Transport,
    /// The numbers of active connections, in the order they were measured.
    pub active: Vec<u32>,
    /// What it took to have the idle connections; `None` if there were none, and in records of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub population: Option<Population>,
}

/// What it took to open the idle connections of a visit, and to have them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Population {
    /// Server processes, and as many load processes.
    pub processes: u32,
    /// Addresses the connections came from; `None` if the kernel chose.
    pub sources: Option<u32>,
    /// From the first connect(2) to the last connection that had proven to be served.
    pub setup_ns: u64,
    /// Memory that came to belong to the server processes alone.
    pub servers_bytes: Option<u64>,
    /// As above, to the load processes.
    pub loads_bytes: Option<u64>,
    /// By how much the kernel's slabs grew, of the whole machine, whoever made them grow; from 1,000 connections on.
    pub slabs_bytes: Option<u64>,
    /// By how much those of its caches grew that gained an object or more for each two connections. Both ends of each
    /// are in them, for both are on this host; what looking into /proc/PID/fd makes for each descriptor is not. Empty
    /// where the host does not show them, which to root it does.
    pub caches_bytes: BTreeMap<String, u64>,
    /// How much the kernel's counters of trouble rose meanwhile, as in [`Trial::kernel`].
    pub kernel: BTreeMap<String, u64>,
    /// Sockets of the port in TIME_WAIT when all was closed, counted by the kernel.
    pub time_wait_left: Option<u64>,
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
    /// The mechanism, by the name it is chosen by; of a contestant, its label.
    pub mechanism: String,
    /// What its server is set to, where the workload says so; of records of before only the label tells.
    #[serde(skip_serializing_if = "Knobs::is_none")]
    pub set_to: Knobs,
    /// It is the A/A control: a mechanism measured a second time under another label, to show the noise.
    pub control: bool,
    /// It is the ceiling: the cheapest server there can be, one loop without limits, deadlines or an account, in the
    /// place of a measured one. What the load does against it, it does at most.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ceiling: bool,
    /// Connections open and silent.
    pub idle: u32,
    /// Connections kept busy.
    pub active: u32,
    /// What each of them does; `None` in records of before, see [`Settings::traffic`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What carries the bytes.
    #[serde(skip_serializing_if = "Transport::is_usual")]
    pub transport: Transport,
    /// Connections beside the active ones that never pause: each has 64 KiB and more under way all the time. What they ask
    /// of the server is in its CPU time and calls, and in no figure of exchanges.
    #[serde(skip_serializing_if = "is_zero")]
    pub firehoses: u32,
    /// Bytes the firehoses got back each second, verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firehose_bytes_per_second: Option<f64>,
    /// What the active connections had each; `None` where there is one, where they do not stay, where a schedule chose
    /// among them, and in records of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<Served>,
    /// When its interval began, after [`Record::started`]; `None` in records of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began_ns: Option<u64>,
    /// What the poller did by itself. Idle and active connections are then descriptors, of which the active are ready
    /// at a time; requests are messages, or descriptors registered and taken out; the server is the poller's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exercise: Option<Exercise>,
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
    /// How often threads of the server's process went to sleep, or that of a poller alone; in records of before only of
    /// the latter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slept: Option<u64>,
    /// CPU time of the load's process.
    pub client_cpu_ns: Option<u64>,
    /// How often the load's process went to sleep, to be woken by an answer as a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_slept: Option<u64>,
    /// What the server did meanwhile; all 0 for a contestant, which keeps no such account.
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
    /// Ascending; buckets without a request are left out. In an open loop, from when each was due.
    pub latency: Vec<(u64, u64)>,
    /// What an open loop was, and tells beside; `None` for a closed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_loop: Option<OpenLoop>,
    /// The load ran out of CPU before the server did, so throughput and latency say more about the load. In an open
    /// loop: it was itself too late, see [`OpenLoop::is_late`].
    pub client_limited: Option<bool>,
    /// CPU time the hypervisor gave to others meanwhile, over all CPUs.
    pub steal_ns: Option<u64>,
    /// How much the kernel's counters of trouble rose: `ListenOverflows`, `ListenDrops`, `TCPBacklogDrop`,
    /// `TCPTimeouts`, `RetransSegs`.
    pub kernel: BTreeMap<String, u64>,
    /// Connections established at the server's port when the trial was over and before any was closed, counted by the
    /// kernel (sock_diag(7), or /proc/net/tcp; of Unix sockets /proc/net/unix).
    pub established: Option<u64>,
    /// Connections open then, by the servers' own account.
    pub open: Option<u64>,
    /// Those of each of its threads, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open_by_thread: Vec<u64>,
    /// Why the trial does not count; then no figure of it is used.
    pub void: Option<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Trial {
    /// CPU time of the server for each request, in nanoseconds; `None` if it is not known, or there was no request.
    pub fn request_ns(&self) -> Option<f64> {
        let cpu = self.server_cpu_ns? as f64;
        (self.requests > 0).then(|| cpu / self.requests as f64)
    }

    /// Adds its latencies to those of others. Exchanges that were due and never sent count as longer than all.
    pub(crate) fn add_latencies_to(&self, pool: &mut Pool) {
        pool.add(&self.latency);
        pool.add_longer(self.open_loop.as_ref().map_or(0, |open| open.unsent));
    }

    /// Its latencies alone.
    pub(crate) fn latencies(&self) -> Pool {
        let mut pool = Pool::default();
        self.add_latencies_to(&mut pool);
        pool
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
    /// How many waits returned how many events. The classes: none, 1, 2 to 3, 4 to 7, … 512 to 1,023, more. Empty
    /// where nothing waits, where a poller is alone, and in records of before.
    #[serde(skip_serializing_if = "Batches::is_empty")]
    pub batches: Batches,
    /// System calls made for waits.
    pub wait_calls: u64,
    /// System calls made to change what is watched.
    pub change_calls: u64,
    /// Times that all connections were moved to another mechanism: by `adaptive`, and by no other.
    pub migrations: u64,
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

impl From<pollmark_backends::Ledger> for Ledger {
    /// The poller's part of it.
    fn from(ledger: pollmark_backends::Ledger) -> Ledger {
        Ledger {
            waits: ledger.waits,
            events: ledger.events,
            empty: ledger.empty,
            wait_calls: ledger.wait_calls,
            change_calls: ledger.change_calls,
            migrations: ledger.migrations,
            calls: ledger.calls(),
            derived: ledger.derived,
            ..Ledger::default()
        }
    }
}

impl From<crate::server::Stats> for Ledger {
    fn from(stats: crate::server::Stats) -> Ledger {
        Ledger {
            batches: stats.batches,
            accepts: stats.accept_calls,
            reads: stats.read_calls,
            writes: stats.write_calls,
            closes: stats.closed + stats.refused,
            would_block: stats.spurious,
            calls: stats.calls(),
            ..Ledger::from(stats.ledger)
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
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Gate {
    /// What was checked.
    pub name: String,
    /// What was found; `None` if it could not be had.
    pub value: Option<f64>,
    /// The bound, as a reader would write it: "0.85 to 1.15".
    pub bound: String,
    /// How it came out.
    pub verdict: Verdict,
    /// From what the value was computed, or why it is unavailable; and why the bound is not met, if that was found out.
    pub explanation: String,
    /// What was measured to find that out: the same mechanism over pipes, each number of them several times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub over_pipes: Vec<Scan>,
    /// What a deadline costs each mechanism, where that was checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deadline_costs: Vec<DeadlineCost>,
}

/// What a deadline costs the server of one mechanism, by two rows of the same rounds: with it, and without.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeadlineCost {
    /// The row without.
    pub subject: String,
    /// It is held against the others: a poller all of whose calls are ours.
    pub compared: bool,
    /// CPU time for each request beyond that of the row without, in nanoseconds: half way among all rounds and cells.
    pub delta_ns: f64,
    /// Where that lies, with 95 %; none of a single visit.
    pub interval: Option<[f64; 2]>,
    /// System calls for each wait beyond those of the row without.
    pub calls_per_wait: f64,
}

/// Some waits of a poller alone, over pipes that are all empty but for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// How many pipes.
    pub watched: u32,
    /// How many waits.
    pub waits: u64,
    /// CPU time of its process meanwhile, in nanoseconds.
    pub cpu_ns: u64,
}

/// How a gate came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Within its bound.
    Pass,
    /// Outside of it.
    Fail,
    /// Outside of it, for a reason that was measured, and is not the mechanism's.
    Explained,
    /// Not to be had on this host, or from these data.
    #[default]
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
            over_pipes: vec![Scan { watched: 9_001, waits: 50, cpu_ns: 90_000_000 }],
            deadline_costs: vec![DeadlineCost {
                subject: "epoll".into(),
                compared: true,
                delta_ns: 31.5,
                interval: Some([-8.0, 70.25]),
                calls_per_wait: 0.0,
            }],
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
