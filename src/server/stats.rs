//! What a server has done: the poller's ledger and the core's own account, of all threads or of each.

use std::ops::{Add, Sub};

use pollmark_backends::Ledger;

use super::{Batches, Expiry};

/// Counts since the server began. They subtract, so that an interval can be charged: `after - before`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// The poller's part. All zero for a driver without one.
    pub ledger: Ledger,
    /// How many events its waits returned. Empty for a driver without a loop.
    #[cfg_attr(feature = "report", serde(default))]
    pub batches: Batches,
    /// Connections taken on.
    pub accepted: u64,
    /// Connections closed at once, for want of room or of descriptors.
    pub refused: u64,
    /// Connections ended, by either side.
    pub closed: u64,
    /// Connections open now. In a difference: the later figure.
    pub open: u64,
    /// Calls of accept(2), including the last of a drain, which finds nothing; or completions of accepts.
    pub accept_calls: u64,
    /// Those of them that found the queue empty: the last of a drain, and an event that had been answered already.
    pub empty_accepts: u64,
    /// Calls of recv(2), or completions of receives.
    pub read_calls: u64,
    /// Calls of send(2), or sends submitted.
    pub write_calls: u64,
    /// Other calls made for connections: wakes drained, options set, descriptors given back.
    pub other_calls: u64,
    /// How many of the accepts, receives, sends and closes were operations that came with a wait, and no calls of their
    /// own.
    pub operations: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took.
    pub bytes_out: u64,
    /// Events whose first read or accept found nothing.
    pub spurious: u64,
    /// Events of connections that were closed already. Under epoll they come again and again while another process has
    /// a duplicate of the socket: one that this process has forked, until it calls exec.
    #[cfg_attr(feature = "report", serde(default))]
    pub stale: u64,
    /// Connections that were closed because they had met a deadline of the limits.
    #[cfg_attr(feature = "report", serde(default))]
    pub expired: Expired,
    /// Messages without connections.
    #[cfg_attr(feature = "report", serde(default))]
    pub datagrams: Datagrams,
}

/// What has become of messages without connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Datagrams {
    /// They came.
    pub received: u64,
    /// The kernel took them.
    pub sent: u64,
    /// They were to be sent, and there was no room for them, or no way.
    pub dropped: u64,
    /// They came, and were longer than [`Config::max_datagram`](super::Config::max_datagram).
    pub truncated: u64,
}

impl Datagrams {
    fn with(self, other: Datagrams, merge: fn(u64, u64) -> u64) -> Datagrams {
        Datagrams {
            received: merge(self.received, other.received),
            sent: merge(self.sent, other.sent),
            dropped: merge(self.dropped, other.dropped),
            truncated: merge(self.truncated, other.truncated),
        }
    }
}

/// How many connections each deadline of the [`Limits`](super::Limits) has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Expired {
    /// They were idle for too long.
    pub idle: u64,
    /// Their first message did not come in time.
    pub header: u64,
    /// A message was not complete in time.
    pub request: u64,
    /// They took nothing of what they were owed for too long.
    pub write: u64,
    /// They had lived for as long as any may.
    pub total: u64,
}

impl Expired {
    /// All together.
    pub fn sum(&self) -> u64 {
        Expiry::ALL.into_iter().map(|expiry| self.of(expiry)).sum()
    }

    /// Those of one kind.
    pub fn of(mut self, expiry: Expiry) -> u64 {
        *self.entry(expiry)
    }

    pub(super) fn count(&mut self, expiry: Expiry) {
        *self.entry(expiry) += 1;
    }

    fn entry(&mut self, expiry: Expiry) -> &mut u64 {
        match expiry {
            Expiry::Idle => &mut self.idle,
            Expiry::Header => &mut self.header,
            Expiry::Request => &mut self.request,
            Expiry::Write => &mut self.write,
            Expiry::Total => &mut self.total,
        }
    }

    fn with(self, other: Expired, merge: fn(u64, u64) -> u64) -> Expired {
        Expired {
            idle: merge(self.idle, other.idle),
            header: merge(self.header, other.header),
            request: merge(self.request, other.request),
            write: merge(self.write, other.write),
            total: merge(self.total, other.total),
        }
    }
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
            - self.operations
    }
}

impl Sub for Stats {
    type Output = Stats;

    fn sub(self, before: Stats) -> Stats {
        Stats {
            ledger: self.ledger - before.ledger,
            batches: self.batches - before.batches,
            accepted: self.accepted - before.accepted,
            refused: self.refused - before.refused,
            closed: self.closed - before.closed,
            open: self.open,
            accept_calls: self.accept_calls - before.accept_calls,
            empty_accepts: self.empty_accepts - before.empty_accepts,
            read_calls: self.read_calls - before.read_calls,
            write_calls: self.write_calls - before.write_calls,
            other_calls: self.other_calls - before.other_calls,
            operations: self.operations - before.operations,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
            spurious: self.spurious - before.spurious,
            stale: self.stale - before.stale,
            expired: self.expired.with(before.expired, |now, before| now - before),
            datagrams: self.datagrams.with(before.datagrams, |now, before| now - before),
        }
    }
}

impl Add for Stats {
    type Output = Stats;

    fn add(self, other: Stats) -> Stats {
        Stats {
            ledger: self.ledger + other.ledger,
            batches: self.batches + other.batches,
            accepted: self.accepted + other.accepted,
            refused: self.refused + other.refused,
            closed: self.closed + other.closed,
            open: self.open + other.open,
            accept_calls: self.accept_calls + other.accept_calls,
            empty_accepts: self.empty_accepts + other.empty_accepts,
            read_calls: self.read_calls + other.read_calls,
            write_calls: self.write_calls + other.write_calls,
            other_calls: self.other_calls + other.other_calls,
            operations: self.operations + other.operations,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            spurious: self.spurious + other.spurious,
            stale: self.stale + other.stale,
            expired: self.expired.with(other.expired, |one, other| one + other),
            datagrams: self.datagrams.with(other.datagrams, |one, other| one + other),
        }
    }
}

/// What a server has done, thread by thread.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Account {
    /// All of it, a thread that only accepts included.
    pub total: Stats,
    /// The part of each thread that serves; of a server with a thread for each connection, of each that accepts.
    pub threads: Vec<Stats>,
}

impl Account {
    pub(super) fn new(threads: Vec<Stats>, acceptor: Option<Stats>) -> Account {
        let total = threads.iter().copied().chain(acceptor).fold(Stats::default(), |sum, one| sum + one);
        Account { total, threads }
    }

    /// What was done since `before`.
    #[must_use]
    pub fn since(&self, before: &Account) -> Account {
        let threads = self.threads.iter().enumerate();
        // An account that is empty is one from before the beginning.
        let part = |(at, thread): (usize, &Stats)| *thread - before.threads.get(at).copied().unwrap_or_default();
        Account { total: self.total - before.total, threads: threads.map(part).collect() }
    }

    /// How evenly the threads were given connections: [`fairness`] of what each has accepted.
    pub fn fairness(&self) -> Option<f64> {
        fairness(self.threads.iter().map(|thread| thread.accepted))
    }
}

/// Jain's index of fairness: 1 if all shares are equal, 1/n if one of n has everything; `None` if there is nothing.
///
/// ```
/// use pollmark::server::fairness;
/// assert_eq!(fairness([250, 250, 250, 250]), Some(1.0));
/// assert_eq!(fairness([1_000, 0, 0, 0]), Some(0.25));
/// assert_eq!(fairness([0, 0]), None);
/// ```
pub fn fairness(shares: impl IntoIterator<Item = u64>) -> Option<f64> {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for share in shares {
        let share = share as f64;
        count += 1.0;
        sum += share;
        squares += share * share;
    }
    (sum > 0.0).then(|| sum * sum / (count * squares))
}
