//! The cases: what every server does, by whatever it waits.

mod backlog;
mod datagrams;
mod drain;
mod limits;
mod own_terms;
mod peers;

use std::io::{ErrorKind, Write};
use std::sync::LazyLock;
use std::time::Duration;

use pollmark::protocol::Echo;
use pollmark::server::{Abilities, AcceptPolicy, Config};

use super::{Client, Subject, Verdict};
pub(crate) use backlog::*;
pub(crate) use datagrams::*;
pub(crate) use drain::*;
pub(crate) use limits::*;
pub(crate) use own_terms::*;
pub(crate) use peers::*;

pub(crate) fn config() -> Config {
    let mut config = Config::listen("127.0.0.1:0".parse().expect("an address"));
    config.accept_pause = Duration::from_millis(5);
    config
}

fn concurrent(has: Abilities) -> bool {
    has.concurrent
}
const TWO: &str = "two connections served at once";

/// Bytes that tell their place, at most [`LONGEST`].
pub(crate) fn pattern(length: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..LONGEST as u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect());
    &BYTES[..length]
}

const LONGEST: usize = 8 * 1024 * 1024;

pub(crate) fn bytes_come_back_exactly_however_they_are_split(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Echo);
    let mut client = server.connect();
    let text = pattern(20_000);
    for size in [1, 7, 64, 4_096, 20_000] {
        for piece in text.chunks(size).take(50) {
            client.exchange(piece)?;
        }
    }
    drop(client);
    let stats = server.until("the connection is closed", |stats| stats.closed == 1)?;
    assert_eq!((stats.accepted, stats.open), (1, 0));
    assert_eq!(stats.bytes_in, stats.bytes_out);
    Ok(())
}

pub(crate) fn more_than_all_buffers_hold_comes_back_whole(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Echo);
    let mut client = server.connect();
    let text = pattern(LONGEST);
    let mut writer = client.handle();
    let writing = std::thread::spawn(move || {
        writer.write(text)?;
        writer.shut_down()
    });
    let echoed = client.read_to_end();
    writing.join().expect("no panic")?;
    let echoed = echoed?;
    assert!(text.starts_with(&echoed), "the echo differs");
    if echoed.len() < text.len() {
        return Err(client.gone(&format!("{} bytes came back of {}", echoed.len(), text.len())));
    }
    Ok(())
}

pub(crate) fn a_half_closed_peer_is_answered_in_full_and_then_closed(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Echo);
    // Data and FIN are there before the server first looks: an edge may be told of both by one event.
    for _ in 0..20 {
        let mut client = server.connect();
        client.write(b"last words")?;
        client.shut_down()?;
        match client.read_to_end()? {
            echoed if echoed == b"last words" => {}
            echoed if b"last words".starts_with(&echoed[..]) => return Err(client.gone("closed before the answer")),
            echoed => panic!("the echo differs: {echoed:?}"),
        }
    }
    server.until("all are closed", |stats| stats.closed == 20)?;
    Ok(())
}

pub(crate) fn a_peer_that_never_reads_is_not_read_from_without_end_and_hurts_nobody(subject: &impl Subject) -> Verdict {
    let mut small = config();
    (small.limits.high_water, small.limits.low_water) = (64 * 1024, 16 * 1024);
    let server = subject.serve(small, Echo);
    let mut greedy = server.connect();
    greedy.stream().set_nonblocking(true).expect("a socket");
    let block = pattern(64 * 1024);
    let (mut written, mut read, mut looks_in_vain) = (0, 0, 0);
    // Ends when every buffer on the way is full. Each look is answered by the server between two waits.
    while looks_in_vain < 5 {
        assert!(written < 256 * 1024 * 1024, "the server reads without end");
        match greedy.stream().write(block) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(5));
                let before = std::mem::replace(&mut read, server.stats().bytes_in);
                looks_in_vain = if read == before { looks_in_vain + 1 } else { 0 };
            }
            Err(error) => return Err(greedy.lost("written to", &error)),
        }
    }
    if subject.can(concurrent, "others_do_not_notice_a_peer_that_never_reads", TWO) {
        server.connect().exchange(b"others do not notice")?;
    }
    let (before, faults) = (server.stats(), server.tally().total());
    std::thread::sleep(Duration::from_millis(50));
    let (idle, faults) = (server.stats() - before, server.tally().total() - faults);
    assert!(idle.ledger.waits <= 8 + 2 * faults, "spins while nothing can be done: {idle:?}");
    Ok(())
}

pub(crate) fn a_paused_reader_is_resumed_when_its_peer_reads(subject: &impl Subject) -> Verdict {
    let mut small = config();
    (small.limits.high_water, small.limits.low_water, small.send_buffer) = (8 * 1024, 1024, Some(4 * 1024));
    let server = subject.serve(small, Echo);
    let mut client = server.connect();
    let text = pattern(512 * 1024);
    let mut writer = client.handle();
    let writing = std::thread::spawn(move || writer.write(text));
    let mut echoed = vec![0; text.len()];
    let mut read = || {
        for piece in echoed.chunks_mut(20_000) {
            std::thread::sleep(Duration::from_millis(1));
            client.read(piece)?;
        }
        Ok(())
    };
    let reading = read();
    writing.join().expect("no panic")?;
    reading?;
    assert!(echoed == text, "the echo differs");
    Ok(())
}

pub(crate) fn resets_and_vanishing_peers_end_their_own_connection_only(subject: &impl Subject) -> Verdict {
    if !subject.can(concurrent, "resets_and_vanishing_peers_end_their_own_connection_only", TWO) {
        return Ok(());
    }
    let server = subject.serve(config(), Echo);
    let mut steady = server.connect();
    for round in 0..30 {
        let mut client = server.connect();
        if round % 2 == 0 {
            client.write(pattern(1_000))?;
        }
        if round % 3 == 0 {
            client.reset_on_close();
        }
        drop(client);
        steady.exchange(b"still here")?;
    }
    // Reset before it was accepted, a connection is one on Linux alone: elsewhere accept(2) says that it died.
    let died = if cfg!(target_os = "linux") { 0 } else { 10 };
    server.connect().exchange(b"behind all of them in the queue")?;
    // Of this queue: a thread beside may have one of its own, and be late.
    let stats = server.until("they are gone", |stats| stats.open == 1 && stats.accepted >= 32 - died)?;
    assert!((32 - died..=32).contains(&stats.accepted) && stats.closed == stats.accepted - 1, "{stats:?}");
    Ok(())
}

pub(crate) fn many_connections_are_served_at_once(subject: &impl Subject) -> Verdict {
    if !subject.can(concurrent, "many_connections_are_served_at_once", TWO) {
        return Ok(());
    }
    let server = subject.serve(config(), Echo);
    let mut clients = (0..300).map(|_| server.connect()).collect::<Vec<_>>();
    for round in 0..3u8 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.write(&[round, at as u8, (at >> 8) as u8])?;
        }
        for (at, client) in clients.iter_mut().enumerate() {
            let mut echoed = [0; 3];
            client.read(&mut echoed)?;
            assert_eq!(echoed, [round, at as u8, (at >> 8) as u8]);
        }
    }
    server.until("all are open", |stats| stats.open == 300)?;
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.closed, stats.open), (300, 300, 0));
    for mut client in clients {
        assert_eq!(client.read_byte_or_end(), None, "nothing more was sent");
    }
    Ok(())
}

pub(crate) fn connections_beyond_the_limit_are_closed_at_once_and_the_others_kept(subject: &impl Subject) -> Verdict {
    if !subject.can(concurrent, "connections_beyond_the_limit_are_closed_at_once_and_the_others_kept", TWO) {
        return Ok(());
    }
    let mut limited = config();
    limited.limits.connections = Some(5);
    let server = subject.serve(limited, Echo);
    let mut kept = (0..5).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut kept {
        client.exchange(b"in")?;
    }
    server.until("all are in", |stats| stats.open == 5)?;
    for _ in 0..3 {
        assert_eq!(server.connect().read_byte_or_end(), None);
    }
    for client in &mut kept {
        client.exchange(b"still in")?;
    }
    let stats = server.until("three were refused", |stats| stats.refused == 3)?;
    assert_eq!((stats.open, stats.accepted), (5, 5));
    drop(kept.pop());
    server.until("one has gone", |stats| stats.open == 4)?;
    server.connect().exchange(b"room again")
}

pub(crate) fn one_server_listens_on_several_addresses_and_on_ipv6(subject: &impl Subject) -> Verdict {
    let mut several = config();
    several.addresses.push("127.0.0.1:0".parse().expect("an address"));
    match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => several.addresses.push("[::1]:0".parse().expect("an address")),
        Err(error) => println!("without IPv6: {error}"),
    }
    let server = subject.serve(several, Echo);
    for address in &server.addresses {
        server.connect_to(address).exchange(b"here")?;
    }
    Ok(())
}

pub(crate) fn a_socket_made_elsewhere_is_served_like_an_accepted_one(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Echo);
    server.adopted().exchange(b"adopted")
}

pub(crate) fn a_socket_made_elsewhere_counts_against_the_limit(subject: &impl Subject) -> Verdict {
    let mut limited = config();
    limited.limits.connections = Some(1);
    let server = subject.serve(limited, Echo);
    let mut kept = server.connect();
    kept.exchange(b"in")?;
    server.until("it is in", |stats| stats.open == 1)?;
    assert_eq!(server.adopted().read_byte_or_end(), None, "closed");
    kept.exchange(b"still in")?;
    server.until("one was refused", |stats| stats.refused == 1)?;
    Ok(())
}

pub(crate) fn a_stopped_server_answers_no_more_questions_and_nobody_waits_for_ever(subject: &impl Subject) -> Verdict {
    let server = subject.serve(config(), Echo);
    let control = server.control.clone();
    let mut client = server.connect();
    for _ in 0..10 {
        client.exchange(b"still running")?;
    }
    server.stop();
    assert_eq!(control.stats().expect_err("stopped").kind(), ErrorKind::NotConnected);
    control.stop();
    Ok(())
}

pub(crate) fn no_knob_set_to_nothing_breaks_the_server(subject: &impl Subject) -> Verdict {
    let mut nothing = config();
    (nothing.events, nothing.read_buffer, nothing.limits.read_budget) = (0, 0, 0);
    (nothing.limits.high_water, nothing.limits.low_water) = (0, 0);
    (nothing.thread_limit, nothing.stack_size) = (Some(0), 0);
    let server = subject.serve(nothing, Echo);
    server.connect().exchange(pattern(1_000))
}

pub(crate) fn every_request_costs_few_waits(subject: &impl Subject) -> Verdict {
    const REQUESTS: u64 = 400;
    let server = subject.serve(config(), Echo);
    let many = if subject.can(concurrent, "several_clients_in_turn_cost_few_waits", TWO) { 4 } else { 1 };
    let mut clients: Vec<Client> = (0..many).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.exchange(b"warm")?;
    }
    let before = server.until("they are warm", |stats| stats.bytes_out == 4 * many)?;
    let faults = server.tally().total();
    for request in 0..REQUESTS as usize {
        client_of(&mut clients, request).exchange(pattern(64))?;
    }
    let least = REQUESTS * 64;
    let after = server.until("all is accounted for", |stats| (*stats - before).bytes_out >= least)?;
    let (done, faults) = (after - before, server.tally().total() - faults);
    // One for the request and its answer. Each fault may cut one in two, and each of those again.
    let most = 2 * REQUESTS + 4 * faults + 10;
    assert!(done.ledger.waits <= most, "{} waits for {REQUESTS} requests and {faults} faults", done.ledger.waits);
    assert_eq!((done.bytes_in, done.bytes_out), (least, least));
    Ok(())
}

pub(crate) fn a_burst_is_accepted_whole_by_every_policy_the_driver_has(subject: &impl Subject) -> Verdict {
    const BURST: u64 = 40;
    let policies = [AcceptPolicy::One, AcceptPolicy::Drain(1), AcceptPolicy::Drain(7), AcceptPolicy::Drain(64)];
    for policy in policies.into_iter().chain([AcceptPolicy::Multishot]).map(Some).chain([None]) {
        let mut config = config();
        config.accept = policy;
        let has = subject.abilities();
        let can = match policy {
            Some(AcceptPolicy::Drain(_)) => has.drain,
            Some(AcceptPolicy::Multishot) => has.multishot,
            _ => true,
        };
        if !can {
            let error = subject.bind(config, Echo).err().expect("what the driver cannot do, it does not begin");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains("cannot"), "no reason is given: {error}");
            continue;
        }
        let server = subject.serve(config, Echo);
        // All are in the queue before the first is served; each leaves when it was, so that one at a time is enough.
        let clients: Vec<Client> = (0..BURST).map(|_| server.connect()).collect();
        for mut client in clients {
            client.exchange(b"one of many")?;
        }
        let stats = server.until("all have gone", |stats| stats.closed == BURST)?;
        assert_eq!((stats.accepted, stats.refused, stats.open), (BURST, 0, 0), "{policy:?}");
        let faults = server.tally().total();
        // One call each; and, to see that the queue is empty, one for each event at most.
        let most = BURST + stats.empty_accepts + 2 * faults;
        assert!(stats.accept_calls <= most, "{policy:?}: {stats:?}, {faults} faults");
        if policy == Some(AcceptPolicy::One) {
            let most = faults + BURST * subject.herd();
            assert!(stats.empty_accepts <= most, "each event has its connection: {stats:?}, {faults} faults");
        }
    }
    Ok(())
}

fn client_of(clients: &mut [Client], request: usize) -> &mut Client {
    let at = request % clients.len();
    &mut clients[at]
}
