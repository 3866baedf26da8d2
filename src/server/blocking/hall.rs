//! Where connections arrive, and messages: accepting the ones, turning them away at the limit, letting them wait when
//! there is no room; and answering the others.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use pollmark_backends::poll::Poll;
use pollmark_backends::{AsSource, Events, Interest, Poller, Token, Trigger, WakeSource};

use super::super::accept::{Acceptor, Next, Turn, say_no};
use super::super::control::Arrival;
use super::super::datagrams::DatagramSockets;
use super::super::endurance::Endurance;
use super::super::listener::Listener;
use super::super::{Abilities, Config, Excess, Net, Stats};
use super::roster::Roster;
use super::{Aside, Receive};

const BELL: Token = Token(u64::MAX);
/// The token of the first socket of datagrams; those of the listeners begin at 0.
const MESSAGES: u64 = 1 << 32;

/// The accepting thread.
pub(super) struct Hall<N> {
    config: Config,
    net: N,
    refusal: &'static [u8],
    listeners: Vec<Arc<Listener>>,
    datagrams: Option<DatagramSockets>,
    bell: WakeSource,
    poller: Poll,
    /// Whether the listeners are watched.
    listens: bool,
    acceptor: Acceptor,
    roster: Arc<Roster>,
    stats: Stats,
}

impl<N: Net> Hall<N> {
    pub(super) fn open(
        can: Abilities,
        config: Config,
        (net, aside): (N, Aside),
        listeners: Vec<Arc<Listener>>,
        bell: WakeSource,
        roster: Arc<Roster>,
    ) -> io::Result<Hall<N>> {
        let mut poller = Poll::open()?;
        poller.add(bell.as_source(), BELL, Interest::READABLE, Trigger::Level)?;
        let Aside { refusal, mut datagrams } = aside;
        let (sockets, listeners): (Vec<_>, Vec<_>) = listeners.into_iter().partition(|one| one.takes_datagrams());
        for (at, listener) in listeners.iter().enumerate() {
            poller.add(listener.as_source(), Token(at as u64), Interest::READABLE, Trigger::Level)?;
        }
        for (at, socket) in sockets.into_iter().enumerate() {
            let token = Token(MESSAGES + at as u64);
            poller.add(socket.as_source(), token, Interest::READABLE, Trigger::Level)?;
            datagrams.as_mut().expect("no such socket is bound for a protocol without").add(token, socket);
        }
        let acceptor = Acceptor::new(&config, can.accept_by(config.accept)?, false);
        let (listens, stats) = (true, Stats::default());
        Ok(Hall { config, net, refusal, listeners, datagrams, bell, poller, listens, acceptor, roster, stats })
    }

    /// Hands every connection to `receive`, until the server closes.
    pub(super) fn run(&mut self, receive: &mut Receive<'_>) -> io::Result<()> {
        let mut events = Events::with_capacity(self.config.events);
        let mut endurance = Endurance::default();
        let mut drains = false;
        loop {
            self.listen(!self.acceptor.is_paused() && self.roster.has_room())?;
            let timeout = if self.acceptor.is_paused() { self.acceptor.sleep(Instant::now()) } else { None };
            if drains && self.roster.is_empty() {
                self.tell();
                return Ok(());
            }
            self.tell();
            match self.poller.wait(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    endurance.after(error, &self.poller.ledger())?;
                    continue;
                }
            }
            let is_called = events.iter().any(|event| event.token() == BELL);
            if is_called {
                self.stats.other_calls += 1;
                self.bell.drain();
            }
            if self.acceptor.is_paused() && (is_called || self.acceptor.pause_is_over(Instant::now())) {
                // Called means that somebody left, and a descriptor with him; or so it may be.
                self.acceptor.restock(&mut self.stats);
                self.acceptor.end_pause();
            }
            if self.roster.is_closing() {
                self.tell();
                return Ok(());
            }
            while let Some(arrival) = self.next_adopted() {
                self.seat(arrival, receive);
            }
            if self.roster.is_draining() && !drains {
                drains = true;
                self.stop_listening(receive);
            }
            for event in events.iter().filter(|event| event.token() != BELL) {
                match event.token() {
                    token @ Token(MESSAGES..) => self.exchange(token),
                    Token(at) if !drains => self.accept(self.acceptor.turn(), at as usize, receive),
                    _ => {}
                }
            }
        }
    }

    /// Takes on who is in the listen queue, as far as there is room, and closes the listeners.
    fn stop_listening(&mut self, receive: &mut Receive<'_>) {
        for at in 0..self.listeners.len() {
            self.accept(Acceptor::last_turn(&self.config), at, receive);
            let _ = self.poller.remove(self.listeners[at].as_source()); // it is about to be closed
        }
        self.listeners.clear();
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.exchange_all(&self.net, &mut self.stats);
        }
        self.config.part.listeners = None;
        self.acceptor.end_pause();
    }

    fn exchange(&mut self, token: Token) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.exchange(token, &self.net, &mut self.stats);
        }
    }

    /// Watches the listeners, or lets them rest.
    fn listen(&mut self, listens: bool) -> io::Result<()> {
        if std::mem::replace(&mut self.listens, listens) == listens {
            return Ok(());
        }
        let interest = if listens { Interest::READABLE } else { Interest::EMPTY };
        for (at, listener) in self.listeners.iter().enumerate() {
            self.poller.modify(listener.as_source(), Token(at as u64), interest, Trigger::Level)?;
        }
        Ok(())
    }

    fn next_adopted(&self) -> Option<Arrival> {
        if self.roster.has_room() { self.roster.next_adopted() } else { None }
    }

    /// Takes on what is queued, as far as the turn and room go.
    fn accept(&mut self, mut turn: Turn, listener: usize, receive: &mut Receive<'_>) {
        let excess = self.config.limits.excess;
        let waits = excess == Excess::Pause;
        while !self.acceptor.is_paused() && self.roster.has_room() {
            // Called first, or one who leaves between the two would not be heard.
            if waits {
                self.roster.await_leaving();
            }
            // The place first: whom there is none for is not accepted.
            if waits && !self.roster.admits() {
                self.acceptor.wait_for_room(Instant::now(), self.roster.room().is_shared());
                return;
            }
            let unset = self.listeners[listener].unset();
            let source = self.listeners[listener].as_source();
            match self.acceptor.next(&mut turn, &self.net, source, &mut self.stats) {
                Next::Connection(source, peer) if waits || self.roster.admits() => {
                    self.seat(Arrival { source, peer, unset }, receive);
                }
                Next::Connection(source, _) => {
                    self.acceptor.overload("the limit of connections is reached", None, true);
                    say_no(excess, self.refusal, source.as_source(), &mut self.stats);
                    self.stats.refused += 1;
                }
                end => {
                    if waits {
                        self.roster.room().leave();
                    }
                    if matches!(end, Next::Done) {
                        return;
                    }
                    self.acceptor.pause(Instant::now());
                    self.roster.await_leaving();
                }
            }
        }
    }

    /// Puts one in service that was admitted.
    fn seat(&mut self, arrival: Arrival, receive: &mut Receive<'_>) {
        let Arrival { source, peer, unset } = arrival;
        unset.make_good(&self.config, &source, &mut self.stats);
        self.acceptor.has_room();
        // Before somebody is served, for that may take long.
        self.tell();
        let Some(guest) = self.roster.enter(source, peer) else { return };
        let id = guest.id;
        if let Err(error) = receive(guest) {
            tracing::debug!(%peer, %error, "refused: no thread to be had");
            self.roster.refuse(id);
        }
    }

    /// Tells the roster what has been done.
    fn tell(&mut self) {
        self.stats.ledger = self.poller.ledger();
        self.roster.hall_did(&self.stats);
    }
}
