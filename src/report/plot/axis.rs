//! An axis: where a value stands on it, and which values are written beside it.

use super::super::format::three_digits;

/// A logarithmic axis, with a place of its own for 0 where a value is 0; or a linear one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) linear: bool,
    zero: bool,
    /// The least and the greatest value; on a logarithmic axis, the logarithms of the positive ones.
    least: f64,
    most: f64,
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Axis {
    /// A logarithmic one; `None` without a value that can be drawn.
    pub(super) fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Axis> {
        let values = values.filter(|value| value.is_finite() && *value >= 0.0).collect::<Vec<_>>();
        let positive = || values.iter().copied().filter(|value| *value > 0.0).map(f64::log10);
        let zero = values.contains(&0.0);
        let (least, most) = match positive().next() {
            Some(_) => (positive().fold(f64::INFINITY, f64::min), positive().fold(f64::NEG_INFINITY, f64::max)),
            None if zero => (0.0, 0.0),
            None => return None,
        };
        // At least a factor of two and a half, so that noise does not look like a slope.
        let lacking = (0.4 - (most - least)).max(0.0) / 2.0;
        Some(Axis { linear: false, zero, least: least - lacking, most: most + lacking, from, to })
    }

    /// A linear one, of places in an order; `None` as above.
    pub(super) fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Option<Axis> {
        let values = values.filter(|value| value.is_finite()).collect::<Vec<_>>();
        let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        Some(Axis { linear: true, zero: false, least, most: most.max(least + 1.0), from, to })
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        if self.linear {
            return self.from + (value - self.least) / (self.most - self.least) * (self.to - self.from);
        }
        // Zero stands an eighth of the axis before the rest.
        let begin = if self.zero { self.from + (self.to - self.from) / 8.0 } else { self.from };
        if value <= 0.0 {
            return self.from;
        }
        begin + (value.log10() - self.least) / (self.most - self.least) * (self.to - begin)
    }

    /// Round numbers within the axis: 1, 2 and 5 times powers of ten, or powers alone where these are enough.
    pub(super) fn ticks(&self, enough: usize) -> Vec<f64> {
        if self.linear {
            return self.steps(enough);
        }
        let within = |tick: &f64| (self.least - 1e-9..=self.most + 1e-9).contains(&tick.log10());
        let decades = self.least.floor() as i32..=self.most.ceil() as i32;
        let round = |steps: &[f64]| {
            let all = decades.clone().flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
            all.filter(within).collect::<Vec<_>>()
        };
        let mut ticks = round(&[1.0]);
        for finer in [&[1.0, 3.0][..], &[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]] {
            if ticks.len() * 2 > enough {
                break;
            }
            ticks = round(finer);
        }
        if self.zero {
            ticks.insert(0, 0.0);
        }
        ticks
    }

    fn steps(&self, enough: usize) -> Vec<f64> {
        let step = step((self.most - self.least) / enough as f64);
        let first = (self.least / step).ceil() as i64;
        (first..).map(|at| at as f64 * step).take_while(|tick| *tick <= self.most).take(enough + 2).collect()
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below this.
pub(super) fn step(at_least: f64) -> f64 {
    let decade = 10f64.powf(at_least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step >= at_least).unwrap_or(decade)
}

/// `0.5`, `20`, `1,500`, `300k`: the numbers on an axis are round ones.
pub(super) fn label(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        large if large >= 9_999.5e6 => format!("{large:.0e}"),
        large if large >= 9_999.5e3 => format!("{}M", label((large / 1e6).round())),
        large if large >= 9_999.5 => format!("{}k", label((large / 1_000.0).round())),
        small if small < 0.000_95 => format!("{small:.0e}"),
        small if small < 9.95 => {
            let text = format!("{small:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => three_digits(other.round()).trim_end_matches(".0").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(values: &[f64]) -> Axis {
        Axis::over(values.iter().copied(), 0.0, 800.0).expect("values")
    }

    #[test]
    fn equal_factors_are_equal_distances_and_zero_stands_apart() {
        let axis = axis(&[0.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(axis.place(0.0), 0.0);
        let places = [10.0, 100.0, 1_000.0].map(|value| axis.place(value).round());
        assert_eq!(places, [100.0, 450.0, 800.0]);
    }

    #[test]
    fn on_a_linear_axis_equal_steps_are_equal_distances() {
        let axis = Axis::linear([5.0, 25.0].into_iter(), 0.0, 100.0).expect("values");
        assert_eq!([5.0, 10.0, 25.0].map(|value| axis.place(value)), [0.0, 25.0, 100.0]);
        assert_eq!(axis.ticks(4), [5.0, 10.0, 15.0, 20.0, 25.0]);
        assert!(Axis::linear(std::iter::empty(), 0.0, 1.0).is_none());
    }

    #[test]
    fn any_axis_has_ticks_within_it() {
        for values in [&[8.0, 8.1][..], &[0.0], &[5.0], &[1.0, 1e7], &[0.02, 0.09], &[0.0, 9_000.0]] {
            for axis in [axis(values), Axis::linear(values.iter().copied(), 0.0, 800.0).expect("values")] {
                let ticks = axis.ticks(5);
                assert!(!ticks.is_empty() && ticks.len() < 12, "{values:?}: {ticks:?}");
                assert!(ticks.iter().all(|tick| (-0.5..=800.5).contains(&axis.place(*tick))), "{values:?}: {ticks:?}");
            }
        }
        assert!(Axis::over(std::iter::empty(), 0.0, 1.0).is_none());
        assert!(Axis::over([f64::NAN].into_iter(), 0.0, 1.0).is_none());
    }

    #[test]
    fn labels_are_short() {
        let cases = [
            (0.0, "0"),
            (0.000_1, "1e-4"),
            (0.5, "0.5"),
            (1.5, "1.5"),
            (20.0, "20"),
            (1_500.0, "1,500"),
            (300_000.0, "300k"),
            (20_000_000.0, "20M"),
            (1.8e19, "2e19"),
        ];
        for (number, text) in cases {
            assert_eq!(label(number), text);
        }
    }
}
