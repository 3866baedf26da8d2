//! Level, edge and oneshot: how often a condition that lasts is reported.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::subject::{Fact::*, PATIENCE, Subject, fill, pair, swallow};
use super::{Verdict, cases, skip};
use crate::event::{Interest, Token, Trigger};
use crate::poller::Poller;

cases! {
    2:
        level_is_reported_until_drained,
        edge_fires_once_per_arrival,
        edge_fires_once_when_room_returns,
        edge_misses_neither_data_nor_end_pending_before_the_first_wait,
        edge_misses_nothing_behind_the_urgent_mark,
        edge_sees_the_end_after_a_budget_stop,
        oneshot_fires_once_until_rearmed,
        oneshot_disarms_both_directions,
        oneshot_rearmed_with_data_pending_fires_again;
}

const A: Token = Token::new(1, 1);

fn level_is_reported_until_drained<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE);
    far.write_all(b"xyz").expect("there is room");
    for _ in 0..3 {
        subject.expect(&[(A, Readable)]);
    }
    swallow(&near, 2);
    subject.expect(&[(A, Readable)]);
    swallow(&near, 1);
    subject.expect_silence();
    Ok(())
}

fn edge_fires_once_per_arrival<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.edge {
        return skip("no edge trigger");
    }
    let (near, mut far) = pair();
    subject.add_as(&near, A, Interest::READABLE, Trigger::Edge);
    for _ in 0..3 {
        // Not read in between: each arrival is an edge of its own.
        far.write_all(b"x").expect("there is room");
        let events = subject.expect(&[(A, Readable)]);
        assert_eq!(events.len(), 1);
        subject.expect_silence();
    }
    Ok(())
}

fn edge_fires_once_when_room_returns<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.edge {
        return skip("no edge trigger");
    }
    let (near, far) = pair();
    subject.add_as(&near, A, Interest::WRITABLE, Trigger::Edge);
    subject.expect(&[(A, Writable)]);
    subject.expect_silence();
    let written = fill(&near);
    swallow(&far, written);
    subject.expect(&[(A, Writable)]);
    Ok(())
}

fn edge_misses_neither_data_nor_end_pending_before_the_first_wait<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.edge {
        return skip("no edge trigger");
    }
    let (near, mut far) = pair();
    far.write_all(b"data").expect("there is room");
    far.shutdown(Shutdown::Write).expect("it is connected");
    subject.add_as(&near, A, Interest::READABLE, Trigger::Edge);
    let (mut bytes, mut ended) = (Vec::new(), false);
    while !ended {
        // Where the end was already told, there is no second edge to come: what one event leads to is all there is.
        for event in subject.expect(&[(A, Readable)]) {
            let drained = subject.drain(&event, Trigger::Edge, &near, 64);
            bytes.extend(drained.bytes);
            ended |= drained.ended;
        }
    }
    assert_eq!(bytes, b"data");
    Ok(())
}

fn edge_misses_nothing_behind_the_urgent_mark<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.edge {
        return skip("no edge trigger");
    }
    let (near, mut far) = pair();
    far.write_all(b"before").expect("there is room");
    socket2::SockRef::from(&far).send_out_of_band(b"!").expect("there is room");
    far.write_all(b"behind").expect("there is room");
    // All of it is here before the poller looks.
    let mut peeked = [0; 16];
    let deadline = std::time::Instant::now() + PATIENCE;
    while near.peek(&mut peeked).is_err() {
        assert!(std::time::Instant::now() < deadline, "the data never arrived");
        std::thread::sleep(Duration::from_millis(1));
    }
    subject.add_as(&near, A, Interest::READABLE, Trigger::Edge);
    let mut bytes = Vec::new();
    while bytes.len() < 12 {
        // A read stops short at the mark. If that were taken for the end, no event would ever come for the rest.
        for event in subject.expect(&[(A, Readable)]) {
            bytes.extend(subject.drain(&event, Trigger::Edge, &near, 64).bytes);
        }
    }
    assert_eq!(bytes, b"beforebehind");
    Ok(())
}

fn edge_sees_the_end_after_a_budget_stop<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.edge {
        return skip("no edge trigger");
    }
    let (mut near, mut far) = pair();
    subject.add_as(&near, A, Interest::READABLE, Trigger::Edge);
    far.write_all(&[7; 1000]).expect("there is room");
    subject.expect(&[(A, Readable)]);
    // The budget allows one read. The rest and the end come while the source is queued for another turn.
    near.read_exact(&mut [0; 100]).expect("as reported, without blocking");
    far.shutdown(Shutdown::Write).expect("it is connected");
    let event = subject.expect(&[(A, Readable)])[0];
    let drained = subject.drain(&event, Trigger::Edge, &near, 4096);
    assert_eq!((drained.bytes.len(), drained.ended), (900, true));
    Ok(())
}

fn oneshot_fires_once_until_rearmed<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.oneshot {
        return skip("no oneshot trigger");
    }
    let (near, mut far) = pair();
    subject.add_as(&near, A, Interest::READABLE, Trigger::Oneshot);
    for _ in 0..3 {
        far.write_all(b"x").expect("there is room");
        let events = subject.expect(&[(A, Readable)]);
        assert_eq!(events.len(), 1);
        subject.expect_silence();
        far.write_all(b"more, while disarmed").expect("there is room");
        subject.expect_silence();
        swallow(&near, 21);
        subject.modify(&near, A, Interest::READABLE, Trigger::Oneshot);
        subject.expect_silence();
    }
    Ok(())
}

fn oneshot_disarms_both_directions<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.oneshot {
        return skip("no oneshot trigger");
    }
    let (near, mut far) = pair();
    subject.add_as(&near, A, Interest::READABLE | Interest::WRITABLE, Trigger::Oneshot);
    subject.expect(&[(A, Writable)]);
    // Room was reported, so data must now be kept back.
    far.write_all(b"x").expect("there is room");
    subject.expect_silence();
    subject.modify(&near, A, Interest::READABLE, Trigger::Oneshot);
    subject.expect(&[(A, Readable)]);
    subject.expect_silence();
    Ok(())
}

fn oneshot_rearmed_with_data_pending_fires_again<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.oneshot {
        return skip("no oneshot trigger");
    }
    let (near, mut far) = pair();
    far.write_all(b"x").expect("there is room");
    subject.add_as(&near, A, Interest::READABLE, Trigger::Oneshot);
    for _ in 0..3 {
        subject.expect(&[(A, Readable)]);
        subject.modify(&near, A, Interest::READABLE, Trigger::Oneshot);
    }
    subject.remove(&near);
    subject.expect_silence();
    Ok(())
}
