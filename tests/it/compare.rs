//! The comparison, end to end, through the command: every cell accounted for, and what interrupts it.

#[cfg(unix)]
use std::collections::BTreeSet;
use std::path::PathBuf;

use pollmark::measure::Record;
#[cfg(unix)]
use pollmark::workload::Transport;

use crate::cli::{fails, pollmark, run};

/// A directory that is gone when the test is.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    pub(crate) fn text(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    pub(crate) fn record(&self) -> Record {
        let json = std::fs::read(self.0.join("results.json")).expect("results.json is left");
        serde_json::from_slice(&json).expect("a record")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_cell_asked_for_is_measured_or_says_why_not() {
    let scratch = Scratch::new("cells");
    let asked = ["compare", "--quick", "--idle", "0,20", "--active", "1,3", "--rounds", "1", "--seed", "7"];
    let output =
        pollmark(&asked).args(["--size", "100", "--out", scratch.text()]).output().expect("the command starts");
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let record = scratch.record();
    assert_eq!(record.settings.payload_bytes, 100);
    assert!(record.finished && record.seed == 7 && record.settings.rounds_done == 1, "{:?}", record.settings);

    let mut measured = 0;
    for name in ["epoll", "kqueue", "poll", "select", "polling", "threads"] {
        assert!(out.contains(name), "{name} is not in the table: {out}");
        for (idle, active) in [(0, 1), (0, 3), (20, 1), (20, 3)] {
            let of_cell = |trial: &&pollmark::measure::record::Trial| {
                trial.subject == name && trial.idle == idle && trial.active == active && !trial.counted
            };
            let trials: Vec<_> = record.trials.iter().filter(of_cell).collect();
            let missing = record.missing.iter().find(|missing| missing.subject == name);
            match (trials.as_slice(), missing) {
                ([], Some(missing)) => assert!(!missing.reason.is_empty(), "{name}"),
                ([trial], None) => {
                    assert_eq!((&trial.void, trial.errors), (&None, 0), "{name} {idle} {active}");
                    assert!(trial.requests > 0 && trial.bytes == trial.requests * 100, "{trial:?}");
                    let samples: u64 = trial.latency.iter().map(|(_, count)| count).sum();
                    assert_eq!(samples, trial.requests, "each exchange has its latency");
                    assert!(trial.ledger.calls >= 2 * trial.requests, "a read and a write each: {:?}", trial.ledger);
                    measured += 1;
                }
                (trials, missing) => panic!("{name} {idle} {active}: {} trials, {missing:?}", trials.len()),
            }
        }
    }
    let ceiling = record.trials.iter().filter(|trial| trial.ceiling).collect::<Vec<_>>();
    assert_eq!(ceiling.iter().map(|trial| trial.idle).collect::<Vec<_>>(), [0, 0], "of each number of active ones");
    assert!(ceiling.iter().all(|trial| trial.void.is_none() && trial.bytes == trial.requests * 100), "{ceiling:?}");
    assert!(out.contains("% of ceiling"), "{out}");
    assert!(measured >= 4 * 4, "poll, select, polling and threads are everywhere: {measured} cells");
    assert_eq!(record.trials.iter().filter(|trial| trial.control && !trial.counted).count(), 4, "the A/A control");
    for file in pollmark::report::FILES.iter().chain(&pollmark::measure::journal::FILES) {
        // Where a system cannot be calibrated the comparison says why, and goes on without.
        if !cfg!(target_os = "linux") && file.starts_with("calibrations") && out.contains("calibration: ") {
            println!(
                "NOT CHECKED: {file}: {}",
                out.lines().find(|line| line.contains("calibration: ")).unwrap_or_default()
            );
            continue;
        }
        assert!(scratch.0.join(file).metadata().is_ok_and(|file| file.len() > 0), "{file} is missing");
    }
}

/// Compares, and returns with the record what is made of it for other programs to read: each cell taken apart. A trial
/// may be void for what others do on this host, and for nothing else.
#[cfg(unix)]
fn compared(scratch: &Scratch, arguments: &[&str]) -> (Record, serde_json::Value) {
    let output = pollmark(&["compare", "--quick", "--idle", "0", "--active", "1", "--out", scratch.text()])
        .args(arguments)
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let record = scratch.record();
    let void = record.trials.iter().filter_map(|trial| trial.void.as_deref());
    assert!(void.clone().all(|why| why.contains("dropped connections on this host")), "{said}");
    assert!(output.status.success() || void.count() > 0, "{said}");
    let json = std::fs::read(scratch.0.join("explained.json")).expect("explained.json is left");
    (record, serde_json::from_slice(&json).expect("JSON"))
}

#[test]
#[cfg(unix)]
fn every_poller_is_calibrated_in_each_round_and_its_cells_are_taken_apart() {
    use pollmark::calibration::Phase;

    let scratch = Scratch::new("calibrated");
    let (record, json) = compared(&scratch, &["--backends", "all", "--rounds", "2"]);
    assert!(!record.warnings.iter().any(|warning| warning.starts_with("calibration")), "{:?}", record.warnings);
    let rows = &record.calibrations;
    assert!(
        rows.iter().all(|row| !row.calls.is_empty() && row.calls.values().all(|spent| spent.times > 0)),
        "{rows:?}"
    );
    let mechanisms = rows.iter().filter_map(|row| row.mechanism.as_deref()).collect::<BTreeSet<_>>();
    assert!(["poll", "select", "polling"].iter().all(|name| mechanisms.contains(name)), "they are everywhere");
    for (mechanism, round) in mechanisms.iter().flat_map(|mechanism| [(mechanism, 0), (mechanism, 1)]) {
        let mine = rows.iter().filter(|row| row.mechanism.as_deref() == Some(mechanism) && row.round == round);
        let phases = mine.map(|row| row.phase).collect::<BTreeSet<_>>();
        let all = BTreeSet::from([Phase::Awake, Phase::Asleep, Phase::Registration]);
        assert_eq!(phases, all, "{mechanism} in round {round}");
    }
    let cells = json["cells"].as_array().expect("a list");
    let is_void = |name: &str| record.trials.iter().any(|trial| trial.subject == name && trial.void.is_some());
    for name in mechanisms.iter().copied().chain(["threads"]).filter(|name| !is_void(name)) {
        let cell = cells.iter().find(|cell| cell["cell"]["subject"] == name).expect("of what was measured");
        assert!(cell["parts"].is_object() && cell["predicted_ns"].is_number(), "{cell}");
    }
    let told = record.trials.iter().filter(|trial| trial.void.is_none() && !trial.ceiling);
    assert!(told.clone().all(|trial| trial.slept.is_some() && trial.client_slept.is_some()), "who slept how often");
}

#[test]
#[cfg(unix)]
fn each_transport_and_size_is_calibrated_and_what_comes_in_parts_by_the_sizes_of_the_parts() {
    let scratch = Scratch::new("calibrated-sizes");
    let sizes = ["--size", "1,16384,100000", "--transport", "tcp,unix"];
    let (record, json) = compared(&scratch, &[&["--backends", "poll", "--rounds", "1"][..], &sizes].concat());
    let calibrated = record.calibrations.iter().map(|row| (row.transport, row.payload_bytes)).collect::<BTreeSet<_>>();
    let transports = [Transport::Tcp, Transport::Unix];
    assert!(transports.iter().all(|one| [1, 16_384].iter().all(|size| calibrated.contains(&(*one, *size)))));
    // Elsewhere buffers may have less room than the largest takes, and then it is not calibrated.
    let is_large = |by: &Transport| calibrated.contains(&(*by, 65_536));
    assert!(transports.iter().all(is_large) || !cfg!(target_os = "linux"), "{calibrated:?}");
    for cell in json["cells"].as_array().expect("a list") {
        let load = cell["cell"]["load"].as_str().expect("words");
        let by = if load.contains("unix") { Transport::Unix } else { Transport::Tcp };
        let is_predicted = !load.contains("100,000 B") || is_large(&by);
        let why = cell["not_predicted"].as_str().unwrap_or_default();
        assert_eq!(why.contains("sent none of more than"), !is_predicted, "{cell}");
        // On a host so busy that in all of a short round nobody has slept, or was woken, what that costs is not known.
        let is_known = !why.contains("the calibration does not tell of it");
        assert_eq!(cell["parts"].is_object(), is_predicted && is_known, "{cell}");
    }
}

#[test]
fn what_cannot_be_compared_is_answered_with_what_to_do() {
    fails(&run(&["compare", "--backends", "eqoll"]), 2, &["eqoll", "available", "poll", "threads"]);
    fails(&run(&["compare", "--active", "0", "--out", Scratch::new("active").text()]), 2, &["at least one"]);
    fails(&run(&["compare", "--rounds", "0", "--out", Scratch::new("rounds").text()]), 2, &["at least 1"]);
    fails(&run(&["compare", "--size", "0"]), 2, &["--size", "at least one byte"]);
    fails(&run(&["compare", "--idle", "many"]), 2, &["many", "--idle"]);
    #[cfg(target_os = "linux")]
    fails(&run(&["compare", "--backends", "kqueue", "--out", Scratch::new("kqueue").text()]), 2, &["kqueue", "macOS"]);
    let full = Scratch::new("full");
    std::fs::create_dir_all(&full.0).expect("a directory");
    std::fs::write(full.0.join("results.json"), "mine").expect("a file");
    fails(&run(&["compare", "--quick", "--out", full.text()]), 2, &["holds results already", "--out"]);
    assert_eq!(std::fs::read_to_string(full.0.join("results.json")).expect("kept"), "mine");
}

#[test]
fn a_directory_that_takes_no_files_is_found_out_before_anything_is_measured() {
    let scratch = Scratch::new("unwritable");
    // In the way of the first file, also of a user whom permissions do not stop.
    std::fs::create_dir_all(scratch.0.join("results.json.unfinished")).expect("a directory");
    let output = run(&["compare", "--rounds", "1000", "--out", scratch.text()]);
    fails(&output, 2, &["cannot write to the directory", scratch.text()]);
}

#[test]
#[cfg(unix)]
fn more_connections_than_descriptors_are_refused_before_anything_is_measured() {
    let scratch = Scratch::new("descriptors");
    let script = format!(
        "ulimit -n 500 && exec {} compare --idle 1000 --active 1 --out {}",
        env!("CARGO_BIN_EXE_pollmark"),
        scratch.text()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
    fails(&output, 2, &["1065 needed", "500 available", "ulimit -n 1065"]);
    let most = usize::MAX.to_string();
    fails(&run(&["compare", "--idle", &most, "--out", scratch.text()]), 2, &[&format!("{most} needed")]);
    assert!(!scratch.0.exists(), "nothing is left behind");
}

#[cfg(unix)]
mod interrupted {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Stdio};
    #[cfg(target_os = "linux")]
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Starts a comparison that would take long, and returns once its first round has begun.
    fn begun(scratch: &Scratch, more: &[&str]) -> (Child, impl BufRead + use<>) {
        let mut command = pollmark(&["compare", "--idle", "0", "--active", "1", "--rounds", "1000"]);
        let mut child =
            command.args(more).args(["--out", scratch.text()]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child_mut = child.as_mut().expect("the command starts");
        let mut errors = BufReader::new(child_mut.stderr.take().expect("piped"));
        let mut line = String::new();
        errors.read_line(&mut line).expect("a line");
        assert!(line.starts_with("round 1 of 1000"), "{line}");
        (child.expect("it started"), errors)
    }

    #[test]
    fn an_interrupt_keeps_what_was_measured() {
        let scratch = Scratch::new("interrupt");
        let (mut child, mut errors) = begun(&scratch, &[]);
        // The first line of the second round: by then every cell has been measured once.
        let mut line = String::new();
        while !line.starts_with("round 2") {
            line.clear();
            assert!(errors.read_line(&mut line).expect("a line") > 0, "it ended by itself");
        }
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        std::io::copy(&mut errors, &mut std::io::sink()).expect("read to the end");
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
        let record = scratch.record();
        assert!(!record.finished && record.settings.rounds_done >= 1, "{:?}", record.settings);
        assert!(record.trials.iter().all(|trial| trial.void.is_none() && trial.requests > 0));
        assert!(record.trials.iter().any(|trial| trial.subject == "poll"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_interrupt_while_the_ceiling_runs_ends_it_and_keeps_what_was_measured() {
        let scratch = Scratch::new("interrupt-ceiling");
        let (mut child, mut errors) = begun(&scratch, &["--quick", "--backends", "poll"]);
        let deadline = Instant::now() + Duration::from_secs(30);
        let is_ceiling = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline"));
            command.is_ok_and(|command| command.ends_with(b"ceiling-child\0"))
        };
        let children = loop {
            let children = children_of(child.id());
            if children.iter().any(is_ceiling) && crate::resume::lines(&scratch.0) > 0 {
                break children;
            }
            assert!(Instant::now() < deadline, "the ceiling never ran");
            std::thread::sleep(Duration::from_millis(2));
        };
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        std::io::copy(&mut errors, &mut std::io::sink()).expect("read to the end");
        assert_eq!(child.wait().expect("it ends").code(), Some(130));
        assert_kept(&scratch);
        assert_gone(&children);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_parent_that_is_killed_leaves_nothing_running() {
        let scratch = Scratch::new("killed");
        let (mut child, _errors) = begun(&scratch, &[]);
        let deadline = Instant::now() + Duration::from_secs(20);
        let children = loop {
            let children = children_of(child.id());
            if children.len() == 2 {
                break children;
            }
            assert!(Instant::now() < deadline, "server and load never ran at the same time");
        };
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        while children.iter().any(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap_or(false)) {
            assert!(Instant::now() < deadline, "a child outlives its parent");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// All that was written down is in the record, which says that there was to be more.
#[cfg(target_os = "linux")]
pub(crate) fn assert_kept(scratch: &Scratch) {
    let record = scratch.record();
    assert!(!record.finished && !record.trials.is_empty(), "{:?}", record.settings);
    assert_eq!(record.trials.len(), crate::resume::lines(&scratch.0));
    assert!(record.trials.iter().all(|trial| trial.void.is_none() && trial.requests > 0), "{:?}", record.trials);
}

/// Whoever started these processes has waited for their end.
#[cfg(target_os = "linux")]
pub(crate) fn assert_gone(processes: &[u32]) {
    let left = processes.iter().filter(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap_or(false));
    assert_eq!(left.collect::<Vec<_>>(), [&0; 0], "still there");
}

/// The processes started by `parent` that have not ended, or whose end it has not heard of.
#[cfg(target_os = "linux")]
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        let listed = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    children
}

#[test]
fn one_client_at_a_time_is_measured_alone_and_the_other_cells_say_why_they_are_not() {
    let scratch = Scratch::new("iterative");
    let asked = ["compare", "--backends", "iterative", "--idle", "0,5", "--active", "1,3", "--rounds", "1", "--quick"];
    let output = pollmark(&asked).args(["--out", scratch.text()]).output().expect("the command starts");
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let record = scratch.record();
    let of_row = |trial: &&pollmark::measure::record::Trial| trial.subject == "iterative" && !trial.counted;
    let measured = record.trials.iter().filter(of_row).collect::<Vec<_>>();
    assert_eq!(measured.iter().map(|trial| (trial.idle, trial.active)).collect::<Vec<_>>(), [(0, 1)]);
    assert!(measured[0].void.is_none() && measured[0].requests > 0, "{:?}", measured[0]);
    for cell in [(0, 3), (5, 1), (5, 3)] {
        let is_this =
            |one: &&pollmark::measure::record::Missing| (one.idle, one.active) == (Some(cell.0), Some(cell.1));
        let of_subject = record.missing.iter().filter(|one| one.subject == "iterative");
        let told = of_subject.filter(is_this).map(|one| one.reason.as_str()).collect::<Vec<_>>();
        assert!(
            matches!(told[..], [why] if why.contains("unsupported") && why.contains("at a time")),
            "{cell:?}: {told:?}"
        );
    }
    assert!(out.contains("unsupported: it serves one connection at a time"), "{out}");
}

#[test]
fn an_open_loop_asks_for_a_part_of_what_a_closed_one_has_found() {
    let scratch = Scratch::new("open-loop");
    let asked = ["compare", "--quick", "--backends", "poll", "--idle", "5", "--active", "3", "--rounds", "1"];
    let rates = ["--offered", "50,110", "--arrivals", "constant", "--out", scratch.text()];
    let output = pollmark(&asked).args(rates).output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = scratch.record();
    assert_eq!(record.settings.offered.iter().map(|one| one.percent).collect::<Vec<_>>(), [50, 110]);
    for subject in ["poll", "poll (A/A)"] {
        let trials = record.trials.iter().filter(|trial| trial.subject == subject && !trial.counted);
        let mut trials =
            trials.map(|trial| (trial, trial.open_loop.as_ref().expect("an open loop"))).collect::<Vec<_>>();
        trials.sort_by_key(|(_, open)| open.offered);
        assert_eq!(trials.len(), 2, "{subject}");
        let capacity = trials[0].1.capacity_per_second.expect("found out");
        for (percent, (trial, open)) in [50, 110].into_iter().zip(trials) {
            assert_eq!((&trial.void, open.offered.percent), (&None, percent));
            assert_eq!(open.capacity_per_second, Some(capacity), "found out once in a visit");
            let due = capacity * f64::from(percent) / 100.0;
            assert!((f64::from(open.due_per_second) - due).abs() <= 1.0, "{due}: {open:?}");
            let count = |histogram: &[(u64, u64)]| histogram.iter().map(|(_, times)| times).sum::<u64>();
            assert_eq!((count(&trial.latency), count(&open.from_send)), (trial.requests, trial.requests));
            assert_eq!(count(&open.slip), trial.requests + open.unsent, "each that was due is accounted for");
            assert_eq!(trial.client_limited, Some(open.is_late(&trial.latency)));
        }
    }
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("50 % of capacity, in equal steps") && out.contains("from when each was due"), "{out}");
    let csv = std::fs::read_to_string(scratch.0.join("results.csv")).expect("written");
    assert!(csv.lines().any(|line| line.contains("110,constant")), "{csv}");
    fails(&run(&["compare", "--quick", "--offered", "50", "--churn", "1"]), 2, &["connections stay"]);
    fails(&run(&["compare", "--quick", "--offered", "500"]), 2, &["from 1 to 200"]);
}

#[test]
#[cfg(unix)]
fn unix_sockets_are_measured_beside_tcp_and_counted_by_the_kernel() {
    let scratch = Scratch::new("transport");
    let asked = ["compare", "--quick", "--backends", "poll,threads", "--idle", "5", "--active", "3", "--rounds", "1"];
    let output = pollmark(&asked).args(["--transport", "tcp,unix", "--out", scratch.text()]).output();
    let output = output.expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = scratch.record();
    for subject in ["poll", "poll (A/A)", "threads"] {
        for transport in [Transport::Tcp, Transport::Unix] {
            let is_this = |trial: &&pollmark::measure::record::Trial| {
                trial.subject == subject && trial.transport == transport && !trial.counted
            };
            let trials = record.trials.iter().filter(is_this).collect::<Vec<_>>();
            assert!(
                matches!(trials[..], [trial] if trial.void.is_none() && trial.requests > 0),
                "{subject}: {trials:?}"
            );
            assert_eq!(trials[0].established, cfg!(target_os = "linux").then_some(8), "{subject} by {transport}");
        }
    }
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("3 active, over Unix sockets") && out.contains("echo over TCP and Unix sockets"), "{out}");
}

#[test]
fn beside_a_firehose_each_connection_is_served_and_accounted_for() {
    let scratch = Scratch::new("firehose");
    let asked = ["compare", "--quick", "--backends", "poll", "--idle", "2", "--active", "4", "--rounds", "1"];
    let output = pollmark(&asked).args(["--firehoses", "0,1", "--out", scratch.text()]).output();
    let output = output.expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = scratch.record();
    for firehoses in [0, 1] {
        let is_this = |trial: &&pollmark::measure::record::Trial| {
            trial.subject == "poll" && trial.firehoses == firehoses && !trial.counted
        };
        let trials = record.trials.iter().filter(is_this).collect::<Vec<_>>();
        let [trial] = trials[..] else { panic!("{trials:?}") };
        assert_eq!((&trial.void, trial.bytes), (&None, trial.requests * 64));
        let served = trial.served.expect("connections that stay");
        assert_eq!(served.connections, 4, "the firehose is not among them");
        assert!(served.least <= served.most && served.least + served.most <= trial.requests, "{served:?}");
        assert!((0.25..=1.0 + 1e-9).contains(&served.jain), "{served:?}");
        assert_eq!(trial.firehose_bytes_per_second.is_some_and(|bytes| bytes > 0.0), firehoses == 1, "{trial:?}");
    }
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("4 active, 1 firehose") && out.contains("firehose MB/s") && out.contains("Jain"), "{out}");
    fails(&run(&["compare", "--quick", "--firehoses", "65"]), 2, &["from 0 to 64"]);
}

#[test]
fn several_threads_are_rows_of_their_own_and_each_thread_is_accounted_for() {
    let scratch = Scratch::new("threads");
    let asked = ["compare", "--quick", "--backends", "poll", "--idle", "0", "--active", "4", "--rounds", "1"];
    let by = ["--threads", "1,2", "--sharing", "shared,exclusive,handout", "--out", scratch.text()];
    let output = pollmark(&asked).args(by).output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = scratch.record();
    assert_eq!(record.settings.mechanisms, ["poll", "poll ×2 shared", "poll ×2 handout"]);
    for (subject, threads) in [("poll", 0), ("poll (A/A)", 0), ("poll ×2 shared", 2), ("poll ×2 handout", 2)] {
        let trial = record.trials.iter().find(|trial| trial.subject == subject).expect(subject);
        assert!(trial.void.is_none() && trial.mechanism == "poll" && trial.requests > 0, "{trial:?}");
        assert_eq!(trial.open_by_thread.len(), threads, "{subject}");
        assert_eq!(trial.open_by_thread.iter().sum::<u64>(), if threads == 0 { 0 } else { 4 }, "{subject}");
    }
    let absent = record.missing.iter().find(|one| one.subject == "poll ×2 exclusive").expect("a row that cannot be");
    assert!(absent.reason.contains("wakes all of them"), "{absent:?}");
    fails(&run(&["compare", "--sharing", "fairly"]), 2, &["fairly", "reuseport"]);
    fails(&run(&["compare", "--threads", "1,0"]), 2, &["--threads", "between 1 and"]);
}
