//! Small buffers and many sources.

use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::subject::{Fact::*, PATIENCE, Subject, pair};
use super::{Verdict, cases, skip};
use crate::event::{Interest, Token, Trigger};
use crate::events::Events;
use crate::poller::Poller;

cases! {
    7:
        a_small_buffer_starves_nobody,
        a_small_buffer_starves_nobody_while_sources_come_and_go,
        a_small_buffer_loses_no_oneshot,
        a_small_buffer_loses_no_edge,
        a_buffer_may_change_its_size;
    9:
        a_hundred_sources_fire_together;
}

const SOURCES: u32 = 24;

/// Connections of which every near end has a byte to read.
fn ready_pairs(count: u32) -> Vec<(TcpStream, TcpStream)> {
    let pairs = (0..count).map(|_| {
        let (near, mut far) = pair();
        far.write_all(b"x").expect("there is room");
        let deadline = Instant::now() + PATIENCE;
        while near.peek(&mut [0]).is_err() {
            assert!(Instant::now() < deadline, "a byte over loopback never arrived");
        }
        (near, far)
    });
    pairs.collect()
}

fn a_small_buffer_starves_nobody<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let pairs = ready_pairs(SOURCES);
    for (slot, (near, _)) in (0..).zip(&pairs) {
        subject.add(near, Token::new(slot, 0), Interest::READABLE);
    }
    for room in [1, 5, 23] {
        subject.events = Events::with_capacity(room);
        let mut reported = vec![0; SOURCES as usize];
        let bound = 3 * (SOURCES as usize).div_ceil(room);
        for _ in 0..bound {
            let events = subject.wait(PATIENCE);
            assert!(events.len() <= room, "{} events with room for {room}", events.len());
            for event in events {
                reported[event.token().slot() as usize] += 1;
            }
        }
        let starved: Vec<_> = reported.iter().enumerate().filter(|(_, times)| **times == 0).map(|(at, _)| at).collect();
        assert!(starved.is_empty(), "not reported in {bound} waits with room for {room}: {starved:?}");
    }
    Ok(())
}

fn a_small_buffer_starves_nobody_while_sources_come_and_go<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let pairs = ready_pairs(SOURCES);
    for (slot, (near, _)) in (0..).zip(&pairs) {
        subject.add(near, Token::new(slot, 0), Interest::READABLE);
    }
    // Every reported source leaves, as one that is served does, and the last of them comes back at once: whoever
    // remembers a position across waits must not lose the others by it.
    subject.events = Events::with_capacity(3);
    let mut left: Vec<u32> = (0..SOURCES).collect();
    for _ in 0..3 * SOURCES {
        for event in subject.wait(PATIENCE) {
            let slot = event.token().slot();
            subject.remove(&pairs[slot as usize].0);
            left.retain(|other| *other != slot);
        }
        if left.is_empty() {
            subject.expect_silence();
            return Ok(());
        }
        let last = SOURCES - 1;
        if !left.contains(&last) {
            subject.add(&pairs[last as usize].0, Token::new(last, 0), Interest::READABLE);
            left.push(last);
            // It may stay for as long as others do.
            if left.len() == 1 {
                return Ok(());
            }
        }
    }
    panic!("never reported: {left:?}");
}

fn a_small_buffer_loses_no_oneshot<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.oneshot {
        return skip("no oneshot trigger");
    }
    once_each(subject, Trigger::Oneshot, Interest::READABLE | Interest::WRITABLE);
    Ok(())
}

fn a_small_buffer_loses_no_edge<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.edge {
        return skip("no edge trigger");
    }
    once_each(subject, Trigger::Edge, Interest::READABLE);
    Ok(())
}

/// With a small buffer, every source is reported exactly once.
#[track_caller]
fn once_each<P: Poller>(subject: &mut Subject<P>, trigger: Trigger, interest: Interest) {
    let pairs = ready_pairs(SOURCES);
    for room in [1, 3, 7] {
        for (slot, (near, _)) in (0..).zip(&pairs) {
            subject.add_as(near, Token::new(slot, 0), interest, trigger);
        }
        subject.events = Events::with_capacity(room);
        let mut reported: HashMap<u32, usize> = HashMap::new();
        let deadline = Instant::now() + PATIENCE;
        while reported.len() < pairs.len() {
            assert!(
                Instant::now() < deadline,
                "with room for {room}, lost {} of {SOURCES}",
                pairs.len() - reported.len()
            );
            for event in subject.wait(Duration::from_millis(50)) {
                *reported.entry(event.token().slot()).or_default() += 1;
            }
        }
        subject.expect_silence();
        let again: Vec<_> = reported.iter().filter(|(_, times)| **times > 1).collect();
        assert!(again.is_empty(), "reported more than once, with room for {room}: {again:?}");
        for (near, _) in &pairs {
            subject.remove(near);
        }
    }
}

fn a_buffer_may_change_its_size<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let pairs = ready_pairs(8);
    for (slot, (near, _)) in (0..).zip(&pairs) {
        subject.add(near, Token::new(slot, 0), Interest::READABLE);
    }
    for room in [8, 1, 64, 2, 8] {
        subject.events = Events::with_capacity(room);
        assert_eq!(subject.wait(PATIENCE).len(), room.min(8), "8 are ready, and there is room for {room}");
    }
    Ok(())
}

fn a_hundred_sources_fire_together<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    // More than the 64 of Windows' fd_set.
    let sockets: Vec<_> = (0..100).map(|_| UdpSocket::bind(("127.0.0.1", 0)).expect("loopback can be bound")).collect();
    let tokens: Vec<_> = (0..100).map(|slot| Token::new(slot, 0)).collect();
    for (socket, token) in sockets.iter().zip(&tokens) {
        subject.add(socket, *token, Interest::WRITABLE);
    }
    let wanted: Vec<_> = tokens.iter().map(|token| (*token, Writable)).collect();
    let events = subject.expect(&wanted);
    assert_eq!(events.len(), 100, "one wait, with room for all");
    Ok(())
}
