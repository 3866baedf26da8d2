//! The terminal's tables: aligned, as wide as the terminal, coloured only if asked.

mod bars;

use std::fmt::Write;

use super::cautions;
use super::format::plain;
use super::latency;
use super::model;
use super::population;
use super::prediction;
use super::summary::Summary;
use super::table::{self, Kind, Table};
use super::text;
use crate::measure::record::Verdict;

/// How the terminal wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    /// Columns of the terminal; columns of a table that do not fit are left out, the least important first.
    pub width: usize,
    /// Colours may be used.
    pub colour: bool,
}

impl Default for Style {
    /// For a file or a pipe: wide enough for every column, and plain.
    fn default() -> Style {
        Style { width: 200, colour: false }
    }
}

pub(super) const BOLD: &str = "1";
pub(super) const FAINT: &str = "2";
pub(super) const GREEN: &str = "32";
pub(super) const RED: &str = "31";

/// Ranked tables, then an overview, so that the conclusion is what remains in sight.
pub fn render(summary: &Summary<'_>, style: Style) -> String {
    let mut out = String::new();
    for (idle, load) in summary.tables().filter(|(idle, load)| summary.is_measured(*idle, *load)) {
        draw(&mut out, &table::ranking(summary, idle, load), style);
    }
    table::overviews(summary).iter().for_each(|table| draw(&mut out, table, style));
    latency::tables(summary).iter().for_each(|table| draw(&mut out, table, style));
    // Of one server and one load everybody knows that they can; the page has it all the same.
    let several = summary.record.settings.processes.is_some_and(|processes| processes > 1);
    population::table(summary).iter().filter(|_| several).for_each(|table| draw(&mut out, table, style));
    model::table(summary).iter().for_each(|table| draw(&mut out, table, style));
    model::crossovers(summary).iter().for_each(|line| wrap(&mut out, line, style));
    for (label, facts) in text::contestants(summary) {
        wrap(&mut out, &plain(&format!("{label}: {facts}")), style);
    }
    for (place, reason) in text::unmeasured(summary) {
        wrap(&mut out, &plain(&format!("{place}: {reason}")), style);
    }
    for gate in &summary.record.gates {
        let (verdict, finding) = text::gate(gate);
        let code = if gate.verdict == Verdict::Pass { GREEN } else { RED };
        wrap(&mut out, &format!("gate {}: {}", paint(verdict, code, style), plain(&finding)), style);
    }
    for caution in cautions::of(summary) {
        wrap(&mut out, &format!("warning: {}", plain(&caution)), style);
    }
    if !out.is_empty() {
        out.push('\n');
    }
    if !summary.cells.is_empty() {
        text::legend(summary).for_each(|line| wrap(&mut out, line, style));
    }
    // Its title alone: `pollmark workloads` tells the rest.
    text::workload(summary).iter().take(1).for_each(|(head, text)| wrap(&mut out, &format!("{head} {text}."), style));
    wrap(&mut out, &text::method(summary), style);
    wrap(&mut out, &text::noise(summary), style);
    out.push('\n');
    bars::draw(&mut out, summary, style);
    wrap(&mut out, &text::headline(summary), style);
    text::finding(summary).iter().for_each(|line| wrap(&mut out, line, style));
    prediction::finding(summary).iter().for_each(|line| wrap(&mut out, line, style));
    out
}

pub(super) fn draw(out: &mut String, table: &Table, style: Style) {
    let shown = fitting(table, style.width);
    let width = |at: usize| column_width(table, at);
    let _ = writeln!(out, "{}", paint(&table.title, BOLD, style));
    let heads = shown.iter().map(|&at| align(&table.columns[at].head, width(at), table.columns[at].right));
    let _ = writeln!(out, "{}", paint(heads.collect::<Vec<_>>().join("  ").trim_end(), FAINT, style));
    for row in &table.rows {
        let cells = shown
            .iter()
            .filter_map(|&at| row.cells.get(at).map(|text| align(&plain(text), width(at), table.columns[at].right)));
        let mut line = cells.collect::<Vec<_>>().join("  ");
        if let Some(reason) = &row.reason {
            let room = style.width.saturating_sub(line.chars().count() + 2);
            line.push_str("  ");
            line.push_str(&shortened(&plain(reason), room));
        }
        let _ = writeln!(
            out,
            "{}",
            match kind_code(row.kind) {
                Some(code) => paint(line.trim_end(), code, style),
                None => line.trim_end().to_owned(),
            }
        );
    }
    out.push('\n');
}

fn kind_code(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Leading => Some(GREEN),
        Kind::Ordinary => None,
        Kind::Control | Kind::Absent => Some(FAINT),
    }
}

/// The columns that fit, in order.
fn fitting(table: &Table, room: usize) -> Vec<usize> {
    let mut shown = (0..table.columns.len()).collect::<Vec<_>>();
    while shown.iter().map(|&at| column_width(table, at) + 2).sum::<usize>() > room + 2 {
        let Some(least) = shown
            .iter()
            .copied()
            .filter(|&at| table.columns[at].expendable > 0)
            .max_by_key(|&at| table.columns[at].expendable)
        else {
            break;
        };
        shown.retain(|&at| at != least);
    }
    shown
}

fn column_width(table: &Table, at: usize) -> usize {
    let cells = table.rows.iter().filter_map(|row| row.cells.get(at)).map(|text| plain(text).chars().count());
    cells.max().unwrap_or(0).max(table.columns[at].head.chars().count())
}

fn align(text: &str, width: usize, right: bool) -> String {
    if right { format!("{text:>width$}") } else { format!("{text:width$}") }
}

fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

pub(super) fn paint(text: &str, code: &str, style: Style) -> String {
    if style.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// One paragraph of harmless text, broken at spaces, its further lines set in.
pub(super) fn wrap(out: &mut String, text: &str, style: Style) {
    wrap_at(out, text, style, 0, 2);
}

/// As [`wrap`], with so many spaces before the first line and before the others.
pub(super) fn wrap_at(out: &mut String, text: &str, style: Style, first: usize, others: usize) {
    out.extend(std::iter::repeat_n(' ', first));
    let (mut column, mut begun) = (first, false);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if begun && column + 1 + length > style.width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', others));
            column = others;
        } else if begun {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        (column, begun) = (column + length, true);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_ranking_stays() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        for width in [80, 100, 140, 200] {
            let text = render(&summary, Style { width, colour: false });
            let widest = text.lines().max_by_key(|line| line.chars().count()).expect("lines");
            assert!(widest.chars().count() <= width, "{width}: {widest}");
            assert!(text.contains("CPU µs/req") && text.contains("× best") && !text.contains('\u{1b}'));
            assert_eq!(text.contains("p99.9 µs"), width >= 140, "{width}");
        }
    }

    #[test]
    fn what_is_missing_or_void_is_told_with_its_reason() {
        let record = sample::ordinary();
        let text = render(&Summary::of(&record), Style::default());
        assert!(text.contains("kqueue, everywhere: not on this system"), "{text}");
        assert!(text.contains("threads, 5,000 idle: void: wrong byte"), "{text}");
        assert!(text.contains("gate pass: poll: server CPU per wait"), "{text}");
    }

    #[test]
    fn any_record_can_be_shown_and_nothing_in_it_commands_the_terminal() {
        for (name, record) in sample::all() {
            let summary = Summary::of(&record);
            let text = render(&summary, Style::default());
            assert!(!text.contains('\u{1b}') && text.contains("Noise floor"), "{name}");
            assert!(
                render(&summary, Style { width: 100, colour: true }).contains('\u{1b}') || record.trials.is_empty()
            );
        }
    }
}
