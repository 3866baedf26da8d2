//! `pollmark load`: the load generator alone, against any echo server.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Failure;
use super::printing::{Figures, Format, Printing};
use super::signals::Stop;
use crate::child::{self, Loads, Open, Ran, Span, Trouble};
use crate::client::Target;
use crate::limits::{Demand, Limits};
use crate::report::hlog::{FROM_SEND, Log, SLIP};
use crate::report::percentiles::Percentiles;
use crate::server::Address;
use crate::workload::{Arrivals, Generator, Pace, Sources, Traffic};
use crate::{usage, workload};

/// Opens connections to an echo server, keeps some of them busy, and verifies every byte.
///
/// A closed loop: each active connection sends, waits for its echo, compares it, and sends again. Connections are
/// closed by a reset, so that none is left in TIME_WAIT.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark load --target 127.0.0.1:7000 --idle 1000 --active 10
  pollmark load --target localhost:7 --size 1024 --duration 5s --json
  pollmark load --target [::1]:7000 --active 4 --requests 100000
  pollmark load --target 127.0.0.1:7000 --active 4 --churn      a connection for each exchange;
                                                                --churn=10: for ten exchanges
  pollmark load --target 127.0.0.1:7000 --active 4 --outstanding 16
                                                    up to 16 payloads under way on each connection
  pollmark load --target 127.0.0.1:7000 --active 100 --rate 20000
                                                    an open loop: as others would ask
  pollmark load --target server:7000 --active 100 --rate 20000 --hdr-log here.hlog
                                                    one of several hosts; see `pollmark merge`
  pollmark load --target unix:/tmp/echo.sock --idle 1000 --active 10
  pollmark load --target 127.0.0.1:7000 --idle 99900 --active 100 --processes 6 \\
    --sources 127.0.0.1-127.0.0.12")]
pub(super) struct Arguments {
    /// The echo server: HOST:PORT, unix:/PATH, or on Linux unix:@NAME.
    #[arg(long, value_name = "ADDRESS")]
    target: String,
    /// Connections that are opened and then stay silent.
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle: usize,
    /// Connections kept busy.
    #[arg(long, value_name = "N", default_value_t = 1)]
    active: usize,
    /// Bytes of each payload.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = super::size)]
    size: usize,
    /// How long, as 500ms or 10s.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Exactly so many exchanges instead, however long they take.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    requests: Option<u64>,
    /// Payloads under way on each connection at a time; what can be sent together is.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::outstanding)]
    outstanding: usize,
    /// Connect anew for each exchange, or for each N, and close by a reset after it.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    churn: Option<NonZeroU64>,
    /// An open loop: so many exchanges a second over all connections, due whether or not the server keeps up. Latency
    /// is counted from when each was due.
    #[arg(long, value_name = "PER SECOND", conflicts_with = "churn")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// When they are due: in equal steps (constant), or at random, as of many users (poisson).
    #[arg(long, value_name = "HOW", default_value = "poisson", requires = "rate")]
    arrivals: Arrivals,
    /// Open the connections from so many processes, each its share.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::processes)]
    processes: usize,
    /// Open them from these addresses in turn, as 127.0.0.1-127.0.0.12 or a list: each has ports of its own
    /// [default: the kernel's choice; on the loopback of Linux as many as it takes].
    #[arg(long, value_name = "ADDRESSES")]
    sources: Option<Sources>,
    /// Leave the latencies in an HdrHistogram log, which must not be there yet; `pollmark merge` adds up several.
    #[arg(long, value_name = "FILE")]
    hdr_log: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing<Figures>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.rate.is_some_and(|rate| (rate as usize) < arguments.processes) {
        return Err(Failure::usage("fewer exchanges a second than processes: one would have nothing to do"));
    }
    if arguments.active == 0 {
        return Err(Failure::usage("--active 0 would do nothing: at least one connection must be active"));
    }
    if arguments.requests == Some(0) || (arguments.requests.is_none() && arguments.duration.is_zero()) {
        return Err(Failure::usage("nothing to do: give --requests or --duration more than zero"));
    }
    let target =
        arguments.target.parse::<Address>().and_then(|address| child::target(&address)).map_err(Failure::usage)?;
    match (&arguments.sources, &target) {
        (Some(sources), Target::Tcp(target)) => sources.check(*target).map_err(Failure::usage)?,
        #[cfg(unix)]
        (Some(_), Target::Unix(_)) => {
            let why = format!("connections to {target} come from no address: leave out --sources");
            return Err(Failure::usage(why));
        }
        (None, _) => {}
    }
    // For all of them together, before the first is opened: who has to raise a limit wants to do it once.
    let sources = preflight(&target, &arguments)?;

    let log = arguments.hdr_log.as_deref().map(log_file).transpose()?;
    let stop = Stop::on_signals()?;
    let ran = match arguments.processes {
        1 => generate(&target, sources, &arguments, stop.flag()),
        _ => generate_together(&target, sources.as_ref(), &arguments, &stop.flag()),
    };
    let (began, ran) = match ran {
        Ok(ran) => ran,
        Err(trouble) => {
            // Empty, and ours.
            arguments.hdr_log.iter().for_each(|path| drop(fs::remove_file(path)));
            // Then it is no trouble that connections were not opened.
            stop.outcome()?;
            return Err(Failure::failed(trouble));
        }
    };
    let account = Account::of(&ran, &target, &arguments);
    if let Some((path, file)) = log.zip(arguments.hdr_log.as_deref()).map(|(file, path)| (path, file)) {
        let mut out = BufWriter::new(file);
        let written = account.log(&ran, began).write(&mut out).and_then(|()| out.flush());
        written.map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let mut out = io::stdout().lock();
    match arguments.printing.format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&account).expect("plain fields"))?,
        _ => account.write(&mut out)?,
    }
    stop.outcome()
}

/// Made before anything is measured: to find out afterwards that it cannot be kept would be a pity.
fn log_file(path: &Path) -> Result<File, Failure> {
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::usage(format!("{} is there already; choose another", path.display())),
        _ => Failure::usage(format!("cannot write {}: {error}", path.display())),
    };
    File::create_new(path).map_err(refuse)
}

/// Makes sure that the connections can be had, and from where, if not from where the kernel likes.
fn preflight(target: &Target, arguments: &Arguments) -> Result<Option<Sources>, Failure> {
    usage::raise_descriptor_limit();
    let limits = Limits::gather();
    let connections = arguments.idle.saturating_add(arguments.active) as u64;
    let loopback = matches!(target, Target::Tcp(target) if target.is_ipv4() && target.ip().is_loopback());
    let enough = || Sources::enough_for(connections, arguments.processes).filter(|_| loopback);
    let sources = arguments.sources.clone().or_else(enough);
    let available = match target {
        Target::Tcp(_) => sources.as_ref().map_or(1, Sources::count),
        #[cfg(unix)]
        Target::Unix(_) => 0,
    };
    let demand = Demand { connections, servers: 0, loads: arguments.processes as u64, sources: available };
    limits.allow(demand).map_err(Failure::usage)?;
    if arguments.processes > 1 {
        super::write_preflight(&limits, &demand);
    }
    Ok(sources)
}

fn generate(
    target: &Target,
    sources: Option<Sources>,
    arguments: &Arguments,
    stop: Arc<AtomicBool>,
) -> Result<(SystemTime, Ran), Trouble> {
    let mut load = Generator::new(target.clone(), arguments.size)?;
    load.stop_on(stop);
    sources.into_iter().for_each(|sources| load.come_from(sources));
    load.follow(traffic(arguments));
    load.open_idle(arguments.idle)?;
    if arguments.churn.is_none() {
        load.open_active(arguments.active)?;
    }
    let began = SystemTime::now();
    let outcome = match arguments.churn {
        Some(_) => load.churn(arguments.active, span(arguments).into())?,
        None => load.run(span(arguments).into())?,
    };
    load.verify_idle()?;
    load.close_active()?;
    Ok((began, Ran::from(&outcome)))
}

fn generate_together(
    target: &Target,
    sources: Option<&Sources>,
    arguments: &Arguments,
    stop: &AtomicBool,
) -> Result<(SystemTime, Ran), Trouble> {
    let mut loads = Loads::start(arguments.processes)?;
    loads.aim(&child::Target { address: target.clone(), size: arguments.size, cpu: None, sources })?;
    loads.follow(traffic(arguments))?;
    loads.open_idle(arguments.idle, stop)?;
    if arguments.churn.is_none() {
        loads.open_active(arguments.active, stop)?;
    }
    let began = SystemTime::now();
    let ran = match arguments.churn {
        Some(_) => loads.churn(arguments.active, span(arguments), stop)?,
        None => loads.run(span(arguments), Some(stop))?,
    };
    loads.verify_idle()?;
    loads.close_active()?;
    Ok((began, ran))
}

fn traffic(arguments: &Arguments) -> Traffic {
    let exchanges = arguments.churn.map_or(0, NonZeroU64::get);
    let pace = arguments.rate.map_or(Pace::Closed, |per_second| arguments.arrivals.at(per_second));
    Traffic { payload: arguments.size, outstanding: arguments.outstanding, exchanges, pace }
}

fn span(arguments: &Arguments) -> Span {
    arguments.requests.map_or(Span::Elapsed(arguments.duration), Span::Requests)
}

/// What is printed.
#[derive(Serialize)]
struct Account {
    #[serde(skip)]
    traffic: Traffic,
    target: String,
    idle: usize,
    active: usize,
    payload_bytes: usize,
    outstanding: usize,
    churn: bool,
    /// Of each connection, if it is not for all.
    exchanges: Option<NonZeroU64>,
    processes: usize,
    requests: u64,
    verified_bytes: u64,
    duration_ns: u64,
    requests_per_second: f64,
    p50_ns: Option<u64>,
    /// From 1,000 samples on; not where it falls among exchanges that were never sent.
    p99_ns: Option<u64>,
    /// From 10,000 samples on, as above.
    p999_ns: Option<u64>,
    longest_ns: u64,
    /// Of an open loop, from when exchanges were due; this is what it tells beside.
    open_loop: Option<OpenAccount>,
    client_cpu_ns: Option<u64>,
    client_limited: Option<bool>,
    client_waits: u64,
}

/// What only an open loop tells.
#[derive(Serialize)]
struct OpenAccount {
    per_second: u32,
    arrivals: Arrivals,
    /// Due, and never sent, for their connections were not free even when the time had been over for as long again.
    unsent: u64,
    /// Latency as other generators count it, from the send.
    from_send: Percentiles,
    /// How late the load itself was.
    slip: Percentiles,
}

impl OpenAccount {
    fn of(open: &Open, per_second: u32, arguments: &Arguments) -> OpenAccount {
        OpenAccount {
            per_second,
            arrivals: arguments.arrivals,
            unsent: open.unsent,
            from_send: Percentiles::of(&open.from_send, 0),
            slip: Percentiles::of(&open.slip, 0),
        }
    }
}

impl Account {
    fn of(ran: &Ran, target: &Target, arguments: &Arguments) -> Account {
        let latency = Percentiles::of(&ran.latency, ran.open.as_ref().map_or(0, |open| open.unsent));
        let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
        let available = arguments.processes.min(cpus) as u32;
        Account {
            traffic: traffic(arguments),
            target: target.to_string(),
            idle: arguments.idle,
            active: arguments.active,
            payload_bytes: arguments.size,
            outstanding: arguments.outstanding,
            churn: arguments.churn.is_some(),
            exchanges: arguments.churn,
            processes: arguments.processes,
            requests: ran.requests,
            verified_bytes: ran.bytes,
            duration_ns: ran.elapsed.as_nanos() as u64,
            requests_per_second: ran.requests as f64 / ran.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_ns: latency.p50_ns,
            p99_ns: latency.p99_ns,
            p999_ns: latency.p999_ns,
            longest_ns: latency.longest_ns,
            open_loop: ran
                .open
                .as_ref()
                .zip(arguments.rate)
                .map(|(open, per_second)| OpenAccount::of(open, per_second, arguments)),
            client_cpu_ns: ran.cpu.map(|cpu| cpu.as_nanos() as u64),
            // An open loop looks at the clock without rest, and its slip tells how well it does.
            client_limited: ran
                .cpu
                .filter(|_| ran.open.is_none())
                .map(|cpu| workload::was_the_limit(cpu / available, ran.elapsed)),
            client_waits: ran.waits,
        }
    }

    /// What it measured, to be kept.
    fn log(&self, ran: &Ran, began: SystemTime) -> Log {
        let mut log = Log::begun(began);
        log.loads.push(serde_json::to_value(self).expect("plain fields"));
        let open = ran.open.iter().flat_map(|open| [(FROM_SEND, &open.from_send), (SLIP, &open.slip)]);
        log.push(None, Duration::ZERO, ran.elapsed, &ran.latency);
        open.for_each(|(tag, buckets)| log.push(Some(tag), Duration::ZERO, ran.elapsed, buckets));
        log
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{}: {} idle, {} active; {} echoes of {}; every byte verified",
            self.target, self.idle, self.active, self.requests, self.traffic
        )?;
        let seconds = self.duration_ns as f64 / 1e9;
        writeln!(out, "rate     {:.0} per second over {seconds:.2} s", self.requests_per_second)?;
        let (p50_ns, p99_ns, p999_ns, longest_ns) = (self.p50_ns, self.p99_ns, self.p999_ns, self.longest_ns);
        let latency = Percentiles { p50_ns, p99_ns, p999_ns, longest_ns };
        match &self.open_loop {
            None => writeln!(out, "latency  {latency}")?,
            Some(open) => {
                writeln!(out, "latency  {latency}, from when each was due")?;
                writeln!(out, "         {}, from when it was sent", open.from_send)?;
                writeln!(out, "slip     {}: how late the load itself was", open.slip)?;
                if open.unsent > 0 {
                    writeln!(
                        out,
                        "unsent   {} were due and never sent; they count as longer than all others",
                        open.unsent
                    )?;
                }
            }
        }
        if let Some(cpu) = self.client_cpu_ns {
            let part = cpu as f64 / (self.duration_ns.max(1)) as f64;
            let limit = if self.client_limited == Some(true) { ": the load was the limit, not the server" } else { "" };
            let by = if self.processes > 1 { format!(", in {} processes", self.processes) } else { String::new() };
            writeln!(out, "load     {:.0} % of a CPU{by}{limit}", part * 100.0)?;
        }
        Ok(())
    }
}
