//! One suite, every mechanism: a case is written once and runs on all that this host has.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pollmark::backends::{OwnedSource, Registry, Source, Token, Trigger, poll::Poll};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Echo, Peer, Protocol};
use pollmark::server::{Config, Control, Kernel, Net, ReadinessServer, Server, Stats, ThreadServer};

/// Longer than anything here takes; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a thread of its own, stopped when the test is done with it.
struct Running {
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    control: Control,
    thread: Option<JoinHandle<io::Result<Stats>>>,
}

impl Running {
    fn start(server: Box<dyn Server>) -> Running {
        let addresses = server.addresses().iter().map(|address| address.tcp().expect("TCP")).collect::<Vec<_>>();
        let control = server.control();
        let thread = Some(std::thread::spawn(move || server.run()));
        Running { address: addresses[0], addresses, control, thread }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("the server listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }

    fn stop(mut self) -> Stats {
        self.control.stop();
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("the server does not panic").expect("the server serves")
    }

    /// Waits until the server's own account satisfies `what`.
    fn until(&self, what: &str, satisfied: impl Fn(&Stats) -> bool) -> Stats {
        let began = Instant::now();
        loop {
            let stats = self.control.stats().expect("the server runs");
            if satisfied(&stats) {
                return stats;
            }
            assert!(began.elapsed() < PATIENCE, "never came to this: {what}; {stats:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.stop();
    }
}

fn config() -> Config {
    Config::listen("127.0.0.1:0".parse().expect("an address"))
}

/// Runs `case` on every mechanism of this host, and says which are not here.
fn on_every_mechanism(case: impl Fn(&dyn Fn(Config) -> Running)) {
    on_every_mechanism_with(Echo, case);
}

fn on_every_mechanism_with<P: Protocol>(protocol: P, case: impl Fn(&dyn Fn(Config) -> Running)) {
    let registry = Registry::builtin();
    let mut ran = 0;
    for mechanism in Mechanism::all(&registry) {
        match mechanism.probe(&registry) {
            Err(why) => println!("{mechanism}: skipped: {why}"),
            Ok(_) => {
                println!("{mechanism}");
                case(&|config| {
                    Running::start(mechanism.bind(&registry, config, protocol.clone()).expect("a free port"))
                });
                ran += 1;
            }
        }
    }
    assert!(ran >= 3, "poll, select and threads are everywhere, but only {ran} mechanisms ran");
}

/// Bytes that tell their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

fn exchange(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).expect("the server reads");
    let mut echoed = vec![0; bytes.len()];
    client.read_exact(&mut echoed).expect("the server answers");
    assert!(echoed == bytes, "the echo differs");
}

#[test]
fn bytes_come_back_exactly_however_they_are_split() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        let mut client = server.connect();
        let text = pattern(20_000);
        for size in [1, 7, 64, 4_096, 20_000] {
            for piece in text.chunks(size).take(50) {
                exchange(&mut client, piece);
            }
        }
        drop(client);
        let stats = server.until("the connection is closed", |stats| stats.closed == 1);
        assert_eq!((stats.accepted, stats.open), (1, 0));
        assert_eq!(stats.bytes_in, stats.bytes_out);
    });
}

#[test]
fn more_than_all_buffers_hold_comes_back_whole() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        let mut client = server.connect();
        let text = Arc::new(pattern(8 * 1024 * 1024));
        let mut writer = client.try_clone().expect("a second handle");
        let sent = Arc::clone(&text);
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).expect("the server reads on");
            writer.shutdown(Shutdown::Write).expect("a half-close");
        });
        let mut echoed = Vec::new();
        client.read_to_end(&mut echoed).expect("the server answers, then closes");
        writing.join().expect("written");
        assert!(echoed == *text, "{} bytes came back of {}", echoed.len(), text.len());
    });
}

#[test]
fn a_half_closed_peer_is_answered_in_full_and_then_closed() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        // Data and FIN are there before the server first looks: an edge may be told of both by one event.
        for _ in 0..20 {
            let mut client = server.connect();
            client.write_all(b"last words").expect("written");
            client.shutdown(Shutdown::Write).expect("a half-close");
            let mut echoed = String::new();
            client.read_to_string(&mut echoed).expect("answered, then closed");
            assert_eq!(echoed, "last words");
        }
        server.until("all are closed", |stats| stats.closed == 20);
    });
}

#[test]
fn a_peer_that_never_reads_is_not_read_from_without_end_and_hurts_nobody() {
    on_every_mechanism(|serve| {
        let mut small = config();
        (small.high_water, small.low_water) = (64 * 1024, 16 * 1024);
        let server = serve(small);
        let mut greedy = server.connect();
        greedy.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let block = pattern(64 * 1024);
        let mut written = 0;
        // Ends when every buffer on the way is full: the server has stopped reading.
        let stopped = loop {
            assert!(written < 256 * 1024 * 1024, "the server reads without end");
            match greedy.write(&block) {
                Ok(bytes) => written += bytes,
                Err(error) => break error.kind(),
            }
        };
        assert!(matches!(stopped, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stopped}");
        exchange(&mut server.connect(), b"others do not notice");
        let before = server.control.stats().expect("running");
        std::thread::sleep(Duration::from_millis(50));
        let idle = server.control.stats().expect("running") - before;
        assert!(idle.ledger.waits <= 8, "spins while nothing can be done: {idle:?}");
    });
}

#[test]
fn a_paused_reader_is_resumed_when_its_peer_reads() {
    on_every_mechanism(|serve| {
        let mut small = config();
        (small.high_water, small.low_water, small.send_buffer) = (8 * 1024, 1024, Some(4 * 1024));
        let server = serve(small);
        let mut client = server.connect();
        let text = pattern(3 * 1024 * 1024);
        let mut writer = client.try_clone().expect("a second handle");
        let sent = text.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        let mut echoed = vec![0; text.len()];
        for piece in echoed.chunks_mut(100_000) {
            std::thread::sleep(Duration::from_millis(1));
            client.read_exact(piece).expect("the server goes on");
        }
        writing.join().expect("no panic").expect("all written");
        assert!(echoed == text, "the echo differs");
    });
}

#[test]
fn resets_and_vanishing_peers_end_their_own_connection_only() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        let mut steady = server.connect();
        for round in 0..30 {
            let mut client = server.connect();
            if round % 2 == 0 {
                client.write_all(&pattern(1_000)).expect("written");
            }
            if round % 3 == 0 {
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a reset on close");
            }
            drop(client);
            exchange(&mut steady, b"still here");
        }
        let stats = server.until("they are gone", |stats| stats.closed == 30);
        assert_eq!((stats.accepted, stats.open), (31, 1));
    });
}

#[test]
fn many_connections_are_served_at_once() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        let mut clients = (0..300).map(|_| server.connect()).collect::<Vec<_>>();
        for round in 0..3u8 {
            for (at, client) in clients.iter_mut().enumerate() {
                client.write_all(&[round, at as u8, (at >> 8) as u8]).expect("written");
            }
            for (at, client) in clients.iter_mut().enumerate() {
                let mut echoed = [0; 3];
                client.read_exact(&mut echoed).expect("answered");
                assert_eq!(echoed, [round, at as u8, (at >> 8) as u8]);
            }
        }
        assert_eq!(server.control.stats().expect("running").open, 300);
        let stats = server.stop();
        assert_eq!((stats.accepted, stats.closed, stats.open), (300, 300, 0));
        for mut client in clients {
            let mut rest = Vec::new();
            let ended = client.read_to_end(&mut rest);
            assert!(rest.is_empty() && ended.map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |n| n == 0));
        }
    });
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once_and_the_others_kept() {
    on_every_mechanism(|serve| {
        let mut limited = config();
        limited.max_connections = Some(5);
        let server = serve(limited);
        let mut kept = (0..5).map(|_| server.connect()).collect::<Vec<_>>();
        kept.iter_mut().for_each(|client| exchange(client, b"in"));
        for _ in 0..3 {
            let ended = server.connect().read(&mut [0]);
            assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
        }
        kept.iter_mut().for_each(|client| exchange(client, b"still in"));
        let stats = server.until("three were refused", |stats| stats.refused == 3);
        assert_eq!((stats.open, stats.accepted), (5, 5));
        drop(kept.pop());
        server.until("one has gone", |stats| stats.open == 4);
        exchange(&mut server.connect(), b"room again");
    });
}

#[test]
fn one_server_listens_on_several_addresses_and_on_ipv6() {
    on_every_mechanism(|serve| {
        let mut several = config();
        several.addresses.push("127.0.0.1:0".parse().expect("an address"));
        match std::net::TcpListener::bind("[::1]:0") {
            Ok(_) => several.addresses.push("[::1]:0".parse().expect("an address")),
            Err(error) => println!("without IPv6: {error}"),
        }
        let server = serve(several);
        for address in &server.addresses {
            let mut client = TcpStream::connect(address).expect("listening");
            client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            exchange(&mut client, b"here");
        }
    });
}

#[test]
fn a_socket_made_elsewhere_is_served_like_an_accepted_one() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        server.control.adopt(OwnedSource::from(listener.accept().expect("queued").0));
        exchange(&mut client, b"adopted");
    });
}

#[test]
fn a_socket_made_elsewhere_counts_against_the_limit() {
    on_every_mechanism(|serve| {
        let mut limited = config();
        limited.max_connections = Some(1);
        let server = serve(limited);
        let mut kept = server.connect();
        exchange(&mut kept, b"in");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        server.control.adopt(OwnedSource::from(listener.accept().expect("queued").0));
        assert_eq!(client.read(&mut [0]).expect("closed in order"), 0);
        exchange(&mut kept, b"still in");
        assert_eq!(server.stop().refused, 1);
    });
}

#[test]
fn a_stopped_server_answers_no_more_questions_and_nobody_waits_for_ever() {
    on_every_mechanism(|serve| {
        let server = serve(config());
        let control = server.control.clone();
        server.stop();
        assert_eq!(control.stats().expect_err("stopped").kind(), ErrorKind::NotConnected);
        control.stop();
    });
}

/// Greets, passes lines on to the one before, says "late" after a quiet while, and hangs up or aborts when told.
#[derive(Clone, Default)]
struct Talkative {
    before: Option<Token>,
}

const QUIET: Duration = Duration::from_millis(60);

impl Protocol for Talkative {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.send(b"hello\n");
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return 0 };
        match &input[..end] {
            b"wait" => cx.deadline(Some(QUIET)),
            b"never mind" => cx.deadline(None),
            b"bye" => {
                cx.send(b"bye\n");
                cx.close_when_flushed();
            }
            b"abort" => cx.abort(),
            b"name" => self.before = Some(cx.connection()),
            line => {
                if let Some(before) = self.before {
                    cx.send_to(before, Arc::from([line, b"\n"].concat()));
                }
            }
        }
        end + 1
    }

    fn due(&mut self, _: &mut (), cx: &mut Context<'_>) {
        cx.send(b"late\n");
        cx.close_when_flushed();
    }
}

fn line(client: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while client.read(&mut byte).expect("a line, or the end") == 1 && byte[0] != b'\n' {
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_protocol_may_speak_first_wait_close_and_abort() {
    on_every_mechanism_with(Talkative::default(), |serve| {
        let server = serve(config());
        let mut client = server.connect();
        assert_eq!(line(&mut client), "hello");
        client.write_all(b"by").expect("written");
        client.write_all(b"e\n").expect("written");
        assert_eq!((line(&mut client), line(&mut client)), ("bye".into(), String::new()));

        let mut client = server.connect();
        line(&mut client);
        let began = Instant::now();
        client.write_all(b"wait\n").expect("written");
        assert_eq!(line(&mut client), "late");
        assert!(began.elapsed() >= QUIET, "the deadline came early: {:?}", began.elapsed());

        let mut client = server.connect();
        line(&mut client);
        client.write_all(b"abort\n").expect("written");
        assert_eq!(client.read(&mut [0]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
        server.until("all have gone", |stats| stats.closed == 3);
    });
}

#[test]
fn what_one_connection_sends_to_another_arrives_without_its_asking() {
    // One clone of the protocol per thread: with threads each connection has its own, and knows no other.
    let registry = Registry::builtin();
    for mechanism in Mechanism::all(&registry).into_iter().filter(|one| one.trigger().is_some()) {
        let Ok(_) = mechanism.probe(&registry) else { continue };
        println!("{mechanism}");
        let server = mechanism.bind(&registry, config(), Talkative::default()).expect("a free port");
        let server = Running::start(server);
        let (mut listener, mut speaker) = (server.connect(), server.connect());
        line(&mut listener);
        line(&mut speaker);
        listener.write_all(b"name\nwait\nnever mind\n").expect("written");
        server.until("the name is taken", |stats| stats.bytes_in == 21);
        // One line is consumed per call; each further byte makes the protocol look again.
        listener.write_all(b"\n\n").expect("written");
        speaker.write_all(b"psst\n").expect("written");
        assert!(["", "psst"].contains(&line(&mut listener).as_str()));
    }
}

/// Fails as told, then works: EMFILE for a while, an aborted connection, interrupted and short calls throughout.
#[derive(Clone)]
struct Faulty(Arc<AtomicU32>);

#[cfg(unix)]
impl Net for Faulty {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Err(rustix::io::Errno::CONNABORTED.into()),
            1 => Err(rustix::io::Errno::INTR.into()),
            2..=5 => Err(rustix::io::Errno::MFILE.into()),
            6 => Err(rustix::io::Errno::NFILE.into()),
            7 => Err(rustix::io::Errno::NOBUFS.into()),
            _ => Kernel.accept(listener, nonblocking),
        }
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => Err(ErrorKind::Interrupted.into()),
            _ => Kernel.recv(source, buffer),
        }
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Err(ErrorKind::Interrupted.into()),
            _ => Kernel.send(source, &bytes[..bytes.len().div_ceil(2)]),
        }
    }
}

#[test]
#[cfg(unix)]
fn failing_accepts_and_short_calls_lose_nothing_and_do_not_spin() {
    let faulty = || Faulty(Arc::new(AtomicU32::new(0)));
    let readiness = ReadinessServer::bind(config(), Echo, Trigger::Level, Poll::open).expect("bound");
    let threads = ThreadServer::bind(config(), Echo).expect("bound");
    let servers: [Box<dyn Server>; 2] = [Box::new(readiness.with_net(faulty())), Box::new(threads.with_net(faulty()))];
    for server in servers {
        let server = Running::start(server);
        let mut client = server.connect();
        exchange(&mut client, &pattern(300_000));
        let stats = server.until("all is accounted for", |stats| stats.bytes_out >= 300_000);
        assert!(stats.ledger.waits < 10_000, "spun: {stats:?}");
        assert_eq!((stats.bytes_in, stats.bytes_out), (300_000, 300_000));
    }
}

/// Out of descriptors, as accept4(2) of Linux tells it: it looks for one before it looks at the queue. The spare one,
/// given up, makes the call after it succeed.
#[derive(Clone)]
struct Full(Arc<AtomicU32>);

impl Net for Full {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(io::Error::other("too many open files")),
            _ => Kernel.accept(listener, nonblocking),
        }
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.recv(source, buffer)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Kernel.send(source, bytes)
    }
}

#[test]
fn without_descriptors_every_peer_is_turned_away_without_delay() {
    let mut patient = config();
    patient.accept_pause = 10 * PATIENCE;
    let server = ReadinessServer::bind(patient, Echo, Trigger::Level, Poll::open).expect("bound");
    let server = Running::start(Box::new(server.with_net(Full(Arc::new(AtomicU32::new(0))))));
    for _ in 0..3 {
        let ended = server.connect().read(&mut [0]);
        assert!(
            matches!(ended, Ok(0)) || ended.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "the listener rests although the queue was only empty: {ended:?}"
        );
    }
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.refused), (0, 3));
}

/// Refused each connection by a policy of the system, which leaves it in the queue.
#[derive(Clone)]
struct Forbidden;

impl Net for Forbidden {
    fn accept(&self, _: Source<'_>, _: bool) -> io::Result<(OwnedSource, Peer)> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.recv(source, buffer)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Kernel.send(source, bytes)
    }
}

#[test]
fn a_connection_that_may_not_be_accepted_does_not_make_the_server_spin() {
    let readiness = ReadinessServer::bind(config(), Echo, Trigger::Level, Poll::open).expect("bound");
    let threads = ThreadServer::bind(config(), Echo).expect("bound");
    for server in [Box::new(readiness.with_net(Forbidden)) as Box<dyn Server>, Box::new(threads.with_net(Forbidden))] {
        let server = Running::start(server);
        let _client = server.connect();
        server.until("it was tried", |stats| stats.accept_calls > 0);
        std::thread::sleep(Duration::from_millis(200));
        let stats = server.stop();
        assert!(stats.ledger.waits < 50, "spun: {stats:?}");
    }
}

#[test]
fn a_deadline_is_met_while_bytes_go_on_coming() {
    on_every_mechanism_with(Talkative::default(), |serve| {
        let server = serve(config());
        let mut client = server.connect();
        assert_eq!(line(&mut client), "hello");
        client.write_all(b"wait\n").expect("written");
        client.set_read_timeout(Some(QUIET / 6)).expect("a timeout");
        let began = Instant::now();
        let mut first = [0];
        // An unfinished line, byte by byte: nothing that would move the deadline.
        while client.read(&mut first).is_err() {
            assert!(began.elapsed() < 20 * QUIET, "the deadline is put off by every byte");
            client.write_all(b".").expect("written");
        }
        assert_eq!(&first, b"l");
    });
}

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

#[test]
fn a_panic_in_a_connections_thread_ends_that_connection_only() {
    let server = Running::start(Box::new(ThreadServer::bind(config(), Frail).expect("bound")));
    let (mut frail, mut steady) = (server.connect(), server.connect());
    exchange(&mut steady, b"here");
    frail.write_all(b"panic").expect("written");
    let ended = frail.read(&mut [0]);
    assert!(matches!(ended, Ok(0)) || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    exchange(&mut steady, b"still here");
    server.until("it has left", |stats| stats.closed == 1);
    assert_eq!(server.stop().closed, 2);
}

#[test]
fn no_knob_set_to_nothing_breaks_the_server() {
    on_every_mechanism(|serve| {
        let mut nothing = config();
        (nothing.events, nothing.read_buffer, nothing.read_budget, nothing.accept_budget) = (0, 0, 0, 0);
        (nothing.high_water, nothing.low_water) = (0, 0);
        let server = serve(nothing);
        exchange(&mut server.connect(), &pattern(1_000));
    });
}

#[test]
fn a_mechanism_that_lacks_the_trigger_says_so_instead_of_serving_wrongly() {
    let server = ReadinessServer::bind(config(), Echo, Trigger::Edge, Poll::open).expect("bound");
    let error = Box::new(server).run().expect_err("poll has no edge");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
