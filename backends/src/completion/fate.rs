//! What becomes of operations before the kernel sees them: what was asked, or, in tests, what a kernel may do instead.

use std::io;

use crate::source::Source;

/// What is asked of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// To accept connections.
    Accept,
    /// To receive.
    Receive,
    /// To send, silently or not.
    Send,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lot {
    /// What was asked.
    AsAsked,
    /// The same, but no more than so many bytes of it; and what would go on is over after the first time.
    AtMost(usize),
    /// Nothing, but an error, as its number: the kernel never sees the operation.
    Fails(i32),
}

/// Decides about each operation of a [`Ring`](super::Ring). `()` lets everything be as it was asked, and costs nothing.
pub trait Fate {
    /// What becomes of an operation on `source` that moves up to so many `bytes`.
    #[inline(always)]
    fn of(&mut self, act: Act, source: Source<'_>, bytes: usize) -> Lot {
        let _ = (act, source, bytes);
        Lot::AsAsked
    }

    /// What becomes of a turn.
    ///
    /// # Errors
    /// What it fails with, before it has begun.
    #[inline(always)]
    fn of_turn(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The ring was tried, and serves in earnest from now on.
    fn begin(&mut self) {}
}

impl Fate for () {}

#[cfg(feature = "conformance")]
pub use faulty::Faulty;

#[cfg(feature = "conformance")]
mod faulty {
    use super::*;
    use crate::conformance::fault::{Faults, Kind};

    /// A fate by a plan and a seed: operations are cut short, cancelled, starved, interrupted and refused.
    ///
    /// | fault | of an accept | of a receive | of a send |
    /// |---|---|---|---|
    /// | `InterruptedCall` | EINTR | EINTR | EINTR |
    /// | `WouldBlock` | EAGAIN | ENOBUFS: buffers have run out | EAGAIN |
    /// | `Late` | ECANCELED, by nobody | the same | the same |
    /// | `Split` | it does not go on | it does not go on | |
    /// | `ShortRead`, `ShortWrite` | | few bytes, and it does not go on | few bytes |
    /// | `Aborted`, `Shortage`, `LastDescriptor` | as of accept(2) | | |
    /// | `Reset`, `NoBuffers` | | the connection ends | the connection ends |
    ///
    /// And a turn is interrupted, or finds no memory. What else a poller may do has no meaning here.
    #[derive(Clone, Debug)]
    pub struct Faulty {
        faults: Faults,
        serving: bool,
        /// So many more accepts fail in this shortage.
        shortage: u8,
    }

    impl Faulty {
        /// Carries out `faults`.
        pub fn new(faults: &Faults) -> Faulty {
            Faulty { faults: faults.clone(), serving: false, shortage: 0 }
        }

        fn of_any(&self, out_of_room: i32) -> Option<Lot> {
            let kinds =
                [(Kind::InterruptedCall, libc::EINTR), (Kind::WouldBlock, out_of_room), (Kind::Late, libc::ECANCELED)];
            kinds.into_iter().find(|(kind, _)| self.faults.strikes(*kind)).map(|(_, errno)| Lot::Fails(errno))
        }

        fn of_accept(&mut self) -> Lot {
            if self.shortage > 0 {
                self.shortage -= 1;
                return Lot::Fails(libc::ENFILE);
            }
            if let Some(lot) = self.of_any(libc::EAGAIN) {
                return lot;
            }
            if self.faults.strikes(Kind::Aborted) {
                return Lot::Fails(libc::ECONNABORTED);
            }
            if self.faults.strikes(Kind::Shortage) {
                self.shortage = 1;
                return Lot::Fails(libc::EMFILE);
            }
            if self.faults.strikes(Kind::LastDescriptor) {
                return Lot::Fails(libc::EMFILE);
            }
            if self.faults.strikes(Kind::Split) { Lot::AtMost(1) } else { Lot::AsAsked }
        }

        /// What ends a connection puts it on the account.
        fn of_connection(&mut self, source: Source<'_>, cut: Kind, bytes: usize, out_of_room: i32) -> Lot {
            if let Some(lot) = self.of_any(out_of_room) {
                return lot;
            }
            if self.faults.strikes(Kind::Reset) {
                self.faults.sentence(source);
                let _ = socket2::SockRef::from(&source).shutdown(std::net::Shutdown::Both); // it may be dead already
                return Lot::Fails(libc::ECONNRESET);
            }
            if bytes > 1 && self.faults.strikes(cut) {
                // Small pieces more often than large ones.
                let most = 1 << self.faults.below(16);
                return Lot::AtMost(1 + self.faults.below(most.min(bytes - 1)));
            }
            Lot::AsAsked
        }
    }

    impl Fate for Faulty {
        fn of(&mut self, act: Act, source: Source<'_>, bytes: usize) -> Lot {
            if !self.serving {
                return Lot::AsAsked;
            }
            match act {
                Act::Accept => self.of_accept(),
                Act::Receive if self.faults.strikes(Kind::Split) => Lot::AtMost(bytes),
                Act::Receive => self.of_connection(source, Kind::ShortRead, bytes, libc::ENOBUFS),
                Act::Send if self.faults.strikes(Kind::NoBuffers) => {
                    self.faults.sentence(source);
                    Lot::Fails(libc::ENOBUFS)
                }
                Act::Send => self.of_connection(source, Kind::ShortWrite, bytes, libc::EAGAIN),
            }
        }

        fn of_turn(&mut self) -> io::Result<()> {
            if self.serving && self.faults.strikes(Kind::InterruptedWait) {
                return Err(io::Error::from_raw_os_error(libc::EINTR));
            }
            if self.serving && self.faults.strikes(Kind::FailedWait) {
                return Err(io::Error::from_raw_os_error(libc::ENOMEM));
            }
            Ok(())
        }

        fn begin(&mut self) {
            self.serving = true;
        }
    }
}
