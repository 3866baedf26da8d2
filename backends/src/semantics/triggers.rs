//! Scenarios of level, edge and oneshot: what is said again, and when nothing is said at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::outcome::{Expected, Facts};
use super::scene::{Ended, PATIENCE, Scene};
use super::{Moment, Play, Scenario};
use crate::event::{Interest, Trigger};

const READABLE: Facts = Facts::READABLE;
const PEERS_END: Facts = READABLE.and(Facts::READ_CLOSED);
const BROKEN: Facts = PEERS_END.and(Facts::WRITABLE).and(Facts::WRITE_CLOSED).and(Facts::ERROR);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "level-unread",
        shows: "Level-triggered: said in every wait, for as long as it is so.",
        asked: Interest::READABLE,
        trigger: Some(Trigger::Level),
        moments: &[
            Moment { when: "bytes have come", expected: Expected::Event(READABLE) },
            Moment { when: "nothing was read", expected: Expected::Event(READABLE) },
        ],
        play: level_unread,
    },
    Scenario {
        name: "edge-unread",
        shows: "Edge-triggered: said once for each arrival. Whoever leaves bytes unread is not told again until more \
                come, or until the source is modified, even to what it was.",
        asked: Interest::READABLE,
        trigger: Some(Trigger::Edge),
        moments: &[
            Moment { when: "bytes have come", expected: Expected::Event(READABLE) },
            Moment { when: "nothing was read", expected: Expected::Silence },
            Moment { when: "more have come", expected: Expected::Event(READABLE) },
            Moment { when: "modified, nothing new", expected: Expected::Event(READABLE) },
        ],
        play: edge_unread,
    },
    Scenario {
        name: "edge-half-close",
        shows: "Edge-triggered, with bytes and the peer's end there before the first wait. Both are one edge: a reader \
                that stops at a short read never hears of the end, unless the event carried it.",
        asked: Interest::READABLE,
        trigger: Some(Trigger::Edge),
        moments: &[
            Moment { when: "bytes and the end are waiting", expected: Expected::Event(PEERS_END) },
            Moment { when: "the bytes were read", expected: Expected::Silence },
        ],
        play: edge_half_close,
    },
    Scenario {
        name: "oneshot-unread",
        shows: "Oneshot: said once, and then nothing, until the source is modified.",
        asked: Interest::READABLE,
        trigger: Some(Trigger::Oneshot),
        moments: &[
            Moment { when: "bytes have come", expected: Expected::Event(READABLE) },
            Moment { when: "more have come", expected: Expected::Silence },
            Moment { when: "modified", expected: Expected::Event(READABLE) },
        ],
        play: oneshot_unread,
    },
    Scenario {
        name: "oneshot-hang-up",
        shows: "Oneshot: what has been reported is disarmed, and so is the word of its death. A reset is found when the \
                source is modified, or by the next call.",
        asked: Interest::READABLE,
        trigger: Some(Trigger::Oneshot),
        moments: &[
            Moment { when: "bytes have come", expected: Expected::Event(READABLE) },
            Moment { when: "a reset has come", expected: Expected::Silence },
            Moment { when: "modified", expected: Expected::Event(BROKEN) },
        ],
        play: oneshot_hang_up,
    },
];

/// The first moment of most of these: a byte has come, and the poller was asked about it.
fn one_byte_told(scene: &mut Scene<'_>) -> Result<(TcpStream, TcpStream), Ended> {
    let (near, mut far) = scene.pair()?;
    scene.watch(&near)?;
    far.write_all(b"x")?;
    scene.settle(&near, READABLE)?;
    scene.look()?;
    Ok((near, far))
}

fn level_unread(scene: &mut Scene<'_>) -> Play {
    let _pair = one_byte_told(scene)?;
    scene.look()
}

fn edge_unread(scene: &mut Scene<'_>) -> Play {
    let (near, mut far) = one_byte_told(scene)?;
    scene.look()?;
    far.write_all(b"y")?;
    settle_bytes(&near, 2)?;
    scene.look()?;
    scene.rewatch(&near, scene.asked())?;
    scene.look()
}

fn edge_half_close(scene: &mut Scene<'_>) -> Play {
    let (mut near, mut far) = scene.pair()?;
    far.write_all(b"last words")?;
    far.shutdown(Shutdown::Write)?;
    scene.settle(&near, PEERS_END)?;
    scene.watch(&near)?;
    scene.look()?;
    near.read_exact(&mut [0; 10])?;
    scene.look()
}

fn oneshot_unread(scene: &mut Scene<'_>) -> Play {
    let (near, mut far) = one_byte_told(scene)?;
    far.write_all(b"y")?;
    settle_bytes(&near, 2)?;
    scene.look()?;
    scene.rewatch(&near, scene.asked())?;
    scene.look()
}

fn oneshot_hang_up(scene: &mut Scene<'_>) -> Play {
    let (near, far) = one_byte_told(scene)?;
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
    drop(far);
    scene.settle(&near, BROKEN)?;
    scene.look()?;
    scene.rewatch(&near, scene.asked())?;
    scene.look()
}

/// Looks, without taking anything, until so many bytes are there: more of the same is nothing that poll(2) tells.
fn settle_bytes(stream: &TcpStream, count: usize) -> Play {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match stream.peek(&mut [0; 64]) {
            Ok(found) if found >= count => return Ok(()),
            Ok(_) => std::thread::yield_now(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Ended::Failed(format!("{count} bytes never came")))
}
