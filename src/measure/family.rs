//! Many comparisons at once: how sure one may be of each, by how all of them scatter and by how many there are.
//!
//! Two things make a table of comparisons say more than was seen. With few rounds, the scatter of one comparison is
//! itself mostly chance: some pairs will agree by luck, and seem sure. And of a hundred comparisons of equals, each sure
//! to 95 %, five find something. So (a) the scatter of each is drawn towards that of others, by as much as they are
//! alike, which Smyth's moderated t statistic does ("Linear models and empirical Bayes methods for assessing differential
//! expression in microarray experiments", 2004: thousands of comparisons, three repeats each); and (b) Holm's correction
//! ("A simple sequentially rejective multiple test procedure", 1979) holds the chance of even one false finding in a
//! family of them to [`CHANCE`].

/// How likely it may be that any comparison of a family finds a difference where there is none.
pub(crate) const CHANCE: f64 = 0.05;

/// No scatter is taken for less, as a part of the value: a clock that counts in steps can agree with itself exactly.
const FINEST: f64 = 1e-5;

/// From here on Student's distribution is the normal one for all that is asked of it.
const MOST_FREEDOM: f64 = 10_000.0;

/// One comparison: the logarithms of the ratios of its rounds, in short.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Scatter {
    mean: f64,
    variance: f64,
    /// The variance of the mean is so many times smaller.
    rounds: f64,
    freedom: f64,
}

impl Scatter {
    /// Of the ratio in each round; `None` of fewer than two, which do not scatter.
    pub(crate) fn of(ratios: impl IntoIterator<Item = f64>) -> Option<Scatter> {
        let logs = ratios.into_iter().map(f64::ln).filter(|log| log.is_finite()).collect::<Vec<_>>();
        let rounds = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / rounds;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (rounds - 1.0);
        let freedom = rounds - 1.0;
        (logs.len() > 1).then_some(Scatter { mean, variance: variance.max(FINEST * FINEST), rounds, freedom })
    }

    /// Of what was measured apart, so that no round of the one belongs to one of the other: they are taken to scatter
    /// alike, as Student's t of two samples has it. `None` if either has fewer than two, which do not scatter.
    pub(crate) fn of_change(of: &[f64], to: &[f64]) -> Option<Scatter> {
        let [of, to] = [of, to].map(|values| {
            let logs = values.iter().map(|value| value.ln()).filter(|log| log.is_finite()).collect::<Vec<_>>();
            let rounds = logs.len() as f64;
            let mean = logs.iter().sum::<f64>() / rounds;
            (rounds, mean, logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>())
        });
        let freedom = of.0 + to.0 - 2.0;
        let variance = ((of.2 + to.2) / freedom).max(FINEST * FINEST);
        let (mean, rounds) = (of.1 - to.1, of.0 * to.0 / (of.0 + to.0));
        (of.0.min(to.0) > 1.0).then_some(Scatter { mean, variance, rounds, freedom })
    }
}

/// Comparisons that are judged together.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    prior: Prior,
    /// As the comparisons were given: the chance to see as much between equals, and its place among all, from 0.
    members: Vec<(f64, usize)>,
    /// The same chances, ascending.
    chances: Vec<f64>,
    /// So many of the smallest are findings.
    found: usize,
    /// For each finding by its place: how many of the others would be findings all the same, were it none.
    others: Vec<usize>,
}

impl Family {
    /// Judges them, with what is known beforehand of how much they scatter.
    pub(crate) fn of(prior: Prior, comparisons: &[Scatter]) -> Family {
        let each = comparisons.iter().map(|one| prior.chance(*one)).collect::<Vec<_>>();
        let mut order = (0..each.len()).collect::<Vec<_>>();
        order.sort_by(|a, b| each[*a].total_cmp(&each[*b]));
        let mut members = each.iter().map(|chance| (*chance, 0)).collect::<Vec<_>>();
        order.iter().enumerate().for_each(|(place, &member)| members[member].1 = place);
        let chances = order.iter().map(|&member| each[member]).collect::<Vec<_>>();
        let all = chances.len();
        let found = chances.iter().enumerate().take_while(|(place, chance)| **chance <= level(all, *place)).count();
        // Without one finding, each that follows has to pass one step earlier, where the bound is lower.
        let mut others = vec![0; found];
        let mut fails = found;
        for place in (0..found).rev() {
            others[place] = fails - 1;
            if place > 0 && chances[place] > level(all, place - 1) {
                fails = place;
            }
        }
        Family { prior, members, chances, found, others }
    }

    /// How many comparisons there are.
    pub(crate) fn size(&self) -> usize {
        self.chances.len()
    }

    /// How many of them found a difference.
    pub(crate) fn found(&self) -> usize {
        self.found
    }

    /// Whether this one did, in the order in which they were given.
    pub(crate) fn tells(&self, at: usize) -> bool {
        self.members[at].1 < self.found
    }

    /// How likely equals are to look as different as this one, were it the only comparison.
    pub(crate) fn chance(&self, at: usize) -> f64 {
        self.members[at].0
    }

    /// Whether one that is none of them would find a difference if it were.
    pub(crate) fn would_tell(&self, other: Scatter) -> bool {
        self.prior.chance(other) <= level(self.size() + 1, self.found)
    }

    /// By what factor every ratio of a comparison would have to be larger for the first of it to be just sure to be above
    /// 1, all others being what they are. `at` is its place in the order given; without, it is none of the family.
    pub(crate) fn short_by(&self, at: Option<usize>, one: Scatter) -> f64 {
        let bound = match at.map(|at| self.members[at].1) {
            Some(place) if place < self.found => level(self.size(), self.others[place]),
            Some(_) => level(self.size(), self.found),
            None => level(self.size() + 1, self.found),
        };
        (critical(bound, self.prior.freedom(one)) * self.prior.error(one) - one.mean).exp()
    }
}

/// Holm's bound for a chance that so many smaller ones stand before.
fn level(all: usize, before: usize) -> f64 {
    CHANCE / all.saturating_sub(before).max(1) as f64
}

/// What many comparisons say of the scatter of any: the variance they share, and as how many rounds that counts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Prior {
    variance: f64,
    freedom: f64,
}

impl Prior {
    const NONE: Prior = Prior { variance: 0.0, freedom: 0.0 };

    /// From how much the variances themselves differ: no more than their few rounds explain, and all are one; far more,
    /// and none says anything of another.
    pub(crate) fn of(comparisons: &[Scatter]) -> Prior {
        let count = comparisons.len() as f64;
        if comparisons.len() < 2 {
            return Prior::NONE;
        }
        let centred = |one: &Scatter| {
            let half = one.freedom / 2.0;
            one.variance.ln() - digamma(half) + half.ln()
        };
        let mean = comparisons.iter().map(centred).sum::<f64>() / count;
        let spread = comparisons.iter().map(|one| (centred(one) - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let explained = comparisons.iter().map(|one| trigamma(one.freedom / 2.0)).sum::<f64>() / count;
        let half = trigamma_inverse(spread - explained).min(MOST_FREEDOM / 2.0);
        Prior { variance: (mean + digamma(half) - half.ln()).exp(), freedom: 2.0 * half }
    }

    fn freedom(self, one: Scatter) -> f64 {
        (self.freedom + one.freedom).min(MOST_FREEDOM)
    }

    /// The standard error of the mean of the logarithms.
    fn error(self, one: Scatter) -> f64 {
        let together = self.freedom * self.variance + one.freedom * one.variance;
        (together / (self.freedom + one.freedom) / one.rounds).sqrt()
    }

    /// How likely equals are to look as different as these, in either direction.
    fn chance(self, one: Scatter) -> f64 {
        student(one.mean.abs() / self.error(one), self.freedom(one))
    }
}

/// How likely Student's t is to lie beyond `t`, on either side.
fn student(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// The t beyond which it lies, on either side, with this chance.
pub(super) fn critical(chance: f64, freedom: f64) -> f64 {
    // On a logarithmic scale: with one degree of freedom a small chance is millions away.
    let (mut low, mut high) = (-20.0_f64, 60.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if student(middle.exp(), freedom) > chance { low = middle } else { high = middle }
    }
    high.exp()
}

/// The regularised incomplete beta function, by its continued fraction.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // It converges fast on this side only; the other is its mirror image.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    let nonzero = |value: f64| if value.abs() < f64::MIN_POSITIVE { f64::MIN_POSITIVE } else { value };
    let (mut c, mut d) = (1.0, 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / nonzero(1.0 + term * d);
            c = nonzero(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() < 1e-14 * fraction.abs() {
            break;
        }
    }
    (front.exp() * fraction / a).clamp(0.0, 1.0)
}

/// The logarithm of the gamma function of what is above 0: Stirling's series, where it is exact to the last digits.
fn ln_gamma(x: f64) -> f64 {
    let (x, below) = above_ten(x, |x| x.ln());
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1_260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - below
}

/// Its first derivative.
fn digamma(x: f64) -> f64 {
    let (x, below) = above_ten(x, |x| 1.0 / x);
    let series = 1.0 / (12.0 * x.powi(2)) - 1.0 / (120.0 * x.powi(4)) + 1.0 / (252.0 * x.powi(6));
    x.ln() - 0.5 / x - series - below
}

/// Its second derivative.
fn trigamma(x: f64) -> f64 {
    let (x, below) = above_ten(x, |x| 1.0 / (x * x));
    let series = 1.0 / (6.0 * x.powi(3)) - 1.0 / (30.0 * x.powi(5)) + 1.0 / (42.0 * x.powi(7));
    1.0 / x + 0.5 / x.powi(2) + series + below
}

/// Where [`trigamma`], which falls, has this value; infinite where it never falls so low.
fn trigamma_inverse(value: f64) -> f64 {
    if value <= 0.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (-20.0_f64, 20.0_f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if trigamma(middle.exp()) > value { low = middle } else { high = middle }
    }
    high.exp()
}

/// The first of x, x + 1, … that is above ten, and the sum of `term` over those before it.
fn above_ten(mut x: f64, term: fn(f64) -> f64) -> (f64, f64) {
    let mut sum = 0.0;
    while x < 10.0 {
        sum += term(x);
        x += 1.0;
    }
    (x, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use proptest::prelude::*;

    /// The sum of twelve uniform numbers is as good as normal.
    fn normal(rng: &mut Rng) -> f64 {
        (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
    }

    /// Judged by what they say themselves of how they scatter.
    fn family(comparisons: &[Scatter]) -> Family {
        Family::of(Prior::of(comparisons), comparisons)
    }

    /// So many comparisons that differ by a factor, over so many rounds, each with a scatter of its own.
    fn made(rng: &mut Rng, count: usize, rounds: usize, factor: f64) -> Vec<Scatter> {
        let one = |rng: &mut Rng| {
            let scatter = 0.03 * (0.7 * normal(rng)).exp();
            Scatter::of((0..rounds).map(|_| factor * (scatter * normal(rng)).exp()).collect::<Vec<_>>())
        };
        (0..count).map(|_| one(rng).expect("rounds")).collect()
    }

    #[test]
    fn students_distribution_is_that_of_the_tables() {
        for (freedom, t) in [(1.0, 12.706), (2.0, 4.303), (5.0, 2.571), (30.0, 2.042), (10_000.0, 1.960)] {
            assert!((student(t, freedom) - 0.05).abs() < 1e-4, "{freedom}: {}", student(t, freedom));
            assert!((critical(0.05, freedom) - t).abs() < 1e-3, "{freedom}: {}", critical(0.05, freedom));
        }
        // With one degree of freedom it is Cauchy's: 2/π · arctan(1/t).
        assert!((student(1e6, 1.0) / (2e-6 / std::f64::consts::PI) - 1.0).abs() < 1e-6);
        assert!((critical(1e-9, 1.0) * 1e-9 * std::f64::consts::PI / 2.0 - 1.0).abs() < 1e-6);
        assert_eq!((student(0.0, 3.0), student(f64::INFINITY, 3.0)), (1.0, 0.0));
    }

    #[test]
    fn the_gamma_functions_are_those_of_the_tables() {
        assert!((ln_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-9 && ln_gamma(1.0).abs() < 1e-9);
        assert!((digamma(1.0) + 0.577_215_664_901_5).abs() < 1e-9);
        assert!((trigamma(1.0) - std::f64::consts::PI.powi(2) / 6.0).abs() < 1e-9);
        assert!((trigamma_inverse(trigamma(0.6)) - 0.6).abs() < 1e-9 && trigamma_inverse(-1.0).is_infinite());
    }

    #[test]
    fn the_scatter_of_all_is_found_where_they_share_it_and_where_they_do_not() {
        let mut rng = Rng::with_seed(5);
        let alike = (0..400).map(|_| Scatter::of((0..4).map(|_| (0.02 * normal(&mut rng)).exp()).collect::<Vec<_>>()));
        let alike = Prior::of(&alike.map(|one| one.expect("rounds")).collect::<Vec<_>>());
        assert!(alike.freedom > 20.0 && (alike.variance.sqrt() / 0.02 - 1.0).abs() < 0.1, "{alike:?}");
        let apart = Prior::of(&made(&mut rng, 400, 4, 1.0));
        assert!(apart.freedom < 8.0 && (0.5..2.0).contains(&(apart.variance.sqrt() / 0.03)), "{apart:?}");
    }

    #[test]
    fn of_many_families_of_equals_few_find_anything_and_without_the_correction_nearly_all_would() {
        let mut rng = Rng::with_seed(7);
        let (mut corrected, mut naive) = (0, 0);
        for _ in 0..400 {
            let judged = family(&made(&mut rng, 60, 4, 1.0));
            corrected += usize::from(judged.found() > 0);
            naive += usize::from(judged.chances[0] < CHANCE);
        }
        assert!(corrected <= 32, "5 % of 400 are 20: {corrected}");
        assert!(naive > 350, "{naive}");
    }

    #[test]
    fn what_differs_is_found_beside_what_does_not() {
        let mut rng = Rng::with_seed(9);
        let comparisons = [made(&mut rng, 30, 4, 1.0), made(&mut rng, 30, 4, 3.0)].concat();
        let judged = family(&comparisons);
        assert_eq!((judged.size(), judged.found()), (60, 30));
        assert!((0..30).all(|at| !judged.tells(at)) && (30..60).all(|at| judged.tells(at)));
        assert!(judged.would_tell(comparisons[40]) && !judged.would_tell(comparisons[3]));
    }

    #[test]
    fn what_was_measured_apart_is_compared_as_students_two_samples_are() {
        let logs = |values: &[f64]| values.iter().map(|log: &f64| log.exp()).collect::<Vec<_>>();
        let (of, to) = (logs(&[0.3, 0.5, 0.1]), logs(&[0.0, 0.2]));
        let one = Scatter::of_change(&of, &to).expect("rounds");
        // Means 0.3 and 0.1; squares 0.08 and 0.02 with 3 degrees of freedom; 3 · 2 / 5 rounds.
        let wanted = [0.2, 0.1 / 3.0, 1.2, 3.0];
        let found = [one.mean, one.variance, one.rounds, one.freedom];
        assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 1e-12), "{one:?}");
        assert!((Prior::NONE.chance(one) - student(0.2 / (0.1_f64 / 3.6).sqrt(), 3.0)).abs() < 1e-12);
        assert_eq!((Scatter::of_change(&of, &to[..1]), Scatter::of_change(&[], &to)), (None, None));
        assert_eq!(Scatter::of_change(&of, &of).expect("rounds").mean, 0.0);
    }

    #[test]
    fn one_round_and_no_comparison_say_nothing() {
        assert_eq!((Scatter::of([2.0]), Scatter::of([0.0, 2.0])), (None, None));
        let empty = family(&[]);
        assert_eq!((empty.size(), empty.found()), (0, 0));
        assert!(empty.would_tell(Scatter::of([2.0, 2.0]).expect("two rounds")), "alone it has to be sure to 95 %");
        assert!(!empty.would_tell(Scatter::of([1.0, 1.0]).expect("two rounds")));
        assert!(!empty.would_tell(Scatter::of([1.1, 1.3]).expect("two rounds")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_comparison_a_little_larger_than_the_smallest_effect_is_a_finding_and_a_little_smaller_is_none(
            seed: u64,
            rounds in 2usize..12,
            equals in 0usize..20,
            others in 0usize..20,
        ) {
            let mut rng = Rng::with_seed(seed);
            let factor = 1.0 + rng.f64();
            let mut all = [made(&mut rng, equals + 1, rounds, 1.0), made(&mut rng, others, rounds, factor)].concat();
            let at = rng.usize(..all.len());
            let short = family(&all).short_by(Some(at), all[at]).ln();
            let (given, outside) = (all[at], all.split_off(all.len() - 1)[0]);
            if at < all.len() {
                let tells = |more: f64| {
                    let mut all = all.clone();
                    all[at].mean = given.mean + more;
                    all.push(outside);
                    family(&all).tells(at)
                };
                prop_assert!(tells(short + 1e-6) && !tells(short - 1e-6), "{short}");
            }
            let judged = family(&all);
            let short = judged.short_by(None, outside).ln();
            let moved = |more: f64| Scatter { mean: outside.mean + more, ..outside };
            prop_assert!(judged.would_tell(moved(short + 1e-6)) && !judged.would_tell(moved(short - 1e-6)), "{short}");
        }
    }
}
