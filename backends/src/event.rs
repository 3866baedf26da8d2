//! What a wait reports, and what is asked of it: tokens, interests, triggers, readiness, events.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A number the caller chooses for a source and gets back with each of its events.
///
/// A poller never reads meaning into it. By convention the lower half names a slot in the caller's table and the
/// upper half the slot's *generation*, so that an event of a connection already closed is told apart from one of
/// its successor in the same slot.
///
/// ```
/// use pollmark_backends::Token;
/// let token = Token::new(7, 3);
/// assert_eq!((token.slot(), token.generation()), (7, 3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token(pub u64);

impl Token {
    /// A token of `slot` in its `generation`.
    #[inline]
    pub const fn new(slot: u32, generation: u32) -> Token {
        Token((generation as u64) << 32 | slot as u64)
    }

    /// The lower half.
    #[inline]
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The upper half.
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.{})", self.slot(), self.generation())
    }
}

/// Which readiness of a source is asked for. The empty interest means "not watched at all".
///
/// ```
/// use pollmark_backends::Interest;
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::WRITABLE));
/// assert!(Interest::EMPTY.is_empty());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Nothing: the source stays known to the poller, but the kernel is not asked about it.
    pub const EMPTY: Interest = Interest(0);
    /// Bytes to read, a connection to accept, or the end of the stream.
    pub const READABLE: Interest = Interest(1);
    /// Room to write, or a connection attempt that ended.
    pub const WRITABLE: Interest = Interest(2);
    /// Urgent data (TCP's out-of-band byte). Pollers without the `priority` capability never report it.
    pub const PRIORITY: Interest = Interest(4);

    /// Whether all of `other` is asked for.
    #[inline]
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is asked for.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Both interests: what `|` gives, for constants.
    #[inline]
    pub const fn union(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// This interest without `other`.
    #[inline]
    pub const fn without(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    #[inline]
    fn bitor(self, other: Interest) -> Interest {
        self.union(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        *self = *self | other;
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            [(Interest::READABLE, "READABLE"), (Interest::WRITABLE, "WRITABLE"), (Interest::PRIORITY, "PRIORITY")];
        let set = names.iter().filter(|(bit, _)| self.contains(*bit));
        join(f, set.map(|(_, name)| *name))
    }
}

/// How often a condition that lasts is reported.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Trigger {
    /// In every wait, for as long as the condition holds. Every poller has it.
    #[default]
    Level,
    /// Once for each arrival. The caller reads until it has seen the end of what was there.
    Edge,
    /// Once; then the source is disarmed, both directions, until the next `modify`.
    Oneshot,
}

impl Trigger {
    /// Every trigger, in the order of the documentation.
    pub const ALL: [Trigger; 3] = [Trigger::Level, Trigger::Edge, Trigger::Oneshot];
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Trigger::Level => "level",
            Trigger::Edge => "edge",
            Trigger::Oneshot => "oneshot",
        })
    }
}

/// What is true of a source, in terms all mechanisms share.
///
/// The bits are those of Linux's poll(2), so that on Linux translation is the identity; a poller for anything else
/// composes them by name. The implications live in [`Event`]'s methods, in one place: an error or a hang-up also makes
/// a source readable and writable, because the call that is then made will not block, and reports the cause.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u32);

impl Readiness {
    /// Nothing.
    pub const EMPTY: Readiness = Readiness(0);
    /// Bytes, a pending connection, or the end of the stream can be read.
    pub const READABLE: Readiness = Readiness(0x001);
    /// Urgent data can be read.
    pub const PRIORITY: Readiness = Readiness(0x002);
    /// There is room to write.
    pub const WRITABLE: Readiness = Readiness(0x004);
    /// An error is pending; the next call on the source reports it.
    pub const ERROR: Readiness = Readiness(0x008);
    /// Both directions are finished.
    pub const HANG_UP: Readiness = Readiness(0x010);
    /// The number names no open descriptor.
    pub const INVALID: Readiness = Readiness(0x020);
    /// The peer will send no more. Bytes it sent before may still be waiting.
    pub const READ_CLOSED: Readiness = Readiness(0x2000);
    /// Nothing more can be sent.
    pub const WRITE_CLOSED: Readiness = Readiness(0x4000);

    const ALL: u32 = 0x603f;

    const MORE_THAN_BYTES: Readiness = Readiness(
        Readiness::READ_CLOSED.0
            | Readiness::HANG_UP.0
            | Readiness::ERROR.0
            | Readiness::INVALID.0
            | Readiness::PRIORITY.0,
    );

    /// The bits of Linux's poll(2) and epoll(7) as they came, without those that carry no readiness.
    #[inline]
    pub const fn from_linux_poll(bits: u32) -> Readiness {
        // 0x4000 is ours: no POLL bit of Linux has that value.
        Readiness(bits & (Readiness::ALL & !Readiness::WRITE_CLOSED.0))
    }

    /// Whether any of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    #[inline]
    fn bitor(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }
}

impl BitOrAssign for Readiness {
    #[inline]
    fn bitor_assign(&mut self, other: Readiness) {
        *self = *self | other;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Readiness::READABLE, "READABLE"),
            (Readiness::PRIORITY, "PRIORITY"),
            (Readiness::WRITABLE, "WRITABLE"),
            (Readiness::ERROR, "ERROR"),
            (Readiness::HANG_UP, "HANG_UP"),
            (Readiness::INVALID, "INVALID"),
            (Readiness::READ_CLOSED, "READ_CLOSED"),
            (Readiness::WRITE_CLOSED, "WRITE_CLOSED"),
        ];
        let set = names.iter().filter(|(bit, _)| self.intersects(*bit));
        join(f, set.map(|(_, name)| *name))
    }
}

/// What the kernel itself said, untranslated: for teaching and for debugging, never for deciding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Raw {
    /// The poller has no kernel record to show.
    #[default]
    None,
    /// `revents` of poll(2).
    Poll(u32),
    /// `events` of epoll_wait(2).
    Epoll(u32),
    /// Which of select(2)'s sets named the source: 1 read, 2 write, 4 except.
    Select(u8),
    /// The kevent(2) records of one source, merged.
    Kevent {
        /// Which filters fired: 1 for EVFILT_READ, 2 for EVFILT_WRITE.
        filters: u8,
        /// `flags` of both, or-ed.
        flags: u32,
        /// `fflags` of both, or-ed: an errno where EV_EOF is set.
        fflags: u32,
        /// `data` of EVFILT_READ: bytes, or pending connections.
        data: i64,
    },
    /// A completion of io_uring(7).
    Completion {
        /// `res`: how much was done, or which descriptor it is; below 0, minus an errno.
        result: i32,
        /// `flags`: in the lower half what there is to say, in the upper the number of a buffer.
        flags: u32,
    },
}

/// One source's readiness, as one wait found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    token: Token,
    readiness: Readiness,
    raw: Raw,
}

impl Event {
    /// An event for a poller to push.
    #[inline]
    pub const fn new(token: Token, readiness: Readiness, raw: Raw) -> Event {
        Event { token, readiness, raw }
    }

    /// The token the source was last registered with.
    #[inline]
    pub const fn token(&self) -> Token {
        self.token
    }

    /// A read, or an accept, will not block. Also set by an error or a hang-up, whatever was asked for.
    #[inline]
    pub const fn readable(&self) -> bool {
        const MEANS: Readiness = Readiness(
            Readiness::READABLE.0
                | Readiness::READ_CLOSED.0
                | Readiness::HANG_UP.0
                | Readiness::ERROR.0
                | Readiness::INVALID.0,
        );
        self.readiness.intersects(MEANS)
    }

    /// A write will not block. Also set by an error or a hang-up, whatever was asked for.
    #[inline]
    pub const fn writable(&self) -> bool {
        const MEANS: Readiness = Readiness(
            Readiness::WRITABLE.0
                | Readiness::WRITE_CLOSED.0
                | Readiness::HANG_UP.0
                | Readiness::ERROR.0
                | Readiness::INVALID.0,
        );
        self.readiness.intersects(MEANS)
    }

    /// The peer will send no more; what it sent before may still be unread. A hint: not every mechanism gives it.
    #[inline]
    pub const fn read_closed(&self) -> bool {
        self.readiness.intersects(Readiness(Readiness::READ_CLOSED.0 | Readiness::HANG_UP.0))
    }

    /// Nothing more can be sent. A hint, and never proof that the peer is gone: an own `shutdown` sets it too.
    #[inline]
    pub const fn write_closed(&self) -> bool {
        self.readiness.intersects(Readiness(Readiness::WRITE_CLOSED.0 | Readiness::HANG_UP.0))
    }

    /// An error is pending on the source, or the source is not open. select(2) cannot tell.
    #[inline]
    pub const fn error(&self) -> bool {
        self.readiness.intersects(Readiness(Readiness::ERROR.0 | Readiness::INVALID.0))
    }

    /// Urgent data is waiting.
    #[inline]
    pub const fn priority(&self) -> bool {
        self.readiness.intersects(Readiness::PRIORITY)
    }

    /// Whether there is something to read and nothing [more than bytes](Event::more_than_bytes) is known: all events
    /// of a healthy connection are such.
    #[inline]
    pub const fn only_bytes(&self) -> bool {
        self.readiness.0 & (Readiness::READABLE.0 | Readiness::MORE_THAN_BYTES.0) == Readiness::READABLE.0
    }

    /// Whether anything but plain bytes may lie ahead: the end of the stream, an error, or an urgent mark. A reader
    /// that stops at a short read must not do so here, and reads on to 0 or `WouldBlock`.
    #[inline]
    pub const fn more_than_bytes(&self) -> bool {
        self.readiness.intersects(Readiness::MORE_THAN_BYTES)
    }

    /// The normalised facts, without the implications.
    #[inline]
    pub const fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// What the kernel said.
    #[inline]
    pub const fn raw(&self) -> Raw {
        self.raw
    }
}

fn join<'a>(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'a str>) -> fmt::Result {
    let mut empty = true;
    for name in names {
        if !empty {
            f.write_str("|")?;
        }
        f.write_str(name)?;
        empty = false;
    }
    if empty { f.write_str("EMPTY") } else { Ok(()) }
}
