//! The contract of [`Poller`] as a suite that anybody's own poller can be put through.
//!
//! ```
//! use std::io;
//! use std::time::Duration;
//! use pollmark_backends::conformance;
//! use pollmark_backends::{Capabilities, Events, Interest, Ledger, Poller, Source, Token, Trigger, poll::Poll};
//!
//! /// A poller of your own; this one merely hands everything on.
//! struct Mine(Poll);
//!
//! impl Poller for Mine {
//!     fn capabilities(&self) -> Capabilities {
//!         self.0.capabilities()
//!     }
//!     fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
//!         self.0.add(source, token, interest, trigger)
//!     }
//!     fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
//!         self.0.modify(source, token, interest, trigger)
//!     }
//!     fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
//!         self.0.remove(source)
//!     }
//!     fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
//!         self.0.wait(events, timeout)
//!     }
//!     fn ledger(&self) -> Ledger {
//!         self.0.ledger()
//!     }
//! }
//!
//! let report = conformance::run("mine", || Ok(Mine(Poll::open()?)));
//! println!("{report}");
//! report.assert_passed();
//! ```
//!
//! A case asks the poller's [`Capabilities`](crate::Capabilities), never its name, and one that needs what the poller
//! or the platform lacks is skipped with the reason. A failure is a panic inside a case, caught and reported under the
//! case's name, so the suite needs `panic = "unwind"`. It uses loopback sockets only, and raises the process's soft
//! limit of open files.
//!
//! | file | lines of the contract |
//! |---|---|
//! | `readiness.rs` | what is reported, and when: 1, 5 |
//! | `triggers.rs` | level, edge, oneshot: 2 |
//! | `exclusive.rs` | sources that several pollers share: 2, 3, 4 |
//! | `registration.rs` | add, modify, remove, their errors, and numbers used again: 3, 4, 8 |
//! | `timing.rs` | timeouts and wakes: 6, 11 |
//! | `capacity.rs` | small buffers, many sources: 7, 9 |
//! | `ledger.rs` | what a poller says of itself: 13 |
//! | `unix_only.rs` | pipes, files, numbers, signals: 1, 4, 5, 9, 10, 12 |
//! | `differential/` | random scripts beside poll(2), for line 12 and for themselves |
//!
//! For whoever writes a program over a poller there is the opposite: [`Faulty`] puts any poller through what a kernel
//! may do, by the plan and with the account in [`fault`].

mod capacity;
mod dice;
#[cfg(unix)]
pub mod differential;
mod exclusive;
pub mod fault;
mod faulty;
mod ledger;
mod readiness;
mod registration;
mod subject;
pub(crate) mod system;
mod timing;
mod triggers;
mod unix_only;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::poller::Poller;
use crate::registry::{Entry, Registry, Visitor};

pub use faulty::Faulty;
use subject::Subject;

/// Runs every case on pollers that `open` makes, a fresh one for each case.
pub fn run<P: Poller>(name: &str, open: impl Fn() -> io::Result<P>) -> Report {
    run_where(name, open, |_| true)
}

/// As [`run`], but only the cases whose name `wanted` likes: for looking closely at a failure.
pub fn run_where<P: Poller>(name: &str, open: impl Fn() -> io::Result<P>, wanted: impl Fn(&str) -> bool) -> Report {
    let mut cases = readiness::cases::<P>();
    cases.extend(triggers::cases());
    cases.extend(exclusive::cases());
    cases.extend(registration::cases());
    cases.extend(timing::cases());
    cases.extend(capacity::cases());
    cases.extend(unix_only::cases());
    cases.extend(ledger::cases());
    cases.sort_by_key(|case| case.line);

    system::raise_descriptor_limit();
    let cases = cases.into_iter().filter(|case| wanted(case.name));
    let results = cases.map(|case| CaseResult { name: case.name, line: case.line, outcome: judge(name, &open, &case) });
    Report { name: name.to_owned(), results: results.collect() }
}

/// Runs every case on a registry's entry. Its poller stands behind a pointer, which hands each call on: so the suite is
/// compiled once, and not for each mechanism.
///
/// # Errors
/// `Unsupported` if the entry is not available on this system.
pub fn run_entry(entry: &Entry) -> io::Result<Report> {
    struct Boxing;

    impl Visitor for Boxing {
        type Output = Box<dyn Fn() -> io::Result<Box<dyn Poller>>>;

        fn visit<P, F>(self, open: F) -> Self::Output
        where
            P: Poller + 'static,
            F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static,
        {
            Box::new(move || Ok(Box::new(open()?)))
        }
    }

    let open = entry.visit(Boxing)?;
    Ok(run(entry.name(), open))
}

/// `registry` and, on Linux, `kqueue (model)`: kqueue.rs, which is for macOS and the BSDs, over a model of their
/// kernel.
///
/// The model does to real sockets and pipes what kqueue(2) was seen and is documented to do, so that the poller can be
/// tested by whoever has no such system. It is not to be measured: what it costs says nothing about kqueue(2). Nor is a
/// run on it a run of kqueue(2); for that, take the suite to a BSD.
///
/// ```
/// use pollmark_backends::{Registry, conformance};
/// let registry = conformance::with_models(Registry::builtin());
/// assert_eq!(registry.get("kqueue (model)").is_ok(), cfg!(target_os = "linux"));
/// ```
#[must_use]
pub fn with_models(registry: Registry) -> Registry {
    cfg_if::cfg_if! {
        if #[cfg(linux_like)] {
            registry.with("kqueue (model)", || Ok(Box::new(crate::kqueue::Kqueue::open()?) as Box<dyn Poller>))
        } else {
            registry
        }
    }
}

/// A line of the contract made into a test.
struct Case<P> {
    name: &'static str,
    // Of "The contract, asserted for every mechanism".
    line: u8,
    body: fn(&mut Subject<'_, P>) -> Verdict,
}

/// What a case says if it does not panic.
type Verdict = Result<(), Skip>;

/// Why a case does not apply.
struct Skip(String);

fn skip(reason: impl Into<String>) -> Verdict {
    Err(Skip(reason.into()))
}

/// Names each case after its function.
macro_rules! cases {
    ($($line:literal: $($case:ident),+ $(,)?;)+) => {
        pub(super) fn cases<P: crate::poller::Poller>() -> Vec<super::Case<P>> {
            vec![$($(super::Case { name: stringify!($case), line: $line, body: $case::<P> },)+)+]
        }
    };
}
use cases;

fn judge<P: Poller>(name: &str, open: &dyn Fn() -> io::Result<P>, case: &Case<P>) -> Outcome {
    // Whatever a panic leaves half done belongs to this case alone and is dropped with it.
    let judged = catch_unwind(AssertUnwindSafe(|| (case.body)(&mut Subject::open(name, open))));
    match judged {
        Ok(Ok(())) => Outcome::Passed,
        Ok(Err(Skip(reason))) => Outcome::Skipped(reason),
        Err(panic) => Outcome::Failed(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(message), _) => message.clone(),
            (None, Some(message)) => (*message).to_owned(),
            (None, None) => "panicked, without a message".to_owned(),
        }),
    }
}

/// How one case ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It ran and found nothing wrong.
    Passed,
    /// It does not apply to this poller on this system, for this reason.
    Skipped(String),
    /// It ran and the poller broke the contract, in this way.
    Failed(String),
}

/// One case and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaseResult {
    /// The case's name, a sentence.
    pub name: &'static str,
    /// The line of the contract it asserts.
    pub line: u8,
    /// How it ended.
    pub outcome: Outcome,
}

/// What the suite found out about one poller. Displays as a table of what ran, was skipped, and failed.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    results: Vec<CaseResult>,
}

impl Report {
    /// The poller's name, as given to [`run`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every case, in the order of the contract's lines.
    pub fn results(&self) -> &[CaseResult] {
        &self.results
    }

    /// The names of the cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &'static str> {
        let failed = self.results.iter().filter(|result| matches!(result.outcome, Outcome::Failed(_)));
        failed.map(|result| result.name)
    }

    /// Panics with the whole table unless every case passed or was skipped.
    ///
    /// # Panics
    /// If a case failed.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.failed().next().is_none(), "{} breaks the contract of `Poller`\n{self}", self.name);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&Outcome) -> bool| self.results.iter().filter(|result| is(&result.outcome)).count();
        let passed = count(|outcome| matches!(outcome, Outcome::Passed));
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
        writeln!(f, "{}: {passed} passed, {skipped} skipped, {} failed", self.name, self.failed().count())?;
        let width = self.results.iter().map(|result| result.name.len()).max().unwrap_or(0);
        for CaseResult { name, line, outcome } in &self.results {
            write!(f, "{line:>4}  {name:<width$}  ")?;
            match outcome {
                Outcome::Passed => writeln!(f, "passed")?,
                Outcome::Skipped(reason) => writeln!(f, "skipped: {reason}")?,
                Outcome::Failed(message) => writeln!(f, "FAILED: {message}")?,
            }
        }
        Ok(())
    }
}
