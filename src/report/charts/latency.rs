//! Latency as it is distributed: how many requests took longer than that.

use super::super::plot::{Group, Lines, Look, Plot, Point, Reading, Series};
use super::super::summary::{Cell, Summary};
use super::super::table;
use crate::measure::record::Trial;
use crate::measure::stats::Pool;

/// The shares that are looked up: of a thousand samples, or a million, the same.
const SHARES: [f64; 22] = [
    1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002,
    0.0001, 0.00005, 0.00001,
];

/// A plot for each load that is shown by itself.
pub(super) fn distributions(summary: &Summary<'_>) -> Group {
    let (loads, left_out) = super::loads_one_by_one(summary);
    let open = loads.iter().any(|(_, load)| load.offered.is_some());
    let plot = |(idle, load)| {
        let mut series = Vec::new();
        for cell in summary.table(idle, load) {
            series.extend(curve(summary, cell, "", Trial::add_latencies_to));
            if load.offered.is_some() {
                let from_send = |trial: &Trial, pool: &mut Pool| {
                    trial.open_loop.iter().for_each(|open| pool.add(&open.from_send));
                };
                series.extend(curve(summary, cell, ", from send", from_send));
            }
        }
        Plot::Lines(Lines {
            title: format!("Latency, {}", table::load(summary, idle, load)),
            x_label: "µs",
            y_label: "share that took longer",
            reading: Reading::Heights,
            series,
        })
    };
    let loop_is = match open {
        true => {
            "From when each request was due; dotted, the uncorrected series from when it was sent, which hides what waited \
             for its turn."
        }
        false => "That of a closed loop kept busy.",
    };
    let note =
        format!("{loop_is} A curve ends where fewer than ten samples are left. †: the load was the limit.{left_out}");
    Group { title: "Latency: how many took longer".to_owned(), note, plots: loads.into_iter().map(plot).collect() }
}

fn curve(summary: &Summary<'_>, cell: &Cell, of: &str, add: impl Fn(&Trial, &mut Pool)) -> Option<Series> {
    let (subject, figures) = (&summary.subjects[cell.subject], cell.figures()?);
    let mut pool = Pool::default();
    summary.trials(cell).timed().for_each(|trial| add(trial, &mut pool));
    let point = |share: &f64| {
        let nanoseconds = pool.percentile(1.0 - share)?;
        Some(Point { x: nanoseconds as f64 / 1e3, y: *share, interval: None, faint: figures.client_limited })
    };
    let points = SHARES.iter().map_while(point).collect::<Vec<_>>();
    let limited = if figures.client_limited { " †" } else { "" };
    (!points.is_empty()).then(|| Series {
        row: cell.subject,
        name: format!("{}{of}{limited}", subject.name),
        look: Look::of(&subject.mechanism, subject.control || !of.is_empty(), cell.subject),
        points,
        model: Vec::new(),
        gaps: Vec::new(),
    })
}
