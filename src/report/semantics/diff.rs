//! Two hosts side by side: what they say differently, and what they say alike.

use std::fmt::Write;

use super::terminal::prose;
use super::{Cell, Moment, Record, Said, Scenario};
use crate::report::format::plain;
use crate::report::terminal::{BOLD, FAINT, RED, Style, paint, wrap_at};

/// Two records, compared cell by cell.
pub struct Comparison<'a> {
    left: &'a Record,
    right: &'a Record,
    pairs: Vec<Pair<'a>>,
    /// What stands in for what: a mechanism that only the one host has, and one that only the other has.
    stand_ins: Vec<(&'a str, &'a str)>,
}

/// One moment as both hosts met it, by one mechanism or by one and its stand-in.
struct Pair<'a> {
    scenario: &'a Scenario,
    moment: &'a Moment,
    left: &'a Cell,
    right: &'a Cell,
}

/// How far two cells differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Difference {
    /// Not at all. Other words of another mechanism are none.
    Alike,
    /// One mechanism uses other words, and a program is told the same.
    Words,
    /// A program is told something else.
    Told,
}

impl<'a> Comparison<'a> {
    /// Compares scenarios and moments of the same names, mechanism by mechanism. If each host has as many that the
    /// other lacks, epoll here and kqueue there, these are laid beside each other too, in their order.
    pub fn of(left: &'a Record, right: &'a Record) -> Comparison<'a> {
        let (ours, theirs) = (lone(left, right), lone(right, left));
        let stand_ins = if ours.len() == theirs.len() { ours.into_iter().zip(theirs).collect() } else { Vec::new() };
        let pair = |(scenario, moment, cell): (&'a Scenario, &'a Moment, &'a Cell)| {
            let stand_in = stand_ins.iter().find(|(ours, _)| *ours == cell.mechanism);
            let name = stand_in.map_or(cell.mechanism.as_str(), |(_, theirs)| theirs);
            let across = right.scenarios.iter().find(|other| other.name == scenario.name)?;
            let across = across.moments.iter().find(|other| other.when == moment.when)?;
            let across = across.cells.iter().find(|other| other.mechanism == name)?;
            Some(Pair { scenario, moment, left: cell, right: across })
        };
        Comparison { left, right, pairs: left.cells().filter_map(pair).collect(), stand_ins }
    }

    /// How many cells there are to compare, and how many of them differ in what a program is told, and in the kernel's
    /// words alone.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |of| self.pairs.iter().filter(|pair| pair.difference() == of).count();
        (self.pairs.len(), count(Difference::Told), count(Difference::Words))
    }

    /// What differs, in one line; `None` if nothing does.
    pub fn verdict(&self) -> Option<String> {
        let lone = !self.only(self.left, self.right).is_empty() || !self.only(self.right, self.left).is_empty();
        match self.counts() {
            (0, _, _) => Some("the two have nothing in common that could be compared".to_owned()),
            (_, 0, 0) if lone => Some("what both have is alike, and one has more".to_owned()),
            (_, 0, 0) => None,
            (all, told, words) => Some(format!(
                "of {all} answers {told} differ in what a program is told, and {words} in the kernel's words alone"
            )),
        }
    }

    /// Both hosts side by side where they differ; where they are alike, the names alone.
    ///
    /// `≠` marks what a program is told differently, `~` what only the kernels put differently.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        for (side, record) in [("A", self.left), ("B", self.right)] {
            wrap_at(&mut out, &plain(&format!("{side}: {}", record.host)), style, 0, 3);
        }
        for (side, mine, other) in [("A", self.left, self.right), ("B", self.right, self.left)] {
            let only = self.only(mine, other);
            if !only.is_empty() {
                wrap_at(&mut out, &plain(&format!("only in {side}: {}", only.join(", "))), style, 0, 3);
            }
        }
        for (ours, theirs) in &self.stand_ins {
            wrap_at(&mut out, &plain(&format!("compared: {ours} in A with {theirs} in B")), style, 0, 3);
        }
        out.push('\n');
        let mut alike = Vec::new();
        for scenario in &self.left.scenarios {
            let pairs = self.pairs.iter().filter(|pair| pair.scenario.name == scenario.name).collect::<Vec<_>>();
            match pairs.iter().all(|pair| pair.difference() == Difference::Alike) {
                true if pairs.is_empty() => {}
                true => alike.push(scenario.name.as_str()),
                false => self.draw(&mut out, scenario, &pairs, style),
            }
        }
        if !alike.is_empty() {
            wrap_at(&mut out, &plain(&format!("Alike: {}.", alike.join(", "))), prose(style), 0, 2);
        }
        let (all, told, words) = self.counts();
        wrap_at(
            &mut out,
            &format!("{all} answers: {told} ≠ told differently, {words} ~ worded differently."),
            style,
            0,
            2,
        );
        out
    }

    fn draw(&self, out: &mut String, scenario: &Scenario, pairs: &[&Pair<'_>], style: Style) {
        let _ = writeln!(out, "{}", paint(&plain(&scenario.name), BOLD, style));
        let differing = || pairs.iter().filter(|pair| pair.difference() != Difference::Alike);
        let names = differing().map(|pair| pair.name().chars().count()).max().unwrap_or(0);
        let width = |text: &String| text.chars().count();
        let left = differing().flat_map(|pair| lines(pair.left)).map(|text| width(&text)).max().unwrap_or(0);
        for moment in &scenario.moments {
            let here = pairs.iter().filter(|pair| pair.moment.when == moment.when).collect::<Vec<_>>();
            if here.iter().all(|pair| pair.difference() == Difference::Alike) {
                continue;
            }
            let _ = writeln!(out, "  {}", plain(&moment.when));
            for pair in &here {
                let (mark, code) = match pair.difference() {
                    Difference::Alike => continue,
                    Difference::Words => ("~", FAINT),
                    Difference::Told => ("≠", RED),
                };
                let (name, [raw, told], [its_raw, its_told]) = (pair.name(), lines(pair.left), lines(pair.right));
                let _ = writeln!(out, "  {} {name:names$}  {raw:left$}  {its_raw}", paint(mark, code, style));
                let _ = writeln!(out, "    {:names$}  {told:left$}  {its_told}", "");
            }
            let same = here.iter().filter(|pair| pair.difference() == Difference::Alike);
            let same = same.map(|pair| pair.name()).collect::<Vec<_>>();
            if !same.is_empty() {
                wrap_at(out, &plain(&format!("alike: {}", same.join(", "))), style, 4, 6);
            }
        }
        out.push('\n');
    }

    /// Mechanisms and scenarios that one record has and nothing in the other can be compared with.
    fn only<'r>(&self, mine: &'r Record, other: &'r Record) -> Vec<&'r str> {
        let mechanisms = if self.stand_ins.is_empty() { lone(mine, other) } else { Vec::new() };
        let scenarios = mine.scenarios.iter().map(|one| one.name.as_str());
        let scenarios = scenarios.filter(|name| other.scenarios.iter().all(|one| one.name != *name));
        mechanisms.into_iter().chain(scenarios).collect()
    }
}

impl Pair<'_> {
    fn name(&self) -> String {
        let (left, right) = (&self.left.mechanism, &self.right.mechanism);
        plain(&if left == right { left.clone() } else { format!("{left}/{right}") })
    }

    fn difference(&self) -> Difference {
        // That it is not played on either is no difference, whatever the reasons are called.
        if matches!((&self.left.said, &self.right.said), (Said::NotPlayed(_), Said::NotPlayed(_))) {
            return Difference::Alike;
        }
        let one_tongue = self.left.mechanism == self.right.mechanism;
        match (self.left.said == self.right.said, self.left.raw == self.right.raw || !one_tongue) {
            (true, true) => Difference::Alike,
            (true, false) => Difference::Words,
            (false, _) => Difference::Told,
        }
    }
}

/// The mechanisms of one record that the other has not.
fn lone<'r>(mine: &'r Record, other: &Record) -> Vec<&'r str> {
    let names = mine.mechanisms.iter().map(|one| one.name.as_str());
    names.filter(|name| other.mechanisms.iter().all(|one| one.name != *name)).collect()
}

/// A cell as two lines: what the kernel said, and what a program is told.
fn lines(cell: &Cell) -> [String; 2] {
    [plain(&super::terminal::raw(cell)), plain(&cell.said.to_string())]
}
