//! The adaptive poller with a crowd: from one source to nine thousand and back.
//!
//! In a program of its own, because the kernel's table of a process's descriptors, once grown, never shrinks again, and
//! another test knows that by what select(2) then says.

#![cfg(any(linux_like, kqueue_like))]

use std::net::UdpSocket;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pollmark_backends::adaptive::{Adaptive, Counted, Load, Policy};
use pollmark_backends::poll::Poll;
use pollmark_backends::{AsSource, Events, Interest, Ledger, Poller, Token, Trigger, conformance};

#[cfg(linux_like)]
use pollmark_backends::epoll::Epoll as Second;
#[cfg(kqueue_like)]
use pollmark_backends::kqueue::Kqueue as Second;

/// The most sources of the run below; fewer where the system allows fewer.
const MANY: usize = 9_000;

/// One of the tests may take every descriptor that there is.
static TURN: Mutex<()> = Mutex::new(());

/// A poller that moves as `policy` says, and what is needed to wait without a pause.
struct Crowd<P> {
    poller: Adaptive<Poll, Second, P>,
    events: Events,
    one: UdpSocket,
}

impl<P: Policy> Crowd<P> {
    fn of_one(policy: P) -> Crowd<P> {
        let mut poller = Adaptive::with_policy(policy).expect("poll(2) needs nothing");
        let one = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback can be bound");
        poller.add(one.as_source(), Token(0), Interest::READABLE, Trigger::Level).expect("a new source");
        Crowd { poller, events: Events::with_capacity(8), one }
    }

    fn look(&mut self, times: usize) {
        for _ in 0..times {
            self.poller.wait(&mut self.events, Some(Duration::ZERO)).expect("nothing interrupts it");
            assert!(self.events.is_empty(), "{:?}", self.events);
        }
    }

    /// A wait after every change, and a thousand more at the end. How many there were at most.
    fn grow_and_shrink(&mut self) -> usize {
        let mut many = Vec::new();
        while many.len() < MANY
            && let Ok(another) = self.one.try_clone()
        {
            let added = self.poller.add(another.as_source(), Token(1), Interest::READABLE, Trigger::Level);
            added.expect("a new source");
            many.push(another);
            self.look(1);
        }
        let most = many.len();
        for source in many {
            self.poller.remove(source.as_source()).expect("it is known");
            self.look(1);
        }
        self.look(1_000);
        most
    }
}

#[test]
fn from_one_source_to_nine_thousand_and_back_it_moves_once_each_way() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    conformance::run_where("nothing", Poll::open, |_| false); // This raises the limit of descriptors.
    let mut crowd = Crowd::of_one(Counted::default());
    let most = crowd.grow_and_shrink();
    println!("up to {most} sources: {:?}", crowd.poller.ledger());
    assert!(most >= 200, "only {most} descriptors could be had");
    assert_eq!(crowd.poller.ledger().migrations, 2);
    assert!(is_bounded(&crowd.poller.ledger()));

    // Still the same poller: what comes is told.
    let Crowd { mut poller, mut events, one } = crowd;
    one.send_to(b"x", one.local_addr().expect("bound")).expect("loopback takes it");
    poller.wait(&mut events, Some(Duration::from_secs(10))).expect("nothing interrupts it");
    assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(0)]);
}

/// Moves are paid for by what they save: there are few, and with them not more calls than two for each wait and change.
fn is_bounded(ledger: &Ledger) -> bool {
    ledger.migrations <= 1 + ledger.waits / 20 && ledger.calls() <= 2 * (ledger.waits + ledger.changes)
}

/// Moves before every wait.
struct Restless;

impl Policy for Restless {
    fn moves(&mut self, _: &Load) -> bool {
        true
    }
}

#[test]
fn a_policy_that_moves_at_every_wait_is_found() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut crowd = Crowd::of_one(Restless);
    crowd.look(100);
    assert!(!is_bounded(&crowd.poller.ledger()), "{:?}", crowd.poller.ledger());
}
