//! Accept policies: how many newcomers come before a connection that is already there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pollmark::backends::{Registry, conformance};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Peer, Protocol};
use pollmark::server::{AcceptPolicy, Server};

use crate::suite::cases::config;
use crate::suite::{PATIENCE, Running};

/// Newcomers in the listen queue.
const BURST: usize = 60;

/// Answers with how many connections there have been until now.
#[derive(Clone, Default)]
struct Census(Arc<AtomicUsize>);

impl Protocol for Census {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.send(&[self.0.load(Ordering::Relaxed) as u8]);
        input.len()
    }
}

/// A socket for a server to adopt, with a request in it that nobody has read, and its other end.
fn asking() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(b"how many?").expect("room for a request");
    (listener.accept().expect("queued").0, client)
}

/// How many newcomers were let in before somebody who had asked already was answered. Everything is there before the
/// server begins, so that it does not depend on who is faster.
fn let_in_before(server: Box<dyn Server>) -> usize {
    let (served, mut client) = asking();
    server.control().adopt(served.into());
    let address = server.addresses()[0].tcp().expect("TCP");
    let newcomers: Vec<_> = (0..BURST).map(|_| TcpStream::connect(address).expect("it listens")).collect();

    let running = Running::start(server, None, PATIENCE);
    let mut answer = [0];
    client.read_exact(&mut answer).expect("an answer");
    running.settled("all are let in at last", |stats| stats.accepted == 1 + BURST as u64);
    drop(newcomers);
    usize::from(answer[0]) - 1
}

#[test]
fn who_is_there_is_served_between_newcomers_as_the_policy_says() {
    let registry = conformance::with_models(Registry::builtin());
    let mut ran = 0;
    for mechanism in Mechanism::all(&registry) {
        if let Err(why) = mechanism.probe(&registry) {
            println!("{mechanism}: skipped: {why}");
            continue;
        }
        if mechanism.abilities().blocking {
            println!("{mechanism}: skipped: it serves on other threads than it accepts on, or nobody meanwhile");
            continue;
        }
        // One accept turn, or two, come before the request is seen at all.
        for (policy, least, most) in [
            (AcceptPolicy::One, 0, 4),
            (AcceptPolicy::Drain(8), 0, 32),
            // The whole burst at once: so the figures above are the policy's.
            (AcceptPolicy::Drain(64), BURST, BURST),
        ] {
            if let Err(why) = mechanism.abilities().accept_by(Some(policy)) {
                println!("{mechanism}, {policy}: skipped: {why}");
                continue;
            }
            let mut config = config();
            config.accept = Some(policy);
            let server = mechanism.bind(&registry, config, Census::default()).expect("a free port");
            let before = let_in_before(server);
            println!("{mechanism}, {policy}: {before} newcomers first");
            assert!((least..=most).contains(&before), "{mechanism}, {policy}: {before} newcomers came first");
            ran += 1;
        }
    }
    assert!(ran >= 6, "poll and select are everywhere, but only {ran} cells ran");
}
