//! Requests made together, from the call to the last answer: who gets a connection, what follows from each event, and
//! whose time is over.

use std::io;
use std::ops::Range;
use std::time::Instant;

use pollmark_backends::{AsSource, Event, Events, Interest, Poller, Trigger};

use super::{Client, EVENTS};
use crate::client::line::{Ask, Line, State, Step, Task};
use crate::client::pool::Lease;
use crate::client::{Connecting, Error, Exchange, Exhausted, Moved, Net, Timeout};

/// Requests, and who is told what came of each.
pub(super) struct Batch<'a> {
    request: &'a dyn Fn(usize) -> &'a [u8],
    report: &'a mut dyn FnMut(usize, Result<Answer<'_>, Error>),
    /// Those that have no connection yet.
    waiting: Range<usize>,
}

/// An answer, in the slot whose connection it came on.
pub(super) struct Answer<'a> {
    pub(super) slot: u32,
    pub(super) bytes: &'a [u8],
}

/// A batch at a moment.
struct Turn<'a> {
    batch: Batch<'a>,
    began: Instant,
    now: Instant,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        count: usize,
        request: &'a dyn Fn(usize) -> &'a [u8],
        report: &'a mut dyn FnMut(usize, Result<Answer<'_>, Error>),
    ) -> Batch<'a> {
        Batch { request, report, waiting: 0..count }
    }
}

impl<'a> Turn<'a> {
    fn request(&self, task: Task) -> &'a [u8] {
        (self.batch.request)(task.index)
    }

    fn report(&mut self, index: usize, answered: Result<Answer<'_>, Error>) {
        (self.batch.report)(index, answered);
    }
}

impl<X: Exchange, P: Poller, N: Net> Client<X, P, N> {
    /// Asks all of `batch` and waits until each is answered or has failed.
    pub(super) fn run(&mut self, batch: Batch<'_>) -> io::Result<()> {
        // Left by a wait that failed, or by a caller who panicked.
        self.close_all(State::is_at_work);
        self.stats.requests += batch.waiting.len() as u64;
        let began = self.clock.now();
        let mut turn = Turn { batch, began, now: began };
        loop {
            self.evict(turn.now);
            self.end_overdue(&mut turn);
            self.start_waiting(&mut turn);
            self.end_waiting(&mut turn);
            if self.pool.in_use() == 0 {
                return Ok(());
            }
            let sleep = self.next_deadline(&turn).map(|at| at.saturating_duration_since(turn.now));
            match self.poller.wait(&mut self.events, sleep) {
                // The deadlines are looked at again, and then it waits for what is left.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
                waited => waited?,
            }
            turn.now = self.clock.now();
            let events = std::mem::replace(&mut self.events, Events::with_capacity(EVENTS));
            for event in &events {
                self.serve(event, &mut turn);
            }
            self.events = events;
        }
    }

    /// Gives connections to those that wait, as long as there are some.
    fn start_waiting(&mut self, turn: &mut Turn<'_>) {
        while !turn.batch.waiting.is_empty() && !self.is_over(turn) {
            let Some(lease) = self.pool.checkout() else { return };
            let task = Task::new(turn.batch.waiting.start, turn.now);
            match lease {
                Lease::Free(slot) => {
                    if !self.look_at_free(slot) {
                        continue;
                    }
                    turn.batch.waiting.start += 1;
                    self.stats.reused += 1;
                    self.lines[slot as usize].take_up(task.again());
                    self.begin(slot, turn);
                }
                Lease::New(slot) => {
                    if slot as usize == self.lines.len() {
                        self.lines.push(Line::new());
                    }
                    turn.batch.waiting.start += 1;
                    self.connect(slot, task, turn);
                }
            }
        }
    }

    /// Acts on an event.
    fn serve(&mut self, event: Event, turn: &mut Turn<'_>) {
        // Otherwise it is of a connection that was closed before it was its turn.
        let Some(slot) = self.pool.slot(event.token()) else { return };
        match self.lines[slot as usize].state {
            State::Vacant => {}
            State::Free(_) => {
                self.look_at_free(slot);
            }
            State::Connecting(..) => self.go_on_connecting(slot, turn),
            State::Busy(_, task) => self.work(slot, task, event.writable(), event.readable(), turn),
        }
    }

    /// Begins a connection for a request that waits for it.
    fn connect(&mut self, slot: u32, task: Task, turn: &mut Turn<'_>) {
        let (token, timeout) = (self.pool.token(slot), self.settings.timeouts.connect);
        match Connecting::begin(&mut self.poller, &self.net, &self.endpoint, token, timeout, turn.now) {
            Ok(connecting) => self.lines[slot as usize].state = State::Connecting(connecting, task),
            Err(error) => self.fail(slot, task, Error::Connect(error), turn),
        }
    }

    fn go_on_connecting(&mut self, slot: u32, turn: &mut Turn<'_>) {
        let line = &mut self.lines[slot as usize];
        let State::Connecting(connecting, task) = &mut line.state else { return };
        let task = Task::new(task.index, turn.now);
        match connecting.advance(&mut self.poller, &self.net, turn.now) {
            Ok(None) => {}
            Ok(Some(source)) => {
                self.stats.opened += 1;
                line.open(source, task);
                self.begin(slot, turn);
            }
            Err(error) => self.fail(slot, task, Error::Connect(error), turn),
        }
    }

    /// Begins a request on an open connection, without waiting to hear that there is room: there is.
    fn begin(&mut self, slot: u32, turn: &mut Turn<'_>) {
        match self.lines[slot as usize].state {
            // It would be sent only to be given up.
            State::Busy(..) if self.is_over(turn) => self.end_if_overdue(slot, turn),
            State::Busy(_, task) => self.work(slot, task, true, false, turn),
            _ => {}
        }
    }

    /// Goes on with a request, and does what follows.
    fn work(&mut self, slot: u32, task: Task, writable: bool, readable: bool, turn: &mut Turn<'_>) {
        let request = turn.request(task);
        let most = self.settings.most_answer;
        let ask = Ask { net: &self.net, exchange: &self.exchange, request, most, now: turn.now };
        let line = &mut self.lines[slot as usize];
        let before = line.moved(request);
        let mut step = if writable { line.send(&ask) } else { Step::Pending };
        if readable && matches!(step, Step::Pending) {
            step = line.receive(&ask);
        }
        let moved = line.moved(request);
        self.stats.bytes_out += (moved.sent - before.sent) as u64;
        self.stats.bytes_in += (moved.received - before.received) as u64;
        match step {
            Step::Pending => {
                if let Err(error) = self.rearm(slot, moved) {
                    self.fail(slot, task, Error::Lost { error, moved }, turn);
                }
            }
            Step::Answered(end) => self.finish(slot, task, moved, end, turn),
            Step::Failed(error) if task.reused && error.is_unsent() => {
                self.close(slot);
                self.pool.renew(slot);
                self.stats.retried += 1;
                self.connect(slot, Task::new(task.index, turn.now), turn);
            }
            Step::Failed(error) => self.fail(slot, task, error, turn),
        }
    }

    /// Has the poller watch for what is waited for: always for the server's bytes, or its end.
    fn rearm(&mut self, slot: u32, moved: Moved) -> io::Result<()> {
        let token = self.pool.token(slot);
        let line = &mut self.lines[slot as usize];
        let State::Busy(source, _) = &line.state else { return Ok(()) };
        let unsent = if moved.sent < moved.of { Interest::WRITABLE } else { Interest::EMPTY };
        let wanted = Interest::READABLE | unsent;
        if line.interest != wanted {
            self.poller.modify(source.as_source(), token, wanted, Trigger::Level)?;
            line.interest = wanted;
        }
        Ok(())
    }

    fn finish(&mut self, slot: u32, task: Task, moved: Moved, end: usize, turn: &mut Turn<'_>) {
        // What came beyond the answer would be taken for the next one; and a request cut short is not followed by
        // another.
        let in_step = moved.sent == moved.of && moved.received == end;
        let keeps = self.lines[slot as usize].keeps(&self.exchange);
        if in_step && keeps && self.rearm(slot, moved).is_ok() {
            self.lines[slot as usize].rest();
            self.pool.checkin(slot, turn.now);
        } else {
            self.stats.out_of_step += u64::from(!in_step || keeps);
            self.close(slot);
            self.pool.release(slot);
        }
        self.stats.answered += 1;
        let bytes = self.lines[slot as usize].received(end);
        turn.report(task.index, Ok(Answer { slot, bytes }));
    }

    fn fail(&mut self, slot: u32, task: Task, error: Error, turn: &mut Turn<'_>) {
        self.close(slot);
        self.pool.release(slot);
        self.report_failure(task.index, error, turn);
    }

    fn report_failure(&mut self, index: usize, error: Error, turn: &mut Turn<'_>) {
        if let Some(which) = error.timeout() {
            self.stats.count(which);
        }
        turn.report(index, Err(error));
    }

    /// Ends what has taken too long on a connection, or in being connected.
    fn end_overdue(&mut self, turn: &mut Turn<'_>) {
        for slot in self.pool.slots() {
            self.end_if_overdue(slot, turn);
        }
    }

    fn end_if_overdue(&mut self, slot: u32, turn: &mut Turn<'_>) {
        let Some((_, which)) = self.deadline(slot, turn).filter(|(at, _)| *at <= turn.now) else { return };
        if which == Timeout::Connect {
            return self.go_on_connecting(slot, turn); // at the next address, if there is one
        }
        let line = &self.lines[slot as usize];
        let (State::Connecting(_, task) | State::Busy(_, task)) = line.state else { return };
        let (limit, moved) = (self.settings.timeouts.limit(which), line.moved(turn.request(task)));
        self.fail(slot, task, Error::TimedOut { which, limit, moved }, turn);
    }

    /// Ends the waiting of those that no connection came free for.
    fn end_waiting(&mut self, turn: &mut Turn<'_>) {
        let Some((_, which)) = self.deadline_of_waiting(turn).filter(|(at, _)| *at <= turn.now) else { return };
        let (limit, waiting) = (self.settings.timeouts.limit(which), turn.batch.waiting.len());
        for index in std::mem::take(&mut turn.batch.waiting) {
            let error = if which == Timeout::Checkout {
                Error::Exhausted(Exhausted { connections: self.pool.most(), waiting, limit })
            } else {
                let moved = Moved { of: (turn.batch.request)(index).len(), ..Moved::default() };
                Error::TimedOut { which, limit, moved }
            };
            self.report_failure(index, error, turn);
        }
    }

    /// When something is to be ended though nothing happens.
    fn next_deadline(&self, turn: &Turn<'_>) -> Option<Instant> {
        let lines = self.pool.slots().filter_map(|slot| self.deadline(slot, turn));
        lines.chain(self.deadline_of_waiting(turn)).map(|(at, _)| at).min()
    }

    /// The timeout that a line meets next, and when.
    fn deadline(&self, slot: u32, turn: &Turn<'_>) -> Option<(Instant, Timeout)> {
        let line = &self.lines[slot as usize];
        let own = match &line.state {
            State::Vacant | State::Free(_) => return None,
            State::Connecting(connecting, _) => connecting.deadline().map(|at| (at, Timeout::Connect)),
            State::Busy(_, task) => line.deadline(turn.request(*task), &self.settings.timeouts),
        };
        self.sooner(own, turn)
    }

    /// The same of those that wait for a connection.
    fn deadline_of_waiting(&self, turn: &Turn<'_>) -> Option<(Instant, Timeout)> {
        if turn.batch.waiting.is_empty() {
            return None;
        }
        let checkout = turn.began.checked_add(self.settings.timeouts.checkout);
        self.sooner(checkout.map(|at| (at, Timeout::Checkout)), turn)
    }

    /// This one or `total`: of two at once not that one, which says less.
    fn sooner(&self, own: Option<(Instant, Timeout)>, turn: &Turn<'_>) -> Option<(Instant, Timeout)> {
        let total = self.total(turn).map(|at| (at, Timeout::Total));
        own.into_iter().chain(total).min_by_key(|(at, _)| *at)
    }

    fn is_over(&self, turn: &Turn<'_>) -> bool {
        self.total(turn).is_some_and(|at| at <= turn.now)
    }

    fn total(&self, turn: &Turn<'_>) -> Option<Instant> {
        turn.began.checked_add(self.settings.timeouts.total)
    }
}
