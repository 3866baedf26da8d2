//! What an example of each command prints, for its `--help`: made and held by tests/it/help.rs.

use clap::Command;

/// By the name of the command. Each begins with what was typed; a line of `…` stands for lines left out.
const PRINTED: &[(&str, &str)] = &[
    ("advise", include_str!("help/advise.txt")),
    ("backends", include_str!("help/backends.txt")),
    ("compare", include_str!("help/compare.txt")),
    ("completions", include_str!("help/completions.txt")),
    ("contestants", include_str!("help/contestants.txt")),
    ("diff", include_str!("help/diff.txt")),
    ("explain", include_str!("help/explain.txt")),
    ("history", include_str!("help/history.txt")),
    ("load", include_str!("help/load.txt")),
    ("merge", include_str!("help/merge.txt")),
    ("pollmark", include_str!("help/pollmark.txt")),
    ("report", include_str!("help/report.txt")),
    ("semantics", include_str!("help/semantics.txt")),
    ("serve", include_str!("help/serve.txt")),
    ("site", include_str!("help/site.txt")),
    ("watch", include_str!("help/watch.txt")),
    ("workloads", include_str!("help/workloads.txt")),
];

/// Behind the examples of a command, in the long help alone: `-h` is for those who know what they will get.
pub(super) fn with_output(command: Command) -> Command {
    let Some(printed) = printed(command.get_name()) else { return command };
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.after_long_help(format!("{examples}\n\n{printed}"))
}

/// Of the command as a whole: the shortest way in.
pub(super) fn way_in(then: &str) -> String {
    format!("{}\n\n{then}", printed("pollmark").expect("it is in the list"))
}

fn printed(name: &str) -> Option<String> {
    let (_, text) = PRINTED.iter().find(|(of, _)| *of == name)?;
    let lines = text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("\n  {line}") });
    Some(format!("What it prints:{}", lines.collect::<String>()))
}
