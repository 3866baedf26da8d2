//! io_uring_enter(2): what a call says, whatever the ring is for.

use std::time::Duration;

use io_uring::EnterFlags;
use io_uring::squeue::SubmissionQueue;
use io_uring::types::Timespec;

use crate::time;

/// How long a thread of the kernel's goes on looking at the queue when nothing comes, in milliseconds, as
/// io_uring_setup(2) takes it. Longer keeps a processor busy for nothing, shorter has it woken.
pub(crate) const IDLE_MS: u32 = 2;

/// How long a call may sleep.
pub(crate) fn timespec(timeout: Duration) -> Timespec {
    let timeout = time::timespec(timeout);
    Timespec::new().sec(timeout.tv_sec as u64).nsec(timeout.tv_nsec as u32)
}

/// What a call is asked for to have the kernel's thread go on: to wake it if it sleeps and there is something for it,
/// and to wait until it has made room if there is none.
pub(crate) fn nudge(queue: &SubmissionQueue<'_>) -> EnterFlags {
    let mut flags = EnterFlags::empty();
    if !queue.is_empty() && queue.need_wakeup() {
        flags |= EnterFlags::SQ_WAKEUP;
    }
    if queue.is_full() {
        flags |= EnterFlags::SQ_WAIT;
    }
    flags
}
