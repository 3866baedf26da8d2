//! Serving one connection to its end, one blocking call after the other.
//!
//! Before each call the deadlines are looked at, and the call is bounded by the next: by SO_RCVTIMEO and SO_SNDTIMEO,
//! which count anew for each call, and are set anew only when they would be late, or early by half. Without deadlines,
//! of the protocol or the limits, all that costs nothing.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Token};
use socket2::SockRef;

use super::super::deadlines::Due;
use super::super::net::acquaint;
use super::super::patience::{Life, Patience, Standing};
use super::super::wheel::TICK;
use super::super::{Expiry, Limits, Net, Observer};
use super::roster::{Guest, Roster};
use super::seat::{Seat, Writing, at_least_one_ms, count, is_bound};
use crate::conn::Connection;
use crate::protocol::{Host, Protocol};

/// What a thread needs to serve connections, one after the other.
pub(super) struct Service<Q, N, O> {
    net: N,
    observer: O,
    host: Host<Q>,
    roster: Arc<Roster>,
    buffer: Box<[u8]>,
    max_message: usize,
    patience: Patience,
    limited: bool,
    /// What follows is the connection's. The protocol's deadline.
    deadline: Option<Instant>,
    life: Life,
    /// Of the ticks it is dated by.
    start: Instant,
    /// When any deadline is next due.
    next: Option<Instant>,
    /// The timeout set on the socket's calls that receive.
    bound: Option<Duration>,
}

impl<Q: Protocol, N: Net, O: Observer> Service<Q, N, O> {
    /// Serves by a `buffer` of so many bytes, within the `limits`.
    pub(super) fn new(
        (net, observer): (N, O),
        protocol: Q,
        roster: &Arc<Roster>,
        buffer: usize,
        limits: &Limits,
    ) -> Service<Q, N, O> {
        let patience = Patience::of(limits);
        Service {
            net,
            observer,
            host: Host::new(protocol).with_water(limits.high_water, limits.low_water),
            roster: Arc::clone(roster),
            buffer: vec![0; buffer.max(1)].into_boxed_slice(),
            max_message: limits.message,
            patience,
            limited: patience.shortest().is_some(),
            deadline: None,
            life: Life::default(),
            start: Instant::now(),
            next: None,
            bound: None,
        }
    }

    /// Serves until the connection ends, by either side. The guest is still on the roster then: whoever calls this
    /// holds its [`Leaving`](super::roster::Leaving).
    pub(super) fn serve(&mut self, guest: Guest) {
        let Guest { id, seat, peer } = guest;
        let (peer, calls) = acquaint::<Q>(seat.source.as_source(), peer);
        count(&seat.counts.other, calls);
        let _span = tracing::debug_span!("connection", ?id, %peer).entered();
        tracing::debug!("accepted");
        self.observer.accepted(id, &peer);
        (self.deadline, self.next, self.bound) = (None, None, None);
        self.life = Life::begin();
        let mut connection = Connection::open(&mut self.host, id, &peer);
        let conversed = self.converse(id, &seat, &mut connection);
        if let Err(error) = &conversed {
            tracing::debug!(%error, "lost");
        }
        // A server that drains sends what is owed, and does not wait for ever.
        seat.put_the_pen_down(conversed.is_ok() && !connection.aborted() && self.roster.is_draining());
        if connection.aborted() {
            count(&seat.counts.other, 1);
            let _ = SockRef::from(&seat.source).set_linger(Some(Duration::ZERO));
        }
        self.deliver(id, &seat, &mut connection);
        // What one connection leaves behind is not the next one's.
        self.host.turn.forget_output();
        self.host.take_deadline();
        self.observer.closed(id);
        tracing::debug!("closed");
    }

    fn converse(&mut self, id: Token, seat: &Seat, connection: &mut Connection<Q>) -> io::Result<()> {
        // Held from the first byte of an answer to its last.
        let mut pen = None;
        loop {
            self.host.turn.forget_time();
            if let Some(deadline) = self.host.take_deadline() {
                self.deadline = deadline;
            }
            match self.due(seat, connection) {
                None => {}
                Some(Due::Asked) => {
                    self.deadline = None;
                    connection.due(&mut self.host, id);
                    continue;
                }
                Some(Due::Limit(expiry)) => {
                    self.roster.expired(expiry);
                    self.observer.expired(id, expiry);
                    connection.settle(&mut self.host);
                    connection.give_up();
                    return Ok(());
                }
            }
            let went = if !connection.outgoing(&self.host).is_empty() {
                // Others may be writing to a peer that does not read. Then it is soon time to look at the deadline.
                if pen.is_none() {
                    pen = seat.take_the_pen(self.left());
                }
                let Some(writing) = &mut pen else { continue };
                self.send(id, seat, writing, connection)
            } else {
                connection.settle(&mut self.host);
                pen = None;
                self.deliver(id, seat, connection);
                // Whoever is owed nothing any more may be answered what was held back.
                if !connection.outgoing(&self.host).is_empty() || connection.resume(&mut self.host, id) {
                    continue;
                }
                if connection.finished() || connection.unfinished() > self.max_message {
                    return Ok(());
                }
                // In this order: whoever drains looks in the other.
                let is_idle = connection.kept() == 0;
                seat.is_idle.store(is_idle, Ordering::SeqCst);
                if connection.reads() {
                    if self.roster.is_draining() && is_idle {
                        count(&seat.counts.other, 1);
                        if seat.is_read_out() {
                            connection.wind_up();
                            continue;
                        }
                    }
                    self.receive(id, seat, connection)
                } else if seat.rest(self.left()) {
                    // The peer has said all it will and is owed nothing, but the protocol has not ended: it had a
                    // deadline, and that has come.
                    Ok(())
                } else {
                    return Ok(());
                }
            };
            match went.map_err(|error| (error.kind(), error)) {
                // The second and third: it is time to look at the deadline.
                Err((io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut, _)) => {}
                Err((_, error)) => return Err(error),
                Ok(()) => {}
            }
        }
    }

    fn receive(&mut self, id: Token, seat: &Seat, connection: &mut Connection<Q>) -> io::Result<()> {
        let left = self.left();
        if !is_bound(self.bound, left) {
            count(&seat.counts.other, 1);
            self.bound = left;
            SockRef::from(&seat.source).set_read_timeout(left)?;
        }
        count(&seat.counts.reads, 1);
        self.observer.waiting();
        let received = self.net.recv(seat.source.as_source(), &mut self.buffer);
        self.observer.waited(usize::from(received.is_ok()));
        let bytes = received?;
        self.observer.read(id, bytes);
        match bytes {
            0 if self.roster.is_draining() && connection.kept() == 0 => connection.wind_up(),
            0 => connection.eof(&mut self.host, id),
            bytes => {
                // In this order: whoever has seen the bytes in the account does not end it for being idle.
                seat.is_idle.store(false, Ordering::SeqCst);
                count(&seat.counts.bytes_in, bytes);
                self.life.hears(false);
                connection.receive(&mut self.host, id, &self.buffer[..bytes]);
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        id: Token,
        seat: &Seat,
        writing: &mut Writing<'_>,
        connection: &mut Connection<Q>,
    ) -> io::Result<()> {
        let by = (&self.net, &seat.counts);
        let owed = connection.outgoing(&self.host);
        let taken = writing.write(by, owed, self.left())?;
        self.observer.wrote(id, taken, owed.len());
        connection.sent(&mut self.host, taken);
        self.life.takes();
        Ok(())
    }

    /// Sends to other connections what this one's protocol sent them.
    fn deliver(&mut self, id: Token, seat: &Seat, connection: &mut Connection<Q>) {
        for (to, bytes) in std::mem::take(&mut self.host.turn.mail) {
            if to == id {
                connection.owe(&bytes);
                continue;
            }
            let Some(other) = self.roster.seat(to) else { continue };
            if !other.pass_on((&self.net, &seat.counts), &bytes, self.patience.length(Expiry::Write)) {
                self.roster.expired(Expiry::Write);
            }
        }
    }

    /// What the connection is due for, by now. Without deadlines nobody looks at the clock.
    fn due(&mut self, seat: &Seat, connection: &mut Connection<Q>) -> Option<Due> {
        self.next = self.deadline;
        if !self.limited && self.deadline.is_none() {
            return None;
        }
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Due::Asked);
        }
        if self.limited {
            if seat.took() {
                self.life.takes();
            }
            self.life.stands(Standing {
                unfinished: connection.unfinished() > 0,
                held: connection.is_held(),
                has_consumed: connection.has_consumed(),
                owed: !connection.outgoing(&self.host).is_empty(),
            });
            let passed = (now - self.start).as_nanos();
            self.life.date(passed.div_ceil(TICK.as_nanos()) as u32);
            let tick = passed / TICK.as_nanos();
            if let Some((ticks, Some(expiry))) = self.life.due(&self.patience, tick as u32) {
                if ticks <= 0 {
                    return Some(Due::Limit(expiry));
                }
                let limit = now + TICK * ticks.unsigned_abs();
                self.next = Some(self.next.map_or(limit, |next| next.min(limit)));
            }
        }
        None
    }

    /// How long a call may take, so that the next deadline is met.
    fn left(&self) -> Option<Duration> {
        let left = self.next.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map(at_least_one_ms)
    }
}
