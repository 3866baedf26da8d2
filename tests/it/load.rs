//! The load generator against servers good and bad, and ten thousand connections to one server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::cli::{Serving, fails, pollmark, run};

/// An echo server of the standard library that spoils one byte: the one at `position` of the first connection.
fn spoiling(position: usize) -> SocketAddr {
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
        for churn in [&["--idle", "20"][..], &["--churn"]] {
            let output = pollmark(&["load", "--target", &target, "--active", "5", "--requests", "777", "--json"])
                .args(churn)
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

    // The table is read in pieces, and while other sockets come and go between two of them a line may be passed over, or
    // come twice. No connection ends before the load does, so those of several readings are put together.
    let (began, mut seen) = (Instant::now(), HashSet::new());
    while seen.len() < CONNECTIONS {
        let ended = load.try_wait().expect("a child");
        assert!(ended.is_none(), "the load ended ({ended:?}) before more than {} connections were seen", seen.len());
        assert!(began.elapsed() < Duration::from_secs(60), "{} connections", seen.len());
        seen.extend(established(serving.address.port()));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(seen.len(), CONNECTIONS, "more peers than there are connections");
    let output = load.wait_with_output().expect("it ends");
    assert!(output.status.success(), "a byte was wrong, or a connection was lost");
    let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert!(account["requests"].as_u64().is_some_and(|requests| requests > 0), "{account}");
    assert_eq!((&account["idle"], &account["active"]), (&9_990.into(), &10.into()));
}

/// The peers of the established connections that the kernel lists at a local port of 127.0.0.1.
#[cfg(target_os = "linux")]
fn established(port: u16) -> Vec<String> {
    let local = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let listed = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let here = listed.filter(|fields| fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"01"));
    here.map(|fields| fields[2].to_owned()).collect()
}
