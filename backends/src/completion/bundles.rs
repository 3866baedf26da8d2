//! (l) Send bundles: one send that takes what lies in several buffers, one after the other.

use std::io;

use io_uring::squeue::Flags;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode};

use super::provided::Provided;
use super::queue::Queue;
use super::silent::{Short, Silent};
use super::tags::{BUNDLE, RECEIVE, tagged};
use super::{Act, Fate, Lot, Ring, SILENTLY};
use crate::event::Token;
use crate::source::{Source, raw};

impl<F: Fate> Ring<F> {
    /// Sends the first `count` of the [`bytes`](Ring::bytes) just received too, in one bundle with what was
    /// [sent back](Ring::send_back) in this round to the same connection. False if there is no bundle, or no room in it: then
    /// they are not sent.
    ///
    /// # Panics
    /// If fewer were received.
    pub fn send_more(&mut self, token: Token, count: usize) -> bool {
        let Some((at, silent)) = self.bundles.growing(token) else { return false };
        let bytes = &self.buffers.received()[..count];
        self.extend_bundle(at, silent, bytes.as_ptr(), count as u32)
    }

    /// Whether what was sent to this connection in this round can be [more](Ring::send_more).
    #[inline]
    pub fn is_bundling(&self, token: Token) -> bool {
        self.bundles.have_any() && self.bundles.growing(token).is_some()
    }

    /// The next completion is of the same receive.
    pub(super) fn more_comes_to(&self, token: Token) -> bool {
        let received = |done: &cqueue::Entry| done.user_data() == tagged(RECEIVE, token) && done.result() > 0;
        self.batch.get(self.looked_at).is_some_and(received)
    }

    /// Begins a bundle with these bytes, if it is to be a whole send.
    #[inline(never)]
    pub(super) fn send_bundle(&mut self, source: Source<'_>, token: Token, bytes: *const u8, count: u32) {
        let lot = self.fate.of(Act::Send, source, count as usize);
        if !matches!(lot, Lot::AsAsked) || count == 0 {
            return self.send_silently_by(lot, source, token, bytes, count);
        }
        let silent = self.silent.len();
        self.silent.push(Silent { token, bytes, offered: 0, taken: 0 });
        let (at, group) = self.bundles.begin(token, silent);
        self.extend_bundle(at, silent, bytes, count);
        // One that is not taken whole says so without being asked to wait for all.
        let send = opcode::SendBundle::new(Fd(raw(source)), group).flags(SILENTLY & !libc::MSG_WAITALL).build();
        // SAFETY: the buffers of the group lie in receive buffers, and do not change before `end_round`, as above.
        unsafe {
            self.queue.push(send.flags(Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS).user_data(BUNDLE | at as u64))
        };
    }

    /// Adds to the bundle at this place, which is this one of the silent sends. False if it has no room.
    pub(super) fn extend_bundle(&mut self, at: usize, silent: usize, bytes: *const u8, count: u32) -> bool {
        let added = count == 0 || self.bundles.add(at, bytes, count);
        if added {
            let silent = &mut self.silent[silent];
            (silent.offered, silent.taken) = (silent.offered + count, silent.taken + count);
        }
        added
    }
}

/// A group of buffers for each bundle that a round may have.
pub(super) struct Bundles {
    groups: Vec<Bundle>,
    /// How many more the round may have. On the way of every answer, so that it is one look.
    room: usize,
    /// Those of this round stand first, and those that may still grow last among them.
    used: usize,
    closed: usize,
}

/// What one connection sends in one round.
struct Bundle {
    provided: Provided,
    token: Token,
    /// Which of the round's silent sends it is.
    silent: usize,
    parts: Vec<Part>,
    /// It fell short: nobody but the kernel knows how many of the buffers it has taken.
    spoiled: bool,
}

/// Lies in a receive buffer, and stays there for the round.
pub(super) struct Part {
    pub(super) start: *const u8,
    pub(super) length: u32,
}

impl Bundles {
    /// Registers so many groups, numbered behind that of the receive buffers.
    pub(super) fn register(queue: &Queue, count: u16) -> io::Result<Bundles> {
        let numbers = super::buffers::GROUP + 1..=super::buffers::GROUP + count.min(MOST);
        let bundle = |number| {
            let provided = Provided::register(queue, number, MOST_PARTS as u16)?;
            Ok(Bundle { provided, token: Token::default(), silent: 0, parts: Vec::new(), spoiled: false })
        };
        let groups = numbers.map(bundle).collect::<io::Result<Vec<_>>>()?;
        Ok(Bundles { room: groups.len(), groups, used: 0, closed: 0 })
    }

    pub(super) fn are_wanted(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether one more can be begun in this round.
    #[inline(always)]
    pub(super) fn have_room(&self) -> bool {
        self.room > 0
    }

    /// Begins one, empty yet. Its place, and the group that the send is to take its buffers from.
    pub(super) fn begin(&mut self, token: Token, silent: usize) -> (usize, u16) {
        let at = self.used;
        let bundle = &mut self.groups[at];
        (bundle.token, bundle.silent) = (token, silent);
        self.used += 1;
        self.room -= 1;
        (at, bundle.provided.group())
    }

    /// Adds `length` bytes, not 0, to the bundle at this place. False if it has no room for another buffer.
    pub(super) fn add(&mut self, at: usize, start: *const u8, length: u32) -> bool {
        let bundle = &mut self.groups[at];
        if bundle.parts.len() == MOST_PARTS {
            return false;
        }
        let entry = bundle.provided.entry();
        entry.set_addr(start as u64);
        entry.set_len(length);
        entry.set_bid(bundle.parts.len() as u16);
        bundle.provided.enter();
        bundle.provided.publish();
        bundle.parts.push(Part { start, length });
        true
    }

    /// The bundle of this connection that may still grow: its place, and which of the silent sends it is.
    pub(super) fn growing(&self, token: Token) -> Option<(usize, usize)> {
        // One connection's bytes mostly come in one row.
        let at = self.closed + self.groups[self.closed..self.used].iter().rposition(|one| one.token == token)?;
        Some((at, self.groups[at].silent))
    }

    /// None grows any more: the kernel may be taking them.
    #[inline(always)]
    pub(super) fn close(&mut self) {
        self.closed = self.used;
    }

    /// Which of the silent sends the bundle at this place is.
    pub(super) fn silent(&self, at: usize) -> usize {
        self.groups[at].silent
    }

    /// It has completed, which it does only if it was not taken whole.
    #[cold]
    pub(super) fn fell_short(&mut self, at: usize, silent: &mut Silent, result: i32) -> Short {
        let bundle = &mut self.groups[at];
        bundle.spoiled = true;
        let error = silent.took(result);
        // SAFETY: what is in a bundle stays as it is until the round ends.
        let rest = unsafe { rest(&bundle.parts, silent.taken as usize) };
        Short { token: bundle.token, rest, error }
    }

    /// All are over. Those that were taken whole are empty; the others are made so, or given up.
    #[cold]
    pub(super) fn end_round(&mut self, queue: &Queue) {
        for at in (0..self.used).rev() {
            let bundle = &mut self.groups[at];
            bundle.parts.clear();
            if std::mem::take(&mut bundle.spoiled) && bundle.provided.renew(queue).is_err() {
                self.groups.swap_remove(at).provided.leak();
            }
        }
        (self.room, self.used, self.closed) = (self.groups.len(), 0, 0);
    }

    /// Whether this round has any.
    #[inline(always)]
    pub(super) fn have_any(&self) -> bool {
        self.used > 0
    }

    pub(super) fn unregister(&mut self, queue: &Queue) -> io::Result<()> {
        self.groups.iter_mut().try_for_each(|bundle| bundle.provided.unregister(queue))
    }

    /// Gives up the memory of the groups instead of giving it back.
    pub(super) fn leak(&mut self) {
        self.groups.iter_mut().for_each(|bundle| bundle.provided.leak());
    }
}

/// What is left of `parts`, one after the other, when so many bytes of them are `taken`.
///
/// # Safety
/// Each points to so many readable bytes.
pub(super) unsafe fn rest(parts: &[Part], mut taken: usize) -> Vec<u8> {
    let mut rest = Vec::new();
    for part in parts {
        let from = taken.min(part.length as usize);
        taken -= from;
        // SAFETY: `from` is at most the length of the part.
        let start = unsafe { part.start.add(from) };
        // SAFETY: the caller promises it of the whole part, and so much is left of it.
        rest.extend_from_slice(unsafe { std::slice::from_raw_parts(start, part.length as usize - from) });
    }
    rest
}

/// A power of two. The kernel takes up to 256 at once, and what it takes in two goes says that it goes on.
pub(super) const MOST_PARTS: usize = 64;
const MOST: u16 = 1 << 10;
