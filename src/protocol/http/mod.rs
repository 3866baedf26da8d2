//! HTTP/1.1 (RFC 9112) for servers: requests in, whole responses out.
//!
//! | idea | file |
//! |---|---|
//! | one connection: what comes next, and what is wrong with it | this one |
//! | what a request's head says of its body and of the connection | `head.rs` |
//! | bodies in chunks | `chunks.rs` |
//! | what is answered, and the time it says | `response.rs` |
//! | who answers; plain text and JSON, built in | `routes.rs` |

mod chunks;
mod head;
mod response;
mod routes;

use std::mem::MaybeUninit;
use std::time::Duration;

pub(crate) use self::chunks::{Chunks, Scanned, unchunk};
pub(super) use self::head::{Body, Facts, find_head};
pub(crate) use self::head::{Fault, content_length, has_token};
pub(super) use self::response::Date;
use super::{Context, Peer, Protocol};

pub use self::response::{Response, Sent, Status};
pub use self::routes::{Pages, Request, Routes};

/// The most fields a head may have.
pub(crate) const MOST_FIELDS: usize = 64;
/// Room for a body in chunks that a loop keeps for the next one.
const ORDINARY_BODY: usize = 64 * 1024;
/// A server of HTTP/1.1 and 1.0 for [`Routes`]: connections are kept, requests may be pipelined, and what is wrong is
/// answered by the status that says so before the connection is closed.
///
/// ```
/// use pollmark::protocol::http::{Http, Request, Response, Routes, Sent, Status};
///
/// #[derive(Clone)]
/// struct Greeter;
///
/// impl Routes for Greeter {
///     fn answer(&mut self, request: &Request<'_>, response: Response<'_, '_>) -> Sent {
///         match (request.method(), request.path()) {
///             ("GET" | "HEAD", "/hello") => response.send(Status::OK, &[("Content-Type", "text/plain")], b"Hello!"),
///             _ => response.send(Status::NOT_FOUND, &[], b""),
///         }
///     }
/// }
///
/// let protocol = Http::new(Greeter);
/// # let _ = protocol;
/// ```
#[derive(Clone, Debug)]
pub struct Http<R = Pages> {
    routes: R,
    limits: Limits,
    date: Date,
    /// Where bodies in chunks are put together.
    body: Vec<u8>,
}

/// What a peer may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a request's target: 414 beyond.
    pub most_target: usize,
    /// Bytes of a request's head: 431 beyond, or 414 if there is no end of its first line.
    pub most_head: usize,
    /// Bytes of a request's body, as it is sent, with the lengths of its chunks: 413 beyond. A server's own limit of an
    /// unfinished message should be higher than this and the head together: it closes without a word.
    pub most_body: usize,
    /// Bytes of the responses to what is answered at once, which is one request beside what a server lets a peer be
    /// owed; the connection is closed beyond.
    pub most_gathered: usize,
    /// How long a request may take to come in, from its first byte to its last: 408 after that. For how long nothing at
    /// all may come is the server's affair.
    pub request: Duration,
    /// How long a peer that was refused may go on sending what nobody reads, before it is cut off. To close at once
    /// would be a reset, and it would not see why it was refused.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            most_target: 8 * 1024,
            most_head: 16 * 1024,
            most_body: 1_000_000,
            most_gathered: 16 * 1024 * 1024,
            request: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

/// What is remembered of one connection.
#[derive(Debug, Default)]
pub struct Session {
    stage: Stage,
    /// An unfinished request is waited for, and has its deadline.
    timed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// A head comes next.
    #[default]
    Head,
    /// A head has been understood, and what comes next with it: a body that ends so many bytes after its beginning.
    Body { end: usize },
    /// The same for a body in chunks, which begins after so many bytes.
    Chunks { start: usize, chunks: Chunks },
    /// The peer was refused, and is about to notice, or to send this many bytes more in vain.
    Refused { unread: usize },
}

impl Default for Http {
    fn default() -> Http {
        Http::new(Pages)
    }
}

impl<R: Routes> Http<R> {
    /// Requests answered by `routes`, within the default [`Limits`].
    pub fn new(routes: R) -> Http<R> {
        Http { routes, limits: Limits::default(), date: Date::default(), body: Vec::new() }
    }

    /// The same within `limits`.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Http<R> {
        Http { limits, ..self }
    }

    /// Answers the request `input` begins with, if all of it is there. How many bytes it has.
    #[inline]
    fn request(&mut self, stage: &mut Stage, input: &[u8], cx: &mut Context<'_>) -> Result<Option<usize>, Fault> {
        if !stage.may_be_whole(input, &self.limits)? {
            return Ok(None);
        }
        let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
        let Some((head, start)) = find_head(input, &mut room, &self.limits)? else { return Ok(None) };
        let facts = Facts::of(&head, &self.limits)?;
        if *stage == Stage::Head {
            if facts.expects {
                // Also if the body is here by now: what is said does not depend on how the request was cut.
                cx.send(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            *stage = match facts.body {
                Body::Length(length) => Stage::Body { end: start + length },
                Body::Chunked => Stage::Chunks { start, chunks: Chunks::default() },
            };
            if !stage.may_be_whole(input, &self.limits)? {
                return Ok(None);
            }
        }
        let end = match std::mem::take(stage) {
            Stage::Chunks { start, chunks } => {
                unchunk(&input[start..], &mut self.body);
                start + chunks.at()
            }
            Stage::Body { end } => end,
            Stage::Head | Stage::Refused { .. } => start,
        };
        let body = if facts.body == Body::Chunked { &self.body } else { &input[start..end] };
        let request = Request::new(&head, body);
        let date = self.date.now(cx);
        let response = Response::new(cx, date, &request, facts.keep_alive);
        let _: Sent = self.routes.answer(&request, response);
        Ok(Some(end))
    }

    /// Says what is wrong, and no more.
    #[cold]
    fn refuse(&mut self, session: &mut Session, status: Status, cx: &mut Context<'_>) {
        tracing::debug!(connection = ?cx.connection(), %status, "refused");
        let date = self.date.now(cx);
        let _: Sent = Response::refusal(cx, date).send(status, &[], b"");
        session.stage = Stage::Refused { unread: self.limits.most_body };
        session.timed = true;
        cx.deadline(Some(self.limits.linger));
    }
}

impl<R: Routes> Protocol for Http<R> {
    type Session = Session;

    fn refusal(&self) -> &'static [u8] {
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    }

    fn open(&mut self, _peer: &Peer, _cx: &mut Context<'_>) -> Session {
        Session::default()
    }

    #[inline]
    fn received(&mut self, session: &mut Session, input: &[u8], cx: &mut Context<'_>) -> usize {
        let (mut consumed, mut answered) = (0, false);
        loop {
            if let Stage::Refused { unread } = &mut session.stage {
                *unread = unread.saturating_sub(input.len() - consumed);
                if *unread == 0 {
                    cx.close_when_flushed();
                }
                return input.len();
            }
            if cx.is_full() {
                break;
            }
            if session.stage == Stage::Head {
                consumed += empty_lines(&input[consumed..]);
            }
            match self.request(&mut session.stage, &input[consumed..], cx) {
                Ok(Some(bytes)) => {
                    consumed += bytes;
                    answered = true;
                    if cx.gathered() > self.limits.most_gathered {
                        tracing::debug!(connection = ?cx.connection(), "more was asked for at once than there may be");
                        cx.close_when_flushed();
                    }
                    if cx.is_closing() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(fault) => self.refuse(session, fault.status(), cx),
            }
        }
        if self.body.capacity() > ORDINARY_BODY {
            self.body = Vec::new();
        }
        // What is left for later may be whole, and is our affair; what is left at the end is nobody's.
        let pending = consumed < input.len() && !cx.is_full() && !cx.is_closing();
        if pending != session.timed || (pending && answered) {
            session.timed = pending;
            cx.deadline(pending.then_some(self.limits.request));
        }
        consumed
    }

    fn eof(&mut self, session: &mut Session, cx: &mut Context<'_>) {
        // What is unfinished remains so. Whoever was refused takes that by the same deadline as before.
        if session.stage.awaits_a_request() && std::mem::take(&mut session.timed) {
            cx.deadline(None);
        }
        cx.close_when_flushed();
    }

    fn due(&mut self, session: &mut Session, cx: &mut Context<'_>) {
        match session.stage {
            Stage::Refused { .. } => cx.abort(),
            _ => self.refuse(session, Status::REQUEST_TIMEOUT, cx),
        }
    }
}

impl Stage {
    fn awaits_a_request(&self) -> bool {
        !matches!(self, Stage::Refused { .. })
    }

    /// Whether, by what is known of it, all of a request may be there.
    #[inline]
    fn may_be_whole(&mut self, input: &[u8], limits: &Limits) -> Result<bool, Fault> {
        match self {
            Stage::Head => Ok(!input.is_empty()),
            Stage::Body { end } => Ok(*end <= input.len()),
            Stage::Chunks { start, chunks } => {
                let body = input.get(*start..).unwrap_or_default();
                Ok(chunks.scan(body, limits.most_body)? == Scanned::Whole)
            }
            Stage::Refused { .. } => Ok(false),
        }
    }
}

/// How many bytes of empty lines there are: some clients send one after a body (RFC 9112, section 2.2).
#[inline]
fn empty_lines(input: &[u8]) -> usize {
    input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

#[cfg(test)]
mod tests {
    use pollmark_backends::Token;

    use super::*;
    use crate::conn::Connection;
    use crate::protocol::Host;

    const HEAD: &[u8] = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";

    #[test]
    fn the_deadline_of_a_request_is_withdrawn_with_the_last_answer_and_at_the_end() {
        for ends in [false, true] {
            let (mut host, id) = (Host::new(Http::default()), Token(1));
            let mut connection = Connection::open(&mut host, id, &Peer::default());
            connection.receive(&mut host, id, HEAD);
            assert!(matches!(host.take_deadline(), Some(Some(_))), "its body is awaited");
            if ends {
                connection.eof(&mut host, id);
            } else {
                connection.receive(&mut host, id, b"hello");
                assert!(connection.outgoing(&host).ends_with(b"hello"));
            }
            // Or whoever is slow to take what it is owed would be told that its request was.
            assert_eq!(host.take_deadline(), Some(None), "ends: {ends}");
        }
    }

    #[test]
    fn whoever_was_refused_is_cut_off_at_its_deadline_though_it_says_no_more() {
        let (mut host, id) = (Host::new(Http::default()), Token(1));
        let mut connection = Connection::open(&mut host, id, &Peer::default());
        connection.receive(&mut host, id, b"no request\r\n\r\n");
        assert!(matches!(host.take_deadline(), Some(Some(_))));
        connection.eof(&mut host, id);
        assert_eq!(host.take_deadline(), None, "the deadline stands");
    }
}
