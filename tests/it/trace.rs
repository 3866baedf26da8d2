//! What `serve --trace` tells of what a server does.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use serde_json::Value;

use crate::cli::{Serving, fails, pollmark, run};
use crate::suite::PATIENCE;

/// What is written of two clients, the second of whom comes when the first has gone.
fn trace(mechanism: &str, form: &str, last: &str) -> String {
    let path = scratch(&format!("{mechanism}-{form}"));
    let text = path.to_str().expect("text");
    let command = ["serve", "--backend", mechanism, "--trace", form, "--trace-to", text];
    let serving = Serving::start(pollmark(&command));
    for _ in 0..2 {
        let mut client = TcpStream::connect(serving.address).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(b"hello").expect("the kernel takes it");
        client.shutdown(Shutdown::Write).expect("it is connected");
        client.read_to_end(&mut Vec::new()).expect("an answer, and the end");
    }
    // The client hears the end before the server tells of it.
    let began = Instant::now();
    loop {
        let written = fs::read_to_string(&path).expect("it was made before the server listened");
        if written.matches(last).count() == 2 {
            drop(serving);
            fs::remove_file(&path).expect("it was made");
            return written;
        }
        assert!(began.elapsed() < PATIENCE, "{mechanism}: two times {last:?} is awaited in {written}");
        std::thread::yield_now();
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("pollmark-trace-{}-{name}", std::process::id()))
}

/// Of the mechanisms that are here.
fn names() -> Vec<String> {
    let registry = Registry::builtin();
    let here = Mechanism::all(&registry).into_iter().filter(|mechanism| mechanism.probe(&registry).is_ok());
    here.map(|mechanism| mechanism.to_string()).collect()
}

#[test]
fn a_story_is_told_of_each_connection_whatever_the_server_waits_by() {
    for mechanism in names() {
        let story = trace(&mechanism, "story", "closed after");
        for number in ["#1", "#2"] {
            let of_it = story.lines().filter_map(|line| line.split_once(&format!(" {number} ")));
            let said = of_it.map(|(_, said)| said.to_owned()).collect::<Vec<_>>();
            let [accepted, read, .., closed] = said.as_slice() else { panic!("{mechanism}: {said:?} in {story}") };
            assert!(accepted.starts_with("accepted, from 127.0.0.1:"), "{mechanism}: {said:?}");
            assert_eq!(read, "read 5 B", "{mechanism}");
            let mut between = said[2..said.len() - 1].to_vec();
            between.sort();
            assert_eq!(between, ["the peer will say no more", "wrote 5 B"], "{mechanism}");
            let end = closed.starts_with("closed after") && closed.ends_with("5 B in, 5 B out");
            assert!(end, "{mechanism}: {said:?}");
        }
    }
}

#[test]
fn every_line_of_a_trace_in_json_is_json_and_times_only_grow() {
    for mechanism in names() {
        let lines = trace(&mechanism, "json", "\"event\":\"closed\"");
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
        assert!(events.is_sorted_by_key(|event| event["at_us"].as_u64()), "{mechanism}: {lines}");
        let read = events.iter().filter(|event| event["event"] == "read");
        assert_eq!(read.filter_map(|event| event["bytes"].as_u64()).sum::<u64>(), 10, "{mechanism}: {lines}");
        assert!(events.iter().any(|event| event["event"] == "waited"), "{mechanism}: {lines}");
    }
}

#[test]
fn a_trace_for_viewers_has_a_track_for_each_connection_and_slices_for_waits() {
    for mechanism in names() {
        let written = trace(&mechanism, "perfetto", "\"ph\":\"E\"");
        // The viewers do without the end of the array; this does not.
        let array = format!("{}]", written.trim_end().trim_end_matches(','));
        let events: Vec<Value> = serde_json::from_str(&array).unwrap_or_else(|error| panic!("{error}: {array}"));
        let phase = |phase: &str| events.iter().filter(|event| event["ph"] == phase).collect::<Vec<_>>();
        assert_eq!((phase("B").len(), phase("E").len()), (2, 2), "{mechanism}: {written}");
        for (begin, end) in phase("B").iter().zip(phase("E")) {
            assert_eq!((&begin["tid"], &begin["name"]), (&end["tid"], &end["name"]), "{mechanism}");
            assert!(begin["ts"].as_f64() <= end["ts"].as_f64(), "{mechanism}: {written}");
        }
        assert!(phase("X").iter().all(|wait| wait["dur"].as_f64().is_some_and(|long| long >= 0.0)), "{mechanism}");
        assert!(!phase("X").is_empty() && !phase("i").is_empty(), "{mechanism}: {written}");
        let is_of_connection = |name: &&&Value| name["args"]["name"].as_str().is_some_and(|text| text.starts_with('#'));
        assert_eq!(phase("M").iter().filter(is_of_connection).count(), 2, "{mechanism}: {written}");
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_refused_before_anybody_is_served() {
    fails(&run(&["serve", "--trace", "novel"]), 2, &["novel", "story, json, perfetto"]);
    fails(&run(&["serve", "--trace-to", "/tmp/x"]), 2, &["--trace"]);
    let nowhere = scratch("missing").join("trace");
    fails(
        &run(&["serve", "--trace", "--trace-to", &nowhere.to_string_lossy()]),
        1,
        &["missing", "cannot write the trace"],
    );
}
