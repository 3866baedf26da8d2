//! How many threads one connection wakes: all that share the listener, or with EPOLLEXCLUSIVE one. Counted, not timed.
//!
//! A thread is known to sleep when /proc shows it inside a call of the poller's, and the first to accept is held there
//! until the others have done what they were woken for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use pollmark::backends::{OwnedSource, Poller, Registry, Source, Trigger, Visitor};
use pollmark::protocol::{Echo, Peer};
use pollmark::server::{AcceptPolicy, Config, Control, Group, Kernel, Net, ReadinessServer, Server, Sharing};

use crate::suite::cases::config;
use crate::suite::{PATIENCE, Running};

const THREADS: usize = 2;

/// Where a thread that is about to accept waits until enough are there, or it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    arrived: usize,
    opens_at: usize,
}

impl Gate {
    fn closed_until(&self, arrived: usize) {
        *self.0.0.lock().expect("nobody panics with it") = State { arrived: 0, opens_at: arrived };
        self.0.1.notify_all();
    }

    fn wait_for(&self, satisfied: impl Fn(&State) -> bool) {
        let state = self.0.0.lock().expect("nobody panics with it");
        let waited = self.0.1.wait_timeout_while(state, PATIENCE, |state| !satisfied(state));
        assert!(!waited.expect("nobody panics with it").1.timed_out(), "nobody else came to accept");
    }

    fn pass(&self) {
        self.0.0.lock().expect("nobody panics with it").arrived += 1;
        self.0.1.notify_all();
        self.wait_for(|state| state.arrived >= state.opens_at);
    }
}

impl Net for Gate {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        self.pass();
        Kernel.accept(listener, nonblocking)
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.recv(source, buffer)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        Kernel.send(source, bytes)
    }
}

/// Loops that share a listener, and where each of their threads is to be seen.
struct Herd {
    server: Running,
    controls: Vec<Control>,
    gate: Gate,
    threads: Arc<Mutex<Vec<PathBuf>>>,
}

impl Herd {
    fn new(registry: &Registry, mechanism: &str, sharing: Sharing) -> Herd {
        let mut config = config();
        (config.threads, config.sharing) = (THREADS, sharing);
        // An event is worth one accept(2) then, and what is counted is what was woken.
        config.accept = Some(AcceptPolicy::One);
        let (gate, threads, mut controls) = (Gate::default(), Arc::default(), Vec::new());
        let group = Group::bind(config, |config| {
            let bind = Bind { config, gate: gate.clone(), threads: Arc::clone(&threads) };
            let member = registry.get(mechanism).expect("it is known").visit(bind)??;
            controls.push(member.control());
            Ok(member)
        });
        let server = Running::start(Box::new(group.expect("a free port")), None, PATIENCE).with_herd(1);
        Herd { server, controls, gate, threads }
    }

    /// Waits until every thread sleeps in a call of its poller's.
    fn asleep(&self) {
        let _ = self.server.stats(); // So all of them have begun.
        let began = Instant::now();
        let threads = self.threads.lock().expect("nobody panics with it").clone();
        assert_eq!(threads.len(), THREADS);
        for thread in &threads {
            while !sleeps_in_a_wait(thread) {
                assert!(began.elapsed() < PATIENCE, "never asleep: {}", thread.display());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// /proc shows "running", or the number of the call and its arguments.
fn sleeps_in_a_wait(thread: &Path) -> bool {
    let call = fs::read_to_string(thread.join("syscall")).expect("the thread lives");
    let number = call.split_whitespace().next().and_then(|number| number.parse::<i64>().ok());
    let waits = [libc::SYS_epoll_pwait, libc::SYS_ppoll, libc::SYS_io_uring_enter];
    number.is_some_and(|number| waits.contains(&number) || is_old_wait(number))
}

#[cfg(target_arch = "x86_64")]
fn is_old_wait(number: i64) -> bool {
    [libc::SYS_epoll_wait, libc::SYS_poll].contains(&number)
}

#[cfg(not(target_arch = "x86_64"))]
fn is_old_wait(_: i64) -> bool {
    false
}

/// Carries a loop to be into the place where the poller's type is known.
struct Bind {
    config: Config,
    gate: Gate,
    threads: Arc<Mutex<Vec<PathBuf>>>,
}

impl Visitor for Bind {
    type Output = io::Result<Box<dyn Server>>;

    fn visit<P, F>(self, open: F) -> Self::Output
    where
        P: Poller + 'static,
        F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static,
    {
        let Bind { config, gate, threads } = self;
        let open = move || {
            let own = PathBuf::from("/proc").join(fs::read_link("/proc/thread-self")?);
            threads.lock().expect("nobody panics with it").push(own);
            open()
        };
        Ok(Box::new(ReadinessServer::bind(config, Echo, Trigger::Level, open)?.with_net(gate)))
    }
}

/// Runs `test` with every mechanism of which a thread's sleep can be told, that shares in this way.
fn with_each(sharing: Sharing, test: impl Fn(&Herd)) {
    let registry = Registry::builtin();
    for mechanism in ["epoll", "uring", "poll"] {
        match registry.get(mechanism).expect("it is known").probe() {
            Err(why) => println!("{mechanism}: skipped: {why}"),
            Ok(able) if sharing == Sharing::Exclusive && !able.exclusive => println!("{mechanism}: wakes everybody"),
            Ok(_) => {
                println!("{mechanism}");
                test(&Herd::new(&registry, mechanism, sharing));
            }
        }
    }
}

const ROUNDS: u64 = 10;

#[test]
fn a_connection_wakes_every_thread_that_shares_the_listener() {
    with_each(Sharing::Shared, |herd| {
        for _ in 0..ROUNDS {
            herd.asleep();
            // Whoever comes first is held until the other has come too: for a connection that only one can get.
            herd.gate.closed_until(THREADS);
            herd.server.connect().exchange(b"here").expect("nothing kills here");
        }
        let stats = herd.server.stats();
        assert_eq!((stats.accepted, stats.accept_calls, stats.spurious), (ROUNDS, 2 * ROUNDS, ROUNDS), "{stats:?}");
    });
}

#[test]
fn a_connection_wakes_one_thread_of_those_that_share_exclusively() {
    with_each(Sharing::Exclusive, |herd| {
        for round in 1..=ROUNDS {
            herd.asleep();
            herd.gate.closed_until(usize::MAX);
            let mut client = herd.server.connect();
            herd.gate.wait_for(|state| state.arrived > 0);
            // One thread is held. The other answers, and so was not woken: it would have gone to accept first.
            let (answer, answers) = mpsc::channel();
            for control in herd.controls.clone() {
                let answer = answer.clone();
                std::thread::spawn(move || _ = answer.send(control.stats().expect("it runs")));
            }
            answers.recv_timeout(PATIENCE).expect("one of two threads was left asleep");
            herd.gate.closed_until(0);
            answers.recv_timeout(PATIENCE).expect("the other was let go");
            client.exchange(b"here").expect("nothing kills here");
            let stats = herd.server.stats();
            assert_eq!((stats.accepted, stats.accept_calls, stats.spurious), (round, round, 0), "{stats:?}");
        }
    });
}
