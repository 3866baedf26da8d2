//! Every readiness mechanism of the host behind one narrow trait: [`Poller`].
//!
//! | idea | file |
//! |---|---|
//! | the trait, capabilities, the ledger, the portability chapter | `poller.rs` |
//! | tokens, interests, triggers, readiness, events | `event.rs` |
//! | the buffer they travel in | `events.rs` |
//! | what can be watched | `source.rs` |
//! | every mechanism by name, available or why not | `registry.rs` |
//! | one mechanism each | `select.rs` `poll.rs` `epoll.rs` `kqueue.rs` `polling.rs` |
//! | waking a waiting poller | `waker.rs` |
//! | what they share: timeouts rounded up, and the table by number | `time.rs` `index.rs` |
//! | the contract as a suite anybody's poller can be put through | `conformance/` (feature `conformance`) |
//!
//! This crate knows no connection and no server; those are in `pollmark`. It is the only place with `unsafe`.

#![warn(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("pollmark is for 64-bit targets: tokens pass through the kernel as 64 bits of user data");

#[cfg(feature = "conformance")]
pub mod conformance;
mod event;
mod events;
mod index;
mod poller;
mod registry;
mod source;
mod time;
mod waker;

#[cfg(linux_like)]
pub mod epoll;
#[cfg(any(kqueue_like, all(test, unix)))] // elsewhere, over a model of its kernel
pub mod kqueue;
pub mod poll;
pub mod polling;
pub mod select;

pub use event::{Event, Interest, Raw, Readiness, Token, Trigger};
pub use events::{Events, Iter};
pub use poller::{Calls, Capabilities, Growth, Ledger, Poller};
pub use registry::{BACKEND_VARIABLE, Entry, Registry, System, Unavailable, UnknownBackend, Visitor};
pub use source::{AsSource, OwnedSource, RawSource, Source};
pub use waker::{WakeSource, Waker, waker};
