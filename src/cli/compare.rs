//! `pollmark compare`: the mechanisms of this host under idle and active connections, and a directory to publish.

mod preset;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use pollmark_backends::Registry;

use super::Failure;
use super::contestants;
use super::printing::{FORM, Format, Printing, Rows};
use super::signals::Stop;
use crate::limits::preflight;
use crate::measure::file::replace;
use crate::measure::record::Verdict;
use crate::measure::{Comparison, Progress, Record, VisitDone, Workload, journal};
use crate::report::{self, Summary};
use crate::server::Sharing;
use crate::workload::{Arrivals, Sources, Transport};

/// Measures one mechanism of each family this host has, one server after the other, under idle and active connections.
///
/// Each server runs in a fresh process on a CPU of its own, the load on another; every echoed byte is verified; rounds
/// repeat the whole in random order. Takes about a minute and a half. Ctrl-C keeps what was measured.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark compare                                  one of each family, in about 90 s
  pollmark compare --quick                          a smoke test in 15 s; not for publishing
  pollmark compare --backends epoll,poll --idle 0,9000 --active 1 --rounds 10
  pollmark compare --backends all --out results     edge-triggered, oneshot, and what is new
  pollmark compare --backends variants              what is new in kernels, beside what is not
  pollmark compare --backends epoll --idle 99900 --active 100 --processes 6 --rounds 1
                                                    more connections than one process may hold
  pollmark compare --backends epoll --threads 1,2 --sharing all --idle 0 --active 10,100
                                                    more cores, in each way of sharing a port
  pollmark compare --quick --format csv > quick.csv the figures of each cell, for a spreadsheet
  pollmark compare --shape                          does poll's cost grow, and epoll's not?
  pollmark compare --workload idle-crowd            another question; see `pollmark workloads`
  pollmark compare --workload ./mine.toml           one of your own
  pollmark compare --preset classic                 the published experiments, in 7 minutes
  pollmark compare --idle 0,5000 --active 50 --offered 50,90
                                                    latency at half of what each can do, and more
  pollmark compare --resume results                 what an interruption has left, even kill -9
  pollmark compare --contestant benches/contestants/c-epoll.toml --contestant ./mine.toml
                                                    servers that are not ours, in their own class")]
pub(super) struct Arguments {
    /// What is done to each server, by its name (see `pollmark workloads`) or by the path of a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    workload: String,
    /// Several workloads, one after the other, each in a directory of its name: quick, default, classic (the published
    /// experiments of the field; planned for 7 minutes), full (every one, ten rounds), or the path of a file.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["workload", "quick", "shape", FORM])]
    preset: Option<String>,
    /// The workload "quick": small populations and short intervals, a smoke test.
    #[arg(long, conflicts_with = "workload")]
    quick: bool,
    /// Which mechanisms, separated by commas; "all" for every one, "variants" for what newer kernels add to some,
    /// beside those [default: the workload's, most often one of each family].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    backends: Vec<String>,
    /// Servers that are not ours beside them: the path of a file that describes one, or of a folder of such files; may be
    /// given several times. See `pollmark contestants`.
    #[arg(long, value_name = "FILE|FOLDER")]
    contestant: Vec<PathBuf>,
    /// Numbers of idle connections [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    idle: Option<Vec<usize>>,
    /// Numbers of active connections [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    active: Option<Vec<usize>>,
    /// Bytes of each payload [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = super::size)]
    size: Option<Vec<usize>>,
    /// Payloads under way on each connection at a time [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = super::outstanding)]
    outstanding: Option<Vec<usize>>,
    /// A connection for each so many exchanges; 0 for connections that stay [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    churn: Option<Vec<u64>>,
    /// An open loop at these rates, in hundredths of the capacity that a closed loop finds first; latency is counted
    /// from when each exchange was due [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = clap::value_parser!(u32))]
    offered: Option<Vec<u32>>,
    /// When they are due: in equal steps (constant), or at random, as of many users (poisson) [default: the workload's].
    #[arg(long, value_name = "HOW", value_delimiter = ',')]
    arrivals: Option<Vec<Arrivals>>,
    /// What carries the bytes: tcp, unix [default: the workload's].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    transport: Option<Vec<Transport>>,
    /// So many connections beside the active ones that never pause [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    firehoses: Option<Vec<u32>>,
    /// Serve by so many processes on one port, and load by as many, for more connections than one may hold
    /// [default: the workload's].
    #[arg(long, value_name = "N", value_parser = super::processes)]
    processes: Option<usize>,
    /// Serve by so many threads; a row for each number [default: the workload's].
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', value_parser = super::threads)]
    threads: Option<Vec<usize>>,
    /// How threads share a port: reuseport, shared, exclusive, handout; a row for each way, or "all"
    /// [default: the workload's].
    #[arg(long, value_name = "WAYS", value_delimiter = ',')]
    sharing: Option<Vec<String>>,
    /// Open connections from these addresses in turn, as 127.0.0.1-127.0.0.12 or a list [default: as many as it takes].
    #[arg(long, value_name = "ADDRESSES")]
    sources: Option<Sources>,
    /// Exactly so many rounds [default: as many as fit, at least 3].
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Where to keep every trial as it is measured, and to leave results.json, results.csv, trials.csv, report.md, report.html,
    /// latencies as HdrHistogram logs, how to repeat and to cite it, and sums [default: pollmark-out/TIME].
    #[arg(long, short, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Finish the comparison that was interrupted in this directory: the same plan, the trials that are missing. It has
    /// to be the same program on the same host.
    #[arg(long, value_name = "DIRECTORY", exclusive = true)]
    resume: Option<PathBuf>,
    /// What the random order is made from [default: random, and recorded].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The workload "shape": check how the cost of a wait grows from 1,000 to 9,000 idle connections.
    #[arg(long, conflicts_with_all = ["workload", "quick", "idle", "active"])]
    shape: bool,
    #[command(flatten)]
    printing: Printing<Rows>,
}

pub(super) fn run(registry: &Registry, mut arguments: Arguments) -> Result<(), Failure> {
    if let Some(name) = arguments.preset.take() {
        return preset::run(registry, arguments, &name);
    }
    let comparison = match &arguments.resume {
        Some(directory) => Comparison::resume(registry, directory).map_err(Failure::usage)?,
        None => comparison(registry, &arguments)?,
    };
    if comparison.demand().loads > 1
        && let Ok(limits) = preflight(comparison.demand())
    {
        super::write_preflight(&limits, &comparison.demand());
    }
    // Before anything is measured: to find out afterwards that it cannot be kept would be a pity.
    let directory = match arguments.resume {
        Some(directory) => directory,
        None => directory(arguments.out)?,
    };

    let stop = Stop::on_signals()?;
    let record = measure(comparison, &directory, &stop, arguments.printing.format)?;
    verdict(&record)
}

/// Measures, keeps it in `directory`, and shows it; unless it was interrupted, which is a failure.
fn measure(comparison: Comparison<'_>, directory: &Path, stop: &Stop, format: Format) -> Result<Record, Failure> {
    let comparison = comparison.keep_in(directory).stop_on(stop.flag());

    let mut progress = progress();
    let record = comparison.run(&mut *progress).or_else(|impossible| {
        // Empty, or it would not have been ours to make.
        let _ = fs::remove_dir(directory);
        stop.outcome()?;
        Err(Failure::usage(impossible))
    })?;
    drop(progress);

    // Kept even if nobody reads the table; and shown even if the disk is full by now.
    let kept = report::write(&record, directory).map_err(Failure::failed);
    let shown = show(&record, &directory.join("report.html"), format);
    kept?;
    stop.outcome()?;
    if !record.finished {
        return Err(Failure::failed(record.warnings.last().map_or("ended early", String::as_str)));
    }
    shown?;
    Ok(record)
}

/// The record in the form that is asked for, and where its page is: on stdout only for those who read there.
fn show(record: &Record, page: &Path, format: Format) -> io::Result<()> {
    super::report::print(&Summary::of(record), format)?;
    match format {
        Format::Table => writeln!(io::stdout(), "\n{}", page.display()),
        _ => writeln!(io::stderr(), "{}", page.display()),
    }
}

/// What tells a person how far a comparison has come: on a terminal, or line by line.
pub(super) fn progress() -> Box<dyn Progress> {
    if io::stderr().is_terminal() { Box::new(Bar::new()) } else { Box::new(Lines::new()) }
}

fn comparison<'a>(registry: &'a Registry, arguments: &Arguments) -> Result<Comparison<'a>, Failure> {
    let name = match (arguments.quick, arguments.shape) {
        (true, _) => "quick",
        (_, true) => "shape",
        _ => &arguments.workload,
    };
    let mut workload = Workload::find_or_read(name).map_err(Failure::usage)?;
    if !arguments.backends.is_empty() {
        workload.grid.mechanisms.clone_from(&arguments.backends);
    }
    set(&mut workload.grid.active, arguments.active.as_ref());
    set(&mut workload.grid.payload, arguments.size.as_ref());
    set(&mut workload.grid.outstanding, arguments.outstanding.as_ref());
    set(&mut workload.grid.exchanges_per_connection, arguments.churn.as_ref());
    set(&mut workload.grid.offered, arguments.offered.as_ref());
    set(&mut workload.grid.arrivals, arguments.arrivals.as_ref());
    set(&mut workload.grid.transport, arguments.transport.as_ref());
    set(&mut workload.grid.firehoses, arguments.firehoses.as_ref());
    set(&mut workload.grid.processes, arguments.processes.as_ref());
    set(&mut workload.grid.threads, arguments.threads.as_ref());
    if let Some(names) = &arguments.sharing {
        workload.grid.sharing = ways(names)?;
    }
    if arguments.rounds.is_some() {
        workload.time.rounds = arguments.rounds;
    }
    let mut comparison = Comparison::new(registry).workload(&workload).map_err(Failure::usage)?;
    comparison = comparison.contestants(contestants::read(&arguments.contestant)?);
    if let Some(idle) = &arguments.idle {
        comparison = comparison.idle(idle.clone());
    }
    if let Some(sources) = &arguments.sources {
        comparison = comparison.sources(sources.clone());
    }
    if let Some(seed) = arguments.seed {
        comparison = comparison.seed(seed);
    }
    Ok(comparison)
}

/// What was asked for on the command line wins.
fn set<T: Clone>(value: &mut T, asked: Option<&T>) {
    if let Some(asked) = asked {
        value.clone_from(asked);
    }
}

fn ways(names: &[String]) -> Result<Vec<Sharing>, Failure> {
    match names {
        [all] if all == "all" => Ok(Sharing::ALL.to_vec()),
        names => names.iter().map(|name| name.parse()).collect::<io::Result<_>>().map_err(Failure::usage),
    }
}

/// A directory for what is measured now.
fn of_now() -> PathBuf {
    // Colons cannot stand in a name everywhere.
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "-");
    PathBuf::from("pollmark-out").join(now)
}

/// Makes the directory; refuses one that holds results already.
fn directory(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let directory = asked.unwrap_or_else(of_now);
    let shown = directory.display();
    if directory.join(report::FILES[0]).exists() {
        return Err(Failure::usage(format!("{shown} holds results already; choose another with --out")));
    }
    if journal::FILES.iter().any(|file| directory.join(file).exists()) {
        let how = format!("finish it with --resume {shown}, or choose another with --out");
        return Err(Failure::usage(format!("{shown} holds a comparison that was interrupted; {how}")));
    }
    fs::create_dir_all(&directory)
        .map_err(|error| Failure::usage(format!("cannot make the directory {}: {error}", directory.display())))?;
    // One that was there already need not be ours to write to.
    let trial = directory.join(report::FILES[0]);
    replace(&trial, |_| Ok(()))
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
