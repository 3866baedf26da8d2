//! Presets: workloads that are measured one after the other, by one name.
//!
//! Those that come with the program are files in `benches/presets`, compiled in; a user's own is a file of the same form.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Workload;
use crate::measure::definition::{self, BadDefinition, Wrong, first_broken};

/// Workloads under one name.
///
/// ```
/// use pollmark::measure::workload::Preset;
///
/// let classic = Preset::find_or_read("classic")?;
/// assert!(classic.workloads()?.iter().any(|workload| workload.name == "libevent-bench"));
/// # Ok::<(), pollmark::measure::BadDefinition>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is chosen by.
    pub name: String,
    /// What it is for, in a line.
    pub title: String,
    /// Names of workloads, or paths of files, in the order they are measured in.
    #[serde(rename = "workloads")]
    pub names: Vec<String>,
    /// Exactly so many rounds of each, instead of as many as its budget allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
}

const FILES: [(&str, &str); 4] = [
    ("quick", include_str!("../../../benches/presets/quick.toml")),
    ("default", include_str!("../../../benches/presets/default.toml")),
    ("classic", include_str!("../../../benches/presets/classic.toml")),
    ("full", include_str!("../../../benches/presets/full.toml")),
];

impl Preset {
    /// Those that come with the program, in the order they are listed: the shortest first.
    pub fn shipped() -> Vec<Preset> {
        let parsed = |(name, text)| Preset::parse(text, name).expect("every shipped preset parses: tested below");
        FILES.into_iter().map(parsed).collect()
    }

    /// The one of this name, or that in the file at this path.
    ///
    /// # Errors
    /// [`BadDefinition`]: neither a name nor a file, or a file with something wrong in it.
    pub fn find_or_read(name_or_path: &str) -> Result<Preset, BadDefinition> {
        let shipped = Preset::shipped();
        if let Some(found) = shipped.iter().find(|one| one.name == name_or_path) {
            return Ok(found.clone());
        }
        if !definition::looks_like_a_path(name_or_path) {
            let names = shipped.into_iter().map(|one| one.name).collect();
            return Err(BadDefinition::Unknown { kind: "preset", asked: name_or_path.to_owned(), names });
        }
        definition::read(name_or_path.as_ref(), Preset::parse)
    }

    fn parse(text: &str, path: &str) -> Result<Preset, BadDefinition> {
        definition::strictly(text, path, Preset::check)
    }

    fn check(&self) -> Result<(), Wrong> {
        let mut names = self.names.clone();
        names.sort_unstable();
        first_broken([
            (names.is_empty(), "workloads", "no workload, nothing to measure"),
            (
                names.windows(2).any(|two| two[0] == two[1]),
                "workloads",
                "each workload has a directory of its name: none can be there twice",
            ),
            (self.rounds == Some(0), "rounds", "no rounds, no results: ask for at least 3"),
        ])
    }

    /// Its workloads.
    ///
    /// # Errors
    /// [`BadDefinition`] for the first that is neither known nor a file, or wrong.
    pub fn workloads(&self) -> Result<Vec<Workload>, BadDefinition> {
        let with_rounds = |name: &String| {
            let mut workload = Workload::find_or_read(name)?;
            workload.time.rounds = self.rounds.or(workload.time.rounds);
            Ok(workload)
        };
        self.names.iter().map(with_rounds).collect()
    }

    /// How long all of them may take, if it is by their budgets that rounds are planned.
    pub fn budget(workloads: &[Workload]) -> Option<Duration> {
        let budget = |workload: &Workload| workload.time.rounds.is_none().then_some(workload.time.budget);
        workloads.iter().map(budget).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_has_workloads_there_are_and_full_has_all_but_the_smoke_test() {
        for (preset, (name, _)) in Preset::shipped().iter().zip(FILES) {
            assert_eq!(preset.name, name);
            let workloads = preset.workloads().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Preset::budget(&workloads).is_none(), preset.rounds.is_some(), "{name}");
        }
        let mut compiled_in = FILES.map(|(name, _)| name);
        compiled_in.sort_unstable();
        assert_eq!(definition::names_in("presets"), compiled_in, "none is forgotten");
        let mut all = Workload::shipped().into_iter().map(|one| one.name).collect::<Vec<_>>();
        all.retain(|name| name != "quick");
        let mut full = Preset::find_or_read("full").expect("shipped").names;
        all.sort_unstable();
        full.sort_unstable();
        assert_eq!(full, all);
        let classic = Preset::find_or_read("classic").expect("shipped").workloads().expect("known");
        let minutes = Preset::budget(&classic).map(|budget| budget.as_secs().div_ceil(60));
        assert_eq!(minutes, Some(7), "what METHODOLOGY.md and the help of `compare` say");
    }

    #[test]
    fn what_is_no_preset_is_told_with_what_there_is() {
        let good = "name = \"mine\"\ntitle = \"Mine\"\nworkloads = [\"quick\", \"default\"]\n";
        let cases: &[(&str, &str, &[&str])] = &[
            ("[\"quick\", \"default\"]", "[]", &["at workloads", "nothing to measure"]),
            ("\"default\"", "\"quick\"", &["at workloads", "none can be there twice"]),
            ("title", "titel", &["line 2", "unknown field `titel`"]),
            ("title", "rounds = 0\ntitle", &["at rounds", "at least 3"]),
        ];
        definition::tell_what_is_wrong(Preset::parse, good, cases);
        let unknown = Preset::find_or_read("clasic").expect_err("none is called so").to_string();
        assert!(unknown.contains("\"clasic\"") && unknown.contains("quick, default, classic, full"), "{unknown}");
        let gone = Preset { names: vec!["idle-crowds".into()], ..Preset::find_or_read("quick").expect("shipped") };
        assert!(gone.workloads().is_err());
    }
}
