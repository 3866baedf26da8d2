//! The JSON Schemas of results.json and of agreement.json: for those who read these by other programs.

/// The text of docs/results.schema.json, draft 2020-12: each field of a record, its type and its meaning.
///
/// It is of schema 1, [`SCHEMA`](crate::measure::record::SCHEMA): a field added later is optional and does not change it, so a
/// reader passes over what it does not know.
pub const RESULTS: &str = include_str!("../../docs/results.schema.json");

/// The text of docs/agreement.schema.json, likewise: what [several machines](super::machines) say, side by side.
pub const AGREEMENT: &str = include_str!("../../docs/agreement.schema.json");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::measure::record::SCHEMA;
    use crate::report::machines::{self, Machines};
    use crate::report::sample;

    /// What of `value` is not as the schema has it, with its place. A field the schema does not know is wrong here: it was
    /// forgotten there. A keyword that is not known here panics, so that none is passed over.
    struct Checker {
        schema: Value,
        wrong: Vec<String>,
    }

    impl Checker {
        fn check(value: &Value) -> Vec<String> {
            Checker::check_by(RESULTS, value)
        }

        fn check_by(schema: &str, value: &Value) -> Vec<String> {
            let schema = serde_json::from_str::<Value>(schema).expect("JSON");
            let mut checker = Checker { schema: schema.clone(), wrong: Vec::new() };
            checker.visit(&schema, value, "");
            checker.wrong
        }

        fn visit(&mut self, schema: &Value, value: &Value, place: &str) {
            let keywords = schema.as_object().expect("a schema is an object");
            let mut wrong = |what: String| self.wrong.push(format!("{place}: {what}"));
            for (keyword, says) in keywords {
                let holds = match keyword.as_str() {
                    "description" | "title" | "$schema" | "$id" | "$defs" => true,
                    "type" => {
                        says.as_array().map_or_else(|| is(says, value), |any| any.iter().any(|one| is(one, value)))
                    }
                    "enum" => says.as_array().expect("a list").contains(value),
                    "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().expect("a number")),
                    "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().expect("a number")),
                    "minItems" => {
                        value.as_array().is_none_or(|list| list.len() as u64 >= says.as_u64().expect("a number"))
                    }
                    "maxItems" => {
                        value.as_array().is_none_or(|list| list.len() as u64 <= says.as_u64().expect("a number"))
                    }
                    "required" => says.as_array().expect("a list").iter().all(|name| {
                        value.as_object().is_none_or(|fields| fields.contains_key(name.as_str().expect("a name")))
                    }),
                    "properties" => {
                        value.as_object().is_none_or(|fields| fields.keys().all(|name| says.get(name).is_some()))
                    }
                    "items" | "additionalProperties" | "$ref" => true, // followed below
                    "anyOf" => says.as_array().expect("a list").iter().any(|one| {
                        let mut other = Checker { schema: self.schema.clone(), wrong: Vec::new() };
                        other.visit(one, value, "");
                        other.wrong.is_empty()
                    }),
                    unknown => panic!("the checker does not know {unknown}"),
                };
                if !holds {
                    wrong(format!("{keyword} {says}: {}", value.to_string().chars().take(80).collect::<String>()));
                }
            }
            if let Some(name) = keywords.get("$ref").and_then(Value::as_str) {
                let of = self.schema["$defs"][name.strip_prefix("#/$defs/").expect("of this schema")].clone();
                self.visit(&of, value, place);
            }
            for (name, field) in value.as_object().into_iter().flatten() {
                let known =
                    keywords.get("properties").and_then(|of| of.get(name)).or(keywords.get("additionalProperties"));
                if let Some(of) = known {
                    self.visit(of, field, &format!("{place}.{name}"));
                }
            }
            for (at, one) in value.as_array().into_iter().flatten().enumerate() {
                if let Some(of) = keywords.get("items") {
                    self.visit(of, one, &format!("{place}[{at}]"));
                }
            }
        }
    }

    fn is(name: &Value, value: &Value) -> bool {
        match name.as_str().expect("a name") {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("no type of JSON: {other}"),
        }
    }

    #[test]
    fn every_record_is_as_the_schema_has_it_to_the_last_field() {
        for (name, record) in sample::all() {
            let value = serde_json::to_value(&record).expect("serialisable");
            assert_eq!(Checker::check(&value), [""; 0], "{name}");
        }
    }

    #[test]
    fn what_several_machines_say_is_as_its_schema_has_it() {
        for (name, records) in sample::machines() {
            let entries = machines::entries(&records);
            let said = Machines::of(&entries).to_json();
            assert_eq!(Checker::check_by(AGREEMENT, &said), [""; 0], "{name}");
            assert!(said["workloads"][0]["claims"].as_array().is_some_and(|claims| !claims.is_empty()), "{name}");
            let mut broken = said;
            broken["workloads"][0]["claims"][0]["said"][0]["says"] = json!("perhaps");
            assert!(!Checker::check_by(AGREEMENT, &broken).is_empty());
        }
    }

    #[test]
    fn so_is_the_newest_committed_one() {
        let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/records");
        let Ok(entries) = std::fs::read_dir(&records) else {
            println!("skipped: a package has no records");
            return;
        };
        let files = entries.map(|entry| entry.expect("an entry").path().join("results.json"));
        let newest = files.filter(|file| file.is_file()).max().expect("a record");
        let value = serde_json::from_slice(&std::fs::read(newest).expect("readable")).expect("JSON");
        assert_eq!(Checker::check(&value), [""; 0]);
    }

    #[test]
    fn the_schema_has_the_number_that_records_are_written_with() {
        let schema = serde_json::from_str::<Value>(RESULTS).expect("JSON");
        let number = &schema["properties"]["schema"];
        assert_eq!((&number["minimum"], &number["maximum"]), (&json!(SCHEMA), &json!(SCHEMA)));
    }

    #[test]
    fn what_is_not_of_the_schema_is_found() {
        let sound = serde_json::to_value(sample::open_loop()).expect("serialisable");
        let wrong = |pointer: &str, to: Value| {
            let mut broken = sound.clone();
            *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = to;
            Checker::check(&broken)
        };
        for (pointer, to) in [
            ("/seed", json!("42")),
            ("/seed", json!(-1)),
            ("/schema", json!(2)),
            ("/host", json!(null)),
            ("/host/smt", json!("on")),
            ("/trials/3/latency/0", json!([1])),
            ("/trials/3/open_loop/offered/arrivals", json!("seldom")),
            ("/trials/3/kernel/ListenDrops", json!(0.5)),
            ("/gates/0/verdict", json!("maybe")),
            ("/missing/0", json!({"subject": "kqueue"})),
            ("/visits/0", json!({"order": 0, "round": 0, "subject": "poll", "idle": 0, "active": [], "mood": "good"})),
        ] {
            assert!(!wrong(pointer, to.clone()).is_empty(), "{pointer} as {to}");
        }
    }
}
