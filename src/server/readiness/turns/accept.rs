//! The readiness loop takes connections on, and rests where there is no room for them.

use pollmark_backends::{Interest, Poller, Token, Trigger};

use super::super::super::accept::{Next, Turn};
use super::super::super::control::Arrival;
use super::super::super::upkeep::Upkeep;
use super::super::super::{Excess, Net, Observer};
use super::Loop;
use crate::protocol::Protocol;

impl<P: Poller, Q: Protocol, N: Net, O: Observer> Loop<P, Q, N, O> {
    /// Takes on what is queued, as far as the policy goes.
    #[cold]
    pub(super) fn accept(&mut self, listener: Token) {
        self.accept_in(self.common.acceptor.turn(), listener);
    }

    /// The same, as far as the `turn` goes.
    pub(super) fn accept_in(&mut self, mut turn: Turn, listener: Token) {
        let waits = self.common.config.limits.excess == Excess::Pause;
        loop {
            let common = &mut self.common;
            let Some((_, source)) = common.listeners.iter().find(|(token, _)| *token == listener) else { return };
            // The place first: whom there is none for is not accepted.
            if waits && !common.room.enter() {
                common.wait_for_room();
                self.watch_listeners(Interest::EMPTY);
                return;
            }
            let unset = source.unset();
            match common.acceptor.next(&mut turn, &self.net, source.as_source(), &mut common.stats) {
                Next::Connection(source, peer) => match &self.to {
                    Some(loops) => {
                        let place = waits.then(|| common.room.place());
                        common.stats.other_calls += loops.hand_over(source, peer, unset, place);
                    }
                    None if waits => self.settle_in(Arrival { source, peer, unset }),
                    None => self.admit(Arrival { source, peer, unset }),
                },
                end => {
                    if waits {
                        common.room.leave();
                    }
                    if matches!(end, Next::Pause) {
                        self.pause_accepting();
                    }
                    return;
                }
            }
        }
    }

    fn pause_accepting(&mut self) {
        self.common.pause_for_a_while();
        // A listener that is still watched soon brings us here again.
        self.watch_listeners(Interest::EMPTY);
    }

    /// Watches the listeners again, if they rest.
    pub(super) fn watch_listeners_again(&mut self) {
        self.common.acceptor.restock(&mut self.common.stats);
        if self.common.acceptor.end_pause() && !self.watch_listeners(Interest::READABLE) {
            // The kernel may have no memory for it now. To leave it at that would be to listen no more.
            self.common.pause_for_a_while();
        }
    }

    /// Says whether every listener's registration was changed.
    fn watch_listeners(&mut self, interest: Interest) -> bool {
        let mut all = true;
        for at in 0..self.common.listeners.len() {
            let (token, listener) = self.common.listeners[at].clone();
            let source = listener.as_source();
            let changed = match self.common.config.part.exclusive && !interest.is_empty() {
                false => self.poller.modify(source, token, interest, Trigger::Level),
                // What was modified is no longer exclusive. If it is not there, an earlier attempt came only so far.
                true => {
                    let _ = self.poller.remove(source);
                    self.watch(&listener, token)
                }
            };
            if let Err(error) = changed {
                tracing::warn!(%error, "cannot change the listener's registration");
                all = false;
            }
        }
        all
    }
}
