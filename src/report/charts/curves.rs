//! What is measured against what was varied: idle connections, active ones, payloads, rates.

use std::collections::BTreeSet;

use super::super::format::grouped;
use super::super::plot::{Gap, Group, Lines, Plot, Point, Reading, Series};
use super::super::summary::{Cell, Figures, Summary};
use super::super::wording::Wording;
use crate::exercise::Exercise;
use crate::measure::fit;
use crate::measure::record::Load;
use crate::measure::stats::{Estimate, Interval};

/// What a plot shows of a cell.
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

const EVENTS: Measure = Measure {
    name: "Events",
    title: "Events per wait",
    label: "events per wait, mean",
    of: |figures| alone(figures.events_per_wait),
    limited: false,
    unit: 1.0,
};

const P50: Measure = Measure {
    name: "Median latency",
    title: "Latency, p50",
    label: "p50 latency, µs",
    of: |figures| alone(figures.p50_ns.map(|ns| ns as f64)),
    limited: true,
    unit: 1e-3,
};

const P99: Measure = Measure {
    name: "p99 latency",
    title: "Latency, p99",
    label: "p99 latency, µs",
    of: |figures| alone(figures.p99_ns.map(|ns| ns as f64)),
    ..P50
};

const P999: Measure = Measure {
    name: "p99.9 latency",
    title: "Latency, p99.9",
    label: "p99.9 latency, µs",
    of: |figures| alone(figures.p999_ns.map(|ns| ns as f64)),
    ..P50
};

fn alone(value: Option<f64>) -> Option<Estimate> {
    value.map(|value| Estimate { value, interval: None })
}

const HOW_TO_READ: &str = "Bands are intervals of the medians. A circle with a line through it, at the bottom, is a cell that has \
    no value: it is void, or was not measured.";
const OF_THE_MODEL: &str = " Thin dotted lines are what the cost model says.";
const OF_THE_LIMIT: &str =
    " A hollow marker says that the load was the limit, or late: the value says more about the load.";

/// Cost against idle connections, or descriptors: a plot for each load.
pub(super) fn against_idle(summary: &Summary<'_>) -> Group {
    let (idle, cost) = match is_alone(summary) {
        false => ("idle connections", &COST),
        true => ("idle descriptors", &COST_ALONE),
    };
    let mut plots = by_idle(summary, idle, cost);
    let modelled = add_model(summary, &mut plots);
    let note = [HOW_TO_READ, if modelled { OF_THE_MODEL } else { "" }].concat();
    group(format!("Cost against {idle}"), note, plots.into_iter().map(|(_, lines)| lines).collect())
}

/// Events a wait returns: the fewer, the more waiting each request pays for.
pub(super) fn events(summary: &Summary<'_>) -> Group {
    let idle = format!("idle {}", Wording::of(summary.record).watched);
    let idle = if idle == "idle connections" { "idle connections" } else { "idle descriptors" };
    let mut plots = by_idle(summary, idle, &EVENTS).into_iter().map(|(_, lines)| lines).collect::<Vec<_>>();
    if plots.is_empty() {
        plots = against(summary, &AXES[0], &EVENTS);
    }
    let note = "Means. A mechanism that pays for each wait, or for all that it watches at each wait, pays the less for a \
                request, the more events a wait returns.";
    group("Events a wait returns".to_owned(), note.to_owned(), plots)
}

/// Everything against everything else that was varied.
pub(super) fn against_the_load(summary: &Summary<'_>) -> Vec<Group> {
    measures_against_the_load(summary, |_| true)
}

/// Cost against everything else that was varied.
pub(super) fn cost_against_the_load(summary: &Summary<'_>) -> Vec<Group> {
    measures_against_the_load(summary, |measure| measure.name == COST.name)
}

fn measures_against_the_load(summary: &Summary<'_>, wanted: impl Fn(&Measure) -> bool) -> Vec<Group> {
    let axes = if is_alone(summary) { &AXES_ALONE[..] } else { &AXES[..] };
    let all = axes.iter().flat_map(|axis| axis.measures.iter().map(move |measure| (axis, measure)));
    let all = all.filter(|(_, measure)| wanted(measure));
    let group_of = |(axis, measure): (&Axis, &Measure)| {
        let note = [HOW_TO_READ, if measure.limited { OF_THE_LIMIT } else { "" }].concat();
        group(format!("{} against {}", measure.name, axis.label), note, against(summary, axis, measure))
    };
    all.map(group_of).collect()
}

fn group(title: String, note: String, plots: Vec<Lines>) -> Group {
    Group { title, note, plots: plots.into_iter().map(Plot::Lines).collect() }
}

fn is_alone(summary: &Summary<'_>) -> bool {
    !summary.record.settings.exercises.is_empty()
}

fn by_idle(summary: &Summary<'_>, idle: &'static str, measure: &Measure) -> Vec<(Load, Lines)> {
    let plot = |&load: &Load| {
        let lines = Lines {
            title: format!("{}, {}", measure.title, summary.describe(load)),
            x_label: idle,
            y_label: measure.label,
            reading: Reading::Places,
            series: series(summary, measure, |cell| (cell.load == load).then_some(cell.idle)),
        };
        (load, lines)
    };
    summary.loads.iter().map(plot).filter(|(_, lines)| is_a_curve(lines)).collect()
}

/// What the cost model says of each cell it was made from. Whether it says anything.
fn add_model(summary: &Summary<'_>, plots: &mut [(Load, Lines)]) -> bool {
    let mut any = false;
    for fit in fit::fits(summary.record) {
        let expected = fit.expected(summary.record);
        for (load, lines) in plots.iter_mut() {
            let here = expected.iter().filter(|one| one.load == *load);
            let model = here.map(|one| (f64::from(one.idle), one.request_ns / 1e3)).collect::<Vec<_>>();
            if let Some(series) = lines.series.iter_mut().find(|series| series.name == fit.subject) {
                any |= !model.is_empty();
                series.model = model;
            }
        }
    }
    any
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
        measures: &[P50, P99, P999, COST],
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

/// A plot for each idle population, and for each load but for what is on the axis.
fn against(summary: &Summary<'_>, axis: &Axis, measure: &Measure) -> Vec<Lines> {
    let split = |mut load: Load| {
        let x = (axis.of)(&mut load);
        (load, x)
    };
    let rests = summary.loads.iter().map(|load| split(*load).0).collect::<BTreeSet<_>>();
    let places = summary.idle.iter().flat_map(|idle| rests.iter().map(move |rest| (*idle, *rest)));
    let plot = |(idle, rest): (u32, Load)| {
        // What was taken out is in no word of it.
        let beside = summary.words(rest).into_iter().filter(|word| !word.starts_with("0 ")).collect::<Vec<_>>();
        let place = [beside, vec![format!("{} idle", grouped(idle.into()))]].concat().join(", ");
        Lines {
            title: format!("{}, {place}", measure.title),
            x_label: axis.label,
            y_label: measure.label,
            reading: Reading::Places,
            series: series(summary, measure, |cell| {
                let (others, x) = split(cell.load);
                (cell.idle == idle && others == rest).then_some(x)
            }),
        }
    };
    places.map(plot).filter(is_a_curve).collect()
}

fn is_a_curve(plot: &Lines) -> bool {
    plot.series.iter().any(|series| series.points.len() > 1)
}

/// A curve for each row; `place` says where a cell stands on the axis, if it is in the plot.
fn series(summary: &Summary<'_>, measure: &Measure, place: impl Fn(&Cell) -> Option<u32>) -> Vec<Series> {
    let mut all = summary.subjects.iter().enumerate().map(|(row, subject)| Series {
        row,
        name: subject.name.clone(),
        look: super::look(summary, row),
        points: Vec::new(),
        model: Vec::new(),
        gaps: Vec::new(),
    });
    let mut all = all.by_ref().collect::<Vec<_>>();
    for cell in &summary.cells {
        let Some(x) = place(cell).map(f64::from) else { continue };
        match value(cell, measure) {
            Ok(Some(point)) => all[cell.subject].points.push(Point { x, ..point }),
            Ok(None) => {}
            Err(why) => all[cell.subject].gaps.push(Gap { x, why }),
        }
    }
    for series in &mut all {
        series.points.sort_by(|one, other| one.x.total_cmp(&other.x));
        // What was measured nowhere is in the legend, and where it is told of once for all places.
        if series.points.is_empty() && series.gaps.iter().all(|gap| !gap.why.starts_with("void")) {
            series.gaps.clear();
        }
    }
    all
}

/// The value of a cell; none of what it does not tell; or why it tells nothing.
fn value(cell: &Cell, measure: &Measure) -> Result<Option<Point>, String> {
    let Some(figures) = cell.figures() else {
        return Err(super::why(&cell.outcome).unwrap_or_default());
    };
    let scaled = |interval: Interval| Interval { low: interval.low * measure.unit, high: interval.high * measure.unit };
    let Some(estimate) = (measure.of)(figures) else {
        return match figures.open.as_ref().is_some_and(|open| open.unsent > 0.0) && measure.limited {
            true => Err("it falls among what was due and never sent".to_owned()),
            false => Ok(None),
        };
    };
    Ok(Some(Point {
        x: 0.0,
        y: estimate.value * measure.unit,
        interval: estimate.interval.map(scaled),
        faint: measure.limited && figures.client_limited,
    }))
}
