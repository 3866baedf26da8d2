//! What a connection owes, keeps and sends, however its input is cut and however little the kernel takes.

use super::*;
use std::time::Duration;

#[test]
fn an_answer_of_extraordinary_length_goes_with_its_connection() {
    let (mut host, id) = (Host::new(crate::protocol::Echo), Token(1));
    let mut connection = Connection::open(&mut host, id, &Peer::default());
    let long = (0..2 * ORDINARY_ANSWER).map(|at| at as u8).collect::<Vec<_>>();
    let mut sent = Vec::new();
    // What is owed before it stays before it.
    for bytes in [&b"before"[..], &long, b"after", &long, b"the end"] {
        connection.receive(&mut host, id, bytes);
        sent.push(connection.outgoing(&host)[0]);
        connection.sent(&mut host, 1);
        connection.settle(&mut host);
        while connection.owed() > 3 {
            sent.push(connection.outgoing(&host)[0]);
            connection.sent(&mut host, 1);
        }
    }
    assert!(sent == [b"before", &long[..], b"after", &long, b"the "].concat(), "in order, and whole");
    let kept = host.turn.output.capacity();
    assert!(kept <= ORDINARY_ANSWER, "the loop keeps {kept} bytes for the next answer");
}

#[test]
fn the_room_of_a_long_answer_is_given_back_in_whatever_way_it_is_taken() {
    let (mut host, id) = (Host::new(crate::protocol::Echo), Token(1));
    let mut connection = Connection::open(&mut host, id, &Peer::default());
    let long = vec![7; 2 * ORDINARY_ANSWER];
    connection.receive(&mut host, id, &long);
    connection.sent(&mut host, long.len());
    connection.settle(&mut host);
    assert!(host.turn.output.capacity() <= ORDINARY_ANSWER, "taken whole, and settled");
    host.turn.output.extend_from_slice(&long);
    host.turn.answered(&[], long.len(), true);
    assert!(host.turn.output.capacity() <= ORDINARY_ANSWER, "taken whole at once");
    host.turn.output.extend_from_slice(b"short");
    let room = host.turn.output.capacity();
    host.turn.answered(&[], 5, true);
    assert_eq!(host.turn.output.capacity(), room, "that of an ordinary one stays");
}

#[test]
fn what_one_connection_owes_is_no_bound_of_what_the_next_is_sent() {
    let mut host = Host::new(crate::protocol::Frame::default()).with_water(8, 0);
    let mut slow = Connection::open(&mut host, Token(1), &Peer::default());
    slow.owe(b"too much already");
    slow.receive(&mut host, Token(1), b"\0\0\0\x01a");
    assert!(slow.is_held());
    let mut other = Connection::open(&mut host, Token(2), &Peer::default());
    other.receive(&mut host, Token(2), b"\0\0\0\x01a\0\0\0\x01b");
    assert_eq!(other.outgoing(&host), b"\0\0\0\x01a\0\0\0\x01b");
}

#[test]
fn a_reader_pauses_beyond_the_high_mark_and_goes_on_at_the_low() {
    let mut host = Host::new(crate::protocol::Echo).with_water(10, 4);
    let mut connection = Connection::open(&mut host, ID, &Peer::default());
    let wants = |connection: &Connection<_>, host: &Host<_>| [true, false].map(|on| connection.wants_input(host, on));
    connection.owe(&[0; 10]);
    assert_eq!(wants(&connection, &host), [true, false], "the mark itself is not beyond it");
    connection.owe(b"!");
    assert_eq!(wants(&connection, &host), [false, false]);
    connection.sent(&mut host, 6);
    assert_eq!(wants(&connection, &host), [true, false]);
    connection.sent(&mut host, 1);
    assert_eq!(wants(&connection, &host), [true, true]);
    connection.eof(&mut host, ID);
    assert_eq!(wants(&connection, &host), [false, false], "there is nothing to come");
}

/// Echoes whole lines, and ends at "quit".
#[derive(Clone)]
struct Lines;

impl Protocol for Lines {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        for line in input.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            if line == b"quit\n" {
                cx.close_when_flushed();
            }
            cx.send(line);
            consumed += line.len();
        }
        consumed
    }
}

const ID: Token = Token(7);

fn open() -> (Host<Lines>, Connection<Lines>) {
    let mut host = Host::new(Lines);
    let connection = Connection::open(&mut host, ID, &Peer::default());
    (host, connection)
}

/// Takes everything, `most` bytes at a time.
fn drain(connection: &mut Connection<Lines>, host: &mut Host<Lines>, most: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let piece = connection.outgoing(host).iter().take(most).copied().collect::<Vec<_>>();
        if piece.is_empty() {
            connection.settle(host);
            return all;
        }
        connection.sent(host, piece.len());
        all.extend(piece);
    }
}

#[test]
fn any_split_of_the_input_gives_the_same_output() {
    let text = b"one\ntwo\n\nfour and more\n";
    for size in 1..=text.len() {
        let (mut host, mut connection) = open();
        let mut output = Vec::new();
        for piece in text.chunks(size) {
            connection.receive(&mut host, ID, piece);
            output.extend(drain(&mut connection, &mut host, 3));
        }
        assert_eq!(output, text, "in pieces of {size}");
        assert_eq!((connection.kept(), connection.owed()), (0, 0));
    }
}

#[test]
fn what_was_not_sent_goes_before_what_comes_later() {
    let (mut host, mut connection) = open();
    connection.receive(&mut host, ID, b"first\n");
    connection.sent(&mut host, 2);
    connection.settle(&mut host);
    connection.receive(&mut host, ID, b"second\n");
    connection.settle(&mut host);
    assert_eq!(drain(&mut connection, &mut host, 4), b"rst\nsecond\n");
}

#[test]
fn a_closing_connection_finishes_what_it_owes_and_reads_no_more() {
    let (mut host, mut connection) = open();
    connection.receive(&mut host, ID, b"quit\n");
    connection.settle(&mut host);
    assert!(!connection.reads() && !connection.finished());
    connection.receive(&mut host, ID, b"late\n");
    assert_eq!(drain(&mut connection, &mut host, 64), b"quit\n");
    assert!(connection.finished());
}

#[test]
fn what_was_sent_takes_no_room_while_something_is_always_owed() {
    let (mut host, mut connection) = open();
    let text = [[b'x'; 999].as_slice(), b"\n"].concat();
    for _ in 0..1_000 {
        connection.receive(&mut host, ID, &text);
        connection.settle(&mut host);
        if connection.owed() > 4_000 {
            connection.sent(&mut host, 1_000);
        }
    }
    let held = connection.cold.as_ref().map_or(0, |cold| cold.output.capacity());
    assert!(held <= 16_000, "{held} bytes are held to owe {}", connection.owed());
    assert_eq!(drain(&mut connection, &mut host, 777), text.repeat(4));
}

/// Hangs up at once, and at its deadline for good.
#[derive(Clone)]
struct Impatient;

impl Protocol for Impatient {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.send(b"bye");
        cx.close_when_flushed();
        cx.deadline(Some(Duration::from_secs(1)));
    }

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }
}

#[test]
fn a_deadline_ends_a_connection_that_cannot_flush() {
    let mut host = Host::new(Impatient);
    let mut connection = Connection::open(&mut host, ID, &Peer::default());
    connection.settle(&mut host);
    assert!(host.take_deadline().flatten().is_some() && !connection.finished());
    connection.due(&mut host, ID);
    assert!(connection.finished() && connection.aborted());
}

/// Answers at length, then aborts.
#[derive(Clone)]
struct Fickle;

impl Protocol for Fickle {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.send(b"one two ");
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.send_input(input.len());
        cx.send(b"four");
        cx.abort();
        input.len()
    }
}

#[test]
fn after_an_abort_there_is_nothing_to_send_rather_than_a_stream_with_a_gap() {
    let mut host = Host::new(Fickle);
    let mut connection = Connection::open(&mut host, ID, &Peer::default());
    connection.sent(&mut host, 4);
    connection.settle(&mut host);
    connection.receive(&mut host, ID, b"three ");
    assert_eq!(connection.outgoing(&host), b"");
    connection.settle(&mut host);
    assert_eq!((connection.owed(), connection.finished()), (0, true));
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let (mut host, mut connection) = open();
    connection.receive(&mut host, ID, b"unfinished");
    assert!(connection.cold.is_some());
    connection.receive(&mut host, ID, b"\n");
    drain(&mut connection, &mut host, 64);
    assert!(connection.cold.is_none());
    connection.owe(b"");
    assert!(connection.cold.is_none());
    assert_eq!(size_of::<Connection<crate::protocol::Echo>>(), 16);
}

/// Answers each byte with a length by so many bytes of its own place, and ends at nothing else than the input.
#[derive(Clone, Debug, Default)]
struct Amplifier {
    /// How often it was asked to consume something.
    calls: usize,
}

impl Amplifier {
    const MOST: usize = 255;

    fn answer(number: u8) -> Vec<u8> {
        vec![number; number.into()]
    }

    fn answers(input: &[u8]) -> Vec<u8> {
        input.iter().flat_map(|number| Amplifier::answer(*number)).collect()
    }
}

impl Protocol for Amplifier {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        self.calls += 1;
        let taken = input.iter().take_while(|number| {
            let goes_on = !cx.is_full();
            if goes_on {
                cx.send(&Amplifier::answer(**number));
            }
            goes_on
        });
        taken.count()
    }

    fn eof(&mut self, _: &mut (), cx: &mut Context<'_>) {
        cx.send(b"the end");
        cx.close_when_flushed();
    }
}

/// A connection whose peer is worked for until it owes more than `high`, and again when it owes `low`.
fn amplifier(high: usize, low: usize) -> (Host<Amplifier>, Connection<Amplifier>) {
    let mut host = Host::new(Amplifier::default()).with_water(high, low);
    let connection = Connection::open(&mut host, ID, &Peer::default());
    (host, connection)
}

#[test]
fn input_is_held_back_while_too_much_is_owed_and_gone_on_with_when_little_is() {
    let (mut host, mut connection) = amplifier(250, 100);
    connection.receive(&mut host, ID, &[200; 100]);
    connection.settle(&mut host);
    assert_eq!((connection.owed(), connection.kept(), connection.unfinished()), (400, 98, 0));
    assert!(connection.is_held() && connection.reads());
    // More of it only waits behind, and nobody is asked about it.
    let calls = host.protocol.calls;
    connection.receive(&mut host, ID, &[100]);
    assert!(!connection.resume(&mut host, ID));
    connection.sent(&mut host, 299);
    assert!(!connection.resume(&mut host, ID), "101 bytes are more than 100");
    assert_eq!((connection.kept(), host.protocol.calls), (99, calls));
    connection.sent(&mut host, 1);
    assert!(connection.resume(&mut host, ID));
    assert_eq!(connection.outgoing(&host), [200; 100], "what is owed goes first");
    connection.settle(&mut host);
    assert_eq!((connection.owed(), connection.kept()), (300, 98));
}

#[test]
fn what_was_said_before_the_end_is_answered_before_it_and_what_comes_after_a_close_is_not() {
    let (mut host, mut connection) = amplifier(0, 0);
    connection.receive(&mut host, ID, &[3, 2, 1]);
    connection.eof(&mut host, ID);
    assert!(!connection.reads() && !connection.finished() && connection.is_held());
    let mut heard = Vec::new();
    loop {
        heard.extend_from_slice(connection.outgoing(&host));
        let count = connection.outgoing(&host).len();
        connection.sent(&mut host, count);
        connection.settle(&mut host);
        if !connection.resume(&mut host, ID) {
            break;
        }
    }
    assert_eq!((&heard[..], connection.finished()), (&b"\x03\x03\x03\x02\x02\x01the end"[..], true));

    let (mut host, mut connection) = amplifier(0, 0);
    connection.receive(&mut host, ID, &[3, 2, 1]);
    connection.settle(&mut host);
    connection.wind_up();
    assert!(connection.reads(), "it is still to be answered");
    connection.give_up();
    assert!(connection.aborted(), "an orderly end would say that this was all");
}

#[test]
fn what_others_send_is_owed_too_and_a_message_under_way_waits_for_it_to_be_taken() {
    let mut host = Host::new(Lines).with_water(10, 5);
    let mut connection = Connection::open(&mut host, ID, &Peer::default());
    connection.receive(&mut host, ID, b"unfini");
    connection.owe(b"said to everybody");
    assert_eq!((connection.unfinished(), connection.is_held()), (6, false));
    connection.receive(&mut host, ID, b"shed\n");
    assert_eq!((connection.unfinished(), connection.kept(), connection.is_held()), (0, 11, true));
    connection.sent(&mut host, 12);
    assert!(connection.resume(&mut host, ID));
    connection.settle(&mut host);
    assert_eq!(drain(&mut connection, &mut host, 64), b"ybodyunfinished\n");
    assert!(connection.cold.is_none());
}

#[test]
fn a_large_backlog_gives_its_memory_back_before_it_is_gone() {
    const LONG: usize = 4 * ORDINARY_ANSWER;
    let (mut host, mut connection) = open();
    connection.receive(&mut host, ID, &[&[b'x'; LONG][..], b"\nunfinished"].concat());
    connection.settle(&mut host);
    connection.sent(&mut host, LONG - 99);
    let held = |connection: &Connection<Lines>| {
        connection.cold.as_ref().map_or(0, |cold| cold.input.capacity() + cold.output.capacity())
    };
    assert!(held(&connection) < 64 * 1024 + 1_000, "{} bytes for a hundred", held(&connection));
    connection.sent(&mut host, 100);
    assert!(held(&connection) < 100, "{} bytes for an unfinished line", held(&connection));
}

proptest::proptest! {
    #[test]
    fn whatever_the_marks_the_same_bytes_go_out_and_never_more_is_owed_than_the_mark_and_an_answer(
        input in proptest::collection::vec(proptest::num::u8::ANY, 0..100),
        (high, low) in (0_usize..2_000, 0_usize..2_000),
        cuts in proptest::collection::vec(1_usize..20, 1..20),
        takes in proptest::collection::vec(1_usize..900, 1..20),
        is_lent in proptest::bool::ANY,
        has_mail in proptest::bool::ANY,
    ) {
        let (mut host, mut connection) = amplifier(high, low);
        let (mut rest, mut heard) = (&input[..], Vec::new());
        let (mut cuts, mut takes) = (cuts.into_iter().cycle(), takes.into_iter().cycle());
        let mut mail = if has_mail { &b"\0\0\0"[..] } else { b"" };
        let mut ended = false;
        while !connection.finished() {
            // A driver that reads as long as it may, and a little longer, as one does that hears of it too late.
            let reads_on = connection.kept() < 30;
            if rest.is_empty() && reads_on && !std::mem::replace(&mut ended, true) {
                connection.eof(&mut host, ID);
            } else if reads_on {
                let (piece, later) = rest.split_at(cuts.next().expect("a cycle").min(rest.len()));
                connection.receive(&mut host, ID, piece);
                rest = later;
            }
            connection.settle(&mut host);
            connection.owe(mail);
            mail = b"";
            let most = high + Amplifier::MOST + 3 + b"the end".len();
            proptest::prop_assert!(connection.owed() <= most, "{} bytes are owed", connection.owed());
            if is_lent && let Some((bytes, from)) = connection.take_outgoing() {
                let taken = takes.next().expect("a cycle").min(bytes.len() - from);
                heard.extend_from_slice(&bytes[from..from + taken]);
                connection.give_back(bytes, from + taken);
            } else {
                let taken = takes.next().expect("a cycle").min(connection.outgoing(&host).len());
                heard.extend_from_slice(&connection.outgoing(&host)[..taken]);
                connection.sent(&mut host, taken);
            }
            // A loop that serves it again until it may not: nothing is left behind that nobody will be told of.
            let can = connection.can_resume(&host);
            proptest::prop_assert_eq!(connection.resume(&mut host, ID), can);
            connection.settle(&mut host);
            proptest::prop_assert!(!connection.is_held() || connection.owed() > low.min(high), "held for no reason");
        }
        heard.retain(|byte| *byte != 0);
        proptest::prop_assert!(heard == [&Amplifier::answers(&input)[..], b"the end"].concat());
        proptest::prop_assert!(connection.kept() == 0);
    }
}
