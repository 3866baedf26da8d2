//! SIGINT and SIGTERM: the first, or the first two, are for the program to act on, the next ends it at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::Failure;

/// Runs `act`, on a thread of its own, when the first of the two signals comes, and tells it which; a second one ends
/// the program.
pub(super) fn on_first(act: impl FnOnce(i32) + Send + 'static) -> io::Result<()> {
    sys::watch(vec![Box::new(act)])
}

/// As above, and runs `then` at the second signal; a third one ends the program.
pub(super) fn on_first_and_second(
    act: impl FnOnce(i32) + Send + 'static,
    then: impl FnOnce(i32) + Send + 'static,
) -> io::Result<()> {
    sys::watch(vec![Box::new(act), Box::new(then)])
}

/// What is done at a signal.
type Act = Box<dyn FnOnce(i32) + Send>;

/// A flag the first signal raises, for work that looks at it now and then.
pub(super) struct Stop {
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicI32>,
}

impl Stop {
    /// Begins to listen.
    pub(super) fn on_signals() -> Result<Stop, Failure> {
        let stop = Stop { flag: Arc::default(), signal: Arc::default() };
        let (flag, came) = (stop.flag(), Arc::clone(&stop.signal));
        on_first(move |signal| {
            came.store(signal, Ordering::SeqCst);
            flag.store(true, Ordering::SeqCst);
        })
        .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
        Ok(stop)
    }

    /// The flag.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// How the command ends if a signal has come.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match self.signal.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Failure::signalled(signal)),
        }
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        mod sys {
            use super::*;
            use std::io::Read;

            /// Each signal writes a byte into a pipe; a thread sleeps on it, and does one act for each.
            pub(super) fn watch(acts: Vec<Act>) -> io::Result<()> {
                let (reader, writer) = io::pipe()?;
                let last = Arc::new(AtomicBool::new(false));
                let terminated = Arc::new(AtomicBool::new(false));
                for signal in [SIGINT, SIGTERM] {
                    // In this order: a signal that finds `last` set ends the program, and only then it is set.
                    signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&last))?;
                    if acts.len() == 1 {
                        signal_hook::flag::register(signal, Arc::clone(&last))?;
                    }
                    if signal == SIGTERM {
                        signal_hook::flag::register(signal, Arc::clone(&terminated))?;
                    }
                    signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
                }
                std::thread::Builder::new().name("signals".into()).spawn(move || {
                    let mut reader = reader;
                    let mut left = acts.len();
                    for act in acts {
                        // Not a bare read: one that another signal interrupts must not be the last.
                        if reader.read_exact(&mut [0]).is_err() {
                            return;
                        }
                        left -= 1;
                        last.fetch_or(left == 0, Ordering::SeqCst);
                        act(if terminated.load(Ordering::SeqCst) { SIGTERM } else { SIGINT });
                    }
                })?;
                Ok(())
            }
        }
    } else {
        mod sys {
            use super::*;
            use std::sync::atomic::AtomicUsize;
            use std::time::Duration;

            /// No pipe to sleep on: looks twenty times a second.
            pub(super) fn watch(acts: Vec<Act>) -> io::Result<()> {
                let came = Arc::new(AtomicUsize::new(0));
                for signal in [SIGINT, SIGTERM] {
                    signal_hook::flag::register_usize(signal, Arc::clone(&came), signal as usize)?;
                }
                std::thread::Builder::new().name("signals".into()).spawn(move || {
                    for act in acts {
                        let signal = loop {
                            std::thread::sleep(Duration::from_millis(50));
                            match came.swap(0, Ordering::SeqCst) {
                                0 => {}
                                signal => break signal,
                            }
                        };
                        act(signal as i32);
                    }
                })?;
                Ok(())
            }
        }
    }
}
