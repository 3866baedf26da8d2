//! How long a connection may take over what it is about: the rules of the deadlines, in ticks, without a clock.
//!
//! What happens to a connection is noted when it happens, and dated when somebody next looks at the clock: no earlier,
//! so no deadline comes early. A tick is that of the wheel. Ticks are counted in 32 bits and only ever compared with
//! those of the same 99 days: half of all that 32 bits hold before they wrap.

use std::time::Duration;

use super::wheel::TICK;
use super::{Expiry, Limits};

/// No deadline is farther away than this, 49.7 days; one that is, is met then.
const FARTHEST: u32 = i32::MAX as u32 / 2;

/// How many ticks each deadline of the [`Limits`] is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience([Option<u32>; Expiry::ALL.len()]);

impl Patience {
    pub(super) fn of(limits: &Limits) -> Patience {
        // Rounded up, as is the tick in which it begins.
        let ticks = |after: Duration| after.as_nanos().div_ceil(TICK.as_nanos()).min(FARTHEST.into()) as u32;
        Patience(Expiry::ALL.map(|expiry| limits.deadline(expiry).map(ticks)))
    }

    fn of_kind(&self, expiry: Expiry) -> Option<u32> {
        self.0[expiry as usize]
    }

    /// How long one of them is.
    pub(super) fn length(&self, expiry: Expiry) -> Option<Duration> {
        self.of_kind(expiry).map(|ticks| TICK * ticks)
    }

    /// The shortest of all: nothing that begins now is over before. `None` if there is no deadline at all.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.0.iter().flatten().min().map(|ticks| TICK * *ticks)
    }
}

/// One connection's dates.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    opened: u32,
    moved: u32,
    begun: u32,
    stalled: u32,
    asked: u32,
    is: Is,
    /// What has happened since the last look at the clock, and is not dated yet.
    news: News,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, Default)]
struct Is {
    open: bool,
    /// Its first message is complete.
    known: bool,
    /// A message is unfinished.
    unfinished: bool,
    /// Its input is held back: that is not its doing.
    held: bool,
    /// It is owed something.
    owed: bool,
    /// Its protocol has asked for a deadline.
    asked: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct News {
    any: bool,
    opened: bool,
    moved: bool,
    heard: bool,
    begun: bool,
    stalled: bool,
}

/// How a connection was left when it was served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Some of a message is there, and not all.
    pub(super) unfinished: bool,
    /// Nothing is known of what is there: it is held back, until the peer has taken more of what it is owed.
    pub(super) held: bool,
    /// A message was consumed since the last time.
    pub(super) has_consumed: bool,
    /// The peer has not taken all that it is owed.
    pub(super) owed: bool,
}

impl Life {
    /// It has just begun.
    pub(super) fn begin() -> Life {
        let news = News { opened: true, moved: true, ..News::default() };
        Life { news, is: Is { open: true, ..Is::default() }, ..Life::default() }
    }

    /// It is over, and will not be due any more.
    pub(super) fn ends(&mut self) {
        self.is = Is::default();
    }

    /// Whether this is the first note since the last date: it has to be dated soon.
    pub(super) fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.news.any, true)
    }

    /// Bytes came. [`stands`](Life::stands) tells what became of them, unless all were consumed and answered.
    #[inline]
    pub(super) fn hears(&mut self, is_quiet: bool) {
        (self.news.moved, self.news.heard) = (true, true);
        self.is.known |= is_quiet;
    }

    /// The kernel took something of what is owed.
    pub(super) fn takes(&mut self) {
        (self.news.moved, self.news.stalled) = (true, true);
    }

    /// It was served, and stands like this.
    pub(super) fn stands(&mut self, standing: Standing) {
        let Standing { unfinished, held, has_consumed, owed } = standing;
        self.news.begun |= unfinished && (has_consumed || !self.is.unfinished);
        self.news.stalled |= owed && !self.is.owed;
        (self.is.held, self.is.owed) = (held, owed);
        self.is.known |= has_consumed || !(unfinished || held) && self.news.heard;
        // What was unfinished before it was held back is so still, unless it was consumed.
        self.is.unfinished = unfinished || held && self.is.unfinished && !has_consumed;
    }

    /// Its protocol asks for a deadline at this tick, or for none.
    pub(super) fn asks(&mut self, tick: Option<u32>) {
        (self.asked, self.is.asked) = (tick.unwrap_or_default(), tick.is_some());
    }

    /// Dates what was noted: it has happened by `now`.
    pub(super) fn date(&mut self, now: u32) {
        let News { opened, moved, begun, stalled, .. } = std::mem::take(&mut self.news);
        for (date, is_new) in [
            (&mut self.opened, opened),
            (&mut self.moved, moved),
            (&mut self.begun, begun),
            (&mut self.stalled, stalled),
        ] {
            if is_new {
                *date = now;
            }
        }
    }

    /// How many ticks after `now` it is next due, negative if it is overdue, and for what: `None` is its protocol's own
    /// deadline, which goes first.
    pub(super) fn due(&self, patience: &Patience, now: u32) -> Option<(i32, Option<Expiry>)> {
        let asked = self.is.asked.then(|| (self.asked.wrapping_sub(now) as i32, None));
        let Is { open, known, unfinished, held, owed, .. } = self.is;
        let of = |expiry, since: u32, counts: bool| {
            let most = patience.of_kind(expiry).filter(|_| open && counts)?;
            Some((since.wrapping_add(most).wrapping_sub(now) as i32, Some(expiry)))
        };
        let all = [
            asked,
            of(Expiry::Total, self.opened, true),
            of(Expiry::Write, self.stalled, owed),
            of(Expiry::Request, self.begun, unfinished && !held),
            of(Expiry::Header, self.opened, !known),
            of(Expiry::Idle, self.moved, true),
        ];
        // Of those due at once, the first.
        all.into_iter().flatten().min_by_key(|(ticks, _)| *ticks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u32 = 100; // the wheel of time begins anywhere, and wraps

    fn patience(change: impl FnOnce(&mut Limits)) -> Patience {
        let mut limits = Limits::default();
        change(&mut limits);
        Patience::of(&limits)
    }

    fn dated(mut life: Life, now: u32) -> Life {
        life.date(now);
        life
    }

    #[test]
    fn without_deadlines_nobody_is_ever_due() {
        let patience = patience(|_| {});
        assert!(dated(Life::begin(), ALL).due(&patience, ALL + 1_000_000).is_none() && patience.shortest().is_none());
    }

    #[test]
    fn each_deadline_begins_and_ends_with_what_it_is_about() {
        const MS: fn(u64) -> Option<Duration> = |ms| Some(Duration::from_millis(ms));
        for start in [0, ALL, u32::MAX - 3] {
            let at = |ticks: u32| start.wrapping_add(ticks);
            let mut life = dated(Life::begin(), at(0));
            let idle = patience(|limits| limits.idle = MS(400));
            assert_eq!(life.due(&idle, at(0)), Some((100, Some(Expiry::Idle))));
            life.takes();
            assert_eq!(dated(life, at(7)).due(&idle, at(7)), Some((100, Some(Expiry::Idle))));
            assert_eq!(life.due(&idle, at(107)), Some((-7, Some(Expiry::Idle))), "not dated, not moved");

            let header = patience(|limits| limits.header = MS(401));
            assert_eq!(life.due(&header, at(1)), Some((100, Some(Expiry::Header))), "rounded up");
            life.hears(true);
            assert_eq!(life.due(&header, at(1)), None);

            let request = patience(|limits| limits.request = MS(40));
            let unfinished = Standing { unfinished: true, held: false, has_consumed: false, owed: false };
            assert_eq!(life.due(&request, at(1)), None);
            life.stands(unfinished);
            life.date(at(10));
            assert_eq!(life.due(&request, at(10)), Some((10, Some(Expiry::Request))));
            life.stands(unfinished);
            life.date(at(15));
            assert_eq!(life.due(&request, at(15)), Some((5, Some(Expiry::Request))), "drops do not put it off");
            life.stands(Standing { has_consumed: true, ..unfinished });
            life.date(at(18));
            assert_eq!(life.due(&request, at(18)), Some((10, Some(Expiry::Request))), "the next message");
            let held = Standing { unfinished: false, held: true, has_consumed: false, owed: true };
            life.stands(held);
            life.date(at(20));
            assert_eq!(life.due(&request, at(20)), None, "it is we who do not look at it");
            life.stands(unfinished);
            life.date(at(21));
            assert_eq!(life.due(&request, at(21)), Some((7, Some(Expiry::Request))), "the same message still");
            life.stands(Standing { has_consumed: true, ..held });
            life.stands(unfinished);
            life.date(at(22));
            assert_eq!(
                life.due(&request, at(22)),
                Some((10, Some(Expiry::Request))),
                "another, seen now for the first time"
            );

            let write = patience(|limits| limits.write = MS(40));
            let owed = Standing { unfinished: false, held: false, has_consumed: false, owed: true };
            life.stands(owed);
            life.date(at(20));
            life.stands(owed);
            life.date(at(25));
            assert_eq!(life.due(&write, at(25)), Some((5, Some(Expiry::Write))), "more owed does not put it off");
            life.takes();
            life.date(at(26));
            assert_eq!(life.due(&write, at(26)), Some((10, Some(Expiry::Write))));
            life.stands(Standing { owed: false, ..owed });
            assert_eq!((life.due(&write, at(26)), life.due(&request, at(26))), (None, None));

            let total = patience(|limits| limits.total = MS(40));
            assert_eq!(life.due(&total, at(26)), Some((-16, Some(Expiry::Total))));
            life.asks(Some(at(5)));
            assert_eq!(life.due(&total, at(26)), Some((-21, None)));
            life.asks(None);
            assert_eq!(life.due(&total, at(26)), Some((-16, Some(Expiry::Total))));
        }
    }

    #[test]
    fn a_life_with_deadlines_is_lean() {
        assert!(size_of::<Life>() <= 32, "{}", size_of::<Life>());
    }
}
