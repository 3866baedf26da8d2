//! What was kept of a comparison: read back, each error with its file, its place and its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::files::{CALIBRATIONS, ENV, GATES, MANIFEST, Manifest, PLAN, PlanFile, SAMPLES, VISITS, open_alone};
use crate::measure::file::cannot;
use crate::measure::host::Host;
use crate::measure::record::{Calibration, Gate, Record, SCHEMA, Trial, Visit};

/// Reads the record that stands in `directory` in parts, as a comparison leaves it while it runs, or when it is killed.
///
/// A last line that is torn is left out: it is the trial that was running.
///
/// # Errors
/// `InvalidData` if a part is broken, or of a schema that this version does not know; else what reading gave. All name
/// the file, and the place if there is one.
pub fn read(directory: &Path) -> io::Result<Record> {
    Ok(Kept::read(directory)?.record)
}

/// A comparison, as far as it has come.
pub(in crate::measure) struct Kept {
    pub(in crate::measure) directory: PathBuf,
    pub(in crate::measure) plan: PlanFile,
    pub(in crate::measure) record: Record,
    /// Visits with trials, and without a line of their own.
    pub(super) cut_short: Vec<Visit>,
    /// How much of each file with lines is whole.
    samples_end: u64,
    visits_end: u64,
    calibrations_end: u64,
}

impl Kept {
    /// Reads what is there.
    pub(in crate::measure) fn read(directory: &Path) -> io::Result<Kept> {
        let path = directory.join(MANIFEST);
        let schema: Value = whole(&path)?;
        match schema["schema"].as_u64() {
            Some(schema) if schema <= u64::from(SCHEMA) => {}
            Some(schema) => {
                let why = format!("written by a newer pollmark: schema {schema}, known up to {SCHEMA}");
                return Err(invalid(&path, why));
            }
            None => return Err(invalid(&path, "not of a record of pollmark: it has no schema")),
        }
        let manifest: Manifest = whole(&path)?;
        let path = directory.join(ENV);
        let env: Map<String, Value> = whole(&path)?;
        let host: Host = manifest.host(env).map_err(|error| invalid(&path, error))?;
        let plan: PlanFile = whole(&directory.join(PLAN))?;
        let (trials, samples_end) = lines::<Trial>(&directory.join(SAMPLES))?;
        let (mut visits, visits_end) = lines::<Visit>(&directory.join(VISITS))?;
        let (calibrations, calibrations_end) = lines::<Calibration>(&directory.join(CALIBRATIONS))?;
        let cut_short = cut_short(&visits, &trials);
        visits.extend(cut_short.iter().cloned());
        visits.sort_by_key(|visit| visit.order);
        let gates: Vec<Gate> = match whole(&directory.join(GATES)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let versions = &manifest.versions;
        let contestants = plan.contestants.iter().filter_map(|one| Some(one.about(versions.get(&one.label())?)));
        let record = Record {
            authors: Vec::new(),
            contestants: contestants.collect(),
            schema: manifest.schema,
            pollmark_version: manifest.pollmark_version,
            command: manifest.command,
            seed: manifest.seed,
            started: manifest.started,
            finished: plan.finished,
            host,
            settings: plan.settings.clone(),
            workload: Some(plan.workload.about()),
            visits,
            trials,
            calibrations,
            missing: plan.missing.clone(),
            gates,
            warnings: plan.warnings.clone(),
        };
        let directory = directory.to_owned();
        Ok(Kept { directory, plan, record, cut_short, samples_end, visits_end, calibrations_end })
    }

    /// Opens the files with lines, to go on where they are whole.
    pub(super) fn cut_what_is_torn(&self) -> io::Result<[File; 3]> {
        let open = |name, end| {
            let path = self.directory.join(name);
            let file = open_alone(&path)?;
            file.set_len(end).map_err(cannot("write", &path))?;
            Ok::<_, io::Error>(file)
        };
        let [samples, visits] = [open(SAMPLES, self.samples_end)?, open(VISITS, self.visits_end)?];
        Ok([samples, visits, open(CALIBRATIONS, self.calibrations_end)?])
    }
}

/// A visit that was cut short has no line; what its trials say of it is known.
fn cut_short(ended: &[Visit], trials: &[Trial]) -> Vec<Visit> {
    let ended = ended.iter().map(|visit| visit.order).collect::<BTreeSet<_>>();
    let mut found = BTreeMap::<u32, Visit>::new();
    for trial in trials.iter().filter(|trial| !ended.contains(&trial.order)) {
        let Trial { order, round, idle, transport, .. } = *trial;
        let subject = || trial.subject.clone();
        let begun =
            || Visit { order, round, subject: subject(), idle, transport, active: Vec::new(), population: None };
        found.entry(order).or_insert_with(begun).active.push(trial.active);
    }
    found.into_values().collect()
}

/// A file that is one JSON value.
fn whole<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = fs::read(path).map_err(cannot("read", path))?;
    // It says the line and the column.
    serde_json::from_slice(&bytes).map_err(|error| invalid(path, error))
}

/// A file with a value on each line, and how many bytes of it are whole lines. None, if it is not there yet.
fn lines<T: DeserializeOwned>(path: &Path) -> io::Result<(Vec<T>, u64)> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        read => read.map_err(cannot("read", path))?,
    };
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let rows = bytes[..end].split(|byte| *byte == b'\n').enumerate().filter(|(_, row)| !row.is_empty());
    let row = |(at, row)| {
        let place = |error: serde_json::Error| {
            let why = error.to_string();
            // Of a row the line is always its first.
            let why = why.replace(" at line 1 column", ", column");
            invalid(path, format!("line {}: {why}", at + 1))
        };
        serde_json::from_slice(row).map_err(place)
    };
    Ok((rows.map(row).collect::<io::Result<_>>()?, end as u64))
}

fn invalid(path: &Path, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}
