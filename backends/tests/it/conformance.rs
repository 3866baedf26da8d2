//! Every mechanism of the registry through the suite, and what was skipped compared with a committed table.

use std::fmt::Write;
use std::path::Path;

use pollmark_backends::{Registry, conformance, wine};

/// Where what runs is known, a case that quietly stops running is a failure.
struct Known {
    system: String,
    table: &'static str,
    anew: &'static str,
}

/// Other systems, Windows itself among them, print what ran and compare it with nothing.
fn known() -> Option<Known> {
    if cfg!(target_os = "linux") {
        let anew = "POLLMARK_BLESS=1 cargo test -p pollmark-backends --test it conformance";
        return Some(Known { system: "on Linux".to_owned(), table: "tests/conformance-linux.txt", anew });
    }
    wine().map(|version| Known {
        system: format!("under wine {version}, which is not Windows,"),
        table: "tests/conformance-windows.txt",
        anew: "POLLMARK_BLESS=1 .ci/wine --backends",
    })
}

impl Known {
    fn heading(&self) -> String {
        format!(
            "What the conformance suite ran {} and what it skipped, by mechanism; the first column is the line of the \
             contract.\nTo write this file anew: {}\n",
            self.system, self.anew
        )
    }
}

#[test]
fn every_mechanism_keeps_the_contract() {
    let _turn = crate::alone();
    let known = known();
    let mut found = known.as_ref().map(Known::heading).unwrap_or_default();
    let (mut reports, mut missing) = (Vec::new(), Vec::new());
    for entry in conformance::with_models(Registry::builtin()).entries() {
        match entry.probe() {
            Err(unavailable) => {
                println!("{}: {unavailable}", entry.name());
                missing.push(format!("{}: ", entry.name()));
            }
            Ok(_) => {
                let report = conformance::run_entry(entry).expect("it was available a moment ago");
                write!(found, "\n{report}").expect("a String takes all");
                reports.push(report);
            }
        }
    }
    println!("{found}");
    assert!(!reports.is_empty(), "no mechanism is available here");
    reports.iter().for_each(conformance::Report::assert_passed);

    let Some(known) = known else { return };
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(known.table);
    if std::env::var_os("POLLMARK_BLESS").is_some() {
        std::fs::write(&table, found).expect("the table can be written");
        return;
    }
    // What this host has not, a container that forbids io_uring perhaps, nobody can run: CI checks what it promises.
    let mut committed = std::fs::read_to_string(&table).expect("the table is committed").trim_end().to_owned();
    let is_here = |part: &&str| !missing.iter().any(|name| part.starts_with(name));
    committed = committed.split("\n\n").filter(is_here).collect::<Vec<_>>().join("\n\n");
    let found = found.trim_end();
    let differing = committed.lines().zip(found.lines()).find(|(committed, found)| committed != found);
    assert!(
        committed == found,
        "what ran and what was skipped differs from {}, first in (committed, found): {differing:#?}\n\
         If that is meant, run again with POLLMARK_BLESS=1 and commit the table.",
        table.display()
    );
}
