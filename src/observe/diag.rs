//! sock_diag(7): what is asked over netlink, and how the answers are understood.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::socket::{Figures, Memory, Socket, State};

/// A family of addresses, by the kernel's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4 = 2,
    V6 = 10,
}

/// What is asked for: sockets of these ports, where they are not 0, in the states of these bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Question {
    pub(super) local: u16,
    pub(super) peer: u16,
    pub(super) states: u32,
    pub(super) figures: bool,
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        /// Asks the kernel, which a container may forbid.
        pub(super) fn ask(family: Family, question: Question, sockets: &mut Vec<Socket>) -> io::Result<()> {
            use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

            let netlink = rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC,
                Some(netlink::SOCK_DIAG),
            )?;
            rustix::net::send(&netlink, &request(family, question), SendFlags::empty())?;
            // The kernel fills at most half of it at a time.
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let (received, _) = rustix::net::recv(&netlink, &mut *buffer, RecvFlags::empty())?;
                if messages(&buffer[..received], sockets)? == Last::Yes {
                    return Ok(());
                }
            }
        }
    } else {
        pub(super) fn ask(_: Family, _: Question, _: &mut Vec<Socket>) -> io::Result<()> {
            Err(super::not_visible("sockets of this host"))
        }
    }
}

// Of the kernel's netlink.h, sock_diag.h and inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKMEMINFO: u16 = 7;
const INET_DIAG_MESSAGE: usize = 72;

/// A header, and `inet_diag_req_v2`: family, protocol, extensions, padding, states, and an address of which the ports
/// alone may say something.
#[cfg_attr(not(linux_like), allow(dead_code))]
fn request(family: Family, question: Question) -> Vec<u8> {
    const NO_ADDRESSES: [u8; 44] = [0; 44];
    let extensions = if question.figures { 1 << (INET_DIAG_INFO - 1) | 1 << (INET_DIAG_SKMEMINFO - 1) } else { 0 };
    let mut message = Vec::new();
    message.extend_from_slice(&((NLMSG_HEADER + 8 + 4 + NO_ADDRESSES.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // A number of the request, of which there is one; and no number of ours, which the kernel gives.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[family as u8, IPPROTO_TCP, extensions, 0]);
    message.extend_from_slice(&question.states.to_ne_bytes());
    message.extend_from_slice(&question.local.to_be_bytes());
    message.extend_from_slice(&question.peer.to_be_bytes());
    message.extend_from_slice(&NO_ADDRESSES);
    message
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(linux_like), allow(dead_code))]
enum Last {
    Yes,
    No,
}

/// Reads the messages of one datagram. An error if the kernel says no, or nothing that can be understood.
#[cfg_attr(not(linux_like), allow(dead_code))]
fn messages(mut datagram: &[u8], sockets: &mut Vec<Socket>) -> io::Result<Last> {
    let not_understood = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag(7): an answer of another form");
    while !datagram.is_empty() {
        let length = u32_at(datagram, 0).ok_or_else(not_understood)? as usize;
        let kind = u16_at(datagram, 4).ok_or_else(not_understood)?;
        match kind {
            NLMSG_DONE => return Ok(Last::Yes),
            SOCK_DIAG_BY_FAMILY => {
                let message = datagram.get(NLMSG_HEADER..length).ok_or_else(not_understood)?;
                sockets.push(socket(message).ok_or_else(not_understood)?);
            }
            NLMSG_ERROR => {
                let negative = u32_at(datagram, NLMSG_HEADER).ok_or_else(not_understood)? as i32;
                return Err(io::Error::from_raw_os_error(negative.saturating_neg()));
            }
            _ => return Err(not_understood()),
        }
        // Messages begin at multiples of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Last::No)
}

/// `inet_diag_msg`: family, state, timer, retransmissions; ports, and addresses of sixteen bytes each; then, from the
/// 52nd byte on, expiry, both queues, user and inode; and the attributes.
fn socket(message: &[u8]) -> Option<Socket> {
    let is_v4 = *message.first()? == Family::V4 as u8;
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let bytes = <[u8; 16]>::try_from(message.get(at..at + 16)?).ok()?;
        let [a, b, c, d, ..] = bytes;
        Some(if is_v4 { IpAddr::V4(Ipv4Addr::new(a, b, c, d)) } else { IpAddr::V6(Ipv6Addr::from(bytes)) })
    };
    let mut socket = Socket {
        state: State::from_number(*message.get(1)?)?,
        local: SocketAddr::new(address(8)?, port(4)?),
        peer: SocketAddr::new(address(24)?, port(6)?),
        receive_queue: u32_at(message, 56)?,
        send_queue: u32_at(message, 60)?,
        retransmissions: *message.get(3)?,
        timer_ms: u32_at(message, 52)?,
        user: u32_at(message, 64)?,
        inode: u32_at(message, 68)?.into(),
        figures: None,
        memory: None,
    };
    let mut attributes = message.get(INET_DIAG_MESSAGE..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let length = usize::from(length);
        let content = attributes.get(4..length)?;
        match kind {
            INET_DIAG_INFO => socket.figures = figures(content),
            INET_DIAG_SKMEMINFO => socket.memory = memory(content),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

/// `tcp_info`, which grows at its end from version to version.
fn figures(info: &[u8]) -> Option<Figures> {
    let word = |at: usize| u32_at(info, at).unwrap_or_default();
    let long = |at: usize| info.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight")));
    // Up to `tcpi_rcv_space` it is as old as sock_diag.
    u32_at(info, 96)?;
    Some(Figures {
        rtt_us: word(68),
        rtt_deviation_us: word(72),
        retransmit_after_us: word(8),
        segment: word(16),
        last_received_ms: word(52),
        congestion_window: word(80),
        unacknowledged: word(24),
        retransmitted: word(100),
        not_sent: word(144),
        acknowledged: long(120),
        received: long(128),
        data_segments: (word(156), word(152)),
        peer_window: u32_at(info, 228),
    })
}

/// `SK_MEMINFO_VARS`.
fn memory(words: &[u8]) -> Option<Memory> {
    let word = |at: usize| u32_at(words, at * 4);
    // The fourth counts what the device has yet to let go of; what is queued, sent or not, is the sixth.
    Some(Memory { receive: word(0)?, receive_limit: word(1)?, send: word(5)?, send_limit: word(3)? })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one socket and these attributes.
    fn answer(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0; NLMSG_HEADER + INET_DIAG_MESSAGE];
        message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message[NLMSG_HEADER] = Family::V4 as u8;
        message[NLMSG_HEADER + 1] = 10;
        for (kind, content) in attributes {
            message.extend_from_slice(&(4 + content.len() as u16).to_ne_bytes());
            message.extend_from_slice(&kind.to_ne_bytes());
            message.extend_from_slice(content);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message
    }

    #[test]
    fn what_the_kernel_does_not_say_whole_is_not_understood() {
        let mut sockets = Vec::new();
        let whole = answer(&[]);
        assert!(messages(&whole, &mut sockets).is_ok_and(|last| last == Last::No));
        assert_eq!((sockets.len(), sockets[0].state), (1, State::Listen));
        for cut in 1..whole.len() {
            assert!(messages(&whole[..cut], &mut sockets).is_err(), "cut at {cut}");
        }
        let mut other = whole.clone();
        other[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert!(messages(&other, &mut sockets).is_ok_and(|last| last == Last::Yes));
        other[4..6].copy_from_slice(&99u16.to_ne_bytes());
        assert!(messages(&other, &mut sockets).is_err());
    }

    #[test]
    fn a_refusal_is_the_kernels_error() {
        let mut refusal = answer(&[]);
        refusal[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        refusal[NLMSG_HEADER..NLMSG_HEADER + 4].copy_from_slice(&(-13i32).to_ne_bytes());
        let error = messages(&refusal, &mut Vec::new()).expect_err("it is one");
        assert_eq!(error.raw_os_error(), Some(13));
    }

    #[test]
    fn an_older_kernel_tells_fewer_figures_and_a_strange_attribute_is_passed_over() {
        let mut info = vec![0u8; 104];
        info[68..72].copy_from_slice(&1_234u32.to_ne_bytes());
        let mut sockets = Vec::new();
        let datagram = answer(&[(99, b"abc"), (INET_DIAG_INFO, &info)]);
        assert!(messages(&datagram, &mut sockets).is_ok());
        let figures = sockets[0].figures.expect("long enough");
        assert_eq!((figures.rtt_us, figures.peer_window, figures.received), (1_234, None, 0));
        assert!(messages(&answer(&[(INET_DIAG_INFO, &info[..40])]), &mut sockets).is_ok());
        assert_eq!(sockets[1].figures, None);
    }
}
