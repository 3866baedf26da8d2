//! The two queues shared with the kernel, and the one call that moves them on.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::FromRawFd;
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::{Builder, EnterFlags, IoUring, Probe, Submitter, cqueue, opcode, types};

use super::{MinWait, Setup};
use crate::source::OwnedSource;
use crate::uring::enter::{self, IDLE_MS};
use crate::uring::reasons;

/// An io_uring, and what did not fit into its queue yet.
pub(super) struct Queue {
    ring: IoUring,
    always: EnterFlags,
    backlog: VecDeque<Entry>,
    min_wait: Option<MinWait>,
    /// (j) A thread of the kernel's takes submissions; and how many ends of turns it has not come to yet.
    polled: bool,
    ends: u32,
    /// The kernel takes submissions from no other thread.
    thread: PhantomData<*mut ()>,
}

/// A completion that was taken out of the queue, or never was in it.
#[derive(Clone, Copy)]
pub(super) struct Done {
    user_data: u64,
    result: i32,
    flags: u32,
}

impl Done {
    pub(super) fn of(entry: &cqueue::Entry) -> Done {
        Done { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() }
    }

    /// Of what has failed, for the last time.
    pub(super) fn failed(user_data: u64, error: i32) -> Done {
        Done { user_data, result: -error, flags: 0 }
    }

    /// Of what never was.
    #[cfg(any(test, fuzzing))]
    pub(super) fn made_up(user_data: u64, result: i32, flags: u32) -> Done {
        Done { user_data, result, flags }
    }

    pub(super) fn user_data(&self) -> u64 {
        self.user_data
    }

    pub(super) fn result(&self) -> i32 {
        self.result
    }

    pub(super) fn flags(&self) -> u32 {
        self.flags
    }
}

impl Queue {
    /// Sets up a ring that belongs to this thread, the best that the kernel has.
    pub(super) fn open(setup: &Setup) -> io::Result<Queue> {
        let mut made = Err(io::Error::from_raw_os_error(libc::EINVAL));
        let steps = match setup {
            Setup { thread: true, .. } => &SQPOLL[..],
            Setup { deferred: true, .. } => &LADDER[..],
            _ => &LADDER[2..],
        };
        for step in steps {
            let mut builder = IoUring::builder();
            builder.setup_clamp().setup_cqsize(setup.completions.max(setup.submissions).max(1));
            step(&mut builder);
            made = builder.build(setup.submissions.max(1));
            // EINVAL: one of the flags is not known.
            if !matches!(&made, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
                break;
            }
        }
        let forbidden = |error: &io::Error| error.raw_os_error() == Some(libc::EPERM);
        if setup.thread && made.as_ref().is_err_and(forbidden) && IoUring::new(1).is_ok() {
            made = made.map_err(reasons::of_thread);
        }
        Queue::complete(made.map_err(reasons::of_setup)?, setup)
    }

    fn complete(ring: IoUring, setup: &Setup) -> io::Result<Queue> {
        let features = ring.params();
        reasons::require(&[
            ("IORING_FEAT_NODROP", features.is_feature_nodrop()),
            ("IORING_FEAT_FAST_POLL", features.is_feature_fast_poll()),
            ("IORING_FEAT_EXT_ARG", features.is_feature_ext_arg()),
            ("IORING_FEAT_CQE_SKIP", features.is_feature_skip_cqe_on_success()),
            ("IORING_FEAT_MIN_TIMEOUT", setup.min_wait.is_none() || features.is_feature_min_timeout()),
            ("IORING_FEAT_RECVSEND_BUNDLE", setup.bundles == 0 || features.is_feature_recvsend_bundle()),
            ("IORING_FEAT_SQPOLL_NONFIXED", !setup.thread || features.is_feature_sqpoll_nonfixed()),
        ])?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        reasons::require(&[
            ("IORING_OP_ACCEPT", probe.is_supported(opcode::Accept::CODE)),
            ("IORING_OP_RECV", probe.is_supported(opcode::Recv::CODE)),
            ("IORING_OP_SEND", probe.is_supported(opcode::Send::CODE)),
            ("IORING_OP_CLOSE", probe.is_supported(opcode::Close::CODE)),
            ("IORING_OP_POLL_ADD", probe.is_supported(opcode::PollAdd::CODE)),
            ("IORING_OP_ASYNC_CANCEL", probe.is_supported(opcode::AsyncCancel::CODE)),
            ("IORING_OP_SEND_ZC", setup.zero_copy_from == usize::MAX || probe.is_supported(opcode::SendZc::CODE)),
        ])?;
        let mut always = EnterFlags::GETEVENTS;
        if features.is_feature_no_iowait() {
            always |= EnterFlags::NO_IOWAIT; // Waiting for a peer is no reason to count this processor as busy with disks.
        }
        let (min_wait, polled) = (setup.min_wait, setup.thread);
        Ok(Queue { ring, always, backlog: VecDeque::new(), min_wait, polled, ends: 0, thread: PhantomData })
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    /// Has the next call begin `entry`, or one after it if there is no room.
    ///
    /// # Safety
    /// What `entry` points to stays where and as it is until the operation is over.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self, entry: Entry) {
        // SAFETY: the caller's promise.
        let pushed = self.backlog.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok();
        if !pushed {
            self.keep_back(entry);
        }
    }

    #[cold]
    fn keep_back(&mut self, entry: Entry) {
        self.backlog.push_back(entry);
    }

    /// How many submissions the next call takes, none where a thread does, and whether that is all: what was kept back
    /// is moved up as far as there is room.
    #[inline(always)]
    pub(super) fn waiting(&mut self) -> (u32, bool) {
        if !self.backlog.is_empty() {
            self.move_up();
        }
        let waiting = if self.polled { 0 } else { self.ring.submission().len() as u32 };
        (waiting, self.backlog.is_empty())
    }

    #[cold]
    fn move_up(&mut self) {
        let mut queue = self.ring.submission();
        while !queue.is_full() {
            let Some(entry) = self.backlog.pop_front() else { break };
            // SAFETY: whoever called `push` has promised it. There is room.
            let _ = unsafe { queue.push(&entry) };
        }
    }

    /// One call: submits the first `submissions`, has completions made, and if it `sleeps`, until there are unread
    /// ones. How many submissions were taken.
    #[inline(always)]
    pub(super) fn enter(&mut self, submissions: u32, sleeps: bool, timeout: Option<Duration>) -> io::Result<u32> {
        if timeout.is_none() && !self.polled && self.min_wait.is_none() {
            let (submitter, wanted) = (self.ring.submitter(), u32::from(sleeps));
            // SAFETY: without an argument the kernel reads none, and it takes no more submissions than there are.
            let taken = unsafe { submitter.enter(submissions, wanted, self.always.bits(), None::<&libc::sigset_t>) };
            return taken.map(|taken| taken as u32);
        }
        let mut flags = self.always | EnterFlags::EXT_ARG;
        let mut wanted = u32::from(sleeps);
        let mut arguments = types::SubmitArgs::new();
        let mut timeout = timeout;
        if let Some(MinWait { completions, at_least }) = self.min_wait.filter(|_| sleeps) {
            wanted = completions.max(1);
            let micros = at_least.as_nanos().div_ceil(1_000).min(u128::from(u32::MAX));
            arguments = arguments.min_wait_usec(micros as u32);
            // Without a timeout beyond it, the least time would be the most: the call would end empty.
            timeout = timeout.or(Some(Duration::MAX));
        }
        let mut submissions = submissions;
        if self.polled {
            (submissions, flags) = (0, flags | enter::nudge(&self.ring.submission())); // (j)
            // The end of the turn is one more. It does not come as long as it is kept back for want of room.
            wanted += if self.backlog.is_empty() { self.ends } else { 0 };
        }
        let timeout = timeout.map(enter::timespec);
        if let Some(timeout) = &timeout {
            arguments = arguments.timespec(timeout);
        }
        // SAFETY: with EXT_ARG the kernel reads an `io_uring_getevents_arg`, which `SubmitArgs` is, and the timespec it
        // may point to; both live until the call returns. It takes no more submissions than there are.
        let taken = unsafe { self.ring.submitter().enter(submissions, wanted, flags.bits(), Some(&arguments)) };
        taken.map(|taken| taken as u32)
    }

    /// (j) Queues the end of a turn, if anything was queued in it that may not have been taken.
    #[inline(always)]
    pub(super) fn close_turn(&mut self) {
        if self.polled {
            self.close_turn_of_thread();
        }
    }

    #[cold]
    fn close_turn_of_thread(&mut self) {
        if !(self.ring.submission().is_empty() && self.backlog.is_empty()) {
            self.ends += 1;
            // SAFETY: an operation that does nothing points to no memory.
            unsafe { self.push(opcode::Nop::new().build().user_data(END)) };
        }
    }

    /// Whether all that waited was taken, by a call that says it has taken so many.
    #[inline(always)]
    pub(super) fn has_taken(&self, taken: u32, waiting: u32) -> bool {
        if self.polled { self.ends == 0 } else { taken == waiting }
    }

    /// Appends every completion that is there.
    #[inline(always)]
    pub(super) fn read(&mut self, batch: &mut Vec<cqueue::Entry>) {
        let mut queue = self.ring.completion();
        batch.reserve(queue.len());
        let read = queue.fill(batch.spare_capacity_mut()).len();
        drop(queue);
        // SAFETY: that many were just written behind those that were there, and there is room for them.
        unsafe { batch.set_len(batch.len() + read) };
        if self.ends > 0 {
            self.hear_of_ends(batch, batch.len() - read);
        }
    }

    /// (j) Takes the ends of turns out of what was read from `new` on. Nobody else is to know of them.
    #[cold]
    fn hear_of_ends(&mut self, batch: &mut Vec<cqueue::Entry>, new: usize) {
        while let Some(at) = batch[new..].iter().position(|done| done.user_data() == END) {
            batch.remove(new + at);
            self.ends -= 1;
        }
    }

    /// Whether the kernel keeps completions back for want of room.
    #[inline(always)]
    pub(super) fn overflows(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }
}

/// The connection that an accept says it has made.
pub(super) fn accepted(number: i32) -> OwnedSource {
    // SAFETY: the kernel has just opened it for us, and each completion is read once.
    unsafe { OwnedSource::from_raw_fd(number) }
}

/// (j) How the end of a turn is known: as nobody's, and by its low bits.
const END: u64 = super::NOBODYS | 1;

/// With a thread of the kernel's. That excludes completions in our calls only.
const SQPOLL: [fn(&mut Builder); 2] = [
    |builder| {
        builder.setup_sqpoll(IDLE_MS).setup_single_issuer().setup_submit_all();
    },
    |builder| {
        builder.setup_sqpoll(IDLE_MS);
    },
];

/// From the newest way of setting up a ring to the oldest.
const LADDER: [fn(&mut Builder); 4] = [
    // Completions are made in our calls only, and not by interrupting us; and no array of indices into the queue.
    |builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_no_sqarray();
    },
    |builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    },
    // In any call of ours.
    |builder| {
        builder.setup_coop_taskrun().setup_submit_all();
    },
    |_| (),
];
