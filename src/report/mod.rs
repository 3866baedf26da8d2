//! What is made of a [`Record`]: a summary, and its exporters.
//!
//! | idea | file |
//! |---|---|
//! | figures, intervals, ranks: what every exporter stands on | `summary.rs` |
//! | the cost model, as a table and in sentences | `model.rs` |
//! | latency against what is offered in an open loop, as tables | `latency.rs` |
//! | the connections that were held, as a table | `population.rs` |
//! | tables as text cells, and the sentences around them | `table.rs` `text.rs` `wording.rs` `format.rs` |
//! | the cost model, the verdicts and the latencies, for other programs | `derived.rs` |
//! | two records, the one against the other | `diff.rs`, `diff/` |
//! | latencies as other tools read them; those of several loads as one | `hlog.rs` `merge.rs` `percentiles.rs` |
//! | one exporter each | `terminal.rs` `json.rs` `csv.rs` `markdown.rs` `html.rs`, with charts by `svg.rs` |
//! | several comparisons on one page | `digest.rs` |
//! | not of a record, but of what each mechanism says | `semantics/` |
//! | not of a record, but of what can be asked for | `workloads.rs` `contestants.rs` |

pub mod contestants;
pub mod csv;
mod derived;
mod diff;
pub mod digest;
mod format;
pub mod hlog;
pub mod html;
pub mod json;
mod latency;
pub mod markdown;
pub mod merge;
mod model;
pub mod percentiles;
mod population;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
pub mod semantics;
mod summary;
mod svg;
mod table;
pub mod terminal;
mod text;
mod wording;
pub mod workloads;

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::Path;

use crate::measure::file::{cannot, replace};
use crate::measure::journal;
pub use crate::measure::record::{self, Record};
pub use derived::LATENCY;
pub use diff::{Change, Diff, Growth, Metric, Sign, Verdict};
pub use summary::{Cell, Figures, Noise, OpenFigures, Outcome, Pairs, Standing, Subject, Summary};

/// The files of a result directory, in the order they are written.
pub const FILES: [&str; 7] =
    ["results.json", "results.csv", "report.md", "report.html", "gates.json", "fit.json", "verdicts.json"];

/// Writes [`FILES`], and logs of all latencies in [`LATENCY`], into `directory`, which is made if need be. What is there of an earlier call is replaced, each file
/// in one step, so that whoever looks meanwhile sees the old or the new.
///
/// # Errors
/// What the file system said, with the file it was about.
pub fn write(record: &Record, directory: &Path) -> io::Result<()> {
    let summary = Summary::of(record);
    fs::create_dir_all(directory).map_err(cannot("write", directory))?;
    for name in FILES {
        replace(&directory.join(name), |out| match name {
            "results.json" => json::write(record, out),
            "results.csv" => csv::write(&summary, out),
            "report.md" => out.write_all(markdown::render(&summary).as_bytes()),
            "report.html" => out.write_all(html::render(&summary).as_bytes()),
            "gates.json" => journal::write_gates(record, out),
            "verdicts.json" => derived::write_verdicts(&summary, out),
            _ => derived::write_fit(record, out),
        })?;
    }
    derived::write_logs(&summary, directory)
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
            names.all(|name| name == LATENCY || FILES.iter().any(|file| name == *file)),
            "nothing unfinished is left"
        );
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
