//! A random walk over a few connections, agreeing with poll(2) at every step.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::subject::{Subject, pair};
use super::system::ask_poll;
use crate::event::{Interest, Token, Trigger};
use crate::poller::Poller;
use crate::source::OwnedSource;

const STEPS: usize = 400;
const SLOTS: usize = 10;
const INTERESTS: [Interest; 4] =
    [Interest::EMPTY, Interest::READABLE, Interest::WRITABLE, Interest::READABLE.union(Interest::WRITABLE)];

struct Slot {
    near: TcpStream,
    far: TcpStream,
    generation: u32,
    // As registered; `None` before `add` and after `remove`.
    interest: Option<Interest>,
}

pub(super) struct Walk {
    seed: u64,
    state: u64,
    slots: Vec<Slot>,
    // What was done last, for the report of a failure.
    trail: Vec<String>,
}

impl Walk {
    pub(super) fn new(seed: u64) -> Walk {
        let slots = (0..SLOTS).map(|_| {
            let (near, far) = pair();
            Slot { near, far, generation: 0, interest: None }
        });
        Walk { seed, state: seed, slots: slots.collect(), trail: Vec::new() }
    }

    pub(super) fn run<P: Poller>(&mut self, subject: &mut Subject<P>) {
        for step in 0..STEPS {
            let chosen = self.random(SLOTS);
            self.act(subject, chosen);
            self.compare(subject, step);
        }
        for slot in self.slots.drain(..).filter(|slot| slot.interest.is_some()) {
            subject.remove(&slot.near);
        }
    }

    fn act<P: Poller>(&mut self, subject: &mut Subject<P>, chosen: usize) {
        let action = self.random(12);
        let interest = INTERESTS[self.random(INTERESTS.len())];
        let slot = &mut self.slots[chosen];
        let token = Token::new(chosen as u32, slot.generation);
        let mut buffer = [0; 64 << 10];
        let what = match (action, slot.interest) {
            (0..=3, None) => {
                subject.add(&slot.near, token, interest);
                slot.interest = Some(interest);
                format!("add for {interest:?}")
            }
            (0..=2, Some(_)) => {
                slot.generation += 1;
                let token = Token::new(chosen as u32, slot.generation);
                subject.modify(&slot.near, token, interest, Trigger::Level);
                slot.interest = Some(interest);
                format!("modify to {interest:?}")
            }
            (3, Some(_)) => {
                subject.remove(&slot.near);
                slot.interest = None;
                "remove".to_owned()
            }
            (4..=5, _) => format!("the peer writes: {:?}", slot.far.write(b"x")),
            (6, _) => format!("read: {:?}", slot.near.read(&mut buffer)),
            (7, _) => format!("write all there is room for: {:?}", slot.near.write(&buffer)),
            (8, _) => format!("the peer reads: {:?}", slot.far.read(&mut buffer)),
            (9, _) => format!("the peer closes its half: {:?}", slot.far.shutdown(Shutdown::Write)),
            (10, _) => format!("close the own half: {:?}", slot.near.shutdown(Shutdown::Write)),
            _ => {
                let (near, far) = pair();
                let (old, _) = (std::mem::replace(&mut slot.near, near), std::mem::replace(&mut slot.far, far));
                slot.generation += 1;
                if slot.interest.take().is_some() {
                    subject.poller.close(OwnedSource::from(old)).expect("the source is known");
                }
                "close, and a new connection".to_owned()
            }
        };
        self.trail.push(format!("{chosen}: {what}"));
    }

    /// Loopback delivers at once on most systems, and a moment later on the others: both are asked again until
    /// they agree, or the deadline passes.
    fn compare<P: Poller>(&self, subject: &mut Subject<P>, step: usize) {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let (theirs, ours) = (self.expected(), self.found(subject));
            if theirs == ours {
                return;
            }
            if Instant::now() >= deadline {
                let trail = self.trail[self.trail.len().saturating_sub(8)..].join("; ");
                panic!(
                    "seed {}, step {step}: poll(2) finds {theirs:?} (slot.generation, readable, writable), but the \
                     poller {ours:?}; the last steps were: {trail}",
                    self.seed
                );
            }
        }
    }

    fn expected(&self) -> Vec<(Token, bool, bool)> {
        let watched = || self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot, slot.interest?)));
        let asked: Vec<_> = watched().map(|(_, slot, interest)| (slot.near.as_raw_fd(), interest)).collect();
        let answers = watched()
            .zip(ask_poll(&asked))
            .map(|((at, slot, _), (readable, writable))| (Token::new(at as u32, slot.generation), readable, writable));
        let mut expected: Vec<_> = answers.filter(|(_, readable, writable)| *readable || *writable).collect();
        expected.sort();
        expected
    }

    fn found<P: Poller>(&self, subject: &mut Subject<P>) -> Vec<(Token, bool, bool)> {
        let mut found: Vec<_> = subject
            .wait(Duration::ZERO)
            .iter()
            .map(|event| {
                let slot = self.slots.get(event.token().slot() as usize);
                let interest = slot.and_then(|slot| slot.interest).unwrap_or_default();
                (
                    event.token(),
                    event.readable() && interest.contains(Interest::READABLE),
                    event.writable() && interest.contains(Interest::WRITABLE),
                )
            })
            .collect();
        found.sort();
        found
    }

    /// xorshift64*: a walk needs variety, not quality.
    fn random(&mut self, below: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}
