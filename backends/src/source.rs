//! What can be watched: a descriptor on Unix, a socket on Windows, borrowed or owned.

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

        /// Something a [`Poller`](crate::Poller) can watch: a borrowed descriptor (on Windows, a socket).
        pub type Source<'a> = BorrowedFd<'a>;

        /// A source together with the right and duty to close it.
        pub type OwnedSource = OwnedFd;

        /// The number the kernel knows a source by.
        pub type RawSource = RawFd;

        /// Anything that can lend its descriptor: sockets, pipes, listeners of `std` and `socket2`.
        pub trait AsSource {
            /// Lends the descriptor.
            fn as_source(&self) -> Source<'_>;
        }

        impl<T: AsFd> AsSource for T {
            fn as_source(&self) -> Source<'_> {
                self.as_fd()
            }
        }

        /// The number of a source, by which a poller of one's own may know it. It is another source's once this one is
        /// closed.
        ///
        /// ```
        /// use pollmark_backends::{AsSource, raw};
        /// # fn main() -> std::io::Result<()> {
        /// let [one, other] = [std::net::UdpSocket::bind("127.0.0.1:0")?, std::net::UdpSocket::bind("127.0.0.1:0")?];
        /// assert_ne!(raw(one.as_source()), raw(other.as_source()));
        /// # Ok(())
        /// # }
        /// ```
        pub fn raw(source: Source<'_>) -> RawSource {
            source.as_raw_fd()
        }
    } else if #[cfg(windows)] {
        use std::os::windows::io::{AsRawSocket, AsSocket, BorrowedSocket, OwnedSocket, RawSocket};

        /// Something a [`Poller`](crate::Poller) can watch: a borrowed socket.
        pub type Source<'a> = BorrowedSocket<'a>;

        /// A source together with the right and duty to close it.
        pub type OwnedSource = OwnedSocket;

        /// The number the kernel knows a source by.
        pub type RawSource = RawSocket;

        /// Anything that can lend its socket.
        pub trait AsSource {
            /// Lends the socket.
            fn as_source(&self) -> Source<'_>;
        }

        impl<T: AsSocket> AsSource for T {
            fn as_source(&self) -> Source<'_> {
                self.as_socket()
            }
        }

        /// The number of a source, by which a poller of one's own may know it.
        pub fn raw(source: Source<'_>) -> RawSource {
            source.as_raw_socket()
        }
    } else {
        compile_error!("pollmark knows the sockets of Unix and of Windows; this target has neither");
    }
}

/// Ends the calls of other threads that sleep on `source`, after it was shut down: in recv(2), in send(2), or both. On
/// Unix the shutdown has ended them already, and this does nothing; on Windows it leaves them asleep, and this ends
/// those of both directions, whichever was shut down.
///
/// The calls fail: with an error of the system's that means they were cancelled, or that the socket is shut down.
pub fn end_blocked_calls(source: Source<'_>) {
    #[cfg(unix)]
    let _ = source;
    #[cfg(windows)]
    {
        // SAFETY: the socket is open, for it is borrowed; null means every call under way. Those that own their memory
        // are awaiting this: a blocking call returns to its caller only when the system is done with its buffer.
        // Failure means that there was none.
        let _ = unsafe { windows_sys::Win32::System::IO::CancelIoEx(raw(source) as _, std::ptr::null()) };
    }
}
