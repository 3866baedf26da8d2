//! Why a cell costs what it costs: what the calibration found of each call, times how often the server made it.
//!
//! Nothing here is fitted. The units come from the calibration, which knows no cell; the counts from the server's ledger
//! and from how often its process and the load's went to sleep. What is left is told as the residual: no part of the
//! prediction can take it up.

mod cause;

use std::collections::BTreeMap;

use serde::Serialize;

use super::cells::Cell;
use super::fit::pollers;
use super::record::{Record, Trial};
use super::stats::Interval;
use super::units::{Asked, Carried, LARGEST, Shared, Units};
use crate::calibration::Calibration;

/// What is off by more than this has to be named.
pub(crate) const ANOMALY: f64 = 0.15;

/// What CPU time is spent on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Waits, but for what follows.
    Waits,
    /// What they return.
    Events,
    /// What they go over.
    Scanning,
    /// Going to sleep in them, and coming back.
    Sleeping,
    Receiving,
    /// What the kernel does at the receiver's end is done by the sender.
    Sending,
    /// Waking a load that sleeps.
    Waking,
    /// Connections that come and go.
    Connections,
    /// What is watched, changed.
    Changes,
}

impl Part {
    pub(crate) const ALL: [Part; 9] = [
        Part::Waits,
        Part::Events,
        Part::Scanning,
        Part::Sleeping,
        Part::Receiving,
        Part::Sending,
        Part::Waking,
        Part::Connections,
        Part::Changes,
    ];

    /// In a word, as the head of a column.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Part::Waits => "waits",
            Part::Events => "events",
            Part::Scanning => "scanning",
            Part::Sleeping => "sleeping",
            Part::Receiving => "receiving",
            Part::Sending => "sending",
            Part::Waking => "waking",
            Part::Connections => "connections",
            Part::Changes => "changes",
        }
    }
}

/// How often something was done for each request, and what each time costs, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Share {
    pub(crate) times: f64,
    pub(crate) each_ns: f64,
}

impl Share {
    /// Nanoseconds for each request.
    pub(crate) fn ns(self) -> f64 {
        self.times * self.each_ns
    }
}

/// A cell, taken apart.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Explained {
    /// Nanoseconds of CPU time of the server for each request, as measured.
    pub(crate) measured_ns: f64,
    /// One for each of [`Part::ALL`], in that order; they come to the prediction.
    pub(crate) parts: [Share; 9],
    /// From the least to the most that single rounds of the calibration predict; `None` of one.
    pub(crate) interval: Option<Interval>,
    /// Descriptors that each poller watched.
    pub(crate) watched: f64,
    /// What is known to cause a residual that is an anomaly; `None` if it is none, or if nothing is known.
    pub(crate) cause: Option<String>,
}

impl Explained {
    /// Nanoseconds for each request.
    pub(crate) fn predicted_ns(&self) -> f64 {
        self.parts.iter().map(|share| share.ns()).sum()
    }

    /// What the prediction leaves, as a part of what was measured; below 0 if more was predicted.
    pub(crate) fn residual(&self) -> f64 {
        1.0 - self.predicted_ns() / self.measured_ns
    }

    /// Whether that is too much to be left without a word.
    pub(crate) fn is_anomaly(&self) -> bool {
        self.residual().abs() > ANOMALY
    }

    pub(crate) fn share(&self, part: Part) -> Share {
        self.parts[part as usize]
    }
}

/// What a server did and met for its requests.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Counts {
    requests: f64,
    waits: f64,
    events: f64,
    change_calls: f64,
    accepts: f64,
    closes: f64,
    reads: f64,
    would_block: f64,
    writes: f64,
    calls: f64,
    bytes: f64,
    slept: f64,
    client_slept: f64,
    watched: f64,
    active: f64,
    duration_ns: f64,
    steal_ns: f64,
}

impl Counts {
    /// Of all trials; or why they do not tell.
    fn of(trials: &[&Trial], record: &Record) -> Result<Counts, String> {
        let mut all = Counts::default();
        for trial in trials {
            let ledger = &trial.ledger;
            let (Some(slept), Some(client_slept)) = (trial.slept, trial.client_slept) else {
                return Err("it is not known how often server and load slept".to_owned());
            };
            let sums = [
                (&mut all.requests, trial.requests),
                (&mut all.waits, ledger.waits),
                (&mut all.events, ledger.events),
                (&mut all.change_calls, ledger.change_calls),
                (&mut all.accepts, ledger.accepts),
                (&mut all.closes, ledger.closes),
                (&mut all.reads, ledger.reads),
                (&mut all.would_block, ledger.would_block),
                (&mut all.writes, ledger.writes),
                (&mut all.calls, ledger.calls),
                (&mut all.bytes, trial.bytes),
                (&mut all.slept, slept),
                (&mut all.client_slept, client_slept),
                (&mut all.duration_ns, trial.duration_ns),
                (&mut all.steal_ns, trial.steal_ns.unwrap_or(0)),
            ];
            sums.into_iter().for_each(|(sum, more)| *sum += more as f64);
            let connections = f64::from(trial.idle) + f64::from(trial.active);
            all.active = f64::from(trial.active);
            all.watched = all.watched.max(connections / pollers(trial, record));
        }
        match (all.requests > 0.0, all.calls > 0.0) {
            (false, _) => Err("not one request was completed".to_owned()),
            (_, false) => Err("it keeps no account of its calls".to_owned()),
            _ if all.calls < all.reads + all.writes => {
                Err("its receives and sends are operations that come with its waits, and have no cost of their own"
                    .to_owned())
            }
            _ => Ok(all),
        }
    }

    /// What follows for a server that waits by a mechanism of these units.
    fn parts(&self, units: &Units) -> [Share; 9] {
        let slept = self.slept.min(self.waits);
        let awake = self.waits - slept;
        let found = units.scan.at(self.watched);
        // Who sleeps has gone over all of them before.
        let scanning = awake * found + slept * units.scan_asleep.at(self.watched).max(found);
        // One that makes no calls for it has a table to change all the same.
        let removed = if self.change_calls > 0.0 {
            (self.change_calls - self.closes).clamp(0.0, self.closes)
        } else {
            self.closes
        };
        let changed = (self.change_calls - self.closes - removed).max(0.0);
        let mut parts = self.shared_parts(&units.shared);
        parts[Part::Waits as usize] = self.share(self.waits, units.wait);
        parts[Part::Events as usize] = self.share(self.events, units.event);
        parts[Part::Scanning as usize] = self.share(self.waits, scanning / self.waits.max(1.0));
        parts[Part::Sleeping as usize] = self.share(slept, units.sleep);
        let connections = &mut parts[Part::Connections as usize];
        connections.each_ns += units.add + units.remove * removed / self.closes.max(1.0);
        parts[Part::Changes as usize] = self.share(changed, units.modify.unwrap_or(units.add));
        parts
    }

    /// What follows for a server whose threads wait in recv(2).
    fn blocking_parts(&self, shared: &Shared) -> [Share; 9] {
        let mut parts = self.shared_parts(shared);
        parts[Part::Sleeping as usize] = self.share(self.slept, shared.receive_asleep);
        parts
    }

    fn shared_parts(&self, shared: &Shared) -> [Share; 9] {
        // After a drain the queue is found empty.
        let receives_in_vain = self.receives_in_vain();
        let accepts_in_vain = (self.accepts - self.closes).max(0.0);
        let received = (self.reads - receives_in_vain) * shared.receive + receives_in_vain * shared.nothing;
        let came_and_went = self.closes * (shared.accept + shared.close) + accepts_in_vain * shared.nothing;
        let mut parts = [Share::default(); 9];
        parts[Part::Receiving as usize] = self.share(self.reads, received / self.reads.max(1.0));
        parts[Part::Sending as usize] = self.share(self.writes, shared.send);
        parts[Part::Waking as usize] = self.share(self.client_slept.min(self.writes), shared.wake);
        parts[Part::Connections as usize] = self.share(self.closes, came_and_went / self.closes.max(1.0));
        parts
    }

    /// Each connection that goes is found gone by a receive.
    fn receives_in_vain(&self) -> f64 {
        (self.would_block + self.closes).min(self.reads)
    }

    fn share(&self, times: f64, each_ns: f64) -> Share {
        Share { times: times / self.requests, each_ns: if each_ns.is_finite() { each_ns.max(0.0) } else { 0.0 } }
    }

    /// Whether hardly any of the receives was told of by an event, so that they must be what waits. After an event there
    /// may be several: of a message that comes in parts, and one that finds no more.
    fn waits_in_receives(&self) -> bool {
        self.events * 20.0 < self.reads - self.closes
    }
}

/// What is needed to take any cell of a record apart.
pub(crate) struct Explainer<'a> {
    record: &'a Record,
    all: Vec<&'a Calibration>,
    by_round: BTreeMap<u32, Vec<&'a Calibration>>,
}

/// The units of all rounds, and those of each.
enum Basis {
    Waiting(Box<Units>, Vec<Units>),
    Blocking(Shared, Vec<Shared>),
    None,
}

impl<'a> Explainer<'a> {
    pub(crate) fn of(record: &'a Record) -> Explainer<'a> {
        let mut by_round = BTreeMap::<u32, Vec<&Calibration>>::new();
        for row in &record.calibrations {
            by_round.entry(row.round).or_default().push(row);
        }
        Explainer { record, all: record.calibrations.iter().collect(), by_round }
    }

    /// What the calls of a mechanism cost, if the calibration tells.
    pub(crate) fn units(&self, asked: Asked<'_>) -> Option<Units> {
        Units::of(&self.all, asked)
    }

    /// Takes a cell apart, of which so much CPU time was measured for each request; or says why it cannot be.
    pub(crate) fn explain(&self, mechanism: &str, cell: &Cell<'_>, measured_ns: f64) -> Result<Explained, String> {
        let refuse = |why: &str| Err(why.to_owned());
        let load = cell.load;
        let payload = load.traffic.payload;
        if self.record.calibrations.is_empty() {
            return refuse("no calibration was made");
        }
        if load.exercise.is_some() {
            return refuse("its poller was alone, and no server's calls are to be explained");
        }
        if load.firehoses > 0 {
            return refuse("what the firehoses ask is in its CPU time, and their messages are of another size");
        }
        let largest = self.all.iter().map(|row| row.payload_bytes).max().unwrap_or(0);
        if payload.min(LARGEST) as u64 > largest {
            return Err(format!(
                "its messages are of {payload} bytes, and the calibration sent none of more than {largest}"
            ));
        }
        let trials = cell.timed().filter(|trial| trial.requests > 0).collect::<Vec<_>>();
        let counts = Counts::of(&trials, self.record)?;
        let carried = Carried {
            received: counts.bytes / (counts.reads - counts.receives_in_vain()).max(1.0),
            sent: counts.bytes / counts.writes.max(1.0),
            ..Carried::whole(load.transport, payload as u64)
        };
        let asked = Asked { mechanism, carried };
        let basis = self.basis(asked, counts.waits_in_receives());
        let (parts, each) = match &basis {
            Basis::Waiting(units, each) => {
                (counts.parts(units), each.iter().map(|units| counts.parts(units)).collect::<Vec<_>>())
            }
            Basis::Blocking(shared, each) => (
                counts.blocking_parts(shared),
                each.iter().map(|shared| counts.blocking_parts(shared)).collect::<Vec<_>>(),
            ),
            Basis::None => return refuse("the calibration does not tell of it"),
        };
        let sums = each.iter().map(|parts| parts.iter().map(|share| share.ns()).sum::<f64>()).collect::<Vec<_>>();
        // All rounds together may tell of less or more than each of them.
        let all = parts.iter().map(|share| share.ns()).sum::<f64>();
        let (low, high) = sums.iter().fold((all, all), |(low, high), sum| (low.min(*sum), high.max(*sum)));
        let interval = (sums.len() > 1).then_some(Interval { low, high });
        if !(measured_ns > 0.0 && measured_ns.is_finite()) {
            return refuse("its CPU time is not known");
        }
        let mut explained = Explained { measured_ns, parts, interval, watched: counts.watched, cause: None };
        if explained.is_anomaly() {
            explained.cause = cause::of(&explained, &counts, &basis, carried.received);
        }
        Ok(explained)
    }

    fn basis(&self, asked: Asked<'_>, blocking: bool) -> Basis {
        let rounds = || self.by_round.values();
        let basis = match blocking {
            true => Shared::of(&self.all, asked.carried).map(|shared| {
                Basis::Blocking(shared, rounds().filter_map(|rows| Shared::of(rows, asked.carried)).collect())
            }),
            false => Units::of(&self.all, asked).map(|units| {
                Basis::Waiting(Box::new(units), rounds().filter_map(|rows| Units::of(rows, asked)).collect())
            }),
        };
        basis.unwrap_or(Basis::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::record::Ledger;
    use crate::measure::units::sample;

    /// The cell of a row, taken apart.
    fn explained(record: &Record, subject: &str, idle: u32, active: u32) -> Result<Explained, String> {
        let cells = record.cells_of(subject);
        let cell = cells.iter().find(|cell| (cell.idle, cell.load.active) == (idle, active)).expect("measured");
        let first = cell.timed().next().expect("a trial");
        let measured = first.server_cpu_ns.expect("a CPU clock") as f64 / first.requests as f64;
        Explainer::of(record).explain(&first.mechanism, cell, measured)
    }

    fn change(record: &mut Record, change: impl Fn(&mut Trial)) {
        record.trials.iter_mut().for_each(change);
    }

    #[test]
    fn what_units_and_ledger_say_is_what_was_measured_where_nothing_else_was_done() {
        let record = sample::record();
        for subject in ["epoll", "poll", "select", "epoll (A/A)"] {
            for (idle, active) in [(0, 1), (100, 10), (5_000, 1), (5_000, 100)] {
                let one = explained(&record, subject, idle, active).expect("all is known");
                assert!(one.residual().abs() < 0.01 && !one.is_anomaly() && one.cause.is_none(), "{subject}: {one:?}");
            }
        }
    }

    #[test]
    fn parts_come_to_the_prediction_and_the_residual_to_the_rest() {
        let record = sample::record();
        let one = explained(&record, "poll", 1_000, 1).expect("all is known");
        let parts = Part::ALL.map(|part| one.share(part).ns());
        assert!(parts.iter().all(|ns| *ns >= 0.0) && (parts.iter().sum::<f64>() - one.predicted_ns()).abs() < 1e-9);
        assert!((one.predicted_ns() + one.residual() * one.measured_ns - one.measured_ns).abs() < 1e-6);
        assert!(one.residual() > 0.4, "waits took twice what they should have: {one:?}");
        assert!(
            one.is_anomaly()
                && one.interval.is_some_and(|at| at.low <= one.predicted_ns() && one.predicted_ns() <= at.high)
        );
        let mut less = record.clone();
        change(&mut less, |trial| trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| cpu / 2));
        let one = explained(&less, "epoll", 0, 1).expect("all is known");
        assert!(one.residual() < -0.9, "less was measured than is predicted: {one:?}");
    }

    #[test]
    fn twice_the_events_are_told_as_events_and_nothing_else() {
        let record = sample::record();
        let mut planted = record.clone();
        change(&mut planted, |trial| trial.ledger.events *= 2);
        let [before, after] = [&record, &planted].map(|record| explained(record, "epoll", 100, 10).expect("known"));
        for part in Part::ALL {
            let factor = if part == Part::Events { 2.0 } else { 1.0 };
            assert!((after.share(part).ns() - factor * before.share(part).ns()).abs() < 1e-9, "{part:?}");
        }
        assert!(before.share(Part::Events).ns() > 0.0);
    }

    #[test]
    fn no_unit_is_found_from_the_cells_it_explains() {
        let record = sample::record();
        let mut dearer = record.clone();
        change(&mut dearer, |trial| trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| cpu * 3));
        let [one, other] = [&record, &dearer].map(|record| explained(record, "poll", 5_000, 1).expect("known"));
        assert_eq!(one.parts, other.parts);
        assert!(other.is_anomaly() && !one.is_anomaly());
    }

    #[test]
    fn what_cannot_be_predicted_says_why() {
        let why = |change: &dyn Fn(&mut Record)| {
            let mut record = sample::record();
            change(&mut record);
            explained(&record, "epoll", 100, 1).expect_err("not to be predicted")
        };
        let of_trials = |with: fn(&mut Trial)| why(&|record| change(record, with));
        assert!(why(&|record| record.calibrations.clear()).contains("no calibration"));
        assert!(of_trials(|trial| trial.slept = None).contains("how often"));
        assert!(of_trials(|trial| trial.ledger = Ledger::default()).contains("no account"));
        assert!(of_trials(|trial| trial.ledger.calls = trial.ledger.waits).contains("operations"));
        assert!(of_trials(|trial| trial.firehoses = 1).contains("firehoses"));
        assert!(of_trials(|trial| trial.mechanism = "mine".into()).contains("does not tell of it"));
        let large = |trial: &mut Trial| {
            trial.traffic = Some(crate::workload::Traffic { payload: LARGEST + 1, ..Default::default() });
        };
        assert!(of_trials(large).contains("of 65537 bytes, and the calibration sent none of more than 64"));
    }

    #[test]
    fn threads_that_wait_in_recv_are_predicted_from_sleeps_in_it() {
        let mut record = sample::record();
        change(&mut record, |trial| {
            trial.ledger = Ledger {
                waits: 3,
                reads: trial.requests,
                writes: trial.requests,
                calls: 2 * trial.requests + 3,
                ..Ledger::default()
            };
            (trial.slept, trial.client_slept) = (Some(trial.requests), Some(0));
        });
        let one = explained(&record, "threads", 100, 1).expect("no mechanism is needed");
        assert!(
            (one.share(Part::Sleeping).ns() - 7_500.0).abs() < 1e-6 && one.share(Part::Waits).ns() == 0.0,
            "{one:?}"
        );
        assert!((one.predicted_ns() - 13_000.0).abs() < 1e-6, "a receive, a sleep in it, a send: {one:?}");
    }

    #[test]
    fn several_receives_after_an_event_are_not_taken_for_a_thread_that_waits_in_them() {
        let mut record = sample::record();
        change(&mut record, |trial| {
            trial.ledger.reads *= 3;
            trial.ledger.calls += 2 * trial.requests;
        });
        let one = explained(&record, "select", 100, 1).expect("all is known");
        assert!(one.share(Part::Waits).ns() > 0.0 && one.share(Part::Scanning).ns() > 0.0, "{one:?}");
    }

    #[test]
    fn an_anomaly_is_named_by_what_is_known_of_it_and_else_by_nothing() {
        let cause = |idle: u32, active: u32, with: &dyn Fn(&mut Record)| {
            let mut record = sample::record();
            change(&mut record, |trial| trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| cpu * 2));
            with(&mut record);
            explained(&record, "poll", idle, active).expect("predicted").cause
        };
        let says = |cause: Option<String>, word: &str| {
            assert!(cause.as_ref().is_some_and(|why| why.contains(word)), "{cause:?}")
        };
        says(cause(5_000, 1, &|record| record.calibrations.retain(|row| row.watched < 5_000)), "caches");
        says(cause(0, 1, &|record| change(record, |trial| trial.steal_ns = Some(trial.duration_ns / 2))), "hypervisor");
        let scattered = |record: &mut Record| {
            let first = record.calibrations.iter_mut().filter(|row| row.round == 0);
            first.for_each(|row| row.calls.values_mut().for_each(|spent| spent.cpu_ns *= 2));
        };
        says(cause(0, 1, &scattered), "differ by as much");
        let sleepless = |trial: &mut Trial| (trial.slept, trial.client_slept) = (Some(0), Some(0));
        assert_eq!(cause(0, 1, &|record| change(record, sleepless)), None, "nothing is known");
        says(cause(0, 1, &|record| change(record, |trial| trial.slept = Some(trial.ledger.waits))), "sleeping");
        says(cause(5_000, 1, &|record| change(record, sleepless)), "in the caches");
    }
}
