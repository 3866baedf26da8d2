//! Calibrations made up for tests, from known costs, and trials that cost as much.

use std::collections::BTreeMap;

use crate::calibration::{Calibration, Call, Phase, Spent};
use crate::measure::record::Record;

/// Three rounds of five rows, calibrated.
#[cfg(test)]
pub(crate) fn record() -> Record {
    use crate::measure::Host;
    use crate::measure::record::{Ledger, Settings, Trial};

    let settings = Settings {
        rounds: 3,
        rounds_done: 3,
        payload_bytes: 64,
        idle: vec![0, 100, 1_000, 5_000],
        active: vec![1, 10, 100],
        mechanisms: ["epoll", "poll", "select", "threads"].map(str::to_owned).to_vec(),
        ..Settings::default()
    };
    let mut record = Record::begin(Vec::new(), 1, Host::default(), settings.clone());
    let rows = ["epoll", "epoll (A/A)", "poll", "select", "threads"];
    let cells = settings.idle.iter().flat_map(|idle| settings.active.iter().map(move |active| (*idle, *active)));
    for (round, subject) in (0..settings.rounds).flat_map(|round| rows.map(|subject| (round, subject))) {
        record.trials.extend(cells.clone().map(|(idle, active)| {
            let requests = 10_000;
            let waits = (requests as f64 / f64::from(active).sqrt()) as u64;
            Trial {
                round,
                subject: subject.to_owned(),
                mechanism: subject.split(' ').next().expect("a name").to_owned(),
                control: subject.ends_with(')'),
                idle,
                active,
                duration_ns: 150_000_000,
                requests,
                bytes: requests * 64,
                ledger: Ledger {
                    waits,
                    events: requests,
                    wait_calls: waits,
                    reads: requests,
                    writes: requests,
                    calls: waits + 2 * requests,
                    ..Ledger::default()
                },
                ..Trial::default()
            }
        }));
    }
    calibrate(&mut record);
    record
}

/// Adds a calibration in each round, and has trials cost what follows from it; but poll's waits took twice what they should
/// have in one cell.
pub(crate) fn calibrate(record: &mut Record) {
    for trial in &mut record.trials {
        (trial.slept, trial.client_slept) = (Some(trial.ledger.waits / 4), Some(trial.ledger.waits / 8));
        let waits = trial.ledger.waits as f64;
        let scanned = match trial.mechanism.as_str() {
            "poll" => 90.0,
            "select" => 60.0,
            _ => 0.0,
        };
        let a_wait = 1_500.0 + scanned * f64::from(trial.idle + trial.active);
        let doubled = trial.subject == "poll" && (trial.idle, trial.active) == (1_000, 1);
        let cpu = waits * a_wait * if doubled { 2.0 } else { 1.0 }
            + trial.ledger.events as f64 * 100.0
            + waits * (8_000.0 / 4.0 + 4_000.0 / 8.0)
            + trial.requests as f64 * (1_000.0 + 4_500.0);
        trial.server_cpu_ns = Some(cpu as u64);
    }
    for round in 0..record.settings.rounds {
        for (mechanism, scanned) in [("epoll", 0), ("poll", 90), ("select", 60)] {
            calibration(record, round, mechanism, scanned);
        }
        record.calibrations.push(Calibration {
            round,
            phase: Phase::Blocking,
            payload_bytes: 64,
            watched: 1,
            batch: 1,
            events: 10,
            calls: BTreeMap::from([(Call::Receive, spent(10, 8_500)), (Call::Send, spent(10, 8_500))]),
            slept: Some(10),
            peer_slept: Some(10),
            ..Calibration::default()
        });
        record.calibrations.push(Calibration {
            round,
            phase: Phase::Connections,
            payload_bytes: 64,
            watched: 5_000,
            calls: [(Call::Accept, 2_000), (Call::Close, 3_000), (Call::ReceiveNothing, 500)]
                .map(|(call, each)| (call, spent(100, each)))
                .into(),
            ..Calibration::default()
        });
    }
}

fn spent(times: u64, each: u64) -> Spent {
    Spent { times, cpu_ns: times * each }
}

/// What one mechanism of known costs would have shown.
pub(crate) fn calibration(record: &mut Record, round: u32, mechanism: &str, scanned: u64) {
    let row = Calibration {
        round,
        mechanism: Some(mechanism.to_owned()),
        payload_bytes: 64,
        batch: 1,
        events: 100,
        ..Calibration::default()
    };
    let awake = |watched: u32, batch: u32| {
        let a_wait = 1_500 + scanned * u64::from(watched) + 100 * u64::from(batch);
        let waits = 96 / u64::from(batch);
        let calls =
            [(Call::Wait, spent(waits, a_wait)), (Call::Receive, spent(96, 1_000)), (Call::Send, spent(96, 4_500))];
        Calibration { watched, batch, events: 96, calls: calls.into(), ..row.clone() }
    };
    let asleep = |watched: u32| {
        let a_wait = 1_500 + 100 + 8_000 + scanned * u64::from(watched);
        let calls =
            [(Call::Wait, spent(100, a_wait)), (Call::Receive, spent(100, 1_000)), (Call::Send, spent(100, 8_500))];
        let (slept, peer_slept) = (Some(100), Some(100));
        Calibration { phase: Phase::Asleep, watched, calls: calls.into(), slept, peer_slept, ..row.clone() }
    };
    let calls = [(Call::Add, spent(5_000, 400)), (Call::Remove, spent(5_000, 300))];
    let registration = Calibration { phase: Phase::Registration, watched: 5_000, calls: calls.into(), ..row.clone() };
    let rows = [awake(4, 1), asleep(4), awake(32, 1), awake(32, 8), awake(5_000, 1), asleep(5_000), registration];
    record.calibrations.extend(rows);
}
