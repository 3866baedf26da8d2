//! What is measured, in which order, and what is left out when the budget is too small.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use pollmark_backends::Registry;

use super::contestant::Contestant;
use super::record::{CEILING, CONTROL, Load};
use crate::child::Knobs;
use crate::mechanism::Mechanism;
use crate::server::Sharing;
use crate::workload::Transport;

/// One row of the comparison: a mechanism, by one thread or by several and set to this or that, or a mechanism again as the control; or a
/// contestant. Or, beside the rows, the ceiling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    who: Who,
    threads: usize,
    sharing: Sharing,
    knobs: Knobs,
    control: bool,
}

impl Subject {
    /// A mechanism to be compared.
    pub const fn new(mechanism: Mechanism) -> Subject {
        Subject::of(Who::Mechanism(mechanism))
    }

    /// A server that is not ours, to stand beside them.
    pub const fn of_contestant(contestant: Contestant) -> Subject {
        Subject::of(Who::Contestant(contestant))
    }

    const fn of(who: Who) -> Subject {
        Subject { who, threads: 1, sharing: Sharing::ReusePort, knobs: Knobs::NONE, control: false }
    }

    /// The same by so many threads, which share a port in this way.
    #[must_use]
    pub fn by_threads(&self, threads: usize, sharing: Sharing) -> Subject {
        Subject { threads, sharing, ..self.clone() }
    }

    /// The same, set to these.
    pub(super) fn set_to(&self, knobs: Knobs) -> Subject {
        Subject { knobs, ..self.clone() }
    }

    /// The same mechanism under a second label: what it differs by from itself is noise.
    #[must_use]
    pub fn again(&self) -> Subject {
        Subject { control: true, ..self.clone() }
    }

    /// The label of the row.
    pub fn label(&self) -> String {
        let threads = if self.threads > 1 { format!(" ×{} {}", self.threads, self.sharing) } else { String::new() };
        let control = if self.control { CONTROL } else { "" };
        match &self.who {
            Who::Mechanism(mechanism) => format!("{mechanism}{threads}{}{control}", self.knobs),
            Who::Contestant(contestant) => contestant.label(),
            Who::Ceiling => CEILING.to_owned(),
        }
    }

    /// How many threads serve.
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// How they come by their connections.
    pub const fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The same with the deadline left out that it is set to.
    pub(super) fn without_deadline(&self) -> Subject {
        self.set_to(Knobs { idle_deadline: None, ..self.knobs })
    }

    /// What it is set to.
    pub(super) const fn knobs(&self) -> Knobs {
        self.knobs
    }

    /// What it waits by; `None` for a contestant, of which that is not for us to say, and for the ceiling, whose way of
    /// waiting is not compared.
    pub const fn mechanism(&self) -> Option<&Mechanism> {
        match &self.who {
            Who::Mechanism(mechanism) => Some(mechanism),
            Who::Contestant(_) | Who::Ceiling => None,
        }
    }

    /// The server that is not ours, if it is one.
    pub const fn contestant(&self) -> Option<&Contestant> {
        match &self.who {
            Who::Contestant(contestant) => Some(contestant),
            Who::Mechanism(_) | Who::Ceiling => None,
        }
    }

    /// Whether it is the ceiling.
    pub const fn is_ceiling(&self) -> bool {
        matches!(self.who, Who::Ceiling)
    }

    /// Whether it is the control.
    pub const fn is_control(&self) -> bool {
        self.control
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Who {
    Mechanism(Mechanism),
    Contestant(Contestant),
    /// The cheapest server there can be.
    Ceiling,
}

/// One visit to be made: a fresh server and a fresh load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Visit {
    /// Which subject of the plan.
    pub(super) subject: usize,
    pub(super) idle: usize,
    pub(super) transport: Transport,
    /// The loads, in the order they are measured in.
    pub(super) loads: Vec<Load>,
}

/// The grid, and how long each part of it takes.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) subjects: Vec<Subject>,
    /// Not compared with them, and visited as they are: see [`Trial::ceiling`](super::record::Trial::ceiling).
    ceiling: Option<Subject>,
    pub(super) idle: Vec<usize>,
    pub(super) loads: Vec<Load>,
    transports: BTreeSet<Transport>,
    cell: Duration,
    /// Capacities that a visit finds out, each in as long as a cell.
    capacities: u32,
    /// What a round takes before its visits.
    calibration: Duration,
    /// What rounds take here, as a multiple of what was expected.
    pace: f64,
}

impl Plan {
    pub(super) fn new(
        subjects: Vec<Subject>,
        idle: Vec<usize>,
        loads: Vec<Load>,
        warm_up: Duration,
        interval: Duration,
    ) -> Plan {
        let of_open_loops = loads.iter().filter(|load| load.offered.is_some());
        let capacities = of_open_loops.map(|load| (load.traffic, load.active)).collect::<BTreeSet<_>>().len() as u32;
        let transports = loads.iter().map(|load| load.transport).collect();
        let cell = warm_up + interval + CELL;
        let (ceiling, calibration) = (None, Duration::ZERO);
        Plan { subjects, ceiling, idle, loads, transports, cell, capacities, calibration, pace: 1.0 }
    }

    /// With the ceiling, if there is a load that can be held to it.
    pub(super) fn with_ceiling(self) -> Plan {
        let ceiling = self.loads.iter().any(of_the_ceiling).then_some(Subject::of(Who::Ceiling));
        Plan { ceiling, ..self }
    }

    /// With a calibration in each round, which takes so long.
    pub(super) fn with_calibration(self, calibration: Duration) -> Plan {
        Plan { calibration, ..self }
    }

    /// Whom a visit is made to.
    pub(super) fn visited(&self, visit: &Visit) -> &Subject {
        let ceiling = self.ceiling.iter();
        self.subjects.iter().chain(ceiling).nth(visit.subject).expect("a plan makes visits to its own subjects")
    }

    /// One round: every subject with every idle population by every transport, in an order of its own. One that counts
    /// instructions is not held to the ceiling: nothing that it measures is a time.
    pub(super) fn round(&self, counted: bool, rng: &mut Rng) -> Vec<Visit> {
        let mut visits = Vec::new();
        for subject in 0..self.subjects.len() + usize::from(self.ceiling.is_some() && !counted) {
            let of_ceiling = subject == self.subjects.len();
            // Idle connections cost the load nothing, so it can do as much beside any number of them.
            let idle = if of_ceiling { &self.idle[..self.idle.len().min(1)] } else { &self.idle };
            for (&idle, &transport) in idle.iter().flat_map(|idle| self.transports.iter().map(move |by| (idle, by))) {
                let mut loads = self.loads.clone();
                loads.retain(|load| load.transport == transport && (!of_ceiling || of_the_ceiling(load)));
                rng.shuffle(&mut loads);
                visits.push(Visit { subject, idle, transport, loads });
            }
        }
        rng.shuffle(&mut visits);
        visits
    }

    /// How long a round takes, as far as can be told.
    pub(super) fn round_time(&self) -> Duration {
        self.calibration + self.visits_time()
    }

    fn visits_time(&self) -> Duration {
        let subjects =
            self.idle.iter().map(|&idle| self.visit_time(idle)).sum::<Duration>() * self.subjects.len() as u32;
        let ceiling = self.ceiling.as_ref().and(self.idle.first()).map(|&idle| self.visit_time(idle));
        (subjects + ceiling.unwrap_or_default()) * self.transports.len() as u32
    }

    /// How long these visits take.
    pub(super) fn time(&self, visits: &[Visit]) -> Duration {
        visits.iter().map(|visit| self.visit_time(visit.idle)).sum()
    }

    fn visit_time(&self, idle: usize) -> Duration {
        // As many by each transport.
        let cells = (self.loads.len() / self.transports.len().max(1)) as u32 + self.capacities;
        let expected = VISIT + CONNECTION * idle as u32 + self.cell * cells;
        expected.mul_f64(self.pace)
    }

    /// Learns from what a round took.
    pub(super) fn learn(&mut self, round: Duration) {
        let expected = self.visits_time().as_secs_f64() / self.pace;
        let visits = round.saturating_sub(self.calibration);
        self.pace = (visits.as_secs_f64() / expected).clamp(0.1, 100.0);
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

/// Whether a load is held to the ceiling: an open loop is not to do as much as it can, beside a firehose
/// no load does, and a poller alone has none.
fn of_the_ceiling(load: &Load) -> bool {
    load.offered.is_none() && load.exercise.is_none() && load.firehoses == 0
}

// What a visit costs besides measuring, as seen on two cores: two processes, a connection opened and proven, a cell
// opened, verified and closed.
const VISIT: Duration = Duration::from_millis(80);
const CONNECTION: Duration = Duration::from_micros(90);
const CELL: Duration = Duration::from_millis(15);

/// The common form of each mechanism, available or not.
pub(super) fn subjects(registry: &Registry) -> Vec<Subject> {
    Mechanism::all(registry).into_iter().filter(Mechanism::is_common).map(Subject::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Offered;

    fn plan() -> Plan {
        let subjects = subjects(&Registry::builtin());
        let loads = [1, 10, 100].map(|active| Load { active, ..Load::default() }).to_vec();
        let (warm_up, interval) = (Duration::from_millis(30), Duration::from_millis(150));
        Plan::new(subjects, vec![0, 100, 1_000, 5_000], loads, warm_up, interval)
    }

    #[test]
    fn a_round_visits_everything_once_and_the_seed_decides_the_order() {
        let plan = plan();
        let round = plan.round(false, &mut Rng::with_seed(7));
        assert_eq!(round, plan.round(false, &mut Rng::with_seed(7)));
        assert_ne!(round, plan.round(false, &mut Rng::with_seed(8)));
        let mut cells: Vec<_> = round.iter().map(|visit| (visit.subject, visit.idle)).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), plan.subjects.len() * plan.idle.len());
        for visit in round {
            let mut loads = visit.loads;
            loads.sort_unstable();
            assert_eq!(loads, plan.loads);
        }
    }

    #[test]
    fn the_ceiling_is_visited_once_a_round_and_not_by_open_loops_or_to_count_instructions() {
        let plan = plan();
        let before = (plan.round_time(), plan.round(false, &mut Rng::with_seed(7)).len());
        let plan = plan.with_ceiling();
        let round = plan.round(false, &mut Rng::with_seed(7));
        let visits = round.iter().filter(|visit| plan.visited(visit).is_ceiling()).collect::<Vec<_>>();
        assert!(matches!(visits[..], [Visit { idle: 0, loads, .. }] if loads.len() == 3), "{visits:?}");
        assert!(round.len() == before.1 + 1 && plan.round_time() > before.0);
        assert_eq!(plan.round(true, &mut Rng::with_seed(7)).len(), before.1);
        let open = plan.loads.iter().map(|load| Load { offered: Some(Offered::default()), ..*load }).collect();
        let open = Plan::new(plan.subjects, vec![0], open, Duration::ZERO, Duration::ZERO).with_ceiling();
        assert!(open.round(false, &mut Rng::with_seed(7)).iter().all(|visit| !open.visited(visit).is_ceiling()));
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
    fn what_a_closed_loop_finds_out_for_open_ones_takes_its_time_and_is_found_out_once() {
        let visit = |offered: &[Option<u32>]| {
            let offered = offered.iter().map(|one| one.map(|percent| Offered { percent, ..Offered::default() }));
            let loads = offered.map(|offered| Load { active: 1, offered, ..Load::default() }).collect();
            Plan::new(Vec::new(), vec![0], loads, Duration::ZERO, Duration::from_secs(1)).visit_time(0)
        };
        assert_eq!(visit(&[Some(50)]), visit(&[None; 2]));
        assert_eq!(visit(&[Some(50), Some(110)]), visit(&[None; 3]));
    }

    #[test]
    fn the_first_round_teaches_how_long_the_next_will_take() {
        let mut plan = plan();
        let twice = plan.round_time() * 2;
        plan.learn(twice);
        assert!(plan.round_time().abs_diff(twice) < Duration::from_millis(1));
        plan.learn(twice);
        assert!(plan.round_time().abs_diff(twice) < Duration::from_millis(1), "learnt once, not squared");
        let mut plan = plan.with_calibration(twice);
        assert!(plan.round_time().abs_diff(twice * 2) < Duration::from_millis(1), "what it takes is planned");
        plan.learn(twice * 2);
        assert!(plan.round_time().abs_diff(twice * 2) < Duration::from_millis(1), "and it is no visit");
    }
}
