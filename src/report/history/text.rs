//! A history in words and tables, on the terminal and as Markdown.

use std::collections::BTreeMap;

use super::{Change, Course, History, Track, is_a_change, name};
use crate::measure::record::{Load, Record};
use crate::measure::stats::Estimate;
use crate::report::diff::{Metric, Verdict};
use crate::report::entry::describe;
use crate::report::format::{factor, grouped, micros, percent, plain, three_digits};
use crate::report::markdown;
use crate::report::table::{self, Column, Kind, Row, Table};
use crate::report::terminal::{Style, draw, wrap};
use crate::report::wording::Wording;

impl History<'_> {
    /// For the terminal; what follows comes last.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        for course in &self.courses {
            wrap(&mut out, &course.title(), style);
            out.push('\n');
            course.tables().iter().for_each(|table| draw(&mut out, table, style));
            course.lines().iter().for_each(|line| wrap(&mut out, &plain(line), style));
            out.push('\n');
        }
        self.alone().iter().for_each(|line| wrap(&mut out, &plain(line), style));
        out
    }

    /// As Markdown, for an issue or the summary of a workflow.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        for course in &self.courses {
            out.push_str(&format!("## {}\n\n", crate::report::format::markdown(&course.title())));
            course.tables().iter().for_each(|table| markdown::draw(&mut out, table));
            markdown::paragraphs(&mut out, course.lines());
        }
        markdown::paragraphs(&mut out, self.alone());
        out
    }

    fn alone(&self) -> Vec<String> {
        let line = |record: &&Record| {
            format!(
                "Alone of its machine and workload, so held against nothing: {}, {}, {}.",
                name(record),
                record.started,
                describe(record)
            )
        };
        self.alone.iter().map(line).collect()
    }
}

impl Course<'_> {
    fn title(&self) -> String {
        plain(&format!("{} on {}", name(self.records[0]), describe(self.records[0])))
    }

    fn tables(&self) -> Vec<Table> {
        let mut places = BTreeMap::<(u32, Load), Vec<&Track>>::new();
        for track in &self.tracks {
            places.entry((track.idle, track.load)).or_default().push(track);
        }
        let of_place = |((idle, load), tracks): (&(u32, Load), &Vec<&Track>)| Table {
            title: table::load(self.newest(), *idle, *load),
            columns: self.columns(),
            rows: tracks.iter().flat_map(|track| rows(track)).collect(),
        };
        let tables = places.iter().map(of_place).map(|mut table| {
            table.leave_out_unknown();
            table
        });
        std::iter::once(self.records()).chain(tables).collect()
    }

    /// Which record is which.
    fn records(&self) -> Table {
        let heads = [("#", 0), ("made", 0), ("version", 1), ("commit", 0), ("rounds", 2), ("kernel", 3)];
        let row = |(number, record): (usize, &&Record)| {
            let finished = if record.finished { "" } else { ", interrupted" };
            let commit = record.host.commit.as_deref().map_or_else(|| "–".to_owned(), short);
            let cells = vec![
                (number + 1).to_string(),
                record.started.clone(),
                record.pollmark_version.clone(),
                commit,
                format!("{}{finished}", record.settings.rounds_done),
                record.host.kernel.clone().unwrap_or_else(|| "–".to_owned()),
            ];
            Row { kind: Kind::Ordinary, cells, reason: None }
        };
        Table {
            title: "Records, the oldest first".to_owned(),
            columns: columns(&heads, &["made", "version", "commit", "kernel"]),
            rows: self.records.iter().enumerate().map(row).collect(),
        }
    }

    fn columns(&self) -> Vec<Column> {
        let short = Wording::of(self.records[0]).short;
        let heads = [
            ("mechanism", 0),
            ("#", 0),
            ("CPU µs/req", 0),
            ("interval", 3),
            ("× before", 0),
            ("its interval", 4),
            ("change", 0),
            ("calls/req", 1),
            ("instr/req user", 2),
            ("instr/req kernel", 5),
        ];
        let heads = heads.map(|(head, expendable)| (head.replace("req", short), expendable));
        let heads = heads.iter().map(|(head, expendable)| (head.as_str(), *expendable)).collect::<Vec<_>>();
        columns(&heads, &["mechanism", "change"])
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let margins = self.steps.iter().map(|step| step.margins[Metric::Cpu as usize]);
        let margin =
            margins.chain(self.whole.iter().map(|whole| whole.margins[Metric::Cpu as usize])).fold(0.0, f64::max);
        lines.push(format!(
            "A step is called a change by the rule of `pollmark diff` alone: its whole interval lies beyond the noise of both \
             records, which is {} at most here{}.",
            percent(margin),
            if self.whole.is_some() { "; and so is the last record held against the first" } else { "" },
        ));
        let changed = self.changed().collect::<Vec<_>>();
        lines.push(match changed.len() {
            0 => format!("In none of {} cells CPU time changed.", grouped(self.tracks.len() as u64)),
            some => format!("In {some} of {} cells CPU time changed:", grouped(self.tracks.len() as u64)),
        });
        lines.extend(changed.iter().flat_map(|track| self.told(track)));
        if self.once > 0 {
            lines.push(format!(
                "{} more are in one record alone, or have figures in one alone.",
                grouped(self.once as u64)
            ));
        }
        lines
    }

    /// A line for each change of a cell.
    fn told(&self, track: &Track) -> Vec<String> {
        let place = format!("{}, {}", track.subject, self.place(track));
        let words = |change: &Change| {
            let ratio = change.ratio.map(|ratio| format!("{} ({})", factor(ratio.value), between(ratio)));
            format!("{} {}", ratio.unwrap_or_default(), said(&change.verdict))
        };
        let steps = track.points.iter().enumerate().filter_map(|(at, point)| Some((at, point.change.as_ref()?)));
        let steps = steps.filter(|(_, change)| is_a_change(change));
        let mut lines = steps
            .map(|(at, change)| format!("{place}: #{} to #{}: {}.", at, at + 1, words(change)))
            .collect::<Vec<_>>();
        if let Some(whole) = track.whole.as_ref().filter(|whole| is_a_change(whole)) {
            lines.push(format!("{place}: #1 to #{}: {}.", self.records.len(), words(whole)));
        }
        lines
    }
}

fn rows(track: &Track) -> Vec<Row> {
    let unknown = || "–".to_owned();
    let rows = track.points.iter().enumerate().map(|(at, point)| {
        let number = (at + 1).to_string();
        let mut cells = vec![track.subject.clone(), number];
        if let Some(why) = &point.why {
            return Row { kind: Kind::Absent, cells, reason: Some(why.clone()) };
        }
        let ratio = point.change.as_ref().and_then(|change| change.ratio);
        cells.push(point.cpu_ns.map_or_else(unknown, |cpu| micros(cpu.value)));
        let in_micros = |ends: crate::measure::stats::Interval| format!("{}–{}", micros(ends.low), micros(ends.high));
        cells.push(point.cpu_ns.and_then(|cpu| cpu.interval).map_or_else(unknown, in_micros));
        cells.push(ratio.map_or_else(unknown, |ratio| factor(ratio.value)));
        cells.push(ratio.map_or_else(unknown, between));
        cells.push(point.change.as_ref().map_or_else(unknown, |change| said(&change.verdict).to_owned()));
        cells.push(point.calls.map_or_else(unknown, three_digits));
        cells.push(point.instructions_user.map_or_else(unknown, three_digits));
        cells.push(point.instructions_kernel.map_or_else(unknown, three_digits));
        let kind = match &point.change {
            Some(change) if change.verdict == Verdict::Win => Kind::Leading,
            _ => Kind::Ordinary,
        };
        Row { kind, cells, reason: None }
    });
    rows.collect()
}

fn between(ratio: Estimate) -> String {
    ratio
        .interval
        .map_or_else(|| "–".to_owned(), |ends| format!("{}–{}", three_digits(ends.low), three_digits(ends.high)))
}

fn said(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Win => "less",
        Verdict::Lose => "MORE",
        Verdict::Indistinguishable => "none",
        other => other.word(),
    }
}

/// As much of a commit as names it, with the sign that its sources were changed.
fn short(commit: &str) -> String {
    let changed = if commit.ends_with('+') { "+" } else { "" };
    let start = commit.chars().take(12).collect::<String>();
    format!("{}{changed}", start.trim_end_matches('+'))
}

fn columns(heads: &[(&str, u8)], left: &[&str]) -> Vec<Column> {
    let column = |(head, expendable): &(&str, u8)| Column {
        head: (*head).to_owned(),
        right: !left.contains(head),
        expendable: *expendable,
    };
    heads.iter().map(column).collect()
}
