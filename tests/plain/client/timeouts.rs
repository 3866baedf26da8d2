//! Each timeout, met by itself while the others are far away: which it was, and how far the request had come.

use std::io::ErrorKind;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pollmark::client::{Error, Exhausted, Moved, Timeout, Timeouts};

use super::script::Scripted;
use super::{client, frame, mirror, on_every_poller, only, patient, settings, takes_parts};
use crate::suite::PATIENCE;

#[test]
fn read_timeout_when_the_server_says_nothing() {
    on_every_poller(|open| {
        let server = Scripted::new(|_, stream| stream.until_closed());
        let timeouts = only(|timeouts| timeouts.read = Duration::from_millis(50));
        let mut client = client(open(), server.address, settings(1, timeouts));
        let error = client.request(&frame(b"hello")).expect_err("no answer");
        assert_eq!(error.timeout(), Some(Timeout::Read));
        assert_eq!(error.moved(), Moved { sent: 9, of: 9, received: 0 });
        assert!(error.to_string().contains("read timeout: nothing came for 50ms; 9 of 9"), "{error}");
        assert!(!error.is_unsent());
        let stats = client.stats();
        assert_eq!((stats.timed_out(Timeout::Read), stats.open, stats.retried), (1, 0, 0), "{stats:?}");
    });
}

#[test]
fn read_timeout_when_the_server_stops_in_the_middle() {
    on_every_poller(|open| {
        let server = Scripted::new(|_, stream| {
            stream.message();
            stream.say(b"\0\0\0\x05ha");
            stream.until_closed();
        });
        // Until the server is fast enough to have begun.
        let mut read = Duration::from_millis(25);
        loop {
            read *= 2;
            let mut client = client(open(), server.address, settings(1, only(|timeouts| timeouts.read = read)));
            let error = client.request(&frame(b"hello")).expect_err("half of an answer");
            assert_eq!(error.timeout(), Some(Timeout::Read));
            match error.moved().received {
                6 => break assert!(error.to_string().contains("9 of 9 bytes were sent, 6 received"), "{error}"),
                _ => assert!(read < PATIENCE, "it never came: {error}"),
            }
        }
    });
}

#[test]
fn write_timeout_when_the_server_reads_nothing() {
    if !takes_parts("write timeout") {
        return;
    }
    on_every_poller(|open| {
        let server = Scripted::new(|_, stream| stream.sleep_until_released());
        let timeouts = only(|timeouts| timeouts.write = Duration::from_millis(50));
        let mut client = client(open(), server.address, settings(1, timeouts));
        let error = client.request(&vec![b'x'; 64 * 1024 * 1024]).expect_err("nobody reads");
        assert_eq!(error.timeout(), Some(Timeout::Write));
        let moved = error.moved();
        assert!(0 < moved.sent && moved.sent < moved.of && moved.received == 0, "{error}");
        assert!(error.to_string().contains("write timeout"), "{error}");
        assert_eq!(client.stats().bytes_out, moved.sent as u64);
        server.release();
    });
}

#[test]
fn total_timeout_when_bytes_go_on_coming_but_never_all() {
    on_every_poller(|open| {
        let server = Scripted::new(|_, stream| {
            stream.message();
            stream.say(&u32::to_be_bytes(500_000));
            while stream.say(b"x") {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let timeouts = only(|timeouts| {
            (timeouts.read, timeouts.total) = (PATIENCE, Duration::from_millis(150));
        });
        let mut client = client(open(), server.address, settings(1, timeouts));
        let error = client.request(&frame(b"hello")).expect_err("never all");
        assert_eq!((error.timeout(), error.kind()), (Some(Timeout::Total), ErrorKind::TimedOut), "{error}");
        assert_eq!(client.stats().timed_out(Timeout::Total), 1);
    });
}

#[test]
fn checkout_timeout_names_the_pool_and_those_that_wait() {
    on_every_poller(|open| {
        let (go, gone) = mpsc::channel::<()>();
        let gone = std::sync::Mutex::new(gone);
        let server = Scripted::new(move |_, stream| {
            let request = stream.message();
            let _ = gone.lock().expect("one at a time").recv(); // until the others have given up
            stream.say(&request);
            stream.until_closed();
        });
        let timeouts = only(|timeouts| timeouts.checkout = Duration::from_millis(30));
        let mut client = client(open(), server.address, settings(1, timeouts));
        let mut outcomes = Vec::new();
        let requests = [frame(b"first"), frame(b"second"), frame(b"third")];
        client
            .request_all(&requests, |number, answer| {
                if number > 0 {
                    go.send(()).expect("the server waits");
                }
                outcomes.push((number, answer.map(<[u8]>::to_vec)));
            })
            .expect("waits");
        let limit = Duration::from_millis(30);
        for (number, outcome) in &outcomes[..2] {
            let error = outcome.as_ref().expect_err("no connection");
            assert!(*number > 0 && error.timeout() == Some(Timeout::Checkout) && error.is_unsent(), "{error}");
            let Error::Exhausted(exhausted) = error else { panic!("{error}") };
            assert_eq!(*exhausted, Exhausted { connections: 1, waiting: 2, limit });
            assert!(error.to_string().contains("in use: all 1 of the pool, waiting: 2"), "{error}");
        }
        assert_eq!(outcomes[2].1.as_ref().expect("the first is answered"), &requests[0]);
        let stats = client.stats();
        assert_eq!((stats.timed_out(Timeout::Checkout), stats.answered, stats.opened), (2, 1, 1));
    });
}

#[test]
fn idle_connections_are_closed_and_no_request_fails_by_it() {
    on_every_poller(|open| {
        let server = mirror();
        let timeouts = Timeouts { idle: Duration::from_millis(20), ..patient() };
        let mut client = client(open(), server.tcp(), settings(2, timeouts));
        client.request(&frame(b"one")).expect("answered");
        let began = Instant::now();
        while let Some(sleep) = client.tend() {
            assert!(sleep <= timeouts.idle && began.elapsed() < PATIENCE, "{sleep:?}");
            std::thread::sleep(sleep);
        }
        let stats = client.stats();
        assert_eq!((stats.evicted, stats.open, stats.stale), (1, 0, 0));
        server.until("it hears of the close", |stats| stats.closed == 1).expect("nothing kills here");
        client.request(&frame(b"two")).expect("answered, on a new one");
        assert_eq!(client.stats().opened, 2);
    });
}
