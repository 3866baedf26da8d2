//! What a server does not ask for on purpose: queues and buffers that are too small, an older kernel's ring, and a ring
//! that is dropped in the middle of things.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use super::*;
use crate::source::AsSource;

/// A ring, or why there is none here. In CI there is one.
fn open(change: impl FnOnce(&mut Setup)) -> Option<Ring> {
    let mut setup = Setup::default();
    change(&mut setup);
    match Ring::open(&setup) {
        Ok(ring) => Some(ring),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "there is no io_uring here: {why}");
            println!("SKIPPED, NOT CHECKED: {why}");
            None
        }
    }
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn turn(ring: &mut Ring) {
    ring.turn(true, Some(PATIENCE)).expect("nothing interrupts");
}

/// The next completion, if it is not of bytes.
fn other(ring: &mut Ring) -> Option<Completion> {
    match ring.next()? {
        Next::Received(_) => None,
        Next::Other(other) => Some(ring.learn(other)),
    }
}

fn pairs(count: u32) -> Vec<(Token, UnixStream, UnixStream)> {
    let pair = |slot| UnixStream::pair().map(|(ours, theirs)| (Token::new(slot, 7), ours, theirs));
    (0..count).map(|slot| pair(slot).expect("two descriptors")).collect()
}

/// Has one byte come by each pair, and receives until each has come `times` times.
fn all_come(ring: &mut Ring, pairs: &mut [(Token, UnixStream, UnixStream)], times: usize) {
    for (token, ours, _) in pairs.iter() {
        ring.receive(ours.as_source(), *token);
    }
    let mut came = vec![0; pairs.len()];
    for time in 1..=times {
        for (token, _, theirs) in pairs.iter_mut() {
            theirs.write_all(&[token.slot() as u8]).expect("room for a byte");
        }
        while came.iter().any(|came| *came < time) {
            turn(ring);
            while let Some(next) = ring.next() {
                let (received, over) = match next {
                    Next::Received(token) => (Some(token), None),
                    Next::Other(other) => match ring.learn(other) {
                        Completion::Received { token } => (Some(token), Some(token)),
                        Completion::Ended { token, result } => {
                            let error = result.expect_err("nobody hangs up");
                            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
                            (None, Some(token))
                        }
                        other => panic!("{other:?}"),
                    },
                };
                if let Some(token) = received {
                    let slot = token.slot();
                    assert!(token.generation() == 7 && ring.bytes().iter().all(|byte| *byte == slot as u8));
                    came[slot as usize] += ring.bytes().len();
                }
                if let Some(token) = over {
                    ring.receive(pairs[token.slot() as usize].1.as_source(), token);
                }
            }
        }
    }
    assert!(came.iter().all(|came| *came == times), "a byte came twice: {came:?}");
}

#[test]
fn every_byte_comes_once_on_every_step_of_the_ladder() {
    for deferred in [true, false] {
        let Some(mut ring) = open(|setup| setup.deferred = deferred) else { return };
        all_come(&mut ring, &mut pairs(40), 5);
    }
}

#[test]
fn every_byte_comes_once_with_what_newer_kernels_add() {
    for variant in [Setup::min_wait(), Setup::zero_copy(), Setup::sqpoll(), Setup::bundles()] {
        match Ring::open(&variant) {
            Ok(mut ring) => all_come(&mut ring, &mut pairs(40), 5),
            Err(why) => {
                // Not because it was tried and found wanting: that would be a mistake of ours.
                let text = why.to_string();
                assert!(["IORING_", "(EPERM)", "(EACCES)", "(ENOSYS)"].iter().any(|part| text.contains(part)), "{why}");
                println!("SKIPPED, NOT CHECKED: {why}");
            }
        }
    }
}

#[test]
fn what_comes_in_several_buffers_is_sent_back_by_one_operation() {
    let Ok(mut ring) = Ring::open(&Setup { buffer_size: 64, ..Setup::bundles() }) else {
        return println!("SKIPPED, NOT CHECKED: no IORING_FEAT_RECVSEND_BUNDLE");
    };
    let mut pairs = pairs(3);
    pairs.iter().for_each(|(token, ours, _)| ring.receive(ours.as_source(), *token));
    let text = |slot: u32| (0..8 * 64).map(|at: u32| (at * 7 + slot) as u8).collect::<Vec<_>>();
    for (token, _, theirs) in &mut pairs {
        theirs.write_all(&text(token.slot())).expect("room for 512 bytes");
    }
    let (mut sent_back, mut came) = (0, 0);
    while came < 3 * 8 {
        turn(&mut ring);
        let mut begun = Vec::new();
        while let Some(next) = ring.next() {
            let Next::Received(token) = next else { panic!("nobody hangs up") };
            came += 1;
            let length = ring.bytes().len();
            if begun.contains(&token) {
                assert!(ring.is_bundling(token) && ring.send_more(token, length), "it came at once");
            } else {
                begun.push(token);
                sent_back += 1;
                ring.send_back(pairs[token.slot() as usize].1.as_source(), token, length);
            }
        }
        ring.turn(false, None).expect("nothing interrupts");
        assert_eq!(ring.sent().len(), begun.len());
        assert!(ring.sent().all(|(_, taken, offered)| taken == offered) && ring.short().is_none());
        assert!(!ring.is_bundling(pairs[0].0), "a bundle of another round");
    }
    assert_eq!(sent_back, 3, "all of a connection comes in one turn");
    for (token, _, theirs) in &mut pairs {
        let mut answer = vec![0; 8 * 64];
        theirs.read_exact(&mut answer).expect("all was sent");
        assert_eq!(answer, text(token.slot()));
    }
}

#[test]
fn what_is_left_of_a_bundle_is_told_and_nobody_else_is_sent_it() {
    const PART: usize = 8 * 1024;
    let Ok(mut ring) = Ring::open(&Setup { bundles: 1, ..Setup::default() }) else {
        return println!("SKIPPED, NOT CHECKED: no IORING_FEAT_RECVSEND_BUNDLE");
    };
    let text = (0..bundles::MOST_PARTS * PART).map(|at| (at / 256 + at) as u8).collect::<Vec<_>>();
    for (token, ours, mut theirs) in pairs(3) {
        // More than a socket has room for.
        ring.send_bundle(ours.as_source(), token, text.as_ptr(), PART as u32);
        for part in text[PART..].chunks(PART) {
            let (at, silent) = ring.bundles.growing(token).expect("just begun");
            assert!(ring.extend_bundle(at, silent, part.as_ptr(), PART as u32), "there is room for all");
        }
        let (at, silent) = ring.bundles.growing(token).expect("just begun");
        assert!(!ring.extend_bundle(at, silent, text.as_ptr(), 1), "and for no more");
        ring.turn(false, None).expect("nothing interrupts");
        let short = ring.short().expect("not all was taken");
        let taken = text.len() - short.rest.len();
        assert_eq!(ring.sent().collect::<Vec<_>>(), [(token, taken, text.len())]);
        assert!(taken > 0 && text[taken..] == short.rest[..] && short.token == token);
        assert_eq!(short.error.kind(), io::ErrorKind::WouldBlock);
        let mut answer = vec![0; taken];
        theirs.read_exact(&mut answer).expect("so much was taken");
        assert!(answer == text[..taken], "not what was sent");
        drop(ours);
        assert_eq!(theirs.read(&mut answer).expect("readable"), 0, "and nothing else");
    }
    assert!(ring.bundles.have_room(), "the group is there again");
}

/// Turns that fail, so many of them.
struct Starved(usize);

impl Fate for Starved {
    fn of_turn(&mut self) -> io::Result<()> {
        let Some(left) = self.0.checked_sub(1) else { return Ok(()) };
        self.0 = left;
        Err(io::Error::from_raw_os_error([libc::ENOMEM, libc::EAGAIN, libc::EINTR][left % 3]))
    }
}

#[test]
fn a_ring_ends_in_order_though_memory_is_wanting_for_a_while() {
    let pairs = pairs(3);
    let setup = Setup::default();
    let mut ring = match Ring::with_fate(&setup, Starved(0)) {
        Ok(ring) => ring,
        Err(why) => return println!("SKIPPED, NOT CHECKED: {why}"),
    };
    pairs.iter().for_each(|(token, ours, _)| ring.receive(ours.as_source(), *token));
    ring.fate.0 = 9;
    ring.finish().expect("it has gone by");
    assert_eq!((ring.fate.0, ring.under_way), (0, 0));
}

#[test]
fn a_sleep_that_goes_on_hears_of_more_and_never_ends_empty() {
    let min_wait = MinWait { completions: 8, at_least: Duration::from_millis(1) };
    let Ok(mut ring) = Ring::open(&Setup { min_wait: Some(min_wait), ..Setup::default() }) else {
        return println!("SKIPPED, NOT CHECKED: no IORING_FEAT_MIN_TIMEOUT");
    };
    let mut pairs = pairs(8);
    for (token, ours, _) in &pairs {
        ring.receive(ours.as_source(), *token);
    }
    ring.turn(false, None).expect("nothing interrupts");
    let mut left = std::mem::take(&mut pairs);
    let (_, last, peer) = left.pop().expect("one of eight");
    let late = std::thread::spawn(move || {
        // Behind the least time, however long that takes: the sleep must outlast it.
        std::thread::sleep(4 * min_wait.at_least);
        (&peer).write_all(b"late").expect("room");
        peer
    });
    ring.turn(true, None).expect("nothing interrupts");
    assert!(ring.next().is_some(), "with no timeout of its own a sleep ends by a completion");
    drop((late.join().expect("no panic"), last, left));
}

#[test]
fn a_send_without_a_copy_gives_the_memory_back_when_nobody_reads_it() {
    let Ok(mut ring) = Ring::open(&Setup::zero_copy()) else {
        return println!("SKIPPED, NOT CHECKED: no IORING_OP_SEND_ZC");
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (ours, _) = listener.accept().expect("it connected");
    let bytes: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
    assert!(!ring.send_copy(ours.as_source(), Token(1), &bytes), "that would be a copy");
    ring.send(ours.as_source(), Token(1), bytes.clone(), 0);
    // What is under way is held until the peer has it. So it reads all the while.
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        peer.read_to_end(&mut received).map(|_| received)
    });
    let (passing, taken, back) = sent(&mut ring);
    assert_eq!((passing, back == bytes), (1, true), "two completions: taken, and no more read");
    let taken = taken.expect("there is room for some");
    drop(ours);
    let received = reader.join().expect("no panic").expect("an end");
    assert_eq!(received, bytes[..taken]);
    // A socket that cannot: the next send is an ordinary one.
    let (ours, mut theirs) = UnixStream::pair().expect("two descriptors");
    ring.send(ours.as_source(), Token(2), bytes.clone(), 0);
    assert_eq!(sent(&mut ring).1.expect_err("it cannot").kind(), io::ErrorKind::WouldBlock);
    ring.send(ours.as_source(), Token(2), bytes, 0);
    let (passing, taken, _) = sent(&mut ring);
    assert_eq!((passing, taken.is_ok_and(|taken| taken > 1_000)), (0, true));
    theirs.read_exact(&mut [0; 1_000]).expect("it was sent");
}

#[test]
fn a_ring_ends_while_nobody_reads_what_it_sent_without_a_copy() {
    let Ok(mut ring) = Ring::open(&Setup::zero_copy()) else {
        return println!("SKIPPED, NOT CHECKED: no IORING_OP_SEND_ZC");
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (ours, _) = listener.accept().expect("it connected");
    // More than both ends hold, so that a part of what was taken waits to be sent.
    let bytes = vec![7; 16 * 1024 * 1024];
    ring.send(ours.as_source(), Token(1), bytes.clone(), 0);
    while ring.loans.taken() == 0 {
        turn(&mut ring);
        while let Some(completion) = other(&mut ring) {
            assert!(matches!(completion, Completion::Nothing), "nobody reads, and yet: {completion:?}");
        }
    }
    ring.finish().expect("it waits for nobody for ever");
    drop((ring, ours));
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("an end");
    assert!(bytes.starts_with(&received) && !received.is_empty(), "what was taken is sent, as it was");
}

/// Waits for the end of a send, and says how many completions came before the last, what was taken, and the memory.
fn sent(ring: &mut Ring) -> (usize, io::Result<usize>, Vec<u8>) {
    let mut passing = 0;
    loop {
        turn(ring);
        while let Some(completion) = other(ring) {
            match completion {
                Completion::Sent { result, bytes, .. } => return (passing, result, bytes),
                Completion::Nothing => passing += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn when_buffers_run_out_receives_end_and_begin_again_without_a_loss() {
    for buffers in [1, 2, 8] {
        let Some(mut ring) = open(|setup| (setup.buffers, setup.buffer_size) = (buffers, 1)) else { return };
        all_come(&mut ring, &mut pairs(40), 5);
    }
}

#[test]
fn an_end_that_comes_with_the_last_bytes_is_told_after_them() {
    let Some(mut ring) = open(|_| {}) else { return };
    for (token, ours, mut theirs) in pairs(20) {
        let (mut came, mut ended) = (0, false);
        ring.receive_once(ours.as_source(), token);
        ring.turn(false, None).expect("nothing interrupts");
        // Both before the ring looks.
        theirs.write_all(b"last words").expect("room for them");
        theirs.shutdown(std::net::Shutdown::Write).expect("connected");
        while !ended {
            turn(&mut ring);
            while let Some(completion) = other(&mut ring) {
                match completion {
                    Completion::Received { .. } => {
                        came += ring.bytes().len();
                        ring.receive_once(ours.as_source(), token);
                    }
                    Completion::Ended { result, .. } => {
                        result.expect("it ends in order");
                        ended = true;
                    }
                    _ => panic!("nothing else is under way"),
                }
            }
        }
        assert_eq!(came, b"last words".len());
        ring.close(ours.into(), false);
    }
}

#[test]
fn more_than_the_queues_hold_is_done_and_told() {
    let Some(mut ring) = open(|setup| (setup.submissions, setup.completions) = (1, 2)) else { return };
    all_come(&mut ring, &mut pairs(200), 3);
}

#[test]
fn what_is_sent_back_is_what_came_even_if_there_is_but_one_buffer() {
    let Some(mut ring) = open(|setup| setup.buffers = 1) else { return };
    let mut pairs = pairs(1);
    let (token, ours, theirs) = &mut pairs[0];
    ring.receive(ours.as_source(), *token);
    for round in 0..50u8 {
        let sent = [round; 100];
        theirs.write_all(&sent).expect("room");
        let mut echoed = 0;
        while echoed < sent.len() {
            let before = ring.round();
            turn(&mut ring);
            assert_ne!(ring.round(), before, "all was submitted");
            while let Some(next) = ring.next() {
                let Next::Received(token) = next else { panic!("one buffer is enough for one connection") };
                echoed += ring.bytes().len();
                ring.send_back(ours.as_source(), token, ring.bytes().len());
            }
        }
        ring.turn(false, None).expect("nothing interrupts");
        assert!(ring.sent().all(|(_, taken, offered)| taken == offered));
        let mut answer = [0; 100];
        theirs.read_exact(&mut answer).expect("an echo");
        assert_eq!(answer, sent);
    }
}

#[test]
fn a_silent_send_that_falls_short_tells_what_is_left() {
    let Some(mut ring) = open(|_| ()) else { return };
    let (token, ours, mut theirs) = pairs(1).remove(0);
    let block = [7; 50_000];
    let (mut sent, mut rest) = (0, None);
    while rest.is_none() {
        assert!(ring.send_copy(ours.as_source(), token, &block) && sent < 1 << 24);
        ring.turn(false, None).expect("nothing interrupts");
        sent += ring.sent().map(|(_, taken, _)| taken).sum::<usize>();
        rest = ring.short();
        assert!(other(&mut ring).is_none_or(|completion| matches!(completion, Completion::Nothing)), "it is silent");
    }
    let Short { token: of, rest, error } = rest.expect("the loop has ended");
    assert_eq!((of, error.kind()), (token, io::ErrorKind::WouldBlock));
    assert_eq!((sent + rest.len()) % block.len(), 0);
    // What is sent with memory of its own waits for room.
    let count = rest.len();
    ring.send(ours.as_source(), token, [&[1, 2, 3][..], &rest].concat(), 3);
    ring.turn(false, None).expect("nothing interrupts");
    assert!(ring.next().is_none());
    let mut all = vec![0; sent];
    theirs.read_exact(&mut all).expect("all that was taken");
    turn(&mut ring);
    match other(&mut ring) {
        Some(Completion::Sent { bytes, from: 3, result, .. }) => {
            assert_eq!(bytes[..4], [1, 2, 3, 7]);
            assert!((1..=count).contains(&result.expect("there is room")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn however_much_is_under_way_is_finished() {
    let Some(mut ring) = open(|_| {}) else { return };
    let (ours, theirs) = UnixStream::pair().expect("two descriptors");
    // A call makes twenty completions of them, more or less.
    for slot in 0..10_000 {
        ring.watch(ours.as_source(), Token::new(slot, 0));
    }
    ring.turn(false, None).expect("they are polls");
    ring.finish().expect("each is cancelled");
    drop((ring, theirs));
}

#[test]
fn a_ring_that_is_gone_holds_on_to_nothing() {
    let Some(mut ring) = open(|_| ()) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    ring.accept(listener.as_source(), Token::new(1, 0));
    let mut client = TcpStream::connect(address).expect("it listens");
    turn(&mut ring);
    let Some(Completion::Accepted { source: Ok(accepted), more: true, .. }) = other(&mut ring) else {
        panic!("nothing was accepted")
    };
    ring.receive(accepted.as_source(), Token::new(2, 0));
    // More than the buffers on the way hold, so that it is under way when the ring is dropped.
    ring.send(accepted.as_source(), Token::new(2, 0), vec![9; 64 << 20], 0);
    ring.turn(false, None).expect("nothing interrupts");
    ring.send(accepted.as_source(), Token::new(2, 0), vec![9; 64 << 20], 0);
    ring.turn(false, None).expect("nothing interrupts");
    drop(listener);
    drop(ring);
    drop(accepted);
    let _listener = TcpListener::bind(address).expect("nobody listens there any more");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.read_to_end(&mut Vec::new()).expect("an end");
}

#[test]
fn what_is_closed_while_it_is_received_from_and_sent_to_is_closed() {
    let Some(mut ring) = open(|_| ()) else { return };
    let mut theirs = Vec::new();
    for (token, ours, mut peer) in pairs(300) {
        ring.receive(ours.as_source(), token);
        peer.write_all(b"hello").expect("room");
        assert!(ring.send_copy(ours.as_source(), token, b"bye"));
        ring.close(ours.into(), true);
        theirs.push(peer);
    }
    ring.finish().expect("nothing is left");
    for mut peer in theirs {
        let mut said = Vec::new();
        // With "hello" unread the end is a reset, behind what was said.
        let ended = peer.read_to_end(&mut said);
        assert!(said == b"bye" && ended.err().is_none_or(|error| error.kind() == io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_ring_that_cannot_be_had_says_why() {
    let mut setup = Setup::default();
    (setup.buffers, setup.buffer_size) = (u16::MAX, u32::MAX);
    // Half a terabyte: to be had where memory is promised beyond what there is, and refused elsewhere.
    if let Err(error) = Ring::open(&setup) {
        assert!([io::ErrorKind::OutOfMemory, io::ErrorKind::Unsupported].contains(&error.kind()), "{error}");
    }
}
