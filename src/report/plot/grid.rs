//! A grid: how many times as much one row costs as another, for each two of something, and where that turns.

use std::fmt::Write;

use super::super::format::{factor, html as escape, plain};
use super::look::Look;
use super::numbers::{Numbers, Value};
use crate::measure::stats::Estimate;

/// One plot.
#[derive(Clone, Debug)]
pub(in super::super) struct Grid {
    pub(in super::super) title: String,
    /// The row of the summary that it is of.
    pub(in super::super) row: usize,
    pub(in super::super) name: String,
    pub(in super::super) look: Look,
    pub(in super::super) x_label: &'static str,
    pub(in super::super) columns: Vec<String>,
    /// Each with its label; the last is drawn at the bottom.
    pub(in super::super) rows: Vec<(String, Vec<Square>)>,
    /// From which difference on one is told: 0.05 is a twentieth.
    pub(in super::super) margin: f64,
}

/// A field of the grid.
#[derive(Clone, PartialEq, Debug)]
pub(in super::super) enum Square {
    /// How many times as much.
    Ratio(Estimate),
    /// There is none, for this reason.
    Nothing(String),
}

/// Room for labels at the left: at least, and at most.
const LEFT: (f64, f64) = (104.0, 400.0);
const TOP: f64 = 30.0;
const CELL: (f64, f64) = (76.0, 30.0);
/// From this factor on, the colour grows no stronger.
const STRONGEST: f64 = 32.0;
const LESS: &str = "#2b7bba";
const MORE: &str = "#d55e00";

impl Grid {
    pub(super) fn render(&self) -> String {
        let left = self.left();
        let (width, height) = (left + CELL.0 * self.columns.len() as f64, CELL.1 * self.rows.len() as f64);
        let size = ((width + 12.0).max(380.0), TOP + height + 44.0);
        let attributes = format!(r#" data-row="{}""#, self.row);
        let mut out = super::begin("grid", size, &self.title, &attributes, &self.numbers());
        for (down, (label, squares)) in self.rows.iter().enumerate() {
            let top = TOP + CELL.1 * down as f64;
            let _ = writeln!(
                out,
                r#"<text x="{}" y="{:.1}" text-anchor="end" font-size="12">{}</text>"#,
                left - 8.0,
                top + CELL.1 / 2.0 + 4.0,
                escape(&plain(label))
            );
            for (across, square) in squares.iter().enumerate() {
                self.draw(&mut out, (left + CELL.0 * across as f64, top), &self.place(down, across), square);
            }
        }
        let bottom = TOP + height + 16.0;
        for (across, label) in self.columns.iter().enumerate() {
            let middle = left + CELL.0 * (across as f64 + 0.5);
            let _ = writeln!(
                out,
                r#"<text x="{middle}" y="{bottom}" text-anchor="middle" font-size="12">{}</text>"#,
                escape(&plain(label))
            );
        }
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{}" text-anchor="middle">{}</text>"#,
            (left + width) / 2.0,
            bottom + 18.0,
            self.x_label
        );
        let contour = self.contour();
        if !contour.is_empty() {
            let _ = writeln!(
                out,
                r#"<path class="contour" d="{contour}" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round"/>"#
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// Where the fields begin: behind the longest label.
    fn left(&self) -> f64 {
        let longest = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        (longest as f64 * 7.0 + 20.0).clamp(LEFT.0, LEFT.1)
    }

    fn place(&self, down: usize, across: usize) -> String {
        format!("{}, {} {}", self.rows[down].0, self.columns[across], self.x_label)
    }

    fn draw(&self, out: &mut String, (left, top): (f64, f64), place: &str, square: &Square) {
        let (fill, strength, text, said) = match square {
            Square::Ratio(ratio) => {
                let strength = (ratio.value.ln().abs() / STRONGEST.ln()).min(1.0) * 0.75;
                let fill = if ratio.value < 1.0 { LESS } else { MORE };
                let differs = ratio.is_beyond(self.margin) || ratio.is_below(self.margin);
                let text = format!("{}{}", if differs { "" } else { "=" }, factor(ratio.value));
                let between = ratio.interval.map(|one| format!(" ({} to {})", factor(one.low), factor(one.high)));
                (fill, strength, text.clone(), format!("{text}{}", between.unwrap_or_default()))
            }
            Square::Nothing(why) => {
                let text = if why.starts_with("void") { "void" } else { "–" };
                ("none", 0.0, text.to_owned(), why.clone())
            }
        };
        let said = escape(&plain(&format!("{}, {place}: {said}", self.name)));
        let (width, height) = CELL;
        let _ = write!(
            out,
            r#"<g transform="translate({left} {top})"><title>{said}</title><rect width="{width}" height="{height}" fill="{fill}" fill-opacity="{strength:.2}" stroke="currentColor" stroke-opacity=".25"/>"#
        );
        if matches!(square, Square::Nothing(_)) {
            let _ = write!(out, r#"<path d="M0 {height}L{width} 0" stroke="currentColor" stroke-opacity=".3"/>"#);
        }
        let _ = writeln!(
            out,
            r#"<text x="{}" y="{}" text-anchor="middle" font-size="12">{text}</text></g>"#,
            width / 2.0,
            height / 2.0 + 4.0
        );
    }

    /// The edges between the fields where it costs more, beyond noise, and those where it does not.
    fn contour(&self) -> String {
        let costs_more = |down: usize, across: usize| match self.rows.get(down)?.1.get(across)? {
            Square::Ratio(ratio) => Some(ratio.is_beyond(self.margin)),
            Square::Nothing(_) => None,
        };
        let turns = |one: Option<bool>, other: Option<bool>| one.zip(other).is_some_and(|(one, other)| one != other);
        let mut path = String::new();
        for (down, (_, squares)) in self.rows.iter().enumerate() {
            for across in 0..squares.len() {
                let (left, top) = (self.left() + CELL.0 * across as f64, TOP + CELL.1 * down as f64);
                let here = costs_more(down, across);
                if turns(here, costs_more(down, across + 1)) {
                    let _ = write!(path, "M{} {top}v{}", left + CELL.0, CELL.1);
                }
                if turns(here, costs_more(down + 1, across)) {
                    let _ = write!(path, "M{left} {}h{}", top + CELL.1, CELL.0);
                }
            }
        }
        path
    }

    pub(super) fn numbers(&self) -> Numbers {
        let columns = ["mechanism", "load", self.x_label, "ratio", "low", "high", "note"].map(str::to_owned);
        let line = |label: &str, column: &str, square: &Square| {
            let name = Value::Row(self.name.clone(), self.row, self.look);
            let [label, column] = [label, column].map(|text| Value::Text(text.to_owned()));
            let [ratio, low, high, note] = match square {
                Square::Ratio(one) => {
                    let [low, high] = [one.interval.map(|at| at.low), one.interval.map(|at| at.high)];
                    [Value::Number(one.value), low.into(), high.into(), Value::Nothing]
                }
                Square::Nothing(why) => [Value::Nothing, Value::Nothing, Value::Nothing, Value::Text(why.clone())],
            };
            vec![name, label, column, ratio, low, high, note]
        };
        let of_row = |(label, squares): &(String, Vec<Square>)| {
            let both = squares.iter().zip(&self.columns);
            both.map(|(square, column)| line(label, column, square)).collect::<Vec<_>>()
        };
        Numbers { columns: columns.to_vec(), rows: self.rows.iter().flat_map(of_row).collect() }
    }

    pub(super) fn table(&self) -> Numbers {
        let text = |square: &Square| match square {
            Square::Ratio(ratio) => {
                let between = ratio.interval.map(|one| format!(" ({}–{})", factor(one.low), factor(one.high)));
                format!("{}{}", factor(ratio.value), between.unwrap_or_default())
            }
            Square::Nothing(why) => why.clone(),
        };
        let row = |(label, squares): &(String, Vec<Square>)| {
            let texts = squares.iter().map(|square| Value::Text(text(square)));
            std::iter::once(Value::Text(label.clone())).chain(texts).collect()
        };
        let columns = std::iter::once(self.x_label.to_owned()).chain(self.columns.iter().cloned());
        Numbers { columns: columns.collect(), rows: self.rows.iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::stats::Interval;

    fn ratio(value: f64) -> Square {
        Square::Ratio(Estimate { value, interval: Some(Interval { low: value * 0.98, high: value * 1.02 }) })
    }

    fn grid() -> Grid {
        let void = Square::Nothing("void: a wrong byte".to_owned());
        Grid {
            title: "poll against epoll".into(),
            row: 1,
            name: "poll".into(),
            look: Look::of("poll", false, 1),
            x_label: "idle",
            columns: ["0", "100"].map(str::to_owned).to_vec(),
            rows: vec![("1 active".into(), vec![ratio(0.8), ratio(3.0)]), ("10 active".into(), vec![ratio(1.0), void])],
            margin: 0.05,
        }
    }

    #[test]
    fn the_contour_runs_where_it_begins_to_cost_more_and_nowhere_else() {
        // Between 0.8 and 3.0; not between 0.8 and 1.0, which both cost no more; not beside what is void.
        assert_eq!(grid().contour(), format!("M{} {TOP}v{}", LEFT.0 + CELL.0, CELL.1));
    }

    #[test]
    fn labels_have_the_room_they_need() {
        let mut grid = grid();
        grid.rows[0].0 = "1 active, none handed on".to_owned();
        assert!(grid.left() > 24.0 * 6.5 && grid.contour().starts_with(&format!("M{} ", grid.left() + CELL.0)));
    }

    #[test]
    fn a_void_field_says_so_and_a_difference_within_noise_has_an_equals_sign() {
        let drawn = grid().render();
        assert!(drawn.contains(">void</text>") && drawn.contains("100 idle: void: a wrong byte</title>"), "{drawn}");
        assert!(drawn.contains(">=1.00×</text>") && drawn.contains(">3.00×</text>"), "{drawn}");
        assert!(grid().numbers().csv().contains("poll,10 active,100,,,,void: a wrong byte\n"));
    }
}
