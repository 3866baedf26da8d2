//! Records of several machines side by side: each machine by itself, and then where they agree.
//!
//! No ranking has rows of two machines, and no size of one is held against one of another. What may be held against one
//! another is what each says of itself:
//!
//! - (a) the order: which of two rows of a table costs less, by the rule of its own ranks;
//! - (b) the shape: whether a row costs at least twice as much with the most idle connections as with the fewest, of those
//!   populations that all of the machines have;
//! - (c) the crossover: up to how many idle connections a mechanism that scans costs less, by the cost model, within what
//!   all of the machines have measured.
//!
//! | idea | file |
//! |---|---|
//! | the machines, and their records | here |
//! | what each says, and whether two say the same | `claims.rs` |
//! | the tables | `tables.rs` |
//! | the sentences, and the terminal | `text.rs` |
//! | one exporter each | `markdown.rs` `page.rs` `programs.rs` |
//! | the plots: a panel for each machine | `panels.rs` |
//! | all of it as a directory | `directory.rs` |

mod claims;
mod directory;
mod markdown;
mod page;
mod panels;
mod programs;
mod tables;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

pub use super::entry::{Entry, entries};
use super::entry::{by_machine, title, workload};
pub use claims::{Agreement, Claim, Opinion, Question, Said, Tally};
pub use directory::{FILES, write};

/// Several records, by machine and by workload.
#[derive(Clone, Debug)]
pub struct Machines<'e, 'a> {
    /// Every machine, in the order of the first record of each.
    pub machines: Vec<Machine<'e, 'a>>,
    /// Every workload, by name.
    pub workloads: Vec<Together<'e, 'a>>,
}

/// A machine, or several of a kind: a record does not say which.
#[derive(Clone, Debug)]
pub struct Machine<'e, 'a> {
    /// What it is called by: A, B, C.
    pub letter: String,
    /// Its records, the oldest first.
    pub entries: Vec<&'e Entry<'a>>,
}

/// One workload, on every machine that has a record of it.
#[derive(Clone, Debug)]
pub struct Together<'e, 'a> {
    /// Its name.
    pub name: String,
    /// What it does, in a line.
    pub title: String,
    /// The newest record of each machine, which speaks for it, with the letter of the machine.
    pub held: Vec<(String, &'e Entry<'a>)>,
    /// What at least two of them can be asked; of one machine alone nothing.
    pub claims: Vec<Claim>,
}

impl<'e, 'a> Machines<'e, 'a> {
    /// Of records in any order: the machine of the first is A.
    ///
    /// ```no_run
    /// use std::path::Path;
    /// use pollmark::report::{self, machines::{self, Machines}};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let records = [report::read(Path::new("linux"))?, report::read(Path::new("freebsd"))?];
    /// let entries = machines::entries(&records);
    /// let machines = Machines::of(&entries);
    /// println!("{}", machines.render(report::terminal::Style::default()));
    /// machines::write(&entries, Path::new("both"), None)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(entries: &'e [Entry<'a>]) -> Machines<'e, 'a> {
        let machine = |(at, mut entries): (usize, Vec<&'e Entry<'a>>)| {
            entries.sort_by(|one, other| one.record.started.cmp(&other.record.started));
            Machine { letter: letter(at), entries }
        };
        let machines = by_machine(entries).into_iter().enumerate().map(machine).collect::<Vec<_>>();
        let mut held = BTreeMap::<&str, Vec<(String, &'e Entry<'a>)>>::new();
        for machine in &machines {
            // The newest first, so that the others of the same workload are passed over.
            for entry in machine.entries.iter().rev() {
                let of = held.entry(workload(entry.record)).or_default();
                if of.last().is_none_or(|(letter, _)| *letter != machine.letter) {
                    of.push((machine.letter.clone(), entry));
                }
            }
        }
        let together = |(name, held): (&str, Vec<(String, &'e Entry<'a>)>)| {
            let summaries = held.iter().map(|(_, entry)| &entry.summary).collect::<Vec<_>>();
            let title = title(held[0].1.record).to_owned();
            Together { name: name.to_owned(), title, claims: claims::all(&summaries), held }
        };
        Machines { workloads: held.into_iter().map(together).collect(), machines }
    }
}

impl Machines<'_, '_> {
    /// Whether this record of the machine is the newest of its workload, which speaks for it.
    fn speaks(&self, machine: &Machine<'_, '_>, entry: &Entry<'_>) -> bool {
        let held = self.workloads.iter().flat_map(|together| &together.held);
        held.into_iter().any(|(letter, one)| *letter == machine.letter && one.name == entry.name)
    }
}

impl Together<'_, '_> {
    /// The letters of its machines.
    fn letters(&self) -> Vec<&str> {
        self.held.iter().map(|(letter, _)| letter.as_str()).collect()
    }

    /// How often each two of its machines agree about each question that can be asked, and, of more than two, all of them.
    pub fn tallies(&self) -> Vec<Tally> {
        claims::tallies(&self.claims, self.held.len())
    }

    fn of(&self, question: Question) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| claim.question == question)
    }
}

/// A, B, …, Z, AA, AB, …: as the columns of a sheet.
fn letter(at: usize) -> String {
    let last = char::from(b'A' + (at % 26) as u8);
    if at < 26 { last.to_string() } else { format!("{}{last}", letter(at / 26 - 1)) }
}
