//! Charts on log-log paper, as SVG that stands alone or inside a page, light or dark.
//!
//! Written by hand and not with a plotting crate, because of what these charts need: text in the page's own colour,
//! a tick for 0 on a logarithmic axis, one colour and marker for each mechanism in every chart, and values shown on
//! hovering.

use std::fmt::Write;

use super::format::{html as escape, plain, three_digits};
use crate::measure::stats::Interval;

/// One chart.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x_label: &'static str,
    pub(super) y_label: &'static str,
    pub(super) series: Vec<Series>,
}

/// One mechanism's line.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) look: Look,
    pub(super) points: Vec<Point>,
}

/// A value at a place, and from where to where it may lie. `faint`: it is not ranked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) interval: Option<Interval>,
    pub(super) faint: bool,
}

/// How a mechanism is drawn, everywhere: its family's colour, and a marker and dash of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look {
    colour: &'static str,
    marker: char,
    dash: &'static str,
}

/// After Okabe and Ito, told apart with any colour vision; darkened where needed for 3:1 on white and on near-black.
const FAMILIES: [(&str, &str, char); 7] = [
    ("epoll", "#2b7bba", 'o'),
    ("kqueue", "#2f9fb8", 'D'),
    ("poll", "#d55e00", 's'),
    ("select", "#b8860b", '^'),
    ("polling", "#009e73", 'v'),
    ("threads", "#b8629a", 'x'),
    ("uring", "#7a6fd0", '+'),
];
const OTHERS: [(&str, char); 3] = [("#808080", 'o'), ("#8c6d46", 's'), ("#6b8e23", '^')];

impl Look {
    /// The look of a mechanism; `place` is its place among the rows and decides only for families unknown here.
    pub(super) fn of(mechanism: &str, control: bool, place: usize) -> Look {
        // "epoll-edge" is of the family epoll, "polling" is not of the family poll.
        let family = mechanism.split('-').next().unwrap_or(mechanism);
        let known = FAMILIES.iter().find(|(name, _, _)| *name == family).map(|(_, colour, marker)| (*colour, *marker));
        let (colour, marker) = known.unwrap_or(OTHERS[place % OTHERS.len()]);
        let dash = match mechanism.rsplit_once('-').map(|(_, variant)| variant) {
            _ if control => "1 4",
            Some("edge") => "8 3",
            Some("oneshot") => "4 3",
            Some(_) => "10 3 2 3",
            None => "",
        };
        Look { colour, marker, dash }
    }

    /// A small picture of it, for a table or a legend.
    pub(super) fn swatch(self) -> String {
        let mut out =
            String::from(r#"<svg class="swatch" width="28" height="12" viewBox="0 0 28 12" aria-hidden="true">"#);
        self.line(&mut out, "M1 6H27");
        self.mark(&mut out, 14.0, 6.0, false);
        out.push_str("</svg>");
        out
    }

    fn line(self, out: &mut String, path: &str) {
        let (colour, dash) = (self.colour, self.dash);
        let dash = if dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dash}""#) };
        let _ = write!(out, r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>"#);
    }

    fn mark(self, out: &mut String, x: f64, y: f64, faint: bool) {
        let colour = self.colour;
        let path = match self.marker {
            's' => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
            '^' => format!("M{x:.1} {:.1}l4.4 7.4h-8.8z", y - 4.6),
            'v' => format!("M{x:.1} {:.1}l4.4 -7.4h-8.8z", y + 4.6),
            'D' => format!("M{x:.1} {:.1}l4.6 4.6l-4.6 4.6l-4.6 -4.6z", y - 4.6),
            'x' => format!("M{:.1} {:.1}l7 7m0 -7l-7 7", x - 3.5, y - 3.5),
            '+' => format!("M{:.1} {y:.1}h9M{x:.1} {:.1}v9", x - 4.5, y - 4.5),
            _ => format!("M{:.1} {y:.1}a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0 -7.6 0z", x - 3.8),
        };
        let fill = if faint || matches!(self.marker, 'x' | '+') { "none" } else { colour };
        let _ = write!(out, r#"<path d="{path}" fill="{fill}" stroke="{colour}" stroke-width="1.6"/>"#);
    }
}

const WIDTH: f64 = 560.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const PLOT: f64 = 250.0;
const LEGEND_ROW: f64 = 18.0;
const LEGEND_COLUMNS: usize = 4;

impl Chart {
    /// The chart as one `<svg>` element, without a style sheet and without foreign resources.
    ///
    /// It has the scales of all `siblings` together, itself among them, so that the eye may compare them.
    pub(super) fn render(&self, siblings: &[Chart]) -> String {
        let points = || siblings.iter().flat_map(|chart| &chart.series).flat_map(|series| &series.points);
        let (Some(x), Some(y)) = (
            Axis::over(points().map(|point| point.x), LEFT + 14.0, WIDTH - RIGHT - 14.0),
            Axis::over(points().flat_map(Point::extent), TOP + PLOT - 8.0, TOP + 8.0),
        ) else {
            return String::new();
        };
        let rows = self.series.len().div_ceil(LEGEND_COLUMNS) as f64;
        let height = TOP + PLOT + 46.0 + rows * LEGEND_ROW;
        let title = escape(&plain(&self.title));
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"currentColor\">\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"15\" font-weight=\"600\">{title}</text>\n"
        );
        self.frame(&mut out, &x, &y);
        for series in &self.series {
            series.draw(&mut out, &x, &y);
        }
        self.legend(&mut out);
        out.push_str("</svg>\n");
        out
    }

    /// Where the points stand, if these are few enough to be the ticks.
    fn places(&self) -> Option<Vec<f64>> {
        let mut places = self.series.iter().flat_map(|series| &series.points).map(|point| point.x).collect::<Vec<_>>();
        places.sort_by(f64::total_cmp);
        places.dedup();
        (places.len() <= 6).then_some(places)
    }

    fn frame(&self, out: &mut String, x: &Axis, y: &Axis) {
        let (bottom, right) = (TOP + PLOT, WIDTH - RIGHT);
        let grid = r#"stroke="currentColor" stroke-opacity=".15""#;
        for tick in y.ticks(5) {
            let at = y.place(tick);
            let (label, below) = (three_digits_short(tick), at + 4.0);
            let _ = write!(out, r#"<path d="M{LEFT} {at:.1}H{right}" {grid}/>"#);
            let _ = writeln!(out, r#"<text x="{}" y="{below:.1}" text-anchor="end">{label}</text>"#, LEFT - 6.0);
        }
        for tick in self.places().unwrap_or_else(|| x.ticks(6)) {
            let at = x.place(tick);
            let (label, below) = (three_digits_short(tick), bottom + 16.0);
            let _ = write!(out, r#"<path d="M{at:.1} {TOP}V{bottom}" {grid}/>"#);
            let _ = writeln!(out, r#"<text x="{at:.1}" y="{below}" text-anchor="middle">{label}</text>"#);
        }
        let _ = writeln!(
            out,
            r#"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="currentColor" stroke-opacity=".6"/>"#
        );
        let (middle, below) = ((LEFT + right) / 2.0, bottom + 34.0);
        let _ = writeln!(out, r#"<text x="{middle}" y="{below}" text-anchor="middle">{}</text>"#, self.x_label);
        let upright = TOP + PLOT / 2.0;
        let _ = writeln!(
            out,
            r#"<text x="14" y="{upright}" text-anchor="middle" transform="rotate(-90 14 {upright})">{}</text>"#,
            self.y_label
        );
    }

    fn legend(&self, out: &mut String) {
        let column = (WIDTH - 2.0 * RIGHT) / LEGEND_COLUMNS as f64;
        for (at, series) in self.series.iter().enumerate() {
            let x = RIGHT + (at % LEGEND_COLUMNS) as f64 * column;
            let y = TOP + PLOT + 52.0 + (at / LEGEND_COLUMNS) as f64 * LEGEND_ROW;
            series.look.line(out, &format!("M{x:.1} {y:.1}h24"));
            series.look.mark(out, x + 12.0, y, false);
            let name = plain(&series.name).chars().take(16).collect::<String>();
            let _ = writeln!(
                out,
                r#"<text x="{:.1}" y="{:.1}" font-size="12">{}</text>"#,
                x + 30.0,
                y + 4.0,
                escape(&name)
            );
        }
    }
}

impl Series {
    fn draw(&self, out: &mut String, x: &Axis, y: &Axis) {
        let path = self.points.iter().enumerate().map(|(at, point)| {
            format!("{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, x.place(point.x), y.place(point.y))
        });
        self.look.line(out, &path.collect::<String>());
        for point in &self.points {
            let (at_x, at_y) = (x.place(point.x), y.place(point.y));
            let name = escape(&plain(&self.name));
            let (place, value) = (three_digits(point.x), three_digits(point.y));
            let _ = write!(out, "<g><title>{name} at {place}: {value}");
            if let Some(Interval { low, high }) = point.interval {
                let _ = write!(out, " ({} to {})</title>", three_digits(low), three_digits(high));
                let (low, high, colour) = (y.place(low), y.place(high), self.look.colour);
                let _ =
                    write!(out, r#"<path d="M{at_x:.1} {low:.1}V{high:.1}" stroke="{colour}" stroke-width="1.2"/>"#);
            } else {
                out.push_str("</title>");
            }
            self.look.mark(out, at_x, at_y, point.faint);
            out.push_str("</g>\n");
        }
    }
}

impl Point {
    fn extent(&self) -> [f64; 3] {
        let (low, high) = self.interval.map_or((self.y, self.y), |interval| (interval.low, interval.high));
        [low, self.y, high]
    }
}

/// A logarithmic axis, with a place of its own for 0 where a value is 0.
#[derive(Clone, Copy, Debug)]
struct Axis {
    zero: bool,
    /// Logarithms of the least and the greatest positive value.
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// `None` without a value that can be drawn.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Axis> {
        let values = values.filter(|value| value.is_finite() && *value >= 0.0).collect::<Vec<_>>();
        let positive = || values.iter().copied().filter(|value| *value > 0.0).map(f64::log10);
        let zero = values.contains(&0.0);
        let (least, most) = match positive().next() {
            Some(_) => (positive().fold(f64::INFINITY, f64::min), positive().fold(f64::NEG_INFINITY, f64::max)),
            None if zero => (0.0, 0.0),
            None => return None,
        };
        // At least a factor of two and a half, so that noise does not look like a slope.
        let lacking = (0.4 - (most - least)).max(0.0) / 2.0;
        Some(Axis { zero, least: least - lacking, most: most + lacking, from, to })
    }

    fn place(&self, value: f64) -> f64 {
        // Zero stands an eighth of the axis before the rest.
        let begin = if self.zero { self.from + (self.to - self.from) / 8.0 } else { self.from };
        if value <= 0.0 {
            return self.from;
        }
        begin + (value.log10() - self.least) / (self.most - self.least) * (self.to - begin)
    }

    /// Round numbers within the axis: 1, 2 and 5 times powers of ten, or powers alone where these are enough.
    fn ticks(&self, enough: usize) -> Vec<f64> {
        let within = |tick: &f64| (self.least - 1e-9..=self.most + 1e-9).contains(&tick.log10());
        let decades = self.least.floor() as i32..=self.most.ceil() as i32;
        let round = |steps: &[f64]| {
            let all = decades.clone().flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            all.filter(within).collect::<Vec<_>>()
        };
        let mut ticks = round(&[1.0]);
        for finer in [&[1.0, 3.0][..], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]] {
            if ticks.len() * 2 > enough {
                break;
            }
            ticks = round(finer);
        }
        if self.zero {
            ticks.insert(0, 0.0);
        }
        ticks
    }
}

/// `0.5`, `20`, `1,500`, `300k`: the numbers on an axis are round ones.
fn three_digits_short(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        large if large >= 9_999.5 => format!("{}k", three_digits_short((large / 1_000.0).round())),
        small if small < 9.95 => {
            let text = format!("{small:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => three_digits(other.round()).trim_end_matches(".0").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> Axis {
        Axis::over(values.iter().copied(), 0.0, 800.0).expect("values")
    }

    #[test]
    fn equal_factors_are_equal_distances_and_zero_stands_apart() {
        let axis = axis(&[0.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(axis.place(0.0), 0.0);
        let places = [10.0, 100.0, 1_000.0].map(|value| axis.place(value).round());
        assert_eq!(places, [100.0, 450.0, 800.0]);
    }

    #[test]
    fn any_axis_has_ticks_within_it() {
        for values in [&[8.0, 8.1][..], &[0.0], &[5.0], &[1.0, 1e7], &[0.02, 0.09], &[0.0, 9_000.0]] {
            let axis = axis(values);
            let ticks = axis.ticks(5);
            assert!(!ticks.is_empty() && ticks.len() < 12, "{values:?}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (-0.5..=800.5).contains(&axis.place(*tick))), "{values:?}: {ticks:?}");
        }
        assert!(Axis::over(std::iter::empty(), 0.0, 1.0).is_none());
        assert!(Axis::over([f64::NAN].into_iter(), 0.0, 1.0).is_none());
    }

    #[test]
    fn labels_are_short() {
        let cases = [(0.0, "0"), (0.5, "0.5"), (1.5, "1.5"), (20.0, "20"), (1_500.0, "1,500"), (300_000.0, "300k")];
        for (number, text) in cases {
            assert_eq!(three_digits_short(number), text);
        }
    }

    #[test]
    fn a_variant_has_its_familys_colour_and_a_line_of_its_own() {
        let [plain, edge, twin] =
            [Look::of("epoll", false, 0), Look::of("epoll-edge", false, 1), Look::of("epoll", true, 2)];
        assert_eq!((plain.colour, plain.colour), (edge.colour, twin.colour));
        assert!(plain.dash != edge.dash && plain.dash != twin.dash && edge.dash != twin.dash);
        assert_ne!(Look::of("polling", false, 0).colour, Look::of("poll", false, 0).colour);
    }
}
