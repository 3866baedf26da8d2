//! What holds for a client in every world: each request has one outcome, told truly, and none is sent twice.

use std::io::ErrorKind;
use std::time::Duration;

use pollmark::client::{Client, Endpoint, Error, Exhausted, Frames, Moved, Settings, Stats, Target, Timeout, Timeouts};
use proptest::prelude::*;

use super::world::{World, request};

const TIMEOUTS: Timeouts = Timeouts {
    checkout: Duration::from_millis(70),
    connect: Duration::from_millis(40),
    write: Duration::from_millis(20),
    read: Duration::from_millis(50),
    total: Duration::from_millis(120),
    idle: Duration::from_millis(100),
};

/// How many requests at a time, and how long it is quiet after them.
type Calls = [(u8, u8)];

/// Makes requests in a world of these dice; panics at anything that must not be.
fn live(dice: &[u8], calls: &Calls) -> Stats {
    let connections = 1 + dice.len() % 4;
    let world = World::new(dice, connections);
    let targets = ["192.0.2.1:1", "192.0.2.2:1"].map(|address| Target::Tcp(address.parse().expect("an address")));
    let endpoint = Endpoint::new("world", targets[..1 + dice.len() / 4 % 2].to_vec()).expect("one or two addresses");
    let settings = Settings { connections, timeouts: TIMEOUTS, ..Settings::default() };
    let mut client = Client::over(world.clone(), endpoint, Frames::with_most(200))
        .with_settings(settings)
        .with_net(world.clone())
        .with_clock(world.clock());

    let mut first = 0;
    let mut failed = 0;
    for (count, quiet) in calls {
        let ids: Vec<u32> = (first..first + u32::from(*count)).collect();
        first += u32::from(*count);
        let requests: Vec<Vec<u8>> = ids.iter().map(|id| request(*id)).collect();
        let began = world.now();
        world.ends(began + TIMEOUTS.total);
        let mut outcomes = vec![0; ids.len()];
        client
            .request_all(&requests, |at, answer| {
                outcomes[at] += 1;
                match answer {
                    Ok(answer) => assert_eq!(answer, requests[at], "another's answer"),
                    Err(error) => {
                        failed += 1;
                        is_true(&error, &world, ids[at], world.now() - began);
                    }
                }
            })
            .expect("no wait fails");
        assert!(outcomes.iter().all(|times| *times == 1), "not one outcome for each: {outcomes:?}");
        assert!(world.now() - began <= TIMEOUTS.total, "it went on after the end of all time");

        let stats = client.stats();
        assert_eq!((stats.in_use, stats.open), (0, world.open()), "{stats:?}");
        world.pass(Duration::from_millis(u64::from(*quiet)));
        if quiet % 2 == 0 {
            let next = client.tend();
            world.assert_tended(TIMEOUTS.idle);
            assert_eq!(next.is_some(), world.open() > 0);
        }
    }
    let stats = client.stats();
    assert_eq!(stats.requests, u64::from(first));
    assert_eq!(stats.answered + failed, stats.requests, "{stats:?}");
    // Each begins on a connection used before, or on one that was opened for it, or on none.
    assert!(stats.opened + stats.reused <= stats.requests + stats.retried, "{stats:?}");
    assert!(stats.retried <= stats.reused, "{stats:?}");
    stats
}

/// Whether `error` is what happened to the request, and when.
fn is_true(error: &Error, world: &World, id: u32, passed: Duration) {
    let (tale, now) = (world.tale(id), world.now());
    assert_eq!(error.is_unsent(), tale.sent == 0, "{error}; {tale:?}");
    let since_it_moved = || now - tale.moved.expect("it was begun");
    match error {
        Error::Exhausted(exhausted) => {
            assert_eq!((passed, tale.sent), (TIMEOUTS.checkout, 0), "{error}");
            assert_eq!(exhausted.limit, TIMEOUTS.checkout);
        }
        Error::Connect(connect) => {
            let timed_out = error.timeout() == Some(Timeout::Connect);
            assert_eq!(timed_out, connect.kind() == ErrorKind::TimedOut);
            assert!(!timed_out || passed >= TIMEOUTS.connect, "too early: {error}");
            assert!(!connect.failures().is_empty() && tale.sent == 0, "{error}");
            assert!(!timed_out || !error.to_string().contains("not tried"), "the last had no time: {error}");
        }
        Error::TimedOut { which, limit, .. } => {
            assert_eq!(*limit, TIMEOUTS.limit(*which));
            let whole = tale.sent == request(id).len();
            match which {
                Timeout::Read => {
                    assert!(whole && since_it_moved() == *limit, "{error}; {tale:?}");
                    assert!(tale.news.is_none_or(|at| at >= now), "there was something to read: {tale:?}");
                }
                Timeout::Write => {
                    assert!(!whole && since_it_moved() == *limit, "{error}; {tale:?}");
                    assert!(tale.room.is_none_or(|at| at >= now), "there was room: {tale:?}");
                }
                Timeout::Total => assert_eq!(passed, *limit, "{error}"),
                Timeout::Checkout | Timeout::Connect => panic!("these have variants of their own: {error}"),
            }
        }
        Error::Lost { error, .. } => {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
            assert!(!tale.answered, "the answer was there: {error}");
        }
        Error::Closed { .. } | Error::Malformed { .. } => assert!(error.timeout().is_none()),
        other => panic!("not in this world: {other}"),
    }
    if !matches!(error, Error::Exhausted(_) | Error::Connect(_)) {
        let moved = Moved { sent: tale.sent, of: request(id).len(), received: tale.received };
        assert_eq!(error.moved(), moved, "{error}");
    }
}

#[test]
fn a_checkout_of_zero_takes_what_is_free_and_does_not_wait() {
    let world = World::new(&[], 2);
    let target = Target::Tcp("192.0.2.1:1".parse().expect("an address"));
    let timeouts = Timeouts { checkout: Duration::ZERO, ..TIMEOUTS };
    let mut client =
        Client::over(world.clone(), Endpoint::new("world", [target]).expect("an address"), Frames::default())
            .with_settings(Settings { connections: 2, timeouts, ..Settings::default() })
            .with_net(world.clone())
            .with_clock(world.clock());
    for first in [0, 5] {
        let mut outcomes = Vec::new();
        let requests: Vec<_> = (first..first + 5).map(request).collect();
        client.request_all(&requests, |at, answer| outcomes.push((at, answer.map(|_| ())))).expect("no wait fails");
        outcomes.sort_by_key(|(at, _)| *at);
        assert!(outcomes[..2].iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
        for (_, outcome) in &outcomes[2..] {
            assert!(
                matches!(outcome, Err(Error::Exhausted(Exhausted { connections: 2, waiting: 3, .. }))),
                "{outcome:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn each_request_has_one_true_outcome_and_is_begun_once(
        dice in prop::collection::vec(any::<u8>(), 0..400),
        calls in prop::collection::vec((0_u8..7, any::<u8>()), 1..9),
    ) {
        live(&dice, &calls);
    }
}

#[test]
fn the_world_has_everything_in_it() {
    let mut sum = Stats::default();
    let mut timeouts = Timeout::ALL.map(|_| 0);
    let mut seed = 1_u64;
    let mut roll = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    for _ in 0..2_000 {
        let dice: Vec<u8> = (0..usize::from(roll()) * 2).map(|_| roll()).collect();
        let calls: Vec<(u8, u8)> = (0..8).map(|_| (roll() % 7, roll())).collect();
        let stats = live(&dice, &calls);
        sum.answered += stats.answered;
        sum.reused += stats.reused;
        sum.evicted += stats.evicted;
        sum.stale += stats.stale;
        sum.out_of_step += stats.out_of_step;
        sum.retried += stats.retried;
        for (met, which) in timeouts.iter_mut().zip(Timeout::ALL) {
            *met += stats.timed_out(which);
        }
    }
    println!("{sum:?}, timeouts {timeouts:?}");
    let met = [sum.answered, sum.reused, sum.evicted, sum.stale, sum.out_of_step, sum.retried];
    assert!(met.iter().chain(&timeouts).all(|times| *times >= 100), "{sum:?}, timeouts {timeouts:?}");
}
