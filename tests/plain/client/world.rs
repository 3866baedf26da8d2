//! The client in a world made of dice: what any server may do, on any network, at any hour, and what must hold
//! whatever comes of it. Time passes only when the client sleeps.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pollmark::backends::{
    AsSource, Capabilities, Event, Events, Interest, Ledger, OwnedSource, Poller, Raw, RawSource, Readiness, Source,
    Token, Trigger, raw,
};
use pollmark::client::{Net, Target};
use pollmark::clock::ManualClock;

use super::frame;

/// What a server says beyond what it was asked for.
const SURPLUS: &[u8] = b"\0\0\0\x05stray";

/// The world, as everybody in it holds it.
#[derive(Clone)]
pub(super) struct World(Rc<RefCell<State>>);

struct State {
    hands: Arc<ManualClock>,
    dice: VecDeque<u8>,
    most: usize,
    sockets: BTreeMap<RawSource, Socket>,
    tales: BTreeMap<u32, Tale>,
    /// Sockets that the last wait was right to report, and that the client is to do something about.
    owed: Vec<RawSource>,
    /// Waits in a row that neither reported anything nor took any time.
    in_vain: u32,
    /// When the time of all requests is over.
    over: Option<Instant>,
}

/// One socket of the client's, and the server at its other end.
struct Socket {
    connected: Option<(Instant, Result<(), ErrorKind>)>,
    watched: Option<(Token, Interest)>,
    /// The request on it, and how much of it was taken.
    request: Option<(u32, usize)>,
    /// When there is room for more of it; never, if `None`.
    room: Option<Instant>,
    arrivals: VecDeque<(Instant, Arrival)>,
    answered: bool,
    /// What of the answer was received.
    told: Vec<u8>,
    used: Instant,
}

#[derive(Clone)]
enum Arrival {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// What became of a request.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tale {
    /// On how many sockets bytes of it were taken.
    pub(super) sockets: usize,
    pub(super) sent: usize,
    pub(super) received: usize,
    /// When a byte of it moved that is waited for.
    pub(super) moved: Option<Instant>,
    /// When its socket was closed: since when, or from when on, there was room, or news.
    pub(super) room: Option<Instant>,
    pub(super) news: Option<Instant>,
    /// The whole answer was there when it could not be sent any further.
    pub(super) answered: bool,
}

/// The request of this number: of many lengths.
pub(super) fn request(id: u32) -> Vec<u8> {
    frame(&id.to_be_bytes().repeat(1 + id as usize % 7))
}

impl World {
    /// In which no more than `most` sockets may be open.
    pub(super) fn new(dice: &[u8], most: usize) -> World {
        World(Rc::new(RefCell::new(State {
            hands: Arc::new(ManualClock::new()),
            dice: dice.iter().copied().collect(),
            most,
            sockets: BTreeMap::new(),
            tales: BTreeMap::new(),
            owed: Vec::new(),
            in_vain: 0,
            over: None,
        })))
    }

    pub(super) fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.0.borrow().hands)
    }

    pub(super) fn now(&self) -> Instant {
        self.0.borrow().hands.now()
    }

    /// Nothing is to be begun from then on.
    pub(super) fn ends(&self, over: Instant) {
        self.0.borrow_mut().over = Some(over);
    }

    /// Nobody does anything for a while.
    pub(super) fn pass(&self, time: Duration) {
        self.0.borrow().hands.advance(time);
    }

    pub(super) fn tale(&self, id: u32) -> Tale {
        self.0.borrow().tales.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn open(&self) -> usize {
        self.0.borrow().sockets.len()
    }

    /// Of sockets that were looked after just now, none is dead, and none unused for as long as `idle`.
    pub(super) fn assert_tended(&self, idle: Duration) {
        let world = self.0.borrow();
        let now = world.hands.now();
        for socket in world.sockets.values() {
            assert!(!socket.has_news(now), "a connection was kept that is closed, or out of step");
            assert!(now - socket.used < idle, "a connection was kept for too long");
        }
    }
}

impl State {
    /// The next die: mostly 0, which is that nothing bad happens, and always in the end.
    fn roll(&mut self, sides: u8) -> u8 {
        self.dice.pop_front().unwrap_or(0) % sides
    }

    /// A time from now: at once, in a while, or never.
    fn some_time(&mut self) -> Option<Instant> {
        const WHILES: [u64; 8] = [0, 0, 1, 2, 7, 25, 90, u64::MAX];
        let wait = WHILES[usize::from(self.roll(8))];
        (wait != u64::MAX).then(|| self.hands.now() + Duration::from_millis(wait))
    }

    fn socket(&mut self, source: Source<'_>) -> &mut Socket {
        let number = raw(source);
        self.owed.retain(|owed| *owed != number);
        self.sockets.get_mut(&number).expect("an open socket")
    }

    fn close(&mut self, number: RawSource) {
        self.owed.retain(|owed| *owed != number);
        let socket = self.sockets.remove(&number).expect("an open socket");
        if let Some((id, _)) = socket.request {
            let tale = self.tales.entry(id).or_default();
            tale.room = socket.room;
            tale.news = socket.arrivals.front().map(|(at, _)| *at);
        }
    }

    /// The server has heard a request, all of it or enough, and does what it likes.
    fn answer(&mut self, number: RawSource, id: u32) {
        let answer = request(id);
        let (half, rest) = answer.split_at(answer.len() / 2);
        let bytes = |bytes: &[u8]| Arrival::Bytes(bytes.to_vec());
        let said = match self.roll(24) {
            0..=9 => vec![bytes(&answer)],
            10 | 11 => vec![bytes(half), bytes(rest)],
            12 => answer.iter().map(|byte| bytes(&[*byte])).collect(),
            13 => vec![],
            14 => vec![bytes(half)],
            15 => vec![bytes(half), Arrival::End],
            16 => vec![Arrival::End],
            17 => vec![Arrival::Reset],
            18 => vec![bytes(&[&answer, SURPLUS].concat())],
            19 => vec![bytes(&answer), bytes(SURPLUS)],
            20 => vec![bytes(&answer), Arrival::Reset],
            21 | 22 => vec![bytes(&answer), Arrival::End],
            _ => vec![bytes(&[0xff; 9])],
        };
        let mut arrivals = VecDeque::new();
        let mut at = self.hands.now();
        for arrival in said {
            match self.some_time() {
                Some(time) => at = at.max(time),
                None => break,
            }
            arrivals.push_back((at, arrival));
        }
        let socket = self.sockets.get_mut(&number).expect("an open socket");
        socket.answered = true;
        socket.arrivals.extend(arrivals);
    }

    /// Events that are due, and others; at most one of a socket.
    fn events(&mut self) -> Vec<Event> {
        let now = self.hands.now();
        let mut events = Vec::new();
        self.owed.clear();
        for (number, socket) in &self.sockets {
            let Some((token, interest)) = socket.watched else { continue };
            let ready = socket.readiness(now, interest);
            if !ready.is_empty() {
                events.push(Event::new(token, ready, Raw::None));
                self.owed.push(*number);
            }
        }
        // Level-triggered: whatever is left out now is reported again.
        let (first, all) = (usize::from(self.roll(4)), events.len());
        if all > 0 {
            events.rotate_left(first % all);
        }
        if self.roll(16) == 15 {
            let unlucky = self.sockets.values().rev().find_map(|socket| socket.watched);
            events.extend(unlucky.map(|(token, _)| {
                Event::new(token, Readiness::READABLE | Readiness::WRITABLE | Readiness::HANG_UP, Raw::None)
            }));
        }
        events
    }

    /// When the next thing happens that somebody watches for.
    fn next(&self) -> Option<Instant> {
        let times = self.sockets.values().filter_map(|socket| {
            let (_, interest) = socket.watched?;
            let room = socket.room.filter(|_| interest.contains(Interest::WRITABLE) && socket.is_connected());
            let arrival = socket.arrivals.front().map(|(at, _)| *at);
            let connected = socket.connected.map(|(at, _)| at);
            [room, arrival, connected].into_iter().flatten().filter(|at| *at > self.hands.now()).min()
        });
        times.min()
    }
}

impl Socket {
    fn is_connected(&self) -> bool {
        matches!(self.connected, Some((_, Ok(()))))
    }

    /// Whether something has come, bytes or an end.
    fn has_news(&self, now: Instant) -> bool {
        self.arrivals.front().is_some_and(|(at, _)| *at <= now)
    }

    fn readiness(&self, now: Instant, interest: Interest) -> Readiness {
        match self.connected {
            Some((at, Ok(()))) if at <= now => {}
            Some((at, Err(_))) if at <= now => return Readiness::ERROR | Readiness::HANG_UP,
            _ => return Readiness::EMPTY,
        }
        let mut ready = Readiness::EMPTY;
        if interest.contains(Interest::READABLE) && self.has_news(now) {
            ready |= Readiness::READABLE;
        }
        if interest.contains(Interest::WRITABLE) && self.room.is_some_and(|at| at <= now) {
            ready |= Readiness::WRITABLE;
        }
        ready
    }
}

impl Net for World {
    fn connect(&self, _: &Target) -> io::Result<OwnedSource> {
        let mut world = self.0.borrow_mut();
        let now = world.hands.now();
        let outcome = match world.roll(24) {
            20 => return Err(ErrorKind::ConnectionRefused.into()),
            21 => return Err(ErrorKind::AddrNotAvailable.into()),
            22 => Err(ErrorKind::ConnectionRefused),
            23 => Err(ErrorKind::HostUnreachable),
            _ => Ok(()),
        };
        let connected = world.some_time().map(|at| (at, outcome));
        // Never bound, and nothing is ever sent through it: the system's name for it is what is wanted.
        let source = OwnedSource::from(socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?);
        let socket = Socket {
            connected,
            watched: None,
            request: None,
            room: Some(now),
            arrivals: VecDeque::new(),
            answered: false,
            told: Vec::new(),
            used: now,
        };
        assert!(world.sockets.insert(raw(source.as_source()), socket).is_none(), "closed behind the poller's back");
        assert!(world.sockets.len() <= world.most, "more connections than there may be");
        Ok(source)
    }

    fn connected(&self, source: Source<'_>) -> io::Result<bool> {
        let mut world = self.0.borrow_mut();
        let now = world.hands.now();
        let socket = world.socket(source);
        socket.used = now;
        match socket.connected {
            Some((at, outcome)) if at <= now => outcome.map(|()| true).map_err(Into::into),
            _ => Ok(false),
        }
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let (now, die) = (world.hands.now(), world.roll(32));
        assert!(!buffer.is_empty(), "no room to receive into");
        let socket = world.socket(source);
        if die == 31 {
            return Err(ErrorKind::Interrupted.into());
        }
        if !socket.has_news(now) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some((_, arrival)) = socket.arrivals.front_mut() else { unreachable!("there is news") };
        let bytes = match arrival {
            Arrival::End => return Ok(0),
            Arrival::Reset => return Err(ErrorKind::ConnectionReset.into()),
            Arrival::Bytes(bytes) => bytes,
        };
        let most = if die > 24 { usize::from(die - 24) } else { usize::MAX };
        let taken = bytes.len().min(buffer.len()).min(most);
        buffer[..taken].copy_from_slice(&bytes[..taken]);
        bytes.drain(..taken);
        if bytes.is_empty() {
            socket.arrivals.pop_front();
        }
        socket.used = now;
        let Some((id, sent)) = socket.request else { return Ok(taken) };
        socket.told.extend_from_slice(&buffer[..taken]);
        let tale = world.tales.entry(id).or_default();
        tale.received += taken;
        if sent == request(id).len() {
            tale.moved = Some(now);
        }
        Ok(taken)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.0.borrow_mut();
        let (now, die, room) = (world.hands.now(), world.roll(32), world.some_time());
        assert!(!bytes.is_empty(), "nothing is sent");
        let over = world.over;
        let socket = world.socket(source);
        assert!(socket.is_connected(), "sent on a connection that is not open");
        let fresh = socket.request.is_none_or(|(id, sent)| sent == request(id).len());
        if fresh {
            let id = u32::from_be_bytes(bytes[4..8].try_into().expect("four bytes"));
            assert_eq!(bytes, request(id), "a request begins at its beginning");
            assert!(!socket.has_news(now), "a request was begun on a connection that is known to be lost");
            assert!(over.is_none_or(|over| now < over), "a request was begun whose time is over");
            let before = socket.request.map(|(id, _)| request(id));
            assert_eq!(socket.told, before.unwrap_or_default(), "a connection out of step was used again");
            socket.told.clear();
            // What a server says later than its answer and unasked could not be told from the next answer by anyone.
            socket.arrivals.retain(|(_, arrival)| !matches!(arrival, Arrival::Bytes(_)));
            (socket.request, socket.answered, socket.room) = (Some((id, 0)), false, Some(now));
        }
        let Some((id, sent)) = socket.request else { unreachable!("there is a request") };
        if fresh {
            world.tales.entry(id).or_default().moved = Some(now);
        }
        let socket = world.socket(source);
        if die == 31 {
            return Err(ErrorKind::Interrupted.into());
        }
        if die > 28 {
            // Nothing can be sent any more. What the server has said before is still there.
            let there = socket.arrivals.iter().take_while(|(at, _)| *at <= now);
            let mut told = socket.told.clone();
            told.extend(there.flat_map(|(_, arrival)| match arrival {
                Arrival::Bytes(bytes) => &bytes[..],
                Arrival::End | Arrival::Reset => &[],
            }));
            socket.arrivals.retain(|(at, _)| *at <= now);
            socket.arrivals.push_back((now, Arrival::Reset));
            world.tales.entry(id).or_default().answered = sent > 0 && told.starts_with(&request(id));
            return Err(ErrorKind::BrokenPipe.into());
        }
        if socket.room.is_none_or(|at| at > now) || (die == 28 && fresh) {
            socket.room = room;
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = if die > 16 { bytes.len().min(usize::from(die - 16)) } else { bytes.len() };
        let whole = taken == bytes.len();
        socket.request = Some((id, sent + taken));
        socket.room = if whole { Some(now) } else { room };
        socket.used = now;
        let answered = socket.answered;
        let tale = world.tales.entry(id).or_default();
        tale.sockets += usize::from(sent == 0);
        assert_eq!(tale.sockets, 1, "request {id} was begun again after a byte of it was sent");
        tale.sent += taken;
        tale.moved = Some(now);
        if !answered && (whole || world.roll(8) == 7) {
            world.answer(raw(source), id);
        }
        Ok(taken)
    }
}

impl Poller for World {
    fn capabilities(&self) -> Capabilities {
        Capabilities::least()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        assert_eq!(trigger, Trigger::Level, "the only one that all have");
        if world.roll(32) == 31 {
            // The caller closes it.
            world.close(raw(source));
            return Err(ErrorKind::OutOfMemory.into());
        }
        assert!(world.socket(source).watched.replace((token, interest)).is_none(), "added twice");
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        assert_eq!(trigger, Trigger::Level, "the only one that all have");
        let (before, told) = world.socket(source).watched.replace((token, interest)).expect("added");
        assert!(before == token && told != interest, "told what it knew");
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.0.borrow_mut().socket(source).watched.take().expect("added");
        Ok(())
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.0.borrow_mut().close(raw(source.as_source()));
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        assert!(world.owed.is_empty(), "what was reported was left as it was: this spins");
        events.clear();
        if world.roll(16) == 15 {
            return Err(ErrorKind::Interrupted.into());
        }
        let mut due = world.events();
        if due.is_empty() {
            let now = world.hands.now();
            let over = timeout.map(|timeout| now + timeout);
            let next = world.next().into_iter().chain(over).min().expect("it would sleep for ever");
            world.in_vain = if next > now { 0 } else { world.in_vain + 1 };
            assert!(world.in_vain < 3, "a deadline has passed, and nothing is done about it: this spins");
            world.hands.advance(next - now);
            due = world.events();
        }
        for event in due {
            assert!(events.push(event), "there is room for all");
        }
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        Ledger::default()
    }
}
