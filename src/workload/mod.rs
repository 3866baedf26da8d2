//! What is done to a server: many idle connections, some active ones, every echoed byte verified.
//!
//! As a rule the load is a closed loop: each active connection sends a payload, or a few, waits for the echo, compares
//! it, and sends the next. So the rate is what the server gives, and a latency is that of a system kept busy. At a
//! chosen rate it is an open loop ([`Pace`]), and a latency is counted from when the exchange was due. Whatever is
//! measured, the generator itself waits by one fixed mechanism, taken from `pollmark-backends` directly; it does not
//! use [`server`](crate::server), and works against anybody's echo server.
//!
//! | idea | file |
//! |---|---|
//! | the closed loop, and the open one | `generator.rs`, `generator/open.rs` |
//! | when exchanges are due in the open one, and how many by what a server can do | `pace.rs`, `offered.rs` |
//! | what connections do, and what a run did | `traffic.rs`, `outcome.rs` |
//! | one connection | `channel.rs` |
//! | payloads, and their verification | `stamp.rs` |
//! | connections, what carries them, and the addresses they come from | `connect.rs`, `transport.rs`, `sources.rs` |
//! | what voids a run | `fault.rs` |

mod channel;
mod connect;
mod fault;
mod generator;
mod offered;
mod outcome;
mod pace;
mod sources;
mod stamp;
#[cfg(test)]
mod tests;
mod traffic;
mod transport;

pub use fault::Fault;
pub(crate) use generator::mechanism;
pub use generator::{Generator, Until};
pub use offered::Offered;
pub(crate) use outcome::buckets;
pub use outcome::{OpenLoop, Outcome, was_the_limit};
pub use pace::{Arrivals, Pace};
pub use sources::Sources;
pub use traffic::Traffic;
pub use transport::Transport;
