//! What our servers are set to, where a workload varies that.

use serde::{Deserialize, Serialize};

use super::{LARGEST_PAYLOAD, Wrong, first_broken};
use crate::child::Knobs;

/// Settings of our servers that are varied, every value of one with every value of the others, and a row for each; those
/// that are left out stay as they are by default. Servers that are not ours have settings of their own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tuning {
    /// The most events taken from one wait. Of no concern to servers that wait for nothing but their one connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<usize>,
    /// Bytes of the buffer that is received into: what one turn of a connection reads at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_buffer: Vec<usize>,
    /// SO_SNDBUF of connections, in bytes: answers beyond it are sent in several goes, with waits for room between them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub send_buffer: Vec<usize>,
}

/// How many events may be asked for at most.
const MOST_EVENTS: usize = 65_536;

impl Tuning {
    /// Every combination, none twice; the defaults if nothing is varied.
    pub(in super::super) fn all(&self) -> Vec<Knobs> {
        let mut all = Vec::new();
        for events in or_default(&self.events) {
            for read_buffer in or_default(&self.read_buffer) {
                all.extend(or_default(&self.send_buffer).map(|send_buffer| Knobs { events, read_buffer, send_buffer }));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    pub(super) fn check(&self) -> Result<(), Wrong> {
        let beyond = |sizes: &[usize], most: usize| sizes.iter().any(|size| !(1..=most).contains(size));
        let bytes = "a buffer has at least one byte and at most 1 GiB";
        first_broken([
            (beyond(&self.events, MOST_EVENTS), "server.events", "from 1 to 65536 events can be taken from a wait"),
            (beyond(&self.read_buffer, LARGEST_PAYLOAD), "server.read-buffer", bytes),
            (beyond(&self.send_buffer, LARGEST_PAYLOAD), "server.send-buffer", bytes),
        ])
    }
}

fn or_default(values: &[usize]) -> impl Iterator<Item = Option<usize>> {
    let default = values.is_empty().then_some(None);
    default.into_iter().chain(values.iter().map(|value| Some(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_there_once_and_nothing_varied_is_the_default() {
        assert_eq!(Tuning::default().all(), [Knobs::default()]);
        let tuning = Tuning { events: vec![16, 1, 16], send_buffer: vec![4_096, 65_536], ..Tuning::default() };
        let all = tuning.all();
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all.iter().all(|knobs| knobs.read_buffer.is_none()), "{all:?}");
        assert!(all.contains(&Knobs { events: Some(1), read_buffer: None, send_buffer: Some(65_536) }), "{all:?}");
    }
}
