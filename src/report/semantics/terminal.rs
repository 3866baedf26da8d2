//! The matrix on a terminal: a block for each scenario, then the notes, then all of it at a glance.

use std::fmt::Write;
use std::time::Duration;

use super::words::{self, FACTS};
use super::{Cell, Record, Said, Scenario};
use crate::report::format::plain;
use crate::report::terminal::{BOLD, FAINT, RED, Style, paint, wrap_at};

/// Every scenario, and what remains in sight at the end: which mechanism differs in which.
pub fn render(record: &Record, style: Style) -> String {
    let mut out = String::new();
    wrap_at(&mut out, HEAD, prose(style), 0, 0);
    out.push('\n');
    let mut chapter = "";
    for scenario in &record.scenarios {
        if scenario.chapter != chapter {
            chapter = &scenario.chapter;
            let _ = writeln!(out, "{}\n", paint(&plain(chapter).to_uppercase(), BOLD, style));
        }
        draw(&mut out, scenario, style);
    }
    legend(&mut out, record, style);
    abilities(&mut out, record, style);
    if !record.notes.is_empty() {
        let _ = writeln!(out, "{}", paint("WHY THEY DIFFER", BOLD, style));
        for (note, number) in record.notes.iter().zip(1..) {
            wrap_at(&mut out, &plain(&format!("[{number}] {}", note.text)), prose(style), 2, 6);
            wrap_at(&mut out, &plain(&format!("{}: {}", note.reference, note.link)), style, 6, 6);
        }
        out.push('\n');
    }
    glance(&mut out, record, style);
    wrap_at(&mut out, &plain(&summary(record)), prose(style), 0, 2);
    out
}

const HEAD: &str =
    "Of every mechanism, at each moment: what the kernel says, and what a program is told. [1]: see the notes.";

/// However wide the terminal, prose is not.
pub(super) fn prose(style: Style) -> Style {
    Style { width: style.width.min(100), ..style }
}

/// One scenario: what it shows, and a line for each mechanism at each moment.
fn draw(out: &mut String, scenario: &Scenario, style: Style) {
    let _ = writeln!(out, "{}  {}", paint(&plain(&scenario.name), BOLD, style), paint(&terms(scenario), FAINT, style));
    wrap_at(out, &plain(&scenario.shows), prose(style), 2, 2);
    let cells = || scenario.moments.iter().flat_map(|moment| &moment.cells);
    let names = cells().map(|cell| plain(&cell.mechanism).chars().count()).max().unwrap_or(0);
    let raws = cells().map(|cell| plain(&raw(cell)).chars().count()).max().unwrap_or(0);
    for moment in &scenario.moments {
        let _ = writeln!(out, "  {}", plain(&moment.when));
        for cell in &moment.cells {
            let (name, raw, told) = (plain(&cell.mechanism), plain(&raw(cell)), plain(&told(cell)));
            let (indent, wide) = (4 + names + 2, told.chars().count());
            let shown = if is_unexplained(cell) { paint(&told, RED, style) } else { told.clone() };
            if indent + raws + 2 + wide <= style.width {
                let _ = writeln!(out, "    {name:names$}  {raw:raws$}  {shown}");
            } else {
                let _ = writeln!(out, "    {name:names$}  {raw}");
                if indent + wide <= style.width {
                    let _ = writeln!(out, "{:indent$}{shown}", "");
                } else {
                    wrap_at(out, &told, style, indent, indent + 2);
                }
            }
        }
    }
    out.push('\n');
}

/// What was asked for, and by which trigger.
pub(super) fn terms(scenario: &Scenario) -> String {
    let asked = match scenario.asked.as_slice() {
        [] => "watched for nothing".to_owned(),
        asked => format!("watched for {}", asked.join(" and ")),
    };
    match &scenario.trigger {
        Some(trigger) => plain(&format!("{asked}, {trigger}")),
        None => plain(&asked),
    }
}

/// The kernel's words, or that it said nothing.
pub(super) fn raw(cell: &Cell) -> String {
    if cell.raw.is_empty() { "–".to_owned() } else { cell.raw.clone() }
}

/// What a program is told, and the numbers of the notes.
fn told(cell: &Cell) -> String {
    let mut text = cell.said.to_string();
    for number in &cell.notes {
        let _ = write!(text, " [{number}]");
    }
    if is_unexplained(cell) {
        text.push_str(" [unexplained]");
    }
    text
}

/// It differs, and no note says why.
pub(super) fn is_unexplained(cell: &Cell) -> bool {
    cell.differs && cell.notes.is_empty()
}

fn legend(out: &mut String, record: &Record, style: Style) {
    let _ = writeln!(out, "{}", paint("WHAT THE WORDS MEAN", BOLD, style));
    for (spellings, meaning) in words::occurring(record) {
        wrap_at(out, &plain(&format!("{}: {meaning}", spellings.join(", "))), prose(style), 2, 6);
    }
    for (fact, meaning) in FACTS {
        wrap_at(out, &format!("{fact}: {meaning}"), prose(style), 2, 6);
    }
    out.push('\n');
}

fn abilities(out: &mut String, record: &Record, style: Style) {
    let _ = writeln!(out, "{}", paint("WHAT EACH CAN DO", BOLD, style));
    for mechanism in &record.mechanisms {
        let resolution = Duration::from_nanos(mechanism.resolution_ns);
        let lacks = [
            (mechanism.half_close, "tells no half-close"),
            (mechanism.errors, "tells no errors"),
            (mechanism.priority, "tells no urgent data"),
            (mechanism.regular_files, "takes no regular files"),
        ];
        let lacks = lacks.iter().filter(|(has, _)| !has).map(|(_, what)| format!("; {what}")).collect::<String>();
        let text = format!(
            "{}: {}; timeouts from {resolution:?}; limits: {}{lacks}",
            mechanism.name,
            mechanism.triggers.join(", "),
            mechanism.limits()
        );
        wrap_at(out, &plain(&text), prose(style), 2, 6);
    }
    out.push('\n');
}

/// A line for each scenario, a column for each mechanism; where they do not all fit, the rest stands below.
fn glance(out: &mut String, record: &Record, style: Style) {
    let _ = writeln!(out, "{}", paint("AT A GLANCE", BOLD, style));
    let names = record.scenarios.iter().map(|scenario| plain(&scenario.name));
    let names = std::iter::once(String::new()).chain(names).collect::<Vec<_>>();
    let columns = record.mechanisms.iter().enumerate().map(|(at, mechanism)| {
        let marks = record.scenarios.iter().map(|scenario| at_a_glance(scenario, at));
        std::iter::once(plain(&mechanism.name)).chain(marks).collect::<Vec<_>>()
    });
    let columns = columns.collect::<Vec<_>>();
    let width = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    let first = width(&names);
    let mut rest = columns.as_slice();
    while !rest.is_empty() {
        let mut used = 2 + first;
        let fitting = rest.iter().take_while(|column| {
            used += 2 + width(column);
            used <= style.width
        });
        let (here, below) = rest.split_at(fitting.count().max(1));
        for (at, name) in names.iter().enumerate() {
            let cells = here.iter().map(|column| format!("  {:width$}", column[at], width = width(column)));
            let line = format!("  {name:first$}{}", cells.collect::<String>());
            let line = line.trim_end();
            let _ = writeln!(out, "{}", if at == 0 { paint(line, FAINT, style) } else { line.to_owned() });
        }
        out.push('\n');
        rest = below;
    }
    wrap_at(out, MARKS, prose(style), 2, 2);
    out.push('\n');
}

/// How the marks of [`at_a_glance`] are read.
pub(super) const MARKS: &str = "=: as expected.  ≠: differs, see the notes.  ?: differs, unexplained.  –: not played.";

/// The whole of a scenario for the mechanism at `at`, in a few characters.
pub(super) fn at_a_glance(scenario: &Scenario, at: usize) -> String {
    let cells = || scenario.moments.iter().filter_map(move |moment| moment.cells.get(at));
    if cells().any(|cell| is_unexplained(cell) || matches!(cell.said, Said::Failed(_))) {
        return "?".to_owned();
    }
    let mut notes = cells().flat_map(|cell| cell.notes.iter().copied()).collect::<Vec<_>>();
    notes.sort_unstable();
    notes.dedup();
    match notes.as_slice() {
        [] if cells().all(|cell| matches!(cell.said, Said::NotPlayed(_))) => "–".to_owned(),
        [] => "=".to_owned(),
        notes => format!("≠ {}", notes.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")),
    }
}

/// How much was looked at, where, and what is not there.
pub(super) fn summary(record: &Record) -> String {
    let moments = record.scenarios.iter().map(|scenario| scenario.moments.len()).sum::<usize>();
    let count = |is: fn(&Cell) -> bool| record.cells().filter(|(_, _, cell)| is(cell)).count();
    let mut text = format!(
        "{} scenarios, {moments} moments, on {}. Of {} answers {} differ",
        record.scenarios.len(),
        record.host,
        count(|cell| !matches!(cell.said, Said::NotPlayed(_))),
        count(|cell| cell.differs),
    );
    match count(is_unexplained) {
        0 => text.push_str(", all of them explained."),
        several => {
            let _ = write!(text, ", and {several} of these are unexplained: please report them.");
        }
    }
    for absent in &record.absent {
        let _ = write!(text, " {}: {}.", absent.name, absent.reason);
    }
    text
}
