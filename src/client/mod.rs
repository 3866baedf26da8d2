//! The client's side, on the same pollers: connections made with a deadline, kept in a pool, and a name for every
//! timeout.
//!
//! | idea | file |
//! |---|---|
//! | requests over a pool of connections: the loop | `driver.rs` |
//! | one connection at work | `line.rs` |
//! | which connections are free | `pool.rs` |
//! | making a connection | `connecting.rs` |
//! | whom to ask | `endpoint.rs` |
//! | where an answer ends | `exchange.rs` `exchange/` |
//! | how long each part may take | `timeouts.rs` |
//! | why there is no answer | `error.rs` |
//! | the account | `stats.rs` |
//! | the calls made on sockets, as a trait | `net.rs` |

mod connecting;
mod driver;
mod endpoint;
mod error;
mod exchange;
mod line;
mod net;
mod pool;
mod stats;
mod timeouts;

pub use connecting::{ConnectError, Connecting, Failure, connect};
pub use driver::{Client, Settings};
pub use endpoint::{Endpoint, Target};
pub use error::{Error, Exhausted, Moved};
pub use exchange::{Exchange, Frames, Malformed, Replies};
#[cfg(feature = "http")]
pub use exchange::{Response, Responses};
pub use net::{Kernel, Net};
pub use stats::Stats;
pub use timeouts::{Timeout, Timeouts};
