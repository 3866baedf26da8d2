//! What scripts came to, counted: so that nobody takes two thousand silences for a proof.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use super::allowed::Allowed;
use super::script::Op;
use crate::event::Trigger;
use crate::events::Events;

/// What one script, or the sum of many, did and found. Displays as a few lines.
#[derive(Clone, Default, Debug)]
#[non_exhaustive]
pub struct Tally {
    /// Scripts run to their end.
    pub scripts: u64,
    /// Calls of `wait`. A step that waits makes at least one.
    pub waits: u64,
    /// Waits that returned an event.
    pub delivering: u64,
    /// Events.
    pub events: u64,
    /// Steps, by their first word; those that do something to a source by their last.
    pub steps: BTreeMap<String, u64>,
    /// Events, by the trigger their source was watched with.
    pub triggers: BTreeMap<String, u64>,
    /// Events of a wait, and how many waits had so many.
    pub batches: BTreeMap<usize, u64>,
    /// Waits before which the poller has moved its sources to another mechanism.
    pub moved: u64,
    /// Differences met that are [allowed](super::allowed), by their name.
    pub allowed: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn count(&mut self, op: Op) {
        let text = op.to_string();
        let mut words = text.split(' ');
        let first = words.next().unwrap_or_default();
        let name = match op {
            Op::Own(..) | Op::Peer(..) => format!("{first} {}", words.next_back().unwrap_or_default()),
            Op::Wait { meanwhile: Some(_), .. } => "wait while".to_owned(),
            _ => first.to_owned(),
        };
        *self.steps.entry(name).or_default() += 1;
    }

    pub(super) fn waited(&mut self, events: &Events) {
        self.waits += 1;
        self.delivering += u64::from(!events.is_empty());
        self.events += events.len() as u64;
        *self.batches.entry(events.len()).or_default() += 1;
    }

    pub(super) fn told(&mut self, trigger: Trigger) {
        *self.triggers.entry(trigger.to_string()).or_default() += 1;
    }

    pub(super) fn allow(&mut self, allowed: &'static Allowed) {
        *self.allowed.entry(allowed.name).or_default() += 1;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.scripts += other.scripts;
        self.waits += other.waits;
        self.delivering += other.delivering;
        self.events += other.events;
        self.moved += other.moved;
        sum(&mut self.steps, other.steps);
        sum(&mut self.triggers, other.triggers);
        sum(&mut self.batches, other.batches);
        sum(&mut self.allowed, other.allowed);
    }
}

fn sum<K: Ord>(all: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    more.into_iter().for_each(|(key, count)| *all.entry(key).or_default() += count);
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100 * self.delivering / self.waits.max(1);
        writeln!(
            f,
            "{} scripts, {} waits, {percent} % of them with events, {} events",
            self.scripts, self.waits, self.events
        )?;
        line(f, "steps", &self.steps)?;
        line(f, "events by trigger", &self.triggers)?;
        line(f, "waits by events", &self.batches)?;
        if self.moved > 0 {
            writeln!(f, "  moved to another mechanism {} times", self.moved)?;
        }
        self.allowed.iter().try_for_each(|(name, times)| writeln!(f, "  allowed, {times} times: {name}"))
    }
}

fn line<K: fmt::Display>(f: &mut fmt::Formatter<'_>, what: &str, counts: &BTreeMap<K, u64>) -> fmt::Result {
    let counts: Vec<_> = counts.iter().map(|(key, count)| format!("{key} {count}")).collect();
    writeln!(f, "  {what}: {}", counts.join(", "))
}
