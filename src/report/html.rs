//! report.html: one page, nothing fetched, nothing run; charts with the numbers behind them, light and dark.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::format::{grouped, html as escape, plain, three_digits};
use super::summary::{Cell, Figures, Summary};
use super::svg::{Chart, Look, Point, Series};
use super::table::{self, Kind, Row, Table};
use super::text;
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

    let measured = |(idle, active): &(u32, u32)| summary.is_measured(*idle, *active);
    if summary.tables().any(|load| measured(&load)) {
        overviews(&mut out, summary);
        section(&mut out, "Cost against idle connections", &cost_against_idle(summary));
        section(&mut out, "Cost against active connections", &against_active(summary, &COST));
        section(&mut out, "Throughput against active connections", &against_active(summary, &THROUGHPUT));
        out.push_str("<section>\n<h2>Every load</h2>\n");
        text::LEGEND.iter().for_each(|line| paragraph(&mut out, "legend", line));
        for (at, (idle, active)) in summary.tables().filter(measured).enumerate() {
            let open = if at == 0 { " open" } else { "" };
            let _ = writeln!(out, "<details{open}><summary>{}</summary>", table::load(idle, active));
            draw(&mut out, summary, &table::ranking(summary, idle, active));
            out.push_str("</details>\n");
        }
        out.push_str("</section>\n");
    }
    let gates = record.gates.iter().map(text::gate).map(|(verdict, finding)| (verdict.to_owned(), finding));
    pairs(&mut out, "Gates", &gates.collect::<Vec<_>>());
    pairs(&mut out, "Not measured", &text::unmeasured(summary));
    let facts = record.host.facts().into_iter().map(|(name, value)| (name.to_owned(), value));
    pairs(&mut out, "Host", &facts.collect::<Vec<_>>());
    how_to_repeat(&mut out, summary);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn overviews(out: &mut String, summary: &Summary<'_>) {
    out.push_str("<section>\n<h2>Overview</h2>\n<div class=\"tables\">\n");
    for &active in &summary.active {
        if summary.idle.iter().any(|idle| summary.is_measured(*idle, active)) {
            let table = table::overview(summary, active);
            let _ = writeln!(out, "<div><h3>{}</h3>", escape(&table.title));
            draw(out, summary, &table);
            out.push_str("</div>\n");
        }
    }
    out.push_str("</div>\n</section>\n");
}

/// What a chart shows of a cell.
struct Measure {
    title: &'static str,
    label: &'static str,
    of: fn(&Figures) -> Option<Estimate>,
    /// What the client's limit makes unranked.
    limited: bool,
    unit: f64,
}

const COST: Measure = Measure {
    title: "Server CPU per request",
    label: "server CPU, µs per request",
    of: |figures| figures.cpu_ns,
    limited: false,
    unit: 1e-3,
};

const THROUGHPUT: Measure = Measure {
    title: "Throughput",
    label: "requests per second",
    of: |figures| figures.throughput,
    limited: true,
    unit: 1.0,
};

fn cost_against_idle(summary: &Summary<'_>) -> Vec<Chart> {
    let chart = |&active: &u32| Chart {
        title: format!("{}, {} active", COST.title, grouped(active.into())),
        x_label: "idle connections",
        y_label: COST.label,
        series: series(summary, &COST, |cell| (cell.active == active).then_some(cell.idle)),
    };
    summary.active.iter().map(chart).filter(is_a_curve).collect()
}

fn against_active(summary: &Summary<'_>, measure: &Measure) -> Vec<Chart> {
    let chart = |&idle: &u32| Chart {
        title: format!("{}, {} idle", measure.title, grouped(idle.into())),
        x_label: "active connections",
        y_label: measure.label,
        series: series(summary, measure, |cell| (cell.idle == idle).then_some(cell.active)),
    };
    summary.idle.iter().map(chart).filter(is_a_curve).collect()
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
