//! Servers of several threads: the server suite in every way of sharing a port, and how connections are shared out.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pollmark::backends::conformance::{self, fault::Faults};
use pollmark::backends::{Registry, Trigger, poll::Poll};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Echo, Peer, Protocol, Resp};
use pollmark::server::{Abilities, Config, Control, Group, ReadinessServer, Server, Sharing};

use crate::everywhere::{self, side_by_side};
#[cfg(feature = "ws")]
use crate::protocols::Socket;
use crate::protocols::hears;
use crate::suite::cases::{self, Lines, config};
use crate::suite::{PATIENCE, Running, Subject, Verdict};

const THREADS: usize = 2;

/// Several threads of one mechanism.
pub(crate) struct Several {
    name: String,
    mechanism: Mechanism,
    registry: Registry,
    threads: usize,
    pub(crate) sharing: Sharing,
}

impl Subject for Several {
    fn name(&self) -> &str {
        &self.name
    }

    fn abilities(&self) -> Abilities {
        let mut abilities = self.mechanism.abilities();
        abilities.shared_protocol = false; // each thread has a loop, and a protocol, of its own
        if self.sharing == Sharing::Handout {
            // It is not they who accept.
            (abilities.drain, abilities.multishot) = (true, false);
        }
        abilities
    }

    fn bind<P: Protocol>(&self, config: Config, protocol: P) -> io::Result<Box<dyn Server>> {
        self.mechanism.bind(&self.registry, by(self.threads, config, self.sharing), protocol)
    }

    fn faults(&self) -> Option<&Faults> {
        None
    }

    fn herd(&self) -> u64 {
        match self.sharing {
            // Exclusively, one at least: of those that do not sleep, more may be told.
            Sharing::Shared | Sharing::Exclusive => self.threads as u64 - 1,
            Sharing::ReusePort | Sharing::Handout => 0,
        }
    }
}

fn several(config: Config, sharing: Sharing) -> Config {
    by(THREADS, config, sharing)
}

fn by(threads: usize, mut config: Config, sharing: Sharing) -> Config {
    (config.threads, config.sharing) = (threads, sharing);
    config
}

/// Runs `case` in every way on every mechanism of this host, and says what is not here.
pub(crate) fn in_every_way(case: impl Fn(&Several) -> Verdict + Sync) {
    in_every_way_by(THREADS, case);
}

fn in_every_way_by(threads: usize, case: impl Fn(&Several) -> Verdict + Sync) {
    let registry = conformance::with_models(Registry::builtin());
    let mut ways = Vec::new();
    for mechanism in everywhere::mechanisms(&registry) {
        for sharing in Sharing::ALL {
            match mechanism.bind(&registry, by(threads, config(), sharing), Echo) {
                Err(why) if why.kind() == ErrorKind::Unsupported => println!("{mechanism}, {sharing}: skipped: {why}"),
                bound => {
                    drop(bound.expect("a free port"));
                    let name = format!("{threads} threads of {mechanism}");
                    ways.push(Several {
                        name,
                        mechanism: mechanism.clone(),
                        registry: registry.clone(),
                        threads,
                        sharing,
                    });
                }
            }
        }
    }
    let ran = ways.len();
    assert!(ran >= 6, "poll, select and threads share a listener and are handed connections, but only {ran} ran");
    side_by_side(&ways, |way| {
        println!("{}, {}", way.name, way.sharing);
        case(way).expect("nothing kills here");
    });
}

macro_rules! in_every_way {
    ($($case:ident,)+) => { $(
        #[test]
        fn $case() {
            in_every_way(cases::$case);
        }
    )+ };
}
suite!(in_every_way);
suite_of_datagrams!(in_every_way);

#[test]
fn sockets_of_datagrams_are_dealt_to_the_threads_that_serve_and_named_in_their_order() {
    let mut mixed = several(Config::listen("udp://127.0.0.1:0".parse().expect("an address")), Sharing::Handout);
    for more in ["127.0.0.1:0", "udp://127.0.0.1:0", "udp://127.0.0.1:0"] {
        mixed.addresses.push(more.parse().expect("an address"));
    }
    let group =
        Group::bind(mixed, |config| Ok(Box::new(ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open)?)));
    let server = Running::start(Box::new(group.expect("free ports")), None, PATIENCE);
    let kinds = server.addresses.iter().map(|address| address.is_of_datagrams()).collect::<Vec<_>>();
    assert_eq!(kinds, [true, false, true, true]);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for address in server.addresses.iter().filter_map(|address| address.udp()) {
        client.send_to(b"hello", address).expect("sent");
        assert_eq!(client.recv_from(&mut [0; 9]).expect("answered"), (5, address));
    }
    server.connect_to(&server.addresses[1]).exchange(b"and beside them").expect("a connection");
    let account = server.control.account().expect("it runs");
    let received = account.threads.iter().map(|thread| thread.datagrams.received).collect::<Vec<_>>();
    assert_eq!((received, account.total.accepted), (vec![2, 1], 1));
}

#[test]
fn keys_and_values_are_the_same_on_every_thread() {
    in_every_way(|subject| {
        if !subject.can(|has| has.concurrent, "keys_and_values_are_the_same_on_every_thread", "connections at once") {
            return Ok(());
        }
        let server = subject.serve(config(), Resp::default());
        let mut clients = (0..4 * THREADS).map(|_| server.connect()).collect::<Vec<_>>();
        for (at, client) in clients.iter_mut().enumerate() {
            hears(client, b"INCR n\r\n", format!(":{}\r\n", at + 1).as_bytes())?;
        }
        hears(&mut clients[0], b"RPUSH l a b\r\n", b":2\r\n")?;
        for client in &mut clients {
            hears(client, b"GET n\r\nLRANGE l 0 -1\r\n", b"$1\r\n8\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n")?;
        }
        Ok(())
    });
}

#[cfg(feature = "ws")]
#[test]
fn what_is_said_to_all_is_heard_on_every_thread() {
    use crate::protocols::websocket;
    use crate::suite::cases::pattern;
    use pollmark::protocol::Ws;
    use tungstenite::Message;

    for threads in [2, 4] {
        in_every_way_by(threads, |subject| {
            if !subject.can(|has| has.concurrent, "what_is_said_to_all_is_heard_on_every_thread", "connections at once")
            {
                return Ok(());
            }
            let server = subject.serve(config(), Ws::default());
            let mut clients = (0..2 * threads).map(|_| websocket(&server, "/broadcast")).collect::<Vec<_>>();
            let say = |speaker: usize, clients: &mut [_]| {
                let said = [Message::text(format!("{speaker} speaks")), Message::binary(pattern(20_000))];
                for message in &said {
                    let client: &mut Socket = &mut clients[speaker];
                    client.send(message.clone()).expect("sent");
                }
                for client in clients {
                    assert_eq!([client.read().expect("heard"), client.read().expect("heard")], said);
                }
            };
            for speaker in [0, 1, threads] {
                say(speaker, &mut clients);
            }
            if subject.sharing == Sharing::Handout {
                let account = server.control.account().expect("it runs");
                assert!(account.threads.iter().all(|thread| thread.open == 2), "in turn: {account:?}");
            }
            // Who leaves is no longer spoken to, and the others go on.
            drop(clients.remove(1));
            server.until("one has left", |stats| stats.closed == 1)?;
            say(0, &mut clients);
            Ok(())
        });
    }
}

/// Two loops over poll(2), and a control for each.
fn pair(config: Config, sharing: Sharing) -> (Running, Vec<Control>) {
    let mut controls = Vec::new();
    let group = Group::bind(several(config, sharing), |config| {
        let member = ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open)?;
        controls.push(member.control());
        Ok(Box::new(member))
    });
    (Running::start(Box::new(group.expect("a free port")), None, PATIENCE), controls)
}

#[test]
fn the_acceptor_hands_connections_out_in_turn() {
    let (server, _) = pair(config(), Sharing::Handout);
    let mut clients = (0..10).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut clients {
        client.exchange(b"here").expect("nothing kills here");
    }
    let account = server.control.account().expect("it runs");
    assert_eq!(account.threads.iter().map(|thread| thread.accepted).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(account.fairness(), Some(1.0));
    // The calls of the thread that accepts are in the total, and nowhere else.
    assert!(account.total.accept_calls >= 10);
    assert_eq!(account.threads.iter().map(|thread| thread.accept_calls).sum::<u64>(), 0);
}

#[test]
fn sockets_made_elsewhere_are_given_to_the_threads_in_turn_whatever_the_way() {
    for sharing in [Sharing::Shared, Sharing::Handout] {
        let (server, _) = pair(config(), sharing);
        let mut clients = (0..6).map(|_| server.adopted()).collect::<Vec<_>>();
        for client in &mut clients {
            client.exchange(b"adopted").expect("nothing kills here");
        }
        let account = server.control.account().expect("it runs");
        assert_eq!(account.threads.iter().map(|thread| thread.open).collect::<Vec<_>>(), [3, 3], "{sharing}");
    }
}

#[test]
fn the_kernel_shares_the_connections_of_a_port_out() {
    if let Err(why) = config_may_share() {
        assert_eq!(why.kind(), ErrorKind::Unsupported);
        return println!("skipped: {why}");
    }
    let (server, _) = pair(config(), Sharing::ReusePort);
    assert_eq!(server.addresses.len(), 1, "both are at the one port");
    // By a hash: that one of two gets none of n has a chance of 2 in 2^n.
    let mut clients = (0..64).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut clients {
        client.exchange(b"here").expect("nothing kills here");
    }
    let account = server.control.account().expect("it runs");
    assert!(account.threads.iter().all(|thread| thread.accepted > 0), "{account:?}");
    assert!(account.fairness().is_some_and(|index| index > 0.5));
}

#[test]
fn a_port_that_other_threads_share_is_in_use_to_those_who_are_not_asked_to_share_it() {
    let (server, _) = match config_may_share() {
        Ok(()) => pair(config(), Sharing::ReusePort),
        Err(why) => return println!("skipped: {why}"),
    };
    let mut same = Config::listen(server.addresses[0].clone());
    let bind =
        |config| Ok(Box::new(ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open)?) as Box<dyn Server>);
    let error =
        Group::bind(several(same.clone(), Sharing::ReusePort), bind).err().expect("it would take a part of theirs");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    same.reuse_port = true;
    Group::bind(several(same, Sharing::ReusePort), bind).expect("as it was asked to");
}

fn config_may_share() -> io::Result<()> {
    let mut config = config();
    config.reuse_port = true;
    ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open).map(drop)
}

#[test]
fn one_thread_that_stops_stops_all() {
    for sharing in [Sharing::Shared, Sharing::Handout] {
        let (server, controls) = pair(config(), sharing);
        let mut client = server.connect();
        client.exchange(b"here").expect("nothing kills here");
        controls[1].stop();
        assert_eq!(client.read_byte_or_end(), None, "{sharing}: whichever thread had it");
        assert_eq!(server.stop().closed, 1);
    }
}

#[test]
fn a_thread_that_fails_stops_the_others_and_its_error_is_returned() {
    for sharing in [Sharing::Shared, Sharing::Handout] {
        let opened = Arc::new(AtomicUsize::new(0));
        let group = Group::bind(several(config(), sharing), |config| {
            let opened = Arc::clone(&opened);
            let open = move || match opened.fetch_add(1, Ordering::Relaxed) {
                0 => Poll::open(),
                _ => Err(io::Error::new(ErrorKind::OutOfMemory, "as the test asked")),
            };
            Ok(Box::new(ReadinessServer::bind(config, Echo, Trigger::Level, open)?))
        });
        // Would wait for ever for the thread that could begin.
        let error = Box::new(group.expect("a free port")).run().expect_err("one of two has no poller");
        assert_eq!(error.to_string(), "as the test asked");
        assert_eq!(opened.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn a_shared_listener_is_one_socket_and_is_closed_with_the_last_thread() {
    for sharing in [Sharing::Shared, Sharing::Handout] {
        let (server, _) = pair(config(), sharing);
        let address = server.tcp();
        server.connect().exchange(b"here").expect("nothing kills here");
        server.stop();
        let error = std::net::TcpStream::connect(address).expect_err("nobody listens any more");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{sharing}");
    }
}

/// Echoes lines, and shows by the clones of `_alive` how many loops still have one of it.
#[derive(Clone)]
struct Counted {
    lines: Lines,
    _alive: Arc<()>,
}

impl Protocol for Counted {
    type Session = ();

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) {
        self.lines.open(peer, cx);
    }

    fn received(&mut self, session: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        self.lines.received(session, input, cx)
    }
}

#[test]
fn what_a_thread_has_done_is_told_while_the_others_drain_and_no_longer() {
    let mut draining = several(config(), Sharing::Handout);
    draining.limits.drain = std::time::Duration::from_secs(3_600);
    let alive = Arc::new(());
    let protocol = Counted { lines: Lines, _alive: Arc::clone(&alive) };
    let group = Group::bind(draining, |config| {
        Ok(Box::new(ReadinessServer::bind(config, protocol.clone(), Trigger::Level, Poll::open)?))
    });
    drop(protocol);
    let server = Running::start(Box::new(group.expect("a free port")), None, PATIENCE);
    let (mut busy, mut idle) = (server.connect(), server.connect());
    idle.exchange(b"a line\n").expect("a connection");
    busy.exchange(b"a line\n").expect("a connection");
    busy.write(b"unfinished, ").expect("a connection");
    server.until("it has come", |stats| stats.bytes_in == 26).expect("nothing kills here");
    let loops = Arc::strong_count(&alive) - 1;
    server.control.drain();
    assert_eq!(idle.read_byte_or_end(), None);

    // The thread of the one is gone, and what it was; that of the other is not.
    let began = std::time::Instant::now();
    while Arc::strong_count(&alive) > loops {
        assert!(began.elapsed() < PATIENCE, "nobody has ended");
        server.control.stats().expect("told at any moment");
    }
    let account = server.control.account().expect("told by the one, and for the other");
    assert_eq!((account.total.accepted, account.total.closed, account.total.open), (2, 1, 1));
    assert_eq!(
        account.threads.iter().map(|thread| (thread.bytes_in, thread.closed)).collect::<Vec<_>>(),
        [(19, 0), (7, 1)]
    );
    busy.write(b"and finished\n").expect("a connection");
    busy.expect_line("unfinished, and finished").expect("a connection");
    assert_eq!(busy.read_byte_or_end(), None);
    let control = server.control.clone();
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.closed, stats.bytes_in), (2, 2, 39));
    assert_eq!(control.stats().expect_err("all have ended").kind(), ErrorKind::NotConnected);
}
