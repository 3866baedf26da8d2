//! What the kernel shows of sockets: who listens, what waits in which queue, and who is how far with whom.
//!
//! Everything here is read from the kernel when it is asked, and nothing is remembered. On Linux that is by
//! sock_diag(7) with TCP_INFO, or from /proc where a container forbids it; other systems show none of it to a program
//! that is not theirs, and every function says so: `Unsupported`, "not visible on this OS".
//!
//! | idea | file |
//! |---|---|
//! | one socket, its state, its queues, its figures | `socket.rs` |
//! | all sockets of a port, asked of the kernel | `listing.rs`, `diag.rs` (sock_diag), `table.rs` (/proc) |
//! | a port: listeners, connections, whose they are | `port.rs` |
//! | what went on there between two looks | `activity.rs` |
//! | the same again and again, at little cost | `watch.rs` |
//! | the descriptors of a process, and what each names | `descriptors.rs` |
//! | questions, and experiments that answer them | `explain/` |
//! | what the host has counted since it started | `counters.rs` |
//!
//! ```
//! use pollmark::observe::{Port, State};
//! use std::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let _client = TcpStream::connect(address)?;
//!
//! match Port::observe(address.port()) {
//!     // Nobody has called accept, and the connection is there: the kernel made it, and keeps it in the queue.
//!     Ok(port) => {
//!         assert_eq!(port.waiting(), 1);
//!         assert_eq!(port.in_state(State::Established).count(), 1);
//!     }
//!     Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
//! }
//! # Ok(())
//! # }
//! ```

mod activity;
mod counters;
mod descriptors;
mod diag;
pub mod explain;
mod listing;
mod port;
mod socket;
mod table;
mod watch;

pub use activity::{Activity, Tally};
pub(crate) use counters::named;
pub use counters::{COUNTERS, counter};
pub use descriptors::{Descriptor, Kind, descriptors, descriptors_of};
pub use listing::Sockets;
pub use port::{Owner, Port};
pub use socket::{Figures, Memory, Socket, State};
pub use watch::{View, Watch};

use std::io;

/// What is said on a system that shows none of it.
fn not_visible(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what}: not visible on this OS, Linux shows it"))
}
