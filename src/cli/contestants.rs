//! `pollmark contestants`: servers that are not ours, which of them are here, and building them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::printing::{Figures, Format, Printing};
use crate::measure::Contestant;
use crate::report::contestants;

/// Lists servers that are not ours, which `pollmark compare --contestant` puts beside ours: which of them are here, in
/// what version, and what to do about the others.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark contestants                                 those of the source tree
  pollmark contestants benches/contestants/libuv.toml  one of them
  pollmark contestants --build                         each built by its own command, then listed
  pollmark contestants ./mine.toml --json              one of your own, for a program")]
pub(super) struct Arguments {
    /// Files that describe one each, or folders of such files [default: benches/contestants].
    #[arg(value_name = "FILE|FOLDER")]
    paths: Vec<PathBuf>,
    /// Build each of them first.
    #[arg(long)]
    build: bool,
    #[command(flatten)]
    printing: Printing<Figures>,
}

/// Where those of the source tree are.
const SHIPPED: &str = "benches/contestants";

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { mut paths, build, printing } = arguments;
    if paths.is_empty() {
        if !Path::new(SHIPPED).is_dir() {
            return Err(Failure::usage(format!(
                "there is no {SHIPPED} here: go to the source tree of pollmark, or give the path of a file or a folder"
            )));
        }
        paths.push(SHIPPED.into());
    }
    let contestants = read(&paths)?;
    let mut failed = Vec::new();
    for contestant in contestants.iter().filter(|_| build) {
        if let Err(why) = contestant.build() {
            let _ = writeln!(io::stderr(), "{}: {why}", contestant.label());
            failed.push(contestant.label());
        }
    }
    let checked = contestants.iter().map(|one| (one, one.check())).collect::<Vec<_>>();
    let text = match printing.format {
        Format::Json => contestants::json(&checked),
        _ => contestants::list(&checked, super::style()),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{} could not be built: {}", failed.len(), failed.join(", "))))
    }
}

/// All that the paths stand for.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Contestant>, Failure> {
    let read = paths.iter().map(|path| Contestant::read_all(path)).collect::<Result<Vec<_>, _>>();
    Ok(read.map_err(Failure::usage)?.into_iter().flatten().collect())
}
