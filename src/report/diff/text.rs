//! A diff on the terminal: tables of changes on one machine, of signs and shapes on two.

use std::collections::BTreeMap;

use super::{Change, Diff, Metric, Sign, Verdict};
use crate::measure::record::Load;
use crate::measure::stats::Estimate;
use crate::report::format::{factor, grouped, micros, percent, plain, three_digits};
use crate::report::markdown;
use crate::report::table::{Column, Kind, Row, Table};
use crate::report::terminal::{Style, draw, wrap};
use crate::report::wording::Wording;

impl Diff<'_> {
    /// Everything, in words and tables; what follows from it comes last.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        self.tables().iter().for_each(|table| draw(&mut out, table, style));
        for line in self.lines() {
            wrap(&mut out, &plain(&line), style);
        }
        out
    }

    /// The same as Markdown, to publish or to say of a change.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        self.tables().iter().for_each(|table| markdown::draw(&mut out, table));
        markdown::paragraphs(&mut out, self.lines());
        out
    }

    fn tables(&self) -> Vec<Table> {
        if self.is_same_machine() { self.of_one_machine() } else { self.of_two_machines() }
    }

    fn of_one_machine(&self) -> Vec<Table> {
        let mut tables = BTreeMap::<(u32, Load), Vec<&Change>>::new();
        for change in &self.changes {
            tables.entry((change.idle, change.load)).or_default().push(change);
        }
        let heads = [
            ("mechanism", 0),
            ("", 0),
            ("A", 1),
            ("B", 1),
            ("B/A", 0),
            ("interval", 2),
            ("chance", 3),
            ("finds", 4),
            ("verdict", 0),
        ];
        let wording = Wording::of(self.before.record);
        let table = |((idle, load), changes): (&(u32, Load), &Vec<&Change>)| Table {
            title: self.title(*idle, *load),
            columns: columns(&heads),
            rows: changes.iter().map(|change| row(change, wording)).collect(),
        };
        tables.iter().map(table).collect()
    }

    fn of_two_machines(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        let mut signs = BTreeMap::<(u32, Load), Vec<&Sign>>::new();
        for sign in &self.signs {
            signs.entry((sign.idle, sign.load)).or_default().push(sign);
        }
        for ((idle, load), signs) in &signs {
            let against = format!("× {}", plain(&signs[0].reference));
            let heads = [("mechanism", 0), (against.as_str(), 0), ("in A", 0), ("in B", 0), ("both say", 0)];
            let row = |sign: &Sign| {
                let [a, b] =
                    [0, 1].map(|at| format!("{} {}", factor(sign.ratios[at].value), relation(&sign.verdicts[at])));
                let kind = if sign.agree() == Some(false) { Kind::Control } else { Kind::Ordinary };
                Row {
                    kind,
                    cells: vec![sign.subject.clone(), String::new(), a, b, sign.word().to_owned()],
                    reason: None,
                }
            };
            tables.push(Table {
                title: self.title(*idle, *load),
                columns: columns(&heads),
                rows: signs.iter().map(|sign| row(sign)).collect(),
            });
        }
        if !self.growths.is_empty() {
            let row = |growth: &super::Growth| {
                let slopes = growth.slopes.map(|slope| format!("{slope:.2}"));
                let cells = [vec![growth.subject.clone(), self.before.describe(growth.load)], slopes.to_vec()].concat();
                Row { kind: Kind::Ordinary, cells, reason: None }
            };
            tables.push(Table {
                title: "Growth of CPU for each wait with the connections watched: 1 in proportion, 0 not at all".into(),
                columns: columns(&[("mechanism", 0), ("load", 0), ("in A", 0), ("in B", 0)]),
                rows: self.growths.iter().map(row).collect(),
            });
        }
        tables
    }

    fn title(&self, idle: u32, load: Load) -> String {
        format!("{}, {} idle", self.before.describe(load), grouped(idle.into()))
    }

    fn lines(&self) -> Vec<String> {
        let (a, b) = (self.before.record, self.after.record);
        let mut lines = Vec::new();
        for (name, record) in [("A", a), ("B", b)] {
            let rounds = record.settings.rounds_done;
            let finished = if record.finished { "" } else { ", interrupted" };
            lines.push(format!(
                "{name}: {}, {rounds} rounds{finished}, pollmark {}.",
                record.started, record.pollmark_version
            ));
        }
        for (name, one, other) in a.host.differences(&b.host) {
            lines.push(format!("{name}: {one} in A, {other} in B."));
        }
        let interval = |record: &crate::measure::Record| record.settings.measure_ns / 1_000_000;
        if interval(a) != interval(b) {
            lines.push(format!("Intervals of {} ms in A, of {} ms in B.", interval(a), interval(b)));
        }
        lines.extend(if self.is_same_machine() { self.verdict_lines() } else { self.caution_lines() });
        lines
    }

    fn verdict_lines(&self) -> Vec<String> {
        let count = |metric: Metric| {
            let mut counts = BTreeMap::<&str, usize>::new();
            for change in self.changes.iter().filter(|change| change.metric == metric) {
                *counts.entry(change.verdict.word()).or_default() += 1;
            }
            let counts = counts.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>();
            let corrected =
                self.changes.iter().filter(|change| change.metric == metric && change.is_corrected()).count();
            let counts = if counts.is_empty() { "no cell".to_owned() } else { counts.join(", ") };
            match corrected {
                0 => counts,
                more => format!("{counts}, of which {more} would win or lose alone"),
            }
        };
        let [of_cpu, of_p99] = self.compared;
        let [cpu, p99] = self.margins.map(percent);
        vec![
            "It is one machine by its processors and its memory, or two of a kind: a record does not say which.".into(),
            format!(
                "A change counts if its whole interval is beyond {cpu} of CPU, or {p99} of p99, the noise of both; and if \
                 chance does not explain it with all of them counted, {of_cpu} of CPU and {of_p99} of p99, by Holm's \
                 correction: in 5 % of such comparisons even one of either is false."
            ),
            "chance: how likely what has not changed is to look as changed as this, were it the only comparison. finds: by how \
             much more B would have had to take to lose. A verdict in brackets is what it would be alone."
                .into(),
            format!("CPU for each {}, B against A: {}.", Wording::of(self.before.record).operation, count(Metric::Cpu)),
            format!("p99: {}.", count(Metric::P99)),
        ]
    }

    fn caution_lines(&self) -> Vec<String> {
        let say = |what: Option<bool>| self.signs.iter().filter(|sign| sign.agree() == what).count();
        let machines = self.machines.iter().map(|(name, one, other)| format!("{name}: {one} / {other}"));
        vec![
            format!(
                "CAUTION: these are two machines ({}). By how much they differ says nothing of the mechanisms: only who \
                 costs less than whom, and what grows, is compared.",
                machines.collect::<Vec<_>>().join("; ")
            ),
            format!(
                "Of {} comparisons within a table both records say the same of {}, the opposite of {}; of {} one of them \
                 cannot tell.",
                self.signs.len(),
                say(Some(true)),
                say(Some(false)),
                say(None)
            ),
        ]
    }
}

fn columns(heads: &[(&str, u8)]) -> Vec<Column> {
    let left = ["mechanism", "", "verdict", "load", "both say"];
    let column = |(head, expendable): &(&str, u8)| Column {
        head: (*head).to_owned(),
        right: !left.contains(head),
        expendable: *expendable,
    };
    heads.iter().map(column).collect()
}

fn row(change: &Change, wording: Wording) -> Row {
    let metric = match change.metric {
        Metric::Cpu => format!("CPU µs/{}", wording.short),
        Metric::P99 => "p99 µs".to_owned(),
    };
    let unknown = || "–".to_owned();
    let [a, b] = change.medians.map(|median| median.map_or_else(unknown, micros));
    let interval = |ratio: Estimate| {
        ratio.interval.map_or_else(unknown, |ends| format!("{}–{}", three_digits(ends.low), three_digits(ends.high)))
    };
    let ratio =
        [change.ratio.map_or_else(unknown, |ratio| factor(ratio.value)), change.ratio.map_or_else(unknown, interval)];
    let kind = match change.verdict {
        Verdict::Win => Kind::Leading,
        Verdict::Missing(_) | Verdict::Void(_) => Kind::Absent,
        _ => Kind::Ordinary,
    };
    let mut cells = vec![change.subject.clone(), metric, a, b];
    cells.extend(ratio);
    cells.push(change.chance.map_or_else(unknown, chance));
    cells.push(change.smallest_effect.map_or_else(unknown, percent));
    let word = if change.verdict == Verdict::Lose { "LOSE" } else { change.verdict.word() };
    let alone = if change.is_corrected() { format!(" ({})", change.alone.word()) } else { String::new() };
    cells.push(format!("{word}{alone}"));
    let reason = match &change.verdict {
        Verdict::Missing(why) | Verdict::Void(why) => Some(why.clone()),
        _ => None,
    };
    Row { kind, cells, reason }
}

/// A chance, of which nobody needs to know how small it is.
fn chance(chance: f64) -> String {
    if chance < 0.001 { "<0.1 %".to_owned() } else { percent(chance) }
}

fn relation(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Win => "less",
        Verdict::Lose => "more",
        Verdict::Indistinguishable => "same",
        _ => "unproven",
    }
}
