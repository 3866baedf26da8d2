//! What has come of operations, as a caller is told it.

use std::io;

use io_uring::cqueue;

use super::lent::Lent;
use super::queue::{self, Done};
use super::tags::{ACCEPT, RECEIVE, SENT, TAGS, WATCH, tag};
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
        let Other(done) = other;
        let more = cqueue::more(done.flags());
        let token = Token(done.user_data() & !TAGS);
        let result =
            if done.result() < 0 { Err(io::Error::from_raw_os_error(-done.result())) } else { Ok(done.result()) };
        match tag(done.user_data()) {
            RECEIVE => {
                self.under_way -= 1;
                if let Some(buffer) = cqueue::buffer_select(done.flags()) {
                    self.buffers.received_into(buffer, done.result().max(0) as u32);
                }
                match result {
                    Ok(1..) => Completion::Received { token },
                    result => Completion::Ended { token, result: result.map(drop) },
                }
            }
            ACCEPT => {
                self.under_way -= usize::from(!more);
                Completion::Accepted { token, source: result.map(queue::accepted), more }
            }
            SENT => {
                let at = done.user_data() as u32 & !(TAGS as u32);
                if more {
                    self.loans.note(at, done.result()); // (k)
                    return Completion::Nothing;
                }
                let Some(lent) = self.loans.take(at) else { return Completion::Nothing };
                self.under_way -= 1;
                self.give_back(lent, done.result())
            }
            WATCH => {
                self.under_way -= 1;
                Completion::Readable { token }
            }
            _ => Completion::Nothing,
        }
    }

    /// Gives the memory of a send back, of which its only or its last completion says how much was taken, or why not.
    fn give_back(&mut self, lent: Lent, last: i32) -> Completion {
        let Lent { token, bytes, from, taken } = lent;
        let result = match taken.unwrap_or(last) {
            taken @ 0.. => Ok(taken as usize),
            error if error == -libc::EOPNOTSUPP && self.zero_copy_from != usize::MAX => {
                // A socket of this kind cannot, as those of AF_UNIX. Better none does than each has to be tried.
                self.zero_copy_from = usize::MAX;
                Err(io::ErrorKind::WouldBlock.into())
            }
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        Completion::Sent { token, bytes, from, result }
    }
}
