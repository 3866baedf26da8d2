//! Servers that are not ours beside ours: measured with every byte verified, missing with a reason, and gone afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;

use pollmark::report::{Outcome, Summary};

use crate::cli::{fails, pollmark, run};
use crate::compare::Scratch;

/// A contestant's file, with commands in TOML's words.
fn file(scratch: &Scratch, name: &str, version: &[&str], run: &[&str], more: &str) -> PathBuf {
    fs::create_dir_all(&scratch.0).expect("a directory");
    let path = scratch.0.join(format!("{name}.toml"));
    let text = format!(
        "name = '{name}'\nclass = 'own'\ntitle = 'For a test'\nsettings = 'None.'\nversion = {version:?}\nrun = {run:?}\n{more}"
    );
    fs::write(&path, text).expect("writable");
    path
}

const US: &str = env!("CARGO_BIN_EXE_pollmark");

/// This program of tests, as a server that does not do what a server has to: nothing needs to be installed for it.
fn dishonest(scratch: &Scratch, name: &str, test: &str) -> PathBuf {
    let me = std::env::current_exe().expect("it runs");
    let me = me.to_str().expect("a plain path");
    let one_test = [me, &format!("contestants::{test}"), "--exact", "--ignored", "--skip", "{addr}"];
    file(scratch, name, &[US, "--version"], &one_test, "")
}

/// Serves another test at the address that it is given as what it is to skip; without, it does nothing. `spoil` may change
/// the answer, of which it is told how many there were on this connection, and whether it is sent at all; on `false` the
/// connection is at its end.
fn serve_badly(spoil: fn(u64, &mut Vec<u8>) -> bool) {
    let Some(address) = std::env::args().skip_while(|one| one != "--skip").nth(1) else { return };
    let Ok(listener) = TcpListener::bind(&address) else { return };
    for mut stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            for exchange in 0.. {
                let Ok(length @ 1..) = stream.read(&mut buffer) else { break };
                let mut answer = buffer[..length].to_vec();
                if !spoil(exchange, &mut answer) || stream.write_all(&answer).is_err() {
                    break;
                }
            }
        });
    }
}

/// So many exchanges are served well: each connection has one before it is measured, and one then.
const HONEST: u64 = 1;

/// No test, but the server of one.
#[test]
#[ignore = "it serves another test"]
fn what_echoes_one_wrong_byte() {
    serve_badly(|exchange, answer| {
        let last = answer.len() - 1;
        answer[last] ^= u8::from(exchange == HONEST);
        true
    });
}

/// As above.
#[test]
#[ignore = "it serves another test"]
fn what_drops_a_connection() {
    serve_badly(|exchange, _| exchange < HONEST);
}

/// As above: as of a poller that does not tell of what is ready.
#[test]
#[ignore = "it serves another test"]
fn what_leaves_a_connection_unanswered() {
    serve_badly(|exchange, answer| {
        if exchange >= HONEST {
            answer.clear();
        }
        true
    });
}

#[test]
fn who_echoes_one_wrong_byte_or_drops_a_connection_or_does_not_see_what_is_ready_is_void_and_not_ranked() {
    let scratch = Scratch::new("dishonest");
    let out = Scratch(scratch.0.join("out"));
    let mut command = pollmark(&["compare", "--quick", "--backends", "poll", "--idle", "0", "--active", "2"]);
    command.args(["--rounds", "1", "--seed", "1", "--out", out.text()]);
    let all = [
        ("liar", "what_echoes_one_wrong_byte", &["wrong byte", "instead of"][..]),
        ("dropper", "what_drops_a_connection", &["closed", "lost"]),
        ("sleeper", "what_leaves_a_connection_unanswered", &["no echo"]),
    ];
    for (name, test, _) in all {
        command.arg("--contestant").arg(dishonest(&scratch, name, test));
    }
    let output = command.output().expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "what is void is a failure of the run: {said}");
    let record = out.record();
    let summary = Summary::of(&record);
    for (name, _, words) in all {
        let row = summary.subjects.iter().position(|one| one.name == format!("{name} (own)")).expect("a row");
        let cells = summary.cells.iter().filter(|cell| cell.subject == row).collect::<Vec<_>>();
        assert!(!cells.is_empty(), "{name}");
        for cell in cells {
            match &cell.outcome {
                Outcome::Void(why) => assert!(words.iter().any(|word| why.contains(word)), "{name}: {why}"),
                other => panic!("{name} is not void: {other:?}"),
            }
        }
    }
    for cell in summary.cells.iter().filter(|cell| summary.subjects[cell.subject].name == "poll") {
        // What else runs on this host may make the kernel drop something meanwhile.
        let innocent = |why: &String| all.iter().all(|(.., words)| words.iter().all(|word| !why.contains(word)));
        assert!(
            matches!(&cell.outcome, Outcome::Measured(_))
                || matches!(&cell.outcome, Outcome::Void(why) if innocent(why))
        );
    }
}

#[test]
fn a_contestant_stands_beside_ours_a_wrong_byte_is_void_and_one_that_is_not_here_is_missing() {
    let scratch = Scratch::new("contestants");
    let ours =
        file(&scratch, "ours", &[US, "--version"], &[US, "serve", "--backend", "poll", "--listen", "{addr}"], "");
    let liar = dishonest(&scratch, "liar", "what_echoes_one_wrong_byte");
    let gone = file(&scratch, "gone", &["./no-such"], &["./no-such", "{addr}"], "needs = 'libgone-dev'\n");
    let out = Scratch(scratch.0.join("out"));
    let mut command = pollmark(&["compare", "--quick", "--backends", "poll", "--idle", "0,3", "--active", "2"]);
    command.args(["--rounds", "1", "--seed", "1", "--out", out.text()]);
    for path in [&ours, &liar, &gone] {
        command.arg("--contestant").arg(path);
    }
    let output = command.output().expect("the command starts");
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "what is void is a failure of the run: {said}");
    let record = out.record();
    assert_eq!(record.settings.mechanisms, ["poll", "ours (own)", "liar (own)"]);

    let of = |subject: &str| {
        let trials = record.trials.iter().filter(|trial| trial.subject == subject && !trial.counted);
        trials.collect::<Vec<_>>()
    };
    assert_eq!(of("ours (own)").len(), 2);
    for trial in of("ours (own)") {
        assert_eq!((&trial.void, trial.errors, trial.ledger.calls, trial.open), (&None, 0, 0, None), "{trial:?}");
        assert!(trial.requests > 0 && trial.bytes == trial.requests * 64, "{trial:?}");
        if cfg!(target_os = "linux") {
            assert!(trial.server_cpu_ns.is_some_and(|cpu| cpu > 0), "{trial:?}");
            assert!(trial.server_rss_bytes.is_some_and(|bytes| bytes > 0), "{trial:?}");
            assert_eq!(trial.established, Some(u64::from(trial.idle) + 2), "by the kernel's count");
        }
    }
    assert!(of("poll").iter().all(|trial| trial.void.is_none() && trial.ledger.calls > 0));
    for trial in of("liar (own)") {
        let void = trial.void.as_deref().expect("a wrong byte voids");
        assert!(void.contains("wrong byte") || void.contains("instead of"), "{void}");
    }
    let about = record.contestants.iter().map(|one| (one.label.as_str(), one.version.starts_with("pollmark ")));
    assert_eq!(about.collect::<Vec<_>>(), [("ours (own)", true), ("liar (own)", true)]);
    let gone = record.missing.iter().find(|one| one.subject == "gone (own)").expect("it is put down");
    for words in ["missing: ./no-such is not there", "libgone-dev"] {
        assert!(gone.reason.contains(words), "{words:?} is missing: {}", gone.reason);
    }
    for words in ["ours (own): For a test", "liar (own), everywhere: void", "gone (own), everywhere: missing"] {
        assert!(shown.contains(words), "{words:?} is missing: {shown}");
    }
}

#[test]
fn what_is_here_is_listed_with_its_version_and_what_fails_to_build_is_said() {
    let scratch = Scratch::new("listed");
    file(&scratch, "a", &[US, "--version"], &[US, "serve", "--backend", "poll", "--listen", "{addr}"], "");
    let fails_to_start = [US, "serve", "--backend", "poll", "--no-such", "{addr}"];
    file(&scratch, "b", &[US, "--version"], &fails_to_start, &format!("build = [{US:?}, '--no-such']\n"));
    let output = run(&["contestants", scratch.text()]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for words in
        ["a (own): For a test\n  available: pollmark ", "missing: b has ended", "--no-such", "1 available, 1 missing"]
    {
        assert!(shown.contains(words), "{words:?} is missing: {shown}");
    }
    let output = run(&["contestants", "--build", "--json", scratch.text()]);
    assert_eq!(output.status.code(), Some(1), "it could not be built");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON all the same");
    assert_eq!(listed[0]["available"], true, "{listed}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 could not be built: b (own)"));
}

#[test]
fn what_is_no_contestant_is_answered_with_what_is_wanted() {
    let scratch = Scratch::new("no-contestant");
    let twice = file(&scratch, "twice", &[US, "--version"], &[US, "{addr}"], "");
    let twice = twice.to_str().expect("a plain path");
    let compare = ["compare", "--quick", "--contestant", twice, "--contestant", twice, "--out"];
    let out = scratch.0.join("out");
    let output = pollmark(&compare).arg(&out).output().expect("the command starts");
    fails(&output, 2, &["two contestants are called twice (own)"]);
    assert!(!out.exists(), "nothing is left");
    fs::write(scratch.0.join("wrong.toml"), "name = 'wrong'").expect("writable");
    fails(&run(&["compare", "--contestant", scratch.text()]), 2, &["wrong.toml", "missing field `class`"]);
    fails(&run(&["contestants", "no/such.toml"]), 2, &["cannot read no/such.toml"]);
}

/// The whole tree, also what a script has left in the background and what will not hear SIGTERM.
#[test]
#[cfg(target_os = "linux")]
fn a_parent_that_is_killed_leaves_no_contestant_running() {
    use crate::compare::children_of;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let scratch = Scratch::new("contestant-killed");
    let script = format!("trap '' TERM; '{US}' serve --backend poll --listen $1 & wait");
    let stubborn = file(&scratch, "stubborn", &[US, "--version"], &["sh", "-c", &script, "sh", "{addr}"], "");
    let mut command = pollmark(&["compare", "--quick", "--backends", "poll", "--idle", "0", "--active", "1"]);
    command.args(["--rounds", "1000", "--out", scratch.0.join("out").to_str().expect("a plain path")]);
    let child = command.arg("--contestant").arg(stubborn).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().expect("the command starts");
    let deadline = Instant::now() + Duration::from_secs(30);
    // Child of ours, shell, server: three generations.
    let of = |all: Vec<u32>| all.into_iter().flat_map(children_of).collect::<Vec<_>>();
    let tree = loop {
        let children = children_of(child.id());
        let shells = of(children.clone());
        let servers = of(shells.clone());
        if !servers.is_empty() {
            break [children, shells, servers].concat();
        }
        assert!(Instant::now() < deadline, "no contestant was ever started");
    };
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    while tree.iter().any(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false)) {
        assert!(Instant::now() < deadline, "something outlives its parent: {tree:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Until the process has ended of itself, which it does in time: its exit code.
#[cfg(target_os = "linux")]
fn ended(child: &mut std::process::Child) -> Option<i32> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        if std::time::Instant::now() > deadline {
            child.kill().expect("it runs");
            panic!("it does not hear the interrupt");
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_while_a_contestant_runs_ends_it_and_keeps_what_was_measured() {
    use crate::cli::cpu_ticks;
    use crate::compare::{assert_gone, assert_kept, children_of};
    use rustix::process::{Pid, Signal, kill_process};
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let scratch = Scratch::new("contestant-interrupted");
    let serve = [US, "serve", "--backend", "poll", "--listen", "{addr}"];
    // Not heard before the hour is over, the interrupt would be heard too late.
    let ours = file(&scratch, "ours", &[US, "--version"], &serve, "warm-up = '1h'\n");
    let out = Scratch(scratch.0.join("out"));
    let mut command = pollmark(&["compare", "--quick", "--backends", "poll", "--idle", "0", "--active", "1"]);
    // By this seed the contestant is not the first.
    command.args(["--rounds", "1000", "--seed", "1", "--out", out.text()]).arg("--contestant").arg(ours);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the command starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    let tree = loop {
        let children = children_of(child.id());
        let servers = children.iter().copied().flat_map(children_of).collect::<Vec<_>>();
        // Kept busy for so long, it is being warmed up.
        if servers.iter().any(|pid| cpu_ticks(*pid) > Some(10)) && crate::resume::lines(&out.0) > 0 {
            break [children, servers].concat();
        }
        assert!(Instant::now() < deadline, "no contestant was ever measured");
        std::thread::sleep(Duration::from_millis(2));
    };
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(ended(&mut child), Some(130));
    assert_kept(&out);
    assert_gone(&tree);
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_before_anything_is_measured_leaves_nothing_and_makes_no_contestant_missing() {
    use rustix::process::{Pid, Signal, kill_process_group};
    use std::os::unix::process::CommandExt;
    use std::time::{Duration, Instant};

    let scratch = Scratch::new("contestant-unasked");
    let slow = file(&scratch, "slow", &["sh", "-c", "touch asked; exec sleep 60"], &["./no-such", "{addr}"], "");
    let out = scratch.0.join("out");
    let mut command = pollmark(&["compare", "--quick", "--backends", "poll", "--contestant"]);
    // As a terminal does, which interrupts all that runs in its foreground.
    let mut child = command.arg(slow).arg("--out").arg(&out).process_group(0).spawn().expect("the command starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !scratch.0.join("asked").exists() {
        assert!(Instant::now() < deadline, "its version was never asked for");
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process_group(Pid::from_child(&child), Signal::INT).expect("it runs");
    assert_eq!(ended(&mut child), Some(130));
    assert!(!out.exists(), "nothing was measured, and nothing is left");
}
