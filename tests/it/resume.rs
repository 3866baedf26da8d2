//! A comparison that is killed loses nothing but the trial it was at, and is finished by `--resume`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pollmark::measure::{Record, journal};

use crate::cli::{fails, pollmark, run};
use crate::compare::Scratch;

/// How many trials have been written down.
pub(crate) fn lines(directory: &Path) -> usize {
    fs::read_to_string(directory.join("samples.ndjson")).unwrap_or_default().lines().count()
}

/// Leaves a comparison that was killed. One that ends before it can be killed, where this test has to wait for a CPU,
/// is begun anew.
fn killed(scratch: &Scratch) {
    for _ in 0..5 {
        kill_early(scratch);
        if !journal::read(&scratch.0).expect("readable after kill -9").finished {
            return;
        }
        fs::remove_dir_all(&scratch.0).expect("it is ours");
    }
    panic!("five comparisons ended before they could be killed");
}

/// Begins a comparison of twelve trials a round, and kills it when some of the first visit have been written down.
fn kill_early(scratch: &Scratch) {
    let grid = ["compare", "--quick", "--backends", "poll", "--idle", "0", "--active", "1,2,3,4", "--rounds", "2"];
    let mut command = pollmark(&grid);
    command.args(["--seed", "5", "--out", scratch.text()]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the command starts");
    let patience = Instant::now() + Duration::from_secs(60);
    while lines(&scratch.0) < 2 {
        assert!(Instant::now() < patience, "nothing was measured");
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none() || lines(&scratch.0) >= 2, "it ended by itself, and measured nothing: {ended:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("it has not been waited for");
    child.wait().expect("it ends");
}

/// Which cell of which round each trial was, in order.
fn cells(record: &Record) -> Vec<(u32, bool, String, u32)> {
    record.trials.iter().map(|trial| (trial.round, trial.counted, trial.subject.clone(), trial.active)).collect()
}

/// Replaces the value of a field that is on a line of its own.
fn set(path: &Path, field: &str, value: &str) -> String {
    let before = fs::read_to_string(path).expect("there");
    let at = before.find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("{field} is not in {}", path.display()));
    let end = at + before[at..].find([',', '\n']).expect("more follows");
    fs::write(path, format!("{}\"{field}\": {value}{}", &before[..at], &before[end..])).expect("writable");
    before
}

#[test]
fn what_is_killed_is_finished_and_what_it_had_measured_is_not_measured_again() {
    let scratch = Scratch::new("resume");
    killed(&scratch);
    let had = journal::read(&scratch.0).expect("readable after kill -9");
    assert!(had.trials.len() >= 2 && !had.finished, "{} trials", had.trials.len());
    assert!(!scratch.0.join("results.json").exists(), "it had no time for that");
    let shown = run(&["report", scratch.text()]);
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("poll"), "{shown:?}");
    fails(&run(&["compare", "--quick", "--out", scratch.text()]), 2, &["interrupted", "--resume"]);
    fails(&run(&["compare", "--resume", scratch.text(), "--rounds", "1"]), 2, &["--resume", "cannot be used with"]);

    let output = run(&["compare", "--resume", scratch.text()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = scratch.record();
    assert!(record.finished && record.seed == 5 && record.settings.rounds_done == 2, "{:?}", record.settings);
    assert_eq!(record.trials[..had.trials.len()], had.trials[..], "what was there is still there");
    let all = cells(&record);
    let timed = all.iter().filter(|(_, counted, ..)| !counted).count();
    // The mechanism, itself again, and the ceiling.
    assert_eq!((timed, all.iter().collect::<BTreeSet<_>>().len()), (2 * 3 * 4, all.len()), "each cell once");
    assert!(record.trials.iter().all(|trial| trial.void.is_none() && trial.requests > 0));
    assert!(record.trials.windows(2).all(|pair| pair[0].began_ns < pair[1].began_ns), "in the order of time");
    assert!(record.warnings.iter().any(|warning| warning.starts_with("interrupted, and resumed")));
    assert_eq!(journal::read(&scratch.0).expect("whole"), record, "the parts and results.json agree");
    fails(&run(&["compare", "--resume", scratch.text()]), 2, &["is finished", scratch.text()]);

    // The same seed gives the same order to who is not interrupted.
    let plan = fs::read_to_string(scratch.0.join("plan.json")).expect("kept");
    let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
    let planned = plan["rounds"].as_array().expect("rounds").iter().enumerate().flat_map(|(round, of)| {
        of["visits"].as_array().expect("visits").iter().flat_map(move |visit| {
            let loads = visit["loads"].as_array().expect("loads").iter();
            loads.map(move |load| (round as u64, visit["subject"].clone(), load["active"].clone()))
        })
    });
    let made = all.iter().map(|(round, _, subject, active)| {
        (u64::from(*round), subject.as_str().into(), serde_json::Value::from(*active))
    });
    assert!(planned.eq(made), "{plan}");
}

#[test]
fn what_would_be_another_comparison_is_not_resumed_and_it_says_what_differs() {
    let scratch = Scratch::new("resume-other");
    killed(&scratch);
    let before = lines(&scratch.0);
    let resume = ["compare", "--resume", scratch.text()];
    for (file, field, value, parts) in [
        ("manifest.json", "binary_sha256", "\"0123\"", &["SHA-256 of the program: 0123 then, "][..]),
        ("env.json", "kernel", "\"Plan 9\"", &["kernel: Plan 9 then, "]),
        ("manifest.json", "seed", "6", &["plan: round 1", "seed"]),
        ("plan.json", "finished", "maybe", &["plan.json", "line 2"]),
    ] {
        if field == "kernel" && cfg!(windows) {
            continue; // it is not known there
        }
        let path = scratch.0.join(file);
        let original = set(&path, field, value);
        fails(&run(&resume), 2, parts);
        fs::write(&path, original).expect("writable");
    }
    // What is there already of the order is not to be read as what is to be done.
    let path = scratch.0.join("plan.json");
    let plan = fs::read_to_string(&path).expect("there");
    fs::write(&path, plan.replacen("\"warmup_ns\":10000000", "\"warmup_ns\":20000000", 1)).expect("writable");
    fails(&run(&resume), 2, &["cannot resume", "plan:", "warmup_ns"]);
    fails(&run(&["compare", "--resume", "/no/such/directory"]), 2, &["/no/such/directory", "manifest.json"]);
    assert_eq!(lines(&scratch.0), before, "nothing was touched");
}
