//! The rules: what a poller owes, and what it may say, for each trigger, where poll(2) says this.

use rustix::event::PollFlags;

use super::Rule;
use super::allowed::{self, Allowed};
use super::script::SLOTS;
use super::world::{Effect, HALF_CLOSED};
use crate::event::{Event, Interest, Readiness, Token, Trigger};
use crate::poller::Capabilities;

/// A source as the poller has been told to watch it.
pub(super) struct Watched {
    pub(super) token: Token,
    pub(super) interest: Interest,
    pub(super) trigger: Trigger,
    /// Told by the waits of this step.
    told: Interest,
    /// Oneshot: not yet reported since it was added or modified.
    armed: bool,
    /// Edge: became true, or arrived, since the last wait, and by the other side's doing.
    due: Interest,
    /// Edge: directions that became due and that no event has named since. A mechanism may tell the two apart, and an
    /// error in one event for each.
    unnamed: Interest,
    /// Edge: how often something has happened that an event may be about, and that none has been about yet.
    arrivals: u8,
    /// Edge: as above, of ends.
    ends: u8,
}

/// How often an end may be told by its edges: the FIN, its acknowledgement, which may be late, and the reset.
const TIMES_AN_END: u8 = 3;

/// What poll(2) said before a wait and after it. What it said both times held throughout.
#[derive(Clone, Copy)]
pub(super) struct Said {
    pub(super) before: [PollFlags; SLOTS],
    pub(super) after: [PollFlags; SLOTS],
}

impl Said {
    pub(super) fn throughout(&self, slot: usize) -> PollFlags {
        self.before[slot] & self.after[slot]
    }

    pub(super) fn at_all(&self, slot: usize) -> PollFlags {
        self.before[slot] | self.after[slot]
    }
}

const EVERY_DIRECTION: Interest = Interest::READABLE.union(Interest::WRITABLE).union(Interest::PRIORITY);

const WAKES_READERS: PollFlags =
    PollFlags::IN.union(HALF_CLOSED).union(PollFlags::HUP).union(PollFlags::ERR).union(PollFlags::NVAL);
const WAKES_WRITERS: PollFlags = PollFlags::OUT.union(PollFlags::HUP).union(PollFlags::ERR).union(PollFlags::NVAL);
const WAKES_BOTH: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// The directions in which nothing would block.
fn open_directions(said: PollFlags) -> Interest {
    let mut directions = Interest::EMPTY;
    let pairs = [
        (WAKES_READERS, Interest::READABLE),
        (WAKES_WRITERS, Interest::WRITABLE),
        (PollFlags::PRI, Interest::PRIORITY),
    ];
    for (wakes, direction) in pairs {
        if said.intersects(wakes) {
            directions |= direction;
        }
    }
    directions
}

fn told_by(event: &Event) -> Interest {
    let mut told = Interest::EMPTY;
    let facts = [
        (event.readable(), Interest::READABLE),
        (event.writable(), Interest::WRITABLE),
        (event.priority(), Interest::PRIORITY),
    ];
    for (_, direction) in facts.into_iter().filter(|(is, _)| *is) {
        told |= direction;
    }
    told
}

/// The directions an event speaks of by name, without what an error implies of the other.
fn named_by(event: &Event) -> Interest {
    let mut named = Interest::EMPTY;
    let words = [
        (Readiness::READABLE | Readiness::READ_CLOSED | Readiness::HANG_UP, Interest::READABLE),
        (Readiness::WRITABLE | Readiness::WRITE_CLOSED | Readiness::HANG_UP, Interest::WRITABLE),
        (Readiness::PRIORITY, Interest::PRIORITY),
    ];
    for (_, direction) in words.into_iter().filter(|(words, _)| event.readiness().intersects(*words)) {
        named |= direction;
    }
    named
}

fn common(one: Interest, other: Interest) -> Interest {
    one.without(one.without(other))
}

impl Watched {
    /// Adding and modifying arm: what is true already is then told once, whatever was told before. `ended` is how often
    /// the source has come to an end of some kind, of which there may still be something to say.
    pub(super) fn new(token: Token, interest: Interest, trigger: Trigger, ended: u8) -> Watched {
        Watched {
            token,
            interest,
            trigger,
            told: Interest::EMPTY,
            armed: true,
            due: EVERY_DIRECTION,
            unnamed: EVERY_DIRECTION,
            arrivals: 1,
            ends: TIMES_AN_END.saturating_mul(ended),
        }
    }

    pub(super) fn wait_begins(&mut self) {
        self.told = Interest::EMPTY;
    }

    /// Everything that was due has been told, or is no longer true.
    pub(super) fn wait_ends(&mut self) {
        self.due = Interest::EMPTY;
    }

    /// Something happened to the source, and poll(2)'s answer has changed from the one to the other.
    pub(super) fn happened(&mut self, effect: Effect, before: PollFlags, after: PollFlags) {
        let news = open_directions(after.difference(before));
        match effect {
            Effect::None => {}
            // What the program did itself it need not be told. A mechanism may: reading makes room, on an eventfd.
            Effect::Own => self.arrives(),
            Effect::Peer { counted } => {
                self.arrives();
                self.becomes_due(if counted { news | Interest::READABLE } else { news });
            }
            Effect::End { own } => {
                self.ends = self.ends.saturating_add(TIMES_AN_END);
                self.becomes_due(if own { Interest::EMPTY } else { news });
            }
        }
    }

    /// Most arrivals are told together, so of many the first few are forgotten: else they would excuse repetitions
    /// later.
    fn arrives(&mut self) {
        self.arrivals = (self.arrivals + 1).min(3);
    }

    fn becomes_due(&mut self, directions: Interest) {
        self.due |= directions;
        self.unnamed |= directions;
    }

    /// Something has happened of which it is not known whether an event was about it.
    pub(super) fn may_be_told_again(&mut self) {
        self.arrives();
    }

    /// The poller has moved its sources: what is true already may be told once more, but need not be.
    pub(super) fn moved(&mut self) {
        self.unnamed = EVERY_DIRECTION;
        self.arrives();
    }

    /// What must still be told, where poll(2) says this throughout.
    pub(super) fn owed(&self, said: PollFlags, capabilities: &Capabilities) -> Interest {
        let mut asked = self.interest;
        if !capabilities.priority {
            asked = asked.without(Interest::PRIORITY);
        }
        let open = common(asked, open_directions(said));
        match self.trigger {
            Trigger::Level => open.without(self.told),
            Trigger::Edge => common(open, self.due).without(self.told),
            Trigger::Oneshot if self.armed => open,
            Trigger::Oneshot => Interest::EMPTY,
        }
    }

    /// Whether a wait during which the peer writes must tell of it.
    pub(super) fn owes_an_arrival(&self, said: PollFlags) -> bool {
        self.interest.contains(Interest::READABLE)
            && match self.trigger {
                Trigger::Level => true,
                Trigger::Edge => !said.intersects(WAKES_READERS),
                Trigger::Oneshot => self.armed,
            }
    }

    /// Judges an event of this source, and notes what it told: the rules it breaks, and in which directions.
    pub(super) fn judge(&mut self, event: &Event, said: PollFlags, own_shutdown: bool) -> Vec<(Rule, Interest)> {
        let mut broken = Vec::new();
        let told = told_by(event);
        let edge = self.trigger == Trigger::Edge;

        let untrue = told.without(open_directions(said));
        if !untrue.is_empty() {
            broken.push((Rule::Untrue, untrue));
        }
        // Errors and hang-ups are told of both directions. An edge also carries what tells a short read from the end.
        let mut unasked = told.without(self.interest).without(untrue);
        if said.intersects(WAKES_BOTH) || edge && said.intersects(HALF_CLOSED) {
            unasked = unasked.without(Interest::READABLE | Interest::WRITABLE);
        }
        if edge {
            unasked = unasked.without(Interest::PRIORITY);
        }
        if !unasked.is_empty() || self.interest.is_empty() {
            broken.push((Rule::Unasked, unasked));
        } else if common(told, self.interest).is_empty()
            && !said.intersects(WAKES_BOTH)
            && !(edge && event.more_than_bytes())
        {
            broken.push((Rule::Groundless, told));
        }

        let hints = [
            (event.error(), PollFlags::ERR),
            // Elsewhere poll(2) has no word for it, and there is nothing to compare with.
            (cfg!(linux_like) && event.read_closed(), HALF_CLOSED | WAKES_BOTH),
            (event.write_closed() && !own_shutdown, WAKES_BOTH),
        ];
        if hints.iter().any(|(hint, grounds)| *hint && !said.intersects(*grounds)) {
            broken.push((Rule::FalseHint, told));
        }
        let named = named_by(event);
        let is_new = !common(named, self.unnamed).is_empty();
        self.unnamed = self.unnamed.without(named);
        let may_be_reported = self.may_be_reported();
        if !may_be_reported && (!edge || !is_new) {
            broken.push((Rule::Repeated, told));
        }
        self.told |= told;
        broken
    }

    /// Uses up one of the events that the trigger allows.
    fn may_be_reported(&mut self) -> bool {
        match self.trigger {
            Trigger::Level => true,
            Trigger::Oneshot => std::mem::take(&mut self.armed),
            Trigger::Edge => {
                let budget = if self.arrivals > 0 { &mut self.arrivals } else { &mut self.ends };
                let left = budget.checked_sub(1);
                *budget = left.unwrap_or(0);
                left.is_some()
            }
        }
    }

    /// The hints that the capabilities promise, of an event that is about the direction they belong to.
    pub(super) fn misses_a_hint(&self, event: &Event, said: PollFlags, socket: bool, can: &Capabilities) -> bool {
        let about_reading = self.interest.contains(Interest::READABLE)
            && event.readiness().intersects(Readiness::READABLE | Readiness::READ_CLOSED);
        let half_closed = said.intersects(HALF_CLOSED) && about_reading && can.half_close;
        let failed = said.intersects(PollFlags::ERR) && socket && can.errors;
        half_closed && !event.read_closed() || failed && !event.error()
    }
}

/// A deviation from a rule, described for the list of what is allowed.
pub(super) struct Deviation<'a> {
    pub(super) mechanism: &'a str,
    pub(super) capabilities: &'a Capabilities,
    pub(super) rule: Rule,
    /// The directions it is about.
    pub(super) directions: Interest,
    pub(super) trigger: Trigger,
    pub(super) said: PollFlags,
}

impl Deviation<'_> {
    pub(super) fn allowed(&self) -> Option<&'static Allowed> {
        allowed::LIST.iter().find(|entry| (entry.covers)(self))
    }
}
