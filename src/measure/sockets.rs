//! The kernel's own count of the connections of a server, TCP as it is observed, those of a Unix socket from
//! /proc/net/unix. Nobody has to believe our counters.

use std::collections::HashSet;
use std::fs;

use crate::observe::{Socket, Sockets, State};
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
        Census::of(&list(port)?, port)
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
            sockets.append(&mut list(port)?);
            census = Census::of(&sockets, port)?;
            if census.established >= expected {
                break;
            }
        }
        Some(census)
    }

    fn of(sockets: &[Socket], port: u16) -> Option<Census> {
        let peers = |state: State| {
            let at_port = sockets.iter().filter(move |one| one.state == state && one.local.port() == port);
            at_port.map(|one| one.peer).collect::<HashSet<_>>().len() as u64
        };
        let clients = sockets.iter().filter(|one| one.state == State::TimeWait && one.peer.port() == port);
        let clients = clients.map(|one| one.local).collect::<HashSet<_>>().len() as u64;
        Some(Census { established: peers(State::Established), time_wait: peers(State::TimeWait) + clients })
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

/// The sockets at either end of the connections of `port`. `None` where the system shows none.
fn list(port: u16) -> Option<Vec<Socket>> {
    let counted = [State::Established, State::TimeWait];
    let mut sockets = Sockets::at(port).in_states(&counted).list().ok()?;
    sockets.append(&mut Sockets::to(port).in_states(&[State::TimeWait]).list().ok()?);
    // Somebody else may listen at this port of IPv6.
    sockets.retain(|one| one.local.is_ipv4());
    Some(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(state: State, local: &str, peer: &str) -> Socket {
        let [local, peer] = [local, peer].map(|address| address.parse().expect("an address"));
        let (figures, memory) = (None, None);
        let [receive_queue, send_queue, timer_ms, user] = [0; 4];
        Socket {
            state,
            local,
            peer,
            receive_queue,
            send_queue,
            retransmissions: 0,
            timer_ms,
            user,
            inode: 1,
            figures,
            memory,
        }
    }

    #[test]
    fn a_connection_is_counted_once_however_often_it_is_listed() {
        let mut sockets = vec![
            socket(State::Listen, "127.0.0.1:7000", "0.0.0.0:0"),
            socket(State::Established, "127.0.0.1:7000", "127.0.0.2:40000"),
            socket(State::Established, "127.0.0.2:40000", "127.0.0.1:7000"),
            socket(State::TimeWait, "127.0.0.2:40002", "127.0.0.1:7000"),
        ];
        sockets.extend(sockets.clone());
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
    #[cfg(target_os = "linux")]
    fn this_kernel_tells_the_connections_of_a_port_and_what_is_left_of_them() {
        use std::net::{TcpListener, TcpStream};

        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let clients = (0..50).map(|_| TcpStream::connect(address).expect("it listens")).collect::<Vec<_>>();
        let expected = Census { established: 50, time_wait: 0 };
        assert_eq!(Census::expect(address.port(), 50), Some(expected));
        // The end that closes first has to wait.
        let accepted = (0..50).map(|_| listener.accept().expect("in the queue")).collect::<Vec<_>>();
        drop(clients);
        drop(accepted);
        assert_eq!(Census::take(address.port()), Some(Census { established: 0, time_wait: 50 }));
    }
}
