//! Options of sockets that no crate sets safely, each of Linux alone: TCP_DEFER_ACCEPT, IP_LOCAL_PORT_RANGE.

use std::io;
use std::ops::RangeInclusive;
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

/// Has `socket` take one of these ports when it connects, of those of the host (ip_local_port_range) that are among them.
/// To what it is bound already stays as it is.
///
/// # Errors
/// `Unsupported` on a system that is not Linux. `InvalidInput` if there is no port in the range. Otherwise the kernel's:
/// one older than Linux 6.3 has no such option (ENOPROTOOPT).
///
/// ```
/// use pollmark_backends::{AsSource, connect_from};
///
/// # fn main() -> std::io::Result<()> {
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// match connect_from(socket.as_source(), 40_000..=40_009) {
///     Ok(()) => println!("from one of ten ports"),
///     Err(error) => println!("{error}"), // not on this system
/// }
/// # Ok(())
/// # }
/// ```
pub fn connect_from(socket: Source<'_>, ports: RangeInclusive<u16>) -> io::Result<()> {
    // 0 would mean the host's own.
    if ports.is_empty() || *ports.start() == 0 {
        let message = format!("no ports to connect from: {} to {}", ports.start(), ports.end());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    sys::connect_from(socket, ports)
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        mod sys {
            use super::*;
            use crate::source::raw;

            pub(super) fn defer_accept(listener: Source<'_>, patience: Duration) -> io::Result<()> {
                let whole = patience.as_secs() + u64::from(patience.subsec_nanos() > 0);
                let seconds = libc::c_int::try_from(whole).unwrap_or(libc::c_int::MAX);
                set(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
            }

            pub(super) fn connect_from(socket: Source<'_>, ports: RangeInclusive<u16>) -> io::Result<()> {
                // ip(7): the first in the lower half, the last in the upper.
                let both = u32::from(*ports.start()) | u32::from(*ports.end()) << 16;
                set(socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, both as libc::c_int)
            }

            /// Of the kernel's in.h; Android's headers do not name it.
            const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

            fn set(
                socket: Source<'_>,
                level: libc::c_int,
                name: libc::c_int,
                number: libc::c_int,
            ) -> io::Result<()> {
                let size = size_of_val(&number) as libc::socklen_t;
                let value = (&raw const number).cast();
                // SAFETY: the number is a descriptor's, for it is borrowed; `value` points to an int, whose size is told
                // and which outlives the call, and the kernel only reads it.
                let set = unsafe { libc::setsockopt(raw(socket), level, name, value, size) };
                if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            }
        }
    } else {
        mod sys {
            use super::*;

            pub(super) fn defer_accept(_: Source<'_>, _: Duration) -> io::Result<()> {
                Err(io::Error::new(io::ErrorKind::Unsupported, "TCP_DEFER_ACCEPT: not on this OS, Linux has it"))
            }

            pub(super) fn connect_from(_: Source<'_>, _: RangeInclusive<u16>) -> io::Result<()> {
                Err(io::Error::new(io::ErrorKind::Unsupported, "IP_LOCAL_PORT_RANGE: not on this OS, Linux has it"))
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

    #[test]
    fn a_client_connects_from_the_ports_it_was_given() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").into();
        // Somebody else may be given it meanwhile.
        let connected = (0..10).find_map(|_| {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
            let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
            if let Err(why) = connect_from(client.as_source(), free..=free) {
                println!("SKIPPED, NOT CHECKED: IP_LOCAL_PORT_RANGE: {why}");
                return Some((free, free));
            }
            client.connect(&address).ok()?;
            Some((free, client.local_addr().expect("connected").as_socket().expect("of IPv4").port()))
        });
        let (given, taken) = connected.expect("one of ten");
        assert_eq!(given, taken);
    }

    #[test]
    #[allow(clippy::reversed_empty_ranges, reason = "which is the point")]
    fn a_range_without_ports_is_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        for none in [0..=5, 9..=8] {
            let error = connect_from(socket.as_source(), none).expect_err("no port");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
