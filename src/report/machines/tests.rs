//! Several machines: who speaks for each, what is compared, and that nothing foreign gets through.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::measure::record::Record;
use crate::measure::stats::Interval;
use crate::report::terminal::Style;
use crate::report::{SUMS, sample};

fn with<T>(name: &str, look: impl FnOnce(&Machines<'_, '_>) -> T) -> T {
    let (_, records) = sample::machines().into_iter().find(|(one, _)| *one == name).expect("a sample");
    let entries = entries(&records);
    look(&Machines::of(&entries))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn of_one_machine_the_newest_record_speaks_and_nothing_agrees_with_itself() {
    with("again", |machines| {
        let letters = machines.machines.iter().map(|one| (one.letter.as_str(), one.entries.len())).collect::<Vec<_>>();
        assert_eq!(letters, [("A", 2), ("B", 1)], "in the order in which they were named");
        let starts = machines.machines[0].entries.iter().map(|entry| entry.record.started.as_str()).collect::<Vec<_>>();
        assert_eq!(starts, ["2026-01-02T03:04:05Z", "2026-02-03T03:04:05Z"]);
        let [together] = machines.workloads.as_slice() else { panic!("one workload") };
        let held = together.held.iter().map(|(letter, entry)| (letter.as_str(), entry.record.started.as_str()));
        assert_eq!(held.collect::<Vec<_>>(), [("A", "2026-02-03T03:04:05Z"), ("B", "2026-01-03T03:04:05Z")]);
        let told = one_line(&machines.render(Style::default()));
        assert!(
            told.contains("Of A there are several records of one workload") && told.contains("pollmark history"),
            "{told}"
        );
    });
    let record = sample::ordinary();
    let later = Record { started: "2026-05-05T00:00:00Z".to_owned(), ..record.clone() };
    let records = [record, later];
    let entries = entries(&records);
    let machines = Machines::of(&entries);
    assert_eq!((machines.machines.len(), machines.workloads[0].claims.len()), (1, 0));
    let told = one_line(&machines.render(Style::default()));
    assert!(told.contains("pollmark history") && !told.contains("agree in"), "{told}");
}

#[test]
fn a_machine_that_is_half_as_fast_agrees_about_all_that_both_can_tell() {
    with("two", |machines| {
        let [together] = machines.workloads.as_slice() else { panic!("one workload") };
        let tallies = together.tallies();
        let questions = tallies.iter().map(|tally| tally.question).collect::<Vec<_>>();
        assert_eq!(questions, Question::ALL, "one pair, and nothing over all beside it");
        for tally in &tallies {
            assert_eq!(tally.agree + tally.differ + tally.some_cannot_tell + tally.none_tells, tally.asked);
            assert!(tally.differ == 0 && tally.agree > 0, "{tally:?}");
        }
        let shape = |row: &str| {
            let claim = together.of(Question::Shape).find(|claim| claim.subject == row && claim.load == "1 active");
            claim.map(|claim| {
                (claim.idle.clone(), claim.said.iter().map(|said| said.opinion.name()).collect::<Vec<_>>())
            })
        };
        assert_eq!(shape("poll"), Some((vec![0, 5_000], vec!["grows", "grows"])));
        assert_eq!(shape("epoll"), Some((vec![0, 5_000], vec!["stays", "stays"])));
        // Void with the most idle connections on both: what is left is compared.
        assert_eq!(shape("threads"), Some((vec![0, 1_000], vec!["stays", "stays"])));
    });
}

#[test]
fn where_a_machine_says_the_opposite_the_cell_is_named() {
    let here = sample::ordinary();
    let mut other = sample::elsewhere(&here, Some("An odd one"), 1);
    for trial in other.trials.iter_mut().filter(|trial| trial.subject == "poll" && trial.idle == 5_000) {
        trial.server_cpu_ns = Some(trial.requests * 1_000);
    }
    let records = [here, other];
    let entries = entries(&records);
    let machines = Machines::of(&entries);
    let [together] = machines.workloads.as_slice() else { panic!("one workload") };
    let opposite = together.of(Question::Order).filter(|claim| claim.over_all() == Some(Agreement::Differ));
    let opposite = opposite.map(|claim| (claim.subject.as_str(), claim.idle[0])).collect::<BTreeSet<_>>();
    assert!(opposite.iter().all(|(_, idle)| *idle == 5_000) && opposite.contains(&("epoll", 5_000)), "{opposite:?}");
    let told = machines.render(Style::default());
    assert!(told.contains("Where they say the opposite of who costs less than whom"), "{told}");
    let differs = one_line(&told);
    assert!(differs.contains("they differ about what grows with idle connections: poll at 1 active"), "{differs}");
}

#[test]
fn a_row_that_a_machine_has_not_is_absent_there_with_its_reason_and_the_others_are_compared() {
    with("three", |machines| {
        let [together] = machines.workloads.as_slice() else { panic!("one workload") };
        let find = |subject: &str, to: &str, idle: u32| {
            let is_it = |claim: &&Claim| {
                (claim.subject.as_str(), claim.to.as_deref(), claim.idle.as_slice()) == (subject, Some(to), &[idle])
            };
            together.of(Question::Order).find(is_it).expect("two can be asked")
        };
        let epoll = find("epoll", "poll", 5_000);
        assert_eq!((epoll.between(0, 1), epoll.between(0, 2)), (Some(Agreement::Agree), None));
        assert_eq!(epoll.over_all(), Some(Agreement::Agree));
        let void = find("poll", "threads", 0);
        assert_eq!(void.said[2].opinion, Opinion::Absent("void: a wrong byte".to_owned()));
        let pairs = together.tallies().into_iter().filter(|tally| tally.question == Question::Order);
        assert_eq!(pairs.map(|tally| tally.machines.len()).collect::<Vec<_>>(), [2, 2, 2, 3]);
        assert!(machines.machines[2].name().contains("does not name"), "{}", machines.machines[2].name());
    });
}

#[test]
fn opinions_are_the_same_opposite_or_not_to_be_told() {
    let turns = |low: f64, high: f64| Opinion::Turns(Interval { low, high });
    let absent = || Opinion::Absent("not there".to_owned());
    let cases = [
        (Opinion::Less, Opinion::Less, Some(Agreement::Agree)),
        (Opinion::Less, Opinion::More, Some(Agreement::Differ)),
        (Opinion::Grows, Opinion::Stays, Some(Agreement::Differ)),
        (Opinion::Less, Opinion::Untold, Some(Agreement::SomeCannotTell)),
        (Opinion::Untold, Opinion::Untold, Some(Agreement::NoneTells)),
        (Opinion::Less, absent(), None),
        (turns(10.0, 30.0), turns(30.0, 50.0), Some(Agreement::Agree)),
        (turns(10.0, 30.0), turns(31.0, 50.0), Some(Agreement::Differ)),
        (turns(0.0, 0.0), turns(31.0, 50.0), Some(Agreement::Differ)),
    ];
    for (one, other, says) in cases {
        assert_eq!((one.with(&other), other.with(&one)), (says, says), "{one:?} and {other:?}");
    }
    let said = [Opinion::Less, absent(), Opinion::More, Opinion::Untold];
    let said = said.map(|opinion| Said { opinion, figure: None }).to_vec();
    let (subject, to, idle, load) = ("poll".to_owned(), Some("epoll".to_owned()), vec![0], "1 active".to_owned());
    let mut claim = Claim { question: Question::Order, subject, to, idle, load, said };
    assert_eq!(claim.over_all(), Some(Agreement::Differ));
    claim.said.remove(2);
    assert_eq!(claim.over_all(), Some(Agreement::SomeCannotTell));
    claim.said.remove(2);
    assert_eq!(claim.over_all(), None, "one alone agrees with nobody");
}

#[test]
fn machines_have_the_letters_of_the_columns_of_a_sheet() {
    assert_eq!([0, 25, 26, 51, 52, 701, 702].map(letter), ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
}

/// Of every picture in a page: each mechanism with its place and its colour.
fn looks(page: &str) -> BTreeSet<(String, String, String)> {
    let value = |text: &str, name: &str| {
        text.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
    };
    let series = page.split("<g class=\"series\"").skip(1).map(|rest| rest.split('>').next().expect("an end"));
    series.map(|one| (value(one, "data-name"), value(one, "data-row"), value(one, "stroke"))).collect()
}

#[test]
fn a_mechanism_has_one_place_and_one_colour_in_every_panel_whatever_else_its_machine_has() {
    let mut records = sample::machines().into_iter().find(|(name, _)| *name == "three").expect("a sample").1;
    // Of families that are unknown the colour goes by the place: in the records these two differ.
    for (record, rows) in records.iter_mut().zip([["poll", "threads"], ["threads", "poll"], ["poll", "threads"]]) {
        for trial in &mut record.trials {
            let named = rows.iter().position(|row| *row == trial.subject).map(|at| ["mine", "yours"][at].to_owned());
            if let Some(name) = named {
                (trial.subject, trial.mechanism) = (name.clone(), name);
            }
        }
        record.settings.mechanisms.clear();
    }
    let entries = entries(&records);
    let page = Machines::of(&entries).to_html();
    let looks = looks(&page);
    let names = looks.iter().map(|(name, ..)| name).collect::<BTreeSet<_>>();
    assert_eq!(names.len(), looks.len(), "{looks:?}");
    assert!(names.len() >= 4 && looks.iter().all(|(.., colour)| colour.starts_with('#')), "{looks:?}");
}

#[test]
fn panels_of_sizes_say_that_the_scale_is_their_own_and_those_of_ratios_have_one() {
    with("two", |machines| {
        let page = machines.to_html();
        let sizes = page.matches("aria-label=\"A, own scale: Server CPU per request, 1 active\"").count();
        assert!(sizes >= 1 && page.contains("aria-label=\"B, own scale: Server CPU per request, 1 active\""));
        assert!(!page.contains("aria-label=\"A: Server CPU"), "no size without it");
        let axis = |panel: &str| {
            let of = page.split(&format!("aria-label=\"{panel}\"")).nth(1).expect(panel);
            of.split(" data-y=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an axis").to_owned()
                + of.split("class=\"ticks-y\"").nth(1).and_then(|rest| rest.split("</g>").next()).expect("ticks")
        };
        assert_eq!(axis("A: Growth, 1 active"), axis("B: Growth, 1 active"));
        assert_ne!(
            axis("A, own scale: Server CPU per request, 1 active"),
            axis("B, own scale: Server CPU per request, 1 active")
        );
    });
}

#[test]
fn nothing_foreign_gets_through_in_any_form() {
    for (name, records) in sample::machines() {
        let entries = entries(&records);
        let machines = Machines::of(&entries);
        let page = machines.to_html();
        let (body, _) = page.rsplit_once("<script>").expect("ours, at the end");
        for word in ["<script", "src=", "url(", "@import", "alert('x')", "\u{1b}"] {
            assert!(!body.contains(word), "{name}: {word}");
        }
        for text in [machines.render(Style::default()), machines.to_markdown(), machines.overview()] {
            assert!(!text.contains('\u{1b}'), "{name}");
        }
        let code = |line: &&str| line.starts_with("    ");
        for text in [machines.to_markdown(), machines.overview()] {
            assert!(text.lines().filter(|line| !code(line)).all(|line| !line.contains("<script")), "{name}: {text}");
        }
        for element in
            ["section", "div", "table", "details", "figure", "svg", "g", "title", "p", "ul", "h2", "h3", "h4"]
        {
            let opened = body.matches(&format!("<{element}>")).count() + body.matches(&format!("<{element} ")).count();
            assert_eq!(opened, body.matches(&format!("</{element}>")).count(), "{name}: {element}");
        }
    }
}

#[test]
fn a_line_of_csv_is_an_answer_of_a_machine() {
    with("three", |machines| {
        let mut bytes = Vec::new();
        machines.write_csv(&mut bytes).expect("to memory");
        let mut lines = csv::Reader::from_reader(&bytes[..]);
        let lines = lines.records().collect::<Result<Vec<_>, _>>().expect("as many fields in each");
        assert_eq!(lines.len(), machines.workloads[0].claims.len() * 3);
    });
}

fn every_file(directory: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(below).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            every_file(directory, &path, found);
        } else {
            let name = path.strip_prefix(directory).expect("below it").components();
            let name = name.map(|part| part.as_os_str().to_str().expect("ours")).collect::<Vec<_>>().join("/");
            found.insert(name);
        }
    }
}

#[test]
fn a_directory_has_every_record_whole_and_a_sum_of_every_file_and_every_link_leads_somewhere() {
    let directory: PathBuf = std::env::temp_dir().join(format!("pollmark-machines-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    let several = sample::machines().into_iter().filter(|(name, _)| ["hostile", "again"].contains(name));
    for (name, records) in several {
        let _ = fs::remove_dir_all(directory.join("records"));
        let entries = entries(&records);
        write(&entries, &directory, None).expect("writable");
        let mut found = BTreeSet::new();
        every_file(&directory, &directory, &mut found);
        found.remove(SUMS);
        let sums = fs::read_to_string(directory.join(SUMS)).expect("written");
        let summed = sums.lines().map(|line| line.split_once("  ").expect("as sha256sum writes it"));
        let reproduce = fs::read_to_string(directory.join("REPRODUCE.md")).expect("written");
        let mut listed = BTreeSet::new();
        for (sum, file) in summed {
            let bytes = fs::read(directory.join(file)).expect("there");
            assert_eq!(sum, crate::measure::host::sha256(&bytes), "{name}: {file}");
            assert!(reproduce.contains(&format!("- `{file}`\n")), "{name}: {file}");
            listed.insert(file.to_owned());
        }
        assert_eq!(listed, found, "{name}");
        assert_eq!(found.iter().filter(|file| file.ends_with("/results.json")).count(), records.len(), "{name}");
        let page = fs::read_to_string(directory.join("report.html")).expect("written");
        for link in page.split(" href=\"").skip(1).map(|rest| rest.split('"').next().expect("an end")) {
            assert!(link.starts_with('#') || link == SUMS || found.contains(link), "{name}: {link}");
        }
    }
    fs::remove_dir_all(&directory).expect("ours");
}
