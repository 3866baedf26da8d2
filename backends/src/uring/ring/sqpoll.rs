//! A ring whose submissions a thread of the kernel takes: IORING_SETUP_SQPOLL.
//!
//! The thread looks at the queue over and over, so that what is queued there begins without a call; when nothing came
//! for a while it sleeps, and a call must wake it. Since Linux 5.1; for everybody, and for files that are not
//! registered, since 5.13. io_uring_setup(2), and io_uring_enter(2) for IORING_ENTER_SQ_WAKEUP and
//! IORING_ENTER_SQ_WAIT.
//!
//! It should win where a loop submits much, seldom sleeps, and has a processor to spare beside its own: the work of
//! submitting and of completing is done there. It loses that processor's time, also while nothing happens; a loop that
//! sleeps still makes a call for it, and is woken from another processor each time. The thread is one of this process,
//! `iou-sqp-`, and runs on any processor whatever the process is bound to: its time is in getrusage(2) of the process.
//!
//! What is odd about it:
//! (a) A call says nothing of what was submitted, only of what it waited for: a timeout is ETIME, a signal EINTR.
//! (b) Nothing is done when a call returns. Whoever wants to know what is ready now queues an operation that does
//!     nothing, and waits for its completion: the thread takes them in order, and polls of what is ready complete
//!     before it. What comes before the awaited completion is set apart.
//! (c) A round of the thread takes what is queued, and then sees to polls that were woken, a portion of them. So it
//!     takes two such operations, one after the other, to be sure of what was ready when a wait began, and one more for
//!     each full portion between them: two calls or more, and another to sleep.
//! (d) A cancelled poll completes after its cancellation, and lets go of its file just after that. So the completion is
//!     waited for first, and then a round.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::{IoUring, opcode};

use super::super::enter::{self, IDLE_MS};
use super::super::reasons;
use super::{Completion, Full, Kind, Operations, Ring, SUBMISSIONS, taken};

/// What is known of the thread's progress.
#[derive(Default)]
pub(super) struct Thread {
    /// (b) Completions that came before one that was waited for.
    apart: VecDeque<Completion>,
    /// (b) How many operations that do nothing have not completed.
    barriers: u32,
    /// (c) Completions between the last two of those, and since the last.
    between: usize,
    since: usize,
    /// (d) Of what is cancelled and has not completed, how it is known.
    leaving: VecDeque<u64>,
}

impl Ring {
    /// Sets up a ring with a thread that takes what this one queues.
    pub(in super::super) fn sqpoll(completions: u32, needed: Operations) -> io::Result<Ring> {
        let mut builder = Ring::builder(completions);
        builder.setup_sqpoll(IDLE_MS);
        let made = builder.build(SUBMISSIONS).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) if Ring::plain(needed).is_ok() => reasons::of_thread(error),
            _ => error,
        });
        let ring = Ring::complete(made, Kind::Thread(Thread::default()), needed)?;
        let nonfixed = ring.ring.params().is_feature_sqpoll_nonfixed();
        reasons::require(&[("IORING_FEAT_SQPOLL_NONFIXED", nonfixed)])?;
        Ok(ring)
    }

    /// As [`Ring::enter`]: wakes the thread if there is something for it, and sleeps if anything is wanted.
    pub(super) fn enter_beside_thread(&mut self, wanted: u32, timeout: Option<Duration>) -> io::Result<usize> {
        let queue = self.ring.submission();
        let flags = enter::nudge(&queue);
        if wanted == 0 && flags.is_empty() && !queue.cq_overflow() {
            return Ok(0);
        }
        drop(queue);
        self.call(0, wanted, flags, timeout)
    }

    /// As [`Ring::meet`]: (c).
    pub(super) fn meet_thread(&mut self) -> io::Result<()> {
        self.round()?;
        loop {
            self.round()?;
            if self.thread().between < PORTION {
                return Ok(());
            }
        }
    }

    /// As [`Ring::let_go`]: (d).
    pub(super) fn part_from_thread(&mut self) -> io::Result<()> {
        self.set_apart();
        while !self.thread().leaving.is_empty() {
            self.set_one_apart()?;
        }
        self.round()
    }

    /// (b) Returns when the thread has taken all that is queued.
    fn round(&mut self) -> io::Result<()> {
        // SAFETY: an operation that does nothing points to no memory.
        while let Err(Full) = unsafe { self.push(&opcode::Nop::new().build().user_data(BARRIER)) } {
            self.enter(0, None)?;
        }
        self.thread().barriers += 1;
        while self.thread().barriers > 0 {
            self.set_one_apart()?;
        }
        Ok(())
    }

    /// Sleeps until there is a completion, and sets apart all that there are.
    fn set_one_apart(&mut self) -> io::Result<()> {
        match self.enter(1, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => self.set_apart(),
        }
        Ok(())
    }

    fn set_apart(&mut self) {
        let Kind::Thread(thread) = &mut self.kind else { unreachable!("the callers know") };
        while let Some(completion) = thread.heard(&mut self.ring) {
            thread.apart.push_back(completion);
        }
    }

    fn thread(&mut self) -> &mut Thread {
        let Kind::Thread(thread) = &mut self.kind else { unreachable!("the callers know") };
        thread
    }
}

impl Thread {
    /// (d) Something is to be cancelled that did not complete, as far as was read.
    pub(super) fn cancelled(&mut self, target: u64) {
        if !self.apart.iter().any(|completion| completion.user_data == target && !completion.more) {
            self.leaving.push_back(target);
        }
    }

    /// The oldest completion that was not read.
    pub(super) fn next(&mut self, ring: &mut IoUring) -> Option<Completion> {
        self.apart.pop_front().or_else(|| self.heard(ring))
    }

    /// How many completions are set apart.
    pub(super) fn apart(&self) -> usize {
        self.apart.len()
    }

    /// The oldest completion of the queue that is not our own affair.
    fn heard(&mut self, ring: &mut IoUring) -> Option<Completion> {
        loop {
            let completion = taken(ring)?;
            if completion.user_data == BARRIER {
                self.barriers -= 1;
                self.between = std::mem::take(&mut self.since);
                continue;
            }
            self.since += 1;
            if !completion.more && !self.leaving.is_empty() {
                // They mostly leave in the order they were cancelled in.
                let at = self.leaving.iter().position(|target| *target == completion.user_data);
                at.map(|at| self.leaving.remove(at));
            }
            return Some(completion);
        }
    }
}

/// IORING_TW_CAP_ENTRIES_VALUE of newer kernels; older ones know no portions.
const PORTION: usize = 32;

/// How the ring knows an operation that does nothing. No poll is known so: no source has the number -2.
const BARRIER: u64 = u64::MAX - 1;
