//! Scenarios of sockets that carry no stream, or none yet: connecting, listening, datagrams.

use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, Socket, Type};

use super::outcome::{Expected, Facts};
use super::scene::Scene;
use super::{Moment, Play, Scenario};
use crate::event::Interest;

const BOTH: Interest = Interest::READABLE.union(Interest::WRITABLE);

const READABLE: Facts = Facts::READABLE;
const WRITABLE: Facts = Facts::WRITABLE;
const HANG_UP: Facts = READABLE.and(WRITABLE).and(Facts::READ_CLOSED).and(Facts::WRITE_CLOSED);
const BROKEN: Facts = HANG_UP.and(Facts::ERROR);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "unconnected",
        shows: "A TCP socket that was never connected. To Linux it has hung up; a loop that adds sockets before it \
                connects them is woken at once.",
        asked: BOTH,
        trigger: None,
        moments: &[Moment { when: "it was made", expected: Expected::Event(HANG_UP) }],
        play: unconnected,
    },
    Scenario {
        name: "connected",
        shows: "A non-blocking connect(2) has succeeded: the socket is writable. Failure makes it writable too, so a \
                program reads SO_ERROR in any case.",
        asked: Interest::WRITABLE,
        trigger: None,
        moments: &[Moment { when: "the connection stands", expected: Expected::Event(WRITABLE) }],
        play: connected,
    },
    Scenario {
        name: "refused",
        shows: "A non-blocking connect(2) was refused. Reading SO_ERROR takes the error; the hang-up stays.",
        asked: Interest::WRITABLE,
        trigger: None,
        moments: &[
            Moment { when: "nobody listens there", expected: Expected::Event(BROKEN) },
            Moment { when: "SO_ERROR was read", expected: Expected::Event(HANG_UP) },
        ],
        play: refused,
    },
    Scenario {
        name: "listener",
        shows: "Connections wait to be accepted: the listener is readable until none is left. How many there are, only \
                kqueue says.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "nobody has come", expected: Expected::Silence },
            Moment { when: "two connections wait", expected: Expected::Event(READABLE) },
            Moment { when: "one was accepted", expected: Expected::Event(READABLE) },
            Moment { when: "both were", expected: Expected::Silence },
        ],
        play: listener,
    },
    Scenario {
        name: "datagram-refused",
        shows: "A connected UDP socket has sent to a port where nobody listens, and ICMP said so. The error belongs to \
                the next call, whichever it is; no hang-up, for a datagram socket has no connection to lose.",
        asked: BOTH,
        trigger: None,
        moments: &[
            Moment {
                when: "the refusal has come",
                expected: Expected::Event(READABLE.and(WRITABLE).and(Facts::ERROR)),
            },
            Moment { when: "SO_ERROR was read", expected: Expected::Event(WRITABLE) },
        ],
        play: datagram_refused,
    },
    Scenario {
        name: "datagram-empty",
        shows: "A datagram of no bytes has come. It is readable, a read returns 0, and nothing has ended.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "it has come", expected: Expected::Event(READABLE) },
            Moment { when: "it was read", expected: Expected::Silence },
        ],
        play: datagram_empty,
    },
];

fn unconnected(scene: &mut Scene<'_>) -> Play {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    scene.watch(&socket)?;
    scene.look()
}

fn connected(scene: &mut Scene<'_>) -> Play {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let stream = connect(&listener)?;
    scene.watch(&stream)?;
    scene.settle(&stream, WRITABLE)?;
    scene.look()
}

fn refused(scene: &mut Scene<'_>) -> Play {
    // Bound and not listening: nobody else is given the port meanwhile, and whoever knocks is refused.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    nobody.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let stream = TcpStream::from(connecting(&nobody.local_addr()?)?);
    scene.watch(&stream)?;
    scene.settle(&stream, BROKEN)?;
    scene.look()?;
    stream.take_error()?;
    scene.look()
}

fn listener(scene: &mut Scene<'_>) -> Play {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    scene.watch(&listener)?;
    scene.look()?;
    let _clients = [TcpStream::connect(listener.local_addr()?)?, TcpStream::connect(listener.local_addr()?)?];
    scene.settle(&listener, READABLE)?;
    scene.look()?;
    listener.accept()?;
    scene.settle(&listener, READABLE)?;
    scene.look()?;
    listener.accept()?;
    scene.look()
}

fn datagram_refused(scene: &mut Scene<'_>) -> Play {
    // Connected to itself it takes nothing from others, and nobody else is given the port meanwhile.
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    nobody.connect(nobody.local_addr()?)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(nobody.local_addr()?)?;
    scene.watch(&socket)?;
    socket.send(b"x")?;
    scene.settle(&socket, READABLE.and(Facts::ERROR))?;
    scene.look()?;
    socket.take_error()?;
    scene.look()
}

fn datagram_empty(scene: &mut Scene<'_>) -> Play {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    scene.watch(&socket)?;
    socket.send_to(b"", socket.local_addr()?)?;
    scene.settle(&socket, READABLE)?;
    scene.look()?;
    socket.recv(&mut [0; 8])?;
    scene.look()
}

/// A connection to `listener` that was begun and may not have been made yet.
fn connect(listener: &TcpListener) -> std::io::Result<TcpStream> {
    Ok(TcpStream::from(connecting(&listener.local_addr()?.into())?))
}

fn connecting(address: &socket2::SockAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // That it goes on is reported as an error, by another number on each system; that it failed, the scenario sees.
    let _ = socket.connect(address);
    Ok(socket)
}
