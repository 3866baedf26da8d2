//! When a connection has had its time: the limits' deadlines and its protocol's own, on one wheel, by few looks at the
//! clock.
//!
//! A loop that has told of several events is busy and looks at the clock only now and then: in between it waits for no
//! more than a tick, and reckons as if it had slept all of that, so it never sleeps over a deadline. A loop that is not
//! busy looks after every wait. What has happened to connections since the last look is dated by the next.

use std::time::{Duration, Instant};

use super::patience::{Life, Patience, Standing};
use super::slots::Slots;
use super::wheel::{TICK, Wheel};
use super::{Expiry, Limits};
use crate::protocol::Protocol;

/// So many waits of a busy loop go by without a look at the clock.
const MOST_UNTIMED: u32 = 16;

/// All deadlines of one loop.
pub(super) struct Deadlines {
    wheel: Wheel,
    patience: Patience,
    /// There is no limit of time: a protocol's own deadlines go straight to the wheel, and nothing is kept of slots.
    unlimited: bool,
    /// The dates of each slot.
    lives: Vec<Life>,
    /// Slots to which something has happened since the last look at the clock.
    noted: Vec<u32>,
    pace: Pace,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits, now: Instant) -> Deadlines {
        let patience = Patience::of(limits);
        let pace = Pace { shortest: patience.shortest(), ..Pace::default() };
        let unlimited = pace.shortest.is_none();
        Deadlines { wheel: Wheel::new(now), patience, unlimited, lives: Vec::new(), noted: Vec::new(), pace }
    }

    /// Nothing will be due: nobody need look at the clock.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.wheel.is_empty() & self.noted.is_empty()
    }

    /// Whether connections have to be noted at all.
    #[inline(always)]
    pub(super) fn has_limits(&self) -> bool {
        !self.unlimited
    }

    /// A connection was taken on.
    pub(super) fn opened(&mut self, slot: u32) {
        if self.has_limits() {
            if self.lives.len() <= slot as usize {
                self.lives.resize(slot as usize + 1, Life::default());
            }
            self.lives[slot as usize] = Life::begin();
            self.note(slot, |_| {});
        }
    }

    /// Bytes came; if the connection is quiet after that, they were a message.
    pub(super) fn heard(&mut self, slot: u32, is_quiet: bool) {
        self.note(slot, |life| life.hears(is_quiet));
    }

    /// The kernel took some of what was owed.
    pub(super) fn took(&mut self, slot: u32) {
        self.note(slot, Life::takes);
    }

    /// A connection was served.
    pub(super) fn stands(&mut self, slot: u32, standing: Standing) {
        self.note(slot, |life| life.stands(standing));
    }

    /// A protocol asks for a deadline, or takes it back.
    pub(super) fn asked<Q: Protocol, W: Copy>(
        &mut self,
        slots: &mut Slots<Q, W>,
        slot: u32,
        deadline: Option<Instant>,
        now: impl FnOnce() -> Instant,
    ) {
        if let Some(deadline) = deadline {
            let now = now();
            if self.wheel.is_empty() {
                self.wheel.wind(now);
            }
            self.pace.hurry(deadline.saturating_duration_since(now));
        }
        if self.unlimited {
            return self.wheel.set(slots, slot, deadline);
        }
        let tick = deadline.map(|deadline| self.wheel.ticks_after(deadline) as u32);
        self.note(slot, |life| life.asks(tick));
    }

    /// A connection has gone.
    pub(super) fn closed<Q: Protocol, W: Copy>(&mut self, slots: &mut Slots<Q, W>, slot: u32) {
        self.wheel.set_tick(slots, slot, None);
        if let Some(life) = self.lives.get_mut(slot as usize) {
            life.ends();
        }
    }

    fn note(&mut self, slot: u32, what: impl FnOnce(&mut Life)) {
        let Some(life) = self.lives.get_mut(slot as usize) else { return };
        what(life);
        if life.is_news() {
            self.noted.push(slot);
        }
    }

    /// How long to wait without a look at the clock, if that can be done. The last wait told of so many events.
    pub(super) fn skip(&mut self, told: usize) -> Option<Duration> {
        self.pace.skip(told)
    }

    /// How long a wait may sleep, by the clock: nothing is due before. `bound` is when something else is.
    pub(super) fn sleep(&mut self, now: Instant, bound: Option<Duration>) -> Option<Duration> {
        let sleep = [self.wheel.sleep(now), bound].into_iter().flatten().min();
        self.pace.looked(sleep);
        sleep
    }

    /// Dates what was noted, and tells the wheel.
    pub(super) fn date<Q: Protocol, W: Copy>(&mut self, slots: &mut Slots<Q, W>, now: Instant) {
        if self.noted.is_empty() {
            return;
        }
        if self.wheel.is_empty() {
            self.wheel.wind(now);
        }
        let now = self.wheel.ticks_after(now);
        for slot in self.noted.drain(..) {
            let life = &mut self.lives[slot as usize];
            life.date(now as u32);
            let due = life.due(&self.patience, now as u32).map(|(ticks, _)| now.saturating_add_signed(ticks.into()));
            self.wheel.set_tick(slots, slot, due);
        }
    }

    /// Moves all slots that are due by `now` into `due`.
    pub(super) fn expired<Q: Protocol, W: Copy>(
        &mut self,
        slots: &mut Slots<Q, W>,
        now: Instant,
        due: &mut Vec<(u32, Due)>,
    ) {
        let mut reached = Vec::new();
        self.wheel.expired(slots, now, &mut reached);
        let now = self.wheel.ticks_until(now) as u32;
        due.extend(reached.into_iter().map(|slot| (slot, self.reason(slot, now))));
    }

    fn reason(&mut self, slot: u32, now: u32) -> Due {
        let Some(life) = self.lives.get_mut(slot as usize) else { return Due::Asked };
        let (_, reason) = life.due(&self.patience, now).unwrap_or_default();
        let Some(expiry) = reason else {
            life.asks(None);
            // Whatever else it may meet is still to come.
            self.note(slot, |_| {});
            return Due::Asked;
        };
        Due::Limit(expiry)
    }
}

/// Why a connection is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Its protocol has asked for it.
    Asked,
    /// It has met a limit.
    Limit(Expiry),
}

/// How often to look at the clock.
#[derive(Default)]
struct Pace {
    /// The shortest of all deadlines, for those that have begun since the last look.
    shortest: Option<Duration>,
    untimed: u32,
    /// What is left until something is due, if all waits since the last look have slept as long as they could.
    left: Duration,
}

impl Pace {
    fn skip(&mut self, told: usize) -> Option<Duration> {
        // Who is told of one source has slept, as like as not; who is told of several has been busy with others.
        if told < 2 || self.untimed == MOST_UNTIMED || self.left.is_zero() {
            return None;
        }
        self.untimed += 1;
        let nap = self.left.min(TICK);
        self.left -= nap;
        Some(nap)
    }

    fn looked(&mut self, sleep: Option<Duration>) {
        self.untimed = 0;
        self.left = [sleep, self.shortest].into_iter().flatten().min().unwrap_or(Duration::MAX);
    }

    /// Something will be due so soon.
    fn hurry(&mut self, left: Duration) {
        self.left = self.left.min(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_loop_looks_at_the_clock_once_in_many_waits_and_one_that_sleeps_each_time() {
        let mut pace = Pace::default();
        assert_eq!(pace.skip(10), None, "never looked");
        pace.looked(Some(Duration::from_secs(60)));
        for told in [0, 1] {
            assert_eq!(pace.skip(told), None);
        }
        assert!((0..MOST_UNTIMED).all(|_| pace.skip(2) == Some(TICK)));
        assert_eq!(pace.skip(2), None, "too long ago");
    }

    #[test]
    fn waits_without_a_look_at_the_clock_do_not_sleep_over_what_is_due() {
        let mut pace = Pace::default();
        pace.looked(Some(Duration::from_millis(10)));
        let slept: Duration = std::iter::from_fn(|| pace.skip(100)).sum();
        assert_eq!(slept, Duration::from_millis(10));
        pace.looked(Some(Duration::from_secs(1)));
        pace.hurry(Duration::from_millis(3));
        assert_eq!((pace.skip(100), pace.skip(100)), (Some(Duration::from_millis(3)), None));
        pace.shortest = Some(Duration::from_millis(1));
        pace.looked(None);
        assert_eq!((pace.skip(100), pace.skip(100)), (Some(Duration::from_millis(1)), None));
    }
}
