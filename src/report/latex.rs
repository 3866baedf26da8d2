//! tables.tex: the tables of the finding, for a paper; plain LaTeX, no package needed.

use std::fmt::Write;

use super::format::plain;
use super::latency;
use super::model;
use super::summary::Summary;
use super::table::{self, Table};
use super::text;

/// The whole file: what is behind it as comments, then each table as a float of its own.
pub fn render(summary: &Summary<'_>) -> String {
    let record = summary.record;
    let made = [
        format!("Made of results.json by pollmark {}.", env!("CARGO_PKG_VERSION")),
        format!("Measured {} by pollmark {}: {}", record.started, record.pollmark_version, text::repeat(summary)),
        text::noise(summary),
    ];
    let mut out = made.map(|line| format!("% {}\n", plain(&line))).concat();
    let tables = table::leaders(summary).into_iter().chain(table::overviews(summary));
    let tables = tables.chain(latency::tables(summary)).chain(model::table(summary));
    for (at, table) in tables.enumerate() {
        draw(&mut out, &table, at + 1);
    }
    out
}

fn draw(out: &mut String, table: &Table, number: usize) {
    let columns = table.columns.iter().map(|column| if column.right { 'r' } else { 'l' }).collect::<String>();
    let line =
        |cells: &mut dyn Iterator<Item = &String>| cells.map(|text| escape(text)).collect::<Vec<_>>().join(" & ");
    let heads = line(&mut table.columns.iter().map(|column| &column.head));
    let _ = write!(
        out,
        "\n\\begin{{table}}\n\\caption{{{}}}\n\\label{{tab:pollmark-{number}}}\n\\begin{{tabular}}{{{columns}}}\n\\hline\n\
         {heads} \\\\\n\\hline\n",
        escape(&table.title)
    );
    for row in &table.rows {
        let cells = line(&mut row.cells.iter().chain(&row.reason));
        let _ = writeln!(out, "{cells} \\\\");
    }
    out.push_str("\\hline\n\\end{tabular}\n\\end{table}\n");
}

/// A text that LaTeX takes for itself.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("$<$"),
            '>' => escaped.push_str("$>$"),
            '|' => escaped.push_str("$|$"),
            '×' => escaped.push_str("$\\times$"),
            '·' => escaped.push_str("$\\cdot$"),
            'µ' => escaped.push_str("$\\mu$"),
            '†' => escaped.push_str("\\dag{}"),
            '–' => escaped.push_str("--"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_row_has_no_more_cells_than_there_are_columns_and_what_begins_ends() {
        for (name, record) in sample::all() {
            let text = render(&Summary::of(&record));
            let count = |word: &str| text.matches(word).count();
            assert_eq!(count("\\begin{table}"), count("\\end{table}"), "{name}");
            assert_eq!(count("\\begin{tabular}"), count("\\end{tabular}"), "{name}");
            let mut columns = 0;
            for line in text.lines() {
                if let Some(spec) = line.strip_prefix("\\begin{tabular}{") {
                    columns = spec.trim_end_matches('}').len();
                }
                let cells = line.replace("\\&", "").matches(" & ").count() + 1;
                assert!(line.starts_with('%') || cells <= columns.max(1), "{name}: {line}");
            }
        }
    }

    #[test]
    fn nothing_foreign_is_a_command() {
        assert_eq!(
            escape("50% of a_b\\input{x}\n^~"),
            "50\\% of a\\_b\\textbackslash{}input\\{x\\} \\textasciicircum{}\\textasciitilde{}"
        );
        let text = render(&Summary::of(&sample::hostile()));
        // A line break in a comment would end it.
        let known = ["%", "\\begin", "\\end", "\\caption", "\\label", "\\hline", ""];
        let begins =
            |line: &str| known.iter().any(|word| line.starts_with(word) && !word.is_empty()) || line.is_empty();
        assert!(text.lines().all(|line| begins(line) || line.ends_with("\\\\")), "{text}");
    }
}
