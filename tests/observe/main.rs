//! `pollmark watch`, `pollmark advise` and `pollmark explain`: what the kernel shows of sockets, and that it is seen and not recited.
//!
//! On its own, for experiments overflow listen queues, and a comparison beside them would find its trials void: the kernel
//! counts that for the whole host.
#![cfg(feature = "cli")]

#[cfg(target_os = "linux")]
use std::io::Write;
#[cfg(target_os = "linux")]
use std::net::{TcpListener, TcpStream};

#[cfg(target_os = "linux")]
use pollmark::backends::Registry;
#[cfg(target_os = "linux")]
use pollmark::mechanism::Mechanism;
use pollmark::observe::explain::Topic;
#[cfg(target_os = "linux")]
use serde_json::Value;

#[cfg(target_os = "linux")]
mod advise;
#[path = "../suite/commands.rs"]
mod commands;
#[cfg(target_os = "linux")]
use commands::pollmark;
use commands::{fails, run};

/// The lesson of a topic with these settings, and the exit code.
#[cfg(target_os = "linux")]
fn explain(topic: &str, settings: &str) -> (Value, Option<i32>) {
    let sets = settings.split_whitespace().flat_map(|setting| ["--set", setting]);
    let arguments = ["explain", topic, "--json"].into_iter().chain(sets).collect::<Vec<_>>();
    let output = run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let lesson = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{topic}: {error}: {said}"));
    (lesson, output.status.code())
}

#[cfg(target_os = "linux")]
fn text(lesson: &Value) -> &str {
    lesson["text"].as_str().expect("a lesson")
}

/// What of the prediction did not hold.
#[cfg(target_os = "linux")]
fn not_held(lesson: &Value) -> Vec<&str> {
    let claims = lesson["claims"].as_array().expect("claims").iter();
    claims.filter(|claim| claim["held"] == false).map(|claim| claim["what"].as_str().expect("about what")).collect()
}

#[test]
fn every_topic_holds_on_this_host_and_is_a_chapter_of_the_guide() {
    let output = run(&["explain", "--all", "--markdown"]);
    let (guide, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}\n{guide}");
    assert!(!guide.contains("NOT HELD"), "{guide}");
    for topic in Topic::all() {
        if !cfg!(target_os = "linux") && guide.contains(&format!("{}: ", topic.name)) {
            println!("skipped: {}: not on this system", topic.name);
            continue;
        }
        let chapter = guide.split("\n## ").find(|chapter| chapter.starts_with(&format!("{}\n", topic.name)));
        let chapter = chapter.unwrap_or_else(|| panic!("{} has no chapter:\n{guide}", topic.name));
        assert!(chapter.contains("| held |") && chapter.contains("```text\n"), "{chapter}");
        assert_eq!(chapter.matches("Read on: ").count(), 1, "{chapter}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_setting_changes_the_lesson() {
    for (topic, setting, words) in [
        ("lifecycle", "bytes=33", "carried 33 bytes each way"),
        ("two-sockets", "bytes=77", "The 77 bytes of the client"),
        ("handshake-without-accept", "clients=3", "3 clients were connected before"),
        ("listen-with-ten-clients", "clients=4", "4 calls of accept returned another each, so that there were 5"),
        ("backlog", "backlog=5", "made room for 6 connections"),
        ("byte-stream", "bytes=50", "Three writes of 50 bytes came as one read of 150"),
        ("event-loop", "clients=2", "40 messages of 2 clients"),
        ("four-tuple", "clients=7", "7 connections shared port"),
        ("serialization", "number=258", "The number 258 and the text"),
        ("keep-alive-and-pools", "requests=20", "20 requests left 20 sockets in TIME_WAIT"),
        ("connection-cost", "delay_ms=7", "With 14 ms for a round trip"),
        ("timeouts", "limit_ms=100", "With 100 ms for each, four servers"),
    ] {
        let (lesson, code) = explain(topic, setting);
        assert_eq!((not_held(&lesson), code), (vec![], Some(0)), "{topic}: {lesson}");
        assert!(text(&lesson).contains(words), "{topic} with {setting}: {}", text(&lesson));
        assert!(!text(&explain(topic, "").0).contains(words), "{topic} says so with any setting");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_setting_that_takes_the_cause_away_takes_the_effect_away() {
    for (topic, setting, missed) in [
        ("backlog", "defer=0", "half-open at the server while the clients are silent"),
        ("listen-with-ten-clients", "waiting=3", "clients that are answered without the listener"),
        ("byte-stream", "room=5", "bytes in one read, after three writes"),
        ("nagle-and-delayed-ack", "nodelay=1", "requests of which the second write was held back"),
        ("half-close", "close=1", "bytes of the answer that arrive"),
        ("reset", "unread=0", "recv after the peer closed with bytes unread"),
        ("time-wait", "client_first=1", "TIME_WAIT is at the end of"),
        ("time-wait", "reuse_address=0", "bind to it with SO_REUSEADDR"),
        ("time-wait", "reset=1", "connections refused to a client that has used each of its ports"),
        ("address-in-use", "reuse_port=1", "a second one at the same address and port"),
        ("too-many-open-files", "spare=0", "who is accepted then"),
        ("four-tuple", "same=1", "a second connection from the client's port, to another server"),
        ("datagrams", "messages=500 receive_buffer=1048576", "messages received"),
        ("serialization", "swap=1", "the number read"),
        ("one-at-a-time", "threads=1 wait_ms=5000", "the second is answered while the first is idle"),
        ("thread-per-connection", "loop=1", "threads more"),
        ("blocking-call-in-the-loop", "threads=1 hold_ms=2000", "threads: others answered while the call lasts"),
        ("thundering-herd", "exclusive=0", "epoll, exclusively: threads that woke up"),
        ("head-of-line", "own=1", "answered before the slow one, on one connection"),
        ("connection-cost", "keep=0", "TCP alone: round trips to each other answer, at most"),
        ("unix-sockets", "remove=1", "bind by the next server"),
        ("proxy-in-between", "say=0", "whose connection it is, as the proxy says"),
        ("proxy-in-between", "kill=0", "the client's end"),
        ("request-reply-over-udp", "tries=1", "requests answered"),
        ("level-and-edge", "read=10000", "epoll, level: told again of the 0 left"),
    ] {
        let (lesson, code) = explain(topic, setting);
        assert_eq!(code, Some(1), "{topic} with {setting}: {lesson}");
        assert!(not_held(&lesson).contains(&missed), "{topic} with {setting}: {:?}", not_held(&lesson));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn more_room_takes_more_bytes() {
    for (topic, small, large, what) in [
        ("slow-reader", "receive_buffer=8192", "receive_buffer=262144", "bytes the client has read in the end"),
        (
            "blocking-and-nonblocking",
            "send_buffer=8192",
            "send_buffer=1048576",
            "bytes written until there was no room",
        ),
        ("slow-reader", "send_buffer=8192", "send_buffer=262144", "bytes the client has read in the end"),
    ] {
        let filled = |setting| {
            let (lesson, code) = explain(topic, setting);
            assert_eq!(code, Some(0), "{lesson}");
            let claims = lesson["claims"].as_array().expect("claims").clone();
            let claim = claims.into_iter().find(|claim| claim["what"] == what).expect("it is claimed");
            claim["seen"].as_str().expect("a figure").parse::<u64>().expect("a figure")
        };
        let (small, large) = (filled(small), filled(large));
        assert!(small < large, "{topic}: {small} with the small, {large} with the large");
    }
}

#[test]
fn what_cannot_be_explained_is_said_in_one_line() {
    fails(&run(&["explain", "bakclog"]), 2, &["bakclog", "there are: lifecycle, two-sockets"]);
    fails(&run(&["explain"]), 2, &["<TOPIC>"]);
    fails(&run(&["explain", "backlog", "--set", "size=1"]), 2, &["size", "it has: backlog, beyond, defer"]);
    fails(&run(&["explain", "backlog", "--set", "backlog=many"]), 2, &["backlog", "--set"]);
    fails(&run(&["explain", "backlog", "--set", "backlog=1000"]), 2, &["backlog cannot be 1000", "0 to 64"]);
    fails(&run(&["explain", "reset", "half-close", "--set", "unread=0"]), 2, &["--set", "one alone"]);
    fails(&run(&["explain", "lifecycle", "--pace", "soon"]), 2, &["--pace", "soon"]);
    fails(&run(&["explain", "lifecycle", "--pace", "1s", "--json"]), 2, &["--pace", "--json"]);
    fails(&run(&["explain", "lifecycle", "--pause"]), 2, &["--pause", "no terminal"]);
    fails(&run(&["watch", "--port", "0", "--once"]), 2, &["--port", "1..=65535"]);
}

#[test]
fn every_step_is_told_at_whatever_pace() {
    let output = run(&["explain", "serialization", "--pace", "1ms"]);
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("the bytes: ") && shown.contains("Lesson: "), "{shown}");
}

/// Topics whose answer depends on what a server waits by.
#[cfg(target_os = "linux")]
const OF_MECHANISMS: [&str; 9] = [
    "lifecycle",
    "event-loop",
    "blocking-call-in-the-loop",
    "thundering-herd",
    "level-and-edge",
    "slow-reader",
    "half-close",
    "reset",
    "too-many-open-files",
];

#[cfg(target_os = "linux")]
#[test]
fn every_mechanism_of_this_host_is_in_each_topic_where_mechanisms_matter() {
    let registry = Registry::builtin();
    let entries = registry.entries().filter(|entry| entry.base().is_none() && entry.probe().is_ok());
    let pollers = entries.map(|entry| entry.name()).collect::<Vec<_>>();
    for topic in OF_MECHANISMS {
        let (lesson, _) = explain(topic, "");
        for name in &pollers {
            let says_something = |step: &Value| {
                let evidence = step["evidence"].as_array().expect("a list").iter();
                let mut events = evidence.filter_map(|one| one.get("event"));
                events.any(|event| event["mechanism"].as_str() == Some(name) && event["told"] != "")
            };
            let steps = lesson["steps"].as_array().expect("a list").iter();
            let claims = lesson["claims"].as_array().expect("a list").iter();
            let of_it = |claim: &Value| claim["what"].as_str().is_some_and(|what| what.starts_with(name));
            assert!({ steps }.any(says_something) || { claims }.any(of_it), "{topic} without {name}: {lesson}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_life_of_a_connection_is_told_by_completions_too_where_there_are_any() {
    let registry = Registry::builtin();
    let completion = Mechanism::parse(&registry, "completion").expect("everywhere by name");
    if let Err(why) = completion.probe(&registry) {
        return println!("SKIPPED, NOT CHECKED: completion: {why}");
    }
    // In more than one buffer.
    let (lesson, code) = explain("lifecycle", "bytes=10000");
    assert_eq!((not_held(&lesson), code), (vec![], Some(0)), "{lesson}");
    let text = lesson.to_string();
    for words in ["IORING_CQE_F_MORE", "IORING_CQE_F_BUFFER", "res=10000", "the end of the stream and of the receive"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_prediction_that_fails_is_told_last_and_by_the_exit_code() {
    let output = run(&["explain", "one-at-a-time", "--set", "threads=1"]);
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((output.status.code(), said.trim_end()), (Some(1), "pollmark: not what was predicted: one-at-a-time"));
    let failed = "NOT HELD: the second is answered while the first is idle";
    assert!(shown.contains(failed) && shown.contains("Lesson: "), "{shown}");
}

#[cfg(target_os = "linux")]
#[test]
fn one_look_at_a_port_is_json_that_tells_its_queue_its_connections_and_its_process() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"hello").expect("connected");
    let port = address.port().to_string();
    let look = |arguments: &[&str]| {
        let output = run(&[&["watch", "--port", &port, "--once"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let view = serde_json::from_str::<Value>(&look(&["--json", "--descriptors"])).expect("JSON");
    let here = |list: &str, peer: &str| {
        let sockets = view[list].as_array().expect("a list").iter();
        let mut ours = sockets.filter(|one| one["local"] == address.to_string() && one["peer"] == peer);
        ours.next().unwrap_or_else(|| panic!("not in {list}: {view}")).clone()
    };
    let listening = here("listeners", "0.0.0.0:0");
    assert_eq!((&listening["state"], &listening["receive_queue"]), (&"LISTEN".into(), &1.into()), "{listening}");
    let connected = here("connections", &client.local_addr().expect("bound").to_string());
    assert_eq!((&connected["state"], &connected["receive_queue"]), (&"ESTABLISHED".into(), &5.into()), "{connected}");
    let us = std::process::id();
    assert!(view["owners"].as_array().expect("a list").iter().any(|one| one["process"] == us), "{view}");
    let descriptors = view["descriptors"][us.to_string()].as_array().expect("asked for");
    assert!(descriptors.iter().any(|one| one["socket"]["local"] == address.to_string()), "{view}");

    let shown = look(&[]);
    assert!(shown.contains(&format!("{address}: 1 wait to be accepted")) && shown.contains("ESTABLISHED"), "{shown}");
}

/// A socket that keeps everybody away from its port, and does not listen.
#[cfg(target_os = "linux")]
fn port_without_a_listener() -> (socket2::Socket, String) {
    let kept = |domain, address: &str| -> std::io::Result<socket2::Socket> {
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.bind(&address.parse::<std::net::SocketAddr>().expect("an address").into())?;
        Ok(socket)
    };
    let socket = kept(socket2::Domain::IPV6, "[::]:0").or_else(|_| kept(socket2::Domain::IPV4, "0.0.0.0:0"));
    let socket = socket.expect("a port");
    let bound = socket.local_addr().expect("bound");
    let port = bound.as_socket().expect("of a family we know").port().to_string();
    (socket, port)
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_nobody_is_at_is_a_failure_and_watching_ends_at_a_signal() {
    use std::process::Stdio;

    let (_kept, port) = port_without_a_listener();
    let output = run(&["watch", "--port", &port, "--once"]);
    fails(&output, 1, &["nobody listens at port", &port]);
    let mut watching = pollmark(&["watch", "--port", &port, "--json", "--every", "10ms"]);
    let mut child = watching.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
    for _ in 0..3 {
        let line = lines.next().expect("it goes on").expect("text");
        serde_json::from_str::<Value>(&line).expect("each line is JSON");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    // What it still prints is read, so that it does not end for want of a reader.
    lines.for_each(|line| drop(line.expect("text")));
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
