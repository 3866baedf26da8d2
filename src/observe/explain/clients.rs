//! Clients: a connection for each request or one for all of them, and four ways to have waited long enough.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::experiment::{Experiment, PATIENCE, SOCK_DIAG, again};
use super::serving::serve;
use super::{Knob, Topic};
use crate::client::{Client, Endpoint, Frames, Settings, Timeouts};
use crate::mechanism::Mechanism;
use crate::observe::{Sockets, State, counter};
use crate::server::Limits;

pub(super) const KEEP_ALIVE_AND_POOLS: Topic = Topic {
    name: "keep-alive-and-pools",
    question: "What does a new connection cost, against one that is used again?",
    prediction: "For each request a handshake, an accept and a socket in TIME_WAIT; over one connection there is one \
                 of each however many requests there are.",
    knobs: &[Knob {
        name: "requests",
        default: 100,
        range: (1, 2_000),
        meaning: "how many requests are made in each way",
    }],
    read_on: &["RFC 9112, 9.3: Persistence", "tcp(7)", "`pollmark compare --churn 0,1`"],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("sockets in TIME_WAIT"));
        }
        let requests = experiment.size("requests");
        let mechanism = Mechanism::choose(experiment.registry)?.name().to_owned();
        let mut ways = Vec::new();
        for (way, connections) in [("a connection for each request", requests), ("one connection for all", 1)] {
            let ((left, opened, each), stats) =
                serve(experiment, &mechanism, Limits::default(), |experiment, address| {
                    let opened = counter("ActiveOpens")?;
                    let mut ports = HashSet::new();
                    let began = Instant::now();
                    for _ in 0..connections {
                        let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
                        client.set_nodelay(true)?;
                        client.set_read_timeout(Some(PATIENCE))?;
                        ports.insert(client.local_addr()?);
                        for _ in 0..requests / connections {
                            client.write_all(b"x")?;
                            client.read_exact(&mut [0])?;
                        }
                    }
                    let each = began.elapsed() / requests as u32;
                    let opened = counter("ActiveOpens")?.saturating_sub(opened);
                    let left = experiment.until("what is left in TIME_WAIT", || {
                        let left = time_wait(address)?.intersection(&ports).count();
                        Ok((left == ports.len()).then_some(left))
                    })?;
                    Ok((left, opened, each))
                })?;
            experiment.note(format!("{requests} requests, {way}"));
            experiment.figure("connections opened by this host meanwhile", opened, "/proc/net/snmp: ActiveOpens");
            experiment.figure("a request took", format!("{} µs", each.as_micros()), "the clock");
            experiment.figure("sockets left in TIME_WAIT", left, SOCK_DIAG);
            experiment.claim(format!("{way}: accepted"), connections as u64, stats.accepted);
            experiment.claim(format!("{way}: left in TIME_WAIT"), connections, left);
            ways.push((left, each));
        }
        let [(left, each), (left_of_one, each_of_one)] = ways[..] else { return Err(io::Error::other("two ways")) };
        Ok(format!(
            "{requests} requests left {left} sockets in TIME_WAIT if each had a connection, at {} µs a request, and \
             {left_of_one} over one, at {} µs. The difference is the handshake, and over a real network it is a round \
             trip more, or several with TLS. A pool keeps connections for the next request, and has to expect that the \
             server has closed one meanwhile.",
            each.as_micros(),
            each_of_one.as_micros(),
        ))
    },
};

/// The clients of the server whose connections are over.
fn time_wait(address: SocketAddr) -> io::Result<HashSet<SocketAddr>> {
    let list = |which: Sockets| which.in_states(&[State::TimeWait]).list();
    let at = list(Sockets::at(address.port()))?.into_iter().filter(|one| one.local == address).map(|one| one.peer);
    let to = list(Sockets::to(address.port()))?.into_iter().filter(|one| one.peer == address).map(|one| one.local);
    Ok(at.chain(to).collect())
}

pub(super) const TIMEOUTS: Topic = Topic {
    name: "timeouts",
    question: "\"It timed out\": which of the timeouts was it?",
    prediction: "There are four that differ. Connect: nobody completed the handshake. Read: connected, and no byte of \
                 an answer. Total: bytes kept coming, and the end did not. Idle: nobody asked anything, and the other \
                 end closed.",
    knobs: &[Knob { name: "limit_ms", default: 200, range: (20, 1_000), meaning: "each of the four timeouts, in ms" }],
    read_on: &[
        "connect(2): ETIMEDOUT",
        "socket(7): SO_RCVTIMEO",
        "tcp(7): tcp_syn_retries",
        "the `Timeouts` of pollmark's client, the `Limits` of its server",
    ],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("a handshake that is not completed"));
        }
        let limit = Duration::from_millis(experiment.setting("limit_ms"));
        let which = |endpoint: SocketAddr, timeouts: Timeouts| -> io::Result<(String, Duration)> {
            let settings = Settings { connections: 1, timeouts, ..Settings::default() };
            let mut client = Client::open(Endpoint::from(endpoint), Frames::default())?.with_settings(settings);
            let mut request = Vec::new();
            Frames::write(b"question", &mut request);
            let began = Instant::now();
            let seen = match client.request(&request) {
                Ok(_) => "answered".to_owned(),
                Err(error) => error.timeout().map_or_else(|| error.to_string(), |which| which.to_string()),
            };
            Ok((seen, began.elapsed()))
        };
        let none = Timeouts { checkout: PATIENCE, ..Timeouts::NONE };
        let mut told = Vec::new();
        let mut tell =
            |experiment: &mut Experiment<'_>, situation: &str, predicted: &str, (seen, took): (String, Duration)| {
                experiment.note(situation);
                experiment.figure("what the client calls it", &seen, "its error");
                experiment.figure("after", format!("{} ms", took.as_millis()), "the clock");
                experiment.claim(situation, predicted.to_owned(), seen.clone());
                experiment.claim_that(
                    format!("{situation}: not before its time"),
                    format!("{} ms or more", limit.as_millis()),
                    format!("{} ms", took.as_millis()),
                    took >= limit,
                );
                told.push(format!("{seen} after {} ms", took.as_millis()));
            };

        // Its queue is full of one connection.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        full.listen(0)?;
        let full = TcpListener::from(full);
        let _queued = TcpStream::connect_timeout(&full.local_addr()?, PATIENCE)?;
        experiment.until("a full queue", || {
            let all = Sockets::at(full.local_addr()?.port()).in_states(&[State::Listen]).list()?;
            Ok(all.iter().any(|one| one.receive_queue == 1).then_some(()))
        })?;
        let seen = which(full.local_addr()?, Timeouts { connect: limit, ..none })?;
        tell(experiment, "the server's accept queue is full", "connect", seen);

        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let seen = which(silent.local_addr()?, Timeouts { read: limit, ..none })?;
        tell(experiment, "the server is connected and says nothing", "read", seen);

        let drip = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = drip.local_addr()?;
        let dripping = std::thread::spawn(move || {
            let Ok((mut client, _)) = drip.accept() else { return };
            // A length, and then a byte of the answer at a time, until the client has gone.
            let _ = client.write_all(&60_000u32.to_be_bytes());
            while client.write_all(b".").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let seen = which(address, Timeouts { read: PATIENCE, total: limit, ..none })?;
        // Whoever it may still wait for.
        let _ = TcpStream::connect_timeout(&address, PATIENCE);
        let _ = dripping.join();
        tell(experiment, "the answer comes byte by byte, without an end", "total", seen);

        let mechanism = Mechanism::choose(experiment.registry)?.name().to_owned();
        let limits = Limits { idle: Some(limit), ..Limits::default() };
        let (seen, _) = serve(experiment, &mechanism, limits, |_, address| {
            let began = Instant::now();
            let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
            client.set_read_timeout(Some(PATIENCE))?;
            let seen = match again(|| client.read(&mut [0; 16])) {
                Ok(0) => "closed by the server".to_owned(),
                Ok(count) => format!("{count} bytes"),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => "closed by the server".to_owned(),
                Err(error) => error.to_string(),
            };
            Ok((seen, began.elapsed()))
        })?;
        tell(experiment, "the client is connected and asks nothing", "closed by the server", seen);
        Ok(format!(
            "With {} ms for each, four servers that failed in four ways were told apart: {}. The first two say that a \
             server is not there or is stuck, the third that it is slow, the fourth that nobody needed it. One timeout \
             for all four hides which, and the one that is left out is the one that hangs.",
            limit.as_millis(),
            told.join("; "),
        ))
    },
};
