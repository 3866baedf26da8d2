//! Latencies of several loads in one result: histograms are added, percentiles are read from all samples together.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::format::{grouped, plain};
use super::hlog::{FROM_SEND, Log, SLIP, empty};
use super::percentiles::Percentiles;
use crate::workload::buckets;

/// Several logs, as one result.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// What each was, by itself.
    pub parts: Vec<Part>,
    /// Exchanges of all of them.
    pub requests: u64,
    /// Bytes received and verified; `None` if one of them does not say.
    pub verified_bytes: Option<u64>,
    /// The rates of all, added up.
    pub requests_per_second: f64,
    /// From when the last of them began until the first of them ended, by the clocks of their hosts; `None` if one of
    /// them does not say when it began.
    pub together_ns: Option<u64>,
    /// From when the first of them began until the last of them ended, likewise.
    pub altogether_ns: Option<u64>,
    /// One of the loads was the limit, and not the server.
    pub client_limited: Option<bool>,
    /// Latency; of an open loop, from when exchanges were due.
    pub latency: Percentiles,
    /// Of an open loop, from when they were sent.
    pub from_send: Option<Percentiles>,
    /// How late an open loop was itself.
    pub slip: Option<Percentiles>,
    /// Exchanges of open loops that were due and never sent; `None` if there is no open loop.
    pub unsent: Option<u64>,
}

/// One of the logs.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What it is called.
    pub name: String,
    /// When it began, RFC 3339 in UTC, if it says so.
    pub started: Option<String>,
    /// How long it took.
    pub duration_ns: u64,
    /// Exchanges.
    pub requests: u64,
    /// Their rate.
    pub requests_per_second: f64,
    /// Its latency.
    pub latency: Percentiles,
    /// What the loads say of themselves, if it is `pollmark load` that has written it.
    pub loads: Vec<Value>,
}

/// Makes one log of several, each series of it on one line, and tells what they come to.
pub fn merge(logs: &[(String, Log)]) -> (Log, Merged) {
    let spans = logs.iter().map(|(_, log)| {
        let (since, length) = log.span();
        log.start.map(|start| (start + since, start + since + length))
    });
    // None of them, unless all of them say.
    let spans = spans.collect::<Option<Vec<_>>>().unwrap_or_default();
    let ends = |of: fn(&(Duration, Duration)) -> Duration| (spans.iter().map(of).min(), spans.iter().map(of).max());
    let ((first_begins, last_begins), (first_ends, last_ends)) = (ends(|span| span.0), ends(|span| span.1));

    let start = logs.iter().filter_map(|(_, log)| log.start).min();
    let loads = logs.iter().flat_map(|(_, log)| log.loads.clone()).collect::<Vec<_>>();
    let mut whole = Log { start, loads, intervals: Vec::new() };
    for (_, log) in logs {
        let later = log.start.zip(start).map_or(Duration::ZERO, |(own, first)| own - first);
        whole.intervals.extend(log.intervals.iter().cloned().map(|mut interval| {
            interval.since += later;
            interval
        }));
    }
    let parts = logs.iter().map(|(name, log)| part(name, log)).collect::<Vec<_>>();
    let series = whole.series();
    let of = |tag, longer| series.get(&tag).map(|series| Percentiles::of(&buckets(series), longer));
    let number = |load: &Value, pointer: &str| load.pointer(pointer).and_then(Value::as_u64);
    // What one of them does not say of itself cannot be said of all.
    let complete = logs.iter().all(|(_, log)| !log.loads.is_empty());
    let verified = whole.loads.iter().map(|load| number(load, "/verified_bytes")).sum::<Option<u64>>();
    let unsent = unsent(&whole.loads);
    let limited =
        whole.loads.iter().filter_map(|load| load["client_limited"].as_bool()).reduce(|one, other| one || other);
    let nanos = |duration: Duration| duration.as_nanos() as u64;
    let merged = Merged {
        requests: parts.iter().map(|part| part.requests).sum(),
        verified_bytes: verified.filter(|_| complete),
        requests_per_second: parts.iter().map(|part| part.requests_per_second).sum(),
        together_ns: first_ends.zip(last_begins).map(|(end, begin)| nanos(end.saturating_sub(begin))),
        altogether_ns: last_ends.zip(first_begins).map(|(end, begin)| nanos(end - begin)),
        client_limited: limited,
        latency: of(None, unsent.unwrap_or(0)).unwrap_or_default(),
        from_send: of(Some(FROM_SEND), 0),
        slip: of(Some(SLIP), 0),
        unsent,
        parts,
    };
    (whole, merged)
}

/// What was due and never sent, by the accounts of open loops; `None` if there is none of these.
fn unsent(loads: &[Value]) -> Option<u64> {
    let unsent = |load: &Value| load.pointer("/open_loop/unsent").and_then(Value::as_u64);
    loads.iter().filter_map(unsent).reduce(u64::saturating_add)
}

fn part(name: &str, log: &Log) -> Part {
    let (since, length) = log.span();
    let latency = log.series().remove(&None).unwrap_or_else(empty);
    let started = log.start.map(|start| std::time::SystemTime::UNIX_EPOCH + start + since);
    Part {
        name: name.to_owned(),
        started: started.map(|started| humantime::format_rfc3339_millis(started).to_string()),
        duration_ns: length.as_nanos() as u64,
        requests: latency.len(),
        requests_per_second: latency.len() as f64 / length.as_secs_f64().max(f64::MIN_POSITIVE),
        latency: Percentiles::of(&buckets(&latency), unsent(&log.loads).unwrap_or(0)),
        loads: log.loads.clone(),
    }
}

/// Below this part of the time that all took, they did not run together.
const TOGETHER: f64 = 0.9;

impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            let (name, rate) = (plain(&part.name), part.requests_per_second);
            let seconds = part.duration_ns as f64 / 1e9;
            let started = part.started.as_deref().unwrap_or("at a time it does not say");
            writeln!(f, "{name}: {} echoes, {rate:.0} per second over {seconds:.2} s, begun {started}", part.requests)?;
            writeln!(f, "         {}", part.latency)?;
        }
        let verified = match self.verified_bytes {
            Some(_) => "; every byte verified",
            None => "; whether bytes were verified not all of them say",
        };
        writeln!(f, "together: {} logs, {} echoes{verified}", self.parts.len(), grouped(self.requests))?;
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let overlap = match (self.together_ns, self.altogether_ns) {
            (Some(together), Some(all)) if together as f64 >= TOGETHER * all as f64 => {
                format!(", {:.2} of {:.2} s at the same time", seconds(together), seconds(all))
            }
            (Some(together), Some(all)) => format!(
                ", which nobody was ever asked: they ran {:.2} of {:.2} s at the same time",
                seconds(together),
                seconds(all)
            ),
            _ => ", if they ran at the same time, which not all of them say".to_owned(),
        };
        writeln!(f, "rate     {:.0} per second{overlap}", self.requests_per_second)?;
        let due = if self.from_send.is_some() { ", from when each was due" } else { "" };
        writeln!(f, "latency  {}{due}", self.latency)?;
        if let Some(from_send) = self.from_send {
            writeln!(f, "         {from_send}, from when it was sent")?;
        }
        if let Some(slip) = self.slip {
            writeln!(f, "slip     {slip}: how late the loads themselves were")?;
        }
        if let Some(unsent) = self.unsent.filter(|unsent| *unsent > 0) {
            writeln!(f, "unsent   {unsent} were due and never sent; they count as longer than all others")?;
        }
        if self.client_limited == Some(true) {
            writeln!(f, "load     one of the loads was the limit, not the server")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn at(seconds: u64) -> Log {
        Log::begun(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds))
    }

    /// What a load would leave that began then, took ten seconds, and met these latencies.
    fn log(began: u64, buckets: &[(u64, u64)]) -> Log {
        let mut log = at(began);
        let requests = buckets.iter().map(|(_, count)| count).sum::<u64>();
        log.loads.push(serde_json::json!({"verified_bytes": requests * 64, "client_limited": false}));
        log.push(None, Duration::ZERO, Duration::from_secs(10), buckets);
        log
    }

    #[test]
    fn two_logs_are_the_histogram_of_all() {
        let (fast, slow) = ([(1_000, 9_000), (2_000, 500)], [(2_000, 500), (1_048_575, 100)]);
        let logs = [("a".to_owned(), log(0, &fast)), ("b".to_owned(), log(1, &slow))];
        let (whole, merged) = merge(&logs);
        let all = super::super::hlog::histogram(&[&fast[..], &slow].concat());
        assert_eq!(whole.series()[&None], all);
        assert_eq!((merged.requests, merged.verified_bytes), (10_100, Some(10_100 * 64)));
        assert_eq!(merged.latency, Percentiles::of(&buckets(&all), 0));
        assert_eq!((merged.latency.p99_ns, merged.latency.p999_ns), (Some(2_000), Some(1_048_575)), "not averaged");
        assert!((merged.requests_per_second - 1_010.0).abs() < 1e-6);
        let seconds = |nanos: Option<u64>| nanos.map(|nanos| nanos / 1_000_000_000);
        assert_eq!((seconds(merged.together_ns), seconds(merged.altogether_ns)), (Some(9), Some(11)));
        assert_eq!(whole.intervals[1].since, Duration::from_secs(1), "it began later");

        // What was merged can be merged with more, in any order, and comes to the same.
        let mut bytes = Vec::new();
        whole.write(&mut bytes).expect("to memory");
        let again = Log::read(&bytes).expect("ours");
        let third = log(0, &slow);
        let (left, right) = (
            merge(&[("ab".into(), again), ("c".into(), third.clone())]),
            merge(&[("c".into(), third), logs[1].clone(), logs[0].clone()]),
        );
        assert_eq!(left.0.series(), right.0.series());
        assert_eq!((left.1.requests, left.1.verified_bytes), (right.1.requests, right.1.verified_bytes));
    }

    #[test]
    fn loads_that_did_not_run_together_have_no_rate_together_and_it_is_told() {
        let buckets = [(1_000, 100)];
        let apart = merge(&[("a".into(), log(0, &buckets)), ("b".into(), log(60, &buckets))]).1;
        assert_eq!(apart.together_ns, Some(0));
        assert!(apart.to_string().contains("0.00 of 70.00 s at the same time"), "{apart}");
        let together = merge(&[("a".into(), log(0, &buckets)), ("b".into(), log(0, &buckets))]).1;
        assert!(together.to_string().contains("20 per second, 10.00 of 10.00 s at the same time\n"), "{together}");
        let silent = Log { start: None, loads: Vec::new(), ..log(0, &buckets) };
        let unknown = merge(&[("a".into(), log(0, &buckets)), ("b".into(), silent)]).1;
        assert_eq!((unknown.together_ns, unknown.verified_bytes), (None, None));
        assert!(unknown.to_string().contains("which not all of them say"), "{unknown}");
    }

    #[test]
    fn an_open_loop_keeps_its_three_series_apart() {
        let open = |latency: u64| {
            let mut log = log(0, &[(latency, 1_000)]);
            log.loads[0]["open_loop"] = serde_json::json!({"unsent": 3});
            log.push(Some(FROM_SEND), Duration::ZERO, Duration::from_secs(10), &[(500, 1_000)]);
            log.push(Some(SLIP), Duration::ZERO, Duration::from_secs(10), &[(7, 1_000)]);
            log
        };
        let merged = merge(&[("a".into(), open(1_000)), ("b".into(), open(2_000))]).1;
        let p50 = |one: Option<Percentiles>| one.and_then(|one| one.p50_ns);
        assert_eq!((p50(merged.from_send), p50(merged.slip), merged.unsent), (Some(500), Some(7), Some(6)));
        assert_eq!((merged.requests, merged.latency.longest_ns), (2_000, 2_000));
        assert!(merged.to_string().contains("unsent   6 were due"), "{merged}");
    }
}
