//! Records made up for tests: an ordinary comparison, and those an exporter could stumble over.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::measure::record::{Gate, Ledger, Missing, Record, Settings, Trial, Verdict, Visit};
use crate::measure::{Host, stats};

pub(super) const HOSTILE: &str = "<script>alert('x')</script>|\"a\",b\n&amp; `c` \u{1b}[31m";

/// Three rounds of five rows: epoll and its control flat, poll and select growing with idle connections, one void
/// cell, one mechanism of another system, the load the limit at 100 active.
pub(super) fn ordinary() -> Record {
    let settings = Settings {
        rounds: 3,
        rounds_done: 3,
        warmup_ns: 20_000_000,
        measure_ns: 150_000_000,
        payload_bytes: 64,
        idle: vec![0, 100, 1_000, 5_000],
        active: vec![1, 10, 100],
        mechanisms: ["epoll", "kqueue", "poll", "select", "threads"].map(str::to_owned).to_vec(),
        budget_ns: Some(75_000_000_000),
    };
    let command = ["pollmark", "compare", "--idle", "0,100,1000,5000"].map(str::to_owned).to_vec();
    let mut record = Record::begin(command, 42, Host::gather(), settings.clone());
    record.started = "2026-01-02T03:04:05Z".to_owned();
    record.finished = true;
    let mut rng = Rng::with_seed(7);
    let rows = [("epoll", false), ("epoll (A/A)", true), ("poll", false), ("select", false), ("threads", false)];
    for round in 0..=settings.rounds {
        for &idle in &settings.idle {
            for (subject, control) in rows {
                let order = record.visits.len() as u32;
                let active = settings.active.clone();
                record.visits.push(Visit { order, round, subject: subject.to_owned(), idle, active });
                for &active in &settings.active {
                    let counted = round == settings.rounds;
                    record.trials.push(trial(&mut rng, order, round, counted, (subject, control), idle, active));
                }
            }
        }
    }
    let wrong = "wrong byte: connection 3, exchange 17, byte 0 is 0x61 instead of 0x62";
    let threads = |trial: &&mut Trial| trial.subject == "threads" && trial.idle == 5_000 && trial.round == 1;
    record.trials.iter_mut().filter(threads).for_each(|trial| trial.void = Some(wrong.to_owned()));
    let reason = "not on this system: it is a mechanism of macOS and the BSDs".to_owned();
    record.missing.push(Missing { subject: "kqueue".into(), idle: None, active: None, reason });
    record.gates.push(Gate {
        name: "poll: server CPU per wait against idle connections, log-log slope".into(),
        value: Some(0.97),
        bound: "0.85 to 1.15".into(),
        verdict: Verdict::Pass,
        explanation: "4 idle sizes from 1,000 to 9,000 at 1 active".into(),
    });
    record.warnings.push("server and load share a core: 2 CPUs, of which one is a sibling".into());
    record
}

fn trial(
    rng: &mut Rng,
    order: u32,
    round: u32,
    counted: bool,
    (subject, control): (&str, bool),
    idle: u32,
    active: u32,
) -> Trial {
    let mechanism = subject.split(' ').next().expect("a name").to_owned();
    let scanned = match mechanism.as_str() {
        "poll" => 90.0,
        "select" => 60.0,
        _ => 0.0,
    };
    let batch = f64::from(active).sqrt();
    let base = if mechanism == "threads" { 9_000.0 } else { 6_500.0 };
    let cpu = (base + 1_500.0 / batch + scanned * f64::from(idle + active) / batch) * (0.97 + 0.06 * rng.f64());
    let duration_ns = 150_000_000;
    let requests = (duration_ns as f64 / (cpu + 2_000.0)) as u64;
    let waits = (requests as f64 / batch) as u64;
    let typical = (cpu * f64::from(active)) as u64;
    let latency = [(1, 60), (2, 30), (4, 9), (20, 1)].map(|(factor, share)| (typical * factor, requests * share / 100));
    Trial {
        order,
        round,
        counted,
        subject: subject.to_owned(),
        mechanism,
        control,
        idle,
        active,
        duration_ns,
        requests,
        bytes: requests * 64,
        server_cpu_ns: Some((cpu * requests as f64) as u64),
        server_user_ns: Some((cpu * requests as f64 * 0.1) as u64),
        server_system_ns: Some((cpu * requests as f64 * 0.9) as u64),
        client_cpu_ns: Some(duration_ns * 9 / 10),
        ledger: Ledger {
            waits,
            events: requests,
            wait_calls: waits,
            reads: requests,
            writes: requests,
            calls: waits + 2 * requests,
            ..Ledger::default()
        },
        instructions_user: counted.then_some(requests * 104),
        instructions_kernel: counted.then_some(requests * 13_500),
        server_rss_bytes: Some(2 << 20),
        rss_per_connection_bytes: (idle > 0).then_some(53.0),
        latency: latency.to_vec(),
        client_limited: Some(active == 100),
        steal_ns: Some(0),
        kernel: BTreeMap::from([("ListenDrops".to_owned(), 0)]),
        ..Trial::default()
    }
}

/// Nothing was measured.
pub(super) fn empty() -> Record {
    Record::begin(Vec::new(), 0, Host::default(), Settings::default())
}

/// Interrupted in the first round, before the second idle population.
pub(super) fn partial() -> Record {
    let mut record = ordinary();
    record.finished = false;
    record.settings.rounds_done = 0;
    record.trials.retain(|trial| trial.round == 0 && trial.idle == 0);
    record
}

/// One mechanism, one cell, one round, and no latencies.
pub(super) fn one_cell() -> Record {
    let mut record = ordinary();
    record.settings.mechanisms = vec!["epoll".to_owned()];
    (record.settings.idle, record.settings.active) = (vec![100], vec![1]);
    record
        .trials
        .retain(|trial| (trial.round, trial.idle, trial.active, trial.subject.as_str()) == (0, 100, 1, "epoll"));
    record.trials.iter_mut().for_each(|trial| trial.latency.clear());
    record.missing.clear();
    record
}

/// Every string that comes from outside is one that breaks HTML, Markdown, CSV and terminals.
pub(super) fn hostile() -> Record {
    let mut record = ordinary();
    let bad = HOSTILE.to_owned();
    record.command.push(bad.clone());
    record.warnings.push(bad.clone());
    record.host.cpu = Some(bad.clone());
    record.host.mitigations.insert(bad.clone(), bad.clone());
    record.missing[0].reason = bad.clone();
    record.gates[0].name = bad.clone();
    for trial in record.trials.iter_mut().filter(|trial| trial.subject == "select") {
        trial.subject = bad.clone();
        trial.void = trial.void.as_ref().map(|_| bad.clone());
    }
    record.trials.iter_mut().filter(|trial| trial.void.is_some()).for_each(|trial| trial.void = Some(bad.clone()));
    record
}

/// All of them.
pub(super) fn all() -> Vec<(&'static str, Record)> {
    vec![
        ("ordinary", ordinary()),
        ("empty", empty()),
        ("partial", partial()),
        ("one cell", one_cell()),
        ("hostile", hostile()),
    ]
}

#[test]
fn the_sample_is_as_noisy_as_it_says() {
    let record = ordinary();
    assert_eq!(record.trials.len(), 4 * 4 * 5 * 3);
    let epoll = record.trials.iter().filter(|trial| trial.subject == "epoll" && trial.active == 1 && !trial.counted);
    let costs = epoll.map(|trial| trial.server_cpu_ns.unwrap_or(0) as f64 / trial.requests as f64).collect::<Vec<_>>();
    assert!(stats::deviation(&costs).expect("costs") < 0.05 * stats::median(&costs).expect("costs"));
}
