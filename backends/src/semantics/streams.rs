//! Scenarios of one TCP stream: data, the peer's end, one's own, errors, urgent data.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::outcome::{Expected, Facts};
use super::scene::{Ended, Scene};
use super::{Moment, Play, Scenario};
use crate::event::Interest;

const BOTH: Interest = Interest::READABLE.union(Interest::WRITABLE);

const READABLE: Facts = Facts::READABLE;
const BOTH_WAYS: Facts = READABLE.and(Facts::WRITABLE);
const PEERS_END: Facts = READABLE.and(Facts::READ_CLOSED);
const HANG_UP: Facts = BOTH_WAYS.and(Facts::READ_CLOSED).and(Facts::WRITE_CLOSED);
const BROKEN: Facts = HANG_UP.and(Facts::ERROR);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "data",
        shows: "Bytes have come. Of what was not asked for, room to write, nothing is said.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "nothing has come", expected: Expected::Silence },
            Moment { when: "bytes have come", expected: Expected::Event(READABLE) },
        ],
        play: data,
    },
    Scenario {
        name: "half-close",
        shows: "The peer has called shutdown(SHUT_WR): it will send no more, and still reads. A read returns 0, and a \
                write goes through. RDHUP is the word for it, on Linux only if it is asked for.",
        asked: BOTH,
        trigger: None,
        moments: &[Moment {
            when: "the peer has ended its half",
            expected: Expected::Event(PEERS_END.and(Facts::WRITABLE)),
        }],
        play: half_close,
    },
    Scenario {
        name: "half-close-with-data",
        shows: "The same, with bytes unread before the end. Both are told at once: whoever closes at RDHUP loses the \
                bytes.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "bytes and the end are waiting", expected: Expected::Event(PEERS_END) },
            Moment { when: "the bytes were read", expected: Expected::Event(PEERS_END) },
        ],
        play: half_close_with_data,
    },
    Scenario {
        name: "peer-closed",
        shows: "The peer has closed its socket for good. At first that looks like a half-close, for TCP says no more; \
                only the answer to a write tells that nobody is there, and both halves hang up.",
        asked: BOTH,
        trigger: None,
        moments: &[
            Moment { when: "the peer has closed", expected: Expected::Event(PEERS_END.and(Facts::WRITABLE)) },
            Moment { when: "a write was answered by a reset", expected: Expected::Event(BROKEN) },
        ],
        play: peer_closed,
    },
    Scenario {
        name: "reset",
        shows: "The peer has reset the connection. Everything asked for is ready, because no call blocks any more; the \
                next one fails with ECONNRESET. Once it has, or SO_ERROR was read, the hang-up remains.",
        asked: BOTH,
        trigger: None,
        moments: &[
            Moment { when: "a reset has come", expected: Expected::Event(BROKEN) },
            Moment { when: "the error was taken by a read", expected: Expected::Event(HANG_UP) },
        ],
        play: reset,
    },
    Scenario {
        name: "reset-with-data",
        shows: "The same, with bytes unread before it. They are not told from the reset; whether a read still gives \
                them, before it fails, is the system's choice.",
        asked: BOTH,
        trigger: None,
        moments: &[
            Moment { when: "bytes and a reset are waiting", expected: Expected::Event(BROKEN) },
            Moment { when: "all was read, to the error", expected: Expected::Event(HANG_UP) },
        ],
        play: reset_with_data,
    },
    Scenario {
        name: "own-shutdown-write",
        shows: "We have called shutdown(SHUT_WR). That is no end of what the peer sends. It counts as writable, for a \
                write fails at once; and when the peer ends its half too, both together are a hang-up.",
        asked: BOTH,
        trigger: None,
        moments: &[
            Moment { when: "we have ended our half", expected: Expected::Event(Facts::WRITABLE) },
            Moment { when: "the peer has ended its own too", expected: Expected::Event(HANG_UP) },
        ],
        play: own_shutdown_write,
    },
    Scenario {
        name: "own-shutdown-read",
        shows: "We have called shutdown(SHUT_RD). It looks as if the peer had ended its half: a read returns 0.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "we have ended its half", expected: Expected::Event(PEERS_END) }],
        play: own_shutdown_read,
    },
    Scenario {
        name: "urgent",
        shows: "The peer has sent a byte with MSG_OOB. It stands beside the stream, so nothing is readable; it is \
                reported to whoever asks for it.",
        asked: Interest::READABLE.union(Interest::PRIORITY),
        trigger: None,
        moments: &[
            Moment { when: "an urgent byte has come", expected: Expected::Event(Facts::PRIORITY) },
            Moment { when: "it was read with MSG_OOB", expected: Expected::Silence },
        ],
        play: urgent,
    },
];

fn data(scene: &mut Scene<'_>) -> Play {
    let (near, mut far) = scene.pair()?;
    scene.watch(&near)?;
    scene.look()?;
    far.write_all(b"x")?;
    scene.settle(&near, READABLE)?;
    scene.look()
}

fn half_close(scene: &mut Scene<'_>) -> Play {
    let (near, far) = scene.pair()?;
    scene.watch(&near)?;
    far.shutdown(Shutdown::Write)?;
    scene.settle(&near, PEERS_END)?;
    scene.look()
}

fn half_close_with_data(scene: &mut Scene<'_>) -> Play {
    let (mut near, mut far) = scene.pair()?;
    scene.watch(&near)?;
    far.write_all(b"last words")?;
    far.shutdown(Shutdown::Write)?;
    scene.settle(&near, PEERS_END)?;
    scene.look()?;
    near.read_exact(&mut [0; 10])?;
    scene.settle(&near, PEERS_END)?;
    scene.look()
}

fn peer_closed(scene: &mut Scene<'_>) -> Play {
    let (mut near, far) = scene.pair()?;
    scene.watch(&near)?;
    drop(far);
    scene.settle(&near, PEERS_END)?;
    scene.look()?;
    near.write_all(b"x")?;
    scene.settle(&near, BROKEN)?;
    scene.look()
}

fn reset(scene: &mut Scene<'_>) -> Play {
    let (near, far) = scene.pair()?;
    scene.watch(&near)?;
    abort(far)?;
    scene.settle(&near, BROKEN)?;
    scene.look()?;
    read_to_the_error(&near)?;
    scene.look()
}

fn reset_with_data(scene: &mut Scene<'_>) -> Play {
    let (near, mut far) = scene.pair()?;
    scene.watch(&near)?;
    far.write_all(b"last words")?;
    scene.settle(&near, READABLE)?;
    abort(far)?;
    scene.settle(&near, BROKEN)?;
    scene.look()?;
    read_to_the_error(&near)?;
    scene.look()
}

fn own_shutdown_write(scene: &mut Scene<'_>) -> Play {
    let (near, far) = scene.pair()?;
    scene.watch(&near)?;
    near.shutdown(Shutdown::Write)?;
    // The peer has seen our end before it sends its own, so that both ends take the same way through TCP's states.
    scene.settle(&far, PEERS_END)?;
    scene.look()?;
    far.shutdown(Shutdown::Write)?;
    scene.settle(&near, HANG_UP)?;
    scene.look()
}

fn own_shutdown_read(scene: &mut Scene<'_>) -> Play {
    let (near, _far) = scene.pair()?;
    scene.watch(&near)?;
    near.shutdown(Shutdown::Read)?;
    scene.look()
}

fn urgent(scene: &mut Scene<'_>) -> Play {
    let (near, far) = scene.pair()?;
    if !scene.capabilities.priority {
        return Err(Ended::NotHere("not reported".to_owned()));
    }
    scene.watch(&near)?;
    socket2::SockRef::from(&far).send_out_of_band(b"!")?;
    scene.settle(&near, Facts::PRIORITY)?;
    scene.look()?;
    socket2::SockRef::from(&near).recv_out_of_band(&mut [std::mem::MaybeUninit::uninit(); 1])?;
    scene.look()
}

/// Closes `stream` so that its peer sees a reset.
fn abort(stream: TcpStream) -> Play {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// Reads until the connection's error has been returned, which a socket does once; or until the end, where a system
/// takes a reset for one.
fn read_to_the_error(mut stream: &TcpStream) -> Play {
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(1..) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(Ended::Failed("there is neither an error nor an end".to_owned()));
            }
            Ok(0) | Err(_) => return Ok(()),
        }
    }
}
