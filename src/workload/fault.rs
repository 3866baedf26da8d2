//! What voids a run: a wrong byte, a lost connection, silence, or connections that could not be had.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::client::Target;
use crate::limits::Shortage;

/// Why a load could not be opened, or a run does not count.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// An echo differs from what was sent.
    WrongByte {
        /// Which connection, in the order of opening.
        connection: u32,
        /// Which of its exchanges.
        sequence: u64,
        /// Where in the payload.
        offset: usize,
        /// The byte that was sent.
        expected: u8,
        /// The byte that came back.
        found: u8,
    },
    /// Bytes came that nothing was sent for.
    Excess {
        /// Which connection.
        connection: u32,
        /// How many bytes, as far as they were read.
        bytes: usize,
    },
    /// The server closed a connection.
    Closed {
        /// Which connection.
        connection: u32,
        /// Whether it was idle at the time.
        idle: bool,
    },
    /// A connection failed.
    Lost {
        /// Which connection.
        connection: u32,
        /// What the kernel said.
        error: io::Error,
    },
    /// Nothing came back.
    Silent {
        /// For how long.
        after: Duration,
        /// How many connections were waiting for an echo.
        waiting: usize,
    },
    /// A connection could not be opened.
    Connect {
        /// Where to.
        target: Target,
        /// How many were open by then.
        opened: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// Somebody has stopped it while connections were being opened.
    Stopped {
        /// How many were open by then.
        opened: usize,
    },
    /// The process may not have so many connections.
    Limit(Shortage),
    /// The generator's own wait failed.
    Wait(io::Error),
}

impl Fault {
    /// Whether the fault is the server's: it answered, and wrongly. A run with such a fault is void, whatever it
    /// measured.
    pub const fn voids(&self) -> bool {
        matches!(self, Fault::WrongByte { .. } | Fault::Excess { .. } | Fault::Closed { .. } | Fault::Lost { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::WrongByte { connection, sequence, offset, expected, found } => write!(
                f,
                "wrong byte: connection {connection}, exchange {sequence}, byte {offset} \
                 is {found:#04x} instead of {expected:#04x}"
            ),
            Fault::Excess { connection, bytes } => {
                write!(f, "connection {connection} received {bytes} bytes that nothing was sent for")
            }
            Fault::Closed { connection, idle: true } => {
                write!(f, "the server closed connection {connection}, which was idle")
            }
            Fault::Closed { connection, idle: false } => {
                write!(f, "the server closed connection {connection} while it waited for its echo")
            }
            Fault::Lost { connection, error } => write!(f, "connection {connection} was lost: {error}"),
            Fault::Silent { after, waiting } => {
                let are = if *waiting == 1 { "connection is" } else { "connections are" };
                let seconds = after.as_secs_f64();
                write!(
                    f,
                    "no echo for {seconds} s; {waiting} {are} waiting: the server hangs, or does not serve so many at once"
                )
            }
            Fault::Connect { target, opened: 0, error } => {
                write!(f, "cannot connect to {target}: {error}")?;
                match error.kind() {
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                        f.write_str("; is a server listening there?")
                    }
                    io::ErrorKind::WouldBlock => f.write_str(FULL),
                    _ => Ok(()),
                }
            }
            Fault::Connect { target, opened, error } => {
                write!(f, "cannot open more than {opened} connections to {target}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => {
                        f.write_str("; local ports have run out: widen the ephemeral range, or open fewer")
                    }
                    io::ErrorKind::WouldBlock => f.write_str(FULL),
                    _ => Ok(()),
                }
            }
            Fault::Stopped { opened } => write!(f, "stopped when {opened} connections were open"),
            Fault::Limit(shortage) => shortage.fmt(f),
            Fault::Wait(error) => write!(f, "the generator cannot wait: {error}"),
        }
    }
}

/// What a Unix socket says when it has been waited for in vain.
const FULL: &str = "; its listen queue is full, and nobody accepts";

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Fault::Lost { error, .. } | Fault::Connect { error, .. } | Fault::Wait(error) => Some(error),
            Fault::Limit(shortage) => Some(shortage),
            _ => None,
        }
    }
}
