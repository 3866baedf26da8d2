//! Everything measurable by name: each poller with each of its triggers, and the drivers that need no poller.

use std::fmt;
use std::io;

use pollmark_backends::{BACKEND_VARIABLE, Capabilities, Poller, Registry, System, Trigger, Unavailable, Visitor};

use crate::protocol::Protocol;
use crate::server::{Config, ReadinessServer, Server, ThreadServer};

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
    driver: Driver,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Driver {
    Readiness(Trigger),
    Threads,
}

impl Mechanism {
    /// Every mechanism of the registry, available or not: each backend level-triggered, then with the other triggers
    /// it has, then the drivers without a poller.
    pub fn all(registry: &Registry) -> Vec<Mechanism> {
        let mut all = Vec::new();
        for entry in registry.entries() {
            let has = |trigger: &Trigger| match entry.probe() {
                Ok(capabilities) => capabilities.supports(*trigger),
                Err(_) => *trigger == Trigger::Level,
            };
            for trigger in Trigger::ALL.into_iter().filter(has) {
                let name = match trigger {
                    Trigger::Level => entry.name().to_owned(),
                    other => format!("{}-{other}", entry.name()),
                };
                all.push(Mechanism { name, family: entry.name().to_owned(), driver: Driver::Readiness(trigger) });
            }
        }
        all.push(Mechanism { name: "threads".into(), family: "threads".into(), driver: Driver::Threads });
        all
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

    /// Whether it is its family's common form, and not a variant that differs by the trigger.
    pub fn is_common(&self) -> bool {
        !matches!(self.driver, Driver::Readiness(Trigger::Edge | Trigger::Oneshot))
    }

    /// The trigger connections are watched with; none for a driver without a poller.
    pub fn trigger(&self) -> Option<Trigger> {
        match self.driver {
            Driver::Readiness(trigger) => Some(trigger),
            Driver::Threads => None,
        }
    }

    /// What its poller can do here, `None` if it needs no poller; or why it cannot be had.
    ///
    /// # Errors
    /// [`Unavailable`], with the reason.
    pub fn probe(&self, registry: &Registry) -> Result<Option<Capabilities>, Unavailable> {
        match self.driver {
            Driver::Threads => Ok(None),
            Driver::Readiness(_) => match registry.get(&self.family) {
                Ok(entry) => entry.probe().map(Some),
                Err(unknown) => Err(Unavailable::because(unknown.to_string())),
            },
        }
    }

    /// Binds a server of `protocol` that waits this way.
    ///
    /// # Errors
    /// `Unsupported` if the mechanism is unavailable here; otherwise what binding gives.
    pub fn bind<Q: Protocol>(&self, registry: &Registry, config: Config, protocol: Q) -> io::Result<Box<dyn Server>> {
        match self.driver {
            Driver::Threads => Ok(Box::new(ThreadServer::bind(config, protocol)?)),
            Driver::Readiness(trigger) => {
                let unknown = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
                registry.get(&self.family).map_err(unknown)?.visit(Bind { config, protocol, trigger })?
            }
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
    row("threads", "a blocking thread for each connection, no poller", &System::ALL);
    table
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
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
