//! Which readiness mechanism should this server use, on this machine, under this load, and why?
//!
//! pollmark answers with evidence a stranger can check. It is a library of pollers behind one trait
//! ([`pollmark_backends`]), a server that runs on any of them ([`server`]), and a barometer that measures them.
//!
//! | idea | where |
//! |---|---|
//! | the pollers: select, poll, epoll, kqueue, uring, `polling` | [`pollmark_backends`] |
//! | what a server says, without I/O | [`protocol`] |
//! | a connection, without I/O | [`conn`] |
//! | the server and its drivers | [`server`] |
//! | the client: connections with deadlines, in a pool | [`client`] |
//! | what time it is | [`clock`] |
//! | which CPUs there are, and binding threads to them | [`cpus`] |
//! | everything measurable, by name | [`mechanism`] |
//! | what the host's limits allow | `limits` (feature `report`) |
//! | what is done to a server: the load, verified | `workload` (feature `report`) |
//! | a poller alone, without a server | `exercise` (feature `report`) |
//! | what single calls cost | `calibration` (feature `report`) |
//! | server and load in processes of their own | `child` (feature `report`) |
//! | what the kernel shows of sockets | `observe` (feature `report`) |
//! | measuring: records, statistics, facts of the host | `measure` (feature `report`) |
//! | what is made of the records | `report` (feature `report`) |
//! | plots as PNG, too | `report::png` (feature `png`, not in the default) |
//! | the command | `cli` (feature `cli`) |
//! | the server in a simulated world, with all its faults | `simulation` (feature `conformance`) |
//!
//! A server on the mechanism of your choice is five lines:
//!
//! ```no_run
//! use pollmark::{backends::Registry, mechanism::Mechanism, protocol::Echo, server::Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::builtin();
//! let mechanism = Mechanism::parse(&registry, "epoll")?; // or Mechanism::choose(&registry): the best one here
//! let server = mechanism.bind(&registry, Config::listen("127.0.0.1:7000".parse()?), Echo)?;
//! server.run()?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "report")]
pub mod calibration;
#[cfg(feature = "report")]
pub mod child;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod clock;
pub mod conn;
pub mod cpus;
#[cfg(feature = "report")]
pub mod exercise;
#[cfg(feature = "report")]
pub mod limits;
#[cfg(feature = "report")]
pub mod measure;
pub mod mechanism;
#[cfg(feature = "report")]
pub mod observe;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub mod protocol;
#[cfg(feature = "report")]
pub mod report;
pub mod server;
#[cfg(feature = "conformance")]
pub mod simulation;
#[cfg(feature = "report")]
mod speech;
mod stream;
#[cfg(feature = "report")]
pub mod usage;
#[cfg(feature = "report")]
pub mod workload;

pub use pollmark_backends as backends;
