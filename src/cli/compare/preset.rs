//! `pollmark compare --preset`: several workloads one after the other, a directory each, and one page over all.

use std::io::{self, Write};
use std::path::Path;

use pollmark_backends::Registry;

use super::{Arguments, comparison, directory, measure, of_now, verdict};
use crate::cli::Failure;
use crate::cli::signals::Stop;
use crate::measure::file::replace;
use crate::measure::workload::Preset;
use crate::measure::{Record, Workload};
use crate::report::digest;

/// The page over all, in the directory above theirs.
const PAGE: &str = "report.md";

pub(super) fn run(registry: &Registry, mut arguments: Arguments, name: &str) -> Result<(), Failure> {
    let preset = Preset::find_or_read(name).map_err(Failure::usage)?;
    let workloads = preset.workloads().map_err(Failure::usage)?;
    if let ([one], None) = (preset.names.as_slice(), preset.rounds) {
        arguments.workload.clone_from(one);
        return super::run(registry, arguments);
    }
    refuse_what_is_of_one(&arguments, &preset)?;
    // All that can be found out before the first hour is over.
    let out = arguments.out.take().unwrap_or_else(of_now);
    let mut planned = Vec::new();
    for (asked, workload) in preset.names.iter().zip(&workloads) {
        arguments.workload.clone_from(asked);
        arguments.rounds = arguments.rounds.or(preset.rounds);
        planned.push((workload, comparison(registry, &arguments)?, directory(Some(out.join(&workload.name)))?));
    }
    let time = match Preset::budget(&workloads).filter(|_| arguments.rounds.is_none()) {
        Some(budget) => format!("planned for {} minutes", budget.as_secs().div_ceil(60)),
        None => "for as long as its rounds take".to_owned(),
    };
    eprintln!("{}: {} workloads, {time}, into {}", preset.name, workloads.len(), out.display());

    let stop = Stop::on_signals()?;
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    let count = planned.len();
    for (at, (workload, comparison, directory)) in planned.into_iter().enumerate() {
        eprintln!("{} of {count}: {}", at + 1, workload.name);
        let record = match measure(comparison, &directory, &stop, arguments.printing.format) {
            Ok(record) => record,
            Err(interrupted) if stop.outcome().is_err() => return Err(interrupted),
            // What is beyond this host's limits keeps nobody from measuring the others.
            Err(failure) => {
                eprintln!("{}: {}", workload.name, failure.message.as_deref().unwrap_or("not measured"));
                failures.push(workload.name.as_str());
                continue;
            }
        };
        if verdict(&record).is_err() {
            failures.push(workload.name.as_str());
        }
        done.push((workload, record));
        write(&out, &preset, &done)?;
    }
    if !done.is_empty() {
        writeln!(io::stdout().lock(), "{}", out.join(PAGE).display())?;
    }
    match failures.as_slice() {
        [] => Ok(()),
        some => {
            let why = "not measured, or with trials that are void, or gates that are not met";
            Err(Failure::failed(format!("{why}: {}", some.join(", "))))
        }
    }
}

/// What is said of one workload is said of none if there are several.
fn refuse_what_is_of_one(arguments: &Arguments, preset: &Preset) -> Result<(), Failure> {
    let Arguments { idle, active, size, outstanding, churn, offered, arrivals, transport, .. } = arguments;
    let Arguments { processes, threads, sharing, sources, .. } = arguments;
    let asked = [
        ("--idle", idle.is_some()),
        ("--active", active.is_some()),
        ("--size", size.is_some()),
        ("--outstanding", outstanding.is_some()),
        ("--churn", churn.is_some()),
        ("--offered", offered.is_some()),
        ("--arrivals", arrivals.is_some()),
        ("--transport", transport.is_some()),
        ("--processes", processes.is_some()),
        ("--threads", threads.is_some()),
        ("--sharing", sharing.is_some()),
        ("--sources", sources.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::usage(format!(
            "{option} is for one workload, and the preset {} has {}: ask for one by --workload",
            preset.name,
            preset.names.len()
        ))),
    }
}

/// After each workload anew, so that what ends all of it leaves a page of what there is.
fn write(out: &Path, preset: &Preset, done: &[(&Workload, Record)]) -> Result<(), Failure> {
    let records = done.iter().map(|(workload, record)| (workload.name.as_str(), record)).collect::<Vec<_>>();
    let page = digest::render(&preset.name, &preset.title, &records);
    replace(&out.join(PAGE), |out| out.write_all(page.as_bytes())).map_err(Failure::failed)
}
