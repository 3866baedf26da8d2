//! The parent's end of a poller alone.

use std::time::Duration;

use super::Role;
use super::group::Group;
use super::parent::Failure;
use super::wire::{Drill, Drilled, PollerOrder};

/// How long an exercise may take beyond its time: to open and close thousands of channels, and to go over them once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process with a poller. Dropping it ends it.
pub(crate) struct Drills(Group<PollerOrder, Result<Box<Drilled>, String>>);

impl Drills {
    /// Starts it. It opens nothing yet.
    pub(crate) fn start() -> Result<Drills, Failure> {
        Ok(Drills(Group::start(Role::Poller, 1)?))
    }

    /// Has it go over a course, with a poller and channels that are opened for it.
    ///
    /// # Errors
    /// What was not as it should be: then the figures are none. A process that has failed so can go over another.
    pub(crate) fn drill(&mut self, drill: Drill) -> Result<Drilled, Failure> {
        let patience = PATIENCE + drill.warm_up + drill.interval;
        let answers = self.0.ask(|_| PollerOrder::Drill(drill.clone()), patience, None)?;
        let answer = answers.into_iter().next().expect("one process, one answer");
        answer.map(|drilled| *drilled).map_err(Failure)
    }
}
