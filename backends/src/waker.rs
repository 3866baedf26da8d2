//! Waking a waiting poller from any thread, by a source like any other.
//!
//! An eventfd on Linux, a socket pair on other Unix systems, a loopback TCP pair on Windows. The mechanism's own ways
//! (EVFILT_USER, MSG_RING) are not used: NetBSD and OpenBSD lack the one, and a wake that is an ordinary event is the
//! same on all of them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::source::Source;

/// Makes a waker and the source it makes readable.
///
/// ```
/// use pollmark_backends::{Events, Interest, Poller, Registry, Token, Trigger, waker};
///
/// # fn main() -> std::io::Result<()> {
/// let (waker, wakes) = waker()?;
/// let mut poller = Registry::builtin().default_entry()?.open()?;
/// poller.add(wakes.as_source(), Token(0), Interest::READABLE, Trigger::Level)?;
///
/// std::thread::spawn(move || waker.wake());
/// let mut events = Events::with_capacity(8);
/// poller.wait(&mut events, None)?;
/// wakes.drain();
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The kernel's: too many descriptors, or no memory.
pub fn waker() -> io::Result<(Waker, WakeSource)> {
    let (writer, reader) = sys::pair()?;
    let shared = Arc::new(Shared { pending: AtomicBool::new(false), writer });
    Ok((Waker(Arc::clone(&shared)), WakeSource { shared, reader }))
}

struct Shared {
    pending: AtomicBool,
    writer: sys::Writer,
}

/// Wakes the thread that waits on the matching [`WakeSource`]. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Makes the source readable, now or, if nobody waits, for the next wait. Many wakes may become one. Where the
    /// system has no memory for it, which eventfd(2) does not need and a socket does, this wake is lost, and the next
    /// is not.
    ///
    /// Whatever the waiter is to find must be in place before the call.
    pub fn wake(&self) {
        self.wake_and_count();
    }

    /// The same, and says how many system calls it took: none if a wake was pending already.
    pub fn wake_and_count(&self) -> u64 {
        if self.0.pending.swap(true, Ordering::AcqRel) {
            return 0;
        }
        let mut calls = 1;
        loop {
            match sys::signal(&self.0.writer) {
                Ok(()) => break,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => calls += 1,
                    // It is full, so readable already.
                    io::ErrorKind::WouldBlock => break,
                    // For want of memory, perhaps. Nothing is pending, so the next wake tries again.
                    _ => {
                        self.0.pending.store(false, Ordering::Release);
                        break;
                    }
                },
            }
        }
        calls
    }
}

/// The readable end. Register it for [`READABLE`](crate::Interest::READABLE), level-triggered.
pub struct WakeSource {
    shared: Arc<Shared>,
    reader: sys::Reader,
}

impl WakeSource {
    /// The source to register.
    pub fn as_source(&self) -> Source<'_> {
        sys::source(&self.shared.writer, &self.reader)
    }

    /// Makes the source quiet again. Look for what the wakers left *after* this call: a wake that comes between the
    /// two finds `pending` still set and sends nothing more.
    pub fn drain(&self) {
        sys::drain(&self.shared.writer, &self.reader);
        // A swap, not a store: it reads what the last waker wrote, so that what was left before that wake is seen from
        // here on. Behind a mere store the look might come first, and with the wake suppressed nobody would look again.
        self.shared.pending.swap(false, Ordering::AcqRel);
    }
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        mod sys {
            use std::io;
            use std::os::fd::{AsFd, OwnedFd};
            use rustix::event::{EventfdFlags, eventfd};
            use crate::source::Source;

            // One descriptor serves both ends.
            pub(super) type Writer = OwnedFd;
            pub(super) type Reader = ();

            pub(super) fn pair() -> io::Result<(Writer, Reader)> {
                Ok((eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?, ()))
            }

            pub(super) fn source<'a>(writer: &'a Writer, _: &'a Reader) -> Source<'a> {
                writer.as_fd()
            }

            pub(super) fn signal(writer: &Writer) -> io::Result<()> {
                rustix::io::write(writer, &1u64.to_ne_bytes())?;
                Ok(())
            }

            pub(super) fn drain(writer: &Writer, _: &Reader) {
                let _ = rustix::io::read(writer, &mut [0u8; 8]);
            }
        }
    } else {
        mod sys {
            use std::io::{self, Read, Write};
            use crate::source::{AsSource, Source};

            cfg_if::cfg_if! {
                if #[cfg(unix)] {
                    use std::os::unix::net::UnixStream as Stream;

                    fn streams() -> io::Result<(Stream, Stream)> {
                        Stream::pair()
                    }
                } else {
                    use std::net::{TcpListener, TcpStream as Stream};

                    fn streams() -> io::Result<(Stream, Stream)> {
                        let listener = TcpListener::bind(("127.0.0.1", 0))?;
                        let writer = Stream::connect(listener.local_addr()?)?;
                        loop {
                            // Anybody on this host may connect; take only our own.
                            let (reader, peer) = listener.accept()?;
                            if peer == writer.local_addr()? {
                                writer.set_nodelay(true)?;
                                return Ok((writer, reader));
                            }
                        }
                    }
                }
            }

            pub(super) type Writer = Stream;
            pub(super) type Reader = Stream;

            pub(super) fn pair() -> io::Result<(Writer, Reader)> {
                let (writer, reader) = streams()?;
                writer.set_nonblocking(true)?;
                reader.set_nonblocking(true)?;
                Ok((writer, reader))
            }

            pub(super) fn source<'a>(_: &'a Writer, reader: &'a Reader) -> Source<'a> {
                reader.as_source()
            }

            pub(super) fn signal(mut writer: &Writer) -> io::Result<()> {
                writer.write(&[1]).map(drop)
            }

            pub(super) fn drain(_: &Writer, mut reader: &Reader) {
                let mut buffer = [0u8; 64];
                while matches!(reader.read(&mut buffer), Ok(n) if n == buffer.len()) {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer of which every write fails.
    fn broken() -> sys::Writer {
        cfg_if::cfg_if! {
            if #[cfg(linux_like)] {
                std::fs::File::open("/dev/null").expect("it is everywhere").into()
            } else {
                let (writer, _) = sys::pair().expect("a pair");
                writer.shutdown(std::net::Shutdown::Write).expect("connected");
                writer
            }
        }
    }

    #[test]
    fn a_wake_that_fails_does_not_silence_the_next() {
        let waker = Waker(Arc::new(Shared { pending: AtomicBool::new(false), writer: broken() }));
        assert_eq!((waker.wake_and_count(), waker.wake_and_count()), (1, 1));
    }

    #[test]
    fn a_wake_that_is_pending_is_not_repeated_before_the_source_is_quiet() {
        let (waker, source) = waker().expect("descriptors");
        assert_eq!((waker.wake_and_count(), waker.wake_and_count()), (1, 0));
        source.drain();
        assert_eq!(waker.wake_and_count(), 1);
    }
}
