//! `pollmark backends`: every mechanism, available or why not, what it can do, and what this host's limits allow.

use std::io::{self, Write};

use pollmark_backends::{Capabilities, Growth, Registry};

use super::Failure;
use crate::limits::Limits;
use crate::mechanism::Mechanism;
use crate::usage;

/// Lists every mechanism: available here or why not, its triggers, its limits, how its cost grows; and what this host's
/// limits allow.
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
    let mut out = io::stdout().lock();
    let all = Mechanism::all(registry);
    if arguments.names {
        let mut available = all.iter().filter(|mechanism| mechanism.probe(registry).is_ok());
        return Ok(available.try_for_each(|mechanism| writeln!(out, "{mechanism}"))?);
    }
    let limits = Limits::gather();
    write_mechanisms(&mut out, registry, &all)?;
    usage::raise_descriptor_limit();
    Ok(write_limits(&mut out, &limits, &Limits::gather())?)
}

fn write_mechanisms(out: &mut impl Write, registry: &Registry, all: &[Mechanism]) -> io::Result<()> {
    let width = all.iter().map(|mechanism| mechanism.name().chars().count()).max().unwrap_or(0).max(9);
    writeln!(out, "{:width$}  {:8}  {:18}  limits", "mechanism", "trigger", "a wait costs")?;
    let (variants, others): (Vec<_>, Vec<_>) = all.iter().partition(|mechanism| mechanism.base().is_some());
    for mechanism in others {
        write_mechanism(out, registry, mechanism, width)?;
    }
    writeln!(out, "\n{VARIANTS}")?;
    for mechanism in variants {
        write_mechanism(out, registry, mechanism, width)?;
        if mechanism.probe(registry).is_ok() {
            writeln!(out, "{:width$}  {}", "", mechanism.summary(registry))?;
        }
    }
    Ok(())
}

/// Heads those that nobody is given unasked.
const VARIANTS: &str =
    "what newer kernels add, and what moves between two: compared only by name, or all as \"variants\"";

fn write_mechanism(out: &mut impl Write, registry: &Registry, mechanism: &Mechanism, width: usize) -> io::Result<()> {
    let trigger = mechanism.trigger().map_or("–".to_owned(), |trigger| trigger.to_string());
    match mechanism.probe(registry) {
        Ok(Some(abilities)) => {
            let cost = abilities.growth;
            writeln!(out, "{mechanism:width$}  {trigger:8}  {cost:18}  {}", restrictions(&abilities))
        }
        Ok(None) if !mechanism.abilities().blocking => {
            writeln!(out, "{mechanism:width$}  {trigger:8}  {:18}  timeouts from 1ns", Growth::Ready)
        }
        Ok(None) => {
            let limits = if mechanism.abilities().concurrent { "a thread each" } else { "one connection at a time" };
            writeln!(out, "{mechanism:width$}  {trigger:8}  {:18}  {limits}", "O(1)")
        }
        Err(why) => writeln!(out, "{mechanism:width$}  {why}"),
    }
}

/// What it cannot do, beyond what every mechanism can.
fn restrictions(abilities: &Capabilities) -> String {
    let mut found = Vec::new();
    found.extend(abilities.numbers_below.map(|below| format!("descriptors below {below}")));
    found.extend(abilities.most_sources.map(|most| format!("at most {most} sources")));
    found.push(format!("timeouts from {:?}", abilities.resolution));
    let lacks = [
        (abilities.half_close, "half-close not told from data"),
        (abilities.errors, "errors not told from data"),
        (abilities.regular_files, "no regular files"),
    ];
    found.extend(lacks.iter().filter(|(has, _)| !has).map(|(_, what)| (*what).to_owned()));
    found.join(", ")
}

/// `before` and `after` this process has raised what it may: what a server or a load of ours also does.
fn write_limits(out: &mut impl Write, before: &Limits, after: &Limits) -> io::Result<()> {
    writeln!(out, "\nthis host")?;
    match (before.descriptors, after.descriptors) {
        (Some(soft), Some(raised)) if soft < raised => {
            writeln!(out, "  descriptors   {soft} (ulimit -n), raised by itself to {raised}")?;
        }
        (Some(soft), _) => writeln!(out, "  descriptors   {soft} (ulimit -n), which is as far as it goes")?,
        (None, _) => {}
    }
    match after.connections() {
        Some(most) => writeln!(out, "                so at most {most} connections per server process")?,
        None => writeln!(out, "  descriptors   no limit known")?,
    }
    if let Some(backlog) = after.backlog {
        writeln!(out, "  listen queue  {backlog} (somaxconn)")?;
        writeln!(out, "                so at most {backlog} connections waiting to be accepted; more are dropped")?;
    }
    if let (Some((first, last)), Some(ports)) = (after.ports, after.ports_for_a_source()) {
        writeln!(out, "  local ports   {first} to {last} (ip_local_port_range)")?;
        writeln!(out, "                so at most {ports} outgoing connections per source address and target")?;
    }
    if let Some(held) = after.time_wait {
        let most = after.time_wait_most.map(|most| format!(" of {most} (tcp_max_tw_buckets)")).unwrap_or_default();
        writeln!(out, "  TIME_WAIT     {held}{most} sockets, each of which may hold a local port for a minute")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_has_a_line_and_an_absent_one_a_reason() {
        let registry = Registry::builtin();
        let all = Mechanism::all(&registry);
        let mut bytes = Vec::new();
        write_mechanisms(&mut bytes, &registry, &all).expect("to memory");
        let text = String::from_utf8(bytes).expect("text");
        let rows = text.lines().skip(1).filter(|line| !["", VARIANTS].contains(line) && !line.starts_with(" "));
        let names = all.iter().map(|mechanism| Some(mechanism.name()));
        assert!(rows.map(|line| line.split(" ").next()).eq(names), "{text}");
        for mechanism in &all {
            let line = text.lines().find(|line| line.split(' ').next() == Some(mechanism.name())).expect("a line");
            match mechanism.probe(&registry) {
                Ok(_) => assert!(!line.contains("not on this system") && !line.contains("cannot be"), "{line}"),
                Err(why) => assert!(line.ends_with(&why.to_string()), "{line}"),
            }
        }
    }

    #[test]
    fn a_limit_comes_with_what_it_allows() {
        let raised = Limits {
            descriptors: Some(20_000),
            descriptors_hard: Some(20_000),
            backlog: Some(4_096),
            ports: Some((32_768, 60_999)),
            time_wait: Some(3),
            ..Limits::default()
        };
        let before = Limits { descriptors: Some(1_024), ..raised.clone() };
        let mut bytes = Vec::new();
        write_limits(&mut bytes, &before, &raised).expect("to memory");
        let text = String::from_utf8(bytes).expect("text");
        for part in
            ["1024 (ulimit -n), raised by itself to 20000", "at most 19936 connections per server", "at most 28232"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }
}
