//! How often a loop waits for what comes at a given rate, and how often it sleeps.
//!
//! What comes while a turn lasts is found by the next wait: at random, m on average, so that with the probability e^-m
//! it finds nothing, sleeps, and finds one. A turn of k requests lasts `c0 + c1·N + c2·k`, and `s` more after a sleep;
//! the m that brings forth itself is what the loop comes to. A loop that is asked little sleeps before every request; one
//! that is asked more finds several at a wait, and so becomes cheaper; one that is asked too much finds all it can.

use crate::measure::fit::TERMS;

/// What the turns of a loop are like.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Turns {
    /// Requests a wait finds.
    pub(super) per_wait: f64,
    /// The part of the waits that sleep.
    pub(super) asleep: f64,
    /// It cannot serve what comes: every wait finds all that can be under way.
    pub(super) saturated: bool,
}

impl Turns {
    /// Of a loop of these costs, in nanoseconds, that watches so many connections, on which `rate` requests come each
    /// nanosecond, and of which `most` can be under way.
    pub(super) fn at(costs: &[f64; TERMS], watched: f64, rate: f64, most: f64) -> Turns {
        let most = most.max(1.0);
        let of = |came: f64| {
            let asleep = (-came).exp();
            Turns { per_wait: (came + asleep).min(most), asleep, saturated: false }
        };
        let comes = |came: f64| rate * of(came).turn_ns(costs, watched);
        if comes(most) >= most {
            return Turns { per_wait: most, asleep: 0.0, saturated: true };
        }
        let (mut low, mut high) = (0.0, most);
        // Sixty halves are as near as a float tells.
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if comes(middle) > middle { low = middle } else { high = middle }
        }
        of(high)
    }

    /// Of a loop that is kept busy, and finds so many requests at a wait.
    pub(super) fn closed(per_wait: f64) -> Turns {
        Turns { per_wait, asleep: 0.0, saturated: false }
    }

    fn turn_ns(&self, costs: &[f64; TERMS], watched: f64) -> f64 {
        let [wait, watching, request, sleep] = costs;
        wait + watching * watched + request * self.per_wait + sleep * self.asleep
    }

    /// What each request costs, in nanoseconds.
    pub(super) fn request_ns(&self, costs: &[f64; TERMS], watched: f64) -> f64 {
        self.turn_ns(costs, watched) / self.per_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COSTS: [f64; TERMS] = [1_000.0, 100.0, 5_000.0, 9_000.0];

    fn near(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() <= 1e-3 * wanted.abs()
    }

    #[test]
    fn a_loop_that_is_asked_next_to_nothing_sleeps_before_every_request() {
        let turns = Turns::at(&COSTS, 10.0, 1e-9, 100.0);
        assert!(near(turns.per_wait, 1.0) && near(turns.asleep, 1.0) && !turns.saturated, "{turns:?}");
        assert!(near(turns.request_ns(&COSTS, 10.0), 1_000.0 + 1_000.0 + 5_000.0 + 9_000.0));
    }

    #[test]
    fn a_loop_that_is_asked_too_much_finds_all_that_can_be_under_way() {
        // 5 µs a request is all that 200,000 a second leave, and the waits take the rest.
        let turns = Turns::at(&COSTS, 10.0, 200_000.0 / 1e9, 16.0);
        assert_eq!((turns.per_wait, turns.asleep, turns.saturated), (16.0, 0.0, true));
        assert!(near(turns.request_ns(&COSTS, 10.0), 2_000.0 / 16.0 + 5_000.0));
    }

    #[test]
    fn a_loop_between_the_two_finds_what_came_in_a_turn() {
        let rate = 150_000.0 / 1e9;
        let turns = Turns::at(&COSTS, 100.0, rate, 1_000.0);
        assert!(!turns.saturated && turns.asleep < 0.01, "{turns:?}");
        // 11 µs and 5 µs for each of k, in which k come: k = 0.15 · (11 + 5 k).
        let wanted = 0.15 * 11.0 / (1.0 - 0.15 * 5.0);
        assert!((turns.per_wait / wanted - 1.0).abs() < 0.01, "but for a sleep in a thousand: {turns:?}");
    }

    proptest! {
        /// Whatever the costs: who is asked more finds more at a wait, sleeps less, and a request is no dearer.
        #[test]
        fn to_be_asked_more_makes_no_request_dearer(
            costs in [0.0..1e5f64, 0.0..1e3f64, 1.0..1e5f64, 0.0..1e5f64],
            watched in 1.0..1e5f64,
            rates in (1.0..1e6f64, 1.0..1e6f64),
            most in 1.0..1e4f64,
        ) {
            let (less, more) = (rates.0.min(rates.1), rates.0.max(rates.1));
            let [less, more] = [less, more].map(|rate| Turns::at(&costs, watched, rate / 1e9, most));
            let slack = 1.0 + 1e-6;
            prop_assert!(less.per_wait <= more.per_wait * slack && less.asleep * slack >= more.asleep, "{less:?} {more:?}");
            let [dear, cheap] = [less, more].map(|turns| turns.request_ns(&costs, watched));
            prop_assert!(cheap <= dear * slack, "{less:?} {more:?}");
            prop_assert!((1.0..=most.max(1.0)).contains(&less.per_wait) && (0.0..=1.0).contains(&less.asleep));
        }
    }
}
