//! A connection, without I/O: what was read, what is owed, when to close.
//!
//! Drivers push bytes in and take bytes out; a connection never calls read or write. The same state machine stands
//! under readiness loops, blocking threads and tests.

use pollmark_backends::Token;

use crate::protocol::{Context, Host, Peer, Protocol, Wish};

/// One connection of a [`Protocol`].
///
/// While it owes nothing and holds no unfinished message it is its session and 16 bytes. Output is gathered in the
/// loop's [`Host`]; after each call that may produce some, the driver sends [`outgoing`](Connection::outgoing), tells
/// [`sent`](Connection::sent), and ends with [`settle`](Connection::settle), which moves what is left into the
/// connection, so that the host is free for the next.
///
/// ```
/// use pollmark::conn::Connection;
/// use pollmark::protocol::{Echo, Host, Peer};
/// use pollmark_backends::Token;
///
/// let (mut host, id) = (Host::new(Echo), Token(1));
/// let mut connection = Connection::open(&mut host, id, &Peer::default());
/// connection.receive(&mut host, id, b"hello");
/// assert_eq!(connection.outgoing(&host), b"hello");
/// connection.sent(&mut host, 3); // the kernel took three bytes
/// connection.settle(&mut host);
/// assert_eq!((connection.outgoing(&host), connection.owed()), (&b"lo"[..], 2));
/// ```
#[derive(Debug)]
pub struct Connection<P: Protocol> {
    session: P::Session,
    // Present only while there is an unfinished message or an unsent tail.
    cold: Option<Box<Cold>>,
    phase: Phase,
}

#[derive(Debug, Default)]
struct Cold {
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
}

impl Cold {
    /// Owes `bytes` more. What was sent goes first, once it is half of all: a slow peer may owe something for ever, and
    /// each byte is moved once at most on the average.
    fn append(&mut self, bytes: &[u8]) {
        if self.sent >= self.output.len() - self.sent {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        self.output.extend_from_slice(bytes);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// The peer is done, we are not.
    HalfClosed,
    /// Closed as soon as nothing is owed.
    Closing,
    Aborted,
}

impl<P: Protocol> Connection<P> {
    /// Begins a connection. `id` is its name among the driver's; the same is passed to every later call.
    pub fn open(host: &mut Host<P>, id: Token, peer: &Peer) -> Connection<P> {
        let session = host.protocol.open(peer, &mut Context::new(&mut host.turn, id, &[]));
        let mut connection = Connection { session, cold: None, phase: Phase::Open };
        connection.obey(host);
        connection
    }

    /// Bytes arrived. Ignored once the connection is closing.
    #[inline]
    pub fn receive(&mut self, host: &mut Host<P>, id: Token, bytes: &[u8]) {
        if self.is_quiet() {
            self.receive_quietly(host, id, bytes);
            host.turn.gather(bytes);
        } else if self.reads() {
            self.receive_more(host, id, bytes);
        }
    }

    /// Bytes arrived at a connection that [is quiet](Connection::is_quiet). Says whether, but for what is now to be
    /// sent, it still is, and nothing else was asked for. The caller sends, or gathers, what the turn returns of
    /// `bytes`.
    #[inline(always)]
    pub(crate) fn receive_quietly(&mut self, host: &mut Host<P>, id: Token, bytes: &[u8]) -> bool {
        let mut context = Context::new(&mut host.turn, id, bytes);
        let consumed = host.protocol.received(&mut self.session, bytes, &mut context);
        if consumed >= bytes.len() && !host.turn.asked {
            return true;
        }
        self.keep(bytes, consumed);
        self.obey(host);
        false
    }

    /// The peer will send no more.
    pub fn eof(&mut self, host: &mut Host<P>, id: Token) {
        if self.reads() {
            self.phase = Phase::HalfClosed;
            host.protocol.eof(&mut self.session, &mut Context::new(&mut host.turn, id, &[]));
            self.obey(host);
        }
    }

    /// The deadline the protocol set has passed.
    pub fn due(&mut self, host: &mut Host<P>, id: Token) {
        // Also while closing: a peer that does not take what it is owed may be given up.
        if self.phase != Phase::Aborted {
            host.protocol.due(&mut self.session, &mut Context::new(&mut host.turn, id, &[]));
            self.obey(host);
        }
    }

    /// Owes `bytes` that came from elsewhere than this connection's own input.
    pub fn owe(&mut self, bytes: &[u8]) {
        if matches!(self.phase, Phase::Open | Phase::HalfClosed) {
            self.cold().append(bytes);
        }
    }

    /// What can be sent next. After it is gone there may be more: ask until it is empty.
    #[inline]
    pub fn outgoing<'a>(&'a self, host: &'a Host<P>) -> &'a [u8] {
        match &self.cold {
            Some(cold) if cold.sent < cold.output.len() => &cold.output[cold.sent..],
            _ => &host.turn.output[host.turn.sent..],
        }
    }

    /// The first `count` bytes of [`outgoing`](Connection::outgoing) are gone.
    #[inline]
    pub fn sent(&mut self, host: &mut Host<P>, count: usize) {
        match &mut self.cold {
            Some(cold) if cold.sent < cold.output.len() => {
                cold.sent += count;
                if cold.sent == cold.output.len() {
                    cold.output.clear();
                    cold.sent = 0;
                    self.release();
                }
            }
            _ => host.turn.sent += count,
        }
    }

    /// Moves what was not sent into the connection, and leaves the host free for the next.
    #[inline]
    pub fn settle(&mut self, host: &mut Host<P>) {
        if host.turn.sent < host.turn.output.len() {
            let tail = std::mem::take(&mut host.turn.output);
            self.cold().append(&tail[host.turn.sent..]);
            host.turn.output = tail;
        }
        host.turn.output.clear();
        host.turn.sent = 0;
    }

    /// How many bytes the connection itself holds that were not sent.
    #[inline]
    pub fn owed(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.output.len() - cold.sent)
    }

    /// How many bytes of an unfinished message are kept.
    #[inline]
    pub fn kept(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.input.len())
    }

    /// Whether input is still wanted.
    #[inline]
    pub fn reads(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the connection has ended and nothing is owed: the driver closes it.
    #[inline]
    pub fn finished(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::HalfClosed => false,
            Phase::Closing => self.owed() == 0,
            Phase::Aborted => true,
        }
    }

    /// Whether the protocol asked for a reset instead of an orderly end.
    pub fn aborted(&self) -> bool {
        self.phase == Phase::Aborted
    }

    /// Whether it is open, owes nothing and holds nothing: the state of nearly every connection, nearly always.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        self.cold.is_none() && self.phase == Phase::Open
    }

    #[cold]
    fn receive_more(&mut self, host: &mut Host<P>, id: Token, bytes: &[u8]) {
        // Taken out, because the protocol borrows the bytes while the connection changes.
        let mut input = std::mem::take(&mut self.cold().input);
        input.extend_from_slice(bytes);
        let mut context = Context::new(&mut host.turn, id, &input);
        let consumed = host.protocol.received(&mut self.session, &input, &mut context);
        host.turn.gather(&input);
        input.drain(..consumed.min(input.len()));
        self.cold().input = input;
        self.release();
        self.obey(host);
    }

    #[cold]
    fn keep(&mut self, bytes: &[u8], consumed: usize) {
        if let Some(rest) = bytes.get(consumed..).filter(|rest| !rest.is_empty()) {
            self.cold().input.extend_from_slice(rest);
        }
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    /// An idle connection owns no buffer.
    fn release(&mut self) {
        if self.cold.as_ref().is_some_and(|cold| cold.input.is_empty() && cold.output.is_empty()) {
            self.cold = None;
        }
    }

    #[cold]
    fn obey(&mut self, host: &mut Host<P>) {
        host.turn.asked = false;
        match std::mem::take(&mut host.turn.wish) {
            Wish::GoOn => {}
            Wish::CloseWhenFlushed => self.phase = Phase::Closing,
            Wish::Abort => {
                self.phase = Phase::Aborted;
                self.cold = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Echoes whole lines, and ends at "quit".
    #[derive(Clone)]
    struct Lines;

    impl Protocol for Lines {
        type Session = ();

        fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

        fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
            let mut consumed = 0;
            for line in input.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
                if line == b"quit\n" {
                    cx.close_when_flushed();
                }
                cx.send(line);
                consumed += line.len();
            }
            consumed
        }
    }

    const ID: Token = Token(7);

    fn open() -> (Host<Lines>, Connection<Lines>) {
        let mut host = Host::new(Lines);
        let connection = Connection::open(&mut host, ID, &Peer::default());
        (host, connection)
    }

    /// Takes everything, `most` bytes at a time.
    fn drain(connection: &mut Connection<Lines>, host: &mut Host<Lines>, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let piece = connection.outgoing(host).iter().take(most).copied().collect::<Vec<_>>();
            if piece.is_empty() {
                connection.settle(host);
                return all;
            }
            connection.sent(host, piece.len());
            all.extend(piece);
        }
    }

    #[test]
    fn any_split_of_the_input_gives_the_same_output() {
        let text = b"one\ntwo\n\nfour and more\n";
        for size in 1..=text.len() {
            let (mut host, mut connection) = open();
            let mut output = Vec::new();
            for piece in text.chunks(size) {
                connection.receive(&mut host, ID, piece);
                output.extend(drain(&mut connection, &mut host, 3));
            }
            assert_eq!(output, text, "in pieces of {size}");
            assert_eq!((connection.kept(), connection.owed()), (0, 0));
        }
    }

    #[test]
    fn what_was_not_sent_goes_before_what_comes_later() {
        let (mut host, mut connection) = open();
        connection.receive(&mut host, ID, b"first\n");
        connection.sent(&mut host, 2);
        connection.settle(&mut host);
        connection.receive(&mut host, ID, b"second\n");
        connection.settle(&mut host);
        assert_eq!(drain(&mut connection, &mut host, 4), b"rst\nsecond\n");
    }

    #[test]
    fn a_closing_connection_finishes_what_it_owes_and_reads_no_more() {
        let (mut host, mut connection) = open();
        connection.receive(&mut host, ID, b"quit\n");
        connection.settle(&mut host);
        assert!(!connection.reads() && !connection.finished());
        connection.receive(&mut host, ID, b"late\n");
        assert_eq!(drain(&mut connection, &mut host, 64), b"quit\n");
        assert!(connection.finished());
    }

    #[test]
    fn what_was_sent_takes_no_room_while_something_is_always_owed() {
        let (mut host, mut connection) = open();
        let text = [[b'x'; 999].as_slice(), b"\n"].concat();
        for _ in 0..1_000 {
            connection.receive(&mut host, ID, &text);
            connection.settle(&mut host);
            if connection.owed() > 4_000 {
                connection.sent(&mut host, 1_000);
            }
        }
        let held = connection.cold.as_ref().map_or(0, |cold| cold.output.capacity());
        assert!(held <= 16_000, "{held} bytes are held to owe {}", connection.owed());
        assert_eq!(drain(&mut connection, &mut host, 777), text.repeat(4));
    }

    /// Hangs up at once, and at its deadline for good.
    #[derive(Clone)]
    struct Impatient;

    impl Protocol for Impatient {
        type Session = ();

        fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
            cx.send(b"bye");
            cx.close_when_flushed();
            cx.deadline(Some(Duration::from_secs(1)));
        }

        fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
            input.len()
        }
    }

    #[test]
    fn a_deadline_ends_a_connection_that_cannot_flush() {
        let mut host = Host::new(Impatient);
        let mut connection = Connection::open(&mut host, ID, &Peer::default());
        connection.settle(&mut host);
        assert!(host.take_deadline().flatten().is_some() && !connection.finished());
        connection.due(&mut host, ID);
        assert!(connection.finished() && connection.aborted());
    }

    #[test]
    fn an_idle_connection_owns_no_buffer() {
        let (mut host, mut connection) = open();
        connection.receive(&mut host, ID, b"unfinished");
        assert!(connection.cold.is_some());
        connection.receive(&mut host, ID, b"\n");
        drain(&mut connection, &mut host, 64);
        assert!(connection.cold.is_none());
        assert_eq!(size_of::<Connection<crate::protocol::Echo>>(), 16);
    }
}
