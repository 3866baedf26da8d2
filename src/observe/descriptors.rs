//! The descriptors of a process: each number, what kind of thing it names, and of a socket what the kernel shows.

use std::collections::HashMap;
use std::fmt;
use std::io;

use serde::Serialize;

use super::listing::Sockets;
use super::socket::Socket;

/// One descriptor of a process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// What it names.
    pub kind: Kind,
    /// What the kernel calls that: a path, or a kind and a number in brackets.
    pub name: String,
    /// Of a TCP socket that has an address: what the kernel shows of it. One that is neither bound nor connected is
    /// in none of its lists.
    pub socket: Option<Socket>,
}

impl Descriptor {
    /// The number the kernel knows a socket by, if it is one.
    pub fn inode(&self) -> Option<u64> {
        bracketed(&self.name, "socket")
    }
}

/// What a descriptor names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A socket, of this protocol as the kernel names it: `TCP`, `TCPv6`, `UDP`, `UNIX`, …; empty if it does not say.
    Socket(String),
    /// An end of a pipe.
    Pipe,
    /// What the kernel calls an anonymous inode, by its name: `eventpoll`, `eventfd`, `io_uring`, `timerfd`, ….
    Kernel(String),
    /// A file, a folder or a device.
    File,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Socket(protocol) if protocol.is_empty() => f.pad("socket"),
            Kind::Socket(protocol) => f.pad(protocol),
            Kind::Pipe => f.pad("pipe"),
            Kind::Kernel(name) => f.pad(name),
            Kind::File => f.pad("file"),
        }
    }
}

/// The descriptors of this process, lowest number first.
///
/// # Errors
/// As [`descriptors_of`].
pub fn descriptors() -> io::Result<Vec<Descriptor>> {
    descriptors_of(std::process::id())
}

/// The descriptors of the process of this number, lowest first. One that is opened or closed meanwhile may or may not
/// be among them.
///
/// # Errors
/// `Unsupported` on a system that does not show them. `NotFound` if there is no such process, `PermissionDenied` if it
/// is somebody else's: it takes root to see those.
pub fn descriptors_of(process: u32) -> io::Result<Vec<Descriptor>> {
    let mut descriptors = sys::descriptors(process)?;
    let tcp = |one: &Descriptor| matches!(&one.kind, Kind::Socket(protocol) if !protocol.starts_with("U"));
    if descriptors.iter().any(tcp) {
        let sockets = Sockets::all().with_figures().list()?;
        let mut by_inode = sockets.into_iter().map(|one| (one.inode, one)).collect::<HashMap<_, _>>();
        for one in &mut descriptors {
            // Two descriptors of one socket are rare, and both show it.
            let socket = one.inode().filter(|inode| *inode > 0).and_then(|inode| by_inode.get_mut(&inode));
            one.socket = socket.map(|socket| socket.clone());
        }
    }
    Ok(descriptors)
}

/// The number in `kind:[number]`.
fn bracketed(name: &str, kind: &str) -> Option<u64> {
    name.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        mod sys {
            use super::*;
            use std::fs;

            pub(super) fn descriptors(process: u32) -> io::Result<Vec<Descriptor>> {
                let folder = format!("/proc/{process}/fd");
                let mut found = Vec::new();
                for entry in fs::read_dir(&folder)? {
                    let Ok(number) = entry?.file_name().to_string_lossy().parse() else { continue };
                    let path = format!("{folder}/{number}");
                    // Closed meanwhile; or the one by which this folder is read.
                    let Ok(name) = fs::read_link(&path) else { continue };
                    let name = name.to_string_lossy().into_owned();
                    if name == folder {
                        continue;
                    }
                    found.push(Descriptor { number, kind: kind(&name, &path), name, socket: None });
                }
                found.sort_by_key(|one| one.number);
                Ok(found)
            }

            fn kind(name: &str, path: &str) -> Kind {
                if name.starts_with("socket:") {
                    Kind::Socket(protocol(path).unwrap_or_default())
                } else if name.starts_with("pipe:") {
                    Kind::Pipe
                } else if let Some(kind) = name.strip_prefix("anon_inode:") {
                    Kind::Kernel(kind.trim_matches(['[', ']']).to_owned())
                } else {
                    Kind::File
                }
            }

            /// Also of a socket that is in no list. lsof(8) asks the same.
            fn protocol(path: &str) -> Option<String> {
                let mut name = [0; 64];
                let length = rustix::fs::getxattr(path, c"system.sockprotoname", &mut name[..]).ok()?;
                let name = name.get(..length)?.split(|byte| *byte == 0).next()?;
                Some(String::from_utf8_lossy(name).into_owned())
            }
        }
    } else {
        mod sys {
            use super::*;

            pub(super) fn descriptors(_: u32) -> io::Result<Vec<Descriptor>> {
                Err(crate::observe::not_visible("the descriptors of a process"))
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::observe::State;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    #[test]
    fn every_descriptor_is_listed_with_what_it_names() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let (pipe, _writer) = io::pipe().expect("a pipe");
        let file = std::fs::File::open("/dev/null").expect("everywhere");
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).expect("a number");

        let all = descriptors().expect("on Linux");
        assert!(all.is_sorted_by_key(|one| one.number));
        let named = |number: i32| all.iter().find(|one| one.number == number).expect("it is open");
        let listening = named(listener.as_raw_fd());
        assert_eq!(listening.kind, Kind::Socket("TCP".to_owned()));
        assert_eq!(listening.socket.as_ref().map(|one| one.state), Some(State::Listen));
        let connected = named(client.as_raw_fd()).socket.as_ref().expect("it has an address");
        assert_eq!((connected.state, connected.peer), (State::Established, listener.local_addr().expect("bound")));
        let lonely = named(unbound.as_raw_fd());
        assert_eq!((&lonely.kind, &lonely.socket), (&Kind::Socket("TCP".to_owned()), &None));
        assert!(lonely.inode().is_some());
        assert_eq!(named(datagrams.as_raw_fd()).kind, Kind::Socket("UDP".to_owned()));
        assert_eq!(named(pipe.as_raw_fd()).kind, Kind::Pipe);
        assert_eq!((&named(file.as_raw_fd()).kind, &*named(file.as_raw_fd()).name), (&Kind::File, "/dev/null"));
        assert_eq!(named(epoll.as_raw_fd()).kind, Kind::Kernel("eventpoll".to_owned()));
    }

    #[test]
    fn a_process_that_is_not_there_is_not_found() {
        assert_eq!(descriptors_of(u32::MAX).expect_err("no such").kind(), io::ErrorKind::NotFound);
    }
}
