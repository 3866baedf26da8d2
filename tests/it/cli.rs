//! The command as a person meets it: what it prints, how it fails, and what it survives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::server::PATIENCE;

pub(crate) fn pollmark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollmark"));
    command.args(arguments).env_remove("POLLMARK_BACKEND").stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    pollmark(arguments).output().expect("the command starts")
}

/// Fails with `code` and one line on stderr that contains all of `words`.
pub(crate) fn fails(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "not one line: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}

/// A server as a child process.
pub(crate) struct Serving {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a first line");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("not an address: {line:?}"));
        Serving { child, address }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("the server listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client
    }

    #[cfg(unix)]
    fn interrupt(mut self, signal: rustix::process::Signal) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it runs");
        let status = self.child.wait().expect("it ends");
        let mut said = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (status.code(), said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn echoes(client: &mut TcpStream, bytes: &[u8]) -> bool {
    let mut echoed = vec![0; bytes.len()];
    client.write_all(bytes).is_ok() && client.read_exact(&mut echoed).is_ok() && echoed == bytes
}

#[test]
fn every_mechanism_is_listed_with_what_it_can_do_or_why_it_is_not_here() {
    let output = run(&["backends"]);
    let listed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for name in ["select", "poll", "epoll", "kqueue", "polling", "threads"] {
        assert!(listed.lines().any(|line| line.split_whitespace().any(|word| word == name)), "{name}: {listed}");
    }
}

#[test]
fn bad_input_is_answered_in_one_line_that_says_what_to_do() {
    fails(&run(&["serve", "--backend", "eqoll"]), 2, &["eqoll", "available", "poll", "threads"]);
    fails(&run(&["serve", "--listen", "127.0.0.1"]), 2, &["127.0.0.1", "port is missing", "HOST:PORT"]);
    fails(&run(&["serve", "--listen", "256.0.0.1:1"]), 2, &["256.0.0.1:1", "HOST:PORT"]);
    fails(&run(&["serve", "--protocol", "gopher"]), 2, &["gopher", "echo"]);
    fails(&run(&["serve", "--max-connections", "many"]), 2, &["many", "--max-connections"]);
    fails(
        &pollmark(&["serve"]).env("POLLMARK_BACKEND", "eqoll").output().expect("starts"),
        2,
        &["POLLMARK_BACKEND", "eqoll", "available"],
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    fails(&run(&["serve", "--listen", &address]), 1, &[&address, "in use", "another port"]);
    #[cfg(target_os = "linux")]
    fails(&run(&["serve", "--backend", "kqueue"]), 2, &["kqueue", "macOS"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_privileged_port_is_refused_with_advice_where_it_is_privileged() {
    let floor = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("readable");
    if rustix::process::geteuid().is_root() || floor.trim() == "0" {
        // Privilege cannot be given up safely inside a test; the message itself is tested beside `explain`.
        println!("not tried: this user may use every port");
        return;
    }
    fails(&run(&["serve", "--listen", "127.0.0.1:80"]), 1, &["127.0.0.1:80", "privilege", "higher"]);
}

#[test]
fn the_environment_chooses_the_backend_where_nothing_else_does() {
    let mut command = pollmark(&["serve"]);
    command.env("POLLMARK_BACKEND", "select");
    assert!(echoes(&mut Serving::start(command).connect(), b"by select"));
}

#[test]
#[cfg(unix)]
fn a_signal_stops_the_server_cleanly_and_its_account_is_given() {
    for (signal, name) in [(rustix::process::Signal::INT, "poll"), (rustix::process::Signal::TERM, "threads")] {
        let serving = Serving::start(pollmark(&["serve", "--backend", name]));
        let mut client = serving.connect();
        assert!(echoes(&mut client, b"hello"));
        let (code, said) = serving.interrupt(signal);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("1 accepted") && said.contains("5 B in, 5 B out"), "{said}");
        assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    }
}

/// Descriptors run out for real: the shell lowers the limit, both the soft and the hard one.
#[test]
#[cfg(unix)]
fn out_of_descriptors_the_server_turns_newcomers_away_and_keeps_the_others() {
    for name in ["poll", "threads"] {
        let mut command = Command::new("sh");
        let serve = format!("ulimit -n 40 && exec {} serve --backend {name}", env!("CARGO_BIN_EXE_pollmark"));
        command.args(["-c", &serve]);
        let serving = Serving::start(command);
        let mut clients = (0..60).map(|_| serving.connect()).collect::<Vec<_>>();
        // Whoever was let in is served; the rest are closed, or wait in the kernel's queue.
        assert!(echoes(&mut clients[0], b"first come"));
        let before = cpu_ticks(serving.child.id());
        std::thread::sleep(Duration::from_millis(300));
        if let (Some(before), Some(after)) = (before, cpu_ticks(serving.child.id())) {
            assert!(after - before <= 15, "{name} spins: {} ticks of CPU in 0.3 s", after - before);
        }
        assert!(echoes(&mut clients[0], b"still here"));
        clients.truncate(5);
        let began = Instant::now();
        while !echoes(&mut serving.connect(), b"room again") {
            assert!(began.elapsed() < PATIENCE, "{name} never recovered");
        }
    }
}

/// The account is not an estimate: strace(1), counting from outside, comes to the same figures, call by call.
#[test]
#[cfg(target_os = "linux")]
fn the_servers_account_equals_what_strace_counts() {
    use pollmark::backends::Registry;
    use pollmark::mechanism::Mechanism;

    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing, and CI promised this check");
        println!("NOT CHECKED: strace is not installed (Debian: apt-get install strace)");
        return;
    }
    let registry = Registry::builtin();
    for mechanism in Mechanism::all(&registry) {
        let Ok(capabilities) = mechanism.probe(&registry) else { continue };
        let trace = std::env::temp_dir().join(format!("pollmark-{}-{mechanism}.strace", std::process::id()));
        let mut command = Command::new("strace");
        command.args(["-f", "-Y", "-qq", "-e", "signal=none", "-o"]).arg(&trace);
        command.arg(env!("CARGO_BIN_EXE_pollmark")).args(["serve", "--json", "--backend", mechanism.name()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("strace starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
        let address = lines.next().expect("a first line");
        script(&address);

        let traced = std::fs::read_to_string(&trace).expect("a trace");
        let server = traced.split('<').next().expect("a process").parse().expect("its number");
        let server = rustix::process::Pid::from_raw(server).expect("not 0");
        rustix::process::kill_process(server, rustix::process::Signal::TERM).expect("it runs");
        let account: serde_json::Value = serde_json::from_str(&lines.next().expect("an account")).expect("JSON");
        assert!(child.wait().expect("it ends").success());

        let traced = std::fs::read_to_string(&trace).expect("a trace");
        // From the first line of output on: before it, mechanisms are probed.
        let (_, traced) = traced.split_once("write(1, ").expect("the address was printed");
        // Not the server's: the thread that waits for signals, and what the library that catches them tells its pipe.
        let foreign = |line: &str| line.contains("<signals>") || line.contains("MSG_DONTWAIT");
        let ours = traced.lines().filter(|line| !foreign(line)).collect::<Vec<_>>();
        let made = |names: &[&str]| ours.iter().filter(|line| names.iter().any(|name| is_call(line, name))).count();
        let counted = |field: &str| account[field].as_u64().expect("a count") as usize;
        println!("{mechanism}: {account}");
        assert_eq!(made(&["accept4"]), counted("accept_calls"), "{mechanism}: accept4");
        assert_eq!(made(&["recvfrom"]), counted("read_calls"), "{mechanism}: recvfrom");
        assert_eq!(made(&["sendto"]), counted("write_calls"), "{mechanism}: sendto");
        assert_eq!(counted("closed"), 12, "{mechanism}: closed");
        // A derived count is checked beside its poller, where nothing else makes the same calls.
        if let Some(calls) = capabilities.map(|capabilities| capabilities.calls).filter(|_| account["derived"] == false)
        {
            // fcntl(2) is select's search for a bad number, of which there is none; std's debug builds check with it.
            let waits = calls.wait.iter().copied().filter(|name| *name != "fcntl").collect::<Vec<_>>();
            assert_eq!(made(&waits), counted("wait_calls"), "{mechanism}: {waits:?}");
            assert_eq!(made(calls.change), counted("change_calls"), "{mechanism}: {:?}", calls.change);
        }
        let _ = std::fs::remove_file(trace);
    }
}

/// Whether a line of a trace is the beginning of a call of this name: `123<thread> name(…`, also if it is resumed later.
#[cfg(target_os = "linux")]
fn is_call(line: &str, name: &str) -> bool {
    let call = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    call.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
}

/// Twelve connections that echo, half-close, reset or say nothing, in turn.
#[cfg(target_os = "linux")]
fn script(address: &str) {
    for round in 0..12 {
        let mut client = TcpStream::connect(address).expect("listening");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        if round % 4 != 3 {
            assert!(echoes(&mut client, &vec![round; 1 + 9_000 * usize::from(round)]));
        }
        if round % 3 == 0 {
            client.shutdown(std::net::Shutdown::Write).expect("a half-close");
            assert_eq!(client.read(&mut [0]).expect("the end"), 0);
        }
        if round % 5 == 0 {
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a reset on close");
        }
    }
}

/// User and system time of a process, in ticks of the clock.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
