//! `pollmark explain`: a question about sockets, and an experiment on this host that answers it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use pollmark_backends::Registry;

use super::Failure;
use super::printing::{FORM, Format, Printing, Prose};
use crate::observe::explain::{Lesson, Settings, Topic};
use crate::report::lesson;

/// Answers questions about sockets by experiments on this host: what is predicted, every call that is made, what the
/// kernel shows after it, whether the prediction held, and what is to be learnt.
///
/// Each takes a few seconds at most and needs no root. Every number is read from the kernel while it runs: change a
/// setting, and the lesson is another, or the prediction fails, and then the exit code is 1.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark explain --list                      every topic, its question and its settings
  pollmark explain lifecycle --pause           from socket to TIME_WAIT, a step for each Enter
  pollmark explain lifecycle --pace 1s         the same, a step each second
  pollmark explain backlog --set backlog=10    what becomes of clients when nobody accepts
  pollmark explain nagle-and-delayed-ack --set nodelay=1
                                               the prediction fails: nothing is held back
  pollmark explain --all --markdown > guide.md all of them, as a guide")]
pub(super) struct Arguments {
    /// What to explain.
    #[arg(value_name = "TOPIC", required_unless_present_any = ["list", "all"])]
    topics: Vec<String>,
    /// List the topics.
    #[arg(long, conflicts_with_all = ["topics", "all", "set", "pause", "pace", FORM])]
    list: bool,
    /// Explain all of them.
    #[arg(long, conflicts_with_all = ["topics", "set"])]
    all: bool,
    /// Set something of the experiment: see --list. Of one topic alone.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = setting)]
    set: Vec<(String, u64)>,
    /// Wait for Enter after each step.
    #[arg(long, conflicts_with = FORM)]
    pause: bool,
    /// Wait so long after each step, for example 800ms.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with_all = ["pause", FORM])]
    pace: Option<Duration>,
    #[command(flatten)]
    printing: Printing<Prose>,
}

pub(super) fn run(registry: &Registry, arguments: Arguments) -> Result<(), Failure> {
    if arguments.list {
        return Ok(io::stdout().lock().write_all(lesson::list(super::style()).as_bytes())?);
    }
    if !arguments.set.is_empty() && arguments.topics.len() != 1 {
        return Err(Failure::usage("--set is of one topic: name one alone"));
    }
    if arguments.pause && !io::stdin().is_terminal() {
        return Err(Failure::usage("--pause waits for Enter, and stdin is no terminal: leave it out"));
    }
    let topics = match arguments.all {
        true => Topic::all().collect::<Vec<_>>(),
        false => {
            arguments.topics.iter().map(|name| Topic::find(name)).collect::<io::Result<_>>().map_err(Failure::usage)?
        }
    };
    if arguments.printing.format == Format::Markdown {
        print(&format!("# What sockets do\n\nMade by pollmark {}: every number is of this host.\n\n", super::VERSION))?;
    }
    let mut wrong = Vec::new();
    for topic in &topics {
        let mut settings = topic.settings();
        for (name, value) in &arguments.set {
            settings.set(name, *value).map_err(Failure::usage)?;
        }
        match lesson(registry, topic, &settings, &arguments) {
            Ok(lesson) if lesson.held() => {}
            Ok(_) => wrong.push(topic.name),
            // Of all, those that can be had: of one, that it cannot is the answer.
            Err(Ended::Experiment(error)) if error.kind() == io::ErrorKind::Unsupported && topics.len() > 1 => {
                print(&format!("{}: {error}\n\n", topic.name))?;
            }
            Err(Ended::Experiment(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Err(Failure::usage(format!("cannot explain {} here: {error}", topic.name)));
            }
            Err(Ended::Experiment(error)) => {
                return Err(Failure::failed(format!("the experiment of {} failed: {error}", topic.name)));
            }
            Err(Ended::Stdout(error)) => return Err(error.into()),
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!("not what was predicted: {}", wrong.join(", ")))),
    }
}

/// Why a lesson did not come to its end.
enum Ended {
    Experiment(io::Error),
    Stdout(io::Error),
}

fn lesson(registry: &Registry, topic: &Topic, settings: &Settings, arguments: &Arguments) -> Result<Lesson, Ended> {
    let style = super::style();
    let format = arguments.printing.format;
    let live = format == Format::Table;
    if live {
        print(&lesson::before(topic, settings, style)).map_err(Ended::Stdout)?;
    }
    let mut shown = Ok(());
    let lesson = topic.explain(registry, settings, &mut |step| {
        if live && shown.is_ok() {
            shown = print(&lesson::step(step, style));
            if arguments.pause {
                // At the end of stdin it goes on by itself.
                let _ = io::stdin().lock().read_line(&mut String::new());
            }
            std::thread::sleep(arguments.pace.unwrap_or_default());
        }
    });
    let lesson = lesson.map_err(Ended::Experiment)?;
    shown.map_err(Ended::Stdout)?;
    let text = match format {
        Format::Json => serde_json::to_string(&lesson).expect("plain fields") + "\n",
        Format::Markdown => lesson::markdown(&lesson),
        _ => lesson::after(&lesson, style) + "\n",
    };
    print(&text).map_err(Ended::Stdout)?;
    Ok(lesson)
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn setting(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("as NAME=NUMBER, for example backlog=10")?;
    let value = value.parse().map_err(|error| format!("{name}: {error}"))?;
    Ok((name.to_owned(), value))
}
