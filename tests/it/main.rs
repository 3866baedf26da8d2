//! What holds for the whole and takes more than one file: the command, /proc, panics, and the rules of the house.
//!
//! The servers on every mechanism are in `tests/plain`.

#[allow(dead_code, unused_imports, unused_macros)] // here, what runs a server; its cases run in `plain` and `faults`
#[path = "../suite/mod.rs"]
mod suite;

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod compare;
#[cfg(feature = "cli")]
mod contestants;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod crowd;
#[cfg(feature = "cli")]
mod help;
#[cfg(target_os = "linux")]
mod herd;
#[cfg(feature = "cli")]
mod history;
mod house;
#[cfg(feature = "cli")]
mod load;
mod panics;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod processes;
mod promised;
mod readme;
#[cfg(feature = "cli")]
mod report;
#[cfg(feature = "cli")]
mod resume;
#[cfg(feature = "cli")]
mod semantics;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod sockets;
#[cfg(feature = "cli")]
mod trace;
#[cfg(feature = "cli")]
mod workloads;
