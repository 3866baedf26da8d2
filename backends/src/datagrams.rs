//! Datagrams in batches: recvmmsg(2) and sendmmsg(2) on Linux, a call for each message elsewhere.
//!
//! What is odd about datagrams:
//! (a) One that is longer than the buffer is cut, and the rest of it is lost. The kernel says so (MSG_TRUNC; Windows
//!     fails with WSAEMSGSIZE and keeps the sender to itself).
//! (b) A sender on a Unix socket may have no name. Then nothing can be sent back.
//! (c) An error that another host has told of (ICMP) is reported once, by whatever call comes next, and means nothing
//!     for what that call was about.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use rustix::net::{SendFlags, SocketAddrAny};

use crate::source::Source;

/// How many datagrams one call takes at most.
pub const BATCH: usize = 16;

/// Where a datagram came from, and where one may be sent.
///
/// ```
/// use pollmark_backends::datagrams::DatagramAddress;
/// let address = DatagramAddress::from("127.0.0.1:7".parse::<std::net::SocketAddr>().expect("an address"));
/// assert_eq!((address.ip(), address.to_string().as_str()), ("127.0.0.1:7".parse().ok(), "127.0.0.1:7"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DatagramAddress(SocketAddrAny);

impl DatagramAddress {
    /// The address and port, if it is one of IP.
    pub fn ip(&self) -> Option<SocketAddr> {
        self.0.clone().try_into().ok()
    }
}

impl From<SocketAddr> for DatagramAddress {
    fn from(address: SocketAddr) -> DatagramAddress {
        DatagramAddress(address.into())
    }
}

impl fmt::Display for DatagramAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(address) => address.fmt(f),
            None => f.pad("a Unix socket"),
        }
    }
}

/// One datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What it says, as far as there was room for it.
    pub bytes: &'a [u8],
    /// Who sent it, if he has a name.
    pub from: Option<&'a DatagramAddress>,
    /// There was not room for all of it.
    pub is_truncated: bool,
}

/// Room for the datagrams of one call.
///
/// ```
/// use pollmark_backends::datagrams::{Inbound, Outbound};
/// use pollmark_backends::AsSource;
/// use std::net::UdpSocket;
///
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// let mut outbound = Outbound::default();
/// outbound.push(&there.local_addr()?.into(), b"hello");
/// assert_eq!(outbound.send(here.as_source())?, 1);
///
/// let mut inbound = Inbound::new(4);
/// assert_eq!(inbound.receive(there.as_source())?, 1);
/// let came = inbound.iter().next().expect("one came");
/// assert_eq!((came.bytes, came.is_truncated), (&b"hell"[..], true));
/// assert_eq!(came.from.and_then(|from| from.ip()), Some(here.local_addr()?));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Inbound {
    size: usize,
    bytes: Box<[u8]>,
    came: Vec<Came>,
}

#[derive(Debug)]
struct Came {
    bytes: usize,
    from: Option<DatagramAddress>,
    is_truncated: bool,
}

impl Inbound {
    /// For datagrams of up to `size` bytes; at least 1.
    pub fn new(size: usize) -> Inbound {
        let size = size.max(1);
        Inbound { size, bytes: vec![0; size * BATCH].into_boxed_slice(), came: Vec::with_capacity(BATCH) }
    }

    /// Receives what is there, [`BATCH`] at most, in place of what came before. Says how many came; fewer than that
    /// many does not mean that no more are there.
    ///
    /// # Errors
    /// The kernel's: `WouldBlock` if nothing is there and the source does not block; (c) what another host has told of,
    /// `ConnectionRefused` and the like. Nothing has come then.
    pub fn receive(&mut self, source: Source<'_>) -> io::Result<usize> {
        self.came.clear();
        sys::receive(source, self)?;
        Ok(self.came.len())
    }

    /// Forgets what has come. For networks that are not the kernel's, which then [`push`](Inbound::push).
    pub fn clear(&mut self) {
        self.came.clear();
    }

    /// One more has come, from a network that is not the kernel's. Says whether there was room for one more; what is
    /// longer than there is room for is cut.
    ///
    /// ```
    /// use pollmark_backends::datagrams::Inbound;
    ///
    /// let mut inbound = Inbound::new(4);
    /// assert!(inbound.push(b"hello", None));
    /// let came = inbound.iter().next().expect("one came");
    /// assert_eq!((came.bytes, came.is_truncated), (&b"hell"[..], true));
    /// ```
    pub fn push(&mut self, bytes: &[u8], from: Option<DatagramAddress>) -> bool {
        let Some(room) = self.bytes.chunks_exact_mut(self.size).nth(self.came.len()) else { return false };
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.came.push(Came { bytes: count, from, is_truncated: bytes.len() > count });
        true
    }

    /// What came with the last call.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.came.iter().zip(self.bytes.chunks_exact(self.size)).map(|(came, bytes)| Datagram {
            bytes: &bytes[..came.bytes],
            from: came.from.as_ref(),
            is_truncated: came.is_truncated,
        })
    }
}

/// Datagrams to be sent.
#[derive(Debug, Default)]
pub struct Outbound {
    bytes: Vec<u8>,
    /// To whom, and where in `bytes` it ends.
    messages: Vec<(DatagramAddress, usize)>,
    /// So many of them have gone, or been given up.
    gone: usize,
}

impl Outbound {
    /// One more, behind the others.
    pub fn push(&mut self, to: &DatagramAddress, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.messages.push((to.clone(), self.bytes.len()));
    }

    /// How many bytes all of them have, those that have gone included.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes those have that are still to be sent.
    pub fn bytes_left(&self) -> usize {
        self.bytes.len() - self.begins(self.gone)
    }

    /// How many are still to be sent.
    pub fn left(&self) -> usize {
        self.messages.len() - self.gone
    }

    /// Sends some of what is left, by one call. Says how many have gone with it, at least one.
    ///
    /// # Errors
    /// The kernel's, and then none has gone: `WouldBlock` (or ENOBUFS) if there is no room; an error about the first;
    /// (c) one that another host has told of.
    ///
    /// # Panics
    /// If nothing is left.
    pub fn send(&mut self, source: Source<'_>) -> io::Result<usize> {
        assert!(self.left() > 0, "there is something to send");
        let sent = sys::send(source, self)?;
        self.gone += sent;
        Ok(sent)
    }

    /// Takes the first of those that are left, for a network that is not the kernel's: it has gone.
    ///
    /// ```
    /// use pollmark_backends::datagrams::Outbound;
    /// use std::net::{Ipv4Addr, SocketAddr};
    ///
    /// let (mut outbound, to) = (Outbound::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 7)).into());
    /// outbound.push(&to, b"hello");
    /// assert_eq!(outbound.pop(), Some((&to, &b"hello"[..])));
    /// assert!(outbound.pop().is_none() && outbound.left() == 0);
    /// ```
    pub fn pop(&mut self) -> Option<(&DatagramAddress, &[u8])> {
        let at = self.gone;
        self.give_up_one();
        let (to, end) = self.messages.get(at)?;
        Some((to, &self.bytes[self.begins(at)..*end]))
    }

    /// Gives the first of those that are left up.
    pub fn give_up_one(&mut self) {
        self.gone = (self.gone + 1).min(self.messages.len());
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.messages.clear();
        self.gone = 0;
    }

    /// Those left.
    fn waiting(&self) -> impl Iterator<Item = (&DatagramAddress, &[u8])> {
        let left = self.messages.iter().enumerate().skip(self.gone);
        left.map(move |(at, (to, end))| (to, &self.bytes[self.begins(at)..*end]))
    }

    /// Where in `bytes` the message `at` begins.
    fn begins(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.messages[at - 1].1 }
    }
}

// The flags of a send: MSG_NOSIGNAL is for streams, and means nothing here.
const PLAIN: SendFlags = SendFlags::empty();

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        mod sys {
            use std::mem::{MaybeUninit, zeroed};
            use std::os::fd::AsRawFd;
            use std::ptr;

            use super::*;

            pub(super) fn receive(source: Source<'_>, into: &mut Inbound) -> io::Result<()> {
                let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
                let mut pieces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
                // SAFETY: a header of zeros is one without name, buffers and options.
                let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
                let rooms = into.bytes.chunks_exact_mut(into.size);
                for (((room, name), piece), header) in rooms.zip(&mut names).zip(&mut pieces).zip(&mut headers) {
                    *piece = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
                    header.msg_hdr.msg_name = name.as_mut_ptr().cast();
                    header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
                    header.msg_hdr.msg_iov = piece;
                    header.msg_hdr.msg_iovlen = 1;
                }
                let (first, flags) = (headers.as_mut_ptr(), libc::MSG_DONTWAIT as _);
                // SAFETY: the BATCH headers name a room for an address and one piece of `into.bytes` each, of the
                // length they say, which are borrowed until the call is over. No timeout is given.
                let came = unsafe { libc::recvmmsg(source.as_raw_fd(), first, BATCH as _, flags, ptr::null_mut()) };
                if came < 0 {
                    return Err(io::Error::last_os_error());
                }
                for (header, name) in headers.iter().zip(&names).take(came as usize) {
                    let length = header.msg_hdr.msg_namelen;
                    // (b) No name has no length, or that of the family alone.
                    let from = (length as usize > size_of::<libc::sa_family_t>()).then(|| {
                        // SAFETY: the kernel has written an address of this length, which is at most the room's.
                        DatagramAddress(unsafe { SocketAddrAny::read(name.as_ptr().cast(), length) })
                    });
                    let is_truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0; // (a)
                    into.came.push(Came { bytes: (header.msg_len as usize).min(into.size), from, is_truncated });
                }
                Ok(())
            }

            pub(super) fn send(source: Source<'_>, from: &Outbound) -> io::Result<usize> {
                let mut pieces = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
                // SAFETY: as above.
                let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
                let mut count = 0;
                for (((to, bytes), piece), header) in from.waiting().zip(&mut pieces).zip(&mut headers) {
                    *piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
                    header.msg_hdr.msg_name = to.0.as_ptr().cast_mut().cast();
                    header.msg_hdr.msg_namelen = to.0.addr_len() as _;
                    header.msg_hdr.msg_iov = piece;
                    header.msg_hdr.msg_iovlen = 1;
                    count += 1;
                }
                let first = headers.as_mut_ptr();
                // SAFETY: the first `count` headers name an address and one piece of `from` each, of the length they
                // say, which are borrowed until the call is over; the kernel only reads both, and writes the headers
                // alone.
                let sent = unsafe { libc::sendmmsg(source.as_raw_fd(), first, count, PLAIN.bits() as _) };
                if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
            }
        }
    } else {
        mod sys {
            use rustix::net::sendto;

            use super::*;

            pub(super) fn receive(source: Source<'_>, into: &mut Inbound) -> io::Result<()> {
                let room = &mut into.bytes[..into.size];
                into.came.push(receive_one(source, room)?);
                Ok(())
            }

            pub(super) fn send(source: Source<'_>, from: &Outbound) -> io::Result<usize> {
                let (to, bytes) = from.waiting().next().expect("there is something to send");
                sendto(source, bytes, PLAIN, &to.0)?;
                Ok(1)
            }

            #[cfg(unix)]
            fn receive_one(source: Source<'_>, room: &mut [u8]) -> io::Result<Came> {
                use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};
                let mut pieces = [io::IoSliceMut::new(room)];
                let received = recvmsg(source, &mut pieces, &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?;
                Ok(Came {
                    bytes: received.bytes,
                    from: received.address.map(DatagramAddress),
                    is_truncated: received.flags.contains(ReturnFlags::TRUNC), // (a)
                })
            }

            #[cfg(windows)]
            fn receive_one(source: Source<'_>, room: &mut [u8]) -> io::Result<Came> {
                use rustix::io::Errno;
                use rustix::net::{RecvFlags, recvfrom};
                let bytes = room.len();
                match recvfrom(source, room, RecvFlags::empty()) {
                    Ok((_, bytes, from)) => Ok(Came { bytes, from: from.map(DatagramAddress), is_truncated: false }),
                    Err(Errno::MSGSIZE) => Ok(Came { bytes, from: None, is_truncated: true }), // (a)
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}
