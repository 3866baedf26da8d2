//! Bars: sums, and what they consist of.

use std::fmt::Write;

use super::super::format::{html as escape, plain, three_digits};
use super::axis::{label, step};
use super::look::Look;
use super::numbers::{Numbers, Value};

/// One plot.
#[derive(Clone, Debug)]
pub(in super::super) struct Bars {
    pub(in super::super) title: String,
    pub(in super::super) x_label: &'static str,
    /// What each bar consists of, in this order.
    pub(in super::super) parts: Vec<&'static str>,
    pub(in super::super) bars: Vec<Bar>,
}

/// One mechanism's bar.
#[derive(Clone, Debug)]
pub(in super::super) struct Bar {
    /// Which row of the summary it is.
    pub(in super::super) row: usize,
    pub(in super::super) name: String,
    pub(in super::super) look: Look,
    /// As many as the plot has parts, none of them negative; or why there are none.
    pub(in super::super) parts: Result<Vec<f64>, String>,
}

const WIDTH: f64 = 560.0;
const LEFT: f64 = 132.0;
const RIGHT: f64 = 64.0;
const TOP: f64 = 32.0;
const ROW: f64 = 22.0;
/// Told apart by how light they are, too; after Okabe and Ito.
const COLOURS: [&str; 8] = ["#d55e00", "#e69f00", "#7a6fd0", "#2b7bba", "#56b4e9", "#8a8f98", "#009e73", "#b8629a"];

impl Bars {
    pub(super) fn render(&self) -> String {
        let totals = self.bars.iter().filter_map(|bar| Some(bar.parts.as_ref().ok()?.iter().sum::<f64>()));
        let most = totals.filter(|total| total.is_finite()).fold(0.0, f64::max);
        if most <= 0.0 {
            return String::new();
        }
        let height = ROW * self.bars.len() as f64;
        let scale = (WIDTH - LEFT - RIGHT) / most;
        let size = (WIDTH, TOP + height + 62.0);
        let mut out = super::begin("bars", size, &self.title, "", &self.numbers());
        let ticks = (0..=5).map(|at| f64::from(at) * step(most / 5.0)).take_while(|tick| *tick <= most * 1.001);
        for tick in ticks {
            let at = LEFT + tick * scale;
            let _ = writeln!(
                out,
                r#"<path d="M{at:.1} {TOP}v{height}" stroke="currentColor" stroke-opacity=".15"/><text x="{at:.1}" y="{}" text-anchor="middle" font-size="12">{}</text>"#,
                TOP + height + 15.0,
                label(tick)
            );
        }
        for (down, bar) in self.bars.iter().enumerate() {
            self.draw(&mut out, TOP + ROW * down as f64, bar, scale);
        }
        let _ = writeln!(
            out,
            r#"<text x="{}" y="{}" text-anchor="middle">{}</text>"#,
            (LEFT + WIDTH - RIGHT) / 2.0,
            TOP + height + 32.0,
            self.x_label
        );
        let column = (WIDTH - 32.0) / self.parts.len().max(4) as f64;
        for (at, part) in self.parts.iter().enumerate().filter(|_| self.parts.len() > 1) {
            let (x, y) = (16.0 + column * at as f64, TOP + height + 44.0);
            let _ = writeln!(
                out,
                r#"<rect x="{x:.1}" y="{y}" width="14" height="11" fill="{}"/><text x="{:.1}" y="{}" font-size="12">{part}</text>"#,
                COLOURS[at % COLOURS.len()],
                x + 19.0,
                y + 10.0
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn draw(&self, out: &mut String, top: f64, bar: &Bar, scale: f64) {
        let name = escape(&plain(&bar.name).chars().take(16).collect::<String>());
        let (middle, row) = (top + ROW / 2.0 + 4.0, bar.row);
        let _ = write!(
            out,
            r#"<g class="bar" data-row="{row}"><text x="{}" y="{middle}" text-anchor="end" font-size="12">{name}</text><g transform="translate(10 {})" {}>{}</g>"#,
            LEFT - 6.0,
            top + ROW / 2.0,
            bar.look.paint(),
            bar.look.mark(false)
        );
        let (mut left, mut total) = (LEFT, 0.0);
        let parts = bar.parts.as_ref().map_or(&[][..], Vec::as_slice);
        for (at, (value, part)) in parts.iter().zip(&self.parts).enumerate() {
            let (width, colour) = ((value * scale).max(0.0), COLOURS[at % COLOURS.len()]);
            let _ = write!(
                out,
                r#"<g><title>{name}, {part}: {}</title><rect x="{left:.1}" y="{:.1}" width="{width:.1}" height="{}" fill="{colour}"/></g>"#,
                three_digits(*value),
                top + 3.0,
                ROW - 6.0
            );
            (left, total) = (left + width, total + value);
        }
        let left = left + 5.0;
        let _ = match &bar.parts {
            Ok(_) => write!(out, r#"<text x="{left:.1}" y="{middle}" font-size="12">{}</text>"#, three_digits(total)),
            Err(why) => write!(
                out,
                r#"<g><title>{name}: {}</title><text x="{left:.1}" y="{middle}" font-size="12" opacity=".7">{}</text></g>"#,
                escape(&plain(why)),
                escape(&cut(&plain(why), 56))
            ),
        };
        out.push_str("</g>\n");
    }

    pub(super) fn numbers(&self) -> Numbers {
        let parts = self.parts.iter().map(|part| (*part).to_owned());
        let columns = std::iter::once("mechanism".to_owned()).chain(parts).chain(std::iter::once("note".to_owned()));
        let row = |bar: &Bar| {
            let name = Value::Row(bar.name.clone(), bar.row, bar.look);
            let (parts, note) = match &bar.parts {
                Ok(parts) => (parts.iter().map(|part| Value::Number(*part)).collect(), Value::Nothing),
                Err(why) => (vec![Value::Nothing; self.parts.len()], Value::Text(why.clone())),
            };
            [vec![name], parts, vec![note]].concat()
        };
        Numbers { columns: columns.collect(), rows: self.bars.iter().map(row).collect() }
    }

    pub(super) fn table(&self) -> Numbers {
        self.numbers()
    }
}

/// So many characters of a text, with a sign that there are more.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(parts: [Result<Vec<f64>, String>; 2]) -> Bars {
        let bar = |(row, parts): (usize, Result<Vec<f64>, String>)| Bar {
            row,
            name: format!("row {row}"),
            look: Look::of("epoll", false, 0),
            parts,
        };
        let bars = parts.into_iter().enumerate().map(bar).collect();
        Bars { title: "Calls".into(), x_label: "calls", parts: vec!["wait", "read"], bars }
    }

    #[test]
    fn bars_are_as_long_as_their_parts_and_what_is_void_says_so() {
        let drawn = bars([Ok(vec![1.0, 3.0]), Err("void: a wrong byte".into())]).render();
        let room = WIDTH - LEFT - RIGHT;
        for width in [room / 4.0, room * 3.0 / 4.0] {
            assert!(drawn.contains(&format!("width=\"{width:.1}\"")), "{width}: {drawn}");
        }
        assert!(drawn.contains(">4.00</text>") && drawn.contains(">void: a wrong byte</text>"), "{drawn}");
    }

    #[test]
    fn where_there_is_nothing_to_draw_nothing_is_drawn() {
        assert_eq!(bars([Ok(vec![0.0, 0.0]), Err("void".into())]).render(), "");
    }
}
