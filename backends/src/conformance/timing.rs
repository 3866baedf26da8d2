//! Timeouts, and wakes from other threads.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::subject::{Fact::*, PATIENCE, Subject, meanwhile, pair};
use super::{Verdict, cases};
use crate::event::{Interest, Token, Trigger};
use crate::events::Events;
use crate::poller::Poller;
use crate::waker::{WakeSource, waker};

cases! {
    6:
        a_timeout_is_never_early,
        an_empty_set_honours_the_timeout,
        more_than_zero_never_becomes_zero,
        zero_looks_and_returns,
        a_timeout_beyond_all_bounds_still_waits_for_events,
        without_a_timeout_an_event_ends_the_wait;
    11:
        a_wake_before_the_wait_is_not_lost,
        a_wake_during_the_wait_ends_it,
        many_wakes_from_many_threads_lose_no_work,
        a_wake_wakes_nobody_else;
}

const A: Token = Token::new(1, 1);
const WAKE: Token = Token::new(0, 0);

fn a_timeout_is_never_early<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, _far) = pair();
    subject.add(&near, A, Interest::READABLE);
    // Fractions of a millisecond just above and below, and of a microsecond.
    for micros in [1, 300, 999, 1_000, 1_001, 1_900, 17_500] {
        takes_at_least(subject, Duration::from_micros(micros) + Duration::from_nanos(1));
    }
    Ok(())
}

fn an_empty_set_honours_the_timeout<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    takes_at_least(subject, Duration::from_millis(20));
    let (near, _far) = pair();
    subject.add(&near, A, Interest::WRITABLE);
    subject.remove(&near);
    takes_at_least(subject, Duration::from_millis(20));
    subject.add(&near, A, Interest::EMPTY);
    takes_at_least(subject, Duration::from_millis(20));
    Ok(())
}

fn more_than_zero_never_becomes_zero<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    // The last part of a deadline: rounded down it is a loop that spins until the deadline is there.
    let start = Instant::now();
    let part = Duration::from_micros(200);
    let mut waits = 0;
    while start.elapsed() < 50 * part {
        subject.wait(part);
        waits += 1;
    }
    assert!(waits <= 50, "{waits} waits of {part:?} in {:?}", 50 * part);
    Ok(())
}

fn zero_looks_and_returns<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, mut far) = pair();
    subject.add(&near, A, Interest::READABLE);
    let start = Instant::now();
    for _ in 0..10 {
        assert!(subject.wait(Duration::ZERO).is_empty());
    }
    assert!(start.elapsed() < PATIENCE, "ten looks took {:?}", start.elapsed());
    far.write_all(b"x").expect("there is room");
    // Each look enters the kernel, so the data is seen as soon as it has arrived.
    let deadline = Instant::now() + PATIENCE;
    while subject.wait(Duration::ZERO).is_empty() {
        assert!(Instant::now() < deadline, "a wait of zero never saw what was there");
    }
    Ok(())
}

fn a_timeout_beyond_all_bounds_still_waits_for_events<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, far) = pair();
    subject.add(&near, A, Interest::READABLE);
    for timeout in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX)), Duration::from_millis(1 << 31)] {
        ends_by_an_event(subject, Some(timeout), &far);
        super::subject::swallow(&near, 1);
    }
    Ok(())
}

fn without_a_timeout_an_event_ends_the_wait<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (near, far) = pair();
    subject.add(&near, A, Interest::READABLE);
    ends_by_an_event(subject, None, &far);
    Ok(())
}

fn a_wake_before_the_wait_is_not_lost<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (waker, wakes) = waker().expect("a waker can be made");
    add_wakes(&mut subject.poller, &wakes);
    for _ in 0..3 {
        waker.wake();
        waker.wake();
        subject.expect(&[(WAKE, Readable)]);
        wakes.drain();
        subject.expect_silence();
    }
    Ok(())
}

fn a_wake_during_the_wait_ends_it<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (waker, wakes) = waker().expect("a waker can be made");
    add_wakes(&mut subject.poller, &wakes);
    let later = || {
        thread::sleep(Duration::from_millis(20));
        waker.wake();
    };
    meanwhile(later, || subject.expect(&[(WAKE, Readable)]));
    wakes.drain();
    subject.expect_silence();
    Ok(())
}

fn many_wakes_from_many_threads_lose_no_work<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let (waker, wakes) = waker().expect("a waker can be made");
    add_wakes(&mut subject.poller, &wakes);
    let left_for_us = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| {
            let (waker, left_for_us) = (waker.clone(), Arc::clone(&left_for_us));
            scope.spawn(move || {
                for _ in 0..EACH {
                    left_for_us.fetch_add(1, Ordering::Release);
                    waker.wake();
                }
            })
        });
        let mut found = 0;
        while found < THREADS * EACH {
            subject.expect(&[(WAKE, Readable)]);
            wakes.drain();
            found += left_for_us.swap(0, Ordering::Acquire);
        }
        for thread in threads {
            thread.join().expect("a thread that only wakes does not panic");
        }
    });
    Ok(())
}

fn a_wake_wakes_nobody_else<P: Poller>(subject: &mut Subject<P>) -> Verdict {
    let (_, silent) = waker().expect("a waker can be made");
    let (waker, wakes) = waker().expect("a second one too");
    let mut other = subject.another();
    add_wakes(&mut subject.poller, &silent);
    add_wakes(&mut other, &wakes);
    waker.wake();
    subject.expect_silence();
    let mut events = Events::with_capacity(4);
    other.wait(&mut events, Some(PATIENCE)).expect("no signal comes");
    assert_eq!(events.len(), 1, "the wake went nowhere");
    Ok(())
}

fn add_wakes<P: Poller>(poller: &mut P, wakes: &WakeSource) {
    poller.add(wakes.as_source(), WAKE, Interest::READABLE, Trigger::Level).expect("a wake source can be watched");
}

#[track_caller]
fn takes_at_least<P: Poller>(subject: &mut Subject<P>, timeout: Duration) {
    let start = Instant::now();
    let events = subject.wait(timeout);
    let took = start.elapsed();
    assert!(events.is_empty(), "nothing was ready: {events:?}");
    assert!(took >= timeout, "a wait of {timeout:?} ended after {took:?}");
    assert!(took < timeout + PATIENCE, "a wait of {timeout:?} ended only after {took:?}");
}

#[track_caller]
fn ends_by_an_event<P: Poller>(subject: &mut Subject<P>, timeout: Option<Duration>, mut far: &std::net::TcpStream) {
    let later = move || {
        thread::sleep(Duration::from_millis(20));
        far.write_all(b"x").expect("there is room");
    };
    let waited = meanwhile(later, || subject.poller.wait(&mut subject.events, timeout));
    waited.unwrap_or_else(|error| panic!("cannot wait for {timeout:?}: {error}"));
    let events: Vec<_> = subject.events.iter().collect();
    assert!(matches!(events[..], [event] if event.token() == A && event.readable()), "waited {timeout:?}: {events:?}");
}
