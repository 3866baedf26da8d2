//! A poller under test, the sockets around it, and waiting for what is expected, with a deadline.

use std::fmt;
use std::io::{self, Read};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{Event, Interest, Token, Trigger};
use crate::events::Events;
use crate::poller::{Capabilities, Poller};
use crate::source::AsSource;

/// How long an expected event may take. Only a failing case ever waits that long.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing must happen for a source to count as silent.
const SILENCE: Duration = Duration::from_millis(15);

pub(super) struct Subject<'a, P> {
    #[cfg_attr(not(unix), allow(dead_code, reason = "only what runs on Unix is told apart by it"))]
    pub(super) name: &'a str,
    open: &'a dyn Fn() -> io::Result<P>,
    pub(super) poller: P,
    pub(super) capabilities: Capabilities,
    pub(super) events: Events,
}

/// A fact an event is expected to state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fact {
    Readable,
    Writable,
    ReadClosed,
    Error,
    Priority,
}

use Fact::*;

impl Fact {
    fn holds(self, event: &Event) -> bool {
        match self {
            Readable => event.readable(),
            Writable => event.writable(),
            ReadClosed => event.read_closed(),
            Error => event.error(),
            Priority => event.priority(),
        }
    }
}

impl<'a, P: Poller> Subject<'a, P> {
    pub(super) fn open(name: &'a str, open: &'a dyn Fn() -> io::Result<P>) -> Self {
        let poller = open().expect("the poller can be opened");
        let capabilities = poller.capabilities();
        Subject { name, open, poller, capabilities, events: Events::with_capacity(256) }
    }

    /// One more, with a poller of its own.
    pub(super) fn twin(&self) -> Subject<'a, P> {
        Subject::open(self.name, self.open)
    }

    /// One more poller of the kind.
    pub(super) fn another(&self) -> P {
        (self.open)().expect("a second poller can be opened")
    }

    /// Adds a source level-triggered.
    #[track_caller]
    pub(super) fn add(&mut self, source: &impl AsSource, token: Token, interest: Interest) {
        self.add_as(source, token, interest, Trigger::Level);
    }

    #[track_caller]
    pub(super) fn add_as(&mut self, source: &impl AsSource, token: Token, interest: Interest, trigger: Trigger) {
        if let Err(error) = self.poller.add(source.as_source(), token, interest, trigger) {
            panic!("cannot add {token:?} for {interest:?}, {trigger}: {error}");
        }
    }

    #[track_caller]
    pub(super) fn modify(&mut self, source: &impl AsSource, token: Token, interest: Interest, trigger: Trigger) {
        if let Err(error) = self.poller.modify(source.as_source(), token, interest, trigger) {
            panic!("cannot modify to {token:?} for {interest:?}, {trigger}: {error}");
        }
    }

    #[track_caller]
    pub(super) fn remove(&mut self, source: &impl AsSource) {
        if let Err(error) = self.poller.remove(source.as_source()) {
            panic!("cannot remove: {error}");
        }
    }

    /// One wait. A stray signal counts as an empty one.
    #[track_caller]
    pub(super) fn wait(&mut self, timeout: Duration) -> Vec<Event> {
        match self.poller.wait(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("cannot wait: {error}"),
        }
        self.events.iter().collect()
    }

    /// Waits until every wanted fact has been stated, and returns all events that came meanwhile.
    ///
    /// Panics if the deadline passes, and says what is missing; and if a source is reported that was not expected.
    #[track_caller]
    pub(super) fn expect(&mut self, wanted: &[(Token, Fact)]) -> Vec<Event> {
        let mut missing = wanted.to_vec();
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !missing.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "missing after {PATIENCE:?}: {missing:?}; seen: {}", Briefly(&seen));
            for event in self.wait(left) {
                assert!(
                    wanted.iter().any(|(token, _)| *token == event.token()),
                    "{event:?} is of a source from which nothing is expected; expected: {wanted:?}"
                );
                missing.retain(|(token, fact)| *token != event.token() || !fact.holds(&event));
                seen.push(event);
            }
        }
        seen
    }

    /// Panics if anything at all is reported for a while.
    #[track_caller]
    pub(super) fn expect_silence(&mut self) {
        let start = Instant::now();
        loop {
            let left = SILENCE.saturating_sub(start.elapsed());
            let events = self.wait(left);
            assert!(events.is_empty(), "expected silence, but found {}", Briefly(&events));
            if left.is_zero() {
                return;
            }
        }
    }

    /// Reads as a careful program does after `event`: to a short read where that is conclusive, else to the end.
    pub(super) fn drain(&self, event: &Event, trigger: Trigger, stream: &TcpStream, buffer: usize) -> Drained {
        let short_read_ends =
            trigger != Trigger::Edge || self.capabilities.short_read_means_drained() && !event.more_than_bytes();
        let mut drained = Drained::default();
        let mut buffer = vec![0; buffer];
        loop {
            match (&mut &*stream).read(&mut buffer) {
                Ok(0) => {
                    drained.ended = true;
                    return drained;
                }
                Ok(length) => {
                    drained.bytes.extend_from_slice(&buffer[..length]);
                    if short_read_ends && length < buffer.len() {
                        return drained;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return drained,
                Err(error) => panic!("cannot read: {error}"),
            }
        }
    }
}

/// What [`Subject::drain`] found.
#[derive(Default, Debug)]
pub(super) struct Drained {
    pub(super) bytes: Vec<u8>,
    pub(super) ended: bool,
}

/// Two ends of a loopback connection, both non-blocking and without delay.
pub(super) fn pair() -> (TcpStream, TcpStream) {
    crate::loopback::pair().expect("loopback can be bound and connected to")
}

/// Writes until there is no more room. Returns how much that was.
pub(super) fn fill(stream: &TcpStream) -> usize {
    use std::io::Write;
    let chunk = [7; 64 << 10];
    let mut written = 0;
    let mut full = 0;
    // The kernel moves bytes to the other end while we write, and grows buffers: full is full only if it stays so.
    while full < 3 {
        match (&mut &*stream).write(&chunk) {
            Ok(length) => (written, full) = (written + length, 0),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                full += 1;
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("cannot write: {error}"),
        }
    }
    written
}

/// Reads exactly `count` bytes and throws them away.
pub(super) fn swallow(stream: &TcpStream, mut count: usize) {
    let mut buffer = vec![0; 64 << 10];
    let deadline = Instant::now() + PATIENCE;
    while count > 0 {
        assert!(Instant::now() < deadline, "{count} bytes never arrived");
        let wanted = count.min(buffer.len());
        match (&mut &*stream).read(&mut buffer[..wanted]) {
            Ok(0) => panic!("the stream ended {count} bytes early"),
            Ok(length) => count -= length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("cannot read: {error}"),
        }
    }
}

/// Does `here` while another thread does `there`. Joined by hand: a scope would wait by itself, but inside std, where
/// ThreadSanitizer does not see it.
pub(super) fn meanwhile<R>(there: impl FnOnce() + Send, here: impl FnOnce() -> R) -> R {
    thread::scope(|scope| {
        let there = scope.spawn(there);
        let result = here();
        there.join().expect("the other thread does not panic");
        result
    })
}

/// Events, without flooding the report.
pub(super) struct Briefly<'a>(pub(super) &'a [Event]);

impl fmt::Display for Briefly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(4)];
        write!(f, "{shown:?}")?;
        if shown.len() < self.0.len() { write!(f, " and {} more", self.0.len() - shown.len()) } else { Ok(()) }
    }
}
