//! The connections that were held: how many the kernel counted, how soon they were there, and what memory they took.
//!
//! The kernel's memory is that of the caches which grew with the connections; where the host shows no caches, ~ and
//! that of all slabs, whoever made them grow.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{grouped, three_digits};
use super::summary::Summary;
use super::table::{Column, Kind, Row, Table};
use crate::measure::record::{Population, Trial};
use crate::measure::stats;

/// The largest population that was held.
pub(super) struct Held<'a> {
    pub(super) idle: u32,
    pub(super) rows: Vec<Holder<'a>>,
}

/// One subject that held it.
pub(super) struct Holder<'a> {
    /// Its place among the subjects.
    pub(super) subject: usize,
    /// What was typical of its visits.
    pub(super) population: Population,
    trials: Vec<&'a Trial>,
}

impl Holder<'_> {
    /// Memory of the kernel for all connections: of the caches that grew, or of all slabs.
    pub(super) fn kernel_bytes(&self) -> Option<u64> {
        let caches = self.population.caches_bytes.values().sum::<u64>();
        if caches > 0 { Some(caches) } else { self.population.slabs_bytes }
    }
}

/// What was typical of the visits of each subject to its largest population of which a trial was timed and counts.
/// `None` if no visit tells of one.
pub(super) fn held<'a>(summary: &Summary<'a>) -> Option<Held<'a>> {
    let record = summary.record;
    let most = record.visits.iter().filter(|visit| visit.population.is_some()).map(|visit| visit.idle).max()?;
    let rows = summary.subjects.iter().enumerate().filter_map(|(at, subject)| {
        let cells = record.cells_of(&subject.name).into_iter().filter(|cell| cell.idle == most);
        let timed = cells.map(|cell| cell.timed().collect::<Vec<_>>()).filter(|timed| !timed.is_empty());
        let mut timed = timed.collect::<Vec<_>>();
        // Of several transports the first: what one takes is not half way to what another does.
        let transport = timed.first()?[0].transport;
        timed.retain(|timed| timed[0].transport == transport);
        let orders = timed.iter().flatten().map(|trial| trial.order).collect::<BTreeSet<_>>();
        let visits = record.visits.iter().filter(|visit| visit.subject == subject.name && visit.idle == most);
        let visits = visits.filter(|visit| orders.contains(&visit.order));
        let populations = visits.filter_map(|visit| visit.population.as_ref()).collect::<Vec<_>>();
        let largest = timed.into_iter().max_by_key(|timed| timed[0].active)?;
        Some(Holder { subject: at, population: typical(&populations)?, trials: largest })
    });
    Some(Held { idle: most, rows: rows.collect() })
}

/// A row for each subject that held the largest population. `None` if none did.
pub(super) fn table(summary: &Summary<'_>) -> Option<Table> {
    let (record, Held { idle: most, rows }) = (summary.record, held(summary)?);
    let row = |holder: &Holder<'_>| {
        let subject = &summary.subjects[holder.subject];
        let kind = if subject.control { Kind::Control } else { Kind::Ordinary };
        let figures = figures(&holder.population, most, &holder.trials);
        Row { kind, cells: std::iter::once(subject.name.clone()).chain(figures).collect(), reason: None }
    };
    let rows = rows.iter().map(row).collect::<Vec<_>>();
    let processes = record.settings.processes.unwrap_or(1);
    let by = match processes {
        1 => "a server and a load".to_owned(),
        several => format!("{several} server and {several} load processes"),
    };
    let columns = [
        ("mechanism", 0),
        ("established (kernel)", 0),
        ("open (servers)", 3),
        ("addresses", 5),
        ("set up in s", 0),
        ("B/conn servers", 0),
        ("B/conn loads", 4),
        ("KiB/conn kernel", 0),
        ("largest of it", 6),
        ("ListenOverflows", 2),
        ("TIME_WAIT left", 1),
    ];
    let column =
        |(head, expendable): (&str, u8)| Column { head: head.to_owned(), right: head != "mechanism", expendable };
    let title = format!("Connections held, {} of them idle, between {by}", grouped(most.into()));
    (!rows.is_empty()).then(|| Table { title, columns: columns.into_iter().map(column).collect(), rows })
}

/// Half way among them, each figure for itself; but of trouble and of what is left over the most there was.
fn typical(populations: &[&Population]) -> Option<Population> {
    let first = populations.first()?;
    let names = populations.iter().flat_map(|one| one.caches_bytes.keys()).collect::<BTreeSet<_>>();
    // A cache that did not grow in one visit is not named by it.
    let cache = |name: &String| median(populations, |one| Some(one.caches_bytes.get(name).copied().unwrap_or(0)));
    let caches = names.into_iter().filter_map(|name| Some((name.clone(), cache(name)?)));
    let counters = populations.iter().flat_map(|one| &one.kernel);
    let mut kernel: BTreeMap<String, u64> = BTreeMap::new();
    counters.for_each(|(name, rose)| {
        let most = kernel.entry(name.clone()).or_default();
        *most = (*rose).max(*most);
    });
    Some(Population {
        processes: first.processes,
        sources: first.sources,
        setup_ns: median(populations, |one| Some(one.setup_ns))?,
        servers_bytes: median(populations, |one| one.servers_bytes),
        loads_bytes: median(populations, |one| one.loads_bytes),
        slabs_bytes: median(populations, |one| one.slabs_bytes),
        caches_bytes: caches.collect(),
        kernel,
        time_wait_left: populations.iter().filter_map(|one| one.time_wait_left).max(),
    })
}

fn median<T>(all: &[&T], value: impl Fn(&T) -> Option<u64>) -> Option<u64> {
    let known = all.iter().filter_map(|one| Some(value(one)? as f64)).collect::<Vec<_>>();
    stats::median(&known).map(|median| median.round() as u64)
}

fn figures(population: &Population, idle: u32, trials: &[&Trial]) -> [String; 10] {
    let unknown = || "–".to_owned();
    let each = |bytes: Option<u64>| bytes.map_or_else(unknown, |bytes| three_digits(bytes as f64 / f64::from(idle)));
    let count = |count: Option<u64>| count.map_or_else(unknown, grouped);
    let caches = &population.caches_bytes;
    let kernel: u64 = caches.values().sum();
    [
        count(median(trials, |trial| trial.established)),
        count(median(trials, |trial| trial.open)),
        count(population.sources.map(u64::from)),
        format!("{:.1}", population.setup_ns as f64 / 1e9),
        each(population.servers_bytes),
        each(population.loads_bytes),
        match (kernel, population.slabs_bytes) {
            (0, None) => unknown(),
            (0, Some(slabs)) => format!("~{}", kibibytes(slabs, idle)),
            (kernel, _) => kibibytes(kernel, idle),
        },
        largest(caches, idle),
        population.kernel.get("ListenOverflows").copied().unwrap_or(0).to_string(),
        count(population.time_wait_left),
    ]
}

/// The caches that take most, with what they take.
fn largest(caches: &BTreeMap<String, u64>, idle: u32) -> String {
    let mut caches = caches.iter().collect::<Vec<_>>();
    caches.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let named = caches.iter().take(3).map(|(name, bytes)| format!("{name} {}", kibibytes(**bytes, idle)));
    let named = named.collect::<Vec<_>>().join(", ");
    if named.is_empty() { "–".to_owned() } else { named }
}

fn kibibytes(bytes: u64, idle: u32) -> String {
    three_digits(bytes as f64 / 1024.0 / f64::from(idle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Record;
    use crate::report::sample;

    #[test]
    fn each_subject_has_the_figures_of_its_largest_population() {
        let record = sample::ordinary();
        let table = table(&Summary::of(&record)).expect("populations");
        assert_eq!(table.title, "Connections held, 5,000 of them idle, between a server and a load");
        let epoll = &table.rows[0].cells;
        assert_eq!(epoll.len(), table.columns.len());
        let heads = table.columns.iter().map(|column| column.head.as_str());
        let shown = heads.zip(epoll.iter().map(String::as_str)).collect::<BTreeMap<_, _>>();
        assert_eq!((shown["mechanism"], shown["established (kernel)"]), ("epoll", "5,100"));
        assert_eq!((shown["B/conn servers"], shown["KiB/conn kernel"]), ("53.0", "9.00"));
        assert_eq!(shown["largest of it"], "TCP 5.00, sock_inode_cache 4.00");
        let mut hidden = record.clone();
        let populations = hidden.visits.iter_mut().filter_map(|visit| visit.population.as_mut());
        populations.for_each(|population| population.caches_bytes.clear());
        let hidden = super::table(&Summary::of(&hidden)).expect("populations");
        assert!(hidden.rows[0].cells.contains(&"~10.0".to_owned()), "{:?}", hidden.rows[0]);
        assert_eq!((shown["TIME_WAIT left"], shown["ListenOverflows"]), ("0", "0"));
    }

    #[test]
    fn what_is_told_of_a_population_is_typical_of_visits_that_were_timed_and_count() {
        let mut record = sample::ordinary();
        let (rounds, mut setup) = (record.settings.rounds, 0);
        for visit in record.visits.iter_mut().filter(|visit| visit.subject == "epoll" && visit.idle == 5_000) {
            let population = visit.population.as_mut().expect("idle connections");
            setup += 1_000_000_000;
            // The last is that of the counting round.
            population.setup_ns = if visit.round == rounds { 99_000_000_000 } else { setup };
            population.kernel.insert("ListenOverflows".into(), u64::from(visit.round == 0));
        }
        let told = |record: &Record, name: &str| {
            let table = table(&Summary::of(record)).expect("populations");
            let heads = table.columns.iter().map(|column| column.head.clone()).collect::<Vec<_>>();
            let row = table.rows.into_iter().find(|row| row.cells[0] == name);
            row.map(|row| heads.into_iter().zip(row.cells).collect::<BTreeMap<_, _>>())
        };
        let epoll = told(&record, "epoll").expect("a row");
        assert_eq!((epoll["set up in s"].as_str(), epoll["ListenOverflows"].as_str()), ("2.0", "1"), "{epoll:?}");
        let of_epoll = |trial: &&mut Trial| trial.subject == "epoll" && trial.round == 1;
        record.trials.iter_mut().filter(of_epoll).for_each(|trial| trial.void = Some("a wrong byte".into()));
        assert_eq!(told(&record, "epoll"), None, "nothing of it counts");
    }

    #[test]
    fn records_of_before_have_no_such_table() {
        let mut record = sample::ordinary();
        record.visits.iter_mut().for_each(|visit| visit.population = None);
        assert!(table(&Summary::of(&record)).is_none());
    }
}
