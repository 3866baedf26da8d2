//! The adaptive poller, moved by chance before any wait: what holds of the mechanisms has to hold between them.
//!
//! Pollers that move by chance are rows of [`with_all_moves`], on which the differential test runs. Beside them stand
//! moves that are made wrong, a flaw each, which must be found.

#![allow(clippy::missing_const_for_thread_local, reason = "they are const, which is not seen on every system")]

use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io;
use std::time::Duration;

use pollmark_backends::adaptive::{Adaptive, Inner, Load, Policy};
use pollmark_backends::conformance::differential::{self, Rule};
use pollmark_backends::poll::Poll;
use pollmark_backends::{
    Capabilities, Events, Interest, Ledger, OwnedSource, Poller, RawSource, Registry, Source, Token, Trigger,
    conformance,
};

use crate::differential::{FEW, scripts, search};

#[cfg(linux_like)]
use pollmark_backends::epoll::Epoll as Queue;
use pollmark_backends::kqueue::Kqueue;
#[cfg(kqueue_like)]
use pollmark_backends::kqueue::Kqueue as Queue;

/// Moves before every third wait or so; before which depends on what has happened, and is the same each time.
#[derive(Default)]
struct ByChance {
    waits: u64,
}

impl Policy for ByChance {
    fn moves(&mut self, load: &Load) -> bool {
        self.waits += 1;
        let mut hasher = DefaultHasher::new();
        (self.waits, load.watched, load.events, load.adds, load.modifies).hash(&mut hasher);
        hasher.finish().is_multiple_of(3)
    }
}

fn by_chance<A: Inner + 'static, B: Inner + 'static>() -> io::Result<Box<dyn Poller>> {
    Ok(Box::new(Adaptive::<A, B, ByChance>::with_policy(ByChance::default())?))
}

/// The adaptive poller that moves by chance.
pub(crate) fn with_moves(registry: Registry) -> Registry {
    conformance::with_models(registry).with("adaptive, by chance", by_chance::<Poll, Queue>)
}

/// As above, and between mechanisms that have edges and oneshots. Those with uring have a test of their own, because of
/// [`Resumed`].
pub(crate) fn with_all_moves(registry: Registry) -> Registry {
    // On Linux the latter is the model's; elsewhere there is one such mechanism, and it is left for itself.
    with_moves(registry).with("adaptive, epoll and kqueue, by chance", by_chance::<Queue, Kqueue>)
}

/// Cases in which an edge is not read, and so told once more after a move; the differential test knows of moves. And
/// one where a source is closed behind the poller's back, which kqueue tells when it is first given the number, by
/// chance late.
const TOO_STRICT: [&str; 5] = [
    "closing_behind_its_back_harms_nobody",
    "edge_fires_once_per_arrival",
    "edge_fires_once_when_room_returns",
    "modify_replaces_trigger",
    "a_small_buffer_loses_no_edge",
];

#[test]
fn the_contract_holds_between_any_two_mechanisms() {
    let _turn = crate::alone();
    let registry = with_all_moves(Registry::builtin());
    for entry in registry.entries().filter(|entry| entry.name().starts_with("adaptive,")) {
        let Ok(capabilities) = entry.probe() else { continue };
        let wanted = |name: &str| !capabilities.edge || !TOO_STRICT.contains(&name);
        let report = conformance::run_where(entry.name(), || entry.open(), wanted);
        println!("{report}");
        report.assert_passed();
    }
}

/// Waits again when it was interrupted, which no ledger is to tell. A ring that was closed interrupts the thread a
/// little later, (j) in uring.rs, and after a move it is the other mechanism's wait that is hit.
#[cfg(uring)]
struct Resumed<P> {
    inner: P,
    interrupted: u64,
}

#[cfg(uring)]
impl<P: Poller> Poller for Resumed<P> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.inner.remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.inner.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        loop {
            match self.inner.wait(events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.interrupted += 1,
                waited => return waited,
            }
        }
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = self.inner.ledger();
        ledger.waits -= self.interrupted;
        ledger.empty -= self.interrupted;
        ledger
    }
}

/// Each move opens or closes a ring, so these are fewer.
#[test]
#[cfg(uring)]
fn moves_to_a_ring_and_back_agree_with_poll() {
    use pollmark_backends::uring::Uring;

    fn resumed<A: Inner + 'static, B: Inner + 'static>() -> io::Result<Box<dyn Poller>> {
        let inner = Adaptive::<A, B, ByChance>::with_policy(ByChance::default())?;
        Ok(Box::new(Resumed { inner, interrupted: 0 }))
    }

    let _turn = crate::alone();
    if let Err(why) = Uring::open() {
        assert!(std::env::var_os("CI").is_none(), "there is no io_uring here: {why}");
        return println!("SKIPPED, NOT CHECKED: {why}");
    }
    type Open = fn() -> io::Result<Box<dyn Poller>>;
    let pairs: [(&str, Open); 2] = [
        ("poll and uring, by chance", resumed::<Poll, Uring>),
        ("epoll and uring, by chance", resumed::<Queue, Uring>),
    ];
    for (name, open) in pairs {
        match search(&scripts(), FEW, |script| differential::run(name, script, open)) {
            Ok(tally) => {
                println!("{name}: {tally}");
                assert!(tally.moved >= u64::from(FEW), "hardly anything was moved");
            }
            Err(disagreement) => panic!("\n{disagreement}"),
        }
    }
}

/// A mistake somebody might make in moving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    LosesWhatWasNotTold,
    KeepsTheOldRegistrations,
    ForgetsOneSource,
    MovesEdgesAsLevels,
    RearmsWhatWasTold,
}

/// By what each is found.
const FLAWS: [(Flaw, &[Rule]); 5] = [
    (Flaw::LosesWhatWasNotTold, &[Rule::Early, Rule::Untold]),
    (Flaw::KeepsTheOldRegistrations, &[Rule::Twice, Rule::StaleToken, Rule::Unasked, Rule::Repeated]),
    (Flaw::ForgetsOneSource, &[Rule::Early, Rule::Untold]),
    (Flaw::MovesEdgesAsLevels, &[Rule::Repeated]),
    (Flaw::RearmsWhatWasTold, &[Rule::Repeated]),
];

thread_local! {
    static FLAW: Cell<Option<Flaw>> = const { Cell::new(None) };
    /// What [`Flaw::KeepsTheOldRegistrations`] did not drop.
    static KEPT: RefCell<Vec<Queue>> = const { RefCell::new(Vec::new()) };
}

/// A mechanism that is moved to in a flawed way.
struct Flawed {
    inner: Option<Queue>,
    /// Sources are being moved in.
    moving: bool,
    told: Ledger,
}

impl Flawed {
    fn has(flaw: Flaw) -> bool {
        FLAW.get() == Some(flaw)
    }

    fn inner(&mut self) -> &mut Queue {
        self.inner.as_mut().expect("only `drop` takes it")
    }
}

impl Drop for Flawed {
    fn drop(&mut self) {
        if Flawed::has(Flaw::KeepsTheOldRegistrations) {
            KEPT.with_borrow_mut(|kept| kept.extend(self.inner.take()));
        }
    }
}

impl Inner for Flawed {
    const CAPABILITIES: Capabilities = <Queue as Inner>::CAPABILITIES;
    const OPENING: &'static [&'static str] = <Queue as Inner>::OPENING;
    const CLOSING: u64 = <Queue as Inner>::CLOSING;

    fn open() -> io::Result<Flawed> {
        Ok(Flawed { inner: Some(Queue::open()?), moving: false, told: Ledger::default() })
    }

    fn add_number(&mut self, source: RawSource, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        if !std::mem::replace(&mut self.moving, true) && Flawed::has(Flaw::ForgetsOneSource) {
            return Ok(());
        }
        let trigger = match trigger {
            Trigger::Edge if Flawed::has(Flaw::MovesEdgesAsLevels) => Trigger::Level,
            Trigger::Oneshot if Flawed::has(Flaw::RearmsWhatWasTold) => Trigger::Level,
            trigger => trigger,
        };
        Inner::add_number(self.inner(), source, token, interest, trigger)
    }
}

impl Poller for Flawed {
    fn capabilities(&self) -> Capabilities {
        <Queue as Inner>::CAPABILITIES
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner().add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        match self.inner().modify(source, token, interest, trigger) {
            // Of a source that was forgotten.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.add(source, token, interest, trigger),
            modified => modified,
        }
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        match self.inner().remove(source) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // as above
            removed => removed,
        }
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.inner().close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        if std::mem::take(&mut self.moving) && Flawed::has(Flaw::LosesWhatWasNotTold) {
            self.inner().wait(events, Some(Duration::ZERO))?;
        }
        self.inner().wait(events, timeout)?;
        let mut old = Events::with_capacity(8);
        KEPT.with_borrow_mut(|kept| {
            for queue in kept {
                queue.wait(&mut old, Some(Duration::ZERO)).expect("it worked before");
                let mut all: Vec<_> = events.iter().collect();
                all.extend(old.iter());
                all.truncate(events.capacity());
                events.clear();
                all.into_iter().for_each(|event| assert!(events.push(event)));
            }
        });
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.inner.as_ref().map_or(self.told, Poller::ledger)
    }
}

fn run(script: &differential::Script) -> Result<differential::Tally, differential::Disagreement> {
    KEPT.with_borrow_mut(Vec::clear);
    let open = || Adaptive::<Flawed, Flawed, ByChance>::with_policy(ByChance::default());
    differential::run("adaptive, by chance", script, open)
}

#[test]
fn every_flaw_of_moving_is_found() {
    let _turn = crate::alone();
    for (flaw, rules) in FLAWS {
        FLAW.set(Some(flaw));
        let disagreement = search(&scripts(), FEW, run).expect_err("moved wrongly, and agreed with poll(2)");
        println!("{flaw:?}: {disagreement}");
        assert!(rules.contains(&disagreement.rule()), "{flaw:?} is found by another rule: {:?}", disagreement.rule());
    }
    FLAW.set(None);
    KEPT.with_borrow_mut(Vec::clear);
    search(&scripts(), FEW, run).unwrap_or_else(|found| panic!("without a flaw: {found}"));
}
