//! The command `semantics`: the matrix in every form, the committed one for Linux, and two hosts side by side.

use std::fs;
use std::path::PathBuf;

use pollmark::report::semantics::{Cell, Host, Mechanism, Moment, Record, SCHEMA, Said, Scenario, diff, terminal};
use pollmark::report::terminal::Style;

#[cfg(target_os = "linux")]
use pollmark_backends::System;

use crate::cli::{fails, run};

/// A file of this test alone, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Scratch {
        let path = std::env::temp_dir().join(format!("pollmark-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("a file for the test");
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn json(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.write(&mut bytes).expect("to memory");
    bytes
}

/// Without the line that names the version and the kernel: what is said depends on what a kernel does.
#[cfg(target_os = "linux")]
fn without_the_maker(document: &str) -> String {
    let lines = document.lines().filter(|line| !line.starts_with(pollmark::report::semantics::markdown::MADE));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn the_committed_matrix_is_what_linux_says() {
    let registry = pollmark_backends::Registry::builtin();
    let columns = registry.entries().filter(|entry| entry.base().is_none() && entry.systems().contains(&System::Linux));
    for entry in columns {
        if let Err(why) = entry.probe() {
            println!("NOT COMPARED: the committed matrix has {}, and this host has not: {why}", entry.name());
            return;
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/semantics-linux.md");
    let found = printed(&["semantics", "--markdown"]);
    if std::env::var_os("POLLMARK_BLESS").is_some() {
        fs::write(&path, &found).expect("writable");
    }
    let committed = fs::read_to_string(&path).expect("docs/semantics-linux.md").replace("\r\n", "\n");
    let (committed, found) = (without_the_maker(&committed), without_the_maker(&found));
    let differing = committed.lines().zip(found.lines()).find(|(committed, found)| committed != found);
    assert!(
        committed == found,
        "docs/semantics-linux.md is not what is found here, first in (committed, found): {differing:#?}\n\
         If that is meant, run again with POLLMARK_BLESS=1 and commit it."
    );
    assert!(!found.contains("unexplained)"), "a difference without a note");
}

#[test]
fn the_matrix_is_the_same_each_time_and_in_every_form() {
    let written = printed(&["semantics", "--backends", "poll,select", "--json"]);
    assert_eq!(written, printed(&["semantics", "--backends", "poll,select,poll", "--json"]));
    let record = Record::read(written.as_bytes()).expect("what we wrote");
    assert_eq!(String::from_utf8(json(&record)).expect("text"), written, "nothing is lost by reading");
    assert_eq!(record.mechanisms.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["poll", "select"]);
    assert!(record.scenarios.len() >= 25, "{}", record.scenarios.len());

    let shown = printed(&["semantics", "--backends", "poll,select"]);
    let document = printed(&["semantics", "--backends", "poll,select", "--markdown"]);
    for scenario in &record.scenarios {
        assert!(shown.lines().any(|line| line.split_whitespace().next() == Some(&scenario.name)), "{}", scenario.name);
        assert!(document.contains(&format!("\n### {}\n", scenario.name)), "{}", scenario.name);
    }
    for number in 1..=record.notes.len() {
        assert!(shown.contains(&format!("[{number}] ")) && document.contains(&format!("\n[^{number}]: ")), "{number}");
    }
}

#[test]
fn variants_are_columns_of_their_own() {
    let variants = printed(&["semantics", "--backends", "all", "--json"]);
    let record = Record::read(variants.as_bytes()).expect("what we wrote");
    let names = record.mechanisms.iter().map(|one| one.name.as_str()).collect::<Vec<_>>();
    assert!(names.contains(&"poll") && names.contains(&"polling-oneshot") && !names.contains(&"threads"), "{names:?}");
    assert!(record.cells().all(|(_, _, cell)| !matches!(cell.said, Said::Failed(_))));
}

#[test]
fn what_cannot_be_asked_is_refused_in_one_line() {
    fails(&run(&["semantics", "--backends", "eqoll"]), 2, &["eqoll", "available", "poll"]);
    fails(&run(&["semantics", "--backends", "threads"]), 2, &["threads", "no poller"]);
    fails(&run(&["semantics", "--json", "--markdown"]), 2, &["--json", "--markdown"]);
    #[cfg(target_os = "linux")]
    fails(&run(&["semantics", "--backends", "kqueue"]), 2, &["kqueue", "macOS"]);

    let ours = Scratch::new("ours.json", json(&host("linux", "POLLIN|POLLRDHUP", &["readable", "read_closed"])));
    fails(&run(&["semantics", "--diff", ours.path()]), 2, &["--diff"]);
    fails(&run(&["semantics", "--diff", ours.path(), "nowhere.json"]), 2, &["nowhere.json", "cannot read"]);
    for (text, why) in [
        ("hello", "not JSON"),
        ("{\"schema\": 1}", "not made by `pollmark semantics"),
        ("{\"schema\": \"pollmark-semantics/99\"}", "another version"),
        ("{\"schema\": \"pollmark-semantics/1\"}", "missing field"),
    ] {
        let other = Scratch::new("other.json", text);
        fails(&run(&["semantics", "--diff", ours.path(), other.path()]), 2, &["other.json", why]);
    }
}

/// A host with two mechanisms, one scenario, and one answer that may vary.
fn host(os: &str, raw: &str, facts: &[&str]) -> Record {
    let cell = |mechanism: &str, raw: &str, said| Cell {
        mechanism: mechanism.to_owned(),
        raw: raw.to_owned(),
        said,
        differs: false,
        notes: Vec::new(),
    };
    let event = |facts: &[&str]| Said::Event(facts.iter().map(|fact| (*fact).to_owned()).collect());
    let moment = |when: &str, cells| Moment { when: when.to_owned(), cells };
    let scenario = |name: &str, moments| Scenario {
        chapter: "Streams".to_owned(),
        name: name.to_owned(),
        shows: "Something.".to_owned(),
        asked: vec!["readable".to_owned()],
        trigger: None,
        moments,
    };
    let mechanism = |name: &str| Mechanism {
        name: name.to_owned(),
        trigger: "level".to_owned(),
        triggers: vec!["level".to_owned()],
        resolution_ns: 1,
        numbers_below: None,
        most_sources: None,
        half_close: true,
        errors: true,
        priority: true,
        regular_files: true,
    };
    Record {
        schema: SCHEMA.to_owned(),
        pollmark_version: "0.1.0".to_owned(),
        host: Host { os: os.to_owned(), kernel: None, arch: "x86_64".to_owned() },
        mechanisms: vec![mechanism("poll"), mechanism("select")],
        absent: Vec::new(),
        scenarios: vec![
            scenario("data", vec![moment("bytes have come", vec![cell("poll", "POLLIN", event(&["readable"]))])]),
            scenario(
                "half-close",
                vec![
                    moment("nothing yet", vec![cell("poll", "", Said::Silence), cell("select", "", Said::Silence)]),
                    moment(
                        "the end",
                        vec![cell("poll", raw, event(facts)), cell("select", "read", event(&["readable"]))],
                    ),
                ],
            ),
        ],
        notes: Vec::new(),
    }
}

#[test]
fn two_hosts_stand_side_by_side_and_the_exit_code_says_whether_they_differ() {
    let linux = host("linux", "POLLIN|POLLRDHUP", &["readable", "read_closed"]);
    let mac = host("macos", "POLLIN", &["readable"]);
    let [a, b] = [("linux.json", &linux), ("mac.json", &mac)].map(|(name, host)| Scratch::new(name, json(host)));
    let output = run(&["semantics", "--diff", a.path(), b.path()]);
    fails(&output, 1, &["of 5 answers 1 differ in what a program is told"]);
    let expected = "\
A: linux x86_64
B: macos x86_64

half-close
  the end
  ≠ poll  POLLIN|POLLRDHUP       POLLIN
          readable, read_closed  readable
    alike: select

Alike: data.
5 answers: 1 ≠ told differently, 0 ~ worded differently.
";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);

    let alike = run(&["semantics", "--diff", a.path(), a.path()]);
    assert_eq!(alike.status.code(), Some(0));
    let expected = "\
A: linux x86_64
B: linux x86_64

Alike: data, half-close.
5 answers: 0 ≠ told differently, 0 ~ worded differently.
";
    assert_eq!(String::from_utf8_lossy(&alike.stdout), expected);
}

#[test]
fn other_words_and_what_only_one_host_has_are_told_apart() {
    let linux = host("linux", "POLLIN|POLLRDHUP", &["readable"]);
    let mut other = host("freebsd", "POLLIN", &["readable"]);
    other.mechanisms.pop();
    for moment in other.scenarios.iter_mut().flat_map(|one| &mut one.moments) {
        moment.cells.retain(|cell| cell.mechanism == "poll");
    }
    let comparison = diff::Comparison::of(&linux, &other);
    assert_eq!(comparison.counts(), (3, 0, 1));
    let text = comparison.render(Style::default());
    for part in ["only in A: select\n", "  ~ poll  POLLIN|POLLRDHUP  POLLIN\n"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    other.scenarios.clear();
    let nothing = diff::Comparison::of(&linux, &other);
    assert_eq!(nothing.verdict().as_deref(), Some("the two have nothing in common that could be compared"));
}

#[test]
fn a_mechanism_of_one_host_stands_beside_that_of_the_other() {
    let linux = host("linux", "POLLIN", &["readable"]);
    let mut other = linux.clone();
    other.mechanisms[1].name = "kqueue".to_owned();
    for cell in other.scenarios.iter_mut().flat_map(|one| &mut one.moments).flat_map(|moment| &mut moment.cells) {
        if cell.mechanism == "select" {
            (cell.mechanism, cell.raw) = ("kqueue".to_owned(), "EVFILT_READ data=0".to_owned());
        }
    }
    let alike = diff::Comparison::of(&linux, &other);
    assert_eq!(alike.counts(), (5, 0, 0), "another mechanism's words are its own");
    assert_eq!(alike.verdict(), None);
    other.scenarios[1].moments[1].cells[1].said = Said::Silence;
    let comparison = diff::Comparison::of(&linux, &other);
    let text = comparison.render(Style::default());
    for part in ["compared: select in A with kqueue in B\n", "  ≠ select/kqueue  read      EVFILT_READ data=0\n"] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_in_a_record_commands_it() {
    let written = printed(&["semantics", "--backends", "all", "--json"]);
    let mut record = Record::read(written.as_bytes()).expect("what we wrote");
    for width in [80, 100, 120] {
        let text = terminal::render(&record, Style { width, colour: false });
        // A link is not broken; whoever wants to follow it needs the whole.
        let widest = text.lines().filter(|line| !line.contains("https://")).max_by_key(|line| line.chars().count());
        assert!(widest.expect("lines").chars().count() <= width, "{width}: {widest:?}");
    }
    let bad = "\u{1b}[2J|\n# <script>";
    record.host.os = bad.to_owned();
    for scenario in &mut record.scenarios {
        (scenario.name, scenario.shows) = (bad.to_owned(), bad.to_owned());
        scenario.moments.iter_mut().flat_map(|moment| &mut moment.cells).for_each(|cell| cell.raw = bad.to_owned());
    }
    let document = pollmark::report::semantics::markdown::render(&record);
    let beside = diff::Comparison::of(&record, &record).render(Style::default());
    for text in [terminal::render(&record, Style::default()), document.clone(), beside] {
        assert!(!text.contains('\u{1b}') && !text.contains("\n# <"), "{text}");
    }
    assert!(!document.replace('`', "\n").lines().any(|line| line.starts_with("<script")), "markup passes as markup");
}
