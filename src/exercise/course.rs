//! The course: one poller over many channels, again and again, every message verified.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use fastrand::Rng;
use pollmark_backends::{Events, Interest, Ledger, Poller, Token, Trigger};
use serde::{Deserialize, Serialize};

use super::channels::{Channels, Fault, MESSAGE};
use super::{Exercise, Place, Task, Wait};
use crate::server::EVENTS;

/// Messages, or passes, between two looks at the clock: so that it costs little beside a wait.
const BETWEEN_LOOKS: usize = 16;

/// Waits in a row that may bring nothing, though something is ready. One is enough for the pollers that exist; who needs
/// more than these will never speak of it.
const FRUITLESS: usize = 1_000;

/// What is to be gone over, by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) exercise: Exercise,
    /// Descriptors on which nothing ever happens, unless messages are handed on.
    pub(crate) idle: usize,
    /// Descriptors that are ready at a time.
    pub(crate) active: usize,
}

/// What was done in a time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Messages written, waited for and verified; or descriptors registered and taken out again.
    pub(crate) operations: u64,
    /// Bytes of messages read and verified.
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    pub(crate) ledger: Ledger,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) would_block: u64,
}

/// A poller and its channels, ready to go.
pub(crate) struct Course<P> {
    // Dropped first: closed behind its back, descriptors would make it speak of them.
    poller: P,
    trigger: Trigger,
    channels: Channels,
    events: Events,
    terms: Terms,
    rng: Rng,
    /// To whom messages are given that he is to write, once the poller sleeps.
    writer: Option<OwnedFd>,
}

impl<P: Poller> Course<P> {
    /// Opens the channels, and registers them, unless it is that which is to be measured.
    pub(crate) fn open(poller: P, trigger: Trigger, terms: Terms) -> Result<Course<P>, Fault> {
        let Terms { exercise, idle, active } = terms;
        let channels = Channels::open(exercise.channel, idle + active, exercise.numbers_from)?;
        let events = Events::with_capacity(EVENTS);
        // The same places for everyone.
        let rng = Rng::with_seed(1);
        let mut course = Course { poller, trigger, channels, events, terms, rng, writer: None };
        match exercise.task {
            Task::Relay => course.register()?,
            // They stay ready all the time.
            Task::SetUp => course.write_to_active()?,
        }
        Ok(course)
    }

    /// Where somebody else is to write for a sleeping wait.
    pub(crate) fn awaited(&self) -> BorrowedFd<'_> {
        self.channels.writing(self.place(0))
    }

    /// From now on messages are written by him who reads the other end of `writer`.
    pub(crate) fn written_by(&mut self, writer: OwnedFd) {
        self.writer = Some(writer);
    }

    /// Goes over the course until `span` has passed.
    pub(crate) fn run(&mut self, span: Duration) -> Result<Done, Fault> {
        let (ledger, channels) = (self.poller.ledger(), &self.channels);
        let before = (channels.reads, channels.writes, channels.would_block);
        let mut done = Done::default();
        let began = Instant::now();
        while done.elapsed < span {
            let mut since_look = 0;
            while since_look < BETWEEN_LOOKS {
                since_look += match self.terms.exercise.task {
                    Task::Relay => self.relay()?,
                    Task::SetUp => self.set_up()?,
                };
            }
            done.operations += since_look as u64;
            done.elapsed = began.elapsed();
        }
        if self.terms.exercise.task == Task::Relay {
            done.bytes = done.operations * MESSAGE as u64;
        }
        done.ledger = self.poller.ledger() - ledger;
        let Channels { reads, writes, would_block, .. } = self.channels;
        (done.reads, done.writes, done.would_block) = (reads - before.0, writes - before.1, would_block - before.2);
        Ok(done)
    }

    /// So many messages at once, and those that are handed on; until all have come. Returns how many there were.
    fn relay(&mut self) -> Result<usize, Fault> {
        self.write_to_active()?;
        let mut under_way = self.terms.active;
        let mut to_hand_on = self.terms.exercise.chained_writes as usize;
        let all = under_way + to_hand_on;
        let mut fruitless = 0;
        while under_way > 0 {
            self.wait()?;
            fruitless += 1;
            if fruitless > FRUITLESS {
                return Err(Fault(format!("{under_way} messages are to be read, and {FRUITLESS} waits told of none")));
            }
            for event in self.events.iter() {
                let place = place_of(event.token(), &self.channels)?;
                if !event.readable() {
                    return Err(Fault(format!("{event:?} is of a channel that was to be read, and does not say so")));
                }
                // Under an edge, what is left would never be reported.
                while self.channels.read(place)? {
                    (under_way, fruitless) = (under_way - 1, 0);
                    if to_hand_on > 0 {
                        to_hand_on -= 1;
                        under_way += 1;
                        self.channels.write((place + 1) % self.channels.count(), None)?;
                    }
                    if self.trigger != Trigger::Edge {
                        break;
                    }
                }
                if self.trigger == Trigger::Oneshot {
                    self.poller.modify(self.channels.watched(place), event.token(), INTEREST, self.trigger)?;
                }
            }
        }
        Ok(all)
    }

    /// All descriptors in, a look at them, and out again. Returns how many there were.
    fn set_up(&mut self) -> Result<usize, Fault> {
        self.register()?;
        let (mut reported, mut looks) = (0, 0);
        while reported < self.terms.active {
            looks += 1;
            if looks > FRUITLESS {
                let ready = self.terms.active;
                return Err(Fault(format!("{reported} of {ready} ready descriptors were reported, and no more")));
            }
            self.wait()?;
            for event in self.events.iter() {
                let place = place_of(event.token(), &self.channels)?;
                if !self.channels.is_ready(place) {
                    return Err(Fault(format!("{event:?} is of a descriptor that is not ready")));
                }
            }
            // A level is reported again and again.
            reported = self.events.len() + if self.trigger == Trigger::Level { 0 } else { reported };
        }
        for place in 0..self.channels.count() {
            self.poller.remove(self.channels.watched(place))?;
        }
        self.wait()?;
        match self.events.iter().next() {
            None => Ok(self.channels.count()),
            Some(event) => Err(Fault(format!("{event:?} is of a descriptor that is no longer watched"))),
        }
    }

    fn register(&mut self) -> io::Result<()> {
        for place in 0..self.channels.count() {
            let token = Token::new(place as u32, 1);
            self.poller.add(self.channels.watched(place), token, INTEREST, self.trigger)?;
        }
        Ok(())
    }

    fn write_to_active(&mut self) -> Result<(), Fault> {
        for nth in 0..self.terms.active {
            let place = match self.terms.exercise.place {
                Place::Random => self.rng.usize(..self.channels.count()),
                _ => self.place(nth),
            };
            self.channels.write(place, self.writer.as_ref())?;
        }
        Ok(())
    }

    /// The place of the nth that is ready.
    fn place(&self, nth: usize) -> usize {
        let Terms { exercise, active, .. } = self.terms;
        match exercise.place {
            Place::Low | Place::Random => nth,
            Place::High => self.channels.count() - 1 - nth,
            Place::Spread => nth * self.channels.count() / active,
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let spinning = self.terms.exercise.wait == Wait::Spinning || self.terms.exercise.task == Task::SetUp;
        let timeout = spinning.then_some(Duration::ZERO);
        loop {
            match self.poller.wait(&mut self.events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                waited => return waited,
            }
        }
    }
}

const INTEREST: Interest = Interest::READABLE;

fn place_of(token: Token, channels: &Channels) -> Result<usize, Fault> {
    let place = token.slot() as usize;
    match place < channels.count() && token.generation() == 1 {
        true => Ok(place),
        false => Err(Fault(format!("{token:?} was reported, and nothing was registered by it"))),
    }
}
