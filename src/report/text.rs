//! The sentences every exporter shares: who leads, how noisy it was, what is missing, how to repeat it.

use std::collections::BTreeMap;

use super::format::{factor, grouped, percent, plain, shell, three_digits};
use super::summary::{Cell, Outcome, Standing, Summary};
use crate::measure::record::{Gate, Verdict};

/// What the columns do not say by themselves.
pub(super) const LEGEND: [&str; 5] = [
    "Ranked by server CPU time per request: the median over the rounds, with its 95 % interval.",
    "=: the repeats do not separate it from the best. A rank is one more than the rows that use less beyond noise. \
     A/A: the control, a mechanism measured twice. Nothing is ranked that was seen in one round only.",
    "†: the load was the limit, so throughput and latency say more about it than about the server; CPU and calls stand.",
    "~: counted by formula in part, because the calls happen inside a crate.",
    "Latency is that of a closed loop kept busy; p99 needs 1,000 samples, p99.9 needs 10,000.",
];

/// Which mechanism leads in how many tables.
pub(super) fn headline(summary: &Summary<'_>) -> String {
    let leaders = summary.leaders();
    let Some((first, most)) = leaders.first() else {
        return match summary.tables().any(|(idle, active)| summary.is_measured(idle, active)) {
            false => "Nothing was measured.".to_owned(),
            true => "Nothing is ranked: what was seen in one round only may be chance. Three rounds are the least."
                .to_owned(),
        };
    };
    // A table without a best one is not ranked, and nobody has lost there.
    let is_best = |cell: &Cell| cell.figures().is_some_and(|figures| figures.standing == Standing::Best);
    let tables = summary.tables().filter(|(idle, active)| summary.table(*idle, *active).iter().any(is_best)).count();
    let others = leaders[1..].iter().map(|(subject, count)| format!("; {} in {count}", plain(&subject.name)));
    format!(
        "Least server CPU per request, or not to be told from the least: {} in {most} of {tables} tables{}.",
        plain(&first.name),
        others.collect::<String>()
    )
}

/// What idle connections do: who stands where in the table with the most of them and the fewest active ones.
pub(super) fn finding(summary: &Summary<'_>) -> Option<String> {
    let fewest =
        summary.active.iter().find(|&&active| summary.idle.iter().any(|&idle| summary.is_measured(idle, active)));
    let active = *fewest?;
    let idle = summary.idle.iter().copied().rfind(|&idle| summary.is_measured(idle, active))?;
    let (mut best, mut equal, mut others) = (None, Vec::new(), Vec::new());
    for cell in summary.ranked(idle, active) {
        let Some(figures) = cell.figures() else { continue };
        let name = plain(&summary.subjects[cell.subject].name);
        match (figures.standing, figures.ratio) {
            (Standing::Best, _) => best = Some(name),
            (Standing::Indistinguishable, _) => equal.push(name),
            (Standing::Rank(_), Some(ratio)) => others.push(format!("{name} {}", factor(ratio.value))),
            _ => {}
        }
    }
    let best = best?;
    let load = format!("With {} idle connections and {} active", grouped(idle.into()), grouped(active.into()));
    let equal = match equal.is_empty() {
        true => String::new(),
        false => format!(" (not to be told from it: {})", equal.join(", ")),
    };
    let others = match others.is_empty() {
        true => "nothing takes more beyond noise".to_owned(),
        false => format!("in multiples of it: {}", others.join(", ")),
    };
    Some(format!("{load}, the least server CPU per request is that of {best}{equal}; {others}."))
}

/// What the control says.
pub(super) fn noise(summary: &Summary<'_>) -> String {
    let noise = summary.noise;
    let margin = percent(noise.margin);
    match noise.spread {
        Some(spread) => format!(
            "Noise floor: a mechanism measured twice differed from itself by up to {} in 95 % of {} cells; \
             only differences beyond {margin} count.",
            percent(spread),
            noise.cells
        ),
        None => format!("Noise floor: unknown, there was no A/A control; only differences beyond {margin} count."),
    }
}

/// Rounds, durations, payload.
pub(super) fn method(summary: &Summary<'_>) -> String {
    let settings = &summary.record.settings;
    let ended = if summary.record.finished { "" } else { " It was interrupted: what is here is what was measured." };
    format!(
        "{} of {} interleaved rounds in random order; each visit in fresh server and load processes; each cell measured \
         for {} ms after {} ms of warm-up; {}-byte echo over TCP, every byte verified.{ended}",
        settings.rounds_done,
        settings.rounds,
        settings.measure_ns / 1_000_000,
        settings.warmup_ns / 1_000_000,
        grouped(settings.payload_bytes)
    )
}

/// The command that makes the same plan again. Where the results went is nobody else's concern, and there they are.
pub(super) fn repeat(summary: &Summary<'_>) -> String {
    let record = summary.record;
    let mut command = vec!["pollmark".to_owned()];
    let mut typed = record.command.iter().skip(1);
    while let Some(argument) = typed.next() {
        match argument.as_str() {
            "--out" => drop(typed.next()),
            with_value if with_value.starts_with("--out=") => {}
            _ => command.push(argument.clone()),
        }
    }
    if !command.iter().any(|argument| argument.starts_with("--seed")) {
        command.extend(["--seed".to_owned(), record.seed.to_string()]);
    }
    shell(&command)
}

/// What has no figures: which row and where, and why. One line for each row and reason.
pub(super) fn unmeasured(summary: &Summary<'_>) -> Vec<(String, String)> {
    let mut places: BTreeMap<(usize, String), Vec<(u32, u32)>> = BTreeMap::new();
    for cell in &summary.cells {
        let reason = match &cell.outcome {
            Outcome::Measured(_) => continue,
            Outcome::Missing(reason) => reason.clone(),
            Outcome::Void(reason) => format!("void: {reason}"),
        };
        places.entry((cell.subject, reason)).or_default().push((cell.idle, cell.active));
    }
    let tables = summary.idle.len() * summary.active.len();
    let mut lines = Vec::new();
    for ((subject, reason), cells) in places {
        let name = &summary.subjects[subject].name;
        let place = if cells.len() == tables { "everywhere".to_owned() } else { describe(summary, &cells) };
        lines.push((format!("{name}, {place}"), reason));
    }
    // Loads that were dropped whole are on neither axis.
    for missing in &summary.record.missing {
        let off_axis = |asked: Option<u32>, axis: &[u32]| asked.is_some_and(|asked| !axis.contains(&asked));
        if off_axis(missing.idle, &summary.idle) || off_axis(missing.active, &summary.active) {
            let idle = missing.idle.map(|idle| format!(", {} idle", grouped(idle.into()))).unwrap_or_default();
            let active =
                missing.active.map(|active| format!(", {} active", grouped(active.into()))).unwrap_or_default();
            lines.push((format!("{}{idle}{active}", missing.subject), missing.reason.clone()));
        }
    }
    if tables == 0 {
        let everywhere = |one: &crate::measure::record::Missing| (one.subject.clone(), one.reason.clone());
        lines.extend(summary.record.missing.iter().filter(|one| one.idle.is_none()).map(everywhere));
    }
    lines
}

/// Cells in few words: whole idle populations first.
fn describe(summary: &Summary<'_>, cells: &[(u32, u32)]) -> String {
    let mut by_idle: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    cells.iter().for_each(|(idle, active)| by_idle.entry(*idle).or_default().push(*active));
    let places = by_idle.into_iter().map(|(idle, active)| match active.len() == summary.active.len() {
        true => format!("{} idle", grouped(idle.into())),
        false => {
            let active = active.into_iter().map(|active| grouped(active.into())).collect::<Vec<_>>();
            format!("{} idle with {} active", grouped(idle.into()), active.join(" and "))
        }
    });
    places.collect::<Vec<_>>().join(", ")
}

/// A gate as verdict, name and finding.
pub(super) fn gate(gate: &Gate) -> (&'static str, String) {
    let verdict = match gate.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Unavailable => "unavailable",
    };
    let value = gate.value.map_or("–".to_owned(), three_digits);
    (verdict, format!("{}: {value} (bound: {}; {})", gate.name, gate.bound, gate.explanation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn the_finding_is_that_of_most_idle_and_fewest_active_connections() {
        let record = sample::ordinary();
        let summary = Summary::of(&record);
        let said = finding(&summary).expect("measured");
        let factor_of = |name: &str| {
            let at = summary.subjects.iter().position(|one| one.name == name).expect("a row");
            factor(summary.table(5_000, 1)[at].figures().and_then(|figures| figures.ratio).expect("a ratio").value)
        };
        assert!(
            said.starts_with(
                "With 5,000 idle connections and 1 active, the least server CPU per request is that of epoll"
            ),
            "{said}"
        );
        let [poll, select] = ["poll", "select"].map(|name| format!("{name} {}", factor_of(name)));
        assert!(said.ends_with(&format!("{select}, {poll}.")) && !said.contains("A/A"), "{said}");
        assert_eq!(finding(&Summary::of(&sample::empty())), None);
    }

    #[test]
    fn a_table_that_is_not_ranked_is_nobodys_loss() {
        let mut record = sample::ordinary();
        assert!(headline(&Summary::of(&record)).contains(" of 12 tables"), "{}", headline(&Summary::of(&record)));
        record.trials.retain(|trial| trial.idle != 100 || trial.round == 0);
        assert!(headline(&Summary::of(&record)).contains(" of 9 tables"), "{}", headline(&Summary::of(&record)));
    }

    #[test]
    fn what_noise_hides_is_no_finding() {
        let mut record = sample::ordinary();
        record.trials.iter_mut().for_each(|trial| trial.server_cpu_ns = Some(trial.requests * 8_000));
        let said = finding(&Summary::of(&record)).expect("measured");
        assert!(said.ends_with("nothing takes more beyond noise.") && !said.contains("multiples"), "{said}");
    }

    #[test]
    fn the_command_to_repeat_has_the_seed_and_not_the_directory() {
        for out in [&["--out", "my results"][..], &["--out=there"], &[]] {
            let mut record = sample::empty();
            record.command =
                ["./target/release/pollmark", "compare"].iter().chain(out).map(|&one| one.into()).collect();
            record.command.push("--quick".to_owned());
            assert_eq!(repeat(&Summary::of(&record)), "pollmark compare --quick --seed 0");
        }
    }

    #[test]
    fn a_load_left_out_whole_is_told_though_no_table_has_it() {
        let mut record = sample::ordinary();
        let reason = "left out to stay within 80 s".to_owned();
        let missing =
            crate::measure::record::Missing { subject: "epoll".into(), idle: Some(9_000), active: None, reason };
        record.missing.push(missing);
        let lines = unmeasured(&Summary::of(&record));
        assert!(
            lines.contains(&("epoll, 9,000 idle".to_owned(), "left out to stay within 80 s".to_owned())),
            "{lines:?}"
        );
    }
}
