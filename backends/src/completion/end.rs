//! (i) The end of a ring: all that is under way is cancelled and waited for, so that no memory of ours is touched after
//!     it.

use std::io;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::CancelBuilder;

use super::{Fate, Next, Ring};

impl<F: Fate> Ring<F> {
    /// Submits what is queued, cancels all that is under way, and waits until it is over. Nothing can come of it but
    /// what is forgotten.
    ///
    /// # Errors
    /// The kernel's, but not for want of memory; `TimedOut` if something that was cancelled goes on for a second.
    pub fn finish(&mut self) -> io::Result<()> {
        self.begin_quietly(opcode::AsyncCancel2::new(CancelBuilder::any()).build());
        // What is cancelled completes in the same call or in one of the next, each of which may make only a few of
        // them.
        let (mut left, mut in_vain) = (usize::MAX, 0);
        while in_vain < MOST_CALLS_IN_VAIN {
            self.last_turn(None)?;
            self.short.clear();
            while let Some(next) = self.next() {
                if let Next::Other(other) = next {
                    drop(self.learn(other));
                }
            }
            if self.under_way == 0 {
                self.finished = true;
                return Ok(());
            }
            in_vain = if self.under_way < left { 0 } else { in_vain + 1 };
            left = self.under_way;
            // (k) What was taken and is not yet sent cannot be cancelled: the kernel sends it when the peer reads,
            // which may be never, from memory that is given up.
            if in_vain >= MOST_CALLS_FOR_READERS && self.under_way == self.loans.taken() {
                self.loans.leak();
                self.finished = true;
                return Ok(());
            }
            self.last_turn(Some(REST))?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// One of the last turns, asleep so long at most. What a signal has cut short, the next may do, and what there was
    /// no memory for, after a rest.
    fn last_turn(&mut self, sleep: Option<Duration>) -> io::Result<()> {
        match self.fate.of_turn().and_then(|()| self.turn_now(sleep.is_some(), sleep)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock) => {
                std::thread::sleep(REST);
                Ok(())
            }
            turned => turned,
        }
    }
}

impl<F: Fate> Drop for Ring<F> {
    fn drop(&mut self) {
        let finished = self.finished || self.finish().is_ok();
        let unregistered = self.bundles.unregister(&self.queue).and(self.buffers.unregister(&self.queue)).is_ok();
        // What the kernel may still touch is not given back.
        if !(finished && unregistered) {
            self.loans.leak();
            self.buffers.leak();
            self.bundles.leak();
            std::mem::forget(std::mem::take(&mut self.outbox)); // what is queued is sent from there
        }
    }
}

/// Between two looks.
const REST: Duration = Duration::from_millis(10);

/// That is a second, and for want of memory two.
const MOST_CALLS_IN_VAIN: usize = 100;
/// A tenth of it.
const MOST_CALLS_FOR_READERS: usize = 10;
