//! What time it is: as the system says, or as a hand sets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Where a loop reads the time: the system's clock, unless it was given one that is [moved by hand](ManualClock).
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<ManualClock>>);

impl Clock {
    /// The time now.
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => manual.now(),
        }
    }
}

impl From<Arc<ManualClock>> for Clock {
    fn from(manual: Arc<ManualClock>) -> Clock {
        Clock(Some(manual))
    }
}

/// A clock that stands still until it is moved, so that hours of deadlines pass in no time.
///
/// ```
/// use pollmark::clock::{Clock, ManualClock};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let hands = Arc::new(ManualClock::new());
/// let clock = Clock::from(Arc::clone(&hands));
/// let before = clock.now();
/// hands.advance(Duration::from_secs(3_600));
/// assert_eq!(clock.now() - before, Duration::from_secs(3_600));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    start: Instant,
    passed_ns: AtomicU64,
}

impl ManualClock {
    /// A clock that shows the present, and stands.
    pub fn new() -> ManualClock {
        ManualClock { start: Instant::now(), passed_ns: AtomicU64::new(0) }
    }

    /// What it shows.
    pub fn now(&self) -> Instant {
        self.start + self.passed()
    }

    /// How far it was moved.
    pub fn passed(&self) -> Duration {
        Duration::from_nanos(self.passed_ns.load(Ordering::Relaxed))
    }

    /// Moves it forward.
    ///
    /// # Panics
    /// If `by` is more than 584 years, which is also as far as it can be moved in all.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).expect("no more than 584 years");
        self.passed_ns.fetch_add(by, Ordering::Relaxed);
    }
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock::new()
    }
}
