//! The matrix as Markdown: a document to learn from and to publish, with the notes as footnotes.

use std::fmt::Write;
use std::time::Duration;

use super::terminal::{MARKS, at_a_glance, is_unexplained, terms};
use super::words::{self, FACTS};
use super::{Cell, Record, Scenario};
use crate::report::format::{markdown as escape, plain};

/// How the line begins that says where and by what the document was made. All else in it depends on what the kernel
/// does, not on its version.
pub const MADE: &str = "Made by pollmark ";

/// The whole document.
pub fn render(record: &Record) -> String {
    let mut out = format!("# What each mechanism says: {}\n\n", system(record));
    let _ = write!(
        out,
        "The same situation is played out in front of every mechanism. Beside what the kernel says, in its own words, \
         stands what a program is told through pollmark's `Poller`. Where a mechanism differs, a footnote says why, and \
         where that is written.\n\n\
         {MADE}{} on {}. Make yours with `pollmark semantics`; lay two hosts side by side with `--diff`.\n\n",
        escape(&record.pollmark_version),
        escape(&record.host.to_string()),
    );
    glance(&mut out, record);
    legend(&mut out, record);
    abilities(&mut out, record);
    let mut chapter = "";
    for scenario in &record.scenarios {
        if scenario.chapter != chapter {
            chapter = &scenario.chapter;
            let _ = write!(out, "## {}\n\n", escape(chapter));
        }
        section(&mut out, scenario);
    }
    for (note, number) in record.notes.iter().zip(1..) {
        let (text, reference) = (quoted(&note.text), quoted(&note.reference));
        let _ = writeln!(out, "[^{number}]: {text} [{reference}]({})", plain(&note.link));
    }
    out
}

/// The system's usual name.
fn system(record: &Record) -> String {
    match record.host.os.as_str() {
        "linux" => "Linux".to_owned(),
        "macos" => "macOS".to_owned(),
        "freebsd" => "FreeBSD".to_owned(),
        "netbsd" => "NetBSD".to_owned(),
        "openbsd" => "OpenBSD".to_owned(),
        "windows" => "Windows".to_owned(),
        other => escape(other),
    }
}

fn glance(out: &mut String, record: &Record) {
    out.push_str("## At a glance\n\n");
    let names = record.mechanisms.iter().map(|mechanism| escape(&mechanism.name)).collect::<Vec<_>>();
    let _ = writeln!(out, "| scenario | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()));
    for scenario in &record.scenarios {
        let marks = (0..names.len()).map(|at| match at_a_glance(scenario, at).split_once(' ') {
            Some((mark, notes)) => format!("{mark}{}", notes.split(' ').map(footnote).collect::<String>()),
            None => at_a_glance(scenario, at),
        });
        let name = escape(&scenario.name);
        let _ = writeln!(out, "| [{name}](#{name}) | {} |", marks.collect::<Vec<_>>().join(" | "));
    }
    let _ = write!(out, "\n{MARKS}\n\n");
    for absent in &record.absent {
        let _ = write!(out, "`{}` is {}.\n\n", plain(&absent.name), escape(&absent.reason));
    }
}

fn legend(out: &mut String, record: &Record) {
    out.push_str("## What the words mean\n\n| the kernel says | that is |\n| --- | --- |\n");
    for (spellings, meaning) in words::occurring(record) {
        let spellings = spellings.iter().map(|word| code(word)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| {spellings} | {} |", quoted(meaning));
    }
    out.push_str("\n| a program is told | that is |\n| --- | --- |\n");
    for (fact, meaning) in FACTS {
        let _ = writeln!(out, "| {} | {} |", code(fact), quoted(meaning));
    }
    out.push('\n');
}

fn abilities(out: &mut String, record: &Record) {
    out.push_str(
        "## What each can do\n\n\
         | mechanism | triggers | finest timeout | limits | half-close | errors | urgent data | regular files |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for mechanism in &record.mechanisms {
        let told = |has: bool| if has { "told" } else { "not told apart" };
        let _ = writeln!(
            out,
            "| {} | {} | {:?} | {} | {} | {} | {} | {} |",
            escape(&mechanism.name),
            escape(&mechanism.triggers.join(", ")),
            Duration::from_nanos(mechanism.resolution_ns),
            mechanism.limits(),
            told(mechanism.half_close),
            told(mechanism.errors),
            if mechanism.priority { "told" } else { "not told" },
            if mechanism.regular_files { "yes" } else { "refused" },
        );
    }
    out.push('\n');
}

/// One scenario.
fn section(out: &mut String, scenario: &Scenario) {
    let _ = write!(out, "### {}\n\n", escape(&scenario.name));
    let _ = write!(out, "{} *{}.*\n\n", quoted(&scenario.shows), capital(&terms(scenario)));
    out.push_str("| | mechanism | the kernel says | a program is told |\n| --- | --- | --- | --- |\n");
    for moment in &scenario.moments {
        for (at, cell) in moment.cells.iter().enumerate() {
            let when = if at == 0 { escape(&moment.when) } else { String::new() };
            let raw = if cell.raw.is_empty() { "–".to_owned() } else { code(&cell.raw) };
            let _ = writeln!(out, "| {when} | {} | {raw} | {} |", escape(&cell.mechanism), told(cell));
        }
    }
    out.push('\n');
}

fn told(cell: &Cell) -> String {
    let notes = cell.notes.iter().map(usize::to_string).map(|number| footnote(&number)).collect::<String>();
    let unexplained = if is_unexplained(cell) { " (unexplained)" } else { "" };
    format!("{}{unexplained}{notes}", escape(&cell.said.to_string()))
}

fn footnote(number: &str) -> String {
    format!("[^{number}]")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// As code, also within a table.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'").replace('|', "\\|"))
}

/// Prose of ours, in which backticks mark code already; what a stranger put there does no harm.
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => {
                // Escaping trims, and the space beside code is wanted.
                let space = |is: bool| if is { " " } else { "" };
                out.push_str(space(part.starts_with(' ')));
                out.push_str(&escape(part));
                out.push_str(space(part.ends_with(' ') && part.len() > 1));
            }
            _ => out.push_str(&code(part)),
        }
    }
    out
}
