//! What every figure is made of, trial by trial: trials.csv, and a table on the page under each load, so that each number can
//! be traced to the rows of raw data it comes from.
//!
//! A trial is told by its place in the record: `trials[17]` of results.json is line 17 of trials.csv, the first being 0.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;

use super::format::{grouped, micros, three_digits};
use super::html;
use super::summary::Summary;
use super::table::{Column, Kind, Row, Table};
use super::wording::Wording;
use crate::measure::record::{Load, Record, Trial};

/// A line of trials.csv. What is not known is empty.
#[derive(Serialize)]
struct Line<'a> {
    trial: usize,
    subject: &'a str,
    mechanism: &'a str,
    control: bool,
    ceiling: bool,
    counted: bool,
    round: u32,
    visit: u32,
    idle: u32,
    active: u32,
    payload_bytes: usize,
    outstanding: usize,
    exchanges_per_connection: u64,
    transport: String,
    firehoses: u32,
    offered_percent: Option<u32>,
    offered_per_second: Option<u32>,
    arrivals: Option<String>,
    began_ns: Option<u64>,
    duration_ns: u64,
    requests: u64,
    bytes: u64,
    errors: u64,
    server_cpu_ns: Option<u64>,
    server_user_ns: Option<u64>,
    server_system_ns: Option<u64>,
    client_cpu_ns: Option<u64>,
    waits: u64,
    events: u64,
    wait_calls: u64,
    change_calls: u64,
    accepts: u64,
    reads: u64,
    writes: u64,
    calls: u64,
    calls_derived: bool,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    instructions_user: Option<u64>,
    instructions_kernel: Option<u64>,
    server_rss_bytes: Option<u64>,
    established: Option<u64>,
    steal_ns: Option<u64>,
    client_limited: Option<bool>,
    void: Option<&'a str>,
}

/// Writes every trial of the record, void ones and those of the ceiling, too: a line for each, in their order there.
///
/// # Errors
/// What writing gave.
pub fn write(record: &Record, out: impl io::Write) -> io::Result<()> {
    let mut writer = ::csv::Writer::from_writer(out);
    for (at, trial) in record.trials.iter().enumerate() {
        writer.serialize(line(record, at, trial))?;
    }
    writer.flush()
}

fn line<'a>(record: &Record, at: usize, one: &'a Trial) -> Line<'a> {
    let load = record.settings.load_of(one);
    let offered = load.offered;
    let latencies = one.latencies();
    Line {
        trial: at,
        subject: &one.subject,
        mechanism: &one.mechanism,
        control: one.control,
        ceiling: one.ceiling,
        counted: one.counted,
        round: one.round,
        visit: one.order,
        idle: one.idle,
        active: one.active,
        payload_bytes: load.traffic.payload,
        outstanding: load.traffic.outstanding,
        exchanges_per_connection: load.traffic.exchanges,
        transport: load.transport.to_string(),
        firehoses: load.firehoses,
        offered_percent: offered.filter(|offered| offered.per_second.is_none()).map(|offered| offered.percent),
        offered_per_second: offered.and_then(|offered| offered.per_second),
        arrivals: offered.map(|offered| offered.arrivals.to_string()),
        began_ns: one.began_ns,
        duration_ns: one.duration_ns,
        requests: one.requests,
        bytes: one.bytes,
        errors: one.errors,
        server_cpu_ns: one.server_cpu_ns,
        server_user_ns: one.server_user_ns,
        server_system_ns: one.server_system_ns,
        client_cpu_ns: one.client_cpu_ns,
        waits: one.ledger.waits,
        events: one.ledger.events,
        wait_calls: one.ledger.wait_calls,
        change_calls: one.ledger.change_calls,
        accepts: one.ledger.accepts,
        reads: one.ledger.reads,
        writes: one.ledger.writes,
        calls: one.ledger.calls,
        calls_derived: one.ledger.derived,
        p50_ns: latencies.percentile(0.5),
        p99_ns: latencies.percentile(0.99),
        instructions_user: one.instructions_user,
        instructions_kernel: one.instructions_kernel,
        server_rss_bytes: one.server_rss_bytes,
        established: one.established,
        steal_ns: one.steal_ns,
        client_limited: one.client_limited,
        void: one.void.as_deref(),
    }
}

/// How the figures of a table come of the trials below it.
pub(super) const LEGEND: &str = "Below each table are the trials its figures are made of, by their numbers: line 17 of \
    trials.csv is trials[17] of results.json. CPU for a request is the median over the rounds, × best the median of the \
    ratios within each round, as are rates; calls, and events for each wait, are all of them by all requests or waits; \
    percentiles are those of all rounds together. One void trial voids its cell.";

/// So many trials are for readers; of a record with more, the page names the lines of trials.csv.
const MOST: usize = 2_000;

/// The trials of a record by the table they belong to.
pub(super) struct Trials<'a> {
    by_table: BTreeMap<(u32, Load), Vec<(usize, &'a Trial)>>,
    are_shown: bool,
}

impl<'a> Trials<'a> {
    pub(super) fn of(record: &'a Record) -> Trials<'a> {
        let mut by_table = BTreeMap::<_, Vec<_>>::new();
        for (at, trial) in record.trials.iter().enumerate() {
            by_table.entry((trial.idle, record.settings.load_of(trial))).or_default().push((at, trial));
        }
        Trials { by_table, are_shown: record.trials.len() <= MOST }
    }

    /// Those behind one table, to be unfolded on the page.
    pub(super) fn draw(&self, out: &mut String, summary: &Summary<'_>, idle: u32, load: Load) {
        let Some(trials) = self.by_table.get(&(idle, load)) else { return };
        if !self.are_shown {
            return html::paragraph(out, "note", &format!("Made of {}.", numbers(trials)));
        }
        let count = grouped(trials.len() as u64);
        let trials_word = if trials.len() == 1 { "trial" } else { "trials" };
        let _ = writeln!(out, "<details><summary>The {count} {trials_word} behind these figures</summary>");
        html::draw(out, &summary.subjects, &table(summary, trials, super::table::load(summary, idle, load)));
        out.push_str("</details>\n");
    }
}

/// Which they are, where they are too many to be shown.
fn numbers(trials: &[(usize, &Trial)]) -> String {
    let mut runs = Vec::<(usize, usize)>::new();
    for (at, _) in trials {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *at => *last = *at,
            _ => runs.push((*at, *at)),
        }
    }
    let run =
        |(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}–{last}") };
    format!("the lines {} of trials.csv", runs.iter().map(run).collect::<Vec<_>>().join(", "))
}

fn table(summary: &Summary<'_>, trials: &[(usize, &Trial)], title: String) -> Table {
    let short = Wording::of(summary.record).short;
    let heads = [
        "trial",
        "mechanism",
        "round",
        "visit",
        "req",
        "ms",
        "CPU µs",
        "CPU µs/req",
        "p50 µs",
        "p99 µs",
        "waits",
        "events",
        "calls",
        "what it was",
    ];
    let column = |head: &str| Column {
        head: if head == "req" { format!("{short}s") } else { head.replace("req", short) },
        right: !matches!(head, "mechanism" | "what it was"),
        // So that what nobody knows is left out; the page leaves out nothing else.
        expendable: u8::from(!matches!(head, "trial" | "mechanism")),
    };
    let mut trials = trials.to_vec();
    trials.sort_by(|(_, one), (_, other)| {
        (place(summary, one), one.counted, one.round).cmp(&(place(summary, other), other.counted, other.round))
    });
    let rows = trials.into_iter().map(|(at, trial)| row(at, trial)).collect();
    let mut table =
        Table { title: format!("Trials: {title}"), columns: heads.iter().map(|head| column(head)).collect(), rows };
    table.leave_out_unknown();
    table
}

/// In the order of the rows everywhere; the ceiling, which is none, last.
fn place(summary: &Summary<'_>, trial: &Trial) -> usize {
    summary.subjects.iter().position(|subject| subject.name == trial.subject).unwrap_or(usize::MAX)
}

fn row(at: usize, trial: &Trial) -> Row {
    let none = || "–".to_owned();
    let latencies = trial.latencies();
    let percentile = |part| latencies.percentile(part).map_or_else(none, |ns| micros(ns as f64));
    let count = |count: u64| if count == 0 { none() } else { grouped(count) };
    let what = match &trial.void {
        Some(why) => format!("void: {why}"),
        None if trial.errors > 0 => format!("void: {} exchanges or connections failed", trial.errors),
        None if trial.counted => "instructions alone are used of it".to_owned(),
        None => none(),
    };
    let cells = vec![
        at.to_string(),
        trial.subject.clone(),
        (u64::from(trial.round) + 1).to_string(),
        trial.order.to_string(),
        grouped(trial.requests),
        three_digits(trial.duration_ns as f64 / 1e6),
        trial.server_cpu_ns.map_or_else(none, |ns| grouped(ns / 1_000)),
        trial.request_ns().map_or_else(none, micros),
        percentile(0.5),
        percentile(0.99),
        count(trial.ledger.waits),
        count(trial.ledger.events),
        count(trial.ledger.calls),
        what,
    ];
    let kind = if trial.control || trial.ceiling { Kind::Control } else { Kind::Ordinary };
    Row { kind, cells, reason: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::stats::median;
    use crate::report::{csv, html, sample};

    type Lines = Vec<BTreeMap<String, String>>;

    fn lines(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Lines {
        let mut bytes = Vec::new();
        write(&mut bytes).expect("to memory");
        // The reader refuses lines of different length.
        ::csv::Reader::from_reader(&bytes[..]).deserialize().collect::<Result<_, _>>().expect("well-formed")
    }

    #[test]
    fn every_trial_is_a_line_at_its_place_in_the_record() {
        for (kind, record) in sample::all() {
            let lines = lines(|out| write(&record, out));
            assert_eq!(lines.len(), record.trials.len(), "{kind}");
            for (at, (line, trial)) in lines.iter().zip(&record.trials).enumerate() {
                assert_eq!((line["trial"].as_str(), line["subject"].as_str()), (&*at.to_string(), &*trial.subject));
                assert_eq!(line["void"], trial.void.clone().unwrap_or_default(), "{kind}");
            }
        }
    }

    #[test]
    fn the_figures_of_results_csv_can_be_made_again_of_trials_csv() {
        let record = sample::ordinary();
        let (trials, mut made) = (lines(|out| write(&record, out)), 0);
        for cell in
            lines(|out| csv::write(&Summary::of(&record), out)).iter().filter(|cell| cell["outcome"] == "measured")
        {
            let is_of_cell = |trial: &&BTreeMap<String, String>| {
                ["subject", "idle", "active"].iter().all(|column| trial[*column] == cell[*column])
                    && trial["counted"] == "false"
            };
            let number =
                |trial: &BTreeMap<String, String>, column: &str| trial[column].parse::<f64>().expect("a number");
            let of_cell = trials.iter().filter(is_of_cell).collect::<Vec<_>>();
            let each = of_cell.iter().map(|one| number(one, "server_cpu_ns") / number(one, "requests"));
            let cost = median(&each.collect::<Vec<_>>()).expect("trials");
            assert!((cost - number(cell, "cpu_ns_per_request")).abs() < 1e-3, "{cell:?}");
            let sum = |column: &str| of_cell.iter().map(|one| number(one, column)).sum::<f64>();
            assert!((sum("calls") / sum("requests") - number(cell, "calls_per_request")).abs() < 1e-3, "{cell:?}");
            made += 1;
        }
        assert!(made > 30, "{made}");
    }

    #[test]
    fn the_page_shows_the_trials_of_each_load_or_says_which_lines_they_are() {
        let mut record = sample::ordinary();
        let shown = |record: &Record| {
            let page = html::render(&Summary::of(record));
            let every = page.split("id=\"every-load\"").nth(1).and_then(|rest| rest.split("</section>").next());
            every.expect("tables").to_owned()
        };
        let page = shown(&record);
        for at in 0..record.trials.len() {
            assert!(page.contains(&format!("<td>{at}<")), "trial {at}");
        }
        assert_eq!(page.matches("behind these figures").count(), 12);
        let again = record.trials.clone();
        while record.trials.len() <= MOST {
            record.trials.extend(again.iter().cloned());
        }
        let page = shown(&record);
        assert!(!page.contains("behind these figures") && page.contains("Made of the lines "), "{page}");
    }

    #[test]
    fn runs_of_lines_are_told_by_their_ends() {
        let trial = Trial::default();
        let of = |at: &[usize]| numbers(&at.iter().map(|at| (*at, &trial)).collect::<Vec<_>>());
        assert_eq!(of(&[0, 1, 2, 7, 9, 10]), "the lines 0–2, 7, 9–10 of trials.csv");
    }
}
