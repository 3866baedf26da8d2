//! A server that is not ours: a command of somebody else's, started, measured from outside, and ended.
//!
//! The child that starts it does nothing else: it binds itself to the CPU and opens the counters, both of which the
//! server inherits, and is there to end it, also when the parent is killed. What the server prints is read, so that it
//! never waits for a reader; the beginning of what it complains about is kept for the error text.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::instructions::{self, Counters};
use super::orders::answer;
use super::serve::free_port;
use super::started::{GLANCE, LAST_WORDS, Words, apart, wait_at_most};
use super::wire::{Instructions, Lap, Launch, ServerAnswer, ServerOrder};
use crate::cpus;
use crate::usage::tree::Tree;

/// How long it may take until it can be connected to.
const READY: Duration = Duration::from_secs(10);
/// How long it may take to end when it is asked to; then it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// How long whoever waits for this child has to, so that the server's end is still seen to.
pub(super) const END: Duration = Duration::from_secs(5);

/// What runs, where whoever ends this process finds it.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// Starts it, and tells its account until there are no more orders.
pub(super) fn run(launch: &Launch, cpu: Option<usize>, count_instructions: bool, orders: &Receiver<ServerOrder>) {
    let mut watch = match Watch::begin(launch, cpu, count_instructions) {
        Ok((watch, reply)) => {
            answer(&reply);
            watch
        }
        Err(error) => {
            answer(&ServerAnswer::Failed(error.to_string()));
            return;
        }
    };
    while let Ok(order) = orders.recv() {
        answer(&match order {
            ServerOrder::Lap { memory } => match watch.lap(memory) {
                Ok(lap) => ServerAnswer::Lap(Box::new(lap)),
                Err(error) => ServerAnswer::Failed(error.to_string()),
            },
            order => ServerAnswer::Failed(format!("not to be asked of a server that is not ours: {order:?}")),
        });
    }
}

/// Ends what runs, if anything does: asked first, then killed, with all it has started in its group. Whoever comes
/// second waits for that; and until what is returned is dropped, nothing is started.
pub(super) fn end() -> impl Drop {
    let mut place = lock();
    let Some(mut running) = place.take() else { return place };
    if running.ended().is_none() {
        running.signal(false);
        let _ = wait_at_most(&mut running.process, GRACE);
    }
    // Of the group there may be others left.
    running.signal(true);
    let _ = running.process.kill();
    let _ = running.process.wait();
    place
}

fn lock() -> std::sync::MutexGuard<'static, Option<Running>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A command that was started.
struct Running {
    name: String,
    process: process::Child,
    complaints: Words,
}

impl Running {
    fn start(launch: &Launch, address: SocketAddr) -> io::Result<Running> {
        let mut command = Command::new(&launch.program);
        command.args(launch.arguments.iter().map(|argument| insert(argument, address)));
        command.current_dir(&launch.directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it starts is of its group, and ended with it.
        apart(&mut command);
        command.env_remove(super::ROLE_VARIABLE);
        let about = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: cannot start {:?}: {error}", launch.name, launch.program))
        };
        let mut process = command.spawn().map_err(about)?;
        let mut output = process.stdout.take().expect("piped above");
        let errors = process.stderr.take().expect("piped above");
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        Ok(Running { name: launch.name.clone(), process, complaints: Words::of(errors, LAST_WORDS) })
    }

    /// How it has ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// An error, if it has ended.
    fn check(&mut self) -> io::Result<()> {
        let Some(status) = self.ended() else { return Ok(()) };
        let name = &self.name;
        let words = self.complaints.last();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(io::Error::other(match words.as_str() {
            "" => format!("{name} has ended ({status})"),
            words => format!("{name} has ended ({status}): {words}"),
        }))
    }

    /// Asks its whole group to end, or kills it.
    #[cfg(unix)]
    fn signal(&self, kill: bool) {
        use rustix::process::{Pid, Signal, kill_process_group};
        let group = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let signal = if kill { Signal::KILL } else { Signal::TERM };
        let _ = group.map(|group| kill_process_group(group, signal));
    }

    /// There is no such question here: it is killed.
    #[cfg(not(unix))]
    fn signal(&mut self, _kill: bool) {
        let _ = self.process.kill();
    }
}

/// The address, in place of what stands for it.
fn insert(argument: &str, address: SocketAddr) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    argument.replace("{addr}", &address.to_string()).replace("{host}", &host).replace("{port}", &port)
}

/// The server's account, kept from outside.
struct Watch {
    tree: Tree,
    counters: Option<Counters>,
    counted: Option<Instructions>,
}

impl Watch {
    fn begin(launch: &Launch, cpu: Option<usize>, count_instructions: bool) -> io::Result<(Watch, ServerAnswer)> {
        // Before it is started, which inherits both.
        let unpinned = cpus::unpinned(cpu);
        let (counters, uncounted) = instructions::open(count_instructions);
        let address = free_port(Ipv4Addr::LOCALHOST.into())?;
        let tree = {
            let mut place = lock();
            let running = place.insert(Running::start(launch, address)?);
            Tree::of(running.process.id())
        };
        if let Err(error) = wait_for(address) {
            drop(end());
            return Err(error);
        }
        let watch = Watch { tree, counters, counted: None };
        Ok((watch, ServerAnswer::Serving { address: address.into(), unpinned, uncounted }))
    }

    fn lap(&mut self, memory: bool) -> io::Result<Lap> {
        check()?;
        let now = self.counters.as_mut().and_then(Counters::read);
        let before = std::mem::replace(&mut self.counted, now);
        Ok(Lap {
            cpu: self.tree.cpu_since(),
            user: None,
            system: None,
            instructions: now.map(|now| now - before.unwrap_or_default()),
            stats: None,
            open_by_thread: Vec::new(),
            slept: None,
            memory: if memory { self.tree.memory() } else { None },
        })
    }
}

fn check() -> io::Result<()> {
    match &mut *lock() {
        Some(running) => running.check(),
        None => Err(io::Error::other("the server has been ended")),
    }
}

/// Until it can be connected to.
fn wait_for(address: SocketAddr) -> io::Result<()> {
    let began = Instant::now();
    loop {
        check()?;
        match TcpStream::connect_timeout(&address, READY) {
            Ok(stream) => {
                // Nobody else took the port: then it would have ended for want of it.
                check()?;
                // Reset, so that nothing is left in TIME_WAIT.
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            Err(_) if began.elapsed() < READY => thread::sleep(GLANCE),
            Err(error) => {
                let seconds = READY.as_secs();
                return Err(io::Error::new(error.kind(), format!("cannot be connected to for {seconds} s: {error}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stands_where_the_command_wants_it() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_711));
        let inserted =
            ["{addr}", "--listen={host}", "{port}", "tcp://{host}:{port}", "{}"].map(|one| insert(one, address));
        assert_eq!(inserted, ["127.0.0.1:4711", "--listen=127.0.0.1", "4711", "tcp://127.0.0.1:4711", "{}"]);
    }
}
