//! What is true of every mechanism of this host, and of the tools that say so.

mod broken;
mod conformance;
#[cfg(target_os = "linux")]
mod ledger;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests that run the suite take turns: it counts this process's open descriptors, and measures time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
