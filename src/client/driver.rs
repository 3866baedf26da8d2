//! A client of one server: what it is made of, and what it is asked.

mod batch;

use std::io;
use std::time::{Duration, Instant};

use pollmark_backends::{Events, OwnedSource, Poller, Registry};

use self::batch::{Answer, Batch};
use super::line::{Line, State};
use super::pool::Pool;
use super::{Endpoint, Error, Exchange, Kernel, Net, Stats, Timeouts};
use crate::clock::Clock;

/// The most events taken from one wait.
const EVENTS: usize = 64;

/// Asks one server, over connections that are kept and used again.
///
/// A request goes out on the connection that became free last, after a look whether the server has closed it meanwhile;
/// on a new one if none is free; and waits for one if there are as many as there may be. A connection carries one
/// request at a time. It is kept if the answer was in step, and closed after anything else.
///
/// A request that was begun on a kept connection, which turned out to be lost before a byte was sent, is begun again,
/// on a new one, once. No other is: the server may have done what it asks for, and only the caller knows whether twice
/// does harm ([`Error::is_unsent`]).
///
/// ```
/// use pollmark::client::{Client, Endpoint, Frames, Settings, Timeouts};
/// # use pollmark::{backends, mechanism::Mechanism, protocol::Frame, server::Config};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let registry = backends::Registry::builtin();
/// # let server = Mechanism::choose(&registry)?.bind(&registry, Config::listen("127.0.0.1:0".parse()?), Frame::default())?;
/// # let (control, address) = (server.control(), server.addresses()[0].tcp().expect("TCP"));
/// # let running = std::thread::spawn(move || server.run());
/// let endpoint = Endpoint::from(address); // or "localhost:7000".parse()?
/// let timeouts = Timeouts { read: Duration::from_secs(2), ..Timeouts::default() };
/// let settings = Settings { connections: 4, timeouts, ..Settings::default() };
/// let mut client = Client::open(endpoint, Frames::default())?.with_settings(settings);
///
/// let mut request = Vec::new();
/// Frames::write(b"hello", &mut request);
/// let answer = client.request(&request)?;
/// assert_eq!(Frames::body(answer), b"hello");
///
/// // Many at once: over four connections, each sent as soon as one is free.
/// let mut answered = 0;
/// client.request_all(&vec![request; 100], |_, answer| answered += u32::from(answer.is_ok()))?;
/// assert_eq!(answered, 100);
/// # control.stop();
/// # running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
pub struct Client<X: Exchange, P = Box<dyn Poller>, N = Kernel> {
    endpoint: Endpoint,
    exchange: X,
    settings: Settings,
    poller: P,
    net: N,
    clock: Clock,
    events: Events,
    pool: Pool,
    lines: Vec<Line<X>>,
    stats: Stats,
}

/// How a client is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The most connections at a time, at least one.
    pub connections: usize,
    /// How long everything may take.
    pub timeouts: Timeouts,
    /// Bytes that an unfinished answer may have, beside the limits of the [`Exchange`].
    pub most_answer: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { connections: 8, timeouts: Timeouts::default(), most_answer: 64 * 1024 * 1024 }
    }
}

impl<X: Exchange> Client<X> {
    /// A client of `endpoint` on the best poller here, or the one that `POLLMARK_BACKEND` names. It connects when it is
    /// first asked to.
    ///
    /// # Errors
    /// As of [`Registry::default_entry`] and of opening the poller.
    pub fn open(endpoint: Endpoint, exchange: X) -> io::Result<Client<X>> {
        let poller = Registry::builtin().default_entry()?.open()?;
        Ok(Client::over(poller, endpoint, exchange))
    }
}

impl<X: Exchange, P: Poller> Client<X, P> {
    /// A client on a poller of yours, which should have no other source: what one reports is passed over.
    pub fn over(poller: P, endpoint: Endpoint, exchange: X) -> Client<X, P> {
        let settings = Settings::default();
        Client {
            endpoint,
            exchange,
            settings,
            poller,
            net: Kernel,
            clock: Clock::default(),
            events: Events::with_capacity(EVENTS),
            pool: Pool::new(settings.connections),
            lines: Vec::new(),
            stats: Stats::default(),
        }
    }
}

impl<X: Exchange, P: Poller, N: Net> Client<X, P, N> {
    /// With these settings. Connections that are open are closed.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Client<X, P, N> {
        self.close_all(|state| !matches!(state, State::Vacant));
        let (pool, lines) = (Pool::new(settings.connections), Vec::new());
        Client { settings, pool, lines, ..self }
    }

    /// With sockets that are reached otherwise: simulated ones, or under faults. Connections that are open are closed.
    #[must_use]
    pub fn with_net<M: Net>(mut self, net: M) -> Client<X, P, M> {
        self.close_all(|state| !matches!(state, State::Vacant));
        let Client { endpoint, exchange, settings, poller, clock, events, stats, .. } = self;
        let (pool, lines) = (Pool::new(settings.connections), Vec::new());
        Client { endpoint, exchange, settings, poller, net, clock, events, pool, lines, stats }
    }

    /// With another clock; its poller should then sleep by the same.
    #[must_use]
    pub fn with_clock(self, clock: impl Into<Clock>) -> Client<X, P, N> {
        Client { clock: clock.into(), ..self }
    }

    /// Sends `request` and returns the answer, all of it as it came. It is valid until the next call.
    ///
    /// # Errors
    /// [`Error`]: which timeout it was, or what else, and how far the request had come.
    pub fn request(&mut self, request: &[u8]) -> Result<&[u8], Error> {
        let mut outcome = None;
        let mut report = |_, answered: Result<Answer<'_>, Error>| {
            outcome = Some(answered.map(|answer| (answer.slot, answer.bytes.len())));
        };
        self.run(Batch::new(1, &|_| request, &mut report)).map_err(Error::Wait)?;
        let (slot, bytes) = outcome.expect("a batch reports each request, or fails")?;
        Ok(self.lines[slot as usize].received(bytes))
    }

    /// Sends all of `requests`, on as many connections as there may be, and hands `each` its number and its answer, in
    /// the order they come.
    ///
    /// They are all asked now: `checkout` and `total` are counted from here, also for the last of a thousand that waits
    /// for a connection. Each succeeds or fails for itself.
    ///
    /// # Errors
    /// The poller's wait failed. Those not handed to `each` by then are without an answer, some of them sent.
    pub fn request_all<R: AsRef<[u8]>>(
        &mut self,
        requests: &[R],
        mut each: impl FnMut(usize, Result<&[u8], Error>),
    ) -> io::Result<()> {
        let mut report = |index, answered: Result<Answer<'_>, Error>| each(index, answered.map(|answer| answer.bytes));
        self.run(Batch::new(requests.len(), &|index| requests[index].as_ref(), &mut report))
    }

    /// Closes the connections that nobody has used for too long, or that the server has closed, as each request does of
    /// those it comes across. Returns how long until the next has been unused for too long.
    pub fn tend(&mut self) -> Option<Duration> {
        self.close_all(State::is_at_work);
        let now = self.clock.now();
        self.evict(now);
        for slot in self.pool.slots() {
            self.look_at_free(slot);
        }
        self.pool.next_overdue(now, self.settings.timeouts.idle)
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        Stats { ledger: self.poller.ledger(), open: self.pool.open(), in_use: self.pool.in_use(), ..self.stats }
    }

    /// Whom it asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Closes connections that have been free for too long.
    fn evict(&mut self, now: Instant) {
        while let Some(slot) = self.pool.overdue(now, self.settings.timeouts.idle) {
            self.close(slot);
            self.pool.release(slot);
            self.stats.evicted += 1;
        }
    }

    /// Closes a free connection that the server has closed, or has said something on. Says whether it was kept.
    fn look_at_free(&mut self, slot: u32) -> bool {
        let line = &mut self.lines[slot as usize];
        if !line.is_free() || line.is_quiet(&self.net) {
            return true;
        }
        self.close(slot);
        self.pool.release(slot);
        self.stats.stale += 1;
        false
    }

    /// Closes the connections in such a state.
    fn close_all(&mut self, wanted: impl Fn(&State) -> bool) {
        for slot in self.pool.slots() {
            if wanted(&self.lines[slot as usize].state) {
                self.close(slot);
                self.pool.release(slot);
            }
        }
    }

    /// Closes a connection, open or being made. Its slot is the caller's to free.
    fn close(&mut self, slot: u32) {
        match std::mem::replace(&mut self.lines[slot as usize].state, State::Vacant) {
            State::Vacant => {}
            State::Connecting(connecting, _) => connecting.abandon(&mut self.poller),
            State::Free(source) | State::Busy(source, _) => self.close_source(source),
        }
    }

    fn close_source(&mut self, source: OwnedSource) {
        if let Err(error) = self.poller.close(source) {
            tracing::debug!(%error, "was not registered when closed");
        }
    }
}
