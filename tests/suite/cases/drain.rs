//! Cases of ending in good order: what was asked is answered, what is under way is finished, and nobody more is taken
//! on.

use std::time::{Duration, Instant};

use pollmark::backends::conformance::fault::Kind;
use pollmark::server::AcceptPolicy;

use super::limits::{Lines, SHORT, limited};
use super::{TWO, concurrent};
use crate::suite::{Client, Running, Subject, Verdict, connect};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

/// Waits for `run` to return by itself: nobody has stopped it.
pub(super) fn ends(server: &Running, patience: Duration) {
    let began = Instant::now();
    while !server.has_ended() {
        assert!(began.elapsed() < patience, "a drained server goes on for ever");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn what_was_asked_before_the_end_is_answered_in_full(subject: &impl Subject) -> Verdict {
    let server = subject.serve(limited(|limits| limits.drain = LONG), Lines);
    let mut client = server.connect();
    client.exchange(b"a line\n")?;
    let asked = b"one of many lines\n".repeat(2_000);
    let mut writer = client.handle();
    let writing = std::thread::spawn(move || writer.write(&asked).map(|()| asked));
    let mut first = [0; 18];
    client.read(&mut first)?;
    let asked = writing.join().expect("no panic")?;
    // All of it is on the server's side by now, or on its way back.
    server.control.drain();
    let answered = match client.read_to_end() {
        Err(_) if server.may_be_misled() => return Ok(()),
        read => read?,
    };
    if answered.len() < asked.len() - first.len() && server.tally().total() > 0 {
        return Err(client.gone("closed before it was answered"));
    }
    assert_eq!(answered.len() + first.len(), asked.len(), "the rest was not answered");
    ends(&server, subject.patience());
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.closed), (1, 1));
    Ok(())
}

pub(crate) fn a_message_under_way_may_be_finished_and_nobody_more_is_taken_on(subject: &impl Subject) -> Verdict {
    let server = subject.serve(limited(|limits| limits.drain = LONG), Lines);
    let mut busy = server.connect();
    busy.exchange(b"a line\n")?;
    let mut idle = None;
    // Who serves one at a time listens until that one has gone.
    if subject.can(concurrent, "who_is_idle_is_closed_when_the_server_drains", TWO) {
        let mut client = server.connect();
        client.exchange(b"another\n")?;
        idle = Some(client);
    }
    busy.write(b"unfinished, ")?;
    server.until("it has come", |stats| stats.bytes_in >= 19 + 8 * u64::from(idle.is_some()))?;
    server.control.drain();
    server.control.drain(); // once more changes nothing
    assert_eq!(server.adopted().read_byte_or_end(), None);
    if let Some(mut idle) = idle {
        assert_eq!(idle.read_byte_or_end(), None);
        let began = Instant::now();
        while server.listens() {
            assert!(began.elapsed() < subject.patience(), "somebody still listens");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    busy.write(b"and finished\n")?;
    busy.expect_line("unfinished, and finished")?;
    assert_eq!(busy.read_byte_or_end(), None);
    ends(&server, subject.patience());
    Ok(())
}

pub(crate) fn whoever_is_in_the_queue_is_taken_on_before_the_end(subject: &impl Subject) -> Verdict {
    /// More than any event is worth.
    const QUEUED: usize = AcceptPolicy::DEFAULT_DRAIN as usize + 6;
    /// What an accept may come by. Then what is behind it in the queue may be lost with the listener.
    const OF_ACCEPTING: [Kind; 5] = [Kind::WouldBlock, Kind::Late, Kind::Aborted, Kind::Shortage, Kind::LastDescriptor];
    let server = subject.bind(limited(|limits| limits.drain = LONG), Lines).expect("a free port");
    let mut clients = Vec::new();
    for _ in 0..QUEUED {
        let socket = connect(&server.addresses()[0]).expect("it listens, and does not run yet");
        let mut client = Client::new(socket, subject.patience());
        client.write(b"asked before the end\n")?;
        clients.push(client);
    }
    server.control().drain();
    let server = Running::start(server, subject.faults().cloned(), subject.patience()).with_herd(subject.herd());
    for client in &mut clients {
        let answered = client.read_to_end();
        if OF_ACCEPTING.into_iter().any(|kind| server.tally().of(kind) > 0) {
            continue;
        }
        if answered? != b"asked before the end\n" {
            return Err(client.gone("closed before it was answered"));
        }
    }
    ends(&server, subject.patience());
    Ok(())
}

pub(crate) fn a_drain_ends_at_its_deadline_or_when_it_is_told_to_stop(subject: &impl Subject) -> Verdict {
    for (drain, is_stopped) in [(SHORT, false), (LONG, true)] {
        let server = subject.serve(limited(|limits| limits.drain = drain), Lines);
        let mut client = server.connect();
        client.write(b"never finished")?;
        server.until("it has come", |stats| stats.bytes_in == 14)?;
        let began = Instant::now();
        server.control.drain();
        if is_stopped {
            assert!(!server.has_ended(), "it waits for an hour");
            let stats = server.stop();
            assert_eq!((stats.accepted, stats.closed), (1, 1));
        } else {
            ends(&server, subject.patience());
            assert!(began.elapsed() >= SHORT || server.tally().total() > 0, "given up early: {:?}", began.elapsed());
        }
        assert_eq!(client.read_byte_or_end(), None);
    }
    // With nobody there it ends at once.
    let server = subject.serve(limited(|limits| limits.drain = LONG), Lines);
    server.control.drain();
    ends(&server, subject.patience());
    Ok(())
}
