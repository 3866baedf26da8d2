//! `pollmark backends`: every mechanism, available or why not, and what it can do.

use std::io::Write;

use pollmark_backends::{Registry, Trigger};

use super::Failure;
use crate::mechanism::Mechanism;

/// Lists every mechanism: available here or why not, its triggers, its limits, and how its cost grows.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark backends            what this host has
  pollmark backends --names    the names alone, for a script")]
pub(super) struct Arguments {
    /// Print the names of the available mechanisms, one a line, and nothing else.
    #[arg(long)]
    names: bool,
}

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for mechanism in Mechanism::all(registry) {
        let probed = mechanism.probe(registry);
        match probed {
            Ok(_) if arguments.names => writeln!(out, "{mechanism}")?,
            Ok(Some(abilities)) => {
                let trigger = mechanism.trigger().unwrap_or(Trigger::Level);
                writeln!(out, "{mechanism:18} available    {trigger:8} {}", abilities.growth)?;
            }
            Ok(None) => writeln!(out, "{mechanism:18} available")?,
            Err(_) if arguments.names => {}
            Err(why) => writeln!(out, "{mechanism:18} unavailable: {why}")?,
        }
    }
    Ok(())
}
