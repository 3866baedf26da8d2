//! `pollmark report`: the tables of a comparison made earlier, here or by somebody else.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Failure;
use super::printing::{Format, Printing, Rows};
use crate::measure::Record;
use crate::report::machines::{self, Machines};
use crate::report::png::Painter;
use crate::report::{Summary, csv, json, markdown, read, schema, splice, terminal, write, write_with_png};

/// Shows comparisons made earlier, from the results.json of each, and writes their report anew if asked.
///
/// Of records of several machines each machine stands by itself, and then it is told where they agree: who costs less than
/// whom, what grows, where costs cross. No size of one machine is held against one of another.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark report results.json                 the tables, on the terminal
  pollmark report results/                     the same, of a directory that `compare` has written
  pollmark report results/ --format csv        a line for each cell, for a spreadsheet
  pollmark report results/ -o again            also report.html, report.md, results.csv, trials.csv,
                                               tables.tex and plots/*.svg, in the directory `again`
  pollmark report results/ -o again --png      also plots/*.png, for what takes no SVG
  pollmark report results/ -o again --author 'Ada Lovelace'
                                               with whom to cite
  pollmark report linux/ freebsd/ -o both      of two machines: what each finds, panels side by
                                               side, where they agree, and both records whole
  pollmark report results/ --splice README.md  also puts the tables into README.md, between
                                               <!-- pollmark: begin --> and <!-- pollmark: end -->
  pollmark report --schema                     what a results.json consists of, as JSON Schema")]
pub(super) struct Arguments {
    /// The results.json of each, or the directory it is in; or that of a comparison that still runs, or was killed.
    #[arg(required_unless_present = "schema", value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Write the report into this directory.
    #[arg(long, short, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Who has measured this, as they want to be cited: said in CITATION.cff and in the record that is written. May be given
    /// several times.
    #[arg(long, value_name = "NAME", requires = "out")]
    author: Vec<String>,
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
    if arguments.schema {
        return Ok(io::stdout().lock().write_all(schema::RESULTS.as_bytes())?);
    }
    let painter = arguments.png.then(Painter::open).transpose().map_err(Failure::usage)?;
    let paths = &arguments.records;
    let mut records = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    if !arguments.author.is_empty() {
        records.iter_mut().for_each(|record| record.authors.clone_from(&arguments.author));
    }
    match records.as_slice() {
        [record] => one(record, &arguments, painter.as_ref()),
        _ => several(&records, &arguments, painter.as_ref()),
    }
}

fn one(record: &Record, arguments: &Arguments, painter: Option<&Painter>) -> Result<(), Failure> {
    let summary = Summary::of(record);
    print(&summary, arguments.printing.format)?;
    if let Some(directory) = &arguments.out {
        let written = match painter {
            Some(painter) => write_with_png(record, directory, painter),
            None => write(record, directory),
        };
        written.map_err(Failure::failed)?;
    }
    spliced(arguments, |command, file| splice::into_file(&summary, command, file))
}

fn several(records: &[Record], arguments: &Arguments, painter: Option<&Painter>) -> Result<(), Failure> {
    super::each_once(records, &arguments.records)?;
    let entries = machines::entries(records);
    let machines = Machines::of(&entries);
    let mut out = io::stdout().lock();
    match arguments.printing.format {
        Format::Table => out.write_all(machines.render(super::style()).as_bytes())?,
        Format::Markdown => out.write_all(machines.to_markdown().as_bytes())?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&machines.to_json()).expect("plain fields"))?,
        Format::Csv => machines.write_csv(&mut out)?,
    }
    out.flush()?;
    if let Some(directory) = &arguments.out {
        machines::write(&entries, directory, painter).map_err(Failure::failed)?;
    }
    spliced(arguments, |command, file| splice::machines_into_file(&machines, command, file))
}

/// Puts the tables where they are asked for, with the command that does so.
fn spliced(arguments: &Arguments, put: impl FnOnce(&[String], &Path) -> io::Result<()>) -> Result<(), Failure> {
    let Some(file) = &arguments.splice else { return Ok(()) };
    let words = ["pollmark", "report"].map(str::to_owned).into_iter();
    let words = words.chain(arguments.records.iter().map(|record| path(record)));
    let words = words.chain(["--splice".to_owned(), path(file)]).collect::<Vec<_>>();
    put(&words, file).map_err(|error| match error.kind() {
        ErrorKind::InvalidInput => Failure::usage(error),
        _ => Failure::failed(error),
    })
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
