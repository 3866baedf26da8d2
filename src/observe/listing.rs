//! All TCP sockets of this host, or those of a port, asked of the kernel: by sock_diag(7), or from /proc.

use std::collections::HashSet;
use std::{fs, io};

use super::diag::{self, Family, Question};
use super::socket::{Socket, State};
use super::table;

/// Which sockets are asked for: of this host, over IPv4 and IPv6.
///
/// ```
/// use pollmark::observe::{Sockets, State};
///
/// match Sockets::all().in_states(&[State::Listen]).list() {
///     Ok(listeners) => listeners.iter().for_each(|one| println!("{}", one.local)),
///     Err(error) => println!("{error}"), // not on this system
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Sockets {
    local: Option<u16>,
    peer: Option<u16>,
    states: u32,
    figures: bool,
}

impl Sockets {
    /// All there are, in every state.
    pub fn all() -> Sockets {
        let states = State::ALL.iter().fold(0, |bits, state| bits | state.bit());
        Sockets { local: None, peer: None, states, figures: false }
    }

    /// Those whose own port this is: a server's ends.
    pub fn at(port: u16) -> Sockets {
        Sockets { local: Some(port), ..Sockets::all() }
    }

    /// Those whose peer's port this is: the clients' ends, as far as they are on this host.
    pub fn to(port: u16) -> Sockets {
        Sockets { peer: Some(port), ..Sockets::all() }
    }

    /// Only those in one of these states.
    #[must_use]
    pub fn in_states(self, states: &[State]) -> Sockets {
        Sockets { states: states.iter().fold(0, |bits, state| bits | state.bit()), ..self }
    }

    /// With the figures of their connections and their memory, where the kernel tells them: they cost it about a
    /// microsecond a socket.
    #[must_use]
    pub fn with_figures(self) -> Sockets {
        Sockets { figures: true, ..self }
    }

    /// Reads the list now, each socket once.
    ///
    /// The kernel tells it in pieces. While sockets come and go between two of them, one that is there all the time may
    /// be passed over.
    ///
    /// # Errors
    /// `Unsupported` on a system that does not show it. Otherwise the kernel's: neither sock_diag(7) nor /proc/net/tcp
    /// is to be had.
    pub fn list(&self) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        if !cfg!(linux_like) {
            return Err(super::not_visible("sockets of this host"));
        }
        if self.diagnosed(&mut sockets).is_err() {
            sockets = self.tabled()?;
        }
        let mut told = HashSet::new();
        // Listeners that share a port have the same addresses, and are as many.
        sockets.retain(|one| one.state == State::Listen || told.insert(one.ends()));
        Ok(sockets)
    }

    fn diagnosed(&self, sockets: &mut Vec<Socket>) -> io::Result<()> {
        let question = Question {
            local: self.local.unwrap_or(0),
            peer: self.peer.unwrap_or(0),
            states: self.states,
            figures: self.figures,
        };
        diag::ask(Family::V4, question, sockets)?;
        // A kernel may have been built without it.
        let _ = diag::ask(Family::V6, question, sockets);
        sockets.retain(|one| self.includes(one));
        Ok(())
    }

    /// As [`list`](Sockets::list), from /proc.
    pub(super) fn tabled(&self) -> io::Result<Vec<Socket>> {
        let v4 = fs::read_to_string("/proc/net/tcp")?;
        let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        Ok(table::sockets(&v4).chain(table::sockets(&v6)).filter(|one| self.includes(one)).collect())
    }

    fn includes(&self, socket: &Socket) -> bool {
        self.states & socket.state.bit() != 0
            && self.local.is_none_or(|port| socket.local.port() == port)
            && self.peer.is_none_or(|port| socket.peer.port() == port)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn both_lists_of_this_kernel_tell_the_same_of_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut clients = (0..50).map(|_| TcpStream::connect(address).expect("it listens")).collect::<Vec<_>>();
        clients[0].write_all(b"four").expect("connected");
        // Neither those of another address at this port, nor those that earlier connections have left.
        let ours = |mut sockets: Vec<Socket>| {
            sockets.retain(|one| [one.local, one.peer].contains(&address) && one.state != State::TimeWait);
            sockets.sort_by_key(|one| one.ends());
            sockets
        };
        for which in [Sockets::at(address.port()), Sockets::to(address.port())] {
            let mut asked = Vec::new();
            which.clone().with_figures().diagnosed(&mut asked).expect("this kernel has sock_diag(7)");
            let mut asked = ours(asked);
            assert_eq!(asked.iter().filter(|one| one.figures.is_some() && one.memory.is_some()).count(), asked.len());
            for one in &mut asked {
                (one.figures, one.memory, one.timer_ms) = (None, None, 0);
                one.send_queue = if one.state == State::Listen { 0 } else { one.send_queue };
            }
            // A list from /proc may pass over a line while others of this host come and go.
            let tabled = (0..5).flat_map(|_| which.tabled().expect("readable"));
            let mut tabled = ours(tabled.map(|one| Socket { timer_ms: 0, ..one }).collect());
            tabled.dedup_by_key(|one| one.ends());
            assert!(asked.len() >= clients.len());
            assert_eq!(asked, tabled);
        }
    }

    #[test]
    fn the_figures_are_those_of_this_connection() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(&[7; 1_000]).expect("connected");
        let list = |which: Sockets| {
            let all = which.in_states(&[State::Established]).with_figures().list().expect("on Linux").into_iter();
            all.filter(|one| [one.local, one.peer].contains(&address)).collect::<Vec<_>>()
        };
        let (near, far) = (list(Sockets::to(address.port())), list(Sockets::at(address.port())));
        assert_eq!((near.len(), far.len()), (1, 1));
        let (near, far) = (&near[0], &far[0]);
        assert_eq!((near.local, near.peer), (client.local_addr().expect("bound"), address));
        assert_eq!((far.receive_queue, far.inode), (1_000, 0), "nobody has accepted it, and the bytes are there");
        assert!(near.inode > 0);
        let Some(figures) = far.figures else {
            println!("NOT CHECKED: this kernel has no sock_diag(7), or it is forbidden here");
            return;
        };
        assert_eq!((figures.received, figures.data_segments.1), (1_000, 1), "{figures:?}");
        let memory = far.memory.expect("told with them");
        assert!(memory.receive >= 1_000 && memory.receive <= memory.receive_limit, "{memory:?}");
    }
}
