//! `pollmark serve`: one server, on the mechanism of your choice, for any client.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use pollmark_backends::Registry;

use super::{Failure, signals};
use crate::mechanism::Mechanism;
use crate::protocol::Echo;
use crate::server::{Address, Config, Control, Server, Stats};
use crate::usage;

/// Serves until interrupted. The first line of stdout is the bound address; statistics follow at the end.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark serve                                       the default mechanism, a free port
  pollmark serve --backend poll --listen [::1]:7000    then: nc ::1 7000
  pollmark serve --listen 127.0.0.1:7000 --listen [::1]:7000 --max-connections 100 --stats")]
pub(super) struct Arguments {
    /// What to wait by, as `pollmark backends` lists them [default: the environment's POLLMARK_BACKEND, or the best].
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// What to say.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    protocol: Protocol,
    /// Where to listen; may be given several times.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: Vec<String>,
    /// Close connections beyond this many at once.
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Length to ask for the queue of connections not yet accepted.
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    backlog: i32,
    /// Print what has been done, every second, to stderr.
    #[arg(long)]
    stats: bool,
    /// Print the account at the end as a line of JSON on stdout, instead of in words on stderr.
    #[arg(long)]
    json: bool,
    /// Log what happens to connections to stderr.
    #[arg(long)]
    log: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Protocol {
    /// Sends back every byte (RFC 862).
    Echo,
}

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    if arguments.log {
        log_to_stderr();
    }
    usage::raise_descriptor_limit();
    let server = bind(registry, &arguments)?;
    let mut out = io::stdout();
    for address in server.addresses() {
        writeln!(out, "{address}")?;
    }
    out.flush()?;

    let control = server.control();
    let stop = control.clone();
    signals::on_first(move |_| stop.stop())
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    if arguments.stats {
        std::thread::spawn(move || report_every_second(&control));
    }
    let began = Instant::now();
    let stats = server.run().map_err(|error| Failure::failed(format!("cannot serve: {error}")))?;
    if arguments.json {
        return Ok(writeln!(out, "{}", json(&stats))?);
    }
    Ok(write_account(&mut io::stderr().lock(), &stats, began.elapsed())?)
}

fn json(stats: &Stats) -> serde_json::Value {
    let ledger = &stats.ledger;
    serde_json::json!({
        "waits": ledger.waits,
        "events": ledger.events,
        "empty": ledger.empty,
        "changes": ledger.changes,
        "wait_calls": ledger.wait_calls,
        "change_calls": ledger.change_calls,
        "derived": ledger.derived,
        "accepted": stats.accepted,
        "refused": stats.refused,
        "closed": stats.closed,
        "open": stats.open,
        "accept_calls": stats.accept_calls,
        "read_calls": stats.read_calls,
        "write_calls": stats.write_calls,
        "other_calls": stats.other_calls,
        "calls": stats.calls(),
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "spurious": stats.spurious,
    })
}

fn bind(registry: &Registry, arguments: &Arguments) -> Result<Box<dyn Server>, Failure> {
    let mechanism = match &arguments.backend {
        Some(name) => Mechanism::parse(registry, name).map_err(Failure::usage)?,
        None => Mechanism::choose(registry).map_err(Failure::usage)?,
    };
    mechanism.probe(registry).map_err(|why| Failure::usage(format!("cannot serve by {mechanism}: {why}")))?;
    let addresses = arguments.listen.iter().map(|text| text.parse::<Address>()).collect::<io::Result<Vec<_>>>();
    let mut addresses = addresses.map_err(Failure::usage)?.into_iter();
    let mut config = Config::listen(addresses.next().ok_or_else(|| Failure::usage("no address to listen on"))?);
    config.addresses.extend(addresses);
    config.max_connections = arguments.max_connections;
    config.backlog = arguments.backlog;
    let bound = match arguments.protocol {
        Protocol::Echo => mechanism.bind(registry, config, Echo),
    };
    bound.map_err(Failure::failed)
}

fn report_every_second(control: &Control) {
    let (mut before, mut then) = (Stats::default(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let Ok(stats) = control.stats() else { return };
        let now = Instant::now();
        if write_account(&mut io::stderr().lock(), &(stats - before), now - then).is_err() {
            return;
        }
        (before, then) = (stats, now);
    }
}

fn write_account(out: &mut impl Write, stats: &Stats, during: Duration) -> io::Result<()> {
    let per = |count: u64, of: u64| if of == 0 { "–".to_owned() } else { format!("{:.2}", count as f64 / of as f64) };
    writeln!(
        out,
        "{:.1} s: {} open, {} accepted, {} refused, {} closed; {} B in, {} B out; {} waits, {} events per wait; \
         {} calls, {} per read",
        during.as_secs_f64(),
        stats.open,
        stats.accepted,
        stats.refused,
        stats.closed,
        stats.bytes_in,
        stats.bytes_out,
        stats.ledger.waits,
        per(stats.ledger.events, stats.ledger.waits),
        stats.calls(),
        per(stats.calls(), stats.read_calls),
    )
}

fn log_to_stderr() {
    use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    // Fails only if a program around us has set its own subscriber: then that one is told.
    let _ = tracing_subscriber::registry().with(LevelFilter::DEBUG).with(lines).try_init();
}
