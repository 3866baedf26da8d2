//! A port at one moment: who listens there, what waits to be accepted, every connection, and whose they are.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{fs, io};

use serde::Serialize;

use super::descriptors;
use super::listing::Sockets;
use super::socket::{Socket, State};
use crate::usage::tree::cpu_time_of;

/// What the kernel shows of a TCP port of this host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Port {
    /// Which.
    pub port: u16,
    /// Those that listen there: several if they share it, or one for each address.
    pub listeners: Vec<Socket>,
    /// The server's ends of its connections, those that are half-open or over included; in no order.
    pub connections: Vec<Socket>,
}

impl Port {
    /// Looks at it now. A port at which nobody listens has no listeners, which is no error.
    ///
    /// # Errors
    /// As [`Sockets::list`].
    pub fn observe(port: u16) -> io::Result<Port> {
        let sockets = Sockets::at(port).with_figures().list()?;
        let (listeners, connections) = sockets.into_iter().partition(|one| one.state == State::Listen);
        Ok(Port { port, listeners, connections })
    }

    /// Connections that wait to be accepted, at all listeners together.
    pub fn waiting(&self) -> u32 {
        self.listeners.iter().map(|one| one.receive_queue).sum()
    }

    /// Connections of which the last part of the handshake has not come.
    pub fn half_open(&self) -> usize {
        self.in_state(State::SynRecv).count()
    }

    /// Those in this state.
    pub fn in_state(&self, state: State) -> impl Iterator<Item = &Socket> {
        self.connections.iter().filter(move |one| one.state == state)
    }

    /// How many there are in each state, of the states that occur.
    pub fn states(&self) -> BTreeMap<State, usize> {
        let mut states = BTreeMap::new();
        for one in &self.connections {
            *states.entry(one.state).or_default() += 1;
        }
        states
    }

    /// The processes that hold a listener, or without one a connection. It looks at the descriptors of every process
    /// this one may look at, which on a busy host takes milliseconds: once is enough, for as long as the listeners
    /// are the same.
    ///
    /// # Errors
    /// `Unsupported` on a system that does not show them. Otherwise the kernel's, if there is no /proc.
    pub fn owners(&self) -> io::Result<Vec<Owner>> {
        let holds = |name: &str| {
            let listed = if self.listeners.is_empty() { &self.connections } else { &self.listeners };
            listed.iter().any(|one| one.inode > 0 && name == format!("socket:[{}]", one.inode))
        };
        if !cfg!(linux_like) {
            return Err(super::not_visible("the descriptors of other processes"));
        }
        let mut owners = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(process) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
            // Gone meanwhile, or somebody else's.
            let Ok(mut names) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
            let held = |entry: io::Result<fs::DirEntry>| {
                entry.and_then(|one| fs::read_link(one.path())).is_ok_and(|name| holds(&name.to_string_lossy()))
            };
            if names.any(held) {
                let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
                owners.push(Owner { process, name: name.trim_end().to_owned() });
            }
        }
        owners.sort_by_key(|one| one.process);
        Ok(owners)
    }
}

/// A process that holds a socket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Owner {
    /// Its number.
    pub process: u32,
    /// What it calls itself.
    pub name: String,
}

impl Owner {
    /// Its descriptors.
    ///
    /// # Errors
    /// As [`descriptors_of`](super::descriptors_of).
    pub fn descriptors(&self) -> io::Result<Vec<super::Descriptor>> {
        descriptors::descriptors_of(self.process)
    }

    /// The CPU time it has used since it began; `None` if it has ended.
    pub fn cpu_time(&self) -> Option<Duration> {
        cpu_time_of(self.process)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_port_shows_who_listens_who_waits_and_whose_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let clients = (0..3).map(|_| TcpStream::connect(address).expect("it listens")).collect::<Vec<_>>();
        let (_accepted, _) = listener.accept().expect("it waits");

        let port = Port::observe(address.port()).expect("on Linux");
        // Somebody else may be at the same port of another address, or may have been.
        let ours = |one: &&Socket| one.local == address && one.state != State::TimeWait;
        let listeners = port.listeners.iter().filter(ours).collect::<Vec<_>>();
        assert_eq!((listeners.len(), listeners[0].accept_queue().map(|(waiting, _)| waiting)), (1, Some(2)));
        assert!(port.waiting() >= 2 && port.states()[&State::Established] >= clients.len());
        let connections = port.connections.iter().filter(ours).collect::<Vec<_>>();
        assert_eq!((connections.len(), connections.iter().filter(|one| one.inode > 0).count()), (3, 1), "one accepted");
        let owners = port.owners().expect("on Linux");
        assert!(owners.iter().any(|one| one.process == std::process::id()), "{owners:?}");
    }

    #[test]
    fn a_port_that_is_bound_and_not_listened_at_has_no_listener() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("a port");
        let address = socket.local_addr().expect("bound").as_socket().expect("of IPv4");
        let port = Port::observe(address.port()).expect("on Linux");
        assert_eq!(port.listeners.iter().filter(|one| one.local == address).count(), 0);
    }
}
