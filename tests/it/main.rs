//! What holds for the whole: servers on every mechanism, and the rules of the house.

#[macro_use]
#[path = "../suite/mod.rs"]
mod suite;

mod accept;
mod blocking;
#[cfg(feature = "cli")]
mod cli;
mod client;
#[cfg(feature = "cli")]
mod compare;
#[cfg(completion)]
mod completion;
#[cfg(feature = "cli")]
mod contestants;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod crowd;
mod datagrams;
#[path = "../suite/everywhere.rs"]
mod everywhere;
mod group;
#[cfg(target_os = "linux")]
mod herd;
mod house;
#[cfg(feature = "cli")]
mod load;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod processes;
mod promised;
mod protocols;
mod readme;
#[cfg(feature = "cli")]
mod report;
#[cfg(feature = "cli")]
mod resume;
#[cfg(feature = "cli")]
mod semantics;
mod server;
mod simulation;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod sockets;
#[cfg(unix)]
mod unix;
#[cfg(feature = "cli")]
mod workloads;
