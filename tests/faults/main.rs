//! Every server through the whole suite while the kernel beneath it misbehaves, as far as a kernel may.
//!
//! A program of its own, whose tests take turns: it counts this process's open descriptors. A failing run prints its
//! seed. To replay one seed, or to try more than the few of every day:
//!
//!     POLLMARK_FAULT_SEED=7 cargo test --test faults more_than_all_buffers
//!     POLLMARK_FAULT_SEEDS=1000 cargo test --test faults

#[macro_use]
#[path = "../suite/mod.rs"]
mod suite;
#[path = "../suite/everywhere.rs"]
mod everywhere;

mod descriptors;
#[cfg(unix)]
mod exhaustion;
#[cfg(target_os = "linux")]
mod left_behind;
mod planted;
mod subject;
mod under_faults;
