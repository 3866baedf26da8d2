//! What is known of one number, and what it is polled for.

use crate::event::{Interest, Token, Trigger};
use crate::poll;
use crate::table::Row;

/// What is known of one number.
#[derive(Clone, Copy, Default)]
pub(super) struct Watch {
    pub(super) token: Token,
    /// The bits of poll(2) it is watched for. 0 for the empty interest, after a oneshot event, and when it was not
    /// open.
    pub(super) asked: u16,
    /// (c) The poll under way, 0 for none.
    pub(super) poll: u32,
    /// (d) Completions up to this one have nothing new to say: poll(2) was asked when they were there already.
    pub(super) told: u64,
    /// (d) Where in `doubted` this source last stood; whether it stands there still, `doubted` says.
    pub(super) at: u32,
    pub(super) trigger: Trigger,
    pub(super) known: bool,
    pub(super) noted: bool,
    /// (f) What a poll would say at once is not to be told.
    pub(super) unheeded: bool,
    /// The poll under way is a multishot one.
    pub(super) multishot: bool,
    /// It sleeps with others, and one of them is woken.
    pub(super) exclusive: bool,
}

impl Row for Watch {
    fn is_known(&self) -> bool {
        self.known
    }
}

/// What the kernel says unasked.
pub(super) const ALWAYS: u32 = (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) as u32;

/// The bits of poll(2) that mean `interest`.
pub(super) fn asked(interest: Interest, trigger: Trigger) -> u16 {
    let mut bits = poll::asked(interest);
    if trigger == Trigger::Edge && bits & libc::POLLIN != 0 {
        bits |= libc::POLLPRI; // Its reader may stop at a short read only if an urgent mark would be told.
    }
    bits as u16
}

/// What the poll itself asks for.
pub(super) fn polled_for(asked: u16, exclusive: bool) -> u32 {
    let urgent = asked & libc::POLLPRI as u16 != 0;
    let bits = u32::from(asked) | if urgent { libc::POLLIN as u32 } else { 0 }; // (f)
    bits | if exclusive { libc::EPOLLEXCLUSIVE as u32 } else { 0 }
}
