//! The one call everything in `kqueue.rs` stands on: kevent(2) of this system, or in tests a model of it.

use std::io;
use std::time::Duration;

use crate::source::RawSource;

/// Changes in, records out.
pub trait Kernel {
    /// Makes all of `changes`, in order; then, if none of them had anything to report, waits for at most `room`
    /// records.
    ///
    /// A change that fails, and one that asks for a [`RECEIPT`](flags::RECEIPT), is reported as a record with
    /// [`ERROR`](flags::ERROR) and its errno, 0 for success, in `data`. Each of those takes some of the room. Without
    /// room left for one the call fails and the remaining changes are not made, so `room` is at least their number.
    fn kevent(
        &mut self,
        changes: &[Change],
        room: usize,
        timeout: Option<Duration>,
    ) -> io::Result<impl Iterator<Item = Record>>;
}

/// What a source is watched for: one filter, one direction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Filter {
    /// EVFILT_READ.
    Read,
    /// EVFILT_WRITE.
    Write,
}

/// An entry of the change list: `struct kevent` on its way in, without what differs by system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// `ident`.
    pub source: RawSource,
    /// `filter`.
    pub filter: Filter,
    /// What to do, of [`flags`].
    pub flags: u32,
}

/// An entry of the event list: `struct kevent` on its way out, without what differs by system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// `ident`.
    pub source: RawSource,
    /// `filter`.
    pub filter: Filter,
    /// What happened, of [`flags`].
    pub flags: u32,
    /// With [`EOF`](flags::EOF), the socket's errno.
    pub fflags: u32,
    /// Bytes to read, room to write, connections pending; with [`ERROR`](flags::ERROR), the change's errno.
    pub data: i64,
}

/// The EV_ flags used here. They have the same values on every system that has kqueue(2), checked below.
pub(super) mod flags {
    /// EV_ADD: installs a filter, or renews one.
    pub(in super::super) const ADD: u32 = 0x1;
    /// EV_DELETE: takes a filter out.
    pub(in super::super) const DELETE: u32 = 0x2;
    /// EV_ONESHOT: the kernel deletes the filter as it reports it.
    pub(in super::super) const ONESHOT: u32 = 0x10;
    /// EV_CLEAR: reported when it happens, not while it lasts.
    pub(in super::super) const CLEAR: u32 = 0x20;
    /// EV_RECEIPT: reports the result of the change, success too.
    pub(in super::super) const RECEIPT: u32 = 0x40;
    /// EV_ERROR: this record tells of a change.
    pub(in super::super) const ERROR: u32 = 0x4000;
    /// EV_EOF: the filter's direction has come to its end.
    pub(in super::super) const EOF: u32 = 0x8000;
}

#[cfg(kqueue_like)]
pub(super) mod system {
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::*;
    use crate::time;

    const _: () = {
        assert!(libc::EV_ADD == flags::ADD as _ && libc::EV_DELETE == flags::DELETE as _);
        assert!(libc::EV_ONESHOT == flags::ONESHOT as _ && libc::EV_CLEAR == flags::CLEAR as _);
        assert!(libc::EV_RECEIPT == flags::RECEIPT as _);
        assert!(libc::EV_ERROR == flags::ERROR as _ && libc::EV_EOF == flags::EOF as _);
    };

    /// The kqueue(2) of this system.
    pub struct Queue {
        queue: OwnedFd,
        // Kept only so that they need not be allocated again; empty of meaning between two calls.
        changes: Vec<libc::kevent>,
        records: Vec<libc::kevent>,
    }

    impl Queue {
        pub(in super::super) fn open() -> io::Result<Queue> {
            let queue = rustix::event::kqueue::kqueue()?;
            rustix::io::fcntl_setfd(&queue, rustix::io::FdFlags::CLOEXEC)?;
            Ok(Queue { queue, changes: Vec::new(), records: Vec::new() })
        }
    }

    impl Kernel for Queue {
        fn kevent(
            &mut self,
            changes: &[Change],
            room: usize,
            timeout: Option<Duration>,
        ) -> io::Result<impl Iterator<Item = Record>> {
            self.changes.clear();
            self.changes.extend(changes.iter().map(lower));
            self.records.clear();
            self.records.reserve(room);
            let timeout = timeout.map(time::timespec);
            let timeout = timeout.map(|t| libc::timespec { tv_sec: t.tv_sec as _, tv_nsec: t.tv_nsec as _ });
            // SAFETY: `self.changes` is a valid array of the length given and `self.records` has at least `room`
            // writable slots, of which the kernel fills no more than told; the timeout is null or points to a timespec
            // that lives until the call returns. The kernel keeps none of these pointers.
            let found = unsafe {
                libc::kevent(
                    self.queue.as_raw_fd(),
                    self.changes.as_ptr(),
                    self.changes.len() as _,
                    self.records.as_mut_ptr(),
                    room as _,
                    timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                )
            };
            let found = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
            // SAFETY: `found` is the kernel's count of the records it wrote, from the first on, so that many are
            // initialised; it is at most `room`, and `room` at most the capacity.
            unsafe { self.records.set_len(found) };
            Ok(self.records.iter().filter_map(raise))
        }
    }

    fn lower(change: &Change) -> libc::kevent {
        // SAFETY: kevent is a struct of integers and one pointer, for all of which zero bits are a value. Which other
        // fields there are (FreeBSD has `ext`) differs by system; all are to be zero.
        let mut lowered: libc::kevent = unsafe { std::mem::zeroed() };
        lowered.ident = change.source as _;
        lowered.filter = match change.filter {
            Filter::Read => libc::EVFILT_READ,
            Filter::Write => libc::EVFILT_WRITE,
        };
        lowered.flags = change.flags as _;
        lowered
    }

    /// None for a filter nobody installed here, which the kernel has no reason to report.
    fn raise(record: &libc::kevent) -> Option<Record> {
        let filter = match record.filter {
            libc::EVFILT_READ => Filter::Read,
            libc::EVFILT_WRITE => Filter::Write,
            _ => return None,
        };
        let flags = record.flags as _;
        Some(Record { source: record.ident as _, filter, flags, fflags: record.fflags, data: record.data as _ })
    }
}
