//! Descriptors run out for real, on every mechanism, under every policy and either remedy: nobody spins, nobody is
//! forgotten.
//!
//! The limit is this process's own, so the clients' sockets are made before it is met.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pollmark::backends::{Registry, conformance};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Echo;
use pollmark::server::{AcceptPolicy, Config, Exhaustion};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::descriptors::{alone, without_a_leak};
use crate::suite::cases::config;
use crate::suite::{PATIENCE, Running};

const POLICIES: [AcceptPolicy; 3] = [AcceptPolicy::One, AcceptPolicy::Drain(64), AcceptPolicy::Multishot];
/// Clients that come while there is no descriptor for them.
const CLIENTS: usize = 12;

/// A limit that is soon met, for as long as this lives. It comes before the server: io_uring remembers the limit of
/// when it was asked to accept.
struct Limit {
    before: Rlimit,
}

impl Limit {
    /// Room for so many more descriptors, about.
    const ROOM: usize = 200;

    fn lower() -> Limit {
        let before = getrlimit(Resource::Nofile);
        // So many fill the gaps below the highest number in use, and the rest lie above it.
        let some: Vec<_> = (0..Limit::ROOM).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
        let current = some.iter().map(|one| number(one) + 1).max();
        drop(some);
        setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }).expect("less is allowed");
        Limit { before }
    }

    /// Takes every descriptor there is, until they are dropped.
    fn exhaust(&self) -> Vec<UdpSocket> {
        let mut taken = Vec::new();
        loop {
            match UdpSocket::bind("127.0.0.1:0") {
                Ok(one) => taken.push(one),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{error}");
                    return taken;
                }
            }
        }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.before).expect("as it was");
    }
}

fn number(source: &UdpSocket) -> u64 {
    use std::os::fd::AsRawFd;
    source.as_raw_fd() as u64
}

/// A client whose socket is there before it connects.
struct Client(Socket);

impl Client {
    fn new() -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
        Client(socket)
    }

    /// Into the listen queue: the kernel takes it on by itself.
    fn connect(&self, server: SocketAddr) {
        self.0.connect(&server.into()).expect("the server listens");
    }

    fn says(&self, bytes: &[u8]) {
        self.0.send(bytes).expect("connected");
    }

    /// What comes back: nothing if the server hangs up.
    fn hears(&self) -> Vec<u8> {
        let mut buffer = [0; 16];
        match (&self.0).read(&mut buffer) {
            Ok(bytes) => buffer[..bytes].to_vec(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Vec::new(),
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }
}

fn on_every_mechanism(remedy: Exhaustion, case: impl Fn(&Mechanism, &Limit, Config, &dyn Fn(Config) -> Running)) {
    let _turn = alone();
    let registry = conformance::with_models(Registry::builtin());
    for mechanism in Mechanism::all(&registry) {
        if let Err(why) = mechanism.probe(&registry) {
            println!("{mechanism}: skipped: {why}");
            continue;
        }
        for policy in POLICIES {
            if let Err(why) = mechanism.abilities().accept_by(Some(policy)) {
                println!("{mechanism}, {policy}: skipped: {why}");
                continue;
            }
            println!("{mechanism}, {policy}");
            let mut config = config();
            (config.accept, config.on_exhaustion) = (Some(policy), remedy);
            let serve =
                |config| Running::start(mechanism.bind(&registry, config, Echo).expect("a free port"), None, PATIENCE);
            without_a_leak(mechanism.name(), || case(&mechanism, &Limit::lower(), config, &serve));
        }
    }
}

#[test]
fn without_descriptors_newcomers_are_turned_away_at_once_if_that_is_the_remedy() {
    on_every_mechanism(Exhaustion::Shed, |mechanism, limit, mut config, serve| {
        config.accept_pause = 10 * PATIENCE; // nobody waits for it
        let server = serve(config);
        server.stats(); // by now it has opened all it needs
        let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new()).collect();
        let late = Client::new();

        let taken = limit.exhaust();
        let before = server.stats();
        for client in &clients {
            client.connect(server.tcp());
        }
        for client in &clients {
            assert_eq!(client.hears(), b"", "{mechanism}: it was not turned away");
        }
        let done = server.settled("all were counted", |stats| stats.refused == CLIENTS as u64) - before;
        // One that fails, and one by the spare descriptor, for each; and for each event one that finds nobody left.
        let most = 4 * CLIENTS as u64 + 4;
        assert!(done.accept_calls <= most, "{mechanism} spins: {done:?}");
        assert_eq!(done.accepted, 0, "{mechanism}: {done:?}");

        drop(taken);
        late.connect(server.tcp());
        late.says(b"room again");
        assert_eq!(late.hears(), b"room again", "{mechanism}");
    });
}

#[test]
fn without_descriptors_newcomers_wait_and_are_tried_now_and_then_if_that_is_the_remedy() {
    const PAUSE: Duration = Duration::from_millis(20);
    on_every_mechanism(Exhaustion::Pause, |mechanism, limit, mut config, serve| {
        config.accept_pause = PAUSE;
        let server = serve(config);
        let before = server.stats();
        let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new()).collect();

        let taken = limit.exhaust();
        let began = Instant::now();
        for client in &clients {
            client.connect(server.tcp());
            client.says(b"when you can");
        }
        let tried = server.settled("it was tried again", |stats| stats.accept_calls >= before.accept_calls + 3);
        // Twice for each pause: it may have been over just before, and just now.
        let pauses = began.elapsed().as_millis() as u64 / PAUSE.as_millis() as u64;
        let done = tried - before;
        assert!(done.accept_calls <= 2 * pauses + 4, "{mechanism} spins: {done:?} in {pauses} pauses");
        assert_eq!((done.accepted, done.refused), (0, 0), "{mechanism}: {done:?}");

        drop(taken);
        for client in clients {
            assert_eq!(client.hears(), b"when you can", "{mechanism}"); // and it leaves: one at a time is enough
        }
        assert_eq!(server.stop().accepted, CLIENTS as u64, "{mechanism}");
    });
}

#[test]
fn a_connection_that_goes_leaves_its_descriptor_to_one_that_waits_at_once() {
    on_every_mechanism(Exhaustion::Pause, |mechanism, limit, mut config, serve| {
        if !mechanism.abilities().concurrent {
            println!("{mechanism}: skipped: while one is served, it accepts nobody, with descriptors or without");
            return;
        }
        config.accept_pause = 10 * PATIENCE; // too late: whoever waits for it fails
        let policy = config.accept;
        let server = serve(config);
        let (steady, waiting) = (Client::new(), Client::new());
        steady.connect(server.tcp());
        steady.says(b"in");
        assert_eq!(steady.hears(), b"in", "{mechanism}");
        if matches!(policy, Some(AcceptPolicy::Drain(_))) {
            // Before that, a thread of its own may still be looking for more.
            server.settled("it found nobody else", |stats| stats.empty_accepts > 0);
        }

        let taken = limit.exhaust();
        let before = server.stats();
        waiting.connect(server.tcp());
        waiting.says(b"me too");
        server.settled("it was tried", |stats| stats.accept_calls > before.accept_calls);
        for _ in 0..50 {
            steady.says(b"undisturbed");
            assert_eq!(steady.hears(), b"undisturbed", "{mechanism}");
        }
        let during = server.stats() - before;
        assert!(during.accept_calls <= 3, "{mechanism} tries again and again: {during:?}");

        // Its own end stays: only the server's descriptor comes free.
        steady.0.shutdown(std::net::Shutdown::Write).expect("connected");
        assert_eq!(steady.hears(), b"", "{mechanism}");
        assert_eq!(waiting.hears(), b"me too", "{mechanism}");
        drop(taken);
    });
}
