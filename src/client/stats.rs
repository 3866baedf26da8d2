//! What a client has done.

use pollmark_backends::Ledger;

use super::Timeout;

/// Counts since a client began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The poller's part.
    pub ledger: Ledger,
    /// Requests made.
    pub requests: u64,
    /// Those that were answered. The others have failed.
    pub answered: u64,
    /// Connections opened.
    pub opened: u64,
    /// Requests that began on a connection which had been used before.
    pub reused: u64,
    /// Connections closed because nobody had used them for the time of [`Timeouts::idle`](super::Timeouts::idle).
    pub evicted: u64,
    /// Connections found closed by the server, or with bytes nobody had asked for, while they were free.
    pub stale: u64,
    /// Connections closed after an answer: more came than was asked for, or it came before the request was sent whole.
    pub out_of_step: u64,
    /// Requests that began again on a new connection, because the one they began on had been lost before a byte was
    /// sent.
    pub retried: u64,
    /// Connections open now, or being made.
    pub open: usize,
    /// Those of them in use.
    pub in_use: usize,
    /// Bytes of requests the kernel took.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    pub(super) timeouts: [u64; Timeout::ALL.len()],
}

impl Stats {
    /// How many requests failed by this timeout.
    pub fn timed_out(&self, which: Timeout) -> u64 {
        self.timeouts[which as usize]
    }

    pub(super) fn count(&mut self, which: Timeout) {
        self.timeouts[which as usize] += 1;
    }
}
