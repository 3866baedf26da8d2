//! report.html: one page, nothing fetched, nothing run; charts with the numbers behind them, light and dark.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::format::{grouped, html as escape, plain, three_digits};
use super::latency;
use super::model;
use super::population;
use super::summary::{Cell, Figures, Summary};
use super::svg::{Chart, Look, Point, Series};
use super::table::{self, Kind, Row, Table};
use super::text;
use crate::exercise::Exercise;
use crate::measure::record::Load;
use crate::measure::stats::{Estimate, Interval};

const STYLE: &str = include_str!("html.css");

/// The whole page.
pub fn render(summary: &Summary<'_>) -> String {
    let record = summary.record;
    let title = format!("pollmark {}, {}", record.pollmark_version, record.started);
    let title = escape(&plain(&title));
    // The policy holds the page to what it says: no script, no resource from elsewhere.
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    );
    paragraph(&mut out, "lead", &text::headline(summary));
    text::finding(summary).iter().for_each(|line| paragraph(&mut out, "lead", line));
    paragraph(&mut out, "", &text::noise(summary));
    paragraph(&mut out, "", &text::method(summary));
    record.warnings.iter().for_each(|warning| paragraph(&mut out, "warning", &format!("Warning: {warning}")));

    let measured = |(idle, load): &(u32, Load)| summary.is_measured(*idle, *load);
    if summary.tables().any(|load| measured(&load)) {
        overviews(&mut out, summary);
        let alone = !record.settings.exercises.is_empty();
        let (idle, cost, axes) = match alone {
            false => ("idle connections", &COST, &AXES[..]),
            true => ("idle descriptors", &COST_ALONE, &AXES_ALONE[..]),
        };
        section(&mut out, &format!("Cost against {idle}"), &against_idle(summary, idle, cost));
        for axis in axes {
            for measure in axis.measures {
                section(
                    &mut out,
                    &format!("{} against {}", measure.name, axis.label),
                    &against(summary, axis, measure),
                );
            }
        }
        out.push_str("<section>\n<h2>Every load</h2>\n");
        text::legend(summary).for_each(|line| paragraph(&mut out, "legend", line));
        for (at, (idle, load)) in summary.tables().filter(measured).enumerate() {
            let open = if at == 0 { " open" } else { "" };
            let _ = writeln!(out, "<details{open}><summary>{}</summary>", table::load(summary, idle, load));
            draw(&mut out, summary, &table::ranking(summary, idle, load));
            out.push_str("</details>\n");
        }
        out.push_str("</section>\n");
    }
    let workload = text::workload(summary).into_iter().map(|(head, text)| (head.to_owned(), text));
    pairs(&mut out, "What was done", &workload.collect::<Vec<_>>());
    if let Some(table) = model::table(summary) {
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&table.title));
        draw(&mut out, summary, &table);
        model::crossovers(summary).iter().for_each(|line| paragraph(&mut out, "", line));
        out.push_str("</section>\n");
    }
    if let Some(table) = population::table(summary) {
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&table.title));
        draw(&mut out, summary, &table);
        out.push_str("</section>\n");
    }
    let gates = record.gates.iter().map(text::gate).map(|(verdict, finding)| (verdict.to_owned(), finding));
    pairs(&mut out, "Gates", &gates.collect::<Vec<_>>());
    pairs(&mut out, "Contestants", &text::contestants(summary));
    pairs(&mut out, "Not measured", &text::unmeasured(summary));
    let facts = record.host.facts().into_iter().map(|(name, value)| (name.to_owned(), value));
    pairs(&mut out, "Host", &facts.collect::<Vec<_>>());
    how_to_repeat(&mut out, summary);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn overviews(out: &mut String, summary: &Summary<'_>) {
    out.push_str("<section>\n<h2>Overview</h2>\n<div class=\"tables\">\n");
    for table in table::overviews(summary).into_iter().chain(latency::tables(summary)) {
        let _ = writeln!(out, "<div><h3>{}</h3>", escape(&table.title));
        draw(out, summary, &table);
        out.push_str("</div>\n");
    }
    out.push_str("</div>\n</section>\n");
}

/// What a chart shows of a cell.
struct Measure {
    name: &'static str,
    title: &'static str,
    label: &'static str,
    of: fn(&Figures) -> Option<Estimate>,
    /// What the client's limit makes unranked.
    limited: bool,
    unit: f64,
}

const COST: Measure = Measure {
    name: "Cost",
    title: "Server CPU per request",
    label: "server CPU, µs per request",
    of: |figures| figures.cpu_ns,
    limited: false,
    unit: 1e-3,
};

const COST_ALONE: Measure = Measure { title: "CPU per operation", label: "CPU, µs per operation", ..COST };

const THROUGHPUT: Measure = Measure {
    name: "Throughput",
    title: "Throughput",
    label: "requests per second",
    of: |figures| figures.throughput,
    limited: true,
    unit: 1.0,
};

const LATENCY: Measure = Measure {
    name: "Latency",
    title: "Latency, p99",
    label: "p99 latency, µs",
    of: |figures| Some(Estimate { value: figures.p99_ns? as f64, interval: None }),
    limited: true,
    unit: 1e-3,
};

fn against_idle(summary: &Summary<'_>, idle: &'static str, measure: &Measure) -> Vec<Chart> {
    let chart = |&load: &Load| Chart {
        title: format!("{}, {}", measure.title, summary.describe(load)),
        x_label: idle,
        y_label: measure.label,
        series: series(summary, measure, |cell| (cell.load == load).then_some(cell.idle)),
    };
    summary.loads.iter().map(chart).filter(is_a_curve).collect()
}

/// What of a load can be an axis.
struct Axis {
    label: &'static str,
    of: fn(&mut Load) -> u32,
    measures: &'static [Measure],
}

/// Each takes its value out of the load, so that what is left is the same all along the axis.
const AXES: [Axis; 4] = [
    Axis { label: "active connections", of: |load| std::mem::take(&mut load.active), measures: &[COST, THROUGHPUT] },
    Axis {
        label: "bytes of payload",
        of: |load| whole(std::mem::take(&mut load.traffic.payload)),
        measures: &[COST, THROUGHPUT],
    },
    Axis {
        label: "payloads outstanding",
        of: |load| whole(std::mem::take(&mut load.traffic.outstanding)),
        measures: &[COST, THROUGHPUT],
    },
    Axis {
        label: "% of capacity offered",
        of: |load| load.offered.as_mut().map_or(0, |offered| std::mem::take(&mut offered.percent)),
        measures: &[LATENCY, COST],
    },
];

/// The same of pollers alone, whose throughput tells nothing beside their cost.
const AXES_ALONE: [Axis; 3] = [
    Axis { label: "active descriptors", of: |load| std::mem::take(&mut load.active), measures: &[COST_ALONE] },
    Axis {
        label: "messages handed on",
        of: |load| of_exercise(load, |exercise| &mut exercise.chained_writes),
        measures: &[COST_ALONE],
    },
    Axis {
        label: "lowest number watched",
        of: |load| of_exercise(load, |exercise| &mut exercise.numbers_from),
        measures: &[COST_ALONE],
    },
];

fn of_exercise(load: &mut Load, of: fn(&mut Exercise) -> &mut u32) -> u32 {
    load.exercise.as_mut().map(of).map(std::mem::take).unwrap_or_default()
}

fn whole(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A chart for each idle population, and for each load but for what is on the axis.
fn against(summary: &Summary<'_>, axis: &Axis, measure: &Measure) -> Vec<Chart> {
    let split = |mut load: Load| {
        let x = (axis.of)(&mut load);
        (load, x)
    };
    let rests = summary.loads.iter().map(|load| split(*load).0).collect::<BTreeSet<_>>();
    let places = summary.idle.iter().flat_map(|idle| rests.iter().map(move |rest| (*idle, *rest)));
    let chart = |(idle, rest): (u32, Load)| {
        // What was taken out is in no word of it.
        let beside = summary.words(rest).into_iter().filter(|word| !word.starts_with("0 ")).collect::<Vec<_>>();
        let place = [beside, vec![format!("{} idle", grouped(idle.into()))]].concat().join(", ");
        Chart {
            title: format!("{}, {place}", measure.title),
            x_label: axis.label,
            y_label: measure.label,
            series: series(summary, measure, |cell| {
                let (others, x) = split(cell.load);
                (cell.idle == idle && others == rest).then_some(x)
            }),
        }
    };
    places.map(chart).filter(is_a_curve).collect()
}

fn is_a_curve(chart: &Chart) -> bool {
    chart.series.iter().any(|series| series.points.len() > 1)
}

/// One line for each row that was measured; `place` says where a cell stands on the axis, if it is in the chart.
fn series(summary: &Summary<'_>, measure: &Measure, place: impl Fn(&Cell) -> Option<u32>) -> Vec<Series> {
    let scaled = |interval: Interval| Interval { low: interval.low * measure.unit, high: interval.high * measure.unit };
    let point = |cell: &Cell| {
        let (x, figures) = (place(cell)?, cell.figures()?);
        let estimate = (measure.of)(figures)?;
        Some(Point {
            x: x.into(),
            y: estimate.value * measure.unit,
            interval: estimate.interval.map(scaled),
            faint: measure.limited && figures.client_limited,
        })
    };
    let line = |(at, subject): (usize, &super::summary::Subject)| Series {
        name: subject.name.clone(),
        look: Look::of(&subject.mechanism, subject.control, at),
        points: summary.cells.iter().filter(|cell| cell.subject == at).filter_map(point).collect(),
    };
    summary.subjects.iter().enumerate().map(line).filter(|series| !series.points.is_empty()).collect()
}

fn section(out: &mut String, title: &str, charts: &[Chart]) {
    if charts.is_empty() {
        return;
    }
    let _ = writeln!(out, "<section>\n<h2>{title}</h2>\n<div class=\"charts\">");
    for chart in charts {
        let _ = writeln!(out, "<figure>\n{}<details><summary>The numbers</summary>", chart.render(charts));
        numbers(out, chart);
        out.push_str("</details>\n</figure>\n");
    }
    out.push_str("</div>\n</section>\n");
}

/// The table behind a chart: what it draws, to the last point and interval.
fn numbers(out: &mut String, chart: &Chart) {
    let places = chart.series.iter().flat_map(|series| series.points.iter().map(|point| point.x as u64));
    let places = places.collect::<BTreeSet<_>>();
    let _ = write!(out, "<div class=\"wide\"><table>\n<tr><th>{}", chart.x_label);
    out.extend(places.iter().map(|place| format!("<th class=\"n\">{}", grouped(*place))));
    out.push('\n');
    for series in &chart.series {
        let _ = write!(out, "<tr><th>{} {}", series.look.swatch(), escape(&plain(&series.name)));
        for place in &places {
            let point = series.points.iter().find(|point| point.x as u64 == *place);
            let text = point.map_or("–".to_owned(), |point| {
                let interval =
                    point.interval.map(|one| format!(" ({}–{})", three_digits(one.low), three_digits(one.high)));
                let limited = if point.faint { "†" } else { "" };
                format!("{}{}{limited}", three_digits(point.y), interval.unwrap_or_default())
            });
            let _ = write!(out, "<td class=\"n\">{text}");
        }
        out.push('\n');
    }
    out.push_str("</table></div>\n");
}

fn draw(out: &mut String, summary: &Summary<'_>, table: &Table) {
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    for column in &table.columns {
        let _ = write!(out, "<th{}>{}", numeric(column.right), escape(&column.head));
    }
    out.push('\n');
    for row in &table.rows {
        let _ = write!(out, "<tr class=\"{}\">", class(row));
        for (text, column) in row.cells.iter().zip(&table.columns) {
            let place = summary.subjects.iter().position(|subject| !column.right && subject.name == *text);
            let swatch = place.map(|at| {
                let subject = &summary.subjects[at];
                Look::of(&subject.mechanism, subject.control, at).swatch() + " "
            });
            let _ = write!(out, "<td{}>{}{}", numeric(column.right), swatch.unwrap_or_default(), escape(&plain(text)));
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

fn pairs(out: &mut String, title: &str, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        return;
    }
    let _ = writeln!(out, "<section>\n<h2>{title}</h2>\n<table class=\"pairs\">");
    for (name, value) in pairs {
        let _ = writeln!(out, "<tr><th>{}<td>{}", escape(&plain(name)), escape(&plain(value)));
    }
    out.push_str("</table>\n</section>\n");
}

fn how_to_repeat(out: &mut String, summary: &Summary<'_>) {
    let record = summary.record;
    out.push_str("<section>\n<h2>How to repeat</h2>\n");
    let commit = record.host.commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    let from = format!(
        "With pollmark {}{commit}; the seed {} gives the same order of visits. Every sample is in results.json beside \
         this page.",
        record.pollmark_version, record.seed
    );
    paragraph(out, "", &from);
    let _ = writeln!(out, "<pre><code>{}</code></pre>\n</section>", escape(&plain(&text::repeat(summary))));
}

fn paragraph(out: &mut String, class: &str, text: &str) {
    let _ = writeln!(out, "<p class=\"{class}\">{}</p>", escape(&plain(text)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_page_needs_nothing_else_and_lets_nothing_foreign_through() {
        for (name, record) in sample::all() {
            let page = render(&Summary::of(&record));
            assert!(page.len() < 2 << 20, "{name}: {} bytes", page.len());
            let foreign = ["<script", "src=", "href=", "url(", "@import", "alert('x')", "\u{1b}"];
            for word in foreign {
                assert!(!page.contains(word), "{name}: {word}");
            }
            // The only address is SVG's name, which nobody fetches.
            assert_eq!(page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count(), "{name}");
            assert!(page.contains("How to repeat") && page.contains("Noise floor"), "{name}");
        }
    }

    #[test]
    fn every_chart_has_its_numbers() {
        let record = sample::ordinary();
        let page = render(&Summary::of(&record));
        assert_eq!(page.matches("<figure>").count(), 3 + 4 + 4);
        assert_eq!(page.matches("The numbers").count(), 3 + 4 + 4);
        assert!(page.contains("kqueue, everywhere") && page.contains("void: wrong byte"));
    }

    #[test]
    fn elements_that_must_be_closed_are() {
        for (name, record) in sample::all() {
            let page = render(&Summary::of(&record));
            for element in ["section", "div", "table", "details", "summary", "figure", "svg", "g", "title", "text", "p"]
            {
                let opened =
                    page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
                assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{name}: {element}");
            }
        }
    }
}
