//! SHA256SUMS: that nothing of a result directory was changed since, and what an earlier call has left in it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::derived::LATENCY;
use super::plots::PLOTS;
use crate::measure::file::{cannot, replace};
use crate::measure::host::sha256;

/// The file with a sum for each other file of a result directory, as sha256sum(1) reads it.
pub const SUMS: &str = "SHA256SUMS";

/// Removes the sums, which from now on are true of nothing, and says of which files they were.
pub(super) fn begin(directory: &Path) -> io::Result<Vec<String>> {
    let path = directory.join(SUMS);
    let sums = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(cannot("read", &path))?,
    };
    fs::remove_file(&path).map_err(cannot("remove", &path))?;
    let sums = String::from_utf8_lossy(&sums);
    Ok(sums.lines().filter_map(|line| Some(line.split_once("  ")?.1.to_owned())).collect())
}

/// Removes the logs and plots of an earlier call that are none of this one, and their directories if they are empty then.
pub(super) fn remove(earlier: &[String], made: &[String], directory: &Path) -> io::Result<()> {
    for name in earlier.iter().filter(|name| is_made(name) && !made.contains(name)) {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("remove", &path)(error)),
            _ => {}
        }
    }
    // What others have put there keeps it, and that is as it should be.
    for name in [LATENCY, PLOTS] {
        let _ = fs::remove_dir(directory.join(name));
    }
    Ok(())
}

/// Of a list that may be from anywhere: a log or a plot, in the directory of these, and by a name that cannot lead out of it.
fn is_made(name: &str) -> bool {
    let ours = |c: char| c.is_ascii_alphanumeric() || c == '-';
    [(LATENCY, ".hlog"), (PLOTS, ".svg"), (PLOTS, ".png")].iter().any(|(directory, ending)| {
        let stem = name.strip_prefix(directory).and_then(|name| name.strip_prefix('/')?.strip_suffix(ending));
        stem.is_some_and(|stem| !stem.is_empty() && stem.chars().all(ours))
    })
}

/// Writes the sum of each of these files.
pub(super) fn write(files: &[String], directory: &Path) -> io::Result<()> {
    let sum = |name: &String| {
        let path = directory.join(name);
        fs::read(&path).map(|bytes| format!("{}  {name}\n", sha256(&bytes))).map_err(cannot("read", &path))
    };
    let sums = files.iter().map(sum).collect::<io::Result<String>>()?;
    replace(&directory.join(SUMS), |out| out.write_all(sums.as_bytes()))
}
