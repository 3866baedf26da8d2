//! epoll(7) waited for by an operation of io_uring(7): the list stays in the kernel, the wait goes through the ring.
//!
//! IORING_OP_EPOLL_WAIT, since Linux 6.15 ("io_uring/epoll: add support for IORING_OP_EPOLL_WAIT"; io_uring_enter(2)).
//! Meant for a program whose loop is a ring already, and which has an epoll instance left that it cannot do without:
//! one sleep for both, instead of one polling the other. Alone, as here, it has little to win but a finer timeout: a
//! wait is one call as before, and an operation is set up, polled and completed in it. It loses by what that costs, and
//! by a second call whenever a timeout passes.
//!
//! What is odd about it, beyond what is odd about epoll:
//! (a) The kernel writes the events at any time until the operation's completion was read. So nothing is left under way
//!     when a wait returns: what found nothing is cancelled, and the room for events is the poller's own until it is
//!     certain.
//! (b) Looking without waiting is the operation and its cancellation in one call: the first looks before it would wait.
//! (c) As with polls, a call that has submitted anything says nothing of what ended it. The clock tells a timeout from
//!     a signal, and is read only where there is a timeout.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::ring::{EPOLL_WAITS, Full, Ring, SUBMISSIONS};
use crate::epoll::Epoll;
use crate::event::{Interest, Token, Trigger};
use crate::events::{Events, KernelRecord};
use crate::poller::{Calls, Capabilities, Ledger, Poller};
use crate::source::{OwnedSource, Source};

/// The epoll(7) poller of Linux, waiting through an io_uring(7).
pub struct EpollRing {
    list: Epoll,
    ring: Ring,
    /// (a) The caller's room for events, while it is lent to the kernel. Else empty.
    records: Vec<KernelRecord>,
    under_way: bool,
    ledger: Ledger,
}

impl EpollRing {
    /// Opens an epoll instance, and sets up a ring for this thread.
    ///
    /// # Errors
    /// Those of [`Epoll::open`] and [`Uring::open`](super::Uring::open); `Unsupported` names what the kernel lacks.
    pub fn open() -> io::Result<EpollRing> {
        let (list, ring) = (Epoll::open()?, Ring::with_room_for(SUBMISSIONS, EPOLL_WAITS)?);
        Ok(EpollRing { list, ring, records: Vec::new(), under_way: false, ledger: Ledger::default() })
    }

    /// Waits, into `records`, until there are events, or `timeout` has passed, or a signal came.
    fn fill(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let looks = timeout == Some(Duration::ZERO);
        let until = timeout.filter(|_| !looks).and_then(|timeout| Instant::now().checked_add(timeout));
        self.begin();
        if looks {
            return self.call_off(); // (b)
        }
        let mut left = timeout;
        let waited = loop {
            let waited = self.enter(left);
            let read = self.collect()?;
            if !self.under_way {
                return Ok(());
            }
            left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match waited {
                Err(error) if error.raw_os_error() != Some(libc::ETIME) => break Err(error),
                _ if left == Some(Duration::ZERO) => break Ok(()),
                _ if read == 0 => break Err(io::Error::from_raw_os_error(libc::EINTR)), // (c)
                _ => {}
            }
        };
        // It may find something even now.
        self.call_off()?;
        if self.records.is_empty() { waited } else { Ok(()) }
    }

    /// Queues the operation, for a next call to begin.
    fn begin(&mut self) {
        let (records, room) = (self.records.as_mut_ptr(), self.records.capacity().min(i32::MAX as usize) as u32);
        // SAFETY: `records` has so much capacity, and belongs to nobody else. It is not touched before `under_way` is
        // false again, which only its completion makes it; and if that cannot be had, `drop` leaks it.
        let queued = unsafe { self.ring.epoll_wait(self.list.queue(), records, room, WAIT) };
        queued.unwrap_or_else(|Full| unreachable!("every wait is seen to its end, so there is room for one more"));
        self.under_way = true;
    }

    /// (a) Cancels the operation, and returns when it is over.
    fn call_off(&mut self) -> io::Result<()> {
        while self.under_way {
            // Full of what an earlier call did not take, it has a cancellation already.
            let _ = self.ring.cancel(WAIT, CANCELLED);
            match self.enter(None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => self.collect()?,
            };
        }
        Ok(())
    }

    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ledger.wait_calls += 1;
        self.ring.enter(1, timeout).map(drop)
    }

    /// Reads all completions, and says how many those were.
    fn collect(&mut self) -> io::Result<usize> {
        let (mut read, mut outcome) = (0, Ok(()));
        while let Some(completion) = self.ring.completion() {
            read += 1;
            if completion.user_data != WAIT {
                continue;
            }
            self.under_way = false;
            match completion.result {
                // SAFETY: the kernel has initialised so many records, from the first on, and not more than there is
                // room for.
                found @ 0.. => unsafe { self.records.set_len(found as usize) },
                errno if errno == -libc::ECANCELED => {}
                errno => outcome = Err(io::Error::from_raw_os_error(-errno)),
            }
        }
        outcome.map(|()| read)
    }
}

impl Poller for EpollRing {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // The ring watches the list. EPOLLEXCLUSIVE counts only those who sleep in epoll_wait(2), and wakes on.
            exclusive: false,
            resolution: Duration::from_nanos(1),
            calls: Calls { wait: &["io_uring_enter"], ..self.list.capabilities().calls },
            ..self.list.capabilities()
        }
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.list.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.list.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.list.remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.list.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let room = events.capacity();
        let records = events.kernel_records();
        self.ledger.waits += 1;
        // Whatever an earlier wait could not see to its end. It may have found something since.
        self.call_off()?;
        let waited = if self.records.is_empty() {
            self.records = mem::take(records);
            let waited = self.fill(timeout);
            if !self.under_way {
                *records = mem::take(&mut self.records);
            }
            waited
        } else {
            records.extend(self.records.drain(..room.min(self.records.len())));
            Ok(())
        };
        self.ledger.events += records.len() as u64;
        self.ledger.empty += u64::from(records.is_empty());
        waited
    }

    fn ledger(&self) -> Ledger {
        self.list.ledger() + self.ledger
    }
}

impl Drop for EpollRing {
    fn drop(&mut self) {
        if self.call_off().is_err() {
            mem::forget(mem::take(&mut self.records)); // (a) A leak, for the kernel may still write there.
        }
    }
}

/// How the ring knows the operation, and its cancellation when that came too late.
const WAIT: u64 = 1;
const CANCELLED: u64 = 2;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::source::AsSource;

    /// A poller and three sources that are ready, edge-triggered, or why there is none here. In CI there may be: the
    /// operation is younger than the ring.
    fn ready() -> Option<(EpollRing, [UdpSocket; 3])> {
        let mut poller = EpollRing::open().inspect_err(|why| println!("SKIPPED, NOT CHECKED: {why}")).ok()?;
        let sockets = [(); 3].map(|()| UdpSocket::bind(("127.0.0.1", 0)).expect("loopback can be bound"));
        for (slot, socket) in (0..).zip(&sockets) {
            let added = poller.add(socket.as_source(), Token(slot), Interest::WRITABLE, Trigger::Edge);
            added.expect("it is new");
        }
        Some((poller, sockets))
    }

    fn tokens(events: &Events) -> Vec<Token> {
        events.iter().map(|event| event.token()).collect()
    }

    #[test]
    fn a_wait_is_one_call_and_a_second_only_when_a_timeout_passes() {
        let Some((mut poller, sockets)) = ready() else { return };
        let mut events = Events::with_capacity(8);
        let mut calls_of = |timeout| {
            let before = poller.ledger();
            poller.wait(&mut events, timeout).expect("nothing interrupts");
            (events.len(), (poller.ledger() - before).wait_calls)
        };
        assert_eq!(calls_of(Some(Duration::from_secs(10))), (3, 1));
        assert_eq!(calls_of(Some(Duration::ZERO)), (0, 1));
        assert_eq!(calls_of(Some(Duration::from_micros(50))), (0, 2));
        drop(sockets);
    }

    #[test]
    fn what_a_failed_wait_left_under_way_is_told_by_the_next_and_nothing_twice() {
        let Some((mut poller, sockets)) = ready() else { return };
        // As a call leaves it that was not taken for want of memory.
        poller.records.reserve_exact(8);
        poller.begin();
        let mut told = Vec::new();
        let mut events = Events::with_capacity(2);
        for expected in [2, 1, 0] {
            poller.wait(&mut events, Some(Duration::ZERO)).expect("nothing interrupts");
            assert_eq!(events.len(), expected);
            told.extend(tokens(&events));
        }
        told.sort_unstable();
        assert_eq!(told, [0, 1, 2].map(Token));
        drop(sockets);
    }

    #[test]
    fn a_poller_dropped_with_a_wait_under_way_ends_it() {
        let Some((mut poller, sockets)) = ready() else { return };
        poller.wait(&mut Events::with_capacity(8), Some(Duration::ZERO)).expect("nothing interrupts");
        poller.records.reserve_exact(8);
        poller.begin();
        poller.ring.enter(0, None).expect("it is taken, and finds nothing");
        assert_eq!(poller.collect().expect("as above"), 0);
        poller.call_off().expect("it can be cancelled");
        assert!(!poller.under_way && poller.records.is_empty());
        poller.begin();
        drop((poller, sockets));
    }
}
