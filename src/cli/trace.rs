//! `serve --trace`: what a server does, told as a story of each connection, as lines of JSON, or as a file for the viewers
//! of Chrome and Perfetto.
//!
//! A server that is traced tells `tracing`; here its events are put in order. Connections are numbered as they come, in all
//! threads together.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::server::Trace;

/// How a trace is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(super) enum Form {
    /// A line for each thing that happens, in words.
    Story,
    /// A line of JSON for each.
    Json,
    /// A file for ui.perfetto.dev and chrome://tracing: a track for each connection, and one for each thread with its waits.
    Perfetto,
}

/// Puts a server's events in order, and writes them.
pub(super) struct Tracer(Mutex<Account>);

/// What was told until now, and where it goes.
struct Account {
    began: Instant,
    form: Form,
    out: Box<dyn Write + Send>,
    /// Each loop numbers its connections by itself.
    open: HashMap<(ThreadId, String), Connection>,
    connections: u64,
    threads: HashMap<ThreadId, Thread>,
    /// Nothing can be written any more, and that was said.
    is_broken: bool,
}

struct Connection {
    number: u64,
    since: Duration,
    bytes_in: u64,
    bytes_out: u64,
    waits_for_room: bool,
}

struct Thread {
    number: usize,
    /// When it began to wait.
    waits_since: Option<Duration>,
}

/// One thing that has happened, as `tracing` was told it.
#[derive(Default)]
struct Told {
    what: String,
    connection: String,
    peer: String,
    expiry: String,
    bytes: u64,
    offered: u64,
    events: u64,
}

impl Tracer {
    /// Writes to the file, or to stderr.
    pub(super) fn open(form: Form, path: Option<&Path>) -> io::Result<Tracer> {
        let out: Box<dyn Write + Send> = match path {
            Some(path) => Box::new(BufWriter::new(File::create(path)?)),
            None => Box::new(io::stderr()),
        };
        let mut account = Account::new(form, out);
        account.begin()?;
        Ok(Tracer(Mutex::new(account)))
    }
}

impl<S: Subscriber> Layer<S> for Tracer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != Trace::TARGET {
            return;
        }
        let mut told = Told::default();
        event.record(&mut told);
        let mut account = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = account.began.elapsed();
        let thread = thread::current();
        account.hear(at, thread.id(), thread.name().unwrap_or("thread"), told);
    }
}

impl Visit for Told {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "bytes" => self.bytes = value,
            "offered" => self.offered = value,
            "events" => self.events = value,
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = match field.name() {
            "message" => &mut self.what,
            "connection" => &mut self.connection,
            "peer" => &mut self.peer,
            "expiry" => &mut self.expiry,
            _ => return,
        };
        *text = format!("{value:?}");
    }
}

impl Account {
    fn new(form: Form, out: Box<dyn Write + Send>) -> Account {
        Account {
            began: Instant::now(),
            form,
            out,
            open: HashMap::new(),
            connections: 0,
            threads: HashMap::new(),
            is_broken: false,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.form == Form::Perfetto {
            // An array of events, of which the end may be missing: so it can be read whenever the server ends, and however.
            writeln!(self.out, "[")?;
            self.track(CONNECTIONS, None, "connections")?;
            self.track(THREADS, None, "threads")?;
        }
        Ok(())
    }

    fn hear(&mut self, at: Duration, thread: ThreadId, name: &str, told: Told) {
        let wrote = self.tell(at, thread, name, &told).and_then(|()| self.out.flush());
        if let Err(error) = wrote
            && !std::mem::replace(&mut self.is_broken, true)
        {
            eprintln!("pollmark: the trace ends here, it cannot be written any more: {error}");
        }
    }

    fn tell(&mut self, at: Duration, thread: ThreadId, name: &str, told: &Told) -> io::Result<()> {
        if told.connection.is_empty() {
            return self.tell_of_thread(at, thread, name, told);
        }
        let key = (thread, told.connection.clone());
        if told.what == "accepted" {
            self.connections += 1;
            let number = self.connections;
            let connection = Connection { number, since: at, bytes_in: 0, bytes_out: 0, waits_for_room: false };
            self.open.insert(key.clone(), connection);
        }
        // Of a connection that was open before anybody listened nothing is told.
        let Some(connection) = self.open.get_mut(&key) else { return Ok(()) };
        let words = connection.words(at, told);
        let number = connection.number;
        match self.form {
            Form::Story => writeln!(self.out, "{} #{number} {words}", Seconds(at))?,
            Form::Json => {
                let mut line = json!({
                    "at_us": at.as_micros() as u64, "thread": name, "connection": number, "event": told.what,
                });
                told.add_to(&mut line);
                writeln!(self.out, "{line}")?;
            }
            Form::Perfetto => {
                let slice = json!({ "pid": CONNECTIONS, "tid": number, "ts": micros(at) });
                match told.what.as_str() {
                    "accepted" => {
                        self.track(CONNECTIONS, Some(number), &format!("#{number} {}", told.peer))?;
                        self.event(&slice, "B", "open", told)?;
                    }
                    "closed" => self.event(&slice, "E", "open", told)?,
                    _ => self.event(&slice, "i", &words, told)?,
                }
            }
        }
        if told.what == "closed" {
            self.open.remove(&key);
        }
        Ok(())
    }

    /// A thread's waits. Those of a thread that has but one connection are that connection's.
    fn tell_of_thread(&mut self, at: Duration, id: ThreadId, name: &str, told: &Told) -> io::Result<()> {
        let known = self.threads.len() + 1;
        let is_new = !self.threads.contains_key(&id);
        let thread = self.threads.entry(id).or_insert(Thread { number: known, waits_since: None });
        let number = thread.number;
        if told.what == "waiting" {
            thread.waits_since = Some(at);
        }
        let since = if told.what == "waited" { thread.waits_since.take() } else { None };
        if is_new && self.form == Form::Perfetto {
            self.track(THREADS, Some(number as u64), name)?;
        }
        let Some(since) = since else { return Ok(()) };
        let during = at.saturating_sub(since);
        match self.form {
            Form::Story if told.events == 0 => Ok(()),
            Form::Story => {
                let events = if told.events == 1 { "event" } else { "events" };
                writeln!(self.out, "{} {name} waited {}: {} {events}", Seconds(at), Short(during), told.events)
            }
            Form::Json => {
                let line = json!({
                    "at_us": at.as_micros() as u64, "thread": name, "event": "waited",
                    "during_us": during.as_micros() as u64, "events": told.events,
                });
                writeln!(self.out, "{line}")
            }
            Form::Perfetto => {
                let slice = json!({
                    "pid": THREADS, "tid": number, "ts": micros(since), "dur": micros(during),
                });
                self.event(&slice, "X", "wait", told)
            }
        }
    }

    /// One event of a trace: its place, its phase, its name, and what is known of it.
    fn event(&mut self, place: &Value, phase: &str, name: &str, told: &Told) -> io::Result<()> {
        let mut event = place.clone();
        (event["ph"], event["name"]) = (phase.into(), name.into());
        if phase == "i" {
            event["s"] = "t".into(); // an instant of its track
        }
        let mut known = json!({});
        told.add_to(&mut known);
        event["args"] = known;
        writeln!(self.out, "{event},")
    }

    /// Names a track, or a group of them.
    fn track(&mut self, group: u32, track: Option<u64>, name: &str) -> io::Result<()> {
        let mut event = json!({ "ph": "M", "pid": group, "args": { "name": name } });
        event["name"] = if track.is_some() { "thread_name" } else { "process_name" }.into();
        if let Some(track) = track {
            event["tid"] = track.into();
        }
        writeln!(self.out, "{event},")
    }
}

// Groups of tracks.
const CONNECTIONS: u32 = 1;
const THREADS: u32 = 2;

impl Connection {
    /// What has happened to it, in words.
    fn words(&mut self, at: Duration, told: &Told) -> String {
        let Told { bytes, offered, .. } = *told;
        match told.what.as_str() {
            "accepted" => format!("accepted, from {}", told.peer),
            "read" if bytes == 0 => "the peer will say no more".to_owned(),
            "read" => {
                self.bytes_in += bytes;
                format!("read {bytes} B")
            }
            "wrote" => {
                self.bytes_out += bytes;
                let waited = std::mem::replace(&mut self.waits_for_room, bytes < offered);
                match (waited, bytes < offered) {
                    (_, true) => format!("wrote {bytes} of {offered} B, waits for room"),
                    (true, false) => format!("wrote {bytes} B, and owes nothing any more"),
                    (false, false) => format!("wrote {bytes} B"),
                }
            }
            "expired" => format!("met its {} deadline", told.expiry),
            "closed" => {
                let Connection { bytes_in, bytes_out, .. } = *self;
                let open = Short(at.saturating_sub(self.since));
                format!("closed after {open}: {bytes_in} B in, {bytes_out} B out")
            }
            other => other.to_owned(),
        }
    }
}

impl Told {
    /// Adds what was told to a JSON object.
    fn add_to(&self, object: &mut Value) {
        match self.what.as_str() {
            "accepted" => object["peer"] = self.peer.as_str().into(),
            "expired" => object["deadline"] = self.expiry.as_str().into(),
            "read" => object["bytes"] = self.bytes.into(),
            "wrote" => (object["bytes"], object["offered"]) = (self.bytes.into(), self.offered.into()),
            "waited" => object["events"] = self.events.into(),
            _ => {}
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

/// Since the server began.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6}", self.0.as_secs_f64())
    }
}

/// How long something took.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_micros() {
            few @ ..1_000 => write!(f, "{few} µs"),
            some @ ..1_000_000 => write!(f, "{:.1} ms", some as f64 / 1e3),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}
