//! report.html of several machines: where they agree, their panels side by side, and the answer of each.

use std::fmt::Write;

use super::super::charts::Scale;
use super::super::entry::RECORDS;
use super::super::format::{grouped, html as escape, plain};
use super::super::html::{draw, figure, looks, pairs, paragraph, rows, scripted};
use super::super::summary::Subject;
use super::super::table::{self, Table};
use super::super::text::{finding, headline};
use super::directory::{FILES, again};
use super::panels::{self, Panels};
use super::text::{LEGEND, about, answer};
use super::{Machine, Machines, Together};
use crate::report::SUMS;

/// So many rows of a table are for readers; beyond that, they are for programs.
const MOST_ROWS: usize = 400;

impl Machines<'_, '_> {
    /// The whole page.
    pub fn to_html(&self) -> String {
        let subjects = panels::subjects(self.machines.iter().flat_map(|machine| machine.entries.iter().copied()));
        let mut out = String::new();
        looks(&mut out, &subjects);
        let title = self.title();
        first_screen(&mut out, self, &title, &subjects);
        for (at, together) in self.workloads.iter().enumerate().filter(|(_, together)| together.held.len() > 1) {
            workload(&mut out, together, at, &subjects);
        }
        for machine in &self.machines {
            by_itself(&mut out, machine, &subjects);
        }
        out.push_str("<section id=\"system\">\n");
        heading(&mut out, "h2", &self.system().title);
        draw(&mut out, &subjects, &self.system());
        heading(&mut out, "h3", &self.records().title);
        draw(&mut out, &subjects, &self.records());
        out.push_str("</section>\n");
        how_to_repeat(&mut out, self);
        scripted(&format!("{title} · pollmark"), &out)
    }

    /// What was done, and on how many machines.
    pub(super) fn title(&self) -> String {
        let what = match self.workloads.as_slice() {
            [one] => plain(&one.title),
            several => format!("{} workloads", several.len()),
        };
        match self.machines.len() {
            1 => format!("{what}, on one machine"),
            several => format!("{what}, on {several} machines"),
        }
    }
}

fn first_screen(out: &mut String, machines: &Machines<'_, '_>, title: &str, subjects: &[Subject]) {
    heading(out, "h1", title);
    let names = machines.machines.iter().map(|machine| (machine.letter.clone(), machine.name()));
    let names =
        names.map(|(letter, name)| (letter.clone(), name.trim_start_matches(&format!("{letter}: ")).to_owned()));
    pairs(out, "The machines", &names.collect::<Vec<_>>());
    out.push_str("<section class=\"answer\" aria-labelledby=\"answer\">\n<h2 id=\"answer\">The answer of each, and where they agree</h2>\n");
    for machine in &machines.machines {
        // The newest of each workload; all of them stand below.
        let newest = |entry: &&&super::Entry<'_>| machines.speaks(machine, entry);
        for entry in machine.entries.iter().filter(newest) {
            let found = finding(&entry.summary).unwrap_or_else(|| headline(&entry.summary));
            paragraph(out, "lead", &format!("{}: {found}", machine.letter));
        }
    }
    let closing = machines.closing();
    closing.iter().filter(|line| *line != LEGEND).for_each(|line| paragraph(out, "", line));
    out.push_str("</section>\n");
    if machines.machines.len() > 1 {
        out.push_str("<section class=\"scope\" aria-labelledby=\"scope\">\n<h2 id=\"scope\">How far it goes</h2>\n");
        paragraph(out, "", LEGEND);
        out.push_str("</section>\n");
    }
    out.push_str("<nav aria-label=\"On this page\"><ul>\n");
    for (at, together) in machines.workloads.iter().enumerate().filter(|(_, one)| one.held.len() > 1) {
        link(out, &format!("#workload-{at}"), &together.name);
    }
    for machine in &machines.machines {
        link(out, &format!("#machine-{}", machine.letter), &format!("{} by itself", machine.letter));
    }
    link(out, "#system", "The machines");
    link(out, "#repeat", "How to repeat");
    out.push_str("</ul></nav>\n");
    rows(out, subjects);
}

/// One workload: whether the machines agree, the panels, and everything that was compared.
fn workload(out: &mut String, together: &Together<'_, '_>, at: usize, subjects: &[Subject]) {
    let _ = writeln!(out, "<section id=\"workload-{at}\">");
    heading(out, "h2", &format!("{}: {}", together.name, together.title));
    for table in [together.agreement(), together.opposites()].into_iter().flatten() {
        titled(out, subjects, &table);
    }
    for panels in panels::all(together, subjects) {
        beside(out, together, &panels);
    }
    for table in [together.shapes(), together.crossovers()].into_iter().flatten() {
        titled(out, subjects, &table);
    }
    if let Some(mut table) = together.every_order() {
        let more = table.rows.len().saturating_sub(MOST_ROWS);
        table.rows.truncate(MOST_ROWS);
        let _ = writeln!(out, "<details><summary>{}</summary>", escape(&table.title));
        draw(out, subjects, &table);
        if more > 0 {
            paragraph(out, "note", &format!("{} more rows are in agreement.json.", grouped(more as u64)));
        }
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
}

/// Panels of one kind: the same plot of each machine side by side, one plot below the other.
fn beside(out: &mut String, together: &Together<'_, '_>, panels: &Panels) {
    heading(out, "h3", &panels.title);
    paragraph(out, "note", &panels.note);
    let shared = if panels.scale == Scale::Shared { " shared" } else { "" };
    let _ = writeln!(out, "<div class=\"panels{shared}\">");
    for row in &panels.rows {
        out.push_str("<div class=\"charts beside\">\n");
        for ((letter, _), panel) in together.held.iter().zip(&row.panels) {
            match panel {
                Some((plot, picture)) => figure(out, plot, picture),
                None => paragraph(out, "note", &format!("{letter}: nothing to draw of: {}.", row.title)),
            }
        }
        out.push_str("</div>\n");
    }
    out.push_str("</div>\n");
}

/// What a machine says by itself: the answer of each of its records, with its tables.
fn by_itself(out: &mut String, machine: &Machine<'_, '_>, subjects: &[Subject]) {
    let _ = writeln!(out, "<section id=\"machine-{}\">", machine.letter);
    heading(out, "h2", &machine.name());
    for entry in &machine.entries {
        heading(out, "h3", &about(entry));
        answer(entry).iter().for_each(|line| paragraph(out, "", line));
        table::leaders(&entry.summary).iter().for_each(|table| titled(out, subjects, table));
        let overviews = table::overviews(&entry.summary);
        if !overviews.is_empty() {
            out.push_str("<details><summary>What each costs, on this machine</summary>\n");
            overviews.iter().for_each(|table| titled(out, subjects, table));
            out.push_str("</details>\n");
        }
        let to = format!("{RECORDS}/{}/report.html", entry.name);
        let _ = writeln!(out, "<p><a href=\"{to}\">The whole record</a></p>");
    }
    out.push_str("</section>\n");
}

fn how_to_repeat(out: &mut String, machines: &Machines<'_, '_>) {
    out.push_str("<section id=\"repeat\">\n<h2>How to repeat</h2>\n");
    paragraph(out, "", "How each record was made stands beside it; this page is made of the records by:");
    let _ = writeln!(out, "<pre><code>{}</code></pre>\n<ul>", escape(&again(machines)));
    for machine in &machines.machines {
        for entry in &machine.entries {
            let to = format!("{RECORDS}/{}/REPRODUCE.md", entry.name);
            link(out, &to, &format!("{}: {}", machine.letter, about(entry)));
        }
    }
    let links = FILES.iter().filter(|name| **name != "report.html").chain([&SUMS]);
    let links = links.map(|name| format!("<a href=\"{name}\">{name}</a>")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        out,
        "</ul>\n<p>Beside this page, where it has not been taken away from them: {links}. Every sample is in the records, every \
         panel in the directory plots.</p>\n</section>"
    );
}

fn titled(out: &mut String, subjects: &[Subject], table: &Table) {
    heading(out, "h4", &table.title);
    draw(out, subjects, table);
}

fn heading(out: &mut String, element: &str, text: &str) {
    let _ = writeln!(out, "<{element}>{}</{element}>", escape(&plain(text)));
}

fn link(out: &mut String, to: &str, text: &str) {
    let _ = writeln!(out, "<li><a href=\"{to}\">{}</a>", escape(&plain(text)));
}
