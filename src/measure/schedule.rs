//! How many rounds: at least three, and as many more as fit into the budget whole.

use std::time::{Duration, Instant};

use super::plan::Plan;

/// Fewer repeats than this say nothing about noise.
pub(super) const FEWEST_ROUNDS: usize = 3;

/// What has been spent, and what may be.
pub(super) struct Schedule {
    pub(super) budget: Duration,
    /// So many rounds were asked for, whatever they take.
    pub(super) exactly: Option<usize>,
    /// Idle sizes may be given up to stay within the budget.
    pub(super) may_drop: bool,
    /// Rounds to follow the timed ones: one if instructions can be counted.
    pub(super) extra: usize,
    pub(super) began: Instant,
    pub(super) done: usize,
}

impl Schedule {
    /// Whether to make another timed round. Returns the idle sizes dropped from the plan for it, `None` for no.
    pub(super) fn another(&mut self, plan: &mut Plan) -> Option<Vec<usize>> {
        if let Some(rounds) = self.exactly {
            return (self.done < rounds).then(Vec::new);
        }
        if self.done >= FEWEST_ROUNDS {
            return (plan.round_time() * (1 + self.extra) as u32 <= self.left()).then(Vec::new);
        }
        // By estimate before the first round, by experience after it. Later, dropping would waste what a size has cost.
        let rounds = FEWEST_ROUNDS - self.done + self.extra;
        Some(if self.may_drop && self.done <= 1 { plan.fit(rounds, self.left()) } else { Vec::new() })
    }

    /// How many timed rounds there will be in all, as far as can be told.
    pub(super) fn expected(&self, plan: &Plan) -> usize {
        self.exactly.unwrap_or_else(|| {
            let fit = self.left().as_secs_f64() / plan.round_time().as_secs_f64();
            (self.done + fit as usize).saturating_sub(self.extra).max(FEWEST_ROUNDS).max(self.done)
        })
    }

    fn left(&self) -> Duration {
        self.budget.saturating_sub(self.began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::plan::subjects;
    use crate::measure::record::Load;
    use pollmark_backends::Registry;

    fn plan() -> Plan {
        let load = Load { active: 1, ..Load::default() };
        let (warm_up, interval) = (Duration::from_millis(30), Duration::from_millis(150));
        Plan::new(subjects(&Registry::builtin()), vec![0, 500, 1_000], vec![load], warm_up, interval)
    }

    fn schedule(budget: Duration, exactly: Option<usize>) -> Schedule {
        Schedule { budget, exactly, may_drop: exactly.is_none(), extra: 0, began: Instant::now(), done: 0 }
    }

    /// How many rounds are made, and what is dropped for them.
    fn rounds(mut schedule: Schedule, plan: &mut Plan) -> (usize, Vec<usize>) {
        let mut dropped = Vec::new();
        while let Some(more) = schedule.another(plan).filter(|_| schedule.done < 100) {
            dropped.extend(more);
            schedule.done += 1;
        }
        (schedule.done, dropped)
    }

    #[test]
    fn there_are_three_rounds_however_small_the_budget() {
        let mut plan = plan();
        assert_eq!(rounds(schedule(Duration::ZERO, None), &mut plan), (FEWEST_ROUNDS, vec![500]));
        assert_eq!(plan.idle, [0, 1_000]);
    }

    #[test]
    fn a_machine_that_slows_down_later_costs_time_and_not_sizes() {
        let mut plan = plan();
        let mut schedule = schedule(plan.round_time() * 3 + Duration::from_secs(1), None);
        for slowdown in [1, 1, 9] {
            assert_eq!(schedule.another(&mut plan), Some(vec![]), "nothing is dropped");
            schedule.done += 1;
            plan.learn(plan.round_time() * slowdown);
        }
        assert_eq!(schedule.another(&mut plan), None, "three rounds are enough");
    }

    #[test]
    fn what_was_asked_for_is_done() {
        let mut plan = plan();
        assert_eq!(rounds(schedule(Duration::ZERO, Some(2)), &mut plan), (2, vec![]));
        assert_eq!(plan.idle, [0, 500, 1_000]);
    }

    #[test]
    fn more_rounds_are_expected_where_they_fit() {
        let plan = plan();
        let schedule = schedule(plan.round_time() * 5 + Duration::from_millis(1), None);
        assert_eq!(schedule.expected(&plan), 5);
    }
}
