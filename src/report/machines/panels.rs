//! Plots of several machines: a panel for each beside the others, and every mechanism drawn alike in all of them.

use std::collections::BTreeSet;

use super::super::charts::{self, Scale};
use super::super::plot::{Drawn, Group, Look, Plot};
use super::super::summary::{Standing, Subject, Summary};
use super::{Entry, Together, claims};

/// Plots of one kind of all machines that have a record of a workload.
pub(super) struct Panels {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) scale: Scale,
    /// The same plot of every machine; `None` of one that has nothing to draw in it.
    pub(super) rows: Vec<Row>,
}

/// The same plot of every machine.
pub(super) struct Row {
    pub(super) title: String,
    pub(super) panels: Vec<Option<(Plot, String)>>,
}

/// Every kind of plot that may stand beside the same of another machine. `subjects` are those of the page: a row has the
/// place, the colour and the marker it has there, whatever other rows its own record has.
pub(super) fn all(together: &Together<'_, '_>, subjects: &[Subject]) -> Vec<Panels> {
    let summaries = together.held.iter().map(|(_, entry)| &entry.summary).collect::<Vec<_>>();
    let (fewest, baseline) = (fewest(&summaries), baseline(&summaries));
    let made = summaries.iter().map(|summary| charts::beside(summary, fewest, baseline.as_deref())).collect::<Vec<_>>();
    let mut kinds: Vec<(String, Scale)> = Vec::new();
    for (scale, group) in made.iter().flatten() {
        if kinds.iter().all(|(title, _)| *title != group.title) {
            kinds.push((group.title.clone(), *scale));
        }
    }
    let of_kind = |(title, scale): (String, Scale)| {
        let groups = made.iter().map(|groups| groups.iter().find(|(_, group)| group.title == title));
        let groups = groups.map(|found| found.map(|(_, group)| group)).collect::<Vec<_>>();
        panels(together, subjects, scale, &groups)
    };
    kinds.into_iter().map(of_kind).filter(|panels| !panels.rows.is_empty()).collect()
}

fn panels(together: &Together<'_, '_>, subjects: &[Subject], scale: Scale, groups: &[Option<&Group>]) -> Panels {
    let first = groups.iter().flatten().next().expect("a kind is that of a group");
    let named = |machine: usize, group: &Group| {
        let plots = group.plots.iter().map(|plot| named(plot, &prefix(together, scale, machine), subjects)).collect();
        Group { title: group.title.clone(), note: group.note.clone(), plots }
    };
    let groups = groups.iter().enumerate().filter_map(|(at, group)| Some((at, named(at, (*group)?))));
    let groups = groups.collect::<Vec<_>>();
    // What is drawn as one group has one scale.
    let drawn: Vec<Drawn> = match scale {
        Scale::Own => groups.into_iter().map(|(_, group)| group.draw()).collect(),
        Scale::Shared => {
            let plots = groups.into_iter().flat_map(|(_, group)| group.plots).collect();
            vec![Group { title: first.title.clone(), note: first.note.clone(), plots }.draw()]
        }
    };
    let mut rows: Vec<Row> = Vec::new();
    for (plot, picture) in drawn.into_iter().flat_map(|group| group.plots) {
        let place = |at: usize| Some((at, plot.title().strip_prefix(&prefix(together, scale, at))?.to_owned()));
        let (machine, title) = (0..together.held.len()).find_map(place).expect("every title begins with its machine");
        let at = rows.iter().position(|row| row.title == title).unwrap_or_else(|| {
            rows.push(Row { title, panels: vec![None; together.held.len()] });
            rows.len() - 1
        });
        rows[at].panels[machine] = Some((plot, picture));
    }
    let note = match scale {
        Scale::Own => format!("{} Each machine has a scale of its own: compare shapes, and no sizes.", first.note),
        Scale::Shared => first.note.clone(),
    };
    Panels { title: first.title.clone(), note, scale, rows }
}

fn prefix(together: &Together<'_, '_>, scale: Scale, machine: usize) -> String {
    let (letter, _) = &together.held[machine];
    match scale {
        Scale::Own => format!("{letter}, own scale: "),
        Scale::Shared => format!("{letter}: "),
    }
}

/// The same plot, named for its machine, its rows placed and drawn as everywhere on the page.
fn named(plot: &Plot, prefix: &str, subjects: &[Subject]) -> Plot {
    let place = |name: &str, row: &mut usize, look: &mut Look| {
        if let Some(at) = subjects.iter().position(|subject| subject.name == name) {
            (*row, *look) = (at, Look::of(&subjects[at].mechanism, subjects[at].control, at));
        }
    };
    let mut plot = plot.clone();
    match &mut plot {
        Plot::Lines(lines) => {
            lines.title.insert_str(0, prefix);
            lines.series.iter_mut().for_each(|one| place(&one.name, &mut one.row, &mut one.look));
        }
        Plot::Grid(grid) => {
            grid.title.insert_str(0, prefix);
            place(&grid.name, &mut grid.row, &mut grid.look);
        }
        Plot::Bars(bars) => {
            bars.title.insert_str(0, prefix);
            bars.bars.iter_mut().for_each(|one| place(&one.name, &mut one.row, &mut one.look));
        }
    }
    plot
}

/// Every panel, for files.
pub(super) fn drawn(together: &Together<'_, '_>, subjects: &[Subject]) -> Vec<Drawn> {
    let drawn = |panels: Panels| Drawn {
        title: panels.title,
        note: panels.note,
        plots: panels.rows.into_iter().flat_map(|row| row.panels).flatten().collect(),
    };
    if together.held.len() < 2 { Vec::new() } else { all(together, subjects).into_iter().map(drawn).collect() }
}

/// The rows of all of these, each once, in the order of the first that has it.
pub(super) fn subjects<'e>(entries: impl Iterator<Item = &'e Entry<'e>>) -> Vec<Subject> {
    let mut subjects: Vec<Subject> = Vec::new();
    for subject in entries.flat_map(|entry| &entry.summary.subjects) {
        if subjects.iter().all(|one| one.name != subject.name) {
            subjects.push(subject.clone());
        }
    }
    subjects
}

/// The smallest idle population that all of them have.
fn fewest(summaries: &[&Summary<'_>]) -> Option<u32> {
    let all = summaries.iter().map(|summary| summary.idle.iter().copied().collect::<BTreeSet<_>>());
    all.reduce(|one, other| &one & &other)?.first().copied()
}

/// The row that all of them have and that leads in the most of their tables.
fn baseline(summaries: &[&Summary<'_>]) -> Option<String> {
    let leads = |summary: &Summary<'_>, row: &str| {
        let cells = summary.cells.iter().filter(|cell| summary.subjects[cell.subject].name == row);
        let standings = cells.filter_map(|cell| cell.figures()).map(|figures| figures.standing).collect::<Vec<_>>();
        let leading = |one: &&Standing| matches!(one, Standing::Best | Standing::Indistinguishable);
        (!standings.is_empty()).then(|| standings.iter().filter(leading).count())
    };
    let tables = |row: &String| summaries.iter().map(|summary| leads(summary, row)).sum::<Option<usize>>();
    let rows = claims::rows(summaries).into_iter().filter_map(|row| Some((tables(&row)?, row)));
    // Of equals the first.
    rows.rev().max_by_key(|(tables, _)| *tables).map(|(_, row)| row)
}
