//! Every readiness mechanism of the host behind one narrow trait: [`Poller`].
//!
//! | idea | file |
//! |---|---|
//! | the trait, capabilities, the ledger, the portability chapter | `poller.rs` |
//! | tokens, interests, triggers, readiness, events | `event.rs` |
//! | the buffer they travel in | `events.rs` |
//! | what can be watched | `source.rs` |
//! | every mechanism by name, available or why not | `registry.rs` |
//! | one mechanism each | `select.rs` `poll.rs` `epoll.rs` `kqueue.rs` `uring.rs` `polling.rs` |
//! | two mechanisms, and when to move between them | `adaptive.rs` `adaptive/` |
//! | what newer kernels add to one | `epoll/busy.rs` `uring/epoll.rs` `uring/ring/sqpoll.rs` `completion/setup.rs` |
//! | io_uring as completion, which is no poller | `completion.rs` `completion/` |
//! | datagrams, many with one call | `datagrams.rs` |
//! | options of sockets that no crate sets safely | `options.rs` |
//! | waking a waiting poller | `waker.rs` |
//! | telling Windows from wine | `wine.rs` |
//! | what they share: timeouts rounded up, and the table by number | `time.rs` `index.rs` |
//! | the kernel's own answers by name | `raw.rs` |
//! | the contract as a suite anybody's poller can be put through | `conformance/` (feature `conformance`) |
//! | what differs nevertheless, played out and explained | `semantics/` (feature `conformance`) |
//!
//! This crate knows no connection and no server; those are in `pollmark`. It is the only place with `unsafe`.

#![warn(missing_docs)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("pollmark is for 64-bit targets: tokens pass through the kernel as 64 bits of user data");

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod datagrams;
mod event;
mod events;
mod index;
#[cfg(feature = "conformance")]
mod loopback;
mod options;
mod poller;
#[cfg(all(any(test, fuzzing), unix))]
#[doc(hidden)]
pub mod properties;
mod raw;
mod registry;
#[cfg(feature = "conformance")]
pub mod semantics;
mod source;
#[cfg(any(kqueue_like, uring, all(unix, any(test, fuzzing)), all(linux_like, feature = "conformance")))]
mod table;
mod time;
mod waker;
mod wine;

#[cfg(any(linux_like, kqueue_like))]
pub mod adaptive;
#[cfg(uring)]
pub mod completion;
#[cfg(linux_like)]
pub mod epoll;
#[cfg(any(kqueue_like, all(unix, any(test, fuzzing)), all(linux_like, feature = "conformance")))]
#[cfg_attr(not(kqueue_like), doc(hidden))] // over a model of its kernel, for tests
pub mod kqueue;
pub mod poll;
pub mod polling;
pub mod select;
#[cfg(uring)]
pub mod uring;

pub use event::{Event, Interest, Raw, Readiness, Token, Trigger};
pub use events::{Events, Iter};
pub use options::{connect_from, defer_accept};
pub use poller::{Calls, Capabilities, Growth, Ledger, Poller};
pub use registry::{BACKEND_VARIABLE, Entry, Registry, System, Unavailable, UnknownBackend, Visitor};
pub use source::{AsSource, OwnedSource, RawSource, Source, end_blocked_calls, raw};
pub use waker::{WakeSource, Waker, waker};
pub use wine::wine;
