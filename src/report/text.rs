//! The sentences every exporter shares: who leads, how noisy it was, what is missing, how to repeat it.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{factor, grouped, percent, plain, shell, three_digits};
use super::summary::{Cell, Outcome, Pairs, Standing, Summary};
use super::wording::Wording;
use crate::exercise::{Exercise, Task};
use crate::measure::record::{Gate, Load, Verdict};
use crate::measure::stats::quantile;
use crate::workload::Transport;

/// What the columns do not say by themselves.
pub(super) fn legend(summary: &Summary<'_>) -> impl Iterator<Item = &'static str> {
    let alone = !summary.record.settings.exercises.is_empty();
    let open = summary.loads.iter().filter(|load| load.offered.is_some()).count();
    let closed = open < summary.loads.len() && !alone;
    let of_loops = [(closed, CLOSED), (open > 0, OPEN[0]), (open > 0, OPEN[1])];
    LEGEND.into_iter().chain(of_loops.into_iter().filter_map(|(there_is, line)| there_is.then_some(line)))
}

const LEGEND: [&str; 6] = [
    "Ranked by CPU time per request, or whatever is counted: the median over the rounds, with its interval: of \
     95 % from six rounds on; of fewer the least to the most, which holds the median with 75 % of three, 88 % of four, \
     94 % of five.",
    "=: the repeats do not separate it from the best. A rank is one more than the rows that use less beyond noise. \
     A/A: the control, a mechanism measured twice. Nothing is ranked that was seen in one round only.",
    "finds: by how much more than the best a row would have had to use to be told apart from it, in as many rounds and with \
     the scatter they had: what is smaller was not looked for, so = does not say that there is none.",
    "†: the load was the limit: it was busy for more than 85 % of the time, or did as much, within 5 %, as against the \
     ceiling, which is the cheapest server there can be. Throughput and latency say more about it than about the server \
     and are not ranked; CPU and calls stand.",
    "~: counted by formula in part, because the calls happen inside a crate.",
    "p99 needs 1,000 samples, p99.9 needs 10,000. Jain: 1 if each active connection had as many answers as the others, one \
     of n if one had all; most/least: the most of them to the fewest.",
];

const CLOSED: &str = "Latency is that of a closed loop kept busy.";

const OPEN: [&str; 2] = [
    "An open loop asks at a rate: a part of what a closed loop has found each server can do, in the same visit, so that \
     rows differ in rate; or so many a second, whether a server can do that or not. It is not ranked. Latency is from when \
     each exchange was due. sent: the uncorrected series, from when it was sent. unsent: due, and not even sent in as long again as the interval, for the server did not keep \
     up: they count as longer than all others, and a percentile that falls among them is not told.",
    "slip: how late the load itself was. Where that is more than a fifth of the latency, latency has a †; where the load \
     was the limit of the closed loop, the capacity has one, and the server can do more.",
];

/// Servers that are not ours: what each is, and what makes it comparable; before them, how they are to be read.
pub(super) fn contestants(summary: &Summary<'_>) -> Vec<(String, String)> {
    let each = summary.record.contestants.iter().map(|one| {
        let busy = match one.warm_up_ns {
            0 => String::new(),
            nanos => format!(" Kept busy for {} ms before anything was measured.", nanos / 1_000_000),
        };
        (
            one.label.clone(),
            format!("{} [{}]. {}{busy} `{}`", one.title, one.version, one.settings, shell(&one.command)),
        )
    });
    let mut lines = each.collect::<Vec<_>>();
    if !lines.is_empty() {
        lines.insert(0, ("Not ours, of the class in brackets".to_owned(), CONTESTANTS.to_owned()));
    }
    lines
}

/// How a row that is not ours is to be read.
const CONTESTANTS: &str = "measured in the same rounds, by the same load, with every byte verified, and not ranked: \
    × best is beside the best of ours. CPU and memory are those of the process and all it has started, told by the \
    system; the calls it makes nobody counts. What it does beside echoing, or leaves out, is its own affair.";

/// The workload: its title, then what it shows, what it does not, and what was expected. Records of before have none.
pub(super) fn workload(summary: &Summary<'_>) -> Vec<(&'static str, String)> {
    let Some(about) = &summary.record.workload else { return Vec::new() };
    let paragraphs = [
        ("Workload", format!("{}: {}", about.name, about.title)),
        ("What it shows", about.shows.clone()),
        ("What it does not show", about.hides.clone()),
        ("What was expected", about.expect.clone()),
    ];
    paragraphs.into_iter().map(|(head, text)| (head, plain(&text))).collect()
}

/// Which mechanism leads in how many tables.
pub(super) fn headline(summary: &Summary<'_>) -> String {
    let leaders = summary.leaders();
    let Some((first, most)) = leaders.first() else {
        return match summary.tables().any(|(idle, load)| summary.is_measured(idle, load)) {
            false => "Nothing was measured.".to_owned(),
            true if summary.loads.iter().all(|load| load.offered.is_some()) => {
                "Nothing is ranked: servers were asked for a rate, and not for all they can do.".to_owned()
            }
            true => "Nothing is ranked: what was seen in one round only may be chance. Three rounds are the least."
                .to_owned(),
        };
    };
    // A table without a best one is not ranked, and nobody has lost there.
    let is_best = |cell: &Cell| cell.figures().is_some_and(|figures| figures.standing == Standing::Best);
    let tables = summary.tables().filter(|(idle, load)| summary.table(*idle, *load).iter().any(is_best)).count();
    let others = leaders[1..].iter().map(|(subject, count)| format!("; {} in {count}", plain(&subject.name)));
    let Wording { cpu, operation, .. } = Wording::of(summary.record);
    format!(
        "Least {cpu} per {operation}, or not to be told from the least: {} in {most} of {tables} tables{}.",
        plain(&first.name),
        others.collect::<String>()
    )
}

/// The table with the most idle connections and the fewest active ones.
pub(super) fn found_at(summary: &Summary<'_>) -> Option<(u32, Load)> {
    let fewest = summary.loads.iter().find(|&&load| summary.idle.iter().any(|&idle| summary.is_measured(idle, load)));
    let load = *fewest?;
    Some((summary.idle.iter().copied().rfind(|&idle| summary.is_measured(idle, load))?, load))
}

/// What idle connections do: who stands where in the table that [`found_at`] names.
pub(super) fn finding(summary: &Summary<'_>) -> Option<String> {
    let (idle, load) = found_at(summary)?;
    let (mut best, mut equal, mut others) = (None, Vec::new(), Vec::new());
    for cell in summary.ranked(idle, load) {
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
    let Wording { cpu, operation, watched, .. } = Wording::of(summary.record);
    let load = format!("With {} idle {watched} and {}", grouped(idle.into()), summary.describe(load));
    let equal = match equal.is_empty() {
        true => String::new(),
        false => format!(" (not to be told from it: {})", equal.join(", ")),
    };
    let others = match others.is_empty() {
        true => "nothing takes more beyond noise".to_owned(),
        false => format!("in multiples of it: {}", others.join(", ")),
    };
    Some(format!("{load}, the least {cpu} per {operation} is that of {best}{equal}; {others}."))
}

/// What the control says.
pub(super) fn noise(summary: &Summary<'_>) -> String {
    let noise = summary.noise;
    let margin = percent(noise.margin);
    let floor = match noise.spread {
        Some(spread) => format!(
            "Noise floor: a mechanism measured twice differed from itself by up to {} in 95 % of {} cells; \
             only differences beyond {margin} count. With 5 % to count it would have been told apart from itself in {}.",
            percent(spread),
            noise.cells,
            noise.told_apart
        ),
        None => format!("Noise floor: unknown, there was no A/A control; only differences beyond {margin} count."),
    };
    [vec![floor], sensitivity(summary)].concat().join(" ")
}

/// How many comparisons the ranks stand on, and how small a difference they could have found; of no comparison nothing.
fn sensitivity(summary: &Summary<'_>) -> Vec<String> {
    let Pairs { all, differ } = summary.pairs;
    let effects = summary.cells.iter().filter_map(|cell| cell.figures()?.smallest_effect).collect::<Vec<_>>();
    let at = |place: f64| quantile(&effects, place).map(|effect| format!("{} %", three_digits(effect * 100.0)));
    let Some(((least, middle), most)) = at(0.0).zip(at(0.5)).zip(at(1.0)) else { return Vec::new() };
    let rows = if all == 1 { "pair of rows differs" } else { "pairs of rows differ" };
    vec![format!(
        "{} of {} {rows} by more than chance, with 5 % for each table (Holm), and only these are ranked apart. The \
         smallest difference from the best that could have been found is {middle} in half of the cells, {least} to {most} \
         in all.",
        grouped(differ as u64),
        grouped(all as u64),
    )]
}

/// Rounds, durations, payload.
pub(super) fn method(summary: &Summary<'_>) -> String {
    let settings = &summary.record.settings;
    let several = settings.processes.filter(|processes| *processes > 1);
    let several = several.map(|processes| format!(", {processes} of each")).unwrap_or_default();
    let mut carriers = summary.loads.iter().map(|load| load.transport).collect::<BTreeSet<_>>();
    if carriers.is_empty() {
        carriers.insert(Transport::default());
    }
    let ended = if summary.record.finished { "" } else { " It was interrupted: what is here is what was measured." };
    let (processes, done) = match settings.exercises.is_empty() {
        true => {
            let carriers = carriers.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" and ");
            (
                format!("fresh server and load processes{several}"),
                format!("{} over {carriers}, every byte", echoes(summary)),
            )
        }
        false => ("a fresh process with a poller alone".to_owned(), alone(summary)),
    };
    format!(
        "{} of {} interleaved rounds in random order; each visit in {processes}; each cell measured for {} ms after {} ms of \
         warm-up; {done} verified.{ended}",
        settings.rounds_done,
        settings.rounds,
        settings.measure_ns / 1_000_000,
        settings.warmup_ns / 1_000_000,
    )
}

/// What pollers did by themselves.
fn alone(summary: &Summary<'_>) -> String {
    let exercises = &summary.record.settings.exercises;
    let of = |word: fn(&Exercise) -> String| {
        exercises.iter().map(word).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" and ")
    };
    let channels = of(|exercise| exercise.channel.to_string());
    match exercises.first().map(|exercise| exercise.task) {
        Some(Task::SetUp) => format!("the reading ends of {channels} registered and taken out, what was ready"),
        _ => format!(
            "8-byte messages through {channels}, {} waits, every message",
            of(|exercise| exercise.wait.to_string())
        ),
    }
}

/// What was echoed: what is the same in all loads, for their names tell the rest.
fn echoes(summary: &Summary<'_>) -> String {
    let of = |value: fn(&Load) -> u64| summary.loads.iter().map(value).collect::<BTreeSet<_>>();
    let payloads = of(|load| load.traffic.payload as u64).into_iter().map(grouped).collect::<Vec<_>>();
    let outstanding = of(|load| load.traffic.outstanding as u64);
    let together = match (outstanding.first(), outstanding.len()) {
        (Some(several), 1) if *several > 1 => format!(", {} outstanding", grouped(*several)),
        _ => String::new(),
    };
    let exchanges = of(|load| load.traffic.exchanges);
    let connections = match (exchanges.first(), exchanges.len()) {
        (Some(several), 1) if *several > 0 => format!(", {} per connection", grouped(*several)),
        _ => String::new(),
    };
    format!("{}-byte echo{together}{connections}", payloads.join(", "))
}

/// The command that makes the same plan again. Where the results went is nobody else's concern, and there they are.
pub(super) fn repeat(summary: &Summary<'_>) -> String {
    let record = summary.record;
    let mut command = vec!["pollmark".to_owned()];
    let mut typed = record.command.iter().skip(1);
    while let Some(argument) = typed.next() {
        match argument.as_str() {
            "--out" | "-o" => drop(typed.next()),
            with_value if with_value.starts_with("--out=") || with_value.starts_with("-o") => {}
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
    let mut places: BTreeMap<(usize, String), Vec<(u32, Load)>> = BTreeMap::new();
    for cell in &summary.cells {
        let reason = match &cell.outcome {
            Outcome::Measured(_) => continue,
            Outcome::Missing(reason) => reason.clone(),
            Outcome::Void(reason) => format!("void: {reason}"),
        };
        places.entry((cell.subject, reason)).or_default().push((cell.idle, cell.load));
    }
    let tables = summary.idle.len() * summary.loads.len();
    let mut lines = Vec::new();
    for ((subject, reason), cells) in places {
        let name = &summary.subjects[subject].name;
        let place = if cells.len() == tables { "everywhere".to_owned() } else { describe(summary, &cells) };
        lines.push((format!("{name}, {place}"), reason));
    }
    // Loads that were dropped whole are on neither axis.
    let active = summary.loads.iter().map(|load| load.active).collect::<Vec<_>>();
    for missing in &summary.record.missing {
        let off_axis = |asked: Option<u32>, axis: &[u32]| asked.is_some_and(|asked| !axis.contains(&asked));
        if off_axis(missing.idle, &summary.idle) || off_axis(missing.active, &active) {
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
fn describe(summary: &Summary<'_>, cells: &[(u32, Load)]) -> String {
    let mut by_idle: BTreeMap<u32, Vec<Load>> = BTreeMap::new();
    cells.iter().for_each(|(idle, load)| by_idle.entry(*idle).or_default().push(*load));
    let places = by_idle.into_iter().map(|(idle, loads)| match loads.len() == summary.loads.len() {
        true => format!("{} idle", grouped(idle.into())),
        false => {
            let loads = loads.into_iter().map(|load| summary.describe(load)).collect::<Vec<_>>();
            format!("{} idle with {}", grouped(idle.into()), loads.join(" and "))
        }
    });
    places.collect::<Vec<_>>().join(", ")
}

/// A gate as verdict, name and finding.
pub(super) fn gate(gate: &Gate) -> (&'static str, String) {
    let verdict = match gate.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Explained => "not met, explained",
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
            factor(
                summary.table(5_000, summary.loads[0])[at]
                    .figures()
                    .and_then(|figures| figures.ratio)
                    .expect("a ratio")
                    .value,
            )
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
    fn what_could_have_been_found_is_told_with_the_noise_unless_nothing_was_compared() {
        let record = sample::ordinary();
        let said = noise(&Summary::of(&record));
        assert!(
            said.contains(" pairs of rows differ by more than chance") && said.contains("could have been found is")
        );
        assert!(said.contains("told apart from itself in 0."), "{said}");
        let said = noise(&Summary::of(&sample::one_cell()));
        assert!(said.contains("unknown") && !said.contains("Holm"), "{said}");
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
        for out in [&["--out", "my results"][..], &["--out=there"], &["-o", "there"], &["-othere"], &[]] {
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
