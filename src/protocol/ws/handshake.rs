//! The request that asks for a WebSocket (RFC 6455, section 4.2), and what is said to it.

use std::mem::MaybeUninit;

use tungstenite::handshake::derive_accept_key;

use crate::protocol::Context;
use crate::protocol::http::{Body, Facts, Limits, MOST_FIELDS, Request, Response, Sent, Status, find_head, has_token};

/// What came of the request.
pub(super) enum Handshake {
    Unfinished,
    Refused(Refusal),
    Accepted { key: String, to_all: bool, length: usize },
}

/// Why there is no WebSocket.
pub(super) struct Refusal {
    status: Status,
    fields: &'static [(&'static str, &'static str)],
}

impl Refusal {
    pub(super) fn send(&self, cx: &mut Context<'_>, date: &[u8]) {
        let _: Sent = Response::refusal(cx, date).send(self.status, self.fields, b"");
    }
}

/// Reads a request, of which only the head matters.
pub(super) fn read(input: &[u8], limits: &Limits) -> Handshake {
    let refused = |status| Handshake::Refused(Refusal { status, fields: &[] });
    let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let (head, length) = match find_head(input, &mut room, limits) {
        Ok(Some(found)) => found,
        Ok(None) => return Handshake::Unfinished,
        Err(fault) => return refused(fault.status()),
    };
    match Facts::of(&head, limits) {
        Ok(facts) if facts.body == Body::Length(0) => {}
        Ok(_) => return refused(Status::BAD_REQUEST),
        Err(fault) => return refused(fault.status()),
    }
    let request = Request::new(&head, b"");
    let to_all = match request.path() {
        "/" | "/echo" => false,
        "/broadcast" => true,
        _ => return refused(Status::NOT_FOUND),
    };
    let has = |name, token| request.field(name).is_some_and(|value| has_token(value, token));
    if request.method() != "GET" || !has("Upgrade", b"websocket") || !has("Connection", b"upgrade") {
        let fields = &[("Upgrade", "websocket")];
        return Handshake::Refused(Refusal { status: Status::UPGRADE_REQUIRED, fields });
    }
    if request.field("Sec-WebSocket-Version") != Some(b"13") {
        let fields = &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
        return Handshake::Refused(Refusal { status: Status::UPGRADE_REQUIRED, fields });
    }
    match request.field("Sec-WebSocket-Key") {
        Some(key) if is_key(key) => Handshake::Accepted { key: derive_accept_key(key), to_all, length },
        _ => refused(Status::BAD_REQUEST),
    }
}

/// Sixteen bytes in base64.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_digit))
}

/// Says that from here on it is a WebSocket.
pub(super) fn accept(cx: &mut Context<'_>, date: &[u8], key: &str) {
    cx.send(b"HTTP/1.1 101 Switching Protocols\r\nDate: ");
    cx.send(date);
    cx.send(b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    cx.send(key.as_bytes());
    cx.send(b"\r\n\r\n");
}
