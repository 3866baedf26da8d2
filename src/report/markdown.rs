//! report.md: the tables and all that is needed to judge and repeat them, for a repository or an issue.

use std::fmt::Write;

use super::cautions;
use super::format::{markdown as escape, plain};
use super::latency;
use super::model;
use super::population;
use super::prediction::{self, Reasoned};
use super::summary::Summary;
use super::table::{self, Row, Table};
use super::text;

/// The whole report.
pub fn render(summary: &Summary<'_>) -> String {
    let mut out =
        format!("# pollmark {}, {}\n\n", escape(&summary.record.pollmark_version), escape(&summary.record.started));
    let finding = text::finding(summary);
    paragraphs(&mut out, std::iter::once(text::headline(summary)).chain(finding));
    paragraphs(&mut out, [text::noise(summary), text::method(summary)]);
    let workload = text::workload(summary);
    if !workload.is_empty() {
        list(&mut out, "What was done", workload.into_iter().map(|(head, text)| format!("{head}: {text}")));
    }
    paragraphs(&mut out, cautions::of(summary).iter().map(|caution| format!("Warning: {caution}")));
    overviews(&mut out, summary);
    latency::tables(summary).iter().for_each(|table| draw(&mut out, table));
    model::table(summary).iter().for_each(|table| draw(&mut out, table));
    paragraphs(&mut out, model::crossovers(summary));
    population::table(summary).iter().for_each(|table| draw(&mut out, table));
    if !summary.record.gates.is_empty() {
        list(
            &mut out,
            "Gates",
            summary.record.gates.iter().map(text::gate).map(|(verdict, said)| format!("{verdict}: {said}")),
        );
    }
    let contestants = text::contestants(summary);
    if !contestants.is_empty() {
        list(&mut out, "Contestants", contestants.into_iter().map(|(label, facts)| format!("{label}: {facts}")));
    }
    let unmeasured = text::unmeasured(summary);
    if !unmeasured.is_empty() {
        list(&mut out, "Not measured", unmeasured.into_iter().map(|(place, reason)| format!("{place}: {reason}")));
    }
    if summary.tables().any(|(idle, load)| summary.is_measured(idle, load)) {
        out.push_str("## Every load\n\n");
        out.extend(text::legend(summary).map(|line| format!("{}\\\n", escape(line))));
        out.push('\n');
        for (idle, load) in summary.tables().filter(|(idle, load)| summary.is_measured(*idle, *load)) {
            draw(&mut out, &table::ranking(summary, idle, load));
        }
    }
    reasons(&mut out, summary);
    list(&mut out, "Host", summary.record.host.facts().into_iter().map(|(name, value)| format!("{name}: {value}")));
    let _ = write!(out, "## How to repeat\n\n    {}\n", plain(&text::repeat(summary)));
    out
}

/// What rows differ by, and what nobody can tell of them; nothing, if the record has no calibration.
fn reasons(out: &mut String, summary: &Summary<'_>) {
    let Some(reasoned) = Reasoned::of(summary) else { return };
    let tables = summary.tables().filter_map(|(idle, load)| prediction::table(summary, &reasoned, idle, load));
    let tables = tables.collect::<Vec<_>>();
    if tables.is_empty() {
        return;
    }
    out.push_str("## Reasons\n\n");
    paragraphs(out, [prediction::LEGEND.to_owned()]);
    prediction::units(summary).iter().chain(&tables).for_each(|table| draw(out, table));
    let reasons = prediction::reasons(summary, &reasoned);
    out.extend(reasons.iter().map(|line| format!("- {}\n", escape(line))));
    if !reasons.is_empty() {
        out.push('\n');
    }
    let anomalies = prediction::anomalies(summary, &reasoned);
    if !anomalies.is_empty() {
        list(out, "Off by more than 15 %", anomalies.into_iter().map(|(place, why)| format!("{place}: {why}")));
    }
}

/// The finding and the overview tables: what a README shows.
pub fn overview(summary: &Summary<'_>) -> String {
    let mut out = String::new();
    paragraphs(&mut out, text::finding(summary));
    overviews(&mut out, summary);
    out
}

fn overviews(out: &mut String, summary: &Summary<'_>) {
    table::overviews(summary).iter().for_each(|table| draw(out, table));
}

pub(super) fn draw(out: &mut String, table: &Table) {
    let _ = writeln!(out, "**{}**\n", escape(&table.title));
    let heads = table.columns.iter().map(|column| escape(&column.head));
    let _ = writeln!(out, "| {} |", heads.collect::<Vec<_>>().join(" | "));
    let rules = table.columns.iter().map(|column| if column.right { "---:" } else { "---" });
    let _ = writeln!(out, "| {} |", rules.collect::<Vec<_>>().join(" | "));
    for row in &table.rows {
        let _ = writeln!(out, "| {} |", texts(row, table.columns.len()).join(" | "));
    }
    out.push('\n');
}

/// Markdown has no cell over several columns: a reason stands in the first that is free.
fn texts(row: &Row, columns: usize) -> Vec<String> {
    let mut cells = row.cells.iter().chain(&row.reason).map(|text| escape(text)).collect::<Vec<_>>();
    cells.resize(columns, String::new());
    cells
}

fn list(out: &mut String, title: &str, lines: impl IntoIterator<Item = String>) {
    let _ = write!(out, "## {title}\n\n");
    out.extend(lines.into_iter().map(|line| format!("- {}\n", escape(&line))));
    out.push('\n');
}

pub(super) fn paragraphs(out: &mut String, lines: impl IntoIterator<Item = String>) {
    out.extend(lines.into_iter().map(|line| format!("{}\n\n", escape(&line))));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_row_has_as_many_cells_as_its_heading() {
        for (name, record) in sample::all() {
            let text = render(&Summary::of(&record));
            let bars = |line: &str| line.replace("\\|", "").matches('|').count();
            let mut rows = 0;
            for block in text.split("\n\n").filter(|block| block.starts_with('|')) {
                let expected = bars(block.lines().next().expect("a heading"));
                rows += block.lines().inspect(|line| assert_eq!(bars(line), expected, "{name}: {line}")).count();
            }
            assert!(rows > 0 || record.trials.is_empty(), "{name}");
            let code = |line: &&str| line.starts_with("    ");
            assert!(text.lines().filter(|line| !code(line)).all(|line| !line.contains("<script")), "{name}");
        }
    }

    #[test]
    fn all_that_is_needed_to_repeat_it_is_there() {
        let record = sample::ordinary();
        let text = render(&Summary::of(&record));
        assert!(text.contains("    pollmark compare --idle 0,100,1000,5000 --seed 42\n"), "{text}");
        assert!(text.contains("## Host") && text.contains("Noise floor") && text.contains("## Not measured"));
    }
}
