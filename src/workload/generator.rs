//! The load generator: connections over non-blocking sockets, on one thread, by one fixed mechanism; kept busy by a
//! closed loop or by an open one.

mod closed;
mod open;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pollmark_backends::{AsSource, Event, Events, Interest, Poller, Registry, Token, Trigger};
use socket2::SockRef;

use super::channel::{Channel, Phase};
use super::connect::Connector;
use super::stamp::Stamp;
use super::{Fault, Outcome, Pace, Sources, Traffic};
use crate::client::Target;
use crate::limits::{self, OPENING_AT_ONCE};
use closed::Renewal;

/// How long a server may keep all connections waiting before it counts as silent.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes taken by one read.
const LARGEST_READ: usize = 256 * 1024;
/// The most events taken from one wait.
const BATCH: usize = 256;
/// Latencies are counted in nanoseconds up to this, with three digits; longer ones count as this.
const LONGEST: Duration = Duration::from_secs(60);

/// The ways to wait, best first: what this system has of them is used for every load, whatever the server waits by.
const MECHANISMS: [&str; 3] = ["epoll", "kqueue", "poll"];

/// What every load here waits by.
pub(crate) fn mechanism() -> io::Result<Box<dyn Poller>> {
    let registry = Registry::builtin();
    let available = MECHANISMS.iter().filter_map(|name| registry.get(name).ok()).find(|one| one.probe().is_ok());
    available.map_or(Err(io::ErrorKind::Unsupported.into()), |entry| entry.open())
}

/// When a run ends. What is under way is waited for, so that it ends with every connection at rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// After this long.
    Elapsed(Duration),
    /// After exactly this many exchanges.
    Requests(u64),
}

/// Connections to one server, and the loop that keeps them busy.
///
/// ```no_run
/// use pollmark::workload::{Generator, Until};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), pollmark::workload::Fault> {
/// let server: std::net::SocketAddr = "127.0.0.1:7000".parse().expect("an address");
/// let mut load = Generator::new(server, 64)?;
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
    /// A load of payloads of `size` bytes (at least 1) on the echo server at `target`, an address of TCP or a Unix
    /// socket. Nothing is opened yet.
    ///
    /// # Errors
    /// [`Fault::Wait`] if the mechanism to wait by cannot be opened.
    pub fn new(target: impl Into<Target>, size: usize) -> Result<Generator, Fault> {
        let mut engine = Engine {
            poller: mechanism().map_err(Fault::Wait)?,
            connector: Connector::new(target.into()),
            traffic: Traffic::default(),
            stamp: Stamp::new(1),
            buffer: Box::default(),
            first_id: 0,
            next_id: 0,
            runs: 0,
            stop: Arc::default(),
        };
        engine.follow(Traffic { payload: size, ..Traffic::default() });
        Ok(Generator { engine, idle: Vec::new(), active: Vec::new() })
    }

    /// From now on connections do this; those that are open, too.
    pub fn follow(&mut self, traffic: Traffic) {
        self.engine.follow(traffic);
    }

    /// Lets whoever sets `stop` end a run early. What is under way is still waited for, and the outcome counts. What is
    /// being opened then is given up.
    pub fn stop_on(&mut self, stop: Arc<AtomicBool>) {
        self.engine.stop = stop;
    }

    /// Lets connections come from these addresses in turn, instead of from where the kernel likes. Those of a Unix
    /// socket come from none.
    pub fn come_from(&mut self, sources: Sources) {
        self.engine.connector.come_from(sources);
    }

    /// Numbers connections from `first` on. Echoes differ by the number of their connection, so that loads with
    /// numbers of their own find out if one is sent the echo of another.
    pub fn number_from(&mut self, first: u32) {
        self.engine.first_id = first;
        self.engine.next_id = first;
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

    /// Keeps all active connections busy, or has them [keep pace](Traffic::pace). They stay open, however many
    /// [exchanges](Traffic::exchanges) they make.
    ///
    /// # Errors
    /// The first [`Fault`]: the run does not count, and the connections are of no more use.
    pub fn run(&mut self, until: Until) -> Result<Outcome, Fault> {
        let mut places: Vec<_> = self.active.drain(..).map(Some).collect();
        let outcome = match self.engine.traffic.pace {
            Pace::Closed => self.engine.drive(&mut places, until, Renewal::SameConnection),
            _ => self.engine.keep_pace(&mut places, until),
        };
        self.active.extend(places.into_iter().flatten());
        outcome
    }

    /// Opens `connections` at a time, each for one exchange, or for as many as [`Traffic::exchanges`] says, and closes
    /// each by a reset; closes the active ones of before.
    ///
    /// # Errors
    /// As [`run`](Generator::run).
    pub fn churn(&mut self, connections: usize, until: Until) -> Result<Outcome, Fault> {
        self.close_active()?;
        self.check_descriptors(connections)?;
        let mut places = Vec::with_capacity(connections);
        self.engine.drive(&mut places, until, Renewal::NewConnection { at_once: connections })
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
        self.engine.next_id - self.engine.first_id
    }

    /// Connections open, idle and active.
    pub fn connections(&self) -> usize {
        self.idle.len() + self.active.len()
    }

    fn check_descriptors(&self, more: usize) -> Result<(), Fault> {
        limits::descriptors_for(self.connections().saturating_add(more)).map_err(Fault::Limit)
    }
}

/// What all connections share.
struct Engine {
    poller: Box<dyn Poller>,
    connector: Connector,
    traffic: Traffic,
    stamp: Stamp,
    buffer: Box<[u8]>,
    first_id: u32,
    next_id: u32,
    /// Runs of an open loop, whose arrivals at random are others in each.
    runs: u64,
    stop: Arc<AtomicBool>,
}

/// What a wait came back with.
enum Seen {
    Something,
    Nothing,
    Interruption,
}

impl Engine {
    fn follow(&mut self, traffic: Traffic) {
        let (payload, outstanding) = (traffic.payload.max(1), traffic.outstanding.max(1));
        self.traffic = Traffic { payload, outstanding, ..traffic };
        if self.stamp.size() != payload {
            self.stamp = Stamp::new(payload);
        }
        // One byte more than all the echoes that are owed, so that one too long is seen at once.
        let most = payload.saturating_mul(outstanding).saturating_add(1).min(LARGEST_READ);
        self.buffer = vec![0; most].into_boxed_slice();
    }

    /// Opens `count` connections; `before` are open already, which only the error tells.
    fn open(&mut self, count: usize, before: usize) -> Result<Vec<Channel>, Fault> {
        let mut events = Events::with_capacity(BATCH);
        let mut channels: Vec<Channel> = Vec::with_capacity(count);
        let mut proven = 0;
        while proven < count {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Fault::Stopped { opened: before + proven });
            }
            while channels.len() < count && channels.len() - proven < OPENING_AT_ONCE as usize {
                let slot = channels.len();
                channels.push(self.connect(slot, Instant::now()).map_err(|fault| counted(fault, before + proven))?);
            }
            self.wait(&mut events, channels.len() - proven)?;
            for event in &events {
                let advanced = self.advance(&mut channels[event.token().slot() as usize], event);
                proven += advanced.map_err(|fault| counted(fault, before + proven))?;
            }
        }
        Ok(channels)
    }

    fn wait(&mut self, events: &mut Events, waiting: usize) -> Result<(), Fault> {
        match self.look(events, PATIENCE)? {
            Seen::Nothing => Err(Fault::Silent { after: PATIENCE, waiting }),
            Seen::Something | Seen::Interruption => Ok(()),
        }
    }

    fn look(&mut self, events: &mut Events, patience: Duration) -> Result<Seen, Fault> {
        match self.poller.wait(events, Some(patience)) {
            Ok(()) if events.is_empty() => Ok(Seen::Nothing),
            Ok(()) => Ok(Seen::Something),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(Seen::Interruption)
            }
            Err(error) => Err(Fault::Wait(error)),
        }
    }

    fn connect(&mut self, slot: usize, now: Instant) -> Result<Channel, Fault> {
        let stream = self.connector.start().map_err(|error| self.unconnected(error))?;
        let interest = Interest::WRITABLE;
        let token = Token::new(slot as u32, 0);
        self.poller.add(stream.as_source(), token, interest, Trigger::Level).map_err(Fault::Wait)?;
        let id = self.next_id;
        self.next_id += 1;
        Ok(Channel::new(stream, id, interest, now))
    }

    #[cold]
    fn unconnected(&self, error: io::Error) -> Fault {
        Fault::Connect { target: self.connector.target().clone(), opened: 0, error }
    }

    fn close(&mut self, channel: Channel) {
        // An error could only say that the connection had already gone, and verification says that.
        let _ = self.poller.close(channel.stream);
    }

    #[inline]
    fn send(&mut self, channel: &mut Channel, slot: usize) -> Result<(), Fault> {
        channel.send(&mut self.stamp)?;
        self.watch(channel, slot)
    }

    /// Does what the event allows. Says how many exchanges that has completed, each verified.
    #[inline]
    fn advance(&mut self, channel: &mut Channel, event: Event) -> Result<usize, Fault> {
        let slot = event.token().slot() as usize;
        match channel.phase {
            Phase::Connecting => {
                match SockRef::from(&channel.stream).take_error() {
                    Ok(None) => {}
                    Ok(Some(error)) | Err(error) => return Err(self.unconnected(error)),
                }
                // Begun with connect(2).
                channel.phase = Phase::Exchanging;
                self.send(channel, slot)?;
                Ok(0)
            }
            Phase::Exchanging => {
                if channel.is_sending(&self.stamp) && event.writable() {
                    self.send(channel, slot)?;
                }
                if event.readable() { channel.receive(&self.stamp, &mut self.buffer) } else { Ok(0) }
            }
            Phase::Resting => channel.verify_quiet(&mut self.buffer).map(|()| 0),
        }
    }

    /// Watches for room only while part of the payload is unsent.
    #[inline]
    fn watch(&mut self, channel: &mut Channel, slot: usize) -> Result<(), Fault> {
        let mut wanted = Interest::READABLE;
        if channel.is_sending(&self.stamp) {
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

/// Exchanges begun on each connection, and so completed on each that is at rest.
fn begun(places: &[Option<Channel>]) -> Vec<u64> {
    places.iter().flatten().map(Channel::begun).collect()
}

fn since(before: &[u64], places: &[Option<Channel>]) -> Vec<u64> {
    begun(places).iter().zip(before).map(|(now, before)| now - before).collect()
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("valid bounds")
}

/// Who is there: a connection that is closed has no more events.
fn occupant(place: &mut Option<Channel>) -> &mut Channel {
    place.as_mut().expect("events come from connections that are open")
}

/// How many exchanges may still begin.
struct Quota {
    left: u64,
    deadline: Option<Instant>,
}

impl Quota {
    fn new(until: Until, now: Instant) -> Quota {
        match until {
            // None for a time that no clock will ever show.
            Until::Elapsed(duration) => Quota { left: u64::MAX, deadline: now.checked_add(duration) },
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
