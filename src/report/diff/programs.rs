//! A diff for programs and spreadsheets.

use std::io;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Change, Diff, Growth, Metric, Sign, Verdict};
use crate::measure::stats::Estimate;

/// A line of CSV: a change on one machine, or a sign or a growth on two. What is not known, or not of its kind, is empty.
#[derive(Default, Serialize)]
struct Line<'a> {
    kind: &'static str,
    subject: &'a str,
    reference: &'a str,
    idle: Option<u32>,
    load: String,
    metric: &'static str,
    a: Option<f64>,
    a_low: Option<f64>,
    a_high: Option<f64>,
    b: Option<f64>,
    b_low: Option<f64>,
    b_high: Option<f64>,
    b_to_a: Option<f64>,
    b_to_a_low: Option<f64>,
    b_to_a_high: Option<f64>,
    verdict: &'static str,
    reason: &'a str,
}

impl Verdict {
    /// Why there is none, where there is none.
    fn reason(&self) -> Option<&str> {
        match self {
            Verdict::Missing(why) | Verdict::Void(why) => Some(why),
            _ => None,
        }
    }
}

impl Diff<'_> {
    /// All of it, for programs.
    pub fn to_json(&self) -> Value {
        let facts = |facts: &[(&str, String, String)]| {
            facts.iter().map(|(name, one, other)| json!({"name": name, "a": one, "b": other})).collect::<Vec<_>>()
        };
        let estimate = |estimate: &Estimate| {
            let interval = estimate.interval.map(|interval| [interval.low, interval.high]);
            json!({"value": estimate.value, "interval": interval})
        };
        let change = |one: &Change| {
            json!({
                "subject": one.subject, "idle": one.idle, "load": one.load, "metric": one.metric.name(),
                "a": one.medians[0], "b": one.medians[1], "b_to_a": one.ratio.as_ref().map(estimate),
                "chance": one.chance, "smallest_effect": one.smallest_effect,
                "verdict_alone": one.alone.word(), "verdict": one.verdict.word(), "reason": one.verdict.reason(),
            })
        };
        let sign = |one: &Sign| {
            json!({
                "subject": one.subject, "reference": one.reference, "idle": one.idle, "load": one.load,
                "a": estimate(&one.ratios[0]), "b": estimate(&one.ratios[1]), "agree": one.agree(),
            })
        };
        let growth =
            |one: &Growth| json!({"subject": one.subject, "load": one.load, "a": one.slopes[0], "b": one.slopes[1]});
        json!({
            "same_machine": self.is_same_machine(),
            "machines": facts(&self.machines),
            "hosts": facts(&self.before.record.host.differences(&self.after.record.host)),
            "smallest_change": {"cpu_ns_per_request": self.margins[0], "p99_ns": self.margins[1]},
            "compared": {"cpu_ns_per_request": self.compared[0], "p99_ns": self.compared[1]},
            "changes": self.changes.iter().map(change).collect::<Vec<_>>(),
            "signs": self.signs.iter().map(sign).collect::<Vec<_>>(),
            "growths": self.growths.iter().map(growth).collect::<Vec<_>>(),
        })
    }
    /// A line for each change on one machine, or for each sign and each growth on two, after one with the names of its
    /// columns.
    ///
    /// # Errors
    /// What writing gave.
    pub fn write_csv(&self, to: impl io::Write) -> io::Result<()> {
        let mut out = csv::Writer::from_writer(to);
        let changes = self.changes.iter().map(|one| self.change_line(one));
        let signs = self.signs.iter().map(|one| self.sign_line(one));
        let growths = self.growths.iter().map(|one| self.growth_line(one));
        for line in changes.chain(signs).chain(growths) {
            out.serialize(line)?;
        }
        out.flush()
    }

    fn change_line<'a>(&self, one: &'a Change) -> Line<'a> {
        let ends = one.ratio.and_then(|ratio| ratio.interval);
        Line {
            kind: "change",
            subject: &one.subject,
            idle: Some(one.idle),
            load: self.before.describe(one.load),
            metric: one.metric.name(),
            a: one.medians[0],
            b: one.medians[1],
            b_to_a: one.ratio.map(|ratio| ratio.value),
            b_to_a_low: ends.map(|ends| ends.low),
            b_to_a_high: ends.map(|ends| ends.high),
            verdict: one.verdict.word(),
            reason: one.verdict.reason().unwrap_or_default(),
            ..Line::default()
        }
    }

    fn sign_line<'a>(&self, one: &'a Sign) -> Line<'a> {
        let [a, b] = one.ratios.map(|ratio| ratio.interval);
        Line {
            kind: "sign",
            subject: &one.subject,
            reference: &one.reference,
            idle: Some(one.idle),
            load: self.before.describe(one.load),
            metric: Metric::Cpu.name(),
            a: Some(one.ratios[0].value),
            a_low: a.map(|ends| ends.low),
            a_high: a.map(|ends| ends.high),
            b: Some(one.ratios[1].value),
            b_low: b.map(|ends| ends.low),
            b_high: b.map(|ends| ends.high),
            verdict: one.word(),
            ..Line::default()
        }
    }

    fn growth_line<'a>(&self, one: &'a Growth) -> Line<'a> {
        let [a, b] = one.slopes.map(Some);
        Line { kind: "growth", subject: &one.subject, load: self.before.describe(one.load), a, b, ..Line::default() }
    }
}
