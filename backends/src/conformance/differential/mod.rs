//! Any poller beside poll(2), step by step through a script, over real sockets and pipes.
//!
//! ```
//! use pollmark_backends::conformance::differential::{self, Script};
//! use pollmark_backends::poll::Poll;
//!
//! let script: Script = "
//!     open 0 tcp
//!     add 0 read+write level
//!     wait 1                  # there is room
//!     peer 0 closes
//!     wait 8                  # and the end of the stream
//!     modify 0 nothing level
//!     wait 1                  # silence
//! ".parse().expect("these are steps");
//! let tally = differential::run("poll", &script, Poll::open).expect("poll agrees with poll(2)");
//! assert_eq!(tally.waits - tally.delivering, 1);
//! ```
//!
//! [`Script::random`] makes scripts without end, and [`Script::shortest`] cuts one that fails down to what matters.
//!
//! # The rules
//!
//! The oracle is one plain poll(2) over all sources, asked about everything, before a wait and after it. A *direction*
//! is reading, writing, or urgent data. It is *open* if poll(2) says that a call would not block: for reading POLLIN,
//! POLLRDHUP, POLLHUP or POLLERR, for writing POLLOUT, POLLHUP or POLLERR, for urgent data POLLPRI.
//!
//! Whatever the trigger:
//! - A token that is not the one a source was last added or modified with is never reported; nor is an empty interest.
//! - A wait reports a source once, and no more sources than there is room.
//! - What an event says is open is open, and was asked for; only errors and hang-ups speak of the other direction too.
//! - `error` comes with POLLERR, `read_closed` with POLLRDHUP, POLLHUP or POLLERR, `write_closed` with POLLHUP, POLLERR
//!   or an own shutdown(2); and where the capabilities promise the first two, they do not fail to come.
//! - A wait does not come back empty while anything is owed. One with room for twice the sources that are watched (a
//!   mechanism may tell the two directions apart) tells everything that is owed; with less room, everything is told
//!   within three times as many waits as that takes at least.
//! - Adding twice is `AlreadyExists`, modifying or removing the unknown `NotFound`, a missing trigger `Unsupported`,
//!   and all of these change nothing. Where a trigger is missing the script goes on with level.
//!
//! And by trigger, a poller owes:
//! - *level*: every open direction that was asked for, in every step that waits, for as long as it is open.
//! - *oneshot*: one event after each `add` or `modify`, as soon as a direction that was asked for is open. Then none.
//! - *edge*: an open direction that was asked for, if since the last step that waited the source was added or modified,
//!   or a bit of it newly appeared in poll(2)'s answer, or bytes arrived, even if earlier ones are unread. What the
//!   program did itself (reading, an own shutdown) may be told, but need not. And it may report no more often than
//!   there was something to report: once for each arrival, up to three times for an end, and each direction by itself.
//!   A poller that has moved its sources, which its ledger tells, may tell each edge once more.
//!
//! Differences that stay are in [`allowed`], with the reason. *Closing behind the poller's back* (`lose 0`) is outside
//! the oracle: what is said of the lost source is not compared, but there must be an end to it, and all else holds.
//!
//! Unix only. On Windows there is no oracle: WSAPoll takes sockets alone, has no word for a half-close, and before
//! Windows 10 version 2004 says nothing of a failed connect. The conformance suite says that it leaves this out there.
//!
//! A source with a [duplicate](Op::Duplicate) is removed before it is closed: epoll(7) keeps a registration for as long
//! as the open file lives, so there [`Poller::close`] alone would not silence it.

mod allowed;
mod numbers;
mod rules;
mod run;
mod script;
mod tally;
mod world;

use std::fmt;
use std::io;

use crate::poller::Poller;

use super::system;
use run::Run;

pub use allowed::{Allowed, allowed};
pub use script::{Act, Kind, NotAScript, Op, SLOTS, Script};
pub use tally::Tally;

/// Runs `script` on a poller that `open` makes, beside poll(2). `name` is the mechanism's, for the differences that
/// are [`allowed`].
///
/// # Errors
/// The first disagreement, where the run stops.
///
/// # Panics
/// If the system beneath fails: no loopback, no descriptors left.
pub fn run<P: Poller>(
    name: &str,
    script: &Script,
    open: impl FnOnce() -> io::Result<P>,
) -> Result<Tally, Disagreement> {
    system::raise_descriptor_limit();
    let poller = open().unwrap_or_else(|error| panic!("{name} cannot be opened: {error}"));
    let disagreement = |step, Broken { rule, detail }| Disagreement {
        mechanism: name.to_owned(),
        script: script.clone(),
        step,
        rule,
        detail,
    };
    let mut run = Run::new(name, poller);
    for (step, op) in script.ops().iter().enumerate() {
        run.step(*op).map_err(|broken| disagreement(step, broken))?;
    }
    run.end().map_err(|broken| disagreement(script.ops().len(), broken))
}

/// The rule a poller broke.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// Something that is owed was not told in time.
    Untold,
    /// A wait came back empty although something was owed.
    Early,
    /// An event says what poll(2) denies.
    Untrue,
    /// An event is about what was not asked for.
    Unasked,
    /// An event says nothing that was asked for.
    Groundless,
    /// An event says `error`, `read_closed` or `write_closed`, and there is nothing of the kind.
    FalseHint,
    /// An event does not say `error` or `read_closed`, although the capabilities promise it.
    MissingHint,
    /// A token that is not, or no longer, in use.
    StaleToken,
    /// A source is reported twice by one wait.
    Twice,
    /// A wait reports more than there is room.
    Overfull,
    /// A disarmed oneshot is reported, or an edge to which nothing has happened.
    Repeated,
    /// What was closed behind the poller's back is reported without end.
    Endless,
    /// A change is refused that is right, is made that is wrong, or is refused as something else.
    Change,
    /// A wait fails.
    Failure,
    /// The ledger does not say what was done.
    Ledger,
}

/// A rule, and how it was broken.
struct Broken {
    rule: Rule,
    detail: String,
}

/// A poller and poll(2), disagreeing. Displays as the script with the step where it happened marked.
#[derive(Clone, Debug)]
pub struct Disagreement {
    mechanism: String,
    script: Script,
    step: usize,
    rule: Rule,
    detail: String,
}

impl Disagreement {
    /// The rule that was broken.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The script that was run.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The same with the [shortest](Script::shortest) script on which `run` still fails. Unchanged if it does not fail
    /// again.
    #[must_use]
    pub fn shortened(self, run: impl Fn(&Script) -> Result<Tally, Disagreement>) -> Disagreement {
        let shortest = self.script.clone().shortest(|script| run(script).is_err());
        run(&shortest).err().unwrap_or(self)
    }

    /// The index of the step that showed it; behind the last if it was the ledger, at the end.
    pub fn step(&self) -> usize {
        self.step
    }
}

/// How many steps before the one that failed are printed: all, unless the script is of a machine's length.
const SHOWN: usize = 60;

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {:?}: {}", self.mechanism, self.rule, self.detail)?;
        let elided = self.step.saturating_sub(SHOWN);
        if elided > 0 {
            writeln!(f, "    # after {elided} steps more")?;
        }
        for (at, op) in self.script.ops().iter().enumerate().take(self.step + 1).skip(elided) {
            writeln!(f, "    {op}{}", if at == self.step { "    # <- here" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Disagreement {}
