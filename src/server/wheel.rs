//! Deadlines in a hierarchical timing wheel, linked through the slots themselves: twelve bytes each, no allocation.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987). Four levels of 64 buckets; a tick is
//! [`TICK`]. A deadline that is moved later, the common case, only gets a new number; the wheel notices when it comes
//! to the old place, and moves it then.

use std::time::{Duration, Instant};

/// Deadlines are met late by up to this much, and never early, but none is later than [`FARTHEST`].
pub(super) const TICK: Duration = Duration::from_millis(4);

const NIL: u32 = u32::MAX;
const BITS: u32 = 6;
const BUCKETS: usize = 1 << BITS;
const LEVELS: usize = 4;
/// Deadlines farther away than this are looked at again when it has passed.
const HORIZON: u64 = (1 << (BITS * LEVELS as u32)) - 1;
/// None is farther away than this, 99 days: a timer keeps the lower half of its tick only.
const FARTHEST: u64 = i32::MAX as u64;

/// A slot's part of the wheel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    next: u32,
    // The previous slot, or, with the top bit set, the bucket this slot is the first of. NIL: in no list.
    prev: u32,
    due: u32,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { next: NIL, prev: NIL, due: 0 }
    }
}

const HEAD: u32 = 1 << 31;

/// Gives the wheel the timers it links.
pub(super) trait Timers {
    fn timer(&mut self, slot: u32) -> &mut Timer;
}

pub(super) struct Wheel {
    start: Instant,
    now: u64,
    armed: usize,
    occupied: [u64; LEVELS],
    heads: Box<[u32; LEVELS * BUCKETS]>,
}

impl Wheel {
    pub(super) fn new(start: Instant) -> Wheel {
        Wheel { start, now: 0, armed: 0, occupied: [0; LEVELS], heads: Box::new([NIL; LEVELS * BUCKETS]) }
    }

    /// Nothing is due, ever: the loop need not look at the clock.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Moves an empty wheel, at which nobody has looked for perhaps a long time, to `now`.
    pub(super) fn wind(&mut self, now: Instant) {
        debug_assert!(self.is_empty(), "what is armed would be passed over");
        self.now = self.now.max(self.ticks_until(now));
    }

    /// Sets the deadline of `slot`, or takes it away.
    pub(super) fn set(&mut self, timers: &mut impl Timers, slot: u32, deadline: Option<Instant>) {
        let due = deadline.map(|deadline| self.ticks_after(deadline));
        self.set_tick(timers, slot, due);
    }

    /// The same, to a tick.
    pub(super) fn set_tick(&mut self, timers: &mut impl Timers, slot: u32, due: Option<u64>) {
        let linked = timers.timer(slot).prev != NIL;
        let Some(due) = due else {
            if linked {
                self.unlink(timers, slot);
            }
            return;
        };
        let later = due >= self.whole(timers.timer(slot).due);
        timers.timer(slot).due = due as u32;
        if linked && later {
            return; // found at the old place, and moved then
        }
        if linked {
            self.unlink(timers, slot);
        }
        self.link(timers, slot);
    }

    /// How long a wait may sleep before [`expired`](Wheel::expired) has to be asked.
    pub(super) fn sleep(&self, now: Instant) -> Option<Duration> {
        let next = self.next_stop()?;
        let next = Duration::from_millis(next * TICK.as_millis() as u64);
        Some((self.start + next).saturating_duration_since(now))
    }

    /// Advances to `now`, and moves every slot that is due out of the wheel and into `due`.
    pub(super) fn expired(&mut self, timers: &mut impl Timers, now: Instant, due: &mut Vec<u32>) {
        let target = self.ticks_until(now);
        while let Some(stop) = self.next_stop().filter(|stop| *stop <= target) {
            self.now = stop;
            for level in (0..LEVELS).rev() {
                let bucket = (stop >> (BITS * level as u32)) as usize % BUCKETS;
                // A bucket of a higher level is opened when all lower digits are zero.
                if level > 0 && stop & ((1 << (BITS * level as u32)) - 1) != 0 {
                    continue;
                }
                self.open(timers, level * BUCKETS + bucket, due);
            }
        }
        self.now = self.now.max(target);
    }

    fn open(&mut self, timers: &mut impl Timers, bucket: usize, due: &mut Vec<u32>) {
        let mut slot = self.heads[bucket];
        self.heads[bucket] = NIL;
        self.occupied[bucket / BUCKETS] &= !(1 << (bucket % BUCKETS));
        while slot != NIL {
            let timer = timers.timer(slot);
            let next = timer.next;
            (timer.next, timer.prev) = (NIL, NIL);
            self.armed -= 1;
            if self.whole(timer.due) <= self.now {
                due.push(slot);
            } else {
                self.link(timers, slot);
            }
            slot = next;
        }
    }

    /// The tick of the earliest occupied bucket: where something is due, or has to be moved down a level.
    fn next_stop(&self) -> Option<u64> {
        (0..LEVELS)
            .filter(|level| self.occupied[*level] != 0)
            .map(|level| {
                let shift = BITS * level as u32;
                let digit = self.now >> shift;
                // Buckets after the current digit come in this turn, the current one and those before in the next.
                let ahead = self.occupied[level].rotate_right((digit + 1) as u32 % BUCKETS as u32).trailing_zeros() + 1;
                (digit + u64::from(ahead)) << shift
            })
            .min()
    }

    fn link(&mut self, timers: &mut impl Timers, slot: u32) {
        let due = self.whole(timers.timer(slot).due).clamp(self.now + 1, self.now + HORIZON);
        // The level is that of the highest digit in which now and due differ.
        let level = ((due ^ self.now).ilog2() / BITS).min(LEVELS as u32 - 1) as usize;
        let bucket = (due >> (BITS * level as u32)) as usize % BUCKETS;
        let at = level * BUCKETS + bucket;
        let first = self.heads[at];
        let timer = timers.timer(slot);
        (timer.next, timer.prev) = (first, HEAD | at as u32);
        if first != NIL {
            timers.timer(first).prev = slot;
        }
        self.heads[at] = slot;
        self.occupied[level] |= 1 << bucket;
        self.armed += 1;
    }

    fn unlink(&mut self, timers: &mut impl Timers, slot: u32) {
        let Timer { next, prev, .. } = *timers.timer(slot);
        if next != NIL {
            timers.timer(next).prev = prev;
        }
        if prev & HEAD != 0 {
            let at = (prev & !HEAD) as usize;
            self.heads[at] = next;
            if next == NIL {
                self.occupied[at / BUCKETS] &= !(1 << (at % BUCKETS));
            }
        } else {
            timers.timer(prev).next = next;
        }
        let timer = timers.timer(slot);
        (timer.next, timer.prev) = (NIL, NIL);
        self.armed -= 1;
    }

    /// The tick that `now` has reached.
    pub(super) fn ticks_until(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.start).as_millis() / TICK.as_millis()) as u64
    }

    /// The first tick that is not before `deadline`.
    pub(super) fn ticks_after(&self, deadline: Instant) -> u64 {
        let after = deadline.saturating_duration_since(self.start);
        let ticks = after.as_nanos().div_ceil(TICK.as_nanos());
        ticks.min(u128::from(self.now + FARTHEST)) as u64
    }

    /// The tick of which a timer keeps the lower half: the one nearest to now.
    fn whole(&self, due: u32) -> u64 {
        let ahead = due.wrapping_sub(self.now as u32) as i32;
        self.now.saturating_add_signed(ahead.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timers for Vec<Timer> {
        fn timer(&mut self, slot: u32) -> &mut Timer {
            &mut self[slot as usize]
        }
    }

    /// Steps through time by exactly the sleeps the wheel proposes; returns (slot, milliseconds) as they fall due.
    fn play(deadlines_ms: &[u64]) -> Vec<(u32, u64)> {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut timers = vec![Timer::default(); deadlines_ms.len()];
        for (slot, ms) in deadlines_ms.iter().enumerate() {
            wheel.set(&mut timers, slot as u32, Some(start + Duration::from_millis(*ms)));
        }
        let (mut now, mut fired, mut steps) = (start, Vec::new(), 0);
        while let Some(sleep) = wheel.sleep(now) {
            now += sleep;
            let mut due = Vec::new();
            wheel.expired(&mut timers, now, &mut due);
            fired.extend(due.into_iter().map(|slot| (slot, (now - start).as_millis() as u64)));
            steps += 1;
            assert!(steps <= 5 * deadlines_ms.len().max(1), "woken too often");
        }
        assert!(wheel.is_empty());
        fired
    }

    #[test]
    fn every_deadline_is_met_once_not_early_and_within_a_tick() {
        let deadlines = [0, 1, 4, 5, 255, 256, 257, 1_000, 16_384, 16_385, 70_000, 1_048_576, 3_600_000, 70_000_000];
        let fired = play(&deadlines);
        assert_eq!(fired.len(), deadlines.len());
        for (slot, at) in fired {
            let asked = deadlines[slot as usize];
            assert!(at >= asked && at <= asked.max(1) + 4, "asked for {asked} ms, came at {at}");
        }
    }

    #[test]
    fn a_deadline_moved_later_is_met_later_and_one_moved_earlier_earlier() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut wheel = Wheel::new(start);
        let mut timers = vec![Timer::default(); 2];
        wheel.set(&mut timers, 0, Some(at(100)));
        wheel.set(&mut timers, 0, Some(at(900)));
        wheel.set(&mut timers, 1, Some(at(900)));
        wheel.set(&mut timers, 1, Some(at(100)));
        let mut due = Vec::new();
        wheel.expired(&mut timers, at(104), &mut due);
        assert_eq!(due, [1]);
        wheel.expired(&mut timers, at(904), &mut due);
        assert_eq!(due, [1, 0]);
        wheel.set(&mut timers, 0, Some(at(2_000)));
        wheel.set(&mut timers, 0, None);
        assert!(wheel.is_empty() && wheel.sleep(at(904)).is_none());
    }

    #[test]
    fn a_wheel_that_has_turned_for_a_year_keeps_its_deadlines() {
        const DAY: Duration = Duration::from_secs(86_400);
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut timers = vec![Timer::default(); 2];
        for day in [1, 2, 98, 99, 100, 101, 150, 198, 199, 200, 250, 400] {
            let now = start + DAY * day;
            let mut due = Vec::new();
            wheel.wind(now);
            wheel.set(&mut timers, 0, Some(now + Duration::from_secs(10)));
            wheel.set(&mut timers, 0, Some(now + Duration::from_secs(20)));
            wheel.set(&mut timers, 1, Some(now + Duration::from_secs(10)));
            for (after, expected) in [(9_990, &[][..]), (10_004, &[1]), (20_004, &[0])] {
                due.clear();
                wheel.expired(&mut timers, now + Duration::from_millis(after), &mut due);
                assert_eq!(due, expected, "day {day}, {after} ms on");
            }
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn slots_of_one_bucket_leave_in_any_order() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut timers = vec![Timer::default(); 5];
        for slot in 0..5 {
            wheel.set(&mut timers, slot, Some(start + Duration::from_millis(40)));
        }
        for slot in [2, 4, 0] {
            wheel.set(&mut timers, slot, None);
        }
        let mut due = Vec::new();
        wheel.expired(&mut timers, start + Duration::from_millis(44), &mut due);
        due.sort_unstable();
        assert_eq!(due, [1, 3]);
    }
}
