//! The world of a script: real sockets and pipes in numbered slots, and what each side of them does.
//!
//! After every act the world waits until it has arrived: by asking poll(2), and how many bytes lie there, of either
//! end. Only then does the script go on, so that what a poller is to report is never a matter of timing.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use socket2::SockRef;

use super::super::subject::pair;
use super::super::system::set_nonblocking;
use super::numbers::Numbers;
use super::script::{Act, Kind, SLOTS};
use crate::source::Source;
use crate::waker::{WakeSource, Waker, waker};

/// How long an act may take to arrive. Only a broken system needs it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the peer's half-close is called, where poll(2) has a word for it.
#[cfg(linux_like)]
pub(super) const HALF_CLOSED: PollFlags = PollFlags::RDHUP;
#[cfg(not(linux_like))]
pub(super) const HALF_CLOSED: PollFlags = PollFlags::empty();

pub(super) struct World {
    // In this order: the numbers are given back after they were closed.
    slots: [Option<Held>; SLOTS],
    numbers: Option<Numbers>,
}

struct Held {
    near: Near,
    link: Rc<Link>,
}

enum Near {
    Number(OwnedFd),
    // Lends its descriptor, and keeps it.
    Waker(WakeSource),
}

enum Far {
    Nobody,
    End(OwnedFd),
    Waker(Waker),
    Clients(Vec<TcpStream>),
}

/// What the two sides of a source share, whichever slots it is in.
struct Link {
    kind: Kind,
    far: RefCell<Far>,
    /// Bytes written and not yet read, by direction; only of what moves as plain bytes.
    to_near: Cell<u64>,
    to_far: Cell<u64>,
    near_shut: Cell<bool>,
    far_shut: Cell<bool>,
    /// The connection is over, in both directions.
    over: Cell<bool>,
    /// Urgent data lies in the stream, after which bytes can no longer be counted.
    urged: Cell<bool>,
}

/// What an act came to, for whoever has to know whether it is to be reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Nothing that concerns the source.
    None,
    /// The program's own side did something.
    Own,
    /// The other side did something; bytes that were counted have arrived, or not.
    Peer { counted: bool },
    /// One of the directions, or both, came to an end.
    End { own: bool },
}

impl World {
    pub(super) fn new() -> World {
        World { slots: Default::default(), numbers: Numbers::lease() }
    }

    /// Whether no other thread is given a number that this world has closed.
    pub(super) fn has_own_numbers(&self) -> bool {
        self.numbers.is_some()
    }

    pub(super) fn is_open(&self, slot: usize) -> bool {
        self.slots[slot].is_some()
    }

    pub(super) fn source(&self, slot: usize) -> Option<Source<'_>> {
        self.slots[slot].as_ref().map(|held| held.near.as_source())
    }

    /// Whether the source is a socket, whose errors poll(2) tells apart from a pipe that has lost its reader.
    pub(super) fn is_socket(&self, slot: usize) -> bool {
        let kind = self.slots[slot].as_ref().map(|held| held.link.kind);
        matches!(kind, Some(Kind::Tcp | Kind::Unix | Kind::Listener | Kind::Refused))
    }

    pub(super) fn has_shut(&self, slot: usize) -> bool {
        self.slots[slot].as_ref().is_some_and(|held| held.link.near_shut.get())
    }

    /// The slots that hold the same open file as `slot`, itself among them.
    pub(super) fn sharing(&self, slot: usize) -> Vec<usize> {
        let Some(held) = &self.slots[slot] else { return Vec::new() };
        let same = |at: &usize| self.slots[*at].as_ref().is_some_and(|other| Rc::ptr_eq(&other.link, &held.link));
        (0..SLOTS).filter(same).collect()
    }

    /// What poll(2) says of every slot, asked about everything. The oracle.
    pub(super) fn poll(&self) -> [PollFlags; SLOTS] {
        let open = || self.slots.iter().enumerate().filter_map(|(at, held)| Some((at, held.as_ref()?)));
        let everything = PollFlags::IN | PollFlags::OUT | PollFlags::PRI | HALF_CLOSED;
        let mut asked: Vec<_> =
            open().map(|(_, held)| PollFd::from_borrowed_fd(held.near.as_source(), everything)).collect();
        ask(&mut asked, Duration::ZERO);
        let mut answers = [PollFlags::empty(); SLOTS];
        for ((slot, _), asked) in open().zip(&asked) {
            answers[slot] = asked.revents();
        }
        answers
    }

    /// Puts something new into an empty slot.
    pub(super) fn open(&mut self, slot: usize, kind: Kind) {
        assert!(!self.is_open(slot), "the runner closes what is there");
        let (near, far) = match kind {
            Kind::Tcp => {
                let (near, far) = pair();
                // Else one that is closed first would occupy its port for a minute, and scripts are many.
                SockRef::from(&near).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
                (self.numbered(slot, near.into()), Far::End(far.into()))
            }
            Kind::Unix => {
                let (near, far) = UnixStream::pair().expect("a pair can be made");
                for end in [&near, &far] {
                    end.set_nonblocking(true).expect("a socket can be non-blocking");
                    SockRef::from(end).set_send_buffer_size(8 << 10).expect("a socket has a buffer");
                }
                (self.numbered(slot, near.into()), Far::End(far.into()))
            }
            Kind::PipeReader | Kind::PipeWriter => {
                let (reader, writer) = std::io::pipe().expect("a pipe can be made");
                set_nonblocking(&reader);
                set_nonblocking(&writer);
                let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
                let (near, far) = if kind == Kind::PipeReader { (reader, writer) } else { (writer, reader) };
                (self.numbered(slot, near), Far::End(far))
            }
            Kind::Listener => {
                let near = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
                near.set_nonblocking(true).expect("a socket can be non-blocking");
                (self.numbered(slot, near.into()), Far::Clients(Vec::new()))
            }
            Kind::Refused => (self.numbered(slot, refused()), Far::Nobody),
            Kind::Waker => {
                let (waker, wakes) = waker().expect("a waker can be made");
                (Near::Waker(wakes), Far::Waker(waker))
            }
        };
        let link = Rc::new(Link {
            kind,
            far: RefCell::new(far),
            to_near: Cell::new(0),
            to_far: Cell::new(0),
            near_shut: Cell::new(false),
            far_shut: Cell::new(kind == Kind::Refused),
            over: Cell::new(kind == Kind::Refused),
            urged: Cell::new(false),
        });
        let held = Held { near, link };
        held.settle();
        self.slots[slot] = Some(held);
    }

    /// Puts the same open file into an empty slot too. A waker lends only one descriptor.
    pub(super) fn duplicate(&mut self, slot: usize, into: usize) {
        assert!(!self.is_open(into), "the runner closes what is there");
        let Some(Held { near: Near::Number(number), link }) = &self.slots[slot] else { return };
        let (number, link) = (number.try_clone().expect("there are numbers left"), Rc::clone(link));
        self.slots[into] = Some(Held { near: self.numbered(into, number), link });
    }

    /// Takes out what is in a slot; `None` for what must not be closed by a poller: a waker, which only lends its
    /// descriptor, is closed here.
    pub(super) fn take(&mut self, slot: usize) -> Option<OwnedFd> {
        match self.slots[slot].take()?.near {
            Near::Number(number) => Some(number),
            Near::Waker(_) => None,
        }
    }

    /// Whether a poller may be given it to close: nobody else holds the same open file.
    pub(super) fn can_be_closed_by_a_poller(&self, slot: usize) -> bool {
        let held = self.slots[slot].as_ref();
        held.is_some_and(|held| Rc::strong_count(&held.link) == 1 && matches!(held.near, Near::Number(_)))
    }

    /// The program's own side acts.
    pub(super) fn own(&self, slot: usize, act: Act) -> Effect {
        let Some(held) = &self.slots[slot] else { return Effect::None };
        let effect = held.own(act);
        held.settle();
        effect
    }

    /// The other side acts.
    pub(super) fn peer(&self, slot: usize, act: Act) -> Effect {
        let Some(held) = &self.slots[slot] else { return Effect::None };
        let effect = held.peer(act);
        held.settle();
        effect
    }

    /// The peer's write as something another thread can do; [`World::errand_done`] is to follow.
    pub(super) fn errand(&self, slot: usize) -> Option<Box<dyn FnOnce() + Send>> {
        let link = &self.slots[slot].as_ref()?.link;
        match &*link.far.borrow() {
            Far::Waker(waker) => {
                let waker = waker.clone();
                Some(Box::new(move || waker.wake()))
            }
            Far::End(far) if link.kind != Kind::PipeWriter && !link.far_shut.get() => {
                let far = far.try_clone().expect("there are numbers left");
                Some(Box::new(move || assert!(write_one(&far), "a few bytes always fit")))
            }
            _ => None,
        }
    }

    pub(super) fn errand_done(&self, slot: usize) -> Effect {
        let held = self.slots[slot].as_ref().expect("nothing is closed meanwhile");
        let effect = held.arrived();
        held.settle();
        effect
    }

    /// The number goes with the slot, so that closing and opening reuses it, and no other thread is given it between.
    fn numbered(&self, slot: usize, given: OwnedFd) -> Near {
        Near::Number(match &self.numbers {
            Some(numbers) => rustix::io::fcntl_dupfd_cloexec(&given, numbers.of(slot)).expect("the limit is above"),
            None => given,
        })
    }
}

impl Near {
    fn as_source(&self) -> Source<'_> {
        match self {
            Near::Number(number) => number.as_fd(),
            Near::Waker(wakes) => wakes.as_source(),
        }
    }
}

impl Held {
    fn own(&self, act: Act) -> Effect {
        let (link, near) = (&self.link, self.near.as_source());
        match (act, link.kind) {
            (Act::Read, Kind::Waker) => {
                let Near::Waker(wakes) = &self.near else { unreachable!("made together") };
                wakes.drain();
                link.to_near.set(0);
            }
            (Act::Read, Kind::Listener) => {
                while accept_one(near) {}
                if let Far::Clients(clients) = &mut *link.far.borrow_mut() {
                    clients.clear();
                }
                link.to_near.set(0);
            }
            (Act::Read, Kind::Tcp | Kind::Unix | Kind::PipeReader | Kind::Refused) => {
                read_all(near);
                link.to_near.set(0);
            }
            (Act::Write | Act::Fill, Kind::Tcp | Kind::Unix | Kind::PipeWriter) => {
                let written = match (act, link.kind) {
                    (Act::Fill, Kind::Unix | Kind::PipeWriter) => fill(near),
                    _ => u64::from(write_one(near)),
                };
                match &*link.far.borrow() {
                    Far::End(_) => link.to_far.set(link.to_far.get() + written),
                    // Nobody is there to take it, and TCP says so.
                    _ if link.kind == Kind::Tcp && written > 0 => {
                        link.over.set(true);
                        return Effect::End { own: false };
                    }
                    _ => {}
                }
            }
            (Act::Shut, Kind::Tcp | Kind::Unix) if !link.near_shut.get() => {
                shut(near);
                link.near_shut.set(true);
                return Effect::End { own: true };
            }
            _ => return Effect::None,
        }
        Effect::Own
    }

    fn peer(&self, act: Act) -> Effect {
        let link = &self.link;
        let stream = matches!(link.kind, Kind::Tcp | Kind::Unix);
        let mut far = link.far.borrow_mut();
        match (act, &mut *far) {
            (Act::Write, Far::Waker(waker)) => waker.wake(),
            (Act::Write, Far::Clients(clients)) => {
                let address = SockRef::from(&self.near.as_source()).local_addr().expect("it is bound");
                let client = TcpStream::connect(address.as_socket().expect("TCP")).expect("it listens");
                SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
                clients.push(client);
            }
            (Act::Write, Far::End(end)) if link.kind != Kind::PipeWriter && !link.far_shut.get() => {
                if !write_one(&*end) {
                    return Effect::None;
                }
            }
            (Act::Urge, Far::End(end)) if link.kind == Kind::Tcp && !link.far_shut.get() => {
                SockRef::from(&*end).send_out_of_band(b"!").expect("there is room for one");
                link.urged.set(true);
                return Effect::Peer { counted: false };
            }
            (Act::Read, Far::End(end)) if link.kind != Kind::PipeReader => {
                read_all(&*end);
                link.to_far.set(0);
                return Effect::Peer { counted: false };
            }
            (Act::Shut, Far::End(_)) if stream && link.far_shut.get() => return Effect::None,
            (Act::Shut, Far::End(end)) if stream => {
                shut(end.as_fd());
                link.far_shut.set(true);
                return Effect::End { own: false };
            }
            (Act::Shut | Act::Close | Act::Reset, Far::End(end)) => {
                if act == Act::Reset && link.kind == Kind::Tcp {
                    SockRef::from(&*end).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
                }
                // Closing on unread bytes is a reset, too.
                if act == Act::Reset || link.kind != Kind::Tcp || link.to_far.get() > 0 {
                    link.over.set(true);
                }
                link.far_shut.set(true);
                *far = Far::Nobody;
                return Effect::End { own: false };
            }
            _ => return Effect::None,
        }
        drop(far);
        self.arrived()
    }

    /// One byte, or connection, or wake, has been sent to the near end.
    fn arrived(&self) -> Effect {
        let link = &self.link;
        link.to_near.set(link.to_near.get() + 1);
        let bytes = matches!(link.kind, Kind::Tcp | Kind::Unix | Kind::PipeReader);
        Effect::Peer { counted: bytes && !link.urged.get() && !link.over.get() }
    }

    /// Waits until everything that was done can be seen.
    fn settle(&self) {
        let (link, near) = (&self.link, self.near.as_source());
        let both_shut = link.near_shut.get() && link.far_shut.get();
        let mut expected = PollFlags::empty();
        match link.kind {
            Kind::Tcp | Kind::Unix | Kind::Refused if link.over.get() || both_shut => expected |= PollFlags::HUP,
            Kind::Tcp | Kind::Unix if link.far_shut.get() => expected |= PollFlags::IN | HALF_CLOSED,
            Kind::PipeReader if link.over.get() => expected |= PollFlags::HUP,
            Kind::PipeWriter if link.over.get() => expected |= PollFlags::ERR,
            _ if link.to_near.get() > 0 => expected |= PollFlags::IN,
            _ => {}
        }
        if link.urged.get() && link.kind == Kind::Tcp {
            // Urgent bytes move the end of what can be counted, and may be overtaken by an end.
            expected = expected.difference(PollFlags::IN);
        } else if matches!(link.kind, Kind::Tcp | Kind::Unix | Kind::PipeReader) && expected == PollFlags::IN {
            until_there(near, link.to_near.get());
        }
        until_said(near, expected);
        if let Far::End(far) = &*link.far.borrow()
            && link.to_far.get() > 0
            && !link.over.get()
        {
            until_there(far.as_fd(), link.to_far.get());
        }
    }
}

/// Waits on the oracle: until poll(2) says all of `expected`.
fn until_said(source: BorrowedFd<'_>, expected: PollFlags) {
    let deadline = Instant::now() + PATIENCE;
    let mut missing = expected;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "poll(2) never says {missing:?}");
        // Asked for nothing else, it sleeps until then. Hang-ups and errors need not be asked for.
        let mut asked = [PollFd::from_borrowed_fd(source, missing.intersection(PollFlags::IN | HALF_CLOSED))];
        ask(&mut asked, Duration::from_millis(100));
        let mut again = [PollFd::from_borrowed_fd(source, expected)];
        ask(&mut again, Duration::ZERO);
        missing = expected.difference(again[0].revents());
    }
}

/// Waits until `count` bytes can be read. There is no event for the second byte of two, so this asks and asks.
fn until_there(source: BorrowedFd<'_>, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while rustix::io::ioctl_fionread(source).expect("streams and pipes know") < count {
        assert!(Instant::now() < deadline, "{count} bytes never arrive");
        std::thread::yield_now();
    }
}

fn ask(asked: &mut [PollFd<'_>], timeout: Duration) {
    let timeout = crate::time::timespec(timeout);
    match rustix::event::poll(asked, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => panic!("poll(2) failed: {error}"),
    }
}

/// Whether one byte went in.
fn write_one(end: impl AsFd) -> bool {
    rustix::io::write(end, b"x").is_ok()
}

fn fill(end: BorrowedFd<'_>) -> u64 {
    let mut written = 0;
    while let Ok(length) = rustix::io::write(end, &[7; 4096]) {
        written += length as u64;
    }
    // A pipe takes part of a large write no more, but perhaps still a small one.
    while write_one(end) {
        written += 1;
    }
    written
}

/// Reads to the end of what is there, or of the stream, or to an error, which the read takes away.
fn read_all(end: impl AsFd) {
    let mut buffer = [0; 16 << 10];
    while rustix::io::read(&end, &mut buffer[..]).is_ok_and(|length| length > 0) {}
}

/// Closes the sending half. After a reset there is none.
fn shut(end: BorrowedFd<'_>) {
    match SockRef::from(&end).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != ErrorKind::NotConnected => panic!("cannot close a half: {error}"),
        _ => {}
    }
}

/// Takes one connection out of a listener's queue. Whether there was one.
fn accept_one(listener: BorrowedFd<'_>) -> bool {
    let Ok((connection, _)) = SockRef::from(&listener).accept() else { return false };
    connection.set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
    true
}

/// A socket whose connection attempt was, or will in a moment be, refused.
fn refused() -> OwnedFd {
    use socket2::{Domain, Socket, Type};
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    let anywhere = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    bound.bind(&anywhere.into()).expect("loopback can be bound");
    let attempt = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    attempt.set_nonblocking(true).expect("a socket can be non-blocking");
    // The address is held by a socket that does not listen, so nobody else can be there.
    attempt.connect(&bound.local_addr().expect("it is bound")).expect_err("nobody listens");
    until_said(attempt.as_fd(), PollFlags::HUP);
    attempt.into()
}
