//! A site of records: what was found on each machine, a page for each workload and each mechanism, and every record whole.
//!
//! Machines are never mixed in one ranking: each has a section of its own, and of two that were put through the same
//! workload it is told how often they say the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::charts;
use super::entry::{self, Entry, describe, entries, title, workload};
use super::format::{html as escape, plain, slug};
use super::html;
use super::machines::Machines;
use super::model;
use super::plot::{Drawn, Plot};
use super::summary::{Standing, Subject, Summary};
use super::text;
use crate::measure::file::{cannot, replace};
use crate::measure::record::Record;

/// Writes the site into `directory`, which is made if need be: index.html, `workloads/`, `mechanisms/`, and in `records/`
/// everything that [`write`](super::write) leaves of each record. What is there by the same names is replaced.
///
/// # Errors
/// What the file system said, with the file it was about.
pub fn write(records: &[Record], directory: &Path) -> io::Result<()> {
    let entries = newest_first(records);
    entry::write(&entries, directory, None)?;
    for (place, page) in pages(&entries) {
        let path = directory.join(place);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(cannot("make the directory", parent))?;
        }
        replace(&path, |out| out.write_all(page.as_bytes()))?;
    }
    Ok(())
}

/// The newest first.
fn newest_first(records: &[Record]) -> Vec<Entry<'_>> {
    let mut records = records.iter().collect::<Vec<_>>();
    records.sort_by(|one, other| other.started.cmp(&one.started));
    entries(records)
}

/// Every page but those of the records, with its place in the site.
fn pages(entries: &[Entry<'_>]) -> Vec<(String, String)> {
    let mut workloads = BTreeMap::<String, Vec<&Entry<'_>>>::new();
    let mut mechanisms = BTreeMap::<String, (&Subject, Vec<&Entry<'_>>)>::new();
    for entry in entries {
        workloads.entry(slug(workload(entry.record))).or_default().push(entry);
        for subject in entry.summary.subjects.iter().filter(|subject| is_ours(subject)) {
            let of = &mut mechanisms.entry(slug(&subject.name)).or_insert((subject, Vec::new())).1;
            if of.last().is_none_or(|last| last.name != entry.name) {
                of.push(entry);
            }
        }
    }
    workloads.remove("");
    mechanisms.remove("");
    let mut pages = vec![("index.html".to_owned(), index(entries, &workloads, &mechanisms))];
    let of_workload = |(name, of): (&String, &Vec<&Entry<'_>>)| (format!("workloads/{name}.html"), workload_page(of));
    pages.extend(workloads.iter().map(of_workload));
    pages
        .extend(mechanisms.iter().map(|(name, (_, of))| (format!("mechanisms/{name}.html"), mechanism_page(name, of))));
    pages
}

fn is_ours(subject: &Subject) -> bool {
    !subject.control && subject.class.is_none()
}

fn index(
    entries: &[Entry<'_>],
    workloads: &BTreeMap<String, Vec<&Entry<'_>>>,
    mechanisms: &BTreeMap<String, (&Subject, Vec<&Entry<'_>>)>,
) -> String {
    let mut out = "<h1>How a server may wait for its sockets</h1>\n\
         <p>One server over every mechanism, measured in one binary. Each machine speaks for itself: sizes of different \
         machines are never ranked together. Every record has all of its samples beside its page.</p>\n"
        .to_owned();
    let together = Machines::of(entries);
    for machine in &together.machines {
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&machine.name()));
        for entry in machine.entries.iter().rev() {
            out.push_str("<div class=\"answer\">\n");
            link(&mut out, "h3", &format!("records/{}/report.html", entry.name), title(entry.record));
            found(&mut out, entry);
            out.push_str("</div>\n");
        }
        out.push_str("</section>\n");
    }
    agreement(&mut out, &together);
    let of_workloads = workloads.iter().map(|(name, of)| (format!("workloads/{name}.html"), workload(of[0].record)));
    list(&mut out, "By workload", of_workloads);
    let of_mechanisms =
        mechanisms.iter().map(|(name, (subject, _))| (format!("mechanisms/{name}.html"), &*subject.name));
    list(&mut out, "By mechanism", of_mechanisms);
    html::page("pollmark: how a server may wait", &out)
}

/// What machines say of the same workloads: how often the same.
fn agreement(out: &mut String, machines: &Machines<'_, '_>) {
    let lines = machines.sentences();
    if !lines.is_empty() {
        out.push_str("<section>\n<h2>Whether machines agree</h2>\n");
        lines.iter().for_each(|line| html::paragraph(out, "", line));
        out.push_str("</section>\n");
    }
}

fn workload_page(of: &[&Entry<'_>]) -> String {
    let newest = of[0].record;
    let mut out = String::new();
    back(&mut out);
    let _ = writeln!(out, "<h1>{}</h1>", escape(&plain(title(newest))));
    for (head, said) in text::workload(&of[0].summary).into_iter().skip(1) {
        html::paragraph(&mut out, "", &format!("{head}: {said}"));
    }
    for entry in of {
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&describe(entry.record)));
        found(&mut out, entry);
        model::crossovers(&entry.summary).iter().for_each(|line| html::paragraph(&mut out, "", line));
        entry.record.gates.iter().map(text::gate).for_each(|(verdict, gate)| {
            html::paragraph(&mut out, "note", &format!("Gate, {verdict}: {gate}"));
        });
        // The measured shape beside the expected one.
        for group in charts::groups(&entry.summary).iter().take(1) {
            draw(&mut out, group, |_| true);
        }
        whole(&mut out, entry);
    }
    html::page(&format!("{} · pollmark", workload(newest)), &out)
}

fn mechanism_page(name: &str, of: &[&Entry<'_>]) -> String {
    let mut out = String::new();
    back(&mut out);
    let is_it = |subject: &Subject| is_ours(subject) && slug(&subject.name) == name;
    let shown = of[0].summary.subjects.iter().find(|subject| is_it(subject)).map_or(name, |subject| &subject.name);
    let _ = writeln!(out, "<h1>{}</h1>", escape(&plain(shown)));
    for entry in of {
        let Some(row) = entry.summary.subjects.iter().position(is_it) else { continue };
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&plain(title(entry.record))));
        html::paragraph(&mut out, "kicker", &describe(entry.record));
        html::paragraph(&mut out, "lead", &stands(&entry.summary, row));
        let unmeasured = text::unmeasured(&entry.summary).into_iter();
        let unmeasured =
            unmeasured.filter(|(place, _)| place.starts_with(&format!("{},", entry.summary.subjects[row].name)));
        unmeasured.for_each(|(place, why)| html::paragraph(&mut out, "note", &format!("{place}: {why}")));
        for group in charts::groups(&entry.summary) {
            draw(&mut out, &group, |plot| matches!(plot, Plot::Grid(grid) if grid.row == row));
        }
        whole(&mut out, entry);
    }
    html::page(&format!("{shown} · pollmark"), &out)
}

/// In how many tables a row is best, or not to be told from it, and in how many it loses.
fn stands(summary: &Summary<'_>, row: usize) -> String {
    let of_row = summary.cells.iter().filter(|cell| cell.subject == row);
    let standings = of_row.filter_map(|cell| cell.figures()).map(|figures| figures.standing).collect::<Vec<_>>();
    let leads = standings.iter().filter(|one| matches!(one, Standing::Best | Standing::Indistinguishable)).count();
    let loses = standings.iter().filter(|one| matches!(one, Standing::Rank(_))).count();
    match leads + loses {
        0 => "Not ranked here.".to_owned(),
        tables => format!(
            "In {leads} of {tables} tables it costs least, or is not to be told from what does; in {loses} something costs less."
        ),
    }
}

/// What a record has found, in a few lines.
fn found(out: &mut String, entry: &Entry<'_>) {
    text::finding(&entry.summary).iter().for_each(|line| html::paragraph(out, "lead", line));
    html::paragraph(out, "", &text::headline(&entry.summary));
    let made = format!(
        "pollmark {}, {}. {}",
        entry.record.pollmark_version,
        entry.record.started,
        text::method(&entry.summary)
    );
    html::paragraph(out, "kicker", &made);
}

fn draw(out: &mut String, group: &Drawn, wanted: impl Fn(&Plot) -> bool) {
    let drawn = group.plots.iter().filter(|(plot, _)| wanted(plot)).collect::<Vec<_>>();
    if drawn.is_empty() {
        return;
    }
    html::paragraph(out, "note", &group.note);
    out.push_str("<div class=\"charts\">\n");
    drawn.iter().for_each(|(_, picture)| writeln!(out, "<figure>\n{picture}</figure>").expect("a string takes it"));
    out.push_str("</div>\n");
}

fn whole(out: &mut String, entry: &Entry<'_>) {
    link(out, "p", &format!("../records/{}/report.html", entry.name), "The whole record");
    out.push_str("</section>\n");
}

fn back(out: &mut String) {
    link(out, "p", "../index.html", "All records");
}

fn link(out: &mut String, element: &str, to: &str, text: &str) {
    let _ = writeln!(out, "<{element}><a href=\"{to}\">{}</a></{element}>", escape(&plain(text)));
}

fn list<'a>(out: &mut String, title: &str, links: impl Iterator<Item = (String, &'a str)>) {
    let _ = writeln!(out, "<nav aria-label=\"{title}\"><h2>{title}</h2>\n<ul>");
    links.for_each(|(to, text)| {
        writeln!(out, "<li><a href=\"{to}\">{}</a>", escape(&plain(text))).expect("a string takes it")
    });
    out.push_str("</ul></nav>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn site() -> (Vec<Record>, std::path::PathBuf) {
        let mut records = sample::all().into_iter().map(|(_, record)| record).collect::<Vec<_>>();
        // Another machine, on which the same was measured.
        let mut other = sample::ordinary();
        other.host.cpu = Some("another".to_owned());
        records.push(other);
        (records, std::env::temp_dir().join(format!("pollmark-site-{}", std::process::id())))
    }

    #[test]
    fn every_link_leads_to_a_page_that_is_there_and_nothing_foreign_gets_through() {
        let (records, directory) = site();
        let _ = fs::remove_dir_all(&directory);
        write(&records, &directory).expect("writable");
        let entries = newest_first(&records);
        let pages = pages(&entries);
        let mut links = 0;
        for (place, page) in &pages {
            assert_eq!(fs::read_to_string(directory.join(place)).expect("written"), *page);
            for word in ["<script", "src=", "url(", "alert('x')", "\u{1b}"] {
                assert!(!page.contains(word), "{place}: {word}");
            }
            for link in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().expect("an end")) {
                let target = directory.join(place).parent().expect("a directory").join(link);
                assert!(target.is_file(), "{place}: {link}");
                links += 1;
            }
        }
        assert!(pages.len() > 8 && links > 3 * records.len(), "{} pages, {links} links", pages.len());
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn machines_are_told_apart_and_whether_they_agree_is_told() {
        let (records, _) = site();
        let entries = newest_first(&records);
        let index = &pages(&entries)[0].1;
        assert_eq!(index.matches("<section>\n<h2>").count(), Machines::of(&entries).machines.len() + 1, "{index}");
        assert!(index.contains("Whether machines agree") && index.contains("another"), "{index}");
        assert!(index.contains("mechanisms/epoll.html") && index.contains("workloads/default.html"), "{index}");
        assert!(!index.contains("epoll-a-a"), "a control is no mechanism");
    }
}
