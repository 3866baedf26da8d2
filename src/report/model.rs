//! The cost model in a table, and the crossovers in sentences.

use super::format::{grouped, percent, plain, three_digits};
use super::summary::Summary;
use super::table::{Column, Kind, Row, Table};
use super::wording::Wording;
use crate::measure::fit::{self, Coefficient, Crossover};

/// c0, c1 and c2 of each row they can be found for; `None` if there is none.
pub(super) fn table(summary: &Summary<'_>) -> Option<Table> {
    let fits = fit::fits(summary.record);
    let operation = Wording::of(summary.record).operation;
    let c2 = format!("{operation} c2");
    let heads = [
        ("mechanism", 0),
        ("wait c0", 0),
        ("interval", 3),
        ("watched c1", 0),
        ("interval", 1),
        (c2.as_str(), 0),
        ("interval", 2),
        ("sleep s", 0),
        ("interval", 4),
        ("off by", 0),
    ];
    let column =
        |(head, expendable): (&str, u8)| Column { head: head.to_owned(), right: head != "mechanism", expendable };
    let row = |fit: &fit::Fit| {
        let costs = [fit.wait, fit.watched, fit.request, fit.sleep].map(cost).concat();
        let cells = [vec![fit.subject.clone()], costs, vec![percent(fit.residual)]].concat();
        Row { kind: Kind::Ordinary, cells, reason: None }
    };
    (!fits.is_empty()).then(|| Table {
        title: format!("Cost model, ns of CPU: a wait costs c0 + c1 · watched + c2 · {operation}s (+ s)"),
        columns: heads.map(column).to_vec(),
        rows: fits.iter().map(row).collect(),
    })
}

/// A cost and where it lies.
fn cost(cost: Coefficient) -> Vec<String> {
    let interval = cost.interval.map(|one| format!("{}–{}", three_digits(one.low), three_digits(one.high)));
    vec![three_digits(cost.value), interval.unwrap_or_else(|| "–".to_owned())]
}

/// A sentence for each crossover.
pub(super) fn crossovers(summary: &Summary<'_>) -> Vec<String> {
    let watched = Wording::of(summary.record).watched;
    let most = summary.idle.last().copied().unwrap_or(0);
    fit::crossovers(summary.record).iter().map(|found| sentence(found, most, watched)).collect()
}

fn sentence(found: &Crossover, most: u32, watched: &str) -> String {
    let Crossover { scanning, flat, active, idle, interval } = found;
    let (scanning, flat, active) = (plain(scanning), plain(flat), grouped((*active).into()));
    let whole = |value: f64| grouped(value.max(0.0).round() as u64);
    if let Some(one) = interval.filter(|one| one.low <= 0.0 && one.high > 0.0) {
        return format!(
            "By the model it is not to be told whether {scanning} costs less than {flat} at {active} active: if so, then \
             below {} idle {watched} at most.",
            whole(one.high)
        );
    }
    if *idle > f64::from(most) {
        return format!(
            "By the model {scanning} costs less than {flat} at {active} active with all that was measured, up to {} idle \
             {watched}.",
            grouped(most.into())
        );
    }
    let between = interval.map(|one| format!(" ({} to {})", whole(one.low), whole(one.high))).unwrap_or_default();
    if *idle <= 0.0 {
        return format!("By the model {scanning} costs more than {flat} at {active} active, however few are idle.");
    }
    format!(
        "By the model {scanning} costs less than {flat} below {}{between} idle {watched} at {active} active.",
        whole(*idle)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::stats::Interval;
    use crate::report::sample;

    #[test]
    fn the_model_finds_in_the_sample_what_it_was_made_of() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        let table = table(&summary).expect("enough to fit");
        let poll = table.rows.iter().find(|row| row.cells[0] == "poll").expect("a row");
        let watched = poll.cells[3].parse::<f64>().expect("a number");
        assert!((80.0..100.0).contains(&watched), "90 ns a descriptor: {:?}", poll.cells);
        let said = crossovers(&summary);
        assert!(said.iter().any(|line| line.starts_with("By the model poll costs")), "{said:?}");
    }

    #[test]
    fn what_the_model_cannot_tell_and_what_was_not_measured_is_not_claimed() {
        let said = |idle: f64, low: f64, high: f64| {
            let (scanning, flat) = ("poll".to_owned(), "epoll".to_owned());
            let found = Crossover { scanning, flat, active: 1, idle, interval: Some(Interval { low, high }) };
            sentence(&found, 5_000, "connections")
        };
        assert!(said(30.0, 20.0, 40.0).contains("poll costs less than epoll below 30 (20 to 40)"));
        assert!(said(-30.0, -40.0, -20.0).contains("however few are idle"));
        for idle in [-5.0, 10.0] {
            let open = said(idle, -20.0, 40.0);
            assert!(open.contains("not to be told") && open.contains("below 40 idle"), "{open}");
        }
        let beyond = said(9_000.0, 7_000.0, 11_000.0);
        assert!(beyond.contains("up to 5,000 idle") && !beyond.contains("9,000"), "{beyond}");
    }
}
