//! Whether the deadlines of the limits are met: the world's own dates of each connection, and when it will be due.

use pollmark_backends::Token;

use super::script::MILLISECOND;
use super::trace::{Name, Seconds, What};
use super::world::{Shared, World};
use crate::server::{Expiry, Observer};

/// How late a limit may be met: rounding, twice, and all the waits a busy loop makes without a look at the clock.
const LATE: u64 = 20 * 4 * MILLISECOND;

/// When what happened to a connection, as the world has seen it.
#[derive(Clone, Copy, Default)]
pub(super) struct Dates {
    opened: u64,
    moved: u64,
    begun: u64,
    stalled: u64,
    /// Its first message is complete.
    known: bool,
    /// When it is due, as it stands.
    due: Option<u64>,
}

/// Hears from the server who has met a limit.
pub(super) struct Witness(pub(super) Shared);

impl Observer for Witness {
    fn expired(&mut self, connection: Token, expiry: Expiry) {
        self.0.lock().expires(connection, expiry);
    }
}

impl World {
    pub(super) fn opens(&mut self, id: u32) {
        let now = self.now();
        self.sockets[id as usize].dates = Dates { opened: now, moved: now, ..Dates::default() };
        self.redate(id);
    }

    pub(super) fn moves(&mut self, id: u32) {
        self.sockets[id as usize].dates.moved = self.now();
        self.redate(id);
    }

    /// Its protocol has consumed so much, and had kept something before, or not.
    pub(super) fn consumes(&mut self, id: u32, consumed: usize, had_kept: bool) {
        let now = self.now();
        let dates = &mut self.sockets[id as usize].dates;
        if consumed > 0 || !had_kept {
            dates.begun = now;
        }
        dates.known |= consumed > 0;
        self.redate(id);
    }

    /// It begins to be owed something, or has taken some of it.
    pub(super) fn stalls(&mut self, id: u32) {
        self.sockets[id as usize].dates.stalled = self.now();
        self.redate(id);
    }

    /// When a connection is due by one limit.
    fn due_by(&self, id: u32, expiry: Expiry) -> Option<u64> {
        let after = self.config.limits.deadline(expiry)?.as_nanos() as u64;
        let socket = &self.sockets[id as usize];
        let Dates { opened, moved, begun, stalled, known, .. } = socket.dates;
        let since = match expiry {
            Expiry::Idle => Some(moved),
            Expiry::Header => (!known).then_some(opened),
            Expiry::Request => (socket.kept > 0).then_some(begun),
            Expiry::Write => (!socket.owed.is_empty()).then_some(stalled),
            Expiry::Total => Some(opened),
        };
        since.map(|since| since + after)
    }

    fn redate(&mut self, id: u32) {
        if Expiry::ALL.iter().all(|expiry| self.config.limits.deadline(*expiry).is_none()) {
            return;
        }
        self.undate(id);
        let due = Expiry::ALL.into_iter().filter_map(|expiry| self.due_by(id, expiry)).min();
        self.sockets[id as usize].dates.due = due;
        self.expiries.extend(due.map(|due| (due, id)));
    }

    pub(super) fn undate(&mut self, id: u32) {
        if let Some(due) = self.sockets[id as usize].dates.due.take() {
            self.expiries.remove(&(due, id));
        }
    }

    fn expires(&mut self, token: Token, expiry: Expiry) {
        let Some(id) = self.tokens.get(&token).copied() else {
            return self.fail(None, format!("{token:?} met a limit, and is nobody"));
        };
        let who = Name::Client(id);
        self.note(who, What::Expires(expiry));
        self.books.expired += 1;
        self.progress += 1;
        self.sockets[id as usize].excused = true;
        match self.due_by(id, expiry) {
            None => self.fail(Some(who), format!("closed by the {expiry} deadline, which it cannot meet as it is")),
            Some(at) if at > self.now() => {
                self.fail(Some(who), format!("the {expiry} deadline came early: it is at {}", Seconds(at)));
            }
            Some(_) => {}
        }
    }

    /// The server goes to sleep, until then at most.
    pub(super) fn no_limit_is_slept_over(&mut self, until: u64) {
        let Some((at, id)) = self.expiries.first().copied().filter(|_| !self.stopping) else { return };
        if until > self.now().max(at + LATE) {
            self.fail(
                Some(Name::Client(id)),
                format!("the server sleeps over a limit that was met at {}", Seconds(at)),
            );
        }
    }
}
