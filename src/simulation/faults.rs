//! What can go wrong, how often it does in this run, and how often it did.

use std::fmt;

use fastrand::Rng;

/// A kind of trouble that a simulated kernel or network makes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A wait is interrupted by a signal.
    WaitInterrupted,
    /// A wait returns later than it was asked to.
    LateWake,
    /// A source is reported that is not ready.
    Spurious,
    /// A source that is ready is reported later.
    LateReport,
    /// A wait reports fewer sources than are ready, and than there is room for.
    SplitBatch,
    /// A source cannot be registered: no memory, or too many are watched.
    AddFails,
    /// A registration cannot be changed.
    ModifyFails,
    /// A receive gets less than there is, and the rest a moment later.
    ShortRead,
    /// A receive finds nothing, although something was reported.
    ReadAgain,
    /// A receive is interrupted by a signal.
    ReadInterrupted,
    /// The connection is reset as the server reads.
    ReadReset,
    /// A send takes less than there is room for.
    ShortWrite,
    /// A send takes nothing, although room was reported.
    WriteAgain,
    /// A send is interrupted by a signal.
    WriteInterrupted,
    /// The connection is reset as the server writes.
    WriteReset,
    /// The kernel has no buffer for a send, this once.
    NoBuffers,
    /// An accept is interrupted by a signal.
    AcceptInterrupted,
    /// A connection dies in the queue.
    AcceptAborted,
    /// The system's policy forbids a connection, for now, and leaves it in the queue.
    AcceptForbidden,
    /// The process has no descriptor left for a while.
    NoDescriptors,
    /// The system has no descriptor, or no memory, left for a while: a spare one does not help.
    SystemFull,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 21] = [
        Fault::WaitInterrupted,
        Fault::LateWake,
        Fault::Spurious,
        Fault::LateReport,
        Fault::SplitBatch,
        Fault::AddFails,
        Fault::ModifyFails,
        Fault::ShortRead,
        Fault::ReadAgain,
        Fault::ReadInterrupted,
        Fault::ReadReset,
        Fault::ShortWrite,
        Fault::WriteAgain,
        Fault::WriteInterrupted,
        Fault::WriteReset,
        Fault::NoBuffers,
        Fault::AcceptInterrupted,
        Fault::AcceptAborted,
        Fault::AcceptForbidden,
        Fault::NoDescriptors,
        Fault::SystemFull,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fault::WaitInterrupted => "wait: EINTR",
            Fault::LateWake => "wait: late",
            Fault::Spurious => "wait: a false alarm",
            Fault::LateReport => "wait: reported late",
            Fault::SplitBatch => "wait: a part of the batch",
            Fault::AddFails => "add: ENOMEM or ENOSPC",
            Fault::ModifyFails => "modify: ENOMEM",
            Fault::ShortRead => "recv: short",
            Fault::ReadAgain => "recv: EAGAIN",
            Fault::ReadInterrupted => "recv: EINTR",
            Fault::ReadReset => "recv: ECONNRESET",
            Fault::ShortWrite => "send: short",
            Fault::WriteAgain => "send: EAGAIN",
            Fault::WriteInterrupted => "send: EINTR",
            Fault::WriteReset => "send: ECONNRESET",
            Fault::NoBuffers => "send: ENOBUFS",
            Fault::AcceptInterrupted => "accept: EINTR",
            Fault::AcceptAborted => "accept: ECONNABORTED",
            Fault::AcceptForbidden => "accept: EPERM",
            Fault::NoDescriptors => "accept: EMFILE",
            Fault::SystemFull => "accept: ENFILE, ENOBUFS or ENOMEM",
        })
    }
}

/// How often each kind strikes in one run, and how often it has.
pub(super) struct Faults {
    rates: [f64; Fault::ALL.len()],
    met: [u64; Fault::ALL.len()],
}

impl Faults {
    fn none() -> Faults {
        Faults { rates: [0.0; Fault::ALL.len()], met: [0; Fault::ALL.len()] }
    }

    /// These alone, and often.
    pub(super) fn only(kinds: &[Fault]) -> Faults {
        let mut faults = Faults::none();
        for kind in kinds {
            faults.rates[*kind as usize] = 0.2;
        }
        faults
    }

    /// All kinds, seldom: for runs so long that each strikes often.
    pub(super) fn rare() -> Faults {
        Faults { rates: [0.002; Fault::ALL.len()], ..Faults::none() }
    }

    /// About half of the kinds, each more or less often: what always strikes hides what comes of its absence (Groce
    /// and others, "Swarm Testing", ISSTA 2012).
    pub(super) fn drawn(rng: &mut Rng) -> Faults {
        let mut faults = Faults::none();
        for rate in &mut faults.rates {
            if rng.bool() {
                *rate = [0.002, 0.02, 0.1, 0.3][rng.usize(..4)];
            }
        }
        faults
    }

    /// Whether this kind strikes now.
    pub(super) fn strike(&mut self, rng: &mut Rng, fault: Fault) -> bool {
        let rate = self.rates[fault as usize];
        let strikes = rate > 0.0 && rng.f64() < rate;
        self.met[fault as usize] += u64::from(strikes);
        strikes
    }

    pub(super) fn met(&self) -> impl Iterator<Item = (Fault, u64)> {
        Fault::ALL.into_iter().zip(self.met)
    }
}
