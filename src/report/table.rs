//! Tables as text cells, before anybody decides how they are drawn.

use super::format::{factor, grouped, micros, three_digits};
use super::summary::{Cell, Figures, Outcome, Standing, Subject, Summary};
use super::wording::Wording;
use crate::measure::record::Load;

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
pub(super) fn load(summary: &Summary<'_>, idle: u32, load: Load) -> String {
    format!("{}, {} idle", summary.describe(load), grouped(idle.into()))
}

/// Every figure of one load, the best row first.
pub(super) fn ranking(summary: &Summary<'_>, idle: u32, at: Load) -> Table {
    // "req" stands for what is counted.
    let columns = [
        ("#", 0),
        ("mechanism", 0),
        ("CPU µs/req", 0),
        ("interval", 3),
        ("× best", 0),
        ("finds", 2),
        ("req/s", 1),
        ("% of ceiling", 6),
        ("p50 µs", 4),
        ("p99 µs", 2),
        ("p99.9 µs", 7),
        ("due/s", 4),
        ("unsent %", 2),
        ("sent p99 µs", 3),
        ("sent p99.9 µs", 8),
        ("slip p99 µs", 3),
        ("Jain", 8),
        ("most/least", 8),
        ("firehose MB/s", 2),
        ("calls/req", 5),
        ("events/wait", 6),
        ("instr/req user + kernel", 9),
        ("B/idle conn", 8),
    ];
    let counted = Wording::of(summary.record).short;
    let column = |(head, expendable): (&str, u8)| Column {
        head: head.replace("req", counted),
        right: head != "mechanism",
        expendable,
    };
    let mut table = Table {
        title: load(summary, idle, at),
        columns: columns.into_iter().map(column).collect(),
        rows: summary.ranked(idle, at).into_iter().map(|cell| ranking_row(summary, cell)).collect(),
    };
    table.leave_out_unknown();
    table
}

impl Table {
    /// Leaves out columns of which no row knows anything: counters this host does not have, memory without idle
    /// connections.
    pub(super) fn leave_out_unknown(&mut self) {
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
    let kind = kind(subject, figures);
    Row { kind, cells: [vec![rank(figures), subject.name.clone()], texts(figures)].concat(), reason: None }
}

/// How a row with these figures is set off.
pub(super) fn kind(subject: &Subject, figures: &Figures) -> Kind {
    match figures.standing {
        _ if subject.control => Kind::Control,
        Standing::Best | Standing::Indistinguishable => Kind::Leading,
        Standing::Rank(_) | Standing::Unranked => Kind::Ordinary,
    }
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
    let open = figures.open.as_ref();
    let [sent_p99, sent_p999] = [1, 2].map(|at| latency(open.and_then(|open| open.from_send_ns[at])));
    let slip = open.and_then(|open| open.slip_ns[1]);
    vec![
        figures.cpu_ns.map_or_else(none, |cpu| micros(cpu.value)),
        interval.map_or_else(none, |interval| format!("{}–{}", micros(interval.low), micros(interval.high))),
        figures.ratio.map_or_else(none, |ratio| factor(ratio.value)),
        figures.smallest_effect.map_or_else(none, |effect| format!("{} %", three_digits(effect * 100.0))),
        figures.throughput.map_or_else(none, |rate| format!("{}{limited}", grouped(rate.value.round() as u64))),
        figures.ceiling_share.map_or_else(none, |share| format!("{:.0}{limited}", share * 100.0)),
        latency(figures.p50_ns),
        latency(figures.p99_ns),
        latency(figures.p999_ns),
        open.and_then(|open| open.due_between).map_or_else(none, between),
        open.map_or_else(none, |open| format!("{:.1}", open.unsent * 100.0)),
        sent_p99,
        sent_p999,
        slip.map_or_else(none, |ns| micros(ns as f64)),
        figures.jain.map_or_else(none, |jain| format!("{jain:.3}")),
        figures.most_to_least.map_or_else(none, factor),
        figures.firehoses.map_or_else(none, |bytes| three_digits(bytes.value / 1e6)),
        figures.calls.map_or_else(none, |calls| format!("{derived}{calls:.2}")),
        figures.events_per_wait.map_or_else(none, three_digits),
        instructions.map_or_else(none, |(user, kernel)| format!("{} + {}", three_digits(user), three_digits(kernel))),
        figures.memory_bytes.map_or_else(none, three_digits),
    ]
}

/// From the least to the most, if they differ.
fn between((least, most): (f64, f64)) -> String {
    let [least, most] = [least, most].map(|rate| grouped(rate.round() as u64));
    if least == most { least } else { format!("{least}–{most}") }
}

/// Which rows cost least, or are not to be told from the least: a row for each load, a column for each idle population.
/// `None` where nothing is ranked.
pub(super) fn leaders(summary: &Summary<'_>) -> Option<Table> {
    let column = |head: String| Column { head, right: false, expendable: 0 };
    let row = |load: &Load| {
        let texts = summary.idle.iter().map(|&idle| least(summary, idle, *load)).collect::<Vec<_>>();
        texts.iter().any(|text| *text != none()).then(|| {
            let cells = std::iter::once(summary.describe(*load)).chain(texts).collect();
            Row { kind: Kind::Ordinary, cells, reason: None }
        })
    };
    let rows = summary.loads.iter().filter_map(row).collect::<Vec<_>>();
    let idle = summary.idle.iter().map(|idle| column(format!("{} idle", grouped((*idle).into()))));
    let wording = Wording::of(summary.record);
    (!rows.is_empty()).then(|| Table {
        title: format!("Least {} per {}, or not to be told from the least", wording.cpu, wording.operation),
        columns: std::iter::once(column("load".to_owned())).chain(idle).collect(),
        rows,
    })
}

/// Those who lead in one table, or, where these are many, those who do not.
fn least(summary: &Summary<'_>, idle: u32, load: Load) -> String {
    let name = |cell: &&Cell| summary.subjects[cell.subject].name.clone();
    let standing = |cell: &Cell| cell.figures().map(|figures| figures.standing);
    let leads = |cell: &&Cell| matches!(standing(cell), Some(Standing::Best | Standing::Indistinguishable));
    let loses = |cell: &&Cell| matches!(standing(cell), Some(Standing::Rank(_)));
    let table = summary.table(idle, load);
    let (lead, lose) = (table.iter().filter(leads).collect::<Vec<_>>(), table.iter().filter(loses).collect::<Vec<_>>());
    let names = |cells: &[&Cell]| cells.iter().map(name).collect::<Vec<_>>().join(", ");
    match (lead.len(), lose.len()) {
        (0, _) => none(),
        (several, 0) if several > 1 => "all".to_owned(),
        (many, few) if many > 3 && few < many => format!("all but {}", names(&lose)),
        _ => names(&lead),
    }
}

/// CPU per request of every row: over the idle populations, a table for each load; or over the loads, where there is
/// one idle population alone.
pub(super) fn overviews(summary: &Summary<'_>) -> Vec<Table> {
    let idle = |idle: u32| format!("{} idle", grouped(idle.into()));
    if let ([one], true) = (summary.idle.as_slice(), summary.loads.len() > 1) {
        let columns = summary.loads.iter().filter(|load| summary.is_measured(*one, **load));
        let columns = columns.map(|load| (summary.describe(*load), *one, *load)).collect::<Vec<_>>();
        return if columns.is_empty() { Vec::new() } else { vec![overview(summary, &idle(*one), &columns)] };
    }
    let measured = |load: &&Load| summary.idle.iter().any(|idle| summary.is_measured(*idle, **load));
    let table = |load: &Load| {
        let columns = summary.idle.iter().map(|&one| (idle(one), one, *load)).collect::<Vec<_>>();
        overview(summary, &summary.describe(*load), &columns)
    };
    summary.loads.iter().filter(measured).map(table).collect()
}

fn overview(summary: &Summary<'_>, at: &str, columns: &[(String, u32, Load)]) -> Table {
    let wording = Wording::of(summary.record);
    let name = Column { head: "mechanism".to_owned(), right: false, expendable: 0 };
    let column = |(head, ..): &(String, u32, Load)| Column { head: head.clone(), right: true, expendable: 0 };
    let row = |subject: usize| {
        let texts = columns.iter().map(|(_, idle, load)| glance(&summary.table(*idle, *load)[subject]));
        let cells = std::iter::once(summary.subjects[subject].name.clone()).chain(texts).collect();
        let kind = if summary.subjects[subject].control { Kind::Control } else { Kind::Ordinary };
        Row { kind, cells, reason: None }
    };
    Table {
        title: format!("{} µs per {}, {at}", wording.title(), wording.operation),
        columns: std::iter::once(name).chain(columns.iter().map(column)).collect(),
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
            let summary = Summary::of(record);
            let table = ranking(&summary, 100, summary.loads[0]);
            assert!(table.rows.iter().all(|row| row.reason.is_some() || row.cells.len() == table.columns.len()));
            table.columns.into_iter().map(|column| column.head).collect::<Vec<_>>()
        };
        let (full, bare) = (heads(&sample::ordinary()), heads(&sample::one_cell()));
        assert!(full.iter().any(|head| head == "p50 µs") && full.len() == 14, "{full:?}");
        assert!(bare.iter().all(|head| !head.starts_with('p')) && bare.iter().any(|head| head == "req/s"), "{bare:?}");
    }

    #[test]
    fn who_leads_is_told_for_each_load_and_population() {
        let record = sample::ordinary();
        let table = leaders(&Summary::of(&record)).expect("ranked");
        let heads = table.columns.iter().map(|column| column.head.as_str()).collect::<Vec<_>>();
        assert_eq!(heads, ["load", "0 idle", "100 idle", "1,000 idle", "5,000 idle"]);
        let one = &table.rows[0].cells;
        assert_eq!((one[0].as_str(), one[4].as_str()), ("1 active", "epoll"), "poll and select scan, threads are void");
        assert!(leaders(&Summary::of(&sample::open_loop())).is_none(), "rows differ in rate");
    }

    #[test]
    fn of_a_poller_alone_messages_are_counted_and_what_it_did_is_in_the_title() {
        let record = sample::alone();
        let summary = Summary::of(&record);
        let load = *summary.loads.last().expect("loads");
        let table = ranking(&summary, 100, load);
        assert_eq!(table.title, "10 active, high, none handed on, numbers from 8000, 100 idle");
        let heads = table.columns.iter().map(|column| column.head.as_str()).collect::<Vec<_>>();
        assert!(heads.contains(&"CPU µs/msg") && heads.contains(&"msg/s") && !heads.contains(&"p50 µs"), "{heads:?}");
        assert_eq!(overviews(&summary)[0].title, "CPU µs per message, 1 active, spread, none handed on, low numbers");
    }

    #[test]
    fn of_one_population_every_load_is_a_column_and_is_told_by_what_varies() {
        let record = sample::varied();
        let tables = overviews(&Summary::of(&record));
        let heads = tables.iter().flat_map(|table| table.columns.iter().map(|column| column.head.as_str()));
        let heads = heads.collect::<Vec<_>>();
        assert_eq!((tables.len(), heads.len()), (1, 7), "{heads:?}");
        assert_eq!(heads[1], "1 active, 64 B, 1 outstanding, connections stay");
        assert!(heads.contains(&"10 active, 65,536 B, 4 outstanding, connections stay"), "{heads:?}");
        assert!(heads.contains(&"1 active, 64 B, 1 outstanding, 1 per connection"), "{heads:?}");
        let ordinary = sample::ordinary();
        let tables = overviews(&Summary::of(&ordinary));
        assert_eq!((tables.len(), tables[0].title.as_str()), (3, "Server CPU µs per request, 1 active"));
    }
}
