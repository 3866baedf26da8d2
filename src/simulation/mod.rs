//! A server in a world made from one number: the real driver and core, in a simulated network, kernel and time.
//!
//! [`ReadinessServer`], its slots, its wheel and the connections run unchanged. What they stand on is replaced at the
//! three seams they have: the [`Poller`], the [`Net`] and the [`Clock`]. Clients come and go as the seed has it: they
//! speak in pieces, read slowly or not at all, half-close, reset, vanish; some are handed in by another thread. The
//! kernel does what kernels may: short reads and writes, false alarms, split batches, EINTR, no descriptors, no memory.
//! Hours pass in milliseconds, and a run that fails is run again by its number.
//!
//! ```
//! use pollmark::protocol::Echo;
//! use pollmark::simulation::{Simulation, seeds};
//!
//! for seed in seeds(5) {
//!     let report = Simulation::new(seed).echoes().run(Echo).unwrap_or_else(|failure| panic!("{failure}"));
//!     println!("{report}");
//! }
//! ```
//!
//! # What is checked, of any protocol
//!
//! * A protocol hears exactly what its client said, in order, all of it, and its end.
//! * A client is sent exactly what the protocol said, in order, all of it before an orderly end; and only a protocol
//!   that asked for it, a lost peer, or a fault ends a connection.
//! * Time does not pass while a connection has something to read or to send, and can.
//! * No deadline comes early, of a protocol or of the limits, and the server does not sleep over one.
//! * The server neither sleeps for ever with work to do nor spins; it stops when it is asked to.
//! * A message without a connection is read once, and answered as the protocol says, or lost where a fault loses it;
//!   none is left while time passes. (There are some if the configuration has an address for them.)
//! * Limits hold: of connections, of bytes owed, of unfinished messages.
//! * No descriptor is used after it was closed, closed behind the poller's back, or kept; the server's own account of
//!   calls, connections and bytes is that of the world.
//!
//! # What is not
//!
//! A connection's descriptor is that of a socket which is never bound: the system gives the numbers out, and again, as
//! it does with real ones, but nothing travels through it. So options set on it have no effect, and a simulation has no
//! more connections open at a time than the process may have descriptors. Urgent data is not simulated, nor a driver
//! that [blocks in a thread](crate::server::ThreadServer) for each connection.
//!
//! | idea | file |
//! |---|---|
//! | the world: its time, its plan, and what is ready in it | `world.rs` |
//! | what a client is going to do, and does | `script.rs`, `clients.rs` |
//! | a connection, as the server's kernel has it | `socket.rs` |
//! | sockets of datagrams | `messages.rs` |
//! | the kernel's side of the seams | `poller.rs`, `net.rs` |
//! | what must be true | `oracle.rs`, `limits.rs` |
//! | what may go wrong | `faults.rs` |
//! | what happened | `trace.rs`, `outcome.rs` |

mod clients;
mod faults;
mod limits;
mod messages;
mod net;
mod oracle;
mod outcome;
mod poller;
mod script;
mod socket;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pollmark_backends::{Poller, Trigger};

pub use faults::Fault;
pub use net::SimulatedNet;
pub use outcome::{Failure, Report};
pub use poller::SimulatedPoller;

use crate::clock::{Clock, ManualClock};
use crate::protocol::Protocol;
use crate::server::{AcceptPolicy, Config, Excess, Exhaustion, Net, ReadinessServer, Server};
use faults::Faults;
use oracle::Watched;
use script::{Weather, skewed};
use socket::Kernel;
use world::{Happening, Shared, Terms, World};

/// The environment variable that names the one seed to run.
pub const SEED_VARIABLE: &str = "POLLMARK_SEED";

/// The environment variable that says how many seeds to run.
pub const SEEDS_VARIABLE: &str = "POLLMARK_SEEDS";

/// The seeds to run: that of `POLLMARK_SEED` alone, or as many as `POLLMARK_SEEDS` says, or `by_default` many.
///
/// # Panics
/// If a variable is no number.
pub fn seeds(by_default: u64) -> std::ops::Range<u64> {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
    };
    match number(SEED_VARIABLE) {
        Some(seed) => seed..seed + 1,
        None => 0..number(SEEDS_VARIABLE).unwrap_or(by_default),
    }
}

/// One run, before it is run. What is not said is drawn from the seed.
pub struct Simulation {
    seed: u64,
    clients: Option<u32>,
    over: Option<Duration>,
    trigger: Option<Trigger>,
    faults: Option<Vec<Fault>>,
    echoes: bool,
    text: Option<Vec<u8>>,
    configure: Vec<Configure>,
}

type Configure = Box<dyn FnOnce(&mut Config)>;

/// What a server is put upon: to be handed on as it is, or with something of your own around it.
pub struct Parts<P, N> {
    /// What it waits by.
    pub poller: P,
    /// What it reaches its sockets by.
    pub net: N,
    /// What it reads the time from.
    pub clock: Clock,
}

impl Simulation {
    /// The run of this number.
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed,
            clients: None,
            over: None,
            trigger: None,
            faults: None,
            echoes: false,
            text: None,
            configure: Vec::new(),
        }
    }

    /// With so many clients, up to 16 million.
    #[must_use]
    pub fn clients(self, clients: u32) -> Simulation {
        Simulation { clients: Some(clients.min(1 << 24)), ..self }
    }

    /// With clients that come within `time`.
    #[must_use]
    pub fn over(self, time: Duration) -> Simulation {
        Simulation { over: Some(time), ..self }
    }

    /// With connections watched in this way.
    #[must_use]
    pub fn trigger(self, trigger: Trigger) -> Simulation {
        Simulation { trigger: Some(trigger), ..self }
    }

    /// With faults of these kinds only, and often. None at all: `faults([])`. What clients do, they do all the same.
    #[must_use]
    pub fn faults(self, kinds: impl IntoIterator<Item = Fault>) -> Simulation {
        Simulation { faults: Some(kinds.into_iter().collect()), ..self }
    }

    /// The protocol sends back what it gets: checked without asking the protocol.
    #[must_use]
    pub fn echoes(self) -> Simulation {
        Simulation { echoes: true, ..self }
    }

    /// What clients say: this text, again and again, each beginning elsewhere in it. Without this, arbitrary bytes.
    #[must_use]
    pub fn says(self, text: impl Into<Vec<u8>>) -> Simulation {
        Simulation { text: Some(text.into()).filter(|text| !text.is_empty()), ..self }
    }

    /// Changes the server's configuration, which is drawn from the seed, too.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Config) + 'static) -> Simulation {
        self.configure.push(Box::new(change));
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// The first thing found that must not be.
    pub fn run<Q: Protocol>(self, protocol: Q) -> Result<Report, Box<Failure>> {
        self.run_on(protocol, |parts| parts)
    }

    /// Runs it with something `around` the parts: a poller or a network of your own that hands on to the simulated
    /// one.
    ///
    /// ```
    /// use pollmark::clock::{Clock, ManualClock};
    /// use pollmark::protocol::{Context, Peer, Protocol};
    /// use pollmark::simulation::{Parts, Simulation};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// /// Ten seconds for everybody.
    /// #[derive(Clone)]
    /// struct Brief;
    ///
    /// impl Protocol for Brief {
    ///     type Session = ();
    ///
    ///     fn open(&mut self, _: &Peer, cx: &mut Context<'_>) {
    ///         cx.deadline(Some(Duration::from_secs(10)));
    ///     }
    ///
    ///     fn received(&mut self, _: &mut (), input: &[u8], _: &mut Context<'_>) -> usize {
    ///         input.len()
    ///     }
    /// }
    ///
    /// let stopped = Clock::from(Arc::new(ManualClock::new()));
    /// let failure = Simulation::new(7).run_on(Brief, |parts| Parts { clock: stopped, ..parts });
    /// println!("{}", failure.expect_err("nobody is ever due by a clock that stands"));
    /// ```
    ///
    /// # Errors
    /// As above.
    pub fn run_on<Q, P, N>(
        self,
        protocol: Q,
        around: impl FnOnce(Parts<SimulatedPoller, SimulatedNet>) -> Parts<P, N>,
    ) -> Result<Report, Box<Failure>>
    where
        Q: Protocol,
        P: Poller + Send,
        N: Net,
    {
        let seed = self.seed;
        let impossible = |error| outcome::impossible(seed, error);
        let (world, config, trigger, clock) = self.world();
        let world = Shared::new(world);
        let poller = SimulatedPoller::new(world.clone()).map_err(impossible)?;
        let net = SimulatedNet { world: world.clone() };
        let Parts { poller, net, clock } = around(Parts { poller, net, clock: Clock::from(clock) });
        let watched = Watched { inner: protocol, world: world.clone() };
        let server = ReadinessServer::bind(config, watched, trigger, || Ok(poller)).map_err(impossible)?;
        {
            let mut world = world.lock();
            let addresses = server.addresses().iter();
            world.listeners = addresses.clone().filter(|one| !one.is_of_datagrams()).map(|one| one.tcp()).collect();
            let mailboxes = addresses.filter(|one| one.is_of_datagrams()).map(|one| one.udp());
            world.mailboxes.iter_mut().zip(mailboxes).for_each(|(mailbox, address)| mailbox.address = address);
            world.control = Some(server.control());
        }
        let server = Box::new(server.with_net(net).with_clock(clock).with_observer(limits::Witness(world.clone())));
        let ran = catch_unwind(AssertUnwindSafe(|| server.run()));
        let mut over = world.lock();
        over.judge(seed, ran)
    }

    fn world(self) -> (World, Config, Trigger, Arc<ManualClock>) {
        let Simulation { seed, clients, over, trigger, faults, echoes, text, configure } = self;
        let mut rng = Rng::with_seed(seed);
        let crowd = clients.is_some_and(|clients| clients > 5_000);
        let drawn = 1 + skewed(&mut rng, 150) as u32;
        let clients = clients.unwrap_or(drawn);
        // A year, now and then: clocks and wheels have to turn for long.
        let hours = [1, 1, 1, 24, 365 * 24][rng.usize(..5)];
        let drawn = skewed(&mut rng, hours * 3_600 * script::SECOND);
        let over = over.map_or(drawn, |over| over.as_nanos() as u64);
        let drawn = Trigger::ALL[rng.usize(..3)];
        let trigger = trigger.unwrap_or(drawn);
        let drawn = draw_config(&mut rng);
        let mut config = if crowd { Config { events: 64, read_buffer: 512, ..listen(1) } } else { drawn };
        configure.into_iter().for_each(|change| change(&mut config));
        let weather = Weather::drawn(&mut rng, config.read_buffer as u64);
        let weather = if crowd { Weather::crowd() } else { weather };
        let drawn = Faults::drawn(&mut rng);
        let drawn = if crowd { Faults::rare() } else { drawn };
        let faults = faults.map_or(drawn, |kinds| Faults::only(&kinds));
        let kernel = Kernel {
            half_close: rng.bool(),
            errors: rng.bool(),
            priority: rng.bool(),
            edges_tell_all: rng.bool(),
            third_of_room: rng.bool(),
            reset_destroys: rng.bool(),
            reset_leaves_queue: rng.bool(),
            resolution: [1, 1_000, 1_000_000][rng.usize(..3)],
        };
        // Of a prime length, so that no size divides it.
        let text = text.unwrap_or_else(|| arbitrary(8_191));
        let clock = Arc::new(ManualClock::new());
        let stops_at = (rng.u8(..8) == 0).then(|| rng.u64(..=over + script::SECOND));
        let terms = Terms {
            seed,
            rng,
            clock: Arc::clone(&clock),
            faults,
            kernel,
            trigger,
            config: config.clone(),
            weather,
            text,
            echoes,
        };
        let mut world = World::new(terms);
        world.populate(clients, over);
        world.populate_mailboxes(over);
        if let Some(at) = stops_at {
            world.schedule(at, 0, Happening::Stop);
        }
        (world, config, trigger, clock)
    }
}

/// A configuration at whose edges things happen: small buffers, small batches, small limits.
fn draw_config(rng: &mut Rng) -> Config {
    let mut config = listen(rng.usize(1..=2));
    config.events = [1, 2, 3, 16, 256][rng.usize(..5)];
    config.read_buffer = [1, 7, 64, 1_000, 65_536][rng.usize(..5)];
    config.limits.read_budget = rng.u32(1..=4);
    config.accept = [None, Some(AcceptPolicy::One), Some(AcceptPolicy::Drain(2))][rng.usize(..3)];
    config.on_exhaustion = [Exhaustion::Shed, Exhaustion::Pause][rng.usize(..2)];
    config.limits.high_water = [0, 1, 100, 5_000, 262_144][rng.usize(..5)];
    config.limits.low_water = config.limits.high_water / [1, 2, 4, usize::MAX][rng.usize(..4)];
    config.limits.connections = (rng.u8(..6) == 0).then(|| rng.usize(1..=20));
    config.accept_pause = Duration::from_millis([1, 50, 3_000][rng.usize(..3)]);
    config.limits.excess = [Excess::Close, Excess::Close, Excess::Pause][rng.usize(..3)];
    let limits = &mut config.limits;
    for limit in [&mut limits.idle, &mut limits.header, &mut limits.request, &mut limits.write, &mut limits.total] {
        let ms = [1, 300, 10_000, 600_000][rng.usize(..4)];
        *limit = (rng.u8(..8) == 0).then(|| Duration::from_millis(ms + rng.u64(..7)));
    }
    config
}

fn listen(addresses: usize) -> Config {
    let any_port = crate::server::Address::from(std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)));
    let mut config = Config::listen(any_port.clone());
    config.addresses = vec![any_port; addresses];
    config
}

fn arbitrary(length: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(1);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}
