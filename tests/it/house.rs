//! The rules of the house: which part may use which, and where unsafe code may stand.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(under: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(under);
    let mut found = Vec::new();
    let mut folders = vec![root];
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            folders.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            found.push((path, text));
        }
    }
    found
}

/// The lines of `under` that are code and mention one of `words`.
fn mentions(under: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(under) {
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    found
}

fn forbid(under: &str, words: &[&str], rule: &str) {
    assert!(!sources(under).is_empty(), "{under} has moved: this test no longer holds anything");
    let found = mentions(under, words);
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn nothing_points_back_up() {
    forbid("backends/src", &["pollmark::", "TcpServer", "crate::server"], "a backend knows no connection");
    let ends = ["crate::server", "crate::client"];
    let descriptors = [&ends[..], &["std::net::Tcp", "Source<", "Poller"]].concat();
    forbid("src/protocol", &descriptors, "a protocol knows no descriptor");
    forbid("src/conn.rs", &[&descriptors[..], &["std::net"]].concat(), "a connection knows no descriptor");
    let above = [
        "crate::mechanism",
        "crate::simulation",
        "crate::measure",
        "crate::observe",
        "crate::report",
        "crate::workload",
        "crate::cli::",
    ];
    forbid(
        "src/server",
        &[&above[..], &["crate::client"]].concat(),
        "a server knows nothing of being measured, or asked",
    );
    forbid("src/client", &[&above[..], &["crate::server", "crate::conn"]].concat(), "a client asks any server");
    let askers = ["crate::measure", "crate::report", "crate::cli::"];
    forbid("src/child", &askers, "a child does what it is told, whatever is made of it");
    forbid("src/measure", &["crate::report", "crate::cli"], "measuring knows nothing of what is made of its records");
    let judges =
        ["crate::measure", "crate::report", "crate::cli::", "crate::workload", "crate::child", "crate::exercise"];
    forbid("src/observe", &judges, "what the kernel shows is shown to whoever asks");
    let users = [&above[..], &["crate::server", "crate::child"]].concat();
    for limits in ["src/limits.rs", "src/limits"] {
        forbid(limits, &users, "limits are the host's, whatever is done within them");
    }
    let others = ["crate::server", "crate::mechanism", "crate::measure", "crate::report", "crate::cli::"];
    forbid("src/workload", &others, "the load is the same whatever is measured");
}

#[test]
fn neither_the_core_nor_the_readiness_loop_nor_the_client_names_a_mechanism() {
    let names = ["epoll", "Epoll", "kqueue", "Kqueue", "uring", "Uring", "poll::", "select", "Select", "polling"];
    // Threads wait for a connection of their own, and what starts them and the group's acceptor for a few listeners, by
    // poll(2), whatever is measured; completion is a mechanism.
    let own = ["blocking", "group.rs", "completion", "completion.rs"];
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    for entry in fs::read_dir(server).expect("readable") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name of ours");
        if !own.contains(&&*name) {
            forbid(&format!("src/server/{name}"), &names, "the driver asks capabilities, never names");
        }
    }
    for core in ["src/conn.rs", "src/conn", "src/protocol/mod.rs"] {
        forbid(core, &names, "the core knows no mechanism");
    }
    forbid("src/client", &names, "the client asks capabilities, never names");
}

#[test]
fn every_file_says_in_its_first_line_what_it_is() {
    for folder in ["src", "backends/src", "tests", "examples", "benches", "fuzz/targets", ".ci/planted/src"] {
        for (path, text) in sources(folder) {
            assert!(text.starts_with("//! "), "{} does not begin with its idea", path.display());
        }
    }
}

#[test]
fn unsafe_code_stands_in_the_backends_only_and_is_argued_for() {
    let root = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    assert!(root.contains("#![forbid(unsafe_code)]"));
    for (path, text) in sources("backends/src") {
        let blocks =
            text.lines().filter(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {")).count();
        let arguments = text.lines().filter(|line| line.contains("SAFETY:")).count();
        assert!(arguments >= blocks, "{}: {blocks} unsafe blocks, {arguments} arguments", path.display());
    }
}

#[test]
fn platforms_are_listed_in_one_place_per_crate() {
    for folder in ["src", "backends/src"] {
        forbid(folder, &["any(target_os"], "name the group of systems in build.rs instead");
    }
}

#[test]
fn the_code_that_contributing_quotes_is_in_the_files_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).expect("text").replace("\r\n", "\n");
    let mut quoted = 0;
    for block in text.split("```rust\n// ").skip(1) {
        let (file, code) = block.split_once('\n').expect("a file's name, then code");
        let (code, _) = code.split_once("```").expect("the end of the code");
        let source = fs::read_to_string(root.join(file)).expect(file);
        let there: Vec<&str> = source.lines().map(str::trim).collect();
        for line in code.lines().map(str::trim) {
            assert!(there.contains(&line), "{file} has no line {line:?} any more: CONTRIBUTING.md quotes it");
            quoted += 1;
        }
    }
    assert!(quoted >= 10, "only {quoted} lines were found to check: the quotations have changed their form");
}
