//! Tables as text cells, before anybody decides how they are drawn.

use super::format::{factor, grouped, micros, three_digits};
use super::summary::{Cell, Figures, Outcome, Standing, Summary};

/// A table: what every exporter draws in its own way.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
}

/// A column, and how soon it goes when there is no room: the highest first, 0 never.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) head: String,
    pub(super) right: bool,
    pub(super) expendable: u8,
}

/// A row: one text for each column, or fewer and the reason why.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) cells: Vec<String>,
    pub(super) reason: Option<String>,
}

/// How a row may be set off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Leading,
    Ordinary,
    Control,
    Absent,
}

/// The load of a table in words.
pub(super) fn load(idle: u32, active: u32) -> String {
    format!("{} active, {} idle", grouped(active.into()), grouped(idle.into()))
}

/// Every figure of one load, the best row first.
pub(super) fn ranking(summary: &Summary<'_>, idle: u32, active: u32) -> Table {
    let columns = [
        ("#", 0),
        ("mechanism", 0),
        ("CPU µs/req", 0),
        ("95 %", 3),
        ("× best", 0),
        ("req/s", 1),
        ("p50 µs", 4),
        ("p99 µs", 2),
        ("p99.9 µs", 7),
        ("calls/req", 5),
        ("events/wait", 6),
        ("instr/req user + kernel", 9),
        ("B/idle conn", 8),
    ];
    let column =
        |(head, expendable): (&str, u8)| Column { head: head.to_owned(), right: head != "mechanism", expendable };
    let mut table = Table {
        title: load(idle, active),
        columns: columns.into_iter().map(column).collect(),
        rows: summary.ranked(idle, active).into_iter().map(|cell| ranking_row(summary, cell)).collect(),
    };
    table.leave_out_unknown();
    table
}

impl Table {
    /// Leaves out columns of which no row knows anything: counters this host does not have, memory without idle
    /// connections.
    fn leave_out_unknown(&mut self) {
        let unknown = |at: usize| {
            let mut texts = self.rows.iter().filter_map(|row| row.cells.get(at));
            self.columns[at].expendable > 0 && texts.all(|text| *text == none())
        };
        let known = (0..self.columns.len()).map(|at| !unknown(at)).collect::<Vec<_>>();
        let mut keep = known.iter();
        self.columns.retain(|_| *keep.next().expect("one for each column"));
        for row in &mut self.rows {
            let mut keep = known.iter();
            row.cells.retain(|_| *keep.next().expect("no row has more cells than columns"));
        }
    }
}

fn ranking_row(summary: &Summary<'_>, cell: &Cell) -> Row {
    let subject = &summary.subjects[cell.subject];
    let figures = match &cell.outcome {
        Outcome::Measured(figures) => figures,
        Outcome::Missing(reason) => return absent(&subject.name, reason.clone()),
        Outcome::Void(reason) => return absent(&subject.name, format!("void: {reason}")),
    };
    let kind = match figures.standing {
        _ if subject.control => Kind::Control,
        Standing::Best | Standing::Indistinguishable => Kind::Leading,
        Standing::Rank(_) | Standing::Unranked => Kind::Ordinary,
    };
    Row { kind, cells: [vec![rank(figures), subject.name.clone()], texts(figures)].concat(), reason: None }
}

fn absent(name: &str, reason: String) -> Row {
    Row { kind: Kind::Absent, cells: vec![String::new(), name.to_owned()], reason: Some(reason) }
}

fn rank(figures: &Figures) -> String {
    match figures.standing {
        Standing::Best => "1".to_owned(),
        Standing::Indistinguishable => "=1".to_owned(),
        Standing::Rank(rank) => rank.to_string(),
        Standing::Unranked => none(),
    }
}

fn texts(figures: &Figures) -> Vec<String> {
    let limited = if figures.client_limited { "†" } else { "" };
    let latency = |ns: Option<u64>| ns.map_or_else(none, |ns| format!("{}{limited}", micros(ns as f64)));
    let interval = figures.cpu_ns.and_then(|cpu| cpu.interval);
    let instructions = figures.instructions_user.zip(figures.instructions_kernel);
    let derived = if figures.calls_derived { "~" } else { "" };
    vec![
        figures.cpu_ns.map_or_else(none, |cpu| micros(cpu.value)),
        interval.map_or_else(none, |interval| format!("{}–{}", micros(interval.low), micros(interval.high))),
        figures.ratio.map_or_else(none, |ratio| factor(ratio.value)),
        figures.throughput.map_or_else(none, |rate| format!("{}{limited}", grouped(rate.value.round() as u64))),
        latency(figures.p50_ns),
        latency(figures.p99_ns),
        latency(figures.p999_ns),
        figures.calls.map_or_else(none, |calls| format!("{derived}{calls:.2}")),
        figures.events_per_wait.map_or_else(none, three_digits),
        instructions.map_or_else(none, |(user, kernel)| format!("{} + {}", three_digits(user), three_digits(kernel))),
        figures.memory_bytes.map_or_else(none, three_digits),
    ]
}

/// CPU per request of every row at one number of active connections, over the idle populations.
pub(super) fn overview(summary: &Summary<'_>, active: u32) -> Table {
    let name = Column { head: "mechanism".to_owned(), right: false, expendable: 0 };
    let idle = |idle: &u32| Column { head: format!("{} idle", grouped((*idle).into())), right: true, expendable: 0 };
    let row = |subject: usize| {
        let texts = summary.idle.iter().map(|idle| glance(&summary.table(*idle, active)[subject]));
        let cells = std::iter::once(summary.subjects[subject].name.clone()).chain(texts).collect();
        let kind = if summary.subjects[subject].control { Kind::Control } else { Kind::Ordinary };
        Row { kind, cells, reason: None }
    };
    Table {
        title: format!("Server CPU µs per request, {} active", grouped(active.into())),
        columns: std::iter::once(name).chain(summary.idle.iter().map(idle)).collect(),
        rows: (0..summary.subjects.len()).map(row).collect(),
    }
}

/// A cell in a glance: its cost, and how far it is from the best.
fn glance(cell: &Cell) -> String {
    let figures = match &cell.outcome {
        Outcome::Measured(figures) => figures,
        Outcome::Missing(_) => return none(),
        Outcome::Void(_) => return "void".to_owned(),
    };
    let Some(cpu) = figures.cpu_ns else { return none() };
    let beside = match (figures.standing, figures.ratio) {
        (Standing::Best, _) => "best".to_owned(),
        (Standing::Indistinguishable, Some(ratio)) => format!("={}", factor(ratio.value)),
        (_, Some(ratio)) => factor(ratio.value),
        (_, None) => none(),
    };
    format!("{} ({beside})", micros(cpu.value))
}

fn none() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_column_of_which_nothing_is_known_is_left_out_and_no_other() {
        let heads = |record: &crate::report::Record| {
            let table = ranking(&Summary::of(record), 100, 1);
            assert!(table.rows.iter().all(|row| row.reason.is_some() || row.cells.len() == table.columns.len()));
            table.columns.into_iter().map(|column| column.head).collect::<Vec<_>>()
        };
        let (full, bare) = (heads(&sample::ordinary()), heads(&sample::one_cell()));
        assert!(full.iter().any(|head| head == "p50 µs") && full.len() == 13, "{full:?}");
        assert!(bare.iter().all(|head| !head.starts_with('p')) && bare.iter().any(|head| head == "req/s"), "{bare:?}");
    }
}
