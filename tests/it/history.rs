//! The command `history`: records of one machine one after the other, gates, and the workflow that has them.

use std::fs;
use std::path::PathBuf;

use pollmark::measure::record::{Ledger, Settings, Trial};
use pollmark::measure::{Host, Record};
use pollmark::report::write;

use crate::cli::{fails, run};

/// A directory of this test alone, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-history-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the test");
        Scratch(path)
    }

    /// Leaves a record of that day there, of a server that makes so many calls in 100 requests.
    fn record(&self, name: &str, day: u32, calls: u64) -> String {
        let mechanisms = vec!["epoll".to_owned()];
        let (idle, active) = (vec![0], vec![1]);
        let settings = Settings { rounds: 3, rounds_done: 3, idle, active, mechanisms, ..Settings::default() };
        let mut record = Record::begin(vec!["pollmark".into(), "compare".into()], 11, Host::default(), settings);
        (record.started, record.finished) = (format!("2026-01-{day:02}T00:00:00Z"), true);
        record.trials.extend((0..3).map(|round| Trial {
            round,
            subject: "epoll".to_owned(),
            mechanism: "epoll".to_owned(),
            active: 1,
            duration_ns: 1_000_000_000,
            requests: 100,
            server_cpu_ns: Some(800_000 + u64::from(round)),
            ledger: Ledger { calls, ..Ledger::default() },
            ..Trial::default()
        }));
        write(&record, &self.0.join(name)).expect("writable");
        self.path(name)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn records_are_told_in_order_and_a_gate_decides_by_counts() {
    let scratch = Scratch::new("gates");
    let [second, first] = [scratch.record("second", 2, 301), scratch.record("first", 1, 300)];
    let output = run(&["history", &second, &first, "--gate", "calls=1"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).expect("text");
    let place = |part: &str| shown.find(part).unwrap_or_else(|| panic!("{part}: {shown}"));
    assert!(place("2026-01-01") < place("2026-01-02") && place("3.00") < place("3.01"), "{shown}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("gate calls: met in each of 1 cells"));

    let third = scratch.record("third", 3, 400);
    let all = ["history", &first, &second, &third];
    let gated = |gates: &[&str]| run(&[&all[..], gates].concat());
    let said = gated(&["--gate", "calls=5"]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr);
    assert!(
        said.contains("epoll, 1 active, 0 idle: 4.000 system calls per request, 3.010 before: 32.9 % more"),
        "{said}"
    );
    // What nobody counted is said not to be judged, and is no failure beside what was.
    let said = gated(&["--gate", "calls=50", "--gate", "instructions=1"]);
    assert_eq!(said.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&said.stderr).contains("gate instructions: NOT JUDGED"));
    fails_at_the_end(&gated(&["--gate", "instructions=1"]), "no gate could be judged");
}

/// Exit code 1, and the reason in the last line.
fn fails_at_the_end(output: &std::process::Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().is_some_and(|last| last.contains(why)), "{said}");
}

#[test]
fn what_is_no_history_is_refused_with_what_to_do() {
    let scratch = Scratch::new("refused");
    let [one, two] = [scratch.record("one", 1, 300), scratch.record("two", 2, 300)];
    fails(&run(&["history"]), 2, &["RECORD", "--help"]);
    fails(&run(&["history", &one]), 2, &[&one, "one record", "name an earlier one"]);
    fails(&run(&["history", &one, &two, &one]), 2, &["the same record", "name it once"]);
    let foreign = scratch.path("foreign.json");
    fs::write(&foreign, r#"{"benchmarks":[]}"#).expect("writable");
    fails(&run(&["history", &one, &foreign]), 2, &["foreign.json", "not a record of pollmark", "no schema"]);
    fails(&run(&["history", &one, &scratch.path("nowhere")]), 2, &["cannot read", "nowhere"]);
    for (gate, why) in [
        ("cpu=5", "times differ"),
        ("calls", "COUNT=PERCENT"),
        ("calls=many", "so many percent"),
        ("calls=-1", "between 0 and 1000"),
        ("calls=NaN", "between 0 and 1000"),
        ("waits=1", "calls, or instructions"),
    ] {
        fails(&run(&["history", &one, &two, "--gate", gate]), 2, &[gate, why]);
    }
    let mut other = pollmark::report::read(&scratch.0.join("two")).expect("ours");
    other.host.cpu = Some("another".to_owned());
    write(&other, &scratch.0.join("elsewhere")).expect("writable");
    fails(&run(&["history", &one, &scratch.path("elsewhere")]), 2, &["one machine", "pollmark diff"]);
}

/// The commands of each step of the workflow, by the step's name.
#[cfg(target_os = "linux")]
fn steps() -> Vec<(String, String)> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/.github/workflows/counts.yml");
    let text = fs::read_to_string(file).expect("counts.yml");
    let named = text.split("- name: ").skip(1).map(|step| step.split("\n      - ").next().expect("a step"));
    let step = |step: &str| {
        let (name, commands) = step.split_once("run: |\n").expect("what it runs");
        (name.trim().to_owned(), commands.to_owned())
    };
    named.map(step).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn the_workflow_that_gates_on_counts_does_what_it_says() {
    use std::process::{Command, Output};

    let scratch = Scratch::new("workflow");
    // In the place of what it builds stands this build.
    for side in ["before", "after"] {
        let built = scratch.0.join(side).join("target/release");
        fs::create_dir_all(&built).expect("a directory for the test");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pollmark"), built.join("pollmark")).expect("a link");
    }
    let steps = steps();
    assert_eq!(steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["build", "measure", "judge"]);
    let built = "cargo build --locked --release --manifest-path after/Cargo.toml";
    assert!(steps[0].1.contains(built), "{}", steps[0].1);
    let shell = |commands: &str| -> Output {
        let mut shell = Command::new("bash");
        shell.args(["-e", "-o", "pipefail", "-c", commands]).current_dir(&scratch.0);
        shell.env("GITHUB_STEP_SUMMARY", scratch.0.join("summary")).output().expect("bash")
    };
    for command in steps[1].1.trim().lines() {
        let measured = shell(command);
        assert!(measured.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&measured.stderr));
    }
    let [before, after] = ["counts/before", "counts/after"].map(|side| scratch.0.join(side));
    let mut record = pollmark::report::read(&after).expect("measured");
    for trial in &mut record.trials {
        // Void may be what anybody on this host did meanwhile, and nothing else.
        let void = trial.void.take();
        assert!(void.iter().all(|why| why.contains("dropped connections on this host")), "{void:?}");
    }
    let cell = |trial: &&Trial| (trial.subject.as_str(), trial.idle, trial.counted) == ("poll", 100, false);
    let measured = record.trials.iter().filter(cell).collect::<Vec<_>>();
    assert_eq!(measured.len(), 2, "two rounds");
    // A wait, a receive and a send; the last request may have been begun before, or not ended.
    let is_whole = |trial: &&Trial| trial.ledger.calls + 3 >= 3 * trial.requests;
    assert!(measured.iter().all(is_whole), "{measured:?}");

    // Whatever this machine was busy with: the same counts on both sides are no more than before.
    let mut earlier = record.clone();
    earlier.started = "2026-01-01T00:00:00Z".to_owned();
    write(&earlier, &before).expect("writable");
    write(&record, &after).expect("writable");
    let judged = shell(&steps[2].1);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    // Twice the calls of each request are found in every cell.
    record.trials.iter_mut().for_each(|trial| trial.ledger.calls *= 2);
    write(&record, &after).expect("writable");
    let judged = shell(&steps[2].1);
    fails_at_the_end(&judged, "counts are above their gates");
    let said = String::from_utf8_lossy(&judged.stderr);
    assert!(said.contains("gate calls: poll, 1 active, 100 idle"), "{said}");
    let summary = fs::read_to_string(scratch.0.join("summary")).expect("written");
    assert!(summary.contains("| mechanism | # |") && summary.contains("calls/req"), "{summary}");
}
