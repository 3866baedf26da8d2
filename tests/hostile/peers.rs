//! One kind of bad manners at a time: too slow, too greedy, gone in the middle of things.

use std::io::{ErrorKind, Write};

use pollmark::mechanism::Mechanism;

use crate::client::Peer;
use crate::hosted::{Hosted, config, on_every_mechanism};
use crate::spoken::Spoken;

/// Of a variant, which differs from another mechanism by a detail, fewer.
fn so_many(mechanism: &Mechanism, many: usize) -> usize {
    if mechanism.is_common() { many } else { many / 4 }
}

/// As many as can be in service at a time.
fn guests(server: &Hosted, many: usize) -> Vec<Peer> {
    let many = if server.mechanism.abilities().concurrent { so_many(&server.mechanism, many) } else { 1 };
    (0..many).map(|_| server.guest().with_small_buffers()).collect()
}

#[test]
fn requests_that_come_one_byte_at_a_time_are_answered_and_cost_a_wait_each() {
    on_every_mechanism(|mechanism| {
        let mut server = Hosted::start(mechanism, Spoken::Resp, config());
        let mut slow = guests(&server, 64);
        let request = Spoken::Resp.request(4_711);
        for byte in &request {
            for peer in &mut slow {
                peer.says(&[*byte]);
            }
        }
        server.neighbour_is_served();
        for peer in &mut slow {
            peer.hears(Spoken::Resp, 4_711);
        }
        let done = server.has_not_spun();
        let bytes = (request.len() * slow.len()) as u64;
        let exchanges = 100 * server.neighbours();
        // One byte may come while the one before is read, so that there are fewer waits; there are never more.
        let most = bytes + 2 * exchanges + 2 * slow.len() as u64 + 50;
        assert!(done.ledger.waits <= most, "{mechanism}: {} waits for {bytes} bytes", done.ledger.waits);
        drop(slow);
        server.end();
    });
}

/// Asks until neither side's buffers take more, and the server reads no more. How many
/// bytes each has written.
fn stuff(server: &mut Hosted, greedy: &[Peer]) -> Vec<u64> {
    let block = server.spoken.request(7).repeat(1_000);
    let mut written = vec![0; greedy.len()];
    for peer in greedy {
        peer.stream().set_nonblocking(true).expect("a socket");
    }
    let (mut looks_in_vain, mut read) = (0, 0);
    while looks_in_vain < 4 {
        for (peer, written) in greedy.iter().zip(&mut written) {
            loop {
                match peer.stream().write(&block[*written as usize % block.len()..]) {
                    Ok(bytes) => *written += bytes as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{}: {error}", server.mechanism),
                }
                assert!(*written < 64 * 1024 * 1024, "{}: it is read without end", server.mechanism);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        let before = std::mem::replace(&mut read, server.stats().bytes_in);
        looks_in_vain = if read == before { looks_in_vain + 1 } else { 0 };
    }
    for peer in greedy {
        peer.stream().set_nonblocking(false).expect("a socket");
    }
    written
}

#[test]
fn peers_that_never_read_are_not_read_from_without_end_and_lose_nothing_if_they_do() {
    on_every_mechanism(|mechanism| {
        let mut server = Hosted::start(mechanism, Spoken::Echo, config());
        let mut greedy = guests(&server, 64);
        let written = stuff(&mut server, &greedy);
        server.neighbour_is_served();
        server.is_quiet();
        server.has_grown_by_at_most(server.may_take(greedy.len() as u64, 0));
        server.has_not_spun();
        // Every other one gives up; of the rest each gets back what it has said.
        for (at, written) in (0..greedy.len()).zip(written).rev() {
            let peer = &mut greedy[at];
            if at % 2 == 1 {
                greedy.swap_remove(at).resets();
                continue;
            }
            peer.shut_down();
            let heard = peer.hears_all();
            assert!(heard.chunks(8).all(|chunk| b"00000007".starts_with(chunk)), "{mechanism}: another byte");
            assert_eq!(heard.len() as u64, written, "{mechanism}: it is owed what it wrote");
        }
        drop(greedy);
        server.end();
    });
}

#[test]
fn a_peer_may_go_at_any_moment_and_only_its_own_connection_ends() {
    const OF_EACH: usize = 40;
    on_every_mechanism(|mechanism| {
        let mut server = Hosted::start(mechanism, Spoken::Frame, config());
        let request = Spoken::Frame.request(1);
        let many = so_many(mechanism, OF_EACH);
        // Before it was accepted, with and without something said: the server is kept from looking.
        let stopped = server.stopped();
        for number in 0..many.min(100) {
            let mut peer = stopped.connect();
            if number % 2 == 0 {
                peer.says(&request);
            }
            match number % 4 {
                0 | 1 => peer.resets(),
                2 => peer.shut_down(),
                _ => drop(peer),
            }
        }
        drop(stopped);
        server.neighbour_is_served();
        let states: [fn(&mut Peer, &[u8]); 6] = [
            |_, _| {},
            |peer, request| peer.says(&request[..5]),
            // An answer is on its way to nobody; or has come, and is not read.
            |peer, request| peer.says(request),
            |peer, request| {
                peer.says(request);
                let _ = peer.stream().peek(&mut [0]);
            },
            |peer, request| peer.says(&request.repeat(2_000)),
            |peer, request| {
                peer.says(request);
                peer.shut_down();
            },
        ];
        for state in states {
            for number in 0..many {
                let mut peer = server.connect();
                state(&mut peer, &request);
                if number % 2 == 0 { peer.resets() } else { drop(peer) }
            }
            server.neighbour_is_served();
        }
        // While it owes them more than they take, and does not read from them.
        let greedy = guests(&server, OF_EACH);
        stuff(&mut server, &greedy);
        greedy.into_iter().for_each(Peer::resets);
        server.end();
    });
}

#[test]
fn whoever_has_said_all_is_answered_in_full_however_slowly_it_listens() {
    on_every_mechanism(|mechanism| {
        const REQUESTS: u32 = 3_000;
        let mut server = Hosted::start(mechanism, Spoken::Resp, config());
        let requests = (0..REQUESTS).flat_map(|number| Spoken::Resp.request(number)).collect::<Vec<_>>();
        let mut done = guests(&server, 16);
        // Each takes a thread of its own: its server may not read on before it is listened to.
        std::thread::scope(|scope| {
            for peer in &mut done {
                let writer = peer.stream().try_clone().expect("a second handle");
                let requests = &requests;
                scope.spawn(move || {
                    (&writer).write_all(requests).expect("the server reads");
                    writer.shutdown(std::net::Shutdown::Write).expect("connected");
                });
            }
            server.neighbour_is_served();
            for peer in &mut done {
                for number in 0..REQUESTS {
                    peer.hears(Spoken::Resp, number);
                }
                assert_eq!(peer.hears_all(), b"", "{mechanism}: nothing more");
            }
        });
        // Half closed, with nothing to say, and gone.
        for number in 0..so_many(mechanism, 100) {
            let peer = server.connect();
            peer.shut_down();
            if number % 2 == 0 {
                peer.resets();
            }
        }
        drop(done);
        server.end();
    });
}
