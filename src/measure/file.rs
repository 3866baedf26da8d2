//! Files of a record: whole or not there, read by people too, and named by errors.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// Replaces the file at `path` in one step, so that whoever looks meanwhile sees the old or the new.
///
/// # Errors
/// What the file system said, with the file it was about.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = path.with_file_name(name);
    let write = || {
        let mut out = BufWriter::new(File::create(&unfinished)?);
        fill(&mut out)?;
        out.flush()?;
        drop(out);
        fs::rename(&unfinished, path)
    };
    write().map_err(cannot("write", path))
}

/// The same error, which also says what was tried with which file.
pub(crate) fn cannot(what: &str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

/// Writes an object: each field on a line of its own, and each element of a list. Fields of `first` go before the others.
///
/// # Errors
/// What writing gave.
pub(crate) fn lines(object: &impl Serialize, first: &[&str], mut out: impl Write) -> io::Result<()> {
    let fields = match serde_json::to_value(object)? {
        Value::Object(fields) => fields,
        other => unreachable!("a struct is an object, not {other}"),
    };
    let last = fields.len() - 1;
    let others = fields.keys().map(String::as_str).filter(|name| !first.contains(name));
    for (at, name) in first.iter().copied().chain(others).enumerate() {
        let field = &fields[name];
        write!(out, "{}{:?}:", if at == 0 { "{\n" } else { "" }, name)?;
        match field {
            Value::Array(elements) if !elements.is_empty() => {
                out.write_all(b"[\n")?;
                for (at, element) in elements.iter().enumerate() {
                    serde_json::to_writer(&mut out, element)?;
                    out.write_all(if at + 1 < elements.len() { b",\n" } else { b"\n" })?;
                }
                out.write_all(b"]")?;
            }
            other => serde_json::to_writer(&mut out, other)?,
        }
        out.write_all(if at < last { b",\n" } else { b"\n}\n" })?;
    }
    Ok(())
}
