//! Firehoses: connections beside the measured ones that never pause, from a load process of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::child::{Failure, Loads, Ran, Span, Target, Trouble};
use crate::workload::Traffic;

/// Bytes of each payload.
pub(super) const PAYLOAD: usize = 64 * 1024;

/// Longer than any trial: they are ended by whoever opened them.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Connections that stream. Dropped, they end.
pub(super) struct Firehoses {
    /// Ends with the load, and what it did.
    running: Option<JoinHandle<(Loads, Result<Ran, Trouble>)>>,
    done: Arc<AtomicBool>,
}

/// What they did.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Streamed {
    /// Bytes that came back each second, verified.
    pub(super) per_second: f64,
    /// The part of a CPU their load used.
    pub(super) busy: Option<f64>,
}

impl Firehoses {
    /// Opens so many, and lets them stream.
    pub(super) fn open(count: u32, target: &Target<'_>, stop: &AtomicBool) -> Result<Firehoses, Trouble> {
        let mut loads = Loads::start(1)?;
        loads.aim(target)?;
        // As much as the buffers of a socket take, and more before that has come back.
        loads.follow(Traffic { payload: target.size, outstanding: 4, ..Traffic::default() })?;
        loads.open_active(count as usize, stop)?;
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let stream = move || {
            let ran = loads.run(Span::Elapsed(LONGEST), Some(&told));
            (loads, ran)
        };
        let running = thread::Builder::new().name("firehoses".into()).spawn(stream);
        let running = running.map_err(|error| Failure(format!("cannot start a thread for the firehoses: {error}")))?;
        Ok(Firehoses { running: Some(running), done })
    }

    /// Ends them, once they have all that they are owed.
    pub(super) fn end(mut self) -> Result<Streamed, Trouble> {
        let (mut loads, ran) = self.join().ok_or_else(|| Failure("the firehoses have panicked".into()))?;
        let ran = ran?;
        loads.close_active()?;
        let seconds = ran.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = ran.cpu.map(|cpu| cpu.as_secs_f64() / seconds);
        Ok(Streamed { per_second: ran.bytes as f64 / seconds, busy })
    }

    fn join(&mut self) -> Option<(Loads, Result<Ran, Trouble>)> {
        self.done.store(true, Ordering::Relaxed);
        self.running.take()?.join().ok()
    }
}

impl Drop for Firehoses {
    fn drop(&mut self) {
        // Whatever they met: the trial has failed already.
        self.join();
    }
}
