//! What stands against a record, read off its figures, and what to do next about each. What was noticed while it was made is
//! among them: [`Record::warnings`](crate::measure::Record).

use super::format::{grouped, percent, plain};
use super::summary::Summary;
use crate::measure::record::Trial;

/// Less than this part of the time of all CPUs may be taken away without a word.
const STOLEN: f64 = 0.01;

/// From so many rounds on an interval is one of 95 %.
const ROUNDS: u32 = 6;

/// Everything, as sentences: what was noticed first, then what the figures show.
pub(super) fn of(summary: &Summary<'_>) -> Vec<String> {
    let shown = [unoptimised, governor, turbo, steal, rounds, limits];
    let shown = shown.into_iter().filter_map(|caution| caution(summary));
    summary.record.warnings.iter().cloned().chain(shown).collect()
}

fn unoptimised(summary: &Summary<'_>) -> Option<String> {
    let is_optimised = !summary.record.host.build.contains("opt-level 0");
    (!is_optimised).then(|| {
        "pollmark was built without optimisation: what is in user mode costs many times what it would. Build it with \
         `cargo build --release`, and measure again"
            .to_owned()
    })
}

fn governor(summary: &Summary<'_>) -> Option<String> {
    let governor = summary.record.host.governor.as_deref().filter(|governor| *governor != "performance")?;
    Some(format!(
        "the frequency governor is {}: a server that sleeps more is measured at a lower clock. Set it to performance \
         (`cpupower frequency-set -g performance`), and measure again",
        plain(governor)
    ))
}

fn turbo(summary: &Summary<'_>) -> Option<String> {
    (summary.record.host.turbo == Some(true)).then(|| {
        "turbo is on: how fast a CPU is depends on how warm it is, and on what the others do. Turn it off (1 into \
         /sys/devices/system/cpu/intel_pstate/no_turbo, or 0 into /sys/devices/system/cpu/cpufreq/boost), and measure again"
            .to_owned()
    })
}

fn steal(summary: &Summary<'_>) -> Option<String> {
    let record = summary.record;
    let cores = f64::from(record.host.cores?);
    let timed = || record.trials.iter().filter(|trial| !trial.counted && trial.steal_ns.is_some());
    let part = |trial: &Trial| trial.steal_ns.unwrap_or_default() as f64 / (trial.duration_ns as f64 * cores);
    let sum = |of: fn(&Trial) -> u64| timed().map(|trial| of(trial) as f64).sum::<f64>();
    let stolen = sum(|trial| trial.steal_ns.unwrap_or_default()) / (sum(|trial| trial.duration_ns) * cores);
    let hit = timed().filter(|trial| part(trial) >= STOLEN).count();
    (stolen >= STOLEN).then(|| {
        format!(
            "the hypervisor gave {} of the CPUs' time to others, in {} of {} trials {} or more: what waited meanwhile took \
             longer. Measure again when the machine is quieter, with more rounds, or on one that is not shared",
            percent(stolen),
            grouped(hit as u64),
            grouped(timed().count() as u64),
            percent(STOLEN),
        )
    })
}

fn rounds(summary: &Summary<'_>) -> Option<String> {
    let rounds = summary.record.settings.rounds_done;
    let word = if rounds == 1 { "round" } else { "rounds" };
    (1..ROUNDS).contains(&rounds).then(|| {
        format!(
            "{rounds} {word}: an interval is from the least to the most of them, and \"finds\" says how large a difference \
             they could have shown. With `--rounds 10` intervals are of 95 %, and smaller differences are found"
        )
    })
}

fn limits(summary: &Summary<'_>) -> Option<String> {
    let closed = summary.cells.iter().filter(|cell| cell.load.offered.is_none());
    let figures = closed.filter_map(|cell| cell.figures()).collect::<Vec<_>>();
    let limited = figures.iter().filter(|figures| figures.client_limited).count();
    (limited > 0).then(|| {
        format!(
            "in {} of {} cells the load was the limit (†): their throughput and latency say more about it than about the \
             server; CPU and calls stand. For latency ask less of the servers (`--offered 50,90`); for throughput give the \
             load more CPUs",
            grouped(limited as u64),
            grouped(figures.len() as u64)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_was_noticed_and_what_the_figures_show_is_told_each_with_what_to_do() {
        let mut record = sample::ordinary();
        record.settings.rounds_done = 10;
        record.host.build = "x86_64-unknown-linux-gnu, release, opt-level 3".to_owned();
        (record.host.governor, record.host.turbo) = (None, None);
        record.trials.iter_mut().for_each(|trial| trial.client_limited = None);
        let noticed = record.warnings.clone();
        assert_eq!(of(&Summary::of(&record)), noticed, "nothing stands against it but what was noticed");
        record.settings.rounds_done = 3;
        record.host.build = "x86_64-unknown-linux-gnu, debug, opt-level 0".to_owned();
        (record.host.governor, record.host.turbo) = (Some("powersave".to_owned()), Some(true));
        record.host.cores = Some(2);
        record.trials.iter_mut().for_each(|trial| {
            (trial.steal_ns, trial.client_limited) = (Some(trial.duration_ns / 10), Some(true));
        });
        let told = of(&Summary::of(&record));
        let next = ["cargo build --release", "powersave", "no_turbo", "5.0 %", "--rounds 10", "--offered 50,90"];
        assert_eq!(told.len(), noticed.len() + next.len(), "{told:?}");
        for (caution, next) in told[noticed.len()..].iter().zip(next) {
            assert!(caution.contains(next), "{next}: {caution}");
        }
    }

    #[test]
    fn of_a_record_of_nothing_nothing_is_said_that_takes_figures() {
        let mut record = sample::empty();
        record.host = crate::measure::Host::default();
        assert_eq!(of(&Summary::of(&record)), record.warnings);
    }
}
