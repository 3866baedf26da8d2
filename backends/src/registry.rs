//! Every mechanism by name: those of this host, those it lacks and why, and yours.
//!
//! To add a mechanism, write its file, and add its `mod` line in `lib.rs` and its entry in [`Registry::builtin`].
//! The conformance suite, the benches, `pollmark backends` and `pollmark compare` then include it by themselves.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::poller::{Capabilities, Poller};

/// The environment variable that overrides the choice wherever a program asks for the default.
pub const BACKEND_VARIABLE: &str = "POLLMARK_BACKEND";

/// A list of mechanisms, in order of preference: a value, which you may extend.
///
/// ```
/// use pollmark_backends::Registry;
/// for entry in Registry::builtin().entries() {
///     match entry.probe() {
///         Ok(capabilities) => println!("{}: {}", entry.name(), capabilities.growth),
///         Err(unavailable) => println!("{}: {unavailable}", entry.name()),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Registry {
    entries: Vec<Entry>,
}

impl Registry {
    /// The mechanisms pollmark brings, available here or not, the preferred first; then the [variants](Entry::base).
    pub fn builtin() -> Registry {
        use Builtin::*;
        let everywhere = &System::ALL;
        let linux = &[System::Linux];
        let two_ways = &[System::Linux, System::Bsd];
        Registry {
            entries: vec![
                Entry::builtin("epoll", "a list kept by the kernel", Epoll, linux),
                Entry::builtin("kqueue", "a queue of filters", Kqueue, &[System::Bsd]),
                Entry::builtin("uring", "polls in a ring shared with the kernel", Uring, linux),
                Entry::builtin("poll", "an array of descriptors, scanned on every call", Poll, everywhere),
                Entry::builtin("select", "three sets of numbers, copied on every call", Select, everywhere),
                Entry::builtin("polling", "the `polling` crate: the platform's own, portable", Polling, everywhere),
                Entry::builtin("epoll-busy", BUSY, EpollBusy, linux).variant_of("epoll"),
                Entry::builtin("epoll-ring", "epoll, waited for by an operation of io_uring", EpollRing, linux)
                    .variant_of("epoll"),
                Entry::builtin("uring-sqpoll", SQPOLL, UringSqpoll, linux).variant_of("uring"),
                Entry::builtin("adaptive", "poll while that is cheaper, else epoll or kqueue", Adaptive, two_ways)
                    .variant_of("poll"),
            ],
        }
    }

    /// This registry and one mechanism more, yours. `open` runs on the thread that will wait.
    ///
    /// A poller from elsewhere is a first-class row everywhere, but reached through a `Box<dyn Poller>`: one indirect
    /// call per wait and per change, none per event. An entry of the same name is replaced.
    ///
    /// ```
    /// # use pollmark_backends::{Poller, Registry};
    /// let registry = Registry::builtin().with("mine", || {
    ///     Ok(Box::new(pollmark_backends::poll::Poll::open()?) as Box<dyn Poller>)
    /// });
    /// assert!(registry.get("mine").is_ok());
    /// ```
    #[must_use]
    pub fn with<F>(mut self, name: impl Into<String>, open: F) -> Registry
    where
        F: Fn() -> io::Result<Box<dyn Poller>> + Send + Sync + 'static,
    {
        let name = name.into();
        self.entries.retain(|entry| entry.name != name);
        self.entries.push(Entry {
            name: name.into(),
            summary: "registered by this program",
            systems: &[],
            base: None,
            kind: Kind::Custom(Arc::new(open)),
        });
        self
    }

    /// All entries, available or not.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The entry called `name`.
    ///
    /// # Errors
    /// [`UnknownBackend`], which lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Entry, UnknownBackend> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| UnknownBackend {
            name: name.to_owned(),
            known: self
                .entries
                .iter()
                .filter(|entry| entry.probe().is_ok())
                .map(|entry| entry.name.to_string())
                .collect(),
        })
    }

    /// The default: what `POLLMARK_BACKEND` names, else the first entry available here that is
    /// no variant.
    ///
    /// # Errors
    /// `InvalidInput` if the variable names no entry; `Unsupported` if that entry, or every entry, is unavailable.
    pub fn default_entry(&self) -> io::Result<&Entry> {
        match std::env::var(BACKEND_VARIABLE) {
            Ok(name) => {
                let invalid =
                    |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{BACKEND_VARIABLE}: {error}"));
                let entry = self.get(&name).map_err(invalid)?;
                entry.probe().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, format!("{name}: {why}")))?;
                Ok(entry)
            }
            Err(_) => {
                self.entries.iter().find(|entry| entry.base.is_none() && entry.probe().is_ok()).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::Unsupported, "no readiness mechanism is available on this host")
                })
            }
        }
    }
}

const BUSY: &str = "epoll that asks the network's device before it sleeps; on loopback there is none";
const SQPOLL: &str =
    "uring with a thread of the kernel that takes submissions, on a processor of its own if there is one";

impl Default for Registry {
    fn default() -> Registry {
        Registry::builtin()
    }
}

/// One mechanism of a [`Registry`].
#[derive(Clone)]
pub struct Entry {
    name: Cow<'static, str>,
    summary: &'static str,
    systems: &'static [System],
    base: Option<&'static str>,
    kind: Kind,
}

type Open = dyn Fn() -> io::Result<Box<dyn Poller>> + Send + Sync;

#[derive(Clone)]
enum Kind {
    Builtin(Builtin),
    Absent(Builtin),
    Custom(Arc<Open>),
}

#[derive(Clone, Copy)]
enum Builtin {
    Select,
    Poll,
    Epoll,
    EpollBusy,
    EpollRing,
    Kqueue,
    Uring,
    UringSqpoll,
    Polling,
    Adaptive,
}

impl Entry {
    fn builtin(name: &'static str, summary: &'static str, which: Builtin, systems: &'static [System]) -> Entry {
        // What is on all of the systems named here is expected on those that are not.
        let here = System::HERE.map_or(systems == System::ALL, |here| systems.contains(&here));
        let kind = if here { Kind::Builtin(which) } else { Kind::Absent(which) };
        Entry { name: Cow::Borrowed(name), summary, systems, base: None, kind }
    }

    fn variant_of(self, base: &'static str) -> Entry {
        Entry { base: Some(base), ..self }
    }

    /// The name it is chosen by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in a line.
    pub fn summary(&self) -> &str {
        self.summary
    }

    /// The systems that have it. Empty for one that was [registered](Registry::with): its program knows.
    pub fn systems(&self) -> &'static [System] {
        self.systems
    }

    /// The entry that this one is a variant of: the same mechanism with something that newer kernels have, or with a
    /// way to another, to be measured beside it when asked for by name. Nobody's default.
    ///
    /// ```
    /// # use pollmark_backends::Registry;
    /// let registry = Registry::builtin();
    /// assert_eq!(registry.get("epoll-busy")?.base(), Some("epoll"));
    /// assert_eq!(registry.get("epoll")?.base(), None);
    /// # Ok::<(), pollmark_backends::UnknownBackend>(())
    /// ```
    pub fn base(&self) -> Option<&'static str> {
        self.base
    }

    /// Where it is at home, for whoever is elsewhere.
    fn absence(&self, which: Builtin) -> String {
        if matches!(which, Builtin::Adaptive) {
            return "not on this system: only one mechanism here, and it moves between two".to_owned();
        }
        let homes = self.systems.iter().map(System::to_string).collect::<Vec<_>>();
        format!("not on this system: it is a mechanism of {}", homes.join(" and "))
    }

    /// Opens the poller once and closes it again, on a thread of its own: what it can do here, or why it cannot be had.
    ///
    /// # Errors
    /// [`Unavailable`], with the reason.
    pub fn probe(&self) -> Result<Capabilities, Unavailable> {
        let open = || match self.open() {
            Ok(poller) => Ok(poller.capabilities()),
            Err(error) => Err(Unavailable(format!("cannot be opened here: {error}"))),
        };
        match &self.kind {
            Kind::Absent(which) => Err(Unavailable(self.absence(*which))),
            // Not on the caller's: when a ring of io_uring is gone, the kernel interrupts the thread that had it.
            _ => std::thread::scope(|scope| match scope.spawn(open).join() {
                Ok(probed) => probed,
                Err(panic) => std::panic::resume_unwind(panic),
            }),
        }
    }

    /// Opens the poller for use through dynamic dispatch.
    ///
    /// # Errors
    /// `Unsupported` where the system lacks the mechanism, else what opening it gave.
    pub fn open(&self) -> io::Result<Box<dyn Poller>> {
        self.visit(Boxed)?
    }

    /// Hands `visitor` a factory of the poller's own type, so that a loop over it is dispatched statically.
    ///
    /// # Errors
    /// `Unsupported` where the system lacks the mechanism; the visitor does not run.
    pub fn visit<V: Visitor>(&self, visitor: V) -> io::Result<V::Output> {
        let builtin = match &self.kind {
            Kind::Builtin(builtin) => *builtin,
            Kind::Absent(which) => {
                let why = format!("{} is {}", self.name, self.absence(*which));
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            Kind::Custom(open) => {
                let open = Arc::clone(open);
                return Ok(visitor.visit(move || open()));
            }
        };
        Ok(match builtin {
            Builtin::Select => visitor.visit(crate::select::Select::open),
            Builtin::Poll => visitor.visit(crate::poll::Poll::open),
            Builtin::Polling => visitor.visit(crate::polling::Polling::open),
            #[cfg(linux_like)]
            Builtin::Epoll => visitor.visit(crate::epoll::Epoll::open),
            #[cfg(linux_like)]
            Builtin::EpollBusy => visitor.visit(|| crate::epoll::Epoll::busy(&crate::epoll::BusyPoll::default())),
            #[cfg(any(linux_like, kqueue_like))]
            Builtin::Adaptive => visitor.visit(crate::adaptive::Adaptive::open),
            #[cfg(kqueue_like)]
            Builtin::Kqueue => visitor.visit(crate::kqueue::Kqueue::open),
            #[cfg(uring)]
            Builtin::Uring => visitor.visit(crate::uring::Uring::open),
            #[cfg(uring)]
            Builtin::UringSqpoll => visitor.visit(crate::uring::Uring::sqpoll),
            #[cfg(uring)]
            Builtin::EpollRing => visitor.visit(crate::uring::EpollRing::open),
            #[cfg(all(linux_like, not(uring)))]
            Builtin::Uring | Builtin::UringSqpoll | Builtin::EpollRing => {
                let why = "built without the feature `io-uring`, or for a processor that the crate does not know";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
            #[allow(unreachable_patterns, reason = "everything may be here")]
            _ => unreachable!("entered as absent above"),
        })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.name)
    }
}

/// Systems that have the same mechanisms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// Linux, Android among it.
    Linux,
    /// macOS and the BSDs.
    Bsd,
    /// Windows.
    Windows,
}

impl System {
    /// All of them.
    pub const ALL: [System; 3] = [System::Linux, System::Bsd, System::Windows];

    /// The one this program is built for; `None` for yet another.
    pub const HERE: Option<System> = if cfg!(linux_like) {
        Some(System::Linux)
    } else if cfg!(kqueue_like) {
        Some(System::Bsd)
    } else if cfg!(windows) {
        Some(System::Windows)
    } else {
        None
    };
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            System::Linux => "Linux",
            System::Bsd => "macOS and the BSDs",
            System::Windows => "Windows",
        })
    }
}

/// Receives a factory of a concrete poller: the way from a name chosen at run time to a loop compiled for one
/// mechanism.
pub trait Visitor {
    /// What the visit yields.
    type Output;

    /// Called once, with a factory to be run on the thread that will wait.
    fn visit<P, F>(self, open: F) -> Self::Output
    where
        P: Poller + 'static,
        F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static;
}

struct Boxed;

impl Visitor for Boxed {
    type Output = io::Result<Box<dyn Poller>>;

    fn visit<P, F>(self, open: F) -> Self::Output
    where
        P: Poller + 'static,
        F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static,
    {
        Ok(Box::new(open()?))
    }
}

/// Why a mechanism cannot be had on this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unavailable(String);

impl Unavailable {
    /// An unavailability for the given reason, a clause that follows "it is unavailable: ".
    pub fn because(reason: impl Into<String>) -> Unavailable {
        Unavailable(reason.into())
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// A name no entry has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownBackend {
    name: String,
    known: Vec<String>,
}

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no backend called {:?}; available here: {}", self.name, self.known.join(", "))
    }
}

impl std::error::Error for UnknownBackend {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_names_there_are() {
        let error = Registry::builtin().get("eqoll").expect_err("no such backend");
        assert!(error.to_string().contains("eqoll") && error.to_string().contains("poll"), "{error}");
    }

    #[test]
    fn a_variant_has_its_own_name_or_is_named_after_its_base_and_not_like_a_trigger() {
        let registry = Registry::builtin();
        for (entry, base) in registry.entries().filter_map(|entry| Some((entry, entry.base()?))) {
            assert_eq!(registry.get(base).expect("registered").base(), None);
            let Some((first, what)) = entry.name().split_once('-') else { continue };
            assert_eq!(first, base);
            assert!(
                !what.contains('-') && crate::Trigger::ALL.iter().all(|trigger| trigger.to_string() != what),
                "{what}"
            );
        }
    }

    #[test]
    fn a_mechanism_of_another_system_says_so() {
        for entry in Registry::builtin().entries().filter(|entry| matches!(entry.kind, Kind::Absent(_))) {
            let why = entry.probe().expect_err("absent").to_string();
            assert!(why.contains("not on this system"), "{why}");
            assert_eq!(entry.open().err().expect("absent").kind(), io::ErrorKind::Unsupported);
        }
    }
}
