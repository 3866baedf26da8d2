//! A connection, without I/O: what was read, what is owed, when to close.
//!
//! Drivers push bytes in and take bytes out; a connection never calls read or write. The same state machine stands
//! under readiness loops, blocking threads and tests.

mod queue;
#[cfg(test)]
mod tests;

use pollmark_backends::Token;

use self::queue::Queue;
use crate::protocol::{Context, Host, ORDINARY_ANSWER, Peer, Protocol, Wish};

/// One connection of a [`Protocol`].
///
/// While it owes nothing and holds no unfinished message it is its session and 16 bytes. Output is gathered in the
/// loop's [`Host`]; after each call that may produce some, the driver sends [`outgoing`](Connection::outgoing), tells
/// [`sent`](Connection::sent), and ends with [`settle`](Connection::settle), which moves what is left into the
/// connection, so that the host is free for the next.
///
/// What a peer is owed bounds what it is worked for. Beyond the high-water mark of the [`Host`] no more of its input is
/// consumed, not even what was read already: that is [held back](Connection::is_held), and the driver
/// [goes on](Connection::resume) with it when the peer has taken enough.
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
    /// A message was consumed since somebody asked, other than those that left the connection quiet as it was.
    consumed: bool,
}

/// What a quiet connection made of its input.
pub(crate) struct Reply<'a> {
    /// Input to be sent before what is gathered.
    pub(crate) returned: &'a [u8],
    /// But for what is now to be sent, the connection is as quiet as before, and nothing else was asked for.
    pub(crate) quiet: bool,
}

#[derive(Debug, Default)]
struct Cold {
    input: Queue,
    output: Queue,
    /// How many bytes are owed that were taken out, and not given back yet.
    taken: usize,
    /// The input is not to be consumed before less is owed.
    held: bool,
}

impl Cold {
    fn owed(&self) -> usize {
        self.output.len() + self.taken
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// The peer is done, and some of what it has said is held back.
    Ending,
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
        let mut connection = Connection { session, cold: None, phase: Phase::Open, consumed: false };
        connection.obey(host);
        connection
    }

    /// Bytes arrived. Ignored once the connection is closing.
    #[inline]
    pub fn receive(&mut self, host: &mut Host<P>, id: Token, bytes: &[u8]) {
        if self.is_quiet() {
            let reply = self.receive_quietly(host, id, bytes);
            self.consumed |= reply.quiet;
            host.turn.prepend(reply.returned);
        } else if self.reads() {
            self.receive_more(host, id, bytes);
        }
    }

    /// Bytes arrived at a connection that [is quiet](Connection::is_quiet). The caller sends, or gathers, what is
    /// returned of them.
    #[inline(always)]
    pub(crate) fn receive_quietly<'a>(&mut self, host: &mut Host<P>, id: Token, bytes: &'a [u8]) -> Reply<'a> {
        let mut context = Context::new(&mut host.turn, id, bytes);
        let consumed = host.protocol.received(&mut self.session, bytes, &mut context);
        let (returned, asked) = (&bytes[..context.returned()], context.asked());
        if consumed >= bytes.len() && !asked {
            return Reply { returned, quiet: true };
        }
        self.keep(host, bytes, consumed, returned.len());
        self.obey(host);
        // What is to be returned is forgotten with the rest.
        let returned = if self.aborted() { &[] } else { returned };
        Reply { returned, quiet: false }
    }

    /// Goes on with input that is [held back](Connection::is_held), if by now no more than the low-water mark is owed,
    /// the kernel having taken the rest. Says whether it did: then there may be more to send, and more to go on with
    /// after that.
    ///
    /// ```
    /// use pollmark::conn::Connection;
    /// use pollmark::protocol::{Frame, Host, Peer};
    /// use pollmark_backends::Token;
    ///
    /// let (mut host, id) = (Host::new(Frame::default()).with_water(8, 0), Token(1));
    /// let mut connection = Connection::open(&mut host, id, &Peer::default());
    /// connection.receive(&mut host, id, b"\0\0\0\x05hello\0\0\0\x05world");
    /// assert_eq!(connection.outgoing(&host), b"\0\0\0\x05hello");
    /// assert!(connection.is_held() && !connection.resume(&mut host, id), "it owes nine bytes");
    /// connection.sent(&mut host, 9);
    /// assert!(connection.resume(&mut host, id));
    /// assert_eq!(connection.outgoing(&host), b"\0\0\0\x05world");
    /// ```
    pub fn resume(&mut self, host: &mut Host<P>, id: Token) -> bool {
        if !self.can_resume(host) {
            return false;
        }
        self.consume(host, id);
        if self.phase == Phase::Ending && !self.is_held() {
            self.phase = Phase::Open;
            self.eof(host, id);
        }
        true
    }

    /// Whether [`resume`](Connection::resume) would go on.
    #[inline]
    pub fn can_resume(&self, host: &Host<P>) -> bool {
        self.is_held() && host.turn.is_low(self.owed())
    }

    /// The peer will send no more. What it has said before goes first, if that is [held back](Connection::is_held).
    pub fn eof(&mut self, host: &mut Host<P>, id: Token) {
        if self.reads() && self.is_held() {
            self.phase = Phase::Ending;
        } else if self.reads() {
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
        if matches!(self.phase, Phase::Open | Phase::Ending | Phase::HalfClosed) && !bytes.is_empty() {
            self.cold().output.append(bytes);
        }
    }

    /// What can be sent next. After it is gone there may be more: ask until it is empty.
    #[inline]
    pub fn outgoing<'a>(&'a self, host: &'a Host<P>) -> &'a [u8] {
        match &self.cold {
            Some(cold) if !cold.output.is_empty() => cold.output.rest(),
            _ => &host.turn.output[host.turn.sent..],
        }
    }

    /// The first `count` bytes of [`outgoing`](Connection::outgoing) are gone.
    #[inline]
    pub fn sent(&mut self, host: &mut Host<P>, count: usize) {
        match &mut self.cold {
            Some(cold) if !cold.output.is_empty() => {
                cold.output.advance(count);
                self.release();
            }
            _ => host.turn.sent += count,
        }
    }

    /// Takes out what the connection itself owes, for a driver whose kernel reads it between two calls: the vector,
    /// which stays where it is, and where in it the unsent begins. Until it is [given back](Connection::give_back)
    /// nothing else may be sent, and what comes to be owed meanwhile is kept. `None` if nothing is owed, or it is taken
    /// out already.
    ///
    /// ```
    /// use pollmark::conn::Connection;
    /// use pollmark::protocol::{Echo, Host, Peer};
    /// use pollmark_backends::Token;
    ///
    /// let (mut host, id) = (Host::new(Echo), Token(1));
    /// let mut connection = Connection::open(&mut host, id, &Peer::default());
    /// connection.owe(b"hello");
    /// let (bytes, from) = connection.take_outgoing().expect("five bytes are owed");
    /// assert_eq!((&bytes[from..], connection.owed()), (&b"hello"[..], 5));
    /// connection.owe(b", world");
    /// connection.give_back(bytes, from + 3); // the kernel took three bytes
    /// assert_eq!(connection.outgoing(&host), b"lo, world");
    /// ```
    pub fn take_outgoing(&mut self) -> Option<(Vec<u8>, usize)> {
        let cold = self.cold.as_mut().filter(|cold| cold.taken == 0 && !cold.output.is_empty())?;
        cold.taken = cold.output.len();
        Some(cold.output.take())
    }

    /// Gives back what was [taken out](Connection::take_outgoing): of `bytes` the first `sent` are gone.
    pub fn give_back(&mut self, mut bytes: Vec<u8>, sent: usize) {
        let Some(cold) = &mut self.cold else { return }; // aborted meanwhile
        cold.taken = 0;
        if sent < bytes.len() {
            bytes.extend_from_slice(cold.output.rest());
            cold.output = Queue::of(bytes, sent);
        }
        self.release();
    }

    /// Owes `bytes` before all else: they were thought to be sent.
    pub fn unsent(&mut self, mut bytes: Vec<u8>) {
        if self.phase != Phase::Aborted && !bytes.is_empty() {
            let cold = self.cold();
            bytes.extend_from_slice(cold.output.rest());
            cold.output = Queue::of(bytes, 0);
        }
    }

    /// Moves what was not sent into the connection, and leaves the host free for the next.
    #[inline]
    pub fn settle(&mut self, host: &mut Host<P>) {
        if host.turn.sent < host.turn.output.len() {
            let (tail, sent, cold) = (std::mem::take(&mut host.turn.output), host.turn.sent, self.cold());
            // A long one goes with the connection, as it is if nothing comes before it.
            let is_long = tail.capacity() > ORDINARY_ANSWER;
            if is_long && cold.output.is_empty() && cold.taken == 0 {
                cold.output = Queue::of(tail, sent);
            } else {
                cold.output.append(&tail[sent..]);
                if !is_long {
                    host.turn.output = tail;
                }
            }
        }
        host.turn.forget_output();
    }

    /// How many bytes the connection itself holds that were not sent, those taken out among them.
    #[inline]
    pub fn owed(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.owed())
    }

    /// How many bytes of input are kept: of an unfinished message, unless they are [held back](Connection::is_held).
    #[inline]
    pub fn kept(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| cold.input.len())
    }

    /// Whether input is held back: so much is owed that nothing more is to be consumed, nor to be read.
    #[inline]
    pub fn is_held(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.held)
    }

    /// How many bytes of a message are kept that is known to be unfinished.
    #[inline]
    pub fn unfinished(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| if cold.held { 0 } else { cold.input.len() })
    }

    /// Whether a message was consumed since this was last asked: what is kept, if anything is, is another one.
    pub(crate) fn has_consumed(&mut self) -> bool {
        std::mem::take(&mut self.consumed)
    }

    /// Ends it as it stands: by a reset if anything is owed or not answered yet, which a peer is not to take for the
    /// end.
    pub(crate) fn give_up(&mut self) {
        if self.owed() > 0 || self.is_held() {
            (self.phase, self.cold) = (Phase::Aborted, None);
        }
    }

    /// Reads no more, unless a message is unfinished, and ends when nothing is owed.
    pub(crate) fn wind_up(&mut self) {
        if self.phase == Phase::Open && self.kept() == 0 {
            self.phase = Phase::Closing;
        }
    }

    /// Whether input is still wanted.
    #[inline]
    pub fn reads(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the driver is to read from it: it wants input, nothing that was read is held back, and it owes no more
    /// than the high-water mark of the `host` if the driver `is_reading`, and no more than the low one if it has paused.
    ///
    /// ```
    /// use pollmark::conn::Connection;
    /// use pollmark::protocol::{Echo, Host, Peer};
    /// use pollmark_backends::Token;
    ///
    /// let (mut host, id) = (Host::new(Echo).with_water(8, 4), Token(1));
    /// let mut connection = Connection::open(&mut host, id, &Peer::default());
    /// connection.owe(b"six by");
    /// assert!(connection.wants_input(&host, true) && !connection.wants_input(&host, false));
    /// ```
    #[inline]
    pub fn wants_input(&self, host: &Host<P>, is_reading: bool) -> bool {
        self.reads() && !self.is_held() && host.turn.may_be_owed(self.owed(), is_reading)
    }

    /// Whether the connection has ended and nothing is owed: the driver closes it.
    #[inline]
    pub fn finished(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Ending | Phase::HalfClosed => false,
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
        self.phase == Phase::Open && self.cold.is_none()
    }

    #[cold]
    fn receive_more(&mut self, host: &mut Host<P>, id: Token, bytes: &[u8]) {
        self.cold().input.append(bytes);
        self.consume(host, id);
    }

    /// Has the protocol consume what is kept, as far as there is room for its answers.
    fn consume(&mut self, host: &mut Host<P>, id: Token) {
        let cold = self.cold.get_or_insert_default();
        if !host.turn.make_room(cold.owed()) {
            host.turn.forget_owed();
            cold.held = true;
            return;
        }
        let input = cold.input.rest();
        let mut context = Context::new(&mut host.turn, id, input);
        let consumed = host.protocol.received(&mut self.session, input, &mut context).min(input.len());
        let (returned, is_full) = (context.returned(), context.is_full());
        host.turn.prepend(&input[..returned]);
        host.turn.forget_owed();
        cold.input.advance(consumed);
        cold.held = is_full && !cold.input.is_empty();
        self.consumed |= consumed > 0;
        self.release();
        self.obey(host);
    }

    /// Keeps what a quiet connection has not consumed.
    #[cold]
    fn keep(&mut self, host: &Host<P>, bytes: &[u8], consumed: usize, returned: usize) {
        if let Some(rest) = bytes.get(consumed..).filter(|rest| !rest.is_empty()) {
            let cold = self.cold();
            cold.input.append(rest);
            cold.held = host.turn.is_full(returned);
            self.consumed |= consumed > 0;
        }
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    /// An idle connection owns no buffer.
    fn release(&mut self) {
        if self.cold.as_ref().is_some_and(|cold| cold.input.is_empty() && cold.output.is_empty() && cold.taken == 0) {
            self.cold = None;
        }
    }

    #[cold]
    fn obey(&mut self, host: &mut Host<P>) {
        match std::mem::take(&mut host.turn.wish) {
            Wish::GoOn => {}
            Wish::CloseWhenFlushed => {
                self.phase = Phase::Closing;
                // Nobody will ask for the rest of the input.
                if let Some(cold) = &mut self.cold {
                    (cold.input, cold.held) = (Queue::default(), false);
                    self.release();
                }
            }
            Wish::Abort => {
                self.phase = Phase::Aborted;
                self.cold = None;
                // What was gathered comes after what was just dropped: a peer would see a stream with a gap.
                host.turn.forget_output();
            }
        }
    }
}
