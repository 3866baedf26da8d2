//! What pollers are put through by themselves, as a workload says it: every value of one with every value of the others.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Grid;
use crate::exercise::{Channel, Exercise, Place, Task, Wait};
use crate::measure::definition::{Wrong, first_broken};
use crate::server::EVENTS;
use crate::workload::Transport;

/// What is varied of the [exercises](Exercise) of a workload that has no server. Its [`Grid`] then says how many
/// descriptors are watched: the idle, and the active, which are ready at a time.
///
/// ```
/// use pollmark::measure::workload::Exercises;
///
/// let exercises = Exercises { chained_writes: vec![0, 1_000], ..Exercises::default() };
/// assert_eq!(exercises.all().len(), 2);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Exercises {
    /// What is done over and over.
    pub task: Task,
    /// What is watched.
    pub channels: Vec<Channel>,
    /// How it is waited.
    pub waits: Vec<Wait>,
    /// Which descriptors are ready.
    pub places: Vec<Place>,
    /// Messages that are handed on, for so many written at once as there are active descriptors.
    pub chained_writes: Vec<u32>,
    /// From which number on descriptors are watched; 0 for as low as they come.
    pub numbers_from: Vec<u32>,
}

impl Default for Exercises {
    /// Messages through pipes, by spinning waits.
    fn default() -> Exercises {
        Exercises {
            task: Task::default(),
            channels: vec![Channel::default()],
            waits: vec![Wait::default()],
            places: vec![Place::default()],
            chained_writes: vec![0],
            numbers_from: vec![0],
        }
    }
}

impl Exercises {
    /// Every exercise, none twice.
    pub fn all(&self) -> Vec<Exercise> {
        let mut all = BTreeSet::new();
        for &channel in &self.channels {
            for &wait in &self.waits {
                for &place in &self.places {
                    for &chained_writes in &self.chained_writes {
                        all.extend(self.numbers_from.iter().map(|&numbers_from| Exercise {
                            task: self.task,
                            channel,
                            wait,
                            place,
                            chained_writes,
                            numbers_from,
                        }));
                    }
                }
            }
        }
        all.into_iter().collect()
    }

    /// Whether some waits spin and others sleep.
    pub(super) fn spin_and_sleep(&self) -> bool {
        self.waits.contains(&Wait::Spinning) && self.waits.contains(&Wait::Sleeping)
    }

    /// Whether it makes sense, with that many descriptors, and without a server.
    pub(super) fn check(&self, grid: &Grid) -> Result<(), Wrong> {
        let Exercises { task, channels, waits, places, chained_writes, numbers_from } = self;
        let nothing = [channels.len(), waits.len(), places.len(), chained_writes.len(), numbers_from.len()];
        let served = !grid.payload.is_empty()
            || grid.outstanding != [1]
            || !grid.offered.is_empty()
            || grid.transport != [Transport::default()]
            || grid.exchanges_per_connection != [0]
            || grid.threads != [1]
            || grid.processes != 1;
        let set_up = *task == Task::SetUp;
        // One wait has to return them all.
        let too_many = grid.active.iter().any(|&active| active > EVENTS);
        first_broken([
            (served, "grid", "a poller alone has no payload, connections, threads or processes: leave them out"),
            (nothing.contains(&0), "exercise", "one of its lists is empty: leave it out, or give a value"),
            (
                waits.contains(&Wait::Sleeping) && (grid.active != [1] || *chained_writes != [0]),
                "exercise.waits",
                "a wait that sleeps is ended by one message: 1 active, and no chained writes",
            ),
            (
                places.contains(&Place::Random) && (waits.contains(&Wait::Sleeping) || set_up),
                "exercise.places",
                "who writes to a sleeping poller, or to descriptors being set up, knows one place: not \"random\"",
            ),
            (
                set_up && (waits.len() > 1 || *chained_writes != [0] || too_many),
                "exercise.task",
                "set-up is registering and taking out, with at most 256 ready: no waits, and no chained writes",
            ),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Workload;
    use crate::measure::definition::tell_what_is_wrong;
    use crate::measure::workload::parse::tests::GOOD;

    /// Of a poller alone.
    fn good() -> String {
        let exercise = "[exercise]\nwaits = [\"spinning\", \"sleeping\"]";
        let alone = GOOD.replace("payload = [64]", exercise).replace("idle = [0, 10]", "idle = [10]");
        alone.replace("[grid]", "gates = [\"spinning\"]\n[grid]")
    }

    #[test]
    fn every_value_meets_every_other_and_what_is_left_out_has_the_usual_one() {
        let workload = Workload::parse(&good(), "mine.toml").expect("well-formed");
        let loads = workload.loads();
        let waits = loads.iter().map(|load| load.exercise.expect("alone").wait).collect::<Vec<_>>();
        assert_eq!(waits, [Wait::Spinning, Wait::Sleeping]);
        let text = good().replace("waits", "numbers-from = [0, 8000, 0]\nplaces = [\"low\", \"high\"]\nwaits");
        assert_eq!(Workload::parse(&text, "mine.toml").expect("well-formed").loads().len(), 8);
    }

    #[test]
    fn what_no_poller_does_alone_is_refused_with_the_key() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("active = [1]", "active = [1]\npayload = [64]", &["at grid:", "no payload"]),
            ("active = [1]", "active = [1]\nthreads = [2]", &["at grid:", "threads"]),
            ("active = [1]", "active = [1, 2]", &["exercise.waits", "1 active"]),
            ("[time]", "chained-writes = [5]\n[time]", &["exercise.waits", "no chained writes"]),
            ("[time]", "places = [\"random\"]\n[time]", &["exercise.places", "knows one place"]),
            ("[time]", "places = []\n[time]", &["at exercise:", "empty"]),
            ("[time]", "task = \"set-up\"\n[time]", &["exercise.task", "no waits"]),
            ("[time]", "channels = [\"tcp\"]\n[time]", &["line 13", "tcp", "socket-pair"]),
            (", \"sleeping\"]", "]", &["at gates:", "ask for both"]),
            ("[exercise]", "[exercises]", &["exercises", "exercise"]),
        ];
        tell_what_is_wrong(Workload::parse, &good(), cases);
        let set_up = good()
            .replace("gates = [\"spinning\"]", "")
            .replace("waits = [\"spinning\", \"sleeping\"]", "task = \"set-up\"");
        let (more, most) = (format!("active = [{}]", EVENTS + 1), format!("at most {EVENTS} ready"));
        tell_what_is_wrong(Workload::parse, &set_up, &[("active = [1]", &more, &["exercise.task", &most])]);
    }
}
