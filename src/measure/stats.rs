//! Medians, intervals, slopes, and when two results cannot be told apart.
//!
//! Times on a shared machine have heavy tails, so everything stands on medians, and everything compared is compared
//! within a round: the two were measured moments apart, and what slowed one slowed the other.

use fastrand::Rng;
use serde::Serialize;

/// How much slower is worth telling at all, however sure one is.
pub const SMALLEST_EFFECT: f64 = 0.05;

/// Resamples behind an interval: enough for its ends to be steady to the second digit.
const RESAMPLES: usize = 1_000;

/// From where to where a value may reasonably lie.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A value and, from two repeats on, its interval: from six on one of 95 %. The least and the most of fewer hold the
/// median with 1 − 2^(1−n), that is 75 % of three, 88 % of four, 94 % of five.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Where the median lies, by bootstrap over the repeats.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// The median of `values` with its interval; `None` if there are none. The same seed gives the same interval.
    ///
    /// ```
    /// use pollmark::measure::stats::Estimate;
    /// let estimate = Estimate::of(&[8.0, 9.0, 8.5], 1).expect("three values");
    /// assert_eq!(estimate.value, 8.5);
    /// assert!(Estimate::of(&[8.0], 1).expect("one value").interval.is_none());
    /// ```
    pub fn of(values: &[f64], seed: u64) -> Option<Estimate> {
        Some(Estimate { value: median(values)?, interval: bootstrap(values, seed) })
    }

    /// By what factor `subject` is above `baseline`: the median of the ratios within each round.
    ///
    /// The slices are paired: the same place is the same round. `None` if there is no pair.
    pub fn of_ratio(subject: &[f64], baseline: &[f64], seed: u64) -> Option<Estimate> {
        let pairs = subject.iter().zip(baseline).filter(|(_, base)| **base > 0.0);
        let ratios = pairs.map(|(subject, base)| subject / base).collect::<Vec<_>>();
        Estimate::of(&ratios, seed)
    }

    /// By what factor `subject` is above `baseline` where the two were measured apart, so that no repeat of one belongs
    /// to one of the other: the ratio of their medians, with both drawn anew for the interval.
    ///
    /// `None` unless both have values, and the baseline a positive median.
    ///
    /// ```
    /// use pollmark::measure::stats::Estimate;
    /// let change = Estimate::of_change(&[12.1, 11.9, 12.0], &[10.0, 10.1, 9.9], 1).expect("values");
    /// assert!((change.value - 1.2).abs() < 1e-9 && change.is_beyond(0.05) && !change.is_below(0.05));
    /// ```
    pub fn of_change(subject: &[f64], baseline: &[f64], seed: u64) -> Option<Estimate> {
        let value = median(subject)? / median(baseline).filter(|base| *base > 0.0)?;
        // Ratios of what was drawn from each, since the medians of one say nothing of those of the other.
        let (of, to) = (medians(subject, seed), medians(baseline, !seed));
        let ratios = of.iter().zip(&to).map(|(of, to)| of / to).collect::<Vec<_>>();
        Some(Estimate { value, interval: ends(&ratios) })
    }

    /// Whether a ratio shows a difference worth telling: its whole interval lies beyond 1 + `margin`. A ratio seen
    /// only once never does.
    pub fn is_beyond(&self, margin: f64) -> bool {
        self.interval.is_some_and(|interval| interval.low > 1.0 + margin)
    }

    /// The same in the other direction: by as large a factor.
    pub fn is_below(&self, margin: f64) -> bool {
        self.interval.is_some_and(|interval| interval.high < 1.0 / (1.0 + margin))
    }
}

/// The middle value; the mean of the two middle ones of an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Median absolute deviation: how far values typically lie from their median.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// The value below which the share `at` (0 to 1) of the values lies, interpolated between neighbours.
///
/// ```
/// use pollmark::measure::stats::quantile;
/// assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), Some(3.0));
/// assert_eq!(quantile(&[3.0, 1.0], 0.5), Some(2.0));
/// assert_eq!(quantile(&[], 0.5), None);
/// ```
pub fn quantile(values: &[f64], at: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = at.clamp(0.0, 1.0) * last as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let above = sorted[(below + 1).min(last)];
    Some(sorted[below] + share * (above - sorted[below]))
}

/// The interval of the median, by resampling the repeats. One repeat has none.
///
/// With up to five repeats it is simply the lowest to the highest, which is as much as they can say.
fn bootstrap(values: &[f64], seed: u64) -> Option<Interval> {
    ends(&medians(values, seed))
}

/// Medians of the repeats drawn anew; none of one repeat, which tells nothing of how others would be.
fn medians(values: &[f64], seed: u64) -> Vec<f64> {
    if values.len() < 2 {
        return Vec::new();
    }
    let mut rng = Rng::with_seed(seed);
    let mut drawn = vec![0.0; values.len()];
    let resample = |_| {
        drawn.fill_with(|| values[rng.usize(..values.len())]);
        middle(&mut drawn)
    };
    (0..RESAMPLES).map(resample).collect()
}

/// Where 95 % of what was drawn lies.
fn ends(drawn: &[f64]) -> Option<Interval> {
    Some(Interval { low: quantile(drawn, 0.025)?, high: quantile(drawn, 0.975)? })
}

/// The median, in place: what a bootstrap does a thousand times.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[half - 1] + values[half]) / 2.0 } else { values[half] }
}

/// The smallest ratio that counts as a difference, beyond 1: what a mechanism measured against itself differed by in
/// 95 % of the cells, but at least [`SMALLEST_EFFECT`].
///
/// `control_ratios` are those of the A/A control to its twin, one for each cell.
pub fn margin(control_ratios: &[f64]) -> f64 {
    spread(control_ratios).unwrap_or(0.0).max(SMALLEST_EFFECT)
}

/// By how much twins differ, in either direction, in 95 % of the cells: 0.1 is a tenth. `None` without a control.
pub fn spread(control_ratios: &[f64]) -> Option<f64> {
    let differences = control_ratios.iter().map(|ratio| ratio.ln().abs().exp() - 1.0).collect::<Vec<_>>();
    quantile(&differences, 0.95)
}

/// The slope of a straight line through the points on log-log paper: 1 grows in proportion, 0 stays flat.
///
/// Points that are not positive have no logarithm and are left out; `None` unless two different places remain.
///
/// ```
/// use pollmark::measure::stats::log_log_slope;
/// let slope = log_log_slope(&[(1_000.0, 88.0), (2_000.0, 176.0), (4_000.0, 352.0)]).expect("three points");
/// assert!((slope - 1.0).abs() < 1e-9);
/// ```
pub fn log_log_slope(points: &[(f64, f64)]) -> Option<f64> {
    let logs = points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect::<Vec<_>>();
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    let slope = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
    (spread > 1e-12).then_some(slope)
}

/// Latencies of many trials in one: percentiles are read from all samples together, never averaged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pool {
    buckets: std::collections::BTreeMap<u64, u64>,
    samples: u64,
    /// Of which nobody knows how long they took, but that it was longer than the others.
    longer: u64,
}

impl Pool {
    /// Adds a histogram: upper ends of buckets in nanoseconds, and how many samples fell into each.
    pub fn add(&mut self, histogram: &[(u64, u64)]) {
        for &(upper_ns, count) in histogram {
            let bucket = self.buckets.entry(upper_ns).or_default();
            *bucket = bucket.saturating_add(count); // a record may come from anybody
            self.samples = self.samples.saturating_add(count);
        }
    }

    /// Adds so many that would have taken longer than all others: what was due and never sent. To leave them out would
    /// make the latencies of a server the better, the less it keeps up.
    pub fn add_longer(&mut self, count: u64) {
        self.longer = self.longer.saturating_add(count);
    }

    /// How many samples there are, without those that took longer than anybody knows.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The latency that the share `at` of the samples does not exceed, in nanoseconds, to the width of a bucket.
    ///
    /// `None` with fewer than ten samples beyond it: a p99 needs 1,000, a p99.9 needs 10,000. `None` too where it is
    /// longer than [anybody knows](Pool::add_longer).
    pub fn percentile(&self, at: f64) -> Option<u64> {
        let all = self.samples.saturating_add(self.longer);
        // Not quite ten, because 1 - 0.999 is not quite a thousandth.
        if (1.0 - at) * (all as f64) < 10.0 - 1e-6 {
            return None;
        }
        let wanted = (at * all as f64).ceil() as u64;
        let mut seen = 0_u64;
        self.buckets.iter().find_map(|(upper_ns, count)| {
            seen = seen.saturating_add(*count);
            (seen >= wanted).then_some(*upper_ns)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_quantile_interpolates_and_a_deviation_ignores_one_outlier() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!((quantile(&values, 0.0), quantile(&values, 0.5), median(&[])), (Some(1.0), Some(2.5), None));
        assert_eq!(deviation(&[1.0, 1.1, 0.9, 1.0, 50.0]).map(|d| (d * 10.0).round()), Some(1.0));
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let mut pool = Pool::default();
        pool.add(&[(10, 900), (20, 99)]);
        assert_eq!((pool.samples(), pool.percentile(0.5), pool.percentile(0.99)), (999, Some(10), None));
        pool.add(&[(30, 1)]);
        assert_eq!((pool.percentile(0.9), pool.percentile(0.99), pool.percentile(0.999)), (Some(10), Some(20), None));
        pool.add(&[(10, 9_000)]);
        assert_eq!(pool.percentile(0.999), Some(20));
        assert_eq!(Pool::default().percentile(0.5), None);
    }

    #[test]
    fn what_was_never_sent_took_longer_than_all_that_was() {
        let mut pool = Pool::default();
        pool.add(&[(10, 900), (20, 80)]);
        pool.add_longer(20);
        assert_eq!((pool.samples(), pool.percentile(0.5), pool.percentile(0.9)), (980, Some(10), Some(10)));
        assert_eq!((pool.percentile(0.98), pool.percentile(0.99)), (Some(20), None), "two of a hundred are unsent");
    }

    #[test]
    fn of_up_to_five_repeats_the_interval_is_the_least_to_the_most_and_of_six_less() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0, 6.0];
        for repeats in 2..=5 {
            let few = &values[..repeats];
            let interval = Estimate::of(few, 1).and_then(|estimate| estimate.interval).expect("repeats");
            let least = few.iter().copied().fold(f64::INFINITY, f64::min);
            let most = few.iter().copied().fold(0.0, f64::max);
            assert_eq!((interval.low, interval.high), (least, most), "{repeats}");
        }
        let six = Estimate::of(&values, 1).and_then(|estimate| estimate.interval).expect("repeats");
        assert!(six.low > 1.0 && six.high < 6.0, "{six:?}");
    }

    #[test]
    fn noise_that_hits_both_of_a_pair_does_not_hide_a_difference() {
        let baseline = [10.0, 30.0, 12.0, 11.0, 25.0];
        let subject = baseline.map(|value| value * 1.3);
        let ratio = Estimate::of_ratio(&subject, &baseline, 1).expect("five pairs");
        assert!((ratio.value - 1.3).abs() < 1e-9 && ratio.is_beyond(0.2) && !ratio.is_beyond(0.31), "{ratio:?}");
    }

    #[test]
    fn what_was_measured_apart_is_compared_without_pairs() {
        let before = [10.0, 10.2, 9.9, 10.1, 9.8];
        let same = Estimate::of_change(&before, &before, 3).expect("values");
        assert!(same.value == 1.0 && !same.is_beyond(0.0) && !same.is_below(0.0), "{same:?}");
        let interval = same.interval.expect("five repeats");
        assert!(interval.low < 1.0 && interval.high > 1.0, "both are drawn, and apart: {interval:?}");
        let slower = Estimate::of_change(&before.map(|value| value * 1.3), &before[..3], 3).expect("values");
        assert!(slower.is_beyond(0.2) && !slower.is_beyond(0.35), "{slower:?}");
        let faster = Estimate::of_change(&before[..3], &before.map(|value| value * 1.3), 3).expect("values");
        assert!(faster.is_below(0.2) && !faster.is_below(0.35), "{faster:?}");
        assert_eq!(Estimate::of_change(&[1.0], &before, 3).expect("values").interval, None, "seen once");
        assert_eq!((Estimate::of_change(&[], &before, 3), Estimate::of_change(&before, &[0.0], 3)), (None, None));
    }

    #[test]
    fn what_was_seen_once_proves_nothing() {
        assert!(!Estimate::of_ratio(&[50.0], &[1.0], 1).expect("a pair").is_beyond(SMALLEST_EFFECT));
        assert_eq!(Estimate::of_ratio(&[50.0], &[0.0], 1), None);
    }

    #[test]
    fn the_margin_is_the_noise_but_never_below_the_smallest_effect() {
        assert_eq!((margin(&[]), margin(&[1.01, 0.99])), (SMALLEST_EFFECT, SMALLEST_EFFECT));
        assert!((margin(&[1.25]) - 0.25).abs() < 1e-9);
        // A twin that looks faster is as much noise as one that looks slower.
        assert!((margin(&[1.0 / 1.25]) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_line_needs_two_places() {
        assert_eq!(log_log_slope(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(log_log_slope(&[(0.0, 1.0), (-1.0, 2.0), (3.0, 1.0)]), None);
        assert_eq!(log_log_slope(&[]), None);
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_the_values_and_is_repeatable(
            values in prop::collection::vec(0.1f64..1e9, 2..12),
            seed: u64,
        ) {
            let estimate = Estimate::of(&values, seed).expect("values");
            let interval = estimate.interval.expect("two or more");
            let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = values.iter().copied().fold(0.0, f64::max);
            prop_assert!(lowest <= interval.low && interval.low <= interval.high && interval.high <= highest);
            prop_assert!(lowest <= estimate.value && estimate.value <= highest);
            prop_assert_eq!(Estimate::of(&values, seed), Some(estimate));
        }

        #[test]
        fn a_power_law_has_its_exponent_as_slope(exponent in -2.0f64..2.0, factor in 0.1f64..1e4) {
            let points = [100.0f64, 1_000.0, 3_000.0, 9_000.0].map(|x| (x, factor * x.powf(exponent)));
            prop_assert!((log_log_slope(&points).expect("four points") - exponent).abs() < 1e-6);
        }

        #[test]
        fn pooling_does_not_depend_on_how_samples_were_split(
            samples in prop::collection::vec((1u64..1_000, 1u64..500), 1..40),
            at in 0.0f64..1.0,
            split in 0usize..40,
        ) {
            let (mut together, mut apart) = (Pool::default(), Pool::default());
            together.add(&samples);
            let split = split.min(samples.len());
            apart.add(&samples[split..]);
            apart.add(&samples[..split]);
            prop_assert_eq!(together.percentile(at), apart.percentile(at));
            prop_assert!(together.percentile(at / 2.0) <= together.percentile(at) || together.percentile(at).is_none());
        }
    }
}
