//! Bursts of connections: what does each way of accepting them cost, in time and in calls?
//!
//! An iteration is one burst. The server, in a process of its own, is suspended until the whole burst is
//! in its listen queue, each connection with a byte to echo; the clock runs from its resumption to the last echo. So a
//! burst of one shows what an accept in vain costs, and a large one what a wait for each connection costs. Beside the
//! time stand the calls that the server itself has counted, for each connection: those of accept(2), how many of them
//! found nothing, and all there were. Connections are closed by a reset, so that none stays in TIME_WAIT.

mod common;

use criterion::Criterion;

fn main() {
    common::main(accept);
}

#[cfg(unix)]
fn accept(criterion: &mut Criterion) {
    burst::measure(criterion);
}

#[cfg(not(unix))]
fn accept(_: &mut Criterion) {
    println!("accept: skipped: this system cannot suspend a process, and a burst would not be one");
}

#[cfg(unix)]
mod burst {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    use criterion::{BenchmarkId, Criterion, Throughput};
    use pollmark::backends::Registry;
    use pollmark::mechanism::Mechanism;
    use pollmark::server::AcceptPolicy;

    use crate::common::{Account, ServerProcess, obstacle};

    const POLICIES: [AcceptPolicy; 4] =
        [AcceptPolicy::One, AcceptPolicy::Drain(8), AcceptPolicy::Drain(64), AcceptPolicy::Multishot];
    /// No more than the shortest listen queue that systems have.
    const SIZES: [usize; 3] = [1, 10, MOST];
    const MOST: usize = 100;
    /// An echo that has not come by now never comes.
    const PATIENCE: Duration = Duration::from_secs(10);

    pub(crate) fn measure(criterion: &mut Criterion) {
        let registry = Registry::builtin();
        let mut group = criterion.benchmark_group("accept");
        for mechanism in Mechanism::all(&registry).iter().filter(|one| is_measured(one)) {
            for policy in POLICIES {
                let row = format!("{mechanism}/{policy}");
                if let Some(why) = obstacle(&registry, mechanism, MOST, 1).or_else(|| refusal(mechanism, policy)) {
                    println!("accept/{row}: skipped: {why}");
                    continue;
                }
                for size in SIZES {
                    group.throughput(Throughput::Elements(size as u64));
                    let mut server = None;
                    group.bench_function(BenchmarkId::new(&row, size), |bencher| {
                        let server = server.get_or_insert_with(|| ServerProcess::start(mechanism, Some(policy)));
                        bencher.iter_custom(|bursts| (0..bursts).map(|_| burst(server, size)).sum());
                    });
                    if let Some(server) = server {
                        println!("accept/{row}/{size}: {}", calls(server.stop()));
                    }
                }
            }
        }
        group.finish();
    }

    /// A listener is watched in the same way whatever the trigger: one of each family is enough.
    fn is_measured(mechanism: &Mechanism) -> bool {
        mechanism.is_common() || !mechanism.abilities().concurrent
    }

    fn refusal(mechanism: &Mechanism, policy: AcceptPolicy) -> Option<String> {
        mechanism.abilities().accept_by(Some(policy)).err().map(|why| why.to_string())
    }

    /// Returns how long the server took.
    fn burst(server: &ServerProcess, size: usize) -> Duration {
        server.suspend();
        let connect = |number: usize| {
            let mut client = TcpStream::connect(server.address).expect("the kernel takes it on by itself");
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
            client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            client.write_all(&[number as u8]).expect("room for a byte");
            client
        };
        let clients: Vec<TcpStream> = (0..size).map(connect).collect();
        let began = Instant::now();
        server.resume();
        for (number, mut client) in clients.into_iter().enumerate() {
            let mut echoed = [0];
            client.read_exact(&mut echoed).expect("every connection of the burst is accepted and served");
            assert_eq!(echoed, [number as u8], "a wrong byte");
            // Closed here: a server of one client at a time goes on to the next only then.
        }
        began.elapsed()
    }

    /// For each connection, from the server's own account.
    fn calls(account: Account) -> String {
        let each = |count: u64| count as f64 / account.accepted.max(1) as f64;
        format!(
            "{:.2} calls of accept for each of {} connections, {:.2} of them in vain; {:.2} calls in all",
            each(account.accept_calls),
            account.accepted,
            each(account.empty_accepts),
            each(account.calls)
        )
    }
}
