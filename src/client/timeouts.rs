//! The timeouts of a client, each with a name of its own.

use std::fmt;
use std::time::Duration;

/// How long each part of a request may take. [`Duration::MAX`] is no limit.
///
/// A request waits for a connection (`checkout`), makes one if there is none (`connect`), is sent (`write`), and is
/// answered (`read`); `total` is for all of it. `write` and `read` begin anew whenever bytes move: they find out that
/// the other end is stuck or gone, however long the answer. A peer that sends a byte now and then is ended by `total`.
///
/// `idle` is of another kind. It is no request's, and makes none fail: it is how long an unused connection is kept. It
/// should be less than the server's own, so that it is the client that closes: a server's close may cross the next
/// request.
///
/// ```
/// use pollmark::client::Timeouts;
/// use std::time::Duration;
///
/// let timeouts = Timeouts { read: Duration::from_secs(2), ..Timeouts::default() };
/// assert!(timeouts.connect < timeouts.total);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// From the call until a connection of the pool is free, or may be opened. Zero: do not wait.
    pub checkout: Duration,
    /// From connect(2) until the connection is open, all addresses of the name together.
    pub connect: Duration,
    /// How long the kernel may take no byte of what is left of the request: its buffer is full, for the peer reads
    /// none.
    pub write: Duration,
    /// How long no byte of the answer may come, after the request was sent or the last byte came.
    pub read: Duration,
    /// From the call until the end of the answer, with everything between them.
    pub total: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
}

impl Timeouts {
    /// No limits.
    pub const NONE: Timeouts = Timeouts {
        checkout: Duration::MAX,
        connect: Duration::MAX,
        write: Duration::MAX,
        read: Duration::MAX,
        total: Duration::MAX,
        idle: Duration::MAX,
    };

    /// The limit called `which`.
    pub fn limit(&self, which: Timeout) -> Duration {
        match which {
            Timeout::Checkout => self.checkout,
            Timeout::Connect => self.connect,
            Timeout::Write => self.write,
            Timeout::Read => self.read,
            Timeout::Total => self.total,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            checkout: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            write: Duration::from_secs(10),
            read: Duration::from_secs(10),
            total: Duration::from_secs(30),
            idle: Duration::from_secs(50),
        }
    }
}

/// The timeouts that a request can meet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Timeout {
    /// [`Timeouts::checkout`]: no connection of the pool came free.
    Checkout,
    /// [`Timeouts::connect`]: the connection was not made.
    Connect,
    /// [`Timeouts::write`]: the request could not be sent.
    Write,
    /// [`Timeouts::read`]: no byte of the answer came.
    Read,
    /// [`Timeouts::total`]: it took too long in all.
    Total,
}

impl Timeout {
    /// All of them, in the order a request meets them.
    pub const ALL: [Timeout; 5] = [Timeout::Checkout, Timeout::Connect, Timeout::Write, Timeout::Read, Timeout::Total];
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Timeout::Checkout => "checkout",
            Timeout::Connect => "connect",
            Timeout::Write => "write",
            Timeout::Read => "read",
            Timeout::Total => "total",
        })
    }
}
