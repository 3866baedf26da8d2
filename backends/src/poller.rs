//! The seam: one narrow trait over every readiness mechanism, its capabilities as data, and its ledger.

use std::fmt;
use std::io;
use std::ops::{Add, Sub};
use std::time::Duration;

use crate::event::{Interest, Token, Trigger};
use crate::events::Events;
use crate::source::{OwnedSource, Source};

/// A readiness mechanism: which of these sources can be read or written without blocking?
///
/// A poller belongs to the thread that waits. It takes `&mut self`, holds no lock, writes no log, reads no clock
/// (`uring` does, in a wait with a timeout) and in steady state allocates nothing. There is no constructor here: a
/// factory opens the poller on the thread that will wait (see [`Registry`](crate::Registry)). To wake a waiting poller
/// from elsewhere, register a [`WakeSource`](crate::WakeSource) like any other source.
///
/// ```
/// use pollmark_backends::{AsSource, Events, Interest, Poller, Registry, Token, Trigger};
/// use std::io::Write;
/// use std::net::{TcpListener, TcpStream};
///
/// # fn main() -> std::io::Result<()> {
/// let mut poller = Registry::builtin().default_entry()?.open()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// poller.add(listener.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
///
/// let _client = TcpStream::connect(listener.local_addr()?)?;
/// let mut events = Events::with_capacity(16);
/// poller.wait(&mut events, None)?;
/// let event = events.iter().next().expect("a pending connection makes the listener readable");
/// assert!(event.token() == Token(1) && event.readable());
/// # Ok(())
/// # }
/// ```
///
/// # The contract
///
/// * **Level-triggered** reporting is what every mechanism has. [`Trigger::Edge`] and [`Trigger::Oneshot`] are
///   capabilities; asking for one that is missing is `Unsupported`, never silently imitated. Oneshot disarms the
///   *source*, both directions, until it is modified.
/// * **Errors and hang-ups** wake every armed direction: [`Event::readable`](crate::Event::readable) and
///   [`Event::writable`](crate::Event::writable) are then both true, even of a direction that was not asked for. A
///   caller acts on those it wants; the call it makes will not block and reports the cause.
/// * **One event per source per wait**, and only for sources that fired.
/// * **Empty interest** means "known, but not watched": no event at all, not even a hang-up.
/// * **A small [`Events`]** loses nothing and starves nobody: with more sources ready than room, all are reported
///   within a bounded number of waits.
/// * **After `remove` or `close`** no later *wait* returns the old token, even if the number is at once reused and
///   added. An event already in the caller's batch may still carry it; the token's generation tells.
/// * **Closing behind the poller's back**, without `remove` or [`close`](Poller::close), is outside the contract. It
///   must not panic, spin or harm other sources; what is reported differs by mechanism.
///
/// # Why `add` is a safe function
///
/// A poller only asks the kernel about readiness. It never reads, writes or closes a source that it did not receive
/// through `close`. The worst that a number gone stale can do is to report an event for a token whose source is no
/// longer what the caller thinks it is, and the token's generation makes that harmless. So nothing unsound can follow
/// from the source's borrow ending before its registration does.
///
/// # Portability
///
/// What differs between mechanisms, and is told by [`Capabilities`] or normalised away:
///
/// | topic | select | poll | epoll | kqueue | uring | `polling` |
/// |---|---|---|---|---|---|---|
/// | triggers | level | level | level, edge, oneshot | level, edge (EV_CLEAR), oneshot | level, edge, oneshot | level, edge and oneshot where the platform's mechanism has them |
/// | cost of a wait, N watched | O(highest number) | O(N) | O(ready) | O(ready) | O(ready) | the platform's |
/// | finest timeout | 1 µs, on Windows 1 ms | 1 ns with ppoll(2), else 1 ms | 1 ms | 1 ns | 1 ns | the platform's |
/// | peer's half-close | looks like data | POLLRDHUP on Linux, FreeBSD; POLLHUP on Windows | EPOLLRDHUP | EV_EOF | POLLRDHUP | looks like data |
/// | urgent data | except set | POLLPRI, on Windows POLLRDBAND | EPOLLPRI | not reported | POLLPRI | the platform's |
/// | pending error | looks like data and room | POLLERR | EPOLLERR | EV_EOF with an errno | POLLERR | the platform's |
/// | regular file | always ready | always ready | `Unsupported` | until its end | always ready | the platform's |
/// | closed behind its back | an error event, from EBADF | an error event, from POLLNVAL; on Windows not before the wait ends | silence | silence | an error event, or silence | the platform's |
/// | waited for by several threads | all are woken | all are woken | all, or with EPOLLEXCLUSIVE one at least | all are woken | all, or with EPOLLEXCLUSIVE one at least | all are woken |
/// | changes | no call | no call | one call each | ride with the next wait | ride with the next wait; one call to remove what is polled | one call each, and on Linux five for a wait |
///
/// On Windows a source is a socket, and poll(2) is WSAPoll. select(2)'s sets are there lists instead of bitmaps, so
/// that `FD_SETSIZE`, 64, limits their count and not a number; like everywhere it limits only the C type and not these
/// sets.
pub trait Poller {
    /// What this instance can do on this kernel. Constant for the life of the poller.
    fn capabilities(&self) -> Capabilities;

    /// Starts watching `source` for `interest`, reporting it as `token`.
    ///
    /// # Errors
    /// `AlreadyExists` if the source is already known. `Unsupported` if the mechanism lacks `trigger` or cannot watch
    /// this kind of source, or this number, at all. Anything else is the kernel's, untouched; where changes are batched
    /// it arrives as an `error` event on `token`.
    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()>;

    /// Starts watching `source`, level-triggered, beside other pollers that watch it in the same way: what makes it
    /// ready while they wait is reported by at least one of them, and not by all. For a listener that several threads
    /// share.
    ///
    /// It is the one that accepts who sees to it that nobody else has to: an event that a poller was given, and its
    /// caller did not act on, may be given to no other. [`modify`](Poller::modify) makes the registration an ordinary
    /// one.
    ///
    /// # Errors
    /// `Unsupported` if the mechanism lacks the [ability](Capabilities::exclusive), or `interest` is anything but
    /// readable or writable. Otherwise as [`add`](Poller::add).
    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        let _ = (source, token, interest);
        Err(not_exclusively("this mechanism"))
    }

    /// Replaces interest, token and trigger of `source`; rearms it after a oneshot event.
    ///
    /// # Errors
    /// `NotFound` if `source` was never added. Otherwise as [`add`](Poller::add).
    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()>;

    /// Stops watching `source`. Silent from now on, also where changes are batched.
    ///
    /// Events already returned by `wait` are not recalled; the caller drops stale tokens.
    ///
    /// # Errors
    /// `NotFound` if `source` was never added. No other cause yields `NotFound`.
    fn remove(&mut self, source: Source<'_>) -> io::Result<()>;

    /// Takes `source` out and closes it, by the fewest calls that are safe for this mechanism.
    ///
    /// For epoll(7) that is close(2) alone, which silences a source only if nobody else holds the same open file: what
    /// was duplicated, or inherited by a child, is to be [removed](Poller::remove) first.
    ///
    /// # Errors
    /// `NotFound` where the mechanism keeps a table and the source is not in it. The source is closed all the same.
    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        let removed = self.remove(crate::AsSource::as_source(&source));
        drop(source);
        removed
    }

    /// Waits until a source is ready or `timeout` has passed, by one call of the kernel, and replaces the content of
    /// `events` by what it found. `None` waits for ever; zero looks and returns. Timeouts are rounded up.
    ///
    /// # Errors
    /// `Interrupted` when a signal ended the wait, unless the mechanism
    /// [retries by itself](Capabilities::retries_interrupt); the caller owns the deadline and recomputes. Anything
    /// else is the kernel's, untouched.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()>;

    /// What this poller has done so far.
    fn ledger(&self) -> Ledger;
}

impl<P: Poller + ?Sized> Poller for Box<P> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        (**self).add(source, token, interest, trigger)
    }

    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        (**self).add_exclusive(source, token, interest)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        (**self).modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        (**self).remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        (**self).close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        (**self).wait(events, timeout)
    }

    fn ledger(&self) -> Ledger {
        (**self).ledger()
    }
}

/// What a mechanism can do, as data: callers ask abilities, never names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Trigger::Edge`] is offered.
    pub edge: bool,
    /// [`Trigger::Oneshot`] is offered.
    pub oneshot: bool,
    /// [`Poller::add_exclusive`] is offered.
    pub exclusive: bool,
    /// How the cost of a wait grows.
    pub growth: Growth,
    /// The finest timeout; finer ones are rounded up to it.
    pub resolution: Duration,
    /// One more than the highest source number that can be watched, where there is such a limit.
    pub numbers_below: Option<u64>,
    /// The most sources that can be watched at once, where the mechanism itself sets a limit.
    pub most_sources: Option<usize>,
    /// A peer's half-close is told apart from data ([`Event::read_closed`](crate::Event::read_closed)).
    pub half_close: bool,
    /// A pending error is told apart from data ([`Event::error`](crate::Event::error)).
    pub errors: bool,
    /// Urgent data is reported for [`Interest::PRIORITY`].
    pub priority: bool,
    /// Regular files can be watched; otherwise adding one is `Unsupported`.
    pub regular_files: bool,
    /// A wait interrupted by a signal is resumed inside, and `Interrupted` is never returned.
    pub retries_interrupt: bool,
    /// The system calls as strace names them, for whoever checks the [`Ledger`].
    pub calls: Calls,
}

impl Capabilities {
    /// The least a mechanism can offer: level-triggered, nothing but readable and writable. A poller of your own
    /// starts here and sets what it has beyond.
    ///
    /// ```
    /// use pollmark_backends::{Capabilities, Trigger};
    /// let mut capabilities = Capabilities::least();
    /// capabilities.edge = true;
    /// assert!(capabilities.supports(Trigger::Edge) && !capabilities.supports(Trigger::Oneshot));
    /// ```
    pub const fn least() -> Capabilities {
        Capabilities {
            edge: false,
            oneshot: false,
            exclusive: false,
            growth: Growth::Registered,
            resolution: Duration::from_millis(1),
            numbers_below: None,
            most_sources: None,
            half_close: false,
            errors: false,
            priority: false,
            regular_files: false,
            retries_interrupt: false,
            calls: Calls { wait: &[], change: &[] },
        }
    }

    /// Whether an edge-triggered reader may stop at a short read when the event carried nothing that is
    /// [more than bytes](crate::Event::more_than_bytes). Only if a half-close and urgent data are both told can their
    /// absence be believed; otherwise the reader goes on to 0 or `WouldBlock`.
    pub const fn short_read_means_drained(&self) -> bool {
        self.half_close && self.priority
    }

    /// Whether sources can be added with `trigger`.
    pub const fn supports(&self, trigger: Trigger) -> bool {
        match trigger {
            Trigger::Level => true,
            Trigger::Edge => self.edge,
            Trigger::Oneshot => self.oneshot,
        }
    }
}

/// Names of system calls, as strace prints them on this platform. Empty where nobody has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calls {
    /// What `wait` calls.
    pub wait: &'static [&'static str],
    /// What changes of registration call.
    pub change: &'static [&'static str],
}

/// What the cost of one wait is proportional to, beyond the events it returns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Growth {
    /// Nothing: only ready sources cost.
    Ready,
    /// The number of sources watched.
    Registered,
    /// The highest source number watched.
    HighestNumber,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Growth::Ready => "O(ready)",
            Growth::Registered => "O(registered)",
            Growth::HighestNumber => "O(highest number)",
        })
    }
}

/// What a poller has done: its part of the account that explains a server's cost.
///
/// Ledgers subtract, so that an interval can be charged: `after - before`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Ledger {
    /// Calls of `wait`, interrupted ones included.
    pub waits: u64,
    /// Registrations changed: `add`, `modify`, `remove` and `close` that succeeded.
    pub changes: u64,
    /// Events returned.
    pub events: u64,
    /// Waits that returned no event: expired timeouts, interruptions, and false alarms.
    pub empty: u64,
    /// System calls made for waits.
    pub wait_calls: u64,
    /// System calls made for changes. The close(2) of [`Poller::close`] is the caller's to count.
    pub change_calls: u64,
    /// Times that all sources were moved to another mechanism: by `adaptive`, and by no other. The calls of it are
    /// among `change_calls`, with the close(2) of the mechanism left behind.
    pub migrations: u64,
    /// The calls happen inside a crate where they cannot be seen, and are a formula: see the poller's header.
    pub derived: bool,
}

impl Ledger {
    /// System calls made, by waits and changes together.
    pub const fn calls(&self) -> u64 {
        self.wait_calls + self.change_calls
    }
}

impl Sub for Ledger {
    type Output = Ledger;

    fn sub(self, before: Ledger) -> Ledger {
        Ledger {
            waits: self.waits - before.waits,
            changes: self.changes - before.changes,
            events: self.events - before.events,
            empty: self.empty - before.empty,
            wait_calls: self.wait_calls - before.wait_calls,
            change_calls: self.change_calls - before.change_calls,
            migrations: self.migrations - before.migrations,
            derived: self.derived,
        }
    }
}

impl Add for Ledger {
    type Output = Ledger;

    fn add(self, other: Ledger) -> Ledger {
        Ledger {
            waits: self.waits + other.waits,
            changes: self.changes + other.changes,
            events: self.events + other.events,
            empty: self.empty + other.empty,
            wait_calls: self.wait_calls + other.wait_calls,
            change_calls: self.change_calls + other.change_calls,
            migrations: self.migrations + other.migrations,
            derived: self.derived || other.derived,
        }
    }
}

/// The refusal of a trigger a mechanism lacks, in one wording.
pub(crate) fn lacks(mechanism: &str, trigger: Trigger) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{mechanism} has no {trigger} trigger: ask its capabilities before adding"),
    )
}

/// The refusal of a source to be shared with other pollers, in one wording.
pub(crate) fn not_exclusively(mechanism: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "{mechanism} cannot watch a source for this exclusively: ask its capabilities, and only to read or write"
        ),
    )
}

/// Whether [`Poller::add_exclusive`] takes such an interest.
#[cfg(linux_like)]
pub(crate) fn is_exclusive(interest: Interest) -> bool {
    !interest.is_empty() && !interest.contains(Interest::PRIORITY)
}

/// The refusal of a source already in a table of ours.
pub(crate) fn exists(mechanism: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, format!("the source is already registered with this {mechanism}"))
}

/// The refusal of a source not in a table of ours.
pub(crate) fn unknown(mechanism: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the source is not registered with this {mechanism}"))
}
