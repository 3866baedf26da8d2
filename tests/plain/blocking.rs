//! What only servers that block can be asked: whom they let wait, whom they turn away, and what ends a silence.

use std::io::ErrorKind;
use std::time::Duration;

use pollmark::protocol::{Context, Echo, Peer, Protocol};
use pollmark::server::{AcceptPolicy, IterativeServer, Server, ThreadServer};

use crate::suite::cases::config;
use crate::suite::{Lost, PATIENCE, Running};

fn start(server: impl Server + 'static) -> Running {
    Running::start(Box::new(server), None, PATIENCE)
}

#[test]
fn beyond_the_limit_of_threads_connections_wait_and_none_is_refused() -> Result<(), Lost> {
    const THREADS: usize = 3;
    let mut limited = config();
    limited.thread_limit = Some(THREADS);
    let server = start(ThreadServer::bind(limited, Echo).expect("bound"));
    let mut clients = (0..3 * THREADS).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut clients {
        client.write(b"served in turn")?;
    }
    while !clients.is_empty() {
        let mut echoed = [0; 14];
        for client in clients.iter_mut().take(THREADS) {
            client.read(&mut echoed)?;
            assert_eq!(&echoed, b"served in turn");
        }
        // Those who are served stay, and the others wait, until they go.
        let stats = server.stats();
        assert_eq!((stats.open, stats.refused), (THREADS as u64, 0), "{stats:?}");
        let waits = server.stats().ledger.waits;
        for client in clients.iter_mut().take(THREADS) {
            client.exchange(b"still served")?;
        }
        assert!(server.stats().ledger.waits <= waits + 1, "it looks for those it cannot serve");
        clients.drain(..THREADS);
    }
    let stats = server.until("all have gone", |stats| stats.closed == 3 * THREADS as u64)?;
    assert_eq!((stats.accepted, stats.refused), (3 * THREADS as u64, 0));
    Ok(())
}

#[test]
fn sockets_made_elsewhere_wait_for_a_thread_too() -> Result<(), Lost> {
    let mut limited = config();
    limited.thread_limit = Some(1);
    let iterative = IterativeServer::bind(config(), Echo).expect("bound");
    for server in [start(ThreadServer::bind(limited, Echo).expect("bound")), start(iterative)] {
        let mut first = server.connect();
        first.exchange(b"in")?;
        let mut second = server.adopted();
        second.write(b"next")?;
        first.exchange(b"still in")?;
        drop(first);
        let mut echoed = [0; 4];
        second.read(&mut echoed)?;
        assert_eq!(&echoed, b"next");
    }
    Ok(())
}

/// A stack that no address space has room for: the system refuses the thread.
#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn where_the_system_has_no_thread_left_connections_are_turned_away() -> Result<(), Lost> {
    let mut greedy = config();
    greedy.stack_size = 1 << 60;
    let server = start(ThreadServer::bind(greedy, Echo).expect("bound"));
    for _ in 0..3 {
        assert_eq!(server.connect().read_byte_or_end(), None);
    }
    let stats = server.until("all were refused", |stats| stats.refused == 3)?;
    assert_eq!((stats.accepted, stats.open, stats.closed), (0, 0, 0));
    Ok(())
}

#[test]
fn one_client_at_a_time_is_served_in_the_order_they_came() -> Result<(), Lost> {
    let server = start(IterativeServer::bind(config(), Echo).expect("bound"));
    let mut clients = (0..20).map(|_| server.connect()).collect::<Vec<_>>();
    for client in &mut clients {
        client.write(b"me!")?;
    }
    for (served, mut client) in clients.into_iter().enumerate() {
        let mut echoed = [0; 3];
        client.read(&mut echoed)?;
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.open), (1 + served as u64, 1), "{stats:?}");
    }
    // Two calls for the one request of each, one that finds its end, and one wait: what the textbook's loop costs.
    let stats = server.until("the last has gone", |stats| stats.closed == 20)?;
    assert_eq!((stats.accept_calls, stats.read_calls, stats.write_calls), (20, 40, 20), "{stats:?}");
    Ok(())
}

/// Hears nobody out for ever.
#[derive(Clone)]
struct Hasty;

impl Protocol for Hasty {
    type Session = ();

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.deadline(Some(Duration::from_millis(50)));
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.send_input(input.len());
        input.len()
    }
}

#[test]
fn a_silent_client_keeps_the_others_waiting_no_longer_than_its_deadline() -> Result<(), Lost> {
    let server = start(IterativeServer::bind(config(), Hasty).expect("bound"));
    let _silent = server.connect();
    let mut second = server.connect();
    second.exchange(b"after all")?;
    assert_eq!(server.stats().accepted, 2);
    Ok(())
}

#[test]
fn one_client_at_a_time_is_no_way_to_drain_a_queue() {
    let mut draining = config();
    draining.accept = Some(AcceptPolicy::Drain(2));
    let error = IterativeServer::bind(draining, Echo).err().expect("it cannot");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("before it accepts the next"), "{error}");
}
