//! What a server says: sans-I/O, so that one protocol runs unchanged on every driver and in every test.

mod echo;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollmark_backends::Token;

pub use echo::Echo;

/// A protocol, without any I/O: bytes in, bytes out through the [`Context`].
///
/// Each loop thread works on a clone of its own; each connection has a `Session`, whose size counts as memory of an
/// idle connection. A protocol never sees a descriptor, and cannot block the loop except by computing.
///
/// ```
/// use pollmark::protocol::{Context, Peer, Protocol};
///
/// /// Answers each line by its length.
/// #[derive(Clone)]
/// struct Lengths;
///
/// impl Protocol for Lengths {
///     type Session = ();
///
///     fn open(&mut self, _peer: &Peer, _cx: &mut Context<'_>) {}
///
///     fn received(&mut self, _session: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
///         let mut consumed = 0;
///         for line in input.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
///             cx.send(format!("{}\n", line.len() - 1).as_bytes());
///             consumed += line.len();
///         }
///         consumed // an unfinished line is kept, and seen again with what follows
///     }
/// }
/// ```
pub trait Protocol: Clone + Send + 'static {
    /// What is remembered of one connection.
    type Session: Send;

    /// A connection was accepted.
    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> Self::Session;

    /// Bytes arrived: `input` is what was kept of earlier calls, followed by what is new. Returns how many bytes were
    /// consumed; the rest is kept. More than `input.len()` counts as all.
    fn received(&mut self, session: &mut Self::Session, input: &[u8], cx: &mut Context<'_>) -> usize;

    /// The peer will send no more. By default what is owed is sent and the connection closed.
    fn eof(&mut self, session: &mut Self::Session, cx: &mut Context<'_>) {
        let _ = session;
        cx.close_when_flushed();
    }

    /// The deadline set through [`Context::deadline`] has passed. By default the connection is aborted.
    fn due(&mut self, session: &mut Self::Session, cx: &mut Context<'_>) {
        let _ = session;
        cx.abort();
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Peer {
    /// The address accept(2) told, if it told one.
    pub address: Option<SocketAddr>,
}

impl Peer {
    /// A peer of known address.
    pub const fn at(address: SocketAddr) -> Peer {
        Peer { address: Some(address) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("an unnamed peer"),
        }
    }
}

/// What one loop shares among all its connections while it serves them in turn.
///
/// A connection that owes nothing owns no buffer: output is gathered here, written at once, and only what the kernel
/// did not take moves into the connection.
#[derive(Debug, Default)]
pub struct Turn {
    pub(crate) output: Vec<u8>,
    pub(crate) sent: usize,
    /// So many bytes at the beginning of the input are to be sent before `output`, from where they lie.
    pub(crate) returned: usize,
    /// Anything but sending was asked for: the one question the common case has to put.
    pub(crate) asked: bool,
    pub(crate) wish: Wish,
    pub(crate) deadline: Option<Option<Instant>>,
    pub(crate) mail: Vec<(Token, Arc<[u8]>)>,
    now: Option<Instant>,
}

impl Turn {
    /// The clock, read at most once between two calls of [`forget_time`](Turn::forget_time).
    pub(crate) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// What is to be sent now: from where it lies in `input`, or gathered, if there is more than that.
    #[inline(always)]
    pub(crate) fn answer<'a>(&'a mut self, input: &'a [u8]) -> &'a [u8] {
        if self.output.is_empty() {
            return &input[..self.returned];
        }
        self.gather(input);
        &self.output
    }

    /// The first `count` bytes of the [`answer`](Turn::answer) are gone, or the whole of it.
    #[inline(always)]
    pub(crate) fn answered(&mut self, input: &[u8], count: usize, whole: bool) {
        if whole {
            self.returned = 0;
            self.output.clear();
        } else {
            self.gather(input);
            self.sent = count;
        }
    }

    /// Copies what is to be sent from where it lies in `input`, because it cannot stay there.
    #[inline]
    pub(crate) fn gather(&mut self, input: &[u8]) {
        let returned = std::mem::take(&mut self.returned);
        if returned > 0 {
            self.output.splice(0..0, input[..returned].iter().copied());
        }
    }

    /// Time has passed: the next [`now`](Turn::now) reads the clock.
    #[inline]
    pub(crate) fn forget_time(&mut self) {
        self.now = None;
    }
}

/// A protocol and the [`Turn`] it works with: what a loop lends to each connection it serves.
#[derive(Debug)]
pub struct Host<P> {
    pub(crate) protocol: P,
    pub(crate) turn: Turn,
}

impl<P: Protocol> Host<P> {
    /// A loop needs one for its whole life.
    pub fn new(protocol: P) -> Host<P> {
        Host { protocol, turn: Turn::default() }
    }

    /// What a protocol wished for its deadline since this was last asked: a new one, or none any more.
    #[inline]
    pub fn take_deadline(&mut self) -> Option<Option<Instant>> {
        self.turn.deadline.take()
    }
}

/// What a protocol may ask for while it handles a connection.
#[derive(Debug)]
pub struct Context<'a> {
    turn: &'a mut Turn,
    connection: Token,
    input: &'a [u8],
}

/// How the connection is to go on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Wish {
    #[default]
    GoOn,
    CloseWhenFlushed,
    Abort,
}

impl<'a> Context<'a> {
    #[inline]
    pub(crate) fn new(turn: &'a mut Turn, connection: Token, input: &'a [u8]) -> Context<'a> {
        Context { turn, connection, input }
    }

    /// Names this connection, for [`send_to`](Context::send_to) from another one. The name of a closed connection is
    /// not given to another while the server runs.
    #[inline]
    pub fn connection(&self) -> Token {
        self.connection
    }

    /// The time, read from the clock at most once per wait. Protocols that do not ask cost no clock.
    pub fn now(&mut self) -> Instant {
        self.turn.now()
    }

    /// Sends `bytes` to this connection, after all that was sent before.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) {
        self.turn.output.extend_from_slice(bytes);
    }

    /// Sends the first `count` bytes of the input back, after all that was sent before: the same as
    /// [`send`](Context::send) of them, but from where they lie, without a copy, if they come first and the kernel
    /// takes them at once.
    ///
    /// # Panics
    /// If there is less input.
    #[inline(always)]
    pub fn send_input(&mut self, count: usize) {
        let bytes = &self.input[..count];
        if self.turn.output.is_empty() && self.turn.returned == 0 {
            self.turn.returned = count;
        } else {
            self.turn.output.extend_from_slice(bytes);
        }
    }

    /// Sends shared bytes to another connection of the same loop; dropped if it is gone. Nothing bounds what a peer
    /// that does not read comes to be owed in this way: the protocol knows best whom to give up.
    pub fn send_to(&mut self, connection: Token, bytes: Arc<[u8]>) {
        self.turn.mail.push((connection, bytes));
    }

    /// Sends what is owed, then closes. Nothing more is read.
    pub fn close_when_flushed(&mut self) {
        self.turn.asked = true;
        self.turn.wish = self.turn.wish.max(Wish::CloseWhenFlushed);
    }

    /// Closes at once, by a reset; what is owed is lost.
    pub fn abort(&mut self) {
        self.turn.asked = true;
        self.turn.wish = Wish::Abort;
    }

    /// Asks for [`Protocol::due`] once `after` has passed, instead of any deadline set before; `None` takes it back.
    /// It stands, too, while the connection is closing: a peer that does not take what it is owed can be given up.
    pub fn deadline(&mut self, after: Option<Duration>) {
        self.turn.asked = true;
        self.turn.deadline = Some(after.and_then(|after| self.turn.now().checked_add(after)));
    }
}
