//! Turns at the receive buffers: when they have run out, whoever waits longest is the next to get some.
//!
//! A receive takes as many buffers as it has bytes for, up to a bound of the kernel's, and in the order in which
//! receives are armed. Were all of those that got none armed again at once, the same ones would come first every time,
//! and a few peers that never fall silent could keep all buffers from all others. So they wait in a queue, of which no
//! more are armed at a time than there are buffers for, each of them taking what it may.

use std::collections::VecDeque;

use pollmark_backends::completion::Fate;
use pollmark_backends::{AsSource, Token};

use super::super::super::Observer;
use super::super::super::slots::Slot;
use super::{Armed, Loop};
use crate::protocol::Protocol;

/// So many buffers Linux lets a receive take before others get their turn.
const MOST_AT_A_GO: usize = 32;

/// Those that wait for buffers. Some may have gone since, or want to read no more.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<Token>,
    /// How many were armed at a time.
    tries: usize,
    /// Somebody got none since then.
    has_run_out: bool,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Another one, behind all others. Says whether there was none before: then somebody has to see to it.
    pub(super) fn push(&mut self, token: Token) -> bool {
        let is_first = self.queue.is_empty();
        self.queue.push_back(token);
        is_first
    }

    /// A receive has ended without a buffer.
    pub(super) fn ran_out(&mut self) {
        self.has_run_out = true;
    }

    /// How many are to be armed while so many buffers are free: those for which there certainly is one, and twice as
    /// many as before if none of those went without.
    fn next_tries(&mut self, free: usize) -> usize {
        if free > 0 {
            let certain = (free / MOST_AT_A_GO).max(1);
            let tries = if std::mem::take(&mut self.has_run_out) { certain } else { 2 * self.tries };
            self.tries = tries.clamp(certain, free);
            return self.tries;
        }
        0
    }
}

impl<Q: Protocol, O: Observer, F: Fate> Loop<Q, O, F> {
    /// Has a connection wait until it is its turn at the buffers.
    pub(super) fn wait_for_buffers(&mut self, token: Token) {
        if self.waiting_for_buffers.push(token) {
            self.see_to_buffers();
        }
    }

    /// Looks after them before the next wait, which is not to sleep: nobody may be armed who could wake it. The waker
    /// is who stands for them, because it is always there.
    fn see_to_buffers(&mut self) {
        self.common.again.push_back(self.waker);
    }

    /// Arms as many as there are buffers for.
    pub(super) fn hand_out_buffers(&mut self) {
        let mut tries = self.waiting_for_buffers.next_tries(self.ring.free_buffers());
        while tries > 0
            && let Some(token) = self.waiting_for_buffers.queue.pop_front()
        {
            let Some(Slot { source: Some(source), state: flight, .. }) = self.common.slots.get(token) else { continue };
            if flight.armed == Armed::Waiting {
                flight.armed = Armed::Yes;
                flight.receive(&mut self.ring, source.as_source(), token);
                tries -= 1;
            }
        }
        if !self.waiting_for_buffers.is_empty() {
            self.see_to_buffers();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_tried_at_a_time_while_nobody_goes_without_and_never_more_than_there_are_buffers() {
        let mut waiting = Waiting::default();
        waiting.ran_out();
        let tries = |waiting: &mut Waiting| [256, 256, 0, 200, 256, 256].map(|free| waiting.next_tries(free));
        assert_eq!(tries(&mut waiting), [8, 16, 0, 32, 64, 128]);
        assert_eq!(tries(&mut waiting), [256, 256, 0, 200, 256, 256]);
        waiting.ran_out();
        assert_eq!(waiting.next_tries(0), 0);
        assert_eq!([7, 7].map(|free| waiting.next_tries(free)), [1, 2], "a few buffers are for one alone");
    }
}
