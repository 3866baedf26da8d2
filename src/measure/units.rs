//! What single calls cost, as units made from the rows of all calibrations.
//!
//! No cell has a part in them: so what the units and a cell's ledger say of the cell can be wrong, and by how much is told.

#[cfg(any(test, fuzzing))]
pub(crate) mod sample;

use std::collections::{BTreeMap, BTreeSet};

use super::stats;
use crate::calibration::{CROWD, Calibration, Call, Phase};
use crate::workload::Transport;

/// The buffer of a server: no receive brings more, however large messages are. Larger ones are not sent in a calibration.
pub(crate) const LARGEST: usize = 64 * 1024;

/// What the calls of one mechanism cost over one transport, in nanoseconds of CPU time: half of what was seen is above,
/// half below.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Units {
    /// A wait that finds something, but for its events.
    pub(crate) wait: f64,
    /// Each event it returns.
    pub(crate) event: f64,
    /// What a wait costs more that watches so many, and finds something.
    pub(crate) scan: Curve,
    /// What it costs more that watches so many, and sleeps.
    pub(crate) scan_asleep: Curve,
    /// What a wait costs more that sleeps, with the receive after it, whose data is out of the caches.
    pub(crate) sleep: f64,
    /// Beginning to watch a connection, arming it again, ceasing to watch it.
    pub(crate) add: f64,
    pub(crate) modify: Option<f64>,
    pub(crate) remove: f64,
    pub(crate) shared: Shared,
}

/// What is no mechanism's.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Shared {
    /// The most bytes that were sent at once, to find these out.
    pub(crate) largest: f64,
    pub(crate) receive: f64,
    /// A receive of a message as they were sent where both ends slept.
    finds: f64,
    pub(crate) nothing: f64,
    pub(crate) send: f64,
    /// What a send costs more that wakes its receiver.
    pub(crate) wake: f64,
    /// What a recv(2) costs more that sleeps.
    pub(crate) receive_asleep: f64,
    pub(crate) accept: f64,
    pub(crate) close: f64,
}

/// A cost that grows with the number of descriptors watched: straight from one number that was measured to the next,
/// and on as it went between the last two. It never falls.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Curve(Vec<(f64, f64)>);

impl Curve {
    /// From what waits took; what they take anyway is not the descriptors'. Returns with it what that was, at none.
    fn of(mut points: Vec<(f64, f64)>) -> Option<(f64, Curve)> {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points.dedup_by_key(|point| point.0);
        let (first, rest) = points.split_first()?;
        let mut least = first.1;
        let mut curve = vec![*first];
        for &(watched, cost) in rest {
            least = least.max(cost);
            curve.push((watched, least));
        }
        let per_one = curve.get(1).map_or(0.0, |second| (second.1 - first.1) / (second.0 - first.0));
        let at_none = (first.1 - per_one * first.0).max(0.0);
        curve.insert(0, (0.0, at_none));
        curve.dedup_by_key(|point| point.0);
        curve.iter_mut().for_each(|point| point.1 -= at_none);
        Some((at_none, Curve(curve)))
    }

    /// The cost of watching so many.
    pub(crate) fn at(&self, watched: f64) -> f64 {
        let Curve(points) = self;
        let after = points.iter().position(|point| point.0 >= watched).unwrap_or(points.len().saturating_sub(1));
        match (points.get(after.saturating_sub(1)), points.get(after)) {
            (Some(&(from, low)), Some(&(to, high))) if to > from => low + (high - low) * (watched - from) / (to - from),
            (_, Some(point)) => point.1,
            _ => 0.0,
        }
    }

    /// The most that were watched.
    pub(crate) fn most(&self) -> f64 {
        self.0.last().map_or(0.0, |last| last.0)
    }
}

/// What is asked of the units: which mechanism, over what, with messages of how many bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) mechanism: &'a str,
    pub(crate) carried: Carried,
}

/// What is sent and received.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Carried {
    pub(crate) transport: Transport,
    /// Bytes of each message.
    pub(crate) payload: u64,
    /// Bytes that a receive brings, and that a send takes: messages may come together, or in parts.
    pub(crate) received: f64,
    pub(crate) sent: f64,
}

impl Carried {
    /// Messages that come and go whole.
    pub(crate) fn whole(transport: Transport, payload: u64) -> Carried {
        let bytes = payload as f64;
        Carried { transport, payload, received: bytes, sent: bytes }
    }
}

impl Units {
    /// What `rows` say; `None` if they do not say enough.
    pub(crate) fn of(rows: &[&Calibration], asked: Asked<'_>) -> Option<Units> {
        let shared = Shared::of(rows, asked.carried)?;
        let transport = asked.carried.transport;
        let here = |row: &&Calibration| row.transport == transport && row.mechanism.as_deref() == Some(asked.mechanism);
        let mine = rows.iter().copied().filter(here).collect::<Vec<_>>();
        let typical = |of: &dyn Fn(&Calibration) -> Option<f64>| {
            stats::median(&mine.iter().filter_map(|row| of(row)).collect::<Vec<_>>())
        };
        let registered = |call: Call| typical(&|row| row.each(call).filter(|_| row.phase == Phase::Registration));
        let curve = |of: &dyn Fn(&Calibration) -> Option<f64>| {
            let mut points: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
            for row in mine.iter().filter(|row| row.batch == 1) {
                points.entry(row.watched).or_default().extend(of(row));
            }
            let typical = |(watched, costs): (u32, Vec<f64>)| Some((f64::from(watched), stats::median(&costs)?));
            Curve::of(points.into_iter().filter_map(typical).collect())
        };
        let awake = |row: &Calibration| {
            let waits = row.spent(Call::Wait).times;
            // Who goes over a crowd finds the answer there at its end, and does not sleep.
            let is_awake = match row.phase {
                Phase::Awake => true,
                Phase::Asleep => row.slept.is_some_and(|slept| slept.saturating_mul(10) <= waits),
                _ => false,
            };
            row.each(Call::Wait).filter(|_| is_awake)
        };
        let (at_none, scan) = curve(&awake)?;
        // More events at a wait, of as many descriptors.
        let several = |row: &Calibration| {
            let more = row.events as f64 / row.spent(Call::Wait).times as f64 - 1.0;
            let alike = row.phase == Phase::Awake && row.batch > 1 && more > 0.5;
            let scan = scan.at(f64::from(row.watched));
            alike.then(|| Some((row.each(Call::Wait)? - at_none - scan) / more))?
        };
        let event = typical(&several).unwrap_or(0.0).max(0.0);
        let asleep = |row: &Calibration| {
            let (waits, receives) = (row.spent(Call::Wait), row.spent(Call::Receive));
            let mostly = |slept: &u64| row.phase == Phase::Asleep && slept.saturating_mul(2) >= waits.times.max(1);
            let slept = row.slept.filter(mostly)? as f64;
            let awake = (waits.times as f64 - slept).max(0.0) * (at_none + scan.at(f64::from(row.watched)));
            let received = receives.cpu_ns as f64 - receives.times as f64 * shared.finds;
            Some((waits.cpu_ns as f64 + received - awake) / slept)
        };
        let (sleeping, scan_asleep) = curve(&asleep)?;
        Some(Units {
            wait: (at_none - event).max(0.0),
            event: event.min(at_none),
            scan,
            scan_asleep,
            sleep: (sleeping - at_none).max(0.0),
            add: registered(Call::Add).unwrap_or(0.0),
            modify: typical(&|row| row.each(Call::Modify)),
            remove: registered(Call::Remove).unwrap_or(0.0),
            shared,
        })
    }
}

impl Shared {
    /// What `rows` say of the calls that are no mechanism's.
    pub(crate) fn of(rows: &[&Calibration], asked: Carried) -> Option<Shared> {
        let Carried { transport, payload, received, sent } = asked;
        let carried = rows.iter().copied().filter(|row| row.transport == transport).collect::<Vec<_>>();
        // A crowd that was gone over has taken the caches from whatever follows.
        let of_phase = |phase: Phase| {
            carried.iter().copied().filter(move |row| row.phase == phase && row.watched < CROWD).collect::<Vec<_>>()
        };
        let (awake, asleep, blocking) = (of_phase(Phase::Awake), of_phase(Phase::Asleep), of_phase(Phase::Blocking));
        let of_awake = |call: Call, bytes: u64| {
            let alike = awake.iter().filter(|row| row.payload_bytes == bytes);
            weighted_median(alike.filter_map(|row| Some((row.each(call)?, row.spent(call).times))).collect())
        };
        let sizes = awake.iter().map(|row| row.payload_bytes).collect::<BTreeSet<_>>();
        let largest = *sizes.last().filter(|largest| **largest >= payload.min(LARGEST as u64))?;
        let of_bytes = |call: Call, bytes: f64| {
            between(
                &sizes.iter().filter_map(|&size| Some((size as f64, of_awake(call, size)?))).collect::<Vec<_>>(),
                bytes,
            )
        };
        let (receive, send) = (of_bytes(Call::Receive, received)?, of_bytes(Call::Send, sent)?);
        // What a send costs that wakes nobody, and a receive that finds something, with the messages that were sent when
        // both slept.
        let first = asleep.first()?.payload_bytes;
        let (wakes_nobody, finds) = (of_awake(Call::Send, first)?, of_awake(Call::Receive, first)?);
        let wake = |row: &&Calibration| {
            let (woken, sends) = (row.peer_slept.filter(|woken| *woken > 0)?, row.spent(Call::Send));
            Some(((sends.cpu_ns as f64 - sends.times as f64 * wakes_nobody) / woken as f64, woken))
        };
        let receive_asleep = |row: &&Calibration| {
            let (slept, receives) = (row.slept.filter(|slept| *slept > 0)?, row.spent(Call::Receive));
            Some(((receives.cpu_ns as f64 - receives.times as f64 * finds) / slept as f64, slept))
        };
        let wake = weighted_median(asleep.iter().filter_map(wake).collect());
        let receive_asleep = weighted_median(blocking.iter().filter_map(receive_asleep).collect());
        let of_connections = |call: Call| {
            let told = carried.iter().filter(|row| row.phase == Phase::Connections).filter_map(|row| row.each(call));
            stats::median(&told.collect::<Vec<_>>())
        };
        Some(Shared {
            largest: largest as f64,
            receive,
            finds,
            nothing: of_connections(Call::ReceiveNothing).unwrap_or(0.0),
            send,
            wake: wake?.max(0.0),
            receive_asleep: receive_asleep.unwrap_or(0.0).max(0.0),
            accept: of_connections(Call::Accept).unwrap_or(0.0),
            close: of_connections(Call::Close).unwrap_or(0.0),
        })
    }
}

/// What so many bytes cost, by those sizes that were measured, ascending: straight from one to the next, and no more or
/// less than the largest and the smallest.
fn between(sizes: &[(f64, f64)], bytes: f64) -> Option<f64> {
    let (first, last) = (sizes.first()?, sizes.last()?);
    let within = sizes.windows(2).find(|pair| (pair[0].0..=pair[1].0).contains(&bytes));
    Some(match within {
        Some(&[(from, low), (to, high)]) => low + (high - low) * (bytes - from) / (to - from),
        _ if bytes < first.0 => first.1,
        _ => last.1,
    })
}

/// Half of the calls are in rows at or below it: a row of three calls says less than one of three hundred.
fn weighted_median(mut rows: Vec<(f64, u64)>) -> Option<f64> {
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = rows.iter().map(|row| row.1 as f64).sum::<f64>();
    let mut below = 0.0;
    for (at, &(value, times)) in rows.iter().enumerate() {
        below += times as f64;
        if below * 2.0 == all {
            return Some((value + rows.get(at + 1).map_or(value, |next| next.0)) / 2.0);
        }
        if below * 2.0 > all {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Spent;

    fn near(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() <= 1e-6 * wanted.abs().max(1.0)
    }

    #[test]
    fn known_costs_are_found_again_apart_from_each_other() {
        let record = sample::record();
        let rows = record.calibrations.iter().collect::<Vec<_>>();
        let whole = |payload| Carried::whole(Transport::Tcp, payload);
        let asked = |mechanism| Asked { mechanism, carried: whole(64) };
        for (mechanism, scanned) in [("epoll", 0.0), ("select", 60.0), ("poll", 90.0)] {
            let units = Units::of(&rows, asked(mechanism)).expect("all phases");
            let found = [units.wait, units.event, units.scan.at(1_000.0), units.sleep, units.scan_asleep.at(1_000.0)];
            let wanted = [1_500.0, 100.0, 1_000.0 * scanned, 8_000.0, 1_000.0 * scanned];
            assert!(found.iter().zip(wanted).all(|(found, wanted)| near(*found, wanted)), "{found:?}, not {wanted:?}");
            let Shared { receive, send, wake, receive_asleep, nothing, accept, close, .. } = units.shared;
            let found = [receive, send, wake, receive_asleep, nothing, accept, close, units.add, units.remove];
            let wanted = [1_000.0, 4_500.0, 4_000.0, 7_500.0, 500.0, 2_000.0, 3_000.0, 400.0, 300.0];
            assert!(found.iter().zip(wanted).all(|(found, wanted)| near(*found, wanted)), "{found:?}, not {wanted:?}");
        }
        assert_eq!(Units::of(&rows, asked("kqueue")), None);
        assert_eq!(Units::of(&rows, Asked { carried: whole(65), ..asked("epoll") }), None, "never sent");
        assert_eq!(Units::of(&[], asked("epoll")), None);
    }

    #[test]
    fn messages_that_come_in_parts_or_together_cost_what_as_many_bytes_cost() {
        let mut record = sample::record();
        let small = record.calibrations.iter().find(|row| row.phase == Phase::Awake).expect("awake").clone();
        let spent = |each: u64| Spent { times: 100, cpu_ns: 100 * each };
        for (payload_bytes, receive, send) in [(16_384, 3_000, 8_500), (65_536, 11_000, 20_500)] {
            let calls = [(Call::Receive, spent(receive)), (Call::Send, spent(send))].into();
            record.calibrations.push(Calibration { payload_bytes, calls, watched: 4, ..small.clone() });
        }
        let rows = record.calibrations.iter().collect::<Vec<_>>();
        let of = |payload: u64, received: f64, sent: f64| {
            let shared = Shared::of(&rows, Carried { transport: Transport::Tcp, payload, received, sent });
            shared.map(|shared| (shared.receive, shared.send, shared.wake))
        };
        assert_eq!(of(64, 64.0, 64.0), Some((1_000.0, 4_500.0, 4_000.0)));
        assert_eq!(of(65_536, 65_536.0, 16_384.0), Some((11_000.0, 8_500.0, 4_000.0)));
        assert_eq!(of(1 << 20, 40_960.0, 65_536.0), Some((7_000.0, 20_500.0, 4_000.0)), "half way");
        assert_eq!(of(64, 32.0, 1e6), Some((1_000.0, 20_500.0, 4_000.0)), "not beyond what was measured");
        let rows = rows.into_iter().filter(|row| row.payload_bytes < LARGEST as u64).collect::<Vec<_>>();
        assert_eq!(Shared::of(&rows, Carried::whole(Transport::Tcp, 1 << 20)), None, "never sent");
    }

    #[test]
    fn a_row_counts_as_often_as_it_has_calls() {
        assert_eq!(weighted_median(vec![(9.0, 3), (1.0, 2), (5.0, 2)]), Some(5.0));
        assert_eq!(weighted_median(vec![(9.0, 300), (1.0, 3), (2.0, 3)]), Some(9.0));
        assert_eq!(weighted_median(vec![(4.0, 2), (2.0, 2)]), Some(3.0), "as many on either side");
        assert_eq!(weighted_median(vec![(4.0, u64::MAX), (2.0, u64::MAX)]), Some(3.0));
        assert_eq!(weighted_median(Vec::new()), None);
    }

    #[test]
    fn a_round_that_was_disturbed_moves_no_unit_of_three() {
        let mut record = sample::record();
        let asked = Asked { mechanism: "poll", carried: Carried::whole(Transport::Tcp, 64) };
        let units = |record: &crate::measure::Record| Units::of(&record.calibrations.iter().collect::<Vec<_>>(), asked);
        let before = units(&record);
        for row in record.calibrations.iter_mut().filter(|row| row.round == 1) {
            row.calls.values_mut().for_each(|spent| spent.cpu_ns *= 10);
        }
        assert_eq!(units(&record), before);
    }

    #[test]
    fn a_curve_goes_through_what_was_measured_never_falls_and_goes_on_as_it_went() {
        let (at_none, curve) = Curve::of(vec![(4.0, 540.0), (1_000.0, 10_500.0), (5_000.0, 90_500.0)]).expect("points");
        assert!(near(at_none, 500.0), "{at_none}");
        for (watched, cost) in [(0.0, 0.0), (4.0, 40.0), (500.0, 5_000.0), (3_000.0, 50_000.0), (9_000.0, 170_000.0)] {
            assert!(near(curve.at(watched), cost), "{watched}: {}", curve.at(watched));
        }
        let (_, flat) = Curve::of(vec![(4.0, 700.0), (32.0, 650.0), (5_000.0, 690.0)]).expect("points");
        assert!([0.0, 4.0, 100.0, 1e6].iter().all(|watched| flat.at(*watched) == 0.0), "{flat:?}");
        assert_eq!(Curve::of(Vec::new()), None);
        assert_eq!(Curve::default().at(7.0), 0.0);
    }
}
