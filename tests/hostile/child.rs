//! The child's end: a server, or a crowd of clients, in a process that does nothing else.
//!
//! The child is this program again, made to run the one test below. It is told what to be by the environment, asked
//! over its standard input, and ends when that closes: nothing survives a parent that is killed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use pollmark::server::Config;
use pollmark::usage;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::spoken::Spoken;

/// Set in a child, to its [`Role`].
pub(crate) const ROLE: &str = "POLLMARK_HOSTILE_ROLE";
/// Precedes what a child answers, among what the test harness prints.
pub(crate) const MARK: &str = "@@ ";

/// What a child is for.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) enum Role {
    /// Serves. Says where, then obeys: "stats", "log".
    Server { mechanism: String, spoken: Spoken, config: Box<Config> },
    /// Connects to `address` so many times, leaves each connection in another state, and says when that is done.
    Crowd { address: std::net::SocketAddr, connections: usize },
}

#[test]
#[ignore = "it is what the other tests run as their child"]
fn is_a_child() {
    let Ok(role) = std::env::var(ROLE) else {
        return println!("nothing to be: {ROLE} is set by the tests that need a child");
    };
    usage::raise_descriptor_limit();
    match serde_json::from_str(&role).expect("a role") {
        Role::Server { mechanism, spoken, config } => serve(&mechanism, spoken, *config),
        Role::Crowd { address, connections } => crowd(address, connections),
    }
}

fn answer(what: &impl serde::Serialize) {
    println!("{MARK}{}", serde_json::to_string(what).expect("serializable"));
}

fn serve(mechanism: &str, spoken: Spoken, config: Config) {
    tracing::subscriber::set_global_default(Counting).expect("there is no other");
    let registry = Registry::builtin();
    let mechanism = Mechanism::parse(&registry, mechanism).expect("the parent found it here");
    let server = spoken.bind(&mechanism, &registry, config).expect("a free port");
    let (address, control) = (server.addresses()[0].tcp().expect("TCP"), server.control());
    let running = std::thread::spawn(move || server.run());
    control.stats().expect("it runs"); // by now it has opened all it needs
    answer(&address);
    for line in std::io::stdin().lock().lines() {
        match line.expect("the parent writes text").as_str() {
            "stats" => answer(&control.stats().expect("it runs")),
            "log" => answer(&*said()),
            other => panic!("{other:?} is no order"),
        }
    }
    control.stop();
    answer(&running.join().expect("the server does not panic").expect("the server serves"));
}

fn crowd(address: std::net::SocketAddr, connections: usize) {
    let request = Spoken::Frame.request(7);
    let mut clients = Vec::with_capacity(connections);
    for number in 0..connections {
        let mut client = TcpStream::connect(address).expect("the server listens");
        client.set_nodelay(true).expect("TCP");
        match number % 5 {
            0 => {}
            // Half a request; an answer that is never read; more than one read of them; an end, half way.
            1 => client.write_all(&request[..request.len() / 2]).expect("sent"),
            2 => client.write_all(&request).expect("sent"),
            3 => client.write_all(&request.repeat(1_000)).expect("sent"),
            _ => {
                client.write_all(&request).expect("sent");
                client.shutdown(std::net::Shutdown::Write).expect("connected");
            }
        }
        clients.push(client);
    }
    answer(&clients.len());
    // Until the parent kills it, or is gone itself.
    let _ = std::io::stdin().lock().lines().count();
}

/// How often each thing was said, by its words alone.
pub(crate) type Log = BTreeMap<String, u64>;

fn said() -> std::sync::MutexGuard<'static, Log> {
    static SAID: Mutex<Log> = Mutex::new(BTreeMap::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what would be a line of the log of `pollmark serve --log`, and does not print it.
struct Counting;

/// Finds the words of an event among its fields.
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= &Level::DEBUG
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        *said().entry(words.0).or_default() += 1;
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
