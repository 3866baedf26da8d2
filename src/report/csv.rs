//! results.csv: one line for each cell, for spreadsheets and plotting programs; units in the names of the columns.

use std::io;

use super::prediction::Reasoned;
use super::summary::{Cell, Figures, Outcome, Standing, Summary};
use crate::exercise::Exercise;
use crate::measure::prediction::{Explained, Part};
use crate::measure::stats::Estimate;

const COLUMNS: [&str; 70] = [
    "subject",
    "mechanism",
    "control",
    "idle",
    "active",
    "payload_bytes",
    "outstanding",
    "exchanges_per_connection",
    "transport",
    "firehoses",
    "offered_percent",
    "arrivals",
    "outcome",
    "reason",
    "rounds",
    "rank",
    "ratio_to_best",
    "ratio_low",
    "ratio_high",
    "smallest_effect",
    "cpu_ns_per_request",
    "cpu_ns_low",
    "cpu_ns_high",
    "cpu_user_share",
    "requests_per_second",
    "requests_per_second_low",
    "requests_per_second_high",
    "ceiling_share",
    "client_limited",
    "latency_samples",
    "p50_ns",
    "p99_ns",
    "p99_9_ns",
    "capacity_per_second",
    "due_per_second",
    "unsent_share",
    "sent_p50_ns",
    "sent_p99_ns",
    "sent_p99_9_ns",
    "slip_p50_ns",
    "slip_p99_ns",
    "jain",
    "most_to_least",
    "firehose_bytes_per_second",
    "calls_per_request",
    "calls_derived",
    "events_per_wait",
    "instructions_user_per_request",
    "instructions_kernel_per_request",
    "memory_bytes_per_idle_connection",
    "seed",
    "started",
    "task",
    "channel",
    "wait",
    "place",
    "chained_writes",
    "numbers_from",
    "class",
    "predicted_ns_per_request",
    "residual",
    "waits_ns",
    "events_ns",
    "scanning_ns",
    "sleeping_ns",
    "receiving_ns",
    "sending_ns",
    "waking_ns",
    "connections_ns",
    "changes_ns",
];

/// Writes every cell; what is unknown is empty.
///
/// # Errors
/// What writing gave.
pub fn write(summary: &Summary<'_>, out: impl io::Write) -> io::Result<()> {
    let mut writer = ::csv::Writer::from_writer(out);
    writer.write_record(COLUMNS)?;
    let reasoned = Reasoned::of(summary);
    for cell in &summary.cells {
        let subject = &summary.subjects[cell.subject];
        let mut line = vec![
            subject.name.clone(),
            subject.mechanism.clone(),
            subject.control.to_string(),
            cell.idle.to_string(),
            cell.load.active.to_string(),
            cell.load.traffic.payload.to_string(),
            cell.load.traffic.outstanding.to_string(),
            cell.load.traffic.exchanges.to_string(),
            cell.load.transport.to_string(),
            cell.load.firehoses.to_string(),
            text(cell.load.offered.filter(|offered| offered.per_second.is_none()).map(|offered| offered.percent)),
            text(cell.load.offered.map(|offered| offered.arrivals)),
        ];
        line.extend(outcome(cell));
        line.extend([summary.record.seed.to_string(), summary.record.started.clone()]);
        line.extend(alone(cell));
        line.push(subject.class.clone().unwrap_or_default());
        line.extend(explained(reasoned.as_ref().and_then(|reasoned| reasoned.explained(summary, cell))));
        writer.write_record(line)?;
    }
    writer.flush()
}

/// What is predicted of it, what that leaves, and the parts; nothing, if nothing is.
fn explained(one: Option<&Explained>) -> Vec<String> {
    let Some(one) = one else { return vec![String::new(); 2 + Part::ALL.len()] };
    let parts = Part::ALL.into_iter().map(|part| one.share(part).ns());
    [one.predicted_ns(), one.residual()].into_iter().chain(parts).map(|value| rounded(Some(value))).collect()
}

/// What a poller did by itself; nothing of a server.
fn alone(cell: &Cell) -> [String; 6] {
    let Some(exercise) = &cell.load.exercise else { return Default::default() };
    let Exercise { task, channel, wait, place, chained_writes, numbers_from } = exercise;
    let words = [&task as &dyn ToString, channel, wait, place, chained_writes, numbers_from];
    words.map(ToString::to_string)
}

fn outcome(cell: &Cell) -> Vec<String> {
    let (word, reason) = match &cell.outcome {
        Outcome::Measured(figures) => return [vec!["measured".to_owned(), String::new()], texts(figures)].concat(),
        Outcome::Missing(reason) => ("missing", reason),
        Outcome::Void(reason) => ("void", reason),
    };
    let mut line = vec![word.to_owned(), reason.clone()];
    // As many as there are between the reason and the seed.
    let place = |name: &str| COLUMNS.iter().position(|column| *column == name).expect("a column's name");
    line.resize(place("seed") - place("outcome"), String::new());
    line
}

/// Empty if it is not known.
fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn rounded(value: Option<f64>) -> String {
    text(value.map(|value| (value * 1e4).round() / 1e4))
}

fn texts(figures: &Figures) -> Vec<String> {
    let ends = |estimate: Option<Estimate>| {
        let interval = estimate.and_then(|estimate| estimate.interval);
        [estimate.map(|one| one.value), interval.map(|one| one.low), interval.map(|one| one.high)].map(rounded)
    };
    let rank = match figures.standing {
        Standing::Best | Standing::Indistinguishable => "1".to_owned(),
        Standing::Rank(rank) => rank.to_string(),
        Standing::Unranked => String::new(),
    };
    let mut line = vec![figures.rounds.to_string(), rank];
    line.extend(ends(figures.ratio));
    line.push(rounded(figures.smallest_effect));
    line.extend(ends(figures.cpu_ns));
    line.push(rounded(figures.user_share));
    line.extend(ends(figures.throughput));
    line.push(rounded(figures.ceiling_share));
    line.extend([figures.client_limited.to_string(), figures.samples.to_string()]);
    line.extend([figures.p50_ns, figures.p99_ns, figures.p999_ns].map(text));
    let open = figures.open.as_ref();
    let capacity = open.and_then(|open| open.capacity).map(|capacity| capacity.value);
    line.extend([capacity, open.and_then(|open| open.due), open.map(|open| open.unsent)].map(rounded));
    line.extend([0, 1, 2].map(|at| text(open.and_then(|open| open.from_send_ns[at]))));
    line.extend([0, 1].map(|at| text(open.and_then(|open| open.slip_ns[at]))));
    let firehoses = figures.firehoses.map(|bytes| bytes.value);
    line.extend([figures.jain, figures.most_to_least, firehoses].map(rounded));
    line.extend([rounded(figures.calls), figures.calls_derived.to_string(), rounded(figures.events_per_wait)]);
    line.extend([figures.instructions_user, figures.instructions_kernel, figures.memory_bytes].map(rounded));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_cell_is_a_line_as_long_as_the_heading() {
        for (name, record) in sample::all() {
            let summary = Summary::of(&record);
            let mut bytes = Vec::new();
            write(&summary, &mut bytes).expect("to memory");
            // The reader refuses lines of different length.
            let mut reader = ::csv::Reader::from_reader(&bytes[..]);
            let lines = reader.records().collect::<Result<Vec<_>, _>>().expect("well-formed");
            assert_eq!(lines.len(), summary.cells.len(), "{name}");
        }
    }

    #[test]
    fn a_figure_stands_below_its_name() {
        let record = sample::ordinary();
        let mut bytes = Vec::new();
        write(&Summary::of(&record), &mut bytes).expect("to memory");
        let mut reader = ::csv::Reader::from_reader(&bytes[..]);
        let lines = reader.deserialize::<std::collections::BTreeMap<String, String>>();
        let lines = lines.collect::<Result<Vec<_>, _>>().expect("well-formed");
        let epoll = lines.iter().find(|line| line["subject"] == "epoll" && line["idle"] == "5000").expect("a row");
        assert_eq!((epoll["instructions_user_per_request"].as_str(), epoll["rank"].as_str()), ("104", "1"));
        assert_eq!((epoll["ratio_to_best"].as_str(), epoll["seed"].as_str()), ("1", "42"));
        let void = lines.iter().find(|line| line["outcome"] == "void").expect("threads");
        assert!(void["reason"].starts_with("wrong byte") && void["cpu_ns_per_request"].is_empty());
    }
}
