//! The command as a person meets it: what it prints, how it fails, and what it survives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
#[cfg(target_os = "linux")]
use std::process::Output;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use crate::suite::PATIENCE;

#[path = "../suite/commands.rs"]
mod commands;
pub(crate) use commands::{fails, pollmark, run};

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
    pub(crate) fn interrupt(mut self, signal: rustix::process::Signal) -> (Option<i32>, String) {
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
    for name in ["select", "poll", "epoll", "kqueue", "polling", "threads", "iterative"] {
        assert!(listed.lines().any(|line| line.split_whitespace().any(|word| word == name)), "{name}: {listed}");
    }
}

#[test]
fn bad_input_is_answered_in_one_line_that_says_what_to_do() {
    fails(&run(&["serve", "--backend", "eqoll"]), 2, &["eqoll", "available", "poll", "threads"]);
    fails(&run(&["serve", "--listen", "127.0.0.1"]), 2, &["127.0.0.1", "port is missing", "HOST:PORT"]);
    fails(&run(&["serve", "--listen", "256.0.0.1:1"]), 2, &["256.0.0.1:1", "HOST:PORT"]);
    fails(&run(&["serve", "--protocol", "gopher"]), 2, &["gopher", "echo", "frame", "http", "resp", "ws"]);
    fails(&run(&["serve", "--protocol", "resp", "--processes", "2"]), 2, &["--processes", "keys and values"]);
    #[cfg(feature = "ws")]
    fails(&run(&["serve", "--protocol", "ws", "--processes", "2"]), 2, &["--processes", "a broadcast of its own"]);
    fails(&run(&["serve", "--listen", "unix:"]), 2, &["path is missing", "unix:/PATH"]);
    fails(&run(&["serve", "--unix-mode", "rw"]), 2, &["--unix-mode", "octal digits"]);
    fails(&run(&["serve", "--max-connections", "many"]), 2, &["many", "--max-connections"]);
    fails(&run(&["serve", "--idle-timeout", "5"]), 2, &["--idle-timeout", "500ms"]);
    fails(&run(&["serve", "--total-timeout", "0s"]), 2, &["--total-timeout", "at once", "leave it out"]);
    fails(&run(&["serve", "--max-connections", "1", "--when-full", "drop"]), 2, &["drop", "close, pause and reply"]);
    fails(&run(&["serve", "--accept", "two"]), 2, &["two", "--accept", "drain:N", "multishot"]);
    fails(&run(&["serve", "--threads", "0"]), 2, &["--threads", "between 1 and"]);
    fails(&run(&["serve", "--pin", "auto", "--processes", "2"]), 2, &["--pin", "--processes"]);
    fails(&run(&["serve", "--proxy-protocol", "10.0.0.0/8"]), 2, &["--proxy-protocol", "from="]);
    fails(&run(&["serve", "--proxy-protocol", "from=10.0.0.0/8,proxy"]), 2, &["\"proxy\"", "address"]);
    fails(&run(&["serve", "--sharing", "fairly"]), 2, &["fairly", "reuseport, shared, exclusive, handout"]);
    fails(&run(&["serve", "--pin", "each"]), 2, &["each", "auto"]);
    let exclusively = ["--threads", "2", "--sharing", "exclusive"];
    fails(
        &run(&[&["serve", "--backend", "poll"], &exclusively[..]].concat()),
        2,
        &["poll", "exclusively", "all of them"],
    );
    fails(&run(&["serve", "--on-exhaustion", "panic"]), 2, &["panic", "shed", "pause"]);
    fails(&run(&["serve", "--backend", "poll", "--accept", "multishot"]), 2, &["poll", "cannot", "multishot"]);
    fails(&run(&["serve", "--backend", "iterative", "--accept", "drain:2"]), 2, &["iterative", "cannot", "drain"]);
    fails(
        &pollmark(&["serve"]).env("POLLMARK_BACKEND", "eqoll").output().expect("starts"),
        2,
        &["POLLMARK_BACKEND", "eqoll", "available"],
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    fails(&run(&["serve", "--listen", &address]), 1, &[&address, "another socket listens there", "another port"]);
    #[cfg(unix)]
    fails(&run(&["serve", "--listen", "unix:/dev/null"]), 1, &["unix:/dev/null", "no socket", "another path"]);
    #[cfg(target_os = "linux")]
    fails(&run(&["serve", "--backend", "kqueue"]), 2, &["kqueue", "macOS"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_privileged_port_is_refused_with_advice_where_it_is_privileged() {
    let floor = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("readable");
    if floor.trim() == "0" {
        return println!("NOT CHECKED: on this host no port is privileged");
    }
    let arguments = ["serve", "--listen", "127.0.0.1:80"];
    let refused = if rustix::process::geteuid().is_root() { by_nobody(&arguments) } else { run(&arguments) };
    fails(&refused, 1, &["127.0.0.1:80", "privilege", "higher"]);
}

/// Run by a user who may do nothing in particular, from a copy: where the build lies, only root may look.
#[cfg(target_os = "linux")]
fn by_nobody(arguments: &[&str]) -> Output {
    use std::os::unix::process::CommandExt as _;

    const NOBODY: u32 = 65_534;
    let copy = std::env::temp_dir().join(format!("pollmark-of-nobody-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_pollmark"), &copy).expect("a copy");
    let output = Command::new(&copy).args(arguments).uid(NOBODY).gid(NOBODY).current_dir("/").output();
    std::fs::remove_file(&copy).expect("it was made");
    output.expect("everybody may run it")
}

#[test]
fn the_environment_chooses_the_backend_where_nothing_else_does() {
    let mut command = pollmark(&["serve"]);
    command.env("POLLMARK_BACKEND", "select");
    assert!(echoes(&mut Serving::start(command).connect(), b"by select"));
}

#[test]
fn policies_and_limits_of_the_command_line_reach_the_server() {
    let knobs = ["--accept", "one", "--on-exhaustion", "pause", "--thread-limit", "1", "--stack-size", "200000"];
    let serving = Serving::start(pollmark(&[&["serve", "--backend", "threads"][..], &knobs].concat()));
    let (mut first, mut second) = (serving.connect(), serving.connect());
    assert!(echoes(&mut first, b"the only thread's"));
    second.write_all(b"mine when it is free").expect("the kernel takes it");
    second.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    second.read(&mut [0]).expect_err("one thread serves one connection");
    drop(first);
    second.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(second.read(&mut [0; 64]).expect("its turn"), 20);
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

#[test]
#[cfg(unix)]
fn several_threads_share_a_port_and_the_account_tells_the_part_of_each() {
    let mut command = pollmark(&["serve", "--backend", "poll", "--threads", "3", "--sharing", "handout"]);
    let bound = !pollmark::cpus::allowed().is_empty();
    if bound {
        command.args(["--pin", "auto"]);
    } else {
        fails(&run(&["serve", "--threads", "2", "--pin", "auto"]), 2, &["this system binds no thread to a CPU"]);
    }
    let serving = Serving::start(command);
    let mut clients = (0..6).map(|_| serving.connect()).collect::<Vec<_>>();
    assert!(clients.iter_mut().all(|client| echoes(client, b"hello")));
    let (code, said) = serving.interrupt(rustix::process::Signal::INT);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("6 accepted") && said.contains("30 B in, 30 B out"), "{said}");
    assert!(said.contains("accepted by each of 3 threads: 2, 2, 2; fairness 1.00"), "{said}");
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
    // Of several threads those whose connections stand in one queue: the last in it is served after all of them.
    let groups = [("epoll", "shared"), ("epoll", "exclusive"), ("uring", "exclusive"), ("poll", "handout")];
    let named = |name| Mechanism::parse(&registry, name).expect("it is known");
    let groups = groups.map(|(name, way)| (named(name), vec!["--threads", "2", "--sharing", way]));
    let alone = Mechanism::all(&registry).into_iter().map(|mechanism| (mechanism, Vec::new()));
    for (mechanism, sharing) in alone.chain(groups) {
        let Ok(capabilities) = mechanism.probe(&registry) else { continue };
        let trace = std::env::temp_dir().join(format!("pollmark-{}-{mechanism}.strace", std::process::id()));
        let mut command = Command::new("strace");
        command.args(["-f", "-Y", "-qq", "-e", "signal=none", "-o"]).arg(&trace);
        command
            .arg(env!("CARGO_BIN_EXE_pollmark"))
            .args(["serve", "--json", "--backend", mechanism.name()])
            .args(&sharing);
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
        println!("{mechanism} {sharing:?}: {account}");
        assert_eq!(counted("closed"), 13, "{mechanism}: closed");
        let calls_of_its_own = usize::from(counted("operations") == 0);
        assert_eq!(made(&["accept4"]), calls_of_its_own * counted("accept_calls"), "{mechanism}: accept4");
        assert_eq!(made(&["recvfrom"]), calls_of_its_own * counted("read_calls"), "{mechanism}: recvfrom");
        assert_eq!(made(&["sendto"]), calls_of_its_own * counted("write_calls"), "{mechanism}: sendto");
        if calls_of_its_own == 0 {
            let operations = ["accept_calls", "read_calls", "write_calls", "closed", "refused"].map(counted);
            assert_eq!(counted("operations"), operations.iter().sum::<usize>(), "{mechanism}: each of them");
            assert_eq!(made(&["io_uring_enter"]), counted("wait_calls"), "{mechanism}: io_uring_enter");
            assert_eq!(counted("calls"), counted("wait_calls") + counted("other_calls"), "{mechanism}: all calls");
        }
        // A derived count is checked beside its poller, where nothing else makes the same calls.
        if let Some(calls) = capabilities.map(|capabilities| capabilities.calls).filter(|_| account["derived"] == false)
        {
            // fcntl(2) is select's search for a bad number, of which there is none; std's debug builds check with it.
            let waits = calls.wait.iter().copied().filter(|name| *name != "fcntl").collect::<Vec<_>>();
            if calls.change.iter().any(|change| waits.contains(change)) {
                // One more is for polls still under way when a poller is dropped, after it was asked for its ledger; or
                // a few, where a thread of the kernel's has to let go of them.
                let told = counted("wait_calls") + counted("change_calls");
                let pollers = account["threads"].as_array().map_or(1, Vec::len);
                let most = if mechanism.name() == "uring-sqpoll" { 6 } else { pollers };
                let untold = made(&waits).checked_sub(told).filter(|untold| (pollers..=most).contains(untold));
                assert!(untold.is_some(), "{mechanism}: {} of {waits:?}, and {told} are told", made(&waits));
            } else {
                assert_eq!(made(&waits), counted("wait_calls"), "{mechanism}: {waits:?}");
                assert_eq!(made(calls.change), counted("change_calls"), "{mechanism}: {:?}", calls.change);
            }
        }
        let _ = std::fs::remove_file(trace);
    }
}

/// What a server is charged for is the sum over its threads, and the kernel's is among them. Read from outside, the sum
/// is that of getrusage(2) and of the process's clock.
#[test]
#[cfg(target_os = "linux")]
fn the_time_of_the_kernels_thread_is_the_servers() {
    let registry = pollmark::backends::Registry::builtin();
    if let Err(why) = registry.get("uring-sqpoll").expect("built in").probe() {
        println!("SKIPPED, NOT CHECKED: {why}");
        return;
    }
    let server = Serving::start(pollmark(&["serve", "--backend", "uring-sqpoll"]));
    let process = server.child.id();
    let mut client = server.connect();
    let began = Instant::now();
    loop {
        assert!(echoes(&mut client, b"keeps the thread awake"));
        let (mut kernels, mut sum) = (0, 0);
        for task in std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs") {
            let task = task.expect("a thread").path();
            // One that probed something may be gone by now.
            let (Some(ticks), Ok(name)) = (ticks(&task), std::fs::read_to_string(task.join("comm"))) else { continue };
            kernels += if name.starts_with("iou-sqp-") { ticks } else { 0 };
            sum += ticks;
        }
        // Read last, so that it is not less; but each part was rounded down by itself.
        let whole = cpu_ticks(process).expect("it runs");
        assert!(whole + 2 >= sum, "the process has {whole} ticks, its threads {sum}, {kernels} of them the kernel's");
        if kernels >= 20 {
            break;
        }
        assert!(began.elapsed() < 6 * PATIENCE, "the kernel's thread hardly ran: {kernels} ticks");
    }
}

/// Whether a line of a trace is the beginning of a call of this name: `123<thread> name(…`, also if it is resumed
/// later.
#[cfg(target_os = "linux")]
fn is_call(line: &str, name: &str) -> bool {
    let call = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
    call.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
}

/// Thirteen connections that echo, half-close, reset or say nothing, in turn. The last is served to its end, so all
/// before it have been accepted.
#[cfg(target_os = "linux")]
fn script(address: &str) {
    for round in 0..13 {
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
#[cfg(unix)]
pub(crate) fn cpu_ticks(pid: u32) -> Option<u64> {
    ticks(format!("/proc/{pid}").as_ref())
}

/// The same of whatever has such a folder, process or thread.
#[cfg(unix)]
fn ticks(folder: &std::path::Path) -> Option<u64> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[test]
#[cfg(unix)]
fn each_of_several_addresses_is_printed_and_served_and_a_path_goes_with_the_server() {
    use std::os::unix::{fs::PermissionsExt, net::UnixStream};
    let path = std::env::temp_dir().join(format!("pollmark-cli-{}.sock", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let mut command = pollmark(&["serve", "--listen", "127.0.0.1:0", "--listen", &unix, "--unix-mode", "600"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the server starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    let address = lines.next().expect("the first address").parse::<SocketAddr>().expect("of TCP");
    let serving = Serving { child, address };
    assert_eq!(lines.next(), Some(unix));
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(echoes(&mut serving.connect(), b"over TCP"));
    let mut client = UnixStream::connect(&path).expect("it listens");
    let mut echoed = [0; 8];
    client.write_all(b"and here").and_then(|()| client.read_exact(&mut echoed)).expect("an echo");
    assert_eq!(&echoed, b"and here");

    let (code, said) = serving.interrupt(rustix::process::Signal::TERM);
    assert_eq!(code, Some(0), "{said}");
    assert!(!path.exists(), "the path outlives the server");
}
