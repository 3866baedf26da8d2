//! What is said in RESP, in the version the client asked for.

use std::fmt;
use std::io::Write;
use std::time::Instant;

use crate::protocol::Context;
use crate::protocol::text::Decimal;

/// The two versions there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Version {
    #[default]
    Two,
    Three,
}

/// Answers one connection.
pub(super) struct Reply<'a, 'c> {
    pub(super) cx: &'a mut Context<'c>,
    pub(super) version: Version,
    pub(super) most_gathered: usize,
}

impl Reply<'_, '_> {
    #[inline]
    pub(super) fn now(&mut self) -> Instant {
        self.cx.now()
    }

    #[inline]
    pub(super) fn ok(&mut self) {
        self.cx.send(b"+OK\r\n");
    }

    /// A word known to have no line in it.
    #[inline]
    pub(super) fn word(&mut self, word: &str) {
        self.line(b'+', word.as_bytes());
    }

    #[inline]
    pub(super) fn integer(&mut self, number: i64) {
        self.line(b':', Decimal::new(number).as_bytes());
    }

    /// A count of things in memory, of which there are never so many.
    #[inline]
    pub(super) fn count(&mut self, count: usize) {
        self.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }

    #[inline]
    pub(super) fn bulk(&mut self, text: &[u8]) {
        self.header(b'$', text.len());
        self.cx.send(text);
        self.cx.send(b"\r\n");
    }

    /// Text of several lines, for a person.
    pub(super) fn verbatim(&mut self, text: &str) {
        match self.version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => {
                self.header(b'=', text.len() + 4);
                self.cx.send(b"txt:");
                self.cx.send(text.as_bytes());
                self.cx.send(b"\r\n");
            }
        }
    }

    /// Nothing, where there could be text.
    #[inline]
    pub(super) fn null(&mut self) {
        self.cx.send(match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// So many replies follow.
    #[inline]
    pub(super) fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// So many pairs of replies follow.
    pub(super) fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Two => self.header(b'*', 2 * pairs),
            Version::Three => self.header(b'%', pairs),
        }
    }

    /// So many replies follow, in no order.
    pub(super) fn set(&mut self, length: usize) {
        match self.version {
            Version::Two => self.array(length),
            Version::Three => self.header(b'~', length),
        }
    }

    /// What was wrong. The first word is its kind.
    #[cold]
    pub(super) fn error(&mut self, error: impl fmt::Display) {
        self.cx.send(b"-");
        let _ = write!(OneLine(self.cx), "{error}");
        self.cx.send(b"\r\n");
    }

    /// Whether more was gathered than the peer may ask for at once: then no more need be said, for nobody will hear it.
    #[inline]
    pub(super) fn is_too_long(&self) -> bool {
        self.cx.gathered() > self.most_gathered
    }

    #[inline]
    fn header(&mut self, kind: u8, length: usize) {
        self.line(kind, Decimal::new(i64::try_from(length).unwrap_or(i64::MAX)).as_bytes());
    }

    #[inline]
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.cx.send(&[kind]);
        self.cx.send(text);
        self.cx.send(b"\r\n");
    }
}

/// Keeps what a peer said, and is told again, from ending the line.
struct OneLine<'a, 'c>(&'a mut Context<'c>);

impl Write for OneLine<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\r' | b'\n')) {
            match piece {
                [before @ .., b'\r' | b'\n'] => {
                    self.0.send(before);
                    self.0.send(b" ");
                }
                all => self.0.send(all),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
