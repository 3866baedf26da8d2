//! Counting the server's instructions by the processor's own counters, where the host lends them.

use std::io;

use super::wire::Instructions;

pub(super) use sys::Counters;

/// Counters, if instructions are to be counted; or why they cannot be.
pub(super) fn open(wanted: bool) -> (Option<Counters>, Option<String>) {
    match wanted.then(Counters::open) {
        None => (None, None),
        Some(Ok(counters)) => (Some(counters), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    }
}

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        mod sys {
            use super::*;
            use perf_event::events::Hardware;
            use perf_event::{Builder, Counter};

            /// Counters of this thread and all threads it will start.
            pub(in crate::child) struct Counters {
                user: Counter,
                kernel: Option<Counter>,
            }

            impl Counters {
                /// Opens the counters: before any thread is started, for only later ones inherit them.
                pub(in crate::child) fn open() -> io::Result<Counters> {
                    let user = counter(true)?;
                    // Forbidden to most users (perf_event_paranoid), unlike their own instructions.
                    Ok(Counters { user, kernel: counter(false).ok() })
                }

                pub(in crate::child) fn read(&mut self) -> Option<Instructions> {
                    let kernel = self.kernel.as_mut().and_then(|counter| counter.read().ok());
                    Some(Instructions { user: self.user.read().ok()?, kernel })
                }
            }

            fn counter(user: bool) -> io::Result<Counter> {
                let mut builder = Builder::new().kind(Hardware::INSTRUCTIONS);
                builder.inherit(true).exclude_user(!user).exclude_kernel(user).exclude_hv(true);
                let mut counter = builder.build().map_err(explain)?;
                counter.enable()?;
                Ok(counter)
            }

            fn explain(error: io::Error) -> io::Error {
                let why = match error.kind() {
                    io::ErrorKind::NotFound => "no hardware counters here: a virtual machine seldom has them",
                    io::ErrorKind::PermissionDenied => "forbidden: see kernel.perf_event_paranoid",
                    _ => "perf_event_open(2) failed",
                };
                io::Error::new(error.kind(), format!("{why} ({error})"))
            }
        }
    } else {
        mod sys {
            use super::*;

            /// Nothing to count with.
            pub(in crate::child) enum Counters {}

            impl Counters {
                pub(in crate::child) fn open() -> io::Result<Counters> {
                    Err(io::Error::new(io::ErrorKind::Unsupported, "instructions are counted on Linux only"))
                }

                pub(in crate::child) fn read(&mut self) -> Option<Instructions> {
                    match *self {}
                }
            }
        }
    }
}
