//! Serving: whom a server keeps waiting, and for what: one at a time, one call in the loop, one request before another.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use pollmark_backends::Trigger;

use super::experiment::{CALL, Experiment, PATIENCE, again};
use super::{Knob, Topic};
use crate::mechanism::Mechanism;
use crate::protocol::{Context, Echo, Peer, Protocol};
#[cfg(completion)]
use crate::server::CompletionServer;
use crate::server::{Address, Config, Limits, ReadinessServer, Server, Stats, ThreadServer};

pub(super) const ONE_AT_A_TIME: Topic = Topic {
    name: "one-at-a-time",
    question: "A server takes one client, serves it to the end, and takes the next. What does the next one see?",
    prediction: "A connection, and nothing else: the kernel connects it and takes what it sends, and nobody reads that \
                 until the first client has gone, however idle that one is.",
    knobs: &[
        Knob {
            name: "threads",
            default: 0,
            range: (0, 1),
            meaning: "1: a thread for each client, and the second is answered",
        },
        Knob { name: "wait_ms", default: 200, range: (10, 5_000), meaning: "how long the second client waits, in ms" },
    ],
    read_on: &[
        "accept(2)",
        "`pollmark serve --backend iterative`",
        "Stevens, UNIX Network Programming, 1: iterative servers",
    ],
    run: |experiment| {
        let wait = Duration::from_millis(experiment.setting("wait_ms"));
        let mechanism = if experiment.setting("threads") == 1 { "threads" } else { "iterative" };
        let text = serve(experiment, mechanism, Limits::default(), |experiment, address| {
            let (mut first, _) = experiment.connect(address)?;
            let echoed = ask(experiment, &mut first, PATIENCE)?;
            experiment.claim("the first client is answered", true, echoed);
            let (mut second, local) = experiment.connect(address)?;
            let meanwhile = ask(experiment, &mut second, wait)?;
            experiment.claim("the second is answered while the first is idle", false, meanwhile);
            let mut kept = String::new();
            if experiment.shows_sockets() {
                let end = experiment.end("the second connection", address, local, |_| true)?;
                experiment.socket("the server's end of the second connection", &end);
                experiment.claim("bytes of it that nobody reads", 1, end.receive_queue);
                kept = format!(", and the kernel kept {} byte of it in a connection of no program", end.receive_queue);
            }
            experiment.close(first, "by the first client");
            let afterwards = meanwhile || answered(&mut second, PATIENCE)?;
            experiment.claim("the second is answered once the first has gone", true, afterwards);
            Ok(format!(
                "With the first client connected and idle, the second was {} within {} ms{kept}. When the first had \
                 closed, it was {}. A server of one client at a time is as fast as its idlest client allows, which is \
                 why there are threads, and loops.",
                if meanwhile { "answered" } else { "not answered" },
                wait.as_millis(),
                if afterwards { "answered" } else { "not answered" },
            ))
        })?;
        Ok(text.0)
    },
};

pub(super) const BLOCKING_CALL_IN_THE_LOOP: Topic = Topic {
    name: "blocking-call-in-the-loop",
    question: "One client of an event loop asks for something slow, and the loop waits for it. What do the others see?",
    prediction: "Nothing, all of them, until that call returns: a loop is one thread, and whatever it does for one it \
                 does instead of serving the rest. With a thread for each connection only that one waits.",
    knobs: &[
        Knob { name: "clients", default: 4, range: (1, 100), meaning: "how many others there are" },
        Knob { name: "hold_ms", default: 100, range: (10, 2_000), meaning: "how long the call lasts, in ms, at least" },
        Knob {
            name: "threads",
            default: 0,
            range: (0, 1),
            meaning: "1: a thread for each client, and the others are answered",
        },
    ],
    read_on: &["epoll(7)", "libuv: Don't block the event loop", "`pollmark explain thread-per-connection`"],
    run: |experiment| {
        let (clients, hold) = (experiment.size("clients"), Duration::from_millis(experiment.setting("hold_ms")));
        let threads = experiment.setting("threads") == 1;
        let mechanisms = if threads { vec!["threads".to_owned()] } else { loops(experiment) };
        let mut seen = Vec::new();
        let mut longest = Duration::ZERO;
        for mechanism in &mechanisms {
            let gate = Gate::default();
            let held = serve_gate(experiment, &gate, mechanism, |experiment, address| {
                hold_up(experiment, &gate, mechanism, address, (clients, hold))
            });
            // Whatever has happened, nobody is left in the call.
            gate.open();
            let (served, later, lasted) = held?.0;
            seen.push(format!("{mechanism} {served} and {later}"));
            longest = longest.max(lasted);
        }
        Ok(format!(
            "{} the call lasted {} ms at most, and of {clients} other clients so many were answered meanwhile, and in \
             all when it was over: {}. None of them had asked for anything slow. What may take long (a file, a name, \
             a lock, a query) belongs on a thread of its own, or is done in steps.",
            if threads { "With a thread for each" } else { "In one loop" },
            longest.as_millis(),
            seen.join(", "),
        ))
    },
};

/// One client is in the slow call while others ask: how many of them are answered meanwhile, and then; and how long it
/// lasted.
fn hold_up(
    experiment: &mut Experiment<'_>,
    gate: &Gate,
    mechanism: &str,
    address: SocketAddr,
    (clients, hold): (usize, Duration),
) -> io::Result<(usize, usize, Duration)> {
    let mut others = Vec::new();
    for _ in 0..clients {
        let mut other = TcpStream::connect_timeout(&address, PATIENCE)?;
        other.write_all(b"x")?;
        answered(&mut other, PATIENCE)?;
        others.push(other);
    }
    experiment.note(format!("{clients} clients are connected, and were answered once"));
    let mut slow = TcpStream::connect_timeout(&address, PATIENCE)?;
    slow.write_all(b"s")?;
    gate.entered()?;
    experiment.note("another asks for something slow, and the server is in the call");
    let began = Instant::now();
    for other in &mut others {
        other.write_all(b"x")?;
    }
    let mut served = 0;
    for other in &mut others {
        let left = hold.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        served += usize::from(answered(other, left)?);
    }
    let lasted = began.elapsed();
    experiment.claim(format!("{mechanism}: others answered while the call lasts"), 0, served);
    gate.open();
    let mut later = served;
    for other in &mut others {
        later += usize::from(later < clients && answered(other, PATIENCE)?);
    }
    experiment.note("the call returns");
    experiment.figure("it had lasted", format!("{} ms", lasted.as_millis()), "the clock");
    experiment.figure("others answered meanwhile", served, CALL);
    experiment.claim(format!("{mechanism}: others answered when it is over"), clients, later);
    Ok((served, later, lasted))
}

/// Every mechanism of this host by which one thread serves many, no variants.
fn loops(experiment: &Experiment<'_>) -> Vec<String> {
    let registry = experiment.registry;
    let all = Mechanism::all(registry).into_iter().filter(|one| one.is_common() && one.name() != "threads");
    all.filter(|one| one.probe(registry).is_ok()).map(|one| one.name().to_owned()).collect()
}

pub(super) const HEAD_OF_LINE: Topic = Topic {
    name: "head-of-line",
    question: "A client sends a slow request and a quick one. When is the quick one answered?",
    prediction: "On one connection, after the slow one: answers keep the order of the requests, and TCP that of the \
                 bytes. On a connection of its own, at once.",
    knobs: &[
        Knob {
            name: "own",
            default: 0,
            range: (0, 1),
            meaning: "1: the first attempt too has two connections, and is not held up",
        },
        Knob {
            name: "hold_ms",
            default: 100,
            range: (10, 2_000),
            meaning: "how long the slow request takes, in ms, at least",
        },
    ],
    read_on: &["RFC 9112, 9.3.2: Pipelining", "RFC 9114, 2: HTTP/3", "`pollmark compare --outstanding 1,4`"],
    run: |experiment| {
        let hold = Duration::from_millis(experiment.setting("hold_ms"));
        let attempt = |experiment: &mut Experiment<'_>, own: bool| {
            let gate = Gate::default();
            let done = serve_gate(experiment, &gate, "threads", |experiment, address| {
                let mut slow = TcpStream::connect_timeout(&address, PATIENCE)?;
                slow.write_all(b"s")?;
                gate.entered()?;
                let mut other = if own { Some(TcpStream::connect_timeout(&address, PATIENCE)?) } else { None };
                let quick = other.as_mut().unwrap_or(&mut slow);
                let began = Instant::now();
                quick.write_all(b"x")?;
                let before = answered(quick, if own { PATIENCE } else { hold })?;
                let waited = began.elapsed();
                gate.open();
                let where_it_went =
                    if own { "on a connection of its own" } else { "behind it, on the same connection" };
                experiment.note(format!("a slow request, and a quick one {where_it_went}"));
                experiment.figure("the quick one was answered while the slow one lasted", before, CALL);
                experiment.figure("after", format!("{} µs", waited.as_micros()), "the clock");
                let mut answers = vec![0; if own { 1 } else { 2 }];
                slow.set_read_timeout(Some(PATIENCE))?;
                slow.read_exact(&mut answers)?;
                Ok((before, String::from_utf8_lossy(&answers).into_owned()))
            });
            gate.open();
            done.map(|(seen, _)| seen)
        };
        let (shared, order) = attempt(experiment, experiment.setting("own") == 1)?;
        experiment.claim("answered before the slow one, on one connection", false, shared);
        experiment.claim("the answers on it, in order", "sx".to_owned(), order.clone());
        let (own, _) = attempt(experiment, true)?;
        experiment.claim("answered before the slow one, on its own", true, own);
        let said = |early: bool| if early { "before" } else { "after" };
        Ok(format!(
            "Behind a slow request the quick one was answered {} it, and the answers came as \"{order}\"; on a \
             connection of its own it was answered {} it. The server had a thread to spare each time: it is the order \
             of one stream that made it wait. Hence pools of several connections, and protocols that number their \
             requests.",
            said(shared),
            said(own),
        ))
    },
};

/// Echoes each byte; at an `s`, which stands for something slow, its thread first waits until the gate is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    entered: bool,
    open: bool,
}

impl Gate {
    fn wait(&self, what: &str, until: impl Fn(&GateState) -> bool) -> io::Result<()> {
        let state = self.0.0.lock().expect("nobody panics with it");
        let waited =
            self.0.1.wait_timeout_while(state, PATIENCE, |state| !until(state)).expect("nobody panics with it");
        match waited.1.timed_out() {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, format!("waited in vain for {what}"))),
            false => Ok(()),
        }
    }

    fn entered(&self) -> io::Result<()> {
        self.wait("the server to be in the slow call", |state| state.entered)
    }

    fn open(&self) {
        self.0.0.lock().expect("nobody panics with it").open = true;
        self.0.1.notify_all();
    }
}

impl Protocol for Gate {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, (): &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        if input.contains(&b's') {
            self.0.0.lock().expect("nobody panics with it").entered = true;
            self.0.1.notify_all();
            // If it is never opened, the experiment has failed, and says so.
            let _ = self.wait("the gate", |state| state.open);
        }
        cx.send(input);
        input.len()
    }
}

/// Runs a server of ours that echoes on this mechanism while `clients` are at work; what they come back with, and its
/// account.
pub(super) fn serve<T>(
    experiment: &mut Experiment<'_>,
    mechanism: &str,
    limits: Limits,
    clients: impl FnOnce(&mut Experiment<'_>, SocketAddr) -> io::Result<T>,
) -> io::Result<(T, Stats)> {
    let registry = experiment.registry;
    let invalid = |unknown| io::Error::new(io::ErrorKind::InvalidInput, unknown);
    let chosen = Mechanism::parse(registry, mechanism).map_err(invalid)?;
    let server = chosen.bind(registry, Config { limits, ..config() }, Echo)?;
    attend(experiment, mechanism, server, clients)
}

/// The same of the gate. What waits by a poller is compiled once for all of them.
fn serve_gate<T>(
    experiment: &mut Experiment<'_>,
    gate: &Gate,
    mechanism: &str,
    clients: impl FnOnce(&mut Experiment<'_>, SocketAddr) -> io::Result<T>,
) -> io::Result<(T, Stats)> {
    let server: Box<dyn Server> = match mechanism {
        "threads" => return attend_threads(experiment, gate.clone(), clients),
        #[cfg(completion)]
        "completion" => Box::new(CompletionServer::bind(config(), gate.clone())?),
        name => {
            let invalid = |unknown| io::Error::new(io::ErrorKind::InvalidInput, unknown);
            let entry = experiment.registry.get(name).map_err(invalid)?.clone();
            Box::new(ReadinessServer::bind(config(), gate.clone(), Trigger::Level, move || entry.open())?)
        }
    };
    attend(experiment, mechanism, server, clients)
}

/// The same of any protocol, with a thread for each connection.
pub(super) fn attend_threads<T>(
    experiment: &mut Experiment<'_>,
    protocol: impl Protocol,
    clients: impl FnOnce(&mut Experiment<'_>, SocketAddr) -> io::Result<T>,
) -> io::Result<(T, Stats)> {
    attend(experiment, "threads", Box::new(ThreadServer::bind(config(), protocol)?), clients)
}

fn config() -> Config {
    Config::listen(Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
}

fn attend<T>(
    experiment: &mut Experiment<'_>,
    mechanism: &str,
    server: Box<dyn Server>,
    clients: impl FnOnce(&mut Experiment<'_>, SocketAddr) -> io::Result<T>,
) -> io::Result<(T, Stats)> {
    let address = server.addresses()[0].tcp().ok_or_else(|| io::Error::other("a server of TCP has such an address"))?;
    let control = server.control();
    experiment.note(format!("a server on {mechanism} at {address}"));
    let running = std::thread::spawn(move || server.run());
    let seen = clients(experiment, address);
    control.stop();
    let stats = running.join().map_err(|_| io::Error::other("the server has panicked"))??;
    Ok((seen?, stats))
}

/// Sends a byte, and says whether an answer comes in time.
pub(super) fn ask(experiment: &mut Experiment<'_>, client: &mut TcpStream, within: Duration) -> io::Result<bool> {
    experiment.send(client, b"x")?;
    let mut came = false;
    experiment.call(
        format!("recv, {} ms at most", within.as_millis()),
        || {
            came = answered(client, within)?;
            Ok(())
        },
        |()| String::new(),
    )?;
    experiment.figure("an answer", if came { "came" } else { "did not come" }, CALL);
    Ok(came)
}

pub(super) fn answered(client: &mut TcpStream, within: Duration) -> io::Result<bool> {
    client.set_read_timeout(Some(within))?;
    match again(|| client.read(&mut [0])) {
        Ok(count) => Ok(count == 1),
        // By another name on Windows.
        Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => Ok(false),
        Err(error) => Err(error),
    }
}
