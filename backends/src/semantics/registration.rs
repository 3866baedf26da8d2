//! Scenarios of adding and taking out: no interest, twice, never opened, closed behind the poller's back, duplicated.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::outcome::{Expected, Facts};
use super::scene::{Ended, PATIENCE, Scene};
use super::{Moment, Play, Scenario};
use crate::event::{Interest, Token, Trigger};
use crate::source::{AsSource, OwnedSource};

const BOTH: Interest = Interest::READABLE.union(Interest::WRITABLE);

const READABLE: Facts = Facts::READABLE;
const ERROR: Facts = READABLE.and(Facts::WRITABLE).and(Facts::ERROR);
const BROKEN: Facts = ERROR.and(Facts::READ_CLOSED).and(Facts::WRITE_CLOSED);

/// The other sources of a scenario that has several.
const SECOND: Token = Token::new(2, 1);
const THIRD: Token = Token::new(3, 1);

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "no-interest",
        shows: "A source that nothing is asked of, and that is then reset. poll(2) and epoll(7) themselves would report \
                the hang-up in every wait; here, no interest means not watched.",
        asked: Interest::EMPTY,
        trigger: None,
        moments: &[
            Moment { when: "a reset has come", expected: Expected::Silence },
            Moment { when: "both directions were asked for", expected: Expected::Event(BROKEN) },
        ],
        play: no_interest,
    },
    Scenario {
        name: "added-twice",
        shows: "A source that is watched already is added once more.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "added again", expected: Expected::Refused(ErrorKind::AlreadyExists) }],
        play: added_twice,
    },
    Scenario {
        name: "never-added",
        shows: "A source that is not watched is removed.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "removed", expected: Expected::Refused(ErrorKind::NotFound) }],
        play: never_added,
    },
    Scenario {
        name: "not-open",
        shows: "A number is added that named an open file a moment ago and names none now.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "it was added", expected: Expected::Event(ERROR) }],
        play: not_open,
    },
    Scenario {
        name: "never-open",
        shows: "The same with a number higher than any that this process ever had.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "it was added", expected: Expected::Event(ERROR) }],
        play: never_open,
    },
    Scenario {
        name: "closed",
        shows: "A watched socket is closed, and the poller not told: a mistake, and outside the contract. It must do no \
                harm; that it is noticed cannot be relied on.",
        asked: BOTH,
        trigger: None,
        moments: &[
            Moment { when: "it was closed", expected: Expected::Silence },
            Moment { when: "waited once more", expected: Expected::Silence },
        ],
        play: closed,
    },
    Scenario {
        name: "closed-with-duplicate",
        shows: "The same, while a duplicate of the descriptor, or a child that inherited it, holds the socket open; then \
                the peer sends. epoll(7) goes on reporting a number that is closed, and it can no longer be taken out.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "it was closed, and bytes came", expected: Expected::Silence }],
        play: closed_with_duplicate,
    },
    Scenario {
        name: "number-reused",
        shows: "The number of a closed socket is given to the next one that is opened. If the first was closed behind \
                the poller's back, events of the second may come under the first's token. Closed through the poller, \
                never: a generation in the token is for the events that a caller still has in hand.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "closed, and the number has bytes", expected: Expected::Silence },
            Moment { when: "closed through the poller: old token", expected: Expected::Silence },
            Moment { when: "and the new one", expected: Expected::Event(READABLE) },
        ],
        play: number_reused,
    },
    Scenario {
        name: "duplicate",
        shows: "One socket under two numbers, both watched. They are two sources.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "bytes have come: the first number", expected: Expected::Event(READABLE) },
            Moment { when: "and the second", expected: Expected::Event(READABLE) },
        ],
        play: duplicate,
    },
];

fn no_interest(scene: &mut Scene<'_>) -> Play {
    let (near, far) = scene.pair()?;
    scene.watch(&near)?;
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
    drop(far);
    scene.settle(&near, BROKEN)?;
    scene.look()?;
    scene.rewatch(&near, BOTH)?;
    scene.look()
}

fn added_twice(scene: &mut Scene<'_>) -> Play {
    let (near, _far) = scene.pair()?;
    scene.watch(&near)?;
    let again = scene.poller.add(near.as_source(), SECOND, scene.asked(), Trigger::Level);
    scene.answered(again)
}

fn never_added(scene: &mut Scene<'_>) -> Play {
    let (near, _far) = scene.pair()?;
    let removed = scene.poller.remove(near.as_source());
    scene.answered(removed)
}

fn closed(scene: &mut Scene<'_>) -> Play {
    let (near, _far) = scene.pair()?;
    let near = numbers::apart(near)?;
    scene.watch(&near)?;
    scene.announce()?;
    drop(near);
    scene.look()?;
    scene.look()
}

fn closed_with_duplicate(scene: &mut Scene<'_>) -> Play {
    let (near, mut far) = scene.pair()?;
    let near = numbers::apart(near)?;
    scene.watch(&near)?;
    scene.announce()?;
    let duplicate = near.try_clone()?;
    drop(near);
    far.write_all(b"x")?;
    scene.settle(&duplicate, READABLE)?;
    scene.look()
}

fn number_reused(scene: &mut Scene<'_>) -> Play {
    let (near, _far) = scene.pair()?;
    let near = numbers::apart(near)?;
    scene.watch(&near)?;
    scene.announce()?;
    let number = numbers::of(&near);
    drop(near);
    // Kept to the end: closed, it would be one more number that is not open.
    let _successor = ready_successor(scene, number)?;
    scene.look()?;

    let (near, _far) = scene.pair()?;
    let near = numbers::apart(near)?;
    scene.watch_as(&near, SECOND)?;
    scene.announce()?;
    let number = numbers::of(&near);
    scene.poller.close(OwnedSource::from(near))?;
    let (successor, _far) = ready_successor(scene, number)?;
    scene.watch_as(&successor, THIRD)?;
    scene.wait(PATIENCE)?;
    scene.note(SECOND);
    scene.note(THIRD);
    Ok(())
}

/// A connection whose near end has that number, and bytes.
fn ready_successor(scene: &Scene<'_>, number: numbers::Number) -> Result<(TcpStream, TcpStream), Ended> {
    let (near, mut far) = scene.pair()?;
    let near = numbers::give(number, near)?;
    far.write_all(b"x")?;
    scene.settle(&near, READABLE)?;
    Ok((near, far))
}

fn duplicate(scene: &mut Scene<'_>) -> Play {
    let (near, mut far) = scene.pair()?;
    let duplicate = near.try_clone()?;
    scene.watch(&near)?;
    scene.watch_as(&duplicate, SECOND)?;
    far.write_all(b"x")?;
    scene.settle(&near, READABLE)?;
    scene.look()?;
    scene.note(SECOND);
    Ok(())
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        fn not_open(scene: &mut Scene<'_>) -> Play {
            let (near, _far) = scene.pair()?;
            let near = numbers::apart(near)?;
            let number = numbers::of(&near);
            drop(near);
            scene.watch(&crate::conformance::system::not_open(number))?;
            scene.look()
        }

        fn never_open(scene: &mut Scene<'_>) -> Play {
            scene.watch(&crate::conformance::system::not_open(numbers::never_used()?))?;
            scene.look()
        }
    } else {
        fn not_open(_: &mut Scene<'_>) -> Play {
            Err(Ended::NotHere("not on this system: no handle can be made up".to_owned()))
        }

        use not_open as never_open;
    }
}

/// Numbers that no other thread of this process is given meanwhile.
#[cfg(unix)]
mod numbers {
    use std::net::TcpStream;
    use std::os::fd::{AsRawFd, RawFd};

    use super::super::scene::Ended;
    use crate::conformance::system;

    pub(super) type Number = RawFd;

    pub(super) fn apart(stream: TcpStream) -> Result<TcpStream, Ended> {
        let low = || Ended::NotHere("the limit of open files is below 1500".to_owned());
        Ok(system::move_to(system::high_number().ok_or_else(low)?, stream))
    }

    /// The highest there can be, and so far above the others that the kernel's table of this process has no room for
    /// it.
    pub(super) fn never_used() -> Result<Number, Ended> {
        match system::numbers_below() {
            limit @ 4_096.. => Ok(limit - 1),
            _ => Err(Ended::NotHere("the limit of open files is below 4096".to_owned())),
        }
    }

    pub(super) fn of(stream: &TcpStream) -> Number {
        stream.as_raw_fd()
    }

    pub(super) fn give(number: Number, stream: TcpStream) -> Result<TcpStream, Ended> {
        Ok(system::move_to(number, stream))
    }
}

/// The system chooses: no socket can be given a handle that another one had.
#[cfg(not(unix))]
mod numbers {
    use std::net::TcpStream;
    use std::os::windows::io::{AsRawSocket, RawSocket};

    use super::super::scene::Ended;

    pub(super) type Number = RawSocket;

    pub(super) fn apart(stream: TcpStream) -> Result<TcpStream, Ended> {
        Ok(stream)
    }

    pub(super) fn of(stream: &TcpStream) -> Number {
        stream.as_raw_socket()
    }

    pub(super) fn give(_: Number, _: TcpStream) -> Result<TcpStream, Ended> {
        Err(Ended::NotHere("not on this system: it alone chooses a socket's handle".to_owned()))
    }
}
