//! One server, three kinds of driver: what differs between two rows of a table is the mechanism and nothing else.
//!
//! | idea | file |
//! |---|---|
//! | the readiness loop over any `Poller` | `readiness.rs` `readiness/` |
//! | one connection's socket, read and written | `wire.rs` |
//! | taking connections on, and what to do when descriptors run out | `accept.rs` |
//! | how many at a time, and the remedy, as values; what a driver can do | `policy.rs` |
//! | what to do when the wait itself fails | `endurance.rs` |
//! | operations that complete, instead of readiness | `completion.rs` `completion/` |
//! | a blocking thread for each connection; one client at a time | `blocking/` |
//! | several of one kind on one port, a thread each | `group.rs`, `sharing.rs`, `room.rs`, `fate.rs` |
//! | what every loop does beside its events | `upkeep.rs` |
//! | messages without connections | `datagrams.rs` |
//! | slots and generations | `slots.rs` |
//! | how much of everything a connection is granted | `limits.rs` |
//! | deadlines: their rules, when to look at the clock, the wheel | `patience.rs` `deadlines.rs` `wheel.rs` |
//! | stopping and asking from other threads | `control.rs` |
//! | where to listen, and the knobs all drivers share | `address.rs`, `config.rs` |
//! | a listening socket, and the path of one of Unix | `listener.rs` `unix.rs` |
//! | the calls made on sockets, as a trait | `net.rs` |
//! | the same calls under faults (feature `conformance`) | `fault.rs` |
//! | watching a loop at work, and its account | `observer.rs`, `stats.rs` |

mod accept;
mod address;
mod batches;
mod blocking;
#[cfg(completion)]
mod completion;
mod config;
mod control;
mod datagrams;
mod deadlines;
mod endurance;
mod fate;
#[cfg(feature = "conformance")]
mod fault;
mod group;
mod limits;
mod listener;
mod net;
mod observer;
mod patience;
mod policy;
mod readiness;
mod room;
mod sharing;
mod slots;
mod stats;
#[cfg(unix)]
mod unix;
mod upkeep;
mod wheel;
mod wire;

use std::io;

pub use address::{Address, UnixName};
pub use batches::Batches;
pub use blocking::{IterativeServer, ThreadServer};
#[cfg(completion)]
pub use completion::CompletionServer;
pub use config::Config;
#[cfg(feature = "report")]
pub(crate) use config::EVENTS;
pub use control::Control;
#[cfg(feature = "conformance")]
pub use fault::FaultyNet;
#[cfg(feature = "conformance")]
pub(crate) use fault::told;
pub use group::Group;
pub use limits::{Excess, Expiry, Limits};
pub use net::{Kernel, Net};
pub use observer::{Observer, Trace};
pub use policy::{Abilities, AcceptPolicy, Exhaustion};
pub use readiness::ReadinessServer;
pub use sharing::Sharing;
pub use stats::{Account, Datagrams, Expired, Stats, fairness};

/// A server that is bound and not yet running, whatever it waits by.
///
/// ```
/// use pollmark::mechanism::Mechanism;
/// use pollmark::protocol::Echo;
/// use pollmark::server::Config;
/// use pollmark_backends::Registry;
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// # fn main() -> std::io::Result<()> {
/// let registry = Registry::builtin();
/// let server = Mechanism::choose(&registry)?.bind(&registry, Config::listen("127.0.0.1:0".parse()?), Echo)?;
/// let (address, control) = (server.addresses()[0].clone(), server.control());
/// let running = std::thread::spawn(move || server.run());
///
/// let mut client = TcpStream::connect(address.tcp().expect("a TCP address"))?;
/// client.write_all(b"hello")?;
/// let mut answer = [0; 5];
/// client.read_exact(&mut answer)?;
/// assert_eq!(&answer, b"hello");
///
/// control.stop();
/// let stats = running.join().expect("the server does not panic")?;
/// assert_eq!((stats.accepted, stats.bytes_out), (1, 5));
/// # Ok(())
/// # }
/// ```
pub trait Server: Send {
    /// Where it listens; ports that were given as 0 are resolved.
    fn addresses(&self) -> &[Address];

    /// A handle to stop it with, or to ask it, from other threads.
    fn control(&self) -> Control;

    /// Serves until stopped. What waits is opened here, on the calling thread.
    ///
    /// # Errors
    /// Only what makes serving impossible: the mechanism cannot be opened, or its wait fails, and not only for
    /// want of memory for a moment. Trouble with one connection ends that connection.
    fn run(self: Box<Self>) -> io::Result<Stats>;

    /// As [`run`](Server::run), with the account of each thread.
    ///
    /// # Errors
    /// As of [`run`](Server::run).
    fn run_to_account(self: Box<Self>) -> io::Result<Account> {
        Ok(Account::new(vec![self.run()?], None))
    }
}
