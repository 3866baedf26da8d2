//! A long line: what a new connection costs before its first byte, in round trips.
//!
//! The line is a proxy of ours, which holds whatever comes for so many milliseconds, in each direction. It cannot hold
//! back the kernel's own handshake with the client, which ends at the near end of the line. So the line crosses for it:
//! it connects to the server when the asking has crossed it, and lets the client's first byte begin when the answer to
//! that has crossed it back.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::experiment::{PATIENCE, again};
use super::serving::attend_threads;
use super::{Knob, Topic};
use crate::protocol::{Context, Peer, Protocol};

pub(super) const CONNECTION_COST: Topic = Topic {
    name: "connection-cost",
    question: "The server is far away. What does a new connection cost before the first byte of an answer?",
    prediction: "A round trip to connect, before the one of the request. With TLS 1.3 another one, with TLS 1.2 two: \
                 for certificates and keys are asked for and answered before anything else is said. On a connection \
                 that is there already, a request costs its own round trip alone.",
    knobs: &[
        Knob { name: "delay_ms", default: 10, range: (1, 50), meaning: "how long the line is, one way, in ms" },
        Knob { name: "requests", default: 4, range: (2, 10), meaning: "how many requests are made in each way" },
        Knob { name: "keep", default: 1, range: (0, 1), meaning: "0: each request has a connection of its own" },
    ],
    read_on: &[
        "RFC 9293, 3.5: Establishing a Connection",
        "RFC 8446, 2: TLS 1.3, Protocol Overview",
        "RFC 5246, 7.3: TLS 1.2, Handshake Protocol Overview",
        "RFC 7413: TCP Fast Open",
        "RFC 9000, 7: QUIC, Cryptographic and Transport Handshake",
    ],
    run: |experiment| {
        let delay = Duration::from_millis(experiment.setting("delay_ms"));
        let (requests, keep) = (experiment.size("requests"), experiment.setting("keep") == 1);
        let mut firsts = Vec::new();
        let (mut near, mut later, mut last) = (Duration::ZERO, 0, Duration::ZERO);
        for way in WAYS {
            let name = way.name;
            let (answers, _) = attend_threads(experiment, *way, |experiment, address| {
                let mut answers = Vec::new();
                let mut connection = None;
                for _ in 0..requests {
                    let mut client = match connection.take() {
                        Some(client) => client,
                        None => Client::connect(address, delay)?,
                    };
                    answers.push(client.request(way)?);
                    near = client.connected;
                    if keep {
                        connection = Some(client);
                    } else {
                        client.close()?;
                    }
                }
                if let Some(client) = connection {
                    if experiment.shows_sockets() {
                        let (local, peer) = (client.stream.local_addr()?, client.stream.peer_addr()?);
                        let end = experiment.end("the client's end", local, peer, |_| true)?;
                        experiment.socket("the client's end, of which the kernel knows the near end alone", &end);
                    }
                    client.close()?;
                }
                Ok(answers)
            })?;
            let [first, .., other] = &answers[..] else { return Err(io::Error::other("two answers at least")) };
            let how = if way.flights.is_empty() { "" } else { ", its flights without cryptography" };
            experiment.note(format!("{name}{how}: {requests} requests, a line of {} ms each way", delay.as_millis()));
            experiment.figure("what crossed the line until the first answer", crossed(&first.crossings), LINE);
            experiment.figure("the first answer came after", format!("{} ms", first.took.as_millis()), "the clock");
            experiment.figure("what crossed it for the last one", crossed(&other.crossings), LINE);
            experiment.figure("the last answer came after", format!("{} ms", other.took.as_millis()), "the clock");
            let (trips, others) = (round_trips(&first.crossings), round_trips(&other.crossings));
            experiment.claim(format!("{name}: round trips to the first answer"), way.round_trips(), trips);
            experiment.claim(format!("{name}: round trips to each other answer, at most"), 1, most(&answers[1..]));
            // Less than the line is long would mean that it was not crossed.
            let least = 2 * delay * trips as u32;
            experiment.claim_that(
                format!("{name}: the first answer did not come before so many round trips"),
                format!("{} ms or more", least.as_millis()),
                format!("{} ms", first.took.as_millis()),
                first.took >= least,
            );
            firsts.push(format!("{name} {trips} ({} ms)", first.took.as_millis()));
            (later, last) = (others, other.took);
        }
        experiment.note("connect(2), to the near end of the line");
        experiment.figure("it returned after", format!("{} µs", near.as_micros()), "the clock");
        Ok(format!(
            "With {} ms for a round trip, the first answer took so many of them: {}; the last of {requests} took \
             {later} ({} ms). The flights of TLS were bytes, as many as it would send and without its cryptography, \
             and the line crossed for the handshake of TCP: connect itself had returned after {} µs, for the kernel \
             shook hands with the near end. What a connection costs is distance and not work, which no server is fast \
             enough to save: connections that are kept do, and resumed sessions, and QUIC, which connects and agrees \
             in one.",
            2 * delay.as_millis(),
            firsts.join(", "),
            last.as_millis(),
            near.as_micros(),
        ))
    },
};

const LINE: &str = "the line";

/// What is said before the first request, in flights: so many bytes there, so many back. Nothing of it is encrypted.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    flights: &'static [(usize, usize)],
    /// What the client says with its first request.
    before_the_request: usize,
}

/// A chain of two certificates with keys of elliptic curves, and no session resumed.
const WAYS: &[Way] = &[
    Way { name: "TCP alone", flights: &[], before_the_request: 0 },
    Way {
        name: "TLS 1.3",
        // ClientHello; ServerHello, EncryptedExtensions, Certificate, CertificateVerify, Finished.
        flights: &[(517, 2_700)],
        // Finished.
        before_the_request: 64,
    },
    Way {
        name: "TLS 1.2",
        // ClientHello; ServerHello, Certificate, ServerKeyExchange, ServerHelloDone. Then ClientKeyExchange,
        // ChangeCipherSpec, Finished; ChangeCipherSpec, Finished.
        flights: &[(517, 2_700), (93, 51)],
        before_the_request: 0,
    },
];

const REQUEST: usize = 100;
const ANSWER: usize = 1_000;

impl Way {
    /// To connect, to agree, to ask.
    fn round_trips(self) -> usize {
        1 + self.flights.len() + 1
    }

    /// The flight of this number: what the client says, and what it is answered.
    fn flight(self, number: usize) -> (usize, usize) {
        let first_request = usize::from(number == self.flights.len()) * self.before_the_request;
        self.flights.get(number).copied().unwrap_or((first_request + REQUEST, ANSWER))
    }
}

/// A server that answers each flight when it is whole.
impl Protocol for Way {
    /// Which flight is next.
    type Session = usize;

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) -> usize {
        0
    }

    fn received(&mut self, next: &mut usize, input: &[u8], cx: &mut Context<'_>) -> usize {
        let (asked, answered) = self.flight(*next);
        if input.len() < asked {
            return 0;
        }
        *next += 1;
        cx.send(&vec![b'a'; answered]);
        asked
    }
}

/// A client at the near end of a line of its own.
struct Client {
    stream: TcpStream,
    line: Line,
    began: Instant,
    /// How long connect(2) took.
    connected: Duration,
    /// The flight that is next, and what had crossed the line before.
    next: usize,
    crossed: usize,
}

/// What an answer took.
struct Answer {
    crossings: Vec<Crossing>,
    took: Duration,
}

impl Client {
    fn connect(server: SocketAddr, delay: Duration) -> io::Result<Client> {
        let near = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let began = Instant::now();
        let stream = TcpStream::connect_timeout(&near.local_addr()?, PATIENCE)?;
        let connected = began.elapsed();
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (incoming, _) = near.accept()?;
        let line = Line::between(incoming, server, delay);
        Ok(Client { stream, line, began, connected, next: 0, crossed: 0 })
    }

    /// Says what is to be said before a request, if it is the first, and makes one.
    fn request(&mut self, way: &Way) -> io::Result<Answer> {
        let began = if self.next == 0 { self.began } else { Instant::now() };
        loop {
            let (asked, answered) = way.flight(self.next);
            let is_request = self.next >= way.flights.len();
            self.next += 1;
            self.stream.write_all(&vec![b'q'; asked])?;
            again(|| self.stream.read_exact(&mut vec![0; answered]))?;
            if is_request {
                break;
            }
        }
        let crossings = self.line.crossings();
        let before = std::mem::replace(&mut self.crossed, crossings.len());
        Ok(Answer { crossings: crossings[before..].to_vec(), took: began.elapsed() })
    }

    fn close(self) -> io::Result<()> {
        drop(self.stream);
        self.line.end()
    }
}

/// Something has entered the line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crossing {
    /// A connection is asked for, or it is there.
    Handshake(Direction),
    /// So many bytes.
    Bytes(Direction, usize),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

impl Crossing {
    fn direction(self) -> Direction {
        match self {
            Crossing::Handshake(direction) | Crossing::Bytes(direction, _) => direction,
        }
    }
}

/// How often something went there and something came back.
fn round_trips(crossings: &[Crossing]) -> usize {
    let turns = crossings.windows(2).map(|pair| (pair[0].direction(), pair[1].direction()));
    turns.filter(|turn| *turn == (Direction::There, Direction::Back)).count()
}

fn most(answers: &[Answer]) -> usize {
    answers.iter().map(|answer| round_trips(&answer.crossings)).max().unwrap_or(0)
}

/// Flight by flight: what goes in one direction without a word from the other is one.
fn crossed(crossings: &[Crossing]) -> String {
    let flights = crossings.chunk_by(|one, next| one.direction() == next.direction());
    let flights = flights.map(|flight| {
        let bytes = |one: &Crossing| if let Crossing::Bytes(_, count) = one { *count } else { 0 };
        let count = flight.iter().map(bytes).sum::<usize>();
        match (flight[0], count) {
            (Crossing::Handshake(Direction::There), _) => "connect →".to_owned(),
            (Crossing::Handshake(Direction::Back), _) => "← connected".to_owned(),
            (Crossing::Bytes(Direction::There, _), count) => format!("{count} B →"),
            (Crossing::Bytes(Direction::Back, _), count) => format!("← {count} B"),
        }
    });
    flights.collect::<Vec<_>>().join(", ")
}

/// A proxy that holds everything for a while.
struct Line {
    log: Log,
    carrying: JoinHandle<io::Result<()>>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Crossing>>>);

impl Log {
    fn enter(&self, crossing: Crossing) {
        self.0.lock().expect("nobody panics with it").push(crossing);
    }
}

impl Line {
    fn between(incoming: TcpStream, server: SocketAddr, delay: Duration) -> Line {
        let log = Log::default();
        let carrying = spawn({
            let log = log.clone();
            move || {
                log.enter(Crossing::Handshake(Direction::There));
                sleep(delay);
                let outgoing = TcpStream::connect_timeout(&server, PATIENCE)?;
                log.enter(Crossing::Handshake(Direction::Back));
                sleep(delay);
                for end in [&incoming, &outgoing] {
                    end.set_nodelay(true)?;
                }
                let there = carry(incoming.try_clone()?, outgoing.try_clone()?, delay, Direction::There, log.clone());
                let back = carry(outgoing, incoming, delay, Direction::Back, log);
                let done = [there, back].map(JoinHandle::join);
                done.into_iter().try_for_each(|done| done.map_err(|_| io::Error::other("the line has panicked"))?)
            }
        });
        Line { log, carrying }
    }

    fn crossings(&self) -> Vec<Crossing> {
        self.log.0.lock().expect("nobody panics with it").clone()
    }

    /// Waits until both ends have closed.
    fn end(self) -> io::Result<()> {
        self.carrying.join().map_err(|_| io::Error::other("the line has panicked"))?
    }
}

/// Takes what comes at once, and gives it on when its time has come: a line is long, and not narrow.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    delay: Duration,
    direction: Direction,
    log: Log,
) -> JoinHandle<io::Result<()>> {
    let (enter, leave) = channel::<(Instant, Vec<u8>)>();
    let giving = spawn(move || {
        for (due, bytes) in leave {
            sleep(due.saturating_duration_since(Instant::now()));
            to.write_all(&bytes)?;
        }
        // Whoever it was may have gone.
        let _ = to.shutdown(Shutdown::Write);
        Ok(())
    });
    spawn(move || {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = again(|| from.read(&mut buffer))?;
            if count == 0 {
                break;
            }
            log.enter(Crossing::Bytes(direction, count));
            // If nobody takes it, the other end has gone.
            let _ = enter.send((Instant::now() + delay, buffer[..count].to_vec()));
        }
        drop(enter);
        giving.join().map_err(|_| io::Error::other("the line has panicked"))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_a_flight_there_and_one_back_however_many_pieces_they_have() {
        use Direction::{Back, There};
        let crossings = [
            Crossing::Handshake(There),
            Crossing::Handshake(Back),
            Crossing::Bytes(There, 10),
            Crossing::Bytes(There, 20),
            Crossing::Bytes(Back, 5),
            Crossing::Bytes(Back, 6),
            Crossing::Bytes(There, 1),
        ];
        assert_eq!(round_trips(&crossings), 2);
        assert_eq!(crossed(&crossings), "connect →, ← connected, 30 B →, ← 11 B, 1 B →");
        assert_eq!((round_trips(&[]), crossed(&[])), (0, String::new()));
    }

    #[test]
    fn what_is_answered_in_a_flight_is_what_is_waited_for() {
        let tls = WAYS[2];
        assert_eq!((tls.flight(0), tls.flight(1)), (tls.flights[0], tls.flights[1]));
        assert_eq!((tls.flight(2), tls.flight(9)), ((REQUEST, ANSWER), (REQUEST, ANSWER)));
        // Its Finished goes with the request, and does not go again.
        let tls = WAYS[1];
        assert_eq!((tls.flight(1), tls.flight(2)), ((REQUEST + tls.before_the_request, ANSWER), (REQUEST, ANSWER)));
    }
}
