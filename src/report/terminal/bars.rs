//! Bars: how large the difference is that the finding speaks of, for the eye. They begin at 0, so that a bar twice as long is
//! twice as much.

use std::fmt::Write as _;

use super::{BOLD, Style, align, kind_code, paint};
use crate::report::format::{factor, micros, plain};
use crate::report::summary::{Cell, Summary};
use crate::report::table::{self, Kind};
use crate::report::text;
use crate::report::wording::Wording;

/// The longest bar, where the terminal is wide enough.
const LONGEST: usize = 60;

/// Parts of a column, in eighths.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Of the table with the most idle connections and the fewest active ones; nothing, where there is nothing to compare.
pub(super) fn draw(out: &mut String, summary: &Summary<'_>, style: Style) {
    let Some((idle, load)) = text::found_at(summary) else { return };
    let rows = summary.ranked(idle, load).into_iter().filter_map(|cell| row(summary, cell)).collect::<Vec<_>>();
    let most = rows.iter().map(|row| row.cost).fold(0.0, f64::max);
    if rows.len() < 2 || most <= 0.0 {
        return;
    }
    let wording = Wording::of(summary.record);
    let title = format!("{} µs per {}, {}", wording.title(), wording.operation, table::load(summary, idle, load));
    let _ = writeln!(out, "{}", paint(&title, BOLD, style));
    let widest = |of: fn(&Bar) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
    let (name, figure) = (widest(|row| &row.name), widest(|row| &row.figure));
    let room = style.width.saturating_sub(name + figure + 4).clamp(1, LONGEST);
    for row in &rows {
        let bar = bar(row.cost / most, room);
        let line = format!("{}  {bar} {}", align(&row.name, name, false), row.figure);
        let _ = writeln!(out, "{}", kind_code(row.kind).map_or_else(|| line.clone(), |code| paint(&line, code, style)));
    }
    out.push('\n');
}

struct Bar {
    name: String,
    cost: f64,
    figure: String,
    kind: Kind,
}

fn row(summary: &Summary<'_>, cell: &Cell) -> Option<Bar> {
    let (subject, figures) = (&summary.subjects[cell.subject], cell.figures()?);
    let cost = figures.cpu_ns?.value;
    let beside = figures.ratio.map(|ratio| format!(" ({})", factor(ratio.value))).unwrap_or_default();
    let figure = format!("{}{beside}", micros(cost));
    Some(Bar { name: plain(&subject.name), cost, figure, kind: table::kind(subject, figures) })
}

/// A part of the room, to an eighth of a column; what is more than nothing shows.
fn bar(part: f64, room: usize) -> String {
    let eighths = ((part.clamp(0.0, 1.0) * (room * 8) as f64).round() as usize).max(1);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_most() {
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(0.53, 4), "██▏");
        assert_eq!((bar(0.0, 4).as_str(), bar(1e-9, 4).as_str()), ("▏", "▏"), "there is something");
        assert_eq!((bar(f64::INFINITY, 2).as_str(), bar(f64::NAN, 2).as_str()), ("██", "▏"));
    }

    #[test]
    fn the_bars_are_those_of_the_finding_and_fit_the_terminal() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        for width in [40, 80, 200] {
            let mut out = String::new();
            draw(&mut out, &summary, Style { width, colour: false });
            let lines = out.lines().collect::<Vec<_>>();
            assert_eq!(lines[0], "Server CPU µs per request, 1 active, 5,000 idle");
            let is_bar = |line: &&&str| line.chars().any(|c| ('▉'..='▏').contains(&c) || c == '█');
            let bars = lines.iter().filter(is_bar).count();
            let measured =
                summary.table(5_000, summary.loads[0]).iter().filter(|cell| cell.figures().is_some()).count();
            assert_eq!(bars, measured, "{out}");
            assert!(lines.iter().skip(1).all(|line| line.chars().count() <= width), "{width}: {out}");
        }
        let mut out = String::new();
        draw(&mut out, &Summary::of(&sample::empty()), Style::default());
        assert_eq!(out, "");
    }
}
