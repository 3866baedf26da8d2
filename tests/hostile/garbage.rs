//! Bytes that are no message, nearly one, or one without an end, for every protocol.

use std::io::Write;
use std::net::Shutdown;

use crate::client::{Door, Peer, is_an_end};
use crate::hosted::{Hosted, config, on_every_protocol};
use crate::spoken::Spoken;

/// Numbers by a seed: splitmix64.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A few requests, of which some bytes are others, some are missing, and some are there twice.
    pub(crate) fn mutated(&mut self, spoken: Spoken) -> Vec<u8> {
        let mut bytes = (0..1 + self.below(8) as u32).flat_map(|number| spoken.request(number)).collect::<Vec<_>>();
        for _ in 0..1 + self.below(6) {
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.next() as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {
                    let piece = bytes[at..].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        bytes
    }
}

/// Says it, ends its half, and hears what is said about it until the server ends the connection.
pub(crate) fn tell(door: Door, chance: &mut Chance, garbage: &[u8]) {
    // One in two is greeted first, if there is a greeting: what follows is another language.
    let mut peer = if chance.below(2) == 0 { door.guest() } else { door.connect() };
    let mut rest = garbage;
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(1 + chance.below(rest.len()));
        match peer.stream().write_all(piece) {
            Ok(()) => rest = others,
            // It knew enough.
            Err(error) if is_an_end(&error) => break,
            Err(error) => panic!("{:?}: {error}", door.spoken),
        }
    }
    match chance.below(4) {
        0 => peer.resets(),
        1 => drop(peer),
        _ => {
            let _ = peer.stream().shutdown(Shutdown::Write); // it may be gone
            peer.hears_to_the_end();
        }
    }
}

#[test]
fn garbage_ends_the_connection_it_came_by_and_no_other() {
    const ROUNDS: usize = 60;
    on_every_protocol(|mechanism, spoken| {
        let mut server = Hosted::start(mechanism, spoken, config());
        let mut chance = Chance(0x5eed);
        for round in 0..ROUNDS {
            let length = 1 + chance.below(3_000);
            let garbage = if round % 3 == 0 { chance.bytes(length) } else { chance.mutated(spoken) };
            tell(server.door(), &mut chance, &garbage);
            if round % 20 == 0 {
                server.neighbour_is_served();
            }
        }
        server.end();
    });
}

/// The beginning of a message that is longer than any may be, and bytes that could go on for ever.
fn giants(spoken: Spoken) -> Vec<(&'static [u8], &'static [u8])> {
    match spoken {
        Spoken::Echo => vec![],
        Spoken::Frame => vec![(b"\xff\xff\xff\xff", b"more of it"), (b"\x00\x08\x00\x01", b"a byte too many")],
        Spoken::Resp => vec![
            (b"", b"no end of a line "),
            (b"*1000000000\r\n", b"$1\r\na\r\n"),
            (b"*2\r\n$4\r\nECHO\r\n$999999999\r\n", b"more of it"),
            (b"*130000\r\n", b"$1\r\na\r\n$100\r\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ],
        #[cfg(feature = "http")]
        Spoken::Http => vec![
            (b"", b"no end of a line "),
            (b"GET / HTTP/1.1\r\n", b"X: no end of fields\r\n"),
            (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n", b"more of it"),
            (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
            (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"no end of what is beside it"),
        ],
        #[cfg(feature = "ws")]
        Spoken::Ws => vec![
            (b"\x82\xff\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", b"more of it"),
            // A message in parts, of which none is the last.
            (b"\x02\x81\x00\x00\x00\x00a", b"\x00\x81\x00\x00\x00\x00a"),
        ],
    }
}

/// Sends it until the server has had enough; a peer that is allowed this much is one too patient with.
fn send_without_end(server: &Hosted, peer: &mut Peer, start: &[u8], on: &[u8]) {
    const TOO_MUCH: usize = 32 * 1024 * 1024;
    let block = on.repeat(64 * 1024 / on.len());
    peer.says(start);
    let mut sent = 0;
    let listener = peer.stream().try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        // What is said about it has to be taken in, or the server could not go on.
        scope.spawn(move || std::io::copy(&mut &listener, &mut std::io::sink()));
        loop {
            match peer.stream().write_all(&block) {
                Ok(()) => sent += block.len(),
                Err(error) if is_an_end(&error) => break,
                Err(error) => panic!("{}, {:?}: {error}", server.mechanism, server.spoken),
            }
            let what = start.escape_ascii();
            assert!(sent < TOO_MUCH, "{}, {:?}: there is no end to {what}", server.mechanism, server.spoken);
        }
        let _ = peer.stream().shutdown(Shutdown::Both);
    });
}

#[test]
fn a_message_without_end_is_refused_before_it_takes_much() {
    on_every_protocol(|mechanism, spoken| {
        let giants = giants(spoken);
        if giants.is_empty() {
            return; // it has no messages
        }
        let mut server = Hosted::start(mechanism, spoken, config());
        for (start, on) in &giants {
            let mut peer = server.guest();
            send_without_end(&server, &mut peer, start, on);
            server.neighbour_is_served();
        }
        // None is there any more; together they may have taken what one may, and what its answer took.
        server.has_grown_by_at_most(server.may_take(2, 2 * server.config.limits.message as u64));
        server.end();
    });
}
