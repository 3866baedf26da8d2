//! What an adaptive poller can be made of: mechanisms that take in a source by its number.

use std::io;

use crate::event::{Interest, Token, Trigger};
use crate::poll::Poll;
use crate::poller::{Calls, Capabilities, Growth, Poller};
use crate::source::RawSource;

/// A mechanism that [`Adaptive`](super::Adaptive) can move to.
///
/// It is opened afresh for each move and dropped whole with the next one, so nothing of an earlier stay is left.
pub trait Inner: Poller + Sized {
    /// What it can do here: [`Poller::capabilities`], before one is open.
    const CAPABILITIES: Capabilities;

    /// The system calls that opening one makes, as strace prints them.
    const OPENING: &'static [&'static str];

    /// How many calls dropping one makes, all of them close(2).
    const CLOSING: u64;

    /// Whether these, and its ledger, are counts. Otherwise the ledger of the whole is `derived`.
    const COUNTED: bool = true;

    /// Opens one.
    ///
    /// # Errors
    /// The kernel's: too many descriptors, or no memory.
    fn open() -> io::Result<Self>;

    /// As [`Poller::add`], for a source of which only the number is left; `interest` is not empty.
    ///
    /// Safe for the reason that `add` is: the worst that can come of a number gone stale is an event.
    ///
    /// # Errors
    /// As [`Poller::add`]. For a number that is not open the kernel's EBADF, or an `error` event of the next wait.
    fn add_number(&mut self, source: RawSource, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()>;
}

/// Makes a mechanism an `Inner`: its module's capabilities, and what opening and closing it calls.
macro_rules! inner {
    ($type:ty, $module:ident, opens $opening:expr, closes $closing:expr, counted $counted:expr) => {
        impl Inner for $type {
            const CAPABILITIES: Capabilities = crate::$module::CAPABILITIES;
            const OPENING: &'static [&'static str] = $opening;
            const CLOSING: u64 = $closing;
            const COUNTED: bool = $counted;

            fn open() -> io::Result<Self> {
                <$type>::open()
            }

            #[inline]
            fn add_number(
                &mut self,
                source: RawSource,
                token: Token,
                interest: Interest,
                trigger: Trigger,
            ) -> io::Result<()> {
                <$type>::add_number(self, source, token, interest, trigger)
            }
        }
    };
}

inner!(Poll, poll, opens &[], closes 0, counted true);
#[cfg(linux_like)]
inner!(crate::epoll::Epoll, epoll, opens &["epoll_create1"], closes 1, counted true);
// Over the model, it is not the calls of kqueue(2) that are made.
#[cfg(any(kqueue_like, all(linux_like, feature = "conformance")))]
inner!(crate::kqueue::Kqueue, kqueue, opens &["kqueue", "fcntl"], closes 1, counted cfg!(kqueue_like));
// Setting up a ring maps memory, and what that takes differs by kernel.
#[cfg(uring)]
inner!(crate::uring::Uring, uring, opens &["io_uring_setup"], closes 1, counted false);

/// What both can do, and can be relied on wherever the sources are.
pub(super) const fn intersection(one: &Capabilities, other: &Capabilities, calls: Calls) -> Capabilities {
    Capabilities {
        edge: one.edge && other.edge,
        oneshot: one.oneshot && other.oneshot,
        // Not the worse of the two: that it does not stay where a wait grows is what it is for.
        growth: if matches!(one.growth, Growth::Ready) { one.growth } else { other.growth },
        resolution: if one.resolution.as_nanos() > other.resolution.as_nanos() {
            one.resolution
        } else {
            other.resolution
        },
        numbers_below: match (one.numbers_below, other.numbers_below) {
            (Some(one), Some(other)) => Some(if one < other { one } else { other }),
            (Some(limit), None) | (None, Some(limit)) => Some(limit),
            (None, None) => None,
        },
        most_sources: match (one.most_sources, other.most_sources) {
            (Some(one), Some(other)) => Some(if one < other { one } else { other }),
            (Some(limit), None) | (None, Some(limit)) => Some(limit),
            (None, None) => None,
        },
        half_close: one.half_close && other.half_close,
        errors: one.errors && other.errors,
        priority: one.priority && other.priority,
        regular_files: one.regular_files, // (d)
        retries_interrupt: one.retries_interrupt && other.retries_interrupt,
        exclusive: false, // poll(2) has nothing of the kind, and it is one of the two.
        calls,
    }
}

/// Names of calls, of both mechanisms.
pub(super) struct Names {
    names: [&'static str; Names::MOST],
    count: usize,
}

impl Names {
    const MOST: usize = 8;

    /// All of `lists`, one after the other.
    pub(super) const fn of(lists: &[&[&'static str]]) -> Names {
        let mut all = Names { names: [""; Names::MOST], count: 0 };
        let mut list = 0;
        while list < lists.len() {
            let mut name = 0;
            while name < lists[list].len() {
                all.names[all.count] = lists[list][name];
                all.count += 1;
                name += 1;
            }
            list += 1;
        }
        all
    }

    pub(super) const fn all(&self) -> &[&'static str] {
        self.names.split_at(self.count).0
    }
}
