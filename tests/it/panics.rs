//! A protocol or a caller that panics: what ends by it, and what goes on. Where a panic ends the process, there is
//! nothing to ask.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use pollmark::backends::conformance;
use pollmark::backends::{Registry, Trigger, poll::Poll};
use pollmark::client::{Client, Frames, Settings, Timeouts};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Frame, Peer, Protocol};
use pollmark::server::{Group, IterativeServer, ReadinessServer, Server, Sharing, ThreadServer};

use crate::suite::cases::config;
use crate::suite::{Lost, PATIENCE, Running};

/// Panics when told to.
#[derive(Clone)]
struct Frail;

impl Protocol for Frail {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        assert!(input != b"panic", "as the test asked");
        cx.send_input(input.len());
        input.len()
    }
}

/// Tells the server to panic.
fn strike(server: &dyn Server) -> impl FnOnce() + use<> {
    let address = server.addresses()[0].tcp().expect("TCP");
    move || {
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(b"panic").expect("room");
    }
}

#[test]
fn a_panic_in_a_connections_thread_ends_that_connection_only() -> Result<(), Lost> {
    let server = Box::new(ThreadServer::bind(config(), Frail).expect("bound"));
    let server = Running::start(server, None, PATIENCE);
    let (mut frail, mut steady) = (server.connect(), server.connect());
    steady.exchange(b"here")?;
    frail.write(b"panic")?;
    assert_eq!(frail.read_byte_or_end(), None);
    steady.exchange(b"still here")?;
    server.until("it has left", |stats| stats.closed == 1)?;
    assert_eq!(server.stop().closed, 2);
    Ok(())
}

#[test]
fn a_panic_of_a_server_of_one_thread_ends_it_and_nobody_waits_for_an_answer() {
    let server = Box::new(IterativeServer::bind(config(), Frail).expect("bound"));
    let (strike, control) = (strike(&*server), server.control());
    let running = thread::spawn(move || server.run());
    strike();
    running.join().expect_err("as the test asked");
    assert_eq!(control.stats().expect_err("it is gone").kind(), ErrorKind::NotConnected);
}

#[test]
fn a_panic_of_one_thread_ends_the_others_and_goes_on() {
    let mut two = config();
    (two.threads, two.sharing) = (2, Sharing::Handout);
    let group =
        Group::bind(two, |config| Ok(Box::new(ReadinessServer::bind(config, Frail, Trigger::Level, Poll::open)?)));
    let group = Box::new(group.expect("a free port"));
    let strike = strike(&*group);
    let running = thread::spawn(move || group.run());
    strike();
    let panicked = running.join().expect_err("the panic of its thread");
    assert!(panicked.downcast_ref::<&str>().is_some_and(|why| why.contains("as the test asked")));
}

#[test]
fn a_client_is_none_the_worse_for_a_caller_who_panics() {
    let registry = conformance::with_models(Registry::builtin());
    let mut ran = 0;
    for entry in registry.entries() {
        if let Err(why) = entry.probe() {
            println!("{}: skipped: {why}", entry.name());
            continue;
        }
        println!("{}", entry.name());
        let poller = entry.open().expect("it was probed");
        let mechanism = Mechanism::choose(&registry).expect("one is here");
        let server = mechanism.bind(&registry, config(), Frame::default()).expect("a free port");
        let server = Running::start(server, None, PATIENCE);
        let timeouts = Timeouts { read: PATIENCE, write: PATIENCE, total: PATIENCE, ..Timeouts::NONE };
        let settings = Settings { connections: 2, timeouts, ..Settings::default() };
        let mut client = Client::over(poller, server.tcp().into(), Frames::default()).with_settings(settings);

        let frame = |body| {
            let mut request = Vec::new();
            Frames::write(body, &mut request);
            request
        };
        let requests = vec![frame(b"hello"); 8];
        let struck =
            catch_unwind(AssertUnwindSafe(|| client.request_all(&requests, |_, _| panic!("as the test asked"))));
        assert!(struck.is_err());
        assert_eq!(client.request(&frame(b"go on")).map(Frames::body).expect("answered"), b"go on");
        let mut answered = 0;
        client.request_all(&requests, |_, answer| answered += u32::from(answer.is_ok())).expect("waits");
        assert_eq!((answered, client.stats().in_use), (8, 0));
        ran += 1;
    }
    assert!(ran >= 3, "poll, select and polling are everywhere, but only {ran} pollers ran");
}
