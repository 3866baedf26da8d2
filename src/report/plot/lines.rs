//! Curves: one for each mechanism, with the interval of each point, what the cost model says, and what has no value.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::format::{grouped, html as escape, plain, three_digits};
use super::axis::{Axis, label};
use super::look::Look;
use super::numbers::{Numbers, Value};
use crate::measure::stats::Interval;

/// One plot.
#[derive(Clone, Debug)]
pub(in super::super) struct Lines {
    pub(in super::super) title: String,
    pub(in super::super) x_label: &'static str,
    pub(in super::super) y_label: &'static str,
    pub(in super::super) reading: Reading,
    pub(in super::super) series: Vec<Series>,
}

/// What the points of several series have in common, and so how they are drawn and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Reading {
    /// They stand at the same places: curves through marked points.
    Places,
    /// They stand at the same heights: curves alone.
    Heights,
    /// Nothing, and each is one of an order: points alone, on a linear axis.
    Order,
}

/// One mechanism's curve.
#[derive(Clone, Debug)]
pub(in super::super) struct Series {
    /// Which row of the summary it is.
    pub(in super::super) row: usize,
    pub(in super::super) name: String,
    pub(in super::super) look: Look,
    pub(in super::super) points: Vec<Point>,
    /// What the cost model says, at places.
    pub(in super::super) model: Vec<(f64, f64)>,
    pub(in super::super) gaps: Vec<Gap>,
}

/// A value at a place, and from where to where it may lie. `faint`: it is not ranked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Point {
    pub(in super::super) x: f64,
    pub(in super::super) y: f64,
    pub(in super::super) interval: Option<Interval>,
    pub(in super::super) faint: bool,
}

/// A place without a value, and why.
#[derive(Clone, PartialEq, Debug)]
pub(in super::super) struct Gap {
    pub(in super::super) x: f64,
    pub(in super::super) why: String,
}

/// The axes of plots that are looked at together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    x: Axis,
    y: Axis,
}

const WIDTH: f64 = 560.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const PLOT: f64 = 250.0;
const LEGEND_ROW: f64 = 18.0;
const LEGEND_COLUMNS: usize = 4;
/// Of more points in one plot none has a mark of its own, which could say its value: nobody could point at it.
const MOST_MARKS: usize = 300;

impl Scales {
    /// `None` where there is nothing to draw.
    pub(super) fn over<'a>(plots: impl Iterator<Item = &'a Lines> + Clone) -> Option<Scales> {
        let points = || plots.clone().flat_map(|lines| &lines.series).flat_map(|series| &series.points);
        let in_order = plots.clone().any(|lines| lines.reading == Reading::Order);
        let (left, right) = (LEFT + 14.0, WIDTH - RIGHT - 14.0);
        let places = points().map(|point| point.x);
        let x = if in_order { Axis::linear(places, left, right) } else { Axis::over(places, left, right) };
        // Below the least value is room for what has none.
        let y = Axis::over(points().flat_map(Point::extent), TOP + PLOT - 14.0, TOP + 8.0);
        Some(Scales { x: x?, y: y? })
    }
}

impl Lines {
    /// The plot as one `<svg>` element.
    pub(super) fn render(&self, scales: &Scales) -> String {
        let rows = self.series.len().div_ceil(LEGEND_COLUMNS) as f64;
        let height = TOP + PLOT + 46.0 + rows * LEGEND_ROW;
        let of = |axis: &Axis| format!("{:.1} {:.1}{}", axis.from, axis.to, if axis.linear { " linear" } else { "" });
        let attributes = format!(r#" data-x="{}" data-y="{}""#, of(&scales.x), of(&scales.y));
        let mut out = super::begin("lines", (WIDTH, height), &self.title, &attributes, &self.numbers());
        self.frame(&mut out, scales);
        let dense = self.series.iter().map(|series| series.points.len()).sum::<usize>() > MOST_MARKS;
        for series in &self.series {
            series.draw(&mut out, self.reading, scales, dense);
        }
        self.gaps(&mut out, scales);
        self.legend(&mut out);
        out.push_str("</svg>\n");
        out
    }

    /// Where the points stand, if these are few enough to be the ticks.
    fn places(&self) -> Option<Vec<f64>> {
        let mut places = self.series.iter().flat_map(|series| &series.points).map(|point| point.x).collect::<Vec<_>>();
        places.sort_by(f64::total_cmp);
        places.dedup();
        (places.len() <= 6 && self.reading == Reading::Places).then_some(places)
    }

    fn frame(&self, out: &mut String, Scales { x, y }: &Scales) {
        let (bottom, right) = (TOP + PLOT, WIDTH - RIGHT);
        let grid = r#"stroke="currentColor" stroke-opacity=".15""#;
        out.push_str("<g class=\"ticks-y\" text-anchor=\"end\">");
        for tick in y.ticks(5) {
            let (at, label) = (y.place(tick), label(tick));
            let _ = write!(out, r#"<path d="M{LEFT} {at:.1}H{right}" {grid}/>"#);
            let _ = writeln!(out, r#"<text x="{}" y="{:.1}">{label}</text>"#, LEFT - 6.0, at + 4.0);
        }
        out.push_str("</g>\n<g class=\"ticks-x\" text-anchor=\"middle\">");
        for tick in self.places().unwrap_or_else(|| x.ticks(6)) {
            let (at, label) = (x.place(tick), label(tick));
            let _ = write!(out, r#"<path d="M{at:.1} {TOP}V{bottom}" {grid}/>"#);
            let _ = writeln!(out, r#"<text x="{at:.1}" y="{}">{label}</text>"#, bottom + 16.0);
        }
        out.push_str("</g>\n");
        let (middle, upright) = ((LEFT + right) / 2.0, TOP + PLOT / 2.0);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\".6\"/>\n\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"14\" y=\"{upright}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {upright})\">{}</text>",
            bottom + 34.0,
            self.x_label,
            self.y_label
        );
    }

    /// What has no value stands below everything that has one, side by side: a line through a circle.
    fn gaps(&self, out: &mut String, Scales { x, .. }: &Scales) {
        let places = self.series.iter().flat_map(|series| series.gaps.iter().map(move |gap| (series, gap)));
        let places = places.collect::<Vec<_>>();
        for (at, (series, gap)) in places.iter().enumerate() {
            let before = places[..at].iter().filter(|(_, other)| other.x == gap.x).count();
            let (across, down) = (x.place(gap.x) + 10.0 * before as f64, TOP + PLOT - 6.0);
            let (row, paint) = (series.row, series.look.paint());
            let said = escape(&plain(&format!("{} at {}: {}", series.name, three_digits(gap.x), gap.why)));
            let _ = writeln!(
                out,
                r#"<g class="gap" data-row="{row}" data-x="{}" {paint} transform="translate({across:.1} {down})"><title>{said}</title><circle r="3.8" fill="none"/><path d="M-4 4L4 -4"/></g>"#,
                gap.x
            );
        }
    }

    fn legend(&self, out: &mut String) {
        let column = (WIDTH - 2.0 * RIGHT) / LEGEND_COLUMNS as f64;
        for (at, series) in self.series.iter().enumerate() {
            let x = RIGHT + (at % LEGEND_COLUMNS) as f64 * column;
            let y = TOP + PLOT + 52.0 + (at / LEGEND_COLUMNS) as f64 * LEGEND_ROW;
            let name = plain(&series.name).chars().take(16).collect::<String>();
            let (row, paint, dashed) = (series.row, series.look.paint(), series.look.dashed());
            let faded = if series.points.is_empty() { r#" opacity=".5""# } else { "" };
            let (line, mark) = match self.reading {
                Reading::Places => (format!(r#"<path d="M0 0h24"{dashed}/>"#), series.look.mark(false)),
                Reading::Heights => (format!(r#"<path d="M0 0h24"{dashed}/>"#), String::new()),
                Reading::Order => (String::new(), series.look.mark(false)),
            };
            let struck = if series.points.is_empty() { r#" text-decoration="line-through""# } else { "" };
            let _ = writeln!(
                out,
                r#"<g data-row="{row}" transform="translate({x:.1} {y:.1})"{faded}><g {paint}>{line}<g transform="translate(12 0)">{mark}</g></g><text x="30" y="4" font-size="12"{struck}>{}</text></g>"#,
                escape(&name)
            );
        }
    }

    /// A line for each point, each value of the model, and each gap.
    pub(super) fn numbers(&self) -> Numbers {
        let columns = ["mechanism", self.x_label, self.y_label, "low", "high", "model", "note"].map(str::to_owned);
        let mut rows = Vec::new();
        for series in &self.series {
            let name = || Value::Row(series.name.clone(), series.row, series.look);
            for point in &series.points {
                let model = series.model.iter().find(|(x, _)| *x == point.x).map(|(_, y)| *y);
                let [low, high] = [point.interval.map(|one| one.low), point.interval.map(|one| one.high)];
                let note = if point.faint { Value::Text("the load was the limit".to_owned()) } else { Value::Nothing };
                let numbers = [Value::Number(point.x), Value::Number(point.y), low.into(), high.into(), model.into()];
                rows.push([vec![name()], numbers.to_vec(), vec![note]].concat());
            }
            for gap in &series.gaps {
                let nothing = vec![Value::Nothing; 4];
                rows.push([vec![name(), Value::Number(gap.x)], nothing, vec![Value::Text(gap.why.clone())]].concat());
            }
        }
        Numbers { columns: columns.to_vec(), rows }
    }

    pub(super) fn table(&self) -> Numbers {
        match self.reading {
            Reading::Places => self.across(|point| (point.x, text(point))),
            Reading::Heights => self.across(|point| (point.y, three_digits(point.x))),
            Reading::Order => self.numbers(),
        }
    }

    /// A row for each series, a column for each place, or height.
    fn across(&self, read: impl Fn(&Point) -> (f64, String)) -> Numbers {
        let all = self.series.iter().flat_map(|series| &series.points);
        let gaps = self.series.iter().flat_map(|series| &series.gaps).map(|gap| gap.x);
        // Of what is not negative, the order of the bits is that of the numbers.
        let columns = all.map(|point| read(point).0).chain(gaps).map(f64::to_bits).collect::<BTreeSet<_>>();
        let columns = columns.into_iter().map(f64::from_bits).collect::<Vec<_>>();
        let (label, heads): (_, fn(f64) -> String) = match self.reading {
            Reading::Heights => (self.y_label, label),
            _ => (self.x_label, |x| grouped(x as u64)),
        };
        let row = |series: &Series| {
            let cell = |column: &f64| {
                let point = series.points.iter().map(&read).find(|(at, _)| at == column).map(|(_, text)| text);
                let gap = || series.gaps.iter().find(|gap| gap.x == *column).map(|gap| gap.why.clone());
                point.or_else(gap).map_or(Value::Nothing, Value::Text)
            };
            let name = Value::Row(series.name.clone(), series.row, series.look);
            std::iter::once(name).chain(columns.iter().map(cell)).collect()
        };
        let columns = std::iter::once(label.to_owned()).chain(columns.iter().map(|at| heads(*at)));
        Numbers { columns: columns.collect(), rows: self.series.iter().map(row).collect() }
    }
}

fn text(point: &Point) -> String {
    let interval = point.interval.map(|one| format!(" ({}–{})", three_digits(one.low), three_digits(one.high)));
    let limited = if point.faint { "†" } else { "" };
    format!("{}{}{limited}", three_digits(point.y), interval.unwrap_or_default())
}

impl Series {
    fn draw(&self, out: &mut String, reading: Reading, Scales { x, y }: &Scales, dense: bool) {
        if self.points.is_empty() {
            return;
        }
        let values = self.points.iter().map(|point| {
            let [low, _, high] = point.extent();
            format!("{} {} {low} {high}", short(point.x), short(point.y))
        });
        let values = values.collect::<Vec<_>>().join(";");
        let (row, name, paint) = (self.row, escape(&plain(&self.name)), self.look.paint());
        let _ = writeln!(out, r#"<g class="series" data-row="{row}" data-name="{name}" data-v="{values}" {paint}>"#);
        let path = |points: &mut dyn Iterator<Item = (f64, f64)>| {
            let at = points.map(|(at_x, at_y)| format!("{:.1} {:.1}", x.place(at_x), y.place(at_y)));
            format!("M{}", at.collect::<Vec<_>>().join("L"))
        };
        if reading == Reading::Places && self.points.iter().any(|point| point.interval.is_some()) {
            let above = self.points.iter().map(|point| (point.x, point.extent()[2]));
            let below = self.points.iter().rev().map(|point| (point.x, point.extent()[0]));
            let band = path(&mut above.chain(below));
            let _ = write!(out, r#"<path class="band" d="{band}Z" stroke="none" fill-opacity=".13"/>"#);
        }
        if !self.model.is_empty() {
            let values = self.model.iter().map(|(x, y)| format!("{} {}", short(*x), short(*y))).collect::<Vec<_>>();
            let (model, values) = (path(&mut self.model.iter().copied()), values.join(";"));
            let _ = write!(
                out,
                r#"<path class="model" data-v="{values}" d="{model}" fill="none" stroke-width="1" stroke-dasharray="2 2"/>"#
            );
        }
        if reading != Reading::Order {
            let line = path(&mut self.points.iter().map(|point| (point.x, point.y)));
            let _ = writeln!(out, r#"<path class="line" d="{line}" fill="none"{}/>"#, self.look.dashed());
        }
        // Hollow marks among others stand by themselves.
        let alike = self.points.iter().all(|point| point.faint == self.points[0].faint);
        if dense && alike && reading != Reading::Heights {
            self.marks(out, x, y);
        } else if reading != Reading::Heights {
            self.points.iter().for_each(|point| self.mark(out, point, x, y));
        }
        out.push_str("</g>\n");
    }

    /// All marks as one path, and all intervals as another.
    fn marks(&self, out: &mut String, x: &Axis, y: &Axis) {
        let (mut marks, mut intervals) = (String::new(), String::new());
        for point in &self.points {
            let at_x = x.place(point.x);
            let _ = write!(marks, "M{at_x:.1} {:.1}{}", y.place(point.y), self.look.outline());
            if let Some(Interval { low, high }) = point.interval {
                let _ = write!(intervals, "M{at_x:.1} {:.1}V{:.1}", y.place(low), y.place(high));
            }
        }
        if !intervals.is_empty() {
            let _ = writeln!(out, r#"<path class="intervals" d="{intervals}" fill="none" stroke-width="1.2"/>"#);
        }
        let hollow = self.look.filling(self.points[0].faint);
        let _ = writeln!(out, r#"<path class="marks" d="{marks}"{hollow}/>"#);
    }

    fn mark(&self, out: &mut String, point: &Point, x: &Axis, y: &Axis) {
        let (at_x, at_y) = (x.place(point.x), y.place(point.y));
        let (place, value, name) = (three_digits(point.x), three_digits(point.y), escape(&plain(&self.name)));
        let _ = write!(
            out,
            r#"<g class="point" transform="translate({at_x:.1} {at_y:.1})"><title>{name} at {place}: {value}"#
        );
        if let Some(Interval { low, high }) = point.interval {
            let _ = write!(out, " ({} to {})</title>", three_digits(low), three_digits(high));
            let (low, high) = (y.place(low) - at_y, y.place(high) - at_y);
            let _ = write!(out, r#"<path class="interval" d="M0 {low:.1}V{high:.1}" stroke-width="1.2"/>"#);
        } else {
            out.push_str("</title>");
        }
        let _ = writeln!(out, "{}</g>", self.look.mark(point.faint));
    }
}

/// Six digits: more than anybody sees.
fn short(number: f64) -> String {
    let places = (5 - number.abs().max(1e-12).log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{number:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Point {
    fn extent(&self) -> [f64; 3] {
        let (low, high) = self.interval.map_or((self.y, self.y), |interval| (interval.low, interval.high));
        [low, self.y, high]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(row: usize, points: &[(f64, f64)], gaps: &[f64]) -> Series {
        let interval = |y: f64| Some(Interval { low: y * 0.9, high: y * 1.1 });
        let point = |&(x, y): &(f64, f64)| Point { x, y, interval: interval(y), faint: y > 50.0 };
        let gap = |&x: &f64| Gap { x, why: "void: a wrong byte".to_owned() };
        Series {
            row,
            name: format!("row {row}"),
            look: Look::of("poll", false, row),
            points: points.iter().map(point).collect(),
            model: Vec::new(),
            gaps: gaps.iter().map(gap).collect(),
        }
    }

    fn plot(series: Vec<Series>) -> Lines {
        Lines { title: "A plot".into(), x_label: "idle", y_label: "µs", reading: Reading::Places, series }
    }

    #[test]
    fn what_has_no_value_is_drawn_named_and_in_the_numbers() {
        let plot = plot(vec![series(0, &[(0.0, 5.0), (100.0, 60.0)], &[]), series(1, &[(0.0, 6.0)], &[100.0])]);
        let drawn = plot.render(&Scales::over(std::iter::once(&plot)).expect("points"));
        assert!(drawn.contains("row 1 at 100: void: a wrong byte</title>"), "{drawn}");
        assert_eq!(drawn.matches("class=\"point\"").count(), 3);
        let table = plot.table();
        assert_eq!(table.columns, ["idle", "0", "100"]);
        let texts = table.rows.iter().map(|row| row[1..].iter().map(Value::short).collect::<Vec<_>>());
        let texts = texts.collect::<Vec<_>>();
        assert_eq!(texts[0], ["5.00 (4.50–5.50)", "60.0 (54.0–66.0)†"]);
        assert_eq!(texts[1], ["6.00 (5.40–6.60)", "void: a wrong byte"]);
        let csv = plot.numbers().csv();
        assert!(csv.contains("row 1,100,,,,,void: a wrong byte\n") && csv.lines().count() == 5, "{csv}");
    }

    #[test]
    fn of_very_many_points_each_row_has_one_path_of_marks_and_hollow_ones_keep_their_own() {
        let many = |least: f64| (0..200).map(|x| (f64::from(x), least)).collect::<Vec<_>>();
        let mixed = [many(5.0), vec![(200.0, 60.0)]].concat();
        let plot = plot(vec![series(0, &many(5.0), &[]), series(1, &many(60.0), &[]), series(2, &mixed, &[])]);
        let drawn = plot.render(&Scales::over(std::iter::once(&plot)).expect("points"));
        let marks = drawn.split("class=\"marks\" d=\"").skip(1).map(|rest| rest.split('"').next().expect("an end"));
        assert_eq!(marks.map(|path| path.matches('M').count()).collect::<Vec<_>>(), [200, 200], "each at its place");
        assert_eq!(drawn.matches("class=\"intervals\"").count(), 2);
        assert_eq!(drawn.matches("class=\"point\"").count(), 201, "where some are hollow, each says of itself");
        assert_eq!(plot.numbers().rows.len(), 601, "the data has all of them");
    }

    #[test]
    fn a_row_without_any_value_is_in_the_legend_alone() {
        let plot = plot(vec![series(0, &[(1.0, 5.0)], &[]), series(1, &[], &[])]);
        let drawn = plot.render(&Scales::over(std::iter::once(&plot)).expect("points"));
        assert!(drawn.contains("line-through") && drawn.matches("class=\"series\"").count() == 1, "{drawn}");
        assert!(Scales::over(std::iter::once(&super::super::Lines { series: Vec::new(), ..plot })).is_none());
    }

    #[test]
    fn values_for_a_script_have_six_digits() {
        let cases =
            [(0.0, "0"), (1.0 / 3.0, "0.333333"), (1_234_567.8, "1234568"), (23.456_789_1, "23.4568"), (5e3, "5000")];
        for (number, text) in cases {
            assert_eq!(short(number), text);
        }
    }
}
