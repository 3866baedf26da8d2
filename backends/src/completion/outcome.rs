//! What has come of operations, as a caller is told it.

use std::io;

use io_uring::cqueue;

use super::lent::Lent;
use super::queue::{self, Done};
use super::tags::{ACCEPT, RECEIVE, SENT, WATCH, tag, token};
use super::{Fate, Ring};
use crate::event::Token;
use crate::source::OwnedSource;

/// A completion, looked at by [`Ring::next`].
pub enum Next {
    /// Bytes have arrived, and are [`Ring::bytes`] until the next completion is looked at. The receive goes on.
    Received(Token),
    /// All else, which [`Ring::learn`] tells.
    Other(Other),
}

/// A completion that is no [`Next::Received`].
#[must_use = "it may hold memory, or a connection"]
pub struct Other(pub(super) Done);

/// What has come of an operation.
#[derive(Debug)]
pub enum Completion {
    /// As [`Next::Received`], but the receive is over, because it pleased the kernel. It has to be armed again.
    Received {
        /// As it was armed with.
        token: Token,
    },
    /// A receive is over: at the end of the stream (0), or by an error. ENOBUFS: buffers have run out; armed again it
    /// goes on. ECANCELED: by [`Ring::stop_receiving`], or by the kernel.
    Ended {
        /// As it was armed with.
        token: Token,
        /// 0, or why.
        result: io::Result<()>,
    },
    /// A connection was accepted, or could not be.
    Accepted {
        /// As it was armed with.
        token: Token,
        /// The connection. It blocks, as it has to.
        source: io::Result<OwnedSource>,
        /// The listener goes on accepting; otherwise it has to be armed again.
        more: bool,
    },
    /// A [`Ring::send`] is over.
    Sent {
        /// As it was given.
        token: Token,
        /// The memory, back.
        bytes: Vec<u8>,
        /// Where in it the send began.
        from: usize,
        /// How many bytes were taken: at least one.
        result: io::Result<usize>,
    },
    /// What [`Ring::watch`] watches is readable.
    Readable {
        /// As it was watched with.
        token: Token,
    },
    /// A cancellation that found nothing, or the like.
    Nothing,
}

impl<F: Fate> Ring<F> {
    /// What another completion is.
    #[cold]
    pub fn learn(&mut self, other: Other) -> Completion {
        match Said::by(other.0) {
            Said::Received { token, buffer, bytes } => {
                self.receive_is_over(buffer, bytes);
                Completion::Received { token }
            }
            Said::Ended { token, buffer, result } => {
                self.receive_is_over(buffer, 0);
                Completion::Ended { token, result: result.map_err(io::Error::from_raw_os_error) }
            }
            Said::Accepted { token, number, more } => {
                self.under_way -= usize::from(!more);
                let source = number.map(queue::accepted).map_err(io::Error::from_raw_os_error);
                Completion::Accepted { token, source, more }
            }
            Said::Taken { at, result } => {
                self.loans.note(at, result); // (k)
                Completion::Nothing
            }
            Said::Sent { at, result } => {
                let Some(lent) = self.loans.take(at) else { return Completion::Nothing };
                self.under_way -= 1;
                self.give_back(lent, result)
            }
            Said::Readable { token } => {
                self.under_way -= 1;
                Completion::Readable { token }
            }
            Said::Nothing => Completion::Nothing,
        }
    }

    fn receive_is_over(&mut self, buffer: Option<u16>, bytes: u32) {
        self.under_way -= 1;
        if let Some(buffer) = buffer {
            self.buffers.received_into(buffer, bytes);
        }
    }

    /// Gives the memory of a send back, of which its only or its last completion says how much was taken, or why not.
    fn give_back(&mut self, lent: Lent, last: i32) -> Completion {
        let result = match lent.outcome(last) {
            Ok(taken) => Ok(taken),
            Err(libc::EOPNOTSUPP) if self.zero_copy_from != usize::MAX => {
                // A socket of this kind cannot, as those of AF_UNIX. Better none does than each has to be tried.
                self.zero_copy_from = usize::MAX;
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(io::Error::from_raw_os_error(error)),
        };
        let Lent { token, bytes, from, .. } = lent;
        Completion::Sent { token, bytes, from, result }
    }
}

/// What a completion says, before anything is done about it. Errors are numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// So many bytes came, more than none, and the receive is over.
    Received {
        token: Token,
        buffer: Option<u16>,
        bytes: u32,
    },
    /// None came. There may have been a buffer for them.
    Ended {
        token: Token,
        buffer: Option<u16>,
        result: Result<(), i32>,
    },
    Accepted {
        token: Token,
        number: Result<i32, i32>,
        more: bool,
    },
    /// (k) The first that a send says which says two things.
    Taken {
        at: u32,
        result: i32,
    },
    Sent {
        at: u32,
        result: i32,
    },
    Readable {
        token: Token,
    },
    Nothing,
}

impl Said {
    pub(super) fn by(done: Done) -> Said {
        let (token, more) = (token(done.user_data()), cqueue::more(done.flags()));
        let number = if done.result() < 0 { Err(-done.result()) } else { Ok(done.result()) };
        match tag(done.user_data()) {
            RECEIVE => {
                let buffer = cqueue::buffer_select(done.flags());
                match number {
                    Ok(bytes @ 1..) => Said::Received { token, buffer, bytes: bytes as u32 },
                    number => Said::Ended { token, buffer, result: number.map(drop) },
                }
            }
            ACCEPT => Said::Accepted { token, number, more },
            SENT if more => Said::Taken { at: token.0 as u32, result: done.result() },
            SENT => Said::Sent { at: token.0 as u32, result: done.result() },
            WATCH => Said::Readable { token },
            _ => Said::Nothing,
        }
    }
}

/// The buffer that bytes have come into by a receive that goes on: what nearly every completion says.
#[inline(always)]
pub(super) fn received(user_data: u64, result: i32, flags: u32) -> Option<u16> {
    let goes_on = tag(user_data) == RECEIVE && result > 0 && flags & GOES_ON == GOES_ON;
    goes_on.then_some((flags >> BUFFER_SHIFT) as u16)
}

/// IORING_CQE_F_BUFFER and IORING_CQE_F_MORE, and where the number of the buffer is.
const GOES_ON: u32 = 1 << 0 | 1 << 1;
const BUFFER_SHIFT: u32 = 16;
