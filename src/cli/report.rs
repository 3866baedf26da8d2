//! `pollmark report`: the tables of a comparison made earlier, here or by somebody else.

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
use crate::report::{Summary, read, terminal, write};

/// Shows a comparison made earlier, from its results.json, and writes its report anew if asked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark report results.json                  the tables, on the terminal
  pollmark report results/                      the same, of a directory `pollmark compare` has written
  pollmark report results.json --out again      also report.html, report.md and results.csv, in the directory `again`")]
pub(super) struct Arguments {
    /// The results.json, or the directory it is in; or that of a comparison that still runs, or was killed.
    record: PathBuf,
    /// Write the report into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let record = read(&arguments.record).map_err(Failure::usage)?;
    std::io::stdout().lock().write_all(terminal::render(&Summary::of(&record), super::style()).as_bytes())?;
    if let Some(directory) = &arguments.out {
        write(&record, directory).map_err(Failure::failed)?;
    }
    Ok(())
}
