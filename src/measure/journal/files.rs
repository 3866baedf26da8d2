//! What stands in which file of a record in parts. No fact stands in two of them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::measure::contestant::{Contestant, placed};
use crate::measure::file::cannot;
use crate::measure::host::Host;
use crate::measure::record::{Load, Missing, Record, Settings};
use crate::measure::workload::Workload;
use crate::workload::Sources;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const ENV: &str = "env.json";
pub(super) const PLAN: &str = "plan.json";
pub(super) const SAMPLES: &str = "samples.ndjson";
pub(super) const VISITS: &str = "visits.ndjson";
pub(super) const CALIBRATIONS: &str = "calibrations.ndjson";
pub(super) const GATES: &str = "gates.json";

/// Who measured, and by which program.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) schema: u32,
    pub(super) command: Vec<String>,
    pub(super) seed: u64,
    pub(super) started: String,
    pub(super) pollmark_version: String,
    /// The servers that are not ours, by their labels, in their versions; how they are started stands in the plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) versions: BTreeMap<String, String>,
    /// The facts of a [`Host`] that are the program's.
    #[serde(flatten)]
    pub(super) program: Map<String, Value>,
}

/// Those facts, by their names.
const PROGRAM: [&str; 7] = ["commit", "lock_sha256", "binary_sha256", "rustc", "build", "flags", "features"];

impl Manifest {
    /// It, and the facts of the host that are not in it.
    pub(super) fn of(record: &Record) -> io::Result<(Manifest, Map<String, Value>)> {
        let mut env = facts(&record.host)?;
        let program = PROGRAM.iter().filter_map(|name| env.remove_entry(*name)).collect();
        let manifest = Manifest {
            schema: record.schema,
            command: record.command.clone(),
            seed: record.seed,
            started: record.started.clone(),
            pollmark_version: record.pollmark_version.clone(),
            versions: record.contestants.iter().map(|one| (one.label.clone(), one.version.clone())).collect(),
            program,
        };
        Ok((manifest, env))
    }

    /// The host, of its facts here and there.
    pub(super) fn host(&self, env: Map<String, Value>) -> serde_json::Result<Host> {
        let facts: Map<_, _> = self.program.clone().into_iter().chain(env).collect();
        // By way of its text, as everything else is read: a second way would be compiled for this alone.
        serde_json::from_slice(&serde_json::to_vec(&facts)?)
    }
}

/// The facts of a host, by their names.
pub(super) fn facts(host: &Host) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(host)? {
        Value::Object(facts) => Ok(facts),
        other => unreachable!("a struct is an object, not {other}"),
    }
}

/// What was asked for, and how far it has been planned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(in crate::measure) struct PlanFile {
    /// All of it has been done.
    pub(in crate::measure) finished: bool,
    pub(in crate::measure) settings: Settings,
    /// What the settings were made from, with what was expected before anything was measured; the mechanisms by name,
    /// those included that are not available here.
    pub(in crate::measure) workload: Workload,
    pub(in crate::measure) sources: Option<Sources>,
    /// Servers that are not ours, those included that are not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "placed")]
    pub(in crate::measure) contestants: Vec<Contestant>,
    /// Those begun, in order: how many there will be, time decides.
    pub(in crate::measure) rounds: Vec<Round>,
    pub(in crate::measure) missing: Vec<Missing>,
    pub(in crate::measure) warnings: Vec<String>,
}

/// A round, as it was begun.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::measure) struct Round {
    /// It is the one that counts instructions.
    pub(in crate::measure) counted: bool,
    /// Idle sizes that were given up before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::measure) left_out: Vec<usize>,
    /// The visits, in order.
    pub(in crate::measure) visits: Vec<Planned>,
}

/// A visit, as it was planned.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::measure) struct Planned {
    pub(in crate::measure) subject: String,
    pub(in crate::measure) idle: usize,
    /// In the order they are to be measured.
    pub(in crate::measure) loads: Vec<Load>,
}

/// Opens the file to append to it, which only one may do at a time.
pub(super) fn open_alone(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, FILE_SHARE_READ);
    let file = options.open(path).map_err(cannot("open", path))?;
    #[cfg(unix)]
    {
        use rustix::fs::{FlockOperation, flock};
        // That a file system has no locks is no reason not to measure.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK) {
            let why = format!("{} is being written: its comparison still runs", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
    }
    Ok(file)
}

#[cfg(windows)]
const FILE_SHARE_READ: u32 = 1;
