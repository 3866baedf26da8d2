//! What every loop does beside its events: turns cut short, mail, deadlines, orders from other threads, and the books.
//!
//! A loop that waits for readiness and one that waits for completions differ in how they read and write. What they
//! keep, and what they do when no socket asks for it, is the same, and stands here once. None of it is on the straight
//! line from a request to its answer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, OwnedSource, Token};

use super::accept::{Acceptor, later, say_no};
use super::control::{Adopted, Arrival, Inbox, Message};
use super::deadlines::{Deadlines, Due};
use super::endurance::Endurance;
use super::listener::Listener;
use super::net::acquaint;
use super::patience::Standing;
use super::room::Room;
use super::slots::{Occupant, Slot, Slots};
use super::{AcceptPolicy, Config, Expiry, Observer, Stats};
use crate::clock::Clock;
use crate::conn::Connection;
use crate::protocol::{Host, Peer, Protocol};

/// What a loop keeps, whatever it waits for. `W` is what it has under way for each source.
pub(super) struct Common<Q: Protocol, O, W> {
    pub(super) host: Host<Q>,
    pub(super) slots: Slots<Q, W>,
    pub(super) observer: O,
    /// Connections to be served again, whether or not the kernel names them; who has waited longest comes first.
    pub(super) again: VecDeque<Token>,
    pub(super) deadlines: Deadlines,
    attentive: bool,
    pub(super) acceptor: Acceptor,
    pub(super) listeners: Vec<(Token, Arc<Listener>)>,
    pub(super) room: Room,
    pub(super) endurance: Endurance,
    pub(super) stats: Stats,
    pub(super) inbox: Inbox,
    pub(super) config: Config,
    pub(super) stopping: bool,
    /// It takes nobody on any more, finishes what is under way, and stops then.
    pub(super) drains_until: Option<Instant>,
}

impl<Q: Protocol, O: Observer, W: Copy> Common<Q, O, W> {
    /// Nobody is connected yet. `accept` is a policy the loop can.
    pub(super) fn new(
        (config, protocol, observer): (Config, Q, O),
        (inbox, clock): (Inbox, Clock),
        accept: AcceptPolicy,
        nonblocking: bool,
    ) -> Common<Q, O, W> {
        let deadlines = Deadlines::new(&config.limits, clock.now());
        Common {
            attentive: deadlines.has_limits(),
            deadlines,
            host: Host::with_clock(protocol, clock).with_water(config.limits.high_water, config.limits.low_water),
            slots: Slots::new(),
            observer,
            again: VecDeque::new(),
            acceptor: Acceptor::new(&config, accept, nonblocking),
            listeners: Vec::new(),
            room: Room::of(&config),
            endurance: Endurance::default(),
            stats: Stats::default(),
            inbox,
            config,
            stopping: false,
            drains_until: None,
        }
    }

    /// Whether there is anything to do that no event asks for. Asked before every wait.
    #[inline]
    pub(super) fn has_upkeep(&self) -> bool {
        // One test of all, not one test of each.
        !(self.drains_until.is_none()
            & self.again.is_empty()
            & self.host.turn.mail.is_empty()
            & self.deadlines.is_empty()
            & !self.acceptor.is_paused())
    }

    /// Begins the connection that will be named `token`.
    pub(super) fn greet(&mut self, token: Token, peer: &Peer) -> Connection<Q> {
        self.stats.accepted += 1;
        self.observer.accepted(token, peer);
        tracing::debug!(connection = ?token, %peer, "accepted");
        self.deadlines.opened(token.slot());
        Connection::open(&mut self.host, token, peer)
    }

    /// Does what the protocol has asked for about its deadline, if it has.
    #[inline]
    pub(super) fn keep_deadline(&mut self, token: Token) {
        if let Some(deadline) = self.host.take_deadline() {
            let turn = &mut self.host.turn;
            self.deadlines.asked(&mut self.slots, token.slot(), deadline, || turn.now());
        }
    }

    /// Rests accepting until there is a place again.
    pub(super) fn wait_for_room(&mut self) {
        let now = self.host.turn.now();
        self.acceptor.wait_for_room(now, self.room.is_shared());
    }

    /// Notes, for the limits, how a connection stands that was served, and whether the kernel took anything of it.
    pub(super) fn note_standing(&mut self, token: Token, took: bool) {
        let Some(Slot { occupant: Occupant::Connection(connection), .. }) = self.slots.get(token) else { return };
        let standing = Standing {
            unfinished: connection.unfinished() > 0,
            held: connection.is_held(),
            has_consumed: connection.has_consumed(),
            owed: connection.owed() > 0,
        };
        if took {
            self.deadlines.took(token.slot());
        }
        self.deadlines.stands(token.slot(), standing);
    }

    /// Whether anything is to be noted of a connection that is quiet: for the limits, or because it is to end.
    #[inline(always)]
    pub(super) fn is_attentive(&self) -> bool {
        self.attentive
    }

    /// A quiet connection has been answered.
    #[inline(never)]
    pub(super) fn note_quiet(&mut self, token: Token) {
        self.deadlines.heard(token.slot(), true);
        if self.drains_until.is_some() {
            self.again.push_back(token);
        }
    }

    /// The time, and no older.
    fn read_the_clock(&mut self) -> Instant {
        self.host.turn.forget_time();
        let now = self.host.turn.now();
        self.deadlines.date(&mut self.slots, now);
        now
    }

    /// Begins a pause of accepting, or begins it anew.
    pub(super) fn pause_for_a_while(&mut self) {
        let now = self.host.turn.now();
        self.acceptor.pause(now);
    }

    fn connection(&mut self, token: Token) -> Option<(&mut Connection<Q>, &mut Host<Q>)> {
        match self.slots.get(token) {
            Some(Slot { occupant: Occupant::Connection(connection), .. }) => Some((connection, &mut self.host)),
            _ => None,
        }
    }
}

/// A loop: what it does itself comes first, what follows is the same for all.
pub(super) trait Upkeep {
    type Protocol: Protocol;
    type Observer: Observer;
    /// What is under way for a source.
    type State: Copy;

    /// Whether its sockets are to be of the kind that does not block.
    const NONBLOCKING: bool;

    fn common(&mut self) -> &mut Common<Self::Protocol, Self::Observer, Self::State>;

    /// Serves a connection whose turn was cut short.
    fn serve_again(&mut self, token: Token);

    /// Sends what a connection has come to owe, and does what its protocol has asked for.
    fn serve_owing(&mut self, token: Token);

    /// Takes on a connected socket, for which there is a place.
    fn open(&mut self, source: OwnedSource, peer: &Peer);

    /// Lets go of the socket of a connection that has ended.
    fn let_go(&mut self, token: Token, source: OwnedSource, state: Self::State);

    /// Closes a socket that was never taken on.
    fn discard(&mut self, source: OwnedSource);

    /// Takes on who is in the listen queue, as far as there is room, and listens no more: drops the listeners, at once
    /// or when nothing is under way for them.
    fn stop_listening(&mut self);

    /// Accepts again, if it has stopped to. Called when a connection has gone, and when the pause is over.
    fn resume_accepting(&mut self);

    /// The account until now.
    fn snapshot(&self) -> Stats;

    /// Does what no event asks for. Returns how long the next wait may sleep; the last told of so many events.
    #[cold]
    fn upkeep(&mut self, told: usize) -> Option<Duration> {
        // As many as one wait may tell of: between two waits no more is done for old friends than for newcomers.
        let common = self.common();
        for _ in 0..common.again.len().min(common.config.events.max(1)) {
            let Some(token) = self.common().again.pop_front() else { break };
            self.serve_again(token);
        }
        for (token, bytes) in std::mem::take(&mut self.common().host.turn.mail) {
            if let Some((connection, _)) = self.common().connection(token) {
                connection.owe(&bytes);
                self.serve_owing(token);
            }
        }
        let common = self.common();
        if common.drains_until.is_some() && common.slots.connections() == 0 && common.listeners.is_empty() {
            common.stopping = true;
            return Some(Duration::ZERO);
        }
        let is_timed = !common.deadlines.is_empty() || common.acceptor.is_paused() || common.drains_until.is_some();
        let sleep = match is_timed.then(|| common.deadlines.skip(told)) {
            None => None,
            Some(Some(nap)) => Some(nap),
            Some(None) => self.look_at_the_clock(),
        };
        let common = self.common();
        let is_done = common.again.is_empty() && common.host.turn.mail.is_empty();
        if is_done { sleep } else { Some(Duration::ZERO) }
    }

    /// Ends what has had its time. Returns how long the next wait may sleep.
    fn look_at_the_clock(&mut self) -> Option<Duration> {
        let now = self.common().read_the_clock();
        if self.common().acceptor.pause_is_over(now) {
            self.resume_accepting();
        }
        self.common().stopping |= self.common().drains_until.is_some_and(|until| until <= now);
        let mut due = Vec::new();
        let common = self.common();
        common.deadlines.expired(&mut common.slots, now, &mut due);
        for (slot, due) in &due {
            let token = self.common().slots.token(*slot);
            match due {
                Due::Limit(expiry) => self.expire(token, *expiry),
                Due::Asked => {
                    let Some((connection, host)) = self.common().connection(token) else { continue };
                    connection.due(host, token);
                    connection.settle(host);
                    self.serve_owing(token);
                }
            }
        }
        // That took its time, and what was served may be due again.
        let now = if due.is_empty() { now } else { self.common().read_the_clock() };
        let common = self.common();
        let drain = common.drains_until.map(|until| until.saturating_duration_since(now));
        let bound = [common.acceptor.sleep(now), drain].into_iter().flatten().min();
        common.deadlines.sleep(now, bound)
    }

    /// Closes a connection that has met a limit.
    fn expire(&mut self, token: Token, expiry: Expiry) {
        let common = self.common();
        common.stats.expired.count(expiry);
        common.observer.expired(token, expiry);
        expiry.tell(common.stats.expired.of(expiry));
        if let Some((connection, _)) = common.connection(token) {
            connection.give_up();
            self.close(token);
        }
    }

    /// Does what other threads ask for.
    #[cold]
    fn read_inbox(&mut self) {
        self.common().stats.other_calls += 1;
        for message in self.common().inbox.take() {
            match message {
                Message::Stop => self.common().stopping = true,
                Message::Drain => self.drain(),
                Message::Stats(answer) => {
                    let _ = answer.send(self.snapshot());
                }
                Message::Mail(letters, calls) => {
                    let common = self.common();
                    common.stats.other_calls += calls;
                    common.host.turn.mail.extend(letters);
                }
                Message::Adopt(adopted) => self.adopt(adopted),
            }
        }
    }

    /// Accepts no more, and lets everybody finish.
    fn drain(&mut self) {
        let common = self.common();
        if common.drains_until.is_some() {
            return;
        }
        let now = common.host.turn.now();
        common.drains_until = Some(later(now, common.config.limits.drain));
        common.attentive = true;
        tracing::debug!(connections = common.slots.connections(), "draining");
        self.stop_listening();
        let common = self.common();
        common.acceptor.end_pause();
        common.config.part.listeners = None;
        // What they have said by now is read before they end.
        let all = common.slots.tokens();
        common.again.extend(all);
    }

    /// Takes on a socket that this loop has not accepted, unless it takes on nobody any more.
    fn adopt(&mut self, adopted: Adopted) {
        if self.common().drains_until.is_some() {
            tracing::debug!("refused: the server drains");
            return self.refuse(adopted.into_source());
        }
        match adopted.prepare(Self::NONBLOCKING, &mut self.common().stats) {
            Some((arrival, Some(place))) => {
                place.keep();
                self.settle_in(arrival);
            }
            Some((arrival, None)) => self.admit(arrival),
            None => {}
        }
    }

    /// Opens a connection, or turns it away at the limit.
    fn admit(&mut self, arrival: Arrival) {
        let common = self.common();
        if !common.room.enter() {
            common.acceptor.overload("the limit of connections is reached", None, true);
            let source = arrival.source.as_source();
            say_no(common.config.limits.excess, common.host.protocol.refusal(), source, &mut common.stats);
            return self.refuse(arrival.source);
        }
        self.settle_in(arrival);
    }

    /// Opens a connection for which a place is taken.
    fn settle_in(&mut self, arrival: Arrival) {
        let Arrival { source, peer, unset } = arrival;
        let common = self.common();
        unset.make_good(&common.config, &source, &mut common.stats);
        common.acceptor.has_room();
        let (peer, calls) = acquaint::<Self::Protocol>(source.as_source(), peer);
        common.stats.other_calls += calls as u64;
        self.open(source, &peer);
    }

    /// Turns away one that was accepted.
    fn refuse(&mut self, source: OwnedSource) {
        self.common().stats.refused += 1;
        self.discard(source);
    }

    /// Ends a connection.
    #[cold]
    fn close(&mut self, token: Token) {
        let common = self.common();
        common.host.take_deadline();
        if common.slots.get(token).is_none() {
            return;
        }
        common.deadlines.closed(&mut common.slots, token.slot());
        let Some((Some(source), state, Occupant::Connection(connection))) = common.slots.remove(token) else { return };
        if connection.aborted() {
            // A reset tells the peer that this is no orderly end.
            common.stats.other_calls += 1;
            let _ = socket2::SockRef::from(&source).set_linger(Some(Duration::ZERO));
        }
        self.let_go(token, source, state);
        let common = self.common();
        common.room.leave();
        common.stats.closed += 1;
        common.observer.closed(token);
        tracing::debug!(connection = ?token, "closed");
        if common.drains_until.is_none() {
            self.resume_accepting();
        }
    }

    /// Ends all connections.
    fn close_all(&mut self) {
        for token in self.common().slots.tokens() {
            self.close(token);
        }
    }

    /// The wait has failed.
    ///
    /// # Errors
    /// As of [`Endurance::after`], unless a signal interrupted it.
    #[cold]
    fn wait_failed(&mut self, error: io::Error) -> io::Result<()> {
        if error.kind() == io::ErrorKind::Interrupted {
            return Ok(());
        }
        let ledger = self.snapshot().ledger;
        self.common().endurance.after(error, &ledger)
    }
}
