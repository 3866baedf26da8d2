//! The ledger's plain counts; that its system calls are those the kernel saw is checked with strace, outside.

use std::io::Write;
use std::time::Duration;

use super::subject::{Fact::*, Subject, pair};
use super::{Verdict, cases};
use crate::event::{Interest, Token, Trigger};
use crate::poller::{Ledger, Poller};
use crate::source::{AsSource, OwnedSource};

cases! {
    13: the_ledger_counts_waits_changes_and_events, a_wait_that_sleeps_makes_few_calls;
}

fn the_ledger_counts_waits_changes_and_events<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (token, other) = (Token::new(1, 1), Token::new(2, 1));
    let (near, mut far) = pair();
    let fresh = subject.poller.ledger();
    assert_eq!(fresh, Ledger { derived: fresh.derived, ..Ledger::default() }, "a new poller has done nothing");

    subject.add(&near, token, Interest::READABLE);
    subject.add(&far, other, Interest::EMPTY);
    assert!(subject.poller.add(near.as_source(), token, Interest::READABLE, Trigger::Level).is_err());
    assert!(subject.wait(Duration::ZERO).is_empty());
    far.write_all(b"x").expect("there is room");
    let before = subject.poller.ledger();
    subject.expect(&[(token, Readable)]);
    let until_then = subject.poller.ledger();
    let waiting = until_then - before;
    assert_eq!((waiting.events, waiting.waits - waiting.empty), (1, 1), "one wait found one event: {waiting:?}");
    subject.modify(&near, token, Interest::READABLE | Interest::WRITABLE, Trigger::Level);
    subject.wait(Duration::from_secs(1));
    subject.remove(&far);
    subject.poller.close(OwnedSource::from(near)).expect("the source is known");
    assert!(subject.wait(Duration::ZERO).is_empty());

    let whole = subject.poller.ledger();
    assert_eq!(whole.changes, 5, "two added, one modified, one removed, one closed; a refusal is none: {whole:?}");
    assert_eq!((whole.events, whole.waits - whole.empty), (2, 2), "two waits found an event each: {whole:?}");
    if !subject.capabilities.calls.wait.is_empty() {
        assert!(whole.wait_calls >= whole.waits, "a wait enters the kernel: {whole:?}");
    }
    let sum = before + (whole - before);
    assert_eq!(sum, whole, "ledgers subtract and add up again");
    Ok(())
}

fn a_wait_that_sleeps_makes_few_calls<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    subject.add(&near, Token::new(1, 1), Interest::READABLE);
    subject.wait(Duration::ZERO);
    // More than once: on a busy machine, who asks again and again may get to ask a few times only.
    for _ in 0..5 {
        let before = subject.poller.ledger();
        assert!(subject.wait(Duration::from_millis(40)).is_empty());
        let slept = subject.poller.ledger() - before;
        assert!(slept.calls() <= 8, "it asks again and again: {slept:?}");
    }
    Ok(())
}
