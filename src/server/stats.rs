//! What a server has done: the poller's ledger and the core's own account.

use std::ops::{Add, Sub};

use pollmark_backends::Ledger;

/// Counts since the server began. They subtract, so that an interval can be charged: `after - before`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The poller's part. All zero for a driver without one.
    pub ledger: Ledger,
    /// Connections taken on.
    pub accepted: u64,
    /// Connections closed at once, for want of room or of descriptors.
    pub refused: u64,
    /// Connections ended, by either side.
    pub closed: u64,
    /// Connections open now. In a difference: the later figure.
    pub open: u64,
    /// Calls of accept(2), including the last of a drain, which finds nothing.
    pub accept_calls: u64,
    /// Calls of recv(2).
    pub read_calls: u64,
    /// Calls of send(2).
    pub write_calls: u64,
    /// Other calls made for connections: wakes drained, options set, descriptors given back.
    pub other_calls: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took.
    pub bytes_out: u64,
    /// Events whose first read or accept found nothing.
    pub spurious: u64,
}

impl Stats {
    /// All system calls made for serving, each close(2) of a connection included.
    pub const fn calls(&self) -> u64 {
        self.ledger.calls()
            + self.accept_calls
            + self.read_calls
            + self.write_calls
            + self.other_calls
            + self.closed
            + self.refused
    }
}

impl Sub for Stats {
    type Output = Stats;

    fn sub(self, before: Stats) -> Stats {
        Stats {
            ledger: self.ledger - before.ledger,
            accepted: self.accepted - before.accepted,
            refused: self.refused - before.refused,
            closed: self.closed - before.closed,
            open: self.open,
            accept_calls: self.accept_calls - before.accept_calls,
            read_calls: self.read_calls - before.read_calls,
            write_calls: self.write_calls - before.write_calls,
            other_calls: self.other_calls - before.other_calls,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
            spurious: self.spurious - before.spurious,
        }
    }
}

impl Add for Stats {
    type Output = Stats;

    fn add(self, other: Stats) -> Stats {
        Stats {
            ledger: self.ledger + other.ledger,
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            closed: self.closed + other.closed,
            open: self.open + other.open,
            accept_calls: self.accept_calls + other.accept_calls,
            read_calls: self.read_calls + other.read_calls,
            write_calls: self.write_calls + other.write_calls,
            other_calls: self.other_calls + other.other_calls,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            spurious: self.spurious + other.spurious,
        }
    }
}
