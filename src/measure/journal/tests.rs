//! What is written is read back, what is torn is left out, and what is broken is named.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::*;
use crate::measure::contestant::Contestant;
use crate::measure::definition::one_line;
use crate::measure::host::Host;
use crate::measure::record::{Gate, Settings, Verdict};
use crate::measure::workload::Workload;
use crate::workload::Transport;

/// A directory of one test, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn append(&self, file: &str, text: &str) {
        let mut file = File::options().append(true).open(self.0.join(file)).expect("there");
        file.write_all(text.as_bytes()).expect("writable");
    }

    fn refused(&self) -> String {
        read(&self.0).map(|_| ()).expect_err("broken").to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record() -> Record {
    let host = Host { os: "linux".into(), rustc: "rustc 1.88".into(), load_average: Some(0.5), ..Host::default() };
    let mut record = Record::begin(vec!["pollmark".into()], 7, host, Settings { rounds: 2, ..Settings::default() });
    for (order, active) in [(0, 1), (0, 10), (1, 1)] {
        let (round, subject) = (order, "poll".to_owned());
        record.trials.push(Trial { order, round, subject, active, latency: vec![(9, 3)], ..Trial::default() });
    }
    record.workload = Some(workload().about());
    // The other is not here.
    record.contestants.push(contestants()[0].about("lean 1.2"));
    record
}

fn workload() -> Workload {
    Workload::find("quick").expect("it comes with the program")
}

/// Two that differ in their names.
fn contestants() -> [Contestant; 2] {
    ["lean", "late"].map(|name| {
        let text = format!(
            "name = '{name}'\nclass = 'floor'\ntitle = 'One'\nsettings = 'None.'\nversion = ['v']\n\
             run = ['./{name}', '{{addr}}']\nwarm-up = '5ms'\n"
        );
        Contestant::parse(&text, "some/where/one.toml").expect("well-formed")
    })
}

fn plan(record: &Record) -> PlanFile {
    PlanFile {
        finished: record.finished,
        settings: record.settings.clone(),
        workload: workload(),
        sources: None,
        contestants: contestants().to_vec(),
        rounds: Vec::new(),
        missing: record.missing.clone(),
        warnings: record.warnings.clone(),
    }
}

fn visit(order: u32, active: &[u32]) -> Visit {
    let (subject, active, transport) = ("poll".into(), active.to_vec(), Transport::Tcp);
    Visit { order, round: order, subject, idle: 0, transport, active, population: None }
}

/// A journal with the trials of `record`, whose second visit has not ended.
fn kept(scratch: &Scratch, record: &Record) -> Journal {
    let mut journal = Journal::begin(&scratch.0, record, plan(record)).expect("a fresh directory");
    record.trials.iter().for_each(|trial| journal.trial(trial).expect("writable"));
    journal.visit(&visit(0, &[1, 10])).expect("writable");
    journal
}

#[test]
fn a_record_in_parts_is_the_record_and_a_visit_cut_short_is_known_by_its_trials() {
    let (scratch, mut record) = (Scratch::new("parts"), record());
    let mut journal = kept(&scratch, &record);
    record.visits = vec![visit(0, &[1, 10]), visit(1, &[1])];
    assert_eq!(read(&scratch.0).expect("ours"), record);
    let found = Kept::read(&scratch.0).expect("ours").plan;
    assert_eq!((&found, found.contestants[1].folder.as_path()), (&plan(&record), Path::new("some/where")));
    record.warnings.push("unpinned".into());
    let verdict = Verdict::Unavailable;
    record.gates.push(Gate {
        name: "slope".into(),
        value: None,
        bound: "1".into(),
        verdict,
        explanation: "".into(),
        ..Gate::default()
    });
    record.finished = true;
    journal.end(&record, plan(&record)).expect("writable");
    assert_eq!(read(&scratch.0).expect("ours"), record);
    for name in FILES {
        assert!(scratch.0.join(name).exists(), "{name}");
    }
}

#[test]
fn no_fact_stands_in_two_files() {
    let scratch = Scratch::new("once");
    kept(&scratch, &record());
    let mut holders = BTreeMap::<String, Vec<&str>>::new();
    for file in [MANIFEST, ENV, PLAN] {
        let text = fs::read(scratch.0.join(file)).expect("written");
        let fields = serde_json::from_slice::<Map<String, Value>>(&text).expect("an object");
        let mut sentences = BTreeSet::new();
        fields.values().for_each(|value| collect_sentences(value, &mut sentences));
        fields.into_iter().map(|(name, _)| name).chain(sentences).for_each(|fact| {
            holders.entry(fact).or_default().push(file);
        });
    }
    let expected = workload().about().expect;
    for (fact, file) in [("rustc", MANIFEST), ("binary_sha256", MANIFEST), ("kernel", ENV), (expected.as_str(), PLAN)] {
        assert_eq!(holders.get(fact), Some(&vec![file]), "{fact}");
    }
    assert!(holders.values().all(|files| files.len() == 1), "{holders:#?}");
}

/// What is said in several words, on one line each.
fn collect_sentences(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.contains(' ') => {
            found.insert(one_line(text));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_sentences(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect_sentences(value, found)),
        _ => {}
    }
}

#[test]
fn a_torn_line_is_the_trial_that_ran_and_is_cut_off() {
    let (scratch, record) = (Scratch::new("torn"), record());
    drop(kept(&scratch, &record));
    scratch.append(SAMPLES, r#"{"order":1,"subj"#);
    let found = Kept::read(&scratch.0).expect("all but the last");
    assert_eq!(found.record.trials, record.trials);
    let mut journal = Journal::go_on(&found).expect("nobody else writes");
    journal.trial(&Trial { order: 2, ..record.trials[0].clone() }).expect("writable");
    let read = read(&scratch.0).expect("whole again");
    assert_eq!((read.trials.len(), read.trials[3].order), (4, 2));
    assert_eq!(read.visits.iter().map(|visit| visit.order).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn what_is_broken_is_named_with_its_place() {
    let scratch = Scratch::new("broken");
    kept(&scratch, &record());
    scratch.append(SAMPLES, "{\"order\":\"first\"}\n");
    let why = scratch.refused();
    assert!(why.contains("samples.ndjson: line 4") && why.contains("\"first\"") && why.contains("column"), "{why}");
    for (file, text, part) in [
        (PLAN, "{}", "missing field"),
        (ENV, "[]", "env.json: invalid type"),
        (MANIFEST, "{\"schema\":99}", "newer pollmark"),
        (MANIFEST, "{}", "no schema"),
        (MANIFEST, "{\n\"schema\":", "line 2 column"),
    ] {
        fs::write(scratch.0.join(file), text).expect("writable");
        let why = scratch.refused();
        assert!(why.contains(file) && why.contains(part), "{why}");
    }
    let error = read(&scratch.0.join("nowhere")).expect_err("not there");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("cannot read") && error.to_string().contains(MANIFEST), "{error}");
}

#[test]
fn a_second_journal_is_refused_while_one_is_there_and_while_one_is_written() {
    let (scratch, record) = (Scratch::new("twice"), record());
    let journal = kept(&scratch, &record);
    let again = Journal::begin(&scratch.0, &record, plan(&record)).map(|_| ()).expect_err("there is one");
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    if cfg!(unix) {
        let found = Kept::read(&scratch.0).expect("ours");
        let running = Journal::go_on(&found).map(|_| ()).expect_err("it is being written").to_string();
        assert!(running.contains("still runs"), "{running}");
        drop(journal);
        Journal::go_on(&found).expect("nobody writes any more");
    }
}
