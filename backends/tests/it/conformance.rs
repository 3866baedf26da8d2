//! Every mechanism of the registry through the suite, and what was skipped compared with a committed table.

use std::fmt::Write;
use std::path::Path;

use pollmark_backends::{Registry, conformance};

/// What runs here is known, so a case that quietly stops running is a failure. Other systems print theirs.
const TABLE: Option<&str> = if cfg!(target_os = "linux") { Some("tests/conformance-linux.txt") } else { None };

const HEADING: &str = "\
What the conformance suite ran on Linux and what it skipped, by mechanism; the first column is the line of the contract.
To write this file anew: POLLMARK_BLESS=1 cargo test -p pollmark-backends --test it conformance
";

#[test]
fn every_mechanism_keeps_the_contract() {
    let _turn = crate::alone();
    let mut found = HEADING.to_owned();
    let mut reports = Vec::new();
    for entry in Registry::builtin().entries() {
        match entry.probe() {
            Err(unavailable) => write!(found, "\n{}: {unavailable}\n", entry.name()).expect("a String takes all"),
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

    let Some(table) = TABLE else { return };
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(table);
    if std::env::var_os("POLLMARK_BLESS").is_some() {
        std::fs::write(&table, found).expect("the table can be written");
        return;
    }
    let committed = std::fs::read_to_string(&table).expect("the table is committed");
    let differing = committed.lines().zip(found.lines()).find(|(committed, found)| committed != found);
    assert!(
        committed == found,
        "what ran and what was skipped differs from {}, first in (committed, found): {differing:#?}\n\
         If that is meant, run again with POLLMARK_BLESS=1 and commit the table.",
        table.display()
    );
}
