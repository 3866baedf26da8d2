//! A group of provided buffers: entries in a ring that is shared with the kernel, which takes one after the other.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::queue::Queue;

/// The entries of a group. To what they point is the caller's affair.
pub(super) struct Provided {
    entries: NonNull<BufRingEntry>,
    /// A power of two; 0 when the memory was given up.
    count: u16,
    tail: u16,
    group: u16,
}

impl Provided {
    /// Registers an empty group of this number, with room for `count` buffers, a power of two.
    pub(super) fn register(queue: &Queue, group: u16, count: u16) -> io::Result<Provided> {
        debug_assert!(count.is_power_of_two());
        // SAFETY: there is at least one entry, so the size is not 0.
        let entries = unsafe { alloc_zeroed(layout(count)) };
        let entries = NonNull::new(entries.cast::<BufRingEntry>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let provided = Provided { entries, count, tail: 0, group };
        provided.introduce(queue).map_err(explain)?;
        Ok(provided)
    }

    fn introduce(&self, queue: &Queue) -> io::Result<()> {
        let (start, count) = (self.entries.as_ptr() as u64, self.count);
        // SAFETY: `count` entries are there, aligned to a page, until they are unregistered; `Ring` sees to that.
        unsafe { queue.submitter().register_buf_ring_with_flags(start, count, self.group, 0) }
    }

    /// By which operations know it.
    pub(super) fn group(&self) -> u16 {
        self.group
    }

    /// Makes it empty, whatever the kernel has taken and not taken.
    pub(super) fn renew(&mut self, queue: &Queue) -> io::Result<()> {
        self.unregister(queue)?;
        self.tail = 0;
        self.publish();
        self.introduce(queue)
    }

    /// The entry that is written next. The kernel does not look at it before it is [entered](Provided::enter) and
    /// [published](Provided::publish).
    #[inline(always)]
    pub(super) fn entry(&mut self) -> &mut BufRingEntry {
        let at = self.tail & (self.count - 1);
        // SAFETY: `at` is below `count`, which is how many entries there are.
        let mut entry = unsafe { self.entries.add(usize::from(at)) };
        // SAFETY: zeroed when allocated, which an entry may be; nobody else refers to it.
        unsafe { entry.as_mut() }
    }

    /// The next entry stands behind this one.
    #[inline(always)]
    pub(super) fn enter(&mut self) {
        self.tail = self.tail.wrapping_add(1);
    }

    /// Gives the kernel every entry that was entered.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        self.shared_tail().store(self.tail, Ordering::Release);
    }

    /// How many were entered that the kernel was not given yet.
    pub(super) fn unpublished(&self) -> u16 {
        // Nobody but this thread writes it.
        self.tail.wrapping_sub(self.shared_tail().load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn shared_tail(&self) -> &AtomicU16 {
        // SAFETY: the first entry is there and initialised; its reserved half-word is the ring's tail.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: it is two aligned bytes which both sides access atomically, and they are there as long as the entries
        // are.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }

    /// Takes it away from the kernel. An operation that picks a buffer also uses it before it lets go of the ring's
    /// lock, which this takes: when it returns, none is being used.
    pub(super) fn unregister(&mut self, queue: &Queue) -> io::Result<()> {
        queue.submitter().unregister_buf_ring(self.group)
    }

    /// Gives up the memory instead of giving it back.
    pub(super) fn leak(&mut self) {
        self.count = 0;
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        if self.count > 0 {
            // SAFETY: allocated by `register` with this layout.
            unsafe { dealloc(self.entries.as_ptr().cast(), layout(self.count)) };
        }
    }
}

fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            let why = "this kernel's io_uring lacks IORING_REGISTER_PBUF_RING (rings of buffers)";
            io::Error::new(io::ErrorKind::Unsupported, why)
        }
        _ => crate::uring::reasons::of_setup(error),
    }
}

fn layout(count: u16) -> Layout {
    let size = usize::from(count) * size_of::<BufRingEntry>();
    Layout::from_size_align(size, LARGEST_PAGE).expect("32,768 entries of 16 bytes")
}

/// The kernel wants the entries to begin with a page; of the processors that have io_uring none has larger ones.
const LARGEST_PAGE: usize = 64 * 1024;
