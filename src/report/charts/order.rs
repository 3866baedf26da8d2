//! Drift: what each visit measured, in the order it was made, and the control among them.

use std::collections::BTreeMap;

use super::super::plot::{Group, Lines, Plot, Point, Reading, Series};
use super::super::summary::Summary;
use crate::measure::stats;

/// One plot: a point for each visit, which is half way among its trials.
pub(super) fn runs(summary: &Summary<'_>) -> Group {
    let typical = summary.cells.iter().filter_map(|cell| {
        let cpu = cell.figures()?.cpu_ns?.value;
        (cpu > 0.0).then(|| ((summary.subjects[cell.subject].name.as_str(), cell.idle, cell.load), cpu))
    });
    let typical = typical.collect::<BTreeMap<_, _>>();
    let mut visits = BTreeMap::<(&str, u32), Vec<f64>>::new();
    for trial in summary.record.trials.iter().filter(|trial| !trial.counted) {
        let cell = (trial.subject.as_str(), trial.idle, summary.record.settings.load_of(trial));
        if let Some((cost, typical)) = trial.request_ns().zip(typical.get(&cell)) {
            visits.entry((&trial.subject, trial.order)).or_default().push(cost / typical);
        }
    }
    let series = summary.subjects.iter().enumerate().map(|(row, subject)| {
        let of_subject = visits.iter().filter(|((name, _), _)| *name == subject.name);
        let point = |(&(_, order), ratios): (&(&str, u32), &Vec<f64>)| {
            Some(Point { x: order.into(), y: stats::median(ratios)?, interval: None, faint: subject.control })
        };
        let points = of_subject.filter_map(point).collect();
        let look = super::look(summary, row);
        Series { row, name: subject.name.clone(), look, points, model: Vec::new(), gaps: Vec::new() }
    });
    let series = series.collect::<Vec<_>>();
    let note = "Each point is a visit: its CPU time for each request as a multiple of what is typical of the same cells in all \
                rounds. Order is random, so a machine that became slower, or hotter, shows as a slope or a step. Hollow: the \
                A/A control.";
    let plot = Lines {
        title: "CPU time of each visit to what is typical".to_owned(),
        x_label: "visits, in the order they were made",
        y_label: "times what is typical",
        reading: Reading::Order,
        series,
    };
    let drawn = plot.series.iter().map(|series| series.points.len()).sum::<usize>() > 1;
    let plots = if drawn { vec![Plot::Lines(plot)] } else { Vec::new() };
    Group { title: "In the order it was measured".to_owned(), note: note.to_owned(), plots }
}
