//! WebSocket (RFC 6455) for servers: messages that come back, or go to all.
//!
//! | idea | file |
//! |---|---|
//! | one connection: the handshake, then messages, then the end | this one |
//! | the request that asks for a WebSocket | `handshake.rs` |
//! | frames, and the messages they make | `messages.rs` |
//! | who hears what is said to all | `room.rs` |

mod handshake;
mod messages;
mod room;

use std::sync::Arc;
use std::time::Duration;

use pollmark_backends::Token;

use self::handshake::Handshake;
use self::messages::{Heard, Inbound, Kind};
use self::room::Corner;
use super::http::{Date, Limits as HttpLimits};
use super::{Context, Peer, Post, Protocol};

/// A server of WebSockets. What a request asks for decides what becomes of its messages: `/broadcast` sends each to all
/// connections that asked for the same, `/` and `/echo` send each back.
///
/// Frames and the key of the handshake are those of the crate tungstenite.
///
/// All clones have one room: the connections of a server are in it, on whatever thread they are served, and where
/// several servers are one, with a loop and a thread each, those of all of them.
///
/// ```no_run
/// use pollmark::{backends::Registry, mechanism::Mechanism, protocol::Ws, server::Config};
///
/// # fn main() -> std::io::Result<()> {
/// let registry = Registry::builtin();
/// let config = Config::listen("127.0.0.1:8080".parse()?);
/// Mechanism::choose(&registry)?.bind(&registry, config, Ws::default())?.run()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ws {
    limits: Limits,
    corner: Arc<Corner>,
    date: Date,
}

/// What a peer may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a message, in however many frames: beyond, the connection is closed with code 1009. A server's own
    /// limit of an unfinished message should be a little higher.
    pub most_message: usize,
    /// Bytes sent to all that one who hears them may leave unread before it is closed with code 1013: what it does not
    /// read is kept for it.
    pub most_unread: usize,
    /// How long the handshake may take; and how often, after it, a connection is asked whether it is still there. One
    /// that says nothing from one question to the next is given up.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { most_message: 512 * 1024, most_unread: 4 * 1024 * 1024, patience: Duration::from_secs(30) }
    }
}

/// What is remembered of one connection.
#[derive(Debug)]
pub struct Session {
    stage: Stage,
    /// Nothing has been heard since it was asked whether it is still there.
    asked: bool,
}

#[derive(Debug)]
enum Stage {
    Handshake,
    /// Messages, and the seat in the room of who hears those to all.
    Open(Inbound, Option<Seat>),
    Closed,
}

/// A place in the room, which is left when the connection ends, however it ends.
#[derive(Debug)]
struct Seat {
    corner: Arc<Corner>,
    connection: Token,
}

impl Seat {
    fn take(corner: &Arc<Corner>, connection: Token) -> Seat {
        corner.enter(connection);
        Seat { corner: Arc::clone(corner), connection }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.corner.leave(self.connection);
    }
}

impl Ws {
    /// An empty room, and connections within `limits`.
    pub fn new(limits: Limits) -> Ws {
        Ws { limits, ..Ws::default() }
    }

    /// Reads the request for a WebSocket. How many bytes it has.
    #[cold]
    fn shake_hands(&mut self, session: &mut Session, input: &[u8], cx: &mut Context<'_>) -> usize {
        let date = self.date.now(cx);
        match handshake::read(input, &HttpLimits::default()) {
            Handshake::Unfinished => 0,
            Handshake::Refused(refusal) => {
                refusal.send(cx, date);
                cx.close_when_flushed();
                session.stage = Stage::Closed;
                input.len()
            }
            Handshake::Accepted { key, to_all, length } => {
                handshake::accept(cx, date, &key);
                let seat = to_all.then(|| Seat::take(&self.corner, cx.connection()));
                session.stage = Stage::Open(Inbound::default(), seat);
                length
            }
        }
    }
}

impl Protocol for Ws {
    type Session = Session;

    fn refusal(&self) -> &'static [u8] {
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    }

    fn begin(&mut self, post: &Post) {
        self.corner = Arc::new(self.corner.another(post));
    }

    fn open(&mut self, _peer: &Peer, cx: &mut Context<'_>) -> Session {
        cx.deadline(Some(self.limits.patience));
        Session { stage: Stage::Handshake, asked: false }
    }

    fn received(&mut self, session: &mut Session, input: &[u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        if let Stage::Handshake = session.stage {
            consumed = self.shake_hands(session, input, cx);
        }
        let Stage::Open(inbound, seat) = &mut session.stage else { return consumed };
        session.asked = false;
        let mut to_all = Vec::new();
        let ended = loop {
            if cx.is_full() {
                break false;
            }
            let (bytes, heard) = inbound.next(&input[consumed..], &self.limits, cx);
            consumed += bytes;
            match heard {
                Ok(Heard::Unfinished) => break false,
                Ok(Heard::Nothing) => {}
                Ok(Heard::Message { start }) => {
                    // It stands where it would go back to who sent it; who hears it all the same is the room.
                    if seat.is_some() {
                        to_all.extend_from_slice(&cx.turn.output[start..]);
                    }
                }
                Ok(Heard::Pong(number)) => {
                    if let Some(seat) = seat {
                        seat.corner.acknowledge(seat.connection, number);
                    }
                }
                Ok(Heard::Close) => break true,
                Err(code) => {
                    tracing::debug!(connection = ?cx.connection(), code = u16::from(code), "closed for what it said");
                    messages::close(code, cx);
                    break true;
                }
            }
        };
        if !to_all.is_empty()
            && let Some(seat) = seat
        {
            seat.corner.say(seat.connection, &to_all, self.limits.most_unread, cx);
        }
        if ended {
            cx.close_when_flushed();
            session.stage = Stage::Closed;
            return input.len();
        }
        consumed
    }

    fn due(&mut self, session: &mut Session, cx: &mut Context<'_>) {
        match session.stage {
            Stage::Open(..) if !session.asked => {
                session.asked = true;
                messages::frame(Kind::Ping, b"", &mut cx.turn.output);
                cx.deadline(Some(self.limits.patience));
            }
            _ => cx.abort(),
        }
    }
}
