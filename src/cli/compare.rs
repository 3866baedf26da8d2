//! `pollmark compare`: every mechanism of this host under idle and active connections, and a directory to publish.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use pollmark_backends::Registry;

use super::Failure;
use super::signals::Stop;
use crate::measure::record::Verdict;
use crate::measure::{Comparison, Progress, Record, VisitDone};
use crate::report::{self, Summary, terminal};

/// Measures every mechanism of this host, one server after the other, under idle and active connections.
///
/// Each server runs in a fresh process on a CPU of its own, the load on another; every echoed byte is verified; rounds
/// repeat the whole in random order. Takes about a minute and a half. Ctrl-C keeps what was measured.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark compare                                  the whole table, in at most 90 s
  pollmark compare --quick                          a smoke test in 15 s; not for publishing
  pollmark compare --backends epoll,poll --idle 0,9000 --active 1 --rounds 10
  pollmark compare --backends all --out results     edge-triggered and oneshot variants too
  pollmark compare --shape                          does poll's cost grow in proportion, and epoll's not at all?")]
pub(super) struct Arguments {
    /// Small populations and short intervals: a smoke test.
    #[arg(long)]
    quick: bool,
    /// Which mechanisms, separated by commas; "all" for every variant [default: one of each family].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    backends: Vec<String>,
    /// Numbers of idle connections [default: 0,100,1000,5000, or what the limits allow].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    idle: Option<Vec<usize>>,
    /// Numbers of active connections [default: 1,10,100].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    active: Option<Vec<usize>>,
    /// Bytes of each payload.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = super::size)]
    size: usize,
    /// Exactly so many rounds [default: as many as fit, at least 3].
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Where to leave results.json, results.csv, report.md and report.html [default: pollmark-out/TIME].
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// What the random order is made from [default: random, and recorded].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Check how the cost of a wait grows from 1,000 to 9,000 idle connections, instead.
    #[arg(long, conflicts_with_all = ["quick", "idle", "active"])]
    shape: bool,
}

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    let comparison = comparison(registry, &arguments)?;
    // Before anything is measured: to find out afterwards that it cannot be kept would be a pity.
    let directory = directory(arguments.out)?;

    let stop = Stop::on_signals()?;
    let comparison = comparison.stop_on(stop.flag());

    let mut progress: Box<dyn Progress> =
        if io::stderr().is_terminal() { Box::new(Bar::new()) } else { Box::new(Lines::new()) };
    let record = comparison.run(&mut *progress).map_err(|impossible| {
        // Empty, or it would not have been ours to make.
        let _ = fs::remove_dir(&directory);
        Failure::usage(impossible)
    })?;
    drop(progress);

    // Kept even if nobody reads the table; and shown even if the disk is full by now.
    let kept = report::write(&record, &directory).map_err(Failure::failed);
    let table = terminal::render(&Summary::of(&record), super::style());
    let page = directory.join("report.html");
    let shown = writeln!(io::stdout().lock(), "{table}\n{}", page.display());
    kept?;
    stop.outcome()?;
    verdict(&record)?;
    Ok(shown?)
}

fn comparison<'a>(registry: &'a Registry, arguments: &Arguments) -> Result<Comparison<'a>, Failure> {
    let mut comparison = Comparison::new(registry);
    comparison = match arguments.backends.as_slice() {
        [] => comparison,
        [all] if all == "all" => comparison.all_subjects(),
        names => comparison.subjects(names).map_err(Failure::usage)?,
    };
    if arguments.quick {
        comparison = comparison.quick();
    }
    if arguments.shape {
        comparison = comparison.shape();
    }
    if let Some(idle) = &arguments.idle {
        comparison = comparison.idle(idle.clone());
    }
    if let Some(active) = &arguments.active {
        comparison = comparison.active(active.clone());
    }
    comparison = comparison.size(arguments.size);
    if let Some(rounds) = arguments.rounds {
        comparison = comparison.rounds(rounds);
    }
    if let Some(seed) = arguments.seed {
        comparison = comparison.seed(seed);
    }
    Ok(comparison)
}

/// Makes the directory; refuses one that holds results already.
fn directory(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let directory = asked.unwrap_or_else(|| {
        // Colons cannot stand in a name everywhere.
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "-");
        PathBuf::from("pollmark-out").join(now)
    });
    if directory.join("results.json").exists() {
        let shown = directory.display();
        return Err(Failure::usage(format!("{shown} holds results already; choose another with --out")));
    }
    fs::create_dir_all(&directory)
        .map_err(|error| Failure::usage(format!("cannot make the directory {}: {error}", directory.display())))?;
    // One that was there already need not be ours to write to.
    let trial = directory.join("results.json.unfinished");
    fs::write(&trial, "")
        .and_then(|()| fs::remove_file(&trial))
        .map_err(|error| Failure::usage(format!("cannot write to the directory {}: {error}", directory.display())))?;
    Ok(directory)
}

/// A measurement that does not count, and a gate not met, are failures of the run.
fn verdict(record: &Record) -> Result<(), Failure> {
    let void = record.trials.iter().filter(|trial| trial.void.is_some()).count();
    let unmet = record.gates.iter().filter(|gate| gate.verdict == Verdict::Fail).count();
    match (void, unmet) {
        (0, 0) => Ok(()),
        (void, 0) => Err(Failure::failed(format!("{void} of {} trials are void", record.trials.len()))),
        (0, unmet) => Err(Failure::failed(format!("{unmet} of {} gates are not met", record.gates.len()))),
        (void, unmet) => Err(Failure::failed(format!("{void} trials are void, {unmet} gates are not met"))),
    }
}

/// For a terminal: a bar, and the time that remains.
struct Bar {
    bar: ProgressBar,
    began: Instant,
    round: String,
}

impl Bar {
    const LENGTH: u64 = 1_000;

    fn new() -> Bar {
        let style = ProgressStyle::with_template("{wide_bar} {msg}").expect("a fixed template");
        Bar { bar: ProgressBar::new(Bar::LENGTH).with_style(style), began: Instant::now(), round: String::new() }
    }
}

impl Progress for Bar {
    fn round(&mut self, done: usize, of: usize) {
        self.round = format!("round {} of {of}", done + 1);
    }

    fn visiting(&mut self, subject: &str, idle: usize, remaining: Duration) {
        let spent = self.began.elapsed();
        let part = spent.as_secs_f64() / (spent + remaining).as_secs_f64();
        self.bar.set_position((part * Bar::LENGTH as f64) as u64);
        let (minutes, seconds) = (remaining.as_secs() / 60, remaining.as_secs() % 60);
        self.bar.set_message(format!("{}, {subject}, {idle} idle · {minutes}:{seconds:02} left", self.round));
    }

    fn visited(&mut self, done: &VisitDone<'_>) {
        if let Some(trouble) = done.trouble {
            self.bar.println(format!("{} with {} idle: {trouble}", done.subject, done.idle));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// For a log: a line for each round, and for trouble.
struct Lines {
    announced: bool,
    round: String,
}

impl Lines {
    fn new() -> Lines {
        Lines { announced: true, round: String::new() }
    }
}

impl Progress for Lines {
    fn round(&mut self, done: usize, of: usize) {
        self.round = format!("round {} of {of}", done + 1);
        self.announced = false;
    }

    fn visiting(&mut self, _subject: &str, _idle: usize, remaining: Duration) {
        if !std::mem::replace(&mut self.announced, true) {
            eprintln!("{}, about {} s left", self.round, remaining.as_secs().max(1));
        }
    }

    fn visited(&mut self, done: &VisitDone<'_>) {
        if let Some(trouble) = done.trouble {
            eprintln!("{} with {} idle: {trouble}", done.subject, done.idle);
        }
    }
}
