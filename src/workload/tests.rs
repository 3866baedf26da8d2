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
fn several_payloads_are_under_way_on_each_connection_and_each_is_verified() {
    let address = server(faithful);
    for (payload, outstanding, requests) in [(64, 16, 1_000), (1, 64, 500), (64 * 1024, 4, 40), (300 * 1024, 2, 7)] {
        let mut load = load(address, 64);
        load.follow(Traffic { payload, outstanding, ..Traffic::default() });
        load.open_idle(2).expect("idle connections");
        load.open_active(3).expect("active connections");
        for _ in 0..2 {
            let outcome = load.run(Until::Requests(requests)).expect("a faultless run");
            assert_eq!((outcome.requests, outcome.latency.len()), (requests, requests));
            assert_eq!(outcome.bytes, requests * payload as u64);
            assert!(outcome.waits <= requests * (1 + payload as u64 / 1_024), "{}: no wait in vain", outcome.waits);
        }
        load.follow(Traffic::default());
        assert_eq!(load.run(Until::Requests(10)).expect("the same connections").bytes, 640);
        load.verify_idle().expect("idle connections stay quiet");
        load.close_active().expect("nothing is left in any connection");
    }
}

#[test]
fn a_connection_is_given_up_after_as_many_exchanges_as_it_is_for() {
    for (exchanges, outstanding, requests, opened) in [(10, 1, 100, 10), (10, 4, 100, 10), (7, 3, 50, 8), (0, 1, 5, 5)]
    {
        let mut load = load(server(faithful), 64);
        load.follow(Traffic { exchanges, outstanding, ..Traffic::default() });
        let outcome = load.churn(1, Until::Requests(requests)).expect("a faultless run");
        assert_eq!((outcome.requests, load.opened()), (requests, opened), "{exchanges} {outstanding}");
    }
}

#[test]
fn a_wrong_byte_among_several_payloads_is_told_by_its_exchange() {
    let spoil = |echo: &mut Vec<u8>, before: usize| {
        if (before..before + echo.len()).contains(&(64 * 50 + 33)) {
            echo[64 * 50 + 33 - before] ^= 0x80;
        }
    };
    let mut load = load(server(spoil), 64);
    load.follow(Traffic { outstanding: 8, ..Traffic::default() });
    load.open_active(1).expect("active connections");
    let fault = load.run(Until::Requests(100)).expect_err("one byte is wrong");
    assert!(matches!(fault, Fault::WrongByte { sequence: 51, offset: 33, .. }) && fault.voids(), "{fault}");
}

#[test]
fn an_open_loop_makes_what_is_due_and_not_before_it_is_due() {
    for (pace, outstanding) in [(Pace::Constant { per_second: 2_000 }, 1), (Pace::Poisson { per_second: 20_000 }, 4)] {
        let mut load = load(server(faithful), 64);
        load.follow(Traffic { pace, outstanding, ..Traffic::default() });
        load.open_active(3).expect("active connections");
        let outcome = load.run(Until::Requests(200)).expect("a faultless run");
        let open = outcome.open.expect("an open loop");
        assert_eq!((outcome.requests, outcome.latency.len(), open.from_send.len()), (200, 200, 200));
        assert_eq!((open.slip.len(), open.unsent), (200, 0), "of a number of exchanges all are made");
        assert!(outcome.latency.mean() >= open.from_send.mean(), "nothing is sent before it is due");
        assert!(pace != Pace::Constant { per_second: 2_000 } || outcome.elapsed >= Duration::from_millis(99));
        load.close_active().expect("all connections are at rest");
    }
}

#[test]
fn a_stall_makes_late_all_that_was_due_meanwhile_and_the_uncorrected_series_hides_it() {
    let stall = |_: &mut Vec<u8>, before: usize| {
        if before == 64 * 50 {
            thread::sleep(Duration::from_millis(200));
        }
    };
    let mut load = load(server(stall), 64);
    load.follow(Traffic { pace: Pace::Constant { per_second: 1_000 }, ..Traffic::default() });
    load.open_active(1).expect("an active connection");
    let outcome = load.run(Until::Requests(300)).expect("a faultless run");
    let late = |histogram: &hdrhistogram::Histogram<u64>| {
        let recorded = histogram.iter_recorded();
        recorded.filter(|one| one.value_iterated_to() > 50_000_000).map(|one| one.count_at_value()).sum::<u64>()
    };
    let (corrected, from_send) = (late(&outcome.latency), late(&outcome.open.expect("an open loop").from_send));
    // 150 were due in the first 150 ms of the stall: each of them was late by 50 ms or more.
    assert!(corrected >= 140 && from_send >= 1 && from_send < corrected, "{corrected}, {from_send}");
}

#[test]
fn what_is_due_and_cannot_be_sent_in_time_is_counted() {
    let mut load = load(server(faithful), 64);
    load.follow(Traffic { pace: Pace::Constant { per_second: 1_000_000 }, ..Traffic::default() });
    load.open_active(1).expect("an active connection");
    let outcome = load.run(Until::Elapsed(Duration::from_millis(30))).expect("a faultless run");
    let open = outcome.open.expect("an open loop");
    assert!(open.unsent > 0, "one connection cannot make a million a second");
    assert_eq!(outcome.requests + open.unsent, open.slip.len(), "each that was due is accounted for");
    load.close_active().expect("all connections are at rest");
    load.open_active(1).expect("an active connection");
    load.stop_on(Arc::new(AtomicBool::new(true)));
    let outcome = load.run(Until::Elapsed(Duration::MAX)).expect("a faultless run");
    assert_eq!(outcome.requests, 0, "stopped before anything was due");
}

#[test]
fn what_waits_when_the_time_is_over_is_still_sent_and_the_time_is_all_of_it() {
    let stall = |_: &mut Vec<u8>, before: usize| {
        if before == 64 * 500 {
            thread::sleep(Duration::from_millis(200));
        }
    };
    let run = |server: SocketAddr, per_second: u32, time: Duration| {
        let mut load = load(server, 64);
        load.follow(Traffic { pace: Pace::Constant { per_second }, ..Traffic::default() });
        load.open_active(1).expect("an active connection");
        let outcome = load.run(Until::Elapsed(time)).expect("a faultless run");
        load.close_active().expect("all connections are at rest");
        outcome
    };
    // It stalls from 500 ms on, and so beyond the end. If a busy machine makes that last for as long again as the run,
    // there is no time left to send what waits.
    let mut outcomes = (0..5).map(|_| {
        let late = run(server(stall), 1_000, Duration::from_millis(600));
        (late.requests, late.open.expect("an open loop").unsent)
    });
    assert!(outcomes.any(|outcome| outcome == (600, 0)), "what waits is never sent");
    let light = run(server(faithful), 1, Duration::from_millis(50));
    assert_eq!(light.requests, 1, "due at once");
    assert!(light.elapsed >= Duration::from_millis(50), "{:?}", light.elapsed);
}

#[test]
fn a_rate_beyond_all_bounds_is_stopped_like_any_other() {
    let mut load = load(server(faithful), 64);
    load.follow(Traffic { pace: Pace::Constant { per_second: u32::MAX }, ..Traffic::default() });
    load.open_active(1).expect("an active connection");
    let stop = Arc::new(AtomicBool::new(false));
    load.stop_on(Arc::clone(&stop));
    let stopping = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let outcome = load.run(Until::Requests(u64::MAX)).expect("a faultless run");
    stopping.join().expect("it stops");
    assert!(outcome.open.expect("an open loop").unsent > 0, "nobody makes so many");
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
fn a_time_that_no_clock_will_show_goes_on_until_it_is_stopped() {
    let mut load = load(server(faithful), 64);
    load.open_active(1).expect("an active connection");
    load.stop_on(Arc::new(AtomicBool::new(true)));
    let outcome = load.run(Until::Elapsed(Duration::MAX)).expect("a faultless run");
    assert_eq!(outcome.requests, 1, "that under way when it was stopped");
    let fault = load.open_idle(1).expect_err("it is stopped still");
    assert!(matches!(fault, Fault::Stopped { opened: 0 }) && !fault.voids(), "{fault}");
    assert_eq!(load.connections(), 1, "what was open stays so");
}

#[test]
#[cfg(target_os = "linux")] // elsewhere only 127.0.0.1 is this host's without being asked for
fn connections_come_from_each_source_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut connector = connect::Connector::new(listener.local_addr().expect("bound").into());
    connector.come_from("127.0.0.2,127.0.0.9".parse().expect("two addresses"));
    let streams = (0..4).map(|_| connector.start().expect("under way")).collect::<Vec<_>>();
    let sources = streams.iter().map(|stream| {
        let address = socket2::SockRef::from(stream).local_addr().expect("bound");
        address.as_socket().expect("of TCP").ip().to_string()
    });
    assert_eq!(sources.collect::<Vec<_>>(), ["127.0.0.2", "127.0.0.9", "127.0.0.2", "127.0.0.9"]);
}

#[test]
#[cfg(unix)]
fn a_unix_socket_is_waited_for_until_somebody_accepts_and_not_for_ever() {
    use socket2::{Domain, SockAddr, Socket, Type};
    let path = std::env::temp_dir().join(format!("pollmark-queue-{}", std::process::id()));
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    listener.bind(&SockAddr::unix(&path).expect("a path")).expect("free");
    listener.listen(0).expect("bound");
    let moment = Duration::from_millis(20);
    let mut held = Vec::new();
    let full = (0..64).find_map(|_| connect::over_unix(&path, moment).map(|stream| held.push(stream)).err());
    let full = full.expect("a queue of no length is soon full");
    if cfg!(target_os = "linux") {
        assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock, "{full}");
        let words = Fault::Connect { target: crate::client::Target::Unix(path.clone()), opened: 1, error: full };
        assert!(words.to_string().contains("listen queue is full"), "{words}");
        let waiting = thread::spawn({
            let path = path.clone();
            move || connect::over_unix(&path, Duration::from_secs(30)).map(drop)
        });
        listener.accept().expect("the first in the queue");
        waiting.join().expect("no panic").expect("there is room now");
    }
    std::fs::remove_file(&path).expect("ours");
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
