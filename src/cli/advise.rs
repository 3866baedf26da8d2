//! `pollmark advise`: what each mechanism would cost a live server, by what is seen at its port.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pollmark_backends::Registry;

use super::printing::{Format, Printing, Prose};
use super::signals::Stop;
use super::{Failure, compare};
use crate::measure::advice::{Advice, Pattern, Unusable, predict, replayed};
use crate::measure::fit::fits;
use crate::measure::{Comparison, Host, Impossible, Progress, Record, VisitDone, Workload};
use crate::observe::{Activity, Port, Tally, View, Watch, counter};
use crate::report::{self, advice};

/// Watches a live server at a TCP port of this host for a while, and says what each mechanism would cost it.
///
/// Any server: nothing is asked of it, and no byte of its clients is read; the kernel's counters of its connections tell how
/// many are open, how many ask, how often, and for how much. What a mechanism costs at that is predicted from the cost
/// model of a record, or of a short comparison made now; then the same is asked of pollmark's own servers, to see whether the
/// prediction held. What is measured here takes CPU time, at the lowest priority the system has: with --record and
/// --no-replay nothing is.
///
/// Root is not needed. To other users the kernel shows the connections of every process, but not whose they are, and so
/// not what CPU time the server itself uses.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark advise --port 6379                        watch for 5 s, measure for a minute
  pollmark advise --port 6379 --record results     by a record of this machine
  pollmark advise --port 6379 --record results --no-replay --for 60s
                                                     nothing is measured, only predicted
  pollmark advise --port 6379 --backends epoll,uring --save redis.toml
  pollmark compare --workload ./redis.toml           the same pattern again, as long as one likes")]
pub(super) struct Arguments {
    /// Which port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// How long to watch.
    #[arg(long = "for", value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// The record to take the cost model from: a results.json, or its directory, of this machine.
    #[arg(long, value_name = "RECORD")]
    record: Option<PathBuf>,
    /// Which mechanisms to measure, separated by commas [default: one of each family].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    backends: Vec<String>,
    /// Do not check the prediction by asking the same of pollmark's own servers.
    #[arg(long)]
    no_replay: bool,
    /// How long the comparison for the model may take, and the replay: for three rounds of each twice as long, if need be.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    budget: Duration,
    /// Exactly so many rounds of each, instead of as many as fit.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Leave what was asked of the server in this file, as a workload for `pollmark compare --workload`.
    #[arg(long, value_name = "FILE.toml")]
    save: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing<Prose>,
}

/// How many looks there are in a window, if they cost little.
const LOOKS: u32 = 20;
/// A window as short as this says nothing.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    let port = arguments.port;
    if arguments.time < SHORTEST {
        return Err(Failure::usage("--for: 100ms at least, or nothing is seen"));
    }
    // What is wrong with it is told before anybody waits.
    let known = arguments.record.as_deref().map(model_of).transpose()?;
    Comparison::new(registry).subjects(&arguments.backends).map_err(Failure::usage)?;
    let stop = Stop::on_signals()?;
    let seen = watch(&arguments, &stop)?;
    let pattern = Pattern::of(&seen.activity, seen.accepted).map_err(|why| match why {
        Unusable::Untold => Failure::usage(why),
        _ => Failure::failed(format!("port {port}: {why}")),
    })?;
    let mut workload = pattern.workload(&format!("port-{port}"), arguments.budget);
    workload.grid.mechanisms.clone_from(&arguments.backends);
    if let Some(file) = &arguments.save {
        save(&workload, file)?;
    }

    let measurer = Measurer { registry, arguments: &arguments, stop: &stop };
    let (record, mut cautions) = match known {
        Some(known) => known,
        None => measurer.model(&pattern).map(|made| (made, Vec::new()))?,
    };
    if !record.finished {
        cautions.push(format!(
            "the comparison for the model was cut short, after {} of {} rounds",
            record.settings.rounds_done, record.settings.rounds
        ));
    }
    let predicted = predict(&record, &pattern);
    if predicted.is_empty() {
        let why = "no model came of the comparison: too little of it was measured, or none of the mechanisms waits for more \
                   than one connection";
        return Err(Failure::failed(why));
    }
    let replay = if arguments.no_replay { None } else { measurer.replay(&workload)? };
    match &replay {
        None if !arguments.no_replay => cautions.push("the pattern could not be replayed here; see above".to_owned()),
        Some(replay) if !replay.finished => cautions.push("the replay was cut short: this host is busy".to_owned()),
        _ => {}
    }
    let found = Advice {
        port,
        owners: seen.owners,
        server_cpu_ns: seen.cpu.map(|cpu| cpu.as_nanos() as u64),
        activity: seen.activity,
        accepted_on_host: seen.accepted,
        replayed: replay.as_ref().map(|replay| replayed(&record, replay, &pattern)),
        pattern,
        record: arguments.record.as_ref().map(|path| path.display().to_string()),
        record_started: record.started.clone(),
        cautions,
        predicted,
    };
    let mut out = io::stdout().lock();
    match arguments.printing.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&found).map_err(Failure::failed)?)?,
        Format::Markdown => out.write_all(advice::markdown(&found).as_bytes())?,
        _ => out.write_all(advice::render(&found, super::style()).as_bytes())?,
    }
    Ok(())
}

/// What there was to see.
struct Seen {
    activity: Activity,
    owners: Vec<crate::observe::Owner>,
    cpu: Option<Duration>,
    accepted: Option<u64>,
}

fn watch(arguments: &Arguments, stop: &Stop) -> Result<Seen, Failure> {
    let Arguments { port, time, .. } = *arguments;
    let mut watching = Watch::new(port);
    // Whose it is takes longer to find out than all looks: that is done before.
    let View { port: before, owners, .. } = super::watch::look(&mut watching)?;
    if before.listeners.is_empty() {
        let why = format!("nobody listens at port {port}: start the server, or look for its port with ss -ltn");
        return Err(Failure::failed(why));
    }
    eprintln!("watching port {port} for {}", humantime::format_duration(time));
    let used = || owners.iter().map(|owner| owner.cpu_time()).sum::<Option<Duration>>().filter(|_| !owners.is_empty());
    let accepted = || counter("PassiveOpens").ok();
    let (cpu_before, accepted_before) = (used(), accepted());
    let (began, mut tally) = (Instant::now(), Tally::default());
    let mut last: Port;
    let flag = stop.flag();
    loop {
        last = super::watch::look(&mut watching)?.port;
        tally.add(began.elapsed(), &last);
        if began.elapsed() >= time {
            break;
        }
        let pause = watching.pause(time / LOOKS).min(time.saturating_sub(began.elapsed()));
        let next = Instant::now() + pause;
        while Instant::now() < next {
            std::thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
            if flag.load(Ordering::SeqCst) {
                stop.outcome()?;
            }
        }
    }
    if last.listeners.is_empty() {
        return Err(Failure::failed(format!("the server at port {port} ended while it was watched")));
    }
    let risen = |before: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(before?));
    let cpu = used().zip(cpu_before).map(|(now, before)| now.saturating_sub(before));
    Ok(Seen { activity: tally.activity(), cpu, accepted: risen(accepted_before, accepted()), owners })
}

/// A record of this machine from which a model can be made, with what differs; or why not.
fn model_of(path: &Path) -> Result<(Record, Vec<String>), Failure> {
    let record = report::read(path).map_err(Failure::usage)?;
    let (here, shown) = (Host::gather(), path.display());
    let elsewhere = record.host.machine_differences(&here);
    if !elsewhere.is_empty() {
        let each = elsewhere.iter().map(|(name, there, here)| format!("{name}: {there} there, {here} here"));
        let each = each.collect::<Vec<_>>().join("; ");
        let what = "what calls cost there says nothing of this one: make one here with pollmark compare, or leave out --record";
        return Err(Failure::usage(format!("{shown} is a record of another machine ({each}); {what}")));
    }
    if fits(&record).is_empty() {
        let why = "no cost model can be made of it: that takes two numbers of idle connections, two of active ones, and a mechanism \
                   that waits for them all, as in the workload default";
        return Err(Failure::usage(format!("{shown}: {why}")));
    }
    let differences = record.host.differences(&here);
    let kernel = differences.iter().filter(|(name, ..)| ["kernel", "mitigations"].contains(name));
    let cautions =
        kernel.map(|(name, there, here)| format!("{name} of the record: {there}; here: {here}")).collect::<Vec<_>>();
    Ok((record, cautions))
}

fn save(workload: &Workload, file: &Path) -> Result<(), Failure> {
    let unwritable = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} is there already; choose another with --save", file.display()))
        }
        _ => Failure::failed(format!("cannot write {}: {error}", file.display())),
    };
    let mut out = OpenOptions::new().write(true).create_new(true).open(file).map_err(unwritable)?;
    out.write_all(workload.to_toml().as_bytes()).map_err(unwritable)
}

/// What measures here, if anything is measured.
struct Measurer<'a> {
    registry: &'a Registry,
    arguments: &'a Arguments,
    stop: &'a Stop,
}

impl Measurer<'_> {
    /// A record to make the model of.
    fn model(&self, pattern: &Pattern) -> Result<Record, Failure> {
        let mut workload = pattern.model_workload(self.arguments.budget);
        workload.grid.mechanisms.clone_from(&self.arguments.backends);
        let what = "no --record: a short comparison is made for the cost model";
        self.measure(&workload, what)?.map_err(Failure::usage)
    }

    /// The pattern, asked of our servers; `None` if this host does not allow it, which is said.
    fn replay(&self, workload: &Workload) -> Result<Option<Record>, Failure> {
        match self.measure(workload, "replaying what was asked, to check the prediction (--no-replay leaves it out)")? {
            Ok(record) => Ok(Some(record)),
            Err(impossible) => {
                eprintln!("not replayed: {impossible}");
                Ok(None)
            }
        }
    }

    fn measure(&self, workload: &Workload, what: &str) -> Result<Result<Record, Impossible>, Failure> {
        let budget = humantime::format_duration(self.arguments.budget);
        let time = match self.arguments.rounds {
            None => format!("about {budget}"),
            Some(1) => "one round".to_owned(),
            Some(rounds) => format!("{rounds} rounds"),
        };
        eprintln!("{what}: {time}, at the lowest priority");
        give_way();
        let mut comparison = Comparison::new(self.registry).workload(workload).map_err(Failure::usage)?;
        if let Some(rounds) = self.arguments.rounds {
            comparison = comparison.rounds(rounds);
        }
        let flag = self.stop.flag();
        let deadline = Instant::now() + self.arguments.budget * PATIENCE;
        let mut progress = Bounded { shown: compare::progress(), deadline, stop: Arc::clone(&flag) };
        let record = comparison.stop_on(Arc::clone(&flag)).run(&mut progress);
        self.stop.outcome()?;
        // It was the deadline that raised it, if anything did.
        flag.store(false, Ordering::SeqCst);
        Ok(record)
    }
}

/// So many times its budget a comparison may take. It makes three rounds, whatever they take; beside a server that leaves
/// next to no CPU time to what has the lowest priority, that may be for ever.
const PATIENCE: u32 = 2;

/// Ends a comparison at its deadline, after the visit that is being made; what was measured is kept.
struct Bounded {
    shown: Box<dyn Progress>,
    deadline: Instant,
    stop: Arc<AtomicBool>,
}

impl Progress for Bounded {
    fn round(&mut self, done: usize, of: usize) {
        self.shown.round(done, of);
    }

    fn visiting(&mut self, subject: &str, idle: usize, remaining: Duration) {
        self.shown.visiting(subject, idle, remaining);
    }

    fn visited(&mut self, done: &VisitDone<'_>) {
        self.shown.visited(done);
        if Instant::now() >= self.deadline {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    fn note(&mut self, text: &str) {
        self.shown.note(text);
    }
}

/// Lets everybody else on this host go first; what is measured is CPU time, which waits for nobody. Where that is refused it
/// is measured all the same.
fn give_way() {
    #[cfg(unix)]
    let _ = rustix::process::nice(19);
}
