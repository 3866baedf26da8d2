//! `--help`: what the example of each command prints is what the command prints. With POLLMARK_BLESS=1 it is made anew.
//!
//! What a command prints of a committed record is held to the last letter; what depends on the host or the moment by its
//! form, with every number masked.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pollmark::backends::Registry;
use pollmark::measure::Host;
use pollmark::mechanism::Mechanism;
use serde_json::Value;

use crate::cli::{Serving, pollmark};
use crate::compare::Scratch;
use crate::suite::PATIENCE;

/// Columns of an example; `--help` puts two spaces before each line.
const COLUMNS: usize = 98;
/// In place of the port that a server was given.
const PORT: &str = "7000";
/// Before what did not fit on a line: so that it can be told from a line of its own.
const FOLDED: &str = "\n      ";

/// What was typed, and what of its output is shown.
struct Example<'a> {
    name: &'a str,
    typed: &'a str,
    said: String,
    /// From the next line that contains these words on, so many lines. What lies between is left out.
    shown: &'a [(&'a str, usize)],
}

impl Example<'_> {
    /// As it stands in `--help`.
    fn text(&self) -> String {
        let Example { name, typed, said, shown } = self;
        let mut text = format!("$ pollmark {typed}\n");
        let mut rest = said.lines().collect::<Vec<_>>();
        let left_out = |lines: &[&str]| match lines {
            [] => "",
            lines if lines.iter().all(|line| line.is_empty()) => "\n",
            _ => "…\n",
        };
        for (words, count) in *shown {
            let at = rest.iter().position(|line| line.contains(words));
            let at = at.unwrap_or_else(|| panic!("{name}: no line with {words:?} where one was: {said}"));
            assert!(rest.len() >= at + count, "{name}: too few lines after {words:?}: {said}");
            text += left_out(&rest[..at]);
            rest[at..at + count].iter().for_each(|line| text += &folded(line));
            rest.drain(..at + count);
        }
        text + left_out(&rest)
    }

    /// To the last letter.
    fn is_exact(&self) {
        let text = self.text();
        if let Some(there) = self.there(&text) {
            assert_eq!(there, text, "run it with POLLMARK_BLESS=1 to bring src/cli/help/{}.txt up to date", self.name);
        }
    }

    /// But for numbers, and what `loosely` makes the same of both.
    fn has_the_form(&self, loosely: fn(String) -> String) {
        let text = self.text();
        let Some(there) = self.there(&text) else { return };
        let form = |text: &str| loosely(masked(&text.replace(FOLDED, " ")));
        let (expected, found) = (form(&there), form(&text));
        let (expected, found) = (expected.lines().collect::<Vec<_>>(), found.lines().collect::<Vec<_>>());
        let differs = |line: usize| expected.get(line) != found.get(line);
        let missing = missing();
        for line in (0..expected.len().max(found.len())).filter(|line| differs(*line)) {
            let of_missing = |lines: &[&str]| {
                lines
                    .get(line)
                    .and_then(|line| line.split(' ').next())
                    .is_some_and(|word| missing.contains(&word.to_owned()))
            };
            if of_missing(&expected) && of_missing(&found) {
                println!("NOT CHECKED: {}: {}: that is missing here", self.name, expected[line]);
                continue;
            }
            panic!(
                "{}: {:?} is {:?} now: run it with POLLMARK_BLESS=1 to bring src/cli/help/{0}.txt up to date: {there}\n{text}",
                self.name,
                expected.get(line),
                found.get(line)
            );
        }
    }

    /// What stands there now; nothing if that was just replaced by `text`.
    fn there(&self, text: &str) -> Option<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/help/{}.txt", self.name));
        if std::env::var_os("POLLMARK_BLESS").is_some() {
            fs::write(path, text).expect("writable");
            return None;
        }
        Some(fs::read_to_string(&path).expect("an example of each command").replace("\r\n", "\n"))
    }
}

/// Broken at spaces, where a terminal would break it anywhere.
fn folded(line: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for word in line.split_inclusive(' ') {
        if column + word.trim_end().chars().count() > COLUMNS {
            text.truncate(text.trim_end().len());
            text += FOLDED;
            column = FOLDED.len() - 1;
        }
        text += word;
        column += word.chars().count();
    }
    text + "\n"
}

/// A `#` for each number, with its unit if it has one, and for a dash in place of one; and one space where there were some.
fn masked(text: &str) -> String {
    const UNITS: [&str; 8] = ["ns", "µs", "ms", "s", "B", "KiB", "MiB", "GiB"];
    let mut found = String::new();
    for line in text.lines() {
        let mut numbers = String::new();
        let mut rest = line.chars().peekable();
        while let Some(letter) = rest.next() {
            let is_more = |next: &char| next.is_ascii_digit() || (letter.is_ascii_digit() && ".,".contains(*next));
            if !letter.is_ascii_digit() {
                numbers.push(letter);
                continue;
            }
            let mut number = String::from(letter);
            while let Some(next) = rest.next_if(is_more) {
                number.push(next);
            }
            // What ends a sentence is no part of it.
            numbers.push('#');
            numbers.push_str(&number[number.trim_end_matches(['.', ',']).len()..]);
        }
        let mut words: Vec<String> = Vec::new();
        for word in numbers.split_whitespace() {
            let (bare, end) = word.split_at(word.trim_end_matches([',', ';', ':', '.', ')']).len());
            let unit = bare.strip_prefix('#').unwrap_or(bare);
            match words.last_mut() {
                Some(last) if UNITS.contains(&bare) && last.ends_with('#') => last.push_str(end),
                _ if bare == "–" || UNITS.contains(&unit) && bare != unit => words.push(format!("#{end}")),
                _ => words.push(word.to_owned()),
            }
        }
        found += &(words.join(" ") + "\n");
    }
    found
}

#[test]
fn what_is_masked_is_numbers_and_what_is_left_is_words() {
    let line = "p50 44.7 µs, p99.9 –, 1,010 open; took 3.5s, 12 MiB of 127.0.0.1:80, (=0.98×).\n";
    assert_eq!(masked(line), "p# #, p# #, # open; took #, # of #:#, (=#×).\n");
    assert_eq!(folded(&"word ".repeat(20)).lines().map(|line| line.chars().count()).max(), Some(94));
}

/// What this kernel would have, and does not let us use.
fn missing() -> Vec<String> {
    let registry = Registry::builtin();
    let refused =
        |one: &Mechanism| one.probe(&registry).is_err_and(|why| !why.to_string().contains("not on this system"));
    Mechanism::all(&registry).iter().filter(|one| refused(one)).map(|one| one.name().to_owned()).collect()
}

/// Whether what `name` prints here is to be held against its example, which says what Linux has.
fn is_linux(name: &str) -> bool {
    if !cfg!(target_os = "linux") {
        println!("NOT CHECKED: the example of {name} is what it prints on Linux");
    }
    cfg!(target_os = "linux")
}

/// A directory with copies of two committed records of one machine.
fn with_records(name: &str) -> Scratch {
    let scratch = Scratch::new(&format!("help-{name}"));
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/records");
    let names = [("before", BEFORE), ("after", AFTER)];
    for (copy, record) in names {
        let copy = scratch.0.join(copy);
        fs::create_dir_all(&copy).expect("a directory");
        let from = records.join(record).join("results.json");
        fs::copy(&from, copy.join("results.json")).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
    scratch
}

const BEFORE: &str = "2026-11-22-x86_64-unknown-linux-gnu-vm";
const AFTER: &str = "2026-11-22b-x86_64-unknown-linux-gnu-vm";

/// What `typed` prints in that directory, and what it complains of.
fn printed(typed: &str, within: &Path) -> [String; 2] {
    let arguments = typed.split(' ').collect::<Vec<_>>();
    let mut command = pollmark(&arguments);
    let output = command.current_dir(within).env("COLUMNS", COLUMNS.to_string()).output().expect("the command starts");
    let [out, complaints] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert!(!out.is_empty(), "pollmark {typed}: {complaints}");
    [out.replace('\\', "/"), complaints]
}

fn said(typed: &str, within: &Path) -> String {
    let [said, _] = printed(typed, within);
    said
}

/// As above, of a server at another port than the one it is shown at.
fn said_of(serving: &Serving, typed: &str, within: &Path) -> String {
    let port = serving.address.port().to_string();
    said(&typed.replace(PORT, &port), within).replace(&port, PORT)
}

/// A directory with nothing in it.
fn empty(name: &str) -> Scratch {
    let scratch = Scratch::new(&format!("help-{name}"));
    fs::create_dir_all(&scratch.0).expect("a directory");
    scratch
}

fn as_it_is(form: String) -> String {
    form
}

#[test]
fn two_records_are_held_against_each_other() {
    let scratch = with_records("diff");
    let typed = "diff before after";
    let shown = &[("10 active, 5,000 idle", 12), ("B against A", 3)];
    Example { name: "diff", typed, said: printed(typed, &scratch.0).concat(), shown }.is_exact();
}

#[test]
fn records_are_told_as_a_history() {
    let scratch = with_records("history");
    let typed = "history before after --gate calls=25";
    let shown = &[("Records, the oldest first", 4), ("10 active, 100 idle", 4), ("gate calls", 4)];
    Example { name: "history", typed, said: printed(typed, &scratch.0).concat(), shown }.is_exact();
}

#[test]
fn a_record_is_shown_again() {
    let scratch = with_records("report");
    let typed = "report before";
    let shown = &[("1 active, 5,000 idle", 11)];
    Example { name: "report", typed, said: said(typed, &scratch.0), shown }.is_exact();
}

#[test]
fn a_site_is_where_it_says() {
    let scratch = with_records("site");
    let typed = "site before after --out public";
    Example { name: "site", typed, said: said(typed, &scratch.0), shown: &[("public/index.html", 1)] }.is_exact();
    assert!(scratch.0.join("public/index.html").is_file());
}

#[test]
fn a_comparison_ends_with_what_report_prints_of_it_and_its_page() {
    let scratch = with_records("compare");
    let and_page = |record: &str| format!("{}\n{record}/report.html\n", said(&format!("report {record}"), &scratch.0));
    let typed = "compare --quick --backends poll,select --idle 0 --active 1 --rounds 1 --out little";
    assert_eq!(said(typed, &scratch.0), and_page("little"));
    // So what this one printed is known, and was printed in a minute and a half.
    fs::rename(scratch.0.join("before"), scratch.0.join("results")).expect("it is there");
    let shown = &[
        ("Server CPU µs per request, 1 active", 11),
        ("With 5,000 idle connections and 1 active", 3),
        ("report.html", 1),
    ];
    Example { name: "compare", typed: "compare --out results", said: and_page("results"), shown }.is_exact();
}

#[test]
fn the_shortest_way_in_is_a_quick_comparison() {
    if !is_linux("pollmark") {
        return;
    }
    let scratch = empty("quick");
    let typed = "compare --quick";
    let shown = &[("Server CPU µs per request, 1 active", 11), ("report.html", 1)];
    let any_standing = |form: String| {
        let standings = [" (best)", " (=#×)", " (#×)"];
        standings.iter().fold(form, |form, standing| form.replace(standing, ""))
    };
    Example { name: "pollmark", typed, said: said(typed, &scratch.0), shown }.has_the_form(any_standing);
}

#[test]
fn mechanisms_and_limits_are_those_of_a_host() {
    if !is_linux("backends") {
        return;
    }
    let typed = "backends";
    let shown = &[
        ("mechanism  ", 2),
        ("kqueue", 2),
        ("poll ", 1),
        ("completion", 3),
        ("this host", 1),
        ("so at most", 1),
        ("listen queue", 2),
    ];
    Example { name: "backends", typed, said: said(typed, Path::new(".")), shown }.has_the_form(as_it_is);
}

#[test]
fn mechanisms_answer_as_in_the_example() {
    if !is_linux("semantics") {
        return;
    }
    let typed = "semantics --backends epoll,poll,select";
    let shown = &[("bytes have come", 4), ("half-close  ", 7)];
    Example { name: "semantics", typed, said: said(typed, Path::new(".")), shown }.is_exact();
}

#[test]
fn a_workload_says_what_it_shows() {
    let typed = "workloads idle-crowd";
    let shown = &[("idle-crowd: ", 1), ("What it shows", 5), ("What to expect", 4)];
    Example { name: "workloads", typed, said: said(typed, Path::new(".")), shown }.is_exact();
}

#[test]
fn a_shell_is_told_our_words() {
    let typed = "completions bash";
    let shown = &[("_pollmark() {", 3), ("pollmark,advise)", 5)];
    Example { name: "completions", typed, said: said(typed, Path::new(".")), shown }.is_exact();
}

#[test]
fn contestants_are_here_or_what_is_missing_is_said() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        return println!("NOT CHECKED: the example of contestants has one that runs, which takes python3");
    }
    let scratch = empty("contestants");
    fs::create_dir(scratch.0.join("python")).expect("a directory");
    for name in ["asyncio.toml", "python/echo.py", "libuv.toml"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/contestants").join(name);
        fs::copy(from, scratch.0.join(name)).expect("a contestant");
    }
    let typed = "contestants asyncio.toml libuv.toml";
    let shown = &[("asyncio (runtime)", 3), ("libuv (library)", 4), ("available", 1)];
    Example { name: "contestants", typed, said: said(typed, &scratch.0), shown }.has_the_form(as_it_is);
}

#[test]
fn a_topic_is_explained_by_what_the_kernel_shows() {
    if !is_linux("explain") {
        return;
    }
    let typed = "explain handshake-without-accept";
    let shown = &[("HANDSHAKE", 5), ("accept has not been called", 2), ("held:", 4), ("Lesson:", 4)];
    Example { name: "explain", typed, said: said(typed, Path::new(".")), shown }.has_the_form(as_it_is);
}

#[test]
#[cfg(unix)]
fn a_server_says_where_it_is_and_what_it_did() {
    let serving = Serving::start(pollmark(&["serve"]));
    let mut client = TcpStream::connect(serving.address).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(b"once").expect("it reads");
    client.read_exact(&mut [0; 4]).expect("it echoes");
    drop(client);
    let address = serving.address;
    let (code, account) = serving.interrupt(rustix::process::Signal::INT);
    assert_eq!(code, Some(0), "{account}");
    let said = format!("{address}\n^C\n{account}");
    Example { name: "serve", typed: "serve", said, shown: &[("127.0.0.1", 3)] }.has_the_form(as_it_is);
}

#[test]
fn a_load_says_what_it_measured_and_whether_it_was_the_limit() {
    let scratch = empty("load");
    let serving = Serving::start(pollmark(&["serve"]));
    let typed = "load --target 127.0.0.1:7000 --idle 100 --active 10 --requests 50000";
    let said = said_of(&serving, typed, &scratch.0);
    let was_the_limit = |form: String| form.replace(": the load was the limit, not the server", "");
    Example { name: "load", typed, said, shown: &[("127.0.0.1", 4)] }.has_the_form(was_the_limit);
}

#[test]
fn logs_of_two_hosts_are_one_result() {
    let scratch = empty("merge");
    let serving = Serving::start(pollmark(&["serve"]));
    for log in ["here.hlog", "there.hlog"] {
        said_of(&serving, &format!("load --target 127.0.0.1:7000 --duration 500ms --hdr-log {log}"), &scratch.0);
    }
    // As on two hosts: at the same time.
    let [here, there] = ["here.hlog", "there.hlog"].map(|log| fs::read_to_string(scratch.0.join(log)).expect("a log"));
    let start = |log: &str| log.lines().find(|line| line.starts_with("#[StartTime")).expect("it says when").to_owned();
    let there = there.replace(&start(&there), &start(&here));
    fs::write(scratch.0.join("there.hlog"), there).expect("writable");
    let typed = "merge here.hlog there.hlog";
    // One of them may have been held up.
    let not_quite = |form: String| form.replace(", which nobody was ever asked: they ran # of", ", # of");
    Example { name: "merge", typed, said: said(typed, &scratch.0), shown: &[("here.hlog", 7)] }.has_the_form(not_quite);
}

#[test]
fn a_port_is_shown_as_the_kernel_has_it() {
    if !is_linux("watch") {
        return;
    }
    let serving = Serving::start(pollmark(&["serve"]));
    let mut clients = [(); 3].map(|()| TcpStream::connect(serving.address).expect("it listens"));
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        client.write_all(b"once").expect("it reads");
        client.read_exact(&mut [0; 4]).expect("it echoes");
    }
    let typed = "watch --port 7000 --once";
    let said = said_of(&serving, typed, Path::new("."));
    // Others of this host make these rise, or nobody does.
    let of_the_host = |line: &&str| line.contains("of this host has risen by");
    let said = said.lines().filter(|line| !of_the_host(line)).map(|line| format!("{line}\n")).collect();
    Example { name: "watch", typed, said, shown: &[("port 7000", 8)] }.has_the_form(as_it_is);
}

#[test]
fn a_live_server_is_advised_by_a_record_of_this_machine() {
    if !is_linux("advise") {
        return;
    }
    let scratch = with_records("advise");
    // A record is advice for the machine it was made on alone: here for this one.
    let path = scratch.0.join("before/results.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("a record");
    record["host"] = serde_json::to_value(Host::gather()).expect("plain fields");
    fs::write(&path, record.to_string()).expect("writable");
    let serving = Serving::start(pollmark(&["serve"]));
    let loading = Loading::start(&serving);
    let typed = "advise --port 7000 --record before --no-replay --for 1s";
    let said = said_of(&serving, typed, &scratch.0);
    drop(loading);
    let shown = &[("port 7000", 6), ("Predicted at", 8)];
    // In which order, and with which marks, is for the numbers to say.
    let in_any_order = |form: String| {
        let (rows, others): (Vec<_>, Vec<_>) =
            form.lines().partition(|line| line.starts_with(['#', '=']) && line.ends_with('%'));
        let mut rows =
            rows.iter().map(|row| row.replacen('=', "#", 1).replace("% !", "%").replace('‡', "")).collect::<Vec<_>>();
        rows.sort();
        [others.join("\n"), rows.join("\n")].join("\n")
    };
    Example { name: "advise", typed, said, shown }.has_the_form(in_any_order);
}

/// Someone who asks a server for as long as it is looked at.
struct Loading(Child);

impl Loading {
    fn start(serving: &Serving) -> Loading {
        let target = serving.address.to_string();
        let load =
            ["load", "--target", &target, "--idle", "100", "--active", "4", "--rate", "2000", "--duration", "10m"];
        let child = pollmark(&load).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let loading = Loading(child);
        let deadline = Instant::now() + PATIENCE;
        let port = serving.address.port().to_string();
        // All are connected, so some are served.
        while !said(&format!("watch --port {port} --once"), Path::new(".")).contains("  104 ESTABLISHED") {
            assert!(Instant::now() < deadline, "the load did not connect");
            std::thread::sleep(Duration::from_millis(20));
        }
        loading
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
