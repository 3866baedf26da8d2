//! What must hold of a source's polls whatever their completions say: for cargo-fuzz, and for `cargo test` through
//! proptest.

use super::watch::{Question, Verdict, Watch, asked};
use super::{serial_and_source, user_data};
use crate::event::{Interest, Token, Trigger};
use crate::properties::{implications, polled};
use crate::source::RawSource;

/// One step in numbers, of which any do: what, and four whose meaning depends.
pub type Step = (u8, u8, i16, u16, bool);

/// Watches a source for this and that, asks about it as [`Uring`](super::Uring) does, and has its polls answered as any
/// kernel may, also those that were cancelled long ago. It holds every step to this: what is told was asked for or is
/// told unasked by poll(2), too, and was true when a completion or poll(2) said so; oneshot tells once; nothing is told
/// by a poll that is over; and a source that is watched is being polled or will be, one that is not will not be.
///
/// # Panics
/// If any of it does not hold.
pub fn every_completion_is_told_or_asked_about_again_or_nobodys(steps: &[Step]) {
    let mut run = Run::default();
    for &(what, which, result, bits, yes) in steps {
        let (result, looked, unread) = (result.into(), bits & 0x3fff, (bits >> 14) as u8);
        let answer = |more| Answer { result, more, trusted: yes, looked, unread };
        match what % 4 {
            0 => run.modify(which.into(), interest(bits), Trigger::ALL[usize::from(which % 3)]),
            1 => run.ask(),
            2 => run.complete(run.kernel.map_or(1, |poll| poll.serial), answer(which & 1 != 0)),
            // Of an earlier poll.
            _ => run.complete(run.serial.saturating_sub(which.into()).max(1), answer(yes)),
        }
        run.loses_nothing();
    }
}

/// What is submitted comes back as it was, and is never taken for a cancellation that came too late.
///
/// # Panics
/// If not.
pub fn a_completion_names_its_poll(serial: u32, source: RawSource) {
    let source = source & RawSource::MAX; // descriptors are not negative
    assert_eq!(serial_and_source(user_data(serial, source)), (serial, source));
    assert_ne!(user_data(serial, source), super::NOBODYS);
}

/// What a kernel, and then poll(2), say.
#[derive(Clone, Copy)]
struct Answer {
    result: i32,
    more: bool,
    trusted: bool,
    /// 0 if it is not so any more.
    looked: u16,
    /// Completions that were there when poll(2) answered.
    unread: u8,
}

/// A poll that is under way.
#[derive(Clone, Copy)]
struct Poll {
    serial: u32,
    question: Question,
}

#[derive(Default)]
struct Run {
    watch: Watch,
    /// What is to be told of, by whose token; nothing after a oneshot event, nor after an error.
    wanted: Interest,
    token: Token,
    trigger: Trigger,
    kernel: Option<Poll>,
    serial: u32,
    /// How many completions were read, and up to which poll(2) has answered for all.
    read: u64,
    answered: u64,
    /// No wait is under way: it has told, or the caller has changed something.
    between: bool,
    /// A single poll said what nobody wanted to know.
    pestered: bool,
}

impl Run {
    fn modify(&mut self, token: u64, interest: Interest, trigger: Trigger) {
        let is_the_same = interest == self.wanted && trigger != Trigger::Edge && self.trigger != Trigger::Edge;
        let is_polled_for = is_the_same && self.kernel.is_some_and(|poll| !poll.question.multishot);
        let is_new = self.watch.modify(Token(token), asked(interest, trigger), trigger);
        assert!(!is_new || !is_polled_for, "what is polled for the same is left alone");
        if is_new {
            self.watch.note();
            self.pestered = false;
        }
        (self.token, self.wanted, self.trigger) = (Token(token), interest, trigger);
        self.between = true;
    }

    /// A wait begins.
    fn ask(&mut self) {
        self.between = false;
        if !self.watch.noted {
            return;
        }
        self.kernel = None; // cancelled
        let question = self.watch.question();
        assert_eq!(question.is_some(), !self.wanted.is_empty(), "who wants nothing is not polled");
        if let Some(question) = question {
            self.serial += 1;
            self.kernel = Some(Poll { serial: self.serial, question });
        }
        self.watch.asked_about(self.kernel.map_or(0, |poll| poll.serial), question);
    }

    /// The poll `serial` completes; and if that is to be doubted, poll(2) is asked.
    fn complete(&mut self, serial: u32, answer: Answer) {
        if self.between {
            self.ask(); // nothing is read but in a wait, which begins so
        }
        self.read += 1;
        let Answer { result, more, trusted, looked, unread } = answer;
        // A poll that is asked once completes once, and one that has failed is over.
        let more = more && result >= 0 && self.kernel.is_some_and(|poll| poll.question.multishot);
        let verdict = self.watch.judge(serial, result, more, self.read, trusted);
        let Some(poll) = self.kernel.filter(|poll| poll.serial == serial) else {
            assert_eq!(verdict, Verdict::Nothing, "it is over");
            return;
        };
        if !more {
            self.kernel = None;
        }
        let is_urgent = result as u32 & PRI & self.asked() != 0;
        let is_doubtful = result >= 0 && (poll.question.multishot || !trusted || is_urgent);
        let verdict = match verdict {
            Verdict::Doubtful => {
                assert!(is_doubtful, "it is certain");
                assert!(!poll.question.multishot || self.read > self.answered, "poll(2) has answered for it");
                let there = self.read + u64::from(unread);
                self.answered = if looked == 0 { self.answered } else { there };
                self.watch.confirm(looked, there)
            }
            certain => certain,
        };
        match verdict {
            Verdict::Told(bits) => {
                self.tell(bits, if is_doubtful { looked.into() } else { self.certain(result) }, result < 0)
            }
            Verdict::AskAgain => {
                let unwanted = result >= 0 && result as u32 & (self.asked() | ALWAYS) == 0;
                self.pestered |= unwanted && !poll.question.multishot;
                self.watch.note();
            }
            Verdict::Nothing => {
                assert!(more && poll.question.multishot || self.wanted.is_empty() || self.kernel.is_some())
            }
            Verdict::Doubtful => panic!("poll(2) does not doubt"),
        }
    }

    /// What a completion that is not doubted comes to.
    fn certain(&self, result: i32) -> u32 {
        match result {
            0.. => result as u32 & (self.asked() | ALWAYS),
            errno if errno == -libc::EBADF => NVAL,
            _ => ERR,
        }
    }

    fn tell(&mut self, bits: u32, so: u32, failed: bool) {
        assert_eq!(bits, so, "it is not so");
        assert!(bits != 0 && !self.wanted.is_empty() || failed, "nobody wants to know");
        let event = polled(self.token, bits);
        assert_eq!((event.token(), self.watch.token), (self.token, self.token));
        implications(event);
        self.between = true; // each source once
        if self.trigger == Trigger::Oneshot || bits & NVAL != 0 || failed {
            self.wanted = Interest::EMPTY;
        }
        if self.watch.reported(bits) {
            self.watch.note();
        }
    }

    /// The bits of poll(2) that say what is wanted. Whoever reads at an edge stops at an urgent mark.
    fn asked(&self) -> u32 {
        let bit = |one, bits| if self.wanted.contains(one) { bits } else { 0 };
        let read = IN | RDHUP | if self.trigger == Trigger::Edge { PRI } else { 0 };
        bit(Interest::READABLE, read) | bit(Interest::WRITABLE, OUT) | bit(Interest::PRIORITY, PRI)
    }

    /// What a poll is to ask.
    fn question(&self) -> Question {
        let with = if self.asked() & PRI != 0 { IN } else { 0 }; // urgent data alone wakes nobody
        Question { bits: self.asked() | with, multishot: self.trigger == Trigger::Edge || self.pestered }
    }

    fn loses_nothing(&self) {
        let Watch { asked, poll, noted, .. } = self.watch;
        assert_eq!(poll, self.kernel.map_or(0, |poll| poll.serial), "the watch and its kernel disagree");
        assert_eq!(asked != 0, !self.wanted.is_empty());
        assert!(asked == 0 || poll != 0 || noted, "a source that nobody asks about any more");
        assert!(asked != 0 || poll == 0 || noted, "a poll of what nobody wants to know goes on");
        let other = self.kernel.filter(|poll| !noted && poll.question != self.question());
        assert_eq!(other.map(|poll| poll.question), None, "{:?}, {:?}", self.wanted, self.trigger);
    }
}

fn interest(bits: u16) -> Interest {
    let all = [Interest::READABLE, Interest::WRITABLE, Interest::PRIORITY].into_iter().enumerate();
    all.filter(|(at, _)| bits >> at & 1 == 1).fold(Interest::EMPTY, |all, (_, one)| all | one)
}

const IN: u32 = libc::POLLIN as u32;
const OUT: u32 = libc::POLLOUT as u32;
const PRI: u32 = libc::POLLPRI as u32;
const ERR: u32 = libc::POLLERR as u32;
const NVAL: u32 = libc::POLLNVAL as u32;
const RDHUP: u32 = libc::POLLRDHUP as u32;
const ALWAYS: u32 = ERR | NVAL | libc::POLLHUP as u32;

#[cfg(test)]
proptest::proptest! {
    #[test]
    fn every_completion_is_told_or_asked_about_again_and_no_source_is_forgotten(steps: Vec<Step>) {
        every_completion_is_told_or_asked_about_again_or_nobodys(&steps);
    }

    #[test]
    fn a_completion_names_the_poll_it_is_of(serial: u32, source: RawSource) {
        a_completion_names_its_poll(serial, source);
    }
}
