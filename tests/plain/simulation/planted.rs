//! Servers with a flaw each: the simulation is only worth something if it finds them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pollmark::backends::datagrams::{Inbound, Outbound};
use pollmark::backends::{
    AsSource, Capabilities, Event, Events, Interest, Ledger, OwnedSource, Poller, Source, Token, Trigger,
};
use pollmark::clock::{Clock, ManualClock};
use pollmark::protocol::{Context, DatagramProtocol, EchoDatagrams, Peer, Protocol};
use pollmark::server::Net;
use pollmark::simulation::{Failure, Parts, SimulatedNet, SimulatedPoller, Simulation};

/// In so many seeds a flaw has to be found.
const SEEDS: u64 = 100;

/// A mistake somebody might make in a loop, a mechanism or a protocol, and what it must be found out by.
const FLAWS: [(Flaw, &str); 17] = [
    (Flaw::LosesEveryTwentiethEvent, "the server sleeps on a connection"),
    (Flaw::ForgetsModify, "the server sleeps on a connection"),
    (Flaw::SwapsTokens, "the server s"), // spins or sleeps, as the trigger has it
    (Flaw::ForgetsToRemove, "closed behind the poller's back"),
    (Flaw::KeepsDescriptors, "it is not closed"),
    (Flaw::NeverSleeps, "the server spins"),
    (Flaw::ForgetsTheTimeout, "over a deadline"),
    (Flaw::SleepsTwiceAsLong, "over a deadline"),
    (Flaw::RunsFast, "early"),
    (Flaw::DropsTheTail, "other than the"),
    (Flaw::SendsTwice, "than the"),
    (Flaw::SeesAnEndInSilence, "an end that the server has not read"),
    (Flaw::MixesBytesUp, "other than the client said"),
    (Flaw::RefusesTheFifth, "turned a connection away without cause"),
    (Flaw::EchoesAllButTheLast, "other than an echo"),
    (Flaw::LosesMessages, "the server counts"),
    (Flaw::AnswersAgain, "is answered, and was Answered"),
];

#[test]
fn every_flaw_is_found_within_a_hundred_seeds() {
    for (flaw, symptom) in FLAWS {
        let found = (0..SEEDS).find_map(|seed| {
            let failure = run(Some(flaw), seed).err()?;
            failure.what().contains(symptom).then_some(failure)
        });
        let failure = found.unwrap_or_else(|| panic!("{flaw:?} was overlooked in {SEEDS} seeds"));
        println!("{flaw:?}: seed {}: {}", failure.seed(), failure.what());
    }
}

#[test]
fn without_a_flaw_the_same_wrappers_pass() {
    for seed in 0..SEEDS {
        if let Err(failure) = run(None, seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_failure_is_found_again_by_its_number_and_says_how() {
    let flaw = Some(Flaw::LosesEveryTwentiethEvent);
    let failure = (0..SEEDS).find_map(|seed| run(flaw, seed).err()).expect("it is found: see above");
    let again = run(flaw, failure.seed()).expect_err("the same");
    assert_eq!(failure.to_string(), again.to_string());
    let command = format!("POLLMARK_SEED={} cargo test simulation::", failure.seed());
    assert!(failure.to_string().contains(&command) && failure.to_string().contains("event: "), "{failure}");
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    LosesEveryTwentiethEvent,
    ForgetsModify,
    SwapsTokens,
    ForgetsToRemove,
    KeepsDescriptors,
    NeverSleeps,
    ForgetsTheTimeout,
    SleepsTwiceAsLong,
    RunsFast,
    DropsTheTail,
    SendsTwice,
    SeesAnEndInSilence,
    MixesBytesUp,
    RefusesTheFifth,
    EchoesAllButTheLast,
    LosesMessages,
    AnswersAgain,
}

fn run(flaw: Option<Flaw>, seed: u64) -> Result<(), Box<Failure>> {
    let mut simulation = Simulation::new(seed).echoes();
    if matches!(flaw, None | Some(Flaw::LosesMessages | Flaw::AnswersAgain)) {
        simulation = simulation.configure(|config| {
            config.addresses.push("udp://127.0.0.1:0".parse().expect("an address"));
            config.max_datagram = 200;
        });
    }
    let simulation = simulation.run_on(Talk { flaw }, |Parts { poller, net, clock }| {
        let fast = (flaw == Some(Flaw::RunsFast)).then(|| Arc::new(ManualClock::new()));
        let poller = FlawedPoller { inner: poller, flaw, count: 0, kept: VecDeque::new(), fast: fast.clone(), clock };
        let clock = fast.map_or(poller.clock.clone(), Clock::from);
        Parts { poller, net: FlawedNet { inner: net, flaw }, clock }
    });
    simulation.map(drop)
}

/// Echoes, and gives up whoever is silent.
#[derive(Clone)]
struct Talk {
    flaw: Option<Flaw>,
}

impl Protocol for Talk {
    type Session = ();

    fn datagrams(&self) -> Option<Box<dyn DatagramProtocol>> {
        Some(Box::new(EchoDatagrams))
    }

    fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
        cx.deadline(Some(Duration::from_secs(30)));
    }

    fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
        cx.deadline(Some(Duration::from_secs(30)));
        if self.flaw == Some(Flaw::EchoesAllButTheLast) {
            cx.send_input(input.len() - 1);
        } else {
            cx.send_input(input.len());
        }
        input.len()
    }
}

struct FlawedPoller {
    inner: SimulatedPoller,
    flaw: Option<Flaw>,
    count: u64,
    kept: VecDeque<OwnedSource>,
    fast: Option<Arc<ManualClock>>,
    clock: Clock,
}

impl FlawedPoller {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// Whether it is the turn of an event, or of a source, to be wronged.
    fn counts_to(&mut self, number: u64) -> bool {
        self.count += 1;
        self.count.is_multiple_of(number)
    }

    /// Hands `found` on, as a flawed poller does.
    fn hand_on(&mut self, mut found: Vec<Event>, events: &mut Events) {
        if self.has(Flaw::SwapsTokens) && found.len() > 1 {
            let (first, second) = (found[0], found[1]);
            found[0] = Event::new(second.token(), first.readiness(), first.raw());
            found[1] = Event::new(first.token(), second.readiness(), second.raw());
        }
        events.clear();
        for event in found {
            if !(self.has(Flaw::LosesEveryTwentiethEvent) && self.counts_to(20)) {
                events.push(event);
            }
        }
    }
}

impl Poller for FlawedPoller {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.has(Flaw::RefusesTheFifth) && self.counts_to(5) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.inner.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if self.has(Flaw::ForgetsModify) {
            return Ok(());
        }
        self.inner.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.inner.remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        if self.has(Flaw::KeepsDescriptors) {
            self.kept.push_back(source);
            return Ok(());
        }
        if self.has(Flaw::ForgetsToRemove) {
            drop(source);
            return Ok(());
        }
        self.inner.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = match timeout {
            _ if self.has(Flaw::NeverSleeps) => Some(Duration::ZERO),
            _ if self.has(Flaw::ForgetsTheTimeout) => None,
            Some(timeout) if self.has(Flaw::SleepsTwiceAsLong) => Some(timeout * 2),
            timeout => timeout,
        };
        let before = self.clock.now();
        let waited = self.inner.wait(events, timeout);
        if let Some(fast) = &self.fast {
            fast.advance((self.clock.now() - before) * 11 / 10);
        }
        self.hand_on(events.iter().collect(), events);
        waited
    }

    fn ledger(&self) -> Ledger {
        self.inner.ledger()
    }
}

#[derive(Clone)]
struct FlawedNet {
    inner: SimulatedNet,
    flaw: Option<Flaw>,
}

impl FlawedNet {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

impl Net for FlawedNet {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        let (source, peer) = self.inner.accept(listener, nonblocking)?;
        debug_assert!(peer.address.is_some(), "{:?} comes from somewhere", source.as_source());
        Ok((source, peer))
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.inner.recv(source, buffer);
        match &received {
            Ok(bytes) if self.has(Flaw::MixesBytesUp) && *bytes > 1 => buffer[..*bytes].rotate_left(1),
            Err(error) if self.has(Flaw::SeesAnEndInSilence) && error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(0);
            }
            _ => {}
        }
        received
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.inner.send(source, bytes)?;
        if self.has(Flaw::DropsTheTail) {
            return Ok(bytes.len());
        }
        if self.has(Flaw::SendsTwice) && sent > 1 {
            return Ok(sent - 1);
        }
        Ok(sent)
    }

    fn recv_batch(&self, source: Source<'_>, into: &mut Inbound) -> io::Result<usize> {
        self.inner.recv_batch(source, into)
    }

    fn send_batch(&self, source: Source<'_>, from: &mut Outbound) -> io::Result<usize> {
        if self.has(Flaw::LosesMessages) {
            return Ok(usize::from(from.pop().is_some()));
        }
        if self.has(Flaw::AnswersAgain) {
            let mut twice = Outbound::default();
            if let Some((to, bytes)) = from.pop() {
                (0..2).for_each(|_| twice.push(to, bytes));
            }
            return self.inner.send_batch(source, &mut twice);
        }
        self.inner.send_batch(source, from)
    }
}
