//! Memory that sends read from: vectors that nobody reaches until the kernel is done with them.

use crate::event::Token;

/// All that is lent, in places with numbers that fit in an operation's user data.
#[derive(Default)]
pub(super) struct Loans {
    places: Vec<Option<Lent>>,
    free: Vec<u32>,
}

/// Memory that belongs to the kernel until the send is over.
pub(super) struct Lent {
    pub(super) token: Token,
    pub(super) bytes: Vec<u8>,
    pub(super) from: usize,
    /// (k) What came of it, while the memory is still read.
    pub(super) taken: Option<i32>,
}

impl Lent {
    /// How many bytes were taken, or the error, by the `last` completion, and (k) by the first if there were two.
    pub(super) fn outcome(&self, last: i32) -> Result<usize, i32> {
        let result = self.taken.unwrap_or(last);
        if result < 0 { Err(-result) } else { Ok(result as usize) }
    }
}

impl Loans {
    /// Puts `lent` where nobody reaches it. The number of its place.
    pub(super) fn lend(&mut self, lent: Lent) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[at as usize] = Some(lent);
        at
    }

    /// (k) The first of two completions of a send has told what came of it.
    pub(super) fn note(&mut self, at: u32, taken: i32) {
        if let Some(Some(lent)) = self.places.get_mut(at as usize) {
            lent.taken = Some(taken);
        }
    }

    /// (k) How many sends are over, but for the memory, which is still read.
    pub(super) fn taken(&self) -> usize {
        self.places.iter().flatten().filter(|lent| lent.taken.is_some()).count()
    }

    /// Takes back what is lent there.
    pub(super) fn take(&mut self, at: u32) -> Option<Lent> {
        let lent = self.places.get_mut(at as usize)?.take()?;
        self.free.push(at);
        Some(lent)
    }

    /// Gives it up instead of giving it back.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.places));
    }
}
