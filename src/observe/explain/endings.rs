//! Endings: one direction, both at once, and what is left afterwards.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};

use pollmark_backends::{AsSource, Interest, Token, connect_from, raw};
use socket2::SockRef;

use super::experiment::{Experiment, PATIENCE, SOCK_DIAG};
use super::watchers::Watchers;
use super::{Knob, Topic};
use crate::limits::Limits;
use crate::observe::{Sockets, State};

pub(super) const HALF_CLOSE: Topic = Topic {
    name: "half-close",
    question: "A client has sent its last byte and says so. Can it still be answered?",
    prediction: "Yes: a connection is two streams, and shutdown ends one. The server reads 0, which means that no more \
                 will come and not that the client is gone, and what it sends then still arrives. Every mechanism tells \
                 the server of the end as of something to read.",
    knobs: &[Knob {
        name: "close",
        default: 0,
        range: (0, 1),
        meaning: "1: the client closes its socket instead, and is answered no more",
    }],
    read_on: &["shutdown(2)", "recv(2): RETURN VALUE", "RFC 9293, 3.6: Closing a Connection"],
    run: |experiment| {
        let closes = experiment.setting("close") == 1;
        let (_listener, client, server) = experiment.pair()?;
        let (near, far) = (server.local_addr()?, client.local_addr()?);
        let mut watchers = Watchers::open(experiment)?;
        watchers.register(experiment, WATCHED, "the server's end", server.as_source(), Interest::READABLE)?;
        experiment.send(&client, b"question")?;
        let number = raw(client.as_source());
        let client = if closes {
            experiment.close(client, "by the client");
            None
        } else {
            let half = || client.shutdown(Shutdown::Write);
            experiment.call(format!("shutdown({number}, SHUT_WR)"), half, |()| "0".to_owned())?;
            Some(client)
        };
        let mut states = String::new();
        if experiment.shows_sockets() {
            let server_end = experiment.end("the end", near, far, |one| one.state == State::CloseWait)?;
            let client_end = experiment.end("its acknowledgement", far, near, |one| one.state == State::FinWait2)?;
            experiment.socket("the client's end", &client_end);
            experiment.socket("the server's end", &server_end);
            experiment.claim("the client's end", State::FinWait2, client_end.state);
            experiment.claim("the server's end", State::CloseWait, server_end.state);
            states = format!(", which the kernel shows as {} and {}", client_end.state, server_end.state);
        }
        let read = experiment.receive(&server, 64)?;
        // Of bytes there are none left.
        let told = watchers.expect(experiment, WATCHED)?;
        experiment.claim("mechanisms that tell of the end", watchers.count(), told);
        let end = experiment.receive(&server, 64)?;
        experiment.claim("bytes read before the end", 8, read.len());
        experiment.claim("then recv returns", 0, end.len());
        experiment.send(&server, b"answer")?;
        let answer = match &client {
            Some(client) => experiment.receive(client, 64)?.len(),
            None => 0,
        };
        experiment.claim("bytes of the answer that arrive", 6, answer);
        if closes && experiment.shows_sockets() {
            // To whom there is no program, the kernel answers with a reset.
            experiment.until("the server's end to be reset", || {
                let all = Sockets::at(near.port()).list()?;
                Ok(all.iter().all(|one| one.peer != far || one.state != State::CloseWait).then_some(()))
            })?;
            let late = experiment.send(&server, b"more");
            let said = late.map_or_else(|error| error.to_string(), |count| format!("{count} bytes"));
            experiment.figure("the server's next send", said, super::experiment::CALL);
        }
        Ok(format!(
            "After the client's end was {}, the server read {} bytes, was told by {told} mechanisms of something more, \
             and read 0{states}. Of its answer {answer} bytes arrived. The 0 alone does not say whether the client only has nothing more to ask or is gone: a server \
             that closes at once loses the answers of all who half-close, and one that never does keeps CLOSE_WAIT \
             sockets for ever.",
            if closes { "closed" } else { "half-closed" },
            read.len(),
        ))
    },
};

pub(super) const RESET: Topic = Topic {
    name: "reset",
    question: "Where do \"connection reset by peer\" errors come from?",
    prediction: "From a peer that ends without reading all it was sent, or asks to end so by SO_LINGER 0: instead of \
                 the end of the stream comes an error, what was under way is lost, and nothing is left in TIME_WAIT. Every mechanism tells of it, some as of \
                 something to read alone.",
    knobs: &[Knob {
        name: "unread",
        default: 1,
        range: (0, 1),
        meaning: "0: the server reads everything before it closes, and the first reset does not come",
    }],
    read_on: &["tcp(7)", "socket(7): SO_LINGER", "RFC 9293, 3.5.2: Reset Generation", "RFC 2525, 2.17"],
    run: |experiment| {
        if let Some(version) = pollmark_backends::wine() {
            let why = format!("not to be seen under wine {version}, which tells nobody of resets; Windows does");
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let unread = experiment.setting("unread") == 1;
        let (_listener, client, server) = experiment.pair()?;
        let (near, far) = (server.local_addr()?, client.local_addr()?);
        let mut watchers = Watchers::open(experiment)?;
        watchers.register(experiment, WATCHED, "the client's end", client.as_source(), Interest::READABLE)?;
        experiment.send(&client, b"question")?;
        experiment.arrived(&server, 8)?;
        if !unread {
            experiment.receive(&server, 64)?;
        }
        experiment.close(server, "by the server");
        let told = watchers.expect(experiment, WATCHED)?;
        experiment.claim("mechanisms that tell the client of it", watchers.count(), told);
        let seen = experiment.receive(&client, 64);
        experiment.claim_error("recv after the peer closed with bytes unread", io::ErrorKind::ConnectionReset, &seen);
        let first = said(&seen);
        let mut left = String::new();
        if experiment.shows_sockets() {
            let ours = |one: &crate::observe::Socket| one.local == near && one.peer == far;
            let there = Sockets::at(near.port()).list()?.iter().filter(|one| ours(one)).count();
            experiment.figure("what is left of the server's end", there, SOCK_DIAG);
            experiment.claim("sockets left of the server's end", 0, there);
            left = format!(" The kernel kept {there} sockets of the end that closed.");
        }

        let (_listener, client, server) = experiment.pair()?;
        SockRef::from(&server).set_linger(Some(std::time::Duration::ZERO))?;
        experiment.note("SO_LINGER of the server's end: on, 0 s");
        experiment.close(server, "by the server");
        let seen = experiment.receive(&client, 64);
        experiment.claim_error("recv after a peer closed with SO_LINGER 0", io::ErrorKind::ConnectionReset, &seen);
        Ok(format!(
            "The client of a server that closed {} was told by {told} mechanisms to look, and by recv: {first}.{left} \
             With SO_LINGER 0 it was told: {}. A reset \
             says that the peer will never know what became of the rest: read to the end before you close, and shut \
             down before that.",
            if unread { "with bytes unread" } else { "after it had read everything" },
            said(&seen),
        ))
    },
};

const WATCHED: Token = Token(1);

fn said(outcome: &io::Result<Vec<u8>>) -> String {
    match outcome {
        Ok(bytes) if bytes.is_empty() => "the end of the stream".to_owned(),
        Ok(bytes) => format!("{} bytes", bytes.len()),
        Err(error) => error.to_string(),
    }
}

pub(super) const TIME_WAIT: Topic = Topic {
    name: "time-wait",
    question: "Who pays for a connection that is over?",
    prediction: "Whoever closes first: that end stays in TIME_WAIT, with its address and port. If it is the server, \
                 the port cannot be bound again without SO_REUSEADDR, and can be with it. If it is the client, it \
                 cannot connect to that server from that port, and has so many ports and no more.",
    knobs: &[
        Knob {
            name: "client_first",
            default: 0,
            range: (0, 1),
            meaning: "1: the client closes first, and the port is free at once",
        },
        Knob {
            name: "reuse_address",
            default: 1,
            range: (0, 1),
            meaning: "0: SO_REUSEADDR is never set, and the last bind fails too",
        },
        Knob { name: "ports", default: 2, range: (1, 20), meaning: "how many ports a client has that closes first" },
        Knob { name: "reset", default: 0, range: (0, 1), meaning: "1: it closes by a reset, and may use them again" },
    ],
    read_on: &[
        "socket(7): SO_REUSEADDR",
        "ip(7): IP_LOCAL_PORT_RANGE",
        "tcp(7): tcp_tw_reuse",
        "RFC 9293, 3.6.1",
        "RFC 6191",
    ],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("sockets in TIME_WAIT"));
        }
        let (listener, client, server) = experiment.pair()?;
        let (near, far) = (server.local_addr()?, client.local_addr()?);
        let (first, second) = if experiment.setting("client_first") == 1 { (client, server) } else { (server, client) };
        experiment.close(first, "first");
        let end = experiment.receive(&second, 16)?;
        experiment.claim("the other end reads", 0, end.len());
        experiment.close(second, "second");
        let waits = experiment.until("TIME_WAIT", || {
            let mut all = Sockets::at(near.port()).in_states(&[State::TimeWait]).list()?;
            all.append(&mut Sockets::to(near.port()).in_states(&[State::TimeWait]).list()?);
            Ok(all.into_iter().find(|one| one.local == far || one.peer == far))
        })?;
        let whose = if waits.local == near { "the server" } else { "the client" };
        experiment.socket(format!("{whose}'s end"), &waits);
        experiment.claim("TIME_WAIT is at the end of", "the server", whose);

        experiment.close(listener, "the listener");
        let said = |outcome: &io::Result<socket2::Socket>| match outcome {
            Ok(_) => "succeeded".to_owned(),
            Err(error) => format!("failed ({error})"),
        };
        let plain = bind_again(experiment, near, false)?;
        experiment.claim_error("bind to the server's port, without SO_REUSEADDR", io::ErrorKind::AddrInUse, &plain);
        let first = said(&plain);
        drop(plain);
        let reuse = experiment.setting("reuse_address") == 1;
        let reused = bind_again(experiment, near, reuse)?;
        let how = if reuse { "with it" } else { "without it again" };
        experiment.claim("bind to it with SO_REUSEADDR", "succeeded".to_owned(), said(&reused));
        let tries = experiment.size("ports");
        let mut out = "was not tried, for this kernel gives it any port".to_owned();
        if let Some((refused, why)) = ports_run_out(experiment, tries)? {
            experiment.claim("connections refused to a client that has used each of its ports", tries, refused);
            out = format!("from {tries} ports was refused {refused} times when it had used each of them ({why})");
        }
        let ports = Limits::gather().ports_for_a_source().unwrap_or_default();
        experiment.note("what a client can afford that closes first");
        experiment.figure("ports for connections from one address to one server", ports, "ip_local_port_range");
        experiment.figure("TIME_WAIT is over in", format!("{} ms", waits.timer_ms), SOCK_DIAG);
        // Ports of so many milliseconds each.
        let rate = ports * 1_000 / u64::from(waits.timer_ms.max(1));
        Ok(format!(
            "The end of {whose}, which closed first, was in TIME_WAIT for another {} ms although no program had it any \
             more. To bind the server's port again without SO_REUSEADDR {first}, {how} it {}. A client that closed \
             first {out}; with the {ports} ports there are to one server that is {rate} new connections a second: \
             whoever opens one for each request runs out of them, and a pool does not.",
            waits.timer_ms,
            said(&reused),
        ))
    },
};

/// From each of so many ports a client connects, closes first, and wants to connect again from there alone: how often it
/// is refused, and how. `None` where a client cannot be told to do without its other ports.
fn ports_run_out(experiment: &mut Experiment<'_>, ports: usize) -> io::Result<Option<(usize, String)>> {
    let resets = experiment.setting("reset") == 1;
    let (listener, address) = experiment.listen(64)?;
    let (mut refused, mut why) = (0, "none was".to_owned());
    for _ in 0..ports {
        // Somebody else may be given that port, and a second later the kernel lets it be used again on this host.
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let Some(first) = from_port(experiment, port, address)? else { return Ok(None) };
            let Ok(client) = first else { continue };
            let (server, _) = experiment.accept(&listener)?;
            if resets {
                client.set_linger(Some(std::time::Duration::ZERO))?;
                experiment.note("SO_LINGER of the client's end: on, 0 s");
            }
            experiment.close(client, "by the client, first");
            // The end, or a reset.
            let _ = experiment.receive(&server, 16);
            experiment.close(server, "by the server");
            experiment.until("the client's end to be over", || {
                let mut all = Sockets::at(port).list()?;
                all.retain(|one| one.peer == address);
                Ok(all.iter().all(|one| !resets && one.state == State::TimeWait).then_some(()))
            })?;
            match from_port(experiment, port, address)? {
                Some(Err(error)) => {
                    why = error.to_string();
                    refused += usize::from(error.kind() == io::ErrorKind::AddrNotAvailable);
                    break;
                }
                again => {
                    drop((again, listener.accept()?));
                    if resets {
                        break;
                    }
                }
            }
        }
    }
    Ok(Some((refused, why)))
}

/// Tries to connect from this port, and lets the kernel choose it: the outcome is what is to be seen. `None` if a kernel
/// takes no such order.
fn from_port(
    experiment: &mut Experiment<'_>,
    port: u16,
    address: SocketAddr,
) -> io::Result<Option<io::Result<socket2::Socket>>> {
    let socket = experiment.stream_socket()?;
    let number = raw(socket.as_source());
    let act = format!("setsockopt({number}, IP_LOCAL_PORT_RANGE, {port} to {port})");
    if experiment.call(act, || connect_from(socket.as_source(), port..=port), |()| "0".to_owned()).is_err() {
        return Ok(None);
    }
    let connect = || socket.connect_timeout(&address.into(), PATIENCE);
    let connected = experiment.call(format!("connect({number}, {address})"), connect, |()| "0".to_owned());
    Ok(Some(connected.map(|()| socket)))
}

/// Tries to bind to the address of a server that is over: the outcome is what is to be seen.
fn bind_again(
    experiment: &mut Experiment<'_>,
    address: SocketAddr,
    reuse: bool,
) -> io::Result<io::Result<socket2::Socket>> {
    let socket = experiment.stream_socket()?;
    if reuse {
        socket.set_reuse_address(true)?;
        experiment.note("SO_REUSEADDR is set");
    }
    Ok(experiment.bind(&socket, address).map(|()| socket))
}
