//! `pollmark report`: the tables of a comparison made earlier, here or by somebody else.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::printing::{Format, Printing, Rows};
use crate::report::png::Painter;
use crate::report::{Summary, csv, json, markdown, read, schema, splice, terminal, write, write_with_png};

/// Shows a comparison made earlier, from its results.json, and writes its report anew if asked.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark report results.json                  the tables, on the terminal
  pollmark report results/                      the same, of a directory `pollmark compare` has written
  pollmark report results/ --format csv         a line for each cell, for a spreadsheet
  pollmark report results.json -o again         also report.html, report.md, results.csv, trials.csv, tables.tex
                                                and plots/*.svg, in the directory `again`
  pollmark report results.json --out again --png
                                                also plots/*.png, for what takes no SVG
  pollmark report results/ --splice README.md   also puts the tables into README.md, between the two lines
                                                <!-- pollmark: begin --> and <!-- pollmark: end -->
  pollmark report --schema                      what a results.json consists of, as JSON Schema")]
pub(super) struct Arguments {
    /// The results.json, or the directory it is in; or that of a comparison that still runs, or was killed.
    #[arg(required_unless_present = "schema")]
    record: Option<PathBuf>,
    /// Write the report into this directory.
    #[arg(long, short, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Draw each plot as PNG, too, beside its SVG and with the same data in it. Takes a font, and a pollmark that was built
    /// with the feature `png`.
    #[arg(long, requires = "out")]
    png: bool,
    /// Put the tables into this Markdown file, between its two marker lines, with the commands that made them.
    #[arg(long, value_name = "FILE")]
    splice: Option<PathBuf>,
    #[command(flatten)]
    printing: Printing<Rows>,
    /// Print the JSON Schema of results.json, and nothing else.
    #[arg(long, exclusive = true)]
    schema: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(from) = &arguments.record else {
        return Ok(io::stdout().lock().write_all(schema::RESULTS.as_bytes())?);
    };
    let painter = arguments.png.then(Painter::open).transpose().map_err(Failure::usage)?;
    let record = read(from).map_err(Failure::usage)?;
    let summary = Summary::of(&record);
    print(&summary, arguments.printing.format)?;
    if let Some(directory) = &arguments.out {
        let written = match &painter {
            Some(painter) => write_with_png(&record, directory, painter),
            None => write(&record, directory),
        };
        written.map_err(Failure::failed)?;
    }
    if let Some(file) = &arguments.splice {
        let words = ["pollmark".into(), "report".into(), path(from), "--splice".into(), path(file)];
        splice::into_file(&summary, &words, file).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => Failure::usage(error),
            _ => Failure::failed(error),
        })?;
    }
    Ok(())
}

/// A record on stdout, in the form that is asked for.
pub(super) fn print(summary: &Summary<'_>, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => out.write_all(terminal::render(summary, super::style()).as_bytes())?,
        Format::Markdown => out.write_all(markdown::render(summary).as_bytes())?,
        Format::Json => json::write(summary.record, &mut out)?,
        Format::Csv => csv::write(summary, &mut out)?,
    }
    out.flush()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
