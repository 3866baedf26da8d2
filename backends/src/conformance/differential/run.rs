//! A script in progress: a poller, the world, and what the one owes of the other.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::rules::{Deviation, Said, Watched};
use super::script::{Op, SLOTS};
use super::tally::Tally;
use super::world::{Effect, World};
use super::{Broken, Rule};
use crate::event::{Event, Interest, Token, Trigger};
use crate::events::Events;
use crate::poller::{Capabilities, Poller};
use crate::source::Source;

/// The timeout of a wait before which poll(2) has already said that something is there: only a broken poller sleeps, or
/// one that is kept waiting, and is given a second chance.
const BRIEFLY: Duration = Duration::from_millis(20);

/// The timeout of a wait during which another thread writes. It may be late; then the next wait is to find it.
const PATIENCE: Duration = Duration::from_millis(200);

/// The timeout of the first wait of a script at which nothing is to be expected: it sleeps, and a poller that asks
/// again and again in the meantime has many calls in its ledger, however busy the machine.
const QUIETLY: Duration = Duration::from_millis(1);

/// How often a source closed behind the poller's back may still be reported.
const LAST_WORDS: u32 = 8;

pub(super) struct Run<'a, P> {
    name: &'a str,
    capabilities: Capabilities,
    poller: P,
    world: World,
    watched: [Option<Watched>; SLOTS],
    /// Closed behind the poller's back: its token, and how often that was reported since.
    lost: [Option<(Token, u32)>; SLOTS],
    /// How often what is in the slot has come to an end of some kind, watched or not.
    ended: [u8; SLOTS],
    generation: u32,
    changes: u64,
    /// Whether a wait has slept because nothing was to be expected.
    slept: bool,
    tally: Tally,
}

type Polled = [PollFlags; SLOTS];

impl<'a, P: Poller> Run<'a, P> {
    pub(super) fn new(name: &'a str, poller: P) -> Run<'a, P> {
        Run {
            name,
            capabilities: poller.capabilities(),
            poller,
            world: World::new(),
            watched: Default::default(),
            lost: Default::default(),
            ended: Default::default(),
            generation: 0,
            changes: 0,
            slept: false,
            tally: Tally::default(),
        }
    }

    pub(super) fn step(&mut self, op: Op) -> Result<(), Broken> {
        self.tally.count(op);
        match op {
            Op::Open(slot, kind) => {
                self.close(slot)?;
                if self.lost[slot].is_none() {
                    self.ended[slot] = 0;
                    self.world.open(slot, kind);
                }
            }
            Op::Duplicate(slot, into) => {
                if slot != into && self.world.is_open(slot) && self.lost[into].is_none() {
                    self.close(into)?;
                    self.ended[into] = self.ended[slot];
                    self.world.duplicate(slot, into);
                }
            }
            Op::Add(slot, interest, trigger) => self.register(P::add, "adding", slot, interest, trigger)?,
            Op::Modify(slot, interest, trigger) => self.register(P::modify, "modifying", slot, interest, trigger)?,
            Op::Remove(slot) => self.remove(slot)?,
            Op::Close(slot) => self.close(slot)?,
            Op::Lose(slot) => self.lose(slot),
            Op::Own(slot, act) => self.act(slot, |world| world.own(slot, act)),
            Op::Peer(slot, act) => self.act(slot, |world| world.peer(slot, act)),
            Op::Wait { room, meanwhile } => self.wait(room, meanwhile)?,
        }
        Ok(())
    }

    /// The ledger is to say what was done; then all that was counted.
    pub(super) fn end(mut self) -> Result<Tally, Broken> {
        let ledger = self.poller.ledger();
        let Tally { waits, delivering, events, .. } = self.tally;
        let told = [ledger.waits, ledger.empty, ledger.events, ledger.changes];
        let done = [waits, waits - delivering, events, self.changes];
        if told != done {
            let detail = format!("waits, empty ones, events and changes are {done:?}, and the ledger says {told:?}");
            return Err(broken(Rule::Ledger, detail));
        }
        // A wait is a call, or a few. One that never sleeps but asks again and again is more.
        if ledger.calls() > 8 * (ledger.waits + ledger.changes) {
            return Err(broken(Rule::Ledger, format!("more calls than could be of any use: {ledger:?}")));
        }
        self.tally.scripts = 1;
        Ok(self.tally)
    }

    /// Adds or modifies.
    fn register(
        &mut self,
        change: impl Fn(&mut P, Source<'_>, Token, Interest, Trigger) -> io::Result<()>,
        what: &str,
        slot: usize,
        interest: Interest,
        mut trigger: Trigger,
    ) -> Result<(), Broken> {
        let Some(source) = self.world.source(slot) else { return Ok(()) };
        self.generation += 1;
        let token = Token::new(slot as u32, self.generation);
        let wrong = if what == "adding" {
            self.watched[slot].is_some().then_some(io::ErrorKind::AlreadyExists)
        } else {
            self.watched[slot].is_none().then_some(io::ErrorKind::NotFound)
        };
        if !self.capabilities.supports(trigger) {
            // It may be wrong for two reasons; which is looked for first is not said.
            let refusal = change(&mut self.poller, source, token, interest, trigger).map_err(|error| error.kind());
            if refusal != Err(io::ErrorKind::Unsupported) && wrong.is_none_or(|wrong| refusal != Err(wrong)) {
                return Err(broken(Rule::Change, format!("{what} with a missing trigger: {refusal:?}")));
            }
            trigger = Trigger::Level;
        }
        let changed = change(&mut self.poller, source, token, interest, trigger);
        if let Some(wrong) = wrong {
            return refused(&changed, wrong, what);
        }
        self.made(&changed, what)?;
        self.watched[slot] = Some(Watched::new(token, interest, trigger, self.ended[slot]));
        Ok(())
    }

    fn remove(&mut self, slot: usize) -> Result<(), Broken> {
        let Some(source) = self.world.source(slot) else { return Ok(()) };
        let removed = self.poller.remove(source);
        match self.watched[slot].take() {
            Some(_) => self.made(&removed, "removing"),
            None => refused(&removed, io::ErrorKind::NotFound, "removing"),
        }
    }

    fn close(&mut self, slot: usize) -> Result<(), Broken> {
        if self.watched[slot].is_some() && self.world.can_be_closed_by_a_poller(slot) {
            self.watched[slot] = None;
            let source = self.world.take(slot).expect("it can be closed, so it is there");
            let closed = self.poller.close(source);
            return self.made(&closed, "closing");
        }
        if self.watched[slot].is_some() {
            self.remove(slot)?;
        }
        self.world.take(slot);
        Ok(())
    }

    /// Closes behind the poller's back. The slot stays empty from then on, so that the number is nobody else's.
    fn lose(&mut self, slot: usize) {
        if self.world.has_own_numbers() && self.world.can_be_closed_by_a_poller(slot) {
            self.world.take(slot);
            let token = self.watched[slot].take().map_or(Token(u64::MAX), |watched| watched.token);
            self.lost[slot] = Some((token, 0));
        }
    }

    /// Has one side of a source do something, and notes what is to be told of it.
    fn act(&mut self, slot: usize, act: impl FnOnce(&World) -> Effect) {
        let before = self.world.poll();
        let effect = act(&self.world);
        self.happened(slot, effect, before, self.world.poll());
    }

    fn happened(&mut self, slot: usize, effect: Effect, before: Polled, after: Polled) {
        for at in self.world.sharing(slot) {
            self.ended[at] = self.ended[at].saturating_add(matches!(effect, Effect::End { .. }).into());
            if let Some(watched) = &mut self.watched[at] {
                watched.happened(effect, before[at], after[at]);
            }
        }
    }

    /// Waits until nothing is owed any more.
    fn wait(&mut self, room: usize, meanwhile: Option<usize>) -> Result<(), Broken> {
        let mut events = Events::with_capacity(room);
        let mut before = self.world.poll();
        self.watched.iter_mut().flatten().for_each(Watched::wait_begins);
        let bound = self.enough_waits(room) + usize::from(meanwhile.is_some());
        for waits in 0.. {
            let meanwhile = meanwhile.filter(|_| waits == 0);
            let owed = self.owed(&before);
            if waits > 0 && owed.is_empty() {
                break;
            }
            if waits == bound {
                let (slot, directions) = owed[0];
                let said = before[slot];
                let detail = format!("slot {slot}: no {directions:?} in {waits} waits; poll(2) says {said:?}");
                return Err(broken(Rule::Untold, detail));
            }
            let arrives = meanwhile.is_some_and(|slot| self.owes_an_arrival(slot, &before));
            let timeout = match (owed.is_empty(), arrives) {
                (false, _) => BRIEFLY,
                (true, true) => PATIENCE,
                (true, false) if std::mem::replace(&mut self.slept, true) => Duration::ZERO,
                (true, false) => QUIETLY,
            };
            let began = Instant::now();
            let mut said = self.wait_once(&mut events, timeout, meanwhile, before)?;
            if events.is_empty() && !owed.is_empty() && began.elapsed() >= timeout {
                // Whoever was to wake it may have been kept from it for as long: by a busy machine, which has poll(2)
                // tell of room before it has told those who wait for it.
                said = self.wait_once(&mut events, PATIENCE, None, said.after)?;
            }
            if events.is_empty() && (!owed.is_empty() || began.elapsed() < timeout) {
                self.came_back_empty(&owed, &said)?;
            }
            self.judge(&events, &said)?;
            // The event may have been about what came before. Of what came during the wait, another may tell.
            if let Some(slot) = meanwhile {
                let sharing = self.world.sharing(slot).into_iter();
                sharing.for_each(|at| self.watched[at].iter_mut().for_each(Watched::may_be_told_again));
            }
            before = said.after;
        }
        self.watched.iter_mut().flatten().for_each(Watched::wait_ends);
        Ok(())
    }

    /// One wait, during which a peer may write.
    fn wait_once(
        &mut self,
        events: &mut Events,
        timeout: Duration,
        meanwhile: Option<usize>,
        before: Polled,
    ) -> Result<Said, Broken> {
        let errand = meanwhile.and_then(|slot| Some((slot, self.world.errand(slot)?)));
        let slot = errand.as_ref().map(|(slot, _)| *slot);
        let migrations = self.poller.ledger().migrations;
        let waited = thread::scope(|scope| {
            errand.map(|(_, errand)| scope.spawn(errand));
            self.poller.wait(events, Some(timeout))
        });
        self.tally.waited(events);
        if self.poller.ledger().migrations != migrations {
            self.tally.moved += 1;
            self.watched.iter_mut().flatten().for_each(Watched::moved);
        }
        match waited {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            waited => waited.map_err(|error| broken(Rule::Failure, error.to_string()))?,
        }
        if let Some(slot) = slot {
            let effect = self.world.errand_done(slot);
            self.happened(slot, effect, before, self.world.poll());
        }
        Ok(Said { before, after: self.world.poll() })
    }

    /// How many waits everything owed may take.
    fn enough_waits(&self, room: usize) -> usize {
        let lost = self.lost.iter().flatten().count();
        let most = 2 * self.watched.iter().flatten().filter(|watched| !watched.interest.is_empty()).count();
        // What is lost may need a wait of its own: select(2) fails as a whole.
        lost + if room >= most + lost { 1 } else { 3 * most.div_ceil(room) }
    }

    /// What is still owed, but for what is allowed to be missing.
    fn owed(&mut self, said: &Polled) -> Vec<(usize, Interest)> {
        let mut owed = Vec::new();
        for (slot, watched) in self.watched.iter().enumerate() {
            let Some(watched) = watched else { continue };
            let mut directions = watched.owed(said[slot], &self.capabilities);
            for direction in [Interest::READABLE, Interest::WRITABLE, Interest::PRIORITY] {
                let deviation = self.deviation(watched.trigger, Rule::Untold, direction, said[slot]);
                if directions.contains(direction)
                    && let Some(allowed) = deviation.allowed()
                {
                    self.tally.allow(allowed);
                    directions = directions.without(direction);
                }
            }
            if !directions.is_empty() {
                owed.push((slot, directions));
            }
        }
        owed
    }

    fn owes_an_arrival(&self, slot: usize, said: &Polled) -> bool {
        let sharing = self.world.sharing(slot).into_iter();
        self.world.errand(slot).is_some()
            && sharing
                .filter_map(|at| Some((at, self.watched[at].as_ref()?)))
                .any(|(at, it)| it.owes_an_arrival(said[at]))
    }

    fn came_back_empty(&mut self, owed: &[(usize, Interest)], said: &Said) -> Result<(), Broken> {
        for (slot, directions) in owed {
            let trigger = self.watched[*slot].as_ref().expect("it owes").trigger;
            let deviation = self.deviation(trigger, Rule::Early, *directions, said.before[*slot]);
            if let Some(allowed) = deviation.allowed() {
                self.tally.allow(allowed);
                return Ok(());
            }
        }
        Err(broken(Rule::Early, format!("a wait came back empty, before its time or although owed: {owed:?}")))
    }

    fn judge(&mut self, events: &Events, said: &Said) -> Result<(), Broken> {
        if events.len() > events.capacity() {
            return Err(broken(Rule::Overfull, format!("{} events, room for {}", events.len(), events.capacity())));
        }
        let mut seen = [false; SLOTS];
        for event in events {
            let slot = event.token().slot() as usize;
            if slot < SLOTS && std::mem::replace(&mut seen[slot], true) {
                return Err(broken(Rule::Twice, format!("slot {slot}: {event:?}, and another in the same wait")));
            }
            if let Some((token, times)) = self.lost.get_mut(slot).and_then(Option::as_mut)
                && *token == event.token()
            {
                *times += 1;
                if *times > LAST_WORDS {
                    return Err(broken(Rule::Endless, format!("slot {slot}, lost, is reported {times} times")));
                }
                continue;
            }
            self.judge_event(&event, slot, said)?;
        }
        Ok(())
    }

    fn judge_event(&mut self, event: &Event, slot: usize, said: &Said) -> Result<(), Broken> {
        let own_shutdown = slot < SLOTS && self.world.has_shut(slot);
        let socket = slot < SLOTS && self.world.is_socket(slot);
        let watched = self.watched.get_mut(slot).and_then(Option::as_mut);
        let Some(watched) = watched.filter(|watched| watched.token == event.token()) else {
            return Err(broken(Rule::StaleToken, format!("nothing is watched as this: {event:?}")));
        };
        self.tally.told(watched.trigger);
        let mut deviations = watched.judge(event, said.at_all(slot), own_shutdown);
        if watched.misses_a_hint(event, said.throughout(slot), socket, &self.capabilities) {
            deviations.push((Rule::MissingHint, Interest::EMPTY));
        }
        let watched = self.watched[slot].as_ref().expect("looked up above");
        for (rule, directions) in deviations {
            match self.deviation(watched.trigger, rule, directions, said.at_all(slot)).allowed() {
                Some(allowed) => self.tally.allow(allowed),
                None => {
                    let (interest, trigger) = (watched.interest, watched.trigger);
                    let said = said.at_all(slot);
                    let detail = format!("slot {slot}, {interest:?} {trigger}: {event:?}; poll(2) says {said:?}");
                    return Err(broken(rule, detail));
                }
            }
        }
        Ok(())
    }

    fn deviation(&self, trigger: Trigger, rule: Rule, directions: Interest, said: PollFlags) -> Deviation<'_> {
        Deviation { mechanism: self.name, capabilities: &self.capabilities, rule, directions, trigger, said }
    }

    fn made(&mut self, change: &io::Result<()>, what: &str) -> Result<(), Broken> {
        self.changes += 1;
        match change {
            Ok(()) => Ok(()),
            Err(error) => Err(broken(Rule::Change, format!("{what} is refused: {error}"))),
        }
    }
}

fn refused(change: &io::Result<()>, kind: io::ErrorKind, what: &str) -> Result<(), Broken> {
    match change {
        Err(error) if error.kind() == kind => Ok(()),
        other => Err(broken(Rule::Change, format!("{what} must be {kind:?}, but is {other:?}"))),
    }
}

fn broken(rule: Rule, detail: impl Into<String>) -> Broken {
    Broken { rule, detail: detail.into() }
}
