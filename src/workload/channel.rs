//! One connection of the load: it sends, receives, compares, and knows how far it is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use pollmark_backends::Interest;

use super::Fault;
use super::stamp::Stamp;

/// One connection of the load.
pub(super) struct Channel {
    pub(super) stream: TcpStream,
    pub(super) id: u32,
    pub(super) phase: Phase,
    pub(super) interest: Interest,
    pub(super) sequence: u64,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) began: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Exchanging,
    Resting,
}

impl Channel {
    #[inline]
    pub(super) fn send(&mut self, stamp: &mut Stamp) -> Result<(), Fault> {
        match self.stream.write(&stamp.payload(self.id, self.sequence)[self.sent..]) {
            Ok(bytes) => self.sent += bytes,
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(Fault::Lost { connection: self.id, error }),
        }
        Ok(())
    }

    /// Reads once, which empties the socket unless the payload is large, and compares.
    #[inline]
    pub(super) fn receive(&mut self, stamp: &Stamp, buffer: &mut [u8]) -> Result<(), Fault> {
        let bytes = match self.stream.read(buffer) {
            Ok(0) => return Err(Fault::Closed { connection: self.id, idle: false }),
            Ok(bytes) => bytes,
            Err(error) if is_transient(&error) => return Ok(()),
            Err(error) => return Err(Fault::Lost { connection: self.id, error }),
        };
        // More than was sent cannot be an echo, however right it looks.
        let owed = self.sent - self.received;
        if bytes > owed {
            return Err(Fault::Excess { connection: self.id, bytes: bytes - owed });
        }
        stamp.check(self.id, self.sequence, self.received, &buffer[..bytes]).map_err(|wrong| Fault::WrongByte {
            connection: self.id,
            sequence: self.sequence,
            offset: wrong.offset,
            expected: wrong.expected,
            found: wrong.found,
        })?;
        self.received += bytes;
        Ok(())
    }

    pub(super) fn verify_quiet(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        let connection = self.id;
        match self.stream.read(buffer) {
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
