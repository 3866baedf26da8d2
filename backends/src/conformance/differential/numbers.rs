//! Numbers of descriptors, leased: so that a script always has the same ones, and closes one that nobody else is given.

use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use super::super::system::numbers_below;
use super::script::SLOTS;

/// Numbers that belong to one world for as long as it lasts, above those that a process is given by itself.
pub(super) struct Numbers(usize);

static LEASED: Mutex<[bool; 48]> = Mutex::new([false; 48]);

impl Numbers {
    const FIRST: usize = 1_100;

    pub(super) fn lease() -> Option<Numbers> {
        let mut leased = LEASED.lock().unwrap_or_else(PoisonError::into_inner);
        let free = leased.iter().position(|taken| !taken)?;
        let last = Numbers::FIRST + (free + 1) * SLOTS;
        if numbers_below() as usize <= last {
            return None;
        }
        leased[free] = true;
        Some(Numbers(free))
    }

    pub(super) fn of(&self, slot: usize) -> RawFd {
        (Numbers::FIRST + self.0 * SLOTS + slot) as RawFd
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        LEASED.lock().unwrap_or_else(PoisonError::into_inner)[self.0] = false;
    }
}
