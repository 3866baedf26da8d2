//! Files in which somebody defines what is to be measured: a workload, a preset, a contestant.
//!
//! They are read strictly. Nothing is guessed: a key that is not known, or is missing, is an error, and what is wrong
//! is told with its file, its line or key, and what is wanted there.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why there is no such workload, preset or contestant.
#[derive(Debug)]
#[non_exhaustive]
pub enum BadDefinition {
    /// It is neither a name nor looks like a path.
    Unknown {
        /// Of what kind it would be.
        kind: &'static str,
        /// What was asked for.
        asked: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// The file, or the folder, cannot be read.
    Unreadable {
        /// Its path.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Something in the text is wrong.
    Invalid {
        /// The path of the file.
        path: String,
        /// The line, or the key.
        place: String,
        /// What is wrong, or wanted.
        why: String,
    },
}

impl fmt::Display for BadDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadDefinition::Unknown { kind, asked, names } => write!(
                f,
                "there is no {kind} {asked:?}; there are {}, and any file by its path, as ./mine.toml",
                names.join(", ")
            ),
            BadDefinition::Unreadable { path, error } => write!(f, "cannot read {path}: {error}"),
            BadDefinition::Invalid { path, place, why } => write!(f, "{path} is wrong at {place}: {why}"),
        }
    }
}

impl std::error::Error for BadDefinition {}

/// What is wrong at which key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) why: &'static str,
}

/// The first of `rules` that is broken: whether it is, at which key, and what is wanted there.
pub(super) fn first_broken(rules: impl IntoIterator<Item = (bool, &'static str, &'static str)>) -> Result<(), Wrong> {
    match rules.into_iter().find(|(broken, ..)| *broken) {
        Some((_, key, why)) => Err(Wrong { key, why }),
        None => Ok(()),
    }
}

/// Whether somebody who typed this meant a file.
pub(super) fn looks_like_a_path(text: &str) -> bool {
    text.ends_with(".toml") || text.contains(['/', '\\'])
}

/// What `understood` makes of the text of the file at `path`, which is what an error calls it.
pub(super) fn read<T>(
    path: &Path,
    understood: impl FnOnce(&str, &str) -> Result<T, BadDefinition>,
) -> Result<T, BadDefinition> {
    understood(&fs::read_to_string(path).map_err(unreadable(path))?, &path.display().to_string())
}

/// The files of this kind in a folder, in the order of their names.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, BadDefinition> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let entries = entries.map_err(unreadable(folder))?;
    let mut files = entries.into_iter().map(|entry| entry.path()).collect::<Vec<_>>();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> BadDefinition {
    move |error| BadDefinition::Unreadable { path: path.display().to_string(), error }
}

/// What `text` says, if `check` finds nothing wrong with it.
pub(super) fn strictly<T: DeserializeOwned>(
    text: &str,
    path: &str,
    check: impl FnOnce(&T) -> Result<(), Wrong>,
) -> Result<T, BadDefinition> {
    let invalid = |place: String, why: String| BadDefinition::Invalid { path: path.to_owned(), place, why };
    let defined = toml::from_str(text).map_err(|error| invalid(place(text, &error), one_line(error.message())))?;
    check(&defined).map_err(|Wrong { key, why }| invalid(key.to_owned(), why.to_owned()))?;
    Ok(defined)
}

/// The line of an error, with what stands in it. Of a table that lacks a key it is the head; the file itself has none.
fn place(text: &str, error: &toml::de::Error) -> String {
    let Some(at) = error.span().map(|span| span.start).filter(|at| *at > 0) else { return "its top level".to_owned() };
    let before = &text[..at];
    let line = text[before.rfind('\n').map_or(0, |at| at + 1)..].lines().next().unwrap_or_default();
    format!("line {} ({})", before.matches('\n').count() + 1, line.trim())
}

/// Written over several lines, it is still a sentence.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A time, as people write it.
pub(super) mod time {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::measure) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*time))
    }

    pub(in crate::measure) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format!("{text:?} is no time, as \"30ms\", \"2s\" or \"1m\" is: {error}"))
        })
    }
}

/// What those files are called that the source tree has in this folder of `benches`.
#[cfg(test)]
pub(super) fn names_in(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(folder);
    let files = files(&folder).unwrap_or_else(|error| panic!("{error}"));
    let name = |file: &PathBuf| file.file_stem().expect("it has a name").to_string_lossy().into_owned();
    let mut names = files.iter().map(name).collect::<Vec<_>>();
    names.sort_unstable();
    names
}

/// Each of `cases` puts one thing in the place of another, in a text that is well-formed; what that makes wrong is told
/// in one line with these words.
#[cfg(test)]
pub(super) fn tell_what_is_wrong<T>(
    parse: fn(&str, &str) -> Result<T, BadDefinition>,
    good: &str,
    cases: &[(&str, &str, &[&str])],
) {
    parse(good, "a/mine.toml").map(drop).expect("well-formed");
    for (of, by, words) in cases {
        assert!(good.contains(of), "{of:?}");
        let wrong = parse(&good.replace(of, by), "a/mine.toml").map(drop);
        let text = wrong.expect_err("it is wrong").to_string();
        assert!(text.contains("a/mine.toml is wrong at ") && text.lines().count() == 1, "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is missing: {text}"));
    }
}
