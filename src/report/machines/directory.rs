//! Several machines as a directory: the report, the plots, and every record whole; how it was made, and sums.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::super::entry::{self, RECORDS, describe};
use super::super::format::{markdown as escape, plain, shell};
use super::super::png::Painter;
use super::super::{citation, plots, sums, text as of_one};
use super::text::about;
use super::{Entry, Machines, panels};
use crate::measure::file::{cannot, replace};
use crate::measure::host::sha256;
use crate::report::SUMS;

/// The files of a report of several records, in the order they are written; each record is whole in `records/NAME`.
pub const FILES: [&str; 5] = ["report.html", "report.md", "agreement.json", "CITATION.cff", "REPRODUCE.md"];

/// Writes into `directory`, which is made if need be: [`FILES`], every panel in [`PLOTS`](crate::report::PLOTS), in
/// `records/NAME` everything that [`write`](crate::report::write) leaves of each record, and last [`SUMS`] of all these.
/// What is there by the same names is replaced, and panels that are no longer made are removed. With a `painter` every plot is
/// drawn as PNG, too.
///
/// # Errors
/// What the file system said, with the file it was about.
pub fn write(entries: &[Entry<'_>], directory: &Path, painter: Option<&Painter>) -> io::Result<()> {
    let machines = Machines::of(entries);
    fs::create_dir_all(directory).map_err(cannot("make the directory", directory))?;
    let earlier = sums::begin(directory)?;
    let records = entry::write(entries, directory, painter)?;
    let subjects = panels::subjects(entries.iter());
    let drawn = machines.workloads.iter().flat_map(|together| panels::drawn(together, &subjects)).collect::<Vec<_>>();
    let plots = plots::write(&drawn, directory, painter)?;
    sums::remove(&earlier, &plots, directory)?;
    let files = FILES.map(str::to_owned).into_iter().chain(plots).chain(records).collect::<Vec<_>>();
    for name in FILES {
        replace(&directory.join(name), |out| match name {
            "report.html" => out.write_all(machines.to_html().as_bytes()),
            "report.md" => out.write_all(machines.to_markdown().as_bytes()),
            "agreement.json" => machines.write_json(out),
            "CITATION.cff" => out.write_all(cited(entries, directory)?.as_bytes()),
            _ => out.write_all(reproduce(&machines, &files).as_bytes()),
        })?;
    }
    sums::write(&files, directory)
}

fn cited(entries: &[Entry<'_>], directory: &Path) -> io::Result<String> {
    let sum = |entry: &Entry<'_>| {
        let path = directory.join(RECORDS).join(&entry.name).join("results.json");
        fs::read(&path).map(|bytes| sha256(&bytes)).map_err(cannot("read", &path))
    };
    let sums = entries.iter().map(sum).collect::<io::Result<Vec<_>>>()?;
    let records = entries.iter().map(|entry| entry.record).zip(sums.iter().map(String::as_str));
    Ok(citation::of_several(&records.collect::<Vec<_>>()))
}

/// The command that makes the report anew, in its own directory.
pub(super) fn again(machines: &Machines<'_, '_>) -> String {
    let entries = machines.machines.iter().flat_map(|machine| &machine.entries);
    let records = entries.map(|entry| format!("{RECORDS}/{}", entry.name));
    let words = ["pollmark", "report"].map(str::to_owned).into_iter().chain(records);
    shell(&words.chain(["-o", "again"].map(str::to_owned)).collect::<Vec<_>>())
}

/// REPRODUCE.md: how each record was made, and how this was made of them.
fn reproduce(machines: &Machines<'_, '_>, files: &[String]) -> String {
    let mut out = format!("# To repeat this\n\n{BEGIN}");
    for machine in &machines.machines {
        for entry in &machine.entries {
            let host = &entry.record.host;
            let commit = host.commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
            let _ = write!(
                out,
                "\n## {}\n\nOn {}, by pollmark {}{}, with the seed {}:\n\n    {}\n\n\
                 [What the host was, how the program was built, and all else]({RECORDS}/{}/REPRODUCE.md)\n",
                escape(&format!("{}: {}", machine.letter, about(entry))),
                escape(&describe(entry.record)),
                escape(&entry.record.pollmark_version),
                escape(&commit),
                entry.record.seed,
                plain(&of_one::repeat(&entry.summary)),
                entry.name,
            );
        }
    }
    let _ = write!(
        out,
        "\n## This report\n\nOf the records alone, in this directory:\n\n    {}\n\n## What is in this directory\n\n\
         `sha256sum --check {SUMS}` tells whether the files are as they were written.\n\n",
        plain(&again(machines))
    );
    out.extend(files.iter().map(|name| format!("- `{name}`\n")));
    out
}

const BEGIN: &str = "\
Each record is made on its own machine, and none needs another. On other machines sizes mean nothing: expect that they agree
about who costs less than whom, and about what grows with idle connections, as far as `report.md` tells that these do.
";
