//! Taking connections on without a call for each: a listener accepts until it is told otherwise, or until it fails.
//!
//! When descriptors run out, the spare one is given up, as in the readiness loop, and the listener accepts a single
//! connection by it. If a new spare can be had beside that connection, there is room again, and it stays; otherwise it
//! is turned away, and the next one waited for. If even that fails, the listener rests.
//!
//! A server that drains cancels what its listeners are about. What they have accepted until then still comes, and what
//! is in their queues after that is taken one by one, by an accept that is cancelled behind itself: it waits for nobody
//! who is not there yet. Only then is a listener let go of.

use std::io;

use pollmark_backends::completion::Fate;
use pollmark_backends::{OwnedSource, Source, Token};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::super::accept::Trouble;
use super::super::super::control::Arrival;
use super::super::super::slots::Slot;
use super::super::super::upkeep::Upkeep;
use super::super::super::{AcceptPolicy, Excess, Observer};
use super::{Armed, Loop, is_passing};
use crate::protocol::Protocol;

impl<Q: Protocol, O: Observer, F: Fate> Loop<Q, O, F> {
    /// A listener has accepted, or failed to.
    pub(super) fn accepted(&mut self, listener: Token, source: io::Result<OwnedSource>, more: bool) {
        let Some((_, held)) = self.common.listeners.iter().find(|(token, _)| *token == listener) else { return };
        let (peer, unset) = (held.any_peer(), held.unset());
        let Some(Slot { state: flight, .. }) = self.common.slots.get(listener) else { return };
        let by_the_spare = flight.armed == Armed::BySpare;
        if !more {
            flight.armed = Armed::No;
        }
        self.common.stats.accept_calls += 1;
        match source {
            Ok(source) => {
                self.common.acceptor.has_accepted();
                if by_the_spare {
                    self.common.acceptor.restock(&mut self.common.stats);
                    if !self.common.acceptor.has_spare() {
                        self.refuse(source);
                        return self.arm(listener, Armed::BySpare);
                    }
                }
                self.take(Arrival { source, peer, unset });
            }
            Err(error) if is_passing(&error) => self.common.stats.spurious += 1,
            Err(error) => match Trouble::of(&error) {
                Trouble::Empty => {}
                Trouble::OfThisConnection if !self.common.acceptor.was_in_vain() => {}
                // Perhaps it is always the same one.
                Trouble::OfThisConnection => return self.pause_accepting(listener),
                Trouble::Exhausted => {
                    self.common.acceptor.overload("descriptors or memory have run out", Some(&error), true);
                    if !self.common.acceptor.give_up_spare(&mut self.common.stats) {
                        return self.pause_accepting(listener);
                    }
                    return self.arm(listener, Armed::BySpare);
                }
            },
        }
        let still_by_the_spare = by_the_spare && !self.common.acceptor.has_spare();
        self.arm(listener, if still_by_the_spare { Armed::BySpare } else { Armed::Yes });
    }

    /// The listener that failed is not armed; the others fail by themselves, if they do.
    fn pause_accepting(&mut self, listener: Token) {
        if self.common.drains_until.is_some() {
            self.let_go_of(listener);
        } else {
            self.common.pause_for_a_while();
        }
    }

    /// Admits one that was accepted, or keeps it waiting: it came where no one else could be told not to.
    fn take(&mut self, arrival: Arrival) {
        if self.common.config.limits.excess != Excess::Pause {
            self.admit(arrival);
        } else if self.common.room.enter() {
            self.settle_in(arrival);
        } else if self.common.drains_until.is_some() {
            self.refuse(arrival.source);
        } else {
            self.waiting.push_back(arrival);
        }
    }

    /// Cancels what the listeners are about, and has the rest of their queues accepted.
    pub(super) fn accept_the_last(&mut self) {
        let queues = self.common.listeners.len() as u32;
        self.last_accepts = self.common.config.most_queued().saturating_mul(queues);
        let listeners = self.common.listeners.iter().map(|(token, _)| *token).collect::<Vec<_>>();
        for token in listeners {
            self.ring.stop_accepting(token);
            self.accept_one_more(token);
        }
    }

    /// Has the next one accepted that is in the queue of a listener about which nothing is under way. If there is none,
    /// or no place, it is let go of.
    fn accept_one_more(&mut self, listener: Token) {
        let common = &mut self.common;
        let Some((_, source)) = common.listeners.iter().find(|(token, _)| *token == listener) else { return };
        let Some(Slot { state: flight, .. }) = common.slots.get(listener) else { return };
        if flight.armed != Armed::No {
            return;
        }
        let has_room = common.config.limits.excess != Excess::Pause || !common.room.is_full();
        if !has_room || self.last_accepts == 0 {
            return self.let_go_of(listener);
        }
        common.stats.other_calls += 1;
        if !is_readable(source.as_source()) {
            return self.let_go_of(listener);
        }
        self.last_accepts -= 1;
        flight.armed = Armed::Yes;
        self.ring.accept_one(source.as_source(), listener);
        self.ring.stop_accepting(listener);
    }

    fn let_go_of(&mut self, listener: Token) {
        self.common.listeners.retain(|(token, _)| *token != listener);
    }

    /// Has all listeners accept, once nobody is waiting. If one has gone, its descriptor is closed before what is armed
    /// here.
    pub(super) fn arm_listeners(&mut self) {
        let common = &mut self.common;
        if common.acceptor.end_pause() {
            common.acceptor.restock(&mut common.stats);
        }
        while !self.waiting.is_empty() && !self.common.stopping && self.common.room.enter() {
            let Some(arrival) = self.waiting.pop_front() else { return };
            self.settle_in(arrival);
        }
        for at in 0..self.common.listeners.len() {
            self.arm(self.common.listeners[at].0, Armed::Yes);
        }
    }

    /// Has a listener accept, unless it does, or there is no place and they are to wait.
    fn arm(&mut self, listener: Token, how: Armed) {
        if self.common.drains_until.is_some() {
            return self.accept_one_more(listener);
        }
        let common = &mut self.common;
        if common.config.limits.excess == Excess::Pause && (!self.waiting.is_empty() || common.room.is_full()) {
            return common.wait_for_room();
        }
        let Some((_, source)) = self.common.listeners.iter().find(|(token, _)| *token == listener) else { return };
        let Some(Slot { state: flight, .. }) = self.common.slots.get(listener) else { return };
        if flight.armed == Armed::No {
            flight.armed = how;
            let source = source.as_source();
            if how == Armed::BySpare || self.accept == AcceptPolicy::One {
                self.ring.accept_one(source, listener);
            } else {
                self.ring.accept(source, listener);
            }
        }
    }
}

/// Whether somebody is in the queue.
fn is_readable(listener: Source<'_>) -> bool {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
}
