//! `pollmark semantics`: what every mechanism says of the same situations, and two hosts side by side.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use pollmark_backends::Registry;

use super::Failure;
use super::printing::{FORM, Format, Printing, Rows};
use crate::mechanism::Mechanism;
use crate::report::semantics::{Record, Said, diff, markdown, terminal};

/// Plays forty situations in front of every mechanism of this host - a half-close, a reset, a closed descriptor
/// with a duplicate, … - and shows what the kernel says beside what a program is told, and why mechanisms differ.
///
/// Takes a second or two. What is found does not change from run to run. With --diff nothing is played: two files are
/// read, and the exit code is 1 if they differ.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark semantics                            the whole matrix, on the terminal
  pollmark semantics --backends epoll,epoll-edge,epoll-oneshot
  pollmark semantics --markdown > semantics.md  to publish
  pollmark semantics --json > linux.json        to keep, or to send to somebody with another system
  pollmark semantics --format csv > linux.csv   a line for each answer, for a spreadsheet
  pollmark semantics --diff linux.json mac.json")]
pub(super) struct Arguments {
    /// Which mechanisms, separated by commas; "all" for every variant [default: one of each family].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    backends: Vec<String>,
    #[command(flatten)]
    printing: Printing<Rows>,
    /// Lay two hosts side by side, from what --json printed on each, and mark where they differ.
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2, conflicts_with_all = ["backends", FORM])]
    diff: Vec<PathBuf>,
}

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if let [left, right] = arguments.diff.as_slice() {
        let (left, right) = (read(left)?, read(right)?);
        let comparison = diff::Comparison::of(&left, &right);
        out.write_all(comparison.render(super::style()).as_bytes())?;
        return match comparison.verdict() {
            None => Ok(()),
            Some(verdict) => Err(Failure::failed(verdict)),
        };
    }
    let record =
        Record::gather(registry, &chosen(registry, &arguments.backends)?).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Failure::usage(error),
            _ => Failure::failed(error),
        })?;
    match arguments.printing.format {
        Format::Table => out.write_all(terminal::render(&record, super::style()).as_bytes())?,
        Format::Markdown => out.write_all(markdown::render(&record).as_bytes())?,
        Format::Json => record.write(&mut out)?,
        Format::Csv => record.write_csv(&mut out)?,
    }
    let failed = record.cells().filter(|(_, _, cell)| matches!(cell.said, Said::Failed(_))).count();
    if failed > 0 {
        return Err(Failure::failed(format!("{failed} answers are missing: the situation could not be brought about")));
    }
    Ok(())
}

/// What stands on a poller: by name; every variant; or one of each family, those that are here.
fn chosen(registry: &Registry, names: &[String]) -> Result<Vec<Mechanism>, Failure> {
    let all = Mechanism::all(registry);
    let polls_here = |one: &Mechanism| one.trigger().is_some() && one.probe(registry).is_ok();
    match names {
        [] => Ok(all.into_iter().filter(|one| polls_here(one) && one.is_common()).collect()),
        [every] if every == "all" => Ok(all.into_iter().filter(polls_here).collect()),
        names => {
            let mut chosen = Vec::new();
            for name in names {
                let mechanism = Mechanism::parse(registry, name).map_err(Failure::usage)?;
                // Named twice, it is one column all the same.
                if !chosen.contains(&mechanism) {
                    chosen.push(mechanism);
                }
            }
            Ok(chosen)
        }
    }
}

fn read(path: &Path) -> Result<Record, Failure> {
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    File::open(path).and_then(|file| Record::read(BufReader::new(file))).map_err(unreadable)
}
