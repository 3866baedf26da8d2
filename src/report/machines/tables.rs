//! The tables of several machines: what each is, and what they say side by side.

use super::super::entry::{describe, workload};
use super::super::format::{factor, grouped};
use super::super::table::{Column, Kind, Row, Table};
use super::{Agreement, Claim, Machines, Opinion, Question, Said, Tally, Together};
use crate::measure::record::Record;

/// What stands before a fact that is not the same on all machines.
pub(super) const DIFFERS: &str = "≠";

impl Machines<'_, '_> {
    /// Every fact of every machine, by its newest record; those that differ are marked.
    pub(super) fn system(&self) -> Table {
        let newest = || self.machines.iter().filter_map(|machine| machine.entries.last()).map(|entry| entry.record);
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in newest().flat_map(|record| record.host.facts()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let versions = newest().map(|record| record.pollmark_version.clone()).collect::<Vec<_>>();
        let rows = names.into_iter().map(|name| {
            let value = |record: &Record| {
                let facts = record.host.facts().into_iter();
                facts.filter(|(one, _)| *one == name).map(|(_, value)| value).next()
            };
            let values = newest().map(|record| value(record).unwrap_or_else(|| "unknown".to_owned()));
            fact(name, values.collect())
        });
        let heads = [("fact", false), ("", false)].map(|(head, right)| column(head, right));
        let letters = self.machines.iter().map(|machine| column(&machine.letter, false));
        Table {
            title: format!("The machines; {DIFFERS} marks what differs"),
            columns: heads.into_iter().chain(letters).collect(),
            rows: rows.chain([fact("pollmark", versions)]).collect(),
        }
    }

    /// Every record, by machine, the oldest first.
    pub(super) fn records(&self) -> Table {
        let heads = ["machine", "it is", "workload", "begun", "rounds", "pollmark"];
        let row = |letter: &str, entry: &super::Entry<'_>| {
            let record = entry.record;
            let rounds = record.settings.rounds_done.to_string();
            let rounds = if record.finished { rounds } else { format!("{rounds}, interrupted") };
            let name = workload(record).to_owned();
            let version = record.pollmark_version.clone();
            let cells = vec![letter.to_owned(), describe(record), name, record.started.clone(), rounds, version];
            Row { kind: Kind::Ordinary, cells, reason: None }
        };
        let rows = self.machines.iter().flat_map(|machine| {
            let of = machine.entries.iter();
            of.map(|entry| row(&machine.letter, entry)).collect::<Vec<_>>()
        });
        Table {
            title: "The records".to_owned(),
            columns: heads.map(|head| column(head, head == "rounds")).to_vec(),
            rows: rows.collect(),
        }
    }
}

/// A fact, as each machine has it. Loads change by the minute, and differ always.
fn fact(name: &str, values: Vec<String>) -> Row {
    let differs = name != "load average" && values.iter().any(|value| *value != values[0]);
    let mark = if differs { DIFFERS } else { "" };
    let kind = if differs { Kind::Leading } else { Kind::Ordinary };
    Row { kind, cells: [vec![name.to_owned(), mark.to_owned()], values].concat(), reason: None }
}

impl Together<'_, '_> {
    /// How often which machines agree about what; `None` if nothing was asked of two.
    pub(super) fn agreement(&self) -> Option<Table> {
        let heads = ["machines", "about", "asked", "agree", "differ", "some cannot tell", "none can tell"];
        let letters = self.letters();
        let row = |tally: Tally| {
            let Tally { question, asked, agree, differ, some_cannot_tell, none_tells, .. } = tally;
            let of = tally.machines.iter().map(|at| letters[*at]).collect::<Vec<_>>();
            let of = if of.len() > 2 { "any of all".to_owned() } else { of.join(", ") };
            let counts = [asked, agree, differ, some_cannot_tell, none_tells].map(|count| grouped(count as u64));
            Row {
                kind: Kind::Ordinary,
                cells: [vec![of, question.words().to_owned()], counts.to_vec()].concat(),
                reason: None,
            }
        };
        let rows = self.tallies().into_iter().map(row).collect::<Vec<_>>();
        let left = ["machines", "about"];
        (!rows.is_empty()).then(|| Table {
            title: "Whether they agree".to_owned(),
            columns: heads.map(|head| column(head, !left.contains(&head))).to_vec(),
            rows,
        })
    }

    /// Where two of them say the opposite of who costs less than whom; `None` if nowhere.
    pub(super) fn opposites(&self) -> Option<Table> {
        let claims = self.of(Question::Order).filter(|claim| claim.over_all() == Some(Agreement::Differ));
        self.orders("Where they say the opposite of who costs less than whom", claims)
    }

    /// Who costs less than whom, everywhere; `None` if nothing was asked of two.
    pub(super) fn every_order(&self) -> Option<Table> {
        self.orders("Who costs less than whom, in multiples on the same machine", self.of(Question::Order))
    }

    fn orders<'c>(&self, title: &str, claims: impl Iterator<Item = &'c Claim>) -> Option<Table> {
        let lead = |claim: &Claim| {
            let idle = claim.idle.iter().map(|idle| grouped((*idle).into())).collect::<String>();
            vec![claim.subject.clone(), claim.to.clone().unwrap_or_default(), claim.load.clone(), idle]
        };
        self.table(title, &["mechanism", "against", "load", "idle"], claims, lead)
    }

    /// What grows with idle connections and what does not; `None` if nothing was asked of two.
    pub(super) fn shapes(&self) -> Option<Table> {
        let lead = |claim: &Claim| {
            let idle = claim.idle.iter().map(|idle| grouped((*idle).into())).collect::<Vec<_>>().join(" to ");
            vec![claim.subject.clone(), claim.load.clone(), idle]
        };
        let title = "What grows: cost with the most idle connections, in multiples of that with the fewest";
        self.table(title, &["mechanism", "load", "idle"], self.of(Question::Shape), lead)
    }

    /// Where costs cross; `None` if nothing was asked of two.
    pub(super) fn crossovers(&self) -> Option<Table> {
        let lead =
            |claim: &Claim| vec![claim.subject.clone(), claim.to.clone().unwrap_or_default(), claim.load.clone()];
        let title = "Where costs cross: idle connections below which the first costs less, by the cost model";
        self.table(title, &["scans", "does not", "load"], self.of(Question::Crossover), lead)
    }

    fn table<'c>(
        &self,
        title: &str,
        heads: &[&str],
        claims: impl Iterator<Item = &'c Claim>,
        lead: impl Fn(&Claim) -> Vec<String>,
    ) -> Option<Table> {
        let row = |claim: &Claim| {
            let agreement = claim.over_all().map_or("–", Agreement::name);
            let said = claim.said.iter().map(|said| short(said, claim.question));
            let cells = lead(claim).into_iter().chain(said).chain([agreement.to_owned()]).collect();
            let kind = match claim.over_all() {
                Some(Agreement::Agree) => Kind::Leading,
                _ => Kind::Ordinary,
            };
            Row { kind, cells, reason: None }
        };
        let rows = claims.map(row).collect::<Vec<_>>();
        let letters = self.letters();
        let heads = heads.iter().copied().chain(letters.iter().copied()).chain(["they"]);
        (!rows.is_empty()).then(|| Table {
            title: title.to_owned(),
            columns: heads.map(|head| column(head, head == "idle" || letters.contains(&head))).collect(),
            rows,
        })
    }
}

/// What a machine says, with its figure.
pub(super) fn short(said: &Said, question: Question) -> String {
    let figure = |said: &Said| said.figure.map_or_else(|| "–".to_owned(), |one| factor(one.value));
    match (&said.opinion, question) {
        (Opinion::Absent(why), _) if why.starts_with("void") => "void".to_owned(),
        (Opinion::Absent(_), _) => "–".to_owned(),
        (_, Question::Crossover) => crossing(said),
        (Opinion::Untold, Question::Order) => format!("={}", figure(said)),
        (Opinion::Untold, _) => format!("{}, not told", figure(said)),
        (opinion, _) => format!("{}, {}", figure(said), opinion.name()),
    }
}

/// Idle connections, and between which they lie.
fn crossing(said: &Said) -> String {
    let Some(figure) = said.figure else { return "–".to_owned() };
    let whole = |value: f64| grouped(value.max(0.0).round() as u64);
    match (figure.interval, &said.opinion) {
        (_, Opinion::Turns(one)) if one.high <= 0.0 => "never".to_owned(),
        // Beyond what all have measured the model is not asked.
        (_, Opinion::Turns(one)) if figure.value > one.high => format!("above {}", whole(one.low)),
        (Some(one), Opinion::Turns(_)) => format!("{} ({}–{})", whole(figure.value), whole(one.low), whole(one.high)),
        _ => "not told".to_owned(),
    }
}

fn column(head: &str, right: bool) -> Column {
    Column { head: head.to_owned(), right, expendable: 0 }
}
