//! The load generator against servers good and bad, and ten thousand connections to one server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::cli::{Serving, fails, pollmark, run};

/// An echo server of the standard library that spoils one byte: the one at `position` of the first connection.
pub(crate) fn spoiling(position: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let (mut buffer, mut before) = ([0; 4_096], 0);
        while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
            if (before..before + bytes).contains(&position) {
                buffer[position - before] ^= 1;
            }
            before += bytes;
            if stream.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
    });
    address
}

#[test]
fn as_many_echoes_as_asked_for_come_back_from_every_mechanism() {
    for name in ["poll", "select", "threads"] {
        let serving = Serving::start(pollmark(&["serve", "--backend", name]));
        let target = serving.address.to_string();
        for way in [&["--idle", "20"][..], &["--churn"], &["--churn=7"], &["--outstanding", "16"]] {
            let output = pollmark(&["load", "--target", &target, "--active", "5", "--requests", "777", "--json"])
                .args(way)
                .output()
                .expect("the load starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
            let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
            assert_eq!((&account["requests"], &account["verified_bytes"]), (&777.into(), &(777 * 64).into()), "{name}");
        }
    }
}

#[test]
fn an_open_loop_is_told_with_its_uncorrected_series_and_how_late_it_was() {
    let serving = Serving::start(pollmark(&["serve", "--backend", "poll"]));
    let target = serving.address.to_string();
    let load = ["load", "--target", &target, "--active", "4", "--rate", "5000", "--requests", "500"];
    for (more, arrivals) in [(&["--processes", "2"][..], "poisson"), (&["--arrivals", "constant"], "constant")] {
        let output = run(&[&load[..], more, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        let open = &account["open_loop"];
        assert_eq!((&account["requests"], &open["unsent"]), (&500.into(), &0.into()));
        assert_eq!((&open["per_second"], &open["arrivals"]), (&5000.into(), &arrivals.into()));
        let nanos = |value: &serde_json::Value| value.as_u64().expect("nanoseconds");
        assert!(nanos(&account["longest_ns"]) >= nanos(&open["from_send"]["longest_ns"]), "{account}");
        assert!(nanos(&open["slip"]["longest_ns"]) <= nanos(&account["longest_ns"]), "{account}");
    }
    let said = String::from_utf8(run(&load).stdout).expect("text");
    assert!(said.contains("from when each was due") && said.contains("from when it was sent"), "{said}");
    fails(&run(&[&load[..], &["--churn"]].concat()), 2, &["--rate", "--churn"]);
    fails(&run(&["load", "--target", &target, "--arrivals", "constant"]), 2, &["--rate"]);
    fails(&run(&["load", "--target", &target, "--rate", "1", "--processes", "2"]), 2, &["than processes"]);
}

#[test]
fn what_several_loads_leave_is_one_result_and_the_histogram_of_all() {
    let serving = Serving::start(pollmark(&["serve", "--backend", "poll"]));
    let target = serving.address.to_string();
    let scratch = crate::compare::Scratch::new("merge");
    std::fs::create_dir_all(&scratch.0).expect("a directory");
    let path = |name: &str| scratch.0.join(name).to_str().expect("a plain path").to_owned();
    let [one, two, all] = ["one.hlog", "two.hlog", "all.hlog"].map(path);
    let json = |output: &std::process::Output| -> serde_json::Value {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    };
    let load = ["load", "--target", &target, "--active", "4", "--rate", "20000", "--json", "--hdr-log"];
    let mut accounts = Vec::new();
    for (more, log) in [(&["--requests", "700"][..], &one), (&["--requests", "800", "--processes", "2"], &two)] {
        accounts.push(json(&run(&[&load[..], &[log], more].concat())));
    }
    let merged = json(&run(&["merge", &one, &two, "--hdr-log", &all, "--json"]));
    assert_eq!((&merged["requests"], &merged["verified_bytes"]), (&1_500.into(), &(1_500 * 64).into()), "{merged}");
    for (part, account) in merged["parts"].as_array().expect("a list").iter().zip(&accounts) {
        assert_eq!((&part["requests"], &part["latency"]["p50_ns"]), (&account["requests"], &account["p50_ns"]));
        assert_eq!(&part["loads"][0], account, "what it told is in the log");
    }
    let longest = accounts.iter().map(|account| account["longest_ns"].as_u64()).max().expect("two");
    assert_eq!(merged["latency"]["longest_ns"].as_u64(), longest);
    assert!(merged["latency"]["p99_ns"].is_u64() && merged["slip"]["p50_ns"].is_u64(), "{merged}");
    // Merged once more it is the same, and by hand it is too.
    let again = json(&run(&["merge", &all, "--json"]));
    for key in ["requests", "verified_bytes", "latency", "from_send", "slip", "unsent"] {
        assert_eq!(again[key], merged[key], "{key}");
    }
    let said = String::from_utf8(run(&["merge", &one, &two]).stdout).expect("text");
    assert!(said.contains("together: 2 logs, 1,500 echoes; every byte verified"), "{said}");

    fails(&run(&[&load[..], &[&one, "--requests", "1"]].concat()), 2, &["one.hlog", "there already"]);
    fails(&run(&["merge", &one, "--hdr-log", &all]), 2, &["all.hlog", "cannot write"]);
    let whole = std::fs::read_to_string(&one).expect("text");
    std::fs::write(&two, &whole[..whole.len() - 9]).expect("writable");
    let line = format!("line {}", whole.lines().count());
    fails(&run(&["merge", &one, &two]), 2, &["two.hlog", &line, "torn"]);
    fails(&run(&["merge", &path("none.hlog")]), 2, &["none.hlog", "cannot read"]);
    let lost = ["load", "--target", "127.0.0.1:1", "--requests", "1", "--hdr-log"];
    fails(&run(&[&lost[..], &[&path("lost.hlog")]].concat()), 1, &["127.0.0.1:1"]);
    assert!(!scratch.0.join("lost.hlog").exists(), "nothing was measured, nothing is left");
}

#[test]
#[cfg(unix)]
fn the_examples_for_many_hosts_are_shell_and_what_they_call_is_there() {
    use std::io::Write;
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/many-hosts.md");
    let page = std::fs::read_to_string(page).expect(page);
    let examples = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().expect("its end"));
    let mut checked = 0;
    for example in examples {
        let mut shell =
            std::process::Command::new("sh").arg("-n").stdin(std::process::Stdio::piped()).spawn().expect("sh");
        shell.stdin.take().expect("piped").write_all(example.as_bytes()).expect("it reads");
        assert!(shell.wait().expect("it ends").success(), "{example}");
        checked += 1;
    }
    assert_eq!(checked, 3, "the server, ssh, Slurm");
    for (command, lines) in [("load", 3), ("merge", 3), ("serve", 1)] {
        let help = String::from_utf8(run(&[command, "--help"]).stdout).expect("text");
        let call = format!("pollmark {command} ");
        let calls = page.split(&call).skip(1).map(|call| call.replace("\\\n", " "));
        let options = calls.clone().map(|call| call.lines().next().unwrap_or_default().to_owned());
        for option in options.flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()) {
            assert!(!option.starts_with("--") || help.contains(&option), "pollmark {command} has no {option}");
        }
        assert!(calls.count() >= lines, "{command}");
    }
}

#[test]
fn one_client_at_a_time_takes_one_connection_or_churn_and_more_are_told_and_not_waited_for() {
    let serving = Serving::start(pollmark(&["serve", "--backend", "iterative"]));
    let target = serving.address.to_string();
    for load in [&["--active", "1"][..], &["--active", "5", "--churn"]] {
        let output = run(&[&["load", "--target", &target, "--requests", "200", "--json"], load].concat());
        assert!(output.status.success(), "{load:?}: {}", String::from_utf8_lossy(&output.stderr));
        let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(account["requests"], 200, "{load:?}");
    }
    let output = run(&["load", "--target", &target, "--active", "2", "--requests", "200"]);
    fails(&output, 1, &["no echo for 10 s", "1 connection is waiting", "does not serve so many at once"]);
}

#[test]
fn a_single_wrong_byte_voids() {
    let target = spoiling(64 * 100 + 5).to_string();
    let output = run(&["load", "--target", &target, "--requests", "1000", "--json"]);
    fails(&output, 1, &["void", "wrong byte", "byte 5 "]);
    assert!(output.stdout.is_empty(), "what was measured does not count: {output:?}");
}

#[test]
fn what_cannot_be_loaded_is_answered_with_what_to_do() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port, free again");
    let nobody = nobody.to_string();
    fails(&run(&["load", "--target", &nobody]), 1, &[&nobody, "refused", "is a server listening there?"]);
    fails(&run(&["load", "--target", "127.0.0.1"]), 2, &["port is missing"]);
    fails(&run(&["load", "--target", &nobody, "--active", "0"]), 2, &["--active 0"]);
    fails(&run(&["load", "--target", &nobody, "--requests", "0"]), 2, &["nothing to do", "--requests"]);
    fails(&run(&["load", "--target", &nobody, "--duration", "0s"]), 2, &["nothing to do", "--duration"]);
    fails(&run(&["load", "--target", &nobody, "--size", "0"]), 2, &["--size", "at least one byte"]);
    fails(&run(&["load", "--target", &nobody, "--duration", "soon"]), 2, &["--duration"]);
}

#[test]
#[cfg(unix)]
fn too_few_descriptors_are_said_with_how_many_and_how_to_raise_them() {
    let script =
        format!("ulimit -n 256 && exec {} load --target 127.0.0.1:1 --idle 1000", env!("CARGO_BIN_EXE_pollmark"));
    let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
    fails(&output, 2, &["1065 needed", "256 available", "ulimit -n 1065"]);
}

/// 9,990 idle and 10 active, counted by the kernel and not by us.
#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_connections_are_served_by_one_epoll_process() {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    const CONNECTIONS: usize = 10_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit < CONNECTIONS as u64 + 100 {
        let why = format!("{CONNECTIONS} connections need as many descriptors in a process; the hard limit is {limit}");
        assert!(std::env::var_os("CI").is_none(), "not to be skipped in CI: {why}");
        eprintln!("SKIPPED: {why}");
        return;
    }
    let serving = Serving::start(pollmark(&["serve", "--backend", "epoll"]));
    let target = serving.address.to_string();
    let mut load =
        pollmark(&["load", "--target", &target, "--idle", "9990", "--active", "10", "--duration", "5s", "--json"]);
    let mut load = load.stdout(std::process::Stdio::piped()).spawn().expect("the load starts");

    // The table is read in pieces, and while other sockets come and go between two of them a line may be passed over,
    // or come twice. No connection ends before the load does, so those of several readings are put together.
    let (began, mut seen) = (Instant::now(), HashSet::new());
    while seen.len() < CONNECTIONS {
        let ended = load.try_wait().expect("a child");
        assert!(ended.is_none(), "the load ended ({ended:?}) before more than {} connections were seen", seen.len());
        assert!(began.elapsed() < Duration::from_secs(60), "{} connections", seen.len());
        seen.extend(crate::sockets::established(serving.address.port()));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(seen.len(), CONNECTIONS, "more peers than there are connections");
    let output = load.wait_with_output().expect("it ends");
    assert!(output.status.success(), "a byte was wrong, or a connection was lost");
    let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert!(account["requests"].as_u64().is_some_and(|requests| requests > 0), "{account}");
    assert_eq!((&account["idle"], &account["active"]), (&9_990.into(), &10.into()));
}

/// A server on a path and, on Linux, one without; and the first line each prints.
#[cfg(unix)]
fn on_unix_sockets() -> Vec<(std::process::Child, String)> {
    use std::io::{BufRead, BufReader};
    let own = std::process::id();
    let path = std::env::temp_dir().join(format!("pollmark-load-{own}"));
    let mut names = vec![format!("unix:{}", path.display())];
    if cfg!(any(target_os = "linux", target_os = "android")) {
        names.push(format!("unix:@pollmark-load-{own}"));
    }
    let serve = |name: String| {
        let mut command = pollmark(&["serve", "--backend", "poll", "--listen", &name, "--json"]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a first line");
        assert_eq!(line.trim(), name);
        (child, name)
    };
    names.into_iter().map(serve).collect()
}

#[test]
#[cfg(unix)]
fn over_unix_sockets_it_is_the_same_load() {
    for (mut server, name) in on_unix_sockets() {
        for load in [
            &["--idle", "200", "--active", "5"][..],
            &["--active", "5", "--churn"],
            &["--idle", "20", "--active", "4", "--processes", "2"],
        ] {
            let output = run(&[&["load", "--target", &name, "--requests", "777", "--json"], load].concat());
            assert!(output.status.success(), "{load:?}: {}", String::from_utf8_lossy(&output.stderr));
            let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
            assert_eq!(account["target"], *name, "{account}");
            assert_eq!(
                (&account["requests"], &account["verified_bytes"]),
                (&777.into(), &(777 * 64).into()),
                "{load:?}"
            );
        }
        rustix::process::kill_process(rustix::process::Pid::from_child(&server), rustix::process::Signal::TERM)
            .expect("it runs");
        let mut said = String::new();
        server.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
        assert!(server.wait().expect("it ends").success());
        let account: serde_json::Value = serde_json::from_str(&said).expect("one JSON object");
        assert_eq!(account["accepted"], 205 + 777 + 24, "{account}");
        assert_eq!(account["bytes_in"], account["bytes_out"], "{account}");
    }
}

#[test]
#[cfg(unix)]
fn a_unix_socket_that_is_not_served_is_named_with_what_to_do() {
    let path = std::env::temp_dir().join(format!("pollmark-load-nobody-{}", std::process::id()));
    let nobody = format!("unix:{}", path.display());
    fails(&run(&["load", "--target", &nobody]), 1, &[&nobody, "is a server listening there?"]);
    fails(&run(&["load", "--target", &nobody, "--sources", "127.0.0.1"]), 2, &[&nobody, "leave out --sources"]);
    fails(&run(&["load", "--target", "udp://127.0.0.1:7"]), 2, &["udp://127.0.0.1:7", "HOST:PORT or unix:/PATH"]);
}
