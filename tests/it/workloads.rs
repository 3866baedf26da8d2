//! Workloads: each that comes with the program runs end to end, and a file of one's own is read or told what is wrong.

use std::fs;
use std::path::Path;

use pollmark::exercise::Task;
use pollmark::measure::Workload;
use pollmark::measure::record::Verdict;
use pollmark::workload::Transport;
use serde_json::Value;

use crate::cli::{fails, pollmark, run};
use crate::compare::Scratch;

/// The same with little of everything: as many cells in each direction as show that the direction is there.
fn little(mut workload: Workload) -> Workload {
    let grid = &mut workload.grid;
    grid.mechanisms = vec!["poll".into()];
    let most = |sizes: &[usize], most: usize| sizes.iter().max().map(|size| (*size).min(most)).expect("a size");
    (grid.idle, grid.active) = (vec![most(&grid.idle, 12)], vec![most(&grid.active, 3)]);
    grid.sharing.truncate(1);
    // One rate, and time for something to be due at it, however slow a closed loop has found this machine.
    grid.offered = grid.offered.iter().max().copied().into_iter().collect();
    let ms = std::time::Duration::from_millis;
    let interval = if grid.offered.is_empty() { ms(5) } else { ms(100) };
    workload.gates.clear();
    (workload.time.warm_up, workload.time.interval, workload.time.rounds) = (ms(1), interval, Some(1));
    workload
}

/// As a file: a JSON value on one line is a TOML value, but for an object.
fn as_toml(workload: &Workload) -> String {
    let Value::Object(all) = serde_json::to_value(workload).expect("plain fields") else { unreachable!("a struct") };
    let (tables, plain): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, value)| value.is_object());
    let line = |(key, value): (&String, &Value)| format!("{key} = {value}\n");
    let mut text: String = plain.iter().map(|(key, value)| line((key, value))).collect();
    for (name, table) in &tables {
        text.push_str(&format!("[{name}]\n"));
        text.extend(table.as_object().expect("a table").iter().map(line));
    }
    text
}

#[test]
fn every_workload_runs_and_its_record_says_what_it_was() {
    let scratch = Scratch::new("workloads");
    fs::create_dir_all(&scratch.0).expect("a directory");
    for workload in Workload::shipped() {
        let (name, workload) = (workload.name.clone(), little(workload));
        let of_unix = workload.exercise.is_some() || workload.grid.transport.contains(&Transport::Unix);
        if cfg!(windows) && of_unix {
            println!("{name}: skipped: this system has no pipes, socket pairs or Unix sockets to measure");
            continue;
        }
        let (file, out) = (scratch.0.join(format!("{name}.toml")), scratch.0.join(&name));
        fs::write(&file, as_toml(&workload)).expect("writable");
        assert_eq!(Workload::read(&file).expect("well-formed"), workload, "{name}");
        let (file, directory) = (file.to_str().expect("a plain path"), out.to_str().expect("a plain path"));
        let output = run(&["compare", "--workload", file, "--out", directory, "--seed", "1"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        let record = Scratch(out).record();
        assert!(record.finished, "{name}");
        assert_eq!(record.workload.as_ref().map(|about| (&about.name, &about.title)), Some((&name, &workload.title)));
        let ranked = |trial: &&pollmark::measure::record::Trial| !trial.control && !trial.ceiling;
        let timed = record
            .trials
            .iter()
            .filter(ranked)
            .filter(|trial| !trial.counted && trial.void.is_none())
            .collect::<Vec<_>>();
        let (rows, loads) = (record.settings.mechanisms.len(), record.settings.loads().count());
        assert_eq!(timed.len(), rows * loads, "{name}: a cell for each row and load");
        for trial in &timed {
            if let Some(exercise) = trial.exercise {
                let messages = if exercise.task == Task::Relay { trial.requests } else { 0 };
                assert_eq!(
                    (trial.bytes, trial.ledger.reads - trial.ledger.would_block),
                    (8 * messages, messages),
                    "{name}"
                );
                continue;
            }
            let traffic = trial.traffic.expect("new records tell");
            assert_eq!(trial.bytes, trial.requests * traffic.payload as u64, "{name}");
            let opened = trial.requests.checked_div(traffic.exchanges).unwrap_or(0);
            assert!(trial.ledger.accepts >= opened, "{name}: {opened} connections, {:?}", trial.ledger);
            let calls = trial.ledger.reads as f64 / trial.requests as f64;
            assert!(traffic.outstanding < 16 || calls < 0.7, "{name}: not sent together, {calls} reads an echo");
        }
        assert!(rows > 0 && timed.iter().all(|trial| trial.requests > 0), "{name}: {timed:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("Workload {name}: ")), "{name}");
    }
}

#[test]
fn what_a_deadline_costs_each_poller_is_in_the_gates_of_a_comparison_with_and_without() {
    let scratch = Scratch::new("deadlines");
    let shipped = Workload::find("deadlines").expect("it comes with the program");
    let mut workload = Workload { gates: shipped.gates.clone(), ..little(shipped) };
    workload.grid.mechanisms = ["poll", "select", "threads"].map(String::from).into();
    workload.time.rounds = Some(2);
    fs::create_dir_all(&scratch.0).expect("a directory");
    let (file, out) = (scratch.0.join("deadlines.toml"), scratch.0.join("out"));
    fs::write(&file, as_toml(&workload)).expect("writable");
    let output = run(&["compare", "--workload", file.to_str().expect("plain"), "--out", out.to_str().expect("plain")]);
    let said = String::from_utf8_lossy(&output.stderr);
    let record = Scratch(out).record();
    let [gate] = &record.gates[..] else { panic!("{:?}: {said}", record.gates) };
    // Intervals of a few milliseconds tell nothing of how it comes out.
    let told = gate.deadline_costs.iter().map(|one| (one.subject.as_str(), one.compared)).collect::<Vec<_>>();
    let all = [("poll", true), ("select", true), ("threads", false)];
    // Where CPU time is counted in steps, a few milliseconds may have none.
    let is_exact = cfg!(target_os = "linux");
    assert!(if is_exact { told == all } else { told.iter().all(|one| all.contains(one)) }, "{gate:?}: {said}");
    assert_eq!(gate.value.is_none(), gate.verdict == Verdict::Unavailable, "{gate:?}");
    assert_eq!(output.status.code(), Some(i32::from(gate.verdict == Verdict::Fail)), "{gate:?}: {said}");
}

#[test]
fn workloads_are_listed_and_explained() {
    let list = String::from_utf8(run(&["workloads"]).stdout).expect("text");
    for workload in Workload::shipped() {
        assert!(list.contains(&workload.name) && list.contains(&workload.title), "{list}");
    }
    let page = String::from_utf8(run(&["workloads", "idle-crowd", "quick"]).stdout).expect("text");
    assert_eq!(page.matches("What it does not show").count(), 2, "{page}");
    let json = run(&["workloads", "quick", "--json"]).stdout;
    let read: Vec<Workload> = serde_json::from_slice(&json).expect("workloads");
    assert_eq!(read, [Workload::find("quick").expect("it comes with the program")]);
}

#[test]
fn the_page_of_the_workloads_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workloads/README.md");
    let head = "# What `pollmark compare --workload` can be asked for\n\n\
        Each is a file here, and compiled in. One of your own has the same form: copy the nearest, and give its path.\n\
        This page is what `pollmark workloads --markdown` prints.\n\n";
    let page = String::from_utf8(run(&["workloads", "--markdown"]).stdout).expect("text");
    let current = format!("{head}{page}");
    if std::env::var_os("POLLMARK_BLESS").is_some() {
        fs::write(&path, current).expect("writable");
    } else {
        let there = fs::read_to_string(&path).expect("benches/workloads/README.md").replace("\r\n", "\n");
        assert_eq!(there, current, "run it with POLLMARK_BLESS=1 to bring it up to date");
    }
}

#[test]
fn what_is_no_workload_is_answered_with_the_file_the_line_and_what_to_do() {
    let scratch = Scratch::new("workload");
    fs::create_dir_all(&scratch.0).expect("a directory");
    let file = scratch.0.join("mine.toml");
    let text = as_toml(&little(Workload::find("quick").expect("it comes with the program")));
    fs::write(&file, text.replace("active =", "actvie =")).expect("writable");
    let path = file.to_str().expect("a plain path");
    for command in [&["workloads", path][..], &["compare", "--workload", path]] {
        fails(&run(command), 2, &["mine.toml", "line ", "actvie", "`active`"]);
    }
    fs::write(&file, text.replace("\"poll\"", "\"pol\"")).expect("writable");
    fails(&run(&["compare", "--workload", path]), 2, &["\"pol\"", "poll", "select"]);
    fails(&run(&["compare", "--workload", "idle-crowds"]), 2, &["no workload \"idle-crowds\"", "idle-crowd"]);
    fails(&run(&["compare", "--workload", "./gone.toml"]), 2, &["./gone.toml"]);
    fails(&run(&["compare", "--workload", "set-up", "--size", "9"]), 2, &["no payload", "leave them out"]);
    fails(&run(&["compare", "--workload", "quick", "--quick"]), 2, &["--workload", "--quick"]);
    assert!(!pollmark(&["workloads", "--json", "--markdown"]).output().expect("it starts").status.success());
}

#[test]
#[cfg(unix)]
fn a_preset_leaves_a_directory_for_each_workload_and_a_page_over_all() {
    let scratch = Scratch::new("preset");
    fs::create_dir_all(&scratch.0).expect("a directory");
    for name in ["ping-pong", "channels"] {
        let workload = little(Workload::find(name).expect("it comes with the program"));
        fs::write(scratch.0.join(format!("{name}.toml")), as_toml(&workload)).expect("writable");
    }
    let path = |name: &str| scratch.0.join(name).to_str().expect("a plain path").to_owned();
    let (preset, out) = (path("mine.toml"), path("out"));
    let names = ["ping-pong.toml", "channels.toml"].map(path);
    let text = format!("name = \"mine\"\ntitle = \"Two of them\"\nworkloads = {names:?}\n");
    fs::write(&preset, text).expect("writable");
    let output = run(&["compare", "--preset", &preset, "--out", &out, "--seed", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("2 of 2: channels"), "{said}");
    let page = fs::read_to_string(scratch.0.join("out/report.md")).expect("a page over all");
    for name in ["ping-pong", "channels"] {
        let record = Scratch(scratch.0.join("out").join(name)).record();
        assert!(record.finished && record.settings.mechanisms == ["poll"], "{name}");
        assert!(page.contains(&format!("\n## {name}\n")) && page.contains(&format!("({name}/report.html)")), "{page}");
    }

    fails(&run(&["compare", "--preset", "clasic"]), 2, &["no preset \"clasic\"", "classic", "full"]);
    fails(&run(&["compare", "--preset", &preset, "--idle", "5"]), 2, &["--idle is for one workload", "--workload"]);
    fails(&run(&["compare", "--preset", "quick", "--quick"]), 2, &["--preset", "--quick"]);
    let list = String::from_utf8(run(&["workloads"]).stdout).expect("text");
    assert!(list.contains("--preset NAME") && list.contains("planned for 6m 55s"), "{list}");
}
