//! `pollmark load`: the load generator alone, against any echo server.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::signals::Stop;
use crate::measure::stats::Pool;
use crate::server::Address;
use crate::workload::{Fault, Generator, Outcome, Until};
use crate::{limits, usage, workload};

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
  pollmark load --target 127.0.0.1:7000 --active 4 --churn     a connection for each exchange")]
pub(super) struct Arguments {
    /// The echo server.
    #[arg(long, value_name = "HOST:PORT")]
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
    /// Connect anew for each exchange, and close by a reset after it.
    #[arg(long)]
    churn: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.active == 0 {
        return Err(Failure::usage("--active 0 would do nothing: at least one connection must be active"));
    }
    if arguments.requests == Some(0) || (arguments.requests.is_none() && arguments.duration.is_zero()) {
        return Err(Failure::usage("nothing to do: give --requests or --duration more than zero"));
    }
    let address = arguments.target.parse::<Address>().map_err(Failure::usage)?;
    let target = address.tcp().ok_or_else(|| Failure::usage(format!("{address} is not a TCP address")))?;
    usage::raise_descriptor_limit();
    // For all of them together, before the first is opened: who has to raise a limit wants to do it once.
    limits::descriptors_for(arguments.idle.saturating_add(arguments.active)).map_err(Failure::usage)?;

    let stop = Stop::on_signals()?;
    let outcome = generate(target, &arguments, stop.flag()).map_err(|fault| match fault {
        fault if fault.voids() => Failure::failed(format!("void: {fault}")),
        fault => Failure::failed(fault),
    })?;
    let account = Account::of(&outcome, target, &arguments);
    let mut out = io::stdout().lock();
    if arguments.json {
        let json = serde_json::to_string_pretty(&account).expect("plain fields");
        writeln!(out, "{json}")?;
    } else {
        account.write(&mut out)?;
    }
    stop.outcome()
}

fn generate(target: SocketAddr, arguments: &Arguments, stop: Arc<AtomicBool>) -> Result<Outcome, Fault> {
    let until = arguments.requests.map_or(Until::Elapsed(arguments.duration), Until::Requests);
    let mut load = Generator::new(target, arguments.size)?;
    load.stop_on(stop);
    load.open_idle(arguments.idle)?;
    let outcome = if arguments.churn {
        load.churn(arguments.active, until)?
    } else {
        load.open_active(arguments.active)?;
        load.run(until)?
    };
    load.verify_idle()?;
    load.close_active()?;
    Ok(outcome)
}

/// What is printed.
#[derive(Serialize)]
struct Account {
    target: SocketAddr,
    idle: usize,
    active: usize,
    payload_bytes: usize,
    churn: bool,
    requests: u64,
    verified_bytes: u64,
    duration_ns: u64,
    requests_per_second: f64,
    p50_ns: Option<u64>,
    /// From 1,000 samples on.
    p99_ns: Option<u64>,
    /// From 10,000 samples on.
    p999_ns: Option<u64>,
    longest_ns: u64,
    client_cpu_ns: Option<u64>,
    client_limited: Option<bool>,
    client_waits: u64,
}

impl Account {
    fn of(outcome: &Outcome, target: SocketAddr, arguments: &Arguments) -> Account {
        let mut latency = Pool::default();
        latency.add(&outcome.buckets());
        Account {
            target,
            idle: arguments.idle,
            active: arguments.active,
            payload_bytes: arguments.size,
            churn: arguments.churn,
            requests: outcome.requests,
            verified_bytes: outcome.bytes,
            duration_ns: outcome.elapsed.as_nanos() as u64,
            requests_per_second: outcome.requests as f64 / outcome.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_ns: latency.percentile(0.5),
            p99_ns: latency.percentile(0.99),
            p999_ns: latency.percentile(0.999),
            longest_ns: outcome.latency.max(),
            client_cpu_ns: outcome.cpu.map(|cpu| cpu.as_nanos() as u64),
            client_limited: outcome.cpu.map(|cpu| workload::was_the_limit(cpu, outcome.elapsed)),
            client_waits: outcome.waits,
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let micros = |nanos: Option<u64>| nanos.map_or("–".into(), |nanos| format!("{:.1} µs", nanos as f64 / 1e3));
        let kind = if self.churn { "a connection for each, " } else { "" };
        writeln!(
            out,
            "{}: {} idle, {} active; {} echoes of {} bytes, {kind}every byte verified",
            self.target, self.idle, self.active, self.requests, self.payload_bytes
        )?;
        let seconds = self.duration_ns as f64 / 1e9;
        writeln!(out, "rate     {:.0} per second over {seconds:.2} s", self.requests_per_second)?;
        let longest = micros(Some(self.longest_ns));
        let [p50, p99, p999] = [self.p50_ns, self.p99_ns, self.p999_ns].map(micros);
        writeln!(out, "latency  p50 {p50}, p99 {p99}, p99.9 {p999}, longest {longest}")?;
        if let Some(cpu) = self.client_cpu_ns {
            let part = cpu as f64 / (self.duration_ns.max(1)) as f64;
            let limit = if self.client_limited == Some(true) { ": the load was the limit, not the server" } else { "" };
            writeln!(out, "load     {:.0} % of a CPU{limit}", part * 100.0)?;
        }
        Ok(())
    }
}
