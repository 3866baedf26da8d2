//! What only an adaptive poller can get wrong, move by move: oneshots, edges, files, refusals, and its account.

#![allow(clippy::missing_const_for_thread_local, reason = "it is const, which is not seen on every system")]

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::source::AsSource;

const A: Token = Token::new(1, 1);
const B: Token = Token::new(2, 7);

/// Moves when it is told to.
#[derive(Default)]
struct Told {
    now: Cell<bool>,
    refusals: u32,
}

impl Policy for Told {
    fn moves(&mut self, _: &Load) -> bool {
        self.now.take()
    }

    fn refused(&mut self) {
        self.refusals += 1;
    }
}

type Moved<X, Y> = Adaptive<X, Y, Told>;

fn open<X: Inner, Y: Inner>() -> Moved<X, Y> {
    Adaptive::with_policy(Told::default()).expect("the first mechanism is here")
}

/// A wait that looks only, after a move if `moves`: the tokens that were told, in their order.
fn told<X: Inner, Y: Inner>(poller: &mut Moved<X, Y>, moves: bool, room: usize) -> Vec<Token> {
    let mut events = Events::with_capacity(room);
    poller.policy.now.set(moves);
    loop {
        match poller.wait(&mut events, Some(Duration::ZERO)) {
            // By a ring that a move has closed, a little later: (j) in uring.rs.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            waited => break waited.expect("nothing fails"),
        }
    }
    let mut tokens: Vec<_> = events.iter().map(|event| event.token()).collect();
    tokens.sort_unstable();
    tokens
}

fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().expect("two descriptors");
    near.set_nonblocking(true).expect("a socket");
    (near, far)
}

/// Every pair of mechanisms that both have edges and oneshots, there and back.
macro_rules! on_every_pair {
    ($($test:ident),+ $(,)?) => { $(
        #[test]
        fn $test() {
            #[cfg(kqueue_like)]
            bodies::$test::<crate::kqueue::Kqueue, crate::kqueue::Kqueue>();
            #[cfg(linux_like)]
            {
                use crate::epoll::Epoll;
                use crate::kqueue::Kqueue;
                bodies::$test::<Epoll, Epoll>();
                bodies::$test::<Epoll, Kqueue>();
                bodies::$test::<Kqueue, Epoll>();
                #[cfg(uring)]
                if crate::uring::Uring::open().is_ok() {
                    bodies::$test::<Epoll, crate::uring::Uring>();
                    bodies::$test::<crate::uring::Uring, Kqueue>();
                }
            }
        }
    )+ };
}

on_every_pair! {
    an_edge_that_was_not_told_is_told_by_the_next_mechanism,
    an_edge_that_was_read_is_not_told_again,
    a_oneshot_that_was_told_stays_silent_until_it_is_rearmed,
    a_oneshot_that_was_not_told_is_told_once,
    every_token_comes_back_wherever_it_is,
    what_was_not_taken_along_can_be_modified_removed_and_closed,
}

mod bodies {
    use super::*;

    pub(super) fn an_edge_that_was_not_told_is_told_by_the_next_mechanism<X: Inner, Y: Inner>() {
        let mut poller = open::<X, Y>();
        let ((near, mut far), (other, mut beyond)) = (pair(), pair());
        poller.add(near.as_source(), A, Interest::READABLE, Trigger::Edge).expect("both have edges");
        poller.add(other.as_source(), B, Interest::READABLE, Trigger::Edge).expect("both have edges");
        assert_eq!(told(&mut poller, false, 8), []);
        far.write_all(b"x").expect("there is room");
        beyond.write_all(b"x").expect("there is room");
        // Room for one: the mechanism knows of both edges, and has told one.
        let first = told(&mut poller, false, 1);
        assert_eq!(first.len(), 1);
        for round in 0..4 {
            let all = told(&mut poller, true, 8);
            let untold = if first == [A] { B } else { A };
            assert!(all.contains(&untold), "move {round}: {all:?} after {first:?}");
        }
    }

    pub(super) fn an_edge_that_was_read_is_not_told_again<X: Inner, Y: Inner>() {
        let mut poller = open::<X, Y>();
        let (mut near, mut far) = pair();
        poller.add(near.as_source(), A, Interest::READABLE, Trigger::Edge).expect("both have edges");
        for _ in 0..4 {
            far.write_all(b"x").expect("there is room");
            assert_eq!(told(&mut poller, true, 8), [A]);
            near.read_exact(&mut [0; 1]).expect("it was told");
            assert_eq!(told(&mut poller, true, 8), []);
        }
        assert_eq!(poller.ledger().migrations, 8);
    }

    pub(super) fn a_oneshot_that_was_told_stays_silent_until_it_is_rearmed<X: Inner, Y: Inner>() {
        let mut poller = open::<X, Y>();
        let (near, mut far) = pair();
        poller.add(near.as_source(), A, Interest::READABLE | Interest::WRITABLE, Trigger::Oneshot).expect("both have");
        assert_eq!(told(&mut poller, false, 8), [A]);
        far.write_all(b"x").expect("there is room");
        for moves in [true, false, true, true] {
            assert_eq!(told(&mut poller, moves, 8), []);
        }
        for token in [B, A, B] {
            poller.modify(near.as_source(), token, Interest::READABLE, Trigger::Oneshot).expect("it is known");
            assert_eq!(told(&mut poller, true, 8), [token]);
            assert_eq!(told(&mut poller, true, 8), []);
        }
    }

    pub(super) fn a_oneshot_that_was_not_told_is_told_once<X: Inner, Y: Inner>() {
        let mut poller = open::<X, Y>();
        let (near, mut far) = pair();
        poller.add(near.as_source(), A, Interest::READABLE, Trigger::Oneshot).expect("both have oneshots");
        for _ in 0..3 {
            assert_eq!(told(&mut poller, true, 8), []);
        }
        far.write_all(b"x").expect("there is room");
        assert_eq!(told(&mut poller, true, 8), [A]);
        assert_eq!(told(&mut poller, true, 8), []);
    }

    pub(super) fn every_token_comes_back_wherever_it_is<X: Inner, Y: Inner>() {
        let mut poller = open::<X, Y>();
        let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
        let tokens = [Token(0), Token(1), Token(u64::MAX), Token(1 << 63), Token::new(u32::MAX, 0)];
        for ((near, _), token) in pairs.iter().zip(tokens) {
            poller.add(near.as_source(), token, Interest::WRITABLE, Trigger::Level).expect("a new source");
        }
        let mut expected = tokens.to_vec();
        expected.sort_unstable();
        for moves in [false, true, true, false, true] {
            assert_eq!(told(&mut poller, moves, 8), expected);
        }
    }

    pub(super) fn what_was_not_taken_along_can_be_modified_removed_and_closed<X: Inner, Y: Inner>() {
        let mut poller = open::<X, Y>();
        let [modified, removed, closed, mut parked] = [(); 4].map(|()| pair());
        for (near, _) in [&modified, &removed, &closed] {
            poller.add(near.as_source(), A, Interest::WRITABLE, Trigger::Oneshot).expect("a new source");
        }
        poller.add(parked.0.as_source(), B, Interest::EMPTY, Trigger::Level).expect("a new source");
        assert_eq!(told(&mut poller, false, 8), [A, A, A]);
        assert_eq!(told(&mut poller, true, 8), []);
        let again = poller.add(modified.0.as_source(), A, Interest::WRITABLE, Trigger::Level);
        assert_eq!(again.expect_err("it is known").kind(), ErrorKind::AlreadyExists);
        poller.modify(modified.0.as_source(), A, Interest::EMPTY, Trigger::Oneshot).expect("it is known");
        assert_eq!(told(&mut poller, false, 8), []);
        poller.modify(modified.0.as_source(), A, Interest::WRITABLE, Trigger::Level).expect("it is known");
        poller.remove(removed.0.as_source()).expect("it is known");
        assert_eq!(poller.remove(removed.0.as_source()).expect_err("no more").kind(), ErrorKind::NotFound);
        poller.close(OwnedFd::from(closed.0)).expect("it is known");
        parked.1.write_all(b"x").expect("there is room");
        poller.modify(parked.0.as_source(), B, Interest::READABLE, Trigger::Edge).expect("it is known");
        assert_eq!(told(&mut poller, true, 8), [A, B]);
        parked.0.read_exact(&mut [0; 1]).expect("it was told");
        assert_eq!(told(&mut poller, true, 8), [A]);
    }
}

/// With more ready than room, and a move before every wait, nobody is forgotten: (g).
#[test]
fn moves_favour_nobody() {
    let mut poller = open::<Poll, Queue>();
    let pairs: Vec<_> = (0..5).map(|_| pair()).collect();
    for ((near, _), slot) in pairs.iter().zip(0..) {
        poller.add(near.as_source(), Token::new(slot, 0), Interest::WRITABLE, Trigger::Level).expect("a new source");
    }
    let mut seen: Vec<_> = (0..pairs.len()).flat_map(|_| told(&mut poller, true, 1)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), pairs.len(), "{seen:?}");
}

/// Where regular files are refused, (d).
#[cfg(linux_like)]
mod files {
    use std::fs::File;

    use super::*;

    fn file() -> File {
        File::open(std::env::current_exe().expect("this program has a path")).expect("it can be read")
    }

    #[test]
    fn a_file_keeps_its_poller_with_the_first_mechanism_until_it_is_gone() {
        let mut poller = open::<Poll, Queue>();
        let ((near, _far), file) = (pair(), file());
        poller.add(near.as_source(), A, Interest::WRITABLE, Trigger::Level).expect("a new source");
        poller.add(file.as_source(), B, Interest::READABLE, Trigger::Level).expect("poll takes files");
        assert_eq!(told(&mut poller, true, 8), [A, B]);
        assert_eq!((poller.policy.refusals, poller.ledger().migrations), (1, 0));
        // From now on the policy is not even asked.
        assert_eq!(told(&mut poller, true, 8), [A, B]);
        assert!(poller.policy.now.take());
        poller.remove(file.as_source()).expect("it is known");
        assert_eq!(told(&mut poller, true, 8), [A]);
        assert_eq!((poller.load.on, poller.ledger().migrations), (Side::Second, 1));
    }

    #[test]
    fn a_file_added_to_the_second_mechanism_brings_all_back_to_the_first() {
        let mut poller = open::<Poll, Queue>();
        let ((near, _far), file) = (pair(), file());
        poller.add(near.as_source(), A, Interest::WRITABLE, Trigger::Level).expect("a new source");
        assert_eq!(told(&mut poller, true, 8), [A]);
        poller.add(file.as_source(), B, Interest::READABLE, Trigger::Level).expect("the first mechanism takes it");
        poller.modify(file.as_source(), B, Interest::EMPTY, Trigger::Level).expect("it is known");
        poller.modify(file.as_source(), B, Interest::READABLE, Trigger::Level).expect("it is known");
        assert_eq!(told(&mut poller, false, 8), [A, B]);
        assert_eq!((poller.load.on, poller.ledger().migrations), (Side::First, 2));
        assert_eq!(poller.ledger().changes, 4);
    }
}

/// (f)
#[test]
fn a_move_leaves_the_closed_behind() {
    let mut poller = open::<Poll, Queue>();
    let ((near, _far), (lost, _beyond)) = (pair(), pair());
    poller.add(near.as_source(), A, Interest::WRITABLE, Trigger::Level).expect("a new source");
    // A number beyond those that other tests of this process open meanwhile.
    let lost = rustix::io::fcntl_dupfd_cloexec(&lost, 900).expect("a number");
    poller.add(lost.as_source(), B, Interest::WRITABLE, Trigger::Level).expect("a new source");
    drop(lost);
    for moves in [true, true, true, false] {
        let tokens = told(&mut poller, moves, 8);
        assert!(tokens.contains(&A), "{tokens:?}");
    }
    assert_eq!(poller.ledger().migrations, 3);
}

/// A mechanism that cannot be had while `FULL`, or takes no more than so many sources.
struct Scarce(Poll, usize);

thread_local! {
    static FULL: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Inner for Scarce {
    const CAPABILITIES: Capabilities = crate::poll::CAPABILITIES;
    const OPENING: &'static [&'static str] = &[];
    const CLOSING: u64 = 0;

    fn open() -> io::Result<Scarce> {
        match FULL.get() {
            Some(0) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
            limit => Ok(Scarce(Poll::open()?, limit.unwrap_or(usize::MAX))),
        }
    }

    fn add_number(&mut self, source: RawSource, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.1 = self.1.checked_sub(1).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        self.0.add_number(source, token, interest, trigger)
    }
}

impl Poller for Scarce {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.0.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.0.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.0.remove(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.0.wait(events, timeout)
    }

    fn ledger(&self) -> Ledger {
        self.0.ledger()
    }
}

/// (e), both ways: too many descriptors, and too many watches half-way through.
#[test]
fn a_refused_move_changes_nothing_and_the_policy_is_told() {
    let mut poller = open::<Poll, Scarce>();
    let pairs = [(); 3].map(|()| pair());
    for ((near, _), slot) in pairs.iter().zip(0..) {
        poller.add(near.as_source(), Token::new(slot, 0), Interest::WRITABLE, Trigger::Level).expect("a new source");
    }
    for (refusals, full) in (1..).zip([0, 1, 2]) {
        FULL.set(Some(full));
        assert_eq!(told(&mut poller, true, 8).len(), 3, "with room for {full}");
        assert_eq!((poller.policy.refusals, poller.load.on), (refusals, Side::First));
    }
    FULL.set(None);
    assert_eq!(told(&mut poller, true, 8).len(), 3);
    assert_eq!((poller.load.on, poller.ledger().migrations), (Side::Second, 1));
    assert_eq!(told(&mut poller, true, 8).len(), 3);
    assert_eq!((poller.load.on, poller.ledger().migrations), (Side::First, 2));
}

#[test]
fn it_can_do_what_both_can() {
    let native = open::<Poll, Queue>().capabilities();
    assert!(!native.edge && !native.oneshot && native.regular_files, "{native:?}");
    assert!(native.calls.wait.len() >= 2 && !native.calls.change.is_empty(), "{native:?}");
    let twice = open::<Queue, Queue>().capabilities();
    assert!(twice.edge && twice.oneshot, "{twice:?}");
    let mut poller = open::<Poll, Queue>();
    let (near, _far) = pair();
    for trigger in [Trigger::Edge, Trigger::Oneshot] {
        let refused = poller.add(near.as_source(), A, Interest::READABLE, trigger);
        assert_eq!(refused.expect_err("poll has neither").kind(), ErrorKind::Unsupported);
    }
}
