//! The readiness loop: wait, then read, answer and write whatever is ready. It never names a mechanism.

use std::io;
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Event, Events, Interest, OwnedSource, Poller, Source, Token, Trigger};

use super::accept::Acceptor;
use super::control::{Inbox, Message};
use super::slots::{Occupant, Slot, Slots};
use super::wheel::Wheel;
use super::{Address, Config, Control, Kernel, Net, Observer, Server, Stats};
use crate::conn::Connection;
use crate::protocol::{Host, Peer, Protocol};

/// One loop on one thread over any [`Poller`].
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, ReadinessServer, Server};
/// use pollmark_backends::{Trigger, select::Select};
///
/// # fn main() -> std::io::Result<()> {
/// let config = Config::listen("127.0.0.1:0".parse()?);
/// let server = ReadinessServer::bind(config, Echo, Trigger::Level, Select::open)?;
/// let control = server.control();
/// let running = std::thread::spawn(move || Box::new(server).run());
/// control.stop();
/// running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
pub struct ReadinessServer<F, Q, N = Kernel, O = ()> {
    open: F,
    trigger: Trigger,
    config: Config,
    protocol: Q,
    net: N,
    observer: O,
    listeners: Vec<OwnedSource>,
    addresses: Vec<Address>,
    inbox: Inbox,
}

impl<F, P, Q> ReadinessServer<F, Q>
where
    F: FnOnce() -> io::Result<P> + Send,
    P: Poller,
    Q: Protocol,
{
    /// Binds the listeners. `open` will make the poller, on the thread that runs the server; connections are watched
    /// with `trigger`, which that poller must support. Listeners and waker are level-triggered in any case.
    ///
    /// # Errors
    /// What binding gives, with the address and what to do about it.
    pub fn bind(config: Config, protocol: Q, trigger: Trigger, open: F) -> io::Result<ReadinessServer<F, Q>> {
        let (listeners, addresses) = config.bind(true)?;
        let inbox = Inbox::new()?;
        let (net, observer) = (Kernel, ());
        Ok(ReadinessServer { open, trigger, config, protocol, net, observer, listeners, addresses, inbox })
    }
}

impl<F, Q, N, O> ReadinessServer<F, Q, N, O> {
    /// Reaches its sockets through `net` instead of the system: for faults and for simulation.
    pub fn with_net<M: Net>(self, net: M) -> ReadinessServer<F, Q, M, O> {
        let ReadinessServer { open, trigger, config, protocol, observer, listeners, addresses, inbox, .. } = self;
        ReadinessServer { open, trigger, config, protocol, net, observer, listeners, addresses, inbox }
    }

    /// Tells `observer` everything it does.
    pub fn with_observer<W: Observer>(self, observer: W) -> ReadinessServer<F, Q, N, W> {
        let ReadinessServer { open, trigger, config, protocol, net, listeners, addresses, inbox, .. } = self;
        ReadinessServer { open, trigger, config, protocol, net, observer, listeners, addresses, inbox }
    }
}

impl<F, P, Q, N, O> Server for ReadinessServer<F, Q, N, O>
where
    F: FnOnce() -> io::Result<P> + Send,
    P: Poller,
    Q: Protocol,
    N: Net,
    O: Observer,
{
    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn control(&self) -> Control {
        self.inbox.control()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        let server = *self;
        let _span = tracing::debug_span!("serve", addresses = ?server.addresses, trigger = %server.trigger).entered();
        let mut turns = Loop {
            poller: (server.open)()?,
            trigger: server.trigger,
            net: server.net,
            observer: server.observer,
            host: Host::new(server.protocol),
            slots: Slots::new(),
            buffer: vec![0; server.config.read_buffer.max(1)].into_boxed_slice(),
            again: Vec::new(),
            wheel: Wheel::new(Instant::now()),
            acceptor: Acceptor::new(),
            stats: Stats::default(),
            inbox: server.inbox,
            config: server.config,
            stopping: false,
            reads_to_the_end: false,
            looks_twice: false,
        };
        let capabilities = turns.poller.capabilities();
        if !capabilities.supports(turns.trigger) {
            let why = format!("this mechanism has no {} trigger", turns.trigger);
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        turns.reads_to_the_end = turns.trigger == Trigger::Edge && !capabilities.short_read_means_drained();
        turns.looks_twice = turns.reads_to_the_end || turns.trigger == Trigger::Oneshot;
        turns.begin(server.listeners)?;
        turns.run()?;
        Ok(turns.end())
    }
}

/// A running loop.
pub(super) struct Loop<P, Q: Protocol, N, O> {
    pub(super) poller: P,
    pub(super) trigger: Trigger,
    pub(super) net: N,
    pub(super) observer: O,
    pub(super) host: Host<Q>,
    pub(super) slots: Slots<Q>,
    buffer: Box<[u8]>,
    /// Connections the kernel will not name again although they may have more to read.
    again: Vec<Token>,
    wheel: Wheel,
    pub(super) acceptor: Acceptor,
    pub(super) stats: Stats,
    inbox: Inbox,
    pub(super) config: Config,
    stopping: bool,
    /// An edge may hide the end of the stream, or an urgent mark, behind bytes, and this mechanism does not say so.
    reads_to_the_end: bool,
    /// After the straight line there is always more to do: rearm, or read to the end.
    looks_twice: bool,
}

impl<P: Poller, Q: Protocol, N: Net, O: Observer> Loop<P, Q, N, O> {
    fn begin(&mut self, listeners: Vec<OwnedSource>) -> io::Result<()> {
        let token = self.slots.insert(None, Interest::READABLE, Occupant::Waker);
        self.poller.add(self.inbox.source().as_source(), token, Interest::READABLE, Trigger::Level)?;
        for listener in listeners {
            let token = self.slots.next_token();
            self.poller.add(listener.as_source(), token, Interest::READABLE, Trigger::Level)?;
            self.slots.insert(Some(listener), Interest::READABLE, Occupant::Listener);
            self.acceptor.listeners.push(token);
        }
        Ok(())
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(self.config.events);
        while !self.stopping {
            // Nothing but sockets to wait for is the common case, and costs no look at the clock.
            let timeout = if self.has_upkeep() { self.upkeep() } else { None };
            match self.poller.wait(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.host.turn.forget_time();
            self.observer.waited(events.len());
            for event in &events {
                self.dispatch(event);
            }
        }
        Ok(())
    }

    #[inline]
    fn has_upkeep(&self) -> bool {
        !self.again.is_empty() || !self.host.turn.mail.is_empty() || !self.wheel.is_empty() || self.acceptor.is_paused()
    }

    /// What no event asks for: turns cut short, mail, deadlines. Returns how long the next wait may sleep.
    #[cold]
    fn upkeep(&mut self) -> Option<Duration> {
        for token in std::mem::take(&mut self.again) {
            self.serve(token, Ready { readable: true, writable: true, to_the_end: true, announced: false });
        }
        for (token, bytes) in std::mem::take(&mut self.host.turn.mail) {
            if let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.slots.get(token) {
                connection.owe(&bytes);
                self.serve(token, Ready { writable: true, ..Ready::default() });
            }
        }
        if !self.wheel.is_empty() || self.acceptor.is_paused() {
            self.look_at_the_clock();
        }
        if !self.again.is_empty() || !self.host.turn.mail.is_empty() {
            return Some(Duration::ZERO);
        }
        self.host.turn.forget_time();
        let now = self.host.turn.now();
        let sleeps = [self.wheel.sleep(now), self.acceptor.sleep(now)];
        sleeps.into_iter().flatten().min()
    }

    fn end(mut self) -> Stats {
        for token in self.slots.tokens() {
            self.close(token);
        }
        self.snapshot()
    }

    /// Acts on one event. The common case stands here, in a straight line: a connection that owes nothing has bytes,
    /// they are answered, and the kernel takes the answer whole. All else goes its way through [`serve`](Loop::serve).
    #[inline(always)]
    fn dispatch(&mut self, event: Event) {
        let token = event.token();
        // None: the source was closed earlier in this batch.
        let Some(slot) = self.slots.get(token) else { return };
        let Slot { source: Some(source), occupant: Occupant::Connection(connection), .. } = slot else {
            return self.dispatch_other(event);
        };
        if !(event.readable() && connection.is_quiet()) {
            return self.dispatch_other(event);
        }
        let source = source.as_source();
        let buffer = &mut self.buffer[..];
        self.stats.read_calls += 1;
        let bytes = match self.net.recv(source, buffer) {
            Ok(bytes) if bytes > 0 => bytes,
            ended => return self.nothing_read(token, ended),
        };
        self.stats.bytes_in += bytes as u64;
        self.observer.read(token, bytes);
        let input = &buffer[..bytes];
        // A short read has emptied the socket, unless the event told of more than bytes.
        let emptied = || input.len() < buffer.len() && !event.more_than_bytes();
        if !connection.receive_quietly(&mut self.host, token, input) {
            let (bytes, emptied) = (input.len(), emptied());
            return self.go_on_after_a_read(token, bytes, emptied);
        }
        let answer = self.host.turn.answer(input);
        let mut whole = true;
        if !answer.is_empty() {
            self.stats.write_calls += 1;
            let offered = answer.len();
            // If it fails, the next attempt will say why.
            let taken = self.net.send(source, answer).unwrap_or(0);
            self.stats.bytes_out += taken as u64;
            self.observer.wrote(token, taken, offered);
            whole = taken == offered;
            self.host.turn.answered(input, taken, whole);
        }
        if !whole || !emptied() || self.looks_twice {
            let (bytes, emptied) = (input.len(), emptied());
            self.go_on_after_a_read(token, bytes, emptied);
        }
    }

    #[cold]
    fn dispatch_other(&mut self, event: Event) {
        let token = event.token();
        match self.slots.get(token).map(|slot| &slot.occupant) {
            Some(Occupant::Connection(_)) => self.serve(token, Ready::told(event)),
            Some(Occupant::Listener) => self.accept(token),
            Some(Occupant::Waker) => self.read_inbox(),
            Some(Occupant::Vacant { .. }) | None => {}
        }
    }

    /// The first read of a turn gave no bytes.
    #[cold]
    fn nothing_read(&mut self, token: Token, read: io::Result<usize>) {
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.slots.get(token) else { return };
        match read {
            Ok(_) => {
                self.observer.read(token, 0);
                connection.eof(&mut self.host, token);
                connection.settle(&mut self.host);
                self.serve(token, Ready { writable: true, ..Ready::default() });
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.stats.spurious += 1;
                    self.serve(token, Ready::default());
                }
                io::ErrorKind::Interrupted => self.again.push(token),
                _ => {
                    lost(token, "recv", &error);
                    self.close(token);
                }
            },
        }
    }

    /// Finishes what the straight line began and could not end.
    #[cold]
    fn go_on_after_a_read(&mut self, token: Token, bytes: usize, emptied: bool) {
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.slots.get(token) else { return };
        self.host.turn.gather(&self.buffer[..bytes]);
        connection.settle(&mut self.host);
        let readable = !emptied || self.reads_to_the_end;
        self.serve(token, Ready { readable, writable: true, to_the_end: true, announced: false });
    }

    /// Serves one connection: writes what is owed, reads what is there, answers, and arms what is wanted next.
    #[inline(never)]
    fn serve(&mut self, token: Token, ready: Ready) {
        let Some(Slot { source: Some(source), interest, occupant: Occupant::Connection(connection), .. }) =
            self.slots.get(token)
        else {
            return;
        };
        let source = source.as_source();
        let mut wire = Wire { net: &self.net, observer: &mut self.observer, stats: &mut self.stats, source, token };

        let mut alive = true;
        if ready.writable && connection.owed() > 0 {
            alive = wire.flush(connection, &mut self.host);
        }
        if alive && ready.readable && interest.contains(Interest::READABLE) && connection.reads() {
            let full = self.config.read_budget.max(1);
            let mut budget = full;
            loop {
                let Some(read) = wire.receive(&mut self.buffer) else {
                    alive = false;
                    break;
                };
                let Some(bytes) = read else {
                    // Found nothing, at the first try: the event was a false alarm.
                    wire.stats.spurious += u64::from(ready.announced && budget == full);
                    break;
                };
                if bytes == 0 {
                    connection.eof(&mut self.host, token);
                } else {
                    connection.receive(&mut self.host, token, &self.buffer[..bytes]);
                }
                alive = wire.flush(connection, &mut self.host);
                if !alive || !connection.reads() || connection.owed() > self.config.high_water {
                    break;
                }
                // A short read has emptied the socket, unless the event told of more than bytes.
                if bytes < self.buffer.len() && !ready.to_the_end && !self.reads_to_the_end {
                    break;
                }
                budget -= 1;
                if budget == 0 {
                    if self.trigger == Trigger::Edge {
                        self.again.push(token);
                    }
                    break;
                }
            }
        }

        if !alive || connection.finished() || connection.kept() > self.config.max_message {
            return self.close(token);
        }
        let changed = self.trigger == Trigger::Oneshot || *interest != wanted(connection, *interest, &self.config);
        if let Some(deadline) = self.host.take_deadline() {
            if deadline.is_some() && self.wheel.is_empty() {
                self.wheel.wind(self.host.turn.now());
            }
            self.wheel.set(&mut self.slots, token.slot(), deadline);
        }
        if changed {
            self.rearm(token);
        }
    }

    /// Brings the poller's interest into line with the connection's.
    fn rearm(&mut self, token: Token) {
        let Some(Slot { source: Some(source), interest, occupant: Occupant::Connection(connection), .. }) =
            self.slots.get(token)
        else {
            return;
        };
        let wanted = wanted(connection, *interest, &self.config);
        let before = std::mem::replace(interest, wanted);
        let told = match self.trigger {
            Trigger::Level if before == wanted => Ok(()),
            Trigger::Level | Trigger::Oneshot => self.poller.modify(source.as_source(), token, wanted, self.trigger),
            Trigger::Edge => {
                // Registered for both from the start. An edge that came while we did not read is not repeated.
                if wanted.contains(Interest::READABLE) && !before.contains(Interest::READABLE) {
                    self.again.push(token);
                }
                Ok(())
            }
        };
        if let Err(error) = told {
            tracing::debug!(connection = ?token, %error, "cannot change the registration; closing");
            self.close(token);
        }
    }

    /// Takes a connected socket on.
    pub(super) fn open(&mut self, source: OwnedSource, peer: &Peer) {
        let token = self.slots.next_token();
        let interest = match self.trigger {
            Trigger::Edge => Interest::READABLE | Interest::WRITABLE,
            Trigger::Level | Trigger::Oneshot => Interest::READABLE,
        };
        if let Err(error) = self.poller.add(source.as_source(), token, interest, self.trigger) {
            tracing::debug!(%peer, %error, "refused: cannot be watched");
            self.stats.refused += 1;
            return;
        }
        self.stats.accepted += 1;
        self.observer.accepted(token, peer);
        tracing::debug!(connection = ?token, %peer, "accepted");
        let mut connection = Connection::open(&mut self.host, token, peer);
        connection.settle(&mut self.host);
        let speaks_first = connection.owed() > 0 || connection.finished() || self.host.turn.deadline.is_some();
        self.slots.insert(Some(source), Interest::READABLE, Occupant::Connection(connection));
        if speaks_first {
            self.serve(token, Ready { writable: true, ..Ready::default() });
        }
    }

    /// Ends a connection.
    #[cold]
    pub(super) fn close(&mut self, token: Token) {
        self.wheel.set(&mut self.slots, token.slot(), None);
        self.host.take_deadline();
        let Some((Some(source), Occupant::Connection(connection))) = self.slots.remove(token) else { return };
        if connection.aborted() {
            // A reset tells the peer that this is no orderly end.
            self.stats.other_calls += 1;
            let _ = socket2::SockRef::from(&source).set_linger(Some(Duration::ZERO));
        }
        if let Err(error) = self.poller.close(source) {
            tracing::debug!(connection = ?token, %error, "was not registered when closed");
        }
        self.stats.closed += 1;
        self.observer.closed(token);
        tracing::debug!(connection = ?token, "closed");
        self.resume_accepting();
    }

    #[cold]
    fn look_at_the_clock(&mut self) {
        let now = self.host.turn.now();
        if self.acceptor.pause_is_over(now) {
            self.resume_accepting();
        }
        let mut due = Vec::new();
        self.wheel.expired(&mut self.slots, now, &mut due);
        for slot in due {
            let token = self.slots.token(slot);
            if let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.slots.get(token) {
                connection.due(&mut self.host, token);
                connection.settle(&mut self.host);
                self.serve(token, Ready { writable: true, ..Ready::default() });
            }
        }
    }

    #[cold]
    fn read_inbox(&mut self) {
        self.stats.other_calls += 1;
        for message in self.inbox.take() {
            match message {
                Message::Stop => self.stopping = true,
                Message::Stats(answer) => {
                    let _ = answer.send(self.snapshot());
                }
                Message::Adopt(source) => match socket2::SockRef::from(&source).set_nonblocking(true) {
                    Ok(()) => self.admit(source, &Peer::default(), false),
                    Err(error) => tracing::debug!(%error, "cannot adopt a socket"),
                },
            }
        }
    }

    fn snapshot(&self) -> Stats {
        Stats { ledger: self.poller.ledger(), open: self.slots.connections() as u64, ..self.stats }
    }
}

/// What is known of a connection's socket when it is served.
#[derive(Clone, Copy, Default)]
struct Ready {
    readable: bool,
    writable: bool,
    /// A short read proves nothing: read on to the end.
    to_the_end: bool,
    /// An event said so.
    announced: bool,
}

impl Ready {
    #[inline]
    fn told(event: Event) -> Ready {
        Ready {
            readable: event.readable(),
            writable: event.writable(),
            to_the_end: event.more_than_bytes(),
            announced: true,
        }
    }
}

/// What the connection wants to be told of next. A reader is paused at the high-water mark and resumed at the low.
#[inline]
fn wanted<Q: Protocol>(connection: &Connection<Q>, now: Interest, config: &Config) -> Interest {
    let owed = connection.owed();
    if owed == 0 && connection.reads() {
        return Interest::READABLE;
    }
    let mark = if now.contains(Interest::READABLE) { config.high_water } else { config.low_water };
    let mut wanted = Interest::EMPTY;
    if connection.reads() && owed <= mark {
        wanted |= Interest::READABLE;
    }
    if owed > 0 {
        wanted |= Interest::WRITABLE;
    }
    wanted
}

/// One connection's socket, and who keeps the books.
struct Wire<'a, N, O> {
    net: &'a N,
    observer: &'a mut O,
    stats: &'a mut Stats,
    source: Source<'a>,
    token: Token,
}

impl<N: Net, O: Observer> Wire<'_, N, O> {
    /// Receives: `Some(Some(0))` at the end, `Some(None)` when there is nothing yet, `None` when the peer is lost.
    #[inline]
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Option<usize>> {
        loop {
            self.stats.read_calls += 1;
            match self.net.recv(self.source, buffer) {
                Ok(bytes) => {
                    self.stats.bytes_in += bytes as u64;
                    self.observer.read(self.token, bytes);
                    return Some(Some(bytes));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Some(None),
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        lost(self.token, "recv", &error);
                        return None;
                    }
                },
            }
        }
    }

    /// Sends until nothing is owed or the kernel takes no more. Says whether the connection lives.
    #[inline]
    fn flush<Q: Protocol>(&mut self, connection: &mut Connection<Q>, host: &mut Host<Q>) -> bool {
        let alive = loop {
            let owed = connection.outgoing(host);
            if owed.is_empty() {
                break true;
            }
            let offered = owed.len();
            self.stats.write_calls += 1;
            match self.net.send(self.source, owed) {
                Ok(taken) => {
                    self.stats.bytes_out += taken as u64;
                    self.observer.wrote(self.token, taken, offered);
                    connection.sent(host, taken);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break true,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        lost(self.token, "send", &error);
                        break false;
                    }
                },
            }
        };
        connection.settle(host);
        alive
    }
}

#[cold]
fn lost(connection: Token, call: &str, error: &io::Error) {
    tracing::debug!(?connection, %error, "lost in {call}");
}
