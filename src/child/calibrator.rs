//! The calibrator: what each call of a server costs on this host, measured one kind at a time.
//!
//! It has the CPU that a server has, and like that a second thread, for then the kernel counts references to every
//! descriptor it looks at. Its peer (`calibrator/peer.rs`) has the load's CPU and waits by what the load waits by. Nothing
//! is between the calls but a look at the clock on the wall, whose cost is taken off.
//!
//! (a) *Awake*: the peer has sent to all connections before the first wait, and sleeps on its orders until the last answer
//!     has gone. So no wait sleeps and no send wakes anybody, and waits, receives and sends follow one another as in a
//!     server that is busy. What a wait may return is limited, which makes as many waits as are wanted.
//! (b) *Asleep*: one connection, to and fro. Both ends sleep, and how often is counted.
//! (c) The clock on the wall tells how the CPU time of a stretch is shared out among the kinds of calls; the CPU time itself
//!     is the kernel's account of it, as for a server. A stretch in which somebody else had the CPU is left out while
//!     there are others.
//! (d) Connections that are only watched are registered before those that are served, as in a server: select(2) and
//!     poll(2) meet them first.
//! (e) Messages beyond 16 KiB are sent over few connections, as few as have so much under way in a server, whose buffers are
//!     set so large that each comes whole.

mod peer;
mod stretch;

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pollmark_backends::{
    AsSource, Capabilities, Events, Growth, Interest, OwnedSource, Poller, Registry, Token, Trigger,
};
use socket2::{SockRef, Socket};

use super::ceiling::bind;
use super::orders::{answer, orders};
use super::target::target;
use super::wire::CalibrationOrder;
use crate::calibration::{CROWD, Calibration, Call, Phase, Spent, WHOLE};
use crate::mechanism::Mechanism;
use crate::server::{Kernel, Net};
use crate::workload::Transport;
use crate::{cpus, stream, usage};
pub(super) use peer::run as run_peer;
use peer::{Order, Peer};
use stretch::{Meter, Stretches, a_look, cpu_time, typical};

/// Connections that are served while nothing else is watched, few or some, and those that are while others are.
const FEW: Range<usize> = 0..4;
const ALONE: Range<usize> = 0..64;
const BESIDE: Range<usize> = 64..68;
/// Events that a wait may return, in the phase that tells what one more costs.
const BATCH: usize = 8;
/// Connections that are opened at a time: fewer than any queue of those that wait to be accepted has room for.
const AT_ONCE: usize = 64;
/// Of so many and more, a fifth is a population of its own.
const TWO_CROWDS: usize = 1_000;
/// One in so many of the messages is answered before anything is measured: whoever has slept finds the caches cold.
const LEAD: usize = 4;
/// Exchanges to and fro between two looks at the time.
const EXCHANGES: usize = 12;
/// Waits in a row that may bring nothing, though something is ready.
const FRUITLESS: usize = 1_000;
/// Buffers that the largest messages come whole through, with what the kernel has to keep beside the bytes.
const ROOM: usize = 4 * BUFFER;
/// A buffer as large as a server's, of which the kernel uses what it needs.
const BUFFER: usize = 64 * 1024;

/// Obeys until the parent is gone, which ends the process elsewhere.
pub(super) fn run(registry: &Registry) {
    let orders = orders(|_| false);
    usage::raise_descriptor_limit();
    while let Ok(order) = orders.recv() {
        answer(&calibrate(registry, &order).map_err(|error| error.to_string()));
    }
}

fn calibrate(registry: &Registry, order: &CalibrationOrder) -> io::Result<Vec<Calibration>> {
    // That it could not be bound every server of the comparison tells as well.
    let _ = cpus::unpinned(order.cpu);
    let mut rows = Vec::new();
    for &transport in &order.transports {
        Session::open(order, transport)?.run(registry, order, &mut rows)?;
    }
    Ok(rows)
}

/// Connections of one transport, and their peer.
struct Session {
    // Ended first: what it resets is nobody's concern any more.
    peer: Peer,
    listener: Socket,
    transport: Transport,
    payload: usize,
    watched: Vec<OwnedSource>,
    served: Vec<OwnedSource>,
    buffer: Vec<u8>,
    /// How long each phase may take.
    span: Duration,
    look: Duration,
}

/// A mechanism at work.
struct Waiter {
    name: String,
    trigger: Trigger,
    poller: Box<dyn Poller>,
    /// How many are registered.
    watched: usize,
}

impl Session {
    fn open(order: &CalibrationOrder, transport: Transport) -> io::Result<Session> {
        let (listener, address) = bind(transport)?;
        let peer = Peer::start(&target(&address)?, order.peer_cpu)?;
        let (watched, served, buffer) = (Vec::new(), Vec::new(), vec![0; BUFFER]);
        let mut session = Session {
            peer,
            listener,
            transport,
            payload: 1,
            watched,
            served,
            buffer,
            span: order.span,
            look: a_look(),
        };
        // (d) Numbers are given in this order: low ones to those that are served alone, as they have in a server then.
        session.take_on(Order::Served(ALONE.len()), &mut Stretches::new(Duration::ZERO, session.look))?;
        Ok(session)
    }

    /// All phases.
    fn run(&mut self, registry: &Registry, order: &CalibrationOrder, rows: &mut Vec<Calibration>) -> io::Result<()> {
        let mut taken_on = Stretches::new(Duration::ZERO, self.look);
        for opened in (0..order.watched).step_by(AT_ONCE) {
            self.take_on(Order::Watched(AT_ONCE.min(order.watched - opened)), &mut taken_on)?;
        }
        self.take_on(Order::Served(BESIDE.len()), &mut Stretches::new(Duration::ZERO, self.look))?;
        let [&first, ref others @ ..] = order.payloads.iter().collect::<Vec<_>>()[..] else { return Ok(()) };
        self.send_messages_of(first)?;
        // The order is nobody's advantage.
        let mut mechanisms = order.mechanisms.clone();
        Rng::with_seed(order.seed).shuffle(&mut mechanisms);
        for name in &mechanisms {
            self.mechanism(registry, name, rows)?;
        }
        rows.push(self.blocking()?);
        if let Some(name) = mechanisms.first() {
            for &payload in others {
                if *payload > WHOLE {
                    continue;
                }
                self.send_messages_of(*payload)?;
                let mut waiter = Waiter::open(registry, name)?.0;
                self.register(&mut waiter, ALONE)?;
                rows.push(self.awake(&mut waiter, ALONE, 1)?);
            }
        }
        let mut calls = taken_on.end();
        calls.extend(self.part()?);
        rows.push(Calibration { phase: Phase::Connections, watched: order.watched as u32, calls, ..self.row() });
        // (e) The last, for where one comes in parts all the same nothing more can be measured, and nothing else is lost.
        for payload in others.iter().copied().filter(|payload| **payload > WHOLE) {
            match mechanisms.first().map(|name| self.large(registry, name, *payload)) {
                Some(Ok(row)) => rows.push(row),
                Some(Err(_)) | None => break,
            }
        }
        Ok(())
    }

    /// (e)
    fn large(&mut self, registry: &Registry, name: &str, payload: usize) -> io::Result<Calibration> {
        for source in &self.served[FEW] {
            make_room(source.as_source())?;
        }
        self.send_messages_of(payload)?;
        let mut waiter = Waiter::open(registry, name)?.0;
        self.register(&mut waiter, FEW)?;
        self.awake(&mut waiter, FEW, 1)
    }

    /// What one mechanism does.
    fn mechanism(&mut self, registry: &Registry, name: &str, rows: &mut Vec<Calibration>) -> io::Result<()> {
        let (mut waiter, capabilities) = Waiter::open(registry, name)?;
        self.register(&mut waiter, FEW)?;
        rows.push(self.awake(&mut waiter, FEW, 1)?);
        rows.push(self.asleep(&mut waiter, FEW.start)?);
        self.take_out(&mut waiter, FEW)?;
        self.register(&mut waiter, ALONE)?;
        rows.push(self.awake(&mut waiter, ALONE, 1)?);
        rows.push(self.awake(&mut waiter, ALONE, BATCH)?);
        self.take_out(&mut waiter, ALONE)?;
        let scans = capabilities.growth != Growth::Ready;
        let all = self.watched.len();
        let mut populations = if scans && all >= TWO_CROWDS { vec![all / 5, all] } else { vec![all] };
        populations.retain(|population| *population > 0 && has_room_for(&capabilities, *population));
        for population in populations {
            let mut registration = Stretches::new(Duration::ZERO, self.look);
            registration.make(|meter| self.watch(&mut waiter, 0..population, meter))?;
            self.register(&mut waiter, BESIDE)?;
            rows.push(self.awake(&mut waiter, BESIDE, 1)?);
            if scans {
                rows.push(self.asleep(&mut waiter, BESIDE.start)?);
            }
            self.take_out(&mut waiter, BESIDE)?;
            registration.make(|meter| self.unwatch(&mut waiter, 0..population, meter))?;
            let (phase, mechanism) = (Phase::Registration, Some(name.to_owned()));
            let watched = population as u32;
            rows.push(Calibration { phase, mechanism, watched, calls: registration.end(), ..self.row() });
        }
        Ok(())
    }

    /// (a)
    fn awake(&mut self, waiter: &mut Waiter, served: Range<usize>, batch: usize) -> io::Result<Calibration> {
        let mut events = Events::with_capacity(batch);
        // A crowd takes longer to go over.
        let span = if waiter.watched as u32 >= CROWD { self.span * 2 } else { self.span };
        let mut stretches = Stretches::new(span, self.look);
        while stretches.go_on() {
            self.peer.ask(Order::Send(served.start, served.len()))?;
            let (all, lead) = (served.len(), served.len() / LEAD);
            let left = self.answer(waiter, &mut events, (all, all - lead), &mut Meter::default())?;
            stretches.make(|meter| self.answer(waiter, &mut events, (left, 0), meter).map(drop))?;
            self.peer.ask(Order::Take(served.start, served.len()))?;
        }
        let calls = stretches.end();
        // Each message was told of once, but by those who tell of what is not there.
        let told = [Call::Receive, Call::ReceiveNothing].map(|call| calls.get(&call).map_or(0, |spent| spent.times));
        let events = told.iter().sum();
        Ok(Calibration { phase: Phase::Awake, batch: batch as u32, events, calls, ..self.row_of(waiter) })
    }

    /// Answers messages until of so many only so many are left, or a few less.
    fn answer(
        &mut self,
        waiter: &mut Waiter,
        events: &mut Events,
        (of, until): (usize, usize),
        meter: &mut Meter,
    ) -> io::Result<usize> {
        let (mut left, mut fruitless) = (of, 0);
        while left > until {
            let began = Instant::now();
            waiter.wait(events, None)?;
            meter.took(Call::Wait, began);
            fruitless += 1;
            for event in &*events {
                if self.serve(waiter, event.token(), meter)? {
                    (left, fruitless) = (left - 1, 0);
                }
            }
            if fruitless > FRUITLESS {
                return Err(io::Error::other(format!("{left} messages are there, and no wait tells of them")));
            }
        }
        Ok(left)
    }

    /// Answers a message. False: there was none.
    fn serve(&mut self, waiter: &mut Waiter, token: Token, meter: &mut Meter) -> io::Result<bool> {
        let source = self.served[token.slot() as usize].as_source();
        let began = Instant::now();
        let bytes = match stream::recv(source, &mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                meter.took(Call::ReceiveNothing, began);
                return Ok(false);
            }
            received => whole(received?, self.payload)?,
        };
        let at = meter.took(Call::Receive, began);
        whole(stream::send(source, &self.buffer[..bytes])?, self.payload)?;
        let at = meter.took(Call::Send, at);
        if waiter.trigger == Trigger::Oneshot {
            waiter.poller.modify(source, token, Interest::READABLE, waiter.trigger)?;
            meter.took(Call::Modify, at);
        }
        Ok(true)
    }

    /// (b) By a mechanism.
    fn asleep(&mut self, waiter: &mut Waiter, place: usize) -> io::Result<Calibration> {
        let mut events = Events::with_capacity(BATCH);
        let row = Calibration { phase: Phase::Asleep, batch: 1, ..self.row_of(waiter) };
        self.back_and_forth(place, row, |session, to_and_fro| {
            let mut found = None;
            while found.is_none() {
                waiter.wait(&mut events, None)?;
                to_and_fro.waits += 1;
                for event in &events {
                    let source = session.served[event.token().slot() as usize].as_source();
                    let began = Instant::now();
                    match stream::recv(source, &mut session.buffer) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        received => found = Some(received?),
                    }
                    to_and_fro.received.push(began.elapsed());
                    if waiter.trigger == Trigger::Oneshot {
                        waiter.poller.modify(source, event.token(), Interest::READABLE, waiter.trigger)?;
                    }
                }
            }
            Ok(found.unwrap_or(0))
        })
    }

    /// (b) By recv(2).
    fn blocking(&mut self) -> io::Result<Calibration> {
        let place = ALONE.start;
        rustix::io::ioctl_fionbio(&self.served[place], false)?;
        let row = Calibration { phase: Phase::Blocking, watched: 1, batch: 1, ..self.row() };
        let row = self.back_and_forth(place, row, |session, _| {
            stream::recv(session.served[place].as_source(), &mut session.buffer)
        })?;
        rustix::io::ioctl_fionbio(&self.served[place], true)?;
        Ok(row)
    }

    fn back_and_forth(
        &mut self,
        place: usize,
        row: Calibration,
        mut receive: impl FnMut(&mut Session, &mut ToAndFro) -> io::Result<usize>,
    ) -> io::Result<Calibration> {
        let mut all = ToAndFro::default();
        let is_crowd = row.watched >= CROWD;
        // Who has just begun to sleep finds the caches colder than who has for a while.
        let lead = if is_crowd { 2 } else { EXCHANGES };
        self.peer.tell(Order::Exchange(place, lead))?;
        for _ in 0..lead {
            let bytes = whole(receive(self, &mut ToAndFro::default())?, self.payload)?;
            whole(stream::send(self.served[place].as_source(), &self.buffer[..bytes])?, self.payload)?;
        }
        self.peer.hear()?;
        // And a sleep differs from the next by more than any other call does, but beside a crowd.
        let until = Instant::now() + if is_crowd { self.span } else { self.span * 2 };
        let (mut exchanges, mut peer_slept) = (0, Some(0));
        while exchanges == 0 || Instant::now() < until {
            self.peer.tell(Order::Exchange(place, EXCHANGES))?;
            let (slept, cpu) = (usage::times_slept(), cpu_time()?);
            for _ in 0..EXCHANGES {
                let bytes = whole(receive(self, &mut all)?, self.payload)?;
                let began = Instant::now();
                whole(stream::send(self.served[place].as_source(), &self.buffer[..bytes])?, self.payload)?;
                all.sent.push(began.elapsed());
            }
            all.cpu += cpu_time()?.saturating_sub(cpu);
            all.slept = all.slept.zip(usage::times_slept().zip(slept)).map(|(all, (now, before))| all + now - before);
            let woken = Some(self.peer.hear()?).filter(|slept| *slept != u64::MAX);
            peer_slept = peer_slept.zip(woken).map(|(all, woken)| all + woken);
            exchanges += EXCHANGES as u64;
        }
        let (received, sent) = (typical(&all.received, self.look), typical(&all.sent, self.look));
        // Two looks for each call that was timed.
        let looks = self.look.as_nanos() as u64 * 2 * (received.times + sent.times);
        let rest = (all.cpu.as_nanos() as u64).saturating_sub(received.cpu_ns + sent.cpu_ns + looks);
        let mut calls = row.calls.clone();
        calls.insert(Call::Send, sent);
        match all.waits {
            0 => calls.insert(Call::Receive, Spent { times: exchanges, cpu_ns: rest }),
            waits => {
                calls.insert(Call::Receive, received);
                calls.insert(Call::Wait, Spent { times: waits, cpu_ns: rest })
            }
        };
        Ok(Calibration { calls, events: exchanges, slept: all.slept, peer_slept, ..row })
    }

    /// Has the peer connect, and accepts.
    fn take_on(&mut self, order: Order, stretches: &mut Stretches) -> io::Result<()> {
        let (Order::Watched(count) | Order::Served(count)) = order else { return Ok(()) };
        self.peer.ask(order)?;
        let mut accepted = Vec::with_capacity(count);
        stretches.make(|meter| {
            let began = Instant::now();
            for _ in 0..count {
                accepted.push(Kernel.accept(self.listener.as_source(), true)?.0);
            }
            meter.took_all(Call::Accept, count as u64, began);
            Ok(())
        })?;
        if self.transport == Transport::Tcp {
            accepted.iter().try_for_each(|source| SockRef::from(source).set_tcp_nodelay(true))?;
        }
        if matches!(order, Order::Watched(_)) { &mut self.watched } else { &mut self.served }.append(&mut accepted);
        Ok(())
    }

    /// Looks at connections that have nothing to say, and closes those that were watched.
    fn part(&mut self) -> io::Result<Vec<(Call, Spent)>> {
        let mut stretches = Stretches::new(Duration::ZERO, self.look);
        stretches.make(|meter| {
            let began = Instant::now();
            for source in &self.served {
                match stream::recv(source.as_source(), &mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => return Err(io::Error::other(format!("{other:?}, where nothing was sent"))),
                }
            }
            meter.took_all(Call::ReceiveNothing, self.served.len() as u64, began);
            Ok(())
        })?;
        self.peer.ask(Order::Reset)?;
        while !self.watched.is_empty() {
            let some = self.watched.split_off(self.watched.len().saturating_sub(AT_ONCE));
            stretches.make(|meter| {
                let (count, began) = (some.len() as u64, Instant::now());
                drop(some);
                meter.took_all(Call::Close, count, began);
                Ok(())
            })?;
        }
        Ok(stretches.end().into_iter().collect())
    }

    fn send_messages_of(&mut self, bytes: usize) -> io::Result<()> {
        self.payload = bytes;
        self.peer.ask(Order::Payload(bytes)).map(drop)
    }

    fn register(&self, waiter: &mut Waiter, served: Range<usize>) -> io::Result<()> {
        for place in served {
            waiter.add(self.served[place].as_source(), place)?;
        }
        waiter.settle()
    }

    fn take_out(&self, waiter: &mut Waiter, served: Range<usize>) -> io::Result<()> {
        for place in served {
            waiter.remove(self.served[place].as_source())?;
        }
        Ok(())
    }

    fn watch(&self, waiter: &mut Waiter, watched: Range<usize>, meter: &mut Meter) -> io::Result<()> {
        let (count, began) = (watched.len() as u64, Instant::now());
        for place in watched {
            waiter.add(self.watched[place].as_source(), BESIDE.end + place)?;
        }
        waiter.settle()?;
        meter.took_all(Call::Add, count, began);
        Ok(())
    }

    fn unwatch(&self, waiter: &mut Waiter, watched: Range<usize>, meter: &mut Meter) -> io::Result<()> {
        let (count, began) = (watched.len() as u64, Instant::now());
        for place in watched {
            waiter.remove(self.watched[place].as_source())?;
        }
        meter.took_all(Call::Remove, count, began);
        Ok(())
    }

    fn row(&self) -> Calibration {
        Calibration { transport: self.transport, payload_bytes: self.payload as u64, ..Calibration::default() }
    }

    fn row_of(&self, waiter: &Waiter) -> Calibration {
        Calibration { mechanism: Some(waiter.name.clone()), watched: waiter.watched as u32, ..self.row() }
    }
}

/// What was seen of exchanges to and fro.
struct ToAndFro {
    waits: u64,
    received: Vec<Duration>,
    sent: Vec<Duration>,
    cpu: Duration,
    slept: Option<u64>,
}

impl Default for ToAndFro {
    fn default() -> ToAndFro {
        ToAndFro { waits: 0, received: Vec::new(), sent: Vec::new(), cpu: Duration::ZERO, slept: Some(0) }
    }
}

impl Waiter {
    fn open(registry: &Registry, name: &str) -> io::Result<(Waiter, Capabilities)> {
        let mechanism = Mechanism::parse(registry, name).map_err(io::Error::other)?;
        let Some((entry, trigger)) = mechanism.poller(registry) else {
            return Err(io::Error::other(format!("{mechanism} has no poller whose waits could be measured")));
        };
        let poller = entry.open()?;
        let capabilities = poller.capabilities();
        Ok((Waiter { name: name.to_owned(), trigger, poller, watched: 0 }, capabilities))
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        loop {
            match self.poller.wait(events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                waited => return waited,
            }
        }
    }

    /// What was changed, and some mechanisms tell the kernel with the next wait, is done.
    fn settle(&mut self) -> io::Result<()> {
        self.wait(&mut Events::with_capacity(1), Some(Duration::ZERO))
    }

    fn add(&mut self, source: pollmark_backends::Source<'_>, slot: usize) -> io::Result<()> {
        self.watched += 1;
        self.poller.add(source, Token::new(slot as u32, 1), Interest::READABLE, self.trigger)
    }

    fn remove(&mut self, source: pollmark_backends::Source<'_>) -> io::Result<()> {
        self.watched -= 1;
        self.poller.remove(source)
    }
}

/// Whether a mechanism can watch so many, beside those that are served.
fn has_room_for(capabilities: &Capabilities, population: usize) -> bool {
    // Numbers of the standard streams, the peer's and the poller's own come before.
    let needed = population + BESIDE.end + 16;
    capabilities.numbers_below.is_none_or(|below| needed as u64 <= below)
        && capabilities.most_sources.is_none_or(|most| needed <= most)
}

/// Has a connection take a message of the largest size at once, in each direction.
pub(super) fn make_room(source: pollmark_backends::Source<'_>) -> io::Result<()> {
    let socket = SockRef::from(&source);
    socket.set_recv_buffer_size(ROOM)?;
    socket.set_send_buffer_size(ROOM)
}

/// A message that comes or goes in parts would be two calls for one.
fn whole(bytes: usize, payload: usize) -> io::Result<usize> {
    match bytes == payload {
        true => Ok(bytes),
        false => Err(io::Error::other(format!("{bytes} bytes of a message of {payload} at once"))),
    }
}
