//! Each protocol in a session over a real server, on every mechanism of this host.

#[cfg(feature = "http")]
use std::time::Duration;

use pollmark::protocol::{Frame, Resp, frame};

use crate::server::on_every_mechanism;
#[cfg(feature = "http")]
use crate::suite::Lost;
#[cfg(feature = "ws")]
use crate::suite::Running;
use crate::suite::cases::{config, pattern};
use crate::suite::{Client, Subject, Verdict};

/// Sends `said`, and hears `answer` and nothing else before it.
pub(crate) fn hears(client: &mut Client, said: &[u8], answer: &[u8]) -> Verdict {
    client.write(said)?;
    let mut heard = vec![0; answer.len()];
    client.read(&mut heard)?;
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(2_000)].escape_ascii().to_string();
    assert!(heard == answer, "{:?} is answered by {:?}, not {:?}", shown(said), shown(&heard), shown(answer));
    Ok(())
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short");
    [&length.to_be_bytes(), body].concat()
}

#[test]
fn frames_of_all_lengths_come_back_on_every_mechanism() {
    on_every_mechanism(|subject| {
        let server = subject.serve(config(), Frame::<frame::Mirror>::default().with_most(300_000));
        let mut client = server.connect();
        for length in [0, 1, 1_000, 300_000] {
            client.exchange(&framed(pattern(length)))?;
        }
        // Many at once, and the last one in two parts.
        let mut many = (0..200).flat_map(|length| framed(pattern(length))).collect::<Vec<_>>();
        client.exchange(&many)?;
        let rest = many.split_off(many.len() - 5);
        client.write(&many)?;
        let whole = [many, rest.clone()].concat();
        hears(&mut client, &rest, &whole)?;
        // Too long: what came before is answered, then it is over.
        hears(&mut client, &[framed(b"last"), vec![0xff; 4]].concat(), &framed(b"last"))?;
        assert_eq!(client.read_byte_or_end(), None);
        Ok(())
    });
}

#[test]
fn a_redis_session_goes_the_same_on_every_mechanism() {
    on_every_mechanism(|subject| {
        let server = subject.serve(config(), Resp::default());
        let mut client = server.connect();
        for (said, answer) in [
            ("PING\r\n", "+PONG\r\n"),
            ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
            ("ECHO 'two words'\n", "$9\r\ntwo words\r\n"),
            ("SET a 1\r\nGET a\r\nINCR a\r\nEXISTS a b a\r\n", "+OK\r\n$1\r\n1\r\n:2\r\n:2\r\n"),
            ("SET a x NX\nSET a x XX GET\nSET a y EX 100 KEEPTTL\n", "$-1\r\n$1\r\n2\r\n-ERR syntax error\r\n"),
            ("INCR a\n", "-ERR value is not an integer or out of range\r\n"),
            ("TTL a\nEXPIRE a 100\nTTL a\nPERSIST a\nTTL a\nTTL b\n", ":-1\r\n:1\r\n:100\r\n:1\r\n:-1\r\n:-2\r\n"),
            ("MSET k 1 l 2\nMGET k l m\nDEL k l m\n", "+OK\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n:2\r\n"),
            ("RPUSH q b c\nLPUSH q a\nLRANGE q 0 -2\n", ":2\r\n:3\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
            (
                "GET q\nTYPE q\nLPOP q 5\nTYPE q\n",
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n+list\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n+none\r\n",
            ),
            (
                "GET\nNOSUCH a\n",
                "-ERR wrong number of arguments for 'get' command\r\n-ERR unknown command 'NOSUCH', with args beginning with: 'a' \r\n",
            ),
            (
                "SET a z PX 0\nSELECT 0\nSELECT 1\n",
                "-ERR invalid expire time in 'set' command\r\n+OK\r\n-ERR DB index is out of range\r\n",
            ),
            ("CONFIG GET save\n", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ] {
            hears(&mut client, said.as_bytes(), answer.as_bytes())?;
        }
        // More than one read takes, and many at once.
        let (big, key) = (pattern(400_000), "*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$400000\r\n");
        hears(&mut client, &[key.as_bytes(), big, b"\r\n"].concat(), b"+OK\r\n")?;
        let counted = (1..=2_000).map(|count| format!(":{count}\r\n")).collect::<String>();
        hears(&mut client, &b"*2\r\n$4\r\nINCR\r\n$1\r\nc\r\n".repeat(2_000), counted.as_bytes())?;
        hears(&mut client, b"QUIT\r\nPING\r\n", b"+OK\r\n")?;
        assert_eq!(client.read_byte_or_end(), None);
        // What one has said another hears. In version 3 there is a nothing of its own.
        let mut client = server.connect();
        hears(&mut client, b"GET big\r\n", &[b"$400000\r\n", big, b"\r\n"].concat())?;
        client.write(b"HELLO 3\r\nGET none\r\n")?;
        while client.line() != "_\r" {}
        hears(&mut client, b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n")?;
        assert_eq!(client.read_byte_or_end(), None);
        Ok(())
    });
}

#[test]
fn redis_keys_expire_and_memory_has_a_bound_on_every_mechanism() {
    on_every_mechanism(|subject| {
        use pollmark::protocol::resp::Limits;

        let server = subject.serve(config(), Resp::new(Limits { memory: 100_000, ..Limits::default() }));
        let mut client = server.connect();
        hears(&mut client, b"SET a b PX 1\n", b"+OK\r\n")?;
        // However long it takes to come here again, it is gone at some time.
        loop {
            client.write(b"EXISTS a\n")?;
            if client.line() == ":0\r" {
                break;
            }
        }
        let value = "x".repeat(10_000);
        for key in 0..9 {
            hears(&mut client, format!("SET {key} {value}\r\n").as_bytes(), b"+OK\r\n")?;
        }
        let refused = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
        hears(&mut client, format!("SET 10 {value}\r\n").as_bytes(), refused)?;
        hears(&mut client, b"DEL 0\nGET 10\n", b":1\r\n$-1\r\n")?;
        hears(&mut client, format!("SET 10 {value}\r\n").as_bytes(), b"+OK\r\n")
    });
}

#[cfg(feature = "http")]
#[test]
fn an_http_session_goes_the_same_on_every_mechanism() {
    use pollmark::protocol::{Http, http};

    on_every_mechanism(|subject| {
        let limits = http::Limits { most_body: 300_000, ..http::Limits::default() };
        let server = subject.serve(config(), Http::default().with_limits(limits));
        let mut client = server.connect();
        client.write(b"GET /plaintext?x HTTP/1.1\r\nHost: a\r\n\r\n")?;
        responds(&mut client, "200 OK", &["content-type: text/plain"], b"Hello, World!")?;
        // A request in pieces, three in one, a HEAD among them.
        client.write(b"GET /json HT")?;
        client.write(
            b"TP/1.1\r\nHost: a\r\n\r\nHEAD /json HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n",
        )?;
        responds(&mut client, "200 OK", &["content-type: application/json"], br#"{"message":"Hello, World!"}"#)?;
        let head = heads(&mut client)?;
        assert!(head.contains("Content-Length: 27\r\n"), "{head}");
        responds(&mut client, "404 Not Found", &[], b"Not here. There are /plaintext, /json and /echo.\n")?;
        // Bodies: as they are, awaited, and in chunks.
        let body = pattern(200_000);
        client.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")?;
        client.write(body)?;
        responds(&mut client, "200 OK", &[], body)?;
        client.write(b"PUT /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        assert_eq!(heads(&mut client)?, "HTTP/1.1 100 Continue\r\n\r\n");
        for piece in body.chunks(9_999) {
            client.write(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())?;
        }
        client.write(b"0\r\n\r\nDELETE / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        responds(&mut client, "200 OK", &[], body)?;
        responds(&mut client, "405 Method Not Allowed", &["allow: GET, HEAD"], b"")?;
        client.write(b"GET / HTTP/1.0\r\n\r\n")?;
        responds(&mut client, "200 OK", &["connection: close"], b"Hello, World!")?;
        assert_eq!(client.read_byte_or_end(), None);
        // Whoever goes too far is told so, and then closed.
        for (said, status) in [
            ("GARBAGE\r\n\r\n", "400 Bad Request"),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300001\r\n\r\n", "413 Content Too Large"),
            (&format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)), "414 URI Too Long"),
            (&format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(20_000)), "431 Request Header Fields Too Large"),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", "417 Expectation Failed"),
        ] {
            let mut client = server.connect();
            client.write(said.as_bytes())?;
            responds(&mut client, status, &["connection: close"], b"")?;
            client.shut_down()?;
            assert_eq!(client.read_byte_or_end(), None, "{status}");
        }
        Ok(())
    });
}

#[cfg(feature = "http")]
#[test]
fn a_request_that_does_not_end_is_given_up_on_every_mechanism() {
    use pollmark::protocol::{Http, http};

    on_every_mechanism(|subject| {
        let soon = Duration::from_millis(20);
        let limits = http::Limits { request: soon, linger: soon, ..http::Limits::default() };
        let server = subject.serve(config(), Http::default().with_limits(limits));
        let (mut slow, mut quick) = (server.connect(), server.connect());
        slow.write(b"GET / HTTP/1.1\r\nHo")?;
        responds(&mut slow, "408 Request Timeout", &["connection: close"], b"")?;
        // It does not take the hint, and is cut off.
        assert_eq!(slow.read_byte_or_end(), None);
        // Nothing is no request that does not end: this one was silent for longer.
        quick.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        responds(&mut quick, "200 OK", &[], b"Hello, World!")
    });
}

/// A head, with the empty line at its end.
#[cfg(feature = "http")]
fn heads(client: &mut Client) -> Result<String, Lost> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_byte_or_end() {
            Some(byte) => head.push(byte),
            None => return Err(client.gone(&format!("{} came, then an end", head.escape_ascii()))),
        }
    }
    Ok(String::from_utf8(head).expect("text"))
}

/// Hears a response with this status, this body, and these fields among others.
#[cfg(feature = "http")]
fn responds(client: &mut Client, status: &str, fields: &[&str], body: &[u8]) -> Verdict {
    let head = heads(client)?;
    let lines = head.lines().collect::<Vec<_>>();
    assert_eq!(lines[0], format!("HTTP/1.1 {status}"));
    let has = |field: &str| lines.iter().any(|line| line.eq_ignore_ascii_case(field));
    assert!(has(&format!("content-length: {}", body.len())) && fields.iter().all(|field| has(field)), "{head}");
    let date = lines.iter().find_map(|line| line.strip_prefix("Date: ")).expect("a date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    let mut heard = vec![0; body.len()];
    client.read(&mut heard)?;
    assert!(heard == body, "another body");
    Ok(())
}

/// A client that is not ours: tungstenite's own.
#[cfg(feature = "ws")]
pub(crate) type Socket = tungstenite::WebSocket<socket2::Socket>;

#[cfg(feature = "ws")]
pub(crate) fn websocket(server: &Running, path: &str) -> Socket {
    let stream = server.connect().stream().try_clone().expect("a second handle");
    let request = format!("ws://{}{path}", server.tcp());
    tungstenite::client(request, stream).expect("a handshake").0
}

#[cfg(feature = "ws")]
#[test]
fn websocket_messages_come_back_on_every_mechanism() {
    use pollmark::protocol::{Ws, ws};
    use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
    use tungstenite::{Error, Message};

    on_every_mechanism(|subject| {
        let server = subject.serve(config(), Ws::new(ws::Limits { most_message: 300_000, ..Default::default() }));
        let mut client = websocket(&server, "/echo");
        let long = Message::binary(pattern(300_000));
        for message in [Message::text("grüezi"), Message::binary(&b""[..]), long.clone()] {
            client.send(message.clone()).expect("sent");
            assert_eq!(client.read().expect("an echo"), message);
        }
        client.send(Message::Ping("there?".into())).expect("sent");
        assert_eq!(client.read().expect("an answer"), Message::Pong("there?".into()));
        let bye = CloseFrame { code: CloseCode::Away, reason: "bye".into() };
        client.close(Some(bye)).expect("sent");
        let Ok(Message::Close(Some(CloseFrame { code, .. }))) = client.read() else { panic!("no close in return") };
        assert_eq!(code, CloseCode::Away);
        assert!(matches!(client.read(), Err(Error::ConnectionClosed)));

        let mut client = websocket(&server, "/");
        client.send(Message::binary(pattern(300_001))).expect("sent");
        let Ok(Message::Close(Some(CloseFrame { code, .. }))) = client.read() else { panic!("no close in return") };
        assert_eq!(code, CloseCode::Size);
        drop(client);

        // What is no request for a WebSocket is told what it should be.
        let mut client = server.connect();
        client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        responds(&mut client, "426 Upgrade Required", &["upgrade: websocket"], b"")?;
        assert_eq!(client.read_byte_or_end(), None);
        Ok(())
    });
}

#[cfg(feature = "ws")]
#[test]
fn what_is_said_to_all_is_heard_by_all_on_every_mechanism() {
    use pollmark::protocol::Ws;
    use tungstenite::Message;

    on_every_mechanism(|subject| {
        if !subject.can(|has| has.concurrent, "what_is_said_to_all", "several connections at once") {
            return Ok(());
        }
        let server = subject.serve(config(), Ws::default());
        let mut clients = (0..5).map(|_| websocket(&server, "/broadcast")).collect::<Vec<_>>();
        let mut apart = websocket(&server, "/echo");
        for speaker in [3, 0] {
            let said = Message::text(format!("{speaker} speaks"));
            clients[speaker].send(said.clone()).expect("sent");
            for client in &mut clients {
                assert_eq!(client.read().expect("heard"), said);
            }
        }
        // Who leaves is no longer spoken to, and the others go on.
        drop(clients.pop());
        server.until("one has left", |stats| stats.closed == 1)?;
        clients[1].send(Message::text("goes on")).expect("sent");
        for client in &mut clients {
            assert_eq!(client.read().expect("heard"), Message::text("goes on"));
        }
        apart.send(Message::text("alone")).expect("sent");
        assert_eq!(apart.read().expect("an echo"), Message::text("alone"), "nothing that was said to others");
        Ok(())
    });
}
