//! Every ledger beside strace: the calls a poller says it made are those the kernel saw, one for one.
//!
//! The session runs in a process of its own, this test program executed again under strace(1), and is marked by two
//! writes. Between them, in that thread, there must be no call that is not accounted for.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pollmark_backends::{
    AsSource, Calls, Events, Interest, Ledger, OwnedSource, Poller, Registry, Token, Trigger, waker,
};

const BEGIN: &str = "pollmark: session begins";
const END: &str = "pollmark: session ends";
const MECHANISM: &str = "POLLMARK_SESSION";

#[test]
fn every_ledger_equals_what_strace_counts() {
    let _turn = crate::alone();
    if let Err(why) = strace_works() {
        assert!(std::env::var_os("CI").is_none(), "{why}: install strace, CI must not skip this");
        println!("SKIPPED, NOT CHECKED: {why}; with strace installed this test compares every ledger with its counts");
        return;
    }
    let registry = Registry::builtin();
    for entry in registry.entries() {
        let Ok(capabilities) = entry.probe() else { continue };
        let (told, counted) = trace(entry.name());
        compare(entry.name(), capabilities.calls, told, &counted);
    }
}

/// What a session said of itself.
struct Told {
    wait_calls: u64,
    change_calls: u64,
    migrations: u64,
}

fn compare(name: &str, calls: Calls, told: Told, counted: &BTreeMap<String, u64>) {
    println!("{name}: ledger {} for waits, {} for changes; strace {counted:?}", told.wait_calls, told.change_calls);
    let count = |names: &[&str]| names.iter().filter_map(|name| counted.get(*name)).sum::<u64>();
    // Every second move leaves a mechanism that has a descriptor. The other close(2) are those of sources.
    let left = told.migrations / 2;
    assert_eq!(count(&["close"]), SOCKETS + left, "{name}: calls of close");
    let shared = calls.wait.iter().any(|call| calls.change.contains(call));
    if !shared {
        assert_eq!(count(calls.wait), told.wait_calls, "{name}: calls for waits, {:?}", calls.wait);
        assert_eq!(count(calls.change) + left, told.change_calls, "{name}: calls for changes, {:?}", calls.change);
    }
    let mut all = [calls.wait, calls.change].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(count(&all) + left, told.wait_calls + told.change_calls, "{name}: calls in all, {all:?}");
    assert_eq!(told.migrations, if name == "adaptive" { 4 } else { 0 }, "{name}: what the crowd is for");
    assert!(told.wait_calls > 0, "{name}: the session waited");

    // close(2) is the caller's to count; the rest is the script's own traffic, and the allocator.
    let own = ["close", "sendto", "recvfrom", "brk", "mmap", "munmap", "mremap", "madvise", "clock_gettime"];
    let stray = |call: &&String| !all.contains(&call.as_str()) && !own.contains(&call.as_str());
    assert_eq!(counted.keys().find(stray), None, "{name}: a call that no ledger names; counted: {counted:?}");
}

/// Runs the session of one mechanism under strace and returns its ledger and the calls between the marks.
fn trace(name: &str) -> (Told, BTreeMap<String, u64>) {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("strace-{name}-{}", std::process::id()));
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", "ledger::session", "--ignored", "--nocapture", "--test-threads=1"])
        .env(MECHANISM, name)
        .output()
        .expect("strace was there a moment ago");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the session of {name} failed:\n{out}{err}");
    let told = out.lines().find_map(|line| line.split_once("ledger: ")).expect("the session prints its ledger").1;
    let mut numbers = told.split(' ').map(|number| number.parse().expect("the session prints numbers"));
    let mut next = || numbers.next().expect("the session prints three numbers");
    let told = Told { wait_calls: next(), change_calls: next(), migrations: next() };

    let lines = std::fs::read_to_string(&log).expect("strace wrote its log");
    std::fs::remove_file(&log).expect("the log is ours");
    (told, count_between_marks(&lines))
}

/// Counts the calls of the thread that wrote the marks. A line is `thread name(arguments) = result`.
fn count_between_marks(log: &str) -> BTreeMap<String, u64> {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let mut marked = None;
    let mut asked = None;
    for line in log.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if call.contains(BEGIN) {
            marked = Some(thread);
        } else if call.contains(END) {
            counted.retain(|_, times| *times > 0);
            return counted;
        } else if marked == Some(thread)
            // The second half of a call during which another thread made one begins with `<...`.
            && let Some((name, _)) = call.split_once('(').filter(|(name, _)| !name.starts_with('<'))
        {
            *counted.entry(name.to_owned()).or_default() += 1;
            // Built with debug assertions, std asks whether a number is open before it closes it. That is not ours.
            let number = call.split_once('(').and_then(|(_, arguments)| arguments.split([',', ')']).next());
            if name == "close" && number.is_some() && number == asked {
                *counted.get_mut("fcntl").expect("it was just counted") -= 1;
            }
            asked = number.filter(|_| call.contains("F_GETFD"));
        }
    }
    panic!("the log lacks a mark:\n{log}");
}

fn strace_works() -> Result<(), String> {
    match Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("strace cannot be run: {error}")),
    }
}

/// What is traced. Not a test of its own: only with the variable set does it do anything.
#[test]
#[ignore = "executed under strace by the test above"]
fn session() {
    let Ok(name) = std::env::var(MECHANISM) else { return };
    let mut poller = Registry::builtin().get(&name).expect("the parent knows it").open().expect("and probed it");
    let bind = |_| UdpSocket::bind(("127.0.0.1", 0)).expect("loopback can be bound");
    let sockets: Vec<_> = (0..FEW).map(bind).collect();
    let crowd: Vec<_> = (FEW..SOCKETS).map(bind).collect();
    let (waker, wakes) = waker().expect("a waker can be made");
    waker.wake();

    io::stderr().write_all(BEGIN.as_bytes()).expect("stderr is open");
    script(&mut *poller, sockets, &wakes).expect("the script knows what fails");
    come_and_go(&mut *poller, crowd).expect("nothing fails");
    io::stderr().write_all(END.as_bytes()).expect("stderr is open");

    let Ledger { wait_calls, change_calls, migrations, .. } = poller.ledger();
    println!("ledger: {wait_calls} {change_calls} {migrations}");
}

/// Sockets of the script.
const FEW: u64 = 8;

/// All that are closed while calls are counted.
const SOCKETS: u64 = 48;

/// A crowd that is watched for a while, and is gone for a while, twice: so that whoever moves for it does so four
/// times.
fn come_and_go(poller: &mut dyn Poller, crowd: Vec<UdpSocket>) -> io::Result<()> {
    let mut events = Events::with_capacity(3);
    let mut look_often =
        |poller: &mut dyn Poller| (0..100).try_for_each(|_| poller.wait(&mut events, Some(Duration::ZERO)));
    for last in [false, true] {
        for (slot, socket) in (0..).zip(&crowd) {
            poller.add(socket.as_source(), Token::new(slot, 1), Interest::READABLE, Trigger::Level)?;
        }
        look_often(poller)?;
        if !last {
            crowd.iter().try_for_each(|socket| poller.remove(socket.as_source()))?;
            look_often(poller)?;
        }
    }
    crowd.into_iter().try_for_each(|socket| poller.close(OwnedSource::from(socket)))?;
    look_often(poller)
}

/// Every change of a source that other pollers may watch too. It is left as it was found.
fn shared(poller: &mut dyn Poller, socket: &UdpSocket, events: &mut Events) -> io::Result<()> {
    let (source, token) = (socket.as_source(), Token::new(2, 1));
    for interest in [Interest::WRITABLE, Interest::EMPTY] {
        poller.remove(source)?;
        poller.add_exclusive(source, token, Interest::WRITABLE)?;
        let refused = poller.add_exclusive(source, token, Interest::WRITABLE);
        assert_eq!(refused.expect_err("it is known").kind(), io::ErrorKind::AlreadyExists);
        poller.wait(events, Some(Duration::from_secs(1)))?;
        poller.modify(source, token, interest, Trigger::Level)?;
        poller.wait(events, Some(Duration::from_millis(1)))?;
    }
    poller.modify(source, token, Interest::WRITABLE, Trigger::Level)
}

/// Every kind of change and of wait, those that fail among them.
fn script(poller: &mut dyn Poller, sockets: Vec<UdpSocket>, wakes: &pollmark_backends::WakeSource) -> io::Result<()> {
    let mut events = Events::with_capacity(3);
    let token = Token::new(1, 1);
    let capabilities = poller.capabilities();

    poller.wait(&mut events, Some(Duration::ZERO))?;
    poller.wait(&mut events, Some(Duration::from_micros(1_500)))?;

    poller.add(wakes.as_source(), token, Interest::READABLE, Trigger::Level)?;
    poller.wait(&mut events, None)?;
    assert_eq!(events.len(), 1);
    poller.remove(wakes.as_source())?;

    for (slot, socket) in (0..).zip(&sockets) {
        let interest = if slot % 3 == 0 { Interest::EMPTY } else { Interest::READABLE | Interest::WRITABLE };
        poller.add(socket.as_source(), Token::new(slot, 0), interest, Trigger::Level)?;
        poller.wait(&mut events, Some(Duration::ZERO))?;
    }
    for interest in [Interest::READABLE, Interest::EMPTY, Interest::EMPTY, Interest::WRITABLE, Interest::PRIORITY] {
        for socket in &sockets {
            poller.modify(socket.as_source(), token, interest, Trigger::Level)?;
        }
        poller.wait(&mut events, Some(Duration::from_millis(1)))?;
    }
    for trigger in [Trigger::Edge, Trigger::Oneshot].into_iter().filter(|trigger| capabilities.supports(*trigger)) {
        for socket in &sockets {
            poller.modify(socket.as_source(), token, Interest::WRITABLE, trigger)?;
            poller.wait(&mut events, Some(Duration::from_secs(1)))?;
        }
    }

    if capabilities.exclusive {
        shared(poller, &sockets[0], &mut events)?;
    }

    let [first, second, ..] = &sockets[..] else { unreachable!("there are eight") };
    let refused = poller.add(first.as_source(), token, Interest::READABLE, Trigger::Level);
    assert_eq!(refused.expect_err("it is known").kind(), io::ErrorKind::AlreadyExists);
    poller.remove(first.as_source())?;
    assert_eq!(poller.remove(first.as_source()).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    let refused = poller.modify(first.as_source(), token, Interest::READABLE, Trigger::Level);
    assert_eq!(refused.expect_err("it is gone").kind(), io::ErrorKind::NotFound);
    poller.modify(second.as_source(), token, Interest::EMPTY, Trigger::Level)?;

    // One is closed behind the poller's back, which has select(2) look for it.
    let mut sockets = sockets.into_iter();
    sockets.next_back();
    poller.wait(&mut events, Some(Duration::ZERO))?;
    for socket in sockets.skip(1) {
        poller.close(OwnedSource::from(socket))?;
        poller.wait(&mut events, Some(Duration::ZERO))?;
    }
    Ok(())
}
