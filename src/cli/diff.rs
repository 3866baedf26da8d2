//! `pollmark diff`: two records of comparisons, the one against the other.

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
use super::printing::{Format, Printing, Rows};
use crate::report::{Diff, read};

/// Compares two records: on one machine by how much each cell has changed, on two what both say.
///
/// B is held against A. A cell wins or loses if the whole interval of its ratio is beyond the noise of both records, and
/// if chance does not explain it with all cells counted; if one loses, or is void in B, the exit code is 1. What ran on
/// different machines is not compared by size: only who costs less than whom, and what grows.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark diff before after                    did a change of program or kernel cost anything?
  pollmark diff before/results.json after --json
  pollmark diff before after --markdown         for a comment on the change
  pollmark diff benches/records/RECORD results  does this machine confirm what another one says?")]
pub(super) struct Arguments {
    /// The results.json to hold against, or the directory it is in.
    a: PathBuf,
    /// The one that is held against it, likewise.
    b: PathBuf,
    #[command(flatten)]
    printing: Printing<Rows>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let before = read(&arguments.a).map_err(Failure::usage)?;
    let after = read(&arguments.b).map_err(Failure::usage)?;
    let diff = Diff::of(&before, &after);
    let mut out = std::io::stdout().lock();
    match arguments.printing.format {
        Format::Table => out.write_all(diff.render(super::style()).as_bytes())?,
        Format::Markdown => out.write_all(diff.to_markdown().as_bytes())?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&diff.to_json()).expect("plain fields"))?,
        Format::Csv => diff.write_csv(&mut out)?,
    }
    if diff.is_worse() { Err(Failure::failed("B loses to A in some cells, or is void there")) } else { Ok(()) }
}
