//! The tables of a record, put into a file that somebody else keeps: between two markers, and nowhere else.

use std::fs;
use std::io::{self, Error, ErrorKind, Write};
use std::path::Path;

use super::format::{plain, shell};
use super::machines::Machines;
use super::markdown;
use super::summary::Summary;
use super::text;
use crate::measure::file::{cannot, replace};

/// The line before what is replaced.
pub const BEGIN: &str = "<!-- pollmark: begin -->";
/// The line after it.
pub const END: &str = "<!-- pollmark: end -->";

/// Replaces what is between the lines [`BEGIN`] and [`END`] of the file at `path` by the finding and the tables of the
/// record, with the command that measured it and `command`, program and arguments, which put it there.
///
/// # Errors
/// `InvalidInput` if the file has not these two lines, each once and in this order; else what reading and writing gave. All
/// name the file.
pub fn into_file(summary: &Summary<'_>, command: &[String], path: &Path) -> io::Result<()> {
    put(&block(summary, &shell(command)), path)
}

/// The same of several machines: what each has found with its tables and its command, and whether they agree.
///
/// # Errors
/// As of [`into_file`].
pub fn machines_into_file(machines: &Machines<'_, '_>, command: &[String], path: &Path) -> io::Result<()> {
    let made = format!("{}Put here by:\n\n    {}\n", machines.overview(), plain(&shell(command)));
    put(&made, path)
}

fn put(block: &str, path: &Path) -> io::Result<()> {
    let before = fs::read_to_string(path).map_err(cannot("read", path))?;
    let after = into_text(&before, block).map_err(cannot("put the tables into", path))?;
    replace(path, |out| out.write_all(after.as_bytes()))
}

/// What goes between the markers.
fn block(summary: &Summary<'_>, command: &str) -> String {
    let record = summary.record;
    // Indented, it is code, and nothing in it is markup.
    format!(
        "{}Measured {} by pollmark {}, and put here by the second command:\n\n    {}\n    {}\n",
        markdown::overview(summary),
        plain(&record.started),
        plain(&record.pollmark_version),
        plain(&text::repeat(summary)),
        plain(command)
    )
}

fn into_text(text: &str, block: &str) -> io::Result<String> {
    let ends = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = text.split_inclusive('\n').collect::<Vec<_>>();
    let place = |marker: &str| {
        let mut places = lines.iter().enumerate().filter(|(_, line)| line.trim() == marker).map(|(at, _)| at);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (first, _) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the line {marker} is {}: put {BEGIN} and {END} each once on a line of its own, where the tables are to be",
                    if first.is_some() { "there more than once" } else { "not there" }
                ),
            )),
        }
    };
    let (begin, end) = (place(BEGIN)?, place(END)?);
    if end < begin {
        return Err(Error::new(ErrorKind::InvalidInput, format!("the line {END} stands before the line {BEGIN}")));
    }
    let block = format!("\n{block}\n").replace('\n', ends);
    Ok([&lines[..=begin].concat(), &block, &lines[end..].concat()].map(String::as_str).concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn only_what_is_between_the_markers_is_replaced_and_again_by_the_same() {
        for ends in ["\n", "\r\n"] {
            let text = ["# Title", BEGIN, "old", END, "the rest"].join(ends);
            let once = into_text(&text, "new\n").expect("both markers");
            assert_eq!(once, ["# Title", BEGIN, "", "new", "", END, "the rest"].join(ends));
            assert_eq!(into_text(&once, "new\n").expect("both markers"), once);
        }
    }

    #[test]
    fn a_file_without_its_markers_is_left_alone_and_told_what_to_do() {
        for (text, why) in [
            ("no markers", "not there"),
            (&*format!("{BEGIN}\n"), END),
            (&*format!("{BEGIN}\n{BEGIN}\n{END}"), "more than once"),
            (&*format!("{END}\n{BEGIN}\n"), "stands before"),
        ] {
            let error = into_text(text, "new").expect_err("nowhere to put it");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn the_block_has_both_commands_and_nothing_foreign_ends_it() {
        let record = sample::hostile();
        let block = block(&Summary::of(&record), &format!("pollmark report {END}\n{END}"));
        assert!(block.contains("\n    pollmark compare ") && block.contains("\n    pollmark report "), "{block}");
        assert!(block.lines().all(|line| line.trim() != END), "{block}");
    }
}
