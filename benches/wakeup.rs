//! Waking a waiting thread, the poller alone: two threads wake each other in turn.
//!
//! An iteration is one round trip, two wakes: each thread sleeps in its wait, is woken, drains its source, wakes the
//! other. Each poller also watches N idle sources. The scheduler has the largest share in this figure.

mod common;

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use pollmark::backends::{AsSource, Entry, Events, Interest, Poller, Token, Trigger, WakeSource, Waker, waker};

/// The waker's own token; no idle source has it.
const WAKE: Token = Token(u64::MAX);
/// A wake that has not come by now has been lost.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    common::main(wakeup);
}

fn wakeup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wakeup");
    group.throughput(Throughput::Elements(2));
    for idle in [0, 1_000] {
        for entry in common::pollers("wakeup", idle, 2 * idle) {
            let mut pair = None;
            group.bench_function(BenchmarkId::new(entry.name(), idle), |bencher| {
                let (sleeper, partner) = pair.get_or_insert_with(|| Partner::start(&entry, idle));
                bencher.iter_custom(|iterations| {
                    let began = Instant::now();
                    for _ in 0..iterations {
                        partner.waker.wake();
                        sleeper.sleep(Some(PATIENCE)).expect("the partner answers");
                    }
                    began.elapsed()
                });
            });
        }
    }
    group.finish();
}

/// One side: waits until it is woken.
struct Sleeper {
    poller: Box<dyn Poller>,
    wakes: WakeSource,
    events: Events,
    _idle: Vec<UdpSocket>,
}

impl Sleeper {
    fn open(entry: &Entry, idle: usize, wakes: WakeSource) -> io::Result<Sleeper> {
        let mut poller = entry.open()?;
        poller.add(wakes.as_source(), WAKE, Interest::READABLE, Trigger::Level)?;
        let mut sources = Vec::new();
        for slot in 0..idle as u32 {
            let source = UdpSocket::bind("127.0.0.1:0")?;
            poller.add(source.as_source(), Token::new(slot, 1), Interest::READABLE, Trigger::Level)?;
            sources.push(source);
        }
        Ok(Sleeper { poller, wakes, events: Events::with_capacity(8), _idle: sources })
    }

    fn sleep(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.poller.wait(&mut self.events, patience)?;
        let woken = self.events.iter().any(|event| event.token() == WAKE);
        assert!(woken && self.events.len() == 1, "woken by nothing else than the partner: {:?}", self.events);
        self.wakes.drain();
        Ok(())
    }
}

/// The other side, on a thread of its own until dropped.
struct Partner {
    waker: Waker,
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Partner {
    fn start(entry: &Entry, idle: usize) -> (Sleeper, Partner) {
        let (here, wakes_here) = waker().expect("two descriptors");
        let (there, wakes_there) = waker().expect("two descriptors");
        let done = Arc::new(AtomicBool::new(false));
        let (finished, entry_there) = (Arc::clone(&done), entry.clone());
        let thread = std::thread::spawn(move || {
            let mut sleeper = Sleeper::open(&entry_there, idle, wakes_there).expect("as on the other side");
            loop {
                match sleeper.sleep(None) {
                    Ok(()) if finished.load(Ordering::Acquire) => return,
                    Ok(()) => here.wake(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let sleeper = Sleeper::open(entry, idle, wakes_here).expect("probed");
        (sleeper, Partner { waker: there, done, thread: Some(thread) })
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        self.waker.wake();
        let _ = self.thread.take().expect("joined once").join();
    }
}
