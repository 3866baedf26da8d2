//! Tables as elements of a page: scrolled where they are too wide, and rows marked as in every plot.

use std::fmt::Write;

use super::super::format::{grouped, html as escape, plain};
use super::super::plot::{Look, Numbers, Value};
use super::super::summary::Subject;
use super::super::table::{Kind, Row, Table};
use super::paragraph;

/// The table behind a plot: what it draws, to the last point and interval.
pub(super) fn numbers(out: &mut String, numbers: &Numbers, title: &str) {
    open_table(out, title);
    let right = |at: usize| numbers.rows.iter().all(|row| row.get(at).is_none_or(Value::is_numeric));
    let right = (0..numbers.columns.len()).map(|at| at > 0 && right(at)).collect::<Vec<_>>();
    for (head, right) in numbers.columns.iter().zip(&right) {
        let _ = write!(out, "<th scope=\"col\"{}>{}", numeric(*right), escape(&plain(head)));
    }
    out.push_str("\n<tbody>\n");
    for row in numbers.rows.iter().take(MOST_LINES) {
        match row.first() {
            Some(Value::Row(name, at, look)) => {
                let name = escape(&plain(name));
                let _ = write!(out, "<tr data-row=\"{at}\"><th scope=\"row\">{} {name}", look.swatch());
            }
            first => {
                let text = first.map(Value::short).unwrap_or_default();
                let _ = write!(out, "<tr><th scope=\"row\">{}", escape(&text));
            }
        }
        for (value, right) in row.iter().zip(&right).skip(1) {
            let text = if *right { "" } else { " class=\"t\"" };
            let _ = write!(out, "<td{text}>{}", escape(&value.short()));
        }
        out.push('\n');
    }
    out.push_str("</table></div>\n");
    if let Some(more @ 1..) = numbers.rows.len().checked_sub(MOST_LINES) {
        let more = grouped(more as u64);
        let where_ = format!(
            "{more} more lines are in the data of the picture: in this page, and in its file in the directory plots."
        );
        paragraph(out, "note", &where_);
    }
}

/// So many lines of a table behind a plot are for readers; beyond that, they are for programs.
const MOST_LINES: usize = 400;

/// A table that is wider than the page is scrolled, with the keyboard, too.
fn open_table(out: &mut String, title: &str) {
    let title = escape(&plain(title));
    let _ = writeln!(out, "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{title}\"><table>");
    out.push_str("<thead><tr>");
}

/// A table; the name of one of `subjects` is a heading of its row, marked as it is in every plot.
pub(in super::super) fn draw(out: &mut String, subjects: &[Subject], table: &Table) {
    open_table(out, &table.title);
    for column in &table.columns {
        let _ = write!(out, "<th scope=\"col\"{}>{}", numeric(column.right), escape(&column.head));
    }
    out.push_str("\n<tbody>\n");
    for row in &table.rows {
        let of = |text: &String| subjects.iter().position(|subject| subject.name == *text);
        let named = row.cells.iter().zip(&table.columns).find_map(|(text, column)| of(text).filter(|_| !column.right));
        let place = named.map(|at| format!(" data-row=\"{at}\"")).unwrap_or_default();
        let _ = write!(out, "<tr class=\"{}\"{place}>", class(row));
        for (text, column) in row.cells.iter().zip(&table.columns) {
            let is_name = named.is_some_and(|at| !column.right && subjects[at].name == *text);
            let text = escape(&plain(text));
            match named.filter(|_| is_name) {
                Some(at) => {
                    let subject = &subjects[at];
                    let swatch = Look::of(&subject.mechanism, subject.control, at).swatch();
                    let _ = write!(out, "<th scope=\"row\">{swatch} {text}");
                }
                None if column.right => write!(out, "<td>{text}").expect("a string takes it"),
                None => write!(out, "<td class=\"names\">{text}").expect("a string takes it"),
            }
        }
        if let Some(reason) = &row.reason {
            let span = table.columns.len() - row.cells.len();
            let _ = write!(out, "<td colspan=\"{span}\">{}", escape(&plain(reason)));
        }
        out.push('\n');
    }
    out.push_str("</table></div>\n");
}

fn numeric(right: bool) -> &'static str {
    if right { " class=\"n\"" } else { "" }
}

fn class(row: &Row) -> &'static str {
    match row.kind {
        Kind::Leading => "leading",
        Kind::Ordinary => "",
        Kind::Control => "control",
        Kind::Absent => "absent",
    }
}
