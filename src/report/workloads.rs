//! Workloads as people read them: listed, explained on the terminal, and as a page.

use std::fmt::{Display, Write};

use super::format::{grouped, markdown as escape, plain};
use super::terminal::{BOLD, Style, paint, wrap_at};
use crate::exercise::{Place, Task};
use crate::measure::Workload;
use crate::measure::workload::{Exercises, Preset, Shape, Tuning};
use crate::workload::Transport;

/// A line for each.
pub fn list(workloads: &[Workload], style: Style) -> String {
    let width = workloads.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for one in workloads {
        let _ = writeln!(out, "{}  {}", paint(&format!("{:width$}", plain(&one.name)), BOLD, style), plain(&one.title));
    }
    out.push_str("\n`pollmark workloads NAME` explains one; `pollmark compare --workload NAME` measures by it.\n");
    out
}

/// A line for each preset, and one for what it has.
pub fn presets(presets: &[Preset], style: Style) -> String {
    let width = presets.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let mut out = "\nPresets, by `pollmark compare --preset NAME`:\n\n".to_owned();
    for one in presets {
        let name = paint(&format!("{:width$}", plain(&one.name)), BOLD, style);
        let _ = writeln!(out, "{name}  {}", plain(&one.title));
        let has = format!("{}{}", one.names.join(", "), time(one));
        wrap_at(&mut out, &plain(&has), style, width + 2, width + 2);
    }
    out
}

/// As above, for a page.
pub fn presets_markdown(presets: &[Preset]) -> String {
    let mut out = "\n## Presets\n\nSeveral of them one after the other, by `pollmark compare --preset NAME`.\n\n\
                   | preset | what it is for | workloads |\n| --- | --- | --- |\n"
        .to_owned();
    for one in presets {
        let has = format!("{}{}", one.names.join(", "), time(one));
        let _ = writeln!(out, "| `{}` | {} | {} |", plain(&one.name), escape(&one.title), escape(&has));
    }
    out
}

/// What it takes, if that is known: of what is no file of the program's, it is not.
fn time(preset: &Preset) -> String {
    let rounds = preset.rounds.map(|rounds| format!("; {rounds} rounds of each"));
    let budget = || Preset::budget(&preset.workloads().ok()?);
    let budget = || budget().map(|budget| format!("; planned for {}", humantime::format_duration(budget)));
    rounds.or_else(budget).unwrap_or_default()
}

/// A page for each.
pub fn explain(workloads: &[Workload], style: Style) -> String {
    let mut out = String::new();
    for one in workloads {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "{}: {}", paint(&plain(&one.name), BOLD, style), plain(&one.title));
        for (head, prose) in paragraphs(one) {
            let _ = writeln!(out, "\n{}", paint(head, BOLD, style));
            wrap_at(&mut out, &plain(prose), Style { width: style.width.min(100), ..style }, 2, 2);
        }
        let _ = writeln!(out, "\n{}", paint("What is varied", BOLD, style));
        let facts = facts(one);
        let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in facts {
            let _ = writeln!(out, "  {name:width$}  {}", plain(&value));
        }
    }
    out
}

/// All of them on one page: a table, then each explained.
pub fn markdown(workloads: &[Workload]) -> String {
    let mut out = "| workload | what is done |\n| --- | --- |\n".to_owned();
    for one in workloads {
        let _ = writeln!(out, "| [`{0}`](#{0}) | {1} |", plain(&one.name), escape(&one.title));
    }
    for one in workloads {
        let _ = write!(out, "\n## {}\n\n{}.\n", plain(&one.name), escape(&one.title));
        for (head, prose) in paragraphs(one) {
            let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = write!(out, "\n**{head}.** {}\n", escape(&prose));
        }
        out.push_str("\n| | |\n| --- | --- |\n");
        for (name, value) in facts(one) {
            let _ = writeln!(out, "| {name} | {} |", escape(&value));
        }
    }
    out
}

fn paragraphs(workload: &Workload) -> [(&'static str, &str); 3] {
    [
        ("What it shows", &workload.shows),
        ("What it does not show", &workload.hides),
        ("What to expect", &workload.expect),
    ]
}

/// Its numbers, in words.
fn facts(workload: &Workload) -> Vec<(&'static str, String)> {
    let (grid, time) = (&workload.grid, &workload.time);
    let to_fit = if grid.drop_idle_to_fit { ", as far as limits and time allow" } else { "" };
    let mechanisms = if grid.mechanisms.is_empty() { "one of each family".into() } else { listed(&grid.mechanisms) };
    let mut facts = vec![("mechanisms", mechanisms)];
    match &workload.exercise {
        None => facts.extend([
            ("idle connections", numbers(&grid.idle) + to_fit),
            ("active connections", numbers(&grid.active)),
            ("payload", format!("{} bytes", numbers(&grid.payload))),
        ]),
        Some(exercises) => {
            facts.extend([
                ("idle descriptors", numbers(&grid.idle) + to_fit),
                ("active descriptors", numbers(&grid.active)),
            ]);
            facts.extend(alone(exercises));
        }
    }
    if grid.outstanding != [1] {
        facts.push(("outstanding", format!("{} payloads on each connection", numbers(&grid.outstanding))));
    }
    if grid.exchanges_per_connection != [0] {
        let named = |&exchanges: &u64| if exchanges == 0 { "any number".into() } else { grouped(exchanges) };
        let each = grid.exchanges_per_connection.iter().map(named).collect::<Vec<_>>();
        facts.push(("a connection is for", format!("{} of exchanges", listed(&each))));
    }
    if !grid.offered.is_empty() {
        facts.push(("offered", format!("{} % of the capacity that a closed loop finds", listed(&grid.offered))));
    }
    if !grid.per_second.is_empty() {
        let rates = grid.per_second.iter().map(|rate| grouped((*rate).into())).collect::<Vec<_>>();
        facts.push(("rate", format!("{} exchanges a second, whatever the capacity is", listed(&rates))));
    }
    if !(grid.offered.is_empty() && grid.per_second.is_empty()) {
        facts.push(("arrivals", listed(&grid.arrivals)));
    }
    if grid.transport != [Transport::Tcp] {
        facts.push(("transport", listed(&grid.transport)));
    }
    if grid.firehoses != [0] {
        facts.push(("firehoses", format!("{} connections that never pause", listed(&grid.firehoses))));
    }
    if grid.threads != [1] {
        facts.push(("threads", format!("{}, sharing by {}", numbers(&grid.threads), listed(&grid.sharing))));
    }
    if let Some(Tuning { events, read_buffer, send_buffer, idle_deadline }) = &workload.server {
        let varied = [
            ("events of a wait", events, ""),
            ("read buffer", read_buffer, " bytes"),
            ("send buffer", send_buffer, " bytes"),
        ];
        let varied = varied.into_iter().filter(|(_, values, _)| !values.is_empty());
        facts.extend(varied.map(|(name, values, unit)| (name, format!("{}{unit}", numbers(values)))));
        if !idle_deadline.is_empty() {
            let named =
                idle_deadline.iter().map(|&seconds| if seconds == 0 { "none".into() } else { format!("{seconds} s") });
            facts.push(("idle deadline", listed(&named.collect::<Vec<_>>())));
        }
    }
    if grid.processes > 1 {
        facts.push(("processes", grid.processes.to_string()));
    }
    let (warm_up, interval) = (humantime::format_duration(time.warm_up), humantime::format_duration(time.interval));
    facts.push(("each cell", format!("{interval} after {warm_up} of warm-up")));
    let rounds = match time.rounds {
        Some(rounds) => format!("{rounds} rounds"),
        None => format!("at least 3 rounds, and as many as fit into {}", humantime::format_duration(time.budget)),
    };
    facts.push(("rounds", rounds));
    for gate in &workload.gates {
        let checked = match gate {
            Shape::Growth => "how CPU time per wait grows with what is watched",
            Shape::Spinning => "a wait of what scans costs less when it spins than when it sleeps",
            Shape::Deadlines => "a deadline costs every poller as much, within noise",
            Shape::AllActive => "what scans costs no more than 1.1 times the others where all are active",
            Shape::Payload => "mechanisms are closer together at the largest payload than at the smallest",
        };
        facts.push(("gate", checked.into()));
    }
    facts
}

/// What pollers do by themselves.
fn alone(exercises: &Exercises) -> Vec<(&'static str, String)> {
    let Exercises { task, channels, waits, places, chained_writes, numbers_from } = exercises;
    let task = match task {
        Task::Relay => "messages written, waited for and read",
        Task::SetUp => "descriptors registered, looked at once, and taken out",
    };
    let mut facts = vec![("a poller alone", task.to_owned()), ("watched are", listed(channels))];
    if exercises.task == Task::Relay {
        facts.push(("waits", listed(waits)));
    }
    if *places != [Place::Spread] {
        facts.push(("ready are", listed(places)));
    }
    let numbers = |all: &[u32]| listed(&all.iter().map(|number| grouped((*number).into())).collect::<Vec<_>>());
    if *chained_writes != [0] {
        facts.push(("chained writes", numbers(chained_writes)));
    }
    if *numbers_from != [0] {
        facts.push(("numbers from", numbers(numbers_from)));
    }
    facts
}

fn numbers(numbers: &[usize]) -> String {
    listed(&numbers.iter().map(|number| grouped(*number as u64)).collect::<Vec<_>>())
}

fn listed<T: Display>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_is_explained_on_lines_that_fit() {
        let shipped = Workload::shipped();
        let text = explain(&shipped, Style { width: 80, colour: false });
        let widest = text.lines().filter(|line| line.starts_with(' ')).map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= 100), "{widest:?}");
        for one in &shipped {
            assert!(text.contains(&format!("{}: {}", one.name, one.title)), "{}", one.name);
        }
        assert!(text.contains("threads             1; 2, sharing by reuseport; shared; exclusive; handout"), "{text}");
        let page = markdown(&shipped);
        assert_eq!(page.matches("**What it does not show.**").count(), shipped.len());
        assert_eq!(list(&shipped, Style::default()).lines().count(), shipped.len() + 2);
    }
}
