//! What is true of every mechanism of this host, and of the tools that say so.

#[cfg(any(linux_like, kqueue_like))]
mod adaptive;
mod broken;
mod conformance;
#[cfg(unix)]
mod differential;
mod faulty;
#[cfg(target_os = "linux")]
mod ledger;
mod semantics;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests that run the suite take turns: it counts this process's open descriptors, and measures time. So do tests that
/// start other programs: until one has begun it holds all descriptors of this one, and what is closed here is not.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
