//! Where the CPU time of a stretch of calls went: the wall clock shares out what the kernel has accounted.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::calibration::{Call, Spent};
use crate::{measure::stats, usage};

/// A stretch that had less than this part of its CPU was disturbed.
const UNDISTURBED: f64 = 0.95;
/// Looks at the clock, to find out what one costs.
const LOOKS: u32 = 4_096;

/// What the calls of a stretch took by the wall clock.
#[derive(Default)]
pub(super) struct Meter {
    took: BTreeMap<Call, (u64, Duration)>,
}

impl Meter {
    /// A call that began then has ended now. Returns what time that is: the next begins.
    pub(super) fn took(&mut self, call: Call, began: Instant) -> Instant {
        self.took_all(call, 1, began)
    }

    /// As above, for several of a kind.
    pub(super) fn took_all(&mut self, call: Call, times: u64, began: Instant) -> Instant {
        let now = Instant::now();
        let (all, wall) = self.took.entry(call).or_default();
        (*all, *wall) = (*all + times, *wall + (now - began));
        now
    }
}

/// What calls took, of as many stretches as there is time for.
pub(super) struct Stretches {
    /// What a look at the clock costs.
    look: Duration,
    until: Instant,
    quiet: BTreeMap<Call, Spent>,
    disturbed: BTreeMap<Call, Spent>,
}

impl Stretches {
    /// For so long, and at least one.
    pub(super) fn new(span: Duration, look: Duration) -> Stretches {
        Stretches { look, until: Instant::now() + span, quiet: BTreeMap::new(), disturbed: BTreeMap::new() }
    }

    /// Whether there is time for another, or there has been none.
    pub(super) fn go_on(&self) -> bool {
        Instant::now() < self.until || self.quiet.is_empty() && self.disturbed.is_empty()
    }

    /// Makes one.
    pub(super) fn make(&mut self, work: impl FnOnce(&mut Meter) -> io::Result<()>) -> io::Result<()> {
        let mut meter = Meter::default();
        let before = cpu_time()?;
        let began = Instant::now();
        work(&mut meter)?;
        let wall = began.elapsed();
        let had = (cpu_time()?.saturating_sub(before)).as_secs_f64() / wall.as_secs_f64().max(f64::MIN_POSITIVE);
        let into = if had >= UNDISTURBED { &mut self.quiet } else { &mut self.disturbed };
        for (call, (times, wall)) in meter.took {
            let spent = into.entry(call).or_default();
            spent.times += times;
            spent.cpu_ns += wall.saturating_sub(self.look).mul_f64(had.min(1.0)).as_nanos() as u64;
        }
        Ok(())
    }

    /// What they took: those nobody has disturbed, if there are any.
    pub(super) fn end(self) -> BTreeMap<Call, Spent> {
        if self.quiet.is_empty() { self.disturbed } else { self.quiet }
    }
}

/// CPU time of this process.
pub(super) fn cpu_time() -> io::Result<Duration> {
    usage::cpu_time().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "this system tells no CPU time"))
}

/// What a look at the clock costs.
pub(super) fn a_look() -> Duration {
    let began = Instant::now();
    let mut last = began;
    for _ in 1..LOOKS {
        last = std::hint::black_box(Instant::now());
    }
    (last - began) / LOOKS
}

/// What calls took together, each of which the wall clock has seen: that half of them which is neither very long nor
/// very short tells of all. Somebody else may have had the CPU in one of the long ones.
pub(super) fn typical(took: &[Duration], look: Duration) -> Spent {
    let nanos = took.iter().map(|one| one.saturating_sub(look).as_nanos() as f64).collect::<Vec<_>>();
    let ends = stats::quantile(&nanos, 0.25).zip(stats::quantile(&nanos, 0.75));
    let Some((low, high)) = ends else { return Spent::default() };
    let middle = nanos.iter().copied().filter(|one| (low..=high).contains(one)).collect::<Vec<_>>();
    let mean = middle.iter().sum::<f64>() / middle.len().max(1) as f64;
    Spent { times: took.len() as u64, cpu_ns: (mean * took.len() as f64) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_that_somebody_interrupted_does_not_tell_of_the_others() {
        let mut took = vec![Duration::from_nanos(1_030); 99];
        took.push(Duration::from_millis(4));
        let look = Duration::from_nanos(30);
        assert_eq!(typical(&took, look), Spent { times: 100, cpu_ns: 100_000 });
        assert_eq!(typical(&[], look), Spent::default());
    }

    #[test]
    fn every_call_of_a_stretch_is_in_the_books_once() {
        let mut stretches = Stretches::new(Duration::ZERO, Duration::ZERO);
        assert!(stretches.go_on(), "at least one");
        let work = |meter: &mut Meter| {
            let at = meter.took(Call::Wait, Instant::now());
            meter.took_all(Call::Close, 7, at);
            Ok(())
        };
        stretches.make(work).expect("a CPU clock");
        assert!(!stretches.go_on());
        let times = stretches.end().into_iter().map(|(call, spent)| (call, spent.times)).collect::<Vec<_>>();
        assert_eq!(times, [(Call::Wait, 1), (Call::Close, 7)]);
    }
}
