//! Medians, intervals, slopes, and when two results cannot be told apart.
//!
//! Times on a shared machine have heavy tails, so everything stands on medians, and everything compared is compared
//! within a round: the two were measured moments apart, and what slowed one slowed the other.

use fastrand::Rng;

/// How much slower is worth telling at all, however sure one is.
pub const SMALLEST_EFFECT: f64 = 0.05;

/// Resamples behind an interval: enough for its ends to be steady to the second digit.
const RESAMPLES: usize = 1_000;

/// From where to where a value may reasonably lie.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A value and, from two repeats on, its 95 % interval.
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

    /// Whether a ratio shows a difference worth telling: its whole interval lies beyond 1 + `margin`. A ratio seen
    /// only once never does.
    pub fn is_beyond(&self, margin: f64) -> bool {
        self.interval.is_some_and(|interval| interval.low > 1.0 + margin)
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

/// The 95 % interval of the median, by resampling the repeats. One repeat has none.
///
/// With three repeats it is simply the lowest to the highest, which is as much as three can say.
fn bootstrap(values: &[f64], seed: u64) -> Option<Interval> {
    if values.len() < 2 {
        return None;
    }
    let mut rng = Rng::with_seed(seed);
    let mut drawn = vec![0.0; values.len()];
    let mut resample = |_| {
        drawn.fill_with(|| values[rng.usize(..values.len())]);
        middle(&mut drawn)
    };
    let medians = (0..RESAMPLES).map(&mut resample).collect::<Vec<_>>();
    Some(Interval { low: quantile(&medians, 0.025)?, high: quantile(&medians, 0.975)? })
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
}

impl Pool {
    /// Adds a histogram: upper ends of buckets in nanoseconds, and how many samples fell into each.
    pub fn add(&mut self, histogram: &[(u64, u64)]) {
        for (upper_ns, count) in histogram {
            *self.buckets.entry(*upper_ns).or_default() += count;
            self.samples += count;
        }
    }

    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The latency that the share `at` of the samples does not exceed, in nanoseconds, to the width of a bucket.
    ///
    /// `None` with fewer than ten samples beyond it: a p99 needs 1,000, a p99.9 needs 10,000.
    pub fn percentile(&self, at: f64) -> Option<u64> {
        // Not quite ten, because 1 - 0.999 is not quite a thousandth.
        if (1.0 - at) * (self.samples as f64) < 10.0 - 1e-6 {
            return None;
        }
        let wanted = (at * self.samples as f64).ceil() as u64;
        let mut seen = 0;
        self.buckets.iter().find_map(|(upper_ns, count)| {
            seen += count;
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
    fn noise_that_hits_both_of_a_pair_does_not_hide_a_difference() {
        let baseline = [10.0, 30.0, 12.0, 11.0, 25.0];
        let subject = baseline.map(|value| value * 1.3);
        let ratio = Estimate::of_ratio(&subject, &baseline, 1).expect("five pairs");
        assert!((ratio.value - 1.3).abs() < 1e-9 && ratio.is_beyond(0.2) && !ratio.is_beyond(0.31), "{ratio:?}");
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
