//! One connection of the load: it sends, receives, compares, and knows how far it is.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use pollmark_backends::{AsSource, Interest, OwnedSource};

use super::Fault;
use super::stamp::Stamp;
use crate::stream;

/// One connection of the load.
pub(super) struct Channel {
    pub(super) stream: OwnedSource,
    pub(super) id: u32,
    pub(super) phase: Phase,
    pub(super) interest: Interest,
    /// Exchanges completed; the next one that is under way has the sequence number after it.
    completed: u64,
    /// Exchanges begun and not completed.
    pub(super) under_way: usize,
    /// Bytes sent of all that are under way.
    sent: usize,
    /// Bytes received of the oldest of them.
    received: usize,
    /// When the oldest was begun, and the others, which there are only with several under way.
    began: Instant,
    later: VecDeque<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Exchanging,
    Resting,
}

impl Channel {
    /// One that is being opened, and its first exchange has begun with that.
    pub(super) fn new(stream: OwnedSource, id: u32, interest: Interest, began: Instant) -> Channel {
        let (phase, later) = (Phase::Connecting, VecDeque::new());
        Channel { stream, id, phase, interest, completed: 0, under_way: 1, sent: 0, received: 0, began, later }
    }

    /// Exchanges begun, completed or not.
    #[inline]
    pub(super) fn begun(&self) -> u64 {
        self.completed + self.under_way as u64
    }

    /// Begins another exchange; sending it is another matter.
    #[inline]
    pub(super) fn begin(&mut self, now: Instant) {
        self.phase = Phase::Exchanging;
        match self.under_way {
            0 => self.began = now,
            _ => self.later.push_back(now),
        }
        self.under_way += 1;
    }

    /// When the exchange was begun that was completed first, of those of which this was not asked yet.
    #[inline]
    pub(super) fn took_from(&mut self) -> Instant {
        let began = self.began;
        if let Some(next) = self.later.pop_front() {
            self.began = next;
        }
        began
    }

    /// Whether part of a payload is unsent.
    #[inline]
    pub(super) fn is_sending(&self, stamp: &Stamp) -> bool {
        self.sent < self.under_way * stamp.size()
    }

    /// Sends what is unsent, as much of it as there is room for.
    #[inline]
    pub(super) fn send(&mut self, stamp: &mut Stamp) -> Result<(), Fault> {
        while self.is_sending(stamp) {
            // A division less where there is one exchange, which is nearly always.
            let (begun, into) = match self.under_way {
                1 => (0, self.sent),
                _ => (self.sent / stamp.size(), self.sent % stamp.size()),
            };
            let unsent = &stamp.payloads(self.id, self.completed + 1 + begun as u64, self.under_way - begun)[into..];
            match stream::send(self.stream.as_source(), unsent) {
                Ok(bytes) => {
                    let all = bytes == unsent.len();
                    self.sent += bytes;
                    if !all {
                        break;
                    }
                }
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(Fault::Lost { connection: self.id, error }),
            }
        }
        Ok(())
    }

    /// Reads once, which empties the socket unless payloads are large, and compares. Says how many exchanges that has
    /// completed.
    #[inline]
    pub(super) fn receive(&mut self, stamp: &Stamp, buffer: &mut [u8]) -> Result<usize, Fault> {
        let bytes = match stream::recv(self.stream.as_source(), buffer) {
            Ok(0) => return Err(Fault::Closed { connection: self.id, idle: false }),
            Ok(bytes) => bytes,
            Err(error) if is_transient(&error) => return Ok(0),
            Err(error) => return Err(Fault::Lost { connection: self.id, error }),
        };
        // More than was sent cannot be an echo, however right it looks.
        let owed = self.sent - self.received;
        if bytes > owed {
            return Err(Fault::Excess { connection: self.id, bytes: bytes - owed });
        }
        let (mut left, before) = (&buffer[..bytes], self.completed);
        while !left.is_empty() {
            let (piece, others) = left.split_at(left.len().min(stamp.size() - self.received));
            self.check(stamp, piece)?;
            self.received += piece.len();
            if self.received == stamp.size() {
                self.completed += 1;
                self.under_way -= 1;
                (self.sent, self.received) = (self.sent - stamp.size(), 0);
            }
            left = others;
        }
        if self.under_way == 0 {
            self.phase = Phase::Resting;
        }
        Ok((self.completed - before) as usize)
    }

    #[inline]
    fn check(&self, stamp: &Stamp, piece: &[u8]) -> Result<(), Fault> {
        let sequence = self.completed + 1;
        stamp.check(self.id, sequence, self.received, piece).map_err(|wrong| Fault::WrongByte {
            connection: self.id,
            sequence,
            offset: wrong.offset,
            expected: wrong.expected,
            found: wrong.found,
        })
    }

    pub(super) fn verify_quiet(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        let connection = self.id;
        match stream::recv(self.stream.as_source(), buffer) {
            Ok(0) => Err(Fault::Closed { connection, idle: true }),
            Ok(bytes) => Err(Fault::Excess { connection, bytes }),
            Err(error) if is_transient(&error) => Ok(()),
            Err(error) => Err(Fault::Lost { connection, error }),
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
