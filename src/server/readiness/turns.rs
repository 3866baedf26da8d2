//! The turns of a readiness loop: wait, then read, answer and write whatever is ready. It never names a mechanism.

mod accept;

use std::io;
use std::sync::Arc;

use pollmark_backends::{AsSource, Event, Events, Interest, OwnedSource, Poller, Token, Trigger};

use super::super::accept::Acceptor;
use super::super::control::Control;
use super::super::datagrams::DatagramSockets;
use super::super::listener::Listener;
use super::super::slots::{Occupant, Slot};
use super::super::upkeep::{Common, Upkeep};
use super::super::wire::{Wire, lost};
use super::super::{Abilities, Net, Observer, Stats};
use super::ReadinessServer;
use crate::conn::Connection;
use crate::protocol::{Host, Peer, Protocol};

/// Serves until it is told to end.
pub(super) fn serve<F, P, Q, N, O>(server: ReadinessServer<F, Q, N, O>) -> io::Result<Stats>
where
    F: FnOnce() -> io::Result<P>,
    P: Poller,
    Q: Protocol,
    N: Net,
    O: Observer,
{
    let accept = Abilities::READINESS.accept_by(server.config.accept)?;
    let datagrams = DatagramSockets::of(&server.config, &server.protocol);
    let buffer = vec![0; server.config.read_buffer.max(1)].into_boxed_slice();
    let what = (server.config, server.protocol, server.observer);
    let mut turns = Loop {
        poller: (server.open)()?,
        trigger: server.trigger,
        net: server.net,
        common: Common::new(what, (server.inbox, server.clock), accept, true),
        buffer,
        datagrams,
        to: server.to,
        reads_to_the_end: false,
        looks_twice: false,
    };
    let capabilities = turns.poller.capabilities();
    if !capabilities.supports(turns.trigger) {
        let why = format!("this mechanism has no {} trigger", turns.trigger);
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    turns.reads_to_the_end = turns.trigger == Trigger::Edge && !capabilities.short_read_means_drained();
    turns.looks_twice = turns.serves_twice() || turns.common.is_attentive();
    turns.begin(server.listeners)?;
    turns.run()?;
    if let (Some(loops), Some(_)) = (&turns.to, turns.common.drains_until) {
        loops.drain();
    }
    turns.close_all();
    Ok(turns.snapshot())
}

/// A running loop.
pub(in super::super) struct Loop<P, Q: Protocol, N, O> {
    pub(in super::super) poller: P,
    trigger: Trigger,
    pub(in super::super) net: N,
    pub(in super::super) common: Common<Q, O, Watch>,
    buffer: Box<[u8]>,
    datagrams: Option<DatagramSockets>,
    /// Whoever gets the connections, if this loop does not keep them.
    pub(in super::super) to: Option<Control>,
    /// An edge may hide the end of the stream, or an urgent mark, behind bytes, and this mechanism does not say so.
    reads_to_the_end: bool,
    /// After the straight line there is always more to do: rearm, read to the end, or note what it was for the limits.
    looks_twice: bool,
}

impl<P: Poller, Q: Protocol, N: Net, O: Observer> Loop<P, Q, N, O> {
    fn begin(&mut self, listeners: Vec<Arc<Listener>>) -> io::Result<()> {
        let token = self.common.slots.insert(None, Watch::READING, Occupant::Waker);
        self.poller.add(self.common.inbox.source().as_source(), token, Interest::READABLE, Trigger::Level)?;
        for listener in listeners {
            let token = self.common.slots.next_token();
            self.watch(&listener, token)?;
            match &mut self.datagrams {
                Some(datagrams) if listener.takes_datagrams() => {
                    self.common.slots.insert(None, Watch::READING, Occupant::Datagrams);
                    datagrams.add(token, listener);
                }
                _ => {
                    self.common.slots.insert(None, Watch::READING, Occupant::Listener);
                    self.common.listeners.push((token, listener));
                }
            }
        }
        Ok(())
    }

    /// Adds a listener.
    pub(in super::super) fn watch(&mut self, listener: &Listener, token: Token) -> io::Result<()> {
        match self.common.config.part.exclusive {
            true => self.poller.add_exclusive(listener.as_source(), token, Interest::READABLE),
            false => self.poller.add(listener.as_source(), token, Interest::READABLE, Trigger::Level),
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(self.common.config.events);
        while !self.common.stopping {
            // Nothing but sockets to wait for is the common case, and costs no look at the clock.
            let timeout = if self.common.has_upkeep() { self.upkeep(events.len()) } else { None };
            self.common.observer.waiting();
            if let Err(error) = self.poller.wait(&mut events, timeout) {
                self.wait_failed(error)?;
                continue;
            }
            self.common.host.turn.forget_time();
            self.common.stats.batches.count(events.len());
            self.common.observer.waited(events.len());
            for event in &events {
                self.dispatch(event);
            }
        }
        Ok(())
    }

    /// Acts on one event. The common case stands here, in a straight line: a connection that owes nothing has bytes,
    /// one read takes them all, they are answered, and the kernel takes the answer whole. All else goes its way
    /// through [`serve`](Loop::serve).
    #[inline(always)]
    fn dispatch(&mut self, event: Event) {
        let token = event.token();
        let (source, connection) = match self.common.slots.get(token) {
            None => return self.ignore(),
            Some(Slot { source: Some(source), occupant: Occupant::Connection(connection), .. })
                if connection.is_quiet() && event.only_bytes() =>
            {
                ((*source).as_source(), connection)
            }
            Some(_) => return self.dispatch_other(event),
        };
        let buffer = &mut self.buffer[..];
        self.common.stats.read_calls += 1;
        let bytes = match self.net.recv(source, buffer) {
            // A short read has emptied the socket.
            Ok(bytes) if 0 < bytes && bytes < buffer.len() => bytes,
            other => return self.read_otherwise(token, other),
        };
        let input = &buffer[..bytes];
        self.common.stats.bytes_in += bytes as u64;
        self.common.observer.read(token, bytes);
        let reply = connection.receive_quietly(&mut self.common.host, token, input);
        let returned = reply.returned;
        if !reply.quiet {
            let returned = returned.len();
            return self.go_on_after_a_read(token, returned, true);
        }
        let answer = self.common.host.turn.answer(returned);
        if !answer.is_empty() {
            self.common.stats.write_calls += 1;
            let offered = answer.len();
            // If it fails, the next attempt will say why.
            let taken = self.net.send(source, answer).unwrap_or(0);
            self.common.stats.bytes_out += taken as u64;
            self.common.observer.wrote(token, taken, offered);
            let whole = taken == offered;
            self.common.host.turn.answered(returned, taken, whole);
            if !whole {
                return self.go_on_after_the_line(token, false);
            }
        }
        if self.looks_twice {
            self.go_on_after_the_line(token, true);
        }
    }

    /// What the straight line is not burdened with. Called cold, it costs those who do not need it two instructions
    /// less.
    #[cold]
    fn go_on_after_the_line(&mut self, token: Token, whole: bool) {
        self.common.note_quiet(token);
        if !whole || self.serves_twice() {
            self.go_on_after_a_read(token, 0, true);
        }
    }

    fn serves_twice(&self) -> bool {
        self.reads_to_the_end || self.trigger == Trigger::Oneshot
    }

    /// An event of a connection that was closed: earlier in this batch, or long ago, but somebody else holds the socket.
    #[cold]
    fn ignore(&mut self) {
        self.common.stats.stale += 1;
    }

    #[cold]
    fn dispatch_other(&mut self, event: Event) {
        let token = event.token();
        match self.common.slots.get(token).map(|slot| &slot.occupant) {
            Some(Occupant::Connection(_)) => self.serve(token, Ready::told(event)),
            Some(Occupant::Listener) => self.accept(token),
            Some(Occupant::Datagrams) => {
                if let Some(datagrams) = &mut self.datagrams {
                    datagrams.exchange(token, &self.net, &mut self.common.stats);
                }
            }
            Some(Occupant::Waker) => self.read_inbox(),
            Some(Occupant::Vacant { .. }) | None => self.ignore(),
        }
    }

    /// The straight line's read gave nothing, or filled the buffer.
    #[cold]
    fn read_otherwise(&mut self, token: Token, read: io::Result<usize>) {
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.common.slots.get(token) else {
            return;
        };
        match read {
            Ok(0) => {
                self.common.observer.read(token, 0);
                connection.eof(&mut self.common.host, token);
                connection.settle(&mut self.common.host);
                self.serve(token, Ready { writable: true, ..Ready::default() });
            }
            Ok(bytes) => {
                self.common.stats.bytes_in += bytes as u64;
                self.common.observer.read(token, bytes);
                connection.receive(&mut self.common.host, token, &self.buffer[..bytes]);
                self.go_on_after_a_read(token, 0, false);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.common.stats.spurious += 1;
                    self.serve(token, Ready::default());
                }
                io::ErrorKind::Interrupted => self.common.again.push_back(token),
                _ => {
                    lost(token, "recv", &error);
                    self.close(token);
                }
            },
        }
    }

    /// Finishes what the straight line began and could not end. The first `returned` bytes of the input are to be sent.
    #[cold]
    fn go_on_after_a_read(&mut self, token: Token, returned: usize, emptied: bool) {
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.common.slots.get(token) else {
            return;
        };
        self.common.host.turn.prepend(&self.buffer[..returned]);
        connection.settle(&mut self.common.host);
        self.common.deadlines.heard(token.slot(), false);
        let readable = !emptied || self.reads_to_the_end;
        let ready = Ready { readable, writable: true, to_the_end: true, ..Ready::default() };
        // One that is held back was given as much as a full buffer of others.
        let has_had_a_share = !emptied || connection.is_held();
        self.serve(token, Ready { has_had_a_share, ..ready });
    }

    /// Serves one connection: writes what is owed, reads what is there, answers, and arms what is wanted next.
    #[inline(never)]
    fn serve(&mut self, token: Token, ready: Ready) {
        let Some(Slot { source: Some(source), state: watch, occupant: Occupant::Connection(connection), .. }) =
            self.common.slots.get(token)
        else {
            return;
        };
        let (source, Watch { interest, again }) = (source.as_source(), watch);
        let mut wire =
            Wire { net: &self.net, observer: &mut self.common.observer, stats: &mut self.common.stats, source, token };

        let (bytes_in, bytes_out) = (wire.stats.bytes_in, wire.stats.bytes_out);
        let (mut alive, mut is_emptied) = (true, false);
        if ready.writable && connection.owed() > 0 {
            alive = wire.flush(connection, &mut self.common.host);
        }
        let full = self.common.config.limits.read_budget.max(1);
        let mut budget = full - u32::from(ready.has_had_a_share);
        // What was read and held back goes before what is still to be read.
        if alive && connection.is_held() {
            alive = wire.go_on(connection, &mut self.common.host, &mut budget);
        }
        let reads = interest.contains(Interest::READABLE) && connection.wants_input(&self.common.host, true);
        if alive && ready.readable && reads {
            loop {
                if budget == 0 {
                    // Who drains is to see the end of what there is; nobody else is told again only of an edge.
                    if (self.trigger == Trigger::Edge || self.common.drains_until.is_some()) && !*again {
                        *again = true;
                        self.common.again.push_back(token);
                    }
                    break;
                }
                let Some(read) = wire.receive(&mut self.buffer) else {
                    alive = false;
                    break;
                };
                let Some(bytes) = read else {
                    // Found nothing, at the first try: the event was a false alarm.
                    wire.stats.spurious += u64::from(ready.announced && budget == full);
                    is_emptied = true;
                    break;
                };
                if bytes == 0 {
                    connection.eof(&mut self.common.host, token);
                } else {
                    connection.receive(&mut self.common.host, token, &self.buffer[..bytes]);
                }
                alive = wire.flush(connection, &mut self.common.host);
                budget -= 1;
                if alive && connection.is_held() {
                    alive = wire.go_on(connection, &mut self.common.host, &mut budget);
                }
                if !alive || !connection.wants_input(&self.common.host, true) {
                    break;
                }
                // A short read has most likely emptied the socket, unless the event told of more than bytes. Who drains
                // has to know.
                let is_short = bytes < self.buffer.len();
                let to_the_end = ready.to_the_end || self.reads_to_the_end || self.common.drains_until.is_some();
                if is_short && !to_the_end {
                    break;
                }
            }
        }
        if connection.can_resume(&self.common.host) && !*again {
            *again = true;
            self.common.again.push_back(token); // no event will tell of what is here already
        }

        if is_emptied && self.common.drains_until.is_some() {
            connection.wind_up();
        }
        let (heard, took) = (wire.stats.bytes_in != bytes_in, wire.stats.bytes_out != bytes_out);
        if !alive || connection.finished() || connection.unfinished() > self.common.config.limits.message {
            return self.close(token);
        }
        let changed = self.trigger == Trigger::Oneshot || *interest != wanted(connection, *interest, &self.common.host);
        if self.common.deadlines.has_limits() {
            if heard {
                self.common.deadlines.heard(token.slot(), false);
            }
            self.common.note_standing(token, took);
        }
        self.common.keep_deadline(token);
        if changed {
            self.rearm(token);
        }
    }

    /// Brings the poller's interest into line with the connection's.
    fn rearm(&mut self, token: Token) {
        let Some(Slot { source: Some(source), state: watch, occupant: Occupant::Connection(connection), .. }) =
            self.common.slots.get(token)
        else {
            return;
        };
        let wanted = wanted(connection, watch.interest, &self.common.host);
        let before = std::mem::replace(&mut watch.interest, wanted);
        let told = match self.trigger {
            Trigger::Level if before == wanted => Ok(()),
            Trigger::Level | Trigger::Oneshot => self.poller.modify(source.as_source(), token, wanted, self.trigger),
            Trigger::Edge => Ok(()), // registered for both from the start
        };
        // An edge that came while we did not read is not repeated; and what has come to its end while the server drains
        // is told of by nobody.
        let is_told = self.trigger != Trigger::Edge && self.common.drains_until.is_none();
        let reads_again = wanted.contains(Interest::READABLE) && !before.contains(Interest::READABLE);
        if !is_told && reads_again && !watch.again {
            watch.again = true;
            self.common.again.push_back(token);
        }
        if let Err(error) = told {
            tracing::debug!(connection = ?token, %error, "cannot change the registration; closing");
            self.close(token);
        }
    }
}

impl<P: Poller, Q: Protocol, N: Net, O: Observer> Upkeep for Loop<P, Q, N, O> {
    type Protocol = Q;
    type Observer = O;
    type State = Watch;

    const NONBLOCKING: bool = true;

    fn common(&mut self) -> &mut Common<Q, O, Watch> {
        &mut self.common
    }

    fn serve_again(&mut self, token: Token) {
        if let Some(Slot { state: watch, .. }) = self.common.slots.get(token) {
            watch.again = false;
        }
        self.serve(token, Ready { readable: true, writable: true, to_the_end: true, ..Ready::default() });
    }

    fn serve_owing(&mut self, token: Token) {
        self.serve(token, Ready { writable: true, ..Ready::default() });
    }

    fn open(&mut self, source: OwnedSource, peer: &Peer) {
        let token = self.common.slots.next_token();
        let interest = match self.trigger {
            Trigger::Edge => Interest::READABLE | Interest::WRITABLE,
            Trigger::Level | Trigger::Oneshot => Interest::READABLE,
        };
        if let Err(error) = self.poller.add(source.as_source(), token, interest, self.trigger) {
            tracing::debug!(%peer, %error, "refused: cannot be watched");
            self.common.room.leave();
            return self.refuse(source);
        }
        let mut connection = self.common.greet(token, peer);
        connection.settle(&mut self.common.host);
        let speaks_first = connection.owed() > 0 || connection.finished() || self.common.host.turn.deadline.is_some();
        self.common.slots.insert(Some(source), Watch::READING, Occupant::Connection(connection));
        if speaks_first {
            self.serve_owing(token);
        }
    }

    fn let_go(&mut self, token: Token, source: OwnedSource, _: Watch) {
        if let Err(error) = self.poller.close(source) {
            tracing::debug!(connection = ?token, %error, "was not registered when closed");
        }
    }

    fn discard(&mut self, source: OwnedSource) {
        drop(source);
    }

    fn stop_listening(&mut self) {
        self.looks_twice = true;
        for (token, listener) in self.common.listeners.clone() {
            self.accept_in(Acceptor::last_turn(&self.common.config), token);
            let _ = self.poller.remove(listener.as_source()); // it is about to be closed
        }
        self.common.listeners.clear();
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.exchange_all(&self.net, &mut self.common.stats);
        }
    }

    fn resume_accepting(&mut self) {
        self.watch_listeners_again();
    }

    fn snapshot(&self) -> Stats {
        let open = self.common.slots.connections() as u64;
        Stats { ledger: self.poller.ledger(), open, ..self.common.stats }
    }
}

/// What is asked of a source.
#[derive(Clone, Copy)]
pub(in super::super) struct Watch {
    /// Of the kernel; under an edge trigger, where it is told once and for all, of ourselves.
    interest: Interest,
    /// It is among those to be served again. Once is enough: a firehose whose every event added a turn would have them
    /// all.
    again: bool,
}

impl Watch {
    const READING: Watch = Watch { interest: Interest::READABLE, again: false };
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
    /// One of its budget is spent already.
    has_had_a_share: bool,
}

impl Ready {
    #[inline]
    fn told(event: Event) -> Ready {
        Ready {
            readable: event.readable(),
            writable: event.writable(),
            to_the_end: event.more_than_bytes(),
            announced: true,
            has_had_a_share: false,
        }
    }
}

/// What the connection wants to be told of next.
#[inline]
fn wanted<Q: Protocol>(connection: &Connection<Q>, now: Interest, host: &Host<Q>) -> Interest {
    let mut wanted = Interest::EMPTY;
    if connection.wants_input(host, now.contains(Interest::READABLE)) {
        wanted |= Interest::READABLE;
    }
    if connection.owed() > 0 {
        wanted |= Interest::WRITABLE;
    }
    wanted
}
