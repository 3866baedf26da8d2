//! Between two mechanisms: poll(2) while that is the cheaper one, else epoll(7) or kqueue(2), and back, on counts
//! alone.
//!
//! poll(2) pays for every source in every wait, and nothing for a change. The others pay for a change, and a little for
//! an event. Which is cheaper depends on the load, and the load changes; `policy.rs` weighs what was counted.
//!
//! What is odd about it:
//! (a) Sources move inside `wait`, before it asks the kernel, and nowhere else: `add`, `modify`, `remove` and `close`
//!     are those of the mechanism at work, and cost what they cost there.
//! (b) A move opens the new mechanism, adds every source to it, and then drops the old one whole. An add looks at its
//!     source, so what the old one had found and not told yet the new one finds again. What it had told may be found
//!     again too: a move tells an edge that still holds once more. A reader that reads to the end minds neither.
//! (c) A oneshot that was told stays silent: it is not taken along, but added when it is rearmed. To see whose event it
//!     was, mechanisms that both have oneshots are given the source's number for a token, and the caller's is put back.
//! (d) epoll(7) refuses regular files, and to ask what a source is would cost every `add` a call. So a source that only
//!     the first mechanism takes is accepted wherever we are, and as long as it is there, the sources are with the
//!     first.
//! (e) A move can fail: no descriptor for the new mechanism, no memory, too many watches. Then it is undone, the old
//!     mechanism goes on as if nothing had been tried, and the policy waits longer before the next attempt.
//! (f) A source closed behind our back is found by its number not being open (EBADF), and left behind in silence.
//! (g) A new mechanism finds the sources in the order they were added. With more ready than room the first would win
//!     after every move, so a move begins as many sources further on as events were told.
//! (h) The ledger's changes are the caller's. The calls of a move are among `change_calls`, the close(2) of the
//!     mechanism left behind with them.

mod inner;
mod known;
mod policy;
#[cfg(all(test, feature = "conformance"))]
mod tests;

use std::io;
use std::time::Duration;

use crate::event::{Interest, Token, Trigger};
use crate::events::Events;
use crate::poll::Poll;
use crate::poller::{Calls, Capabilities, Ledger, Poller, exists, lacks, unknown};
use crate::source::{OwnedSource, RawSource, Source, raw};

use inner::{Names, intersection};
use known::{Entry, Known, Standing};

pub use inner::Inner;
pub use policy::{Counted, Load, Policy, Side};

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        type Queue = crate::epoll::Epoll;
    } else {
        type Queue = crate::kqueue::Kqueue;
    }
}

/// A poller that moves its sources between two mechanisms, `A` and `B`, whenever its [`Policy`] `P` says so. It begins
/// with `A`.
///
/// ```
/// use pollmark_backends::adaptive::{Adaptive, Load, Policy, Side};
/// use pollmark_backends::{AsSource, Events, Interest, Poller, Token, Trigger, poll::Poll, waker};
/// use std::time::Duration;
///
/// /// Leaves the first mechanism at once, and never comes back.
/// struct Away;
///
/// impl Policy for Away {
///     fn moves(&mut self, load: &Load) -> bool {
///         load.on == Side::First
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let mut poller = Adaptive::<Poll, Poll, Away>::with_policy(Away)?; // any two do
/// let (waker, wakes) = waker()?;
/// poller.add(wakes.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
/// waker.wake();
/// let mut events = Events::with_capacity(8);
/// poller.wait(&mut events, Some(Duration::from_secs(1)))?;
/// assert_eq!((events.len(), poller.ledger().migrations), (1, 1));
/// # Ok(())
/// # }
/// ```
pub struct Adaptive<A = Poll, B = Queue, P = Counted> {
    at_work: Either<A, B>,
    known: Known,
    policy: P,
    /// Since the policy was last asked.
    load: Load,
    /// (g)
    told: usize,
    /// (h) Calls of mechanisms left behind, and of leaving them.
    past: Ledger,
    /// Of what the caller did and saw.
    ledger: Ledger,
}

enum Either<A, B> {
    First(A),
    Second(B),
}

/// Does the same on whichever mechanism is at work.
macro_rules! at_work {
    ($self:ident, $mechanism:ident => $do:expr) => {
        match &mut $self.at_work {
            Either::First($mechanism) => $do,
            Either::Second($mechanism) => $do,
        }
    };
}

impl Adaptive {
    /// Opens poll(2), from which it may move to epoll(7) or kqueue(2).
    ///
    /// # Errors
    /// None: the other mechanism is opened when it is first wanted.
    pub fn open() -> io::Result<Adaptive> {
        Adaptive::with_policy(Counted::default())
    }
}

impl<A: Inner, B: Inner, P: Policy> Adaptive<A, B, P> {
    const ONESHOT: bool = A::CAPABILITIES.oneshot && B::CAPABILITIES.oneshot;
    const WAITS: Names = Names::of(&[A::CAPABILITIES.calls.wait, B::CAPABILITIES.calls.wait]);
    const CHANGES: Names =
        Names::of(&[A::CAPABILITIES.calls.change, B::CAPABILITIES.calls.change, A::OPENING, B::OPENING]);
    const CAPABILITIES: Capabilities = {
        let calls = Calls { wait: Self::WAITS.all(), change: Self::CHANGES.all() };
        intersection(&A::CAPABILITIES, &B::CAPABILITIES, calls)
    };

    /// Opens `A`, and moves when `policy` says so.
    ///
    /// # Errors
    /// Those of opening `A`.
    pub fn with_policy(policy: P) -> io::Result<Adaptive<A, B, P>> {
        Ok(Adaptive {
            at_work: Either::First(A::open()?),
            known: Known::default(),
            policy,
            load: Load::new(Side::First),
            told: 0,
            past: Ledger::default(),
            ledger: Ledger { derived: !A::COUNTED || !B::COUNTED, ..Ledger::default() },
        })
    }

    /// What the mechanism at work takes for a token: (c).
    fn inner_token(source: RawSource, token: Token) -> Token {
        if Self::ONESHOT { Token(source as u64) } else { token }
    }

    /// Adds to the mechanism at work what it does not know, and says how the source stands with it.
    fn put(&mut self, source: Source<'_>, entry: Entry) -> io::Result<Entry> {
        let Entry { token, interest, trigger, .. } = entry;
        let token = Self::inner_token(raw(source), token);
        self.load.adds += 1;
        match at_work!(self, mechanism => mechanism.add(source, token, interest, trigger)) {
            Ok(()) => Ok(Entry { standing: standing(interest), ..entry }),
            Err(error) if self.is_for_the_first_alone(&error) => {
                Ok(Entry { standing: Standing::Waiting, stays: true, ..entry }) // (d)
            }
            Err(error) => Err(error),
        }
    }

    fn is_for_the_first_alone(&self, error: &io::Error) -> bool {
        let refused = self.load.on == Side::Second && error.kind() == io::ErrorKind::Unsupported;
        refused && A::CAPABILITIES.regular_files && !B::CAPABILITIES.regular_files
    }

    /// (a) Moves, if the policy or (d) says so.
    #[inline]
    fn settle(&mut self) -> io::Result<()> {
        self.load.watched = self.known.watched();
        let moves = match self.known.staying() {
            0 => self.policy.moves(&self.load),
            _ => self.load.on == Side::Second, // (d)
        };
        if moves { self.change_over() } else { Ok(()) }
    }

    #[cold]
    fn change_over(&mut self) -> io::Result<()> {
        let moved = match self.load.on {
            Side::First => self.furnish().map(Either::Second),
            Side::Second => self.furnish().map(Either::First),
        };
        match moved {
            Ok(next) => {
                let left = std::mem::replace(&mut self.at_work, next);
                self.leave(left);
                self.load.on = self.load.on.other();
                self.ledger.migrations += 1;
                Ok(())
            }
            Err(error) => {
                self.policy.refused(); // (e)
                // What only the first takes is told nowhere else: (d).
                if self.load.on == Side::Second && self.known.staying() > 0 { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Opens a mechanism and adds everything to it. Unless all of that succeeds, nothing has changed.
    fn furnish<N: Inner>(&mut self) -> io::Result<N> {
        let mut next = N::open()?;
        self.past.change_calls += N::OPENING.len() as u64;
        let taken = |entry: &Entry| matches!(entry.standing, Standing::Watched | Standing::Waiting);
        let mut all: Vec<(RawSource, Entry)> = self.known.all().filter(|(_, entry)| taken(entry)).collect();
        let further = self.told.checked_rem(all.len()).unwrap_or(0);
        all.rotate_left(further); // (g)

        let mut closed = Vec::new();
        for &(source, entry) in &all {
            let token = Self::inner_token(source, entry.token);
            match next.add_number(source, token, entry.interest, entry.trigger) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => closed.push(source), // (f)
                Err(error) => {
                    if self.load.on == Side::First && error.kind() == io::ErrorKind::Unsupported {
                        self.known.set(source, Entry { stays: true, ..entry }); // (d)
                    }
                    self.abandon(next);
                    return Err(error);
                }
            }
        }
        for (source, entry) in all {
            self.known.set(source, Entry { standing: Standing::Watched, ..entry });
        }
        let idle: Vec<_> = self.known.all().filter(|(_, entry)| entry.standing == Standing::Idle).collect();
        for source in closed.into_iter().chain(idle.into_iter().map(|(source, _)| source)) {
            let entry = self.known.get(source).expect("it was there a moment ago");
            self.known.set(source, Entry { standing: Standing::Aside, ..entry }); // (c)
        }
        Ok(next)
    }

    fn leave(&mut self, left: Either<A, B>) {
        match left {
            Either::First(mechanism) => self.abandon(mechanism),
            Either::Second(mechanism) => self.abandon(mechanism),
        }
    }

    /// (h) Drops a mechanism. What it has cost stays.
    fn abandon<M: Inner>(&mut self, mechanism: M) {
        let Ledger { wait_calls, change_calls, .. } = mechanism.ledger();
        self.past.wait_calls += wait_calls;
        self.past.change_calls += change_calls + M::CLOSING;
    }

    /// (c) Puts the callers' tokens back, and sees which oneshots were told.
    fn rename(&mut self, events: &mut Events) {
        let (known, trigger) = (&mut self.known, Trigger::Oneshot);
        events.rename(|number| {
            let source = number.0 as RawSource;
            let Some(entry) = known.get(source) else { return number };
            if entry.trigger == trigger && entry.standing == Standing::Watched {
                known.set(source, Entry { standing: Standing::Idle, ..entry });
            }
            entry.token
        });
    }
}

/// How a source stands that the mechanism at work has just been told of.
fn standing(interest: Interest) -> Standing {
    if interest.is_empty() { Standing::Idle } else { Standing::Watched }
}

impl<A: Inner, B: Inner, P: Policy> Poller for Adaptive<A, B, P> {
    fn capabilities(&self) -> Capabilities {
        Self::CAPABILITIES
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if !Self::CAPABILITIES.supports(trigger) {
            return Err(lacks("adaptive poller", trigger));
        }
        if self.known.get(raw(source)).is_some() {
            return Err(exists("adaptive poller"));
        }
        let entry = Entry { token, interest, trigger, standing: Standing::Unknown, stays: false };
        let entry = self.put(source, entry)?;
        self.known.set(raw(source), entry);
        self.ledger.changes += 1;
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if !Self::CAPABILITIES.supports(trigger) {
            return Err(lacks("adaptive poller", trigger));
        }
        let before = self.known.get(raw(source)).ok_or_else(|| unknown("adaptive poller"))?;
        let mut entry = Entry { token, interest, trigger, ..before };
        match before.standing {
            Standing::Watched | Standing::Idle => {
                let token = Self::inner_token(raw(source), token);
                self.load.modifies += 1;
                at_work!(self, mechanism => mechanism.modify(source, token, interest, trigger))?;
                entry.standing = standing(interest);
            }
            // Where there is nothing to be watched, nobody need know.
            _ if interest.is_empty() => entry.standing = Standing::Aside,
            _ => entry = self.put(source, entry)?,
        }
        self.known.set(raw(source), entry);
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let entry = self.known.get(raw(source)).ok_or_else(|| unknown("adaptive poller"))?;
        self.known.forget(raw(source)); // Whatever the mechanism says: it may have been closed in between, (f).
        if matches!(entry.standing, Standing::Watched | Standing::Idle) {
            self.load.removes += 1;
            at_work!(self, mechanism => mechanism.remove(source))?;
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        let number = raw(crate::AsSource::as_source(&source));
        let entry = self.known.get(number).ok_or_else(|| unknown("adaptive poller"))?;
        self.known.forget(number);
        self.ledger.changes += 1;
        match entry.standing {
            Standing::Watched | Standing::Idle => at_work!(self, mechanism => mechanism.close(source)),
            _ => {
                drop(source);
                Ok(())
            }
        }
    }

    #[inline]
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.ledger.waits += 1;
        if let Err(error) = self.settle() {
            events.clear();
            self.ledger.empty += 1;
            return Err(error);
        }
        let waited = at_work!(self, mechanism => mechanism.wait(events, timeout));
        if Self::ONESHOT {
            self.rename(events);
        }
        let found = events.len();
        self.load = Load { events: found as u64, ..Load::new(self.load.on) };
        self.told = self.told.wrapping_add(found);
        self.ledger.events += found as u64;
        self.ledger.empty += u64::from(found == 0);
        waited
    }

    fn ledger(&self) -> Ledger {
        let Ledger { wait_calls, change_calls, .. } = match &self.at_work {
            Either::First(mechanism) => mechanism.ledger(),
            Either::Second(mechanism) => mechanism.ledger(),
        };
        let (wait_calls, change_calls) = (self.past.wait_calls + wait_calls, self.past.change_calls + change_calls);
        Ledger { wait_calls, change_calls, ..self.ledger }
    }
}
