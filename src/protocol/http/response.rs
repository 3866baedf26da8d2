//! What is answered, and the time it says.

use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Request;
use crate::protocol::Context;
use crate::protocol::text::Decimal;

/// A status, with the words for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(u16, &'static str);

#[allow(missing_docs, reason = "RFC 9110 says what they mean, and they are called there as they are here")]
impl Status {
    pub const OK: Status = Status(200, "OK");
    pub const NO_CONTENT: Status = Status(204, "No Content");
    pub const BAD_REQUEST: Status = Status(400, "Bad Request");
    pub const FORBIDDEN: Status = Status(403, "Forbidden");
    pub const NOT_FOUND: Status = Status(404, "Not Found");
    pub const METHOD_NOT_ALLOWED: Status = Status(405, "Method Not Allowed");
    pub const REQUEST_TIMEOUT: Status = Status(408, "Request Timeout");
    pub const CONTENT_TOO_LARGE: Status = Status(413, "Content Too Large");
    pub const URI_TOO_LONG: Status = Status(414, "URI Too Long");
    pub const EXPECTATION_FAILED: Status = Status(417, "Expectation Failed");
    pub const UPGRADE_REQUIRED: Status = Status(426, "Upgrade Required");
    pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Status = Status(431, "Request Header Fields Too Large");
    pub const INTERNAL_SERVER_ERROR: Status = Status(500, "Internal Server Error");
    pub const NOT_IMPLEMENTED: Status = Status(501, "Not Implemented");
    pub const SERVICE_UNAVAILABLE: Status = Status(503, "Service Unavailable");
    pub const HTTP_VERSION_NOT_SUPPORTED: Status = Status(505, "HTTP Version Not Supported");
}

impl Status {
    /// Its number.
    pub const fn code(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// Where the answer to one request goes.
#[derive(Debug)]
pub struct Response<'a, 'c> {
    cx: &'a mut Context<'c>,
    date: &'a [u8],
    /// The request was HEAD: what would be the body is told of, and not sent.
    without_body: bool,
    connection: Connection,
}

/// That a request was answered: only [`Response::send`] makes one.
#[derive(Debug)]
#[must_use]
pub struct Sent(());

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Connection {
    /// Kept, which goes without saying.
    Kept,
    /// Kept, for a client of HTTP/1.0, which is told so.
    KeptAloud,
    Closed,
    /// Said to be closed, which is left to the protocol.
    LeftOpen,
}

impl<'a, 'c> Response<'a, 'c> {
    #[inline]
    pub(super) fn new(
        cx: &'a mut Context<'c>,
        date: &'a [u8],
        request: &Request<'_>,
        keep_alive: bool,
    ) -> Response<'a, 'c> {
        let connection = match (keep_alive, request.is_1_1()) {
            (true, true) => Connection::Kept,
            (true, false) => Connection::KeptAloud,
            (false, _) => Connection::Closed,
        };
        Response { cx, date, without_body: request.method() == "HEAD", connection }
    }

    /// The answer to what is no request.
    pub(in crate::protocol) fn refusal(cx: &'a mut Context<'c>, date: &'a [u8]) -> Response<'a, 'c> {
        Response { cx, date, without_body: false, connection: Connection::LeftOpen }
    }

    /// Answers with a status, fields (those of the connection, the date and the length go without saying) and a body.
    /// The body of an answer to HEAD is not sent, only its length.
    ///
    /// A field whose name or value has a line break in it would be something else: it is left out.
    #[inline]
    pub fn send(self, status: Status, fields: &[(&str, &str)], body: &[u8]) -> Sent {
        let Response { cx, date, without_body, connection } = self;
        if status == Status::OK {
            cx.send(b"HTTP/1.1 200 OK\r\nDate: ");
        } else {
            cx.send(b"HTTP/1.1 ");
            cx.send(Decimal::new(status.0.into()).as_bytes());
            cx.send(b" ");
            cx.send(status.1.as_bytes());
            cx.send(b"\r\nDate: ");
        }
        cx.send(date);
        for (name, value) in fields.iter().filter(|(name, value)| is_line(name) && is_line(value)) {
            cx.send(b"\r\n");
            cx.send(name.as_bytes());
            cx.send(b": ");
            cx.send(value.as_bytes());
        }
        match connection {
            Connection::Kept => {}
            Connection::KeptAloud => cx.send(b"\r\nConnection: keep-alive"),
            Connection::Closed | Connection::LeftOpen => cx.send(b"\r\nConnection: close"),
        }
        if status == Status::NO_CONTENT {
            cx.send(b"\r\n\r\n");
        } else {
            cx.send(b"\r\nContent-Length: ");
            cx.send(Decimal::new(i64::try_from(body.len()).unwrap_or(i64::MAX)).as_bytes());
            cx.send(b"\r\n\r\n");
            if !without_body {
                cx.send(body);
            }
        }
        if connection == Connection::Closed {
            cx.close_when_flushed();
        }
        Sent(())
    }
}

fn is_line(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The time as HTTP writes it, made once a second.
#[derive(Clone, Debug, Default)]
pub(in crate::protocol) struct Date {
    text: Vec<u8>,
    good_until: Option<Instant>,
}

impl Date {
    #[inline]
    pub(in crate::protocol) fn now(&mut self, cx: &mut Context<'_>) -> &[u8] {
        let now = cx.now();
        if self.good_until.is_none_or(|until| until <= now) {
            self.make(now);
        }
        &self.text
    }

    #[cold]
    fn make(&mut self, now: Instant) {
        let time = SystemTime::now();
        let into_the_second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        self.good_until = now.checked_add(Duration::from_secs(1) - Duration::from_nanos(into_the_second.into()));
        self.text.clear();
        let _ = write!(self.text, "{}", httpdate::HttpDate::from(time));
    }
}
