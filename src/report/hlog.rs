//! HdrHistogram logs: latencies as other tools read them, one histogram on a line (V2, compressed), in nanoseconds.
//!
//! A line is an interval: since when, how long, the longest in milliseconds, the histogram; a tag before it says which
//! series it is, if it is not the latency itself. Lines that begin with `#` are for people, and one of each load, as
//! JSON, for `pollmark merge`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, IntervalLogWriterError, LogEntry, LogIteratorError, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use serde_json::Value;

use super::json::invalid;

/// The uncorrected series of an open loop: from when each exchange was sent.
pub const FROM_SEND: &str = "from_send";
/// How late the load of an open loop was itself.
pub const SLIP: &str = "slip";

/// What a log is said to be by its first line, and what a line about a load begins with.
const VERSION: &str = "[Histogram log format version 1.3]";
const LOAD: &str = "[pollmark load: ";

/// Digits that a histogram distinguishes: as many as those the load keeps.
const DIGITS: u8 = 3;

/// What was measured in one interval of one series.
#[derive(Clone, PartialEq, Debug)]
pub struct Interval {
    /// Which series; `None` for the latency itself.
    pub tag: Option<String>,
    /// Since when, after the start of the log.
    pub since: Duration,
    /// How long.
    pub length: Duration,
    /// Nanoseconds.
    pub histogram: Histogram<u64>,
}

/// A log.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Log {
    /// When it began; `None` if it does not say.
    pub start: Option<Duration>,
    /// The accounts of the loads it is of.
    pub loads: Vec<Value>,
    /// What it holds, in order.
    pub intervals: Vec<Interval>,
}

/// The histogram with these buckets: the upper end of each in nanoseconds, and how many fell into it.
///
/// ```
/// use pollmark::report::hlog::histogram;
/// let latency = histogram(&[(1_000, 90), (2_001, 10)]);
/// assert_eq!((latency.len(), latency.value_at_quantile(0.5), latency.max()), (100, 1_000, 2_001));
/// ```
pub fn histogram(buckets: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = empty();
    for &(upper_ns, count) in buckets {
        // The format has signed counts; a record may come from anybody.
        let room = (i64::MAX as u64).saturating_sub(histogram.count_at(upper_ns));
        histogram.record_n(upper_ns, count.min(room)).expect("it grows as needed");
    }
    histogram
}

/// Without anything in it; it takes whatever comes.
pub(super) fn empty() -> Histogram<u64> {
    Histogram::new(DIGITS).expect("so many digits are possible")
}

impl Log {
    /// A log that began at `start`.
    pub fn begun(start: SystemTime) -> Log {
        Log { start: start.duration_since(SystemTime::UNIX_EPOCH).ok(), ..Log::default() }
    }

    /// Adds what was measured. Of nothing measured there is no line.
    pub fn push(&mut self, tag: Option<&str>, since: Duration, length: Duration, buckets: &[(u64, u64)]) {
        if !buckets.is_empty() {
            let tag = tag.map(str::to_owned);
            self.intervals.push(Interval { tag, since, length, histogram: histogram(buckets) });
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// What writing gave; `InvalidInput` for a tag that a log cannot have.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment(VERSION).add_comment("nanoseconds; the longest of each interval in milliseconds");
        for load in &self.loads {
            builder.add_comment(&format!("{LOAD}{load}]"));
        }
        if let Some(start) = self.start {
            builder.with_start_time(SystemTime::UNIX_EPOCH + start);
        }
        builder.with_max_value_divisor(1e6);
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = builder.begin_log_with(&mut out, &mut serializer)?;
        for Interval { tag, since, length, histogram } in &self.intervals {
            let tag = tag.as_deref().map(|tag| {
                Tag::new(tag).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("no tag: {tag:?}")))
            });
            writer.write_histogram(histogram, *since, *length, tag.transpose()?).map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
            })?;
        }
        out.flush()
    }

    /// Reads one, ours or another tool's.
    ///
    /// # Errors
    /// `InvalidData`, with the line and the reason, if it is none, or if there is no histogram in it.
    pub fn read(bytes: &[u8]) -> io::Result<Log> {
        let mut log = Log::default();
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let Some(account) = line.strip_prefix(b"#").and_then(|line| line.strip_prefix(LOAD.as_bytes())) else {
                continue;
            };
            let account = account.trim_ascii_end().strip_suffix(b"]").unwrap_or(account);
            let load = serde_json::from_slice(account).map_err(|error| invalid(format!("line {}: {error}", at + 1)))?;
            log.loads.push(load);
        }
        let mut base = Duration::ZERO;
        for entry in IntervalLogIterator::new(bytes) {
            match entry {
                Ok(LogEntry::StartTime(start)) => log.start = Some(start),
                Ok(LogEntry::BaseTime(time)) => base = time,
                Ok(LogEntry::Interval(one)) => {
                    // It is a part of what is read, and so is where it stands.
                    let offset = one.encoded_histogram().as_ptr() as usize - bytes.as_ptr() as usize;
                    let histogram = decode(one.encoded_histogram())
                        .map_err(|why| invalid(format!("line {}: {why}", line_of(bytes, offset))))?;
                    log.intervals.push(Interval {
                        tag: one.tag().map(|tag| tag.as_str().to_owned()),
                        since: one.start_timestamp(),
                        length: one.duration(),
                        histogram,
                    });
                }
                Err(LogIteratorError::ParseError { offset }) => {
                    let line = bytes[offset..].split(|byte| *byte == b'\n').next().unwrap_or_default();
                    let shown = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
                    let torn = if bytes[offset..].contains(&b'\n') { "" } else { ", or one that is torn" };
                    let why = format!("not a line of an HdrHistogram log{torn}: {shown:?}");
                    return Err(invalid(format!("line {}: {why}", line_of(bytes, offset))));
                }
            }
        }
        if log.intervals.is_empty() {
            return Err(invalid("there is no histogram in it".to_owned()));
        }
        log.settle(base);
        Ok(log)
    }

    /// Makes intervals count from the start of the log. Tools differ in what theirs count from: the time that a log
    /// says is its base, its start, or 1970.
    fn settle(&mut self, base: Duration) {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let first = self.intervals.iter().map(|interval| interval.since).min().unwrap_or_default();
        // As HistogramLogReader has it: what is much smaller than the start counts from there.
        let from_start = self.start.filter(|start| base.is_zero() && first + YEAR < *start);
        let base = from_start.unwrap_or(base);
        let start = self.start.unwrap_or(base + first);
        let said = !base.is_zero() || first > YEAR;
        for interval in &mut self.intervals {
            interval.since = (base + interval.since).saturating_sub(start);
        }
        self.start = self.start.or(said.then_some(start));
    }

    /// All intervals of each series together.
    pub(super) fn series(&self) -> BTreeMap<Option<&str>, Histogram<u64>> {
        let mut all = BTreeMap::new();
        for interval in &self.intervals {
            let series = all.entry(interval.tag.as_deref()).or_insert_with(empty);
            series.add(&interval.histogram).expect("it grows as needed");
        }
        all
    }

    /// Since when, after its start, and for how long.
    pub(super) fn span(&self) -> (Duration, Duration) {
        let since = self.intervals.iter().map(|interval| interval.since).min().unwrap_or_default();
        let until = self.intervals.iter().map(|interval| interval.since + interval.length).max().unwrap_or_default();
        (since, until.saturating_sub(since))
    }
}

/// Which line that is, from 1.
fn line_of(bytes: &[u8], offset: usize) -> usize {
    1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// A histogram, of its text.
fn decode(text: &str) -> Result<Histogram<u64>, String> {
    use base64::Engine;
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))?;
    let decoded = Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]);
    decoded.map_err(|error| format!("not a histogram of version 2: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        let mut log = Log::begun(SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_250));
        let second = Duration::from_secs(1);
        log.loads.push(serde_json::json!({"requests": 5, "target": "[::1]:7"}));
        log.push(None, Duration::ZERO, second, &[(1_000, 3), (1_048_575, 2)]);
        log.push(None, second, second, &[(1_000, 1)]);
        log.push(Some(FROM_SEND), Duration::ZERO, second, &[(900, 5)]);
        log.push(Some(SLIP), Duration::ZERO, second, &[]);
        log
    }

    fn text(log: &Log) -> String {
        let mut bytes = Vec::new();
        log.write(&mut bytes).expect("to memory");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_log_is_read_back_as_it_was() {
        let (log, text) = (log(), text(&log()));
        assert_eq!(Log::read(text.as_bytes()).expect("ours"), log);
        assert_eq!(Log::read(text.replace('\n', "\r\n").as_bytes()).expect("from Windows"), log);
        let series = log.series();
        assert_eq!(series.keys().copied().collect::<Vec<_>>(), [None, Some(FROM_SEND)], "nothing slipped");
        assert_eq!((series[&None].len(), log.span()), (6, (Duration::ZERO, Duration::from_secs(2))));
        assert!(text.starts_with("#[Histogram log format version 1.3]\n") && text.contains(",HISTFAAAA"), "{text}");
        assert!(text.contains("#[StartTime: 1790000000.250 (seconds since epoch)]"), "{text}");
    }

    /// As `HistogramLogWriter` of HdrHistogram 2.1.12 for Java writes it.
    const JAVA: &str = "#[Histogram log format version 1.3]\n\
        #[StartTime: 1441812279.474 (seconds since epoch), Wed Sep 09 08:24:39 PDT 2015]\n\
        \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n";

    #[test]
    fn what_another_tool_counts_its_time_from_is_understood() {
        let line = |since: &str| {
            let text = text(&log());
            let line = text.lines().find(|line| line.starts_with("0.000,")).expect("a line").to_owned();
            line.replacen("0.000", since, 1)
        };
        let start = |head: &str, since: &str| {
            let log = Log::read(format!("{head}{}\n", line(since)).as_bytes()).expect("a log");
            (log.start.map(|start| start.as_secs()), log.intervals[0].since.as_millis())
        };
        assert_eq!(start(JAVA, "0.127"), (Some(1_441_812_279), 127), "since the start");
        assert_eq!(start(JAVA, "1441812280.474"), (Some(1_441_812_279), 1_000), "since 1970");
        let base = "#[BaseTime: 1441812000.000 (seconds since epoch)]\n";
        assert_eq!(start(base, "5.000"), (Some(1_441_812_005), 0), "since the base");
        assert_eq!(start("", "1441812280.474"), (Some(1_441_812_280), 0));
        assert_eq!(start("", "3.000"), (None, 0), "of itself it says nothing");
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        let error = |text: &str| {
            let error = Log::read(text.as_bytes()).expect_err("broken");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            error.to_string()
        };
        let whole = text(&log());
        let at = whole.lines().position(|line| line.starts_with("0.000,")).expect("a line") + 1;
        let torn = error(&whole[..whole.rfind(",HIST").expect("a histogram") + 30]);
        assert!(torn.contains("torn") && torn.contains(&format!("line {}", whole.lines().count())), "{torn}");
        let spoilt = error(&whole.replacen("HISTFAAAA", "HASTFAAAA", 1));
        assert!(spoilt.starts_with(&format!("line {at}: not a histogram")), "{spoilt}");
        let foreign = error(&whole.replacen("HISTFAAAA", "HIST*AAAA", 1));
        assert!(foreign.starts_with(&format!("line {at}: not base64")), "{foreign}");
        assert!(error("{\"schema\":1}\n").contains("line 1: not a line of an HdrHistogram log"));
        assert!(error(VERSION).contains("line 1") && error("#nothing\n").contains("no histogram"));
        assert!(error(&whole.replacen("{\"requests\"", "{requests", 1)).starts_with("line 3: "));
    }

    #[test]
    fn any_latency_has_its_place() {
        let mut log = Log::default();
        let buckets = [(0, 1), (u64::MAX, u64::MAX), (u64::MAX, 5), (1, u64::MAX)];
        log.push(None, Duration::ZERO, Duration::MAX, &buckets);
        let histogram = &log.intervals[0].histogram;
        assert_eq!((histogram.min(), histogram.count_at(u64::MAX)), (0, i64::MAX as u64), "as far as it can count");
        log.write(io::sink()).expect("the format has room for it");
    }
}
