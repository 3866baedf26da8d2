//! On the page: the bars, and a section with the reasons, what is off, and the tables behind both.

use std::fmt::Write;

use super::super::charts::{loads_one_by_one, look};
use super::super::format::{grouped, html as escape, plain};
use super::super::html::{draw, paragraph, sourced};
use super::super::plot::{Bar, Bars, Group, Plot};
use super::super::summary::{Cell, Summary};
use super::super::table;
use super::{LEGEND, Reasoned, anomalies, finding, reasons, units};
use crate::measure::prediction::{Explained, Part};

/// What a bar consists of: parts that are alike stand together.
const STRIPES: [(&str, &[Part]); 7] = [
    ("waits", &[Part::Waits, Part::Events, Part::Changes]),
    ("scan", &[Part::Scanning]),
    ("sleep", &[Part::Sleeping]),
    ("wake", &[Part::Waking]),
    ("receive", &[Part::Receiving]),
    ("send", &[Part::Sending]),
    ("connect", &[Part::Connections]),
];

/// CPU time per request by what it is spent on, a plot for each load that is shown by itself; none without a calibration.
pub(in crate::report) fn bars(summary: &Summary<'_>) -> Group {
    let (loads, left_out) = loads_one_by_one(summary);
    let reasoned = Reasoned::of(summary);
    let plots = reasoned.iter().flat_map(|reasoned| {
        loads.iter().map(|&(idle, load)| {
            let cells = summary.table(idle, load);
            let known = cells.iter().map(|cell| reasoned.of_cell(summary, cell)).collect::<Vec<_>>();
            let stripe = |one: &Explained, parts: &[Part]| parts.iter().map(|part| one.share(*part).ns()).sum::<f64>();
            let is_drawn = |parts: &[Part]| {
                known.iter().flatten().filter_map(|told| told.as_ref().ok()).any(|one| stripe(one, parts) > 0.0)
            };
            let drawn = STRIPES.into_iter().filter(|(_, parts)| is_drawn(parts)).collect::<Vec<_>>();
            let bar = |(cell, known): (&Cell, &Option<&Result<Explained, String>>)| {
                let parts = match known {
                    Some(Ok(one)) => {
                        let left = (one.measured_ns - one.predicted_ns()).max(0.0);
                        let stripes = drawn.iter().map(|(_, parts)| stripe(one, parts)).chain([left]);
                        Ok(stripes.map(|ns| ns / 1e3).collect())
                    }
                    Some(Err(why)) => Err((*why).clone()),
                    None => Err("not measured".to_owned()),
                };
                let subject = cell.subject;
                Bar { row: subject, name: summary.subjects[subject].name.clone(), look: look(summary, subject), parts }
            };
            Plot::Bars(Bars {
                title: format!("CPU time per request, {}", table::load(summary, idle, load)),
                x_label: "µs of CPU",
                parts: drawn.iter().map(|(name, _)| *name).chain(["left"]).collect(),
                bars: cells.iter().zip(&known).map(bar).collect(),
            })
        })
    });
    Group { title: "CPU time: where it goes".to_owned(), plots: plots.collect(), note: format!("{NOTE}{left_out}") }
}

const NOTE: &str = "Predicted from what single calls cost here and how often the server made them; left is what was measured \
                    beyond that. Where more is predicted than was measured, nothing is left, and the bar is too long.";

/// Whether there is a section of it.
pub(in crate::report) fn is_told(summary: &Summary<'_>) -> bool {
    !units(summary).is_empty()
}

/// The reasons in the table the finding is about, for the first screen.
pub(in crate::report) fn why(out: &mut String, summary: &Summary<'_>) {
    let lines = finding(summary);
    if lines.is_empty() {
        return;
    }
    sourced(out, "h3", "Why", ("reasons", "the reckoning"));
    out.push_str("<ul>\n");
    out.extend(lines.iter().map(|line| format!("<li>{}\n", escape(&plain(line)))));
    out.push_str("</ul>\n");
}

/// The section; nothing, if the record has no calibration that tells of anything.
pub(in crate::report) fn section(out: &mut String, summary: &Summary<'_>) {
    let (of_calls, Some(reasoned)) = (units(summary), Reasoned::of(summary)) else { return };
    if of_calls.is_empty() {
        return;
    }
    out.push_str("<section id=\"reasons\">\n<h2>Reasons</h2>\n");
    paragraph(out, "legend", LEGEND);
    let said = reasons(summary, &reasoned);
    match said.is_empty() {
        true => paragraph(
            out,
            "",
            "No row is told apart from the best of its table: there is no difference to give a reason for.",
        ),
        false => {
            out.push_str("<ul>\n");
            out.extend(said.iter().map(|line| format!("<li>{}\n", escape(&plain(line)))));
            out.push_str("</ul>\n");
        }
    }
    let anomalies = anomalies(summary, &reasoned);
    let _ = writeln!(out, "<h3>Off by more than 15 %: {}</h3>", grouped(anomalies.len() as u64));
    if !anomalies.is_empty() {
        out.push_str("<table class=\"pairs\">\n");
        for (place, why) in &anomalies {
            let _ = writeln!(out, "<tr><th scope=\"row\">{}<td>{}", escape(&plain(place)), escape(&plain(why)));
        }
        out.push_str("</table>\n");
    }
    for (idle, load) in summary.tables() {
        let Some(table) = super::table(summary, &reasoned, idle, load) else { continue };
        let _ = writeln!(out, "<details><summary>{}</summary>", escape(&plain(&table.title)));
        draw(out, &summary.subjects, &table);
        out.push_str("</details>\n");
    }
    for table in &of_calls {
        let _ = writeln!(out, "<h3>{}</h3>", escape(&table.title));
        draw(out, &summary.subjects, table);
    }
    out.push_str("</section>\n");
}
