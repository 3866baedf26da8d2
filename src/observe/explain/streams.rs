//! Bytes: a stream has no messages, a call may wait for them or not, a peer may have no room, and small ones may be
//! late.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Interest, Token, raw};
use socket2::SockRef;

use super::experiment::{CALL, Experiment, PATIENCE, SOCK_DIAG, again};
use super::watchers::Watchers;
use super::{Knob, Topic};
use crate::observe::{Sockets, counter};

pub(super) const BYTE_STREAM: Topic = Topic {
    name: "byte-stream",
    question: "If a client writes three times, does the server read three times?",
    prediction: "TCP keeps the bytes and their order, and forgets where each write ended: three writes may be one \
                 read, and one write three reads. A length before each message tells them apart again.",
    knobs: &[
        Knob { name: "bytes", default: 7, range: (3, 1_000), meaning: "how many bytes each of the three writes has" },
        Knob { name: "room", default: 10_000, range: (1, 10_000), meaning: "room for so many bytes in the one read" },
    ],
    read_on: &["tcp(7)", "recv(2)", "RFC 9293, 3.8: Data Communication", "`pollmark serve --protocol frame`"],
    run: |experiment| {
        let (bytes, room) = (experiment.size("bytes"), experiment.size("room"));
        let (_listener, client, server) = experiment.pair()?;
        client.set_nodelay(true)?;
        for letter in *b"abc" {
            experiment.send(&client, &vec![letter; bytes])?;
        }
        experiment.arrived(&server, 3 * bytes)?;
        let once = experiment.receive(&server, room)?;
        experiment.claim("bytes in one read, after three writes", 3 * bytes, once.len());
        let mut rest = vec![0; 3 * bytes - once.len()];
        (&server).read_exact(&mut rest)?;

        experiment.send(&client, &vec![b'd'; 3 * bytes])?;
        experiment.arrived(&server, 3 * bytes)?;
        let (mut reads, mut read) = (0, 0);
        while read < 3 * bytes {
            read += experiment.receive(&server, bytes)?.len();
            reads += 1;
        }
        experiment.claim("reads of that size, after one write", 3, reads);

        // Four bytes of length, then the message.
        let framed = |letter: u8| [&(bytes as u32).to_be_bytes()[..], &vec![letter; bytes]].concat();
        let sent = [framed(b'e'), framed(b'f'), framed(b'g')].concat();
        experiment.send(&client, &sent)?;
        experiment.arrived(&server, sent.len())?;
        let stream = experiment.receive(&server, sent.len())?;
        let (mut messages, mut left) = (Vec::new(), &stream[..]);
        while let Some((length, behind)) = left.split_first_chunk::<4>() {
            let Some((message, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
            messages.push(String::from_utf8_lossy(&message[..1]).into_owned());
            left = behind;
        }
        experiment.figure("messages found by their lengths", messages.join(" "), CALL);
        experiment.claim("messages in one read, by their lengths", "e f g".to_owned(), messages.join(" "));
        Ok(format!(
            "Three writes of {bytes} bytes came as one read of {}; one write of {} bytes as {reads} reads. What kept \
             its order lost its borders, and which reads there are depends on time and room and on nothing the sender \
             does. With four bytes of length before each message, {} messages were found in one read of {} bytes: a \
             protocol has to bring its own borders.",
            once.len(),
            3 * bytes,
            messages.len(),
            stream.len(),
        ))
    },
};

pub(super) const BLOCKING_AND_NONBLOCKING: Topic = Topic {
    name: "blocking-and-nonblocking",
    question: "What does a call do when there is nothing to read, or no room to write?",
    prediction: "On a blocking socket the thread sleeps in the kernel until there is. On a non-blocking one the call \
                 returns at once with EAGAIN, and has done nothing, or what it could.",
    knobs: &[Knob {
        name: "send_buffer",
        default: 16_384,
        range: (4_096, 1 << 20),
        meaning: "bytes of SO_SNDBUF of the writer",
    }],
    read_on: &["recv(2): EAGAIN", "fcntl(2): O_NONBLOCK", "socket(7): SO_SNDBUF"],
    run: |experiment| {
        let (_listener, client, server) = experiment.pair()?;
        SockRef::from(&server).set_send_buffer_size(experiment.size("send_buffer"))?;
        server.set_nonblocking(true)?;
        let empty = experiment.receive(&server, 16);
        experiment.claim_error("recv with nothing to read, non-blocking", io::ErrorKind::WouldBlock, &empty);
        experiment.send(&client, b"hello")?;
        experiment.arrived(&server, 5)?;
        let read = experiment.receive(&server, 16)?;
        experiment.claim("recv once there is something", 5, read.len());

        let (filled, full) = fill(experiment, &server)?;
        experiment.claim_error("send without room, non-blocking", io::ErrorKind::WouldBlock, &full);
        experiment.claim_that("bytes written until there was no room", "more than 0", filled, filled > 0);

        server.set_nonblocking(false)?;
        let (slept, state) = sleeper(experiment, &client, &server)?;
        experiment.claim("a blocking recv had returned before anything was sent", false, slept);
        let state =
            state.map_or("which this OS does not show".to_owned(), |state| format!("which /proc shows as \"{state}\""));
        Ok(format!(
            "Non-blocking calls never waited: an empty socket said EAGAIN, and a full one too, after it had taken \
             {filled} bytes. The blocking call put its thread to sleep, {state}, until a byte came. So a thread serves \
             one blocking connection, or many non-blocking ones if something tells it which are ready: that is what \
             select, poll and epoll are for.",
        ))
    },
};

/// How soon a writer looks again whether there is room.
const SHORT: Duration = Duration::from_micros(50);

/// Writes until there is no room, and none comes although the peer's kernel takes what it can; how much that was, and
/// what was said then.
fn fill(experiment: &mut Experiment<'_>, stream: &TcpStream) -> io::Result<(usize, io::Result<usize>)> {
    let piece = [b'x'; 8_192];
    let mut writer = stream;
    // What is sent again makes room once more, a fraction of a second later.
    let (mut written, mut refused, mut pause) = (0, None, SHORT);
    let began = Instant::now();
    let last = loop {
        match again(|| writer.write(&piece)) {
            Ok(count) => (written, refused, pause) = (written + count, None, SHORT),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let since = *refused.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(1) || began.elapsed() > PATIENCE {
                    break Err(error);
                }
                std::thread::sleep(pause);
                pause = (2 * pause).min(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    };
    experiment.note(format!("send({}, 8192 bytes), until there is no room for a second", raw(stream.as_source())));
    experiment.figure("bytes written in all", written, CALL);
    experiment.figure("then send said", last.as_ref().map_or_else(io::Error::to_string, usize::to_string), CALL);
    Ok((written, last))
}

/// Whether a thread that reads from `server` has returned before `client` sends; and how /proc shows it.
fn sleeper(
    experiment: &mut Experiment<'_>,
    client: &TcpStream,
    server: &TcpStream,
) -> io::Result<(bool, Option<String>)> {
    let (begun, returned) = (AtomicBool::new(false), AtomicBool::new(false));
    let (begun, returned) = (&begun, &returned);
    let number = raw(server.as_source());
    let mut reader = server;
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let sleeping = scope.spawn(move || {
            let _ = tell.send(thread_number());
            begun.store(true, Ordering::SeqCst);
            let read = again(|| reader.read(&mut [0; 16]));
            returned.store(true, Ordering::SeqCst);
            read
        });
        let thread = told.recv_timeout(PATIENCE).ok().flatten();
        experiment.note(format!("a second thread calls recv({number}), blocking"));
        let state = match thread {
            Some(thread) => {
                let path = format!("/proc/self/task/{thread}/status");
                let asleep = experiment.until("the thread to sleep", || {
                    let status = std::fs::read_to_string(&path)?;
                    let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().trim();
                    Ok((begun.load(Ordering::SeqCst) && state.starts_with('S')).then(|| state.to_owned()))
                })?;
                experiment.figure("state of that thread", &asleep, "/proc/self/task");
                Some(asleep)
            }
            None => None,
        };
        let early = returned.load(Ordering::SeqCst);
        // Its own buffer is full of what it was sent, and the other direction is free.
        experiment.send(client, b"!")?;
        let read = sleeping.join().map_err(|_| io::Error::other("the reading thread panicked"))??;
        experiment.figure("bytes its recv returned then", read, CALL);
        Ok((early, state))
    })
}

/// The kernel's number of this thread, where it shows what that does.
pub(super) fn thread_number() -> Option<i32> {
    cfg_if::cfg_if! {
        if #[cfg(linux_like)] {
            Some(rustix::thread::gettid().as_raw_nonzero().get())
        } else {
            None
        }
    }
}

pub(super) const SLOW_READER: Topic = Topic {
    name: "slow-reader",
    question: "A client asks for much and reads nothing. Where does the answer go?",
    prediction: "Into the client's receive buffer, then into the server's send buffer, then nowhere: the client's \
                 window closes and the server's call says so. No mechanism says then that the server may write. No byte \
                 is lost, and when the client reads, it goes on.",
    knobs: &[
        Knob {
            name: "receive_buffer",
            default: 16_384,
            range: (4_096, 1 << 20),
            meaning: "bytes of SO_RCVBUF of the client",
        },
        Knob {
            name: "send_buffer",
            default: 16_384,
            range: (4_096, 1 << 20),
            meaning: "bytes of SO_SNDBUF of the server",
        },
    ],
    read_on: &["tcp(7): tcp_rmem, tcp_wmem", "socket(7): SO_RCVBUF", "RFC 9293, 3.8.6: Managing the Window"],
    run: |experiment| {
        let (_listener, client, server) = experiment.pair()?;
        SockRef::from(&client).set_recv_buffer_size(experiment.size("receive_buffer"))?;
        SockRef::from(&server).set_send_buffer_size(experiment.size("send_buffer"))?;
        let (near, far) = (server.local_addr()?, client.local_addr()?);
        server.set_nonblocking(true)?;
        let (filled, refused) = fill(experiment, &server)?;
        experiment.claim_error("the server's last send", io::ErrorKind::WouldBlock, &refused);

        let mut watchers = Watchers::open(experiment)?;
        let room = watchers.register(experiment, WRITER, "the server's end", server.as_source(), Interest::WRITABLE)?;
        let mut where_it_is = "in buffers this OS does not show".to_owned();
        if experiment.shows_sockets() {
            // Each byte is at one end or the other, once the last acknowledgement has come.
            let (reader, writer) = experiment.until("every byte to be in one of the two queues", || {
                let find = |local, peer| -> io::Result<_> {
                    let all = Sockets::at(std::net::SocketAddr::port(&local)).with_figures().list()?;
                    Ok(all.into_iter().find(|one| one.local == local && one.peer == peer))
                };
                let pair = find(far, near)?.zip(find(near, far)?);
                Ok(pair.filter(|(reader, writer)| (reader.receive_queue + writer.send_queue) as usize == filled))
            })?;
            experiment.socket("the client's end", &reader);
            experiment.socket("the server's end", &writer);
            experiment.claim("mechanisms that say there is room", 0, room);
            experiment.claim(
                "bytes unread at the client and unsent at the server, together",
                filled,
                (reader.receive_queue + writer.send_queue) as usize,
            );
            let stuck = writer.send_queue;
            experiment.claim_that("bytes the server has written in vain so far", "more than 0", stuck, stuck > 0);
            if let Some(window) = writer.figures.and_then(|figures| figures.peer_window) {
                experiment.figure("bytes of window the client last offered", window, SOCK_DIAG);
                let room = u32::try_from(experiment.size("receive_buffer")).unwrap_or(u32::MAX);
                experiment.claim_that("the window has closed", "less than the client's buffer", window, window < room);
            }
            where_it_is = format!("{} at the client, {} at the server", reader.receive_queue, writer.send_queue);
        }
        let mut read = 0;
        let mut buffer = vec![0; 65_536];
        while read < filled {
            match again(|| (&client).read(&mut buffer))? {
                0 => break,
                count => read += count,
            }
        }
        experiment.note(format!("the client reads {read} bytes"));
        experiment.claim("bytes the client has read in the end", filled, read);
        let room_again = watchers.expect(experiment, WRITER)?;
        experiment.claim("mechanisms that say there is room, then", watchers.count(), room_again);
        let deadline = Instant::now() + PATIENCE;
        let mut again = (&server).write(b"x");
        while again.is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            again = (&server).write(b"x");
        }
        experiment.claim("the server may write again", true, again.is_ok());
        Ok(format!(
            "The server could write {filled} bytes to a client that read none: {where_it_is}. Then its calls returned \
             EAGAIN, and {room} mechanisms said that it might write, {room_again} when the client had read: that is how \
             a program hears that its peer is slow. A server that keeps the rest in memory of \
             its own has no such limit, and slow clients are how it runs out: stop reading from those who do not read."
        ))
    },
};

const WRITER: Token = Token(1);

pub(super) const NAGLE_AND_DELAYED_ACK: Topic = Topic {
    name: "nagle-and-delayed-ack",
    question: "Why does a request that is written in two pieces take 40 ms?",
    prediction: "Without TCP_NODELAY the second small write is held back until the first is acknowledged, and the \
                 peer, which waits for the second before it answers, delays that acknowledgement.",
    knobs: &[
        Knob {
            name: "nodelay",
            default: 0,
            range: (0, 1),
            meaning: "1: the client sets TCP_NODELAY, and nothing is held back",
        },
        Knob { name: "rounds", default: 40, range: (20, 100), meaning: "how many requests are made" },
    ],
    read_on: &["tcp(7): TCP_NODELAY, TCP_QUICKACK", "RFC 896", "RFC 1122, 4.2.3.2: When to Send an ACK Segment"],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("what is written and not sent"));
        }
        let rounds = experiment.size("rounds");
        let delayed = counter("DelayedACKs")?;
        let (_listener, client, server) = experiment.pair()?;
        client.set_nodelay(experiment.setting("nodelay") == 1)?;
        server.set_nodelay(true)?;
        let (near, far) = (client.local_addr()?, client.peer_addr()?);
        let (mut held, mut longest, mut shortest, mut example) = (0, Duration::ZERO, Duration::MAX, None);
        for _ in 0..rounds {
            let began = Instant::now();
            (&client).write_all(b"head")?;
            (&client).write_all(b"and body")?;
            let sockets = Sockets::at(near.port()).with_figures().list()?;
            let end = sockets.into_iter().find(|one| one.local == near && one.peer == far);
            let unsent = end.as_ref().and_then(|one| one.figures).map_or(0, |figures| figures.not_sent);
            if unsent > 0 {
                (held, example) = (held + 1, end);
            }
            // The server answers when it has both.
            (&server).read_exact(&mut [0; 12])?;
            (&server).write_all(b"done")?;
            (&client).read_exact(&mut [0; 4])?;
            (longest, shortest) = (longest.max(began.elapsed()), shortest.min(began.elapsed()));
        }
        let delayed = counter("DelayedACKs")?.saturating_sub(delayed);
        experiment.note(format!("{rounds} times: send 4 bytes, send 8 bytes, wait for the answer"));
        if let Some(end) = &example {
            experiment.socket("the client's end, with the second write held back", end);
        }
        experiment.figure("requests of which the second write was held back", held, SOCK_DIAG);
        experiment.figure("the longest request", format!("{} µs", longest.as_micros()), "the clock");
        experiment.figure("the shortest", format!("{} µs", shortest.as_micros()), "the clock");
        experiment.figure("DelayedACKs of this host has risen by", delayed, "/proc/net/netstat");
        experiment.claim_that("requests of which the second write was held back", "1 or more", held, held > 0);
        let millis = longest.as_millis();
        experiment.claim_that("the longest request", "25 ms or more", format!("{millis} ms"), millis >= 25);
        let outcome = match held {
            0 => "Nothing was held back: each write was sent at once".to_owned(),
            held => format!("Of {rounds} requests {held} were seen with their second write held back in the kernel"),
        };
        Ok(format!(
            "{outcome}; the shortest took {} µs, the longest {millis} ms. Nagle's rule saves small segments and a \
             delayed acknowledgement saves empty ones, and each waits for the other. Write a request by one call, or \
             set TCP_NODELAY, as every server here does.",
            shortest.as_micros(),
        ))
    },
};
