//! The ring itself: polls, waits and cancellations in, completions out. All that is unsafe about io_uring(7) stands
//! here.

mod sqpoll;

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::{Builder, EnterFlags, IoUring, Probe, cqueue, opcode, types};

use super::{enter, reasons};
use crate::events::KernelRecord;
use crate::source::RawSource;

/// Polls that fit in one call. Small, because the kernel and we walk through all of it again and again.
pub(super) const SUBMISSIONS: u32 = 256;

/// Completions that fit in the shared memory. What finds no room, the kernel keeps until some was read.
///
/// More than are ever unread, because the kernel makes of it, by 32, the number of lists it searches for what is to be
/// cancelled, up to 256 of them. With 1,024, a removal among 9,000 sources takes 12 µs instead of 3.
pub(super) const COMPLETIONS: u32 = 8_192;

/// Operations that a ring is good for only if the kernel knows them, by name and code.
pub(super) type Operations = [(&'static str, u8); 2];

/// What polls take.
pub(super) const POLLS: Operations = [("IORING_OP_POLL_ADD", opcode::PollAdd::CODE), CANCEL];

/// What waiting for an epoll(7) instance takes.
pub(super) const EPOLL_WAITS: Operations = [("IORING_OP_EPOLL_WAIT", opcode::EpollWait::CODE), CANCEL];

const CANCEL: (&str, u8) = ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE);

/// An io_uring for polls, which keep no memory alive, or for the wait of an epoll(7) instance, which does.
pub(super) struct Ring {
    ring: IoUring,
    always: EnterFlags,
    kind: Kind,
    /// How many completions were read.
    read: u64,
    /// How many calls were made.
    calls: u64,
    /// The kernel takes submissions from no other thread.
    thread: PhantomData<*mut ()>,
}

/// Who makes completions, and when.
enum Kind {
    /// Our calls; and the kernel says whether there is something to make them of.
    Deferred,
    /// The kernel, on this thread, whenever it likes.
    Plain,
    /// A thread of the kernel's, which also takes the submissions.
    Thread(sqpoll::Thread),
}

/// What became of an operation.
pub(super) struct Completion {
    pub(super) user_data: u64,
    /// What poll(2) would answer, or a negative errno.
    pub(super) result: i32,
    /// The operation goes on.
    pub(super) more: bool,
}

/// No submission fits until the kernel has taken those that wait.
pub(super) struct Full;

impl Ring {
    /// Sets up a ring that belongs to this thread.
    pub(super) fn open(needed: Operations) -> io::Result<Ring> {
        Ring::with_room_for(COMPLETIONS, needed)
    }

    /// The same with another length of the queue.
    pub(super) fn with_room_for(completions: u32, needed: Operations) -> io::Result<Ring> {
        // Completions are then made in our calls only, and not by interrupting us.
        let mut builder = Ring::builder(completions);
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
        match builder.build(SUBMISSIONS) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ring::plain(needed), // One of them is not known.
            made => Ring::complete(made, Kind::Deferred, needed),
        }
    }

    /// As an older kernel has it.
    pub(super) fn plain(needed: Operations) -> io::Result<Ring> {
        Ring::complete(Ring::builder(COMPLETIONS).build(SUBMISSIONS), Kind::Plain, needed)
    }

    fn builder(completions: u32) -> Builder {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions);
        builder
    }

    fn complete(made: io::Result<IoUring>, kind: Kind, needed: Operations) -> io::Result<Ring> {
        let ring = made.map_err(reasons::of_setup)?;
        let features = ring.params();
        reasons::require(&[
            ("IORING_FEAT_NODROP", features.is_feature_nodrop()),
            ("IORING_FEAT_EXT_ARG", features.is_feature_ext_arg()),
            ("IORING_FEAT_CQE_SKIP", features.is_feature_skip_cqe_on_success()),
        ])?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        reasons::require(&needed.map(|(name, code)| (name, probe.is_supported(code))))?;

        let mut always = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if features.is_feature_no_iowait() {
            always |= EnterFlags::NO_IOWAIT; // Waiting for a peer is no reason to count this processor as busy with disks.
        }
        Ok(Ring { ring, always, kind, read: 0, calls: 0, thread: PhantomData })
    }

    /// Has the next call begin a poll of `source` for `bits`: one answer, or one for each time it is woken.
    pub(super) fn poll(&mut self, source: RawSource, bits: u32, multishot: bool, user_data: u64) -> Result<(), Full> {
        let poll = opcode::PollAdd::new(types::Fd(source), bits).multi(multishot).build().user_data(user_data);
        // SAFETY: a poll points to no memory.
        unsafe { self.push(&poll) }
    }

    /// Has the next call wait for the epoll(7) instance `queue`, and write what it finds to the first `room` of
    /// `records`. One completion comes of it, with their number.
    ///
    /// # Safety
    /// Up to that completion, `records` points to so many writable records that nobody else reads or writes.
    pub(super) unsafe fn epoll_wait(
        &mut self,
        queue: BorrowedFd<'_>,
        records: *mut KernelRecord,
        room: u32,
        user_data: u64,
    ) -> Result<(), Full> {
        let wait = opcode::EpollWait::new(types::Fd(queue.as_raw_fd()), records.cast(), room);
        // SAFETY: all it points to is `records`, of which the caller promises what it takes; both types are the
        // kernel's `epoll_event`.
        unsafe { self.push(&wait.build().user_data(user_data)) }
    }

    /// Has the next call cancel what is known as `target`, and not to its end. At least one completion comes of it:
    /// that of the target, or one known as `user_data` that says there was none.
    pub(super) fn cancel(&mut self, target: u64, user_data: u64) -> Result<(), Full> {
        // Not IORING_OP_POLL_REMOVE: of a multishot poll just woken it says EALREADY, and the poll goes on.
        let cancel = opcode::AsyncCancel::new(target).build().user_data(user_data);
        // SAFETY: a cancellation points to no memory.
        unsafe { self.push(&cancel.flags(Flags::SKIP_SUCCESS)) }?;
        if let Kind::Thread(thread) = &mut self.kind {
            thread.cancelled(target);
        }
        Ok(())
    }

    /// # Safety
    /// What `entry` points to stays valid until its completion.
    unsafe fn push(&mut self, entry: &Entry) -> Result<(), Full> {
        // SAFETY: as the caller promises.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| Full)
    }

    /// How many submissions wait for a call.
    pub(super) fn waiting(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// One call: submits what waits, makes completions of what happened, and sleeps until there are `wanted` unread
    /// ones. How many submissions were taken. If any were, the kernel does not say what ended the sleep.
    ///
    /// Where a thread of the kernel's takes them none are, and without a sleep there may be no call.
    pub(super) fn enter(&mut self, wanted: u32, timeout: Option<Duration>) -> io::Result<usize> {
        match self.kind {
            Kind::Thread(_) => self.enter_beside_thread(wanted, timeout),
            Kind::Deferred | Kind::Plain => {
                let submissions = self.waiting() as u32;
                self.call(submissions, wanted, EnterFlags::empty(), timeout)
            }
        }
    }

    /// Where a thread of the kernel's takes what is queued, returns when it has looked at all of it, and has made
    /// completions of what happened before. Elsewhere calls do that.
    pub(super) fn meet(&mut self) -> io::Result<()> {
        match self.kind {
            Kind::Thread(_) => self.meet_thread(),
            Kind::Deferred | Kind::Plain => Ok(()),
        }
    }

    /// Submits what waits, and returns when the kernel has let go of all that is cancelled.
    pub(super) fn let_go(&mut self) -> io::Result<()> {
        match self.kind {
            Kind::Thread(_) => self.part_from_thread(),
            Kind::Deferred | Kind::Plain => self.enter(0, None).map(drop),
        }
    }

    fn call(
        &mut self,
        submissions: u32,
        wanted: u32,
        flags: EnterFlags,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.calls += 1;
        let timeout = timeout.map(enter::timespec);
        let arguments = timeout.as_ref().map_or(types::SubmitArgs::new(), |t| types::SubmitArgs::new().timespec(t));
        let flags = (self.always | flags).bits();
        // SAFETY: with EXT_ARG the kernel reads an `io_uring_getevents_arg`, which `SubmitArgs` is, and the timespec it
        // may point to; both live until the call returns. Not more submissions are announced than the queue holds.
        unsafe { self.ring.submitter().enter(submissions, wanted, flags, Some(&arguments)) }
    }

    /// Whether something may have happened since the last call that the next will make completions of.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        !matches!(self.kind, Kind::Deferred) || queue.taskrun() || queue.cq_overflow()
    }

    /// How many completions a call has to wait for, so that it sleeps until one comes that is not of a cancellation:
    /// `cancelled` are queued.
    pub(super) fn wanted(&self, cancelled: u32) -> u32 {
        match self.kind {
            Kind::Thread(_) => 1, // It may have been through with them before the call.
            Kind::Deferred | Kind::Plain => cancelled + 1,
        }
    }

    /// The oldest completion that was not read yet.
    pub(super) fn completion(&mut self) -> Option<Completion> {
        let completion = match &mut self.kind {
            Kind::Thread(thread) => thread.next(&mut self.ring),
            Kind::Deferred | Kind::Plain => taken(&mut self.ring),
        };
        self.read += u64::from(completion.is_some());
        completion
    }

    /// How many completions were read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// How many completions are there to be read.
    pub(super) fn unread(&mut self) -> u64 {
        let apart = if let Kind::Thread(thread) = &self.kind { thread.apart() } else { 0 };
        (apart + self.ring.completion().len()) as u64
    }

    /// How many calls were made so far.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }
}

/// The oldest completion of the queue.
fn taken(ring: &mut IoUring) -> Option<Completion> {
    let entry = ring.completion().next()?;
    Some(Completion { user_data: entry.user_data(), result: entry.result(), more: cqueue::more(entry.flags()) })
}
