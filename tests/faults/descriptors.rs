//! How many descriptors are open, and that a thousand servers later it is as many.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pollmark::backends::{
    AsSource, Events, Interest, OwnedSource, Poller, Registry, Token, Trigger, conformance, waker,
};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Echo;
use pollmark::server::Config;

use crate::suite::{PATIENCE, Running};

const CYCLES: usize = 2_000;
/// Of those that do the same as another one but for a detail of how they wait.
const CYCLES_OF_A_VARIANT: usize = 200;

/// Tests of this program take turns: a descriptor of one would be a leak of the other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The descriptors this process has open; `None` where the system does not list them.
pub(crate) fn open_descriptors() -> Option<usize> {
    // Elsewhere /dev/fd lists the first three only, or is not there.
    let list = if cfg!(target_os = "linux") { "/proc/self/fd" } else { return None };
    Some(std::fs::read_dir(list).expect("/proc is mounted").count())
}

/// Runs `what`, and panics if it leaves descriptors open.
pub(crate) fn without_a_leak<R>(name: &str, what: impl FnOnce() -> R) -> R {
    let before = open_descriptors();
    let result = what();
    match (before, open_descriptors()) {
        (Some(before), Some(after)) => assert_eq!(before, after, "{name}: a descriptor leaks"),
        _ => println!("{name}: descriptors are not counted: this system does not list them"),
    }
    result
}

#[test]
fn two_thousand_pollers_of_each_kind_leave_no_descriptor() {
    let _turn = alone();
    for entry in conformance::with_models(Registry::builtin()).entries() {
        let capabilities = match entry.probe() {
            Ok(capabilities) => capabilities,
            Err(why) => {
                println!("{}: skipped: {why}", entry.name());
                continue;
            }
        };
        let cycle = || -> io::Result<()> {
            let mut poller = entry.open()?;
            let mut events = Events::with_capacity(8);
            for (at, trigger) in Trigger::ALL.into_iter().enumerate().filter(|one| capabilities.supports(one.1)) {
                let (waker, wakes) = waker()?;
                poller.add(wakes.as_source(), Token(at as u64), Interest::READABLE, trigger)?;
                waker.wake();
                poller.wait(&mut events, Some(PATIENCE))?;
                assert!(events.iter().any(|event| event.token() == Token(at as u64)), "woken by {trigger}");
                poller.modify(wakes.as_source(), Token(at as u64), Interest::EMPTY, trigger)?;
                poller.remove(wakes.as_source())?;
            }
            // One is taken out and closed by the poller, one is left in when it is dropped.
            let (closed, left) = (std::net::UdpSocket::bind("127.0.0.1:0")?, waker()?.1);
            poller.add(closed.as_source(), Token(7), Interest::READABLE | Interest::WRITABLE, Trigger::Level)?;
            poller.add(left.as_source(), Token(8), Interest::READABLE, Trigger::Level)?;
            poller.wait(&mut events, Some(Duration::ZERO))?;
            poller.close(OwnedSource::from(closed))
        };
        without_a_leak(entry.name(), || {
            for number in 0..CYCLES {
                cycle().unwrap_or_else(|error| panic!("{}, cycle {number}: {error}", entry.name()));
            }
        });
        println!("{}: {CYCLES} cycles", entry.name());
    }
}

#[test]
fn two_thousand_servers_of_each_kind_leave_no_descriptor() {
    let _turn = alone();
    let registry = conformance::with_models(Registry::builtin());
    for mechanism in Mechanism::all(&registry) {
        if let Err(why) = mechanism.probe(&registry) {
            println!("{mechanism}: skipped: {why}");
            continue;
        }
        let cycles = if mechanism.base().is_none() { CYCLES } else { CYCLES_OF_A_VARIANT };
        without_a_leak(mechanism.name(), || {
            for _ in 0..cycles {
                let config = Config::listen("127.0.0.1:0".parse().expect("an address"));
                let server = mechanism.bind(&registry, config, Echo).expect("a free port");
                let server = Running::start(server, None, PATIENCE);
                // One connection is ended by its peer, by a reset so that none is left in TIME_WAIT; one by the server.
                let (mut gone, mut open) = (server.connect(), server.connect());
                for client in [&mut gone, &mut open] {
                    client.reset_on_close();
                }
                gone.exchange(b"used").expect("served");
                drop(gone);
                open.exchange(b"used").expect("served");
                assert_eq!(server.stop().accepted, 2);
            }
        });
        println!("{mechanism}: {cycles} cycles");
    }
}
