//! Too many at once: floods of connections, those that vanish, those that the listen queue has no room for.

use std::net::TcpStream;

use socket2::{Domain, Socket, Type};

use crate::client::Peer;
use crate::hosted::{Hosted, config, is_concurrent, on_every_mechanism, on_every_mechanism_at_once};
use crate::spoken::Spoken;

#[test]
fn a_flood_beyond_the_limit_is_turned_away_and_said_once() {
    const ROOM: usize = 50;
    on_every_mechanism(|mechanism| {
        if !is_concurrent(mechanism, "a flood beyond the limit") {
            return;
        }
        let mut limited = config();
        limited.limits.connections = Some(ROOM);
        let mut server = Hosted::start(mechanism, Spoken::Frame, limited);
        let mut guests: Vec<_> = (1..ROOM).map(|_| server.guest()).collect();
        for guest in &mut guests {
            guest.exchange(Spoken::Frame, 1);
        }
        let flood = if mechanism.is_common() { 1_000 } else { 250 };
        for _ in 0..flood / 50 {
            let newcomers: Vec<_> = (0..50).map(|_| server.connect()).collect();
            server.neighbour_is_served();
            for mut newcomer in newcomers {
                assert_eq!(newcomer.hears_to_the_end(), 0, "{mechanism}: it is turned away");
            }
        }
        for guest in &mut guests {
            guest.exchange(Spoken::Frame, 2);
        }
        let stats = server.until("all were counted", |stats| stats.refused == flood);
        assert_eq!(stats.open, ROOM as u64, "{mechanism}");
        server.has_grown_by_at_most(server.may_take(ROOM as u64, 0));
        let log = server.log();
        let overloads: Vec<_> = log.iter().filter(|(words, _)| words.starts_with("overload")).collect();
        let [(_, 1)] = overloads[..] else { panic!("{mechanism}: said other than once: {log:?}") };
        // One goes, and there is room for one; then it is said again.
        drop(guests.pop());
        server.until("one has gone", |stats| stats.open < ROOM as u64);
        let mut late = server.guest();
        late.exchange(Spoken::Frame, 3);
        assert_eq!(server.connect().hears_to_the_end(), 0, "{mechanism}: full again");
        let log = server.log();
        let overloads = log.iter().filter(|(words, _)| words.starts_with("overload")).map(|(_, times)| times);
        assert_eq!(overloads.sum::<u64>(), 2, "{mechanism}: {log:?}");
        drop((late, guests));
        server.end();
    });
}

#[test]
fn whoever_connects_and_vanishes_costs_a_connection_and_no_more() {
    on_every_mechanism(|mechanism| {
        let mut server = Hosted::start(mechanism, Spoken::Frame, config());
        let address = server.address;
        let each = if mechanism.is_common() { 750 } else { 150 };
        std::thread::scope(|scope| {
            for vandal in 0..2 {
                scope.spawn(move || {
                    for number in 0..each {
                        let peer = Peer::connect(address);
                        if number % 2 == vandal { peer.resets() } else { drop(peer) }
                    }
                });
            }
            server.neighbour_is_served();
            server.neighbour_is_served();
        });
        let vanished = 2 * each;
        let before = 1 + server.neighbours();
        // On Linux also one that was reset in the queue is accepted.
        server.until("all were met", |stats| stats.accepted + stats.refused == before + vanished);
        let done = server.end();
        assert_eq!(done.refused, 0, "{mechanism}: {done:?}");
    });
}

/// A connection attempt that nobody waits for.
fn knock(address: std::net::SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    let _ = socket.connect(&address.into()); // under way
    socket
}

#[test]
fn whom_the_listen_queue_has_no_room_for_comes_later_or_not_at_all() {
    const GIVE_UP: usize = 60;
    const PERSIST: u32 = 4;
    // What the kernel drops it tries again after a second: that is waited for on all of them together.
    on_every_mechanism_at_once(|mechanism| {
        let mut small = config();
        small.backlog = 1;
        let mut server = Hosted::start(mechanism, Spoken::Frame, small);
        let stopped = server.stopped();
        let address = stopped.address();
        let knocking: Vec<_> = (0..GIVE_UP).map(|_| knock(address)).collect();
        let persistent: Vec<_> = (0..PERSIST)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut peer = Peer::connect(address);
                    peer.exchange(Spoken::Frame, number);
                })
            })
            .collect();
        // None of the last can be established before the first have filled the queue.
        drop(knocking);
        drop(stopped);
        server.neighbour_is_served();
        for peer in persistent {
            peer.join().unwrap_or_else(|_| panic!("{mechanism}: it never came in"));
        }
        let all = 2 + (GIVE_UP as u64) + u64::from(PERSIST);
        let done = server.end();
        assert!(done.accepted < all && done.refused == 0, "{mechanism}: the queue was larger than one: {done:?}");
    });
}

#[test]
fn a_thousand_that_stay_silent_cost_their_slots_and_no_more() {
    on_every_mechanism(|mechanism| {
        if !is_concurrent(mechanism, "a thousand that stay silent") {
            return;
        }
        let mut server = Hosted::start(mechanism, Spoken::Frame, config());
        let many = if mechanism.is_common() { 1_000 } else { 200 };
        // select(2) has no room for more than 1,024 descriptors, the server's own among them.
        let silent: Vec<_> = (0..many).map(|_| TcpStream::connect(server.address).expect("it listens")).collect();
        server.until("all are in", |stats| stats.open == many + 1);
        server.neighbour_is_served();
        server.is_quiet();
        // A thread each, where there are threads: of its stack it uses a few pages. Else a slot and a session.
        let blocking = server.mechanism.abilities().blocking;
        let each = if blocking { server.config.read_buffer as u64 + 48 * 1024 } else { 1024 };
        server.has_grown_by_at_most(many * each + 4 * 1024 * 1024);
        drop(silent);
        server.end();
    });
}
