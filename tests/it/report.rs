//! The command `report`: a record from elsewhere, shown again, and records it cannot read.

use std::fs;
use std::path::PathBuf;

use pollmark::measure::record::{Missing, Settings, Trial};
use pollmark::measure::{Host, Record};
use pollmark::report::{FILES, write};

use crate::cli::{fails, run};

/// A directory of this test alone, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record() -> Record {
    let mechanisms = ["epoll", "poll", "kqueue"].map(str::to_owned).to_vec();
    let settings =
        Settings { rounds: 3, rounds_done: 3, idle: vec![9_000], active: vec![1], mechanisms, ..Settings::default() };
    let mut record = Record::begin(vec!["pollmark".into(), "compare".into()], 11, Host::default(), settings);
    record.finished = true;
    for (mechanism, cpu) in [("epoll", 8_000), ("poll", 900_000)] {
        record.trials.extend((0..3).map(|round| Trial {
            round,
            subject: mechanism.to_owned(),
            mechanism: mechanism.to_owned(),
            idle: 9_000,
            active: 1,
            duration_ns: 1_000_000_000,
            requests: 1_000,
            server_cpu_ns: Some(1_000 * (cpu + u64::from(round))),
            ..Trial::default()
        }));
    }
    let reason = "not on this system".to_owned();
    record.missing.push(Missing { subject: "kqueue".to_owned(), idle: None, active: None, reason });
    record
}

#[test]
fn a_record_made_elsewhere_is_shown_and_written_anew() {
    let scratch = Scratch::new("report");
    write(&record(), &scratch.0.join("first")).expect("writable");
    let output = run(&["report", &scratch.path("first"), "--out", &scratch.path("again")]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).expect("text");
    for part in ["1 active, 9,000 idle", "112×", "kqueue, everywhere: not on this system", "epoll in 1 of 1 tables"] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "a pipe gets no colours");
    for name in FILES {
        let [first, again] = ["first", "again"].map(|of| fs::read(scratch.0.join(of).join(name)).expect("written"));
        assert!(first == again, "{name} differs, though nothing was measured anew");
    }
}

#[cfg(feature = "png")]
#[test]
fn every_plot_is_a_png_too_if_that_is_asked_for() {
    let scratch = Scratch::new("png");
    write(&record(), &scratch.0.join("made")).expect("writable");
    let output = run(&["report", &scratch.path("made"), "--out", &scratch.path("again"), "--png"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let plots = fs::read_dir(scratch.0.join("made").join("plots")).expect("written");
    let plots = plots.map(|entry| PathBuf::from(entry.expect("an entry").file_name())).collect::<Vec<_>>();
    assert!(!plots.is_empty());
    for plot in plots {
        let png = fs::read(scratch.0.join("again/plots").join(plot.with_extension("png"))).expect("beside it");
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n") && png.windows(9).any(|part| part == b"iTXtData\0"), "{plot:?}");
    }
}

#[cfg(not(feature = "png"))]
#[test]
fn where_png_cannot_be_drawn_it_is_said_what_to_do_and_nothing_is_written() {
    let scratch = Scratch::new("no-png");
    write(&record(), &scratch.0.join("made")).expect("writable");
    let output = run(&["report", &scratch.path("made"), "--out", &scratch.path("again"), "--png"]);
    assert!(output.stdout.is_empty() && !scratch.0.join("again").exists());
    fails(&output, 2, &["cannot draw PNG", "cargo install --locked pollmark --features png", "rsvg-convert"]);
}

#[test]
fn png_without_a_directory_is_refused() {
    fails(&run(&["report", "results.json", "--png"]), 2, &["--out"]);
}

#[test]
fn each_form_of_a_record_on_stdout_is_the_file_of_that_form() {
    let scratch = Scratch::new("forms");
    write(&record(), &scratch.0).expect("writable");
    let record = scratch.path("");
    let printed = |arguments: &[&str]| {
        let output = run(&[&["report", &record], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    for (form, file) in [("json", "results.json"), ("csv", "results.csv"), ("markdown", "report.md")] {
        assert!(printed(&["--format", form]) == fs::read(scratch.0.join(file)).expect("written"), "{file}");
        assert_eq!(printed(&["--format", form]), printed(&[&format!("--{form}")]));
    }
    assert_eq!(printed(&["--format", "table"]), printed(&[]));
    fails(&run(&["report", &record, "--format", "xml"]), 2, &["xml", "table, markdown, json, csv"]);
    fails(&run(&["report", &record, "--json", "--format", "csv"]), 2, &["--json", "--format"]);
}

#[test]
#[cfg(unix)]
fn whoever_has_seen_enough_of_a_spreadsheet_is_no_failure() {
    let scratch = Scratch::new("enough");
    write(&record(), &scratch.0).expect("writable");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pollmark"));
    command.args(["report", &scratch.path(""), "--csv"]).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("the program under test");
    // Nobody reads: well before the record has been read.
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn who_measured_it_is_said_once_and_stays_with_the_record() {
    let scratch = Scratch::new("authors");
    write(&record(), &scratch.0.join("made")).expect("writable");
    let made = scratch.path("made");
    let output = run(&["report", &made, "-o", &made, "--author", "Ada Lovelace", "--author", "Grace Hopper"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let again = run(&["report", &made, "-o", &scratch.path("again")]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let cited = |of: &str| fs::read_to_string(scratch.0.join(of).join("CITATION.cff")).expect("written");
    assert_eq!(cited("made"), cited("again"));
    assert!(cited("again").contains("authors:\n  - name: \"Ada Lovelace\"\n  - name: \"Grace Hopper\"\n"));
    fails(&run(&["report", &made, "--author", "Nobody"]), 2, &["--out"]);
}

#[test]
fn tables_are_put_between_the_markers_of_a_file_and_nowhere_else() {
    let scratch = Scratch::new("splice");
    write(&record(), &scratch.0.join("made")).expect("writable");
    let (made, readme) = (scratch.path("made"), scratch.path("README.md"));
    let text =
        |between: &str| format!("# Mine\n<!-- pollmark: begin -->\n{between}<!-- pollmark: end -->\nAnd mine.\n");
    fs::write(&readme, text("old\n")).expect("writable");
    let output = run(&["report", &made, "--splice", &readme]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let spliced = fs::read_to_string(&readme).expect("written");
    let between = spliced.split("begin -->\n").nth(1).and_then(|rest| rest.split("<!-- pollmark: end").next());
    assert_eq!(spliced, text(between.expect("both markers")));
    for part in ["| epoll | 8.00 (best) |", "    pollmark compare --seed 11\n", "--splice"] {
        assert!(spliced.contains(part) && !spliced.contains("old"), "{part}: {spliced}");
    }
    fs::write(&readme, "# No markers\n").expect("writable");
    fails(&run(&["report", &made, "--splice", &readme]), 2, &["README.md", "<!-- pollmark: begin -->", "put"]);
    assert_eq!(fs::read_to_string(&readme).expect("there"), "# No markers\n");
    fails(&run(&["report", &made, "--splice", &scratch.path("nowhere.md")]), 1, &["cannot read", "nowhere.md"]);
}

#[test]
fn a_record_against_itself_is_indistinguishable_and_against_a_faster_one_it_loses() {
    let scratch = Scratch::new("diff");
    let (slow, mut fast) = (record(), record());
    fast.trials.iter_mut().for_each(|trial| trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| cpu / 2));
    write(&slow, &scratch.0.join("slow")).expect("writable");
    write(&fast, &scratch.0.join("fast")).expect("writable");
    let [slow, fast] = ["slow", "fast"].map(|name| scratch.path(name));
    let itself = run(&["diff", &slow, &slow]);
    let shown = String::from_utf8(itself.stdout).expect("text");
    assert_eq!(itself.status.code(), Some(0), "{shown}");
    assert!(shown.contains("B against A: 2 indistinguishable, 1 missing."), "{shown}");
    assert!(shown.contains("kqueue") && shown.contains("in both: not on this system"), "{shown}");
    let csv = String::from_utf8(run(&["diff", &slow, &fast, "--csv"]).stdout).expect("text");
    assert!(csv.starts_with("kind,subject,") && csv.lines().any(|line| line.starts_with("change,epoll,")), "{csv}");
    let markdown = String::from_utf8(run(&["diff", &slow, &fast, "--markdown"]).stdout).expect("text");
    assert!(markdown.contains("| mechanism |") && markdown.contains("| epoll |"), "{markdown}");
    let json = run(&["diff", &slow, &fast, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    assert_eq!((&json["same_machine"], &json["changes"][0]["verdict"]), (&true.into(), &"win".into()), "{json}");
    fails(&run(&["diff", &fast, &slow]), 1, &["B loses to A"]);
    fails(&run(&["diff", &fast, &scratch.path("nowhere")]), 2, &["cannot read", "nowhere"]);
}

/// The same measured on another machine, on which everything takes three times as long.
fn of_another_machine() -> Record {
    let mut other = record();
    (other.host.os, other.host.cpu) = ("freebsd".to_owned(), Some("another".to_owned()));
    other.started = "2026-02-03T00:00:00Z".to_owned();
    other.trials.iter_mut().for_each(|trial| trial.server_cpu_ns = trial.server_cpu_ns.map(|cpu| cpu * 3));
    other
}

#[test]
fn records_of_two_machines_stand_side_by_side_and_whole_in_a_directory() {
    let scratch = Scratch::new("machines");
    write(&record(), &scratch.0.join("here")).expect("writable");
    write(&of_another_machine(), &scratch.0.join("there")).expect("writable");
    let [here, there, both] = ["here", "there", "both"].map(|name| scratch.path(name));
    let output = run(&["report", &here, &there, "-o", &both]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).expect("text");
    for part in ["A: ", "B: another", "no ranking has rows of two", "A and B agree in 1 of 1 places and differ in 0"] {
        assert!(shown.contains(part), "{part}:\n{shown}");
    }
    assert_eq!(shown.matches("900 (112×)").count(), 1, "a size stands in the table of its own machine alone:\n{shown}");
    assert_eq!(shown.matches("2,700 (112×)").count(), 1, "{shown}");
    let agreement = fs::read(scratch.0.join("both/agreement.json")).expect("written");
    let agreement: serde_json::Value = serde_json::from_slice(&agreement).expect("JSON");
    assert_eq!(agreement["workloads"][0]["tallies"][0]["agree"], 1, "{agreement}");
    for machine in 0..2 {
        let path = agreement["machines"][machine]["records"][0]["path"].as_str().expect("a path");
        let whole = ["here", "there"].map(|name| fs::read(scratch.0.join(name).join("report.html")).expect("written"));
        let found = fs::read(scratch.0.join("both").join(path).join("report.html")).expect("the record is there whole");
        assert!(found == whole[machine], "{path}");
    }
    let json = run(&["report", &here, &there, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON object");
    assert_eq!(json, agreement);
    let csv = String::from_utf8(run(&["report", &here, &there, "--csv"]).stdout).expect("text");
    assert_eq!(csv.lines().count(), 3, "epoll against poll, on each machine: {csv}");
}

#[test]
fn tables_of_two_machines_are_put_between_the_markers_with_every_command() {
    let scratch = Scratch::new("splice-machines");
    write(&record(), &scratch.0.join("here")).expect("writable");
    write(&of_another_machine(), &scratch.0.join("there")).expect("writable");
    let [here, there, readme] = ["here", "there", "README.md"].map(|name| scratch.path(name));
    fs::write(&readme, "# Mine\n<!-- pollmark: begin -->\n<!-- pollmark: end -->\n").expect("writable");
    let output = run(&["report", &here, &there, "--splice", &readme]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let spliced = fs::read_to_string(&readme).expect("written");
    for part in ["| epoll | 8.00 (best) |", "| epoll | 24.0 (best) |", "A and B agree in 1 of 1 places", "--splice"] {
        assert!(spliced.contains(part), "{part}: {spliced}");
    }
    assert_eq!(spliced.matches("    pollmark compare --seed 11\n").count(), 2, "{spliced}");
}

#[test]
fn the_same_record_twice_is_refused_and_two_of_one_machine_agree_about_nothing() {
    let scratch = Scratch::new("one-machine");
    write(&record(), &scratch.0.join("one")).expect("writable");
    write(&Record { started: "2026-05-05T00:00:00Z".to_owned(), ..record() }, &scratch.0.join("later"))
        .expect("writable");
    let [one, later] = ["one", "later"].map(|name| scratch.path(name));
    fails(&run(&["report", &one, &later, &one]), 2, &[&one, "the same record", "name it once"]);
    fails(&run(&["report", &one, &scratch.path("nowhere")]), 2, &["cannot read", "nowhere"]);
    let output = run(&["report", &one, &later]);
    let shown = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("pollmark history") && !shown.contains("agree in"), "{shown}");
    fs::write(scratch.0.join("in-the-way"), "a file").expect("writable");
    fails(&run(&["report", &one, &later, "-o", &scratch.path("in-the-way")]), 1, &["cannot make", "in-the-way"]);
}

#[test]
fn the_schema_of_a_record_is_printed_alone() {
    let output = run(&["report", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["properties"]["schema"]["maximum"], 1, "{schema}");
    fails(&run(&["report"]), 2, &["<RECORD>"]);
}

#[test]
fn what_is_no_record_is_refused_in_one_line() {
    let scratch = Scratch::new("no-record");
    fails(&run(&["report", &scratch.path("nowhere.json")]), 2, &["nowhere.json", "cannot read"]);
    for (text, why) in [("{}", "no schema"), ("{\"schema\": 99}", "newer pollmark"), ("hello", "not JSON")] {
        fs::write(scratch.0.join("other.json"), text).expect("writable");
        fails(&run(&["report", &scratch.path("other.json")]), 2, &["other.json", why]);
    }
}
