//! Frames: each message after its length, four bytes, the most significant first.
//!
//! A request is a frame, and so is its answer; answers come in the order of the requests.

use std::io::{self, Write};

use super::{Context, Peer, Protocol};

/// How long a length is.
pub const PREFIX: usize = 4;

/// What a [`Responder`] may gather at once: the answer to one request, beside what a server lets a peer be owed. One
/// that asks for more is not worth it.
const MOST_GATHERED: usize = 16 * 1024 * 1024;

/// A server of framed requests, answered by a [`Responder`]; by default each with itself.
///
/// A peer that announces a frame longer than [`with_most`](Frame::with_most) allows is answered what it asked before,
/// and closed.
///
/// ```
/// use pollmark::protocol::frame::{Answer, Frame, Responder};
/// use std::io::Write;
///
/// /// Answers each request with its length, in decimal.
/// #[derive(Clone)]
/// struct Lengths;
///
/// impl Responder for Lengths {
///     fn respond(&mut self, request: &[u8], answer: Answer<'_, '_>) {
///         answer.write(|body| {
///             let _ = write!(body, "{}", request.len()); // a body takes all
///         });
///     }
/// }
///
/// let protocol = Frame::new(Lengths).with_most(64 * 1024);
/// # let _ = protocol;
/// ```
#[derive(Clone, Debug)]
pub struct Frame<R = Mirror> {
    responder: R,
    most: usize,
}

/// Who answers framed requests.
pub trait Responder: Clone + Send + 'static {
    /// Answers one request, in one of the ways an [`Answer`] has. Without any, nothing is sent.
    fn respond(&mut self, request: &[u8], answer: Answer<'_, '_>);
}

/// Answers each request with the same bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mirror;

impl Responder for Mirror {
    #[inline]
    fn respond(&mut self, _request: &[u8], answer: Answer<'_, '_>) {
        answer.same();
    }
}

impl Default for Frame {
    fn default() -> Frame {
        Frame::new(Mirror)
    }
}

impl<R: Responder> Frame<R> {
    /// Frames answered by `responder`, of up to 512 KiB.
    pub fn new(responder: R) -> Frame<R> {
        Frame { responder, most: 512 * 1024 }
    }

    /// Takes frames of up to `most` bytes. More than the server's own limit of a message is of no use.
    #[must_use]
    pub fn with_most(self, most: usize) -> Frame<R> {
        Frame { most, ..self }
    }
}

impl<R: Responder> Protocol for Frame<R> {
    type Session = ();

    fn open(&mut self, _peer: &Peer, _cx: &mut Context<'_>) {}

    fn received(&mut self, _session: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let (mut consumed, mut same) = (0, 0);
        while !cx.is_full_with(same) {
            match split(&input[consumed..], self.most) {
                Ok(Some(request)) => {
                    consumed += PREFIX + request.len();
                    let frame = &input[consumed - PREFIX - request.len()..consumed];
                    self.responder.respond(request, Answer { frame, end: consumed, same: &mut same, cx });
                    if cx.gathered() <= MOST_GATHERED {
                        continue;
                    }
                    tracing::debug!(connection = ?cx.connection(), "more was asked for at once than there may be");
                }
                Ok(None) => break,
                Err(TooLong { bytes }) => {
                    tracing::debug!(connection = ?cx.connection(), bytes, "too long a frame was announced");
                }
            }
            cx.close_when_flushed();
            break;
        }
        if cx.gathered() == 0 {
            cx.send_input(same);
        }
        consumed
    }
}

/// A frame longer than it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong {
    /// How long.
    pub bytes: u32,
}

/// The first frame of `input`, without its length, if all of it is there.
///
/// ```
/// use pollmark::protocol::frame::{TooLong, split};
///
/// assert_eq!(split(b"\0\0\0\x02ok, and more", 10), Ok(Some(&b"ok"[..])));
/// assert_eq!(split(b"\0\0\0\x02o", 10), Ok(None));
/// assert_eq!(split(b"\0\0\0\x0b", 10), Err(TooLong { bytes: 11 }));
/// ```
///
/// # Errors
/// [`TooLong`] as soon as the length is known to be more than `most`.
#[inline]
pub fn split(input: &[u8], most: usize) -> Result<Option<&[u8]>, TooLong> {
    let Some((prefix, rest)) = input.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*prefix);
    match usize::try_from(bytes) {
        Ok(length) if length <= most => Ok(rest.get(..length)),
        _ => Err(TooLong { bytes }),
    }
}

/// How a request is answered: by [itself](Answer::same), or by what is [written](Answer::write).
#[derive(Debug)]
pub struct Answer<'a, 'c> {
    /// The request with its length, and where it ends in the input.
    frame: &'a [u8],
    end: usize,
    /// The input up to here is to be sent back, before all else: as long as nothing was gathered, there is nothing
    /// else.
    same: &'a mut usize,
    cx: &'a mut Context<'c>,
}

impl<'a, 'c> Answer<'a, 'c> {
    /// Answers with the request. If those before it were answered so, too, it is not even copied.
    #[inline]
    pub fn same(self) {
        if self.cx.gathered() == 0 && *self.same == self.end - self.frame.len() {
            *self.same = self.end;
        } else {
            let frame = self.frame;
            self.begin().send(frame);
        }
    }

    /// Answers with what `write` puts into the [`Body`]. A body whose length four bytes cannot tell ends the
    /// connection.
    pub fn write(self, write: impl FnOnce(&mut Body<'_>)) {
        let cx = self.begin();
        let start = cx.gathered();
        cx.send(&[0; PREFIX]);
        write(&mut Body { output: &mut cx.turn.output });
        let (prefix, body) = cx.turn.output[start..].split_at_mut(PREFIX);
        match u32::try_from(body.len()) {
            Ok(length) => prefix.copy_from_slice(&length.to_be_bytes()),
            Err(_) => cx.abort(),
        }
    }

    /// Something is to be gathered: what is to be sent back from where it lies comes first.
    fn begin(self) -> &'a mut Context<'c> {
        if self.cx.gathered() == 0 {
            self.cx.send_input(std::mem::take(self.same));
        }
        self.cx
    }
}

/// Where an answer is put. Writing to it does not fail.
#[derive(Debug)]
pub struct Body<'a> {
    output: &'a mut Vec<u8>,
}

impl Write for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Connection;
    use crate::protocol::Host;
    use pollmark_backends::Token;

    /// Answers `=…` with itself, `-…` with nothing, everything else with its length.
    #[derive(Clone)]
    struct Mixed;

    impl Responder for Mixed {
        fn respond(&mut self, request: &[u8], answer: Answer<'_, '_>) {
            match request.first() {
                Some(b'=') => answer.same(),
                Some(b'-') => {}
                _ => answer.write(|body| write!(body, "{}", request.len()).expect("a body takes all")),
            }
        }
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("short");
        [&length.to_be_bytes(), body].concat()
    }

    fn frames(bodies: &[&[u8]]) -> Vec<u8> {
        bodies.iter().flat_map(|body| frame(body)).collect()
    }

    /// What is said to `input`, and whether the connection is then over.
    fn say<R: Responder>(protocol: Frame<R>, input: &[u8]) -> (Vec<u8>, bool) {
        let mut host = Host::new(protocol);
        let mut connection = Connection::open(&mut host, Token(0), &Peer::default());
        connection.receive(&mut host, Token(0), input);
        connection.settle(&mut host);
        (connection.outgoing(&host).to_vec(), !connection.reads())
    }

    #[test]
    fn answers_come_in_the_order_of_their_requests_however_each_is_given() {
        let said = say(Frame::new(Mixed), &frames(&[b"=a", b"=b", b"word", b"=c", b"-", b"=d", b""]));
        assert_eq!(said, (frames(&[b"=a", b"=b", b"4", b"=c", b"=d", b"0"]), false));
        let said = say(Frame::new(Mixed), &frames(&[b"=a", b"-", b"=b", b"-"]));
        assert_eq!(said, (frames(&[b"=a", b"=b"]), false), "the request between them is answered by nothing");
    }

    #[test]
    fn a_mirror_returns_the_frames_that_are_there_from_where_they_lie() {
        let mut host = Host::new(Frame::default());
        let mut connection = Connection::open(&mut host, Token(0), &Peer::default());
        let input = frames(&[b"one", b"", b"three"]);
        let reply = connection.receive_quietly(&mut host, Token(0), &input);
        assert_eq!((reply.returned, host.turn.output.len()), (&input[..], 0));
    }

    #[test]
    fn too_long_a_frame_ends_the_connection_after_the_answers_to_those_before() {
        let input = [frame(b"first"), vec![0, 0, 0, 9, b'x']].concat();
        assert_eq!(say(Frame::default().with_most(8), &input), (frame(b"first"), true));
        assert_eq!(say(Frame::default().with_most(9), &input), (frame(b"first"), false));
        assert_eq!(say(Frame::default(), &[0xff; 4]), (vec![], true));
    }
}
