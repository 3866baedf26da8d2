//! The journal: a comparison on disk while it is made, so that what was measured survives whatever ends it.
//!
//! | file | what is in it | when it is written |
//! |---|---|---|
//! | `manifest.json` | the program, the command, the seed | first, and once |
//! | `env.json` | the host | as above |
//! | `plan.json` | the workload, what was asked for, the order of each round, what is missing of it | anew when it has grown |
//! | `samples.ndjson` | a line for each trial | when it has been measured |
//! | `visits.ndjson` | a line for each visit | when it has ended |
//! | `calibrations.ndjson` | a line for each phase of a calibration | when all phases of a round have been measured |
//! | `gates.json` | what was checked | last |
//!
//! Together they are a [`Record`], and [`read`] makes it of them; `results.json` is the same in one file. A line is
//! written by one call, to the kernel and not to a buffer of ours: a program that is killed loses the trial it was at.

mod files;
mod read;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use files::{CALIBRATIONS, ENV, GATES, MANIFEST, Manifest, PLAN, SAMPLES, VISITS, open_alone};
pub(super) use files::{PlanFile, Planned, Round};
pub(super) use read::Kept;
pub use read::read;

use super::file::{cannot, lines, replace};
use super::record::{Calibration, Record, Trial, Visit};

/// The files of a record in parts, in the order they are first written.
pub const FILES: [&str; 7] = [MANIFEST, ENV, PLAN, SAMPLES, VISITS, CALIBRATIONS, GATES];

/// Where a comparison writes what it has.
pub(super) struct Journal {
    directory: PathBuf,
    samples: File,
    visits: File,
    calibrations: File,
    /// As it was written last.
    plan: PlanFile,
}

impl Journal {
    /// Begins one in `directory`, which is made if need be, and is refused if it has one already.
    pub(super) fn begin(directory: &Path, record: &Record, plan: PlanFile) -> io::Result<Journal> {
        fs::create_dir_all(directory).map_err(cannot("make the directory", directory))?;
        let (manifest, env) = Manifest::of(record)?;
        let path = directory.join(MANIFEST);
        // Of two who begin at a time, one has it.
        File::create_new(&path).map_err(cannot("begin", &path))?;
        write(&path, &manifest)?;
        write(&directory.join(ENV), &env)?;
        write_plan(directory, &plan)?;
        let lines = [SAMPLES, VISITS, CALIBRATIONS].map(|name| open_alone(&directory.join(name)));
        let [samples, visits, calibrations] = lines;
        let (samples, visits, calibrations) = (samples?, visits?, calibrations?);
        Ok(Journal { directory: directory.to_owned(), samples, visits, calibrations, plan })
    }

    /// Goes on with what was kept.
    pub(super) fn go_on(kept: &Kept) -> io::Result<Journal> {
        let [samples, visits, calibrations] = kept.cut_what_is_torn()?;
        let (directory, plan) = (kept.directory.clone(), kept.plan.clone());
        let mut journal = Journal { directory, samples, visits, calibrations, plan };
        kept.cut_short.iter().try_for_each(|visit| journal.visit(visit))?;
        Ok(journal)
    }

    /// A trial has been measured.
    pub(super) fn trial(&mut self, trial: &Trial) -> io::Result<()> {
        line(&mut self.samples, trial).map_err(cannot("write", &self.directory.join(SAMPLES)))
    }

    /// A visit has ended.
    pub(super) fn visit(&mut self, visit: &Visit) -> io::Result<()> {
        line(&mut self.visits, visit).map_err(cannot("write", &self.directory.join(VISITS)))
    }

    /// A calibration has been made.
    pub(super) fn calibrated(&mut self, rows: &[Calibration]) -> io::Result<()> {
        let written = rows.iter().try_for_each(|row| line(&mut self.calibrations, row));
        written.map_err(cannot("write", &self.directory.join(CALIBRATIONS)))
    }

    /// The plan has grown, or what is told of it.
    pub(super) fn plan(&mut self, plan: PlanFile) -> io::Result<()> {
        if plan != self.plan {
            write_plan(&self.directory, &plan)?;
            self.plan = plan;
        }
        Ok(())
    }

    /// All is measured.
    pub(super) fn end(&mut self, record: &Record, plan: PlanFile) -> io::Result<()> {
        replace(&self.directory.join(GATES), |out| write_gates(record, out))?;
        self.plan(plan)
    }
}

/// In one call, so that it is there or is torn, and nothing else.
fn line(file: &mut File, row: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(row)?;
    text.push(b'\n');
    file.write_all(&text)
}

fn write_plan(directory: &Path, plan: &PlanFile) -> io::Result<()> {
    replace(&directory.join(PLAN), |out| lines(plan, &["finished"], out))
}

/// Writes gates.json: what was checked, each with its value and its verdict.
///
/// # Errors
/// What writing gave.
pub(crate) fn write_gates(record: &Record, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, &record.gates)?;
    out.write_all(b"\n")
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests;
