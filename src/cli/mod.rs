//! The command: one file per sub-command, and what they share: dispatch, exit codes, errors in one line.
//!
//! It is part of the library so that a program with pollers of its own has the same command over them:
//!
//! ```no_run
//! use pollmark::backends::{Poller, Registry, poll::Poll};
//!
//! fn main() -> std::process::ExitCode {
//!     let registry = Registry::builtin().with("mine", || Ok(Box::new(Poll::open()?) as Box<dyn Poller>));
//!     pollmark::cli::run(&registry, std::env::args_os())
//! }
//! ```

mod advise;
mod backends;
mod compare;
mod completions;
mod contestants;
mod diff;
mod explain;
mod help;
mod history;
mod limits;
mod load;
mod merge;
mod printing;
mod processes;
mod report;
mod semantics;
mod serve;
mod signals;
mod site;
mod trace;
mod watch;
mod workloads;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pollmark_backends::Registry;

use crate::limits::{Demand, Limits};
use crate::measure::Record;
use crate::measure::workload::{LARGEST_PAYLOAD, MOST_OUTSTANDING, MOST_PROCESSES, MOST_THREADS};
use crate::report::terminal;

/// Which readiness mechanism should this server use, on this machine, under this load, and why?
#[derive(Parser)]
#[command(name = "pollmark", version = VERSION, disable_help_subcommand = true, max_term_width = HELP_WIDTH)]
#[command(after_help = EXIT_CODES, after_long_help = help::way_in(EXIT_CODES), mut_subcommands = help::with_output)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Backends(backends::Arguments),
    Serve(serve::Arguments),
    Load(load::Arguments),
    Merge(merge::Arguments),
    Compare(Box<compare::Arguments>),
    Contestants(contestants::Arguments),
    Report(report::Arguments),
    Diff(diff::Arguments),
    History(history::Arguments),
    Site(site::Arguments),
    Semantics(semantics::Arguments),
    Watch(watch::Arguments),
    Advise(advise::Arguments),
    Explain(explain::Arguments),
    Workloads(workloads::Arguments),
    Completions(completions::Arguments),
}

/// Columns of the help, on a terminal that has them.
const HELP_WIDTH: usize = 100;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it was tried and failed: a server that could not run, a void measurement, a gate that is
       not met and not explained, two hosts that differ, a record that loses to another,
       a count above its gate, a prediction that did not hold, a port nobody is at, or at which
       nothing was asked
  2    nothing was tried: a wrong argument, or a limit of this host that does not allow it
  130  interrupted (Ctrl-C); what was measured until then is kept
  143  terminated, likewise

Environment:
  COLUMNS           how wide tables may be where stdout is no terminal (200)
  NO_COLOR          no colours
  POLLMARK_BACKEND  what `pollmark serve` waits by, unless --backend says so";

/// Runs the command with the mechanisms of `registry`; `arguments` begin with the program's name.
///
/// What it prints goes to stdout, an error as one line to stderr. The exit codes are in `pollmark --help`.
pub fn run(registry: &Registry, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // A comparison executes this program again for its servers and loads.
    crate::child::enter(registry);
    let done = match Cli::try_parse_from(arguments) {
        Ok(cli) => match cli.command {
            Command::Backends(arguments) => backends::run(registry, arguments),
            Command::Serve(arguments) => serve::run(registry, arguments),
            Command::Load(arguments) => load::run(arguments),
            Command::Merge(arguments) => merge::run(arguments),
            Command::Compare(arguments) => compare::run(registry, *arguments),
            Command::Contestants(arguments) => contestants::run(arguments),
            Command::Report(arguments) => report::run(arguments),
            Command::Diff(arguments) => diff::run(arguments),
            Command::History(arguments) => history::run(arguments),
            Command::Site(arguments) => site::run(arguments),
            Command::Semantics(arguments) => semantics::run(registry, arguments),
            Command::Watch(arguments) => watch::run(arguments),
            Command::Advise(arguments) => advise::run(registry, arguments),
            Command::Explain(arguments) => explain::run(registry, arguments),
            Command::Workloads(arguments) => workloads::run(arguments),
            Command::Completions(arguments) => completions::run(arguments),
        },
        Err(error) => misunderstood(&error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = &failure.message {
                // Nowhere is left to complain to if stderr is gone.
                let _ = writeln!(io::stderr(), "pollmark: {message}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Reads arguments and runs nothing: the exit code and the message of those that are wrong.
#[cfg(any(test, fuzzing))]
pub(crate) fn understand(arguments: Vec<OsString>) -> Result<(), (u8, String)> {
    let program = std::iter::once(OsString::from("pollmark"));
    match Cli::try_parse_from(program.chain(arguments)) {
        Err(error) if error.use_stderr() => {
            let failure = misunderstood(&error).expect_err("it is one");
            Err((failure.code, failure.message.unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// Why a sub-command ends with another exit code than 0.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: Option<String>,
}

impl Failure {
    /// It was tried and failed.
    fn failed(message: impl fmt::Display) -> Failure {
        Failure { code: 1, message: Some(message.to_string()) }
    }

    /// Nothing was tried: a wrong argument, or a limit.
    fn usage(message: impl fmt::Display) -> Failure {
        Failure { code: 2, message: Some(message.to_string()) }
    }

    /// A signal ended it, and the user knows that.
    fn signalled(signal: i32) -> Failure {
        Failure { code: 128 + signal as u8, message: None }
    }
}

/// What went to stdout and did not arrive. A reader that has seen enough (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        // As `csv` hands on what it was told, it is inside.
        let inside = error.get_ref().and_then(|inside| match inside.downcast_ref::<csv::Error>()?.kind() {
            csv::ErrorKind::Io(error) => Some(error.kind()),
            _ => None,
        });
        match inside.unwrap_or(error.kind()) {
            io::ErrorKind::BrokenPipe => Failure { code: 0, message: None },
            _ => Failure::failed(format!("cannot write to stdout: {error}")),
        }
    }
}

/// Refuses the same record given twice, which would agree with itself.
fn each_once(records: &[Record], paths: &[PathBuf]) -> Result<(), Failure> {
    for (at, record) in records.iter().enumerate() {
        if let Some(again) = records[..at].iter().position(|other| other == record) {
            let [one, other] = [again, at].map(|at| paths[at].display());
            return Err(Failure::usage(format!("{one} and {other} are the same record: name it once")));
        }
    }
    Ok(())
}

/// How tables are to look on stdout: as wide as the terminal, and coloured unless NO_COLOR is set. Elsewhere plain, and as wide
/// as COLUMNS says.
fn style() -> terminal::Style {
    let terminal = console::Term::stdout();
    let asked = || std::env::var("COLUMNS").ok()?.parse().ok();
    match terminal.size_checked() {
        Some((_, columns)) => terminal::Style { width: columns.into(), colour: console::colors_enabled() },
        None => asked().map_or_else(terminal::Style::default, |width| terminal::Style { width, colour: false }),
    }
}

/// What a demand takes of this host, on stderr, before it is taken. To nobody, if stderr is gone.
fn write_preflight(limits: &Limits, demand: &Demand) {
    let mut err = io::stderr().lock();
    let of = |count: u64, what: &str| format!("{count} {what} process{}", if count == 1 { "" } else { "es" });
    let by = [(demand.servers, "server"), (demand.loads, "load")].into_iter().filter(|(count, _)| *count > 0);
    let by = by.map(|(count, what)| of(count, what)).collect::<Vec<_>>().join(" and ");
    let _ = writeln!(err, "preflight: {} connections by {by}", demand.connections);
    for (name, figures) in limits.account(demand) {
        let _ = writeln!(err, "  {name:12}  {figures}");
    }
}

/// How many processes to split something over.
fn processes(text: &str) -> Result<usize, String> {
    at_most(MOST_PROCESSES, text)
}

/// A number of threads that share the work.
fn threads(text: &str) -> Result<usize, String> {
    at_most(MOST_THREADS, text)
}

/// Payloads under way on one connection.
fn outstanding(text: &str) -> Result<usize, String> {
    at_most(MOST_OUTSTANDING, text)
}

fn at_most(most: usize, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        Ok(_) => Err(format!("between 1 and {most}")),
        Err(error) => Err(format!("{error}: between 1 and {most}")),
    }
}

/// Bytes of a payload.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a payload has at least one byte".into()),
        Ok(size) if size <= LARGEST_PAYLOAD => Ok(size),
        Ok(_) => Err("a payload has at most 1 GiB".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// With the commit it was built from, "+" after it if the sources differed from it.
const VERSION: &str = if env!("POLLMARK_COMMIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("POLLMARK_COMMIT"), ")")
};

/// Help and version as they are; anything else in one line that ends with where to read on.
fn misunderstood(error: &clap::Error) -> Result<(), Failure> {
    let text = error.to_string();
    if !error.use_stderr() {
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    // No sub-command at all: the help is the answer.
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure { code: 2, message: Some(format!("no sub-command given\n\n{text}")) });
    }
    let said = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or(&text);
    let said = said.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Failure::usage(format!("{said} (see --help)")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_sub_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Examples:\n  pollmark "), "{} has no examples:\n{help}", command.get_name());
        }
        Cli::command().debug_assert();
    }

    /// The command as a whole, and each sub-command, as they are once arguments are read.
    fn commands() -> Vec<clap::Command> {
        let mut whole = Cli::command();
        whole.build();
        whole.get_subcommands().cloned().chain([whole.clone()]).collect()
    }

    #[test]
    fn the_long_help_shows_what_an_example_prints_and_the_short_one_does_not() {
        for mut command in commands() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            let (_, printed) =
                help.split_once("What it prints:\n  $ pollmark ").unwrap_or_else(|| panic!("{name}: {help}"));
            let lines = printed.lines().skip(1).take_while(|line| line.is_empty() || line.starts_with("  "));
            let lines = lines.filter(|line| !["", "  …"].contains(line)).count();
            assert!((1..=16).contains(&lines), "{name}: {lines} lines: {help}");
            let help = command.render_help().to_string();
            assert!(!help.contains("What it prints") && help.contains("see more with '--help'"), "{name}: {help}");
        }
    }

    #[test]
    fn no_line_of_help_is_wider_than_a_hundred_columns() {
        for mut command in commands() {
            // These are laid out by hand: broken elsewhere they are hard to read.
            let by_hand = [command.get_after_help(), command.get_after_long_help()].into_iter();
            let by_hand = by_hand.flatten().map(ToString::to_string).collect::<Vec<_>>();
            let by_clap = [command.render_help(), command.render_long_help()].map(|help| help.to_string());
            for line in by_hand.iter().chain(&by_clap).flat_map(|text| text.lines()) {
                assert!(line.chars().count() <= HELP_WIDTH, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn a_wrong_argument_is_one_line_and_names_it() {
        let error = Cli::try_parse_from(["pollmark", "backends", "--colour"]).err().expect("no such option");
        let failure = misunderstood(&error).expect_err("wrong");
        let message = failure.message.expect("said");
        assert_eq!((failure.code, message.lines().count()), (2, 1), "{message}");
        assert!(message.contains("--colour"), "{message}");
    }
}
