//! Scripts: what a program does to a poller and to the world around it, as data that reads like the program.

use std::fmt;
use std::str::FromStr;

use super::super::dice::Dice;
use crate::event::{Interest, Trigger};

/// How many sources a script can speak of: slots 0 to 5.
pub const SLOTS: usize = 6;

/// A sequence of [`Op`]s. Any sequence is a script: what makes no sense where it stands (reading from a slot that is
/// not open) does nothing, so a script can be cut anywhere and is one still.
///
/// It prints as one operation a line, and is read from the same; `#` begins a comment.
///
/// ```
/// use pollmark_backends::conformance::differential::Script;
///
/// let text = "open 0 tcp\nadd 0 read level\npeer 0 writes\nwait 4\n";
/// let script: Script = text.parse().expect("four lines that make sense");
/// assert_eq!((script.ops().len(), script.to_string().as_str()), (4, text));
/// assert!("open 0 door".parse::<Script>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Script(Vec<Op>);

/// One step of a [`Script`]. Numbers are slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// `open 0 tcp`: closes what is in the slot, then opens this under the very same number.
    Open(usize, Kind),
    /// `duplicate 0 as 1`: the same open file in a second slot, under a number of its own.
    Duplicate(usize, usize),
    /// `add 0 read+write level`
    Add(usize, Interest, Trigger),
    /// `modify 0 nothing level`
    Modify(usize, Interest, Trigger),
    /// `remove 0`
    Remove(usize),
    /// `close 0`: [`Poller::close`](crate::Poller::close) if it is watched, else plainly.
    Close(usize),
    /// `lose 0`: closes it behind the poller's back. The slot stays empty from then on.
    Lose(usize),
    /// `own 0 reads`: the program's side of the source does something.
    Own(usize, Act),
    /// `peer 0 writes`: the other side does.
    Peer(usize, Act),
    /// `wait 4`: waits, with room for so many events, until everything that is due has been told. With
    /// `wait 4 while peer 0 writes` another thread writes during the first wait.
    Wait {
        /// The capacity of [`Events`](crate::Events).
        room: usize,
        /// The slot whose peer writes meanwhile.
        meanwhile: Option<usize>,
    },
}

/// What can be in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A TCP connection over loopback.
    Tcp,
    /// A pair of Unix stream sockets.
    Unix,
    /// The reading end of a pipe.
    PipeReader,
    /// The writing end of a pipe.
    PipeWriter,
    /// A TCP listener. Its peer "writes" by connecting.
    Listener,
    /// A TCP socket whose connection attempt was refused.
    Refused,
    /// A [`WakeSource`](crate::WakeSource). Its peer "writes" by waking.
    Waker,
}

/// What either side can do to a stream. Impossible ones do nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Writes one byte; connects to a listener; wakes a waker.
    Write,
    /// Writes until there is no more room. (On TCP one byte: how much goes in is not for us to say.)
    Fill,
    /// Reads until there is no more, or accepts.
    Read,
    /// Closes its sending half.
    Shut,
    /// Closes.
    Close,
    /// Closes so that the other side finds a reset, where there is such a thing.
    Reset,
    /// Sends one byte of urgent data, over TCP.
    Urge,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Tcp, "tcp"),
    (Kind::Unix, "unix"),
    (Kind::PipeReader, "pipe-reader"),
    (Kind::PipeWriter, "pipe-writer"),
    (Kind::Listener, "listener"),
    (Kind::Refused, "refused"),
    (Kind::Waker, "waker"),
];

const ACTS: [(Act, &str); 7] = [
    (Act::Write, "writes"),
    (Act::Fill, "fills"),
    (Act::Read, "reads"),
    (Act::Shut, "shuts"),
    (Act::Close, "closes"),
    (Act::Reset, "resets"),
    (Act::Urge, "urges"),
];

const INTERESTS: [(Interest, &str); 3] =
    [(Interest::READABLE, "read"), (Interest::WRITABLE, "write"), (Interest::PRIORITY, "urgent")];

impl Script {
    /// The steps, in order.
    pub fn ops(&self) -> &[Op] {
        &self.0
    }

    /// How many waits there are.
    pub fn waits(&self) -> usize {
        self.0.iter().filter(|op| matches!(op, Op::Wait { .. })).count()
    }

    /// Makes a script of anything: four bytes for each step, every fourth of which is a wait. Fewer or smaller bytes
    /// make a smaller script, which is what a generator needs in order to shrink one.
    ///
    /// ```
    /// use pollmark_backends::conformance::differential::Script;
    /// assert!(Script::from_entropy(&[[7, 1, 2, 3]; 20]).waits() >= 5);
    /// ```
    pub fn from_entropy(entropy: &[[u8; 4]]) -> Script {
        let mut ops = Vec::with_capacity(entropy.len() + 8);
        // Most scripts are about something, so a few sources are there from the beginning.
        for (slot, [kind, interest, trigger, _]) in entropy.iter().take(4).enumerate() {
            ops.push(Op::Open(slot, likely_kind(*kind)));
            ops.push(Op::Add(slot, likely_interest(*interest), likely_trigger(*trigger)));
        }
        ops.extend(entropy.iter().enumerate().map(|(at, bytes)| match at % 4 {
            3 => likely_wait(*bytes),
            _ => likely(*bytes),
        }));
        Script(ops)
    }

    /// A script of `steps` steps, and those that open the first sources, out of one number: always the same.
    pub fn random(seed: u64, steps: usize) -> Script {
        let mut dice = Dice::new(seed);
        let entropy: Vec<[u8; 4]> = (0..steps).map(|_| [0; 4].map(|_| dice.below(256) as u8)).collect();
        Script::from_entropy(&entropy)
    }

    /// Leaves out every step without which `fails` is still true of the rest.
    ///
    /// ```
    /// use pollmark_backends::conformance::differential::Script;
    /// let script: Script = "open 0 tcp\nwait 1\nclose 0\nwait 1".parse().expect("a script");
    /// assert_eq!(script.shortest(|script| script.waits() > 0).to_string(), "wait 1\n");
    /// ```
    #[must_use]
    pub fn shortest(mut self, fails: impl Fn(&Script) -> bool) -> Script {
        // Whole stretches first, then single steps; these from the end, and again until a pass finds nothing more,
        // since what a step needed may have gone after it.
        let mut stretch = self.0.len().div_ceil(2);
        loop {
            let before = self.0.len();
            for at in (0..before).step_by(stretch.max(1)).rev() {
                let mut without = self.clone();
                without.0.drain(at..(at + stretch).min(before));
                if fails(&without) {
                    self = without;
                }
            }
            match stretch {
                0 | 1 if self.0.len() == before => return self,
                0 | 1 => {}
                _ => stretch /= 2,
            }
        }
    }
}

impl From<Vec<Op>> for Script {
    fn from(ops: Vec<Op>) -> Script {
        Script(ops)
    }
}

// How often each step is made, of 64.
fn likely(bytes: [u8; 4]) -> Op {
    let [what, slot, x, y] = bytes;
    let slot = usize::from(slot) % SLOTS;
    match what % 64 {
        0..13 => Op::Peer(slot, Act::Write),
        13..18 => Op::Own(slot, Act::Read),
        18..21 => Op::Peer(slot, Act::Read),
        21..24 => Op::Own(slot, Act::Fill),
        24..26 => Op::Own(slot, Act::Write),
        26..29 => Op::Peer(slot, Act::Shut),
        29..31 => Op::Peer(slot, Act::Close),
        31..32 => Op::Peer(slot, Act::Reset),
        32..33 => Op::Peer(slot, Act::Urge),
        33..35 => Op::Own(slot, Act::Shut),
        35..42 => Op::Modify(slot, likely_interest(x), likely_trigger(y)),
        42..47 => Op::Add(slot, likely_interest(x), likely_trigger(y)),
        47..50 => Op::Remove(slot),
        50..53 => Op::Close(slot),
        53..59 => Op::Open(slot, likely_kind(x)),
        59..61 => Op::Duplicate(slot, usize::from(x) % SLOTS),
        _ => likely_wait(bytes),
    }
}

fn likely_wait([_, slot, room, meanwhile]: [u8; 4]) -> Op {
    let room = [16, 8, 5, 4, 3, 2, 1, 1][usize::from(room) % 8];
    let meanwhile = (meanwhile % 8 == 7).then_some(usize::from(slot) % SLOTS);
    Op::Wait { room, meanwhile }
}

fn likely_kind(byte: u8) -> Kind {
    match byte % 16 {
        0..6 => Kind::Tcp,
        6..9 => Kind::Unix,
        9..11 => Kind::PipeReader,
        11..13 => Kind::PipeWriter,
        13 => Kind::Waker,
        14 => Kind::Listener,
        _ => Kind::Refused,
    }
}

fn likely_interest(byte: u8) -> Interest {
    let both = Interest::READABLE.union(Interest::WRITABLE);
    match byte % 16 {
        0..6 => Interest::READABLE,
        6..11 => both,
        11..13 => Interest::WRITABLE,
        13 => Interest::READABLE | Interest::PRIORITY,
        14 => Interest::PRIORITY,
        _ => Interest::EMPTY,
    }
}

fn likely_trigger(byte: u8) -> Trigger {
    match byte % 8 {
        0..4 => Trigger::Level,
        4..6 => Trigger::Edge,
        _ => Trigger::Oneshot,
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Open(slot, kind) => write!(f, "open {slot} {}", word(&KINDS, kind)),
            Op::Duplicate(slot, into) => write!(f, "duplicate {slot} as {into}"),
            Op::Add(slot, interest, trigger) => write!(f, "add {slot} {} {trigger}", words(interest)),
            Op::Modify(slot, interest, trigger) => write!(f, "modify {slot} {} {trigger}", words(interest)),
            Op::Remove(slot) => write!(f, "remove {slot}"),
            Op::Close(slot) => write!(f, "close {slot}"),
            Op::Lose(slot) => write!(f, "lose {slot}"),
            Op::Own(slot, act) => write!(f, "own {slot} {}", word(&ACTS, act)),
            Op::Peer(slot, act) => write!(f, "peer {slot} {}", word(&ACTS, act)),
            Op::Wait { room, meanwhile: None } => write!(f, "wait {room}"),
            Op::Wait { room, meanwhile: Some(slot) } => write!(f, "wait {room} while peer {slot} writes"),
        }
    }
}

fn word<T: PartialEq>(words: &[(T, &'static str)], wanted: T) -> &'static str {
    words.iter().find(|(meaning, _)| *meaning == wanted).expect("every value has a word").1
}

fn words(interest: Interest) -> String {
    let set = INTERESTS.iter().filter(|(bit, _)| interest.contains(*bit)).map(|(_, word)| *word).collect::<Vec<_>>();
    if set.is_empty() { "nothing".to_owned() } else { set.join("+") }
}

/// A line that is no step of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotAScript(String);

impl fmt::Display for NotAScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a step of a script: {:?}", self.0)
    }
}

impl std::error::Error for NotAScript {}

impl FromStr for Script {
    type Err = NotAScript;

    fn from_str(text: &str) -> Result<Script, NotAScript> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty()).map(str::parse).collect::<Result<_, _>>().map(Script)
    }
}

impl FromStr for Op {
    type Err = NotAScript;

    fn from_str(line: &str) -> Result<Op, NotAScript> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let op = match words[..] {
            ["open", at, kind] => slot(at).zip(meaning(&KINDS, kind)).map(|(at, kind)| Op::Open(at, kind)),
            ["duplicate", at, "as", into] => slot(at).zip(slot(into)).map(|(at, into)| Op::Duplicate(at, into)),
            ["add", at, wanted, how] => watch(at, wanted, how).map(|(at, what, how)| Op::Add(at, what, how)),
            ["modify", at, wanted, how] => watch(at, wanted, how).map(|(at, what, how)| Op::Modify(at, what, how)),
            ["remove", at] => slot(at).map(Op::Remove),
            ["close", at] => slot(at).map(Op::Close),
            ["lose", at] => slot(at).map(Op::Lose),
            ["own", at, act] => slot(at).zip(meaning(&ACTS, act)).map(|(at, act)| Op::Own(at, act)),
            ["peer", at, act] => slot(at).zip(meaning(&ACTS, act)).map(|(at, act)| Op::Peer(at, act)),
            ["wait", room] => count(room).map(|room| Op::Wait { room, meanwhile: None }),
            ["wait", room, "while", "peer", at, "writes"] => {
                count(room).zip(slot(at)).map(|(room, at)| Op::Wait { room, meanwhile: Some(at) })
            }
            _ => None,
        };
        op.ok_or_else(|| NotAScript(line.to_owned()))
    }
}

fn meaning<T: Copy>(words: &[(T, &str)], wanted: &str) -> Option<T> {
    words.iter().find(|(_, word)| *word == wanted).map(|(meaning, _)| *meaning)
}

fn slot(text: &str) -> Option<usize> {
    text.parse().ok().filter(|slot| *slot < SLOTS)
}

fn count(text: &str) -> Option<usize> {
    text.parse().ok().filter(|room| *room > 0)
}

fn watch(at: &str, wanted: &str, how: &str) -> Option<(usize, Interest, Trigger)> {
    let mut interest = Interest::EMPTY;
    if wanted != "nothing" {
        for word in wanted.split('+') {
            interest |= meaning(&INTERESTS, word)?;
        }
    }
    let trigger = Trigger::ALL.into_iter().find(|trigger| trigger.to_string() == how)?;
    Some((slot(at)?, interest, trigger))
}
