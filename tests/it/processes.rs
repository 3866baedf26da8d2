//! Servers and loads that are several processes: they act as one, and none survives its parent.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{Serving, fails, pollmark, run};
use crate::sockets;
use crate::suite::PATIENCE;

/// The servers, in several processes, and what they print.
struct Servers {
    parent: Child,
    out: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Servers {
    fn start(arguments: &[&str]) -> Servers {
        Servers::start_as(&[&["--processes", "3"], arguments].concat())
    }

    /// As it is said how many they are, be it one.
    fn start_as(arguments: &[&str]) -> Servers {
        let mut command = pollmark(&[&["serve"], arguments].concat());
        let mut parent = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the servers start");
        let (mut out, mut line) = (BufReader::new(parent.stdout.take().expect("piped")), String::new());
        out.read_line(&mut line).expect("a first line");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("not an address: {line:?}"));
        Servers { parent, out, address }
    }

    fn children(&self) -> Vec<Pid> {
        let parent = self.parent.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("listed");
        children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().expect("a number")).expect("not 0")).collect()
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.parent), signal).expect("it runs");
    }

    /// Waits for the end: the exit code, what is left of stdout, and stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut said) = (String::new(), String::new());
        self.out.read_to_string(&mut out).expect("text");
        self.parent.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (self.parent.wait().expect("it ends").code(), out, said)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < 3 * PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// 2,990 idle and 10 active over three servers, three loads and two addresses, counted by the kernel and not by us.
#[test]
fn three_thousand_connections_are_shared_by_three_servers_and_leave_nothing_behind() {
    const CONNECTIONS: usize = 3_000;
    let servers = Servers::start(&["--backend", "epoll", "--json"]);
    let (port, target) = (servers.address.port(), servers.address.to_string());
    let arguments = ["load", "--target", &target, "--idle", "2990", "--active", "10", "--duration", "1h", "--json"];
    let mut load = pollmark(&arguments);
    load.args(["--processes", "3", "--sources", "127.0.0.1-127.0.0.2"]);
    let load = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the load starts");

    // Several readings are put together, for the kernel writes the table in pieces: see `load.rs`.
    let mut seen = HashSet::new();
    wait_until("every connection is listed", || {
        seen.extend(sockets::established(port));
        seen.len() >= CONNECTIONS
    });
    assert_eq!(seen.len(), CONNECTIONS, "more peers than there are connections");
    // 127.0.0.1 and 127.0.0.2, of three processes: the third shares with the first.
    let from_second = seen.iter().filter(|peer| peer.starts_with("0200007F")).count();
    assert_eq!(from_second, 1_000, "not the share of one process");

    // What is under way is interrupted, and what was done until then counts.
    kill_process(Pid::from_child(&load), Signal::INT).expect("it runs");
    let output = load.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.starts_with("preflight: 3000 connections by 3 load processes\n"), "{said}");
    let account: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert!(account["requests"].as_u64().is_some_and(|requests| requests > 0), "{account}");
    assert_eq!((&account["idle"], &account["active"], &account["processes"]), (&2_990.into(), &10.into(), &3.into()));
    assert_eq!(account["verified_bytes"].as_u64(), account["requests"].as_u64().map(|requests| requests * 64));

    // It closed first, by a reset: neither end has to wait for stray segments.
    wait_until("every connection is gone", || sockets::at(port).iter().all(|one| one.state != sockets::ESTABLISHED));
    let waiting = sockets::at(port).iter().filter(|one| one.state == sockets::TIME_WAIT).count();
    assert_eq!(waiting, 0, "sockets are left in TIME_WAIT");

    kill_process(Pid::from_child(&servers.parent), Signal::TERM).expect("it runs");
    let (code, out, said) = servers.end();
    assert_eq!(code, Some(0), "{said}");
    let account: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    let each = account["processes"].as_array().expect("one for each");
    let accepted = |of: &serde_json::Value| of["accepted"].as_u64().expect("a number");
    assert_eq!((accepted(&account), each.len()), (3_000, 3), "{account}");
    assert_eq!(each.iter().map(accepted).sum::<u64>(), 3_000);
    // By a hash of the addresses: a server with less than a quarter of its share is no matter of chance.
    assert!(each.iter().all(|of| accepted(of) > 250), "{account}");
}

#[test]
fn what_takes_part_in_a_port_unasked_is_refused() {
    let servers = Servers::start(&[]);
    let taken = servers.address.to_string();
    fails(&run(&["serve", "--listen", &taken, "--processes", "3"]), 1, &[&taken, "another socket listens there"]);
    fails(&run(&["serve", "--listen", &taken]), 1, &[&taken, "another socket listens there"]);
    let alone = Serving::start(pollmark(&["serve"]));
    let taken = alone.address.to_string();
    fails(&run(&["serve", "--listen", &taken, "--processes", "2"]), 1, &[&taken, "another socket listens there"]);
}

#[test]
fn datagrams_of_a_port_are_shared_out_by_who_sent_them() {
    const CLIENTS: u64 = 64;
    let mut servers = Servers::start(&["--listen", "127.0.0.1:0", "--listen", "udp://127.0.0.1:0", "--json"]);
    let mut line = String::new();
    servers.out.read_line(&mut line).expect("a second line");
    let address = line.trim().strip_prefix("udp://").unwrap_or_else(|| panic!("not of UDP: {line:?}"));
    for number in 0..CLIENTS {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.connect(address).expect("an address");
        let mut heard = [0; 9];
        client.send(&number.to_be_bytes()).expect("sent");
        assert_eq!(client.recv(&mut heard).expect("an answer"), 8);
        assert_eq!(heard[..8], number.to_be_bytes());
    }
    servers.signal(Signal::TERM);
    let (code, out, said) = servers.end();
    assert_eq!(code, Some(0), "{said}");
    let account: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((&account["bytes_in"], &account["bytes_out"]), (&(8 * CLIENTS).into(), &(8 * CLIENTS).into()));
    let each = account["processes"].as_array().expect("one for each");
    // By a hash of the addresses: a server that was sent none of so many was left out.
    assert!(each.len() == 3 && each.iter().all(|of| of["bytes_in"].as_u64() > Some(0)), "{account}");
}

#[test]
fn where_the_kernel_shares_nothing_out_they_are_refused_with_what_to_do() {
    for address in ["unix:/nowhere/echo.sock", "unix:@echo", "unixgram:/nowhere/echo.sock"] {
        let output = run(&["serve", "--processes", "2", "--listen", "127.0.0.1:0", "--listen", address]);
        fails(&output, 2, &[address, "SO_REUSEPORT", "--threads", "--sharing shared"]);
    }
}

#[test]
fn they_serve_any_protocol_without_state_by_several_threads_each_and_behind_proxies() {
    let more = ["--threads", "2", "--sharing", "shared", "--proxy-protocol", "from=127.0.0.1", "--json"];
    let servers = Servers::start(&[&["--backend", "poll", "--protocol", "frame"], &more[..]].concat());
    for _ in 0..20 {
        let mut client = TcpStream::connect(servers.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(b"PROXY UNKNOWN\r\n\0\0\0\x05hello").expect("connected");
        let mut framed = [0; 9];
        client.read_exact(&mut framed).expect("a frame");
        assert_eq!(&framed, b"\0\0\0\x05hello");
    }
    let mut nobody = TcpStream::connect(servers.address).expect("it listens");
    nobody.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    nobody.write_all(b"\0\0\0\x05hello").expect("connected");
    assert_eq!(nobody.read(&mut [0]).expect_err("no header").kind(), std::io::ErrorKind::ConnectionReset);
    // The threads of each, and what waits for orders beside them. A thread has its name when it first runs.
    for child in servers.children() {
        let named = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.as_raw_nonzero())).expect("it runs");
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|name| name.starts_with("loop-")).count()
        };
        wait_until("each of the processes has two loops", || named() == 2);
    }
    kill_process(Pid::from_child(&servers.parent), Signal::TERM).expect("it runs");
    let (code, out, said) = servers.end();
    assert_eq!(code, Some(0), "{said}");
    let account: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!((&account["accepted"], &account["closed"]), (&21.into(), &21.into()), "{account}");
}

/// A client that is idle, and one that has asked for `hello` and begun to ask for `world`: the server knows, for it has
/// answered what came in the same segment.
fn idle_and_busy(servers: &Servers) -> (TcpStream, TcpStream) {
    let (mut idle, mut busy) = (servers.connect(), servers.connect());
    let mut framed = [0; 9];
    for (client, asked) in [(&mut idle, &b"\0\0\0\x05hello"[..]), (&mut busy, b"\0\0\0\x05hello\0\0\0\x05wor")] {
        client.write_all(asked).expect("connected");
        client.read_exact(&mut framed).expect("a frame");
        assert_eq!(&framed, b"\0\0\0\x05hello");
    }
    (idle, busy)
}

/// In one process and in several, by one thread and by several: the same.
const SHAPES: [&[&str]; 4] =
    [&[], &["--threads", "2", "--sharing", "handout"], &["--processes", "3"], &["--processes", "2", "--threads", "2"]];

#[test]
fn at_the_first_signal_they_finish_what_is_under_way_and_account_for_it() {
    for (shape, signal) in SHAPES.into_iter().zip([Signal::TERM, Signal::INT, Signal::TERM, Signal::INT]) {
        let options = ["--backend", "poll", "--protocol", "frame", "--drain", "1h", "--json"];
        let mut servers = Servers::start_as(&[&options[..], shape].concat());
        let (mut idle, mut busy) = idle_and_busy(&servers);
        servers.signal(signal);
        assert_eq!(idle.read(&mut [0]).expect("an orderly end"), 0, "{shape:?}");
        assert!(servers.parent.try_wait().expect("a child").is_none(), "it has not waited for the other: {shape:?}");
        busy.write_all(b"ld").expect("connected");
        let mut framed = Vec::new();
        busy.read_to_end(&mut framed).expect("an orderly end");
        assert_eq!(framed, b"\0\0\0\x05world", "{shape:?}");
        wait_until("it ends by itself", || servers.parent.try_wait().expect("a child").is_some());
        let (code, out, said) = servers.end();
        assert_eq!(code, Some(0), "{said}");
        let account: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
        assert_eq!((&account["accepted"], &account["closed"], &account["open"]), (&2.into(), &2.into(), &0.into()));
        assert_eq!((&account["bytes_in"], &account["bytes_out"]), (&27.into(), &27.into()), "{shape:?}: {account}");
    }
}

#[test]
fn at_the_second_signal_they_stop_at_once_and_account_for_what_was_done() {
    for (shape, signal) in SHAPES.into_iter().zip([Signal::INT, Signal::TERM, Signal::INT, Signal::TERM]) {
        let mut servers =
            Servers::start_as(&[&["--backend", "poll", "--protocol", "frame", "--drain", "1h"], shape].concat());
        let (mut idle, mut busy) = idle_and_busy(&servers);
        servers.signal(signal);
        assert_eq!(idle.read(&mut [0]).expect("an orderly end"), 0, "{shape:?}"); // so the first has been acted upon
        servers.signal(Signal::TERM);
        wait_until("it waits for nobody", || servers.parent.try_wait().expect("a child").is_some());
        // Closed as it stands, be it by a reset.
        assert!(matches!(busy.read(&mut [0]), Ok(0) | Err(_)), "{shape:?}");
        let (code, _, said) = servers.end();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("0 open, 2 accepted, 0 refused, 2 closed; 25 B in, 18 B out"), "{shape:?}: {said}");
    }
}

#[test]
fn servers_do_not_survive_a_parent_that_is_killed() {
    let mut servers = Servers::start(&[]);
    let (children, address) = (servers.children(), servers.address);
    assert_eq!(children.len(), 3);
    servers.parent.kill().expect("it runs");
    servers.parent.wait().expect("it ends");
    wait_until("nobody listens any more", || TcpStream::connect(address).is_err());
    wait_until("no child is left", || {
        children.iter().all(|child| {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
            // A zombie has ended: nobody here is its parent.
            state.map_or(true, |stat| !stat.contains("pollmark") || stat.contains(") Z "))
        })
    });
}

#[test]
fn a_server_that_is_gone_ends_the_others_and_their_account_is_kept() {
    let servers = Servers::start(&["--json"]);
    kill_process(servers.children()[1], Signal::KILL).expect("it runs");
    let (code, out, said) = servers.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the server process 2 of 3 has ended") && said.contains('9'), "{said}");
    let account: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    assert_eq!(account["processes"].as_array().map(Vec::len), Some(2), "{account}");
}

#[test]
fn a_wrong_byte_in_one_load_process_voids_them_all() {
    let nobody = "127.0.0.1:1";
    fails(&run(&["load", "--target", nobody, "--processes", "300"]), 2, &["--processes", "between 1 and 256"]);
    let output = run(&["load", "--target", nobody, "--processes", "2", "--sources", "192.0.2.1"]);
    fails(&output, 2, &["192.0.2.1", "is it this host's?"]);
    let target = crate::load::spoiling(64 * 100 + 5).to_string();
    // The server takes one connection: that of the first process. The second would wait for its echo in vain.
    let output = run(&["load", "--target", &target, "--processes", "2", "--active", "1", "--requests", "1000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.trim_end().lines().last().is_some_and(|line| line.contains("void: wrong byte")), "{said}");
    assert!(output.stdout.is_empty(), "what was measured does not count: {output:?}");
}

#[test]
fn more_than_the_processes_may_hold_is_refused_with_how_many_would() {
    let load = format!("exec {} load --target 127.0.0.1:1 --idle 1000", env!("CARGO_BIN_EXE_pollmark"));
    for (processes, words) in [("2", ["565 needed", "256 available", "--processes 6"]), ("1", ["1065", "256", "6"])] {
        let script = format!("ulimit -n 256 && {load} --processes {processes}");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        fails(&output, 2, &words);
    }
}
