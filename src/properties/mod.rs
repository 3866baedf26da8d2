//! What must hold whatever comes in: each property written once, for cargo-fuzz and, through proptest, for
//! `cargo test`. Compiled for these two only.
//!
//! | what comes in | file |
//! |---|---|
//! | bytes from a peer, in any pieces, and calls of a driver in any order | `core.rs` |
//! | bytes from a peer, in any pieces, to each protocol | `protocol.rs` |
//! | bytes from a server, in any pieces, to the client's side of HTTP | `responses.rs` |
//! | lines between parent and child | `wire.rs` |
//! | a results.json made by anybody | `record.rs` |
//! | what a person types | `arguments.rs` |

#[cfg(feature = "cli")]
pub mod arguments;
pub mod core;
pub mod protocol;
#[cfg(feature = "report")]
pub mod record;
#[cfg(feature = "http")]
pub mod responses;
#[cfg(feature = "report")]
pub mod wire;
