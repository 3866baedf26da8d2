//! What is made of a [`Record`]: a summary, and its exporters.
//!
//! | idea | file |
//! |---|---|
//! | figures, intervals, ranks: what every exporter stands on | `summary.rs` |
//! | what stands against it, and what to do next | `cautions.rs` |
//! | the cost model, as a table and in sentences | `model.rs` |
//! | why rows differ: cells taken apart, and the reasons in sentences | `prediction.rs`, `prediction/` |
//! | latency against what is offered in an open loop, as tables | `latency.rs` |
//! | the connections that were held, as a table | `population.rs` |
//! | tables as text cells, and the sentences around them | `table.rs` `text.rs` `wording.rs` `format.rs` |
//! | the cost model, the verdicts and the latencies, for other programs | `derived.rs` |
//! | two records, the one against the other | `diff.rs`, `diff/` |
//! | many records of one machine, each against the one before | `history.rs`, `history/` |
//! | records of several machines side by side, and where they agree | `machines.rs`, `machines/` |
//! | latencies as other tools read them; those of several loads as one | `hlog.rs` `merge.rs` `percentiles.rs` |
//! | what each figure is made of, trial by trial | `trials.rs` |
//! | one exporter each | `terminal.rs` `json.rs` `csv.rs` `markdown.rs` `html.rs` `latex.rs` |
//! | plots by themselves, also as PNG, and tables in the files of others | `plots.rs` `png.rs` `png/`, `splice.rs` |
//! | which plots are made of it, and how each is drawn | `charts.rs` `charts/`, `plot/` |
//! | how to repeat it, and how to cite it | `reproduce.rs` `citation.rs` |
//! | sums over all that was written, and what of an earlier call is no longer made | `sums.rs` |
//! | what a record consists of, for other programs | `schema.rs` |
//! | several comparisons on one page, or on many; each in a directory by its name | `digest.rs` `site.rs` `entry.rs` |
//! | not of a record, but of what each mechanism says | `semantics/` |
//! | not of a record, but of what the kernel shows of sockets | `watch.rs` `lesson.rs` |
//! | of a record and of a live server: what each mechanism would cost it | `advice.rs` |
//! | not of a record, but of what can be asked for | `workloads.rs` `contestants.rs` |

pub mod advice;
mod cautions;
mod charts;
pub mod citation;
pub mod contestants;
pub mod csv;
mod derived;
mod diff;
pub mod digest;
mod entry;
mod format;
pub mod history;
pub mod hlog;
pub mod html;
pub mod json;
mod latency;
pub mod latex;
pub mod lesson;
pub mod machines;
pub mod markdown;
pub mod merge;
mod model;
pub mod percentiles;
mod plot;
pub mod plots;
pub mod png;
mod population;
mod prediction;
pub mod reproduce;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
pub mod schema;
pub mod semantics;
pub mod site;
pub mod splice;
mod summary;
mod sums;
mod table;
pub mod terminal;
mod text;
pub mod trials;
pub mod watch;
mod wording;
pub mod workloads;

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::Path;

use crate::measure::file::{cannot, replace};
use crate::measure::host::sha256;
use crate::measure::journal;
pub use crate::measure::record::{self, Record};
pub use derived::LATENCY;
pub use diff::{Change, Diff, Growth, Metric, Sign, Verdict};
pub use plots::PLOTS;
use png::Painter;
pub use summary::{Calls, Cell, Figures, Noise, OpenFigures, Outcome, Pairs, Standing, Subject, Summary};
pub use sums::SUMS;

/// The files of a result directory, in the order they are written.
pub const FILES: [&str; 12] = [
    "results.json",
    "results.csv",
    "trials.csv",
    "report.md",
    "report.html",
    "tables.tex",
    "gates.json",
    "fit.json",
    "verdicts.json",
    "explained.json",
    "CITATION.cff",
    "REPRODUCE.md",
];

/// Writes [`FILES`], logs of all latencies in [`LATENCY`], and every plot in [`PLOTS`], into `directory`, which is made if
/// need be; last [`SUMS`] of all these, and of the [parts](journal) of the record if they are there. What is there of an
/// earlier call is replaced, each file in one step, so that whoever looks meanwhile sees the old or the new; logs and plots
/// that an earlier call has written, and this one does not, are removed.
///
/// # Errors
/// What the file system said, with the file it was about.
pub fn write(record: &Record, directory: &Path) -> io::Result<()> {
    write_summary(&Summary::of(record), directory, None).map(drop)
}

/// As [`write()`], and each plot as PNG beside its SVG, drawn by `painter`.
///
/// # Errors
/// What the file system said, with the file it was about; `InvalidInput` for a plot that is too large to be drawn.
pub fn write_with_png(record: &Record, directory: &Path, painter: &Painter) -> io::Result<()> {
    write_summary(&Summary::of(record), directory, Some(painter)).map(drop)
}

/// As [`write()`], and says which files there are now: paths within `directory`.
fn write_summary(summary: &Summary<'_>, directory: &Path, painter: Option<&Painter>) -> io::Result<Vec<String>> {
    let record = summary.record;
    fs::create_dir_all(directory).map_err(cannot("write", directory))?;
    let earlier = sums::begin(directory)?;
    let mut made = derived::write_logs(summary, directory)?;
    let drawn = charts::groups(summary);
    made.extend(plots::write(&drawn, directory, painter)?);
    sums::remove(&earlier, &made, directory)?;
    let files = files(directory, made);
    for name in FILES {
        let record_is = || fs::read(directory.join(FILES[0])).map(|bytes| sha256(&bytes));
        replace(&directory.join(name), |out| match name {
            "results.json" => json::write(record, out),
            "results.csv" => csv::write(summary, out),
            "trials.csv" => trials::write(record, out),
            "report.md" => out.write_all(markdown::render(summary).as_bytes()),
            "report.html" => out.write_all(html::render_with(summary, &drawn).as_bytes()),
            "tables.tex" => out.write_all(latex::render(summary).as_bytes()),
            "gates.json" => journal::write_gates(record, out),
            "verdicts.json" => derived::write_verdicts(summary, out),
            "explained.json" => derived::write_explained(summary, out),
            "CITATION.cff" => out.write_all(citation::render(record, &record_is()?).as_bytes()),
            "REPRODUCE.md" => out.write_all(reproduce::render(summary, &files).as_bytes()),
            _ => derived::write_fit(record, out),
        })?;
    }
    sums::write(&files, directory)?;
    Ok(files.into_iter().chain([SUMS.to_owned()]).collect())
}

/// What the directory consists of: what is written, and what was there before anything was made of it.
fn files(directory: &Path, made: Vec<String>) -> Vec<String> {
    let parts = journal::FILES.iter().filter(|part| !FILES.contains(part) && directory.join(part).exists());
    FILES.iter().chain(parts).map(|name| (*name).to_owned()).chain(made).collect()
}

/// Reads the record at `path`: a `results.json`, or a directory with one, or with the [parts](journal) of one, which is
/// what a comparison has while it runs and when it was killed.
///
/// # Errors
/// `InvalidData` if it is no record, or a broken one; else what reading gave. All name the file.
pub fn read(path: &Path) -> io::Result<Record> {
    let file = if path.is_dir() { path.join(FILES[0]) } else { path.to_owned() };
    if path.is_dir() && !file.exists() && path.join(journal::FILES[0]).exists() {
        return json::bounded(journal::read(path)?).map_err(cannot("read", path));
    }
    File::open(&file).and_then(|opened| json::read(BufReader::new(opened))).map_err(cannot("read", &file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_written_whole_and_again() {
        let directory = std::env::temp_dir().join(format!("pollmark-report-{}", std::process::id()));
        for record in [sample::partial(), sample::ordinary()] {
            write(&record, &directory).expect("a writable directory");
            let read = json::read(io::BufReader::new(File::open(directory.join(FILES[0])).expect("written")));
            assert_eq!(read.expect("ours"), record);
        }
        let mut names = fs::read_dir(&directory).expect("there").map(|entry| entry.expect("an entry").file_name());
        assert!(
            names.all(|name| [LATENCY, PLOTS, SUMS].iter().any(|ours| name == *ours)
                || FILES.iter().any(|file| name == *file)),
            "nothing unfinished is left"
        );
        fs::remove_dir_all(&directory).expect("ours");
    }

    /// A directory for one test, which is not there yet.
    fn scratch(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("pollmark-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    fn logs_in(directory: &Path) -> Vec<String> {
        names_in(directory, LATENCY)
    }

    fn names_in(directory: &Path, of: &str) -> Vec<String> {
        let entries = fs::read_dir(directory.join(of)).into_iter().flatten();
        let mut names = entries.map(|one| one.expect("an entry").file_name().into_string().expect("ours"));
        let mut names = names.by_ref().collect::<Vec<_>>();
        names.sort();
        names
    }

    #[test]
    fn every_file_has_its_sum_and_the_page_to_repeat_it_lists_every_file() {
        let directory = scratch("sums");
        write(&sample::ordinary(), &directory).expect("a writable directory");
        let sums = fs::read_to_string(directory.join(SUMS)).expect("written");
        let page = fs::read_to_string(directory.join("REPRODUCE.md")).expect("written");
        let mut listed = 0;
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").expect("as sha256sum writes it");
            assert_eq!(sum, sha256(&fs::read(directory.join(name)).expect("there")), "{name}");
            assert!(page.contains(&format!("- `{name}`\n")), "{name}");
            listed += 1;
        }
        assert_eq!(listed, FILES.len() + logs_in(&directory).len() + names_in(&directory, PLOTS).len());
        let citation = fs::read_to_string(directory.join("CITATION.cff")).expect("written");
        assert!(citation.contains(&sha256(&fs::read(directory.join(FILES[0])).expect("written"))), "{citation}");
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn logs_that_are_no_longer_made_are_removed_and_what_others_have_put_there_is_not() {
        let directory = scratch("stale");
        write(&sample::ordinary(), &directory).expect("a writable directory");
        let before = logs_in(&directory);
        let theirs = directory.join(LATENCY).join("theirs.hlog");
        fs::write(&theirs, "not ours").expect("writable");
        write(&sample::partial(), &directory).expect("a writable directory");
        let after = logs_in(&directory);
        assert!(after.len() < before.len() && after.contains(&"theirs.hlog".to_owned()), "{after:?}");
        let sums = fs::read_to_string(directory.join(SUMS)).expect("written");
        let ours = after.iter().filter(|name| *name != "theirs.hlog");
        assert!(ours.clone().all(|name| sums.contains(&format!("  {LATENCY}/{name}\n"))), "{sums}");
        assert_eq!(sums.matches(".hlog").count(), ours.count(), "{sums}");
        fs::remove_file(theirs).expect("there");
        assert!(names_in(&directory, PLOTS).iter().any(|name| name == "server-cpu-per-request-0-idle.svg"));
        write(&sample::empty(), &directory).expect("a writable directory");
        assert!(!directory.join(LATENCY).exists() && !directory.join(PLOTS).exists(), "nothing is left in them");
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn a_list_of_sums_from_elsewhere_removes_nothing_outside_of_the_logs() {
        let directory = scratch("elsewhere");
        fs::create_dir_all(directory.join(LATENCY).join("a")).expect("writable");
        let others = ["notes.hlog", "latency/notes.txt", "latency/a/b.hlog"];
        others.iter().for_each(|name| fs::write(directory.join(name), "kept").expect("writable"));
        let lines = others.iter().chain(&["latency/../notes.hlog", "/notes.hlog", "latency/.hlog/../../x.hlog"]);
        let sums = lines.map(|name| format!("00  {name}\n")).collect::<String>();
        fs::write(directory.join(SUMS), sums + "\u{0}\n  \nlatency").expect("writable");
        write(&sample::empty(), &directory).expect("a writable directory");
        assert!(others.iter().all(|name| directory.join(name).exists()));
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[cfg(feature = "png")]
    #[test]
    fn each_plot_has_a_png_beside_it_until_it_is_written_without() {
        let directory = scratch("png");
        let painter = Painter::open().expect("a font, such as fonts-dejavu-core of Debian");
        write_with_png(&sample::partial(), &directory, &painter).expect("a writable directory");
        let (drawn, others): (Vec<_>, Vec<_>) =
            names_in(&directory, PLOTS).into_iter().partition(|name| name.ends_with(".png"));
        assert_eq!(drawn.iter().map(|name| name.replace(".png", ".svg")).collect::<Vec<_>>(), others);
        let [sums, page] =
            [SUMS, "REPRODUCE.md"].map(|name| fs::read_to_string(directory.join(name)).expect("written"));
        for name in &drawn {
            let bytes = fs::read(directory.join(PLOTS).join(name)).expect("there");
            assert!(sums.contains(&format!("{}  {PLOTS}/{name}\n", sha256(&bytes))), "{name}: {sums}");
            assert!(page.contains(&format!("- `{PLOTS}/{name}`\n")), "{name}: {page}");
        }
        write(&sample::partial(), &directory).expect("a writable directory");
        assert_eq!(names_in(&directory, PLOTS), others, "none is left that the sums do not know");
        fs::remove_dir_all(&directory).expect("ours");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let file = std::env::temp_dir().join(format!("pollmark-no-directory-{}", std::process::id()));
        fs::write(&file, "in the way").expect("writable");
        let error = write(&sample::empty(), &file).expect_err("a file is in the way").to_string();
        assert!(error.contains("cannot write") && error.contains("pollmark-no-directory"), "{error}");
        fs::remove_file(&file).expect("ours");
    }
}
