//! A wait that fails: for want of memory it is tried again, for a while; for any other reason it ends the server.

use std::io;
use std::time::Duration;

use pollmark_backends::Ledger;

/// poll(2) and select(2) need memory for what they are asked, and may find none for a moment.
const REST: Duration = Duration::from_millis(10);
const MOST_IN_A_ROW: u32 = 100;

/// How often the wait has failed in a row.
#[derive(Default)]
pub(super) struct Endurance {
    failures: u32,
    waits: u64,
}

impl Endurance {
    /// Rests after a failed wait, so that trying again does not spin. `ledger` is the poller's, and tells whether a
    /// wait has succeeded since the last failure.
    ///
    /// # Errors
    /// `error` itself, if trying again is no use: nothing but memory was not wanting, or it has been for a second.
    #[cold]
    pub(super) fn after(&mut self, error: io::Error, ledger: &Ledger) -> io::Result<()> {
        self.failures = if ledger.waits <= self.waits + 1 { self.failures + 1 } else { 1 };
        self.waits = ledger.waits;
        match error.kind() {
            // The second: POSIX has EAGAIN for it.
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock if self.failures <= MOST_IN_A_ROW => {
                if self.failures == 1 {
                    tracing::warn!(%error, "cannot wait; trying again, for a second");
                }
                std::thread::sleep(REST);
                Ok(())
            }
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(endurance: &mut Endurance, waits: u64, kind: io::ErrorKind) -> io::Result<()> {
        let mut ledger = Ledger::default();
        ledger.waits = waits;
        endurance.after(kind.into(), &ledger)
    }

    #[test]
    fn what_memory_cannot_mend_ends_the_server_at_once() {
        let error = after(&mut Endurance::default(), 1, io::ErrorKind::InvalidInput).expect_err("no use to try again");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_second_without_memory_is_endured_and_not_a_moment_more() {
        let mut endurance = Endurance::default();
        // One wait between them succeeds, and the count begins anew.
        for waits in (1..=3).chain(5..5 + u64::from(MOST_IN_A_ROW)) {
            after(&mut endurance, waits, io::ErrorKind::OutOfMemory).expect("endured");
        }
        let error =
            after(&mut endurance, 5 + u64::from(MOST_IN_A_ROW), io::ErrorKind::WouldBlock).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
