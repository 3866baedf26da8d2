//! results.json: the whole record, one trial a line, to be read back by any later version.

use std::io::{self, BufRead, Write};

use serde::Serialize;
use serde_json::Value;

use crate::measure::record::{Record, SCHEMA};

/// Writes `record`: each field on a line of its own, and each element of a list, so that two records can be compared
/// line by line and one can be read without tools.
///
/// # Errors
/// What writing gave.
pub fn write(record: &Record, mut out: impl Write) -> io::Result<()> {
    let fields = match serde_json::to_value(record)? {
        Value::Object(fields) => fields,
        other => unreachable!("a struct is an object, not {other}"),
    };
    let last = fields.len() - 1;
    let others = fields.keys().map(String::as_str).filter(|name| !FIRST.contains(name));
    for (at, name) in FIRST.into_iter().chain(others).enumerate() {
        let field = &fields[name];
        write!(out, "{}{:?}:", if at == 0 { "{\n" } else { "" }, name)?;
        match field {
            Value::Array(elements) if !elements.is_empty() => {
                out.write_all(b"[\n")?;
                for (at, element) in elements.iter().enumerate() {
                    line(&mut out, element, at + 1 < elements.len())?;
                }
                out.write_all(b"]")?;
            }
            other => serde_json::to_writer(&mut out, other)?,
        }
        out.write_all(if at < last { b",\n" } else { b"\n}\n" })?;
    }
    Ok(())
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

fn line(out: &mut impl Write, element: &impl Serialize, more: bool) -> io::Result<()> {
    serde_json::to_writer(&mut *out, element)?;
    out.write_all(if more { b",\n" } else { b"\n" })
}

/// Reads a record.
///
/// # Errors
/// `InvalidData` if it is no record, or of a schema that this version does not know; else what reading gave.
pub fn read(from: impl BufRead) -> io::Result<Record> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let value: Value = serde_json::from_reader(from).map_err(|error| match error.io_error_kind() {
        Some(kind) => io::Error::new(kind, error),
        None => invalid(format!("not JSON: {error}")),
    })?;
    match value["schema"].as_u64() {
        Some(schema) if schema <= u64::from(SCHEMA) => {}
        Some(schema) => {
            return Err(invalid(format!("written by a newer pollmark: schema {schema}, known up to {SCHEMA}")));
        }
        None => return Err(invalid("not a record of pollmark: it has no schema".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| invalid(format!("not a record of schema {SCHEMA}: {error}")))
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
    fn a_trial_is_a_line() {
        let record = sample::ordinary();
        let mut bytes = Vec::new();
        write(&record, &mut bytes).expect("to memory");
        let text = String::from_utf8(bytes).expect("text");
        assert_eq!(text.lines().filter(|line| line.contains("\"server_cpu_ns\"")).count(), record.trials.len());
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
