//! Scenarios of the wait itself: wakes, timeouts, more ready than room, many sources, high numbers.

use std::io::Write;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::outcome::{Expected, Facts};
use super::scene::{PATIENCE, Scene};
use super::{Moment, Play, Scenario};
use crate::event::{Interest, Token};

/// More than FD_SETSIZE is on Windows.
const MANY: usize = 100;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "waker",
        shows: "Another thread wakes the one that waits. That is a source like any other, and many wakes are one.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "woken twice", expected: Expected::Event(Facts::READABLE) },
            Moment { when: "drained", expected: Expected::Silence },
            Moment { when: "woken again", expected: Expected::Event(Facts::READABLE) },
        ],
        play: waker,
    },
    Scenario {
        name: "timeout",
        shows: "A wait for nothing, with a timeout: what the kernel is asked for in its own unit. It is rounded up, so a \
                wait is never over early, and a short one never becomes a look and a spin.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[
            Moment { when: "0", expected: Expected::Found(NOT_EARLY) },
            Moment { when: "100 µs", expected: Expected::Found(NOT_EARLY) },
            Moment { when: "1 ms", expected: Expected::Found(NOT_EARLY) },
        ],
        play: timeout,
    },
    Scenario {
        name: "more-than-room",
        shows: "Four sources are ready, and there is room for two. Who was left out comes first in the next wait.",
        asked: Interest::READABLE,
        trigger: None,
        moments: &[Moment { when: "two waits", expected: Expected::Found(NONE_STARVED) }],
        play: more_than_room,
    },
    Scenario {
        name: "many",
        shows: "A hundred sources, all of them ready: more than FD_SETSIZE allows on Windows, where a set of select(2) \
                is a list, limited by count.",
        asked: Interest::WRITABLE,
        trigger: None,
        moments: &[Moment { when: "one wait", expected: Expected::Found(ALL_REPORTED) }],
        play: many,
    },
    Scenario {
        name: "high-number",
        shows: "A source whose number is beyond 1023, the last that fits the fd_set of C. There FD_SET writes past its \
                end; here the sets are as long as they need to be.",
        asked: Interest::WRITABLE,
        trigger: None,
        moments: &[Moment { when: "it has room to write", expected: Expected::Event(Facts::WRITABLE) }],
        play: high_number,
    },
];

const NOT_EARLY: &str = "empty, not early";
const NONE_STARVED: &str = "all four";
const ALL_REPORTED: &str = "all reported";

fn waker(scene: &mut Scene<'_>) -> Play {
    let (waker, wakes) = crate::waker()?;
    scene.watch(&wakes.as_source())?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            waker.wake();
            waker.wake();
        });
    });
    scene.look()?;
    wakes.drain();
    scene.look()?;
    waker.wake();
    scene.look()
}

fn timeout(scene: &mut Scene<'_>) -> Play {
    let (near, _far) = scene.pair()?;
    scene.watch(&near)?;
    for timeout in [Duration::ZERO, Duration::from_micros(100), Duration::from_millis(1)] {
        let began = Instant::now();
        scene.wait(timeout)?;
        let early = began.elapsed() < timeout;
        // How late it was is not said: that is the scheduler's doing, and differs each time.
        let what = match (scene.events().is_empty(), early) {
            (true, false) => NOT_EARLY,
            (true, true) => "empty, and early",
            (false, _) => "an event out of nothing",
        };
        let unit = scene.capabilities.resolution;
        let asked = Duration::from_nanos(timeout.as_nanos().next_multiple_of(unit.as_nanos().max(1)) as u64);
        let raw = match (asked.is_zero(), asked == timeout) {
            (true, _) => "asked for 0".to_owned(),
            (_, true) => format!("asked for {asked:?}"),
            (_, false) => format!("rounded up to {asked:?}"),
        };
        scene.found(raw, what);
    }
    Ok(())
}

fn more_than_room(scene: &mut Scene<'_>) -> Play {
    let mut pairs = (0..4).map(|_| scene.pair()).collect::<Result<Vec<_>, _>>()?;
    // By number, so that those that go by number and those that go by arrival say the same.
    pairs.sort_by_key(|(near, _)| number(near));
    for (near, far) in &mut pairs {
        far.write_all(b"x")?;
        scene.settle(near, Facts::READABLE)?;
    }
    for (near, at) in pairs.iter().map(|(near, _)| near).zip(1..) {
        scene.watch_as(near, Token::new(at, 0))?;
    }
    scene.give_room(2);
    let (mut waits, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        scene.wait(PATIENCE)?;
        let slots = scene.events().iter().map(|event| event.token().slot()).collect::<Vec<_>>();
        waits.push(slots.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
        seen.extend(slots);
    }
    seen.sort_unstable();
    seen.dedup();
    let what = if seen.len() == 4 { NONE_STARVED.to_owned() } else { format!("{} of four", seen.len()) };
    scene.found(waits.join(", "), what);
    Ok(())
}

fn many(scene: &mut Scene<'_>) -> Play {
    let sockets = (0..MANY).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect::<Result<Vec<_>, _>>()?;
    for (socket, at) in sockets.iter().zip(1..) {
        scene.settle(socket, Facts::WRITABLE)?;
        scene.watch_as(socket, Token::new(at, 0))?;
    }
    scene.wait(PATIENCE)?;
    let reported = scene.events().len();
    let what = if reported == MANY { ALL_REPORTED.to_owned() } else { "not all".to_owned() };
    scene.found(format!("{reported} of {MANY}"), what);
    Ok(())
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        fn number(stream: &std::net::TcpStream) -> crate::RawSource {
            std::os::fd::AsRawFd::as_raw_fd(stream)
        }

        fn high_number(scene: &mut Scene<'_>) -> Play {
            use super::scene::Ended;
            use crate::conformance::system;

            let Some(number) = system::high_number() else {
                return Err(Ended::NotHere("the limit of open files is below 1500".to_owned()));
            };
            let (near, _far) = scene.pair()?;
            let near = system::move_to(number, near);
            scene.watch(&near)?;
            scene.look()
        }
    } else {
        fn number(stream: &std::net::TcpStream) -> crate::RawSource {
            std::os::windows::io::AsRawSocket::as_raw_socket(stream)
        }

        fn high_number(_: &mut Scene<'_>) -> Play {
            let why = "not on this system: a set is limited by count, see `many`";
            Err(super::scene::Ended::NotHere(why.to_owned()))
        }
    }
}
