//! Any split of the input, in any protocol: what is said is the same, and so is how it ends; nothing makes it panic.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pollmark_backends::Token;

use crate::clock::ManualClock;
use crate::conn::Connection;
use crate::protocol::{Context, Frame, Host, Peer, Protocol, Proxied, Resp, frame, proxy, resp};
#[cfg(feature = "http")]
use crate::protocol::{Http, http};
#[cfg(feature = "ws")]
use crate::protocol::{Ws, ws};

/// Pieces a peer says one after the other: one of a protocol's own words, or any bytes; and where it is cut.
pub type Said = Vec<(u8, Vec<u8>)>;

/// Says frames to a [`Frame`], and sees each returned, up to one that is too long.
///
/// # Panics
/// If anything else comes back, or the way it is cut makes a difference.
pub fn frames_come_back(said: &Said) {
    const MOST: usize = 40;
    let mut input = Vec::new();
    for (kind, bytes) in said {
        let length = match kind % 16 {
            0 => u32::from(*kind) << 24 | bytes.len() as u32,
            1 => bytes.len() as u32 + 1,
            _ => bytes.len() as u32,
        };
        input.extend(length.to_be_bytes());
        input.extend(bytes);
    }
    let (answer, open) = however_it_is_cut(|| Frame::default().with_most(MOST), &input, said);
    let (mut expected, mut understood) = (0, true);
    loop {
        match frame::split(&input[expected..], MOST) {
            Ok(Some(request)) => expected += frame::PREFIX + request.len(),
            Ok(None) => break,
            Err(_) => {
                understood = false;
                break;
            }
        }
    }
    assert_eq!((&answer[..], open), (&input[..expected], understood));
}

/// Says commands, and what is none, to a [`Resp`].
///
/// # Panics
/// If the way it is cut makes a difference.
pub fn commands_are_executed_alike(said: &Said) {
    let limits =
        resp::Limits { most_words: 40, most_string: 300, most_command: 1_000, memory: 4_000, ..Default::default() };
    let input = said.iter().flat_map(|(kind, bytes)| command(*kind, bytes)).collect::<Vec<_>>();
    however_it_is_cut(|| Resp::new(limits), &input, said);
}

/// Says requests, and what is none, to an [`Http`].
///
/// # Panics
/// If the way it is cut makes a difference.
#[cfg(feature = "http")]
pub fn requests_are_answered_alike(said: &Said) {
    let limits = http::Limits { most_target: 40, most_head: 300, most_body: 200, ..Default::default() };
    let input = said.iter().flat_map(|(kind, bytes)| request(*kind, bytes)).collect::<Vec<_>>();
    compare(|| Http::default().with_limits(limits), &input, said, undated);
}

/// One request, or something like it, with `bytes` in it.
#[cfg(feature = "http")]
fn request(kind: u8, bytes: &[u8]) -> Vec<u8> {
    const SAID: [&str; 16] = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /json HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: LENGTH\r\n\r\nBYTES",
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: LENGTH\r\n\r\nBYTES",
        "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nHEX\r\nBYTES\r\n",
        "0\r\n\r\n",
        "HEX;a=b\r\nBYTES\r\n",
        "0\r\nTrailer: BYTES\r\n\r\n",
        "GET BYTES HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBYTES: BYTES\r\n\r\n",
        "DELETE /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: BYTES\r\n\r\n",
        "\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "BYTES",
    ];
    let template = SAID[usize::from(kind) % SAID.len()];
    let text = template.replace("LENGTH", &bytes.len().to_string()).replace("HEX", &format!("{:x}", bytes.len()));
    text.split("BYTES").map(str::as_bytes).collect::<Vec<_>>().join(bytes)
}

/// Says frames of messages, and what is none, to a [`Ws`], after a handshake.
///
/// # Panics
/// If the way it is cut makes a difference.
#[cfg(feature = "ws")]
pub fn messages_come_back_alike(said: &Said) {
    let limits = ws::Limits { most_message: 300, ..Default::default() };
    let path = if said.len().is_multiple_of(2) { "echo" } else { "broadcast" };
    let mut input = format!(
        "GET /{path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    said.iter().for_each(|(kind, bytes)| masked_frame(*kind, bytes, &mut input));
    compare(|| Ws::new(limits), &input, said, undated);
}

/// A frame as a client sends it, or something like it.
#[cfg(feature = "ws")]
fn masked_frame(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    const FIRST: [u8; 12] = [0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x88, 0x81, 0x83, 0xf1];
    let mask = [kind, 0x55, 0, 0xff];
    out.push(FIRST[usize::from(kind) % FIRST.len()]);
    let masks = if kind < 250 { 0x80 } else { 0 };
    match bytes.len() {
        length @ ..126 => out.push(masks | length as u8),
        length => {
            out.push(masks | 126);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Answers without the time of day, which is the system's, and goes on.
#[cfg(feature = "http")]
fn undated(answers: Vec<u8>) -> Vec<u8> {
    let lines = answers.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"Date: ")).collect::<Vec<_>>().concat()
}

/// Says headers of the PROXY protocol, and what is none, each before the others; who is introduced is told by whom.
///
/// # Panics
/// If the way it is cut makes a difference, or the beginning of a header is taken for something else than all of it.
pub fn headers_are_read_alike(said: &Said) {
    let input = said.iter().flat_map(|(kind, bytes)| header(*kind, bytes)).collect::<Vec<_>>();
    let whole = proxy::read(&input);
    let length = match whole {
        Ok(Some(header)) => header.length,
        _ => input.len(),
    };
    assert!(length <= input.len(), "it ends beyond all that is there: {whole:?}");
    for cut in 0..length {
        match proxy::read(&input[..cut]) {
            Ok(None) => {}
            Ok(Some(header)) => panic!("{header:?} after {cut} bytes, and {whole:?} after all"),
            Err(why) => assert!(whole.is_err(), "{why} after {cut} bytes, and {whole:?} after all"),
        }
    }
    let trusted = "127.0.0.1".parse::<proxy::Trusted>().expect("an address");
    however_it_is_cut(|| Proxied::new(Herald, trusted.clone()), &input, said);
}

/// A header, or something like it, with `bytes` in it.
fn header(kind: u8, bytes: &[u8]) -> Vec<u8> {
    const LINES: [&str; 6] = [
        "PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n",
        "PROXY TCP6 2001:db8::1 ::1 5000 80\r\n",
        "PROXY UNKNOWN BYTES\r\n",
        "PROXY TCP4 BYTES 198.51.100.1 5000 80\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 5000 BYTES\r\n",
        "BYTES",
    ];
    const KINDS: [(u8, u8, usize); 6] =
        [(0x21, 0x11, 12), (0x21, 0x21, 36), (0x21, 0x31, 216), (0x20, 0x00, 0), (0x21, 0x00, 0), (0x21, 0x22, 36)];
    let kind = usize::from(kind);
    if let Some(line) = LINES.get(kind % 16) {
        return line.split("BYTES").map(str::as_bytes).collect::<Vec<_>>().join(bytes);
    }
    let (command, family, addresses) = KINDS[kind % KINDS.len()];
    let mut body = vec![7; addresses];
    match kind / 16 % 4 {
        // In vectors: one of no meaning, one that may be a checksum.
        0 => [(4, bytes), (3, bytes.first_chunk::<4>().map_or(bytes, |four| four))].iter().for_each(|(kind, value)| {
            body.push(*kind);
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
        }),
        1 => body.extend(bytes),
        2 => body.truncate(bytes.len()),
        _ => {}
    }
    let length = (body.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, &body].concat()
}

/// Tells who its peer is said to be, and returns what comes.
#[derive(Clone)]
struct Herald;

impl Protocol for Herald {
    type Session = ();

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) {
        cx.send(format!("{peer};").as_bytes());
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.send_input(input.len());
        input.len()
    }
}

/// Says something in commands, and hears it again.
///
/// # Panics
/// If anything else comes back.
pub fn what_is_set_is_got(words: &[Vec<u8>]) {
    let mut input = Vec::new();
    let mut expected = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let key = [b"key", &(at % 3).to_string().into_bytes()[..]].concat();
        encode(&[b"SET", &key, word], &mut input);
        encode(&[b"GET", &key], &mut input);
        encode(&[b"RPUSH", b"all", word], &mut input);
        expected.extend(b"+OK\r\n");
        bulk(word, &mut expected);
        expected.extend(format!(":{}\r\n", at + 1).as_bytes());
    }
    encode(&[b"LRANGE", b"all", b"0", b"-1"], &mut input);
    expected.extend(format!("*{}\r\n", words.len()).as_bytes());
    words.iter().for_each(|word| bulk(word, &mut expected));
    let whole = vec![(0, Vec::new())];
    assert_eq!(however_it_is_cut(Resp::default, &input, &whole), (expected, true));
}

fn bulk(word: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("${}\r\n", word.len()).as_bytes());
    out.extend(word);
    out.extend(b"\r\n");
}

fn encode(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", words.len()).as_bytes());
    words.iter().for_each(|word| bulk(word, out));
}

/// One command, or something like it, with `bytes` in it.
fn command(kind: u8, bytes: &[u8]) -> Vec<u8> {
    const SAID: [&[&[u8]]; 24] = [
        &[b"GET", b"a"],
        &[b"SET", b"a", b"?"],
        &[b"SET", b"b", b"?", b"NX", b"EX", b"10", b"GET"],
        &[b"INCRBY", b"n", b"?"],
        &[b"INCR", b"n"],
        &[b"APPEND", b"a", b"?"],
        &[b"LPUSH", b"l", b"?", b"?"],
        &[b"RPUSH", b"l", b"?"],
        &[b"LRANGE", b"l", b"?", b"-1"],
        &[b"LPOP", b"l", b"2"],
        &[b"MSET", b"a", b"?", b"b", b"?"],
        &[b"MGET", b"a", b"b", b"l"],
        &[b"DEL", b"a", b"l", b"?"],
        &[b"EXPIRE", b"a", b"?"],
        &[b"TTL", b"a"],
        &[b"HELLO", b"3"],
        &[b"COMMAND", b"INFO", b"?"],
        &[b"CONFIG", b"GET", b"?"],
        &[b"CLIENT", b"SETNAME", b"?"],
        &[b"PING", b"?"],
        &[b"?", b"?"],
        &[b"TYPE", b"l"],
        &[b"FLUSHALL"],
        &[b"QUIT"],
    ];
    let words = SAID[usize::from(kind) % SAID.len()];
    let words = words.iter().map(|word| if *word == b"?" { bytes } else { word }).collect::<Vec<_>>();
    match kind / 24 {
        // As a person types it.
        0 => [&words.join(&b' ')[..], b"\r\n"].concat(),
        1 => [&words.join(&b" \""[..])[..], b"\"\n"].concat(),
        2 => bytes.to_vec(),
        _ => {
            let mut out = Vec::new();
            encode(&words, &mut out);
            out
        }
    }
}

/// Says `input` whole, byte by byte, in pieces as the numbers of `cuts` say, and whole to one who may owe only as much
/// as they say before more of it is consumed. Returns what was answered, and whether the connection was still open
/// then.
fn however_it_is_cut<P: Protocol>(protocol: impl Fn() -> P, input: &[u8], cuts: &Said) -> (Vec<u8>, bool) {
    compare(protocol, input, cuts, |answer| answer)
}

/// The same, of what `matters` of the answers.
fn compare<P: Protocol>(
    protocol: impl Fn() -> P,
    input: &[u8],
    cuts: &Said,
    matters: impl Fn(Vec<u8>) -> Vec<u8>,
) -> (Vec<u8>, bool) {
    let converse = |sizes: &mut dyn Iterator<Item = usize>, most| {
        let (heard, open) = Conversation::new(protocol(), most).says(input, sizes);
        (matters(heard), open)
    };
    let whole = converse(&mut [input.len()].into_iter(), usize::MAX);
    let is_the_same = |(heard, open): (Vec<u8>, bool), how| {
        // From where they part, for who has to read it.
        let parted = heard.iter().zip(&whole.0).take_while(|(one, other)| one == other).count();
        let (one, other) = (heard[parted..].escape_ascii(), whole.0[parted..].escape_ascii());
        assert!(heard == whole.0 && open == whole.1, "{how}: {one}, {open}: not {other}, {}", whole.1);
    };
    is_the_same(converse(&mut std::iter::repeat(1), usize::MAX), "byte by byte");
    let mut sizes = cuts.iter().map(|(kind, bytes)| usize::from(*kind) % 7 * bytes.len() + 1).cycle();
    is_the_same(converse(&mut sizes, usize::MAX), "in pieces");
    let most = cuts.iter().map(|(kind, _)| usize::from(*kind)).min().unwrap_or(0);
    is_the_same(converse(&mut [input.len()].into_iter(), most), "a little at a time");
    whole
}

struct Conversation<P: Protocol> {
    host: Host<P>,
    connection: Connection<P>,
    heard: Vec<u8>,
}

const ID: Token = Token(1);

impl<P: Protocol> Conversation<P> {
    /// Nothing is answered while more than `most` bytes are owed.
    fn new(protocol: P, most: usize) -> Conversation<P> {
        // All of them begin at the same time, and time stands still.
        let mut host = Host::with_clock(protocol, Arc::new(ManualClock::new()).into()).with_water(most, most / 2);
        let peer = Peer::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        let connection = Connection::open(&mut host, ID, &peer);
        Conversation { host, connection, heard: Vec::new() }
    }

    fn says(mut self, mut input: &[u8], sizes: &mut dyn Iterator<Item = usize>) -> (Vec<u8>, bool) {
        self.hear();
        while !input.is_empty() && self.connection.reads() {
            let size = sizes.next().unwrap_or(usize::MAX).clamp(1, input.len());
            let (piece, rest) = input.split_at(size);
            self.connection.receive(&mut self.host, ID, piece);
            self.hear();
            input = rest;
        }
        (self.heard, self.connection.reads())
    }

    fn hear(&mut self) {
        loop {
            let piece = self.connection.outgoing(&self.host).to_vec();
            if piece.is_empty() && !self.connection.resume(&mut self.host, ID) {
                break;
            }
            self.connection.sent(&mut self.host, piece.len());
            self.heard.extend(piece);
        }
        self.connection.settle(&mut self.host);
        self.host.take_deadline();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes of which many mean something: numbers, quotes, ends of lines.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "-?[0-9]{1,20}".prop_map(String::into_bytes),
            "[*$]?[0-9]{0,3}\r?\n?.{0,8}".prop_map(String::into_bytes),
            "[a-c \"'\\\\xn*?\r\n]{0,12}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..50),
        ]
    }

    fn said() -> impl Strategy<Value = Said> {
        prop::collection::vec((any::<u8>(), bytes()), 0..12)
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(said in said()) {
            frames_come_back(&said);
        }

        #[test]
        fn commands_are_executed_alike_however_they_are_cut(said in said()) {
            commands_are_executed_alike(&said);
        }

        #[cfg(feature = "http")]
        #[test]
        fn requests_are_answered_alike_however_they_are_cut(said in said()) {
            requests_are_answered_alike(&said);
        }

        #[cfg(feature = "ws")]
        #[test]
        fn messages_come_back_alike_however_they_are_cut(said in said()) {
            messages_come_back_alike(&said);
        }

        #[test]
        fn headers_are_read_alike_however_they_are_cut(said in said()) {
            headers_are_read_alike(&said);
        }

        #[test]
        fn any_text_is_kept_as_it_is(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..9)) {
            what_is_set_is_got(&words);
        }
    }
}
