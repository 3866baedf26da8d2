//! Cases of the limits: each deadline ends whom it is meant for, not early, and nobody else; and there is a place for
//! so many.

use std::io::Read;
use std::time::{Duration, Instant};

use pollmark::protocol::{Context, Echo, Peer, Protocol};
use pollmark::server::{Config, Excess, Expiry};

use super::backlog::{ANSWER, Amplifier, small};
use super::{LONGEST, TWO, concurrent, config, pattern};
use crate::suite::{Client, Running, Subject, Verdict};

/// Long enough that a test that is not starved stays below it with what it does at once.
pub(super) const SHORT: Duration = Duration::from_millis(120);

pub(super) fn limited(change: impl FnOnce(&mut pollmark::server::Limits)) -> Config {
    let mut config = config();
    change(&mut config.limits);
    config
}

/// Sends back each line, complete.
#[derive(Clone)]
pub(crate) struct Lines;

impl Protocol for Lines {
    type Session = ();

    fn open(&mut self, _: &Peer, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        let complete = input.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        cx.send_input(complete);
        complete
    }

    fn refusal(&self) -> &'static [u8] {
        b"full\n"
    }
}

/// Waits for the server to end the connection, which `began` what the deadline is about no later than then.
fn is_ended(server: &Running, client: &mut Client, began: Instant, after: Duration, expiry: Expiry) -> Verdict {
    let byte = client.read_byte_or_end();
    let took = began.elapsed();
    if byte.is_none() && took < after {
        return Err(client.gone(&format!("ended {took:?} after it began")));
    }
    assert_eq!(byte, None, "nothing was to be said");
    server.until("it is counted", |stats| stats.expired.of(expiry) == 1 && stats.closed == stats.accepted)?;
    Ok(())
}

pub(crate) fn an_idle_connection_is_closed_at_its_deadline(subject: &impl Subject) -> Verdict {
    let server = subject.serve(limited(|limits| limits.idle = Some(SHORT)), Echo);
    let mut client = server.connect();
    let mut began = Instant::now();
    // As long as it is never idle for so long, it is not closed, however long it takes.
    let start = began;
    while start.elapsed() < 3 * SHORT {
        let before = std::mem::replace(&mut began, Instant::now());
        if let Err(lost) = client.exchange(b"not idle") {
            assert!(before.elapsed() >= SHORT || server.tally().total() > 0, "closed, and was not idle: {lost:?}");
            // This machine did not let it speak in time.
            server.until("it was idle", |stats| stats.expired.idle == 1 && stats.closed == 1)?;
            return Ok(());
        }
    }
    is_ended(&server, &mut client, began, SHORT, Expiry::Idle)
}

pub(crate) fn whoever_says_nothing_or_not_all_of_it_is_closed_at_the_deadline(subject: &impl Subject) -> Verdict {
    for said in [&b""[..], b"unfinished"] {
        let server = subject.serve(limited(|limits| limits.header = Some(SHORT)), Lines);
        let began = Instant::now();
        let mut client = server.connect();
        client.write(said)?;
        is_ended(&server, &mut client, began, SHORT, Expiry::Header)?;
    }
    // Who has said it in time is not concerned by it any more.
    let limits = |limits: &mut pollmark::server::Limits| {
        (limits.header, limits.idle) = (Some(Duration::from_secs(3_600)), Some(SHORT));
    };
    let server = subject.serve(limited(limits), Lines);
    let began = Instant::now();
    let mut client = server.connect();
    client.exchange(b"a line\n")?;
    is_ended(&server, &mut client, began, SHORT, Expiry::Idle)
}

pub(crate) fn a_message_that_is_not_complete_in_time_ends_its_connection(subject: &impl Subject) -> Verdict {
    let server = subject.serve(limited(|limits| limits.request = Some(SHORT)), Lines);
    let mut client = server.connect();
    client.exchange(b"one line\n")?;
    std::thread::sleep(SHORT); // nothing is begun: this takes as long as it likes
    client.exchange(b"another\n")?;
    let began = Instant::now();
    client.write(b"a third, ")?;
    // Drops do not put it off. The last of them may find that it has ended.
    for _ in 0..3 {
        let _ = client.write(b".");
    }
    is_ended(&server, &mut client, began, SHORT, Expiry::Request)
}

/// Says more than any peer takes that does not read.
#[derive(Clone)]
struct Flood;

impl Protocol for Flood {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.send(pattern(LONGEST));
    }

    fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
        input.len()
    }

    /// Waits for ever: nobody but a deadline ends it.
    fn eof(&mut self, _: &mut (), _: &mut Context<'_>) {}
}

pub(crate) fn a_peer_that_takes_nothing_is_reset_at_the_deadline(subject: &impl Subject) -> Verdict {
    const REQUESTS: usize = LONGEST / ANSWER;
    let server = subject.serve(small(|limits| limits.write = Some(SHORT)), Amplifier::default());
    let mut client = server.connect();
    client.write(&[b'.'; REQUESTS])?;
    let stats = server.until("it was given up", |stats| stats.expired.write == 1 && stats.closed == 1)?;
    assert!(stats.bytes_out < LONGEST as u64, "its buffers held everything: {stats:?}");
    let mut all = Vec::new();
    let ended = client.stream().read_to_end(&mut all);
    assert!(ended.is_err() || !client.is_told_of_resets(), "an orderly end after {} bytes of {LONGEST}", all.len());
    Ok(())
}

pub(crate) fn no_connection_outlives_the_total_deadline(subject: &impl Subject) -> Verdict {
    let server = subject.serve(limited(|limits| limits.total = Some(SHORT)), Echo);
    let began = Instant::now();
    let mut client = server.connect();
    // However busy it is.
    while client.exchange(b"busy").is_ok() {
        assert!(began.elapsed() < subject.patience(), "it lives for ever");
    }
    if began.elapsed() < SHORT {
        return Err(client.gone("ended before its time"));
    }
    server.until("it is counted", |stats| stats.expired.total == 1 && stats.closed == 1)?;
    Ok(())
}

pub(crate) fn a_half_closed_connection_that_nobody_ends_meets_its_deadline(subject: &impl Subject) -> Verdict {
    let mut config = limited(|limits| (limits.idle, limits.write) = (Some(SHORT), Some(SHORT)));
    config.send_buffer = Some(16 * 1024);
    let server = subject.serve(config, Flood);
    let mut client = server.connect();
    client.shut_down()?;
    let stats = server.until("it was given up", |stats| stats.closed == 1)?;
    assert_eq!(stats.expired.sum(), 1, "{stats:?}");
    Ok(())
}

pub(crate) fn deadlines_that_fall_together_end_all_of_them_and_those_far_away_wake_nobody(
    subject: &impl Subject,
) -> Verdict {
    let (case, patience) = ("deadlines_that_fall_together_end_all_of_them", subject.patience());
    if subject.can(concurrent, case, TWO) {
        const MANY: u64 = 100;
        let server = subject.serve(limited(|limits| limits.header = Some(SHORT)), Echo);
        let mut clients = (0..MANY).map(|_| server.connect()).collect::<Vec<_>>();
        server.until("all have met it", |stats| stats.expired.header == MANY && stats.open == 0)?;
        assert!(clients.iter_mut().all(|client| client.read_byte_or_end().is_none()));
    }
    let far = Some(patience * 1_000);
    let far_away = |limits: &mut pollmark::server::Limits| {
        (limits.idle, limits.header, limits.request, limits.write, limits.total) = (far, far, far, far, far);
    };
    let server = subject.serve(limited(far_away), Echo);
    let mut client = server.connect();
    client.exchange(b"here")?;
    let (before, faults) = (server.stats(), server.tally().total());
    std::thread::sleep(SHORT);
    let (idle, faults) = (server.stats() - before, server.tally().total() - faults);
    assert!(idle.ledger.waits <= 4 + 2 * faults, "nothing is due, and nobody sleeps: {idle:?}");
    assert_eq!(idle.expired.sum(), 0);
    client.exchange(b"still here")
}

pub(crate) fn connections_beyond_the_limit_may_wait_for_a_place(subject: &impl Subject) -> Verdict {
    let server = subject.serve(limited(|limits| (limits.connections, limits.excess) = (Some(2), Excess::Pause)), Echo);
    let many = if subject.can(concurrent, "two_have_a_place_and_others_wait", TWO) { 2 } else { 1 };
    let mut placed = (0..many).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut placed {
        client.exchange(b"in")?;
    }
    let mut waiting = (0..6).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut waiting {
        client.write(b"me too")?;
    }
    for client in &mut placed {
        client.exchange(b"still in")?;
    }
    assert_eq!(server.stats().refused, 0);
    drop(placed);
    // In whatever order: each leaves a place when it has been served.
    while !waiting.is_empty() {
        let began = Instant::now();
        let served = loop {
            let served = waiting.iter_mut().position(|client| {
                client.stream().set_nonblocking(true).expect("a socket");
                let is_answered = client.stream().peek(&mut [std::mem::MaybeUninit::uninit()]).is_ok();
                client.stream().set_nonblocking(false).expect("a socket");
                is_answered
            });
            if let Some(served) = served {
                break served;
            }
            assert!(began.elapsed() < subject.patience(), "{} wait for ever: {:?}", waiting.len(), server.stats());
            server.until("it serves", |_| true)?;
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut client = waiting.remove(served);
        let mut answer = [0; 6];
        client.read(&mut answer)?;
        assert_eq!(&answer, b"me too");
    }
    let stats = server.until("all were served", |stats| stats.closed == many + 6)?;
    assert_eq!(stats.refused, 0, "{stats:?}");
    Ok(())
}

pub(crate) fn connections_beyond_the_limit_may_be_told_so(subject: &impl Subject) -> Verdict {
    if !subject.can(concurrent, "connections_beyond_the_limit_may_be_told_so", TWO) {
        return Ok(());
    }
    let server = subject.serve(limited(|limits| (limits.connections, limits.excess) = (Some(1), Excess::Reply)), Lines);
    let mut placed = server.connect();
    placed.exchange(b"in\n")?;
    server.until("it is in", |stats| stats.open == 1)?;
    let mut excess = server.connect();
    excess.expect_line("full")?;
    assert_eq!(excess.read_byte_or_end(), None);
    placed.exchange(b"still in\n")?;
    server.until("one was refused", |stats| stats.refused == 1)?;
    Ok(())
}
