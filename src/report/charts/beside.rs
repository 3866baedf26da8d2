//! What may stand beside the same of another machine on one scale: ratios of costs of one machine.

use super::super::plot::{Gap, Group, Lines, Plot, Point, Reading, Series};
use super::super::summary::{Cell, Summary};
use super::super::wording::Wording;
use crate::measure::record::Load;

/// What each row costs in multiples of what it costs itself with the fewest idle connections: a plot for each load.
pub(super) fn growth(summary: &Summary<'_>, fewest: u32) -> Group {
    let wording = Wording::of(summary.record);
    let base = |row: usize, _: u32, load: Load| summary.table(fewest, load).get(row);
    Group {
        title: "Growth with what is idle".to_owned(),
        note: format!(
            "{} for each {} in multiples of what the same row costs on the same machine with {fewest} idle, paired by round. \
             All panels have one scale: these are ratios of a machine to itself.",
            wording.title(),
            wording.operation
        ),
        plots: plots(summary, "Growth", "multiples of its own cost", base),
    }
}

/// What each row costs in multiples of another of the same table: a plot for each load.
pub(super) fn multiples(summary: &Summary<'_>, baseline: &str) -> Group {
    let wording = Wording::of(summary.record);
    let at = summary.subjects.iter().position(|subject| subject.name == baseline);
    let base = |_: usize, idle: u32, load: Load| summary.table(idle, load).get(at?);
    Group {
        title: format!("Cost in multiples of {baseline}, against what is idle"),
        note: format!(
            "{} for each {} in multiples of what {baseline} costs on the same machine under the same load, paired by round. \
             All panels have one scale: these are ratios of a machine to itself.",
            wording.title(),
            wording.operation
        ),
        plots: plots(summary, &format!("Multiples of {baseline}"), "multiples of the baseline", base),
    }
}

fn plots<'s>(
    summary: &'s Summary<'_>,
    title: &str,
    y_label: &'static str,
    base: impl Fn(usize, u32, Load) -> Option<&'s Cell>,
) -> Vec<Plot> {
    let series = |row: usize, load: Load| {
        let (mut points, mut gaps) = (Vec::new(), Vec::new());
        for &idle in &summary.idle {
            let (Some(cell), Some(base)) = (summary.table(idle, load).get(row), base(row, idle, load)) else {
                continue;
            };
            let x = f64::from(idle);
            match summary.ratio(cell, base) {
                Some(ratio) => points.push(Point { x, y: ratio.value, interval: ratio.interval, faint: false }),
                None => {
                    gaps.extend([cell, base].iter().find_map(|one| super::why(&one.outcome)).map(|why| Gap { x, why }))
                }
            }
        }
        // What was measured nowhere is in the legend, and where it is told of once for all places.
        if points.is_empty() && gaps.iter().all(|gap: &Gap| !gap.why.starts_with("void")) {
            gaps.clear();
        }
        let (name, look) = (summary.subjects[row].name.clone(), super::look(summary, row));
        Series { row, name, look, points, model: Vec::new(), gaps }
    };
    // In an open loop each row is asked for a rate of its own.
    let loads = summary.loads.iter().filter(|load| load.offered.is_none());
    let rows = || (0..summary.subjects.len()).filter(|row| !summary.subjects[*row].control);
    let lines = loads.map(|&load| Lines {
        title: format!("{title}, {}", summary.describe(load)),
        x_label: if summary.record.settings.exercises.is_empty() { "idle connections" } else { "idle descriptors" },
        y_label,
        reading: Reading::Places,
        series: rows().map(|row| series(row, load)).collect(),
    });
    let is_a_curve = |lines: &Lines| lines.series.iter().any(|series| series.points.len() > 1);
    lines.filter(is_a_curve).map(Plot::Lines).collect()
}
