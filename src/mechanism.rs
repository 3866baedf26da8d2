//! Everything measurable by name: each poller with each of its triggers, and the drivers that need no poller.

mod extra;

use std::fmt;
use std::io;

#[cfg(completion)]
use pollmark_backends::completion::{Ring, Setup};
use pollmark_backends::{
    BACKEND_VARIABLE, Capabilities, Entry, Poller, Registry, System, Trigger, Unavailable, Visitor,
};

use crate::cpus::Pinning;
use crate::protocol::Protocol;
#[cfg(completion)]
use crate::server::CompletionServer;
use crate::server::{
    Abilities, Config, Group, IterativeServer, Observer, ReadinessServer, Server, Sharing, ThreadServer,
};
use extra::Extra;

/// A way for a server to wait for its sockets: `epoll`, `epoll-edge`, `select`, `threads`, …
///
/// ```
/// use pollmark::mechanism::Mechanism;
/// use pollmark_backends::Registry;
///
/// let registry = Registry::builtin();
/// let poll = Mechanism::parse(&registry, "poll").expect("poll is everywhere");
/// assert!(poll.probe(&registry).is_ok());
/// let error = Mechanism::parse(&registry, "eqoll").expect_err("no such mechanism");
/// assert!(error.to_string().contains("poll"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mechanism {
    name: String,
    family: String,
    /// What it is a variant of, beyond the trigger.
    base: Option<&'static str>,
    driver: Driver,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Driver {
    Readiness(Trigger),
    Completion(Option<Extra>),
    Threads,
    Iterative,
}

impl Mechanism {
    /// Every mechanism of the registry, available or not: each backend level-triggered, then with the other triggers
    /// it has; the drivers without a poller; and the [variants](pollmark_backends::Entry::base), level-triggered.
    pub fn all(registry: &Registry) -> Vec<Mechanism> {
        let mut all = Vec::new();
        let (variants, entries): (Vec<_>, Vec<_>) = registry.entries().partition(|entry| entry.base().is_some());
        for entry in entries {
            let has = |trigger: &Trigger| match entry.probe() {
                Ok(capabilities) => capabilities.supports(*trigger),
                Err(_) => *trigger == Trigger::Level,
            };
            all.extend(Trigger::ALL.into_iter().filter(has).map(|trigger| Mechanism::over(entry, trigger)));
        }
        let drivers =
            [("completion", Driver::Completion(None)), ("threads", Driver::Threads), ("iterative", Driver::Iterative)];
        for (name, driver) in drivers {
            all.push(Mechanism { name: name.into(), family: name.into(), base: None, driver });
        }
        // One difference at a time.
        all.extend(variants.into_iter().map(|entry| Mechanism::over(entry, Trigger::Level)));
        all.extend(Extra::ALL.into_iter().map(|extra| {
            let (name, driver) = (extra.name(), Driver::Completion(Some(extra)));
            Mechanism { name: name.into(), family: name.into(), base: Some("completion"), driver }
        }));
        all
    }

    fn over(entry: &Entry, trigger: Trigger) -> Mechanism {
        let name = match trigger {
            Trigger::Level => entry.name().to_owned(),
            other => format!("{}-{other}", entry.name()),
        };
        Mechanism { name, family: entry.name().to_owned(), base: entry.base(), driver: Driver::Readiness(trigger) }
    }

    /// The mechanisms of these names, each once. Two names stand for groups: `all` for every one, and `variants` for
    /// those with a [base](Mechanism::base), each behind it.
    ///
    /// ```
    /// # use pollmark::mechanism::Mechanism;
    /// # use pollmark_backends::Registry;
    /// let registry = Registry::builtin();
    /// let chosen = Mechanism::parse_all(&registry, &["poll", "variants"])?;
    /// let names: Vec<_> = chosen.iter().map(Mechanism::name).collect();
    /// assert!(names.starts_with(&["poll", "epoll", "epoll-busy"]));
    /// # Ok::<(), pollmark::mechanism::UnknownMechanism>(())
    /// ```
    ///
    /// # Errors
    /// [`UnknownMechanism`] for the first name that is none.
    pub fn parse_all<S: AsRef<str>>(registry: &Registry, names: &[S]) -> Result<Vec<Mechanism>, UnknownMechanism> {
        let all = Mechanism::all(registry);
        let mut chosen: Vec<Mechanism> = Vec::new();
        let mut choose = |mechanism: Mechanism| {
            if !chosen.contains(&mechanism) {
                chosen.push(mechanism);
            }
        };
        for name in names.iter().map(AsRef::as_ref) {
            match name {
                "all" => all.iter().cloned().for_each(&mut choose),
                "variants" => {
                    for (variant, base) in all.iter().filter_map(|one| Some((one, one.base?))) {
                        choose(Mechanism::parse(registry, base)?);
                        choose(variant.clone());
                    }
                }
                name => choose(Mechanism::parse(registry, name)?),
            }
        }
        Ok(chosen)
    }

    /// The mechanism called `name`.
    ///
    /// # Errors
    /// [`UnknownMechanism`], which lists those available here.
    pub fn parse(registry: &Registry, name: &str) -> Result<Mechanism, UnknownMechanism> {
        let all = Mechanism::all(registry);
        all.iter().find(|mechanism| mechanism.name == name).cloned().ok_or_else(|| UnknownMechanism {
            name: name.to_owned(),
            available: all.iter().filter(|one| one.probe(registry).is_ok()).map(|one| one.name.clone()).collect(),
        })
    }

    /// The default: what the environment variable `POLLMARK_BACKEND` names, else the first available.
    ///
    /// # Errors
    /// `InvalidInput` if the variable names none; `Unsupported` if what it names, or every one, is unavailable.
    pub fn choose(registry: &Registry) -> io::Result<Mechanism> {
        let Ok(name) = std::env::var(BACKEND_VARIABLE) else {
            let available = Mechanism::all(registry).into_iter().find(|one| one.probe(registry).is_ok());
            return available
                .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no mechanism is available on this host"));
        };
        let mechanism = Mechanism::parse(registry, &name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{BACKEND_VARIABLE}: {error}")))?;
        mechanism
            .probe(registry)
            .map_err(|why| io::Error::new(io::ErrorKind::Unsupported, format!("{BACKEND_VARIABLE}={name}: {why}")))?;
        Ok(mechanism)
    }

    /// The name it is chosen by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The backend it stands on; its own name where there is none.
    pub fn family(&self) -> &str {
        &self.family
    }

    /// The mechanism that it differs from by something of newer kernels, to be measured beside it.
    pub fn base(&self) -> Option<&str> {
        self.base
    }

    /// What it is, in a line.
    pub fn summary<'a>(&self, registry: &'a Registry) -> &'a str {
        match self.driver {
            Driver::Completion(Some(extra)) => extra.summary(),
            Driver::Completion(None) => "operations in a ring shared with the kernel, which says when they are done",
            Driver::Threads => "a blocking thread for each connection, no poller",
            Driver::Iterative => "one client at a time, the textbook loop, no poller",
            Driver::Readiness(_) => registry.get(&self.family).map_or("", Entry::summary),
        }
    }

    /// Whether it is its family's common form, and serves many: not a variant that differs by the trigger, or from its
    /// base, and not the server of one client at a time.
    pub fn is_common(&self) -> bool {
        let is_variant = matches!(self.driver, Driver::Readiness(Trigger::Edge | Trigger::Oneshot));
        self.base.is_none() && !is_variant && self.abilities().concurrent
    }

    /// The trigger connections are watched with; none for a driver without a poller.
    pub fn trigger(&self) -> Option<Trigger> {
        match self.driver {
            Driver::Readiness(trigger) => Some(trigger),
            Driver::Completion(_) | Driver::Threads | Driver::Iterative => None,
        }
    }

    /// The poller it stands on, and the trigger; none for a driver without a poller, or if the registry lacks it.
    pub fn poller<'a>(&self, registry: &'a Registry) -> Option<(&'a Entry, Trigger)> {
        registry.get(&self.family).ok().zip(self.trigger())
    }

    /// What its driver can do, available here or not.
    ///
    /// ```
    /// use pollmark::mechanism::Mechanism;
    /// use pollmark_backends::Registry;
    ///
    /// let registry = Registry::builtin();
    /// let poll = Mechanism::parse(&registry, "poll").expect("poll is everywhere");
    /// assert!(poll.abilities().concurrent && !poll.abilities().multishot);
    /// ```
    pub const fn abilities(&self) -> Abilities {
        match self.driver {
            Driver::Readiness(_) => Abilities::READINESS,
            Driver::Completion(_) => Abilities::COMPLETION,
            Driver::Threads => Abilities::THREADS,
            Driver::Iterative => Abilities::ITERATIVE,
        }
    }

    /// What its poller can do here, `None` if it needs no poller; or why it cannot be had.
    ///
    /// # Errors
    /// [`Unavailable`], with the reason.
    pub fn probe(&self, registry: &Registry) -> Result<Option<Capabilities>, Unavailable> {
        match self.driver {
            Driver::Completion(extra) => probe_completion(extra).map(|()| None),
            Driver::Threads | Driver::Iterative => Ok(None),
            Driver::Readiness(_) => match registry.get(&self.family) {
                Ok(entry) => entry.probe().map(Some),
                Err(unknown) => Err(Unavailable::because(unknown.to_string())),
            },
        }
    }

    /// Binds a server of `protocol` that waits this way; a [`Group`] of them if [`Config::threads`] is more than 1 or
    /// they are to be [bound](Config::pin) to CPUs.
    ///
    /// # Errors
    /// `Unsupported` if the mechanism is unavailable here, or cannot do what is configured, or if its threads cannot
    /// share a port in the [way](Config::sharing) that was asked for; otherwise what binding gives.
    pub fn bind<Q: Protocol>(&self, registry: &Registry, config: Config, protocol: Q) -> io::Result<Box<dyn Server>> {
        self.bind_each(registry, config, |config| {
            self.bind_one(config, protocol.clone(), (), |config, protocol, trigger| {
                self.entry(registry)?.visit(Bind { config, protocol, trigger })?
            })
        })
    }

    /// As [`Mechanism::bind`], with a poller behind a pointer: the server is compiled once, and not for each poller. In
    /// return each wait, and each change of what is watched, is called indirectly. For a protocol whose own work is
    /// more than that.
    ///
    /// # Errors
    /// As of [`Mechanism::bind`].
    pub fn bind_boxed<Q: Protocol>(
        &self,
        registry: &Registry,
        config: Config,
        protocol: Q,
    ) -> io::Result<Box<dyn Server>> {
        self.bind_observed(registry, config, protocol, ())
    }

    /// As [`Mechanism::bind_boxed`], with an observer: each loop, and each thread that serves a connection, tells a clone of
    /// it what it does.
    ///
    /// # Errors
    /// As of [`Mechanism::bind`].
    ///
    /// ```
    /// use pollmark::mechanism::Mechanism;
    /// use pollmark::protocol::Echo;
    /// use pollmark::server::{Config, Observer};
    /// use pollmark_backends::{Registry, Token};
    ///
    /// #[derive(Clone)]
    /// struct Told;
    ///
    /// impl Observer for Told {
    ///     fn read(&mut self, connection: Token, bytes: usize) {
    ///         println!("{bytes} bytes from connection {}", connection.slot());
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let registry = Registry::builtin();
    /// let threads = Mechanism::parse(&registry, "threads").expect("threads are everywhere");
    /// let server = threads.bind_observed(&registry, Config::listen("127.0.0.1:0".parse()?), Echo, Told)?;
    /// # let _ = server;
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind_observed<Q: Protocol, O: Observer + Clone>(
        &self,
        registry: &Registry,
        config: Config,
        protocol: Q,
        observer: O,
    ) -> io::Result<Box<dyn Server>> {
        self.bind_each(registry, config, |config| {
            self.bind_one(config, protocol.clone(), observer.clone(), |config, protocol, trigger| {
                let entry = self.entry(registry)?.clone();
                let server = ReadinessServer::bind(config, protocol, trigger, move || entry.open())?;
                Ok(Box::new(server.with_observer(observer.clone())))
            })
        })
    }

    fn bind_each(
        &self,
        registry: &Registry,
        config: Config,
        bind: impl Fn(Config) -> io::Result<Box<dyn Server>>,
    ) -> io::Result<Box<dyn Server>> {
        if config.threads <= 1 && config.pin == Pinning::None {
            return bind(config);
        }
        self.can_share(registry, config.sharing)?;
        Ok(Box::new(Group::bind(config, bind)?))
    }

    fn entry<'a>(&self, registry: &'a Registry) -> io::Result<&'a Entry> {
        registry.get(&self.family).map_err(|unknown| io::Error::new(io::ErrorKind::InvalidInput, unknown))
    }

    /// Whether several threads of it can share a port in this way, here.
    ///
    /// # Errors
    /// `Unsupported`, with the reason.
    pub fn can_share(&self, registry: &Registry, sharing: Sharing) -> io::Result<()> {
        if sharing == Sharing::ReusePort && !cfg!(any(reuse_port, reuse_port_lb)) {
            let why = "this system does not share the connections of a port out among several listeners: SO_REUSEPORT \
                       gives all of them to one; share a listener, or hand connections out";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        // IORING_OP_ACCEPT does not wait otherwise.
        if sharing != Sharing::Exclusive || matches!(self.driver, Driver::Completion(_)) {
            return Ok(());
        }
        let capabilities = self.probe(registry).map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
        if capabilities.is_some_and(|capabilities| capabilities.exclusive) {
            return Ok(());
        }
        let why =
            format!("the threads of {self} cannot share a listener exclusively: each connection wakes all of them");
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    fn bind_one<Q: Protocol, O: Observer + Clone>(
        &self,
        config: Config,
        protocol: Q,
        observer: O,
        readiness: impl FnOnce(Config, Q, Trigger) -> io::Result<Box<dyn Server>>,
    ) -> io::Result<Box<dyn Server>> {
        match self.driver {
            Driver::Completion(extra) => bind_completion(extra, config, protocol, observer),
            Driver::Threads => Ok(Box::new(ThreadServer::bind(config, protocol)?.with_observer(observer))),
            Driver::Iterative => Ok(Box::new(IterativeServer::bind(config, protocol)?.with_observer(observer))),
            Driver::Readiness(trigger) => readiness(config, protocol, trigger),
        }
    }
}

/// Which system has which mechanism, as a table of Markdown: the one in the README.
///
/// ```
/// let table = pollmark::mechanism::matrix(&pollmark_backends::Registry::builtin());
/// assert!(table.starts_with("| mechanism |") && table.contains("| `epoll` |"));
/// ```
pub fn matrix(registry: &Registry) -> String {
    let heads = System::ALL.map(|system| system.to_string()).join(" | ");
    let mut table = format!("| mechanism | what it is | {heads} |\n|---|---|{}\n", ":-:|".repeat(System::ALL.len()));
    let mut row = |name: &str, summary: &str, systems: &[System]| {
        let marks = System::ALL.map(|system| if systems.contains(&system) { "yes" } else { "–" });
        table.push_str(&format!("| `{name}` | {summary} | {} |\n", marks.join(" | ")));
    };
    for entry in registry.entries() {
        row(entry.name(), entry.summary(), entry.systems());
    }
    for mechanism in Mechanism::all(registry) {
        let systems = match mechanism.driver {
            Driver::Readiness(_) => continue,
            Driver::Completion(_) => &[System::Linux][..],
            Driver::Threads | Driver::Iterative => &System::ALL[..],
        };
        row(mechanism.name(), mechanism.summary(registry), systems);
    }
    table
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

cfg_if::cfg_if! {
    if #[cfg(completion)] {
        /// Sets a ring up and tries it, on a thread of its own: when it is gone, the kernel interrupts the one that had
        /// it.
        fn probe_completion(extra: Option<Extra>) -> Result<(), Unavailable> {
            let setup = extra.map_or_else(Setup::default, Extra::setup);
            let open = || Ring::open(&setup).map(drop);
            let opened = std::thread::scope(|scope| scope.spawn(open).join());
            let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            opened.map_err(|error| Unavailable::because(format!("cannot be opened here: {error}")))
        }

        fn bind_completion<Q: Protocol, O: Observer>(
            extra: Option<Extra>,
            config: Config,
            protocol: Q,
            observer: O,
        ) -> io::Result<Box<dyn Server>> {
            let setup = extra.map_or_else(Setup::default, Extra::setup);
            Ok(Box::new(CompletionServer::bind(config, protocol)?.with_setup(setup).with_observer(observer)))
        }
    } else {
        fn probe_completion(_: Option<Extra>) -> Result<(), Unavailable> {
            let linux = System::HERE == Some(System::Linux);
            Err(Unavailable::because(if linux {
                "built without the feature `io-uring`, or for a processor that the crate does not know"
            } else {
                "not on this system: it is a mechanism of Linux"
            }))
        }

        fn bind_completion<Q, O>(extra: Option<Extra>, _: Config, _: Q, _: O) -> io::Result<Box<dyn Server>> {
            let why = probe_completion(extra).expect_err("it is nowhere else");
            Err(io::Error::new(io::ErrorKind::Unsupported, format!("completion is {why}")))
        }
    }
}

/// Carries the server to be into the place where the poller's type is known.
struct Bind<Q> {
    config: Config,
    protocol: Q,
    trigger: Trigger,
}

impl<Q: Protocol> Visitor for Bind<Q> {
    type Output = io::Result<Box<dyn Server>>;

    fn visit<P, F>(self, open: F) -> Self::Output
    where
        P: Poller + 'static,
        F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static,
    {
        Ok(Box::new(ReadinessServer::bind(self.config, self.protocol, self.trigger, open)?))
    }
}

/// A name no mechanism has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownMechanism {
    name: String,
    available: Vec<String>,
}

impl fmt::Display for UnknownMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no mechanism called {:?}; available here: {}", self.name, self.available.join(", "))
    }
}

impl std::error::Error for UnknownMechanism {}
