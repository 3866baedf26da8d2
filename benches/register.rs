//! Changes of registration, the poller alone: add N sources, modify each, remove each.
//!
//! An iteration is one such round, 3 N changes. After each third a wait with timeout zero, because that is when kqueue
//! makes its changes: for epoll and `polling` it adds one call to N. None of the sources is ever ready. The poller is
//! called through a `Box<dyn Poller>`, like one from elsewhere.

mod common;

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use pollmark::backends::{AsSource, Events, Interest, Poller, Token, Trigger};

fn main() {
    common::main(register);
}

fn register(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("register");
    for size in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(3 * size as u64));
        for entry in common::pollers("register", size, size) {
            let mut bed = None;
            group.bench_function(BenchmarkId::new(entry.name(), size), |bencher| {
                let (poller, sources, events) = bed.get_or_insert_with(|| {
                    let bind = || UdpSocket::bind("127.0.0.1:0").expect("a free port");
                    let sources: Vec<UdpSocket> = std::iter::repeat_with(bind).take(size).collect();
                    (entry.open().expect("probed"), sources, Events::with_capacity(size.max(256)))
                });
                bencher.iter_custom(|iterations| {
                    let began = Instant::now();
                    for _ in 0..iterations {
                        round(&mut **poller, sources, events).expect("every change is made");
                    }
                    began.elapsed()
                });
            });
        }
    }
    group.finish();
}

fn round(poller: &mut dyn Poller, sources: &[UdpSocket], events: &mut Events) -> io::Result<()> {
    for (source, slot) in sources.iter().zip(0..) {
        poller.add(source.as_source(), Token::new(slot, 1), Interest::READABLE, Trigger::Level)?;
    }
    settle(poller, events)?;
    for (source, slot) in sources.iter().zip(0..) {
        let interest = Interest::READABLE | Interest::PRIORITY;
        poller.modify(source.as_source(), Token::new(slot, 2), interest, Trigger::Level)?;
    }
    settle(poller, events)?;
    for source in sources {
        poller.remove(source.as_source())?;
    }
    settle(poller, events)
}

fn settle(poller: &mut dyn Poller, events: &mut Events) -> io::Result<()> {
    poller.wait(events, Some(Duration::ZERO))?;
    assert!(events.is_empty(), "nothing was sent to any of these sources: {events:?}");
    Ok(())
}
