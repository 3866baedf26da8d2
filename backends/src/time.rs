//! Timeouts in the kernel's units, rounded up, in one place.
//!
//! Rounding down would make a wait of 300 µs one of 0 ms: the loop would spin through the last part of every
//! millisecond. Rounding up makes a timeout late by less than one unit, and never early.

use std::time::Duration;

/// The longest timeout passed to a kernel. Darwin's kevent(2) calls larger ones invalid, as do 32-bit milliseconds;
/// a wait this long ends early, empty, and the caller's own deadline sends it back.
const LONGEST: Duration = Duration::from_secs(1_000_000);

/// Milliseconds for poll(2) and epoll_wait(2); -1 waits for ever.
#[allow(dead_code, reason = "which unit is needed depends on the platform")]
pub(crate) fn millis(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| timeout.min(LONGEST).as_nanos().div_ceil(1_000_000) as i32)
}

/// The same as a timespec, for wrappers that take one and pass milliseconds on.
#[allow(dead_code, reason = "as above")]
pub(crate) fn whole_millis(timeout: Duration) -> rustix::event::Timespec {
    timespec(Duration::from_millis(millis(Some(timeout)) as u64))
}

/// Seconds and nanoseconds for ppoll(2), epoll_pwait2(2) and kevent(2).
#[allow(dead_code, reason = "as above")]
pub(crate) fn timespec(timeout: Duration) -> rustix::event::Timespec {
    let timeout = timeout.min(LONGEST);
    rustix::event::Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ }
}

/// The same for a kernel that counts in microseconds (select(2)'s timeval): nanoseconds that are whole microseconds.
#[allow(dead_code, reason = "as above")]
pub(crate) fn micros(timeout: Duration) -> rustix::event::Timespec {
    let micros = timeout.min(LONGEST).as_nanos().div_ceil(1_000) as u64;
    timespec(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_never_rounded_down() {
        assert_eq!(millis(None), -1);
        assert_eq!(millis(Some(Duration::ZERO)), 0);
        assert_eq!(millis(Some(Duration::from_nanos(1))), 1);
        assert_eq!(millis(Some(Duration::from_micros(1_001))), 2);
        assert_eq!(millis(Some(Duration::MAX)), 1_000_000_000);
        assert_eq!(micros(Duration::from_nanos(1)).tv_nsec, 1_000);
        assert_eq!(timespec(Duration::from_nanos(1)).tv_nsec, 1);
    }
}
