//! The kernel's own count of the connections of a server: by sock_diag(7), or from /proc/net/tcp where that is not to be
//! had; those of a Unix socket from /proc/net/unix. Nobody has to believe our counters.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::server::{Address, UnixName};

/// What the kernel lists at the port of a server, TCP over IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Census {
    /// Established connections, counted at the server's end.
    pub(super) established: u64,
    /// Sockets that wait for stray segments of connections that are over, at either end.
    pub(super) time_wait: u64,
}

/// How often a list is asked for that seems to lack something.
const READINGS: usize = 5;

impl Census {
    /// Counts now. `None` where the system has no list to count in.
    pub(super) fn take(port: u16) -> Option<Census> {
        Census::of(&list()?, port)
    }

    /// Counts until `expected` connections are established, in a few readings together.
    ///
    /// A list is read in pieces, and while sockets of others come and go between two of them a line may be passed over
    /// or come twice. So lines are told apart by their addresses, and those of several readings are put together: for
    /// as long as no connection of the port begins or ends, which is the caller's to see to, none is counted that is
    /// not there.
    pub(super) fn expect(port: u16, expected: u64) -> Option<Census> {
        let mut sockets = Vec::new();
        let mut census = Census::default();
        for _ in 0..READINGS {
            sockets.append(&mut list()?);
            census = Census::of(&sockets, port)?;
            if census.established >= expected {
                break;
            }
        }
        Some(census)
    }

    fn of(sockets: &[Socket], port: u16) -> Option<Census> {
        let peers = |state: u8| {
            let at_port = sockets.iter().filter(move |one| one.state == state && one.local.port() == port);
            at_port.map(|one| one.peer).collect::<HashSet<_>>().len() as u64
        };
        let clients = sockets.iter().filter(|one| one.state == TIME_WAIT && one.peer.port() == port);
        let clients = clients.map(|one| one.local).collect::<HashSet<_>>().len() as u64;
        Some(Census { established: peers(ESTABLISHED), time_wait: peers(TIME_WAIT) + clients })
    }
}

/// Connections established at the address of a server, of which so many are expected; `None` where the system has no
/// list to count in.
pub(super) fn established(address: &Address, expected: u64) -> Option<u64> {
    match address {
        Address::Unix(name) => established_at(name, expected),
        address => Some(Census::expect(address.tcp()?.port(), expected)?.established),
    }
}

/// As [`Census::expect`], of a Unix socket: those the server has accepted bear the name it listens at.
fn established_at(name: &UnixName, expected: u64) -> Option<u64> {
    let name = name.to_string();
    let mut inodes = HashSet::new();
    for _ in 0..READINGS {
        inodes.extend(connected(&fs::read_to_string("/proc/net/unix").ok()?, &name));
        if inodes.len() as u64 >= expected {
            break;
        }
    }
    Some(inodes.len() as u64)
}

/// The inodes of the connected sockets of this name. After a heading, a line each with number, references, protocol,
/// flags, type, state, inode, and the name, if there is one.
fn connected(table: &str, name: &str) -> Vec<u64> {
    let line = |line: &str| {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        // SS_CONNECTED of the kernel's net.h. One that is not accepted yet has no inode.
        let is_there = fields.get(5) == Some(&"03") && line.ends_with(&format!(" {name}"));
        fields.get(6)?.parse().ok().filter(|inode| is_there && *inode > 0)
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Socket {
    state: u8,
    local: SocketAddrV4,
    peer: SocketAddrV4,
}

// TCP_ESTABLISHED and TCP_TIME_WAIT of the kernel's tcp_states.h.
const ESTABLISHED: u8 = 1;
const TIME_WAIT: u8 = 6;

fn list() -> Option<Vec<Socket>> {
    diagnosed().or_else(|| fs::read_to_string("/proc/net/tcp").ok().map(|table| tabled(&table)))
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        /// By sock_diag(7), which a container may forbid and a kernel may lack.
        fn diagnosed() -> Option<Vec<Socket>> {
            use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

            let netlink = rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::DGRAM,
                SocketFlags::CLOEXEC,
                Some(netlink::SOCK_DIAG),
            )
            .ok()?;
            rustix::net::send(&netlink, &request(), SendFlags::empty()).ok()?;
            // The kernel fills at most half of it at a time.
            let mut buffer = vec![0; 64 * 1024];
            let mut sockets = Vec::new();
            loop {
                let (received, _) = rustix::net::recv(&netlink, &mut *buffer, RecvFlags::empty()).ok()?;
                if messages(&buffer[..received], &mut sockets)? == Last::Yes {
                    return Some(sockets);
                }
            }
        }
    } else {
        fn diagnosed() -> Option<Vec<Socket>> {
            None
        }
    }
}

// Of the kernel's netlink.h and sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_DONE: u16 = 3;
const NLMSG_HEADER: usize = 16;
const AF_INET: u8 = 2;
const IPPROTO_TCP: u8 = 6;

/// A header, and `inet_diag_req_v2`: family, protocol, extensions, padding, states, and an address that says nothing.
#[cfg_attr(not(linux_like), allow(dead_code))]
fn request() -> Vec<u8> {
    const ANY_ADDRESS: [u8; 48] = [0; 48];
    let states = 1u32 << ESTABLISHED | 1 << TIME_WAIT;
    let mut message = Vec::new();
    message.extend_from_slice(&((NLMSG_HEADER + 8 + ANY_ADDRESS.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // A number of the request, of which there is one; and no number of ours, which the kernel gives.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[AF_INET, IPPROTO_TCP, 0, 0]);
    message.extend_from_slice(&states.to_ne_bytes());
    message.extend_from_slice(&ANY_ADDRESS);
    message
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(linux_like), allow(dead_code))]
enum Last {
    Yes,
    No,
}

/// Reads the messages of one datagram; `None` if the kernel says no, or nothing that can be understood.
#[cfg_attr(not(linux_like), allow(dead_code))]
fn messages(mut datagram: &[u8], sockets: &mut Vec<Socket>) -> Option<Last> {
    while !datagram.is_empty() {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        match kind {
            NLMSG_DONE => return Some(Last::Yes),
            SOCK_DIAG_BY_FAMILY => sockets.push(socket(datagram.get(NLMSG_HEADER..length)?)?),
            _ => return None,
        }
        // Messages begin at multiples of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Last::No)
}

/// `inet_diag_msg`: family, state, timer, retransmissions, ports, and addresses of sixteen bytes each.
fn socket(message: &[u8]) -> Option<Socket> {
    let port = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(message.get(at..at + 4)?).ok()?));
    Some(Socket {
        state: *message.get(1)?,
        local: SocketAddrV4::new(address(8)?, port(4)?),
        peer: SocketAddrV4::new(address(24)?, port(6)?),
    })
}

/// The table: after a heading, a line each with number, both addresses, and the state, in hexadecimal.
fn tabled(table: &str) -> Vec<Socket> {
    let address = |text: &str| {
        let (host, port) = text.split_once(':')?;
        // As it lies in memory, read as a number.
        let host = u32::from_str_radix(host, 16).ok()?.to_ne_bytes();
        Some(SocketAddrV4::new(Ipv4Addr::from(host), u16::from_str_radix(port, 16).ok()?))
    };
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, peer) = (address(fields.next()?)?, address(fields.next()?)?);
        Some(Socket { state: u8::from_str_radix(fields.next()?, 16).ok()?, local, peer })
    };
    table.lines().skip(1).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1B58 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1B58 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 0 10 -1
   2: 0200007F:9C40 0100007F:1B58 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 0 10 -1
   3: 0200007F:9C42 0100007F:1B58 06 00000000:00000000 03:00000A2D 00000000     0        0 0 3 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_connection_is_counted_once_however_often_it_is_listed() {
        let mut sockets = tabled(TABLE);
        assert_eq!(sockets.len(), 4);
        assert_eq!(sockets[1].peer, "127.0.0.2:40000".parse().expect("an address"));
        sockets.extend(tabled(TABLE));
        assert_eq!(Census::of(&sockets, 7_000), Some(Census { established: 1, time_wait: 1 }));
        assert_eq!(Census::of(&sockets, 7_001), Some(Census::default()));
    }

    #[test]
    fn of_a_unix_socket_those_are_counted_that_were_accepted() {
        let table = "\
Num       RefCount Protocol Flags    Type St Inode Path
00000000c6769447: 00000003 00000000 00000000 0001 03 193239920 @pollmark-7
00000000f6a8e172: 00000003 00000000 00000000 0001 03 193239919 @pollmark-7
0000000035da98d5: 00000003 00000000 00000000 0001 02     0 @pollmark-7
000000002802f006: 00000002 00000000 00010000 0001 01 193239915 @pollmark-7
000000002802f007: 00000002 00000000 00000000 0001 03 193239916 @pollmark-77
000000002802f008: 00000002 00000000 00000000 0001 03 193239917
";
        assert_eq!(connected(table, "@pollmark-7"), [193239920, 193239919]);
        assert_eq!(connected(table, "@pollmark-8"), [0u64; 0]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_kernel_tells_the_connections_of_a_unix_socket() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

        let name = format!("pollmark-census-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("nobody's");
        let ends = (0..20).map(|_| {
            let client = UnixStream::connect_addr(&address).expect("it listens");
            (client, listener.accept().expect("it waits"))
        });
        let ends = ends.collect::<Vec<_>>();
        assert_eq!(established(&Address::Unix(UnixName::Abstract(name)), 20), Some(20), "{} pairs", ends.len());
    }

    #[test]
    fn what_the_kernel_does_not_say_whole_is_not_understood() {
        let mut sockets = Vec::new();
        let mut datagram = request();
        assert_eq!(messages(&datagram, &mut sockets), Some(Last::No), "a socket of zeros is one");
        for cut in 1..40 {
            assert_eq!(messages(&datagram[..cut], &mut sockets), None, "cut at {cut}");
        }
        datagram[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        assert_eq!(messages(&datagram, &mut sockets), Some(Last::Yes));
        datagram[4..6].copy_from_slice(&2u16.to_ne_bytes());
        assert_eq!(messages(&datagram, &mut sockets), None, "an error is one");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn both_lists_of_this_kernel_tell_the_same_of_a_port() {
        use std::net::{TcpListener, TcpStream};

        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let clients = (0..50).map(|_| TcpStream::connect(address).expect("it listens")).collect::<Vec<_>>();
        let expected = Census { established: 50, time_wait: 0 };
        assert_eq!(Census::expect(address.port(), 50), Some(expected));
        if let Some(sockets) = diagnosed() {
            assert!(sockets.iter().all(|one| [ESTABLISHED, TIME_WAIT].contains(&one.state)), "{sockets:?}");
        } else {
            println!("NOT CHECKED: this kernel has no sock_diag(7), or it is forbidden here");
        }
        let mut sockets = Vec::new();
        for _ in 0..READINGS {
            sockets.extend(tabled(&fs::read_to_string("/proc/net/tcp").expect("readable")));
        }
        assert_eq!(Census::of(&sockets, address.port()), Some(expected));
        // The end that closes first has to wait.
        let accepted = (0..50).map(|_| listener.accept().expect("in the queue")).collect::<Vec<_>>();
        drop(clients);
        drop(accepted);
        assert_eq!(Census::take(address.port()), Some(Census { established: 0, time_wait: 50 }));
    }
}
