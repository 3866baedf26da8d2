//! What a difference consists of, in sentences: which part of one row costs more than of the best, and how much of the
//! difference that is. Of the difference that was measured: what no part accounts for is told like any other.

use super::super::format::{factor, grouped, micros, plain, three_digits};
use super::super::summary::{Cell, Standing, Summary};
use super::super::table;
use super::Reasoned;
use crate::measure::prediction::{Explained, Part};
use crate::measure::record::Load;

/// A part below this share of the difference is no reason to be named beside a larger one.
const WORTH_NAMING: f64 = 0.2;
/// One part alone is the reason from here on.
const ALONE: f64 = 0.75;

/// A sentence for each row of each table that loses to the best, table by table.
pub(in crate::report) fn reasons(summary: &Summary<'_>, reasoned: &Reasoned) -> Vec<String> {
    summary.tables().flat_map(|(idle, load)| reasons_of(summary, reasoned, idle, load)).collect()
}

/// The same for one table.
pub(in crate::report) fn reasons_of(summary: &Summary<'_>, reasoned: &Reasoned, idle: u32, load: Load) -> Vec<String> {
    let cells = summary.ranked(idle, load);
    let standing = |cell: &Cell| cell.figures().map(|figures| figures.standing);
    let Some(best) = cells.iter().copied().find(|cell| standing(cell) == Some(Standing::Best)) else {
        return Vec::new();
    };
    let Some(of_best) = reasoned.explained(summary, best) else { return Vec::new() };
    let name = |cell: &Cell| plain(&summary.subjects[cell.subject].name);
    let loses = |cell: &&Cell| matches!(standing(cell), Some(Standing::Rank(_)));
    let sentence = |cell: &Cell| {
        let one = reasoned.explained(summary, cell)?;
        let ratio = cell.figures()?.ratio?.value;
        let place = table::load(summary, idle, load);
        Some(format!(
            "{} costs {} what {} does at {place}: {}.",
            name(cell),
            factor(ratio),
            name(best),
            because(one, of_best, &name(best))
        ))
    };
    cells.iter().copied().filter(loses).filter_map(sentence).collect()
}

/// What the difference is.
fn because(one: &Explained, best: &Explained, best_name: &str) -> String {
    let difference = one.measured_ns - best.measured_ns;
    if difference <= 0.0 {
        return "half of the rounds say otherwise".to_owned();
    }
    let part = |part: Part| ((one.share(part).ns() - best.share(part).ns()) / difference, part);
    let mut parts = Part::ALL.map(part);
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let unexplained = 1.0 - parts.iter().map(|(share, _)| share).sum::<f64>();
    let of = |share: f64| format!("{:.0} %", share * 100.0);
    if unexplained > 0.5 || parts[0].0 < WORTH_NAMING {
        return format!("{} of the difference is in no call that was counted", of(unexplained));
    }
    let named =
        if parts[0].0 >= ALONE { 1 } else { parts.iter().take_while(|(share, _)| *share >= WORTH_NAMING).count() };
    let each = parts[..named].iter().map(|&(share, part)| (of(share), words(part, one, best, best_name)));
    let mut said = String::new();
    for (at, (share, words)) in each.enumerate() {
        said += &match at {
            0 => format!("{share} of the difference is {words}"),
            _ => format!("; {share} {words}"),
        };
    }
    if unexplained.abs() > WORTH_NAMING {
        said += &match unexplained > 0.0 {
            true => format!("; {} is in no call that was counted", of(unexplained)),
            false => format!("; {} more is predicted than there is", of(-unexplained)),
        };
    }
    said
}

/// A part in which one row differs from the best.
fn words(part: Part, one: &Explained, best: &Explained, best_name: &str) -> String {
    let (here, there) = (one.share(part), best.share(part));
    if part == Part::Scanning {
        let each = here.each_ns / one.watched.max(1.0);
        return format!(
            "going over {} descriptors, {} ns each at a wait, {} waits a request",
            grouped(one.watched.round() as u64),
            three_digits(each),
            three_digits(here.times),
        );
    }
    let what = match part {
        Part::Waits => "waiting",
        Part::Events => "being told of events",
        Part::Sleeping => "going to sleep and coming back",
        Part::Receiving => "receiving",
        Part::Sending => "sending",
        Part::Waking => "waking the load",
        Part::Connections => "taking connections on and parting with them",
        Part::Changes => "changing what is watched",
        Part::Scanning => unreachable!("said above"),
    };
    format!(
        "{what}: {} times a request at {} µs, against {} at {} µs of {best_name}",
        three_digits(here.times),
        micros(here.each_ns),
        three_digits(there.times),
        micros(there.each_ns),
    )
}

/// Each cell of which the prediction is off by more than 15 %: where, and what is known to cause it. The control is its
/// twin's mechanism and told with it.
pub(in crate::report) fn anomalies(summary: &Summary<'_>, reasoned: &Reasoned) -> Vec<(String, String)> {
    let anomaly = |cell: &Cell| {
        let one = reasoned.explained(summary, cell).filter(|one| one.is_anomaly())?;
        let subject = &summary.subjects[cell.subject];
        let direction = if one.residual() > 0.0 { "more was measured than is predicted" } else { "less" };
        let measured = match one.residual() > 0.0 {
            true => direction.to_owned(),
            false => format!("{direction} was measured than is predicted"),
        };
        let off = format!("{:+.0} %, {measured}: ", one.residual() * 100.0);
        let cause = one.cause.as_deref().unwrap_or("not explained");
        let place = format!("{}, {}", subject.name, table::load(summary, cell.idle, cell.load));
        Some((place, off + cause))
    };
    summary.cells.iter().filter(|cell| !summary.subjects[cell.subject].control).filter_map(anomaly).collect()
}
