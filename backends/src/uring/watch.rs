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

/// What a poll is to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) bits: u32,
    pub(super) multishot: bool,
}

/// What a completion comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is nobody's, or says nothing new.
    Nothing,
    /// It says nothing that is to be told, and nothing else will: the source is to be asked about afresh.
    AskAgain,
    /// (d) poll(2) is to be asked whether it is so.
    Doubtful,
    /// These bits of poll(2) are so.
    Told(u32),
}

impl Watch {
    /// (a) Whether the next wait does not know yet that it has to see to this source.
    pub(super) fn note(&mut self) -> bool {
        let is_new = !self.noted && (self.asked != 0 || self.poll != 0);
        self.noted |= is_new;
        is_new
    }

    /// Is watched for something else from now on. Whether it is to be noted.
    pub(super) fn modify(&mut self, token: Token, asked: u16, trigger: Trigger) -> bool {
        let is_common = !self.multishot && !self.exclusive && trigger != Trigger::Edge;
        let polled_for_the_same = self.poll != 0 && self.asked == asked && is_common;
        (self.token, self.asked, self.trigger, self.exclusive) = (token, asked, trigger, false);
        if !polled_for_the_same {
            self.unheeded = false;
        }
        !polled_for_the_same
    }

    /// What it is to be polled for next, if anything.
    pub(super) fn question(&self) -> Option<Question> {
        let multishot = self.trigger == Trigger::Edge || self.unheeded; // (f)
        (self.asked != 0).then(|| Question { bits: polled_for(self.asked, self.exclusive), multishot })
    }

    /// That is asked, by the poll of this number.
    pub(super) fn asked_about(&mut self, serial: u32, question: Option<Question>) {
        self.multishot = question.is_some_and(|question| question.multishot);
        (self.poll, self.noted) = (serial, false);
    }

    /// What a completion of the poll `serial` comes to, the `read`th of all. `is_trusted`: it was not woken before the
    /// wait that reads it.
    pub(super) fn judge(&mut self, serial: u32, result: i32, more: bool, read: u64, is_trusted: bool) -> Verdict {
        if self.poll != serial {
            return Verdict::Nothing; // (c)
        }
        if !more {
            self.poll = 0;
        }
        let Ok(bits) = u32::try_from(result) else {
            if result == -libc::ECANCELED {
                return Verdict::AskAgain; // Not by us. What was polled has gone from under the poll.
            }
            self.asked = 0; // It would fail again.
            let error = if result == -libc::EBADF { libc::POLLNVAL } else { libc::POLLERR };
            return Verdict::Told(error as u32);
        };
        if self.multishot {
            return match read > self.told {
                true => Verdict::Doubtful,
                false if self.poll == 0 => Verdict::AskAgain,
                false => Verdict::Nothing,
            };
        }
        let bits = bits & (u32::from(self.asked) | ALWAYS);
        if bits == 0 {
            self.unheeded = true; // (f)
            return Verdict::AskAgain;
        }
        if is_trusted && bits & libc::POLLPRI as u32 == 0 { Verdict::Told(bits) } else { Verdict::Doubtful }
    }

    /// (d) What poll(2) has answered, when so many completions were there.
    pub(super) fn confirm(&mut self, bits: u16, told: u64) -> Verdict {
        if bits != 0 {
            self.told = told;
            return Verdict::Told(bits.into());
        }
        // It was woken for nothing, or for what is past.
        if self.poll == 0 { Verdict::AskAgain } else { Verdict::Nothing }
    }

    /// It was reported. Whether it is to be noted.
    pub(super) fn reported(&mut self, bits: u32) -> bool {
        if self.trigger == Trigger::Oneshot || bits & libc::POLLNVAL as u32 != 0 {
            self.asked = 0;
        }
        // An edge goes on being polled; a level is asked about again; and what is polled for nothing no longer is.
        self.trigger != Trigger::Edge || self.poll == 0 || self.asked == 0
    }
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
fn polled_for(asked: u16, exclusive: bool) -> u32 {
    let urgent = asked & libc::POLLPRI as u16 != 0;
    let bits = u32::from(asked) | if urgent { libc::POLLIN as u32 } else { 0 }; // (f)
    bits | if exclusive { libc::EPOLLEXCLUSIVE as u32 } else { 0 }
}
