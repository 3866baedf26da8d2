//! The closed loop: an exchange begins when the one before it has ended, on the same connection or on a new one.

use std::sync::atomic::Ordering;
use std::time::Instant;

use pollmark_backends::Events;

use super::{BATCH, Engine, Quota, Until, begun, histogram, occupant, since};
use crate::usage;
use crate::workload::channel::Channel;
use crate::workload::{Fault, Outcome};

/// What follows a completed exchange.
#[derive(Clone, Copy)]
pub(super) enum Renewal {
    SameConnection,
    NewConnection { at_once: usize },
}

impl Engine {
    /// The clock is read once for each exchange: the end of one is the beginning of the next.
    pub(super) fn drive(
        &mut self,
        places: &mut Vec<Option<Channel>>,
        until: Until,
        renewal: Renewal,
    ) -> Result<Outcome, Fault> {
        let mut events = Events::with_capacity(BATCH);
        let mut latency = histogram();
        let mut requests = 0;
        let mut under_way = 0;
        let (cpu, slept, waits) = (usage::cpu_time(), usage::times_slept(), self.poller.ledger().waits);
        let began = Instant::now();
        let mut now = began;
        let mut quota = Quota::new(until, began);

        let before = begun(places);
        let at_once = match renewal {
            Renewal::SameConnection => places.len(),
            Renewal::NewConnection { at_once } => at_once,
        };
        // After so many exchanges a connection has done what it was opened for.
        let exchanges = match renewal {
            Renewal::SameConnection => u64::MAX,
            Renewal::NewConnection { .. } => self.traffic.exchanges.max(1),
        };
        for slot in 0..at_once {
            match renewal {
                Renewal::SameConnection => {
                    under_way += self.begin_more(occupant(&mut places[slot]), slot, &mut quota, now, exchanges)?;
                }
                Renewal::NewConnection { .. } if quota.take(now) => {
                    places.push(Some(self.connect(slot, now)?));
                    under_way += 1;
                }
                Renewal::NewConnection { .. } => {}
            }
        }
        while under_way > 0 {
            self.wait(&mut events, under_way.min(places.len()))?;
            if self.stop.load(Ordering::Relaxed) {
                quota.exhaust();
            }
            for event in &events {
                let slot = event.token().slot() as usize;
                let channel = occupant(&mut places[slot]);
                let completed = self.advance(channel, event)?;
                if completed == 0 {
                    continue;
                }
                now = Instant::now();
                for _ in 0..completed {
                    latency.saturating_record((now - channel.took_from()).as_nanos() as u64);
                }
                requests += completed as u64;
                under_way -= completed;
                under_way += self.begin_more(channel, slot, &mut quota, now, exchanges)?;
                if channel.under_way == 0 && matches!(renewal, Renewal::NewConnection { .. }) {
                    // Opened before the old one is closed: no number is reused while its events are at hand.
                    let renewed = if quota.take(now) { Some(self.connect(slot, now)?) } else { None };
                    under_way += usize::from(renewed.is_some());
                    // Closed even if it is the last: a server of one client at a time waits for that.
                    let old = std::mem::replace(&mut places[slot], renewed);
                    old.into_iter().for_each(|channel| self.close(channel));
                }
            }
        }
        Ok(Outcome {
            requests,
            bytes: requests * self.stamp.size() as u64,
            elapsed: now - began,
            cpu: usage::cpu_time().zip(cpu).map(|(after, before)| after - before),
            slept: usage::times_slept().zip(slept).map(|(after, before)| after.saturating_sub(before)),
            waits: self.poller.ledger().waits - waits,
            latency,
            served: match renewal {
                Renewal::SameConnection => since(&before, places),
                Renewal::NewConnection { .. } => Vec::new(),
            },
            open: None,
        })
    }

    /// Begins as many exchanges as may be under way, and sends their payloads together. Says how many.
    #[inline]
    fn begin_more(
        &mut self,
        channel: &mut Channel,
        slot: usize,
        quota: &mut Quota,
        now: Instant,
        exchanges: u64,
    ) -> Result<usize, Fault> {
        let before = channel.under_way;
        while channel.under_way < self.traffic.outstanding && channel.begun() < exchanges && quota.take(now) {
            channel.begin(now);
        }
        let begun = channel.under_way - before;
        if begun > 0 {
            self.send(channel, slot)?;
        }
        Ok(begun)
    }
}
