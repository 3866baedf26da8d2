//! What may go wrong, how often, and what came of it: one plan and one account for a faulty poller and a faulty
//! network.
//!
//! A fault here is something a kernel may do to a correct program. Nothing is imitated that a kernel may not do, or a
//! program would be blamed for surviving without it: see [`Faults::promise`] for where that takes care.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dice::Dice;
use crate::event::Interest;
use crate::source::{RawSource, Source, raw};

/// A way for things to go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// EINTR from a wait.
    InterruptedWait,
    /// ENOMEM from a wait.
    FailedWait,
    /// An event although nothing is ready.
    FalseAlarm,
    /// An event is told some waits after it could have been.
    Late,
    /// A batch is cut, and the rest of it comes with later waits.
    Split,
    /// A batch in another order.
    Reordered,
    /// ENOMEM from `add` or `modify`.
    FailedRegistration,
    /// EINTR from accept, receive or send.
    InterruptedCall,
    /// A receive takes fewer bytes than there are.
    ShortRead,
    /// A send takes fewer bytes than there is room for.
    ShortWrite,
    /// EAGAIN although there is something. Not for sockets that block.
    WouldBlock,
    /// ECONNABORTED from accept(2).
    Aborted,
    /// EMFILE, ENFILE, ENOBUFS or ENOMEM from two accepts in a row: giving up a spare descriptor does not help.
    Shortage,
    /// The same from one accept: the next one succeeds, and a server that gave up its spare descriptor for it has to
    /// turn that connection away.
    LastDescriptor,
    /// ECONNRESET from a receive or a send; the connection is dead from then on.
    Reset,
    /// ENOBUFS from a send.
    NoBuffers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 16] = [
        Kind::InterruptedWait,
        Kind::FailedWait,
        Kind::FalseAlarm,
        Kind::Late,
        Kind::Split,
        Kind::Reordered,
        Kind::FailedRegistration,
        Kind::InterruptedCall,
        Kind::ShortRead,
        Kind::ShortWrite,
        Kind::WouldBlock,
        Kind::Aborted,
        Kind::Shortage,
        Kind::LastDescriptor,
        Kind::Reset,
        Kind::NoBuffers,
    ];

    /// Whether a poller does it; otherwise the network does.
    pub const fn is_of_the_poller(self) -> bool {
        use Kind::*;
        matches!(self, InterruptedWait | FailedWait | FalseAlarm | Late | Split | Reordered | FailedRegistration)
    }

    /// Whether a connection may end by it. By all others none does, if the program is right.
    pub const fn is_lethal(self) -> bool {
        matches!(self, Kind::LastDescriptor | Kind::FailedRegistration | Kind::Reset | Kind::NoBuffers)
    }
}

/// How often each kind of fault strikes, where it could.
///
/// ```
/// use pollmark_backends::conformance::fault::{Kind, Plan};
/// let plan = Plan::harmless().with(Kind::ShortRead, 500).with(Kind::FalseAlarm, 0);
/// assert_eq!((plan.per_mille(Kind::ShortRead), plan.per_mille(Kind::Reset)), (500, 0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    per_mille: [u16; Kind::ALL.len()],
    deaths: u32,
}

impl Plan {
    /// Nothing goes wrong.
    pub const fn none() -> Plan {
        Plan { per_mille: [0; Kind::ALL.len()], deaths: u32::MAX }
    }

    /// Everything that no connection may end by.
    pub const fn harmless() -> Plan {
        Plan::none()
            .with(Kind::InterruptedWait, 60)
            .with(Kind::FailedWait, 2)
            .with(Kind::InterruptedCall, 60)
            .with(Kind::FalseAlarm, 60)
            .with(Kind::Late, 150)
            .with(Kind::Split, 300)
            .with(Kind::Reordered, 500)
            .with(Kind::ShortRead, 250)
            .with(Kind::ShortWrite, 250)
            .with(Kind::WouldBlock, 80)
            .with(Kind::Aborted, 60)
            .with(Kind::Shortage, 30)
    }

    /// The same, and what connections may end by.
    pub const fn lethal() -> Plan {
        Plan::harmless()
            .with(Kind::LastDescriptor, 30)
            .with(Kind::FailedRegistration, 20)
            .with(Kind::Reset, 10)
            .with(Kind::NoBuffers, 10)
    }

    /// This plan, but `kind` strikes `per_mille` times of 1,000.
    #[must_use]
    pub const fn with(mut self, kind: Kind, per_mille: u16) -> Plan {
        self.per_mille[kind as usize] = per_mille;
        self
    }

    /// This plan, but of all kinds only those that `wanted` likes.
    #[must_use]
    pub fn only(self, wanted: impl Fn(Kind) -> bool) -> Plan {
        let unwanted = Kind::ALL.into_iter().filter(|kind| !wanted(*kind));
        unwanted.fold(self, |plan, kind| plan.with(kind, 0))
    }

    /// This plan, but no more than `deaths` lethal faults strike.
    #[must_use]
    pub const fn at_most(mut self, deaths: u32) -> Plan {
        self.deaths = deaths;
        self
    }

    /// How often `kind` strikes, of 1,000.
    pub const fn per_mille(&self, kind: Kind) -> u16 {
        self.per_mille[kind as usize]
    }
}

/// A plan at work: shared by all that inject its faults into one program. Clones share.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    plan: Plan,
    dice: Dice,
    tally: Tally,
    promises: BTreeMap<RawSource, Interest>,
    victims: Vec<SocketAddr>,
}

impl Faults {
    /// Begins to carry out `plan`. The same seed throws the same dice; what they are thrown for also depends on the
    /// kernel's timing, so a seed repeats a run as nearly as a live kernel allows.
    pub fn new(plan: Plan, seed: u64) -> Faults {
        let (dice, tally) = (Dice::new(seed), Tally::default());
        Faults(Arc::new(Mutex::new(State { plan, dice, tally, promises: BTreeMap::new(), victims: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often `kind` strikes, of 1,000.
    pub fn per_mille(&self, kind: Kind) -> u16 {
        self.state().plan.per_mille(kind)
    }

    /// Whether `kind` strikes now. If so it is on the account, and must be carried out.
    pub fn strikes(&self, kind: Kind) -> bool {
        let mut state = self.state();
        let rate = state.plan.per_mille(kind);
        if rate == 0 || (kind.is_lethal() && state.plan.deaths == 0) || state.dice.below(1_000) >= usize::from(rate) {
            return false;
        }
        state.plan.deaths -= u32::from(kind.is_lethal());
        state.tally.0[kind as usize] += 1;
        true
    }

    /// A number from 0 to `limit` - 1, by chance.
    pub fn below(&self, limit: usize) -> usize {
        self.state().dice.below(limit)
    }

    /// Notes that `source` still is what it was told not to be: a receive that was made to fail or fall short left
    /// bytes behind, a send left room.
    ///
    /// For a level-triggered source that is no matter, the kernel reports it again. But an edge is told once. A kernel
    /// that answers EAGAIN, or hands out fewer bytes than were asked for, thereby says that there is nothing more for
    /// now, and owes an event when there is. As the real kernel does not know what was answered in its name, a
    /// [`Faulty`](super::Faulty) poller with the same `Faults` pays that debt, at one of the next waits. A faulty
    /// network without a faulty poller is legal under level and oneshot triggers only.
    pub fn promise(&self, source: Source<'_>, interest: Interest) {
        *self.state().promises.entry(raw(source)).or_default() |= interest;
    }

    /// The debts of [`promise`](Faults::promise), which the caller takes over.
    pub(super) fn take_promises(&self) -> BTreeMap<RawSource, Interest> {
        std::mem::take(&mut self.state().promises)
    }

    /// Notes that the connection `source` may end by a fault.
    pub fn sentence(&self, source: Source<'_>) {
        if let Some(peer) = peer_of(source) {
            self.sentence_peer(peer);
        }
    }

    /// As [`sentence`](Faults::sentence), of a connection known by its peer.
    pub fn sentence_peer(&self, peer: SocketAddr) {
        self.state().victims.push(peer);
    }

    /// The peers of all connections that may have ended by a fault. Any other that was lost, the program lost.
    pub fn victims(&self) -> Vec<SocketAddr> {
        self.state().victims.clone()
    }

    /// How often each kind has struck until now.
    pub fn tally(&self) -> Tally {
        self.state().tally
    }
}

pub(super) fn peer_of(source: Source<'_>) -> Option<SocketAddr> {
    socket2::SockRef::from(&source).peer_addr().ok()?.as_socket()
}

/// How often each kind of fault has struck.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally([u64; Kind::ALL.len()]);

impl Tally {
    /// How often `kind` has struck.
    pub const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// How often any has.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl std::ops::Add for Tally {
    type Output = Tally;

    fn add(self, other: Tally) -> Tally {
        Tally(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let struck = Kind::ALL.iter().filter(|kind| self.of(**kind) > 0);
        let struck: Vec<_> = struck.map(|kind| format!("{} {kind:?}", self.of(*kind))).collect();
        f.pad(&if struck.is_empty() { "no faults".to_owned() } else { struck.join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_place_in_the_plan() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
    }

    #[test]
    fn a_plan_strikes_about_as_often_as_it_says_and_the_same_for_the_same_seed() {
        let strikes = |seed| {
            let faults = Faults::new(Plan::none().with(Kind::Late, 250), seed);
            let struck: Vec<_> = (0..4_000).map(|_| faults.strikes(Kind::Late)).collect();
            let count = struck.iter().filter(|struck| **struck).count() as u64;
            assert_eq!(faults.tally().of(Kind::Late), count);
            assert!((800..1_200).contains(&count), "{count} of 4,000 at 250 ‰");
            struck
        };
        assert_eq!(strikes(7), strikes(7));
        assert_ne!(strikes(7), strikes(8));
    }

    #[test]
    fn no_more_die_than_the_plan_allows() {
        let faults = Faults::new(Plan::none().with(Kind::Reset, 1_000).at_most(2), 1);
        let struck = (0..10).filter(|_| faults.strikes(Kind::Reset)).count();
        assert_eq!(struck, 2);
    }
}
