//! The parent's end: a server in a child, what it takes by /proc, and what must hold when its peers have gone.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;
use pollmark::server::{Config, Stats};
use pollmark::usage;
use rustix::process::{Pid, Signal, kill_process};

use crate::child::{Log, MARK, ROLE, Role};
use crate::client::{Door, Peer};
use crate::everywhere;
use crate::spoken::Spoken;

/// Longer than anything here takes; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What an allocator may keep to itself, whatever is done.
const SLACK: u64 = 6 * 1024 * 1024;

/// Runs `case` on every mechanism of this host, and says which are not here.
pub(crate) fn on_every_mechanism(case: impl Fn(&Mechanism)) {
    usage::raise_descriptor_limit();
    for mechanism in everywhere::mechanisms(&Registry::builtin()) {
        println!("{mechanism}");
        case(&mechanism);
    }
}

/// The same for every protocol: on every mechanism that is not another one's variant, and one protocol on each of
/// those.
pub(crate) fn on_every_protocol(case: impl Fn(&Mechanism, Spoken)) {
    on_every_mechanism(|mechanism| {
        if mechanism.is_common() {
            return Spoken::ALL.iter().for_each(|spoken| case(mechanism, *spoken));
        }
        say_once(&format!("{mechanism}: fewer cases, of frames alone: it is a variant, or serves one at a time"));
        case(mechanism, Spoken::Frame);
    });
}

/// The same on several at once, for cases that mostly wait for the kernel.
pub(crate) fn on_every_mechanism_at_once(case: impl Fn(&Mechanism) + Sync) {
    usage::raise_descriptor_limit();
    everywhere::side_by_side(&everywhere::mechanisms(&Registry::builtin()), case);
}

/// Whether it serves several at once. If not, says what is not done for it.
pub(crate) fn is_concurrent(mechanism: &Mechanism, case: &str) -> bool {
    let is = mechanism.abilities().concurrent;
    if !is {
        say_once(&format!("{mechanism}: skipped: {case}: it needs two connections served at once"));
    }
    is
}

/// What most servers here are set up with: little room for each connection, so that much is soon too much.
pub(crate) fn config() -> Config {
    let mut config = Config::listen("127.0.0.1:0".parse().expect("an address"));
    config.accept_pause = Duration::from_millis(5);
    (config.limits.high_water, config.limits.low_water) = (64 * 1024, 16 * 1024);
    config.read_buffer = 16 * 1024;
    (config.send_buffer, config.receive_buffer) = (Some(32 * 1024), Some(32 * 1024));
    config
}

/// This program again, as a child.
pub(crate) struct Offspring {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Offspring {
    pub(crate) fn start(role: &Role) -> Offspring {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["child::is_a_child", "--exact", "--ignored", "--nocapture"]);
        command.env(ROLE, serde_json::to_string(role).expect("serializable"));
        // mallopt(3): what is freed goes back to the kernel, and is not kept by malloc because something small lies
        // above it. So the child's memory is what the server holds.
        command.env("MALLOC_MMAP_THRESHOLD_", "8192");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the child starts");
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("piped")));
        Offspring { child, orders, answers }
    }

    /// Waits for what the child answers next.
    pub(crate) fn hear<T: serde::de::DeserializeOwned>(&mut self) -> T {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.answers.read_line(&mut line).expect("text") > 0, "the child has ended without an answer");
            if let Some((_, answer)) = line.split_once(MARK) {
                return serde_json::from_str(answer).expect("an answer");
            }
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, order: &str) -> T {
        let orders = self.orders.as_mut().expect("not ended");
        // If it has ended, the answer that does not come tells so better.
        let _ = writeln!(orders, "{order}");
        self.hear()
    }

    pub(crate) fn kill(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// A file of its own in /proc.
    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs")
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server in a child. It has served one client before anybody else comes, and has by then all it needs.
pub(crate) struct Hosted {
    child: Offspring,
    pub(crate) address: SocketAddr,
    pub(crate) mechanism: Mechanism,
    pub(crate) spoken: Spoken,
    pub(crate) config: Config,
    /// One that means well, and is there all the time, where two can be.
    neighbour: Option<Peer>,
    asked: u32,
    calm: Calm,
}

/// What the server takes while nobody is there but the neighbour.
#[derive(Clone, Copy)]
struct Calm {
    descriptors: usize,
    memory: u64,
    stats: Stats,
}

impl Hosted {
    pub(crate) fn start(mechanism: &Mechanism, spoken: Spoken, config: Config) -> Hosted {
        let mut server = Hosted::start_alone(mechanism, spoken, config);
        if server.mechanism.abilities().concurrent {
            server.neighbour = Some(server.guest());
            server.neighbour_is_served();
            server.is_calm();
        }
        server
    }

    /// One without a neighbour, who would have to go on talking.
    pub(crate) fn start_alone(mechanism: &Mechanism, spoken: Spoken, config: Config) -> Hosted {
        let mechanism_name = mechanism.name().to_owned();
        let role = Role::Server { mechanism: mechanism_name, spoken, config: Box::new(config.clone()) };
        let mut child = Offspring::start(&role);
        let address = child.hear();
        let mut first = Peer::connect(address);
        first.greet(spoken);
        first.exchange(spoken, 0);
        drop(first);
        let calm = Calm { descriptors: 0, memory: 0, stats: Stats::default() };
        let (mechanism, neighbour, asked) = (mechanism.clone(), None, 0);
        let mut server = Hosted { child, address, mechanism, spoken, config, neighbour, asked, calm };
        server.until("the first has gone", |stats| stats.open == 0 && stats.closed == 1);
        server.is_calm();
        server
    }

    /// What is taken from now on is the doing of those who come.
    fn is_calm(&mut self) {
        let stats = self.stats();
        self.calm = Calm { descriptors: self.descriptors(), memory: self.memory(), stats };
    }

    pub(crate) fn door(&self) -> Door {
        Door { address: self.address, spoken: self.spoken }
    }

    pub(crate) fn connect(&self) -> Peer {
        self.door().connect()
    }

    pub(crate) fn guest(&self) -> Peer {
        self.door().guest()
    }

    /// The well-meaning neighbour asks a hundred times, and is answered. Says so where it cannot be.
    pub(crate) fn neighbour_is_served(&mut self) {
        const EXCHANGES: u32 = 100;
        match &mut self.neighbour {
            Some(neighbour) => {
                for _ in 0..EXCHANGES {
                    self.asked += 1;
                    neighbour.exchange(self.spoken, self.asked);
                }
            }
            None if self.mechanism.abilities().concurrent => {}
            None => say_once(&format!("{}: no neighbour: it serves one client at a time", self.mechanism)),
        }
    }

    /// How many connections of its own the test's server has beside those of the case.
    pub(crate) fn neighbours(&self) -> u64 {
        u64::from(self.neighbour.is_some())
    }

    pub(crate) fn stats(&mut self) -> Stats {
        self.child.ask("stats")
    }

    /// What was done since the server was calm.
    pub(crate) fn done(&mut self) -> Stats {
        self.stats() - self.calm.stats
    }

    pub(crate) fn log(&mut self) -> Log {
        self.child.ask("log")
    }

    /// Memory of the child that is its own, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let rollup = self.child.proc("smaps_rollup");
        let dirty = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("a line of it");
        dirty.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.child.id())).expect("it runs").count()
    }

    /// CPU time of all its threads until now, in ticks of the system's clock, mostly of ten milliseconds.
    fn cpu_ticks(&self) -> u64 {
        let stat = self.child.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        // proc_pid_stat(5): the 14th and 15th field are utime and stime; the third comes first here.
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
        ticks.sum()
    }

    /// Keeps the server from running until what is returned is dropped: what is done meanwhile, it meets all at once.
    pub(crate) fn stopped(&mut self) -> Stopped<'_> {
        self.child.kill(Signal::STOP);
        // A signal has come when it is dealt with: the state is in the third field.
        while !self.child.proc("stat").rsplit_once(") ").expect("a name").1.starts_with('T') {
            std::thread::sleep(Duration::from_millis(1));
        }
        Stopped(self)
    }

    /// Waits until the server's account satisfies `what`.
    pub(crate) fn until(&mut self, what: &str, satisfied: impl Fn(&Stats) -> bool) -> Stats {
        let began = Instant::now();
        loop {
            let stats = self.stats();
            if satisfied(&stats) {
                return stats;
            }
            let mechanism = &self.mechanism;
            assert!(began.elapsed() < PATIENCE, "{mechanism}: never came to this: {what}; {stats:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// So many connections may take this much, by the configuration: what one owes and what came with one more read,
    /// twice, for vectors that grow by doubling; an unfinished message; and a thread, where each has one.
    pub(crate) fn may_take(&self, connections: u64, unfinished: u64) -> u64 {
        let blocking = self.mechanism.abilities().blocking;
        let thread = if blocking { self.config.stack_size + self.config.read_buffer } else { 0 };
        let owed = 2 * (self.config.limits.high_water + self.config.read_buffer);
        connections * (owed as u64 + thread as u64 + 2 * unfinished) + SLACK
    }

    /// Asserts that the server has not grown by more than this.
    pub(crate) fn has_grown_by_at_most(&self, most: u64) {
        let grown = self.memory().saturating_sub(self.calm.memory);
        let (mechanism, spoken) = (&self.mechanism, self.spoken);
        assert!(grown <= most, "{mechanism}, {spoken:?}: it has grown by {grown} bytes; it may by {most}");
    }

    /// Asserts that the server sleeps as soon as no byte moves any more: no waits, no CPU time.
    pub(crate) fn is_quiet(&mut self) {
        const WINDOW: Duration = Duration::from_millis(100);
        let began = Instant::now();
        let moved = |stats: &Stats| [stats.bytes_in, stats.bytes_out, stats.accepted, stats.closed, stats.refused];
        loop {
            let (before, ticks) = (self.stats(), self.cpu_ticks());
            std::thread::sleep(WINDOW);
            let (ticks, idle) = (self.cpu_ticks() - ticks, self.stats() - before);
            // A kernel may find room for a few bytes more long after they were sent.
            if moved(&idle) != [0; 5] {
                assert!(began.elapsed() < PATIENCE, "{}: never comes to rest: {idle:?}", self.mechanism);
                continue;
            }
            // Two for the question itself, and a few for deadlines and pauses that end.
            assert!(idle.ledger.waits <= 12, "{}: spins: {idle:?}", self.mechanism);
            if self.mechanism.base().is_some() {
                return say_once(&format!(
                    "{}: CPU time at rest is not judged: it may poll on purpose",
                    self.mechanism
                ));
            }
            return assert!(ticks <= 3, "{}: {ticks} ticks of CPU time while nothing happens", self.mechanism);
        }
    }

    /// Every wait of the server, since it was calm, must have had a reason: a call that did something. Each connection
    /// may cost a few, for what its end takes.
    pub(crate) fn has_not_spun(&mut self) -> Stats {
        const SLACK: u64 = 200; // for our own questions, deadlines and pauses
        let done = self.done();
        let calls = done.accept_calls + done.read_calls + done.write_calls + done.other_calls;
        let waits = done.ledger.waits;
        assert!(waits <= calls + 2 * done.accepted + SLACK, "{}: spun: {done:?}", self.mechanism);
        // A connection that ends in its queue or between two events is an event of nothing.
        assert!(done.spurious <= done.accepted + done.refused + SLACK, "{}: spun: {done:?}", self.mechanism);
        done
    }

    /// Waits until there are as many descriptors open as when it was calm; but for one, if the poller has moved to
    /// another mechanism meanwhile.
    pub(crate) fn has_its_descriptors_back(&mut self) {
        let began = Instant::now();
        loop {
            let (now, before) = (self.descriptors(), self.calm.descriptors);
            let has_moved = self.done().ledger.migrations > 0;
            if now == before || (has_moved && now.abs_diff(before) == 1) {
                return;
            }
            let mechanism = &self.mechanism;
            assert!(began.elapsed() < PATIENCE, "{mechanism}: {now} descriptors are open, and were {before}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What it may keep when all have gone is for those to come: less than what one that is served may take. And
    /// pthread_create(3) of glibc keeps up to 40 MiB of the stacks of threads that have ended.
    pub(crate) fn may_keep(&self) -> u64 {
        let stacks = if self.mechanism.abilities().blocking { 40 * 1024 * 1024 } else { 0 };
        self.may_take(1, self.config.limits.message as u64) + stacks
    }

    /// The end, when all peers have gone but the neighbour: it is served, all else was freed, and not too much was
    /// said. What the server has done meanwhile is returned.
    pub(crate) fn end(mut self) -> Stats {
        self.neighbour_is_served();
        let neighbours = self.neighbours();
        self.until("all have gone", |stats| stats.open == neighbours);
        self.has_its_descriptors_back();
        self.is_quiet();
        let done = self.has_not_spun();
        // Accepted, lost or refused, closed; and a word or two for what happened to all of them.
        let (log, peers) = (self.log(), done.accepted + done.refused);
        let lines = log.values().sum::<u64>();
        assert!(lines <= 4 * (peers + 2) + 40, "{}: {lines} lines for {peers} connections: {log:?}", self.mechanism);
        self.has_grown_by_at_most(self.may_keep());
        drop(self.neighbour.take());
        drop(self.child.orders.take());
        let stats: Stats = self.child.hear();
        assert_eq!((stats.open, stats.accepted), (0, stats.closed), "{}: a slot is left", self.mechanism);
        assert!(self.child.child.wait().expect("a child").success(), "{}", self.mechanism);
        done
    }
}

/// A server that is kept from running.
pub(crate) struct Stopped<'a>(&'a mut Hosted);

impl Stopped<'_> {
    pub(crate) fn connect(&self) -> Peer {
        self.0.connect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.child.kill(Signal::CONT);
    }
}

/// Says what is left out where it is read, whatever else is captured.
pub(crate) fn say_once(what: &str) {
    static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(what.to_owned()) {
        let _ = writeln!(io::stderr(), "{what}"); // nowhere is left to complain to
    }
}
