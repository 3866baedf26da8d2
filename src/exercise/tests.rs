//! Every poller of this host goes over every course; those that lie are found out.

use std::io;
use std::time::Duration;

use pollmark_backends::{
    Capabilities, Events, Interest, Ledger, OwnedSource, Poller, Registry, Source, Token, Trigger,
};

use super::*;
use crate::mechanism::Mechanism;

/// Passes, and then the time is over.
const ONCE: Duration = Duration::from_nanos(1);

fn terms(exercise: Exercise, active: usize) -> Terms {
    Terms { exercise, idle: 9, active }
}

#[test]
fn every_poller_of_this_host_hands_every_message_on() {
    let registry = Registry::builtin();
    let mut seen = 0;
    for mechanism in Mechanism::all(&registry).iter().filter(|mechanism| mechanism.probe(&registry).is_ok()) {
        let Some((entry, trigger)) = mechanism.poller(&registry) else { continue };
        for channel in [Channel::Pipe, Channel::SocketPair] {
            for (wait, place, active) in
                [(Wait::Spinning, Place::Spread, 3), (Wait::Ready, Place::High, 1), (Wait::Ready, Place::Random, 5)]
            {
                let exercise = Exercise { channel, wait, place, chained_writes: 30, ..Exercise::default() };
                let poller = entry.open().expect("probed");
                let mut course = Course::open(poller, trigger, terms(exercise, active)).expect("a few descriptors");
                let done = course.run(ONCE).unwrap_or_else(|fault| panic!("{mechanism}, {exercise}: {fault}"));
                assert_eq!(done.operations as usize % (active + 30), 0, "{mechanism}, {exercise}");
                assert!(done.operations > 0 && done.bytes == 8 * done.operations, "{mechanism}: {done:?}");
                assert_eq!((done.writes, done.reads - done.would_block), (done.operations, done.operations));
                assert!(done.ledger.waits > 0 && done.ledger.events <= done.reads, "{mechanism}: {done:?}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 3 * 6, "poll, select and polling are everywhere: {seen} courses");
}

#[test]
fn every_poller_of_this_host_is_set_up_and_taken_down() {
    let registry = Registry::builtin();
    for mechanism in Mechanism::all(&registry).iter().filter(|mechanism| mechanism.probe(&registry).is_ok()) {
        let Some((entry, trigger)) = mechanism.poller(&registry) else { continue };
        let exercise = Exercise { task: Task::SetUp, ..Exercise::default() };
        let poller = entry.open().expect("probed");
        let mut course = Course::open(poller, trigger, terms(exercise, 3)).expect("a few descriptors");
        let done = course.run(ONCE).unwrap_or_else(|fault| panic!("{mechanism}: {fault}"));
        assert_eq!(done.operations % 12, 0, "{mechanism}: all of them each time");
        assert_eq!(done.ledger.changes, 2 * done.operations, "{mechanism}: in and out");
        assert!(done.bytes == 0 && done.reads == 0, "{mechanism}: {done:?}");
    }
}

#[test]
fn a_poller_that_lies_is_found_out() {
    let relay = Exercise::default();
    let set_up = Exercise { task: Task::SetUp, ..relay };
    for (lie, exercise, words) in [
        (Lie::Another, relay, "1000 waits told of none"),
        (Lie::Unknown, relay, "nothing was registered by it"),
        (Lie::Nothing, relay, "1 messages are to be read"),
        (Lie::Another, set_up, "not ready"),
        (Lie::Nothing, set_up, "0 of 1 ready descriptors were reported"),
        (Lie::StillWatching, set_up, "no longer watched"),
    ] {
        let liar = Liar { poller: Registry::builtin().get("poll").expect("everywhere").open().expect("poll"), lie };
        let mut course = Course::open(liar, Trigger::Level, terms(exercise, 1)).expect("a few descriptors");
        let fault = course.run(ONCE).expect_err("it lies").to_string();
        assert!(fault.contains(words), "{exercise}: {fault}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Lie {
    /// Each event is told of the next descriptor.
    Another,
    /// Each event is told of none there is.
    Unknown,
    /// No event is told.
    Nothing,
    /// What was taken out is watched on.
    StillWatching,
}

/// poll(2), but for one lie.
struct Liar {
    poller: Box<dyn Poller>,
    lie: Lie,
}

impl Poller for Liar {
    fn capabilities(&self) -> Capabilities {
        self.poller.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let token = match self.lie {
            Lie::Another => Token(token.0 + 1),
            Lie::Unknown => Token::new(token.slot(), 7),
            _ => token,
        };
        self.poller.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.poller.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        if self.lie == Lie::StillWatching { Ok(()) } else { self.poller.remove(source) }
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.poller.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.poller.wait(events, timeout)?;
        if self.lie == Lie::Nothing {
            events.clear();
        }
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.poller.ledger()
    }
}
