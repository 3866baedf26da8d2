//! Why a request was not answered, and how far it had come: what decides whether it may be asked again.

use std::error;
use std::fmt;
use std::io;
use std::time::Duration;

use super::{ConnectError, Malformed, Timeout};

/// Why a request has no answer. The connection it was on is closed, for a late answer would be taken for the next
/// one's.
///
/// As an [`io::Error`] it is of the kind each variant names.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No connection came free within [`checkout`](super::Timeouts::checkout): `TimedOut`.
    Exhausted(Exhausted),
    /// No connection could be made: `TimedOut`, or what [`ConnectError`] says.
    Connect(ConnectError),
    /// One of the other timeouts: `TimedOut`.
    TimedOut {
        /// Which.
        which: Timeout,
        /// How long it is.
        limit: Duration,
        /// How far it had come.
        moved: Moved,
    },
    /// The server closed the connection: `UnexpectedEof`.
    Closed {
        /// How far it had come.
        moved: Moved,
    },
    /// The connection was lost: `ConnectionReset`, `BrokenPipe`, or what else the kernel says.
    Lost {
        /// The kernel's.
        error: io::Error,
        /// How far it had come.
        moved: Moved,
    },
    /// What came is no answer, or too long a one: `InvalidData`.
    Malformed {
        /// What is wrong with it.
        why: Malformed,
        /// How far it had come.
        moved: Moved,
    },
    /// The poller cannot wait any more: the kernel's kind.
    Wait(io::Error),
}

/// How far a request had come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    /// Bytes of the request that the kernel took. How many of them the server has seen, nobody here can know.
    pub sent: usize,
    /// Bytes of the request.
    pub of: usize,
    /// Bytes of the answer that came.
    pub received: usize,
}

/// How busy a pool was that had no connection to give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhausted {
    /// How many connections it may have: all were in use.
    pub connections: usize,
    /// How many requests were waiting, this one included.
    pub waiting: usize,
    /// How long this one waited.
    pub limit: Duration,
}

impl Error {
    /// Which timeout it was, if it was one.
    pub fn timeout(&self) -> Option<Timeout> {
        match self {
            Error::Exhausted(_) => Some(Timeout::Checkout),
            Error::Connect(error) => (error.kind() == io::ErrorKind::TimedOut).then_some(Timeout::Connect),
            Error::TimedOut { which, .. } => Some(*which),
            _ => None,
        }
    }

    /// How far the request had come.
    pub fn moved(&self) -> Moved {
        match self {
            Error::TimedOut { moved, .. }
            | Error::Closed { moved }
            | Error::Lost { moved, .. }
            | Error::Malformed { moved, .. } => *moved,
            Error::Exhausted(_) | Error::Connect(_) | Error::Wait(_) => Moved::default(),
        }
    }

    /// Whether no byte of the request was sent, so that the server cannot have done what it asks for: whatever it is,
    /// it may be asked again. Otherwise only the caller knows whether doing it twice does harm.
    pub fn is_unsent(&self) -> bool {
        self.moved().sent == 0 && !matches!(self, Error::Wait(_))
    }

    /// The kind it has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Error::Exhausted(_) | Error::TimedOut { .. } => io::ErrorKind::TimedOut,
            Error::Connect(error) => error.kind(),
            Error::Closed { .. } => io::ErrorKind::UnexpectedEof,
            Error::Lost { error, .. } | Error::Wait(error) => error.kind(),
            Error::Malformed { .. } => io::ErrorKind::InvalidData,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Exhausted(Exhausted { connections, waiting, limit }) => write!(
                f,
                "checkout timeout: no connection came free in {limit:?} (in use: all {connections} of the pool, waiting: \
                 {waiting}): the server is slower than it is asked, or the pool is too small"
            ),
            Error::Connect(error) => match self.timeout() {
                Some(which) => write!(f, "{which} timeout: {error}"),
                None => error.fmt(f),
            },
            Error::TimedOut { which, limit, moved } => {
                match which {
                    Timeout::Write => write!(f, "write timeout: the server took nothing for {limit:?}")?,
                    Timeout::Read => write!(f, "read timeout: nothing came for {limit:?}")?,
                    _ => write!(f, "{which} timeout: no answer in {limit:?}")?,
                }
                write!(f, "; {moved}")
            }
            Error::Closed { moved } => write!(f, "the server closed the connection; {moved}"),
            Error::Lost { error, moved } => write!(f, "the connection was lost: {error}; {moved}"),
            Error::Malformed { why, moved } => write!(f, "not an answer: {why}; {moved}"),
            Error::Wait(error) => write!(f, "cannot wait for connections: {error}"),
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moved { sent, of, received } = self;
        write!(f, "{sent} of {of} bytes were sent, {received} received")
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Connect(error) => Some(error),
            Error::Lost { error, .. } | Error::Wait(error) => Some(error),
            Error::Malformed { why, .. } => Some(why),
            Error::Exhausted(_) | Error::TimedOut { .. } | Error::Closed { .. } => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}
