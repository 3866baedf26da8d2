//! Idle against active: how many times as much each row costs as one that stays flat, and where that turns.

use super::super::format::grouped;
use super::super::plot::{Grid, Group, Plot, Square};
use super::super::summary::{Standing, Summary};
use super::super::wording::Wording;

/// A grid for each row but the baseline, which is the row that is best, or not to be told from it, in most tables.
pub(super) fn grids(summary: &Summary<'_>) -> Group {
    let baseline = summary.leaders().first().map(|(subject, _)| subject.name.clone()).unwrap_or_default();
    grids_against(summary, &baseline)
}

/// A grid for each row but this one.
pub(super) fn grids_against(summary: &Summary<'_>, baseline: &str) -> Group {
    let wording = Wording::of(summary.record);
    let title = format!("Cost in multiples of {baseline}");
    let note = format!(
        "{} for each {}, paired by round; = where the interval does not keep clear of {baseline} by what counts as a \
         difference. The thick line is the crossover: on one side of it the mechanism costs more, on the other it does not.",
        wording.title(),
        wording.operation
    );
    let base = summary.subjects.iter().position(|subject| subject.name == baseline);
    let several = summary.idle.len() > 1 && (2..=super::MOST_LOADS).contains(&summary.loads.len());
    let rows = summary.subjects.iter().enumerate().filter(|(_, subject)| !subject.control);
    let rows = rows.map(|(row, _)| row).filter(|row| base.is_some_and(|base| base != *row) && several);
    let plots = rows.filter_map(|row| grid(summary, row, base?, baseline)).map(Plot::Grid).collect();
    Group { title, note, plots }
}

fn grid(summary: &Summary<'_>, row: usize, base: usize, baseline: &str) -> Option<Grid> {
    let name = summary.subjects[row].name.clone();
    let square = |idle: u32, load| {
        let table = summary.table(idle, load);
        let nothing = || super::why(&table[base].outcome).map(|why| format!("{baseline}: {why}"));
        match summary.ratio(&table[row], &table[base]) {
            Some(ratio) => Square::Ratio(ratio),
            None => Square::Nothing(super::why(&table[row].outcome).or_else(nothing).unwrap_or_default()),
        }
    };
    let ranked = |load: &&crate::measure::record::Load| {
        let standing = |idle: &u32| {
            let mut table = summary.table(*idle, **load).iter().filter_map(|cell| cell.figures());
            table.any(|figures| figures.standing != Standing::Unranked)
        };
        summary.idle.iter().any(standing)
    };
    let rows = summary.loads.iter().filter(ranked).map(|&load| {
        let squares = summary.idle.iter().map(|&idle| square(idle, load)).collect::<Vec<_>>();
        (summary.describe(load), squares)
    });
    let rows = rows.collect::<Vec<_>>();
    let known = rows.iter().flat_map(|(_, squares)| squares).any(|square| matches!(square, Square::Ratio(_)));
    known.then(|| Grid {
        title: format!("{name} against {baseline}"),
        row,
        look: super::look(summary, row),
        name,
        x_label: "idle",
        columns: summary.idle.iter().map(|idle| grouped((*idle).into())).collect(),
        rows,
        margin: summary.noise.margin,
    })
}
