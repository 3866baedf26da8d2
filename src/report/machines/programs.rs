//! Everything that was compared, for programs and spreadsheets.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::super::entry::{RECORDS, title, workload};
use super::{Agreement, Claim, Machine, Machines, Opinion, Said, Tally, Together};
use crate::measure::file::lines;

/// The schema of agreement.json that is written.
pub(super) const SCHEMA: u32 = 1;

impl Machines<'_, '_> {
    /// All of it, for programs: as docs/agreement.schema.json has it.
    pub fn to_json(&self) -> Value {
        json!({
            "schema": SCHEMA,
            "pollmark_version": env!("CARGO_PKG_VERSION"),
            "machines": self.machines.iter().map(machine).collect::<Vec<_>>(),
            "workloads": self.workloads.iter().map(together).collect::<Vec<_>>(),
        })
    }

    /// A line for each claim and machine.
    ///
    /// # Errors
    /// What writing gave.
    pub fn write_csv(&self, to: impl Write) -> io::Result<()> {
        let mut out = csv::Writer::from_writer(to);
        for together in &self.workloads {
            for claim in &together.claims {
                for ((machine, _), said) in together.held.iter().zip(&claim.said) {
                    out.serialize(Line::of(&together.name, claim, machine, said))?;
                }
            }
        }
        out.flush()
    }

    /// As [`to_json`](Machines::to_json): each machine, and each workload, on a line.
    pub(super) fn write_json(&self, out: impl Write) -> io::Result<()> {
        lines(&self.to_json(), &["schema", "pollmark_version", "machines"], out)
    }
}

/// A line of CSV. What is not known, or not of its question, is empty.
#[derive(Serialize)]
struct Line<'a> {
    workload: &'a str,
    question: &'static str,
    subject: &'a str,
    to: &'a str,
    load: &'a str,
    idle_from: Option<u32>,
    idle_to: Option<u32>,
    machine: &'a str,
    says: &'static str,
    figure: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    reason: &'a str,
    agreement: &'static str,
}

impl<'a> Line<'a> {
    fn of(workload: &'a str, claim: &'a Claim, machine: &'a str, said: &'a Said) -> Line<'a> {
        let interval = said.figure.and_then(|figure| figure.interval);
        Line {
            workload,
            question: claim.question.name(),
            subject: &claim.subject,
            to: claim.to.as_deref().unwrap_or_default(),
            load: &claim.load,
            idle_from: claim.idle.first().copied(),
            idle_to: claim.idle.last().copied(),
            machine,
            says: said.opinion.name(),
            figure: said.figure.map(|figure| figure.value),
            low: interval.map(|one| one.low),
            high: interval.map(|one| one.high),
            reason: if let Opinion::Absent(why) = &said.opinion { why } else { "" },
            agreement: claim.over_all().map_or("", Agreement::name),
        }
    }
}

fn machine(machine: &Machine<'_, '_>) -> Value {
    let facts = machine.entries.last().map(|entry| entry.record.host.facts()).unwrap_or_default();
    let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    let records = machine.entries.iter().map(|entry| {
        let record = entry.record;
        json!({
            "path": format!("{RECORDS}/{}", entry.name), "workload": workload(record), "started": record.started,
            "finished": record.finished, "rounds": record.settings.rounds_done, "pollmark_version": record.pollmark_version,
            "commit": record.host.commit, "seed": record.seed,
        })
    });
    json!({
        "machine": machine.letter,
        "facts": facts.collect::<serde_json::Map<_, _>>(),
        "records": records.collect::<Vec<_>>(),
    })
}

fn together(together: &Together<'_, '_>) -> Value {
    let letters = together.letters();
    let held = together
        .held
        .iter()
        .map(|(letter, entry)| json!({"machine": letter, "record": format!("{RECORDS}/{}", entry.name)}));
    let tally = |tally: Tally| {
        json!({
            "machines": tally.machines.iter().map(|at| letters[*at]).collect::<Vec<_>>(), "question": tally.question.name(),
            "asked": tally.asked, "agree": tally.agree, "differ": tally.differ,
            "some_cannot_tell": tally.some_cannot_tell, "none_tells": tally.none_tells,
        })
    };
    json!({
        "workload": together.name,
        "title": title(together.held[0].1.record),
        "held": held.collect::<Vec<_>>(),
        "tallies": together.tallies().into_iter().map(tally).collect::<Vec<_>>(),
        "claims": together.claims.iter().map(|one| claim(one, &letters)).collect::<Vec<_>>(),
    })
}

fn claim(claim: &Claim, letters: &[&str]) -> Value {
    let said = claim.said.iter().zip(letters).map(|(said, letter)| {
        let Said { opinion, figure } = said;
        let why = if let Opinion::Absent(why) = opinion { Some(why) } else { None };
        json!({
            "machine": letter, "says": opinion.name(), "figure": figure.map(|one| one.value),
            "interval": figure.and_then(|one| one.interval).map(|one| [one.low, one.high]), "reason": why,
        })
    });
    json!({
        "question": claim.question.name(), "subject": claim.subject, "to": claim.to, "idle": claim.idle, "load": claim.load,
        "agreement": claim.over_all().map(Agreement::name), "said": said.collect::<Vec<_>>(),
    })
}
