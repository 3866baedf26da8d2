//! Latency against what is offered, as tables: how far each server is from its knee.

use std::collections::BTreeSet;

use super::format::{grouped, micros};
use super::summary::{Cell, Outcome, Summary};
use super::table::{Column, Kind, Row, Table};
use crate::measure::record::Load;
use crate::workload::Offered;

/// A table for each population that was loaded by an open loop: a row for each mechanism, its capacity, and its
/// latencies at each rate; none of closed loops.
pub(super) fn tables(summary: &Summary<'_>) -> Vec<Table> {
    let without = |load: &Load| Load { offered: None, ..*load };
    let open = summary.loads.iter().filter(|load| load.offered.is_some());
    let others = open.map(without).collect::<BTreeSet<_>>();
    let places = summary.idle.iter().flat_map(|&idle| others.iter().map(move |&other| (idle, other)));
    let table = |(idle, other): (u32, Load)| {
        let at_place =
            |load: &Load| load.offered.is_some() && without(load) == other && summary.is_measured(idle, *load);
        let columns = summary.loads.iter().copied().filter(at_place).collect::<Vec<_>>();
        (!columns.is_empty()).then(|| at(summary, idle, other, &columns))
    };
    places.filter_map(table).collect()
}

fn at(summary: &Summary<'_>, idle: u32, other: Load, columns: &[Load]) -> Table {
    let head = |load: &Load| load.offered.as_ref().map(Offered::to_string).unwrap_or_default();
    let column = |head: String, right: bool| Column { head, right, expendable: 0 };
    let row = |subject: usize| {
        let cells = columns.iter().map(|load| &summary.table(idle, *load)[subject]).collect::<Vec<_>>();
        let texts = cells.iter().map(|cell| glance(cell));
        let named = [summary.subjects[subject].name.clone(), capacity(&cells)];
        let kind = if summary.subjects[subject].control { Kind::Control } else { Kind::Ordinary };
        Row { kind, cells: named.into_iter().chain(texts).collect(), reason: None }
    };
    let named = [column("mechanism".to_owned(), false), column("capacity/s".to_owned(), true)];
    Table {
        title: format!(
            "Latency p50 / p99 µs from when each was due, {}, {} idle",
            summary.describe(other),
            grouped(idle.into())
        ),
        columns: named.into_iter().chain(columns.iter().map(|load| column(head(load), true))).collect(),
        rows: (0..summary.subjects.len()).map(row).collect(),
    }
}

/// That of the first cell that knows it: it was found out once for all of them.
fn capacity(cells: &[&Cell]) -> String {
    let known = cells.iter().find_map(|cell| {
        let open = cell.figures()?.open.as_ref()?;
        let limited = if open.capacity_limited { "†" } else { "" };
        Some(format!("{}{limited}", grouped(open.capacity?.value.round() as u64)))
    });
    known.unwrap_or_else(|| "–".to_owned())
}

fn glance(cell: &Cell) -> String {
    let figures = match &cell.outcome {
        Outcome::Measured(figures) => figures,
        Outcome::Missing(_) => return "–".to_owned(),
        Outcome::Void(_) => return "void".to_owned(),
    };
    let text = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), |ns| micros(ns as f64));
    let limited = if figures.client_limited { "†" } else { "" };
    format!("{} / {}{limited}", text(figures.p50_ns), text(figures.p99_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn each_rate_is_a_column_and_a_load_that_was_late_is_marked() {
        let record = sample::open_loop();
        let tables = tables(&Summary::of(&record));
        let titles = tables.iter().map(|table| table.title.as_str()).collect::<Vec<_>>();
        assert_eq!(titles.len(), 2, "one for each number of idle connections: {titles:?}");
        assert_eq!(titles[0], "Latency p50 / p99 µs from when each was due, 10 active, 0 idle");
        let heads = tables[0].columns.iter().map(|column| column.head.as_str()).collect::<Vec<_>>();
        assert_eq!(heads, ["mechanism", "capacity/s", "50 % of capacity", "110 % of capacity"]);
        let epoll = tables[0].rows.iter().find(|row| row.cells[0] == "epoll").expect("a row");
        assert_eq!(epoll.cells[1..], ["100,000†", "40.0 / 400", "4,000 / 40,000†"].map(str::to_owned));
        assert!(super::tables(&Summary::of(&sample::ordinary())).is_empty(), "a closed loop has none");
    }

    #[test]
    fn a_percentile_that_falls_among_what_was_never_sent_is_not_told() {
        let mut record = sample::open_loop();
        let open = record.trials.iter_mut().filter_map(|trial| trial.open_loop.as_mut());
        open.filter(|open| open.offered.percent == 110).for_each(|open| open.unsent = 30);
        let tables = tables(&Summary::of(&record));
        let epoll = tables[0].rows.iter().find(|row| row.cells[0] == "epoll").expect("a row");
        assert_eq!(epoll.cells[2..], ["40.0 / 400", "4,000 / –"].map(str::to_owned), "three of two hundred");
    }
}
