//! `pollmark watch`: a port of this host, live: its listeners, its queues, every connection.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Failure;
use super::printing::{Figures, Format, Printing};
use super::signals::Stop;
use crate::observe::{View, Watch};
use crate::report::{terminal, watch};

/// Shows a TCP port of this host as the kernel sees it: who listens, how many wait to be accepted and how many may, the
/// state, queues, round-trip time and memory of every connection. Of pollmark's servers and of anybody's; it takes no
/// part in what it shows.
///
/// On a terminal it is redrawn until Ctrl-C; elsewhere every look is printed. A look is followed by a pause two hundred
/// times as long as the CPU time it took, however often it is asked for: watching uses half a hundredth of a CPU.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark watch --port 6379                     live, once a second
  pollmark watch --port 7000 --once              one look
  pollmark watch --port 7000 --once --json       for a program
  pollmark watch --port 7000 --descriptors       what each descriptor of its process is, too
  pollmark watch --port 7000 --json --every 10s  a line of JSON every ten seconds")]
pub(super) struct Arguments {
    /// Which port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Look once, and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    printing: Printing<Figures>,
    /// Show the descriptors of the process that listens, too. Those of other users are shown to root alone.
    #[arg(long)]
    descriptors: bool,
    /// How often to look, at most.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    every: Duration,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut watching = Watch::new(arguments.port);
    if arguments.descriptors {
        watching = watching.with_descriptors();
    }
    if arguments.once {
        let view = look(&mut watching)?;
        show(&view, &arguments, None)?;
        return match view.port.listeners.is_empty() && view.port.connections.is_empty() {
            true => Err(Failure::failed(format!("nobody listens at port {}, and nobody is connected", arguments.port))),
            false => Ok(()),
        };
    }
    let stop = Stop::on_signals()?;
    let flag = stop.flag();
    while !flag.load(Ordering::SeqCst) {
        show(&look(&mut watching)?, &arguments, screen())?;
        let next = Instant::now() + watching.pause(arguments.every);
        while !flag.load(Ordering::SeqCst) && Instant::now() < next {
            std::thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
        }
    }
    stop.outcome()
}

pub(super) fn look(watching: &mut Watch) -> Result<View, Failure> {
    watching.look().map_err(|error| match error.kind() {
        io::ErrorKind::Unsupported => Failure::usage(error),
        _ => Failure::failed(format!("cannot list the sockets of this host: {error}")),
    })
}

/// How many lines and columns there are to redraw; `None` if stdout is no terminal.
fn screen() -> Option<(usize, usize)> {
    let terminal = console::Term::stdout();
    io::stdout().is_terminal().then(|| terminal.size()).map(|(lines, columns)| (lines.into(), columns.into()))
}

fn show(view: &View, arguments: &Arguments, screen: Option<(usize, usize)>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if arguments.printing.format == Format::Json {
        return writeln!(out, "{}", serde_json::to_string(view)?);
    }
    let Some((lines, columns)) = screen else {
        return out.write_all((watch::render(view, super::style(), None) + "\n").as_bytes());
    };
    let style = terminal::Style { width: columns, ..super::style() };
    // The last line stays empty: a line that ends there would move all others.
    let text = watch::render(view, style, Some(lines.saturating_sub(1)));
    // In one write, over what was there: home, each line and whatever an older one has left of it, and all below.
    let frame = text
        .lines()
        .take(lines.saturating_sub(1))
        .fold("\u{1b}[H".to_owned(), |frame, line| frame + line + "\u{1b}[K\n");
    out.write_all((frame + "\u{1b}[J").as_bytes())?;
    out.flush()
}
