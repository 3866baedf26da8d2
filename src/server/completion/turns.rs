//! The turns of a completion loop: receives that are armed once, answers that leave with the call that waits for more.
//!
//! One call a turn. It submits what the last turn queued, sleeps until something has completed, and everything that has
//! is dealt with before the next. How the ring works, and what is odd about it, is told where it is made; here it
//! means:
//! (a) An answer is sent silently: it is known to be over when the round is another one, and nobody hears of it unless
//!     it fell short. Until then nothing else is sent to that connection, and it is not closed, but by a reset.
//! (b) What fell short, and what came up while a send was not over, the connection keeps, and sends from memory that
//!     the kernel borrows until there was room for some of it.
//! (c) A reader is paused by cancelling its receive. What it has received until then still comes, and is not thrown
//!     away.
//! (d) A slot is vacated at once. What completes for it later names its generation, and is nobody's.
//! (e) Datagrams are taken by calls once the ring has said that there are some: recvmmsg(2) and sendmmsg(2) move 16 of
//!     them each, and the ring has operations for one at a time.
//! (f) Whoever is to end in good order has its receive cancelled first. When that is over, what is left in the socket
//!     is all that has not been seen: until then, some of it may be in the ring.

mod accept;
mod buffers;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pollmark_backends::completion::{Completion, Fate, Next, Ring, Short};
use pollmark_backends::{AsSource, OwnedSource, Source, Token};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use self::buffers::Waiting;
use super::super::control::Arrival;
use super::super::datagrams::DatagramSockets;
use super::super::listener::Listener;
use super::super::slots::{Occupant, Slot};
use super::super::upkeep::{Common, Upkeep};
use super::super::wire::lost;
use super::super::{Abilities, AcceptPolicy, Excess, Kernel, Observer, Stats};
use super::CompletionServer;
use crate::clock::Clock;
use crate::protocol::{Peer, Protocol};

/// Serves until it is told to end.
pub(super) fn serve<Q: Protocol, O: Observer, F: Fate>(server: CompletionServer<Q, O, F>) -> io::Result<Stats> {
    let accept = Abilities::COMPLETION.accept_by(server.config.accept)?;
    let mut setup = server.setup;
    setup.buffer_size = setup.buffer_size.min(server.config.read_buffer.try_into().unwrap_or(u32::MAX));
    let pauses = server.config.limits.excess == Excess::Pause;
    let datagrams = DatagramSockets::of(&server.config, &server.protocol);
    let what = (server.config, server.protocol, server.observer);
    let mut turns = Loop {
        ring: Ring::with_fate(&setup, server.fate)?,
        common: Common::new(what, (server.inbox, Clock::default()), accept, false),
        accept: if pauses { AcceptPolicy::One } else { accept },
        waiting: VecDeque::new(),
        last_accepts: 0,
        waiting_for_buffers: Waiting::default(),
        waker: Token(0),
        datagrams,
        by_call: Stats::default(),
    };
    turns.begin(server.listeners);
    turns.run()?;
    turns.close_all();
    turns.ring.finish()?;
    Ok(turns.snapshot())
}

/// A running loop. Those to be served again could not go on before the round was over.
struct Loop<Q: Protocol, O, F: Fate> {
    ring: Ring<F>,
    common: Common<Q, O, Flight>,
    accept: AcceptPolicy,
    /// Accepted one too many by each listener, where they are not to be turned away.
    waiting: VecDeque<Arrival>,
    /// How many more may be taken on of those in the queues, where nobody is after that.
    last_accepts: u32,
    waiting_for_buffers: Waiting,
    waker: Token,
    datagrams: Option<DatagramSockets>,
    /// What was done without the ring: (e).
    by_call: Stats,
}

/// What is under way for a source.
#[derive(Clone, Copy, Default)]
struct Flight {
    /// (a) When something was last sent silently.
    round: u32,
    armed: Armed,
    /// (b) The kernel has what the connection owes.
    lent: bool,
    /// It is among those to be served again.
    again: bool,
    /// It is received from one by one, as the ring's (m) has it.
    one_by_one: bool,
}

impl Flight {
    #[inline]
    fn receive<F: Fate>(&self, ring: &mut Ring<F>, source: Source<'_>, token: Token) {
        if self.one_by_one { ring.receive_once(source, token) } else { ring.receive(source, token) }
    }
}

/// Whether a receive, or an accept, is under way.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Armed {
    #[default]
    No,
    Yes,
    /// It is to be, when it is its turn at the buffers.
    Waiting,
    /// (c) It was cancelled, and has not ended yet.
    Ending,
    /// A listener that has given up its spare descriptor: it accepts one connection by it.
    BySpare,
}

impl<Q: Protocol, O: Observer, F: Fate> Loop<Q, O, F> {
    fn begin(&mut self, listeners: Vec<Arc<Listener>>) {
        let token = self.common.slots.insert(None, Flight::default(), Occupant::Waker);
        self.waker = token;
        self.ring.watch(self.common.inbox.source().as_source(), token);
        for listener in listeners {
            match &mut self.datagrams {
                Some(datagrams) if listener.takes_datagrams() => {
                    let token = self.common.slots.insert(None, Flight::default(), Occupant::Datagrams);
                    self.ring.watch(listener.as_source(), token);
                    datagrams.add(token, listener);
                }
                _ => {
                    let token = self.common.slots.insert(None, Flight::default(), Occupant::Listener);
                    self.common.listeners.push((token, listener));
                }
            }
        }
        self.resume_accepting();
    }

    fn run(&mut self) -> io::Result<()> {
        let mut told = 0;
        while !self.common.stopping {
            // Nothing but sockets to wait for is the common case, and costs no look at the clock.
            let timeout = if self.common.has_upkeep() { self.upkeep(told) } else { None };
            // What has completed by then is dealt with all the same.
            let turned;
            (told, turned) = self.turn(timeout);
            if let Err(error) = turned {
                self.wait_failed(error)?;
            }
            self.common.host.turn.forget_time();
            while let Some(short) = self.ring.short() {
                self.fell_short(short);
            }
            while let Some(next) = self.ring.next() {
                match next {
                    Next::Received(token) => self.received(token),
                    Next::Other(other) => {
                        let completion = self.ring.learn(other);
                        self.dispatch(completion);
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits. Also how much has completed.
    #[inline(always)]
    fn turn(&mut self, timeout: Option<Duration>) -> (usize, io::Result<()>) {
        let before = self.ring.ledger().events;
        self.common.observer.waiting();
        let turned = self.ring.turn(timeout != Some(Duration::ZERO), timeout);
        let told = (self.ring.ledger().events - before) as usize;
        if turned.is_ok() {
            self.common.stats.batches.count(told);
        }
        self.common.observer.waited(told);
        self.common.stats.write_calls += self.ring.sent().len() as u64;
        for (token, taken, offered) in self.ring.sent() {
            self.common.observer.wrote(token, taken, offered);
        }
        (told, turned)
    }

    /// Bytes came. The common case stands here, in a straight line: the connection owes nothing, and sends some of them
    /// back, or nothing. All else goes its way through [`serve`](Loop::serve).
    #[inline(always)]
    fn received(&mut self, token: Token) {
        let (source, flight, connection) = match self.common.slots.get(token) {
            // Closed earlier.
            None => return,
            Some(Slot { source: Some(source), state, occupant: Occupant::Connection(connection), .. })
                if connection.is_quiet() && state.round != self.ring.round() =>
            {
                ((*source).as_source(), state, connection)
            }
            Some(_) => return self.received_otherwise(token),
        };
        let input = self.ring.bytes();
        self.common.stats.read_calls += 1;
        self.common.stats.bytes_in += input.len() as u64;
        self.common.observer.read(token, input.len());
        let reply = connection.receive_quietly(&mut self.common.host, token, input);
        let returned = reply.returned.len();
        if !reply.quiet || !self.common.host.turn.output.is_empty() || returned >= self.ring.zero_copy_from() {
            return self.answer(token, returned);
        }
        if returned > 0 {
            flight.round = self.ring.round();
            self.common.stats.bytes_out += returned as u64;
            self.ring.send_back(source, token, returned);
        }
        if self.common.is_attentive() {
            self.common.note_quiet(token);
        }
    }

    /// The answer is more than bytes sent back: the first `returned` of what came, and what is gathered.
    #[inline(never)]
    fn answer(&mut self, token: Token, returned: usize) {
        self.common.host.turn.prepend(&self.ring.bytes()[..returned]);
        self.common.deadlines.heard(token.slot(), false);
        self.serve(token);
    }

    /// Bytes came to a connection that was busy.
    #[cold]
    fn received_otherwise(&mut self, token: Token) {
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.common.slots.get(token) else {
            return;
        };
        let input = self.ring.bytes();
        self.common.stats.read_calls += 1;
        self.common.stats.bytes_in += input.len() as u64;
        self.common.observer.read(token, input.len());
        if connection.is_quiet() && self.ring.is_bundling(token) {
            let reply = connection.receive_quietly(&mut self.common.host, token, input);
            let returned = reply.returned.len();
            let returns_all = reply.quiet && self.common.host.turn.output.is_empty();
            if !returns_all || !self.ring.send_more(token, returned) {
                return self.answer(token, returned);
            }
            self.common.stats.bytes_out += returned as u64;
            return;
        }
        connection.receive(&mut self.common.host, token, input);
        self.common.deadlines.heard(token.slot(), false);
        self.serve(token);
    }

    #[cold]
    fn dispatch(&mut self, completion: Completion) {
        match completion {
            Completion::Received { token } => {
                let Some(Slot { state: flight, .. }) = self.common.slots.get(token) else { return };
                flight.armed = Armed::No;
                self.received_otherwise(token);
            }
            Completion::Ended { token, result } => self.ended(token, result),
            Completion::Sent { token, bytes, from, result } => self.sent(token, bytes, from, result),
            Completion::Accepted { token, source, more } => self.accepted(token, source, more),
            Completion::Readable { token } => self.readable(token),
            Completion::Nothing => {}
        }
    }

    /// What is watched has something: a socket of datagrams (e), or else the inbox.
    fn readable(&mut self, token: Token) {
        if let Some(datagrams) = &mut self.datagrams
            && let Some(socket) = datagrams.socket(token).cloned()
        {
            datagrams.exchange(token, &Kernel, &mut self.by_call);
            return self.ring.watch(socket.as_source(), token);
        }
        self.read_inbox();
        self.ring.watch(self.common.inbox.source().as_source(), token);
    }

    /// A receive is over.
    fn ended(&mut self, token: Token, result: io::Result<()>) {
        let Some(Slot { state: flight, occupant: Occupant::Connection(connection), .. }) = self.common.slots.get(token)
        else {
            return;
        };
        flight.armed = Armed::No;
        self.common.stats.read_calls += 1;
        match result {
            Ok(()) => {
                self.common.observer.read(token, 0);
                connection.eof(&mut self.common.host, token);
                self.serve(token);
            }
            Err(error) if is_passing(&error) => self.serve(token),
            // The buffers that have run out are back when what was sent from them is gone.
            Err(error) if is(&error, Errno::NOBUFS) => {
                flight.armed = Armed::Waiting;
                self.waiting_for_buffers.ran_out();
                self.wait_for_buffers(token);
                self.serve(token);
            }
            Err(error) => {
                lost(token, "recv", &error);
                self.close(token);
            }
        }
    }

    /// (b) The kernel gives back what it borrowed.
    fn sent(&mut self, token: Token, bytes: Vec<u8>, from: usize, result: io::Result<usize>) {
        let Some(Slot { state: flight, occupant: Occupant::Connection(connection), .. }) = self.common.slots.get(token)
        else {
            return;
        };
        flight.lent = false;
        self.common.stats.write_calls += 1;
        let taken = match result {
            Ok(taken) => taken,
            Err(error) if is_passing(&error) => 0,
            Err(error) => {
                lost(token, "send", &error);
                return self.close(token);
            }
        };
        self.common.stats.bytes_out += taken as u64;
        self.common.observer.wrote(token, taken, bytes.len() - from);
        connection.give_back(bytes, from + taken);
        if taken > 0 {
            self.common.deadlines.took(token.slot());
        }
        self.serve(token);
    }

    /// (a) A silent send was not taken whole.
    #[cold]
    fn fell_short(&mut self, short: Short) {
        let Short { token, rest, error } = short;
        self.common.stats.bytes_out -= rest.len() as u64;
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.common.slots.get(token) else {
            return;
        };
        if is_passing(&error) {
            connection.unsent(rest);
            self.serve(token);
        } else {
            lost(token, "send", &error);
            self.close(token);
        }
    }

    /// Serves one connection: sends what it has to say, and arms or cancels its receive.
    #[inline(never)]
    fn serve(&mut self, token: Token) {
        let Some(Slot { source: Some(source), state: flight, occupant: Occupant::Connection(connection), .. }) =
            self.common.slots.get(token)
        else {
            return;
        };
        let (source, round) = (source.as_source(), self.ring.round());
        let mut took = false;
        if flight.round != round && connection.owed() == 0 {
            let said = connection.outgoing(&self.common.host);
            let count = said.len();
            if count > 0 && self.ring.send_copy(source, token, said) {
                (flight.round, took) = (round, true);
                self.common.stats.bytes_out += count as u64;
                connection.sent(&mut self.common.host, count);
            }
        }
        connection.settle(&mut self.common.host);
        let is_over = flight.round != round; // (a)
        if is_over && connection.is_held() && connection.resume(&mut self.common.host, token) {
            connection.settle(&mut self.common.host);
        }
        if is_over && let Some((bytes, from)) = connection.take_outgoing() {
            flight.lent = true;
            self.ring.send(source, token, bytes, from);
        }
        let is_to_end = self.common.drains_until.is_some() && connection.reads() && connection.kept() == 0;
        if is_to_end && matches!(flight.armed, Armed::No | Armed::Waiting) {
            // (f)
            self.common.stats.other_calls += 1;
            if is_empty(source) {
                connection.wind_up();
            }
        }
        let has_ended = connection.finished() && (is_over || connection.aborted());
        if has_ended || connection.unfinished() > self.common.config.limits.message {
            return self.close(token);
        }
        let waits = !is_over && (connection.owed() > 0 || connection.finished());
        if !flight.again && (waits || connection.can_resume(&self.common.host)) {
            flight.again = true;
            self.common.again.push_back(token);
        }
        let is_reading = matches!(flight.armed, Armed::Yes | Armed::Waiting);
        match (flight.armed, connection.wants_input(&self.common.host, is_reading)) {
            (Armed::No, true) if self.waiting_for_buffers.is_empty() => {
                flight.armed = Armed::Yes;
                flight.receive(&mut self.ring, source, token);
            }
            // Behind those that are waiting already.
            (Armed::No, true) => {
                flight.armed = Armed::Waiting;
                self.waiting_for_buffers.push(token);
            }
            (Armed::Waiting, false) => flight.armed = Armed::No,
            (Armed::Yes, wanted) if !wanted || is_to_end => {
                flight.armed = Armed::Ending; // (c), (f)
                self.ring.stop_receiving(token);
            }
            _ => {}
        }
        if self.common.deadlines.has_limits() {
            self.common.note_standing(token, took);
        }
        self.common.keep_deadline(token);
    }
}

impl<Q: Protocol, O: Observer, F: Fate> Upkeep for Loop<Q, O, F> {
    type Protocol = Q;
    type Observer = O;
    type State = Flight;

    const NONBLOCKING: bool = false;

    fn common(&mut self) -> &mut Common<Q, O, Flight> {
        &mut self.common
    }

    fn serve_again(&mut self, token: Token) {
        if token == self.waker {
            return self.hand_out_buffers();
        }
        if let Some(Slot { state: flight, .. }) = self.common.slots.get(token) {
            flight.again = false;
            self.serve(token);
        }
    }

    fn serve_owing(&mut self, token: Token) {
        self.serve(token);
    }

    fn open(&mut self, source: OwnedSource, peer: &Peer) {
        let token = self.common.slots.next_token();
        let connection = self.common.greet(token, peer);
        let flight = Flight { one_by_one: peer.is_on_unix, ..Flight::default() };
        self.common.slots.insert(Some(source), flight, Occupant::Connection(connection));
        self.serve(token);
    }

    fn let_go(&mut self, token: Token, source: OwnedSource, flight: Flight) {
        if !matches!(flight.armed, Armed::No | Armed::Waiting) {
            self.ring.stop_receiving(token);
        }
        self.ring.close(source, flight.lent);
    }

    fn discard(&mut self, source: OwnedSource) {
        self.ring.close(source, false);
    }

    fn stop_listening(&mut self) {
        self.accept_the_last();
        for arrival in std::mem::take(&mut self.waiting) {
            self.refuse(arrival.source);
        }
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.exchange_all(&Kernel, &mut self.by_call);
        }
    }

    fn resume_accepting(&mut self) {
        self.arm_listeners();
    }

    fn snapshot(&self) -> Stats {
        let stats = self.common.stats;
        let Stats { accept_calls, read_calls, write_calls, closed, refused, .. } = stats;
        Stats {
            ledger: self.ring.ledger(),
            open: self.common.slots.connections() as u64,
            bytes_out: stats.bytes_out - self.ring.unsent() as u64,
            operations: accept_calls + read_calls + write_calls + closed + refused,
            ..stats
        } + self.by_call
    }
}

/// Not the connection's fault, and to be tried again: a signal came, or we or the kernel cancelled.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) || is(error, Errno::CANCELED)
}

fn is(error: &io::Error, number: Errno) -> bool {
    error.raw_os_error() == Some(number.raw_os_error())
}

/// Whether nothing is to be read from it, and it has not ended.
fn is_empty(source: Source<'_>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(rustix::net::recv(source, &mut [0; 1], flags), Err(Errno::AGAIN))
}
