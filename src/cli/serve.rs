//! `pollmark serve`: one server, on the mechanism of your choice, for any client.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pollmark_backends::Registry;

use super::trace::{Form, Tracer};
use super::{Failure, limits, processes, signals};
use crate::cpus::Pinning;
use crate::mechanism::Mechanism;
use crate::protocol::proxy::Trusted;
use crate::server::{AcceptPolicy, Account, Address, Config, Control, Exhaustion, Expiry, Sharing, Stats};
use crate::speech::{Language, Speech};
use crate::usage;

/// Serves until interrupted: by a signal it accepts no more and finishes what is under way, by a second one it stops at
/// once. The first line of stdout is the bound address; statistics follow at the end.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark serve                                       the default mechanism, a free port
  pollmark serve --backend poll --listen [::1]:7000    then: nc ::1 7000
  pollmark serve --listen 127.0.0.1:7000 --listen [::1]:7000 --max-connections 100 --stats
  pollmark serve --listen unix:/tmp/echo.sock --unix-mode 600      then: nc -U /tmp/echo.sock
  pollmark serve --protocol http --header-timeout 5s --request-timeout 10s --idle-timeout 1m --stats
  pollmark serve --threads 2 --sharing handout --pin auto    two loops, and one thread that accepts
  pollmark serve --accept drain:8 --on-exhaustion pause    fewer at a time; let them wait when full
  pollmark serve --listen 127.0.0.1:7000 --trace       then: nc 127.0.0.1 7000
  pollmark serve --listen 127.0.0.1:7000 --processes 6   more connections than one process may hold
  pollmark serve --protocol http --proxy-protocol from=10.0.0.0/8   behind proxies
  pollmark serve --listen unix:/run/it.sock --unix-mode 660 \\
    --proxy-protocol from=unix                           behind one on this host")]
pub(super) struct Arguments {
    /// What to wait by, as `pollmark backends` lists them [default: the environment's POLLMARK_BACKEND, or the best].
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// What to say.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    protocol: Language,
    /// Expect proxies at these addresses, or in these blocks, and that each says first, by the PROXY protocol, whose
    /// connection it passes on; refuse all others. `unix` is whoever comes over a Unix socket: who may is said by
    /// --unix-mode.
    #[arg(long, value_name = "from=ADDRESS,...", value_parser = proxies)]
    proxy_protocol: Option<Trusted>,
    /// Where to listen: HOST:PORT, unix:/PATH, or on Linux unix:@NAME, for connections; udp://HOST:PORT or
    /// unixgram:/PATH for datagrams; may be given several times.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: Vec<String>,
    /// Permissions of the sockets that have a path, in octal: whoever may write may connect [default: as of any file
    /// this process makes].
    #[arg(long, value_name = "MODE", value_parser = mode)]
    unix_mode: Option<u32>,
    /// With [::]: leave clients of IPv4 to others.
    #[arg(long)]
    ipv6_only: bool,
    /// Serve by so many threads, each with its own loop.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::threads)]
    threads: usize,
    /// How the threads share a port: reuseport (a listener for each), shared (one listener, of which every thread is
    /// woken), exclusive (one listener, of which one thread is woken) or handout (one thread more, which accepts).
    #[arg(long, value_name = "WAY", default_value_t)]
    sharing: Sharing,
    /// Bind each thread to a CPU: auto, or a list like 0,2-3.
    #[arg(long, value_name = "CPUS", default_value_t)]
    pin: Pinning,
    /// Serve by so many processes, among which the kernel shares out the connections of a port and the datagrams of one
    /// (SO_REUSEPORT), each with so many threads. Only protocols whose connections have nothing in common.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = super::processes, conflicts_with = "pin")]
    processes: usize,
    #[command(flatten)]
    limits: limits::Arguments,
    /// With threads: so many at a time serve a connection each; further connections wait in the listen queue.
    #[arg(long, value_name = "N")]
    thread_limit: Option<usize>,
    /// With threads: bytes of stack for each.
    #[arg(long, value_name = "BYTES", default_value_t = 128 * 1024)]
    stack_size: usize,
    /// Length to ask for the queue of connections not yet accepted.
    #[arg(long, value_name = "N", default_value_t = 4_096)]
    backlog: i32,
    /// How many connections to accept when a listener has some: one, drain, drain:N or multishot [default: what suits
    /// the mechanism best].
    #[arg(long, value_name = "POLICY")]
    accept: Option<AcceptPolicy>,
    /// What to do when descriptors have run out: shed (turn connections away) or pause (let them wait in the queue).
    #[arg(long, value_name = "REMEDY", default_value_t = Exhaustion::Shed)]
    on_exhaustion: Exhaustion,
    /// Print what has been done, every second, to stderr.
    #[arg(long)]
    stats: bool,
    /// Print the account at the end as a line of JSON on stdout, instead of in words on stderr.
    #[arg(long)]
    json: bool,
    /// Log what happens to connections to stderr.
    #[arg(long, conflicts_with = "processes")]
    log: bool,
    /// Tell everything that the server does, as it does it: as a story of each connection, as lines of JSON, or for the viewers
    /// of Chrome and Perfetto. It slows the server, and each thread waits for the others to have told.
    #[arg(long, value_name = "FORM", num_args = 0..=1, default_missing_value = "story", conflicts_with = "processes")]
    trace: Option<Form>,
    /// Write the trace there instead of to stderr.
    #[arg(long, value_name = "FILE", requires = "trace")]
    trace_to: Option<PathBuf>,
}

/// Reads `from=` and the proxies that are trusted.
fn proxies(text: &str) -> Result<Trusted, String> {
    let trusted = text.strip_prefix("from=").ok_or("whom to trust is said by from=ADDRESSES, as from=10.0.0.0/8")?;
    trusted.parse().map_err(|error: io::Error| error.to_string())
}

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    listen_in(&arguments)?;
    usage::raise_descriptor_limit();
    let (mechanism, config) = (mechanism(registry, &arguments)?, config(&arguments)?);
    let speech = Speech { language: arguments.protocol, proxies: arguments.proxy_protocol.clone() };
    if arguments.processes > 1 {
        if let Some(state) = arguments.protocol.state() {
            let why =
                format!("cannot serve this protocol with --processes above 1: each would have {state} of its own");
            return Err(Failure::usage(why));
        }
        let reporting = processes::Reporting { every_second: arguments.stats, as_json: arguments.json };
        return processes::serve(arguments.processes, &mechanism, speech, &config, reporting);
    }
    let bound = match arguments.trace {
        Some(_) => speech.bind_traced(&mechanism, registry, config),
        None => speech.bind(&mechanism, registry, config),
    };
    let server = bound.map_err(|error| refused(&mechanism, &error))?;
    let mut out = io::stdout();
    for address in server.addresses() {
        writeln!(out, "{address}")?;
    }
    out.flush()?;

    let control = server.control();
    let (drain, stop) = (control.clone(), control.clone());
    signals::on_first_and_second(move |_| drain.drain(), move |_| stop.stop())
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    if arguments.stats {
        std::thread::spawn(move || report_every_second(&control));
    }
    let began = Instant::now();
    let account = server.run_to_account().map_err(|error| Failure::failed(format!("cannot serve: {error}")))?;
    if arguments.json {
        return Ok(writeln!(out, "{}", json_by_thread(&account))?);
    }
    Ok(write_by_thread(&mut io::stderr().lock(), &account, began.elapsed())?)
}

/// The account of all, and, where there are several threads, of each.
fn json_by_thread(account: &Account) -> serde_json::Value {
    let mut all = json(&account.total);
    if account.threads.len() > 1 {
        all["threads"] = account.threads.iter().map(json).collect();
        all["fairness"] = account.fairness().into();
    }
    all
}

pub(super) fn json(stats: &Stats) -> serde_json::Value {
    let ledger = &stats.ledger;
    serde_json::json!({
        "waits": ledger.waits,
        "events": ledger.events,
        "empty": ledger.empty,
        "changes": ledger.changes,
        "wait_calls": ledger.wait_calls,
        "change_calls": ledger.change_calls,
        "migrations": ledger.migrations,
        "derived": ledger.derived,
        "accepted": stats.accepted,
        "refused": stats.refused,
        "closed": stats.closed,
        "open": stats.open,
        "accept_calls": stats.accept_calls,
        "empty_accepts": stats.empty_accepts,
        "read_calls": stats.read_calls,
        "write_calls": stats.write_calls,
        "other_calls": stats.other_calls,
        "operations": stats.operations,
        "calls": stats.calls(),
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "spurious": stats.spurious,
        "stale": stats.stale,
        "expired": stats.expired,
        "datagrams": stats.datagrams,
    })
}

fn mechanism(registry: &Registry, arguments: &Arguments) -> Result<Mechanism, Failure> {
    let mechanism = match &arguments.backend {
        Some(name) => Mechanism::parse(registry, name).map_err(Failure::usage)?,
        None => Mechanism::choose(registry).map_err(Failure::usage)?,
    };
    mechanism.probe(registry).map_err(|why| Failure::usage(format!("cannot serve by {mechanism}: {why}")))?;
    Ok(mechanism)
}

/// Why no server can be bound.
pub(super) fn refused(mechanism: &Mechanism, error: &io::Error) -> Failure {
    match error.kind() {
        // Nothing was tried: this mechanism, or this system, cannot do what was asked for.
        io::ErrorKind::Unsupported => Failure::usage(format!("cannot serve by {mechanism}: {error}")),
        _ => Failure::failed(error),
    }
}

fn config(arguments: &Arguments) -> Result<Config, Failure> {
    let addresses = arguments.listen.iter().map(|text| text.parse::<Address>()).collect::<io::Result<Vec<_>>>();
    let mut addresses = addresses.map_err(Failure::usage)?.into_iter();
    let mut config = Config::listen(addresses.next().ok_or_else(|| Failure::usage("no address to listen on"))?);
    config.addresses.extend(addresses);
    config.limits = arguments.limits.limits();
    (config.thread_limit, config.stack_size) = (arguments.thread_limit, arguments.stack_size);
    (config.unix_mode, config.ipv6_only) = (arguments.unix_mode, arguments.ipv6_only);
    config.backlog = arguments.backlog;
    (config.threads, config.sharing, config.pin) = (arguments.threads, arguments.sharing, arguments.pin.clone());
    (config.accept, config.on_exhaustion) = (arguments.accept, arguments.on_exhaustion);
    Ok(config)
}

/// Permissions as chmod(1) reads them.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("permissions are three octal digits, as 660".to_owned()),
    }
}

fn report_every_second(control: &Control) {
    let (mut before, mut then) = (Account::default(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let Ok(account) = control.account() else { return };
        let now = Instant::now();
        if write_by_thread(&mut io::stderr().lock(), &account.since(&before), now - then).is_err() {
            return;
        }
        (before, then) = (account, now);
    }
}

/// In words: all together, and how the connections were shared out.
fn write_by_thread(out: &mut impl Write, account: &Account, during: Duration) -> io::Result<()> {
    write_account(out, &account.total, during)?;
    if account.threads.len() == 1 {
        return Ok(());
    }
    let each = account.threads.iter().map(|stats| stats.accepted.to_string()).collect::<Vec<_>>();
    write!(out, "accepted by each of {} threads: {}", each.len(), each.join(", "))?;
    match account.fairness() {
        Some(index) => {
            writeln!(out, "; fairness {index:.2} (Jain's index: 1 is even); {} woken in vain", account.total.spurious)
        }
        None => writeln!(out),
    }
}

pub(super) fn write_account(out: &mut impl Write, stats: &Stats, during: Duration) -> io::Result<()> {
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
    )?;
    if stats.expired.sum() == 0 {
        return Ok(());
    }
    let each = Expiry::ALL.into_iter().filter(|expiry| stats.expired.of(*expiry) > 0);
    let each = each.map(|expiry| format!("{} by the {expiry} deadline", stats.expired.of(expiry)));
    writeln!(out, "closed at a deadline: {}", each.collect::<Vec<_>>().join(", "))
}

/// Has `tracing` tell what was asked for: the log, and the trace.
fn listen_in(arguments: &Arguments) -> Result<(), Failure> {
    use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};
    let to = arguments.trace_to.as_deref();
    let tracer = arguments.trace.map(|form| Tracer::open(form, to)).transpose().map_err(|error| {
        let to = to.map_or("stderr".into(), |path| path.display().to_string());
        Failure::failed(format!("cannot write the trace to {to}: {error}"))
    })?;
    let lines = arguments.log.then(|| tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false));
    let lines = lines.map(|lines| lines.with_filter(LevelFilter::DEBUG));
    if tracer.is_some() || lines.is_some() {
        // Fails only if a program around us has set its own subscriber: then that one is told.
        let _ = tracing_subscriber::registry().with(tracer).with(lines).try_init();
    }
    Ok(())
}
