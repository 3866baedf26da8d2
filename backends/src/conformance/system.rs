//! What the suite needs of the system beneath sockets: numbers, limits and signals.

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        pub(crate) use unix::*;
    } else {
        /// Sockets are handles here, and there is no limit to raise.
        pub(crate) fn raise_descriptor_limit() {}
    }
}

#[cfg(unix)]
mod unix {
    use std::net::TcpStream;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
    use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;
    use std::{io, mem, ptr, thread};

    use crate::conformance::subject::meanwhile;

    /// The highest soft limit the suite asks for. Beyond it the search for open numbers would take long.
    const ENOUGH: libc::rlim_t = 10_240;

    /// Raises the soft limit of open files as far as the hard limit, or enough, allows.
    pub(crate) fn raise_descriptor_limit() {
        let mut limit = descriptor_limit();
        let wanted = limit.rlim_max.min(ENOUGH);
        if limit.rlim_cur < wanted {
            limit.rlim_cur = wanted;
            // A refusal is no harm: cases that need more look at the limit and say so.
            // SAFETY: `limit` is a valid rlimit, only read by the call.
            let _ = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        }
    }

    fn descriptor_limit() -> libc::rlimit {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a writable rlimit that outlives the call.
        let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
        assert_eq!(got, 0, "every process may ask for its limits");
        limit
    }

    /// One more than the highest number a descriptor can have now.
    pub(crate) fn numbers_below() -> RawFd {
        descriptor_limit().rlim_cur.min(ENOUGH) as RawFd
    }

    /// How many descriptors this process has open.
    pub(crate) fn open_descriptors() -> usize {
        (0..numbers_below()).filter(|number| is_open(*number)).count()
    }

    fn is_open(number: RawFd) -> bool {
        // SAFETY: F_GETFD only reads a flag, and any number may be asked about.
        unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
    }

    /// A number above the first 1024, and above what other threads of this process are likely to be given; a new one
    /// each time. `None` where the limit of open files forbids it.
    pub(crate) fn high_number() -> Option<RawFd> {
        static NEXT: AtomicI32 = AtomicI32::new(1_500);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        (number < numbers_below()).then_some(number)
    }

    /// The same socket under the number `number`, and under no other.
    pub(crate) fn move_to(number: RawFd, socket: TcpStream) -> TcpStream {
        assert!(!is_open(number), "number {number} is in use");
        // SAFETY: `number` is not open, so nothing is closed that belongs to somebody else.
        let moved = unsafe { libc::dup2(socket.as_raw_fd(), number) };
        assert_eq!(moved, number, "dup2(2) failed: {}", io::Error::last_os_error());
        // SAFETY: dup2(2) has just made `number`, and it has no other owner.
        let moved = unsafe { OwnedFd::from_raw_fd(number) };
        drop(socket);
        TcpStream::from(moved)
    }

    /// Lends a number that is not open, as a program with a mistake would.
    pub(crate) fn not_open(number: RawFd) -> BorrowedFd<'static> {
        assert!(!is_open(number), "number {number} is in use");
        // SAFETY: Deliberately untrue. The suite hands it to `add`, which promises to be harmless for a stale number,
        // and to nothing else; `number` is one that nobody else in this process is given.
        unsafe { BorrowedFd::borrow_raw(number) }
    }

    /// Makes a pipe's end non-blocking.
    pub(crate) fn set_nonblocking(end: &impl AsRawFd) {
        // SAFETY: F_SETFL with O_NONBLOCK changes how calls on an open descriptor of ours wait, nothing else.
        let set = unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        assert_eq!(set, 0, "a pipe can be non-blocking");
    }

    /// Runs `interrupted` while SIGURG is sent to this thread, twenty times or until it returns.
    pub(crate) fn with_signals<R>(interrupted: impl FnOnce() -> R) -> R {
        // The disposition of a signal belongs to the whole process.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        extern "C" fn ignore(_: libc::c_int) {}
        // SAFETY: all zeroes is a valid sigaction: no flags, so no SA_RESTART, and an empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: all zeroes is a valid sigaction, here only to be overwritten.
        let mut before: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: both are valid for the call; the handler does nothing, so it is safe in any signal context. SIGURG's
        // default is to be ignored, so one that arrives after the handler has gone does no harm.
        let set = unsafe { libc::sigaction(libc::SIGURG, &action, &mut before) };
        assert_eq!(set, 0, "SIGURG can be caught");

        let done = AtomicBool::new(false);
        // SAFETY: names the calling thread; it has no precondition.
        let waiter = unsafe { libc::pthread_self() } as usize;
        let signals = || {
            // Not for ever: a poller that begins again with the whole timeout after each would never return.
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(10));
                if done.load(Ordering::Acquire) {
                    break;
                }
                // SAFETY: the waiting thread cannot end before it has joined us.
                unsafe { libc::pthread_kill(waiter as libc::pthread_t, libc::SIGURG) };
            }
        };
        let result = meanwhile(signals, || {
            let _stop = Stop(&done); // also when `interrupted` panics
            interrupted()
        });
        // SAFETY: `before` is what the kernel gave above; a null pointer asks for nothing back.
        unsafe { libc::sigaction(libc::SIGURG, &before, ptr::null_mut()) };
        result
    }

    struct Stop<'a>(&'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
}
