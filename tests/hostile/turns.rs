//! Whose turn it is: by counts of waits and of bytes, never by the clock.
//!
//! The loop is held up by one connection, which may: a protocol can compute. Meanwhile everybody else says all that is
//! to be said. From there on what a server does is decided by nothing but itself, on a machine of any speed: in how
//! many waits the well-behaved are served, and how much it takes in between two of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

#[cfg(completion)]
use pollmark::backends::completion::Setup;
use pollmark::backends::{Events, Interest, Poller, Registry, Token, Trigger, Visitor, poll::Poll};
use pollmark::mechanism::Mechanism;
use pollmark::protocol::{Context, Peer as Other, Protocol};
#[cfg(completion)]
use pollmark::server::CompletionServer;
use pollmark::server::{Config, Observer, ReadinessServer, Server, fairness};

use crate::client::Peer;
use crate::hosted::{Hosted, PATIENCE, config, is_concurrent, on_every_mechanism, say_once};
use crate::spoken::Spoken;

/// A request of the well-behaved, by whose length it is known; a word to hold the loop up.
const REQUEST: &[u8; 9] = b"if I may?";
const HOLD: &[u8; 4] = b"hold";
/// A byte that asks for so many.
const GREED: u8 = b'!';
const ANSWER: usize = 4 * 1024;

/// What a loop has done since it was let go.
#[derive(Clone, Debug, Default)]
struct Tale {
    waits: u64,
    /// In which wait each request was read.
    served: Vec<u64>,
    /// Bytes read since the last wait, and the most there were between two.
    bytes: u64,
    most_bytes: u64,
    /// The same of bytes written.
    written: u64,
    most_written: u64,
}

#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<Tale>>);

impl Watcher {
    fn tale(&self) -> MutexGuard<'_, Tale> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watcher {
    fn waited(&mut self, _: usize) {
        let mut tale = self.tale();
        tale.waits += 1;
        (tale.bytes, tale.written) = (0, 0);
    }

    fn read(&mut self, _: Token, bytes: usize) {
        let mut tale = self.tale();
        tale.bytes += bytes as u64;
        tale.most_bytes = tale.most_bytes.max(tale.bytes);
        if bytes == REQUEST.len() {
            let now = tale.waits;
            tale.served.push(now);
        }
    }

    fn wrote(&mut self, _: Token, bytes: usize, _: usize) {
        let mut tale = self.tale();
        tale.written += bytes as u64;
        tale.most_written = tale.most_written.max(tale.written);
    }
}

/// Answers requests by themselves and greed at length, swallows all else, and holds the loop up when it is told to,
/// until it is let go.
#[derive(Clone)]
struct Gated {
    held: mpsc::Sender<()>,
    go: Arc<Mutex<mpsc::Receiver<()>>>,
    watcher: Watcher,
}

impl Protocol for Gated {
    type Session = ();

    fn open(&mut self, _: &Other, _: &mut Context<'_>) {}

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        if input == REQUEST {
            cx.send(input);
        }
        if input == HOLD {
            self.held.send(()).expect("the test waits for it");
            let go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
            go.recv_timeout(PATIENCE).expect("the test lets it go");
            *self.watcher.tale() = Tale::default();
        }
        if input[0] == GREED {
            let mut consumed = 0;
            while consumed < input.len() && !cx.is_full() {
                cx.send(&[GREED; ANSWER]);
                consumed += 1;
            }
            return consumed;
        }
        input.len()
    }
}

/// Makes a loop that is watched; `None`, said aloud, if the mechanism is no loop.
fn watched(mechanism: &Mechanism, config: Config, protocol: Gated, watcher: Watcher) -> Option<Box<dyn Server>> {
    let Some(trigger) = mechanism.trigger() else {
        #[cfg(completion)]
        if !mechanism.abilities().blocking && mechanism.base().is_none() {
            let server = CompletionServer::bind(config, protocol).expect("a free port");
            return Some(Box::new(server.with_observer(watcher)));
        }
        say_once(&format!(
            "{mechanism}: skipped: its turns: it has none, or those of the mechanism it is a variant of"
        ));
        return None;
    };
    let registry = Registry::builtin();
    let entry = registry.get(mechanism.family()).expect("it was listed");
    Some(entry.visit(Bind { config, protocol, watcher, trigger }).expect("it is here"))
}

struct Bind {
    config: Config,
    protocol: Gated,
    watcher: Watcher,
    trigger: Trigger,
}

impl Visitor for Bind {
    type Output = Box<dyn Server>;

    fn visit<P, F>(self, open: F) -> Box<dyn Server>
    where
        P: Poller + 'static,
        F: Fn() -> std::io::Result<P> + Clone + Send + Sync + 'static,
    {
        let Bind { config, protocol, watcher, trigger } = self;
        let server = ReadinessServer::bind(config, protocol, trigger, open).expect("a free port");
        Box::new(server.with_observer(watcher))
    }
}

/// What each connection of a crowd says while the loop is held up.
type Saying = fn(&TcpStream);

/// Has a crowd say something at once, and then ten well-behaved, who came last, ask for something. What the loop did
/// until all ten were answered; `None`, said aloud, for what is no loop.
fn held_up(mechanism: &Mechanism, config: &Config, crowd: usize, say: Saying) -> Option<Tale> {
    held_up_by(|gated, watcher| watched(mechanism, config.clone(), gated, watcher), crowd, say)
}

/// The same for any server that can be made of a protocol and an observer.
fn held_up_by(make: impl FnOnce(Gated, Watcher) -> Option<Box<dyn Server>>, crowd: usize, say: Saying) -> Option<Tale> {
    const WELL_BEHAVED: usize = 10;
    let watcher = Watcher::default();
    let ((held, is_held), (let_go, go)) = (mpsc::channel(), mpsc::channel());
    let gated = Gated { held, go: Arc::new(Mutex::new(go)), watcher: watcher.clone() };
    let server = make(gated, watcher.clone())?;
    let (address, control) = (server.addresses()[0].tcp().expect("TCP"), server.control());
    let running = std::thread::spawn(move || server.run());

    let mut holder = Peer::connect(address);
    let crowd: Vec<_> = (0..crowd).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let mut well_behaved: Vec<_> = (0..WELL_BEHAVED).map(|_| Peer::connect(address)).collect();
    for peer in &mut well_behaved {
        exchange(peer); // it is in, and so is everybody before
    }
    holder.says(HOLD);
    is_held.recv_timeout(PATIENCE).expect("held up");
    crowd.iter().for_each(say);
    for peer in &mut well_behaved {
        peer.says(REQUEST);
    }
    let_go.send(()).expect("it waits");
    for peer in &mut well_behaved {
        hear(peer);
    }
    let tale = watcher.tale().clone();
    assert_eq!(tale.served.len(), WELL_BEHAVED, "{tale:?}");
    control.stop();
    running.join().expect("the server does not panic").expect("the server serves");
    Some(tale)
}

fn exchange(peer: &mut Peer) {
    peer.says(REQUEST);
    hear(peer);
}

fn hear(peer: &Peer) {
    let mut heard = [0; REQUEST.len()];
    peer.stream().read_exact(&mut heard).expect("an answer");
    assert_eq!(&heard, REQUEST);
}

/// In how many waits those who came last must be served: no longer than it takes to tell of everybody before them
/// twice, and a few for the end of the round that was under way. Once is enough for most. A ring tells of one that is
/// ready again before it has told of all that were ready before; and one that finds all buffers in use has to come
/// again.
fn rounds(many: usize, each_wait: usize) -> u64 {
    2 * many.div_ceil(each_wait) as u64 + 4
}

/// Of how many connections one wait tells, if each has so much to say: what the loop asks for. A loop of completions
/// takes what there is. Of those that begin in a call, Linux, since 6.13, lets 20 begin; and each takes up to 32
/// buffers.
fn each_wait(mechanism: &Mechanism, config: &Config, bytes: usize) -> usize {
    #[cfg(completion)]
    if mechanism.trigger().is_none() {
        let setup = Setup::default();
        let buffers = bytes.div_ceil(config.read_buffer.min(setup.buffer_size as usize)).min(32);
        return (usize::from(setup.buffers) / buffers).min(20);
    }
    let _ = (mechanism, bytes);
    config.events
}

#[test]
fn five_thousand_slow_peers_put_nobody_off_for_longer_than_it_takes_to_hear_each() {
    on_every_mechanism(|mechanism| {
        let mut config = config();
        config.events = 256;
        // Two descriptors each, both in this process; and their numbers may have a bound of the mechanism's own.
        let capabilities = mechanism.probe(&Registry::builtin()).expect("it is here");
        let numbers = capabilities.and_then(|capabilities| capabilities.numbers_below);
        let room = [numbers, pollmark::usage::descriptor_limit()].into_iter().flatten().min().unwrap_or(u64::MAX);
        let many = if mechanism.is_common() { 5_000 } else { 1_000 };
        let slow = many.min(room.saturating_sub(300) / 2) as usize;
        if slow < 5_000 {
            say_once(&format!(
                "{mechanism}: {slow} slow connections instead of 5000: it is a variant, or for descriptors"
            ));
        }
        let say: Saying = |mut stream| stream.write_all(b".").expect("room for a byte");
        let Some(tale) = held_up(mechanism, &config, slow, say) else { return };
        let last = tale.served.iter().max().expect("ten");
        assert!(
            *last <= rounds(slow + 20, each_wait(mechanism, &config, 1)),
            "{mechanism}: not its turn until wait {last}: {tale:?}"
        );
        let most = (config.events * REQUEST.len()) as u64;
        assert!(tale.most_bytes <= most.max(2 * slow as u64), "{mechanism}: {tale:?}");
        println!("    {slow} slow: the last of ten was served in wait {last}, {} bytes a turn", tale.most_bytes);
    });
}

#[test]
fn more_firehoses_than_one_wait_can_tell_of_put_nobody_off() {
    const FIREHOSES: usize = 200;
    on_every_mechanism(|mechanism| {
        let mut config = config();
        (config.events, config.read_buffer, config.limits.read_budget) = (16, 2 * 1024, 2);
        config.receive_buffer = Some(256 * 1024);
        // Many turns of four KiB.
        let Some(tale) = held_up(mechanism, &config, FIREHOSES, flood) else { return };
        let last = tale.served.iter().max().expect("ten");
        assert!(
            *last <= rounds(FIREHOSES + 20, each_wait(mechanism, &config, FULL)),
            "{mechanism}: not its turn until wait {last}: {tale:?}"
        );
        let most = most_in_a_turn(mechanism, &config);
        assert!(tale.most_bytes <= most, "{mechanism}: more than {most} bytes in a turn: {tale:?}");
        println!(
            "    {FIREHOSES} firehoses: the last of ten was served in wait {last}, {} bytes a turn",
            tale.most_bytes
        );
    });
}

/// What a firehose has ready to be read, at most.
const FULL: usize = 200 * 1024;

/// Says as much as there is room for.
fn flood(mut stream: &TcpStream) {
    stream.set_nonblocking(true).expect("a socket");
    let mut written = 0;
    while written < FULL {
        match stream.write(&[7; 16 * 1024]) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(written >= 64 * 1024, "that is no firehose: {written} bytes");
}

#[test]
fn a_firehose_that_never_falls_silent_has_no_more_turns_for_every_event() {
    on_every_mechanism(|mechanism| {
        let mut config = config();
        (config.read_buffer, config.limits.read_budget) = (2 * 1024, 2);
        config.receive_buffer = Some(256 * 1024);
        // There is always more than its budget, and more to be told of.
        let say: Saying = |stream| {
            flood(stream);
            let mut stream = stream.try_clone().expect("a second handle");
            stream.set_nonblocking(false).expect("a socket");
            std::thread::spawn(move || while stream.write_all(&[7; 4 * 1024]).is_ok() {});
        };
        let Some(mut tale) = held_up(mechanism, &config, 1, say) else { return };
        tale.served.clear();
        // For an event, and because its turn was cut short; and ten requests.
        #[allow(unused_mut, reason = "there is a mechanism with turns of another kind")]
        let mut most = 2 * config.limits.read_budget as usize * config.read_buffer + 10 * REQUEST.len();
        #[cfg(completion)]
        if mechanism.trigger().is_none() {
            most = most_in_a_turn(mechanism, &config) as usize;
        }
        assert!(tale.most_bytes <= most as u64, "{mechanism}: more than {most} bytes in a turn: {tale:?}");
    });
}

#[cfg(completion)]
#[test]
fn firehoses_that_could_take_all_buffers_of_a_ring_leave_others_theirs() {
    const FIREHOSES: usize = 30;
    on_every_mechanism(|mechanism| {
        if mechanism.name() != "completion" {
            return; // nobody else lends buffers to the kernel
        }
        let mut config = config();
        config.receive_buffer = Some(256 * 1024);
        // One of them has more to say than there is room for, many times over.
        let mut setup = Setup::default();
        (setup.buffers, setup.buffer_size) = (8, 1024);
        let make = |gated, watcher| -> Option<Box<dyn Server>> {
            let server = CompletionServer::bind(config, gated).expect("a free port").with_setup(setup);
            Some(Box::new(server.with_observer(watcher)))
        };
        let tale = held_up_by(make, FIREHOSES, flood).expect("it is a loop");
        let last = tale.served.iter().max().expect("ten");
        println!("    {FIREHOSES} firehoses: the last of ten was served in wait {last}");
        assert!(*last <= rounds(FIREHOSES + 20, 1), "not its turn until wait {last}: {tale:?}");
    });
}

/// The most a loop takes in between two waits: its budget for each event, and, under an edge trigger, for as many of
/// those whose turn was cut short; or all the buffers that it lends the kernel.
fn most_in_a_turn(mechanism: &Mechanism, config: &Config) -> u64 {
    #[cfg(completion)]
    if mechanism.trigger().is_none() {
        let setup = Setup::default();
        return 2 * u64::from(setup.buffers) * u64::from(setup.buffer_size.min(config.read_buffer as u32));
    }
    let turns = config.events * if mechanism.trigger() == Some(Trigger::Edge) { 2 } else { 1 };
    (turns * config.read_buffer) as u64 * u64::from(config.limits.read_budget)
}

#[test]
fn those_who_ask_for_a_thousand_times_what_they_say_are_answered_a_budget_at_a_time() {
    const GREEDY: usize = 20;
    const QUESTIONS: usize = 1_000;
    on_every_mechanism(|mechanism| {
        let mut config = config();
        (config.events, config.limits.read_budget) = (16, 2);
        (config.limits.high_water, config.limits.low_water) = (8 * 1024, 4 * 1024);
        // The kernel would take many times as much of them at once.
        config.send_buffer = Some(256 * 1024);
        let say: Saying = |mut stream| stream.write_all(&[GREED; QUESTIONS]).expect("room for a thousand bytes");
        let Some(tale) = held_up(mechanism, &config, GREEDY, say) else { return };
        let last = tale.served.iter().max().expect("ten");
        assert!(
            *last <= rounds(GREEDY + 20, each_wait(mechanism, &config, QUESTIONS)),
            "{mechanism}: not its turn until wait {last}: {tale:?}"
        );
        // Each may be served for an event, and again because its turn was cut short.
        let turn = config.limits.read_budget as usize * (config.limits.high_water + ANSWER);
        let most = 2 * GREEDY.min(config.events) * turn;
        assert!(tale.most_written <= most as u64, "{mechanism}: more than {most} bytes in a turn: {tale:?}");
        println!("    {GREEDY} greedy: the last of ten was served in wait {last}, {} bytes a turn", tale.most_written);
    });
}

/// What Jain's index of shares must come to.
const EVEN: f64 = 0.9;

#[test]
fn a_hundred_that_are_always_busy_are_served_alike_beside_a_firehose() {
    const ACTIVE: usize = 100;
    on_every_mechanism(|mechanism| {
        if !is_concurrent(mechanism, "fairness beside a firehose") {
            return;
        }
        let each = if mechanism.is_common() { 40 } else { 15 };
        let mut server = Hosted::start(mechanism, Spoken::Echo, config());
        let hose = server.connect();
        let shares = std::thread::scope(|scope| {
            let (mut up, mut down) = (hose.stream(), hose.stream());
            scope.spawn(move || while up.write_all(&[7; 64 * 1024]).is_ok() {});
            scope.spawn(move || std::io::copy(&mut down, &mut std::io::sink()));
            let shares = busy(&server, ACTIVE, each);
            let _ = hose.stream().shutdown(std::net::Shutdown::Both);
            shares
        });
        let index = fairness(shares.iter().copied()).expect("somebody was served");
        println!("    Jain's index {index:.3}");
        assert!(index >= EVEN, "{mechanism}: Jain's index is {index:.3}: {shares:?}");
        server.neighbour_is_served();
        drop(hose);
        server.end();
    });
}

/// Keeps so many connections busy, each with one request at a time, until so many were answered of `each` on the
/// average. How many of each one. A system that shares its processors out among threads, and with whatever else runs
/// there, may take a few times as long to be even.
fn busy(server: &Hosted, active: usize, each: u64) -> Vec<u64> {
    const LONGEST: u64 = 10;
    let mut poller = Poll::open().expect("a poller");
    let mut peers: Vec<_> = (0..active).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.exchange(Spoken::Echo, 0); // whoever is in service alone has it easy
    }
    for (at, peer) in peers.iter_mut().enumerate() {
        poller.add(source(peer), Token(at as u64), Interest::READABLE, Trigger::Level).expect("added");
        peer.says(&Spoken::Echo.request(0));
    }
    let mut shares = vec![0; active];
    let mut events = Events::with_capacity(active);
    loop {
        let (all, enough) = (shares.iter().sum::<u64>(), each * active as u64);
        let is_even = fairness(shares.iter().copied()).is_some_and(|index| index >= EVEN);
        if all >= LONGEST * enough || (all >= enough && is_even) {
            break;
        }
        poller.wait(&mut events, Some(PATIENCE)).expect("a wait");
        assert!(!events.is_empty(), "{}: nobody is answered", server.mechanism);
        for event in &events {
            let at = event.token().0 as usize;
            peers[at].hears(Spoken::Echo, shares[at] as u32);
            shares[at] += 1;
            peers[at].says(&Spoken::Echo.request(shares[at] as u32));
        }
    }
    for peer in &peers {
        poller.remove(source(peer)).expect("removed");
    }
    shares
}

fn source(peer: &Peer) -> pollmark::backends::Source<'_> {
    use pollmark::backends::AsSource;
    peer.stream().as_source()
}
