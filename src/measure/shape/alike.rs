//! Where the way of waiting matters least, and mechanisms come to cost the same: where all connections are active, so that
//! a scan finds all it looks at, and where copying a payload costs more than to wait for it.
//!
//! Ratios are formed within a round, and what stands for them is their median. Where that is beyond the bound, but the
//! interval is not, more rounds would tell, and the gate is *explained*: as a finding it is none.

use std::collections::BTreeMap;

use pollmark_backends::{Growth, Registry};

use super::growth_of;
use crate::measure::plan::Subject;
use crate::measure::record::{Gate, Load, Record, Verdict};
use crate::measure::stats::{self, Estimate};

/// What a scan may cost where all it looks at is ready, as a part of what asking for the ready costs.
const AT_PAR: f64 = 1.1;

/// One gate for each subject that scans: CPU for each request beside that of the first which does not, at the most
/// active connections among no idle ones.
pub(in crate::measure) fn all_active(subjects: &[Subject], registry: &Registry, record: &Record) -> Vec<Gate> {
    let grown = |subject: &Subject| growth_of(subject, registry).filter(|_| !subject.is_control());
    let labels = |scans: bool| {
        let of_kind = move |subject: &&Subject| grown(subject).is_some_and(|growth| (growth != Growth::Ready) == scans);
        subjects.iter().filter(of_kind).map(Subject::label).collect::<Vec<_>>()
    };
    let flat = labels(false).into_iter().next();
    labels(true).into_iter().map(|scanning| at_par(&scanning, flat.as_deref(), record)).collect()
}

fn at_par(scanning: &str, flat: Option<&str>, record: &Record) -> Gate {
    let cells = record.cells_of(scanning).into_iter().filter(|cell| cell.idle == 0);
    let both = |(load, flat): (Load, &str)| {
        let [costs, others] = [scanning, flat].map(|label| costs(label, 0, load, record));
        let ratios = costs.iter().filter_map(|(round, cost)| Some(cost / others.get(round)?)).collect::<Vec<_>>();
        Some((load.active, Estimate::of(&ratios, record.seed)?))
    };
    // Of several kinds of traffic the first.
    let found = cells.filter_map(|cell| both((cell.load, flat?))).rev().max_by_key(|(active, _)| *active);
    let seen = match (found, flat) {
        (Some((active, _)), Some(flat)) => {
            format!("CPU per request in multiples of that of {flat}, at {active} active and none idle")
        }
        (_, Some(flat)) => format!("no trial of it and of {flat} counts in which no connection was idle"),
        (_, None) => "all rows scan, so there is none to hold it against".to_owned(),
    };
    let ratio = found.map(|(_, ratio)| ratio);
    judged(format!("{scanning}: at par where all connections are active"), ratio, AT_PAR, "at most 1.1", seen)
}

/// From which payload on it matters less: how far all mechanisms are apart at the largest, as a part of how far they are
/// at the smallest. One gate. Where some take the largest in more parts than others, which is theirs and not the
/// waiting's, and the others alone meet it, it is explained.
pub(in crate::measure) fn payload(subjects: &[Subject], record: &Record) -> Vec<Gate> {
    let ours = subjects.iter().filter(|subject| subject.mechanism().is_some() && !subject.is_control());
    let labels = ours.map(Subject::label).collect::<Vec<_>>();
    let mut loads = labels.iter().flat_map(|label| record.cells_of(label)).map(|cell| (cell.idle, cell.load));
    let Some(first) = loads.next() else { return Vec::new() };
    let size = |(_, load): &(u32, Load)| load.traffic.payload;
    let (smallest, largest) = loads.fold((first, first), |(least, most), one| {
        (if size(&one) < size(&least) { one } else { least }, if size(&one) > size(&most) { one } else { most })
    });
    let (found, seen) = closer(&labels, smallest, largest, record);
    let name = "how far rows are apart at the largest payload, as a part of the same at the smallest".to_owned();
    let mut gate = judged(name, found, 1.0, "at most 1", seen);
    if gate.verdict == Verdict::Fail {
        let (whole, parts): (Vec<_>, Vec<_>) =
            in_parts(&labels, largest, record).into_iter().partition(|(_, parts)| !parts.is_some_and(|more| more));
        let whole = whole.into_iter().map(|(label, _)| label).collect::<Vec<_>>();
        let (alone, seen) = closer(&whole, smallest, largest, record);
        if !parts.is_empty() && alone.is_some_and(|alone| alone.value <= 1.0 || !alone.is_beyond(0.0)) {
            let parts = parts.into_iter().map(|(label, _)| label).collect::<Vec<_>>().join(", ");
            gate.verdict = Verdict::Explained;
            gate.explanation += &format!(
                "; {parts}: receive it in twice as many parts as the others or more, and pay for each; without, {seen}, which is \
                 {:.2} of it",
                alone.map_or(f64::NAN, |alone| alone.value)
            );
        }
    }
    vec![gate]
}

/// How far apart these are at the one, as a part of how far they are at the other, with what was seen in words.
fn closer(
    labels: &[String],
    smallest: (u32, Load),
    largest: (u32, Load),
    record: &Record,
) -> (Option<Estimate>, String) {
    let apart = |(idle, load): (u32, Load)| {
        let rows = labels.iter().map(|label| costs(label, idle, load, record)).collect::<Vec<_>>();
        apart(&rows)
    };
    let (little, much) = (apart(smallest), apart(largest));
    // By how much the dearest costs more than the cheapest: 1.3 times is 0.3 apart.
    let ratios = much.iter().filter_map(|(round, much)| Some((much - 1.0) / (little.get(round)? - 1.0)));
    let ratio = Estimate::of(&ratios.filter(|ratio| ratio.is_finite()).collect::<Vec<_>>(), record.seed);
    let typical =
        |apart: &BTreeMap<u32, f64>| stats::median(&apart.values().copied().collect::<Vec<_>>()).unwrap_or(f64::NAN);
    let seen = match ratio {
        None => "two rows of the smallest and of the largest payload were not seen in one round".to_owned(),
        Some(_) => format!(
            "the dearest of {} rows costs {:.2} times the cheapest at {} B, {:.2} times at {} B",
            labels.len(),
            typical(&little),
            smallest.1.traffic.payload,
            typical(&much),
            largest.1.traffic.payload
        ),
    };
    (ratio, seen)
}

/// Of each row whether it receives such a payload in twice as many parts as the one that takes the fewest, or more; `None`
/// if it keeps no account of that.
fn in_parts(labels: &[String], (idle, load): (u32, Load), record: &Record) -> Vec<(String, Option<bool>)> {
    let receives = |label: &String| {
        let cell = record.cell(label, idle, load);
        let (reads, requests) = cell.timed().fold((0, 0), |(reads, requests), trial| {
            (reads + trial.ledger.reads.saturating_sub(trial.ledger.would_block), requests + trial.requests)
        });
        (reads > 0 && requests > 0).then(|| reads as f64 / requests as f64)
    };
    let each = labels.iter().map(|label| (label.clone(), receives(label))).collect::<Vec<_>>();
    let fewest = each.iter().filter_map(|(_, parts)| *parts).fold(f64::INFINITY, f64::min);
    each.into_iter().map(|(label, parts)| (label, parts.map(|parts| parts >= 2.0 * fewest))).collect()
}

/// What a request cost in each round; nothing of a void cell.
fn costs(label: &str, idle: u32, load: Load, record: &Record) -> BTreeMap<u32, f64> {
    let cell = record.cell(label, idle, load);
    cell.timed().filter_map(|trial| Some((trial.round, trial.request_ns()?))).collect()
}

/// The dearest row in multiples of the cheapest, of each round that all were seen in.
fn apart(rows: &[BTreeMap<u32, f64>]) -> BTreeMap<u32, f64> {
    let rows = rows.iter().filter(|row| !row.is_empty()).collect::<Vec<_>>();
    let [first, _, ..] = rows.as_slice() else { return BTreeMap::new() };
    let of_round = |round: &u32| {
        let costs = rows.iter().map(|row| row.get(round).copied()).collect::<Option<Vec<_>>>()?;
        let (least, most) =
            costs.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), &one| (least.min(one), most.max(one)));
        (least > 0.0).then_some((*round, most / least))
    };
    first.keys().filter_map(of_round).collect()
}

fn judged(name: String, ratio: Option<Estimate>, most: f64, bound: &str, seen: String) -> Gate {
    let reaches = |ratio: &Estimate| ratio.interval.is_some_and(|interval| interval.low <= most);
    let (verdict, more) = match &ratio {
        None => (Verdict::Unavailable, ""),
        Some(ratio) if ratio.value <= most => (Verdict::Pass, ""),
        Some(ratio) if reaches(ratio) => {
            (Verdict::Explained, ": rounds scatter across the bound; more of them would tell")
        }
        Some(_) => (Verdict::Fail, ""),
    };
    let interval = ratio.and_then(|ratio| ratio.interval);
    let interval = interval.map_or(String::new(), |one| format!(" ({:.2} to {:.2})", one.low, one.high));
    Gate {
        name,
        value: ratio.map(|ratio| ratio.value),
        bound: bound.to_owned(),
        verdict,
        explanation: format!("{seen}{interval}{more}"),
        ..Gate::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Host;
    use crate::measure::record::{Ledger, Settings, Trial};
    use crate::mechanism::Mechanism;
    use crate::workload::Traffic;

    /// Rows whose requests cost what `cost` says of row, round, active connections and payload.
    fn record(rows: &[&str], cost: impl Fn(&str, u32, u32, usize) -> u64) -> Record {
        let traffic = [64, 65_536].map(|payload| Traffic { payload, ..Traffic::default() });
        let settings =
            Settings { idle: vec![0], active: vec![10, 1_000], traffic: traffic.to_vec(), ..Settings::default() };
        let mut record = Record::begin(Vec::new(), 1, Host::default(), settings);
        for (row, round) in rows.iter().flat_map(|row| (0..4).map(move |round| (*row, round))) {
            for (active, traffic) in [(10, traffic[0]), (1_000, traffic[0]), (10, traffic[1])] {
                record.trials.push(Trial {
                    round,
                    subject: row.to_owned(),
                    active,
                    traffic: Some(traffic),
                    requests: 10,
                    server_cpu_ns: Some(10 * cost(row, round, active, traffic.payload)),
                    ledger: Ledger {
                        reads: if row == "threads" && traffic.payload > 64 { 40 } else { 10 },
                        ..Ledger::default()
                    },
                    ..Trial::default()
                });
            }
        }
        record
    }

    /// Of these names.
    fn subjects(names: &[&str]) -> Vec<Subject> {
        let registry = Registry::builtin();
        let named = |name: &&str| Subject::new(Mechanism::parse(&registry, name).expect("it is here"));
        names.iter().map(named).collect()
    }

    #[test]
    #[cfg(unix)]
    fn a_scan_that_finds_all_it_looks_at_is_at_par_and_one_that_costs_more_is_not() {
        let registry = Registry::builtin();
        let ready = Mechanism::choose(&registry).expect("something").to_string();
        let subjects = subjects(&[&ready, "poll"]);
        let verdict = |poll: fn(u32) -> u64| {
            let few = |active| if active == 10 { 9_000 } else { 0 };
            let cost = |row: &str, round, active, _| few(active) + if row == "poll" { poll(round) } else { 5_000 };
            let gates = all_active(&subjects, &registry, &record(&[&ready, "poll"], cost));
            assert_eq!(gates.len(), 1, "what does not scan has none: {gates:?}");
            assert!(gates[0].name.starts_with("poll") && gates[0].explanation.contains("1000 active"), "{gates:?}");
            gates[0].verdict
        };
        assert_eq!(verdict(|_| 5_200), Verdict::Pass);
        assert_eq!(verdict(|_| 6_000), Verdict::Fail);
        assert_eq!(verdict(|round| 5_300 + 200 * u64::from(round)), Verdict::Explained);
        let mut void = record(&[&ready, "poll"], |_, _, _, _| 5_000);
        void.trials.iter_mut().for_each(|trial| trial.void = Some("a wrong byte".into()));
        for (subjects, why) in [(&subjects[..], "no trial"), (&subjects[1..], "all rows scan")] {
            let gates = all_active(subjects, &registry, &void);
            assert_eq!(gates[0].verdict, Verdict::Unavailable, "{gates:?}");
            assert!(gates[0].explanation.contains(why), "{gates:?}");
        }
    }

    #[test]
    fn rows_come_closer_with_the_payload_or_the_gate_is_not_met() {
        let rows = ["select", "poll"];
        let subjects = subjects(&rows);
        let found = |large: u64| {
            let cost = |row: &str, _, _, payload| match (row, payload) {
                ("poll", 64) => 6_000,
                ("poll", _) => large,
                (_, 64) => 4_000,
                (_, _) => 40_000,
            };
            payload(&subjects, &record(&rows, cost)).remove(0)
        };
        let closer = found(44_000);
        assert_eq!(closer.verdict, Verdict::Pass, "{closer:?}");
        assert!((closer.value.expect("seen") - 0.2).abs() < 1e-9, "0.1 apart, and 0.5 before: {closer:?}");
        assert_eq!(found(70_000).verdict, Verdict::Fail);
        let alone = payload(&subjects, &record(&["poll"], |_, _, _, _| 5_000)).remove(0);
        assert_eq!(alone.verdict, Verdict::Unavailable, "{alone:?}");
    }

    #[test]
    fn what_takes_a_payload_in_more_parts_than_the_others_explains_why_it_is_far_from_them_and_nothing_else_does() {
        let rows = ["select", "poll", "threads"];
        let subjects = subjects(&rows);
        let found = |poll: u64| {
            let cost = |row: &str, _, _, payload| match (row, payload) {
                ("threads", 64) => 6_000,
                ("threads", _) => 90_000,
                ("poll", 64) => 4_500,
                ("poll", _) => poll,
                (_, 64) => 4_000,
                (_, _) => 40_000,
            };
            payload(&subjects, &record(&rows, cost)).remove(0)
        };
        let explained = found(42_000);
        assert_eq!(explained.verdict, Verdict::Explained, "{explained:?}");
        assert!(explained.explanation.contains("; threads: receive it in twice as many parts"), "{explained:?}");
        assert_eq!(found(60_000).verdict, Verdict::Fail, "poll is far from the other, too");
    }
}
