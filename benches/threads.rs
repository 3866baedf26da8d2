//! Several threads on one port: what does it cost to take a connection on, in each way of sharing it, and who gets it?
//!
//! An iteration is one connection: connect, one verified 64-byte echo, close by a reset; ten are under way at a time.
//! One thread stands beside two of each way. Beside the time stand the calls that the server has counted for each
//! connection, how many times a thread was woken in vain, what part of the connections each thread got, and Jain's
//! index of that.
//!
//! Server and load share the CPUs as the system likes. Of established connections `pollmark compare --threads 1,2`
//! tells.

mod common;

use criterion::{BenchmarkId, Throughput};
use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use pollmark::server::{Sharing, fairness};
use pollmark::workload::{Fault, Generator, Until};

use common::{Account, ServerProcess, obstacle};

const AT_ONCE: usize = 10;
const PAYLOAD: usize = 64;

fn main() {
    common::main(|criterion| {
        let registry = Registry::builtin();
        let mut group = criterion.benchmark_group("threads");
        group.throughput(Throughput::Elements(1));
        for mechanism in Mechanism::all(&registry).iter().filter(|one| one.is_common()) {
            if let Some(why) = obstacle(&registry, mechanism, AT_ONCE, AT_ONCE) {
                println!("threads/{mechanism}: skipped: {why}");
                continue;
            }
            let ways = Sharing::ALL.map(|sharing| Some((2, sharing)));
            for threads in [None].into_iter().chain(ways) {
                let (row, able) = match threads {
                    None => ("1".to_owned(), Ok(())),
                    Some((threads, sharing)) => {
                        (format!("{threads} {sharing}"), mechanism.can_share(&registry, sharing))
                    }
                };
                match able {
                    Ok(()) => measure(&mut group, mechanism, &row, threads),
                    Err(why) => println!("threads/{mechanism}/{row}: skipped: {why}"),
                }
            }
        }
        group.finish();
    });
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn measure(group: &mut Group<'_>, mechanism: &Mechanism, row: &str, threads: Option<(usize, Sharing)>) {
    let sound = |fault: Fault| -> ! { panic!("threads/{mechanism}/{row}: {fault}") };
    // Opened by the first sample, and so not at all if the cell is filtered out.
    let mut cell = None;
    group.bench_function(BenchmarkId::new(mechanism.name(), row), |bencher| {
        let (load, _server) = cell.get_or_insert_with(|| {
            let server = ServerProcess::start_threads(mechanism, None, threads);
            let load = Generator::new(server.address, PAYLOAD).unwrap_or_else(|fault| sound(fault));
            (load, server)
        });
        bencher.iter_custom(|connections| {
            let churned = load.churn(AT_ONCE, Until::Requests(connections));
            churned.unwrap_or_else(|fault| sound(fault)).elapsed
        });
    });
    if let Some((load, server)) = cell {
        drop(load);
        println!("threads/{mechanism}/{row}: {}", in_words(&server.stop()));
    }
}

/// For each connection, from the server's own account.
fn in_words(account: &Account) -> String {
    let each = |count: u64| count as f64 / account.accepted.max(1) as f64;
    let shares = account.accepted_by_each.iter().map(|share| format!("{:.0} %", 100.0 * each(*share)));
    format!(
        "{:.2} calls for each of {} connections, {:.2} of accept; {:.2} woken in vain; shared out {}, fairness {:.2}",
        each(account.calls),
        account.accepted,
        each(account.accept_calls),
        each(account.spurious),
        shares.collect::<Vec<_>>().join(" : "),
        fairness(account.accepted_by_each.iter().copied()).unwrap_or(0.0)
    )
}
