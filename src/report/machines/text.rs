//! Several machines in sentences, and on the terminal: the answer of each, then where they agree.

use super::super::entry::{describe, workload};
use super::super::format::{grouped, plain};
use super::super::model;
use super::super::table;
use super::super::terminal::{BOLD, Style, draw, paint, wrap};
use super::super::text;
use super::tables::DIFFERS;
use super::{Agreement, Entry, Machine, Machines, Question, Tally, Together};

/// How the tables are to be read.
pub(super) const LEGEND: &str = "Sizes of different machines are not held against one another, and no ranking has rows of two. \
    Compared is what each machine says of itself: which of two rows costs less (beyond the noise of its record, and of \
    chance), whether a row costs at least twice as much with the most idle connections as with the fewest of those that all \
    have, and where by its cost model two rows cross, within what all have measured; crossovers agree if their intervals \
    overlap. Each workload is told by the newest record of each machine.";

/// On one machine there is nothing to agree with.
const ONE_MACHINE: &str = "All records are of one machine, or of two of a kind: a record does not say which. That it agrees with \
    itself is not told; what has changed from one record to the next, `pollmark history` tells.";

impl Machines<'_, '_> {
    /// Everything for a terminal: each machine's answers and tables by itself, and whether they agree.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        for machine in &self.machines {
            wrap(&mut out, &paint(&machine.name(), BOLD, style), style);
            out.push('\n');
            for entry in &machine.entries {
                wrap(&mut out, &paint(&plain(&about(entry)), BOLD, style), style);
                table::overviews(&entry.summary).iter().for_each(|table| draw(&mut out, table, style));
                answer(entry).iter().for_each(|line| wrap(&mut out, line, style));
                out.push('\n');
            }
        }
        self.differences().iter().for_each(|line| wrap(&mut out, line, style));
        out.push('\n');
        for together in &self.workloads {
            together.tables().iter().for_each(|table| draw(&mut out, table, style));
        }
        self.closing().iter().for_each(|line| wrap(&mut out, line, style));
        out
    }

    /// What follows, in sentences: a line for each two machines and workload, and for all of several.
    pub fn sentences(&self) -> Vec<String> {
        self.workloads.iter().flat_map(Together::sentences).collect()
    }

    /// The facts that are not the same on all machines, a line each.
    fn differences(&self) -> Vec<String> {
        let line = |row: &table::Row| {
            let values = self.machines.iter().zip(row.cells.iter().skip(2));
            let values = values.map(|(machine, value)| format!("{} {value}", machine.letter)).collect::<Vec<_>>();
            plain(&format!("{}: {}", row.cells[0], values.join("; ")))
        };
        self.system().rows.iter().filter(|row| row.cells[1] == DIFFERS).map(line).collect()
    }

    /// How it is to be read, what follows, and what of the records is not held against another.
    pub(super) fn closing(&self) -> Vec<String> {
        if self.machines.len() < 2 {
            return vec![ONE_MACHINE.to_owned()];
        }
        let mut lines = vec![LEGEND.to_owned()];
        lines.extend(self.asides());
        lines.extend(self.sentences());
        if lines.len() == 1 {
            lines.push(
                "No two of these machines have a record of the same workload, so they agree about nothing.".to_owned(),
            );
        }
        lines
    }

    /// Records that stand beside others of their machine, and workloads that one machine alone has.
    pub(super) fn asides(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let again = |machine: &&Machine<'_, '_>| {
            let of = machine.entries.iter().map(|entry| workload(entry.record)).collect::<Vec<_>>();
            of.iter().enumerate().any(|(at, name)| of[..at].contains(name))
        };
        let again = self.machines.iter().filter(again).map(|machine| machine.letter.as_str()).collect::<Vec<_>>();
        if !again.is_empty() {
            lines.push(format!(
                "Of {} there are several records of one workload: the newest speaks for it, and what has changed from one to \
                 the next, `pollmark history` tells.",
                again.join(", ")
            ));
        }
        for alone in self.workloads.iter().filter(|together| together.held.len() == 1 && self.machines.len() > 1) {
            let (letter, _) = &alone.held[0];
            lines.push(plain(&format!("{}: only {letter} has a record of it.", alone.name)));
        }
        lines
    }
}

impl Machine<'_, '_> {
    /// Its letter, and what it is.
    pub fn name(&self) -> String {
        let newest = self.entries.last().map(|entry| describe(entry.record));
        format!("{}: {}", self.letter, newest.unwrap_or_default())
    }
}

impl Together<'_, '_> {
    /// Those with something in them, in the order they are read.
    pub(super) fn tables(&self) -> Vec<table::Table> {
        let tables = [self.opposites(), self.shapes(), self.crossovers(), self.agreement()];
        let named = |mut table: table::Table| {
            table.title = plain(&format!("{}: {}", self.name, table.title));
            table
        };
        tables.into_iter().flatten().map(named).collect()
    }

    /// Over all machines, a sentence for each question; each two of them are in the table.
    fn sentences(&self) -> Vec<String> {
        let letters = self.letters();
        let over_all = |tally: &&Tally| tally.machines.len() == self.held.len();
        let sentence = |tally: &Tally| {
            let Tally { asked, agree, differ, some_cannot_tell, none_tells, .. } = tally;
            let [asked, agree, differ, some, none] =
                [asked, agree, differ, some_cannot_tell, none_tells].map(|count| grouped(*count as u64));
            let about = format!("{}, {}:", self.name, tally.question.words());
            plain(&match letters.as_slice() {
                [one, other] => format!(
                    "{about} {one} and {other} agree in {agree} of {asked} places and differ in {differ}; in {some} one of \
                     them cannot tell, in {none} neither can."
                ),
                [others @ .., last] => format!(
                    "{about} in {asked} places at least two of {} and {last} were asked; they agree in {agree} and differ in \
                     {differ}; in {some} not all of them can tell, in {none} none can.",
                    others.join(", ")
                ),
                [] => about,
            })
        };
        let mut lines = self.tallies().iter().filter(over_all).map(sentence).collect::<Vec<_>>();
        lines.extend(self.opposite_places());
        lines
    }

    /// The cells in which two machines say the opposite, a line for each question but the order, which has a table.
    fn opposite_places(&self) -> Vec<String> {
        let differs = |question| {
            let claims = self.of(question).filter(|claim| claim.over_all() == Some(Agreement::Differ));
            claims.map(|claim| {
                let to = claim.to.as_ref().map(|to| format!(" and {to}")).unwrap_or_default();
                format!("{}{to} at {}", claim.subject, claim.load)
            })
        };
        let line = |question: Question| {
            let places = differs(question).collect::<Vec<_>>();
            let told = format!("{}: they differ about {}: {}.", self.name, question.words(), places.join("; "));
            (!places.is_empty()).then(|| plain(&told))
        };
        [Question::Shape, Question::Crossover].into_iter().filter_map(line).collect()
    }
}

/// When a record was made, and of what.
pub(super) fn about(entry: &Entry<'_>) -> String {
    format!("{}, {}", workload(entry.record), entry.record.started)
}

/// What one record has found, in sentences of its own.
pub(super) fn answer(entry: &Entry<'_>) -> Vec<String> {
    let summary = &entry.summary;
    let mut lines = text::finding(summary).into_iter().collect::<Vec<_>>();
    lines.push(text::headline(summary));
    lines.extend(model::crossovers(summary));
    lines.push(text::noise(summary));
    lines.push(text::method(summary));
    lines.extend(summary.record.warnings.iter().map(|warning| format!("warning: {}", plain(warning))));
    lines
}
