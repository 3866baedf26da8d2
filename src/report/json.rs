//! results.json: the whole record, one trial a line, to be read back by any later version.

use std::io::{self, BufRead, Write};

use serde_json::Value;

use super::summary;
use crate::measure::file::lines;
use crate::measure::record::{Record, SCHEMA};

/// Writes `record`: each field on a line of its own, and each element of a list, so that two records can be compared
/// line by line and one can be read without tools.
///
/// # Errors
/// What writing gave.
pub fn write(record: &Record, out: impl Write) -> io::Result<()> {
    lines(record, &FIRST, out)
}

/// What a reader wants to know first; the long lists follow.
const FIRST: [&str; 11] = [
    "schema",
    "pollmark_version",
    "command",
    "seed",
    "started",
    "finished",
    "host",
    "settings",
    "warnings",
    "gates",
    "missing",
];

/// More cells than any comparison can have had, and few enough to be worked out.
const MOST_CELLS: usize = 100_000;

/// Reads any JSON: its text, and what that says. Whoever knows from this what it is, reads it by the text: what is wrong
/// then is told with its line.
///
/// # Errors
/// `InvalidData` if it is none; else what reading gave.
pub(super) fn text(mut from: impl BufRead) -> io::Result<(Vec<u8>, Value)> {
    let mut text = Vec::new();
    from.read_to_end(&mut text)?;
    let value = serde_json::from_slice(&text).map_err(|error| invalid(format!("not JSON: {error}")))?;
    Ok((text, value))
}

/// What was read is not what it should be.
pub(super) fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads a record.
///
/// # Errors
/// `InvalidData` if it is no record, or of a schema that this version does not know, or asks for more loads and rows
/// than could ever have been measured; else what reading gave.
pub fn read(from: impl BufRead) -> io::Result<Record> {
    let (text, value) = text(from)?;
    match value["schema"].as_u64() {
        Some(schema) if schema <= u64::from(SCHEMA) => {}
        Some(schema) => {
            return Err(invalid(format!("written by a newer pollmark: schema {schema}, known up to {SCHEMA}")));
        }
        None => return Err(invalid("not a record of pollmark: it has no schema".to_owned())),
    }
    bounded(
        serde_json::from_slice(&text).map_err(|error| invalid(format!("not a record of schema {SCHEMA}: {error}")))?,
    )
}

/// The record, unless it asks for more loads and rows than could ever have been measured.
pub(super) fn bounded(record: Record) -> io::Result<Record> {
    match summary::size(&record) {
        0..=MOST_CELLS => Ok(record),
        cells => Err(invalid(format!("no comparison has {cells} cells: {MOST_CELLS} are the most"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_record_is_read_back_as_it_was() {
        for (name, record) in sample::all() {
            let mut bytes = Vec::new();
            write(&record, &mut bytes).expect("to memory");
            assert_eq!(read(&bytes[..]).expect("ours"), record, "{name}");
            assert_eq!(bytes.iter().filter(|byte| **byte == 0x1b).count(), 0, "{name}");
        }
    }

    #[test]
    fn numbers_are_read_to_the_last_digit() {
        // Digits that the fast way of reading a number gets wrong by one in the last place.
        let jain = 0.9915762716063183;
        let mut record = sample::ordinary();
        record.trials[0].rss_per_connection_bytes = Some(jain);
        let mut bytes = Vec::new();
        write(&record, &mut bytes).expect("to memory");
        assert_eq!(read(&bytes[..]).expect("ours").trials[0].rss_per_connection_bytes, Some(jain));
    }

    #[test]
    fn a_trial_is_a_line() {
        let record = sample::ordinary();
        let mut bytes = Vec::new();
        write(&record, &mut bytes).expect("to memory");
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text.lines().filter(|line| line.contains("\"server_cpu_ns\"")).count(), record.trials.len());
    }

    #[test]
    fn a_record_of_more_loads_than_can_be_measured_is_refused() {
        let mut record = sample::empty();
        (record.settings.idle, record.settings.active) = ((0..1_000).collect(), (1..1_002).collect());
        record.settings.mechanisms = vec!["epoll".to_owned()];
        let mut bytes = Vec::new();
        write(&record, &mut bytes).expect("to memory");
        let error = read(&bytes[..]).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("1001000 cells"), "{error}");
    }

    #[test]
    fn a_newer_schema_and_a_foreign_file_are_refused_in_words() {
        let error = |text: &str| read(text.as_bytes()).expect_err("refused").to_string();
        assert!(error(r#"{"schema":99}"#).contains("newer pollmark"));
        assert!(error(r#"{"benchmarks":[]}"#).contains("no schema"));
        assert!(error("hello").contains("not JSON"));
        assert!(error(r#"{"schema":1}"#).contains("not a record of schema 1"));
    }
}
