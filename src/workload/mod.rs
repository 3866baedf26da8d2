//! What is done to a server: many idle connections, some active ones, every echoed byte verified.
//!
//! The load is a closed loop: each active connection sends a payload, waits for its echo, compares it, and sends the
//! next. So the rate is what the server gives, and a latency is that of a system kept busy, not of one at a chosen
//! rate. Whatever is measured, the generator itself waits by one fixed mechanism, taken from `pollmark-backends`
//! directly; it does not use [`server`](crate::server), and works against anybody's echo server.
//!
//! | idea | file |
//! |---|---|
//! | the loop | `generator.rs` |
//! | one connection | `channel.rs` |
//! | payloads, and their verification | `stamp.rs` |
//! | connections, and source addresses | `connect.rs` |
//! | what voids a run | `fault.rs` |

mod channel;
mod connect;
mod fault;
mod generator;
mod stamp;
#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use generator::{Generator, Outcome, Until, was_the_limit};
