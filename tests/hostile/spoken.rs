//! The protocols as a client meets them: a request that is valid, its answer, and a server that speaks so.

use std::io::{self, BufRead};

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
#[cfg(feature = "http")]
use pollmark::protocol::Http;
#[cfg(feature = "ws")]
use pollmark::protocol::Ws;
use pollmark::protocol::{Echo, Frame, Resp};
use pollmark::server::{Config, Server};

/// A protocol, and what of it is spoken here: one request, of a number, that is answered by the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Spoken {
    Echo,
    Frame,
    Resp,
    #[cfg(feature = "http")]
    Http,
    #[cfg(feature = "ws")]
    Ws,
}

/// How long a number is.
const DIGITS: usize = 8;

impl Spoken {
    /// Every protocol this was built with.
    pub(crate) const ALL: &[Spoken] = &[
        Spoken::Echo,
        Spoken::Frame,
        Spoken::Resp,
        #[cfg(feature = "http")]
        Spoken::Http,
        #[cfg(feature = "ws")]
        Spoken::Ws,
    ];

    pub(crate) fn bind(
        self,
        mechanism: &Mechanism,
        registry: &Registry,
        config: Config,
    ) -> io::Result<Box<dyn Server>> {
        match self {
            Spoken::Echo => mechanism.bind(registry, config, Echo),
            Spoken::Frame => mechanism.bind(registry, config, Frame::default()),
            Spoken::Resp => mechanism.bind(registry, config, Resp::default()),
            #[cfg(feature = "http")]
            Spoken::Http => mechanism.bind(registry, config, Http::default()),
            #[cfg(feature = "ws")]
            Spoken::Ws => mechanism.bind(registry, config, Ws::default()),
        }
    }

    /// What a client says before its first request; nothing, mostly.
    pub(crate) fn greeting(self) -> &'static [u8] {
        match self {
            // The key of RFC 6455, section 1.3.
            #[cfg(feature = "ws")]
            Spoken::Ws => {
                b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            }
            _ => b"",
        }
    }

    /// Hears the answer to the greeting.
    pub(crate) fn hear_greeting(self, from: &mut impl BufRead) -> io::Result<()> {
        if self.greeting().is_empty() {
            return Ok(());
        }
        let head = head(from)?;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(())
    }

    /// The request of this number.
    pub(crate) fn request(self, number: u32) -> Vec<u8> {
        let digits = digits(number);
        let text = std::str::from_utf8(&digits).expect("digits");
        match self {
            Spoken::Echo => digits.to_vec(),
            Spoken::Frame => [&(DIGITS as u32).to_be_bytes()[..], &digits].concat(),
            Spoken::Resp => format!("*2\r\n$4\r\nECHO\r\n${DIGITS}\r\n{text}\r\n").into_bytes(),
            #[cfg(feature = "http")]
            Spoken::Http => {
                format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {DIGITS}\r\n\r\n{text}").into_bytes()
            }
            // A whole message of bytes, masked with nothing.
            #[cfg(feature = "ws")]
            Spoken::Ws => [&[0x82, 0x80 | DIGITS as u8, 0, 0, 0, 0][..], &digits].concat(),
        }
    }

    /// Hears the answer to the request of this number, and nothing but that.
    pub(crate) fn hear(self, number: u32, from: &mut impl BufRead) -> io::Result<()> {
        let before: &[u8] = match self {
            Spoken::Echo => b"",
            Spoken::Frame => &(DIGITS as u32).to_be_bytes(),
            Spoken::Resp => b"$8\r\n",
            #[cfg(feature = "http")]
            Spoken::Http => {
                let head = head(from)?;
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 8\r\n"), "{head}");
                b""
            }
            #[cfg(feature = "ws")]
            Spoken::Ws => &[0x82, DIGITS as u8],
        };
        let after: &[u8] = if self == Spoken::Resp { b"\r\n" } else { b"" };
        let mut heard = [0; 4 + DIGITS + 2];
        let heard = &mut heard[..before.len() + DIGITS + after.len()];
        from.read_exact(heard)?;
        let (start, rest) = heard.split_at(before.len());
        assert!(
            start == before && rest.starts_with(&digits(number)) && rest.ends_with(after),
            "{:?} is no answer to {number} in {self:?}",
            heard.escape_ascii().to_string()
        );
        Ok(())
    }
}

/// Eight of them, whatever the number.
fn digits(number: u32) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// A head of HTTP, with the empty line at its end.
fn head(from: &mut impl BufRead) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8(head).expect("text"))
}
