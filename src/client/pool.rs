//! Which connections of a pool are free, which are in use, and which have been free for too long: no I/O, and no clock.

use std::time::{Duration, Instant};

use pollmark_backends::Token;

/// The books of a pool. Connections are known by the number of their slot.
#[derive(Debug)]
pub(super) struct Pool {
    /// The generation of each slot there ever was.
    generations: Vec<u32>,
    /// Slots without a connection, of those there ever were.
    vacant: Vec<u32>,
    /// Free connections, and since when. The last became free last, so that times only grow: those needed rarely sink
    /// to the bottom, where they grow old.
    free: Vec<(u32, Instant)>,
    most: usize,
}

/// A slot that was given out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lease {
    /// It has a connection, which was free.
    Free(u32),
    /// It has none yet.
    New(u32),
}

impl Pool {
    /// A pool of up to `most` connections, at least one.
    pub(super) fn new(most: usize) -> Pool {
        let most = most.clamp(1, u32::MAX as usize - 1); // the last slot's token is for others
        Pool { generations: Vec::new(), vacant: Vec::new(), free: Vec::new(), most }
    }

    /// Gives out the connection that became free last, or else a slot for a new one; `None` if all are in use.
    pub(super) fn checkout(&mut self) -> Option<Lease> {
        if let Some((slot, _)) = self.free.pop() {
            return Some(Lease::Free(slot));
        }
        if let Some(slot) = self.vacant.pop() {
            return Some(Lease::New(slot));
        }
        (self.generations.len() < self.most).then(|| {
            self.generations.push(0);
            Lease::New(self.generations.len() as u32 - 1)
        })
    }

    /// Takes a connection back that may be used again.
    pub(super) fn checkin(&mut self, slot: u32, now: Instant) {
        debug_assert!(self.free.last().is_none_or(|(_, since)| *since <= now), "time goes forward");
        self.free.push((slot, now));
    }

    /// The connection of `slot`, which is in use, was closed, and the slot goes on being in use.
    pub(super) fn renew(&mut self, slot: u32) {
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
    }

    /// The connection of `slot`, in use or free, was closed.
    pub(super) fn release(&mut self, slot: u32) {
        self.renew(slot);
        self.free.retain(|(free, _)| *free != slot);
        self.vacant.push(slot);
    }

    /// The connection that has been free for longest, if that is `idle` or longer.
    pub(super) fn overdue(&self, now: Instant, idle: Duration) -> Option<u32> {
        let (slot, since) = *self.free.first()?;
        (now.saturating_duration_since(since) >= idle).then_some(slot)
    }

    /// How long until one is [`overdue`](Pool::overdue).
    pub(super) fn next_overdue(&self, now: Instant, idle: Duration) -> Option<Duration> {
        let (_, since) = self.free.first()?;
        Some(since.checked_add(idle)?.saturating_duration_since(now))
    }

    /// What events of the slot's connection are told by.
    pub(super) fn token(&self, slot: u32) -> Token {
        Token::new(slot, self.generations[slot as usize])
    }

    /// The slot `token` belongs to, unless the connection it meant is gone.
    pub(super) fn slot(&self, token: Token) -> Option<u32> {
        let generation = self.generations.get(token.slot() as usize)?;
        (*generation == token.generation()).then_some(token.slot())
    }

    /// Every slot there ever was.
    pub(super) fn slots(&self) -> std::ops::Range<u32> {
        0..self.generations.len() as u32
    }

    /// How many connections there may be.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many connections are open, or being made.
    pub(super) fn open(&self) -> usize {
        self.generations.len() - self.vacant.len()
    }

    /// How many are given out.
    pub(super) fn in_use(&self) -> usize {
        self.open() - self.free.len()
    }
}
