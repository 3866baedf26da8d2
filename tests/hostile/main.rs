//! Peers that mean no good, on every mechanism: others are served, memory is bounded, nothing spins, all is freed.
//!
//! Each server is a child process, so that what it takes is its own: memory, descriptors and CPU time are read from
//! /proc. What a peer does is the same whatever the server waits by; what holds afterwards, too.

#![cfg(all(target_os = "linux", feature = "report"))]

mod bursts;
mod child;
mod client;
mod crowds;
#[path = "../suite/everywhere.rs"]
mod everywhere;
mod garbage;
mod greed;
mod hosted;
mod killed;
mod peers;
mod silence;
mod soak;
mod spoken;
mod turns;
