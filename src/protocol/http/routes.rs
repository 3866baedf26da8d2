//! Who answers requests; plain text and JSON, built in.

use httparse::Header;

use super::{Response, Sent, Status};

/// Who answers requests.
pub trait Routes: Clone + Send + 'static {
    /// Answers one request. The answers to pipelined requests go out in the order in which they were asked for.
    fn answer(&mut self, request: &Request<'_>, response: Response<'_, '_>) -> Sent;
}

/// A request, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    method: &'a str,
    target: &'a str,
    is_1_1: bool,
    fields: &'a [Header<'a>],
    body: &'a [u8],
}

impl<'a> Request<'a> {
    #[inline]
    pub(in crate::protocol) fn new(head: &'a httparse::Request<'_, 'a>, body: &'a [u8]) -> Request<'a> {
        Request {
            method: head.method.unwrap_or_default(),
            target: head.path.unwrap_or_default(),
            is_1_1: head.version == Some(1),
            fields: head.headers,
            body,
        }
    }

    /// `GET`, `HEAD`, `POST`, … as it was written.
    #[inline]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// What is asked for, as it was written: `/a%20file?full=yes`.
    #[inline]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target up to the question mark.
    #[inline]
    pub fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The body, whole; empty if there is none.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    #[inline]
    pub(super) fn is_1_1(&self) -> bool {
        self.is_1_1
    }
}

/// Pages to measure a server by: `/plaintext` (and `/`), `/json`, and `/echo`, which answers POST with its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages;

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");

impl Routes for Pages {
    #[inline]
    fn answer(&mut self, request: &Request<'_>, response: Response<'_, '_>) -> Sent {
        let not_allowed =
            |response: Response<'_, '_>, allowed| response.send(Status::METHOD_NOT_ALLOWED, &[("Allow", allowed)], b"");
        match (request.path(), request.method()) {
            ("/" | "/plaintext", "GET" | "HEAD") => response.send(Status::OK, &[TEXT], b"Hello, World!"),
            ("/json", "GET" | "HEAD") => response.send(Status::OK, &[JSON], br#"{"message":"Hello, World!"}"#),
            ("/echo", "POST" | "PUT") => response.send(Status::OK, &[BYTES], request.body()),
            ("/" | "/plaintext" | "/json", _) => not_allowed(response, "GET, HEAD"),
            ("/echo", _) => not_allowed(response, "POST, PUT"),
            _ => response.send(Status::NOT_FOUND, &[TEXT], b"Not here. There are /plaintext, /json and /echo.\n"),
        }
    }
}
