//! What the benches share: which cells there are, a server in a process of its own, and how a skip is said.

#![allow(dead_code, reason = "each bench uses its part of this")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use pollmark::backends::{Entry, Registry};
use pollmark::limits::{OTHER_DESCRIPTORS, descriptors_for};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::Echo;
use pollmark::server::{self, AcceptPolicy, Config, Server, Sharing};
use pollmark::usage;
use pollmark::workload::{Fault, Generator, Outcome};

/// The payload of an exchange, in bytes.
const PAYLOAD: usize = 64;
/// macOS allows a process 4,096 threads, many containers fewer.
const MOST_THREADS: usize = 2_000;
/// Set in the child: the mechanism to serve by.
const SERVE_BY: &str = "POLLMARK_BENCH_SERVE_BY";
/// Set in the child, if it is not to choose itself: how to accept.
const ACCEPT: &str = "POLLMARK_BENCH_ACCEPT";
/// Set in the child, if there are to be several: how many threads, and how they share a port.
const THREADS: &str = "POLLMARK_BENCH_THREADS";
const SHARING: &str = "POLLMARK_BENCH_SHARING";

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
    /// How many connections the server has to serve at once.
    pub at_once: fn(usize) -> usize,
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
                match obstacle(&registry, &mechanism, size, (self.at_once)(size)) {
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
                let server = ServerProcess::start(mechanism, None);
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

/// Why a cell of so many connections, so many of them served at once, cannot be measured here.
pub(crate) fn obstacle(registry: &Registry, mechanism: &Mechanism, size: usize, at_once: usize) -> Option<String> {
    let capabilities = match mechanism.probe(registry) {
        Ok(capabilities) => capabilities,
        Err(unavailable) => return Some(unavailable.to_string()),
    };
    if let Err(shortage) = descriptors_for(size) {
        return Some(shortage.to_string());
    }
    if at_once > 1 && !mechanism.abilities().concurrent {
        return Some("it serves one connection at a time, and the others would wait for ever".to_owned());
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
pub(crate) struct ServerProcess {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl ServerProcess {
    pub(crate) fn start(mechanism: &Mechanism, accept: Option<AcceptPolicy>) -> ServerProcess {
        ServerProcess::start_threads(mechanism, accept, None)
    }

    /// The same by several threads, which share a port.
    pub(crate) fn start_threads(
        mechanism: &Mechanism,
        accept: Option<AcceptPolicy>,
        threads: Option<(usize, Sharing)>,
    ) -> ServerProcess {
        let program = std::env::current_exe().expect("this program's path");
        let mut command = Command::new(program);
        command.env(SERVE_BY, mechanism.name()).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(accept) = accept {
            command.env(ACCEPT, accept.to_string());
        }
        if let Some((threads, sharing)) = threads {
            command.env(THREADS, threads.to_string()).env(SHARING, sharing.to_string());
        }
        let mut child = command.spawn().expect("this program can be started once more");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("the child's output");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("{mechanism}: the server did not start"));
        ServerProcess { child, output, address }
    }

    /// Lets it do nothing at all until it is resumed; it has come to rest when this returns.
    #[cfg(unix)]
    pub(crate) fn suspend(&self) {
        use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
        kill_process(self.pid(), Signal::STOP).expect("our child runs");
        let stopped = waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("our child").expect("its state");
        assert!(stopped.1.stopped(), "the server has ended: {stopped:?}");
    }

    #[cfg(unix)]
    pub(crate) fn resume(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::CONT).expect("our child is there");
    }

    #[cfg(unix)]
    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Asks it to stop, by the end of its input. Returns what it has done.
    pub(crate) fn stop(mut self) -> Account {
        drop(self.child.stdin.take());
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the child's output");
        let began = Instant::now();
        while self.child.try_wait().expect("our child").is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "the server does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        Account::read(&line).unwrap_or_else(|| panic!("no account was given: {line:?}"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Only after a panic is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server has done in its life.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) accepted: u64,
    pub(crate) accept_calls: u64,
    pub(crate) empty_accepts: u64,
    /// Threads, or events, for which there was nothing.
    pub(crate) spurious: u64,
    pub(crate) calls: u64,
    /// By each thread.
    pub(crate) accepted_by_each: Vec<u64>,
}

impl Account {
    fn write(account: &server::Account) -> String {
        let all = &account.total;
        let all = [all.accepted, all.accept_calls, all.empty_accepts, all.spurious, all.calls()];
        let each = account.threads.iter().map(|thread| thread.accepted);
        all.into_iter().chain(each).map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn read(line: &str) -> Option<Account> {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        let (accepted, accept_calls, empty_accepts, spurious, calls) = (next()?, next()?, next()?, next()?, next()?);
        let accepted_by_each = numbers.collect::<Option<_>>()?;
        Some(Account { accepted, accept_calls, empty_accepts, spurious, calls, accepted_by_each })
    }
}

/// The child: prints where it listens, serves until its input ends, prints what it has done.
fn serve(name: &str) {
    let registry = Registry::builtin();
    let mechanism = Mechanism::parse(&registry, name).expect("the parent has probed it");
    let mut config = Config::listen("127.0.0.1:0".parse().expect("an address"));
    config.accept = std::env::var(ACCEPT).ok().map(|policy| policy.parse().expect("as the parent printed it"));
    if let Ok(threads) = std::env::var(THREADS) {
        config.threads = threads.parse().expect("as the parent printed it");
        config.sharing = std::env::var(SHARING).expect("both are set").parse().expect("as the parent printed it");
    }
    let server: Box<dyn Server> = mechanism.bind(&registry, config, Echo).expect("a free port");
    println!("{}", server.addresses()[0]);
    let control = server.control();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        control.stop();
    });
    println!("{}", Account::write(&server.run_to_account().expect("the server serves")));
}
