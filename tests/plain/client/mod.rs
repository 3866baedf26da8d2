//! The client on every poller of this host.
//!
//! | what is asked | file |
//! |---|---|
//! | good servers | here |
//! | servers that cannot be connected to | `connecting.rs` |
//! | each timeout, by its name | `timeouts.rs` |
//! | servers that say the wrong thing, or at the wrong time | `hostile.rs` |
//! | servers of HTTP | `http.rs` |
//! | a kernel in bad weather | `faults.rs` |
//! | a world made of dice, and what holds in it | `world.rs` `property.rs` |

mod connecting;
mod faults;
mod hostile;
#[cfg(feature = "http")]
mod http;
mod property;
mod script;
mod timeouts;
mod world;

use std::net::SocketAddr;

use pollmark::backends::{Poller, Registry, conformance};
use pollmark::client::{Client, Error, Frames, Replies, Settings, Timeouts};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Frame, Resp};

use crate::suite::cases::config;
use crate::suite::{PATIENCE, Running};

type AnyPoller = Box<dyn Poller>;

/// Runs `case` with each poller of this host.
fn on_every_poller(case: impl Fn(&dyn Fn() -> AnyPoller)) {
    let registry = conformance::with_models(Registry::builtin());
    let mut ran = 0;
    for entry in registry.entries() {
        match entry.probe() {
            Err(why) => println!("{}: skipped: {why}", entry.name()),
            Ok(_) => {
                println!("{}", entry.name());
                case(&|| entry.open().expect("it was probed"));
                ran += 1;
            }
        }
    }
    assert!(ran >= 3, "poll, select and polling are everywhere, but only {ran} pollers ran");
}

/// One timeout as given; the others are never met.
fn only(set: impl Fn(&mut Timeouts)) -> Timeouts {
    let mut timeouts = Timeouts { checkout: PATIENCE, connect: PATIENCE, ..Timeouts::NONE };
    set(&mut timeouts);
    timeouts
}

fn settings(connections: usize, timeouts: Timeouts) -> Settings {
    Settings { connections, timeouts, ..Settings::default() }
}

fn client(poller: AnyPoller, address: SocketAddr, settings: Settings) -> Client<Frames, AnyPoller> {
    Client::over(poller, address.into(), Frames::default()).with_settings(settings)
}

fn patient() -> Timeouts {
    only(|timeouts| (timeouts.read, timeouts.write, timeouts.total) = (PATIENCE, PATIENCE, PATIENCE))
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    Frames::write(body, &mut request);
    request
}

/// A server of frames, answered by themselves.
fn mirror() -> Running {
    let registry = Registry::builtin();
    let mechanism = Mechanism::choose(&registry).expect("one is here");
    let server = mechanism.bind(&registry, config(), Frame::default()).expect("a free port");
    Running::start(server, None, PATIENCE)
}

/// Whether the kernel takes a part of what is larger than its buffers. Windows takes it whole, however large.
fn takes_parts(test: &str) -> bool {
    if cfg!(windows) {
        println!("skipped: {test}: a request of any size is taken at once here");
    }
    !cfg!(windows)
}

#[test]
fn a_connection_is_used_again_and_costs_no_change_of_registration() {
    on_every_poller(|open| {
        let server = mirror();
        let mut client = client(open(), server.tcp(), settings(4, patient()));
        assert_eq!(client.request(&frame(b"first")).map(Frames::body).expect("answered"), b"first");
        let before = client.stats();
        for number in 0..50_u32 {
            let request = frame(&number.to_be_bytes());
            assert_eq!(client.request(&request).expect("answered"), request);
        }
        let after = client.stats();
        assert_eq!((after.requests, after.answered, after.opened, after.reused), (51, 51, 1, 50));
        assert_eq!((after.open, after.in_use), (1, 0));
        assert_eq!((after.ledger - before.ledger).changes, 0, "once it is watched, it stays so");
        assert_eq!((after.bytes_out, after.bytes_in), (9 + 50 * 8, 9 + 50 * 8));
        drop(client);
        assert_eq!(server.stop().accepted, 1);
    });
}

#[test]
fn many_requests_share_the_connections_there_may_be_and_each_gets_its_own_answer() {
    on_every_poller(|open| {
        let server = mirror();
        let mut client = client(open(), server.tcp(), settings(4, patient()));
        let requests: Vec<Vec<u8>> =
            (0..300_u32).map(|number| frame(&number.to_be_bytes().repeat(1 + number as usize % 3_000))).collect();
        let mut answered = vec![0; requests.len()];
        let each = |number: usize, answer: Result<&[u8], Error>| {
            assert!(answer.expect("answered") == requests[number], "another's answer");
            answered[number] += 1;
        };
        client.request_all(&requests, each).expect("waits");
        assert!(answered.iter().all(|times| *times == 1), "{answered:?}");
        let stats = client.stats();
        assert!((1..=4).contains(&stats.opened), "{stats:?}");
        assert_eq!((stats.answered, stats.opened + stats.reused, stats.retried), (300, 300, 0));
        drop(client);
        assert!(server.stop().accepted <= 4);
    });
}

#[test]
fn large_messages_go_out_and_come_in_beyond_all_buffers() {
    on_every_poller(|open| {
        let server = mirror();
        let mut client = client(open(), server.tcp(), settings(2, patient()));
        let request = frame(&b"0123456789abcdef".repeat(30_000));
        client.request_all(&[&request; 6], |_, answer| assert!(answer.expect("answered") == request)).expect("waits");
        assert_eq!(client.stats().answered, 6);
    });
}

#[test]
fn redis_is_asked_with_the_same_client() {
    let registry = Registry::builtin();
    let mechanism = Mechanism::choose(&registry).expect("one is here");
    let server =
        Running::start(mechanism.bind(&registry, config(), Resp::default()).expect("a free port"), None, PATIENCE);
    let mut client = Client::open(server.tcp().into(), Replies).expect("a poller");
    let mut ask = |words: &[&[u8]]| {
        let mut request = Vec::new();
        Replies::write(words, &mut request);
        client.request(&request).expect("answered").to_vec()
    };
    assert_eq!(ask(&[b"SET", b"key", b"a\r\nb"]), b"+OK\r\n");
    assert_eq!(ask(&[b"GET", b"key"]), b"$4\r\na\r\nb\r\n");
    assert_eq!(ask(&[b"LPUSH", b"list", b"x", b"y"]), b":2\r\n");
    assert_eq!(ask(&[b"LRANGE", b"list", b"0", b"-1"]), b"*2\r\n$1\r\ny\r\n$1\r\nx\r\n");
    assert!(ask(&[b"NONE"]).starts_with(b"-ERR"));
}
