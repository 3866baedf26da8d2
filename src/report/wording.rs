//! What the figures are figures of: requests to a server over connections, or what a poller does alone.

use crate::exercise::Task;
use crate::measure::record::Record;

/// The words that differ between the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wording {
    /// Whose CPU time it is.
    pub(super) cpu: &'static str,
    /// What is counted, and paid for.
    pub(super) operation: &'static str,
    /// The same in the head of a column.
    pub(super) short: &'static str,
    /// What is idle or active.
    pub(super) watched: &'static str,
}

impl Wording {
    pub(super) fn of(record: &Record) -> Wording {
        match record.settings.exercises.first().map(|exercise| exercise.task) {
            None => Wording { cpu: "server CPU", operation: "request", short: "req", watched: "connections" },
            Some(Task::Relay) => Wording { cpu: "CPU", operation: "message", short: "msg", watched: "descriptors" },
            Some(Task::SetUp) => {
                Wording { cpu: "CPU", operation: "descriptor set up", short: "set-up", watched: "descriptors" }
            }
        }
    }

    /// At the beginning of a title.
    pub(super) fn title(self) -> &'static str {
        if self.cpu == "CPU" { "CPU" } else { "Server CPU" }
    }
}
