//! The generator against servers of the standard library, faithful and not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::limits::OTHER_DESCRIPTORS;
use crate::usage;

/// A std echo server, one thread for each connection, which `spoil`s each read before it is written.
fn server(spoil: fn(&mut Vec<u8>, usize)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                let mut before = 0;
                while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                    let mut echo = buffer[..bytes].to_vec();
                    spoil(&mut echo, before);
                    before += bytes;
                    if echo.is_empty() || stream.write_all(&echo).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn faithful(_: &mut Vec<u8>, _: usize) {}

fn load(address: SocketAddr, size: usize) -> Generator {
    Generator::new(address, size).expect("a mechanism to wait by")
}

#[test]
fn exactly_as_many_exchanges_are_made_as_were_asked_for() {
    let mut load = load(server(faithful), 64);
    load.open_idle(20).expect("idle connections");
    for (active, requests) in [(1, 100), (7, 1_000), (5, 3)] {
        load.open_active(active).expect("active connections");
        let outcome = load.run(Until::Requests(requests)).expect("a faultless run");
        assert_eq!((outcome.requests, outcome.bytes), (requests, requests * 64));
        assert_eq!(outcome.latency.len(), requests);
        assert!(outcome.waits >= requests / active as u64, "each wait can report each connection once");
        load.verify_idle().expect("idle connections stay quiet");
        assert_eq!(load.connections(), 20 + active);
    }
}

#[test]
fn a_timed_run_ends_in_time_with_all_connections_at_rest() {
    let mut load = load(server(faithful), 64);
    load.open_active(4).expect("active connections");
    let outcome = load.run(Until::Elapsed(Duration::from_millis(50))).expect("a faultless run");
    assert!(outcome.elapsed >= Duration::from_millis(50) && outcome.requests > 0, "{outcome:?}");
    load.close_active().expect("nothing is left in any connection");
}

#[test]
fn payloads_larger_than_any_socket_buffer_arrive_whole() {
    let size = 8 << 20;
    let mut load = load(server(faithful), size);
    load.open_active(2).expect("active connections");
    assert_eq!(load.run(Until::Requests(4)).expect("a faultless run").bytes, 4 * size as u64);
}

#[test]
fn churn_opens_a_connection_for_each_exchange() {
    let mut load = load(server(faithful), 64);
    load.open_idle(3).expect("idle connections");
    let outcome = load.churn(5, Until::Requests(200)).expect("a faultless run");
    assert_eq!((outcome.requests, load.opened()), (200, 203));
    load.verify_idle().expect("idle connections stay quiet");
}

#[test]
fn a_single_wrong_byte_late_in_the_stream_voids() {
    let spoil = |echo: &mut Vec<u8>, before: usize| {
        if (before..before + echo.len()).contains(&(64 * 50 + 33)) {
            echo[64 * 50 + 33 - before] ^= 0x80;
        }
    };
    let mut load = load(server(spoil), 64);
    load.open_active(1).expect("active connections");
    let fault = load.run(Until::Requests(100)).expect_err("one byte is wrong");
    assert!(matches!(fault, Fault::WrongByte { sequence: 51, offset: 33, .. }) && fault.voids(), "{fault}");
}

#[test]
fn bytes_beyond_the_echo_void() {
    let mut load = load(
        server(|echo, before| {
            if before == 640 {
                echo.push(0)
            }
        }),
        64,
    );
    load.open_active(1).expect("active connections");
    let fault = load.run(Until::Requests(100)).and_then(|_| load.close_active()).expect_err("a byte too many");
    // Which of the two depends on whether the byte is read together with its echo.
    assert!(matches!(fault, Fault::Excess { .. } | Fault::WrongByte { .. }) && fault.voids(), "{fault}");
}

#[test]
fn a_server_that_closes_voids() {
    let mut load = load(
        server(|echo, before| {
            if before == 640 {
                echo.clear()
            }
        }),
        64,
    );
    load.open_active(1).expect("active connections");
    let fault = load.run(Until::Requests(100)).expect_err("the connection is lost");
    assert!(matches!(fault, Fault::Closed { .. } | Fault::Lost { .. }) && fault.voids(), "{fault}");
}

#[test]
fn an_idle_connection_that_is_closed_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut load = load(listener.local_addr().expect("bound"), 4);
    let echo_once = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).expect("a payload");
        stream.write_all(&bytes).expect("room");
        stream
    });
    load.open_idle(1).expect("one exchange proves it");
    let stream = echo_once.join().expect("the echo thread");
    load.verify_idle().expect("still open");
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(5);
    let fault = loop {
        match load.verify_idle() {
            Err(fault) => break fault,
            Ok(()) => assert!(Instant::now() < deadline, "the end of the stream never came"),
        }
    };
    assert!(matches!(fault, Fault::Closed { idle: true, .. }), "{fault}");
}

#[test]
fn nobody_listening_is_said_so() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port now free");
    let fault = load(address, 64).open_active(1).expect_err("refused");
    assert!(fault.to_string().contains(&address.to_string()), "{fault}");
    assert!(fault.to_string().contains("is a server listening there?"), "{fault}");
    assert!(!fault.voids());
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_remedy() {
    let Some(limit) = usage::descriptor_limit() else {
        eprintln!("skipped: this system has no limit on descriptors");
        return;
    };
    let fault = load(server(faithful), 64).open_idle(limit as usize).expect_err("too many");
    let (needed, text) = (limit + OTHER_DESCRIPTORS, fault.to_string());
    assert!(matches!(fault, Fault::Limit(shortage) if shortage.available == limit), "{text}");
    assert!(text.contains(&needed.to_string()) && text.contains("ulimit -n"), "{text}");
}

#[test]
fn a_stop_from_elsewhere_ends_the_run_and_keeps_what_was_done() {
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = load(server(faithful), 64);
    load.stop_on(Arc::clone(&stop));
    load.open_active(2).expect("active connections");
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::Relaxed);
    });
    let outcome = load.run(Until::Elapsed(Duration::from_secs(60))).expect("a faultless run");
    assert!(outcome.elapsed < Duration::from_secs(30) && outcome.requests > 0, "{outcome:?}");
}
