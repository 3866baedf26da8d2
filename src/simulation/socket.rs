//! One simulated connection, as the server's kernel has it. What travels is counted, not carried: the bytes follow
//! from their positions.

use pollmark_backends::{Interest, RawSource, Readiness, Token};
use rustix::io::Errno;

use super::limits::Dates;
use super::script::{Ending, Script};

/// What a poller was told to watch a source for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) token: Token,
    pub(super) interest: Interest,
    /// False once a oneshot registration has fired.
    pub(super) armed: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Planned,
    /// In the listener's queue; dead already if the client reset it there.
    Queued,
    /// The server has it, and has not registered it yet.
    Fresh,
    Open,
    Closed,
}

/// Why the server may, or must, close a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// The protocol asked for it: once all is sent.
    Asked,
    Aborted,
    /// A call said that the connection is lost.
    Lost,
}

pub(super) struct Socket {
    pub(super) script: Script,
    pub(super) phase: Phase,
    pub(super) number: Option<RawSource>,
    pub(super) watch: Option<Watch>,

    // From the client: what it said, how much of it has arrived, how much of that the server has read.
    pub(super) said: u64,
    pub(super) arrived: u64,
    pub(super) read: u64,
    pub(super) end_said: bool,
    pub(super) end_arrived: bool,
    pub(super) end_read: bool,
    /// An arrival is on its way.
    pub(super) arriving: bool,
    /// What has arrived is not there before this time.
    pub(super) hidden_until: u64,

    // To the client: what the kernel took of the server, and what the client took of that.
    pub(super) taken: u64,
    pub(super) delivered: u64,
    /// The client is going to look at what there is.
    pub(super) receiving: bool,
    /// There is no room before this time.
    pub(super) blocked_until: u64,
    /// A send found no room, and wants to be told when there is some.
    pub(super) wants_room: bool,

    /// The client neither speaks nor reads.
    pub(super) vanished: bool,
    pub(super) reads: bool,
    /// TCP will give up the client that has vanished.
    pub(super) given_up: bool,
    /// Nothing can be sent or received any more.
    pub(super) dead: bool,
    /// The error that one call has yet to be told.
    pub(super) error: Option<Errno>,

    /// What an edge-triggered registration has not yet been told of.
    pub(super) edges: Bits,
    /// It is ready, and the poller does not say so before this time.
    pub(super) late_until: u64,

    // What the protocol said: see oracle.rs.
    /// What it sent and the kernel did not take.
    pub(super) owed: Vec<u8>,
    /// How many bytes of an unfinished message the server keeps.
    pub(super) kept: usize,
    /// A message has begun, and is not known to be complete.
    pub(super) began: bool,
    pub(super) token: Option<Token>,
    pub(super) deadline: Option<u64>,
    pub(super) cause: Option<Cause>,
    /// For the limits: see limits.rs.
    pub(super) dates: Dates,
    /// A fault, or a limit, allows the server to close it.
    pub(super) excused: bool,
}

impl Socket {
    pub(super) fn new(script: Script) -> Socket {
        Socket {
            script,
            phase: Phase::Planned,
            number: None,
            watch: None,
            said: 0,
            arrived: 0,
            read: 0,
            end_said: false,
            end_arrived: false,
            end_read: false,
            arriving: false,
            hidden_until: 0,
            taken: 0,
            delivered: 0,
            receiving: false,
            blocked_until: 0,
            wants_room: false,
            vanished: false,
            reads: true,
            given_up: false,
            dead: false,
            error: None,
            edges: Bits::NONE,
            late_until: 0,
            owed: Vec::new(),
            kept: 0,
            began: false,
            token: None,
            deadline: None,
            cause: None,
            dates: Dates::default(),
            excused: false,
        }
    }

    /// How much more the send buffer takes.
    pub(super) fn room(&self) -> u64 {
        self.script.send_buffer - (self.taken - self.delivered)
    }

    /// What is true of it at `now`, in the terms of a `kernel`.
    pub(super) fn ready(&self, now: u64, kernel: &Kernel) -> Bits {
        let mut ready = Bits::NONE;
        if self.dead {
            ready = ready | Bits::READABLE | Bits::WRITABLE;
            if kernel.half_close {
                ready = ready | Bits::READ_CLOSED | Bits::HANG_UP;
            }
            if kernel.errors && self.error.is_some() {
                ready = ready | Bits::ERROR;
            }
        }
        if now >= self.hidden_until {
            if self.arrived > self.read || self.end_arrived {
                ready = ready | Bits::READABLE;
            }
            if self.end_arrived && kernel.half_close {
                ready = ready | Bits::READ_CLOSED;
            }
        }
        let enough = if kernel.third_of_room { self.script.send_buffer.div_ceil(3) } else { 1 };
        if now >= self.blocked_until && self.room() >= enough {
            ready = ready | Bits::WRITABLE;
        }
        ready
    }

    /// Whether the client said all it had to say, and still listens.
    pub(super) fn listens_to_the_end(&self) -> bool {
        self.end_said && self.script.ending == Ending::HalfClose && self.reads && !self.vanished && !self.dead
    }
}

/// What differs between one kernel and another, and is drawn for each run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub(super) half_close: bool,
    pub(super) errors: bool,
    pub(super) priority: bool,
    /// An edge brings all that is true along, as epoll's do, not only what is new, as kqueue's do.
    pub(super) edges_tell_all: bool,
    /// A socket is writable when a third of its buffer is free, as on Linux, not with the first byte.
    pub(super) third_of_room: bool,
    /// A reset destroys what has arrived and was not read.
    pub(super) reset_destroys: bool,
    /// accept(2) tells of a connection that was reset in the queue, instead of returning it.
    pub(super) reset_leaves_queue: bool,
    /// What timeouts are rounded up to, in nanoseconds.
    pub(super) resolution: u64,
}

/// Readiness, as a set that can be cut as well as joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bits(pub(super) u8);

impl Bits {
    pub(super) const NONE: Bits = Bits(0);
    pub(super) const READABLE: Bits = Bits(1);
    pub(super) const WRITABLE: Bits = Bits(2);
    pub(super) const READ_CLOSED: Bits = Bits(4);
    pub(super) const HANG_UP: Bits = Bits(8);
    pub(super) const ERROR: Bits = Bits(16);

    /// What a poller may tell of a source watched for `interest`.
    pub(super) fn mask(interest: Interest) -> Bits {
        let mut mask = Bits::NONE;
        if interest.contains(Interest::READABLE) {
            mask = mask | Bits::READABLE | Bits::READ_CLOSED;
        }
        if interest.contains(Interest::WRITABLE) {
            mask = mask | Bits::WRITABLE;
        }
        if !interest.is_empty() {
            mask = mask | Bits::HANG_UP | Bits::ERROR;
        }
        mask
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn intersects(self, other: Bits) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn without(self, other: Bits) -> Bits {
        Bits(self.0 & !other.0)
    }

    pub(super) fn readiness(self) -> Readiness {
        let names = [
            (Bits::READABLE, Readiness::READABLE),
            (Bits::WRITABLE, Readiness::WRITABLE),
            (Bits::READ_CLOSED, Readiness::READ_CLOSED),
            (Bits::HANG_UP, Readiness::HANG_UP),
            (Bits::ERROR, Readiness::ERROR),
        ];
        let told = names.into_iter().filter(|(bit, _)| self.intersects(*bit));
        told.fold(Readiness::EMPTY, |all, (_, readiness)| all | readiness)
    }
}

impl std::ops::BitOr for Bits {
    type Output = Bits;

    fn bitor(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

impl std::ops::BitAnd for Bits {
    type Output = Bits;

    fn bitand(self, other: Bits) -> Bits {
        Bits(self.0 & other.0)
    }
}
