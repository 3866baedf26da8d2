//! What a server says: sans-I/O, so that one protocol runs unchanged on every driver and in every test.

mod datagrams;
mod echo;
pub mod frame;
#[cfg(feature = "http")]
pub mod http;
mod post;
pub mod proxy;
pub mod resp;
mod text;
#[cfg(feature = "ws")]
pub mod ws;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollmark_backends::Token;

use crate::clock::Clock;

pub use datagrams::{DatagramProtocol, EchoDatagrams, Replies};
pub use echo::Echo;
pub use frame::Frame;
#[cfg(feature = "http")]
pub use http::Http;
pub use post::{Letter, Post};
pub use proxy::Proxied;
pub use resp::Resp;
#[cfg(feature = "ws")]
pub use ws::Ws;

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

    /// Whether [`open`](Protocol::open) is to be told the peer's address on every driver. Where accepting does not tell
    /// it, as on the completion driver, the socket is asked for it then, by getpeername(2): a call for each connection.
    /// By default it is told only where it comes for nothing.
    const ASKS_FOR_PEER: bool = false;

    /// A server was bound to this clone. Connections are [named](Context::connection) within one server; several of
    /// them may serve one port, each with a clone of its own. What a protocol remembers by such names is of use in this
    /// server alone, and in the clones it makes; `post` is how others reach them. By default nothing is done.
    fn begin(&mut self, post: &Post) {
        let _ = post;
    }

    /// What is sent to those for whom there is [no room](crate::server::Excess::Reply). By default nothing.
    fn refusal(&self) -> &'static [u8] {
        b""
    }

    /// What is said to those who send datagrams, where a server listens for such. By default nothing: no server is
    /// bound to an address of datagrams then.
    fn datagrams(&self) -> Option<Box<dyn DatagramProtocol>> {
        None
    }

    /// A connection was accepted.
    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> Self::Session;

    /// Bytes arrived: `input` is what was kept of earlier calls, followed by what is new. Returns how many bytes were
    /// consumed; the rest is kept. More than `input.len()` counts as all.
    ///
    /// A protocol whose answers can be longer than what asks for them looks before each message whether
    /// [enough is owed](Context::is_full), and leaves that message, and what follows it, unconsumed then. It is called
    /// again with them when the peer has taken enough of what it is owed, and there need not be anything new behind.
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
    /// Its address, if it is known: a peer on a Unix socket has none, and not every driver
    /// [asks](Protocol::ASKS_FOR_PEER) for it unasked.
    pub address: Option<SocketAddr>,
    /// It is known to be on a Unix socket, and so on this host.
    pub is_on_unix: bool,
}

impl Peer {
    /// A peer of known address.
    pub const fn at(address: SocketAddr) -> Peer {
        Peer { address: Some(address), is_on_unix: false }
    }

    /// A peer on a Unix socket.
    pub const fn on_unix() -> Peer {
        Peer { address: None, is_on_unix: true }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None if self.is_on_unix => f.write_str("a peer on a Unix socket"),
            None => f.write_str("an unnamed peer"),
        }
    }
}

/// Room for answers that a loop keeps for the next ones, in bytes. What it kept of long ones, it would keep for ever.
pub(crate) const ORDINARY_ANSWER: usize = 256 * 1024;

/// What one loop shares among all its connections while it serves them in turn.
///
/// A connection that owes nothing owns no buffer: output is gathered here, written at once, and only what the kernel
/// did not take moves into the connection.
#[derive(Debug)]
pub struct Turn {
    pub(crate) output: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) wish: Wish,
    pub(crate) deadline: Option<Option<Instant>>,
    pub(crate) mail: Vec<Letter>,
    /// The [marks](Host::with_water), and how much may be gathered now before the high one is passed.
    high_water: usize,
    low_water: usize,
    room: usize,
    clock: Clock,
    now: Option<Instant>,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn {
            output: Vec::new(),
            sent: 0,
            wish: Wish::default(),
            deadline: None,
            mail: Vec::new(),
            high_water: usize::MAX,
            low_water: usize::MAX,
            room: usize::MAX,
            clock: Clock::default(),
            now: None,
        }
    }
}

impl Turn {
    /// The clock, read at most once between two calls of [`forget_time`](Turn::forget_time).
    pub(crate) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(|| self.clock.now())
    }

    /// What is to be sent now: `returned` input from where it lies, or, if there is more, all of it gathered.
    #[inline(always)]
    pub(crate) fn answer<'a>(&'a mut self, returned: &'a [u8]) -> &'a [u8] {
        if self.output.is_empty() {
            return returned;
        }
        self.prepend(returned);
        &self.output
    }

    /// The first `count` bytes of the [`answer`](Turn::answer) are gone, or the whole of it.
    #[inline(always)]
    pub(crate) fn answered(&mut self, returned: &[u8], count: usize, whole: bool) {
        if !whole {
            self.answered_in_part(returned, count);
        } else if !self.output.is_empty() {
            self.forget_output();
        }
    }

    #[cold]
    fn answered_in_part(&mut self, returned: &[u8], count: usize) {
        if self.output.is_empty() {
            self.output.extend_from_slice(returned);
        }
        self.sent = count;
    }

    /// Copies input that is to be sent before all else, because it cannot stay where it lies.
    #[inline]
    pub(crate) fn prepend(&mut self, returned: &[u8]) {
        if !returned.is_empty() {
            self.output.splice(0..0, returned.iter().copied());
        }
    }

    /// Whether more than the high-water mark is owed, with so many bytes that are to be returned.
    #[inline]
    pub(crate) fn is_full(&self, returned: usize) -> bool {
        self.output.len() + returned > self.room
    }

    /// Whether no more than the low-water mark is owed, by a connection that owes so many bytes itself.
    pub(crate) fn is_low(&self, owed: usize) -> bool {
        owed + self.output.len() - self.sent <= self.low_water
    }

    /// Whether a connection that owes so many bytes itself is read from, as long as it is, or again.
    pub(crate) fn may_be_owed(&self, owed: usize, is_reading: bool) -> bool {
        owed <= if is_reading { self.high_water } else { self.low_water }
    }

    /// What is gathered from now on is for a connection that owes so many bytes already. Says whether there is room for
    /// it.
    pub(crate) fn make_room(&mut self, owed: usize) -> bool {
        let most = self.high_water.saturating_add(self.sent);
        self.room = most.saturating_sub(owed);
        owed <= most && !self.is_full(0)
    }

    /// What is gathered next is for a connection that owes nothing, as nearly all do.
    pub(crate) fn forget_owed(&mut self) {
        self.room = self.high_water;
    }

    /// Nothing of it is to be sent any more. The room stays for the next answer, unless it was a long one.
    #[inline]
    pub(crate) fn forget_output(&mut self) {
        self.output.clear();
        self.sent = 0;
        if self.output.capacity() > ORDINARY_ANSWER {
            self.output = Vec::new();
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
        Host::with_clock(protocol, Clock::default())
    }

    /// As above, with the time read from `clock`.
    pub fn with_clock(protocol: P, clock: Clock) -> Host<P> {
        Host { protocol, turn: Turn { clock, ..Turn::default() } }
    }

    /// A connection that owes more bytes than `high` has no more of its input consumed before it owes no more than
    /// `low`. Without this there is no bound.
    #[must_use]
    pub fn with_water(mut self, high: usize, low: usize) -> Host<P> {
        let turn = &mut self.turn;
        (turn.high_water, turn.low_water, turn.room) = (high, low.min(high), high);
        self
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
    /// So much of the input is to be sent before all else, from where it lies.
    returned: usize,
    /// Anything but sending was asked for: the one question the common case has to put.
    asked: bool,
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
        Context { turn, connection, input, returned: 0, asked: false }
    }

    /// How much of the input is to be sent before all else.
    #[inline(always)]
    pub(crate) fn returned(&self) -> usize {
        self.returned
    }

    /// Whether anything but sending was asked for.
    #[inline(always)]
    pub(crate) fn asked(&self) -> bool {
        self.asked
    }

    /// Has a protocol within this one act on the input without its first `count` bytes.
    pub(crate) fn skipping<R>(&mut self, count: usize, act: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let input = &self.input[count..];
        let mut rest = Context::new(self.turn, self.connection, input);
        let result = act(&mut rest);
        let (returned, asked) = (rest.returned, rest.asked);
        self.asked |= asked;
        // What is returned stands at the beginning of the input, and this does not.
        self.turn.prepend(&input[..returned]);
        result
    }

    /// All that was asked for, for whoever listens in.
    #[cfg(feature = "conformance")]
    pub(crate) fn turn(&mut self) -> &mut Turn {
        self.turn
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
        if self.turn.output.is_empty() && self.returned == 0 {
            self.returned = count;
        } else {
            self.turn.output.extend_from_slice(bytes);
        }
    }

    /// Whether the connection owes more than its high-water mark by now: what is left of the input is for later, and
    /// [`received`](Protocol::received) is to return without having consumed it. It may finish the message it is about, so
    /// that no more is ever owed than the mark and the longest answer to one message.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.is_full_with(0)
    }

    /// The same, if so many bytes of input are still to be [returned](Context::send_input).
    #[inline]
    pub(crate) fn is_full_with(&self, returned: usize) -> bool {
        self.turn.is_full(self.returned + returned)
    }

    /// How many bytes this call has sent so far, without [returned](Context::send_input) input: what the loop holds for
    /// this connection until the call is over. Where the answer to a single message can be much longer than what asks
    /// for it, a protocol bounds this, because nothing else does within one message.
    #[inline]
    pub fn gathered(&self) -> usize {
        self.turn.output.len()
    }

    /// Whether this call has asked for the end of the connection: nothing further will be heard of it.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.asked && self.turn.wish != Wish::GoOn
    }

    /// Sends shared bytes to another connection of the same loop; dropped if it is gone. Connections of other loops are
    /// reached by their [`Post`]. Nothing bounds what a peer that does not read comes to be owed in this way: the protocol
    /// knows best whom to give up.
    pub fn send_to(&mut self, connection: Token, bytes: Arc<[u8]>) {
        self.turn.mail.push((connection, bytes));
    }

    /// Sends what is owed, then closes. Nothing more is read.
    pub fn close_when_flushed(&mut self) {
        self.asked = true;
        self.turn.wish = self.turn.wish.max(Wish::CloseWhenFlushed);
    }

    /// Closes at once, by a reset; what is owed is lost.
    pub fn abort(&mut self) {
        self.asked = true;
        self.turn.wish = Wish::Abort;
    }

    /// Asks for [`Protocol::due`] once `after` has passed, instead of any deadline set before; `None` takes it back.
    /// It stands, too, while the connection is closing: a peer that does not take what it is owed can be given up.
    pub fn deadline(&mut self, after: Option<Duration>) {
        self.asked = true;
        self.turn.deadline = Some(after.and_then(|after| self.turn.now().checked_add(after)));
    }
}
