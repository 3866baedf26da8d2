//! `pollmark advise`: a server under a known load is recognised by its port, and what is said of it follows from the model.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pollmark::measure::record::{Ledger, Settings, Trial};
use pollmark::measure::{Host, Record, Workload};
use pollmark::observe::{Port, State};
use pollmark::report::write;
use serde_json::Value;

use crate::commands::{fails, pollmark, run};

const PATIENCE: Duration = Duration::from_secs(120);

/// A directory of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-advise-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the test");
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }

    /// A record of a host, in which epoll costs nothing for what it watches, and the others do.
    fn record(&self, name: &str, host: Host) -> String {
        write(&record(host), &self.0.join(name)).expect("writable");
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record(host: Host) -> Record {
    let mechanisms = ["epoll", "select", "poll"].map(str::to_owned).to_vec();
    let settings = Settings {
        rounds: 3,
        rounds_done: 3,
        idle: vec![0, 100, 1_000],
        active: vec![1, 10],
        payload_bytes: 64,
        mechanisms,
        ..Settings::default()
    };
    let mut record = Record::begin(vec!["pollmark".into(), "compare".into()], 7, host, settings.clone());
    record.finished = true;
    for (subject, watched) in [("poll", 90.0), ("select", 60.0), ("epoll", 0.0)] {
        let cells = settings.idle.iter().flat_map(|idle| settings.active.iter().map(move |active| (*idle, *active)));
        for (round, (idle, active)) in (0..3).flat_map(|round| cells.clone().map(move |cell| (round, cell))) {
            let (waits, per_wait) = (10_000, u64::from(active).isqrt().max(1));
            let sleep = if active == 1 { 6_000.0 } else { 0.0 };
            let wait = 1_000.0 + watched * f64::from(idle + active) + sleep + 5_000.0 * per_wait as f64;
            record.trials.push(Trial {
                round,
                subject: subject.to_owned(),
                mechanism: subject.to_owned(),
                idle,
                active,
                duration_ns: 1_000_000_000,
                requests: waits * per_wait,
                server_cpu_ns: Some((wait * waits as f64) as u64),
                ledger: Ledger { waits, ..Ledger::default() },
                ..Trial::default()
            });
        }
    }
    record
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(arguments: &[&str]) -> (Running, SocketAddr) {
    let mut command = pollmark(&[&["serve"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the server starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a first line");
    (Running(child), line.trim().parse().expect("an address"))
}

fn load(target: SocketAddr, arguments: &[&str]) -> Running {
    let target = target.to_string();
    let mut command = pollmark(&[&["load", "--target", &target, "--duration", "1h"], arguments].concat());
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the load starts"))
}

/// Waits until what the kernel shows of the port satisfies.
fn until(port: u16, what: &str, satisfied: impl Fn(&Port) -> bool) {
    let began = Instant::now();
    loop {
        let shown = Port::observe(port).expect("on Linux");
        if satisfied(&shown) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come to be: {:?}", shown.states());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether so many connections are open, of which so many have been asked 100 times, or as often as they are at all.
fn is_busy(port: &Port, open: usize, asked: usize) -> bool {
    let figures = port.in_state(State::Established).filter_map(|one| one.figures).collect::<Vec<_>>();
    figures.len() == open && figures.iter().filter(|one| one.data_segments.1 >= 100).count() == asked
}

/// What it says as JSON, as soon as it has seen what there is to see: a host may leave server and load no time for as long as
/// they are watched.
fn advise(port: u16, arguments: &[&str], seen: impl Fn(&Value) -> bool) -> Value {
    let (began, port) = (Instant::now(), port.to_string());
    loop {
        if let Some(at) = arguments.iter().position(|one| *one == "--save") {
            let _ = fs::remove_file(arguments[at + 1]);
        }
        let output = run(&[&["advise", "--port", &port, "--json"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        let quiet = output.status.code() == Some(1) && said.contains("no request was answered");
        assert!(output.status.success() || quiet, "{said}");
        let advice = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() && seen(&advice) {
            return advice;
        }
        assert!(began.elapsed() < PATIENCE, "{said}: {}", advice["activity"]);
    }
}

fn subjects(rows: &Value) -> Vec<&str> {
    rows.as_array().expect("a list").iter().map(|row| row["subject"].as_str().expect("a name")).collect()
}

/// Whether this kernel tells the figures that all this is made of; a container may forbid them.
fn is_told() -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let _client = TcpStream::connect(address).expect("it listens");
    let port = Port::observe(address.port()).expect("on Linux");
    let told = port.connections.iter().any(|one| one.figures.is_some());
    if !told {
        println!("NOT CHECKED: this kernel has no sock_diag(7), or it is forbidden here");
    }
    told
}

#[test]
fn a_server_under_a_known_load_is_recognised_and_the_dearest_advice_comes_last() {
    if !is_told() {
        return;
    }
    let scratch = Scratch::new("known");
    let model = scratch.record("model", Host::gather());
    let (server, address) = serve(&["--backend", "poll"]);
    let _load = load(address, &["--idle", "40", "--active", "5", "--size", "100"]);
    until(address.port(), "the load", |port| is_busy(port, 45, 5));
    let saved = scratch.path("seen.toml");
    let advice = advise(
        address.port(),
        &["--for", "1s", "--record", &model, "--no-replay", "--backends", "epoll,poll", "--save", &saved],
        |advice| advice["activity"]["active"] == 5,
    );

    let (seen, pattern) = (&advice["activity"], &advice["pattern"]);
    assert_eq!(
        (&seen["open"], &seen["active"], &seen["came"], &seen["went"]),
        (&45.into(), &5.into(), &0.into(), &0.into())
    );
    assert_eq!((&seen["unasked"], &seen["fleeting"], &seen["listeners"]), (&0.into(), &false.into(), &1.into()));
    let number = |value: &Value| value.as_f64().expect("a number");
    assert!((0.0..=5.0).contains(&number(&seen["at_once"])) && number(&seen["looks"]) >= 2.0, "{seen}");
    // What has come and is not answered yet is of no exchange.
    let (received, exchanges) = (number(&seen["received"]), number(&seen["exchanges"]));
    assert!(exchanges >= 5.0 && (received - 100.0 * exchanges).abs() <= 5.0 * 100.0, "{seen}");
    assert_eq!((&pattern["payload"], &pattern["exchanges_per_connection"]), (&100.into(), &Value::Null), "{pattern}");
    assert!(number(&advice["server_cpu_ns"]) > 0.0, "it is ours, so we are told");
    let owners = advice["owners"].as_array().expect("a list");
    assert!(owners.iter().any(|one| one["process"] == server.0.id()), "{owners:?}");

    // How much it is asked is the host's doing, and so who can serve that; but not that the dear come last.
    let predicted = advice["predicted"].as_array().expect("a list");
    let place = |row: &Value| (row["most_per_second"].is_number(), number(&row["request_ns"]));
    assert!(predicted.len() == 3 && predicted.is_sorted_by(|one, other| place(one) <= place(other)), "{predicted:?}");
    assert_eq!((&advice["predicted"][0]["beyond"], &advice["replayed"]), (&Value::Array(vec![]), &Value::Null));

    let workload = Workload::read(saved.as_ref()).expect("ours");
    assert_eq!((workload.grid.idle, workload.grid.active, workload.grid.payload), (vec![40], vec![5], vec![100]));
    assert_eq!(workload.grid.mechanisms, ["epoll", "poll"]);
    assert_eq!(workload.grid.per_second.len(), 1);
    let port = address.port().to_string();
    fails(&run(&["advise", "--port", &port, "--for", "10ms"]), 2, &["--for", "100ms at least"]);
    let again = run(&["advise", "--port", &port, "--for", "1s", "--record", &model, "--save", &saved]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.code() == Some(2) && said.contains("seen.toml is there already"), "{said}");
}

#[test]
fn advice_in_the_order_of_the_model_is_replayed_beside_what_was_measured_and_shown_to_people_too() {
    if !is_told() {
        return;
    }
    let scratch = Scratch::new("replay");
    let model = scratch.record("model", Host::gather());
    let (server, address) = serve(&["--backend", "epoll"]);
    let mut clients = (0..5).map(|_| TcpStream::connect(address).expect("it listens")).collect::<Vec<_>>();
    let asking = std::thread::spawn(move || {
        let mut answer = [0; 50];
        // Until the server is gone.
        while clients[0].write_all(&[7; 50]).and_then(|()| clients[0].read_exact(&mut answer)).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    until(address.port(), "the load", |port| is_busy(port, 5, 1));
    let short = ["--for", "500ms", "--record", &model, "--backends", "poll,threads", "--rounds", "1"];
    let advice = advise(address.port(), &short, |_| true);
    assert_eq!(subjects(&advice["predicted"]), ["epoll", "select", "poll"]);
    let mut rows = subjects(&advice["replayed"]);
    rows.sort_unstable();
    assert_eq!(rows, ["poll", "threads"]);
    for row in advice["replayed"].as_array().expect("a list") {
        let (name, measured, why) = (&row["subject"], &row["measured_ns"], &row["missing"]);
        // What others do on this host may void a trial, or leave it no time.
        assert!(measured.is_number() || why.is_string(), "{row}");
        assert_eq!(row["predicted_ns"].is_number(), name == "poll", "threads have no model: {row}");
        assert_eq!(row["residual"].is_number(), name == "poll" && measured.is_number(), "{row}");
    }

    let port = address.port().to_string();
    let page = || {
        let page = run(&[&["advise", "--port", &port, "--no-replay", "--markdown"], &short[..]].concat());
        String::from_utf8(page.stdout).expect("text")
    };
    // As above: nothing was asked, if nobody had the time.
    let page = (0..20).map(|_| page()).find(|page| !page.is_empty()).expect("one of ten seconds");
    assert!(page.starts_with(&format!("## port {port}: pollmark")) && page.contains("| 1 | epoll |"), "{page}");
    assert!(page.contains("Not replayed") && page.contains("5 open: 1 asked, 4 idle"), "{page}");
    drop(server);
    asking.join().expect("it ends with the server");
}

#[test]
fn connections_that_come_and_go_are_seen_to() {
    if !is_told() {
        return;
    }
    let scratch = Scratch::new("churn");
    let model = scratch.record("model", Host::gather());
    let (_server, address) = serve(&["--backend", "poll"]);
    let _load = load(address, &["--idle", "3", "--active", "4", "--churn=20"]);
    until(address.port(), "the load", |port| port.in_state(State::Established).count() > 3);
    let advice = advise(address.port(), &["--for", "2s", "--record", &model, "--no-replay"], |advice| {
        advice["activity"]["came"].as_u64() > Some(0) && advice["activity"]["went"].as_u64() > Some(0)
    });
    let (seen, pattern) = (&advice["activity"], &advice["pattern"]);
    assert!(seen["open"].as_u64() >= Some(3), "three stay: {seen}");
    assert!(pattern["opened_per_second"].as_f64() > Some(0.0), "{pattern}");
    assert!(pattern["exchanges_per_connection"].is_u64(), "{pattern}");
    let beyond = advice["predicted"][0]["beyond"].as_array().expect("a list");
    assert!(beyond.contains(&"churn".into()), "a record without a calibration cannot say what that costs: {beyond:?}");
}

#[test]
fn a_quiet_server_a_foreign_record_and_a_port_nobody_is_at_are_failures_that_say_what_to_do() {
    let scratch = Scratch::new("failures");
    let model = scratch.record("model", Host::gather());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let _clients = [(); 3].map(|()| TcpStream::connect(address).expect("it listens"));
    let port = address.port().to_string();
    let advise = |arguments: &[&str]| run(&[&["advise", "--port", &port, "--for", "100ms"], arguments].concat());
    let last_line = |output: &std::process::Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said.lines().last().unwrap_or_default().to_owned())
    };
    if is_told() {
        let (code, said) = last_line(&advise(&["--record", &model]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("no request was answered") && said.contains("--for 60s"), "{said}");
    }

    let there = Host { cpu: Some("Another CPU of 1999".to_owned()), ..Host::gather() };
    let foreign = scratch.record("foreign", there);
    fails(
        &advise(&["--record", &foreign]),
        2,
        &["another machine", "CPU: Another CPU of 1999 there", "pollmark compare"],
    );
    let mut single = record(Host::gather());
    single.trials.retain(|trial| trial.idle == 0 && trial.active == 1);
    write(&single, &scratch.0.join("single")).expect("writable");
    fails(&advise(&["--record", &scratch.path("single")]), 2, &["no cost model", "two numbers of idle connections"]);
    fails(&advise(&["--record", &scratch.path("none")]), 2, &["none", "cannot read"]);
    fails(&advise(&["--backends", "eqoll"]), 2, &["eqoll", "available"]);
    fails(&run(&["advise"]), 2, &["--port"]);

    let (_kept, port) = crate::port_without_a_listener();
    fails(&run(&["advise", "--port", &port, "--record", &model]), 1, &["nobody listens at port", &port, "ss -ltn"]);
}
