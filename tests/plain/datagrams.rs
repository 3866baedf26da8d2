//! Messages without connections, beside the suite's cases: what floods, what is beyond all bounds, and who has to wait.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use pollmark::backends::datagrams::{DatagramAddress, Inbound, Outbound};
use pollmark::backends::{OwnedSource, Source, Trigger, poll::Poll};
use pollmark::protocol::{Context, DatagramProtocol, Echo, Frame, Peer, Protocol, Replies};
use pollmark::server::{Config, Kernel, Net, ReadinessServer, Stats};

use crate::server::on_every_mechanism;
use crate::suite::{PATIENCE, Running, Subject};

fn config(address: &str) -> Config {
    Config::listen(address.parse().expect("an address"))
}

fn client(server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).expect("a port");
    client.connect(server).expect("an address");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client
}

fn at(server: &Running) -> SocketAddr {
    server.addresses[0].udp().expect("of UDP")
}

/// Sends a message, and receives the same.
fn exchange(client: &UdpSocket, message: &[u8]) {
    client.send(message).expect("sent");
    let mut echoed = vec![0; 65_536];
    let bytes = client.recv(&mut echoed).expect("answered");
    assert!(&echoed[..bytes] == message, "the echo differs");
}

#[test]
fn answers_to_whom_nobody_is_any_more_neither_end_the_server_nor_keep_it_busy() {
    on_every_mechanism(|subject| {
        let server = subject.serve(config("udp://127.0.0.1:0"), Echo);
        for _ in 0..20 {
            client(at(&server)).send(b"and gone").expect("sent");
        }
        server.until("all came", |stats| stats.datagrams.received == 20)?;
        exchange(&client(at(&server)), b"still there");
        let before = server.stats().ledger.waits;
        std::thread::sleep(std::time::Duration::from_millis(50));
        // One for each question, and a few for what the network told late.
        assert!(server.stats().ledger.waits - before < 30, "it spins");
        Ok(())
    });
}

/// Says that it is over, when dropped, to a thread that would be waited for otherwise.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_messages_does_not_keep_a_connection_from_being_served() {
    on_every_mechanism(|subject| {
        let mut both = config("127.0.0.1:0");
        both.addresses.push("udp://127.0.0.1:0".parse().expect("an address"));
        let server = subject.serve(both, Echo);
        let flood = client(server.addresses[1].udp().expect("of UDP"));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = flood.send(&[0; 100]); // nobody reads the answers: buffers overflow, messages are lost
                }
            });
            let _ends = Ends(&is_over);
            let before = server.until("the flood is there", |stats| stats.datagrams.received > 100)?;
            let mut client = server.connect();
            (0..50).try_for_each(|_| client.exchange(b"in between"))?;
            if !subject.abilities().concurrent {
                drop(client); // who serves one client at a time takes no messages meanwhile
            }
            let more = |stats: &Stats| stats.datagrams.received > before.datagrams.received;
            server.until("the flood goes on", more).map(drop)
        })
    });
}

/// Repeats each message a hundred times to all who have ever sent one.
#[derive(Clone, Default)]
struct Crowd {
    all: Vec<DatagramAddress>,
}

impl DatagramProtocol for Crowd {
    fn received(&mut self, message: &[u8], from: Option<&DatagramAddress>, replies: &mut Replies<'_>) {
        self.all.extend(from.cloned());
        for to in &self.all {
            (0..100).for_each(|_| replies.send(to, message));
        }
    }
}

impl Protocol for Crowd {
    type Session = ();

    fn datagrams(&self) -> Option<Box<dyn DatagramProtocol>> {
        Some(Box::new(self.clone()))
    }

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.abort();
    }

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }
}

#[test]
fn what_a_protocol_says_beyond_all_bounds_is_dropped_and_counted() {
    let mut bounded = config("udp://127.0.0.1:0");
    (bounded.limits.high_water, bounded.limits.low_water) = (1_000, 100);
    let server = ReadinessServer::bind(bounded, Crowd::default(), Trigger::Level, Poll::open).expect("a free port");
    let server = Running::start(Box::new(server), None, PATIENCE);
    let (first, second) = (client(at(&server)), client(at(&server)));
    first.send(&[1; 100]).expect("sent");
    let mut message = [0; 100];
    first.recv(&mut message).expect("answered");
    let stats = server.until("all was said", |stats| stats.datagrams.sent == 10).expect("nothing kills here");
    assert_eq!(stats.datagrams.dropped, 90);
    second.send(&[2; 9]).expect("sent");
    while message[0] != 2 {
        first.recv(&mut message).expect("others are told, too");
    }
}

#[test]
fn a_protocol_of_connections_is_not_bound_to_an_address_of_datagrams() {
    let bind = |protocol| ReadinessServer::bind(config("udp://127.0.0.1:0"), protocol, Trigger::Level, Poll::open);
    let error = bind(Frame::<pollmark::protocol::frame::Mirror>::default()).err().expect("it knows no datagrams");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("knows no datagrams"), "{error}");
}

/// A network whose every other call fails: with what other hosts tell, or for want of room.
#[derive(Clone)]
struct Bad(std::sync::Arc<AtomicBool>);

impl Bad {
    fn strikes(&self) -> bool {
        self.0.fetch_xor(true, Ordering::Relaxed)
    }
}

impl Net for Bad {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        Kernel.accept(listener, nonblocking)
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.recv(source, buffer)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Kernel.send(source, bytes)
    }

    fn recv_batch(&self, source: Source<'_>, into: &mut Inbound) -> io::Result<usize> {
        if self.strikes() { Err(ErrorKind::ConnectionRefused.into()) } else { Kernel.recv_batch(source, into) }
    }

    fn send_batch(&self, source: Source<'_>, from: &mut Outbound) -> io::Result<usize> {
        if self.strikes() { Err(ErrorKind::WouldBlock.into()) } else { Kernel.send_batch(source, from) }
    }
}

#[test]
fn without_room_answers_are_dropped_and_counted_and_an_error_of_the_network_ends_nothing() {
    let server = ReadinessServer::bind(config("udp://127.0.0.1:0"), Echo, Trigger::Level, Poll::open).expect("a port");
    let server = server.with_net(Bad(std::sync::Arc::default()));
    let server = Running::start(Box::new(server), None, PATIENCE);
    let client = client(at(&server));
    for _ in 0..40 {
        client.send(b"is anybody there?").expect("sent");
    }
    let all = |counts: pollmark::server::Datagrams| counts.received == 40 && counts.sent + counts.dropped == 40;
    let stats = server.until("all is settled", |stats| all(stats.datagrams)).expect("nothing kills here");
    assert!(stats.datagrams.dropped > 0, "nothing went wrong: {stats:?}");
}
