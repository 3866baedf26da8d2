//! Events a wait returns, as they are distributed: a mean of two may be two each time, or one mostly and a hundred at times.

use super::super::plot::{Group, Lines, Plot, Point, Reading, Series};
use super::super::summary::{Cell, Summary};
use super::super::table;
use crate::server::Batches;

/// A plot for each load that is shown by itself.
pub(super) fn distributions(summary: &Summary<'_>) -> Group {
    let (loads, left_out) = super::loads_one_by_one(summary);
    let plot = |(idle, load)| {
        let series = summary.table(idle, load).iter().map(|cell| Series {
            row: cell.subject,
            name: summary.subjects[cell.subject].name.clone(),
            look: super::look(summary, cell.subject),
            points: points(&batches(summary, cell)),
            model: Vec::new(),
            gaps: Vec::new(),
        });
        Lines {
            title: format!("Waits by events, {}", table::load(summary, idle, load)),
            x_label: "events or more",
            y_label: "% of waits that returned so many",
            reading: Reading::Places,
            series: series.collect(),
        }
    };
    // A load of one event each time is a point, and tells nothing the mean does not.
    let drawn = |lines: &Lines| lines.series.iter().any(|series| !series.points.is_empty());
    let plots = loads.into_iter().map(plot).filter(drawn).map(Plot::Lines).collect();
    let note = format!(
        "Counted by the server at each wait, by powers of two. What is missing from 100 % at 1 returned nothing: a deadline, \
         an interruption. Who has no loop, or keeps no such account, has no curve.{left_out}"
    );
    Group { title: "Events a wait returns: how many returned more".to_owned(), note, plots }
}

/// Those of all timed trials of a cell.
fn batches(summary: &Summary<'_>, cell: &Cell) -> Batches {
    if cell.figures().is_none() {
        return Batches::default();
    }
    summary.trials(cell).timed().fold(Batches::default(), |sum, trial| sum.saturating_add(trial.ledger.batches))
}

/// Up to the largest class that occurred.
fn points(batches: &Batches) -> Vec<Point> {
    let waits = batches.waits() as f64;
    let point = |(least, _): (u64, u64)| {
        let share = batches.at_least(least) as f64 / waits;
        (share > 0.0).then_some(Point { x: least as f64, y: share * 100.0, interval: None, faint: false })
    };
    batches.iter().skip(1).map_while(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_from_the_waits_that_returned_anything_to_the_largest_batch() {
        let mut batches = Batches::default();
        [0, 1, 1, 2, 5].into_iter().for_each(|events| batches.count(events));
        let drawn = points(&batches).into_iter().map(|point| (point.x, point.y.round())).collect::<Vec<_>>();
        assert_eq!(drawn, [(1.0, 80.0), (2.0, 40.0), (4.0, 20.0)]);
        assert!(points(&Batches::default()).is_empty());
    }
}
