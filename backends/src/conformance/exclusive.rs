//! Sources that several pollers watch so that not all of them are woken: listeners that threads share.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::subject::{Fact::*, PATIENCE, Subject, pair};
use super::{Verdict, cases, skip};
use crate::event::{Interest, Token, Trigger};
use crate::poller::Poller;
use crate::source::AsSource;

cases! {
    2:
        an_exclusive_source_is_reported_by_one_poller_at_least,
        an_exclusive_source_is_reported_for_as_long_as_it_is_ready;
    3:
        an_exclusive_source_is_modified_and_removed_like_any_other;
    4:
        to_add_exclusively_without_the_ability_is_unsupported;
}

const A: Token = Token::new(1, 1);
const B: Token = Token::new(2, 1);

fn an_exclusive_source_is_reported_by_one_poller_at_least<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.exclusive {
        return skip(LACKING);
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let mut other = subject.twin();
    add(subject, &listener, A);
    add(&mut other, &listener, B);
    // Who is told may change from one connection to the next, but not that somebody is.
    for _ in 0..4 {
        subject.expect_silence();
        other.expect_silence();
        let _client = TcpStream::connect(address).expect("it listens");
        let deadline = Instant::now() + PATIENCE;
        while subject.wait(BRIEF).is_empty() && other.wait(BRIEF).is_empty() {
            assert!(Instant::now() < deadline, "a connection of which neither poller was told");
        }
        listener.accept().expect("a connection was reported");
    }
    // Nor does one that is gone keep anything from those that are left.
    drop(other);
    let _client = TcpStream::connect(address).expect("it listens");
    subject.expect(&[(A, Readable)]);
    Ok(())
}

fn an_exclusive_source_is_reported_for_as_long_as_it_is_ready<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.exclusive {
        return skip(LACKING);
    }
    let (near, mut far) = pair();
    add(subject, &near, A);
    subject.expect_silence();
    far.write_all(b"x").expect("there is room");
    for _ in 0..3 {
        subject.expect(&[(A, Readable)]);
    }
    Ok(())
}

fn an_exclusive_source_is_modified_and_removed_like_any_other<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    if !subject.capabilities.exclusive {
        return skip(LACKING);
    }
    let (near, mut far) = pair();
    far.write_all(b"x").expect("there is room");
    add(subject, &near, A);
    subject.expect(&[(A, Readable)]);
    subject.modify(&near, B, Interest::READABLE | Interest::WRITABLE, Trigger::Level);
    subject.expect(&[(B, Readable), (B, Writable)]);
    subject.modify(&near, B, Interest::EMPTY, Trigger::Level);
    subject.expect_silence();
    subject.remove(&near);

    add(subject, &near, A);
    subject.modify(&near, A, Interest::EMPTY, Trigger::Level);
    subject.expect_silence();
    subject.modify(&near, B, Interest::READABLE, Trigger::Level);
    subject.expect(&[(B, Readable)]);
    subject.remove(&near);
    subject.expect_silence();

    add(subject, &near, A);
    for again in [Interest::READABLE, Interest::WRITABLE] {
        let error = subject.poller.add_exclusive(near.as_source(), B, again).expect_err("it is there");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        let error = subject.poller.add(near.as_source(), B, again, Trigger::Level).expect_err("it is there");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    }
    subject.expect(&[(A, Readable)]);
    let ledger = subject.poller.ledger();
    subject.poller.close(near.into()).expect("it was watched");
    subject.expect_silence();
    assert_eq!(subject.poller.ledger().changes - ledger.changes, 1);
    Ok(())
}

fn to_add_exclusively_without_the_ability_is_unsupported<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    far.write_all(b"x").expect("there is room");
    let mut refused = vec![Interest::EMPTY, Interest::PRIORITY, Interest::READABLE | Interest::PRIORITY];
    if !subject.capabilities.exclusive {
        refused.extend([Interest::READABLE, Interest::WRITABLE]);
    }
    for interest in refused {
        let error = subject.poller.add_exclusive(near.as_source(), A, interest).expect_err("not offered");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{interest:?}: {error}");
    }
    subject.expect_silence();
    // It was not added in any other way either.
    subject.add(&near, B, Interest::READABLE);
    subject.expect(&[(B, Readable)]);
    Ok(())
}

fn add<P: Poller>(subject: &mut Subject<P>, source: &impl AsSource, token: Token) {
    if let Err(error) = subject.poller.add_exclusive(source.as_source(), token, Interest::READABLE) {
        panic!("it says that it can, but cannot add {token:?} exclusively: {error}");
    }
}

const LACKING: &str = "not offered: everybody who waits is woken";

const BRIEF: Duration = Duration::from_millis(5);
