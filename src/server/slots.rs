//! The slot table: listeners, connections and the waker alike, found by token, checked by generation.
//!
//! A slot of an idle connection is 40 bytes beside the session. A vacated slot's generation moves on, so that an event
//! that was already in the batch is known to be stale.

use pollmark_backends::{Interest, OwnedSource, Token};

use super::wheel::{Timer, Timers};
use crate::conn::Connection;
use crate::protocol::Protocol;

pub(super) struct Slot<P: Protocol, W = Interest> {
    /// Absent in a vacant slot, in the waker's, which the inbox owns, and in a listener's, which other loops may share.
    pub(super) source: Option<OwnedSource>,
    generation: u32,
    timer: Timer,
    /// What the driver asks of the source, and what it has told the kernel.
    pub(super) state: W,
    pub(super) occupant: Occupant<P>,
}

pub(super) enum Occupant<P: Protocol> {
    Vacant {
        next: Option<u32>,
    },
    Listener,
    /// A socket of datagrams.
    Datagrams,
    Waker,
    Connection(Connection<P>),
}

pub(super) struct Slots<P: Protocol, W = Interest> {
    slots: Vec<Slot<P, W>>,
    free: Option<u32>,
    connections: usize,
}

impl<P: Protocol, W: Copy> Slots<P, W> {
    pub(super) fn new() -> Slots<P, W> {
        Slots { slots: Vec::new(), free: None, connections: 0 }
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// The token the next [`insert`](Slots::insert) will return: a protocol is told its name before it has a place.
    pub(super) fn next_token(&self) -> Token {
        match self.free {
            Some(at) => Token::new(at, self.slots[at as usize].generation),
            None => Token::new(self.slots.len() as u32, 0),
        }
    }

    pub(super) fn insert(&mut self, source: Option<OwnedSource>, state: W, occupant: Occupant<P>) -> Token {
        let token = self.next_token();
        self.connections += usize::from(matches!(occupant, Occupant::Connection(_)));
        match self.free {
            Some(at) => {
                let slot = &mut self.slots[at as usize];
                if let Occupant::Vacant { next } = slot.occupant {
                    self.free = next;
                }
                (slot.source, slot.state, slot.occupant) = (source, state, occupant);
            }
            None => self.slots.push(Slot { source, generation: 0, timer: Timer::default(), state, occupant }),
        }
        token
    }

    /// The slot a token names, unless it has been vacated since.
    #[inline]
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Slot<P, W>> {
        self.slots.get_mut(token.slot() as usize).filter(|slot| slot.generation == token.generation())
    }

    /// The current token of a slot known to be occupied.
    pub(super) fn token(&self, slot: u32) -> Token {
        Token::new(slot, self.slots[slot as usize].generation)
    }

    /// Vacates the slot; its timer must have been taken out of the wheel.
    pub(super) fn remove(&mut self, token: Token) -> Option<(Option<OwnedSource>, W, Occupant<P>)> {
        let free = self.free;
        let slot = self.get(token)?;
        let vacant = Occupant::Vacant { next: free };
        let occupant = std::mem::replace(&mut slot.occupant, vacant);
        let (source, state) = (slot.source.take(), slot.state);
        slot.generation = slot.generation.wrapping_add(1);
        self.free = Some(token.slot());
        self.connections -= usize::from(matches!(occupant, Occupant::Connection(_)));
        Some((source, state, occupant))
    }

    /// The tokens of all connections.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let occupied = self.slots.iter().enumerate();
        occupied
            .filter(|(_, slot)| matches!(slot.occupant, Occupant::Connection(_)))
            .map(|(at, slot)| Token::new(at as u32, slot.generation))
            .collect()
    }
}

impl<P: Protocol, W> Timers for Slots<P, W> {
    fn timer(&mut self, slot: u32) -> &mut Timer {
        &mut self.slots[slot as usize].timer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Echo, Host, Peer};

    #[test]
    fn a_vacated_slot_does_not_answer_to_its_old_token() {
        let mut slots = Slots::new();
        let mut host = Host::new(Echo);
        let mut insert = |slots: &mut Slots<Echo>| {
            let connection = Connection::open(&mut host, slots.next_token(), &Peer::default());
            slots.insert(None, Interest::READABLE, Occupant::Connection(connection))
        };
        let (first, second) = (insert(&mut slots), insert(&mut slots));
        assert!(slots.remove(first).is_some());
        assert!(slots.remove(first).is_none(), "once only");
        let third = insert(&mut slots);
        assert_eq!((third.slot(), third.generation()), (first.slot(), first.generation() + 1));
        assert!(slots.get(first).is_none() && slots.get(third).is_some());
        assert_eq!((slots.connections(), slots.tokens()), (2, vec![third, second]));
    }

    #[test]
    #[cfg(unix)]
    fn a_slot_is_lean() {
        assert_eq!(size_of::<Slot<Echo>>(), 40);
    }
}
