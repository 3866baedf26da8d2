//! The server suite on every mechanism of this host, and what only one driver can be asked.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pollmark::backends::conformance::{self, fault::Faults};
use pollmark::backends::{OwnedSource, Registry, Source, Trigger, poll::Poll};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Echo, Peer, Protocol};
use pollmark::server::{Abilities, Config, Kernel, Net, ReadinessServer, Server, ThreadServer};

use crate::everywhere::{self, side_by_side};
use crate::suite::cases::{self, config};
use crate::suite::{PATIENCE, Running, Subject, Verdict};

/// A mechanism as it is.
pub(crate) struct Plain {
    mechanism: Mechanism,
    registry: Registry,
}

impl Subject for Plain {
    fn name(&self) -> &str {
        self.mechanism.name()
    }

    fn abilities(&self) -> Abilities {
        self.mechanism.abilities()
    }

    fn bind<P: Protocol>(&self, config: Config, protocol: P) -> io::Result<Box<dyn Server>> {
        self.mechanism.bind(&self.registry, config, protocol)
    }

    fn faults(&self) -> Option<&Faults> {
        None
    }
}

/// All mechanisms of this host.
pub(crate) fn everywhere() -> Vec<Plain> {
    let registry = conformance::with_models(Registry::builtin());
    let here = everywhere::mechanisms(&registry).into_iter();
    here.map(|mechanism| Plain { mechanism, registry: registry.clone() }).collect()
}

/// Runs `case` on every mechanism of this host, and says which are not here.
pub(crate) fn on_every_mechanism(case: impl Fn(&Plain) -> Verdict + Sync) {
    side_by_side(&everywhere(), |subject| {
        println!("{}", subject.name());
        case(subject).expect("nothing kills here");
    });
}

macro_rules! on_every_mechanism {
    ($($case:ident,)+) => { $(
        #[test]
        fn $case() {
            on_every_mechanism(cases::$case);
        }
    )+ };
}
suite!(on_every_mechanism);
suite_of_datagrams!(on_every_mechanism);

fn start(server: impl Server + 'static) -> Running {
    Running::start(Box::new(server), None, PATIENCE)
}

/// Out of descriptors, as accept4(2) of Linux tells it: it looks for one before it looks at the queue. The spare one,
/// given up, makes the call after it succeed.
#[derive(Clone)]
struct Full(Arc<AtomicU32>);

impl Net for Full {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(io::Error::other("too many open files")),
            _ => Kernel.accept(listener, nonblocking),
        }
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.recv(source, buffer)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Kernel.send(source, bytes)
    }
}

#[test]
fn without_descriptors_every_peer_is_turned_away_without_delay() {
    let mut patient = config();
    patient.accept_pause = 10 * PATIENCE;
    let server = ReadinessServer::bind(patient, Echo, Trigger::Level, Poll::open).expect("bound");
    let server = start(server.with_net(Full(Arc::new(AtomicU32::new(0)))));
    for _ in 0..3 {
        // Silence would mean that the listener rests although the queue was only empty.
        assert_eq!(server.connect().read_byte_or_end(), None);
    }
    let stats = server.stop();
    assert_eq!((stats.accepted, stats.refused), (0, 3));
}

/// Refused each connection by a policy of the system, which leaves it in the queue.
#[derive(Clone)]
struct Forbidden;

impl Net for Forbidden {
    fn accept(&self, _: Source<'_>, _: bool) -> io::Result<(OwnedSource, Peer)> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.recv(source, buffer)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Kernel.send(source, bytes)
    }
}

#[test]
fn a_connection_that_may_not_be_accepted_does_not_make_the_server_spin() {
    let mut config = config();
    config.accept_pause = Duration::from_millis(50);
    let readiness = ReadinessServer::bind(config.clone(), Echo, Trigger::Level, Poll::open).expect("bound");
    let threads = ThreadServer::bind(config, Echo).expect("bound");
    for server in [start(readiness.with_net(Forbidden)), start(threads.with_net(Forbidden))] {
        let _client = server.connect();
        server.until("it was tried", |stats| stats.accept_calls > 0).expect("nothing kills here");
        std::thread::sleep(Duration::from_millis(200));
        let stats = server.stop();
        assert!(stats.ledger.waits < 50, "spun: {stats:?}");
    }
}

#[test]
fn a_mechanism_that_lacks_the_trigger_says_so_instead_of_serving_wrongly() {
    let server = ReadinessServer::bind(config(), Echo, Trigger::Edge, Poll::open).expect("bound");
    let error = Box::new(server).run().expect_err("poll has no edge");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
