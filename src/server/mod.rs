//! One server, three kinds of driver: what differs between two rows of a table is the mechanism and nothing else.
//!
//! | idea | file |
//! |---|---|
//! | the readiness loop over any `Poller` | `readiness.rs` |
//! | taking connections on, and what to do when descriptors run out | `accept.rs` |
//! | a blocking thread for each connection | `threads.rs` |
//! | slots and generations | `slots.rs` |
//! | deadlines | `wheel.rs` |
//! | stopping and asking from other threads | `control.rs` |
//! | where to listen, and the knobs all drivers share | `address.rs`, `config.rs` |
//! | the calls made on sockets, to be replaced by faults | `net.rs` |
//! | watching a loop at work, and its account | `observer.rs`, `stats.rs` |

mod accept;
mod address;
mod config;
mod control;
mod net;
mod observer;
mod readiness;
mod slots;
mod stats;
mod threads;
mod wheel;

use std::io;

pub use address::Address;
pub use config::Config;
pub use control::Control;
pub use net::{Kernel, Net};
pub use observer::{Observer, Trace};
pub use readiness::ReadinessServer;
pub use stats::Stats;
pub use threads::ThreadServer;

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
    /// Only what makes serving impossible: the mechanism cannot be opened, or its wait fails. Trouble with one
    /// connection ends that connection.
    fn run(self: Box<Self>) -> io::Result<Stats>;
}
