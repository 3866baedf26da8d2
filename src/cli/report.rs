//! `pollmark report`: the tables of a comparison made earlier, here or by somebody else.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::PathBuf;

use super::Failure;
use crate::report::{FILES, Summary, json, terminal, write};

/// Shows a comparison made earlier, from its results.json, and writes its report anew if asked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark report results.json                  the tables, on the terminal
  pollmark report results/                      the same, of a directory `pollmark compare` has written
  pollmark report results.json --out again      also report.html, report.md and results.csv, in the directory `again`")]
pub(super) struct Arguments {
    /// The results.json, or the directory it is in.
    record: PathBuf,
    /// Write the report into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let path = if arguments.record.is_dir() { arguments.record.join(FILES[0]) } else { arguments.record };
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let record = File::open(&path).and_then(|file| json::read(BufReader::new(file))).map_err(unreadable)?;
    std::io::stdout().lock().write_all(terminal::render(&Summary::of(&record), super::style()).as_bytes())?;
    if let Some(directory) = &arguments.out {
        write(&record, directory).map_err(Failure::failed)?;
    }
    Ok(())
}
