//! Reasons: each cell taken apart into what its calls cost, what that leaves, and what makes one row cost more than another.
//!
//! | idea | file |
//! |---|---|
//! | every cell taken apart, and the tables | here |
//! | what a difference consists of, in sentences | `reasons.rs` |
//! | on the page: the bars, and a section of their own | `page.rs` |

mod page;
mod reasons;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::format::{grouped, micros, three_digits};
use super::summary::{Cell, Summary};
use super::table::{self, Column, Kind, Row, Table};
use crate::measure::prediction::{ANOMALY, Explained, Explainer, Part};
use crate::measure::record::Load;
use crate::measure::units::{Asked, Carried, LARGEST};
use crate::workload::Transport;

pub(super) use page::{bars, is_told, section, why};
pub(super) use reasons::{anomalies, reasons, reasons_of};

/// How the tables are to be read.
pub(super) const LEGEND: &str = "Predicted: what single calls cost here, measured in each round apart from all cells, times how \
    often the server made them; nothing is fitted. Sending includes what the kernel does at the receiver's end, waking is what \
    it costs more if the receiver sleeps. Left: what the prediction leaves of what was measured; * above 15 % either way, \
    which has to be named.";

/// Every cell of a summary, taken apart where it can be; in the order of its cells.
pub(super) struct Reasoned(Vec<Option<Result<Explained, String>>>);

impl Reasoned {
    /// `None` if the record has no calibration: then nothing is said of it, as before there were any.
    pub(super) fn of(summary: &Summary<'_>) -> Option<Reasoned> {
        if summary.record.calibrations.is_empty() {
            return None;
        }
        let explainer = Explainer::of(summary.record);
        let explain = |cell: &Cell| {
            let subject = &summary.subjects[cell.subject];
            let measured = cell.figures()?.cpu_ns?.value;
            Some(explainer.explain(&subject.mechanism, &summary.trials(cell), measured))
        };
        Some(Reasoned(summary.cells.iter().map(explain).collect()))
    }

    /// Of a cell of the summary.
    pub(super) fn explained(&self, summary: &Summary<'_>, cell: &Cell) -> Option<&Explained> {
        self.of_cell(summary, cell)?.as_ref().ok()
    }

    fn of_cell(&self, summary: &Summary<'_>, cell: &Cell) -> Option<&Result<Explained, String>> {
        let load = summary.loads.binary_search(&cell.load).ok()?;
        let idle = summary.idle.binary_search(&cell.idle).ok()?;
        self.0.get((idle * summary.loads.len() + load) * summary.subjects.len() + cell.subject)?.as_ref()
    }
}

/// A table of the cells with this idle population under this load: what each part of each row comes to, in microseconds.
/// `None` if none of them was measured.
pub(super) fn table(summary: &Summary<'_>, reasoned: &Reasoned, idle: u32, load: Load) -> Option<Table> {
    let cells = summary.ranked(idle, load).into_iter().filter(|cell| cell.figures().is_some()).collect::<Vec<_>>();
    let explained = cells.iter().filter_map(|cell| reasoned.explained(summary, cell)).collect::<Vec<_>>();
    if explained.is_empty() {
        return None;
    }
    let parts = Part::ALL.into_iter().filter(|part| explained.iter().any(|one| one.share(*part).ns() >= 0.5));
    let parts = parts.collect::<Vec<_>>();
    let heads = ["mechanism", "measured", "predicted", "from–to", "left"];
    let heads = heads.into_iter().chain(parts.iter().map(|part| part.name()));
    let column = |head: &str| Column {
        head: head.to_owned(),
        right: head != "mechanism",
        expendable: u8::from(head == "from–to"),
    };
    let row = |cell: &&Cell| {
        let subject = &summary.subjects[cell.subject];
        let measured =
            cell.figures().and_then(|figures| figures.cpu_ns).map_or("–".to_owned(), |cpu| micros(cpu.value));
        let kind = if subject.control { Kind::Control } else { Kind::Ordinary };
        let lead = vec![subject.name.clone(), measured];
        match reasoned.of_cell(summary, cell) {
            Some(Ok(one)) => {
                let interval =
                    one.interval.map_or("–".to_owned(), |at| format!("{}–{}", micros(at.low), micros(at.high)));
                let told = vec![micros(one.predicted_ns()), interval, left(one)];
                let of_parts = parts.iter().map(|part| micros(one.share(*part).ns())).collect();
                Row { kind, cells: [lead, told, of_parts].concat(), reason: None }
            }
            Some(Err(why)) => Row { kind, cells: lead, reason: Some(format!("not predicted: {why}")) },
            None => Row { kind, cells: lead, reason: Some("its CPU time is not known".to_owned()) },
        }
    };
    Some(Table {
        title: format!("CPU µs per request by what it is spent on, {}", table::load(summary, idle, load)),
        columns: heads.map(column).collect(),
        rows: cells.iter().map(row).collect(),
    })
}

/// The residual of a cell: `+4 %`, `-21 %*`.
fn left(one: &Explained) -> String {
    format!("{:+.0} %{}", one.residual() * 100.0, if one.is_anomaly() { "*" } else { "" })
}

/// A table of what calls cost, a row for each mechanism; and one of those that are no mechanism's.
pub(super) fn units(summary: &Summary<'_>) -> Vec<Table> {
    let explainer = Explainer::of(summary.record);
    let mut over: BTreeMap<(Transport, u64), Vec<&str>> = BTreeMap::new();
    for load in summary.loads.iter().filter(|load| load.traffic.payload <= LARGEST) {
        let mechanisms = over.entry((load.transport, load.traffic.payload as u64)).or_default();
        for subject in &summary.subjects {
            if !mechanisms.contains(&subject.mechanism.as_str()) {
                mechanisms.push(&subject.mechanism);
            }
        }
    }
    let (mut waiting, mut shared): (Vec<Row>, Vec<Row>) = Default::default();
    let ordinary = |cells: Vec<String>| Row { kind: Kind::Ordinary, cells, reason: None };
    let mut seen: Vec<(Transport, &str)> = Vec::new();
    for (&(transport, payload), mechanisms) in &over {
        let mut of_calls = None;
        for &mechanism in mechanisms {
            let Some(units) = explainer.units(Asked { mechanism, carried: Carried::whole(transport, payload) }) else {
                continue;
            };
            of_calls = Some(units.shared);
            if seen.contains(&(transport, mechanism)) {
                continue;
            }
            seen.push((transport, mechanism));
            let (most, none) = (units.scan.most(), 0.0);
            let a_descriptor = |cost: f64| three_digits(if most > none { cost / most } else { none });
            waiting.push(ordinary(vec![
                mechanism.to_owned(),
                transport.to_string(),
                three_digits(units.wait),
                three_digits(units.event),
                a_descriptor(units.scan.at(most)),
                three_digits(units.sleep),
                a_descriptor(units.scan_asleep.at(most)),
                grouped(most as u64),
                three_digits(units.add),
                units.modify.map_or("–".to_owned(), three_digits),
                three_digits(units.remove),
            ]));
        }
        let Some(calls) = of_calls else { continue };
        let costs =
            [calls.receive, calls.send, calls.wake, calls.receive_asleep, calls.nothing, calls.accept, calls.close];
        let place = vec![transport.to_string(), grouped(payload)];
        shared.push(ordinary([place, costs.map(three_digits).to_vec()].concat()));
    }
    let columns = |heads: &[&str], left: usize| {
        let column = |(at, head): (usize, &&str)| Column { head: (*head).to_owned(), right: at >= left, expendable: 0 };
        heads.iter().enumerate().map(column).collect::<Vec<_>>()
    };
    let of_mechanisms = Table {
        title: "What waiting costs here, ns of CPU".to_owned(),
        columns: columns(
            &[
                "mechanism",
                "over",
                "wait",
                "each event",
                "each watched",
                "sleep",
                "each watched",
                "of",
                "add",
                "modify",
                "remove",
            ],
            2,
        ),
        rows: waiting,
    };
    let of_all = Table {
        title: "What other calls cost here, ns of CPU".to_owned(),
        columns: columns(
            &["over", "bytes", "receive", "send", "and wake", "receive asleep", "in vain", "accept", "close"],
            1,
        ),
        rows: shared,
    };
    [of_mechanisms, of_all].into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// The reasons in the table that the finding is about, a line each, and how many cells are anomalies.
pub(super) fn finding(summary: &Summary<'_>) -> Vec<String> {
    let Some(reasoned) = Reasoned::of(summary) else { return Vec::new() };
    let fewest = summary.loads.iter().find(|&&load| summary.idle.iter().any(|&idle| summary.is_measured(idle, load)));
    let Some(&load) = fewest else { return Vec::new() };
    let Some(idle) = summary.idle.iter().copied().rfind(|&idle| summary.is_measured(idle, load)) else {
        return Vec::new();
    };
    let mut lines = reasons_of(summary, &reasoned, idle, load);
    let of = summary.cells.iter().filter(|cell| !summary.subjects[cell.subject].control);
    let predicted = of.filter(|cell| reasoned.explained(summary, cell).is_some()).count();
    let anomalies = anomalies(summary, &reasoned);
    if predicted > 0 {
        let named = anomalies.len();
        lines.push(format!(
            "From the calibration {predicted} cells are predicted, {} of them within 15 %; the others are named in the report.",
            predicted - named
        ));
    }
    lines
}

/// What other programs want of it: each cell with its parts, what they leave, and the reasons.
pub(super) fn json(summary: &Summary<'_>) -> Value {
    let Some(reasoned) = Reasoned::of(summary) else {
        return json!({"unit": UNIT, "cells": [], "anomalies": [], "reasons": []});
    };
    let cell = |cell: &Cell| {
        let told = reasoned.of_cell(summary, cell)?;
        let subject = &summary.subjects[cell.subject];
        let place = json!({"subject": subject.name, "idle": cell.idle, "load": summary.describe(cell.load)});
        Some(match told {
            Err(why) => json!({"cell": place, "not_predicted": why}),
            Ok(one) => {
                let parts = Part::ALL.into_iter().map(|part| (part.name().to_owned(), json!(one.share(part))));
                json!({
                    "cell": place,
                    "measured_ns": one.measured_ns, "predicted_ns": one.predicted_ns(), "interval": one.interval,
                    "residual": one.residual(), "anomaly": one.is_anomaly(), "cause": one.cause,
                    "parts": parts.collect::<serde_json::Map<_, _>>(),
                })
            }
        })
    };
    json!({
        "unit": UNIT,
        "anomaly_above": ANOMALY,
        "cells": summary.cells.iter().filter_map(cell).collect::<Vec<_>>(),
        "anomalies": anomalies(summary, &reasoned).into_iter().map(|(place, why)| format!("{place}: {why}")).collect::<Vec<_>>(),
        "reasons": reasons(summary, &reasoned),
    })
}

const UNIT: &str = "ns of CPU time of the server for each request";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_table_shows_each_part_and_what_they_leave() {
        let record = sample::calibrated();
        let summary = Summary::of(&record);
        let reasoned = Reasoned::of(&summary).expect("calibrated");
        let table = table(&summary, &reasoned, 5_000, summary.loads[0]).expect("measured");
        let heads = table.columns.iter().map(|column| column.head.as_str()).collect::<Vec<_>>();
        assert_eq!(heads[..5], ["mechanism", "measured", "predicted", "from–to", "left"]);
        assert_eq!(heads[5..], ["waits", "events", "scanning", "sleeping", "receiving", "sending", "waking"]);
        let poll = table.rows.iter().find(|row| row.cells[0] == "poll").expect("a row");
        let numbers = poll.cells[5..].iter().map(|text| text.replace(',', "").parse::<f64>().expect("a number"));
        let predicted = poll.cells[2].parse::<f64>().expect("a number");
        assert!((numbers.sum::<f64>() - predicted).abs() < 0.02 * predicted, "{:?}", poll.cells);
        assert!(poll.cells[7].starts_with("450") && poll.cells[4].ends_with("0 %"), "{:?}", poll.cells);
    }

    #[test]
    fn a_row_that_loses_has_its_reason_and_the_best_has_none() {
        let record = sample::calibrated();
        let summary = Summary::of(&record);
        let reasoned = Reasoned::of(&summary).expect("calibrated");
        let said = reasons_of(&summary, &reasoned, 5_000, summary.loads[0]);
        assert_eq!(said.len(), 2, "{said:?}");
        let poll = said.iter().find(|line| line.starts_with("poll costs ")).expect("it loses");
        assert!(poll.contains("what epoll does at 1 active, 5,000 idle: "), "{poll}");
        assert!(
            poll.contains(" % of the difference is going over 5,001 descriptors, 90.0 ns each at a wait, "),
            "{poll}"
        );
        assert!(finding(&summary).starts_with(&said));
    }

    #[test]
    fn a_difference_of_which_no_call_tells_is_not_given_a_reason() {
        let mut record = sample::calibrated();
        for trial in record.trials.iter_mut().filter(|trial| trial.subject == "epoll") {
            trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| cpu / 4);
        }
        let summary = Summary::of(&record);
        let said = reasons_of(&summary, &Reasoned::of(&summary).expect("calibrated"), 0, summary.loads[0]);
        assert!(said.iter().any(|line| line.contains("of the difference is in no call that was counted")), "{said:?}");
    }

    #[test]
    fn every_anomaly_is_named_once_and_told_apart_from_what_is_explained() {
        let record = sample::calibrated();
        let summary = Summary::of(&record);
        let reasoned = Reasoned::of(&summary).expect("calibrated");
        let named = anomalies(&summary, &reasoned);
        let of_poll = named.iter().filter(|(place, _)| place.starts_with("poll, ")).collect::<Vec<_>>();
        assert!(
            matches!(of_poll[..], [(place, why)] if place == "poll, 1 active, 1,000 idle" && why.starts_with('+')),
            "{named:?}"
        );
        assert!(named.iter().all(|(place, _)| !place.contains("A/A")), "{named:?}");
    }

    #[test]
    fn any_record_is_explained_or_left_alone() {
        for (name, record) in sample::all() {
            let summary = Summary::of(&record);
            let all = json(&summary);
            let cells = all["cells"].as_array().expect("a list");
            assert_eq!(cells.is_empty(), record.calibrations.is_empty(), "{name}");
            for cell in cells.iter().filter(|cell| cell["parts"].is_object()) {
                let parts = cell["parts"].as_object().expect("seen").values();
                let sum = parts.map(|share| {
                    share["times"].as_f64().expect("a number") * share["each_ns"].as_f64().expect("a number")
                });
                let (sum, predicted) = (sum.sum::<f64>(), cell["predicted_ns"].as_f64().expect("a number"));
                assert!((sum - predicted).abs() <= 1e-6 * predicted, "{name}: {cell}");
                assert_eq!(
                    cell["anomaly"].as_bool(),
                    cell["residual"].as_f64().map(|left| left.abs() > ANOMALY),
                    "{name}"
                );
            }
            let mut page = String::new();
            section(&mut page, &summary);
            assert_eq!(page.contains("<h2>Reasons</h2>"), !record.calibrations.is_empty(), "{name}");
        }
    }
}
