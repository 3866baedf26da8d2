//! What is allowed: the differences that stay, each with its reason and where to read about it.

use rustix::event::PollFlags;

use super::Rule;
use super::rules::Deviation;
use crate::event::{Interest, Trigger};

/// A difference from poll(2) that is no mistake.
pub struct Allowed {
    /// A short name, by which a [`Tally`](super::Tally) counts how often it was met.
    pub name: &'static str,
    /// Why it is so, and why it stays.
    pub reason: &'static str,
    /// Where that is written.
    pub reference: &'static str,
    pub(super) covers: fn(&Deviation<'_>) -> bool,
}

/// Every difference that is allowed.
pub fn allowed() -> &'static [Allowed] {
    LIST
}

pub(super) const LIST: &[Allowed] = &[
    Allowed {
        name: "select tells a hang-up to readers only",
        reason: "select(2) has no word for a hang-up. Its read set takes POLLHUP in, its write set does not, so the \
                 reading end of a pipe that is, pointlessly, watched for room hears nothing when the writer goes.",
        reference: "select(2), \"Correspondence between select() and poll() notifications\": POLLOUT_SET has no POLLHUP",
        covers: |it| {
            let wordless = !it.capabilities.errors && !it.capabilities.half_close;
            wordless && it.rule == Rule::Untold && it.directions == Interest::WRITABLE && !it.said.intersects(ROOM)
        },
    },
    Allowed {
        name: "polling takes urgent data for readable",
        reason: "The crate asks for EPOLLPRI whenever it asks to read, and reports either as readable. A read then \
                 says WouldBlock, and level-triggered the event comes again until the urgent byte is taken.",
        reference: "polling 3.11, src/epoll.rs: read_flags() contains EPOLLPRI, and Event::readable tests read_flags()",
        covers: |it| {
            let rules = [Rule::Untrue, Rule::Groundless, Rule::Unasked];
            it.mechanism == "polling" && it.said.contains(PollFlags::PRI) && rules.contains(&it.rule)
        },
    },
    Allowed {
        name: "polling over kqueue wastes a wait after a oneshot",
        reason: "The crate disarms a direction, not the source. The other direction may fire once more; that record is \
                 dropped, and the wait that brought it comes back empty.",
        reference: "(e) in polling.rs; kqueue(2), EV_ONESHOT",
        covers: |it| it.mechanism == "polling" && cfg!(kqueue_like) && it.rule == Rule::Early,
    },
    Allowed {
        name: "a oneshot over kqueue is reported as it was when it fired",
        reason: "Of a oneshot filter kevent(2) hands out the record it made when the filter fired, without another look. \
                 What was read since is then reported once too often, and a read says WouldBlock.",
        reference: "(e) in kqueue.rs; FreeBSD 14, sys/kern/kern_event.c, kqueue_scan(): no f_event() with EV_ONESHOT",
        covers: |it| {
            let rules = [Rule::Untrue, Rule::Groundless, Rule::FalseHint];
            cfg!(kqueue_like) && it.trigger == Trigger::Oneshot && rules.contains(&it.rule)
        },
    },
];

const ROOM: PollFlags = PollFlags::OUT.union(PollFlags::ERR).union(PollFlags::NVAL);
