//! Several comparisons on one page: what each has found, its gates, and where the whole of it is.

use std::fmt::Write;

use super::format::{markdown as escape, plain};
use super::summary::Summary;
use super::text;
use crate::measure::record::Record;

/// A section for each record, which is in the directory of its name.
pub fn render(name: &str, title: &str, records: &[(&str, &Record)]) -> String {
    let mut out = format!("# pollmark, {}\n\n{}.\n", escape(&plain(name)), escape(&plain(title)));
    for (directory, record) in records {
        let summary = Summary::of(record);
        let directory = plain(directory);
        let _ = write!(out, "\n## {}\n\n", escape(&directory));
        let mut paragraph = |text: &str| {
            let _ = write!(out, "{}\n\n", escape(&plain(text)));
        };
        // What was done, and what was expected; the page of the comparison has the rest.
        if let Some(about) = &record.workload {
            paragraph(&format!("{}.", about.title));
            paragraph(&format!("Expected: {}", about.expect));
        }
        paragraph(&text::headline(&summary));
        text::finding(&summary).iter().for_each(|finding| paragraph(finding));
        paragraph(&text::noise(&summary));
        for gate in &record.gates {
            let (verdict, found) = text::gate(gate);
            let _ = writeln!(out, "- {verdict}: {}", escape(&plain(&found)));
        }
        if !record.gates.is_empty() {
            out.push('\n');
        }
        let void = record.trials.iter().filter(|trial| trial.void.is_some()).count();
        if void > 0 {
            let _ = write!(out, "{void} of {} trials are void.\n\n", record.trials.len());
        }
        let _ = writeln!(
            out,
            "[The tables]({directory}/report.md), [the charts]({directory}/report.html), \
                               [every trial]({directory}/results.json)."
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_record_has_a_section_with_its_finding_its_gates_and_its_files() {
        let all = sample::all();
        let records = all.iter().map(|(name, record)| (*name, record)).collect::<Vec<_>>();
        let page = render("classic", "The published experiments", &records);
        assert!(page.starts_with("# pollmark, classic\n\nThe published experiments.\n"), "{page}");
        for (name, record) in &all {
            let section = page.split(&format!("\n## {name}\n")).nth(1).unwrap_or_else(|| panic!("{name}: {page}"));
            let section = section.split("\n## ").next().expect("its text");
            assert!(section.contains(&format!("({name}/report.html)")) && section.contains("Noise floor"), "{section}");
            assert_eq!(section.lines().filter(|line| line.starts_with("- pass: ")).count(), record.gates.len());
            assert!(!section.contains("<script") && !section.contains('\u{1b}'), "{section}");
        }
        assert!(page.contains("trials are void"), "{page}");
    }
}
