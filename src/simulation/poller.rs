//! The simulated mechanism: what a wait reports, in which order, how much of it, and how much time has passed by then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pollmark_backends::{
    AsSource, Capabilities, Event, Events, Interest, Ledger, OwnedSource, Poller, Raw, Source, Token, Trigger,
    poll::Poll, raw,
};
use rustix::io::Errno;
use socket2::Type;

use super::faults::Fault;
use super::script::{MICROSECOND, MILLISECOND, SECOND, skewed};
use super::socket::{Bits, Watch};
use super::trace::{Name, What};
use super::world::{Shared, World};
use crate::server::told;

/// No wait is longer.
const A_CENTURY: u64 = 100 * 365 * 24 * 3_600 * SECOND;

/// So many waits that came to nothing are a spin, unless there was this much time, in nanoseconds, for each of them.
const PATIENCE: u64 = 100;
const FORGIVES: u64 = 100 * MICROSECOND;

/// The poller of a simulation.
///
/// What it does is legal for a kernel, and no more can be expected of one: it reports in any order, splits batches,
/// gives false alarms, is late, and is interrupted, all as the seed has it. When nothing is ready it moves the clock to
/// whatever comes next.
pub struct SimulatedPoller {
    world: Shared,
    /// The one thing that is real: whether the server has drained its waker.
    waker: Poll,
    /// Waits that came to nothing and are not forgiven; how far the world had come by the last.
    in_vain: u64,
    forgiven_until: u64,
    progress: u64,
}

impl SimulatedPoller {
    pub(super) fn new(world: Shared) -> io::Result<SimulatedPoller> {
        Ok(SimulatedPoller { world, waker: Poll::open()?, in_vain: 0, forgiven_until: 0, progress: 0 })
    }
}

impl Poller for SimulatedPoller {
    fn capabilities(&self) -> Capabilities {
        let world = self.world.lock();
        let mut capabilities = Capabilities::least();
        capabilities.edge = world.trigger == Trigger::Edge;
        capabilities.oneshot = world.trigger == Trigger::Oneshot;
        capabilities.resolution = Duration::from_nanos(world.kernel.resolution);
        capabilities.half_close = world.kernel.half_close;
        capabilities.errors = world.kernel.errors;
        capabilities.priority = world.kernel.priority;
        capabilities
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let mut world = self.world.lock();
        let name = match world.name(source) {
            Some(name) => name,
            None => {
                let name = world.introduce(source);
                if name == Name::Waker {
                    self.waker.add(source, token, interest, Trigger::Level)?;
                }
                name
            }
        };
        world.enter(Some(name));
        if world.watch(name).is_some() {
            world.fail(Some(name), "added twice");
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.is_watched_as_agreed(name, trigger);
        if let Name::Client(id) = name {
            if world.strike(Fault::AddFails) {
                world.sockets[id as usize].excused = true;
                let errors = [Errno::NOBUFS, FULL];
                let error = errors[world.rng.usize(..2)];
                world.note(name, What::Failed("add", error.raw_os_error()));
                return Err(error.into());
            }
            world.take_on(id, token);
        }
        world.note(name, What::Added(interest));
        world.register(name, token, interest);
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let mut world = self.world.lock();
        world.enter(None);
        let Some(name) = world.name(source).filter(|name| world.watch(*name).is_some()) else {
            world.fail(None, "modify of a source that was never added");
            return Err(io::ErrorKind::NotFound.into());
        };
        world.is_watched_as_agreed(name, trigger);
        if world.strike(Fault::ModifyFails) {
            world.note(name, What::Failed("modify", Errno::NOBUFS.raw_os_error()));
            if let Name::Client(id) = name {
                world.sockets[id as usize].excused = true;
            }
            return Err(Errno::NOBUFS.into());
        }
        world.note(name, What::Modified(interest));
        world.register(name, token, interest);
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let mut world = self.world.lock();
        world.enter(None);
        let Some(name) = world.name(source).filter(|name| world.watch(*name).is_some()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        world.note(name, What::Removed);
        world.ledger.changes += 1;
        world.forget(name);
        Ok(())
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        let mut world = self.world.lock();
        world.enter(None);
        let name = world.name(source.as_source());
        let removed = match name {
            Some(name) if world.watch(name).is_some() => {
                world.ledger.changes += 1;
                world.forget(name);
                Ok(())
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        if let Some(Name::Client(id)) = name {
            let lingers = socket2::SockRef::from(&source).linger().ok().flatten();
            world.closed(id, lingers == Some(Duration::ZERO));
            world.numbers.remove(&raw(source.as_source()));
        }
        drop(source);
        removed
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.look_at_the_waker()?;
        let mut world = self.world.lock();
        world.enter(None);
        world.ledger.waits += 1;
        world.note(Name::Waker, What::Waits(timeout));
        world.before_a_wait(timeout);
        // Forgiven by time alone: among faults, something seems to come of many a wait of a loop that spins.
        let forgiven = (world.now() - self.forgiven_until) / FORGIVES;
        self.forgiven_until += forgiven * FORGIVES;
        self.in_vain = self.in_vain.saturating_sub(forgiven) + u64::from(world.progress == self.progress);
        self.progress = world.progress;
        if self.in_vain > PATIENCE {
            world.fail(None, format!("the server spins: {PATIENCE} waits at a time came to nothing"));
        }
        let waited = world.sleep(timeout);
        if world.failure.is_some() {
            // The one error a server gives up at.
            return Err(io::Error::other("the simulation has found something"));
        }
        world.report(events, waited.map_err(told)?);
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.world.lock().ledger
    }
}

impl SimulatedPoller {
    fn look_at_the_waker(&mut self) -> io::Result<()> {
        if self.world.lock().woken {
            let mut events = Events::with_capacity(1);
            self.waker.wait(&mut events, Some(Duration::ZERO))?;
            if events.is_empty() {
                let mut world = self.world.lock();
                world.woken = false;
                world.was_looked_through();
                world.touch(Name::Waker);
            }
        }
        Ok(())
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        /// What epoll_ctl(2) says when too many sources are watched.
        const FULL: Errno = Errno::NOSPC;
    } else {
        const FULL: Errno = Errno::NOBUFS;
    }
}

impl World {
    /// Finds out what a source is that the network has not handed out.
    fn introduce(&mut self, source: Source<'_>) -> Name {
        let socket = socket2::SockRef::from(&source);
        let bound = socket.local_addr().ok().and_then(|address| address.as_socket());
        let is_bound = |address: Option<SocketAddr>| bound.is_some() && address == bound;
        let listener = self.listeners.iter().position(|address| is_bound(*address));
        let mailbox = self.mailboxes.iter().position(|mailbox| is_bound(mailbox.address));
        // A port of UDP may have the number of one of TCP.
        let name = match socket.r#type() {
            Ok(Type::DGRAM) => mailbox.map_or(Name::Waker, |at| Name::Mailbox(at as u8)),
            _ => listener.map_or(Name::Waker, |at| Name::Listener(at as u8)),
        };
        self.numbers.insert(raw(source), name);
        name
    }

    fn is_watched_as_agreed(&mut self, name: Name, trigger: Trigger) {
        let agreed = if matches!(name, Name::Client(_)) { self.trigger } else { Trigger::Level };
        if trigger != agreed {
            self.fail(Some(name), format!("registered with {trigger} trigger instead of {agreed}"));
        }
    }

    fn register(&mut self, name: Name, token: Token, interest: Interest) {
        *self.watch(name) = Some(Watch { token, interest, armed: true });
        self.ledger.changes += 1;
        self.watched.insert(name);
        if let Name::Client(id) = name {
            // A registration tells of what is there already, whatever was told before.
            let now = self.now();
            let ready = self.sockets[id as usize].ready(now, &self.kernel);
            self.sockets[id as usize].edges = self.sockets[id as usize].edges | ready;
        }
        self.touch(name);
    }

    fn forget(&mut self, name: Name) {
        *self.watch(name) = None;
        self.watched.remove(&name);
        self.touch(name);
    }

    /// Lets time pass until there is something to report, or until `timeout`. Returns a false alarm, if it is for that
    /// that the wait ends.
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<Option<(Name, Bits)>, Errno> {
        let limit = timeout.map(|timeout| {
            let timeout = timeout.as_nanos().min(u128::from(A_CENTURY)) as u64;
            let is_late = timeout > 0 && self.strike(Fault::LateWake);
            let late = if is_late { skewed(&mut self.rng, 2 * MILLISECOND) } else { 0 };
            self.now() + timeout.next_multiple_of(self.kernel.resolution) + late
        });
        let interrupted = self.strike(Fault::WaitInterrupted);
        loop {
            self.pump();
            if interrupted && self.rng.bool() {
                return Err(Errno::INTR);
            }
            if !self.hot.is_empty() || self.failure.is_some() {
                return Ok(None);
            }
            if let Some(alarm) = self.false_alarm(&[]) {
                return Ok(Some(alarm));
            }
            let now = self.now();
            let until = match (self.next_happening(), limit) {
                (Some(next), Some(limit)) => next.min(limit),
                (Some(next), None) => next,
                (None, Some(limit)) if !self.has_nothing_to_come() => limit,
                (None, _) => {
                    self.all_is_quiet();
                    continue;
                }
            };
            if until > now {
                self.nothing_is_left_undone();
                self.advance(until - now);
            }
            if limit.is_some_and(|limit| self.now() >= limit) {
                self.pump();
                return if interrupted { Err(Errno::INTR) } else { Ok(None) };
            }
        }
    }

    /// Picks some of what is ready, in some order, and perhaps something that is not.
    fn report(&mut self, events: &mut Events, alarm: Option<(Name, Bits)>) {
        let mut room = events.room().min(self.hot.len());
        if room > 1 && self.strike(Fault::SplitBatch) {
            room = self.rng.usize(1..room);
        }
        let whence = self.somebody();
        let mut told = self.hot.range(whence..).chain(self.hot.range(..whence)).take(room).copied().collect::<Vec<_>>();
        if self.rng.bool() {
            self.rng.shuffle(&mut told);
        }
        for name in &told {
            let bits = self.tidings(*name);
            self.tell(events, *name, bits, true);
        }
        if let Some((name, bits)) = alarm.or_else(|| self.false_alarm(&told)).filter(|_| events.room() > 0) {
            self.tell(events, name, bits, false);
        }
        self.ledger.events += events.len() as u64;
        self.ledger.empty += u64::from(events.is_empty());
        self.spend(20 * MICROSECOND);
    }

    fn somebody(&mut self) -> Name {
        Name::Client(self.rng.u32(..=self.sockets.len() as u32))
    }

    /// Somebody who is not ready, beside those `told`, and what to say of it all the same.
    fn false_alarm(&mut self, told: &[Name]) -> Option<(Name, Bits)> {
        if !self.strike(Fault::Spurious) {
            return None;
        }
        let whence = self.somebody();
        let name = *self.watched.range(whence..).chain(self.watched.range(..whence)).next()?;
        let watch = self.watch(name).filter(|watch| watch.armed && !told.contains(&name))?;
        let alarm = [Bits::READABLE, Bits::WRITABLE, Bits::READABLE | Bits::WRITABLE][self.rng.usize(..3)];
        Some((name, alarm & Bits::mask(watch.interest))).filter(|(_, alarm)| !alarm.is_empty())
    }

    fn tell(&mut self, events: &mut Events, name: Name, bits: Bits, is_true: bool) {
        let trigger = self.trigger;
        let Some(watch) = self.watch(name) else { return };
        let token = watch.token;
        if let Name::Client(id) = name {
            watch.armed = trigger != Trigger::Oneshot;
            let socket = &mut self.sockets[id as usize];
            if is_true {
                // A kernel that tells all that is true has told it; one that tells what is new keeps the rest.
                let told = if self.kernel.edges_tell_all { Bits(!0) } else { bits };
                socket.edges = socket.edges.without(told);
                socket.late_until = 0;
            }
        }
        self.note(name, What::Told(bits.0));
        events.push(Event::new(token, bits.readiness(), Raw::None));
        self.touch(name);
    }
}
