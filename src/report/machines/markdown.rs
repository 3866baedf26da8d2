//! report.md of several machines, and what a README shows of it.

use super::super::entry::{RECORDS, describe};
use super::super::format::{markdown as escape, plain};
use super::super::markdown::{draw, overview, paragraphs};
use super::super::text as of_one;
use super::Machines;
use super::directory::again;
use super::text::{about, answer};

impl Machines<'_, '_> {
    /// The whole report.
    pub fn to_markdown(&self) -> String {
        let mut out = format!("# {}\n\n", escape(&self.title()));
        out.extend(self.machines.iter().map(|machine| format!("- {}\n", escape(&machine.name()))));
        out.push('\n');
        paragraphs(&mut out, self.closing());
        self.agreement(&mut out);
        for machine in &self.machines {
            out.push_str(&format!("## {}\n\n", escape(&machine.name())));
            for entry in &machine.entries {
                out.push_str(&format!("### {}\n\n", escape(&about(entry))));
                paragraphs(&mut out, answer(entry));
                super::super::table::overviews(&entry.summary).iter().for_each(|table| draw(&mut out, table));
                out.push_str(&format!("[The whole record]({RECORDS}/{}/report.md)\n\n", entry.name));
            }
        }
        out.push_str("## The machines\n\n");
        draw(&mut out, &self.system());
        draw(&mut out, &self.records());
        out.push_str(&format!("## How to repeat\n\n    {}\n", plain(&again(self))));
        out
    }

    /// The finding and the tables of each machine, then whether they agree: what a README shows.
    pub fn overview(&self) -> String {
        let mut out = String::new();
        for machine in &self.machines {
            for entry in &machine.entries {
                let name = format!("{}: {}, {}", machine.letter, describe(entry.record), about(entry));
                paragraphs(&mut out, [name]);
                out.push_str(&overview(&entry.summary));
                out.push_str(&format!("    {}\n\n", plain(&of_one::repeat(&entry.summary))));
            }
        }
        paragraphs(&mut out, self.closing());
        self.workloads.iter().filter_map(|together| together.agreement()).for_each(|table| draw(&mut out, &table));
        out
    }

    fn agreement(&self, out: &mut String) {
        for together in self.workloads.iter().filter(|together| together.held.len() > 1) {
            out.push_str(&format!("## {}\n\n", escape(&format!("{}: {}", together.name, together.title))));
            let tables = [together.agreement(), together.opposites(), together.shapes(), together.crossovers()];
            tables.iter().flatten().for_each(|table| draw(out, table));
        }
    }
}
