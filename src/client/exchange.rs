//! Where an answer ends: all a client has to know of a protocol, without I/O.

mod frames;
mod replies;
#[cfg(feature = "http")]
mod responses;

use std::borrow::Cow;
use std::error;
use std::fmt;

pub use frames::Frames;
pub use replies::Replies;
#[cfg(feature = "http")]
pub use responses::{Response, Responses};

/// A protocol in which each request has one answer, and a connection carries one at a time.
///
/// ```
/// use pollmark::client::{Exchange, Malformed};
///
/// /// A line is answered by a line.
/// struct Lines;
///
/// impl Exchange for Lines {
///     type Progress = usize; // where to go on looking
///
///     fn end(&self, _: &[u8], received: &[u8], seen: &mut usize) -> Result<Option<usize>, Malformed> {
///         let end = received[*seen..].iter().position(|byte| *byte == b'\n').map(|at| *seen + at + 1);
///         *seen = received.len();
///         Ok(end)
///     }
/// }
///
/// let mut seen = 0;
/// assert_eq!(Lines.end(b"ping\n", b"po", &mut seen), Ok(None));
/// assert_eq!(Lines.end(b"ping\n", b"pong\n", &mut seen), Ok(Some(5)));
/// ```
pub trait Exchange {
    /// How far an unfinished answer was understood, so that one that comes byte by byte is not read from its beginning
    /// each time. It begins as the default with each answer.
    type Progress: Default;

    /// How many of the `received` bytes are the answer to `request`, as soon as all of it is there. Until then it is
    /// asked again with more.
    ///
    /// # Errors
    /// [`Malformed`] if no answer begins like this. The connection is then closed.
    fn end(&self, request: &[u8], received: &[u8], progress: &mut Self::Progress) -> Result<Option<usize>, Malformed>;

    /// How many of the `received` bytes are the answer after all, now that the server has closed the connection behind
    /// them; `None` if such an answer does not end so, which is what most protocols say, and the default.
    fn ended(&self, received: &[u8], progress: &mut Self::Progress) -> Option<usize> {
        let _ = (received, progress);
        None
    }

    /// Whether another request may follow on the connection, by what was understood of an answer that is all there. The
    /// default is that one may.
    fn keeps(&self, progress: &Self::Progress) -> bool {
        let _ = progress;
        true
    }
}

/// What is wrong with what came instead of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed(Cow<'static, str>);

impl Malformed {
    /// For the given reason, a clause that follows "not an answer: ".
    pub fn because(why: impl Into<Cow<'static, str>>) -> Malformed {
        Malformed(why.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Malformed {}
