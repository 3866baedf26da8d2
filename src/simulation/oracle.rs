//! What must be true of any server: that each protocol hears exactly what its client said, and each client what its
//! protocol said; that deadlines are met, and nobody is left waiting, or closed, without cause.

use std::sync::Arc;
use std::time::Duration;

use pollmark_backends::Token;

use super::net::client_at;
use super::script::{MILLISECOND, SECOND};
use super::socket::{Cause, Phase};
use super::trace::{Name, Seconds, What};
use super::world::{Happening, Shared, World};
use crate::protocol::{Context, DatagramProtocol, Peer, Post, Protocol, Wish};
use crate::server::Excess;

/// A deadline is met late by this much at most, if the loop is not busy: a tick of the server's wheel.
const TICK: u64 = 4 * MILLISECOND;

/// So long a busy server may take for the few batches it handles between two looks at the clock.
const BUSY: u64 = 4 * MILLISECOND;

/// When nothing has happened by itself for so long, nothing will, whatever deadlines a protocol sets again and again.
const TWO_DAYS: u64 = 48 * 3_600 * SECOND;

/// What one connection sent to another, and the server has yet to hand over.
pub(super) struct Letter {
    to: Token,
    bytes: Arc<[u8]>,
    /// Written after the letters of this turn were handed over.
    is_for_the_next_turn: bool,
}

/// A protocol, and who listens to every word between it and the server.
#[derive(Clone)]
pub(super) struct Watched<Q> {
    pub(super) inner: Q,
    pub(super) world: Shared,
}

pub(super) struct Session<S> {
    inner: S,
    client: u32,
    /// Where in what its client says the next byte stands that the protocol has not consumed, and how many it has kept.
    position: u64,
    kept: u64,
    /// What was kept is held back: there was no room for answers, and it is said again when there is.
    held: bool,
}

impl<Q: Protocol> Protocol for Watched<Q> {
    type Session = Session<Q::Session>;

    const ASKS_FOR_PEER: bool = Q::ASKS_FOR_PEER;

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> Session<Q::Session> {
        let client = self.world.lock().greets(peer, cx.connection());
        let inner = self.listen(client, &[], cx, |inner, cx| inner.open(peer, cx));
        Session { inner, client, position: 0, kept: 0, held: false }
    }

    fn received(&mut self, session: &mut Session<Q::Session>, input: &[u8], cx: &mut Context<'_>) -> usize {
        let Session { inner: theirs, client, position, kept, held } = session;
        let known = if *held { 0 } else { *kept };
        self.world.lock().hears(*client, cx.connection(), *position, known, input);
        let consumed = self.listen(*client, input, cx, |inner, cx| inner.received(theirs, input, cx));
        let consumed = consumed.min(input.len());
        *position += consumed as u64;
        *kept = (input.len() - consumed) as u64;
        *held = *kept > 0 && cx.is_full();
        self.world.lock().keeps(*client, input.len(), consumed, *held);
        consumed
    }

    fn begin(&mut self, post: &Post) {
        self.inner.begin(post);
    }

    fn refusal(&self) -> &'static [u8] {
        self.inner.refusal()
    }

    /// What these say and hear, the network knows: a message is whole.
    fn datagrams(&self) -> Option<Box<dyn DatagramProtocol>> {
        self.inner.datagrams()
    }

    fn eof(&mut self, session: &mut Session<Q::Session>, cx: &mut Context<'_>) {
        self.world.lock().hears_the_end(session.client, cx.connection());
        self.listen(session.client, &[], cx, |inner, cx| inner.eof(&mut session.inner, cx));
    }

    fn due(&mut self, session: &mut Session<Q::Session>, cx: &mut Context<'_>) {
        self.world.lock().is_due(session.client, cx.connection());
        self.world.lock().in_due = true;
        self.listen(session.client, &[], cx, |inner, cx| inner.due(&mut session.inner, cx));
        self.world.lock().in_due = false;
    }
}

impl<Q: Protocol> Watched<Q> {
    /// Lets the protocol act, and writes down all that it asked for.
    fn listen<R>(
        &mut self,
        client: u32,
        input: &[u8],
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Q, &mut Context<'_>) -> R,
    ) -> R {
        let turn = cx.turn();
        let (output, letters) = (turn.output.len(), turn.mail.len());
        let (wish, deadline) = (std::mem::take(&mut turn.wish), turn.deadline.take());
        let result = act(&mut self.inner, cx);
        let mut world = self.world.lock();
        world.owes(client, &input[..cx.returned()]);
        let turn = cx.turn();
        world.owes(client, &turn.output[output..]);
        for (to, bytes) in &turn.mail[letters..] {
            world.writes(*to, bytes);
        }
        if let Some(deadline) = turn.deadline {
            let began = world.clock.now() - world.clock.passed();
            let at = deadline.map(|at| at.saturating_duration_since(began).as_nanos() as u64);
            world.sets_deadline(client, at);
        }
        world.wishes(client, turn.wish);
        turn.wish = turn.wish.max(wish);
        turn.deadline = turn.deadline.take().or(deadline);
        result
    }
}

impl World {
    /// What a client says, from a position on.
    pub(super) fn text_at(&self, id: u32, position: u64, into: &mut [u8]) {
        self.pieces(id, position, into.len(), |at, piece| into[at..at + piece.len()].copy_from_slice(piece));
    }

    fn says(&self, id: u32, position: u64, heard: &[u8]) -> bool {
        let mut same = true;
        self.pieces(id, position, heard.len(), |at, piece| same &= heard[at..at + piece.len()] == *piece);
        same
    }

    /// Each client says the same text again and again, but begins elsewhere in it.
    fn pieces(&self, id: u32, position: u64, length: usize, mut piece: impl FnMut(usize, &[u8])) {
        let period = self.text.len() / 2;
        let mut at = 0;
        while at < length {
            let from = ((u64::from(id) * 7_919 + position + at as u64) % period as u64) as usize;
            let bytes = (length - at).min(period);
            piece(at, &self.text[from..from + bytes]);
            at += bytes;
        }
    }

    /// The server has registered a connection.
    pub(super) fn take_on(&mut self, id: u32, token: Token) {
        self.fresh = None;
        self.latest = Some(id);
        self.open += 1;
        self.books.accepted += 1;
        self.books.most_open = self.books.most_open.max(self.open);
        self.progress += 1;
        let socket = &mut self.sockets[id as usize];
        socket.phase = Phase::Open;
        socket.token = Some(token);
        self.opens(id);
        if let Some(other) = self.tokens.insert(token, id) {
            // Not even of one that is closed: mail to it would come to another.
            self.fail(Some(Name::Client(id)), format!("{token:?} was the name of client {other}"));
        }
        if self.config.limits.connections.is_some_and(|most| self.open > most) {
            self.fail(Some(Name::Client(id)), "taken on beyond the limit of connections");
        }
    }

    /// The protocol meets whoever was taken on last.
    fn greets(&mut self, peer: &Peer, token: Token) -> u32 {
        let id = self.latest.take().unwrap_or_default();
        // Whoever was handed in has no address.
        let is_he = peer.address.is_none_or(|address| client_at(address) == Some(id));
        if !is_he || self.sockets[id as usize].token != Some(token) {
            self.fail(Some(Name::Client(id)), "the protocol was told another's name, or another's address");
        }
        id
    }

    fn is_himself(&mut self, id: u32, token: Token) {
        if self.sockets[id as usize].token != Some(token) {
            self.fail(Some(Name::Client(id)), format!("the protocol was called under the wrong name {token:?}"));
        }
    }

    fn hears(&mut self, id: u32, token: Token, position: u64, known: u64, input: &[u8]) {
        self.is_himself(id, token);
        let socket = &self.sockets[id as usize];
        let (who, read) = (Some(Name::Client(id)), socket.read);
        if position + input.len() as u64 != read {
            let heard = position + input.len() as u64;
            self.fail(who, format!("the protocol heard up to byte {heard}; the server has read up to {read}"));
        } else if (input.len() as u64) <= known {
            self.fail(who, "the protocol was called and heard nothing new");
        } else if !self.says(id, position, input) {
            self.fail(who, format!("the protocol heard, at byte {position}, other than the client said"));
        } else if self.sockets[id as usize].cause.is_some_and(|cause| cause != Cause::Lost) {
            self.fail(who, "the protocol was called after it asked to close");
        }
    }

    fn keeps(&mut self, id: u32, input: usize, consumed: usize, held: bool) {
        self.note(Name::Client(id), What::Heard(input, consumed));
        // What is held back may be any number of whole messages: no limit is about it.
        let unfinished = if held { 0 } else { input - consumed };
        let socket = &mut self.sockets[id as usize];
        let had_kept = socket.began;
        // What was unfinished before it was held back is so still.
        socket.began = unfinished > 0 || held && had_kept && consumed == 0;
        socket.kept = unfinished;
        self.consumes(id, consumed, had_kept);
        self.touch(Name::Client(id));
    }

    fn hears_the_end(&mut self, id: u32, token: Token) {
        self.is_himself(id, token);
        self.note(Name::Client(id), What::HeardTheEnd);
        if !self.sockets[id as usize].end_read {
            self.fail(Some(Name::Client(id)), "the protocol was told of an end that the server has not read");
        }
    }

    fn is_due(&mut self, id: u32, token: Token) {
        self.is_himself(id, token);
        self.hand_over_letters();
        self.note(Name::Client(id), What::Due);
        self.books.due += 1;
        self.progress += 1;
        let now = self.now();
        match self.sockets[id as usize].deadline {
            None => self.fail(Some(Name::Client(id)), "the protocol was told that it is due, and had no deadline"),
            Some(at) if at > now => {
                let early = Duration::from_nanos(at - now);
                self.fail(Some(Name::Client(id)), format!("a deadline came {early:?} early"));
            }
            Some(_) => self.disarm(id),
        }
    }

    fn disarm(&mut self, id: u32) {
        if let Some(at) = self.sockets[id as usize].deadline.take() {
            self.deadlines.remove(&(at, id));
        }
    }

    fn sets_deadline(&mut self, id: u32, at: Option<u64>) {
        self.disarm(id);
        self.note(Name::Client(id), What::Deadline(at));
        if let Some(at) = at {
            self.sockets[id as usize].deadline = Some(at);
            self.deadlines.insert((at, id));
        }
    }

    fn owes(&mut self, id: u32, bytes: &[u8]) {
        let socket = &mut self.sockets[id as usize];
        if socket.cause != Some(Cause::Aborted) && !bytes.is_empty() {
            let begins = socket.owed.is_empty();
            socket.owed.extend_from_slice(bytes);
            if begins {
                self.stalls(id);
            }
        }
    }

    fn wishes(&mut self, id: u32, wish: Wish) {
        let cause = match wish {
            Wish::GoOn => return self.touch(Name::Client(id)),
            Wish::CloseWhenFlushed => Cause::Asked,
            Wish::Abort => Cause::Aborted,
        };
        self.note(Name::Client(id), if cause == Cause::Aborted { What::Aborts } else { What::AsksToClose });
        let socket = &mut self.sockets[id as usize];
        if cause == Cause::Aborted || socket.cause.is_none() {
            socket.cause = Some(cause);
        }
        if cause == Cause::Aborted {
            socket.owed.clear();
        }
        self.touch(Name::Client(id));
    }

    fn writes(&mut self, to: Token, bytes: &Arc<[u8]>) {
        let is_for_the_next_turn = self.in_due;
        self.letters.push_back(Letter { to, bytes: Arc::clone(bytes), is_for_the_next_turn });
    }

    /// The letters of this turn become part of what their receivers are owed.
    fn hand_over_letters(&mut self) {
        while self.letters.front().is_some_and(|letter| !letter.is_for_the_next_turn) {
            let Some(Letter { to, bytes, .. }) = self.letters.pop_front() else { return };
            let Some(id) = self.tokens.get(&to).copied() else { continue };
            let socket = &self.sockets[id as usize];
            if socket.phase == Phase::Open && socket.cause.is_none_or(|cause| cause == Cause::Lost) {
                self.owes(id, &bytes);
                self.touch(Name::Client(id));
            }
        }
    }

    /// What the server sends is what the protocol said, from where the client has it.
    pub(super) fn is_as_owed(&mut self, id: u32, bytes: &[u8]) {
        if self.sockets[id as usize].owed.len() < bytes.len() {
            self.hand_over_letters();
        }
        let socket = &self.sockets[id as usize];
        let (who, taken) = (Some(Name::Client(id)), socket.taken);
        if !socket.owed.starts_with(bytes) {
            let (offered, owed) = (bytes.len(), socket.owed.len());
            let what = if offered > owed { "more than" } else { "other than" };
            self.fail(who, format!("sends {offered} bytes at byte {taken}, {what} the {owed} the protocol said"));
        } else if self.echoes && !self.says(id, taken, bytes) {
            self.fail(who, format!("sends at byte {taken} other than an echo"));
        }
    }

    /// The server goes to sleep, for so long at most.
    pub(super) fn before_a_wait(&mut self, timeout: Option<Duration>) {
        self.hand_over_letters();
        for letter in &mut self.letters {
            letter.is_for_the_next_turn = false;
        }
        let now = self.now();
        let until = timeout.map_or(u64::MAX, |timeout| now.saturating_add(timeout.as_nanos() as u64));
        self.no_limit_is_slept_over(until);
        let Some((at, id)) = self.deadlines.first().copied().filter(|_| !self.stopping) else { return };
        // The server read the clock some time before this call, if it is busy.
        if until > now.max(at + 2 * TICK) + BUSY {
            let until = timeout.map_or("for ever".to_owned(), |_| format!("until {}", Seconds(until)));
            self.fail(Some(Name::Client(id)), format!("the server sleeps {until}, over a deadline at {}", Seconds(at)));
        }
    }

    /// Time is about to pass: nobody may be waiting for the server.
    pub(super) fn nothing_is_left_undone(&mut self) {
        if !self.letters.is_empty() {
            self.fail(None, "the server sleeps, and has mail to hand over");
        }
        self.no_message_is_left();
        let Some(id) = self.undone.first().copied() else { return };
        let socket = &self.sockets[id as usize];
        let unread = socket.arrived - socket.read;
        let what = match (socket.cause, socket.owed.len()) {
            (Some(cause), 0) => format!("{cause:?}, and it is not closed"),
            (_, owed) if owed > 0 => format!("{owed} bytes are owed, and there is room"),
            _ if unread > 0 => format!("{unread} bytes are unread"),
            _ if socket.dead => "it is broken".to_owned(),
            _ => "its end is unread".to_owned(),
        };
        self.fail(Some(Name::Client(id)), format!("the server sleeps on a connection: {what}"));
    }

    /// Whether a protocol only goes on setting deadlines.
    pub(super) fn has_nothing_to_come(&self) -> bool {
        self.now() > self.last_happening + TWO_DAYS
    }

    /// Nothing will happen any more, unless the server does something.
    pub(super) fn all_is_quiet(&mut self) {
        self.nothing_is_left_undone();
        let limits = &self.config.limits;
        let are_to_wait = limits.excess == Excess::Pause && limits.connections.is_some_and(|most| self.open >= most);
        if let Some(at) = self.queues.iter().position(|queue| !queue.is_empty()).filter(|_| !are_to_wait) {
            self.fail(Some(Name::Listener(at as u8)), "the server sleeps, and connections wait to be accepted");
        }
        if self.stopping {
            self.fail(Some(Name::Waker), "the server was asked to stop, and sleeps");
        }
        let now = self.now();
        self.schedule(now, 0, Happening::Stop);
    }

    /// The server has closed a connection.
    pub(super) fn closed(&mut self, id: u32, by_a_reset: bool) {
        let who = Name::Client(id);
        self.note(who, What::Closed);
        self.books.closed += 1;
        self.progress += 1;
        self.disarm(id);
        self.undate(id);
        if self.sockets[id as usize].phase != Phase::Open {
            return self.fail(Some(who), "closed, and was not open");
        }
        self.open -= 1;
        let socket = &mut self.sockets[id as usize];
        socket.phase = Phase::Closed;
        socket.number = None;
        let owed = std::mem::take(&mut socket.owed).len();
        let socket = &self.sockets[id as usize];
        let (said, read, sent, listens) = (socket.said, socket.read, socket.taken, socket.listens_to_the_end());
        let (cause, excused) =
            (socket.cause, socket.excused || self.stopping || socket.kept > self.config.limits.message);
        match cause {
            None if !excused => self.fail(Some(who), "closed without cause"),
            Some(Cause::Asked) if owed > 0 && !excused => {
                self.fail(Some(who), format!("closed, and {owed} bytes are still owed"));
            }
            Some(Cause::Asked) if self.echoes && listens && !excused && (read < said || sent < said) => {
                self.fail(Some(who), format!("of {said} bytes said, {read} were read and {sent} sent back"));
            }
            _ => {}
        }
        if by_a_reset != (cause == Some(Cause::Aborted)) && !excused {
            let how = if by_a_reset { "a reset" } else { "an orderly end" };
            self.fail(Some(who), format!("closed by {how}, and the protocol asked for the other"));
        }
        self.touch(who);
    }
}
