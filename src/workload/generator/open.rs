//! The open loop: exchanges begin when they are due, whether or not the server keeps up with them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pollmark_backends::Events;

use super::{BATCH, Engine, PATIENCE, Quota, Until, begun, histogram, occupant, since};
use crate::usage;
use crate::workload::channel::Channel;
use crate::workload::pace::Schedule;
use crate::workload::{Fault, OpenLoop, Outcome};

/// A sleep may end so much later than asked; the rest of the time to the next exchange is spent asking again at once.
const SLACK: Duration = Duration::from_micros(100);

/// What is kept while a run lasts.
struct Run {
    /// For each connection, when its exchanges were due: those under way first, then those that wait for their turn.
    due: Vec<VecDeque<Instant>>,
    under_way: usize,
    completed: u64,
    /// When the last echo was complete.
    last: Instant,
    latency: hdrhistogram::Histogram<u64>,
    open: OpenLoop,
}

impl Engine {
    /// Exchanges fall to the connections in turn. One that has as many under way as it may lets the next wait, and the
    /// wait counts. When the time is over, what was due in it is still sent, for as long again and no longer than
    /// [`PATIENCE`]: a short queue at the end is no sign of a server that does not keep up. What is left then never is.
    pub(super) fn keep_pace(&mut self, places: &mut [Option<Channel>], until: Until) -> Result<Outcome, Fault> {
        let mut events = Events::with_capacity(BATCH);
        let (cpu, slept, waits) = (usage::cpu_time(), usage::times_slept(), self.poller.ledger().waits);
        let slack = SLACK.max(self.poller.capabilities().resolution);
        self.runs += 1;
        let mut schedule = Schedule::new(self.traffic.pace, self.runs << 32 | u64::from(self.first_id), self.first_id);
        let before = begun(places);
        let began = Instant::now();
        let mut quota = Quota::new(until, began);
        let mut next = schedule.next().filter(|_| !places.is_empty()).map(|after| began + after);
        let mut run = Run {
            due: vec![VecDeque::new(); places.len()],
            under_way: 0,
            completed: 0,
            last: began,
            latency: histogram(),
            open: OpenLoop { from_send: histogram(), slip: histogram(), unsent: 0 },
        };
        // Of a number of exchanges all are made.
        let given_up = quota.deadline.and_then(|deadline| deadline.checked_add((deadline - began).min(PATIENCE)));
        let (mut turn, mut heard) = (0, began);
        loop {
            let now = Instant::now();
            if self.stop.load(Ordering::Relaxed) || given_up.is_some_and(|given_up| given_up <= now) {
                next = None;
                run.give_up_waiting(places);
            }
            let over = quota.deadline.is_some_and(|deadline| deadline <= now);
            // No more than so many at a time: a rate beyond all bounds must leave room to hear of echoes, and of a stop.
            for _ in 0..BATCH {
                let Some(due) = next.filter(|due| *due <= now || over) else { break };
                if !quota.take(due) {
                    next = None;
                    break;
                }
                run.open.slip.saturating_record((now - due).as_nanos() as u64);
                run.due[turn].push_back(due);
                if run.under_way == 0 {
                    heard = now;
                }
                self.begin_due(places, turn, &mut run)?;
                turn = (turn + 1) % places.len();
                next = schedule.next().map(|after| began + after);
            }
            if next.is_none() && run.under_way == 0 {
                break;
            }
            let wake = match next {
                Some(due) => Some(quota.deadline.map_or(due, |deadline| due.min(deadline))),
                None => given_up.filter(|given_up| *given_up > now),
            };
            let until_then = wake.map(|at| at.saturating_duration_since(Instant::now()).saturating_sub(slack));
            self.look(&mut events, until_then.unwrap_or(PATIENCE).min(PATIENCE))?;
            if !events.is_empty() {
                heard = Instant::now();
            } else if run.under_way > 0 && heard.elapsed() >= PATIENCE {
                return Err(Fault::Silent { after: PATIENCE, waiting: run.under_way.min(places.len()) });
            }
            for event in &events {
                let slot = event.token().slot() as usize;
                let channel = occupant(&mut places[slot]);
                let completed = self.advance(channel, event)?;
                if completed > 0 {
                    run.complete(channel, slot, completed);
                    self.begin_due(places, slot, &mut run)?;
                }
            }
        }
        // What was due last may have been due long before the time was over, which is part of the rate.
        let until = quota.deadline.map_or(run.last, |deadline| deadline.min(Instant::now()));
        Ok(Outcome {
            requests: run.completed,
            bytes: run.completed * self.stamp.size() as u64,
            elapsed: run.last.max(until) - began,
            cpu: usage::cpu_time().zip(cpu).map(|(after, before)| after - before),
            slept: usage::times_slept().zip(slept).map(|(after, before)| after.saturating_sub(before)),
            waits: self.poller.ledger().waits - waits,
            latency: run.latency,
            served: since(&before, places),
            open: Some(run.open),
        })
    }

    /// Begins as many of the exchanges that are due on this connection as may be under way, and sends them together.
    fn begin_due(&mut self, places: &mut [Option<Channel>], slot: usize, run: &mut Run) -> Result<(), Fault> {
        let channel = occupant(&mut places[slot]);
        let before = channel.under_way;
        let now = Instant::now();
        while channel.under_way < self.traffic.outstanding.min(run.due[slot].len()) {
            channel.begin(now);
        }
        run.under_way += channel.under_way - before;
        if channel.under_way > before { self.send(channel, slot) } else { Ok(()) }
    }
}

impl Run {
    fn complete(&mut self, channel: &mut Channel, slot: usize, completed: usize) {
        self.last = Instant::now();
        for _ in 0..completed {
            let due = self.due[slot].pop_front().expect("each exchange was due once");
            self.latency.saturating_record((self.last - due).as_nanos() as u64);
            self.open.from_send.saturating_record((self.last - channel.took_from()).as_nanos() as u64);
        }
        self.under_way -= completed;
        self.completed += completed as u64;
    }

    fn give_up_waiting(&mut self, places: &[Option<Channel>]) {
        for (due, place) in self.due.iter_mut().zip(places) {
            let under_way = place.as_ref().map_or(0, |channel| channel.under_way);
            self.open.unsent += (due.len() - under_way) as u64;
            due.truncate(under_way);
        }
    }
}
