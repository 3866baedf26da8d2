//! What other programs want of a record and can be worked out from it: the cost model, the verdicts, the reasons, and the
//! latencies as logs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::format::slug;
use super::hlog::{FROM_SEND, Log, SLIP};
use super::prediction;
use super::summary::{Cell, Outcome, Pairs, Standing, Summary};
use crate::measure::family::CHANCE;
use crate::measure::file::{cannot, lines, replace};
use crate::measure::fit::{crossovers, fits};
use crate::measure::record::Record;

/// The directory with the logs: one for each cell that has latencies, with a line for each trial of it.
pub const LATENCY: &str = "latency";

/// Writes fit.json: c0, c1 and c2 of each row, and where two of them cross.
///
/// # Errors
/// What writing gave.
pub(super) fn write_fit(record: &Record, mut out: impl Write) -> io::Result<()> {
    let fit = json!({
        "model": "a wait costs wait + watched * connections watched + request * requests, and sleep if it sleeps",
        "unit": "ns of CPU time of the server",
        "fits": fits(record),
        "crossovers": crossovers(record),
    });
    serde_json::to_writer_pretty(&mut out, &fit)?;
    out.write_all(b"\n")
}

/// Writes verdicts.json: what is claimed of each cell, and how small a difference it could have found.
///
/// # Errors
/// What writing gave.
pub(super) fn write_verdicts(summary: &Summary<'_>, out: impl Write) -> io::Result<()> {
    let Pairs { all, differ } = summary.pairs;
    let noise = &summary.noise;
    let cell = |cell: &Cell| {
        let subject = &summary.subjects[cell.subject];
        let figures = cell.figures();
        let (verdict, reason) = match &cell.outcome {
            Outcome::Missing(reason) => ("missing", Some(reason)),
            Outcome::Void(reason) => ("void", Some(reason)),
            Outcome::Measured(figures) => match figures.standing {
                Standing::Best => ("best", None),
                Standing::Indistinguishable => ("indistinguishable", None),
                Standing::Rank(_) => ("lose", None),
                Standing::Unranked => ("unranked", None),
            },
        };
        let ratio = figures.and_then(|figures| figures.ratio);
        json!({
            "subject": subject.name, "control": subject.control, "idle": cell.idle, "load": summary.describe(cell.load),
            "verdict": verdict, "reason": reason,
            "ratio_to_best": ratio.map(|ratio| ratio.value), "interval": ratio.and_then(|ratio| ratio.interval),
            "smallest_effect": figures.and_then(|figures| figures.smallest_effect),
        })
    };
    let verdicts = json!({
        "metric": "CPU time of the server for each request",
        "margin": noise.margin,
        "control": {"cells": noise.cells, "spread": noise.spread, "told_apart": noise.told_apart},
        "pairs": {"all": all, "differ": differ, "chance_of_any_by_chance": CHANCE},
        "cells": summary.cells.iter().map(cell).collect::<Vec<_>>(),
    });
    lines(&verdicts, &["metric", "margin", "control", "pairs"], out)
}

/// Writes explained.json: each cell taken apart into what its calls cost, what that leaves, and the reasons of differences.
///
/// # Errors
/// What writing gave.
pub(super) fn write_explained(summary: &Summary<'_>, out: impl Write) -> io::Result<()> {
    lines(&prediction::json(summary), &["unit"], out)
}

/// Writes the logs of every cell into the directory [`LATENCY`] of `directory`, and says which: paths within it.
///
/// # Errors
/// What the file system said, with the file it was about.
pub(super) fn write_logs(summary: &Summary<'_>, directory: &Path) -> io::Result<Vec<String>> {
    let directory = directory.join(LATENCY);
    let mut names = BTreeSet::new();
    for cell in &summary.cells {
        let log = log(summary, cell);
        if log.intervals.is_empty() {
            continue;
        }
        if names.is_empty() {
            fs::create_dir_all(&directory).map_err(cannot("make the directory", &directory))?;
        }
        let name = (1..).map(|again| name(summary, cell, again)).find(|name| names.insert(name.clone()));
        replace(&directory.join(name.expect("without end")), |out| log.write(out))?;
    }
    Ok(names.into_iter().map(|name| format!("{LATENCY}/{name}")).collect())
}

/// Every timed trial of a cell, and of open loops the other two series.
fn log(summary: &Summary<'_>, cell: &Cell) -> Log {
    let mut log = humantime::parse_rfc3339(&summary.record.started).map(Log::begun).unwrap_or_default();
    for trial in summary.trials(cell).timed() {
        let since = Duration::from_nanos(trial.began_ns.unwrap_or(0));
        let length = Duration::from_nanos(trial.duration_ns);
        log.push(None, since, length, &trial.latency);
        if let Some(open) = &trial.open_loop {
            log.push(Some(FROM_SEND), since, length, &open.from_send);
            log.push(Some(SLIP), since, length, &open.slip);
        }
    }
    log
}

/// As the cell is called, in what every file system takes: `poll-x2-shared-5000-idle-1-active.hlog`.
fn name(summary: &Summary<'_>, cell: &Cell, again: usize) -> String {
    let subject = &summary.subjects[cell.subject].name;
    let name = slug(&format!("{subject} {} idle {}", cell.idle, summary.describe(cell.load)));
    let again = if again > 1 { format!("-{again}") } else { String::new() };
    format!("{name}{again}.hlog")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::hlog::histogram;
    use crate::report::sample;

    #[test]
    fn every_cell_has_a_verdict_and_what_is_ranked_below_the_best_says_what_it_could_have_found() {
        for (name, record) in sample::all() {
            let summary = Summary::of(&record);
            let mut bytes = Vec::new();
            write_verdicts(&summary, &mut bytes).expect("to memory");
            let verdicts: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            let cells = verdicts["cells"].as_array().expect("a list");
            assert_eq!(cells.len(), summary.cells.len(), "{name}");
            for cell in cells {
                let compared = ["lose", "indistinguishable"].iter().any(|word| cell["verdict"] == *word);
                assert!(!compared || cell["smallest_effect"].as_f64() >= verdicts["margin"].as_f64(), "{name}: {cell}");
                let absent = ["missing", "void"].iter().any(|word| cell["verdict"] == *word);
                assert_eq!(absent, cell["reason"].is_string(), "{name}: {cell}");
            }
            let lose = cells.iter().filter(|cell| cell["verdict"] == "lose").count();
            assert!(lose as u64 <= verdicts["pairs"]["differ"].as_u64().expect("a number"), "{name}");
        }
    }

    #[test]
    fn the_logs_hold_what_the_trials_hold() {
        for (name, record) in sample::all() {
            let directory = std::env::temp_dir().join(format!("pollmark-logs-{}", std::process::id()));
            let _ = fs::remove_dir_all(&directory);
            let summary = Summary::of(&record);
            write_logs(&summary, &directory).expect("writable");
            let (mut expected, mut found) = (0_u128, 0_u128);
            let subjects = record.trials.iter().filter(|trial| !trial.ceiling).map(|trial| &trial.subject);
            for subject in subjects.collect::<BTreeSet<_>>() {
                for cell in record.cells_of(subject) {
                    let lengths = cell.timed().map(|trial| u128::from(histogram(&trial.latency).len()));
                    expected += lengths.sum::<u128>();
                }
            }
            for entry in fs::read_dir(directory.join(LATENCY)).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let log = Log::read(&fs::read(&path).expect("written")).unwrap_or_else(|error| panic!("{error}"));
                let latencies = log.intervals.iter().filter(|one| one.tag.is_none());
                found += latencies.map(|one| u128::from(one.histogram.len())).sum::<u128>();
            }
            assert_eq!(found, expected, "{name}");
            if name == "ordinary" {
                let log = fs::read(directory.join(LATENCY).join("poll-5000-idle-10-active.hlog")).expect("its name");
                let log = Log::read(&log).expect("ours");
                let cells = record.cells_of("poll");
                let cell = cells.iter().find(|cell| cell.idle == 5_000 && cell.load.active == 10).expect("measured");
                let of_trials = cell.timed().map(|trial| histogram(&trial.latency)).collect::<Vec<_>>();
                assert!(log.intervals.iter().map(|one| &one.histogram).eq(&of_trials) && !of_trials.is_empty());
                assert!(log.start.is_some());
            }
            let _ = fs::remove_dir_all(&directory);
        }
    }

    #[test]
    fn the_model_is_written_as_it_is_told() {
        let record = sample::ordinary();
        let mut bytes = Vec::new();
        write_fit(&record, &mut bytes).expect("to memory");
        let json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        for (fit, written) in fits(&record).iter().zip(json["fits"].as_array().expect("a list")) {
            assert_eq!(
                (written["subject"].as_str(), written["trials"].as_u64()),
                (Some(&*fit.subject), Some(fit.trials as u64))
            );
            let ends = fit.watched.interval.expect("several rounds");
            assert_eq!(written["watched"]["value"].as_f64(), Some(fit.watched.value));
            assert_eq!(written["watched"]["interval"]["high"].as_f64(), Some(ends.high));
        }
        assert_eq!(json["crossovers"].as_array().map(Vec::len), Some(crossovers(&record).len()));
    }
}
