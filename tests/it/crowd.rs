//! More connections than one process may hold: the whole experiment by one command, checked against the kernel.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pollmark::measure::Record;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{fails, pollmark, run};
use crate::compare::{Scratch, children_of};

/// How many connections this machine is known to hold, by whoever knows better than our preflight. Then a refusal is a
/// defect, and not a reason to skip.
const PROMISED: &str = "POLLMARK_PROMISED_CONNECTIONS";

/// Runs the comparison and returns its record; `None`, said aloud, if the host does not allow it.
fn experiment(name: &str, connections: u32, arguments: &[&str]) -> Option<Record> {
    let scratch = Scratch::new(name);
    let mut command = pollmark(&[&["compare", "--rounds", "1", "--out", scratch.text()], arguments].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) {
        let promised = std::env::var(PROMISED).ok().and_then(|promised| promised.parse::<u32>().ok());
        assert!(promised.is_none_or(|promised| promised < connections), "{PROMISED} says that this can be: {said}");
        println!("SKIPPED: this host does not allow {connections} connections: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    let expected = format!("preflight: {connections} connections by ");
    assert!(said.starts_with(&expected), "what the host allows is said first: {said}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Some(scratch.record())
}

/// Every trial held as many connections as it says, by the kernel's count and by ours, and left nothing behind.
fn check(record: &Record, connections: u64, processes: u32, sources: u32) {
    assert!(record.finished && record.settings.processes == Some(processes), "{:?}", record.settings);
    assert!(!record.trials.is_empty());
    for trial in &record.trials {
        assert_eq!((&trial.void, trial.errors), (&None, 0));
        assert_eq!((trial.established, trial.open), (Some(connections), Some(connections)), "kernel, servers");
        assert!(trial.requests > 0 && trial.bytes == trial.requests * record.settings.payload_bytes);
    }
    for visit in &record.visits {
        let population = visit.population.as_ref().expect("there are idle connections");
        assert_eq!((population.processes, population.sources), (processes, Some(sources)));
        assert_eq!(population.time_wait_left, Some(0), "the load closes first, by a reset");
        let each = population.servers_bytes.expect("Linux tells") as f64 / f64::from(visit.idle);
        assert!(each > 0.0 && each < 1_000.0, "{each} bytes for each connection of a server");
        assert!(population.slabs_bytes.is_some(), "Linux tells");
    }
}

#[test]
fn three_thousand_connections_of_three_processes_and_two_addresses_are_measured_like_few() {
    let arguments = ["--backends", "epoll,poll", "--idle", "2990", "--active", "10"];
    let split = ["--processes", "3", "--sources", "127.0.0.1-127.0.0.2"];
    let Some(record) = experiment("crowd-small", 3_000, &[&arguments[..], &split].concat()) else { return };
    check(&record, 3_000, 3, 2);
    let measured = record.trials.iter().map(|trial| trial.subject.as_str()).collect::<BTreeSet<_>>();
    assert_eq!(measured.into_iter().collect::<Vec<_>>(), ["epoll", "epoll (A/A)", "poll"]);
}

/// In an ordinary `cargo test` it would take a minute of everybody's.
#[test]
#[ignore = "takes a minute and a GiB of the kernel's memory: `.ci/run crowd`"]
fn a_hundred_thousand_connections_are_held_and_counted_by_the_kernel() {
    let arguments = ["--backends", "epoll", "--idle", "99900", "--active", "100", "--processes", "6"];
    // Counted from outside too, roughly: sockets in use on the whole host, two for each connection.
    let before = in_use();
    let watched = thread::spawn(move || {
        let began = Instant::now();
        while in_use().saturating_sub(before) < 199_000 {
            if began.elapsed() > Duration::from_secs(120) {
                return false;
            }
            thread::sleep(Duration::from_millis(50));
        }
        true
    });
    let Some(record) = experiment("crowd", 100_000, &arguments) else { return };
    check(&record, 100_000, 6, 12);
    // What so many take of the kernel stands out from whatever else goes on. A socket alone is more than 2 KiB, and
    // there are two for each connection.
    for visit in &record.visits {
        let population = visit.population.as_ref().expect("there are idle connections");
        let sockets = match std::fs::File::open("/proc/slabinfo") {
            Ok(_) => *population.caches_bytes.get("TCP").expect("it has grown"),
            Err(_) => population.slabs_bytes.expect("Linux tells"),
        };
        assert!(sockets > u64::from(visit.idle) * 2 * 1024, "{population:?}");
    }
    assert!(watched.join().expect("no panic"), "/proc/net/sockstat never told of so many sockets");
}

/// Sockets of TCP in use.
fn in_use() -> u64 {
    let table = std::fs::read_to_string("/proc/net/sockstat").expect("readable");
    let line = table.lines().find_map(|line| line.strip_prefix("TCP: inuse ")).expect("a line of TCP");
    line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// A comparison under way. Dropped, it is ended.
struct Comparing {
    parent: Child,
    children: Vec<u32>,
}

impl Comparing {
    /// Begins one, and returns once it has six children, which have connections to open.
    fn begin(scratch: &Scratch) -> Comparing {
        let arguments = ["compare", "--backends", "epoll", "--idle", "9000", "--processes", "3", "--rounds", "100"];
        let mut command = pollmark(&[&arguments[..], &["--active", "10", "--out", scratch.text()]].concat());
        let parent = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let mut comparing = Comparing { parent, children: Vec::new() };
        let began = Instant::now();
        while comparing.children.len() < 6 {
            assert!(began.elapsed() < Duration::from_secs(30), "servers and loads never ran at the same time");
            thread::sleep(Duration::from_millis(5));
            comparing.children = children_of(comparing.parent.id());
        }
        comparing
    }
}

impl Drop for Comparing {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

fn gone(children: &[u32]) -> bool {
    let began = Instant::now();
    while children.iter().any(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap_or(false)) {
        if began.elapsed() > Duration::from_secs(30) {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn an_interrupt_while_connections_are_opened_ends_all_and_leaves_a_record() {
    let scratch = Scratch::new("crowd-interrupt");
    let mut comparing = Comparing::begin(&scratch);
    kill_process(Pid::from_child(&comparing.parent), Signal::INT).expect("it runs");
    let mut said = String::new();
    comparing.parent.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(comparing.parent.wait().expect("it ends").code(), Some(130), "{said}");
    assert!(gone(&comparing.children), "a child outlives its parent");
    let record = scratch.record();
    assert!(!record.finished && record.trials.iter().all(|trial| trial.void.is_none()), "{said}");
}

#[test]
fn all_six_end_when_their_parent_is_killed() {
    let scratch = Scratch::new("crowd-killed");
    let mut comparing = Comparing::begin(&scratch);
    comparing.parent.kill().expect("it runs");
    comparing.parent.wait().expect("it ends");
    assert!(gone(&comparing.children), "a child outlives its parent");
}

#[test]
fn what_the_host_does_not_allow_is_refused_before_anything_is_started() {
    let refused = |arguments: &[&str], words: &[&str]| {
        let scratch = Scratch::new("crowd-refused");
        fails(&run(&[&["compare", "--out", scratch.text()], arguments].concat()), 2, words);
        assert!(!scratch.0.exists(), "nothing is left behind");
    };
    refused(&["--processes", "0"], &["--processes", "between 1 and 256"]);
    refused(&["--sources", "192.0.2.1"], &["192.0.2.1", "is it this host's?"]);
    // More than the ports of one address, whatever the range is.
    let one = ["--idle", "70000", "--processes", "64", "--sources", "127.0.0.1"];
    refused(&one, &["too few local ports: 70100 needed", "--sources"]);
}
