//! The load generator: a closed loop over non-blocking sockets, on one thread, by one fixed mechanism.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pollmark_backends::{AsSource, Event, Events, Interest, Poller, Registry, Token, Trigger};

use super::Fault;
use super::channel::{Channel, Phase};
use super::connect::Connector;
use super::stamp::Stamp;
use crate::{limits, usage};

/// How long a server may keep all connections waiting before it counts as silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections being opened at a time: fewer than any listen queue holds.
const IN_FLIGHT: usize = 64;
/// The most events taken from one wait.
const BATCH: usize = 256;
/// The load counts as the limit when it was busy for more than this part of the time.
const BUSY: f64 = 0.85;
/// Latencies are counted in nanoseconds up to this, with three digits; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// The ways to wait, best first: what this system has of them is used for every load, whatever the server waits by.
const MECHANISMS: [&str; 3] = ["epoll", "kqueue", "poll"];

/// When a run ends. What is under way is waited for, so that it ends with every connection at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// After this long.
    Elapsed(Duration),
    /// After exactly this many exchanges.
    Requests(u64),
}

/// What a run did. There is no outcome of a run with a fault.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exchanges completed, each verified byte by byte.
    pub requests: u64,
    /// Bytes received and verified.
    pub bytes: u64,
    /// From the first send to the last echo.
    pub elapsed: Duration,
    /// CPU time of this process meanwhile, all threads; unknown if the system does not tell.
    pub cpu: Option<Duration>,
    /// How often the generator waited.
    pub waits: u64,
    /// How long exchanges took, in nanoseconds; with churn, from connect(2) to the verified echo.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// The latencies as the histogram distinguishes them: the upper end of each bucket in nanoseconds, and how many
    /// exchanges fell into it. Empty buckets are left out.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let recorded = self.latency.iter_recorded();
        recorded.map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect()
    }
}

/// Whether a load that used so much CPU time in a run of this length was itself the limit, rather than the server.
pub fn was_the_limit(cpu: Duration, elapsed: Duration) -> bool {
    cpu.as_secs_f64() > BUSY * elapsed.as_secs_f64()
}

/// Connections to one server, and the loop that keeps them busy.
///
/// ```no_run
/// use pollmark::workload::{Generator, Until};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), pollmark::workload::Fault> {
/// let mut load = Generator::new("127.0.0.1:7000".parse().expect("an address"), 64)?;
/// load.open_idle(1_000)?;
/// load.open_active(10)?;
/// let outcome = load.run(Until::Elapsed(Duration::from_secs(1)))?;
/// load.verify_idle()?;
/// println!("{} echoes, p99 {} ns", outcome.requests, outcome.latency.value_at_quantile(0.99));
/// # Ok(())
/// # }
/// ```
pub struct Generator {
    engine: Engine,
    idle: Vec<Channel>,
    active: Vec<Channel>,
}

impl Generator {
    /// A load of payloads of `size` bytes (at least 1) on the echo server at `target`. Nothing is opened yet.
    ///
    /// # Errors
    /// [`Fault::Wait`] if the mechanism to wait by cannot be opened.
    pub fn new(target: SocketAddr, size: usize) -> Result<Generator, Fault> {
        let registry = Registry::builtin();
        let available = MECHANISMS.iter().filter_map(|name| registry.get(name).ok()).find(|one| one.probe().is_ok());
        let poller = match available {
            Some(entry) => entry.open().map_err(Fault::Wait)?,
            None => return Err(Fault::Wait(io::ErrorKind::Unsupported.into())),
        };
        let size = size.max(1);
        let engine = Engine {
            poller,
            connector: Connector::new(target),
            stamp: Stamp::new(size),
            // One byte more than an echo, so that an echo too long is seen at once.
            buffer: vec![0; (size + 1).min(256 * 1024)].into_boxed_slice(),
            next_id: 0,
            stop: Arc::default(),
        };
        Ok(Generator { engine, idle: Vec::new(), active: Vec::new() })
    }

    /// Lets whoever sets `stop` end a run early. What is under way is still waited for, and the outcome counts.
    pub fn stop_on(&mut self, stop: Arc<AtomicBool>) {
        self.engine.stop = stop;
    }

    /// Opens idle connections, a few at a time. Each proves by one exchange that the server serves it.
    ///
    /// # Errors
    /// Any [`Fault`]; those opened by this call are closed again.
    pub fn open_idle(&mut self, connections: usize) -> Result<(), Fault> {
        self.check_descriptors(connections)?;
        let mut opened = self.engine.open(connections, self.idle.len())?;
        for channel in &mut opened {
            // Not watched, so that the generator's own cost is the same for any number of them.
            self.engine.poller.remove(channel.stream.as_source()).map_err(Fault::Wait)?;
        }
        self.idle.append(&mut opened);
        Ok(())
    }

    /// Opens the active connections, as [`open_idle`](Generator::open_idle) does; closes those of before.
    ///
    /// # Errors
    /// Any [`Fault`].
    pub fn open_active(&mut self, connections: usize) -> Result<(), Fault> {
        self.close_active()?;
        self.check_descriptors(connections)?;
        self.active = self.engine.open(connections, self.idle.len())?;
        Ok(())
    }

    /// Keeps all active connections busy.
    ///
    /// # Errors
    /// The first [`Fault`]: the run does not count, and the connections are of no more use.
    pub fn run(&mut self, until: Until) -> Result<Outcome, Fault> {
        self.engine.drive(&mut self.active, until, Renewal::SameConnection)
    }

    /// Opens `connections` at a time, each for one exchange, and closes each by a reset; closes the active ones of
    /// before.
    ///
    /// # Errors
    /// As [`run`](Generator::run).
    pub fn churn(&mut self, connections: usize, until: Until) -> Result<Outcome, Fault> {
        self.close_active()?;
        self.check_descriptors(connections)?;
        let mut channels = Vec::with_capacity(connections);
        self.engine.drive(&mut channels, until, Renewal::NewConnection { at_once: connections })
    }

    /// Makes sure that every idle connection is still open, and that none has received a byte.
    ///
    /// # Errors
    /// [`Fault::Closed`], [`Fault::Excess`] or [`Fault::Lost`], of the first that is not.
    pub fn verify_idle(&mut self) -> Result<(), Fault> {
        self.idle.iter_mut().try_for_each(|channel| channel.verify_quiet(&mut self.engine.buffer))
    }

    /// Closes the active connections, once they have been found quiet.
    ///
    /// # Errors
    /// As [`verify_idle`](Generator::verify_idle); they are closed all the same.
    pub fn close_active(&mut self) -> Result<(), Fault> {
        let mut verified = Ok(());
        for mut channel in self.active.drain(..) {
            verified = verified.and(channel.verify_quiet(&mut self.engine.buffer));
            self.engine.close(channel);
        }
        verified
    }

    /// How many connections were ever opened.
    pub fn opened(&self) -> u32 {
        self.engine.next_id
    }

    /// Connections open, idle and active.
    pub fn connections(&self) -> usize {
        self.idle.len() + self.active.len()
    }

    fn check_descriptors(&self, more: usize) -> Result<(), Fault> {
        limits::descriptors_for(self.connections() + more).map_err(Fault::Limit)
    }
}

/// What all connections share.
struct Engine {
    poller: Box<dyn Poller>,
    connector: Connector,
    stamp: Stamp,
    buffer: Box<[u8]>,
    next_id: u32,
    stop: Arc<AtomicBool>,
}

/// What follows a completed exchange.
#[derive(Clone, Copy)]
enum Renewal {
    SameConnection,
    NewConnection { at_once: usize },
}

impl Engine {
    /// Opens `count` connections; `before` are open already, which only the error tells.
    fn open(&mut self, count: usize, before: usize) -> Result<Vec<Channel>, Fault> {
        let mut events = Events::with_capacity(BATCH);
        let mut channels: Vec<Channel> = Vec::with_capacity(count);
        let mut proven = 0;
        while proven < count {
            while channels.len() < count && channels.len() - proven < IN_FLIGHT {
                let slot = channels.len();
                channels.push(self.connect(slot, Instant::now()).map_err(|fault| counted(fault, before + proven))?);
            }
            self.wait(&mut events, channels.len() - proven)?;
            for event in &events {
                let advanced = self.advance(&mut channels[event.token().slot() as usize], event);
                proven += usize::from(advanced.map_err(|fault| counted(fault, before + proven))?);
            }
        }
        Ok(channels)
    }

    /// The closed loop. The clock is read once for each exchange: the end of one is the beginning of the next.
    fn drive(&mut self, channels: &mut Vec<Channel>, until: Until, renewal: Renewal) -> Result<Outcome, Fault> {
        let mut events = Events::with_capacity(BATCH);
        let mut latency = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("valid bounds");
        let mut requests = 0;
        let mut under_way = 0;
        let (cpu, waits) = (usage::cpu_time(), self.poller.ledger().waits);
        let began = Instant::now();
        let mut now = began;
        let mut quota = Quota::new(until, began);

        let at_once = match renewal {
            Renewal::SameConnection => channels.len(),
            Renewal::NewConnection { at_once } => at_once,
        };
        for slot in 0..at_once {
            if !quota.take(now) {
                break;
            }
            match renewal {
                Renewal::SameConnection => self.begin(&mut channels[slot], slot, now)?,
                Renewal::NewConnection { .. } => channels.push(self.connect(slot, now)?),
            }
            under_way += 1;
        }
        while under_way > 0 {
            self.wait(&mut events, under_way)?;
            if self.stop.load(Ordering::Relaxed) {
                quota.exhaust();
            }
            for event in &events {
                let slot = event.token().slot() as usize;
                if !self.advance(&mut channels[slot], event)? {
                    continue;
                }
                now = Instant::now();
                latency.saturating_record((now - channels[slot].began).as_nanos() as u64);
                requests += 1;
                let more = quota.take(now);
                match renewal {
                    Renewal::SameConnection if more => self.begin(&mut channels[slot], slot, now)?,
                    Renewal::SameConnection => {}
                    Renewal::NewConnection { .. } if more => {
                        // Opened before the old one is closed: no number is reused while its events are at hand.
                        let renewed = self.connect(slot, now)?;
                        self.close(std::mem::replace(&mut channels[slot], renewed));
                    }
                    // Closed with the others, after the last echo.
                    Renewal::NewConnection { .. } => {}
                }
                under_way -= usize::from(!more);
            }
        }
        if let Renewal::NewConnection { .. } = renewal {
            channels.drain(..).for_each(|channel| self.close(channel));
        }
        Ok(Outcome {
            requests,
            bytes: requests * self.stamp.size() as u64,
            elapsed: now - began,
            cpu: usage::cpu_time().zip(cpu).map(|(after, before)| after - before),
            waits: self.poller.ledger().waits - waits,
            latency,
        })
    }

    fn wait(&mut self, events: &mut Events, waiting: usize) -> Result<(), Fault> {
        match self.poller.wait(events, Some(PATIENCE)) {
            Ok(()) if events.is_empty() => Err(Fault::Silent { after: PATIENCE, waiting }),
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            Err(error) => Err(Fault::Wait(error)),
        }
    }

    fn connect(&mut self, slot: usize, now: Instant) -> Result<Channel, Fault> {
        let target = self.connector.target();
        let failed = |error| Fault::Connect { target, opened: 0, error };
        let stream = self.connector.start().map_err(failed)?;
        let interest = Interest::WRITABLE;
        let token = Token::new(slot as u32, 0);
        self.poller.add(stream.as_source(), token, interest, Trigger::Level).map_err(Fault::Wait)?;
        let id = self.next_id;
        self.next_id += 1;
        let phase = Phase::Connecting;
        Ok(Channel { stream, id, phase, interest, sequence: 0, sent: 0, received: 0, began: now })
    }

    fn close(&mut self, channel: Channel) {
        // An error could only say that the connection had already gone, and verification says that.
        let _ = self.poller.close(channel.stream.into());
    }

    /// Sends the next payload.
    #[inline]
    fn begin(&mut self, channel: &mut Channel, slot: usize, now: Instant) -> Result<(), Fault> {
        channel.phase = Phase::Exchanging;
        channel.sequence += 1;
        (channel.sent, channel.received, channel.began) = (0, 0, now);
        channel.send(&mut self.stamp)?;
        self.watch(channel, slot)
    }

    /// Does what the event allows. True: an exchange is complete, and verified.
    #[inline]
    fn advance(&mut self, channel: &mut Channel, event: Event) -> Result<bool, Fault> {
        let slot = event.token().slot() as usize;
        match channel.phase {
            Phase::Connecting => {
                let target = self.connector.target();
                let failed = |error| Fault::Connect { target, opened: 0, error };
                if let Some(error) = channel.stream.take_error().map_err(failed)? {
                    return Err(failed(error));
                }
                let began = channel.began;
                self.begin(channel, slot, began)?;
                Ok(false)
            }
            Phase::Exchanging => {
                if channel.sent < self.stamp.size() && event.writable() {
                    channel.send(&mut self.stamp)?;
                    self.watch(channel, slot)?;
                }
                if event.readable() {
                    channel.receive(&self.stamp, &mut self.buffer)?;
                }
                let complete = channel.received == self.stamp.size();
                if complete {
                    channel.phase = Phase::Resting;
                }
                Ok(complete)
            }
            Phase::Resting => channel.verify_quiet(&mut self.buffer).map(|()| false),
        }
    }

    /// Watches for room only while part of the payload is unsent.
    #[inline]
    fn watch(&mut self, channel: &mut Channel, slot: usize) -> Result<(), Fault> {
        let mut wanted = Interest::READABLE;
        if channel.sent < self.stamp.size() {
            wanted |= Interest::WRITABLE;
        }
        if channel.interest == wanted {
            return Ok(());
        }
        channel.interest = wanted;
        let token = Token::new(slot as u32, 0);
        self.poller.modify(channel.stream.as_source(), token, wanted, Trigger::Level).map_err(Fault::Wait)
    }
}

/// How many exchanges may still begin.
struct Quota {
    left: u64,
    deadline: Option<Instant>,
}

impl Quota {
    fn new(until: Until, now: Instant) -> Quota {
        match until {
            Until::Elapsed(duration) => Quota { left: u64::MAX, deadline: Some(now + duration) },
            Until::Requests(requests) => Quota { left: requests, deadline: None },
        }
    }

    #[inline]
    fn take(&mut self, now: Instant) -> bool {
        let may = self.left > 0 && self.deadline.is_none_or(|deadline| now < deadline);
        self.left -= u64::from(may);
        may
    }

    fn exhaust(&mut self) {
        self.left = 0;
    }
}

/// A fault of opening, with the number that were opened before it.
fn counted(fault: Fault, opened: usize) -> Fault {
    match fault {
        Fault::Connect { target, error, .. } => Fault::Connect { target, opened, error },
        fault => fault,
    }
}
