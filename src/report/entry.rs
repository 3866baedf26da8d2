//! Several records together: a name for each, the machine each is of, and all of each in a directory by its name.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::format::{plain, slug};
use super::png::Painter;
use super::summary::Summary;
use crate::measure::record::Record;

/// A record among others.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The record.
    pub record: &'a Record,
    /// What is in it.
    pub summary: Summary<'a>,
    /// Its name, which no other of them has: the day, the workload, the system.
    pub name: String,
}

/// The directory of those of [`write`].
pub(super) const RECORDS: &str = "records";

/// Each record with its summary, in the order given, by a name of its own.
pub fn entries<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Entry<'a>> {
    let mut names = BTreeSet::new();
    let entry = |record: &'a Record| {
        let day = record.started.split('T').next().unwrap_or_default();
        let stem = slug(&format!("{day} {} {} {}", workload(record), record.host.os, record.host.arch));
        let again = |again: usize| if again > 1 { format!("{stem}-{again}") } else { stem.clone() };
        let name = (1..).map(again).find(|name| !name.is_empty() && names.insert(name.clone())).expect("without end");
        Entry { record, summary: Summary::of(record), name }
    };
    records.into_iter().map(entry).collect()
}

/// Writes into `records/NAME/` of `directory` everything that [`write`](super::write) leaves of each record, and says what
/// that is: paths within `directory`.
pub(super) fn write(entries: &[Entry<'_>], directory: &Path, painter: Option<&Painter>) -> io::Result<Vec<String>> {
    let mut made = Vec::new();
    for entry in entries {
        let files = super::write_summary(&entry.summary, &directory.join(RECORDS).join(&entry.name), painter)?;
        made.extend(files.into_iter().map(|file| format!("{RECORDS}/{}/{file}", entry.name)));
    }
    Ok(made)
}

/// Those of one machine together, or of machines of a kind, in the order of the first of each.
pub(super) fn by_machine<'e, 'a>(entries: impl IntoIterator<Item = &'e Entry<'a>>) -> Vec<Vec<&'e Entry<'a>>> {
    let mut machines: Vec<Vec<&Entry<'_>>> = Vec::new();
    for entry in entries {
        let same = |one: &&mut Vec<&Entry<'_>>| one[0].record.host.machine_differences(&entry.record.host).is_empty();
        match machines.iter_mut().find(same) {
            Some(machine) => machine.push(entry),
            None => machines.push(vec![entry]),
        }
    }
    machines
}

/// The name of what was done.
pub(super) fn workload(record: &Record) -> &str {
    record.workload.as_ref().map_or("comparison", |about| &about.name)
}

/// What was done, in a line.
pub(super) fn title(record: &Record) -> &str {
    record.workload.as_ref().map_or("A comparison", |about| &about.title)
}

/// The machine, in a line.
pub(super) fn describe(record: &Record) -> String {
    let host = &record.host;
    let cores = host.cores.map(|cores| format!("{cores} CPUs"));
    let known = [host.kernel.clone(), host.cpu.clone(), cores].into_iter().flatten().collect::<Vec<_>>();
    if known.is_empty() { "A machine that the record does not name".to_owned() } else { plain(&known.join(" · ")) }
}
