//! CITATION.cff: how a result is cited (Citation File Format 1.2.0), bound to its record by a sum.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::format::plain;
use crate::measure::record::Record;

/// The whole file. `sum` is the SHA-256 of results.json.
pub fn render(record: &Record, sum: &str) -> String {
    of_several(&[(record, sum)])
}

/// The whole file, of several records, each with the SHA-256 of its results.json. Of no record it cites nothing.
pub(super) fn of_several(records: &[(&Record, &str)]) -> String {
    let mut out = String::from(
        "cff-version: 1.2.0\nmessage: \"If you use these measurements, please cite them as below.\"\ntype: dataset\n",
    );
    let _ = writeln!(out, "title: {}", quoted(&title(records)));
    let authors = records.iter().flat_map(|(record, _)| record.authors.iter().map(|name| plain(name)));
    let authors = authors.filter(|name| !name.is_empty()).collect::<BTreeSet<_>>();
    if authors.is_empty() {
        out.push_str("# Who has measured this nobody has said: `pollmark report` does with --author.\n");
    }
    out.push_str("authors:\n");
    let unnamed = || "not named".to_owned();
    let names = authors.is_empty().then(unnamed).into_iter().chain(authors);
    names.for_each(|name| writeln!(out, "  - name: {}", quoted(&name)).expect("a string takes it"));
    let days = records.iter().filter_map(|(record, _)| record.started.get(..10).filter(|day| is_day(day)));
    if let Some(day) = days.max() {
        let _ = writeln!(out, "date-released: \"{day}\"");
    }
    out.push_str("identifiers:\n");
    for (record, sum) in records {
        let of = if records.len() > 1 { format!(", of {}, {}", system(record), record.started) } else { String::new() };
        let _ = write!(
            out,
            "  - type: other\n    value: {}\n    description: {}\n",
            quoted(&format!("sha256:{sum}")),
            quoted(&format!("SHA-256 of results.json, the record{of}"))
        );
    }
    out.push_str("references:\n");
    let software = |(record, _): &(&Record, &str)| (record.pollmark_version.clone(), record.host.commit.clone());
    for (version, commit) in records.iter().map(software).collect::<BTreeSet<_>>() {
        let _ = write!(
            out,
            "  - type: software\n    title: pollmark\n    authors:\n      - name: \"The pollmark maintainers\"\n    \
             version: {}\n    repository-code: {}\n",
            quoted(&version),
            quoted(env!("CARGO_PKG_REPOSITORY"))
        );
        if let Some(commit) = &commit {
            let _ = writeln!(out, "    commit: {}", quoted(commit));
        }
    }
    out
}

/// What was done, and on which systems.
fn title(records: &[(&Record, &str)]) -> String {
    let abouts =
        records.iter().map(|(record, _)| record.workload.as_ref().map_or("a comparison", |about| &about.title));
    let abouts = abouts.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ");
    let systems = records.iter().map(|(record, _)| system(record)).filter(|system| !system.is_empty());
    match systems.collect::<BTreeSet<_>>() {
        none if none.is_empty() => format!("pollmark: {abouts}"),
        systems => format!("pollmark: {abouts}, on {}", systems.into_iter().collect::<Vec<_>>().join("; ")),
    }
}

fn system(record: &Record) -> String {
    [record.host.os.as_str(), record.host.arch.as_str()].join(" ").trim().to_owned()
}

/// A string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(plain(text)).to_string()
}

fn is_day(text: &str) -> bool {
    let digits = |c: (usize, char)| if [4, 7].contains(&c.0) { c.1 == '-' } else { c.1.is_ascii_digit() };
    text.chars().enumerate().all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_citation_names_the_record_by_its_sum_and_the_program_by_its_version() {
        let mut record = sample::ordinary();
        (record.started, record.host.commit) = ("2026-11-22T06:00:00Z".into(), Some("0123abcd".into()));
        let cited = render(&record, "ff00");
        for part in ["cff-version: 1.2.0\n", "\"sha256:ff00\"", "date-released: \"2026-11-22\"", "commit: \"0123abcd\""]
        {
            assert!(cited.contains(part), "{part}: {cited}");
        }
        assert!(cited.contains(&format!("version: \"{}\"", record.pollmark_version)), "{cited}");
    }

    #[test]
    fn those_who_said_so_are_cited_each_once_and_nobody_else() {
        let mut record = sample::ordinary();
        assert!(render(&record, "00").contains("--author.\nauthors:\n  - name: \"not named\"\n"));
        record.authors = ["Grace: \"H\"\n", "Ada Lovelace", "Ada Lovelace", " \n"].map(str::to_owned).to_vec();
        let cited = of_several(&[(&record, "00"), (&record, "11")]);
        let names = "authors:\n  - name: \"Ada Lovelace\"\n  - name: \"Grace: \\\"H\\\"\"\ndate-released";
        assert!(cited.contains(names) && !cited.contains("nobody has said"), "{cited}");
    }

    #[test]
    fn nothing_foreign_adds_a_line_to_it() {
        let lines = |record: &Record| render(record, "00").lines().count();
        let mut hostile = sample::hostile();
        (hostile.started, hostile.host.commit) = ("2026-1\n-22: x".into(), Some("a\nb: \"c".into()));
        hostile.pollmark_version = "1\n2".into();
        // Without the day, which is none; with the commit.
        let mut plain = sample::ordinary();
        (plain.started, plain.host.commit) = (String::new(), Some("c".into()));
        assert_eq!(lines(&hostile), lines(&plain));
    }
}
