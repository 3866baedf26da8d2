//! What the suite cannot know of: an older kernel's ring, queues that are too short, and what a dropped poller holds on
//! to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::ring::SUBMISSIONS;
use super::*;
use crate::conformance;
use crate::source::{AsSource, OwnedSource};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Completions of a queue that is to overflow.
const FEW: u32 = 2 * SUBMISSIONS;

/// Beyond both queues.
const MANY: usize = FEW as usize + 2 * SUBMISSIONS as usize;

/// A poller, or why there is none here. In CI there is one.
fn open() -> Option<Uring> {
    here(Uring::open())
}

fn here(opened: io::Result<Uring>) -> Option<Uring> {
    match opened {
        Ok(uring) => Some(uring),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "there is no io_uring here: {why}");
            println!("SKIPPED, NOT CHECKED: {why}");
            None
        }
    }
}

/// The suite has numbers of its own, from 1,500 on. Who takes thousands must not take those.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sockets(count: usize) -> Vec<UdpSocket> {
    conformance::system::raise_descriptor_limit();
    (0..count).map(|_| UdpSocket::bind(("127.0.0.1", 0)).expect("loopback can be bound")).collect()
}

#[test]
fn an_older_kernels_ring_keeps_the_contract() {
    let _turn = alone();
    if open().is_some() {
        conformance::run("uring, without DEFER_TASKRUN", || Ring::plain(POLLS).map(Uring::on)).assert_passed();
    }
}

#[test]
fn more_than_the_queues_hold_is_asked_and_told() {
    let _turn = alone();
    let rings = [Ring::with_room_for(FEW, POLLS), Ring::sqpoll(FEW, POLLS)];
    rings.into_iter().filter_map(|ring| here(ring.map(Uring::on))).for_each(more_than_the_queues_hold);
}

fn more_than_the_queues_hold(mut uring: Uring) {
    let sockets = sockets(MANY);
    for trigger in Trigger::ALL {
        for (slot, socket) in (0..).zip(&sockets) {
            uring.add(socket.as_source(), Token::new(slot, 0), Interest::WRITABLE, trigger).expect("it is new");
        }
        let mut events = Events::with_capacity(MANY);
        let mut told = vec![0; MANY];
        // Portions, and the kernel's own store of completions, may take a few waits.
        for _ in 0..MANY {
            uring.wait(&mut events, Some(Duration::ZERO)).expect("nothing interrupts");
            events.iter().for_each(|event| told[event.token().slot() as usize] += 1);
            if !told.contains(&0) {
                break;
            }
        }
        assert!(!told.contains(&0), "{trigger}: {} are never told", told.iter().filter(|times| **times == 0).count());
        if trigger != Trigger::Level {
            assert!(told.iter().all(|times| *times == 1), "{trigger}: one is told twice");
        }
        for socket in &sockets {
            uring.remove(socket.as_source()).expect("it is known");
        }
        uring.wait(&mut events, Some(Duration::ZERO)).expect("nothing interrupts");
        assert!(events.is_empty(), "{trigger}: what was removed is silent");
    }
}

/// Elsewhere a call does both; here nothing is certain when a call returns.
#[test]
fn what_the_kernels_thread_polls_is_let_go_before_remove_returns() {
    for _ in 0..20 {
        let Some(mut uring) = here(Uring::sqpoll()) else { return };
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback can be bound");
        let address = listener.local_addr().expect("it is bound");
        uring.add(listener.as_source(), Token(1), Interest::READABLE, Trigger::Level).expect("it is new");
        uring.wait(&mut Events::with_capacity(1), Some(Duration::ZERO)).expect("nothing interrupts");
        uring.close(OwnedSource::from(listener)).expect("it is known");
        TcpListener::bind(address).expect("nobody listens there any more");
    }
}

#[test]
fn a_level_source_that_is_served_costs_no_call_but_the_wait() {
    let Some(mut uring) = open() else { return };
    let [socket] = &sockets(1)[..] else { unreachable!("one was asked for") };
    let address = socket.local_addr().expect("it is bound");
    let mut events = Events::with_capacity(8);
    uring.add(socket.as_source(), Token(1), Interest::READABLE, Trigger::Level).expect("it is new");
    uring.wait(&mut events, Some(Duration::ZERO)).expect("nothing interrupts");
    let before = uring.ledger();
    for _ in 0..10 {
        // Asked again while nothing is there, and then woken.
        thread::scope(|scope| {
            scope.spawn(|| socket.send_to(b"x", address).expect("loopback can be sent to"));
            uring.wait(&mut events, None).expect("nothing interrupts");
        });
        assert_eq!(events.len(), 1);
        socket.recv(&mut [0; 8]).expect("as reported");
    }
    uring.modify(socket.as_source(), Token(2), Interest::READABLE, Trigger::Level).expect("it is known");
    let made = uring.ledger() - before;
    assert_eq!(made.change_calls, 0, "{made:?}");
    // poll(2) is asked where the datagram was quicker than the wait.
    assert!((10..=20).contains(&made.wait_calls), "{made:?}");
}

#[test]
fn an_address_is_free_again_when_the_poller_is_gone() {
    let open = [Uring::open, Uring::sqpoll];
    for open in open.into_iter().cycle().take(20) {
        let Some(mut uring) = here(open()) else { return };
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback can be bound");
        let address = listener.local_addr().expect("it is bound");
        uring.add(listener.as_source(), Token(1), Interest::READABLE, Trigger::Level).expect("it is new");
        uring.wait(&mut Events::with_capacity(1), Some(Duration::ZERO)).expect("nothing interrupts");
        drop(uring);
        drop(OwnedSource::from(listener));
        TcpListener::bind(address).expect("nobody listens there any more");
    }
}

/// (f) The poll for room that a half-close has ended tells of room no more: another has to, before the wait sleeps.
#[test]
fn who_was_woken_for_nothing_before_the_wait_is_polled_again_before_it_sleeps() {
    for by_thread in [false, true] {
        let Some(mut uring) = here(if by_thread { Uring::sqpoll() } else { Uring::open() }) else { return };
        let (mut near, mut far) = UnixStream::pair().expect("a pair can be made");
        near.set_nonblocking(true).and(far.set_nonblocking(true)).expect("a socket");
        while near.write(&[0; 4096]).is_ok() {}
        uring.add(near.as_source(), Token(1), Interest::WRITABLE, Trigger::Level).expect("it is new");
        let mut events = Events::with_capacity(1);
        uring.wait(&mut events, Some(Duration::ZERO)).expect("nothing interrupts");
        assert!(events.is_empty(), "there is no room");

        far.shutdown(Shutdown::Write).expect("it is connected");
        let begun = Instant::now();
        while by_thread && uring.ring.unread() == 0 {
            assert!(begun.elapsed() < PATIENCE, "the thread never says that the poll was woken");
            thread::yield_now();
        }
        while far.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {}
        uring.wait(&mut events, Some(PATIENCE)).expect("nothing interrupts");
        let told: Vec<_> = events.iter().map(|event| (event.token(), event.writable())).collect();
        assert_eq!(told, [(Token(1), true)], "by a thread: {by_thread}");
    }
}

#[test]
fn a_completion_of_an_earlier_poll_is_nobodys() {
    let number: RawSource = 7;
    assert_eq!(serial_and_source(user_data(u32::MAX, number)), (u32::MAX, number));
    assert_eq!(serial_and_source(NOBODYS).1, -1);
    let Some(mut uring) = open() else { return };
    let watch = uring.table.vacant(number).expect("known to nobody");
    *watch = Watch { known: true, poll: 2, asked: libc::POLLIN as u16, ..Watch::default() };
    let events = &mut Events::with_capacity(1);
    let mut answers = events.polled_records();
    let look = Look { answers: &mut answers, room: 1, before: 2, woken: false, events: 0, read: 0, in_vain: false };
    let says = |serial| Completion { user_data: user_data(serial, number), result: libc::POLLIN.into(), more: false };
    assert_eq!(uring.judge(&says(1), &look), (number, Verdict::Nothing));
    assert_eq!(uring.judge(&says(2), &look), (number, Verdict::Told(libc::POLLIN as u32)));
    assert_eq!(uring.judge(&says(2), &look), (number, Verdict::Nothing), "it is over");
    uring.table[number].poll = 0;
}

/// Has the kernel refuse this thread a call, as a container does.
fn forbid(call: libc::c_long, errno: libc::c_int) {
    const ACT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let [load, compare] = [libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K]
        .map(|code| code as u16);
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut steps = [
        step(load, 0, 0), // the call's number
        step(compare, 1, call as u32),
        step(ACT, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(ACT, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: takes numbers only, and takes rights away from this thread alone.
    let bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(bound, 0, "any thread may give up rights");
    // SAFETY: `program` and the steps it points to are valid for the call, which copies them. The thread ends soon.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(filtered, 0, "this kernel has seccomp filters");
}

#[test]
fn what_a_sandbox_refuses_is_told_with_the_reason() {
    if open().is_none() {
        return;
    }
    use libc::{SYS_io_uring_setup, SYS_ioctl};
    for (name, call, errno, part) in [
        ("uring", SYS_io_uring_setup, libc::EPERM, "a seccomp filter"),
        ("uring", SYS_io_uring_setup, libc::ENOSYS, "(ENOSYS)"),
        ("uring", SYS_io_uring_setup, libc::ENOMEM, "RLIMIT_MEMLOCK"),
        ("uring-sqpoll", SYS_io_uring_setup, libc::EPERM, "a seccomp filter"),
        ("epoll-ring", SYS_io_uring_setup, libc::EPERM, "a seccomp filter"),
        ("epoll-busy", SYS_ioctl, libc::EPERM, "a sandbox forbids it (EPERM)"),
        ("epoll-busy", SYS_ioctl, libc::ENOTTY, "Linux 6.9"),
    ] {
        let refused = move || {
            forbid(call, errno);
            let entry = crate::Registry::builtin().get(name).expect("it is built in").clone();
            (entry.probe().expect_err("it is forbidden").to_string(), entry.open().err().expect("as above").kind())
        };
        let (why, kind) = thread::spawn(refused).join().expect("no panic");
        assert!(why.contains(part), "{why}");
        let unsupported = errno == libc::ENOTTY; // Of a kernel that does not know it; std has no kind for that.
        let expected = io::Error::from_raw_os_error(if unsupported { libc::ENOSYS } else { errno }).kind();
        assert_eq!(kind, expected, "{name}: {why}");
    }
}
