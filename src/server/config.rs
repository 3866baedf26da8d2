//! How a server is set up: the same knobs for every driver and mechanism.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::listener::Listener;
use super::{AcceptPolicy, Address, Exhaustion, Limits, Sharing};
use crate::cpus::Pinning;

/// What a server is bound with. Start from [`Config::listen`] and change what you need.
///
/// ```
/// use pollmark::server::Config;
/// # fn main() -> std::io::Result<()> {
/// let mut config = Config::listen("127.0.0.1:0".parse()?);
/// config.limits.connections = Some(1_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; several are served by one loop.
    pub addresses: Vec<Address>,
    /// Length asked for the queue of connections not yet accepted. The kernel's own limit (somaxconn) also holds.
    pub backlog: i32,
    /// TCP_NODELAY on accepted connections.
    pub nodelay: bool,
    /// SO_REUSEADDR on the listeners, so that a restart need not wait for connections in TIME_WAIT. Not on Windows,
    /// where the option means something else.
    pub reuse_address: bool,
    /// SO_REUSEPORT on the listeners (SO_REUSEPORT_LB on FreeBSD): servers of the same user, in any thread or process,
    /// may listen on one port if all of them ask for it, and the kernel shares the connections out by a hash of
    /// addresses and ports. `Unsupported` where the option does not share them out, or is not there (macOS, NetBSD,
    /// OpenBSD, Windows).
    pub reuse_port: bool,
    /// Permissions of the sockets that have a path, as chmod(2) takes them: whoever may write may connect. Those that
    /// the process gives all its files (umask) if unset. `InvalidInput` for an abstract name, which has none. But on
    /// Linux, a socket of datagrams has those of the umask for a moment first.
    pub unix_mode: Option<u32>,
    /// Whether `[::]` leaves clients of IPv4 to others, instead of serving them too. Other addresses of IPv6 do so in
    /// any case.
    pub ipv6_only: bool,
    /// SO_RCVBUF of connections; the kernel's choice if unset. Those of TCP have it from their listener.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF, as above.
    pub send_buffer: Option<usize>,
    /// How many connections there may be, how much memory each has, and how much time.
    pub limits: Limits,
    /// Threads that serve a connection each: beyond this many, connections are not refused, but wait in the listen
    /// queue until a thread has ended. Limited only by the system if unset; of no concern to a driver without such
    /// threads.
    pub thread_limit: Option<usize>,
    /// Bytes of stack for each of these threads. The default of 128 KiB is enough for the core and for a protocol of
    /// ordinary depth, where a system's own is 2 to 8 MiB of address space; less than 64 KiB counts as 64.
    pub stack_size: usize,
    /// The most events taken from one wait.
    pub events: usize,
    /// Size of a loop's receive buffer, shared by all of its connections, in bytes. Each thread of a
    /// [`ThreadServer`](super::ThreadServer) has one of its own, so there it is no more than 16 KiB.
    pub read_buffer: usize,
    /// The longest datagram that is taken, in bytes. Of a longer one only a part would come, so it is dropped; UDP
    /// knows none beyond 65,507.
    pub max_datagram: usize,
    /// How many connections are accepted for one event of a listener; what suits the driver best if unset: multishot
    /// where it can, else to drain, else one. A driver that cannot do what is set says so when it is bound.
    pub accept: Option<AcceptPolicy>,
    /// What is done when there is no descriptor to accept a connection with.
    pub on_exhaustion: Exhaustion,
    /// How long accepting rests when descriptors have run out and turning connections away is not asked for or fails
    /// too, or when accepting only fails.
    pub accept_pause: Duration,
    /// How many threads serve. More than one make a [`Group`](super::Group), which [`Mechanism::bind`] knows; a driver
    /// bound by itself is one, whatever this says.
    ///
    /// [`Mechanism::bind`]: crate::mechanism::Mechanism::bind
    pub threads: usize,
    /// How the threads come by their connections.
    pub sharing: Sharing,
    /// Which CPUs they are bound to. Like `threads` for a [`Group`](super::Group); the thread of [`Sharing::Handout`]
    /// that accepts is bound to none.
    pub pin: Pinning,
    /// What a group gives its members.
    #[cfg_attr(feature = "report", serde(skip))]
    pub(crate) part: Part,
}

/// What the members of a [`Group`](super::Group) have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Bound already, by the group.
    pub(crate) listeners: Option<Bound>,
    /// The listeners are to be watched exclusively.
    pub(crate) exclusive: bool,
    /// How many connections there are, of those that may be.
    pub(crate) taken: Option<Arc<AtomicUsize>>,
}

/// How many events a wait may return, unless something else is asked for.
pub(crate) const EVENTS: usize = 256;

/// Listening sockets, and their addresses.
pub(crate) type Bound = (Vec<Arc<Listener>>, Vec<Address>);

impl Config {
    /// The defaults, listening on `address`.
    pub fn listen(address: Address) -> Config {
        Config {
            addresses: vec![address],
            backlog: 4_096,
            nodelay: true,
            reuse_address: true,
            reuse_port: false,
            unix_mode: None,
            ipv6_only: false,
            receive_buffer: None,
            send_buffer: None,
            limits: Limits::default(),
            thread_limit: None,
            stack_size: 128 * 1024,
            events: EVENTS,
            read_buffer: 64 * 1024,
            max_datagram: 64 * 1024,
            accept: None,
            on_exhaustion: Exhaustion::Shed,
            accept_pause: Duration::from_millis(50),
            threads: 1,
            sharing: Sharing::default(),
            pin: Pinning::default(),
            part: Part::default(),
        }
    }

    /// Binds as a server would, and lets go at once.
    ///
    /// # Errors
    /// As binding a server gives.
    pub fn try_bind(&self) -> io::Result<()> {
        self.bind(false).map(drop)
    }

    /// That of a member of a group: clones of it share what there is to share.
    pub(super) fn member(&self) -> Config {
        let part = Part { taken: Some(Arc::default()), ..Part::default() };
        Config { threads: 1, part, ..self.clone() }
    }

    /// As many as may be in a listen queue: one more than was asked for, on Linux. A negative length is for the kernel
    /// to choose, which has never chosen more than 16 bits hold.
    pub(super) fn most_queued(&self) -> u32 {
        u32::try_from(self.backlog).unwrap_or(u16::MAX.into()).saturating_add(1)
    }

    /// Makes the listening sockets, or takes those of the group.
    pub(super) fn bind(&self, nonblocking: bool) -> io::Result<Bound> {
        self.limits.check()?;
        if let Some((listeners, addresses)) = &self.part.listeners {
            for listener in listeners {
                listener.set_nonblocking(nonblocking)?;
            }
            return Ok((listeners.clone(), addresses.clone()));
        }
        if self.addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot bind a server: no address was given"));
        }
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &self.addresses {
            let (listener, bound) = Listener::open(self, address, nonblocking)?;
            tracing::debug!(address = %bound, backlog = self.backlog, "listening");
            listeners.push(Arc::new(listener));
            addresses.push(bound);
        }
        Ok((listeners, addresses))
    }
}
