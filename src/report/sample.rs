//! Records made up for tests: an ordinary comparison, and those an exporter could stumble over.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::calibration::Spent;
use crate::exercise::{Exercise, Place, Wait};
use crate::measure::Host;
use crate::measure::record::{
    About, Contestant, DeadlineCost, Gate, Ledger, Missing, OpenLoop, Population, Record, Settings, Trial, Verdict,
    Visit,
};
use crate::measure::units::sample::{calibrate, calibration};
use crate::server::Batches;
use crate::workload::{Offered, Traffic, Transport};

pub(crate) const HOSTILE: &str = "<script>alert('x')</script>|\"a\",b\n&amp; `c` \u{1b}[31m";

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
        traffic: Vec::new(),
        offered: Vec::new(),
        transport: Vec::new(),
        firehoses: Vec::new(),
        exercises: Vec::new(),
        mechanisms: ["epoll", "kqueue", "poll", "select", "threads"].map(str::to_owned).to_vec(),
        processes: Some(1),
        budget_ns: Some(75_000_000_000),
    };
    let command = ["pollmark", "compare", "--idle", "0,100,1000,5000"].map(str::to_owned).to_vec();
    let mut record = Record::begin(command, 42, Host::gather(), settings.clone());
    record.started = "2026-01-02T03:04:05Z".to_owned();
    record.finished = true;
    record.workload = Some(About {
        name: "default".into(),
        title: "Every family of mechanisms".into(),
        shows: "What an echo costs.".into(),
        hides: "What a network costs.".into(),
        expect: "Lines, and flat ones.".into(),
    });
    let mut rng = Rng::with_seed(7);
    let rows = [("epoll", false), ("epoll (A/A)", true), ("poll", false), ("select", false), ("threads", false)];
    for round in 0..=settings.rounds {
        for &idle in &settings.idle {
            for (subject, control) in rows {
                let order = record.visits.len() as u32;
                let active = settings.active.clone();
                let population = (idle > 0).then(|| population(idle));
                let (name, transport) = (subject.to_owned(), Transport::Tcp);
                record.visits.push(Visit { order, round, subject: name, idle, transport, active, population });
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
        ..Gate::default()
    });
    record.gates.push(Gate {
        name: "what a deadline of 60 s costs pollers, apart by so much of what noise alone does".into(),
        value: Some(0.41),
        bound: "at most 1".into(),
        verdict: Verdict::Pass,
        explanation: "for each request poll +31 ns (-8 to 70)".into(),
        deadline_costs: vec![DeadlineCost {
            subject: "poll".into(),
            compared: true,
            delta_ns: 31.0,
            interval: Some([-8.0, 70.0]),
            calls_per_wait: 0.0,
        }],
        ..Gate::default()
    });
    record.warnings.push("server and load share a core: 2 CPUs, of which one is a sibling".into());
    record
}

fn population(idle: u32) -> Population {
    let each = |bytes: u64| u64::from(idle) * bytes;
    let caches = [("TCP", 5 << 10), ("sock_inode_cache", 4 << 10)];
    Population {
        processes: 1,
        sources: None,
        setup_ns: each(60_000),
        servers_bytes: Some(each(53)),
        loads_bytes: Some(each(80)),
        slabs_bytes: Some(each(10 << 10)),
        caches_bytes: caches.map(|(name, bytes)| (name.to_owned(), each(bytes))).into(),
        kernel: BTreeMap::new(),
        time_wait_left: Some(0),
    }
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
    let mut batches = Batches::default();
    batches.count_many(batch as usize, waits);
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
            batches,
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
        established: Some(u64::from(idle + active)),
        open: Some(u64::from(idle + active)),
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

/// One idle population, and connections that do several things.
pub(super) fn varied() -> Record {
    let mut record = ordinary();
    let usual = Traffic::default();
    let large = Traffic { payload: 65_536, outstanding: 4, ..usual };
    (record.settings.idle, record.settings.active) = (vec![100], vec![1, 10]);
    record.settings.traffic = vec![usual, large, Traffic { exchanges: 1, ..usual }];
    record.trials.retain(|trial| trial.idle == 100 && trial.active < 100);
    let all = record.trials.iter().flat_map(|trial| {
        let with = |traffic: &Traffic| Trial { traffic: Some(*traffic), ..trial.clone() };
        record.settings.traffic.iter().map(with).collect::<Vec<_>>()
    });
    record.trials = all.collect();
    record
}

/// Two populations under an open loop at two rates: at the higher the load itself was late, and not all was sent.
pub(super) fn open_loop() -> Record {
    let mut record = ordinary();
    let rates = [50, 110].map(|percent| Offered { percent, ..Offered::default() });
    (record.settings.idle, record.settings.active, record.settings.offered) = (vec![0, 100], vec![10], rates.to_vec());
    record.trials.retain(|trial| trial.idle <= 100 && trial.active == 10);
    let all = record.trials.iter().flat_map(|trial| {
        rates.map(|offered| {
            let (factor, unsent) = if offered.percent > 100 { (100, 15) } else { (1, 0) };
            let latency = [(40_000 * factor, 1_900), (400_000 * factor, 100)].to_vec();
            let open_loop = OpenLoop {
                offered,
                capacity_per_second: Some(100_000.0),
                capacity_limited: Some(true),
                due_per_second: 1_000 * offered.percent,
                from_send: vec![(39_000, 1_900), (90_000, 100)],
                slip: vec![(900, 1_900), (if factor > 1 { 10_000_000 } else { 10_000 }, 100 + unsent)],
                unsent,
            };
            let client_limited = Some(open_loop.is_late(&latency));
            Trial { requests: 2_000, latency, open_loop: Some(open_loop), client_limited, ..trial.clone() }
        })
    });
    record.trials = all.collect();
    record
}

/// Pollers alone: three exercises, each with one descriptor active and with ten.
pub(super) fn alone() -> Record {
    let mut record = ordinary();
    let usual = Exercise { wait: Wait::Ready, ..Exercise::default() };
    let high = Exercise { place: Place::High, numbers_from: 8_000, ..usual };
    record.settings.exercises = vec![usual, high, Exercise { chained_writes: 1_000, ..usual }];
    (record.settings.idle, record.settings.active) = (vec![0, 100], vec![1, 10]);
    record.trials.retain(|trial| trial.idle <= 100 && trial.active < 100);
    let all = record.trials.iter().flat_map(|trial| {
        let with = |exercise: &Exercise| Trial { exercise: Some(*exercise), latency: Vec::new(), ..trial.clone() };
        record.settings.exercises.iter().map(with).collect::<Vec<_>>()
    });
    record.trials = all.collect();
    record
}

/// Every string that comes from outside is one that breaks HTML, Markdown, CSV and terminals.
pub(super) fn hostile() -> Record {
    let mut record = calibrated();
    let bad = HOSTILE.to_owned();
    for row in record.calibrations.iter_mut().filter(|row| row.mechanism.as_deref() == Some("select")) {
        row.mechanism = Some(bad.clone());
    }
    record.command.push(bad.clone());
    record.warnings.push(bad.clone());
    record.workload = record.workload.map(|about| About { title: bad.clone(), shows: bad.clone(), ..about });
    record.host.cpu = Some(bad.clone());
    record.host.mitigations.insert(bad.clone(), bad.clone());
    record.missing[0].reason = bad.clone();
    let settings = bad.clone();
    record.contestants.push(Contestant { label: bad.clone(), class: bad.clone(), settings, ..Contestant::default() });
    record.gates[0].name = bad.clone();
    for trial in record.trials.iter_mut().filter(|trial| trial.subject == "select") {
        (trial.subject, trial.mechanism) = (bad.clone(), bad.clone());
        trial.void = trial.void.as_ref().map(|_| bad.clone());
    }
    record.trials.iter_mut().filter(|trial| trial.void.is_some()).for_each(|trial| trial.void = Some(bad.clone()));
    record
}

/// Ours, and beside them a server that is not: half as much CPU as epoll takes, and no account of its own.
pub(super) fn beside() -> Record {
    let mut record = ordinary();
    let label = "lean (floor)".to_owned();
    let theirs = record.trials.iter().filter(|trial| trial.subject == "epoll").map(|trial| Trial {
        subject: label.clone(),
        mechanism: label.clone(),
        server_cpu_ns: trial.server_cpu_ns.map(|cpu| cpu / 2),
        ledger: Ledger::default(),
        open: None,
        ..trial.clone()
    });
    record.trials.extend(theirs.collect::<Vec<_>>());
    record.settings.mechanisms.push(label.clone());
    record.contestants.push(Contestant {
        label,
        class: "floor".into(),
        title: "The least there can be".into(),
        settings: "One thread.".into(),
        version: "cc 1.2.3".into(),
        command: ["./lean", "{addr}"].map(str::to_owned).to_vec(),
        warm_up_ns: 500_000_000,
    });
    let reason = "missing: it was not built; build it: `make` in lean".to_owned();
    record.missing.push(Missing { subject: "late (floor)".into(), idle: None, active: None, reason });
    record
}

/// The same with a calibration in each round, by whose units epoll, poll and select are predicted within noise; poll's waits
/// took twice what they should have in one cell.
pub(super) fn calibrated() -> Record {
    let mut record = ordinary();
    calibrate(&mut record);
    record
}

/// Every number as large as it can be, as only a mistake or malice would make it.
pub(super) fn absurd() -> Record {
    let mut record = one_cell();
    let largest = u64::MAX;
    let mut trial = record.trials.pop().expect("one cell, one trial");
    (trial.requests, trial.bytes, trial.duration_ns, trial.idle) = (largest, largest, largest, u32::MAX);
    (trial.server_cpu_ns, trial.server_user_ns, trial.server_system_ns) = (Some(largest), Some(largest), Some(largest));
    (trial.ledger.waits, trial.ledger.events, trial.ledger.calls) = (largest, largest, largest);
    (trial.rss_per_connection_bytes, trial.latency) = (Some(f64::MAX), vec![(1, largest), (largest, largest)]);
    (trial.slept, trial.client_slept) = (Some(largest), Some(largest));
    for round in [0, 1, u32::MAX] {
        record.trials.push(Trial { round, ..trial.clone() });
        calibration(&mut record, round, "epoll", 1);
    }
    for row in &mut record.calibrations {
        (row.events, row.slept) = (largest, row.slept.map(|_| largest));
        row.watched = if row.watched < 128 { row.watched } else { u32::MAX };
        row.calls.values_mut().for_each(|spent| *spent = Spent { times: 1, cpu_ns: largest });
    }
    record
}

/// The same as this record, from another machine that is half as fast, measured a day later: each trial takes by chance up to
/// 3 % more or less than twice as much.
pub(super) fn elsewhere(record: &Record, cpu: Option<&str>, seed: u64) -> Record {
    let mut record = record.clone();
    record.host = Host { os: "freebsd".into(), arch: "aarch64".into(), cpu: cpu.map(str::to_owned), ..Host::default() };
    record.started = "2026-01-03T03:04:05Z".to_owned();
    let mut rng = Rng::with_seed(seed);
    for trial in &mut record.trials {
        let factor = 2.0 * (0.97 + 0.06 * rng.f64());
        trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| (cpu as f64 * factor) as u64);
    }
    record
}

/// Records of several machines: two; three, of which one has no name and one neither epoll nor select; two of hostile
/// strings; two records of the first machine and one of another.
pub(super) fn machines() -> Vec<(&'static str, Vec<Record>)> {
    let here = ordinary();
    let fast = elsewhere(&here, Some("A fast one"), 1);
    let mut other = elsewhere(&here, None, 2);
    other.trials.retain(|trial| !["epoll", "epoll (A/A)", "select"].contains(&trial.subject.as_str()));
    other.trials.iter_mut().filter(|trial| trial.subject == "threads" && trial.idle == 0).for_each(|trial| {
        trial.void = Some("a wrong byte".to_owned());
    });
    let mut later = here.clone();
    later.started = "2026-02-03T03:04:05Z".to_owned();
    let bad = hostile();
    vec![
        ("two", vec![here.clone(), fast.clone()]),
        ("three", vec![here.clone(), fast.clone(), other]),
        ("hostile", vec![elsewhere(&bad, Some(HOSTILE), 3), bad]),
        ("again", vec![later, fast, here]),
    ]
}

/// All of them.
pub(crate) fn all() -> Vec<(&'static str, Record)> {
    vec![
        ("ordinary", ordinary()),
        ("empty", empty()),
        ("partial", partial()),
        ("one cell", one_cell()),
        ("varied", varied()),
        ("open loop", open_loop()),
        ("alone", alone()),
        ("beside", beside()),
        ("calibrated", calibrated()),
        ("hostile", hostile()),
        ("absurd", absurd()),
    ]
}

#[test]
fn the_sample_is_as_noisy_as_it_says() {
    use crate::measure::stats;
    let record = ordinary();
    assert_eq!(record.trials.len(), 4 * 4 * 5 * 3);
    let epoll = record.trials.iter().filter(|trial| trial.subject == "epoll" && trial.active == 1 && !trial.counted);
    let costs = epoll.map(|trial| trial.server_cpu_ns.unwrap_or(0) as f64 / trial.requests as f64).collect::<Vec<_>>();
    assert!(stats::deviation(&costs).expect("costs") < 0.05 * stats::median(&costs).expect("costs"));
}
