//! A contestant as data: a server that is not ours, how it is built and started, and what is to be known of it.
//!
//! Whoever echoes over TCP may be one; a file of a few lines says how. It is measured in the same rounds as ours, by
//! the same load, with every byte verified, but as of a class of its own: what it is for is another than ours is.

mod command;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::{self, BadDefinition, Wrong, first_broken, one_line, time, unreadable};
use super::record;
use super::workload::LONGEST;
use crate::child::{Launch, Servers};
use command::Said;

/// How long a contestant may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is not ours, as its file describes it.
///
/// Commands are lists: a program and its arguments, with no shell between. They run in the folder of the file, and a
/// program with a `/` in its name is looked for from there.
///
/// ```
/// use pollmark::measure::Contestant;
///
/// let text = r#"
/// name = "mine"
/// class = "library"
/// title = "My event loop, one thread"
/// settings = "level-triggered, TCP_NODELAY"
/// version = ["./mine", "--version"]
/// build = ["make", "mine"]
/// run = ["./mine", "{addr}"]
/// "#;
/// let mine = Contestant::parse(text, "contestants/mine.toml")?;
/// assert_eq!(mine.label(), "mine (library)");
/// assert!(mine.check().is_err_and(|why| why.to_string().contains("make mine")), "it was not built");
/// # Ok::<(), pollmark::measure::BadDefinition>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Contestant {
    /// What it is called: small letters, digits and hyphens.
    pub name: String,
    /// What kind of server it is, in the same letters: it stands beside those of its class, and apart from ours.
    pub class: String,
    /// What it is, in a line.
    pub title: String,
    /// What a reader has to know to find the comparison fair: threads, buffers, options of the socket.
    pub settings: String,
    /// Prints its version as the first line: without one, nothing is measured.
    pub version: Vec<String>,
    /// Builds it; empty if there is nothing to build.
    #[serde(default)]
    pub build: Vec<String>,
    /// What has to be installed before.
    #[serde(default)]
    pub needs: String,
    /// Starts it in the foreground: it listens at `{addr}`, or at `{port}` of `{host}`, and ends on SIGTERM.
    pub run: Vec<String>,
    /// How long it is kept busy before anything is measured of it: for those that compile while they run.
    #[serde(default, with = "time")]
    pub warm_up: Duration,
    /// Where its file is, and so where its commands run: not for the file to say.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Contestant {
    /// The one in the file at `path`.
    ///
    /// # Errors
    /// [`BadDefinition`]: the file cannot be read, or something in it is wrong.
    pub fn read(path: &Path) -> Result<Contestant, BadDefinition> {
        definition::read(path, Contestant::parse)
    }

    /// The one at `path`, or, if that is a folder, all those in it, by the names of their files.
    ///
    /// # Errors
    /// [`BadDefinition`]: as [`read`](Contestant::read), and for a folder without one.
    pub fn read_all(path: &Path) -> Result<Vec<Contestant>, BadDefinition> {
        if !path.is_dir() {
            return Ok(vec![Contestant::read(path)?]);
        }
        let files = definition::files(path)?;
        if files.is_empty() {
            return Err(unreadable(path)(io::Error::new(io::ErrorKind::NotFound, "no .toml file is in this folder")));
        }
        files.iter().map(|file| Contestant::read(file)).collect()
    }

    /// The one that `text` says; `path` is where its file would be, and what an error calls it.
    ///
    /// # Errors
    /// [`BadDefinition::Invalid`].
    pub fn parse(text: &str, path: &str) -> Result<Contestant, BadDefinition> {
        let contestant = definition::strictly(text, path, Contestant::sense)?;
        let folder = Path::new(path).parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let settings = one_line(&contestant.settings);
        Ok(Contestant { folder: folder.to_owned(), settings, ..contestant })
    }

    fn sense(&self) -> Result<(), Wrong> {
        let is_plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        let nothing = |text: &str| text.trim().is_empty();
        let takes_address = self.run.iter().skip(1).any(|one| one.contains("{addr}") || one.contains("{port}"));
        first_broken([
            (!is_plain(&self.name), "name", "small letters, digits and hyphens are wanted"),
            (!is_plain(&self.class), "class", "small letters, digits and hyphens are wanted"),
            (nothing(&self.title), "title", "what it is, in a line"),
            (nothing(&self.settings), "settings", "what makes the comparison fair, or unfair"),
            (self.version.is_empty(), "version", "a command is wanted: nothing is measured without a version"),
            (!takes_address, "run", "a command with {addr} among its arguments, or {port}"),
            (self.warm_up > LONGEST, "warm-up", "a day is the most"),
        ])
    }

    /// What it is called beside ours: its class is part of it.
    pub fn label(&self) -> String {
        format!("{} ({})", self.name, self.class)
    }

    /// Its version, once it has been found to be there and to start.
    ///
    /// # Errors
    /// [`Absent`], which says what to do.
    pub fn check(&self) -> Result<String, Absent> {
        let version = self.version().map_err(|why| self.absent(why))?;
        // It ends when this is dropped.
        match Servers::launch(&self.launch(), None, false) {
            Ok(_) => Ok(version),
            Err(failure) => Err(self.absent(failure.to_string())),
        }
    }

    /// What it says of its version, whether it starts or not.
    fn version(&self) -> Result<String, String> {
        let said = command::run(&self.version, &self.folder, PATIENCE)?;
        let first = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
        match said {
            // Some say it to stderr.
            Said { success: true, out, errors } => first(&out).or_else(|| first(&errors)).ok_or_else(|| {
                format!("`{}` says nothing, and without a version nothing is measured", self.version_command())
            }),
            Said { out, errors, .. } => Err(format!(
                "`{}` fails: {}",
                self.version_command(),
                first(&errors).or_else(|| first(&out)).unwrap_or_else(|| "it does not say why".into())
            )),
        }
    }

    fn version_command(&self) -> String {
        self.version.join(" ")
    }

    /// Builds it; what the command prints goes where this program's own errors go.
    ///
    /// # Errors
    /// [`Absent`], if the command fails.
    pub fn build(&self) -> Result<(), Absent> {
        if self.build.is_empty() {
            return Ok(());
        }
        command::pass_through(&self.build, &self.folder).map_err(|why| self.absent(why))
    }

    fn absent(&self, why: String) -> Absent {
        Absent { why, build: self.build.join(" "), folder: self.folder.clone(), needs: self.needs.clone() }
    }

    /// As a command for a child of ours.
    pub(crate) fn launch(&self) -> Launch {
        let directory = fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let program = self.run.first().map(|program| command::program(program, &directory)).unwrap_or_default();
        let arguments = self.run.iter().skip(1).cloned().collect();
        Launch { name: self.name.clone(), program, arguments, directory }
    }

    /// What a record keeps of it.
    pub(crate) fn about(&self, version: &str) -> record::Contestant {
        record::Contestant {
            label: self.label(),
            class: self.class.clone(),
            title: self.title.clone(),
            settings: self.settings.clone(),
            version: version.to_owned(),
            command: self.run.clone(),
            warm_up_ns: self.warm_up.as_nanos() as u64,
        }
    }
}

/// Contestants, as a plan keeps them: each with the folder that its file was in.
pub(super) mod placed {
    use std::borrow::Cow;
    use std::path::Path;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Contestant;

    #[derive(Serialize, Deserialize)]
    struct Placed<'a> {
        folder: Cow<'a, Path>,
        file: Cow<'a, Contestant>,
    }

    impl Placed<'_> {
        fn of(one: &Contestant) -> Placed<'_> {
            Placed { folder: Cow::Borrowed(&one.folder), file: Cow::Borrowed(one) }
        }
    }

    pub(in crate::measure) fn serialize<S: Serializer>(all: &[Contestant], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(all.iter().map(Placed::of))
    }

    pub(in crate::measure) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Contestant>, D::Error> {
        let all = Vec::<Placed<'static>>::deserialize(from)?;
        let one = |Placed { folder, file }| Contestant { folder: folder.into_owned(), ..file.into_owned() };
        Ok(all.into_iter().map(one).collect())
    }
}

/// Every contestant once: two of one label could not be told apart.
pub(crate) fn twice(contestants: &[Contestant]) -> Option<String> {
    let mut seen = BTreeMap::new();
    contestants.iter().map(Contestant::label).find(|label| seen.insert(label.clone(), ()).is_some())
}

/// Why a contestant cannot be measured here, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absent {
    why: String,
    build: String,
    folder: PathBuf,
    needs: String,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing: {}", self.why)?;
        if !self.build.is_empty() {
            write!(f, "; build it: `{}` in {}", self.build, self.folder.display())?;
        }
        if !self.needs.is_empty() {
            write!(f, "; it needs {}", self.needs)?;
        }
        Ok(())
    }
}

impl std::error::Error for Absent {}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "mine"
class = "library"
title = "Mine"
settings = "One thread."
needs = "a compiler"
version = ["sh", "-c", "echo; echo mine 1.2; echo more"]
build = ["sh", "-c", "true"]
run = ["./no/such", "--listen", "{addr}"]
"#;

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_is_wanted() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("needs", "need", &["line 6", "unknown field", "`needs`"]),
            ("name = \"mine\"", "name = \"Mine (A/A)\"", &["at name", "small letters"]),
            ("\"library\"", "\"\"", &["at class", "small letters"]),
            ("{addr}", "7000", &["at run", "{addr}"]),
            ("[\"sh\", \"-c\", \"echo; echo mine 1.2; echo more\"]", "[]", &["at version", "nothing is measured"]),
            ("settings = \"One thread.\"", "", &["missing field `settings`"]),
            ("needs", "warm-up = \"soon\"\nneeds", &["line 6", "\"soon\" is no time"]),
            ("needs", "warm-up = \"25h\"\nneeds", &["at warm-up", "a day"]),
            ("needs", "folder = \"elsewhere\"\nneeds", &["line 6", "unknown field `folder`"]),
        ];
        definition::tell_what_is_wrong(Contestant::parse, GOOD, cases);
    }

    #[test]
    fn commands_run_in_the_folder_of_the_file_and_only_a_path_is_looked_for_there() {
        let mine = Contestant::parse(GOOD, "mine.toml").expect("well-formed");
        assert_eq!((mine.folder.as_path(), mine.label().as_str()), (Path::new("."), "mine (library)"));
        let launch = mine.launch();
        assert!(launch.directory.is_absolute() && launch.program == launch.directory.join("no/such"), "{launch:?}");
        assert_eq!(launch.arguments, ["--listen", "{addr}"]);
        let found = Contestant { run: vec!["python3".into(), "{addr}".into()], ..mine };
        assert_eq!(found.launch().program, Path::new("python3"), "the system looks for it");
    }

    #[test]
    fn every_file_of_the_source_tree_is_called_as_it_is_built_by_its_name_and_is_one_of_the_known_classes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/contestants");
        let all = Contestant::read_all(&folder).expect("every file parses");
        let mut names = all.iter().map(|one| one.name.as_str()).collect::<Vec<_>>();
        names.sort_unstable();
        assert_eq!(definition::names_in("contestants"), names);
        for one in &all {
            assert!(["floor", "library", "runtime"].contains(&one.class.as_str()), "{}", one.label());
            assert!(one.build.is_empty() || one.build == ["./build", &one.name], "{:?}", one.build);
            assert!(!one.needs.is_empty() && one.title.chars().count() <= 90, "{}", one.name);
        }
        assert!(all.len() >= 13 && twice(&all).is_none(), "{} of them", all.len());
        assert_eq!(twice(&[&all[..], &all[3..4]].concat()), Some(all[3].label()));
    }

    #[test]
    #[cfg(unix)]
    fn the_version_is_the_first_line_said_and_without_one_it_is_missing_with_what_to_do() {
        let mine = Contestant::parse(GOOD, "mine.toml").expect("well-formed");
        assert_eq!(mine.version().as_deref(), Ok("mine 1.2"));
        mine.build().expect("true is");
        for (script, why) in [("exit 0", "says nothing"), ("echo no such library >&2; exit 1", "no such library")] {
            let without = ["sh", "-c", script].map(str::to_owned).to_vec();
            let text = Contestant { version: without, ..mine.clone() }.check().expect_err("no version").to_string();
            for words in ["missing: ", why, "build it: `sh -c true`", "it needs a compiler"] {
                assert!(text.contains(words), "{words:?} is missing: {text}");
            }
        }
        let gone = Contestant { version: vec!["./no/such".into()], ..mine };
        assert!(gone.check().is_err_and(|why| why.to_string().contains("./no/such is not there")), "{gone:?}");
    }
}
