//! Which plots are made of a record: one model, which the page, the files and the site draw.

mod account;
mod batches;
mod beside;
mod curves;
mod latency;
mod order;
mod ratio;
mod sizes;

use super::format::grouped;
use super::plot::{Drawn, Group, Look};
use super::prediction;
use super::summary::{Outcome, Summary};
use crate::measure::record::Load;

/// Every plot there is something to draw for, in the order they are looked at.
pub(super) fn groups(summary: &Summary<'_>) -> Vec<Drawn> {
    let mut groups = vec![curves::against_idle(summary), ratio::grids(summary)];
    groups.extend(curves::against_the_load(summary));
    groups.extend([latency::distributions(summary), account::calls(summary), account::cpu(summary)]);
    groups.push(prediction::bars(summary));
    groups.extend([curves::events(summary), batches::distributions(summary)]);
    groups.extend(sizes::sensitivity(summary));
    groups.extend([account::memory(summary), order::runs(summary)]);
    groups.into_iter().map(Group::draw).filter(|group| !group.plots.is_empty()).collect()
}

/// The plots of a record that may stand beside the same of another machine, and what each of these machines has: `fewest` idle
/// connections, and a row, `baseline`.
pub(super) fn beside(summary: &Summary<'_>, fewest: Option<u32>, baseline: Option<&str>) -> Vec<(Scale, Group)> {
    let mut groups = vec![(Scale::Own, curves::against_idle(summary))];
    groups.extend(curves::cost_against_the_load(summary).into_iter().map(|group| (Scale::Own, group)));
    groups.extend(fewest.map(|fewest| (Scale::Shared, beside::growth(summary, fewest))));
    if let Some(baseline) = baseline {
        groups.push((Scale::Shared, beside::multiples(summary, baseline)));
        groups.push((Scale::Shared, ratio::grids_against(summary, baseline)));
    }
    groups.retain(|(_, group)| !group.plots.is_empty());
    groups
}

/// How plots of several machines are scaled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scale {
    /// Each machine by itself: sizes of two are not to be compared.
    Own,
    /// All alike: ratios have no unit.
    Shared,
}

/// How many plots there are at most of what is shown of each load by itself.
const MOST_LOADS: usize = 12;

/// The loads that are shown one by one, under the largest idle population that was measured with any; and what to say of
/// those that are not.
pub(super) fn loads_one_by_one(summary: &Summary<'_>) -> (Vec<(u32, Load)>, String) {
    let measured = |idle: u32| {
        let loads = summary.loads.iter().filter(move |load| summary.is_measured(idle, **load));
        loads.map(|load| (idle, *load)).collect::<Vec<_>>()
    };
    let found = summary.idle.iter().rev().map(|idle| measured(*idle)).find(|loads| !loads.is_empty());
    let mut loads = found.unwrap_or_default();
    let left_out = match loads.len().saturating_sub(MOST_LOADS) {
        0 => String::new(),
        more => format!(" Of {} more loads, see the tables.", grouped(more as u64)),
    };
    loads.truncate(MOST_LOADS);
    (loads, left_out)
}

/// Why a cell has no figures.
fn why(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Measured(_) => None,
        Outcome::Missing(reason) => Some(reason.clone()),
        Outcome::Void(reason) => Some(format!("void: {reason}")),
    }
}

pub(super) fn look(summary: &Summary<'_>, row: usize) -> Look {
    let subject = &summary.subjects[row];
    Look::of(&subject.mechanism, subject.control, row)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn of_an_ordinary_record_there_is_every_plot() {
        let record = sample::ordinary();
        let groups = groups(&Summary::of(&record));
        let drawn = groups.iter().map(|group| (group.title.as_str(), group.plots.len())).collect::<Vec<_>>();
        assert_eq!(
            drawn,
            [
                ("Cost against idle connections", 3),
                ("Cost in multiples of epoll", 3),
                ("Cost against active connections", 4),
                ("Throughput against active connections", 4),
                ("Latency: how many took longer", 3),
                ("System calls", 3),
                ("CPU time: user and system", 3),
                ("Events a wait returns", 3),
                ("Events a wait returns: how many returned more", 3),
                ("Memory of a connection", 1),
                ("In the order it was measured", 1),
            ]
        );
    }

    #[test]
    fn of_an_open_loop_latency_is_against_what_is_offered_and_a_cell_alone_has_no_curve() {
        let record = sample::open_loop();
        let titles = |summary: &Summary<'_>| groups(summary).into_iter().map(|group| group.title).collect::<Vec<_>>();
        let open = titles(&Summary::of(&record));
        assert!(open.contains(&"p99 latency against % of capacity offered".to_owned()), "{open:?}");
        assert!(!open.iter().any(|title| title.contains("multiples")), "rows differ in rate: {open:?}");
        let record = sample::one_cell();
        let one = titles(&Summary::of(&record));
        assert!(!one.iter().any(|title| title.contains("against")) && !one.is_empty(), "{one:?}");
        assert!(titles(&Summary::of(&sample::empty())).is_empty());
    }
}
