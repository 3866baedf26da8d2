//! Protocols that act on their own terms: speak first, pass on, wait for deadlines, outlive their peers, and hang up.

use std::io::{ErrorKind, Read};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pollmark::backends::Token;
use pollmark::protocol::{Context, Peer, Post, Protocol};
use pollmark::server::Expiry;

use super::drain::ends;
use super::limits::{SHORT, limited};
use super::{LONGEST, config, pattern};
use crate::suite::{PATIENCE, Subject, Verdict};

/// Greets, passes lines on to the one before, says "late" after a quiet while, and hangs up or aborts when told.
#[derive(Clone, Default)]
struct Talkative {
    before: Option<Token>,
}

pub(super) const QUIET: Duration = Duration::from_millis(100);

impl Protocol for Talkative {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.send(b"hello\n");
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let mut consumed = 0;
        for line in input.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            consumed += line.len();
            match &line[..line.len() - 1] {
                b"wait" => cx.deadline(Some(QUIET)),
                b"never mind" => cx.deadline(None),
                b"bye" => {
                    cx.send(b"bye\n");
                    cx.close_when_flushed();
                }
                b"abort" => cx.abort(),
                b"name" => self.before = Some(cx.connection()),
                _ => {
                    if let Some(before) = self.before {
                        cx.send_to(before, Arc::from(line));
                    }
                }
            }
        }
        consumed
    }

    fn due(&mut self, _: &mut (), cx: &mut Context<'_>) {
        cx.send(b"late\n");
        cx.close_when_flushed();
    }
}

pub(crate) fn a_protocol_may_speak_first_wait_close_and_abort(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Talkative::default());
    let mut client = server.connect();
    client.expect_line("hello")?;
    client.write(b"by")?;
    client.write(b"e\n")?;
    client.expect_line("bye")?;
    assert_eq!(client.read_byte_or_end(), None);

    let mut client = server.connect();
    client.expect_line("hello")?;
    let began = Instant::now();
    client.write(b"wait\n")?;
    client.expect_line("late")?;
    assert!(began.elapsed() >= QUIET, "the deadline came early: {:?}", began.elapsed());

    let mut client = server.connect();
    client.expect_line("hello")?;
    client.write(b"abort\n")?;
    match client.stream().read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Ok(0) if !client.is_told_of_resets() => {}
        Ok(0) => return Err(client.gone("closed in order instead of reset")),
        other => panic!("{other:?} instead of a reset"),
    }
    server.until("all have gone", |stats| stats.closed == 3)?;
    Ok(())
}

pub(crate) fn what_one_connection_sends_to_another_arrives_without_its_asking(subject: &impl Subject) -> Verdict {
    let (case, needs) = ("what_one_connection_sends_to_another_arrives", "one protocol that knows both connections");
    if !subject.can(|has| has.concurrent && has.shared_protocol, case, needs) {
        return Ok(());
    }
    let server = subject.serve(config(), Talkative::default());
    let (mut listener, mut speaker) = (server.connect(), server.connect());
    listener.expect_line("hello")?;
    speaker.expect_line("hello")?;
    listener.write(b"name\nwait\nnever mind\n")?;
    server.until("the name is taken", |stats| stats.bytes_in == 21)?;
    speaker.write(b"psst\n")?;
    server.until("it is said", |stats| stats.bytes_in == 26)?;
    listener.expect_line("psst")?;
    // "late" would come first, if "never mind" had not been heard.
    std::thread::sleep(QUIET);
    speaker.write(b"still there?\n")?;
    server.until("it is said", |stats| stats.bytes_in == 39)?;
    listener.expect_line("still there?")
}

/// Greets, and leaves a way to be reached.
#[derive(Clone, Default)]
struct Reachable {
    post: Option<Post>,
    latest: Arc<Mutex<Option<(Post, Token)>>>,
}

impl Protocol for Reachable {
    type Session = ();

    fn begin(&mut self, post: &Post) {
        self.post = Some(post.clone());
    }

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        let post = self.post.clone().expect("a server was bound");
        *self.latest.lock().expect("nobody panics with it") = Some((post, cx.connection()));
        cx.send(b"hello\n");
    }

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }
}

pub(crate) fn mail_from_any_thread_arrives_in_order_and_keeps_no_server_from_ending(subject: &impl Subject) -> Verdict {
    mail_from_any_thread(subject, false)?;
    mail_from_any_thread(subject, true)
}

fn mail_from_any_thread(subject: &impl Subject, drains: bool) -> Verdict {
    let protocol = Reachable::default();
    let server = subject.serve(limited(|limits| limits.drain = SHORT), protocol.clone());
    let mut client = server.connect();
    client.expect_line("hello")?;
    let (post, name) = protocol.latest.lock().expect("nobody panics with it").clone().expect("it was opened");
    let nobody = Token(u64::MAX);
    post.send(vec![(name, Arc::from(*b"one\n")), (nobody, Arc::from(*b"lost")), (name, Arc::from(*b"two\n"))]);
    post.send(vec![(name, Arc::from(*b"three\n"))]);
    for line in ["one", "two", "three"] {
        client.expect_line(line)?;
    }
    // More than it takes, for it does not read.
    post.send(vec![(name, Arc::from(pattern(LONGEST)))]);
    let mut first = [0; 1_000];
    client.read(&mut first)?;
    assert_eq!(first, pattern(1_000));
    if drains {
        server.control.drain();
        ends(&server, subject.patience());
    }
    server.stop();
    post.send(vec![(name, Arc::from(*b"too late"))]);
    Ok(())
}

/// Whoever says anything is asked after a quiet while whether it is still there, and given up after another.
#[derive(Clone, Default)]
struct Caring(Reachable);

impl Protocol for Caring {
    /// It was asked.
    type Session = bool;

    fn begin(&mut self, post: &Post) {
        self.0.begin(post);
    }

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> bool {
        self.0.open(peer, cx);
        false
    }

    fn received(&mut self, _: &mut bool, input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.deadline(Some(QUIET));
        input.len()
    }

    fn due(&mut self, asked: &mut bool, cx: &mut Context<'_>) {
        if std::mem::replace(asked, true) {
            return cx.abort();
        }
        cx.send(b"still there?\n");
        cx.deadline(Some(QUIET));
    }
}

pub(crate) fn whoever_takes_no_mail_is_given_up_and_keeps_nobody_waiting(subject: &impl Subject) -> Verdict {
    let (case, needs) = ("whoever_takes_no_mail_is_given_up", "a connection beside the one that takes nothing");
    if !subject.can(|has| has.concurrent, case, needs) {
        return Ok(());
    }
    for by_protocol in [true, false] {
        let protocol = Caring::default();
        let latest = || protocol.0.latest.lock().expect("nobody panics with it").clone().expect("it was opened");
        let config = limited(|limits| limits.write = (!by_protocol).then_some(SHORT));
        let server = subject.serve(config, protocol.clone());
        let mut deaf = server.connect();
        deaf.expect_line("hello")?;
        let (to_deaf, deaf_name) = latest();
        let mut other = server.connect();
        other.expect_line("hello")?;
        let (to_other, other_name) = latest();
        if by_protocol {
            deaf.write(b"!")?;
            server.until("it is cared for", |stats| stats.bytes_in == 1)?;
        }
        to_deaf.send(vec![(deaf_name, Arc::from(pattern(LONGEST)))]);
        to_other.send(vec![(other_name, Arc::from(*b"and you?\n"))]);
        other.expect_line("and you?")?;
        let stats = server.until("it was given up", |stats| stats.closed == 1)?;
        assert_eq!(stats.expired.of(Expiry::Write), u64::from(!by_protocol), "{stats:?}");
    }
    Ok(())
}

pub(crate) fn a_deadline_is_met_while_bytes_go_on_coming(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Talkative::default());
    let mut client = server.connect();
    client.expect_line("hello")?;
    client.stream().set_read_timeout(Some(QUIET / 6)).expect("a timeout");
    let began = Instant::now();
    client.write(b"wait\n")?;
    let mut first = [0];
    // An unfinished line, byte by byte: nothing that would move the deadline.
    loop {
        match client.stream().read(&mut first) {
            Ok(1) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // It has hung up, with a byte of ours unread: a reset, which on Windows costs what it had said.
            Ok(_) | Err(_) if cfg!(windows) && began.elapsed() >= QUIET => return Ok(()),
            ended => return Err(client.gone(&format!("{ended:?} instead of its deadline"))),
        }
        assert!(began.elapsed() < PATIENCE, "the deadline is put off by every byte");
        let written = client.write(b".");
        if began.elapsed() < QUIET {
            written?; // later it may fail: the server has hung up, and what it said is still to be read
        }
    }
    assert_eq!(&first, b"l");
    Ok(())
}

/// Ends on its own terms: what it has to say it says at a deadline set when the peer was done.
#[derive(Clone)]
struct Persistent;

impl Protocol for Persistent {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }

    fn eof(&mut self, _: &mut (), cx: &mut Context<'_>) {
        cx.send(b"one moment\n");
        cx.deadline(Some(QUIET));
    }

    fn due(&mut self, _: &mut (), cx: &mut Context<'_>) {
        cx.send(b"the last word\n");
        cx.close_when_flushed();
    }
}

pub(crate) fn a_protocol_may_outlive_its_peers_half_close(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Persistent);
    let mut client = server.connect();
    client.write(b"that is all")?;
    client.shut_down()?;
    client.expect_line("one moment")?;
    client.expect_line("the last word")?;
    assert_eq!(client.read_byte_or_end(), None);

    // Stopped while it waits for its deadline, it is gone at once like any other.
    let mut client = server.connect();
    client.shut_down()?;
    client.expect_line("one moment")?;
    server.stop();
    match client.line() {
        silence if silence.is_empty() => {}
        line => assert_eq!(line, "the last word", "the deadline was earlier than the stop"),
    }
    Ok(())
}

/// Says more than any peer takes that does not read, and gives it up after a while.
#[derive(Clone)]
struct Torrent;

impl Protocol for Torrent {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.deadline(Some(QUIET));
        cx.send(pattern(LONGEST));
    }

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }
}

pub(crate) fn a_deadline_is_met_while_its_peer_takes_nothing(subject: &impl Subject) -> Verdict {
    let mut small = config();
    small.send_buffer = Some(16 * 1024);
    let server = subject.serve(small, Torrent);
    let client = server.connect();
    let stats = server.until("it was given up", |stats| stats.closed == 1)?;
    assert!(stats.bytes_out < LONGEST as u64, "its buffers held everything: {stats:?}");
    drop(client);
    Ok(())
}

/// Takes its time to be dropped once it has served somebody, as one does that has much to give back.
#[derive(Clone)]
struct Reluctant {
    #[allow(dead_code, reason = "it is counted")]
    held: Arc<()>,
    has_served: bool,
}

impl Drop for Reluctant {
    fn drop(&mut self) {
        if self.has_served {
            std::thread::sleep(SHORT / 4);
        }
    }
}

impl Protocol for Reluctant {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        self.has_served = true;
        cx.send(b"hello\n");
    }

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }
}

pub(crate) fn a_server_that_has_returned_holds_no_copy_of_its_protocol(subject: &impl Subject) -> Verdict {
    let held = Arc::new(());
    let server = subject.serve(config(), Reluctant { held: Arc::clone(&held), has_served: false });
    let mut clients = Vec::new();
    for _ in 0..if subject.abilities().concurrent { 3 } else { 1 } {
        let mut client = server.connect();
        client.expect_line("hello")?;
        clients.push(client);
    }
    server.stop();
    assert_eq!(Arc::strong_count(&held), 1, "somebody is still at it");
    Ok(())
}
