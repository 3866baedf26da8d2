//! HTTP by the same client: our own server on every mechanism, and servers with other ways to end a response.

use std::io::ErrorKind;

use pollmark::backends::Registry;
use pollmark::client::{Client, Response, Responses};
use pollmark::protocol::Http;

use super::script::Scripted;
use super::{AnyPoller, on_every_poller, patient, settings};
use crate::server::on_every_mechanism;
use crate::suite::Subject;
use crate::suite::cases::config;

fn client(poller: AnyPoller, address: std::net::SocketAddr, connections: usize) -> Client<Responses, AnyPoller> {
    Client::over(poller, address.into(), Responses::default()).with_settings(settings(connections, patient()))
}

fn get(target: &str) -> Vec<u8> {
    let mut request = Vec::new();
    Responses::get("localhost", target, &[], &mut request).expect("a target");
    request
}

fn head(target: &str) -> Vec<u8> {
    let mut request = Vec::new();
    Responses::head("localhost", target, &[], &mut request).expect("a target");
    request
}

#[test]
fn our_own_server_is_asked_on_every_mechanism_over_connections_that_are_kept() {
    on_every_mechanism(|subject| {
        let connections = if subject.abilities().concurrent { 3 } else { 1 };
        let server = subject.serve(config(), Http::default());
        let poller = Registry::builtin().default_entry().and_then(|entry| entry.open()).expect("one is here");
        let mut client = client(poller, server.tcp(), connections);
        let requests: Vec<_> =
            [get("/plaintext"), get("/json"), head("/json"), get("/nothing")].into_iter().cycle().take(40).collect();
        let expected = [(200, &b"Hello, World!"[..]), (200, br#"{"message":"Hello, World!"}"#), (200, b"")];
        let mut answered = 0;
        client
            .request_all(&requests, |at, answer| {
                let response = Response::read(answer.expect("answered")).expect("whole");
                match expected.get(at % 4) {
                    Some(expected) => assert_eq!((response.status(), response.body()), *expected),
                    None => assert_eq!(response.status(), 404),
                }
                answered += 1;
            })
            .expect("it waits");
        let stats = client.stats();
        assert_eq!((answered, stats.answered, stats.retried, stats.out_of_step), (40, 40, 0, 0));
        assert!(stats.opened <= connections as u64, "{stats:?}");

        // Whoever says that it is the last is not asked again on that connection.
        let mut last = Vec::new();
        Responses::get("localhost", "/json", &[("Connection", "close")], &mut last).expect("a request");
        let response = Response::read(client.request(&last).expect("answered")).expect("whole").field("connection");
        assert_eq!(response, Some(&b"close"[..]));
        assert_eq!(client.stats().out_of_step, 0);
        drop(client);
        let accepted = server.stop().accepted;
        assert!(accepted <= connections as u64, "{accepted} connections");
        Ok(())
    });
}

#[test]
fn a_response_in_chunks_ends_with_the_last_and_one_without_a_length_with_its_connection() {
    on_every_poller(|open| {
        let server = Scripted::new(|number, stream| {
            let mut said = true;
            while said {
                let request = stream.head();
                said = match request.split(' ').nth(1) {
                    Some("/chunks") => {
                        let chunks: &[u8] =
                            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                            5;ext\r\nhello\r\n7\r\n, world\r\n0\r\nTrailer: x\r\n\r\n";
                        chunks.iter().all(|byte| stream.say(&[*byte]))
                    }
                    Some("/last") => {
                        let last = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{number}");
                        stream.say(last.as_bytes());
                        // It is the client who must not come back, however long this stays open.
                        stream.until_closed();
                        false
                    }
                    Some("/to-the-end") => {
                        stream.say(b"HTTP/1.1 200 OK\r\n\r\nuntil it closes");
                        false
                    }
                    Some("/cut-off") => {
                        stream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
                        false
                    }
                    _ => false,
                };
            }
        });
        let mut client = client(open(), server.address, 1);
        let mut ask = |target: &str| {
            let answer = client.request(&get(target));
            answer.map(|answer| Response::read(answer).expect("whole").body().to_vec())
        };
        for _ in 0..3 {
            assert_eq!(ask("/chunks").expect("answered"), b"hello, world");
        }
        assert_eq!(ask("/last").expect("answered"), b"0", "they came on one connection");
        assert_eq!(ask("/last").expect("answered"), b"1");
        assert_eq!(ask("/to-the-end").expect("answered"), b"until it closes");
        assert_eq!(ask("/cut-off").expect_err("half an answer").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(ask("/chunks").expect("answered"), b"hello, world");
        let stats = client.stats();
        assert_eq!((stats.opened, stats.reused, stats.retried, stats.out_of_step), (5, 3, 0, 0), "{stats:?}");
    });
}
