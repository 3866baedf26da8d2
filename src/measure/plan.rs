//! What is measured, in which order, and what is left out when the budget is too small.

use std::time::Duration;

use fastrand::Rng;
use pollmark_backends::Registry;

use crate::mechanism::Mechanism;

/// One row of the comparison: a mechanism, or a mechanism again as the control.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    mechanism: Mechanism,
    control: bool,
}

impl Subject {
    /// A mechanism to be compared.
    pub const fn new(mechanism: Mechanism) -> Subject {
        Subject { mechanism, control: false }
    }

    /// The same mechanism under a second label: what it differs by from itself is noise.
    #[must_use]
    pub fn again(&self) -> Subject {
        Subject { mechanism: self.mechanism.clone(), control: true }
    }

    /// The label of the row.
    pub fn label(&self) -> String {
        match self.control {
            false => self.mechanism.name().to_owned(),
            true => format!("{} (A/A)", self.mechanism),
        }
    }

    /// What it waits by.
    pub const fn mechanism(&self) -> &Mechanism {
        &self.mechanism
    }

    /// Whether it is the control.
    pub const fn is_control(&self) -> bool {
        self.control
    }
}

/// One visit to be made: a fresh server and a fresh load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Visit {
    /// Which subject of the plan.
    pub(super) subject: usize,
    pub(super) idle: usize,
    /// The active sizes, in the order they are measured in.
    pub(super) active: Vec<usize>,
}

/// The grid, and how long each part of it takes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) subjects: Vec<Subject>,
    pub(super) idle: Vec<usize>,
    pub(super) active: Vec<usize>,
    cell: Duration,
    /// What rounds take here, as a multiple of what was expected.
    pace: f64,
}

impl Plan {
    pub(super) fn new(
        subjects: Vec<Subject>,
        idle: Vec<usize>,
        active: Vec<usize>,
        warm_up: Duration,
        interval: Duration,
    ) -> Plan {
        Plan { subjects, idle, active, cell: warm_up + interval + CELL, pace: 1.0 }
    }

    /// One round: every subject with every idle population, in an order of its own.
    pub(super) fn round(&self, rng: &mut Rng) -> Vec<Visit> {
        let mut visits = Vec::new();
        for subject in 0..self.subjects.len() {
            for &idle in &self.idle {
                let mut active = self.active.clone();
                rng.shuffle(&mut active);
                visits.push(Visit { subject, idle, active });
            }
        }
        rng.shuffle(&mut visits);
        visits
    }

    /// How long a round takes, as far as can be told.
    pub(super) fn round_time(&self) -> Duration {
        self.idle.iter().map(|&idle| self.visit_time(idle)).sum::<Duration>() * self.subjects.len() as u32
    }

    /// How long these visits take.
    pub(super) fn time(&self, visits: &[Visit]) -> Duration {
        visits.iter().map(|visit| self.visit_time(visit.idle)).sum()
    }

    fn visit_time(&self, idle: usize) -> Duration {
        let expected = VISIT + CONNECTION * idle as u32 + self.cell * self.active.len() as u32;
        expected.mul_f64(self.pace)
    }

    /// Learns from what a round took.
    pub(super) fn learn(&mut self, round: Duration) {
        let expected = self.round_time().as_secs_f64() / self.pace;
        self.pace = (round.as_secs_f64() / expected).clamp(0.1, 100.0);
    }

    /// Takes out idle sizes until `rounds` rounds fit into `budget`, and returns them. Rounds are never given up: a
    /// difference seen once is not a difference. The smallest and the largest size stay, for the ends tell most.
    pub(super) fn fit(&mut self, rounds: usize, budget: Duration) -> Vec<usize> {
        let mut dropped = Vec::new();
        while self.idle.len() > 2 && self.round_time() * rounds as u32 > budget {
            dropped.push(self.idle.remove(1));
        }
        dropped
    }
}

// What a visit costs besides measuring, as seen on two cores: two processes, a connection opened and proven, a cell
// opened, verified and closed.
const VISIT: Duration = Duration::from_millis(80);
const CONNECTION: Duration = Duration::from_micros(90);
const CELL: Duration = Duration::from_millis(15);

/// The common form of each mechanism, or with `variants` every one; available or not.
pub(super) fn subjects(registry: &Registry, variants: bool) -> Vec<Subject> {
    let all = Mechanism::all(registry).into_iter();
    all.filter(|mechanism| variants || mechanism.is_common()).map(Subject::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let subjects = subjects(&Registry::builtin(), false);
        let (warm_up, interval) = (Duration::from_millis(30), Duration::from_millis(150));
        Plan::new(subjects, vec![0, 100, 1_000, 5_000], vec![1, 10, 100], warm_up, interval)
    }

    #[test]
    fn a_round_visits_everything_once_and_the_seed_decides_the_order() {
        let plan = plan();
        let round = plan.round(&mut Rng::with_seed(7));
        assert_eq!(round, plan.round(&mut Rng::with_seed(7)));
        assert_ne!(round, plan.round(&mut Rng::with_seed(8)));
        let mut cells: Vec<_> = round.iter().map(|visit| (visit.subject, visit.idle)).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), plan.subjects.len() * plan.idle.len());
        for visit in round {
            let mut active = visit.active;
            active.sort_unstable();
            assert_eq!(active, plan.active);
        }
    }

    #[test]
    fn idle_sizes_are_dropped_rather_than_rounds_and_the_ends_stay() {
        let mut plan = plan();
        let full = plan.round_time() * 3;
        assert!(plan.fit(3, full).is_empty());
        assert_eq!(plan.fit(3, full - Duration::from_millis(1)), [100]);
        assert_eq!(plan.fit(3, Duration::ZERO), [1_000]);
        assert_eq!(plan.idle, [0, 5_000]);
    }

    #[test]
    fn the_first_round_teaches_how_long_the_next_will_take() {
        let mut plan = plan();
        let twice = plan.round_time() * 2;
        plan.learn(twice);
        assert!(plan.round_time().abs_diff(twice) < Duration::from_millis(1));
        plan.learn(twice);
        assert!(plan.round_time().abs_diff(twice) < Duration::from_millis(1), "learnt once, not squared");
    }
}
