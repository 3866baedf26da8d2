//! The server, the groups of servers and the client on every mechanism, and the simulation: what can be taken to any
//! system as one file and run there, for it needs no subprocess, no unwinding, no exact clock and no source beside it.
//!
//! What needs one of them is in `tests/it`. CONTRIBUTING.md says how this is built for another system, and run there.

#[macro_use]
#[path = "../suite/mod.rs"]
mod suite;

mod accept;
mod blocking;
mod client;
#[cfg(completion)]
mod completion;
mod datagrams;
#[path = "../suite/everywhere.rs"]
mod everywhere;
mod group;
mod observers;
mod protocols;
mod server;
mod simulation;
#[cfg(unix)]
mod unix;
