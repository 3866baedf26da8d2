//! The receive buffers: a ring of them that the kernel takes from, and that is refilled between two calls.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;

use super::Setup;
use super::provided::Provided;
use super::queue::Queue;

/// The number of their group.
pub(super) const GROUP: u16 = 0;

/// Buffers that all receives share.
///
/// Each is either the kernel's, or it is ours: it was received into, and is read. It is entered into the ring again at
/// once, but the kernel is told so only by [`publish`](Buffers::publish).
pub(super) struct Buffers {
    provided: Provided,
    memory: NonNull<u8>,
    /// 0 when the memory was given up.
    count: u16,
    size: u32,
    stride: usize,
    /// What was received last: where it begins, and how much it is.
    received: (NonNull<u8>, usize),
}

impl Buffers {
    /// Makes them, and gives them all to the kernel.
    pub(super) fn register(queue: &Queue, setup: &Setup) -> io::Result<Buffers> {
        let count = setup.buffers.clamp(1, MOST).next_power_of_two();
        let size = setup.buffer_size.clamp(1, LARGEST);
        // SAFETY: a buffer has at least one byte, so the size is not 0.
        let memory = unsafe { alloc_zeroed(memory_layout(count, size)) };
        let memory = NonNull::new(memory).ok_or(io::ErrorKind::OutOfMemory)?;
        let provided = match Provided::register(queue, GROUP, count) {
            Ok(provided) => provided,
            Err(error) => {
                // SAFETY: allocated above with this layout.
                unsafe { dealloc(memory.as_ptr(), memory_layout(count, size)) };
                return Err(error);
            }
        };
        let received = (NonNull::dangling(), 0);
        let mut buffers = Buffers { provided, memory, count, size, stride: stride(size), received };
        for buffer in 0..count {
            buffers.provided.entry().set_len(size); // of all entries, for good
            buffers.enter(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The size of each.
    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// How many the kernel has, but for what it has used since it told of some.
    pub(super) fn free(&self) -> usize {
        usize::from(self.count - self.provided.unpublished())
    }

    /// Takes note of what `buffer` was filled with, and enters it into the ring again.
    #[inline(always)]
    pub(super) fn received_into(&mut self, buffer: u16, bytes: u32) {
        debug_assert!(bytes <= self.size, "the kernel has taken one of our buffers");
        self.received = (self.enter(buffer), bytes as usize);
    }

    /// What was received last.
    #[inline(always)]
    pub(super) fn received(&self) -> &[u8] {
        let (start, length) = self.received;
        // SAFETY: the kernel has filled `length` bytes of a buffer that begins at `start`. It is ours until `publish`,
        // which ends this borrow, and before the first there is none and the length is 0.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    /// Writes a buffer's entry, at which the kernel does not look before `publish`. Where the buffer begins.
    #[inline(always)]
    fn enter(&mut self, buffer: u16) -> NonNull<u8> {
        debug_assert!(buffer < self.count, "the kernel has taken one of our buffers");
        // SAFETY: the kernel picks from what was entered, so this is where one of the buffers begins.
        let memory = unsafe { self.memory.add(usize::from(buffer) * self.stride) };
        let entry = self.provided.entry();
        entry.set_addr(memory.as_ptr() as u64);
        entry.set_bid(buffer);
        self.provided.enter();
        memory
    }

    /// Gives the kernel every buffer that was entered. What was received last is nothing from here on.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.received = (NonNull::dangling(), 0);
        self.provided.publish();
    }

    /// Takes them away from the kernel: when it returns, none is being written to.
    pub(super) fn unregister(&mut self, queue: &Queue) -> io::Result<()> {
        self.provided.unregister(queue)
    }

    /// Gives up the memory instead of giving it back.
    pub(super) fn leak(&mut self) {
        self.provided.leak();
        self.count = 0;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        // SAFETY: allocated by `register` with this layout.
        unsafe { dealloc(self.memory.as_ptr(), memory_layout(self.count, self.size)) };
    }
}

fn memory_layout(count: u16, size: u32) -> Layout {
    let size = usize::from(count) * stride(size);
    // Not aligned to more than what any allocation is: then the memory is fresh from the system, and no page of it is
    // there before it is written to.
    Layout::from_size_align(size, align_of::<u64>()).expect("32,768 buffers of 16 MiB at most")
}

/// From one buffer to the next. A cache line more than they need: small messages touch only the first bytes of each,
/// which at a power of two apart would all compete for the same place in the cache.
fn stride(size: u32) -> usize {
    (size as usize).next_multiple_of(LINE) + LINE
}

const LINE: usize = 64;
const MOST: u16 = 1 << 15;
const LARGEST: u32 = 1 << 24;
