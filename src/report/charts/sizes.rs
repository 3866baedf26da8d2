//! Sensitivity: whether what a row costs hangs on the sizes its server is set to.

use std::collections::{BTreeMap, BTreeSet};

use super::super::plot::{Gap, Group, Lines, Look, Plot, Point, Reading, Series};
use super::super::summary::{Subject, Summary};
use super::super::table;
use super::super::wording::Wording;
use crate::measure::record::Knobs;
use crate::measure::stats::Interval;

/// A size: its name in a title and on an axis, and how it is taken out of what a row is set to.
type Size = (&'static str, &'static str, fn(&mut Knobs) -> Option<usize>);

const SIZES: [Size; 3] = [
    ("events of a wait", "events taken from a wait at most", |knobs| knobs.events.take()),
    ("read buffer", "bytes of the read buffer", |knobs| knobs.read_buffer.take()),
    ("send buffer", "bytes of the send buffer", |knobs| knobs.send_buffer.take()),
];

/// A group for each size that is varied; in it a plot for each load, with a curve for each row but for that size.
pub(super) fn sensitivity(summary: &Summary<'_>) -> Vec<Group> {
    SIZES.iter().map(|size| against(summary, size)).filter(|group| !group.plots.is_empty()).collect()
}

fn against(summary: &Summary<'_>, (name, label, take): &Size) -> Group {
    // What a row is called but for this size: rows of one name are one curve.
    let mut curves = BTreeMap::<(String, Knobs), Vec<(usize, usize)>>::new();
    for (row, subject) in summary.subjects.iter().enumerate().filter(|(_, subject)| !subject.control) {
        if let Some((curve, size)) = split(subject, *take) {
            curves.entry(curve).or_default().push((row, size));
        }
    }
    curves.retain(|_, rows| rows.len() > 1);
    curves.values_mut().for_each(|rows| rows.sort_by_key(|(_, size)| *size));
    let (loads, left_out) = super::loads_one_by_one(summary);
    let cost = Wording::of(summary.record);
    let plot = |(idle, load)| {
        let cells = summary.table(idle, load);
        let mut seen = BTreeSet::new();
        let series = curves.iter().map(|((mechanism, knobs), rows)| {
            let (mut points, mut gaps) = (Vec::new(), Vec::new());
            for &(row, size) in rows {
                let cell = &cells[row];
                match cell.figures().and_then(|figures| figures.cpu_ns) {
                    Some(cpu) => {
                        let micros = |one: Interval| Interval { low: one.low / 1e3, high: one.high / 1e3 };
                        let interval = cpu.interval.map(micros);
                        points.push(Point { x: size as f64, y: cpu.value / 1e3, interval, faint: false });
                    }
                    None => gaps.extend(super::why(&cell.outcome).map(|why| Gap { x: size as f64, why })),
                }
            }
            // Of several curves of one mechanism the first is drawn as it is everywhere.
            let (row, subject) = (rows[0].0, &summary.subjects[rows[0].0]);
            let again = !seen.insert(&subject.mechanism);
            let look = Look::of(&subject.mechanism, again, row);
            Series { row, name: short(mechanism, *knobs), look, points, model: Vec::new(), gaps }
        });
        Lines {
            title: format!("{} by {name}, {}", cost.title(), table::load(summary, idle, load)),
            x_label: label,
            y_label: "server CPU, µs per request",
            reading: Reading::Places,
            series: series.collect(),
        }
    };
    let is_a_curve = |lines: &Lines| lines.series.iter().any(|series| series.points.len() > 1);
    let plots = loads.into_iter().map(plot).filter(is_a_curve).map(Plot::Lines).collect();
    let note = format!(
        "Flat curves say that what was concluded does not hang on this size; curves that cross, that it does. Bands are \
         intervals of the medians.{left_out}"
    );
    Group { title: format!("Sensitivity: {name}"), note, plots }
}

/// A row without this size, and the size.
fn split(subject: &Subject, take: fn(&mut Knobs) -> Option<usize>) -> Option<((String, Knobs), usize)> {
    let mut knobs = subject.set_to;
    let rest = subject.name.replacen(&knobs.to_string(), "", 1);
    let size = take(&mut knobs)?;
    Some(((rest, knobs), size))
}

/// A name that a legend has room for.
fn short(mechanism: &str, knobs: Knobs) -> String {
    let beside = [(knobs.events, "ev"), (knobs.read_buffer, "B"), (knobs.send_buffer, "B sent")];
    let beside = beside.iter().filter_map(|(set, unit)| Some(format!(", {} {unit}", (*set)?)));
    let deadline = knobs.idle_deadline.map(|seconds| format!(", {seconds} s"));
    format!("{mechanism}{}{}", beside.collect::<String>(), deadline.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn rows_that_differ_in_a_size_are_one_curve_over_it_and_cross_the_curves_of_others() {
        let mut record = sample::ordinary();
        record.settings.mechanisms.clear();
        record.missing.clear();
        record.trials.retain(|trial| !trial.control && trial.idle == 0);
        record.settings.idle = vec![0];
        for trial in &mut record.trials {
            trial.void = None;
            let (events, read_buffer) = match trial.subject.as_str() {
                "epoll" => (1, 4_096),
                "poll" => (16, 4_096),
                "select" => (16, 65_536),
                _ => continue,
            };
            trial.set_to = Knobs { events: Some(events), read_buffer: Some(read_buffer), ..Knobs::NONE };
            (trial.subject, trial.mechanism) = (format!("epoll{}", trial.set_to), "epoll".to_owned());
        }
        let summary = Summary::of(&record);
        let groups = sensitivity(&summary);
        let titles = groups.iter().map(|group| group.title.as_str()).collect::<Vec<_>>();
        assert_eq!(titles, ["Sensitivity: events of a wait", "Sensitivity: read buffer"]);
        let curves = |group: &Group| match &group.plots[0] {
            Plot::Lines(lines) => {
                let places = |series: &Series| series.points.iter().map(|point| point.x).collect::<Vec<_>>();
                lines.series.iter().map(|series| (series.name.clone(), places(series))).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(curves(&groups[0]), [("epoll, 4096 B".to_owned(), vec![1.0, 16.0])]);
        assert_eq!(curves(&groups[1]), [("epoll, 16 ev".to_owned(), vec![4_096.0, 65_536.0])]);
        assert!(sensitivity(&Summary::of(&sample::ordinary())).is_empty(), "where nothing is varied nothing is drawn");
    }
}
