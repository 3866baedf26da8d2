//! What the benches share: which cells there are, a server in a process of its own, and how a skip is said.

#![allow(dead_code, reason = "each bench uses its part of this")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use pollmark::backends::{Entry, Registry};
use pollmark::limits::{OTHER_DESCRIPTORS, descriptors_for};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Echo;
use pollmark::server::{Config, Server};
use pollmark::usage;
use pollmark::workload::{Fault, Generator, Outcome};

/// The payload of an exchange, in bytes.
const PAYLOAD: usize = 64;
/// macOS allows a process 4,096 threads, many containers fewer.
const MOST_THREADS: usize = 2_000;
/// Set in the child: the mechanism to serve by.
const SERVE_BY: &str = "POLLMARK_BENCH_SERVE_BY";

/// A bench's `main`: in the child it serves, in the parent it measures.
pub(crate) fn main(bench: fn(&mut Criterion)) {
    usage::raise_descriptor_limit();
    if let Ok(name) = std::env::var(SERVE_BY) {
        return serve(&name);
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}

/// A workload on a real server: how connections are opened, outside the clock, and what is timed.
pub(crate) struct Workload {
    /// The group, first part of every cell's name.
    pub name: &'static str,
    /// The cells' last part: how many connections, of the kind this workload is about.
    pub sizes: &'static [usize],
    /// Before the clock starts.
    pub open: fn(&mut Generator, usize) -> Result<(), Fault>,
    /// So many iterations; each is one verified exchange. Timed by the generator, from the first send to the last echo.
    pub run: fn(&mut Generator, usize, u64) -> Result<Outcome, Fault>,
}

impl Workload {
    /// Measures every mechanism at every size: `name/mechanism/size`.
    pub(crate) fn measure(&self, criterion: &mut Criterion) {
        let registry = Registry::builtin();
        let mut group = criterion.benchmark_group(self.name);
        group.throughput(Throughput::Elements(1));
        for mechanism in Mechanism::all(&registry) {
            for &size in self.sizes {
                let id = BenchmarkId::new(mechanism.name(), size);
                match obstacle(&registry, &mechanism, size) {
                    Some(why) => println!("{}/{mechanism}/{size}: skipped: {why}", self.name),
                    None => self.measure_cell(&mut group, id, &mechanism, size),
                }
            }
        }
        group.finish();
    }

    fn measure_cell(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        id: BenchmarkId,
        mechanism: &Mechanism,
        size: usize,
    ) {
        // A fault ends the bench: a number beside a wrong byte or a lost connection would be worth nothing.
        let sound = |fault: Fault| -> ! { panic!("{}/{mechanism}/{size}: {fault}", self.name) };
        // Opened by the first sample, and so not at all if the cell is filtered out.
        let mut cell = None;
        group.bench_function(id, |bencher| {
            let (load, _server) = cell.get_or_insert_with(|| {
                let server = ServerProcess::start(mechanism);
                let mut load = Generator::new(server.address, PAYLOAD).unwrap_or_else(|fault| sound(fault));
                (self.open)(&mut load, size).unwrap_or_else(|fault| sound(fault));
                (load, server)
            });
            bencher.iter_custom(|iterations| {
                (self.run)(load, size, iterations).unwrap_or_else(|fault| sound(fault)).elapsed
            });
        });
        if let Some((mut load, server)) = cell {
            load.verify_idle().unwrap_or_else(|fault| sound(fault));
            drop(load);
            server.stop();
        }
    }
}

/// Why a cell cannot be measured here.
fn obstacle(registry: &Registry, mechanism: &Mechanism, size: usize) -> Option<String> {
    let capabilities = match mechanism.probe(registry) {
        Ok(capabilities) => capabilities,
        Err(unavailable) => return Some(unavailable.to_string()),
    };
    if let Err(shortage) = descriptors_for(size) {
        return Some(shortage.to_string());
    }
    let needed = size + OTHER_DESCRIPTORS as usize;
    match capabilities {
        None if size > MOST_THREADS => Some(format!("{size} threads are more than many systems allow a process")),
        Some(has) if has.numbers_below.is_some_and(|limit| limit < needed as u64) => {
            Some(format!("it watches no number from {} on", has.numbers_below.expect("as matched")))
        }
        Some(has) if has.most_sources.is_some_and(|limit| limit < needed) => {
            Some(format!("it watches at most {} sources", has.most_sources.expect("as matched")))
        }
        _ => None,
    }
}

/// The pollers of this host, for benches that need no server, if this process may have so many sockets.
pub(crate) fn pollers(bench: &str, size: usize, sockets: usize) -> impl Iterator<Item = Entry> {
    let registry = Registry::builtin();
    let all: Vec<Entry> = registry.entries().cloned().collect();
    let bench = bench.to_owned();
    all.into_iter().filter(move |entry| {
        let why = match entry.probe() {
            Err(unavailable) => Some(unavailable.to_string()),
            Ok(_) => descriptors_for(sockets).err().map(|shortage| shortage.to_string()),
        };
        if let Some(why) = &why {
            println!("{bench}/{}/{size}: skipped: {why}", entry.name());
        }
        why.is_none()
    })
}

/// This program once more, as a server: so that it has descriptors, CPU time and a scheduler's share of its own.
struct ServerProcess {
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    fn start(mechanism: &Mechanism) -> ServerProcess {
        let program = std::env::current_exe().expect("this program's path");
        let mut command = Command::new(program);
        command.env(SERVE_BY, mechanism.name()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started once more");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("the child's output");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("{mechanism}: the server did not start"));
        ServerProcess { child, address }
    }

    /// Asks it to stop, by the end of its input.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        while self.child.try_wait().expect("our child").is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "the server does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Only after a panic is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child: prints where it listens, serves until its input ends.
fn serve(name: &str) {
    let registry = Registry::builtin();
    let mechanism = Mechanism::parse(&registry, name).expect("the parent has probed it");
    let config = Config::listen("127.0.0.1:0".parse().expect("an address"));
    let server: Box<dyn Server> = mechanism.bind(&registry, config, Echo).expect("a free port");
    println!("{}", server.addresses()[0]);
    let control = server.control();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        control.stop();
    });
    server.run().expect("the server serves");
}
