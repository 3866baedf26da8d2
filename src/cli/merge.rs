//! `pollmark merge`: what several loads have measured, on this host or on others, as one result.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::Failure;
use super::printing::{Figures, Format, Printing};
use crate::report::hlog::Log;
use crate::report::merge;

/// Adds up HdrHistogram logs that loads have left, of one host or of many, and shows one result.
///
/// Samples are put together before percentiles are read, which are never averaged. Values are nanoseconds, as `pollmark
/// load --hdr-log` leaves them; logs of other tools are taken too, if theirs are.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark load --target server:7000 --rate 20000 --hdr-log $(hostname).hlog     on each host
  pollmark merge *.hlog                                                          where all logs are
  pollmark merge *.hlog --hdr-log all.hlog --json")]
pub(super) struct Arguments {
    /// The logs.
    #[arg(required = true, value_name = "LOG")]
    logs: Vec<PathBuf>,
    /// Leave all of them in this one log, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    hdr_log: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing<Figures>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut logs = Vec::new();
    for path in &arguments.logs {
        let shown = path.display().to_string();
        let log = fs::read(path).and_then(|bytes| Log::read(&bytes));
        logs.push((shown.clone(), log.map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?));
    }
    let (whole, merged) = merge::merge(&logs);
    if let Some(path) = &arguments.hdr_log {
        let write = fs::File::create_new(path).and_then(|file| whole.write(io::BufWriter::new(file)));
        write.map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    }
    let mut out = io::stdout().lock();
    match arguments.printing.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&merged).expect("plain fields"))?,
        _ => write!(out, "{merged}")?,
    }
    Ok(())
}
