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

        pub(crate) fn raw(source: Source<'_>) -> RawSource {
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

        pub(crate) fn raw(source: Source<'_>) -> RawSource {
            source.as_raw_socket()
        }
    } else {
        compile_error!("pollmark knows the sockets of Unix and of Windows; this target has neither");
    }
}
