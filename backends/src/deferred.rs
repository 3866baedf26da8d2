//! TCP_DEFER_ACCEPT: a connection becomes the server's when its first byte has come, and not before.

use std::io;
use std::time::Duration;

use crate::source::Source;

/// Has `listener` keep connections to itself until their first byte comes: until then they are half-open, as
/// SYN_RECV, and neither accept(2) nor a poller is told of them, though the client is connected. What was silent for
/// about `patience` is let in after all, or given up, as the kernel pleases: tcp(7).
///
/// `patience` is in whole seconds, rounded up; the kernel rounds once more, to how often it would ask again.
///
/// # Errors
/// `Unsupported` on a system that is not Linux. `InvalidInput` for no time at all. Otherwise the kernel's: it is no
/// socket of TCP.
///
/// ```
/// use pollmark_backends::{AsSource, defer_accept};
/// use std::net::TcpListener;
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// match defer_accept(listener.as_source(), Duration::from_secs(5)) {
///     Ok(()) => println!("clients that say nothing stay with the kernel"),
///     Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
/// }
/// # Ok(())
/// # }
/// ```
pub fn defer_accept(listener: Source<'_>, patience: Duration) -> io::Result<()> {
    if patience.is_zero() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "TCP_DEFER_ACCEPT: 0 s would turn it off"));
    }
    sys::defer_accept(listener, patience)
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        mod sys {
            use super::*;
            use crate::source::raw;

            pub(super) fn defer_accept(listener: Source<'_>, patience: Duration) -> io::Result<()> {
                let whole = patience.as_secs() + u64::from(patience.subsec_nanos() > 0);
                let seconds = libc::c_int::try_from(whole).unwrap_or(libc::c_int::MAX);
                let size = size_of_val(&seconds) as libc::socklen_t;
                let value = (&raw const seconds).cast();
                // SAFETY: the number is a socket's, for it is borrowed; `value` points to an int, whose size is told and
                // which outlives the call, and the kernel only reads it.
                let set = unsafe {
                    libc::setsockopt(raw(listener), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, value, size)
                };
                if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
        }
    } else {
        mod sys {
            use super::*;

            pub(super) fn defer_accept(_: Source<'_>, _: Duration) -> io::Result<()> {
                Err(io::Error::new(io::ErrorKind::Unsupported, "TCP_DEFER_ACCEPT: not on this OS, Linux has it"))
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::source::AsSource;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn a_client_is_accepted_with_its_first_byte_and_not_before() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        defer_accept(listener.as_source(), Duration::from_millis(29_001)).expect("on Linux");
        listener.set_nonblocking(true).expect("a socket");
        let mut silent = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let accepted = listener.accept();
        assert_eq!(accepted.expect_err("it has said nothing").kind(), io::ErrorKind::WouldBlock);
        listener.set_nonblocking(false).expect("a socket");
        silent.write_all(b"x").expect("connected");
        let (_, peer) = listener.accept().expect("it has spoken");
        assert_eq!(peer, silent.local_addr().expect("connected"));
    }

    #[test]
    fn what_cannot_be_deferred_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let none = defer_accept(listener.as_source(), Duration::ZERO).expect_err("no time");
        assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
        assert!(defer_accept(datagrams.as_source(), Duration::from_secs(1)).is_err(), "it accepts nobody");
    }
}
