//! What happened, in order: a hash of all of it, and the end of it in words.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use pollmark_backends::Interest;

use super::faults::Fault;
use crate::server::Expiry;

/// So many of the last steps are kept to be read.
const KEPT: usize = 400;

/// Who is spoken of. Never a descriptor's number, which the system chooses and which differs from run to run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Name {
    Waker,
    Listener(u8),
    Mailbox(u8),
    Client(u32),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Waker => f.pad("waker"),
            Name::Listener(at) => f.pad(&format!("listener {at}")),
            Name::Mailbox(at) => f.pad(&format!("mailbox {at}")),
            Name::Client(id) => f.pad(&format!("client {id}")),
        }
    }
}

/// One step of a run.
#[derive(Clone, Copy, Hash, Debug)]
pub(super) enum What {
    // The clients' doing.
    Connects,
    Speaks(u64),
    Arrives(u64),
    EndArrives,
    Takes(u64),
    Resets,
    Vanishes,
    StopsReading,
    ReadsAgain,
    TimesOut,
    // The server's calls.
    Accepted,
    HandedIn,
    Refused,
    Added(Interest),
    Modified(Interest),
    Removed,
    Closed,
    Received(usize),
    Sent(usize, usize),
    Failed(&'static str, i32),
    Waits(Option<Duration>),
    Told(u8),
    // The protocol's.
    Heard(usize, usize),
    HeardTheEnd,
    Deadline(Option<u64>),
    Due,
    Expires(Expiry),
    AsksToClose,
    Aborts,
    // The world's.
    Strikes(Fault),
    Stops,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            What::Connects => write!(f, "connects"),
            What::Speaks(bytes) => write!(f, "says {bytes} bytes"),
            What::Arrives(bytes) => write!(f, "{bytes} bytes arrive"),
            What::EndArrives => write!(f, "the end of its stream arrives"),
            What::Takes(bytes) => write!(f, "takes {bytes} bytes"),
            What::Resets => write!(f, "resets"),
            What::Vanishes => write!(f, "vanishes"),
            What::StopsReading => write!(f, "stops reading"),
            What::ReadsAgain => write!(f, "reads again"),
            What::TimesOut => write!(f, "is given up by TCP"),
            What::Accepted => write!(f, "accept"),
            What::HandedIn => write!(f, "handed to the server"),
            What::Refused => write!(f, "refused"),
            What::Added(interest) => write!(f, "add {interest:?}"),
            What::Modified(interest) => write!(f, "modify {interest:?}"),
            What::Removed => write!(f, "remove"),
            What::Closed => write!(f, "close"),
            What::Received(bytes) => write!(f, "recv: {bytes}"),
            What::Sent(taken, offered) => write!(f, "send: {taken} of {offered}"),
            What::Failed(call, code) => {
                write!(f, "{call}: {}", std::io::Error::from_raw_os_error(code))
            }
            What::Waits(None) => write!(f, "wait"),
            What::Waits(Some(timeout)) => write!(f, "wait {timeout:?}"),
            What::Told(bits) => {
                let names = ["readable", "writable", "read closed", "hang-up", "error"];
                let told = names.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
                let told = told.map(|(_, name)| *name).collect::<Vec<_>>();
                write!(f, "event: {}", told.join(", "))
            }
            What::Heard(bytes, consumed) => write!(f, "protocol: {bytes} bytes, of which {consumed} consumed"),
            What::HeardTheEnd => write!(f, "protocol: end of stream"),
            What::Expires(expiry) => write!(f, "server: meets its {expiry} deadline"),
            What::Deadline(None) => write!(f, "protocol: no deadline"),
            What::Deadline(Some(at)) => write!(f, "protocol: deadline at {}", Seconds(at)),
            What::Due => write!(f, "protocol: due"),
            What::AsksToClose => write!(f, "protocol: asks to close"),
            What::Aborts => write!(f, "protocol: aborts"),
            What::Strikes(fault) => write!(f, "fault: {fault}"),
            What::Stops => write!(f, "the server is asked to stop"),
        }
    }
}

/// The steps of a run so far.
pub(super) struct Trace {
    hash: Mix,
    last: VecDeque<(u64, Option<Name>, What)>,
    pub(super) steps: u64,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { hash: Mix::default(), last: VecDeque::with_capacity(KEPT), steps: 0 }
    }

    pub(super) fn note(&mut self, at: u64, who: Option<Name>, what: What) {
        let step = (at, who, what);
        step.hash(&mut self.hash);
        self.steps += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(step);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// The end of the story; of `who` alone, if it is about somebody.
    pub(super) fn tail(&self, who: Option<Name>, lines: usize) -> Vec<String> {
        let concerns = |name: &Option<Name>| who.is_none() || name.is_none() || *name == who;
        let told = self.last.iter().rev().filter(|(_, name, _)| concerns(name)).take(lines);
        let mut told = told
            .map(|(at, name, what)| {
                let name = name.map(|name| name.to_string()).unwrap_or_default();
                format!("{:>18}  {name:<12}  {what}", Seconds(*at).to_string())
            })
            .collect::<Vec<_>>();
        told.reverse();
        told
    }
}

/// A hash that costs little without optimisation, and is the same whatever compiled it; after rustc's FxHasher.
#[derive(Clone, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

/// Nanoseconds, to be read as seconds.
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09} s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}
