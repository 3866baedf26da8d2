//! (c) Sends that say nothing when all is taken, and what is left of one that fell short.

use std::io;

use crate::event::Token;

/// What is left of a silent send that was not taken whole.
#[derive(Debug)]
pub struct Short {
    /// As it was given.
    pub token: Token,
    /// What was not taken.
    pub rest: Vec<u8>,
    /// `WouldBlock` if there was no room for it; any other ends the connection.
    pub error: io::Error,
}

/// A silent send that was queued since the last turn.
pub(super) struct Silent {
    pub(super) token: Token,
    pub(super) bytes: *const u8,
    pub(super) offered: u32,
    pub(super) taken: u32,
}

impl Silent {
    /// It has completed, which it does only if it was not taken whole.
    #[cold]
    pub(super) fn fell_short(&mut self, result: i32) -> Short {
        let error = self.took(result);
        let (taken, left) = (self.taken as usize, (self.offered - self.taken) as usize);
        // SAFETY: `taken` is at most the length of what was offered.
        let rest = unsafe { self.bytes.add(taken) };
        // SAFETY: what was offered stays as it is until `end_round`, and `left` bytes of it begin here.
        let rest = unsafe { std::slice::from_raw_parts(rest, left) };
        Short { token: self.token, rest: rest.to_vec(), error }
    }

    /// Takes note of how much was taken. Why it was not all.
    pub(super) fn took(&mut self, result: i32) -> io::Error {
        self.taken = result.clamp(0, self.offered as i32) as u32;
        match result {
            // Taken in part, it would not say why not in whole: for want of room, or the next send will tell.
            0.. => io::ErrorKind::WouldBlock.into(),
            error => io::Error::from_raw_os_error(-error),
        }
    }
}
