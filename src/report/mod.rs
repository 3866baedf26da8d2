//! What is made of a [`Record`]: a summary, and its exporters.
//!
//! | idea | file |
//! |---|---|
//! | figures, intervals, ranks: what every exporter stands on | `summary.rs` |
//! | tables as text cells, and the sentences around them | `table.rs` `text.rs` `format.rs` |
//! | one exporter each | `terminal.rs` `json.rs` `csv.rs` `markdown.rs` `html.rs`, with charts by `svg.rs` |

pub mod csv;
mod format;
pub mod html;
pub mod json;
pub mod markdown;
#[cfg(test)]
mod sample;
mod summary;
mod svg;
mod table;
pub mod terminal;
mod text;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub use crate::measure::record::{self, Record};
pub use summary::{Cell, Figures, Noise, Outcome, Standing, Subject, Summary};

/// The files of a result directory, in the order they are written.
pub const FILES: [&str; 4] = ["results.json", "results.csv", "report.md", "report.html"];

/// Writes [`FILES`] into `directory`, which is made if need be. What is there of an earlier call is replaced, each file
/// in one step, so that whoever looks meanwhile sees the old or the new.
///
/// # Errors
/// What the file system said, with the file it was about.
pub fn write(record: &Record, directory: &Path) -> io::Result<()> {
    let summary = Summary::of(record);
    let about = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("cannot write {path}: {error}"))
    };
    fs::create_dir_all(directory).map_err(about(directory))?;
    for name in FILES {
        let (path, unfinished) = (directory.join(name), directory.join(format!("{name}.unfinished")));
        let fill = || {
            let mut out = BufWriter::new(File::create(&unfinished)?);
            match name {
                "results.json" => json::write(record, &mut out)?,
                "results.csv" => csv::write(&summary, &mut out)?,
                "report.md" => out.write_all(markdown::render(&summary).as_bytes())?,
                _ => out.write_all(html::render(&summary).as_bytes())?,
            }
            out.flush()?;
            fs::rename(&unfinished, &path)
        };
        fill().map_err(about(&path))?;
    }
    Ok(())
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
        assert!(names.all(|name| FILES.iter().any(|file| name == *file)), "nothing unfinished is left");
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
