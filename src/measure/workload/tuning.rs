//! What our servers are set to, where a workload varies that.

use serde::{Deserialize, Serialize};

use super::{LARGEST_PAYLOAD, LONGEST, Wrong, first_broken};
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
    /// Seconds after which a connection is closed that is silent, counted anew from each request; 0 for never.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle_deadline: Vec<u64>,
}

/// How many events may be asked for at most.
const MOST_EVENTS: usize = 65_536;

impl Tuning {
    /// Every combination, none twice; the defaults if nothing is varied.
    pub(in super::super) fn all(&self) -> Vec<Knobs> {
        let mut all = vec![Knobs::NONE];
        all = each(&all, &self.events, |knobs, events| Knobs { events: Some(events), ..knobs });
        all = each(&all, &self.read_buffer, |knobs, bytes| Knobs { read_buffer: Some(bytes), ..knobs });
        all = each(&all, &self.send_buffer, |knobs, bytes| Knobs { send_buffer: Some(bytes), ..knobs });
        all = each(&all, &self.idle_deadline, |knobs, seconds| Knobs {
            idle_deadline: Some(seconds).filter(|seconds| *seconds > 0),
            ..knobs
        });
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether what a deadline costs can be seen.
    pub(super) fn with_and_without_deadline(&self) -> bool {
        self.idle_deadline.contains(&0) && self.idle_deadline.iter().any(|seconds| *seconds > 0)
    }

    pub(super) fn check(&self) -> Result<(), Wrong> {
        let beyond = |sizes: &[usize], most: usize| sizes.iter().any(|size| !(1..=most).contains(size));
        let bytes = "a buffer has at least one byte and at most 1 GiB";
        first_broken([
            (beyond(&self.events, MOST_EVENTS), "server.events", "from 1 to 65536 events can be taken from a wait"),
            (beyond(&self.read_buffer, LARGEST_PAYLOAD), "server.read-buffer", bytes),
            (beyond(&self.send_buffer, LARGEST_PAYLOAD), "server.send-buffer", bytes),
            (
                self.idle_deadline.iter().any(|seconds| *seconds > LONGEST.as_secs()),
                "server.idle-deadline",
                "at most a day, in seconds; 0 for none",
            ),
        ])
    }
}

/// All of these with every value, if there are any.
fn each<T: Copy>(all: &[Knobs], values: &[T], set: impl Fn(Knobs, T) -> Knobs) -> Vec<Knobs> {
    if values.is_empty() {
        return all.to_vec();
    }
    all.iter().flat_map(|knobs| values.iter().map(|value| set(*knobs, *value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Workload;
    use crate::measure::definition::tell_what_is_wrong;
    use crate::measure::workload::parse::tests::GOOD;

    #[test]
    fn what_no_server_can_be_set_to_is_refused_with_the_key() {
        let set = GOOD.replace("[time]", "[server]\nevents = [64]\n[time]");
        let cases: &[(&str, &str, &[&str])] = &[
            ("events = [64]", "events = [0]", &["server.events", "from 1 to 65536"]),
            ("events = [64]", "read-buffer = [0]", &["server.read-buffer", "at least one byte"]),
            ("events = [64]", "send-buffer = [1073741825]", &["server.send-buffer", "at most 1 GiB"]),
            ("events = [64]", "idle-deadline = [86401]", &["server.idle-deadline", "a day"]),
            ("[grid]", "gates = [\"deadlines\"]\n[grid]", &["at gates", "0 and another"]),
            ("events = [64]", "event = [64]", &["line 12", "unknown field", "`events`"]),
            ("payload = [64]", "[exercise]", &["at server", "no server"]),
        ];
        tell_what_is_wrong(Workload::parse, &set, cases);
    }

    #[test]
    fn every_combination_is_there_once_and_nothing_varied_is_the_default() {
        assert_eq!(Tuning::default().all(), [Knobs::default()]);
        let tuning = Tuning { events: vec![16, 1, 16], send_buffer: vec![4_096, 65_536], ..Tuning::default() };
        let all = tuning.all();
        assert_eq!(all.len(), 4, "{all:?}");
        assert!(all.iter().all(|knobs| knobs.read_buffer.is_none()), "{all:?}");
        assert!(all.contains(&Knobs { events: Some(1), send_buffer: Some(65_536), ..Knobs::NONE }), "{all:?}");
        let tuning = Tuning { idle_deadline: vec![0, 60], ..Tuning::default() };
        assert_eq!(tuning.all(), [Knobs::NONE, Knobs { idle_deadline: Some(60), ..Knobs::NONE }]);
    }
}
