//! Reading a workload, as a file defines it, and writing such a file.

use std::path::Path;

use super::Workload;
use crate::measure::definition::{self, BadDefinition};

impl Workload {
    /// The one in the file at `path`.
    ///
    /// # Errors
    /// [`BadDefinition`]: the file cannot be read, or something in it is wrong.
    pub fn read(path: &Path) -> Result<Workload, BadDefinition> {
        definition::read(path, Workload::parse)
    }

    /// The one that `text` says; `path` is what an error calls it.
    ///
    /// # Errors
    /// [`BadDefinition::Invalid`].
    pub fn parse(text: &str, path: &str) -> Result<Workload, BadDefinition> {
        definition::strictly(text, path, Workload::check)
    }

    /// The file that [`read`](Workload::read) reads as this one.
    ///
    /// ```
    /// use pollmark::measure::Workload;
    ///
    /// let quick = Workload::find("quick")?;
    /// assert_eq!(Workload::parse(&quick.to_toml(), "quick.toml")?, quick);
    /// # Ok::<(), pollmark::measure::BadDefinition>(())
    /// ```
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("strings, numbers and lists of them")
    }
}

/// Ways of sharing a port, by their names; "all" for every one.
pub(super) mod sharing {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::server::Sharing;

    pub(in super::super) fn serialize<S: Serializer>(ways: &[Sharing], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(ways.iter().map(Sharing::to_string))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sharing>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        match names.as_slice() {
            [all] if all == "all" => Ok(Sharing::ALL.to_vec()),
            names => names.iter().map(|name| name.parse().map_err(D::Error::custom)).collect(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A definition without a flaw, for tests to plant one.
    pub(in super::super) const GOOD: &str = r#"
name = "mine"
title = "One title"
shows = "This."
hides = "That."
expect = "Flat."
[grid]
idle = [0, 10]
active = [1]
payload = [64]
[time]
warm-up = "10ms"
interval = "50ms"
budget = "5s"
"#;

    #[test]
    fn what_is_left_out_has_the_least_value() {
        let workload = Workload::parse(GOOD, "mine.toml").expect("well-formed");
        assert_eq!((workload.grid.threads.as_slice(), workload.grid.processes), (&[1][..], 1));
        assert!(workload.grid.mechanisms.is_empty() && !workload.grid.drop_idle_to_fit);
        assert_eq!(workload.time.budget.as_secs(), 5);
    }

    #[test]
    fn every_workload_is_written_as_it_is_read() {
        for workload in Workload::shipped() {
            assert_eq!(Workload::parse(&workload.to_toml(), &workload.name).expect("ours"), workload);
        }
    }

    #[test]
    fn what_is_given_twice_is_one_load_in_the_plan_and_in_the_record() {
        let twice = "active = [2, 1, 2]\ntransport = [\"unix\", \"tcp\", \"unix\"]\noffered = [50, 50]";
        let text = GOOD.replace("active = [1]", twice).replace("[64]", "[64, 64]");
        let workload = Workload::parse(&text, "mine.toml").expect("well-formed");
        assert_eq!((workload.settings().loads().count(), workload.loads().len()), (4, 4));
    }

    #[test]
    fn rates_of_their_own_stand_beside_parts_of_the_capacity() {
        let text = GOOD.replace("payload = [64]", "payload = [64]\noffered = [50]\nper-second = [700, 700]");
        let workload = Workload::parse(&text, "mine.toml").expect("well-formed");
        let offered = workload.settings().offered.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(offered, ["700 a second", "50 % of capacity"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_is_wanted() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("idle = [0, 10]", "idel = [0, 10]", &["line 8 (idel = [0, 10])", "unknown field", "`idle`"]),
            ("active = [1]", "", &["line 7 ([grid])", "missing field `active`"]),
            ("active = [1]", "active = [0]", &["grid.active", "at least one connection must be active"]),
            ("active = [1]", "active = 1", &["line 9", "sequence"]),
            ("idle = [0, 10]", "idle = [-1]", &["line 8", "-1"]),
            ("payload = [64]", "payload = [0]", &["grid.payload", "at least one byte"]),
            ("\"10ms\"", "\"soon\"", &["line 12", "\"soon\" is no time", "30ms"]),
            ("\"50ms\"", "\"0ms\"", &["time.interval", "measures nothing"]),
            ("shows = \"This.\"", "shows = \" \"", &["at shows", "may be concluded"]),
            ("expect = \"Flat.\"", "", &["its top level", "missing field `expect`"]),
            ("name = \"mine\"", "name = \"My own\"", &["at name", "small letters"]),
            ("[grid]", "gates = [\"growth\"]\n[grid]", &["at gates", "at least 3"]),
            ("[grid]\nidle = [0, 10]", "gates = [\"all-active\"]\n[grid]\nidle = [10]", &["at gates", "grid.idle"]),
            ("[grid]", "gates = [\"payload\"]\n[grid]", &["at gates", "at least 2"]),
            ("payload = [64]", "payload = [64]\nsharing = [\"fairly\"]", &["line 11", "reuseport, shared"]),
            ("\"50ms\"", "\"25h\"", &["time.interval", "a day"]),
            ("\"10ms\"", "\"500years\"", &["time.warm-up", "a day"]),
            ("\"5s\"", "\"2days\"", &["time.budget", "a day"]),
            ("\"5s\"", "\"5s\"\nrounds = 4000000000", &["time.rounds", "100000"]),
            ("payload = [64]", "payload = [64]\nprocesses = 257", &["grid.processes", "256"]),
            ("payload = [64]", "payload = [64]\nthreads = [1, 1025]", &["grid.threads", "1024"]),
            ("payload = [64]", "payload = [64]\noffered = [0]", &["grid.offered", "from 1 to 200"]),
            ("payload = [64]", "payload = [64]\noffered = [50]\nexchanges-per-connection = [1]", &["connections stay"]),
            ("payload = [64]", "payload = [64]\nper-second = [0]", &["grid.per-second", "from 1 to 100000000"]),
            (
                "payload = [64]",
                "payload = [64]\nper-second = [9]\nexchanges-per-connection = [1]",
                &["connections stay", "per-second"],
            ),
            ("payload = [64]", "payload = [64]\narrivals = [\"at noon\"]", &["line 11", "at noon", "`poisson`"]),
            ("payload = [64]", "payload = [64]\ntransport = [\"pipe\"]", &["line 11", "pipe", "`unix`"]),
            ("payload = [64]", "payload = [64]\ntransport = [\"unix\"]\nprocesses = 2", &["grid.processes", "TCP"]),
            (
                "payload = [64]",
                "payload = [64]\ntransport = [\"unix\"]\nthreads = [2]",
                &["grid.sharing", "one listener"],
            ),
            ("[grid]", "[grid", &["line 7"]),
        ];
        definition::tell_what_is_wrong(Workload::parse, GOOD, cases);
    }

    #[test]
    fn a_name_is_not_looked_for_among_files_and_a_path_is_not_among_names() {
        let unknown = Workload::find_or_read("qick").expect_err("none is called so").to_string();
        assert!(
            unknown.contains("\"qick\"") && unknown.contains("quick") && unknown.contains("./mine.toml"),
            "{unknown}"
        );
        let unreadable = Workload::find_or_read("no/such.toml").expect_err("there is no such file").to_string();
        assert!(unreadable.starts_with("cannot read no/such.toml"), "{unreadable}");
    }
}
