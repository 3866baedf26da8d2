//! How many events waits return: a histogram by powers of two, which a loop can afford to keep.

use std::ops::{Add, Sub};

/// How many waits returned how many events: none, 1, 2 to 3, 4 to 7, and so on to 512 to 1,023, and more.
///
/// A mean hides whether a loop has a few events at each turn, or one at most turns and hundreds at some.
///
/// ```
/// use pollmark::server::Batches;
///
/// let mut batches = Batches::default();
/// [0, 1, 1, 5, 4_000].into_iter().for_each(|events| batches.count(events));
/// assert_eq!(batches.waits(), 5);
/// assert_eq!(batches.at_least(4), 2);
/// assert_eq!(batches.iter().find(|(least, _)| *least == 1), Some((1, 2)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
pub struct Batches([u64; BATCHES]);

const BATCHES: usize = 12;

impl Batches {
    /// Counts a wait that returned so many events.
    #[inline(always)]
    pub fn count(&mut self, events: usize) {
        self.count_many(events, 1);
    }

    #[inline(always)]
    pub(crate) fn count_many(&mut self, events: usize, waits: u64) {
        // The bits it takes to write the number: 0 of 0, 1 of 1, 2 of 2 and 3.
        let bits = (usize::BITS - events.leading_zeros()) as usize;
        self.0[bits.min(BATCHES - 1)] += waits;
    }

    /// Waits counted.
    pub fn waits(&self) -> u64 {
        self.0.iter().fold(0, |sum, waits| sum.saturating_add(*waits)) // a record may come from anybody
    }

    /// Waits that returned so many events or more: one of the numbers that [`iter`](Batches::iter) gives.
    pub fn at_least(&self, events: u64) -> u64 {
        let beyond = self.iter().filter(|(least, _)| *least >= events);
        beyond.fold(0, |sum, (_, waits)| sum.saturating_add(waits))
    }

    /// The fewest events of each class, ascending, and how many waits were of it.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let least = |class: usize| if class == 0 { 0 } else { 1 << (class - 1) };
        self.0.iter().enumerate().map(move |(class, waits)| (least(class), *waits))
    }

    #[cfg(feature = "report")]
    pub(crate) fn is_empty(&self) -> bool {
        self.waits() == 0
    }

    /// The sum, of records that may come from anybody.
    #[cfg(feature = "report")]
    pub(crate) fn saturating_add(self, other: Batches) -> Batches {
        self.with(other, u64::saturating_add)
    }

    fn with(self, other: Batches, merge: fn(u64, u64) -> u64) -> Batches {
        Batches(std::array::from_fn(|class| merge(self.0[class], other.0[class])))
    }
}

impl Sub for Batches {
    type Output = Batches;

    fn sub(self, before: Batches) -> Batches {
        self.with(before, |now, before| now - before)
    }
}

impl Add for Batches {
    type Output = Batches;

    fn add(self, other: Batches) -> Batches {
        self.with(other, |one, other| one + other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_begins_at_a_power_of_two_and_the_last_has_no_end() {
        let mut batches = Batches::default();
        for events in [0, 1, 2, 3, 4, 7, 8, 1_023, 1_024, usize::MAX] {
            batches.count(events);
        }
        let classes = batches.iter().collect::<Vec<_>>();
        let expected = [(0, 1), (1, 1), (2, 2), (4, 2), (8, 1), (16, 0), (32, 0), (64, 0), (128, 0), (256, 0)];
        assert_eq!(classes[..10], expected);
        assert_eq!(classes[10..], [(512, 1), (1_024, 2)]);
        assert_eq!((batches.waits(), batches.at_least(0), batches.at_least(512)), (10, 10, 3));
    }

    #[test]
    fn batches_subtract_and_add_class_by_class() {
        let mut before = Batches::default();
        before.count(3);
        let mut after = before;
        after.count(3);
        after.count(0);
        let between = after - before;
        assert_eq!((between.waits(), between.at_least(2)), (2, 1));
        assert_eq!(before + between, after);
    }
}
