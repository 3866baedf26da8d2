//! `pollmark site`: records as pages that link to one another, for whoever serves files.

use std::io::{self, Write};
use std::path::PathBuf;

use super::Failure;
use crate::report::{read, site};

/// Makes a site of records: an index by machine, a page for each workload and each mechanism, and every record whole.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark site results/                             of one comparison, in the directory `public`
  pollmark site linux/ freebsd/ macos/ --out site    of many, of several machines
  xdg-open public/index.html                         what it needs is no server, but a browser")]
pub(super) struct Arguments {
    /// The results.json of each, or the directory it is in.
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Where to put it.
    #[arg(long, short, value_name = "DIRECTORY", default_value = "public")]
    out: PathBuf,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let records =
        arguments.records.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    site::write(&records, &arguments.out).map_err(Failure::failed)?;
    Ok(writeln!(io::stdout(), "{}", arguments.out.join("index.html").display())?)
}
