//! The comparison, end to end, through the command: every cell accounted for, and what interrupts it.

use std::path::PathBuf;

use pollmark::measure::Record;

use crate::cli::{fails, pollmark, run};

/// A directory that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    fn record(&self) -> Record {
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
    assert!(measured >= 4 * 4, "poll, select, polling and threads are everywhere: {measured} cells");
    assert_eq!(record.trials.iter().filter(|trial| trial.control && !trial.counted).count(), 4, "the A/A control");
    for file in ["results.json", "results.csv", "report.md", "report.html"] {
        assert!(scratch.0.join(file).metadata().is_ok_and(|file| file.len() > 0), "{file} is missing");
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
    assert!(!scratch.0.exists(), "nothing is left behind");
}

#[cfg(unix)]
mod interrupted {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Starts a comparison that would take long, and returns once its first round has begun.
    fn begun(scratch: &Scratch) -> (Child, impl BufRead + use<>) {
        let mut command = pollmark(&["compare", "--idle", "0", "--active", "1", "--rounds", "1000"]);
        let mut child = command.args(["--out", scratch.text()]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
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
        let (mut child, mut errors) = begun(&scratch);
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
    fn a_parent_that_is_killed_leaves_nothing_running() {
        let scratch = Scratch::new("killed");
        let (mut child, _errors) = begun(&scratch);
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

    #[cfg(target_os = "linux")]
    fn children_of(parent: u32) -> Vec<u32> {
        let mut children = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let listed = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(listed.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        children
    }
}
