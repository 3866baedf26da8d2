//! The world a simulated server lives in: the network, the clients, and what has yet to happen.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use pollmark_backends::{Ledger, RawSource, Token, Trigger};

use super::faults::{Fault, Faults};
use super::messages::{Mailbox, Message};
use super::oracle::Letter;
use super::script::{SECOND, Weather, skewed};
use super::socket::{Bits, Cause, Kernel, Phase, Socket, Watch};
use super::trace::{Mix, Name, Trace, What};
use crate::clock::ManualClock;
use crate::server::{Config, Control};

/// Found by a key, never iterated over: in which order would be chance.
type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// A world as the poller, the network and the protocol share it.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Shared {
        Shared(Arc::new(Mutex::new(world)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        // A panic in the server is a finding, not a reason for a second one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens by itself, each at its time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Happening {
    Connect,
    Speak,
    End,
    Arrive,
    Take,
    Reset,
    Vanish,
    StopReading,
    ReadAgain,
    GiveUp,
    /// It may be ready now that some time has passed.
    Look,
    Stop,
    /// A message without a connection comes.
    Message,
}

pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) rng: Rng,
    pub(super) seed: u64,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    pub(super) kernel: Kernel,
    pub(super) trigger: Trigger,
    pub(super) config: Config,
    pub(super) ledger: Ledger,
    pub(super) weather: Weather,
    plan: BinaryHeap<Reverse<(u64, u64, u32, Happening)>>,
    pub(super) happened: u64,
    pub(super) last_happening: u64,
    scheduled: u64,

    pub(super) sockets: Vec<Socket>,
    pub(super) queues: Vec<VecDeque<u32>>,
    /// Where the server listens.
    pub(super) listeners: Vec<Option<SocketAddr>>,
    // See messages.rs.
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) messages: Vec<Message>,
    /// Registrations of the listeners, then of the waker.
    pub(super) others: Vec<Option<Watch>>,
    pub(super) numbers: Numbered<RawSource, Name>,
    /// What a wait would report now.
    pub(super) hot: BTreeSet<Name>,
    pub(super) watched: BTreeSet<Name>,
    /// Connections that the server has something to do for, and can.
    pub(super) undone: BTreeSet<u32>,
    pub(super) deadlines: BTreeSet<(u64, u32)>,
    /// The same, for the limits.
    pub(super) expiries: BTreeSet<(u64, u32)>,
    pub(super) control: Option<Control>,
    /// The server was asked to stop.
    pub(super) stopping: bool,
    /// The waker was used, and the server has not drained it.
    pub(super) woken: bool,

    // See net.rs.
    /// Accepted, and neither registered nor dropped as far as is known.
    pub(super) fresh: Option<u32>,
    /// Handed to the server, which may not have looked yet.
    pub(super) handed_in: Vec<u32>,
    /// Registered last.
    pub(super) latest: Option<u32>,
    pub(super) open: usize,
    /// Until when which of the two kinds of shortage lasts.
    pub(super) starved: Option<(u64, Fault)>,
    pub(super) forbidden_until: u64,
    /// The accept before this one found no descriptor: one may have been given back.
    pub(super) spare_given: bool,
    pub(super) books: Books,

    // See oracle.rs.
    pub(super) text: Vec<u8>,
    pub(super) echoes: bool,
    pub(super) letters: VecDeque<Letter>,
    pub(super) tokens: Numbered<Token, u32>,
    /// The protocol is being told that a deadline has passed.
    pub(super) in_due: bool,
    /// Counts whatever is no idle turn of the server.
    pub(super) progress: u64,
    pub(super) failure: Option<(Option<Name>, String)>,
}

/// What the world has seen the server do: it is compared with the server's own account.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Books {
    pub(super) accepts: u64,
    pub(super) receives: u64,
    pub(super) sends: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) closed: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) messages_in: u64,
    pub(super) messages_cut: u64,
    pub(super) messages_out: u64,
    pub(super) most_open: usize,
    pub(super) due: u64,
    pub(super) expired: u64,
}

/// What a world is made with.
pub(super) struct Terms {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) clock: Arc<ManualClock>,
    pub(super) faults: Faults,
    pub(super) kernel: Kernel,
    pub(super) trigger: Trigger,
    pub(super) config: Config,
    pub(super) weather: Weather,
    pub(super) text: Vec<u8>,
    pub(super) echoes: bool,
}

impl World {
    pub(super) fn new(terms: Terms) -> World {
        let Terms { seed, rng, clock, faults, kernel, trigger, config, weather, mut text, echoes } = terms;
        let mailboxes = config.addresses.iter().filter(|address| address.is_of_datagrams()).count();
        let listeners = config.addresses.len() - mailboxes;
        // Twice, so that any piece up to its length lies in it whole.
        text.extend_from_within(..);
        World {
            clock,
            rng,
            seed,
            faults,
            trace: Trace::new(),
            kernel,
            trigger,
            config,
            ledger: Ledger::default(),
            weather,
            plan: BinaryHeap::new(),
            happened: 0,
            last_happening: 0,
            scheduled: 0,
            sockets: Vec::new(),
            queues: vec![VecDeque::new(); listeners],
            listeners: vec![None; listeners],
            mailboxes: (0..mailboxes).map(|_| Mailbox::default()).collect(),
            messages: Vec::new(),
            others: vec![None; listeners + 1],
            numbers: Numbered::default(),
            hot: BTreeSet::new(),
            watched: BTreeSet::new(),
            undone: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            expiries: BTreeSet::new(),
            control: None,
            stopping: false,
            woken: false,
            fresh: None,
            handed_in: Vec::new(),
            latest: None,
            open: 0,
            starved: None,
            forbidden_until: 0,
            spare_given: false,
            books: Books::default(),
            text,
            echoes,
            letters: VecDeque::new(),
            tokens: Numbered::default(),
            in_due: false,
            progress: 0,
            failure: None,
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.passed().as_nanos() as u64
    }

    pub(super) fn advance(&mut self, by: u64) {
        self.clock.advance(Duration::from_nanos(by));
    }

    /// A call takes its time.
    pub(super) fn spend(&mut self, most: u64) {
        let by = self.rng.u64(1..=most);
        self.advance(by);
    }

    pub(super) fn note(&mut self, who: Name, what: What) {
        let now = self.now();
        self.trace.note(now, Some(who), what);
    }

    pub(super) fn strike(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strike(&mut self.rng, fault);
        if strikes {
            self.progress += 1;
            let now = self.now();
            self.trace.note(now, None, What::Strikes(fault));
        }
        strikes
    }

    /// What is found first is what is told; the server is then brought to an end.
    pub(super) fn fail(&mut self, who: Option<Name>, what: impl Into<String>) {
        self.failure.get_or_insert_with(|| (who, what.into()));
    }

    pub(super) fn schedule(&mut self, at: u64, id: u32, what: Happening) {
        self.scheduled += 1;
        self.plan.push(Reverse((at, self.scheduled, id, what)));
    }

    /// When the next thing happens by itself.
    pub(super) fn next_happening(&self) -> Option<u64> {
        self.plan.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets happen what is due: called on every entry, so that things also happen between an event and its handling.
    pub(super) fn pump(&mut self) {
        let now = self.now();
        while self.next_happening().is_some_and(|at| at <= now) {
            let Some(Reverse((at, _, id, what))) = self.plan.pop() else { return };
            self.happened += 1;
            self.last_happening = at;
            self.progress += 1;
            self.happen(id, what);
        }
    }

    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.note(Name::Waker, What::Stops);
        if let Some(control) = &self.control {
            control.stop();
        }
        self.woken = true;
        self.touch(Name::Waker);
    }

    pub(super) fn watch(&mut self, name: Name) -> &mut Option<Watch> {
        let waker = self.others.len() - 1;
        match name {
            Name::Waker => &mut self.others[waker],
            Name::Listener(at) => &mut self.others[at as usize],
            Name::Mailbox(at) => &mut self.mailboxes[at as usize].watch,
            Name::Client(id) => &mut self.sockets[id as usize].watch,
        }
    }

    /// What a wait would now tell of `name`.
    pub(super) fn tidings(&mut self, name: Name) -> Bits {
        let (now, trigger) = (self.now(), self.trigger);
        let Some(Watch { interest, armed, .. }) = *self.watch(name) else { return Bits::NONE };
        let is_readable = |yes: bool| if yes { Bits::READABLE & Bits::mask(interest) } else { Bits::NONE };
        match name {
            Name::Waker => is_readable(self.woken),
            Name::Listener(at) => is_readable(!self.queues[at as usize].is_empty()),
            Name::Mailbox(at) => is_readable(!self.mailboxes[at as usize].queue.is_empty()),
            Name::Client(id) => {
                let socket = &self.sockets[id as usize];
                let ready = socket.ready(now, &self.kernel) & Bits::mask(interest);
                match trigger {
                    Trigger::Level | Trigger::Oneshot if armed => ready,
                    Trigger::Level | Trigger::Oneshot => Bits::NONE,
                    Trigger::Edge if (socket.edges & ready).is_empty() => Bits::NONE,
                    Trigger::Edge if self.kernel.edges_tell_all => ready,
                    Trigger::Edge => socket.edges & ready,
                }
            }
        }
    }

    /// Brings what is derived of a source into line with it. Called whenever something of it has changed.
    pub(super) fn touch(&mut self, name: Name) {
        if let Name::Client(id) = name {
            self.tell_of_room(id);
        }
        let ready = !self.tidings(name).is_empty();
        if ready && !self.is_late(name) {
            self.hot.insert(name);
        } else {
            self.hot.remove(&name);
        }
        if let Name::Client(id) = name {
            if self.has_work(id) {
                self.undone.insert(id);
            } else {
                self.undone.remove(&id);
            }
        }
    }

    /// Whether a source that is ready is not yet reported. It is late once, then not until it was reported.
    fn is_late(&mut self, name: Name) -> bool {
        let Name::Client(id) = name else { return false };
        let now = self.now();
        if self.hot.contains(&name) {
            return false;
        }
        if self.sockets[id as usize].late_until == 0 && self.strike(Fault::LateReport) {
            let until = now + 1 + skewed(&mut self.rng, SECOND);
            self.sockets[id as usize].late_until = until;
            self.schedule(until, id, Happening::Look);
        }
        self.sockets[id as usize].late_until > now
    }

    /// Whether the server would have to do something for a connection, if it is awake to all that it was told.
    fn has_work(&self, id: u32) -> bool {
        let socket = &self.sockets[id as usize];
        let now = self.now();
        if socket.phase != Phase::Open || socket.late_until > now || self.stopping {
            return false;
        }
        let ready = socket.ready(now, &self.kernel);
        let owed = socket.owed.len();
        let listens = socket.cause.is_none() && !socket.end_read && owed <= self.config.limits.low_water;
        let must_close = match socket.cause {
            Some(Cause::Asked) => owed == 0,
            Some(Cause::Aborted | Cause::Lost) => true,
            None => false,
        };
        must_close
            || socket.kept > self.config.limits.message
            || listens && ready.intersects(Bits::READABLE)
            || owed > 0 && ready.intersects(Bits::WRITABLE)
    }
}
