//! `pollmark workloads`: what can be done to a server, what that shows, and what it does not.

use std::io::{self, Write};

use super::Failure;
use super::printing::{Format, Printing, Prose};
use crate::measure::Workload;
use crate::measure::workload::Preset;
use crate::report::workloads;

/// Lists what `pollmark compare --workload` can be asked for; with a name, or the path of a file, explains it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark workloads                  every workload, a line each
  pollmark workloads idle-crowd       what it does, shows and does not show, and what to expect
  pollmark workloads ./mine.toml      one of your own, and whether it is well-formed
  pollmark workloads --markdown       all of them, explained, to publish
  pollmark workloads quick --json     for a program")]
pub(super) struct Arguments {
    /// Explain these: by their names, or by the paths of files.
    #[arg(value_name = "NAME|FILE")]
    workloads: Vec<String>,
    #[command(flatten)]
    printing: Printing<Prose>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { workloads: asked, printing } = arguments;
    let chosen = match asked.as_slice() {
        [] => Workload::shipped(),
        asked => {
            asked.iter().map(|name| Workload::find_or_read(name)).collect::<Result<_, _>>().map_err(Failure::usage)?
        }
    };
    let text = match printing.format {
        Format::Json => serde_json::to_string_pretty(&chosen).expect("plain fields") + "\n",
        Format::Markdown if asked.is_empty() => {
            workloads::markdown(&chosen) + &workloads::presets_markdown(&Preset::shipped())
        }
        Format::Markdown => workloads::markdown(&chosen),
        _ if asked.is_empty() => {
            workloads::list(&chosen, super::style()) + &workloads::presets(&Preset::shipped(), super::style())
        }
        _ => workloads::explain(&chosen, super::style()),
    };
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}
