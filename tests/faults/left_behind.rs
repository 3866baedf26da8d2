//! A stopped server leaves no thread behind, however many there were and whatever they were asleep in.

use std::time::{Duration, Instant};

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Peer, Protocol};

use crate::descriptors::{alone, without_a_leak};
use crate::suite::cases::{config, pattern};
use crate::suite::{Client, Lost, PATIENCE, Running};

/// Of each kind.
const SLEEPERS: usize = 60;

/// Keeps its thread asleep as its first byte asks: in recv, in send, or after a half-close.
#[derive(Clone)]
struct Sleepy;

impl Protocol for Sleepy {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        match input {
            b"send" => cx.send(pattern(4 * 1024 * 1024)),
            _ => cx.send(b"!"),
        }
        input.len()
    }

    fn eof(&mut self, _: &mut (), cx: &mut Context<'_>) {
        cx.send(b"?");
        cx.deadline(Some(100 * PATIENCE));
    }
}

/// The threads of this process that serve connections or answer for a server.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    // One that has just ended has no name any more.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name == "connection" || name == "control").collect()
}

fn until(what: &str, satisfied: impl Fn(&[String]) -> bool) {
    let began = Instant::now();
    while !satisfied(&threads()) {
        assert!(began.elapsed() < PATIENCE, "never came to this: {what}: {:?}", threads());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client of each of these kinds, so far that the server sleeps.
fn put_to_sleep<'a>(server: &Running, kinds: impl IntoIterator<Item = &'a str>) -> Vec<Client> {
    let serve = |kind: &str| {
        let mut client = server.connect();
        client.write(kind.as_bytes())?;
        // Of what is sent without end, the rest is never taken.
        client.read(&mut [0])?;
        if kind == "rest" {
            client.shut_down()?;
            client.read(&mut [0])?;
        }
        Ok(client)
    };
    kinds
        .into_iter()
        .map(|kind| serve(kind).unwrap_or_else(|lost: Lost| panic!("nothing kills here: {lost:?}")))
        .collect()
}

#[test]
fn a_stopped_server_leaves_no_thread_behind() {
    const KINDS: [&str; 3] = ["recv", "send", "rest"];
    let _turn = alone();
    let registry = Registry::builtin();
    for mechanism in Mechanism::all(&registry).into_iter().filter(|one| one.abilities().blocking) {
        let sleepers: Vec<Vec<&str>> = match mechanism.abilities().concurrent {
            true => vec![KINDS.repeat(SLEEPERS)],
            false => KINDS.map(|kind| vec![kind]).to_vec(),
        };
        for kinds in sleepers {
            println!("{mechanism}: {} asleep in {:?}", kinds.len(), &kinds[..kinds.len().min(3)]);
            without_a_leak(mechanism.name(), || {
                let mut small = config();
                small.send_buffer = Some(16 * 1024);
                let server = mechanism.bind(&registry, small, Sleepy).expect("a free port");
                let server = Running::start(server, None, PATIENCE);
                let clients = put_to_sleep(&server, kinds);
                let least = if mechanism.abilities().concurrent { clients.len() } else { 0 };
                until("a thread each, and one that answers", |threads| threads.len() > least);
                assert_eq!(server.stop().closed, clients.len() as u64);
            });
            // What has left may take a moment to be gone.
            until("none is left behind", <[String]>::is_empty);
        }
    }
}
