//! Listening: the socket that never connects to anyone, the kernel that shakes hands by itself, its queue, and whose
//! the address is.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};

use pollmark_backends::{AsSource, defer_accept, raw};
use socket2::{Domain, SockAddr, Type};

use super::experiment::{CALL, Experiment, PATIENCE, SOCK_DIAG};
use super::{Knob, Topic};
use crate::observe::{Sockets, State, counter};

pub(super) const TWO_SOCKETS: Topic = Topic {
    name: "two-sockets",
    question: "A server has a socket before any client comes. Can it read from that one?",
    prediction: "No: a socket that listens is connected to nobody and has no bytes, so recv on it fails. accept \
                 returns another socket, at the same local port, and there the bytes are.",
    knobs: &[Knob { name: "bytes", default: 5, range: (1, 10_000), meaning: "how many bytes the client sends" }],
    read_on: &["listen(2)", "accept(2)", "tcp(7)", "RFC 9293, 3.9.1: OPEN"],
    run: |experiment| {
        let bytes = experiment.size("bytes");
        let (listener, address) = experiment.listen(16)?;
        let (client, local) = experiment.connect(address)?;
        experiment.send(&client, &vec![b'x'; bytes])?;
        // Nothing is to be waited for: it fails at once, whatever has come.
        let number = raw(listener.as_source());
        let on_listener = socket2::SockRef::from(&listener);
        let mut buffer = [std::mem::MaybeUninit::uninit(); 16];
        let refused = experiment.call(
            format!("recv({number}), on the listener"),
            || on_listener.recv(&mut buffer),
            usize::to_string,
        );
        experiment.claim_error("recv on the listener", io::ErrorKind::NotConnected, &refused);

        let (server, _) = experiment.accept(&listener)?;
        let accepted = raw(server.as_source());
        experiment.claim_that("accept returns another descriptor", "another", accepted, accepted != number);
        let port = server.local_addr()?.port();
        experiment.claim("the local port of the accepted socket", address.port(), port);
        let mut there = "which this OS does not show".to_owned();
        if experiment.shows_sockets() {
            let listening = experiment.listener("the listener", address, |_| true)?;
            let connection = experiment.end("the bytes", address, local, |one| one.receive_queue as usize >= bytes)?;
            experiment.socket("the listener", &listening);
            experiment.socket("the accepted socket", &connection);
            experiment.claim("bytes to read on the accepted socket", bytes, connection.receive_queue as usize);
            if let (Some(of_listener), Some(of_connection)) = (listening.memory, connection.memory) {
                experiment.figure("memory of the listener for bytes", of_listener.receive, SOCK_DIAG);
                experiment.claim("memory of the listener for bytes", 0, of_listener.receive);
                there = format!(
                    "for which the kernel held {} bytes of memory there and {} at the listener",
                    of_connection.receive, of_listener.receive
                );
            }
        }
        let read = experiment.receive(&server, bytes)?;
        Ok(format!(
            "Descriptor {number} listens and descriptor {accepted} talks: both are at port {port}, and only the second \
             has a peer. The {} bytes of the client were read from the second, {there}. A connection is known by four \
             numbers, the listener by two of them, so that one port serves any number of clients.",
            read.len(),
        ))
    },
};

pub(super) const HANDSHAKE_WITHOUT_ACCEPT: Topic = Topic {
    name: "handshake-without-accept",
    question: "Does connect wait until the server calls accept?",
    prediction: "No: the kernel shakes hands for every socket that listens. Clients connect, and send, and the kernel \
                 acknowledges and keeps what they sent, before the program has called accept even once.",
    knobs: &[
        Knob { name: "clients", default: 10, range: (1, 100), meaning: "how many clients connect" },
        Knob { name: "bytes", default: 100, range: (1, 10_000), meaning: "how many bytes each of them sends" },
    ],
    read_on: &["listen(2)", "accept(2)", "RFC 9293, 3.5: Establishing a Connection"],
    run: |experiment| {
        let (clients, bytes) = (experiment.size("clients"), experiment.size("bytes"));
        let (listener, address) = experiment.listen(clients as u64)?;
        let mut connected = Vec::new();
        for _ in 0..clients {
            let (client, local) = experiment.connect(address)?;
            connected.push((client, local));
        }
        for (client, _) in &connected {
            experiment.send(client, &vec![b'x'; bytes])?;
        }
        experiment.note("accept has not been called yet");
        experiment.claim("clients connected before the first accept", clients, connected.len());
        let mut kept = "which this OS does not show".to_owned();
        if experiment.shows_sockets() {
            let listening = experiment.listener("the queue", address, |one| one.receive_queue as usize >= clients)?;
            experiment.socket("the listener", &listening);
            experiment.claim("connections in the accept queue", clients, listening.receive_queue as usize);
            let (mut unread, mut nobodys, mut acknowledged) = (0, 0, 0);
            for (_, local) in &connected {
                let one = experiment.end("the bytes", address, *local, |one| one.receive_queue as usize >= bytes)?;
                let theirs = experiment.end("an acknowledgement", *local, address, |one| one.send_queue == 0)?;
                unread += one.receive_queue as usize;
                nobodys += usize::from(one.inode == 0 && one.state == State::Established);
                acknowledged += usize::from(theirs.send_queue == 0);
                if nobodys == 1 {
                    experiment.socket("the first of them, which no program holds yet", &one);
                }
            }
            experiment.claim("ESTABLISHED without a descriptor", clients, nobodys);
            experiment.claim("bytes the kernel keeps for them", clients * bytes, unread);
            experiment.claim("clients to whom all was acknowledged", clients, acknowledged);
            kept = format!("{nobodys} connections ESTABLISHED that no program held, with {unread} bytes to read");
        }
        let (mut in_order, mut read) = (0, 0);
        for (_, local) in &connected {
            let (mut server, peer) = experiment.accept(&listener)?;
            in_order += usize::from(peer == *local);
            let mut buffer = vec![0; bytes];
            server.read_exact(&mut buffer)?;
            read += buffer.len();
        }
        experiment.figure("bytes read from them", read, CALL);
        experiment.claim("accepted in the order in which they connected", clients, in_order);
        Ok(format!(
            "{clients} clients were connected before the server had accepted one, and connect told them nothing else. \
             The kernel had {kept}. accept does not make a connection, it takes the oldest out of a queue: a server \
             that is stuck still looks alive from outside."
        ))
    },
};

pub(super) const BACKLOG: Topic = Topic {
    name: "backlog",
    question: "What becomes of clients when nobody accepts?",
    prediction: "The queue takes one connection more than the number given to listen. Whoever comes then is not \
                 refused: the SYN is dropped, the client sends it again and again, and gets in when there is room. \
                 Before that queue there is another, of half-open connections: accept is not told of them.",
    knobs: &[
        Knob { name: "backlog", default: 2, range: (0, 64), meaning: "what is given to listen" },
        Knob { name: "beyond", default: 3, range: (1, 16), meaning: "how many clients more than the queue takes" },
        Knob {
            name: "defer",
            default: 1,
            range: (0, 1),
            meaning: "0: no listener asks for TCP_DEFER_ACCEPT, and nobody is kept half-open",
        },
    ],
    read_on: &["listen(2)", "tcp(7): tcp_abort_on_overflow, TCP_DEFER_ACCEPT", "RFC 9293, 3.10.7.2", "RFC 6298, 2"],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("the accept queue"));
        }
        let (backlog, beyond) = (experiment.setting("backlog"), experiment.size("beyond"));
        let (overflows, drops) = (counter("ListenOverflows")?, counter("ListenDrops")?);
        let (listener, address) = experiment.listen(backlog)?;
        let room = backlog as usize + 1;
        let mut clients = Vec::new();
        for _ in 0..room {
            clients.push(attempt(experiment, address)?);
            // One after the other: how many may be half-open at a time is limited too.
            let waiting = clients.len();
            experiment.listener("the queue", address, |one| one.receive_queue as usize >= waiting)?;
        }
        for _ in 0..beyond {
            clients.push(attempt(experiment, address)?);
        }
        let (risen, dropped) = experiment.until("a SYN that is dropped", || {
            let risen = counter("ListenOverflows")?.saturating_sub(overflows);
            let dropped = counter("ListenDrops")?.saturating_sub(drops);
            Ok((risen.min(dropped) >= beyond as u64).then_some((risen, dropped)))
        })?;
        let full = experiment.listener("the queue", address, |_| true)?;
        experiment.socket("the listener", &full);
        experiment.figure("ListenOverflows of this host has risen by", risen, "/proc/net/netstat");
        experiment.figure("ListenDrops of this host has risen by", dropped, "/proc/net/netstat");
        let asking = Sockets::to(address.port()).in_states(&[State::SynSent]).list()?;
        if let Some(one) = asking.first() {
            experiment.socket("a client that was left out", one);
        }
        experiment.claim("connections in the queue", room, full.receive_queue as usize);
        experiment.claim("clients that still ask", beyond, asking.len());
        experiment.claim_that(
            "SYNs the kernel says it dropped for want of room, of this host",
            format!("{beyond} or more"),
            risen,
            risen >= beyond as u64,
        );
        experiment.claim_that(
            "and for whatever reason",
            format!("{beyond} or more"),
            dropped,
            dropped >= beyond as u64,
        );

        let (_accepted, _) = experiment.accept(&listener)?;
        let began = std::time::Instant::now();
        let again = experiment.listener("a client to ask again", address, |one| one.receive_queue as usize >= room)?;
        let waited = began.elapsed();
        experiment.socket("the listener, once a client has asked again", &again);
        experiment.figure("that took", format!("{} ms", waited.as_millis()), "the clock");
        // Who asks at the same moment may be answered before the place is taken: such a client is connected, and the
        // server has it half-open.
        let (asking_still, half_open) = experiment.until("the others to be left out again", || {
            let asking = Sockets::to(address.port()).in_states(&[State::SynSent]).list()?.len();
            let half_open = Sockets::at(address.port()).in_states(&[State::SynRecv]).list()?.len();
            Ok((asking + half_open < beyond).then_some((asking, half_open)))
        })?;
        experiment.figure("clients that still ask", asking_still, SOCK_DIAG);
        experiment.figure("clients that were answered and are half-open at the server", half_open, SOCK_DIAG);
        experiment.claim("left out, when one place was free", beyond - 1, asking_still + half_open);
        let (connected, kept) = half_opened(experiment, beyond)?;
        Ok(format!(
            "listen({backlog}) made room for {} connections, and {} clients beyond saw nothing at all: not refused, \
             they asked again, and when one place became free, one of them got in {} ms later, and {} were left out. \
             Users see a full queue as a connect that takes seconds, and whoever runs the server as ListenOverflows, \
             which rose by {risen}. Of {connected} clients that were connected and silent, {kept} were half-open at \
             the server, in no queue that accept takes from, until each had sent a byte: with clients far away every \
             connection is there for a round trip, and in a flood of SYNs for as long as the kernel waits.",
            full.receive_queue,
            asking.len(),
            waited.as_millis(),
            asking_still + half_open,
        ))
    },
};

/// Clients of a listener that keeps connections half-open until they say something: how many were connected, and how
/// many the server then had half-open.
fn half_opened(experiment: &mut Experiment<'_>, clients: usize) -> io::Result<(usize, usize)> {
    // With as many half-open as may wait to be accepted, the kernel would remember none: SYN cookies.
    let (listener, address) = experiment.listen(2 * clients as u64)?;
    if experiment.setting("defer") == 1 {
        let number = raw(listener.as_source());
        let defer = || defer_accept(listener.as_source(), PATIENCE);
        let act = format!("setsockopt({number}, TCP_DEFER_ACCEPT, {} s)", PATIENCE.as_secs());
        experiment.call(act, defer, |()| "0".to_owned())?;
    }
    let mut silent = Vec::new();
    for _ in 0..clients {
        silent.push(experiment.connect(address)?.0);
    }
    let known = |experiment: &Experiment<'_>, queued: usize| {
        experiment.until("the server's ends", || {
            let mut there = Sockets::at(address.port()).list()?;
            there.retain(|one| one.local == address);
            let listening = there.iter().find(|one| one.state == State::Listen).cloned();
            let half_open = there.into_iter().filter(|one| one.state == State::SynRecv).collect::<Vec<_>>();
            // Each is in the one queue or in the other, once the last part of its handshake has come.
            Ok(listening.map(|listening| (listening, half_open)).filter(|(listening, half_open)| {
                let waiting = listening.receive_queue as usize;
                waiting >= queued && waiting + half_open.len() >= clients
            }))
        })
    };
    let (listening, half_open) = known(experiment, 0)?;
    experiment.note(format!("{clients} clients are connected, and silent"));
    experiment.socket("the listener", &listening);
    if let Some(one) = half_open.first() {
        experiment.socket("the first of the server's ends", one);
        let client = experiment.end("its client", one.peer, address, |_| true)?;
        experiment.socket("the end of its client", &client);
    }
    experiment.claim("half-open at the server while the clients are silent", clients, half_open.len());
    experiment.claim("in the accept queue meanwhile", 0, listening.receive_queue);
    for client in &silent {
        experiment.send(client, b"x")?;
    }
    let (listening, left) = known(experiment, clients)?;
    experiment.socket("the listener, when each has sent a byte", &listening);
    experiment.claim("in the accept queue then", clients, listening.receive_queue as usize);
    experiment.claim("half-open then", 0, left.len());
    Ok((silent.len(), half_open.len()))
}

/// A client that does not wait for its connection.
fn attempt(experiment: &mut Experiment<'_>, address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let number = raw(socket.as_source());
    let begun = experiment.call(
        format!("connect({number}, {address}), non-blocking"),
        || socket.connect(&SockAddr::from(address)),
        |()| "0".to_owned(),
    );
    match begun {
        // EINPROGRESS has no kind of its own.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Err(error),
        _ => Ok(socket),
    }
}

pub(super) const ADDRESS_IN_USE: Topic = Topic {
    name: "address-in-use",
    question: "When may two sockets listen at one port?",
    prediction: "At one address and port, never, unless both have asked to share it by SO_REUSEPORT; at the same port \
                 of another address, always; and the address of all of them is taken by any of them.",
    knobs: &[Knob {
        name: "reuse_port",
        default: 0,
        range: (0, 1),
        meaning: "1: both set SO_REUSEPORT, and the first refusal that is predicted does not come",
    }],
    read_on: &["bind(2)", "socket(7): SO_REUSEADDR, SO_REUSEPORT", "ip(7)"],
    run: |experiment| {
        let share = experiment.setting("reuse_port") == 1;
        let first = experiment.stream_socket()?;
        reuse_port(&first, share)?;
        experiment.bind(&first, (Ipv4Addr::LOCALHOST, 0).into())?;
        let number = raw(first.as_source());
        experiment.call(format!("listen({number}, 16)"), || first.listen(16), |()| "0".to_owned())?;
        let address = first.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a socket without an address"))?;

        let same = listen_too(experiment, address, share)?;
        experiment.claim_error("a second one at the same address and port", io::ErrorKind::AddrInUse, &same);
        let everywhere = listen_too(experiment, (Ipv4Addr::UNSPECIFIED, address.port()).into(), false)?;
        experiment.claim_error("one at the same port of every address", io::ErrorKind::AddrInUse, &everywhere);
        let mut elsewhere = "";
        if cfg!(linux_like) {
            // The whole of 127.0.0.0/8 is this host; elsewhere only one address of it is.
            let other = listen_too(experiment, (Ipv4Addr::new(127, 0, 0, 2), address.port()).into(), false)?;
            let said = if other.is_ok() { "listens" } else { "refused" };
            experiment.claim("one at the same port of 127.0.0.2", "listens", said);
            elsewhere = ", though 127.0.0.2 was free at the same port";
        }
        if experiment.shows_sockets() {
            let there = Sockets::at(address.port()).in_states(&[State::Listen]).list()?;
            for one in &there {
                experiment.socket("listens", one);
            }
        }
        let outcome = match &same {
            Ok(_) => "the second listener was let in, for both had asked to share".to_owned(),
            Err(error) => format!("the second listener was refused: {error}"),
        };
        Ok(format!(
            "At {address} {outcome}. Every address at that port was refused too{elsewhere}: what counts is whether two \
             sockets would be told of the same client. Whoever restarts a server meets the same error from a process \
             that still runs, which is right, or from connections of the old one in TIME_WAIT, which SO_REUSEADDR is \
             for: see `explain time-wait`."
        ))
    },
};

fn reuse_port(socket: &socket2::Socket, share: bool) -> io::Result<()> {
    cfg_if::cfg_if! {
        if #[cfg(unix)] {
            socket.set_reuse_port(share)
        } else {
            let _ = socket;
            if share { Err(io::Error::new(io::ErrorKind::Unsupported, "SO_REUSEPORT: not on this OS")) } else { Ok(()) }
        }
    }
}

/// Tries to listen at `address` as well: the outcome is what is to be seen.
fn listen_too(
    experiment: &mut Experiment<'_>,
    address: SocketAddr,
    share: bool,
) -> io::Result<io::Result<socket2::Socket>> {
    let socket = experiment.stream_socket()?;
    reuse_port(&socket, share)?;
    if let Err(error) = experiment.bind(&socket, address) {
        return Ok(Err(error));
    }
    let number = raw(socket.as_source());
    let listens = experiment.call(format!("listen({number}, 16)"), || socket.listen(16), |()| "0".to_owned());
    Ok(listens.map(|()| socket))
}
