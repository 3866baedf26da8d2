//! REPRODUCE.md: from the record alone, what another engineer has to do to make the same measurement, and to compare it.

use std::fmt::Write;

use super::format::{grouped, markdown as escape, plain, shell};
use super::summary::Summary;
use super::text;
use crate::measure::record::Record;

/// The whole page. `files` are the others of the directory.
pub fn render(summary: &Summary<'_>, files: &[String]) -> String {
    let record = summary.record;
    let mut out = format!(
        "# To repeat this comparison\n\nMade {} by pollmark {}, with the seed {}. {}\n",
        escape(&record.started),
        escape(&record.pollmark_version),
        record.seed,
        escape(&text::method(summary))
    );
    section(&mut out, "The same program");
    program(&mut out, record);
    section(&mut out, "A host like it");
    host(&mut out, record);
    if !record.contestants.is_empty() {
        section(&mut out, "The servers that are not ours");
        contestants(&mut out, record);
    }
    section(&mut out, "The same measurement");
    measurement(&mut out, summary);
    section(&mut out, "Compare the two");
    out.push_str(COMPARE);
    section(&mut out, "What is in this directory");
    let _ = write!(out, "{FILES}\n\n");
    out.extend(files.iter().map(|name| format!("- `{name}`\n")));
    out
}

const COMPARE: &str = "\
With the directory of this page in place of `THIS`:

    pollmark diff THIS again

On the same machine it tells by what factor each cell has changed, and of which factors the noise of both leaves nothing. On
another machine sizes mean nothing: it tells in how many tables the same row costs less than the other, and whether the same
rows grow with the number of idle connections. Expect the same signs and shapes, and other numbers.
";

const FILES: &str = "\
`results.json` is the record: every trial, also what is void. All else is made of it, and can be made again by `pollmark report
results.json --out DIRECTORY`. `sha256sum --check SHA256SUMS` tells whether they are as they were written.";

fn section(out: &mut String, title: &str) {
    let _ = write!(out, "\n## {title}\n\n");
}

fn program(out: &mut String, record: &Record) {
    let host = &record.host;
    match host.commit.as_deref().map(|commit| (commit.trim_end_matches('+'), commit.ends_with('+'))) {
        Some((commit, changed)) => {
            let checkout = [
                shell(&["git", "clone", env!("CARGO_PKG_REPOSITORY"), "pollmark"].map(str::to_owned)),
                "cd pollmark".to_owned(),
                shell(&["git", "checkout", commit].map(str::to_owned)),
                build(record),
            ];
            code(out, &checkout);
            if changed {
                out.push_str(
                    "The sources it was built from differed from that commit, and the record does not say in what: another \
                     program may come of it, and other numbers.\n\n",
                );
            }
        }
        None => {
            let version = record.pollmark_version.clone();
            let install = ["cargo", "install", "--locked", "pollmark", "--version"].map(str::to_owned);
            code(out, &[shell(&[install.to_vec(), vec![version]].concat())]);
            out.push_str("The record does not say which commit the program was built from, but its version.\n\n");
        }
    }
    let rustc = if host.rustc.is_empty() { "a compiler that the record does not name" } else { host.rustc.as_str() };
    let _ = writeln!(out, "It was built by {} for {}.", escape(rustc), escape(or_unknown(&host.build)));
    for (name, command, sum) in [
        ("Cargo.lock", "sha256sum Cargo.lock", &host.lock_sha256),
        ("the program", "sha256sum target/release/pollmark", &host.binary_sha256),
    ] {
        if let Some(sum) = sum {
            let _ = writeln!(out, "\nSHA-256 of {name} (`{command}`): `{}`", plain(sum));
        }
    }
    out.push_str(
        "\nThe sum of Cargo.lock is the same for all who have the same versions of everything. That of the program is the same \
         only for the same compiler, linker and path of the sources: another one is no sign of another program.\n",
    );
}

/// The command that builds it: profile, features and flags as they were.
fn build(record: &Record) -> String {
    let host = &record.host;
    let mut words = ["cargo", "build", "--locked"].map(str::to_owned).to_vec();
    if !host.build.contains(", debug,") {
        words.push("--release".to_owned());
    }
    if !host.features.is_empty() {
        words.extend(["--no-default-features", "--features", &host.features.replace(' ', ",")].map(str::to_owned));
    }
    match host.flags.is_empty() {
        true => shell(&words),
        false => format!("RUSTFLAGS={} {}", shell(std::slice::from_ref(&host.flags)), shell(&words)),
    }
}

fn host(out: &mut String, record: &Record) {
    out.push_str(
        "Nothing needs to be installed but Rust (rustup.rs), git and a C linker. What follows is what the host was; the more of it \
         differs, the less the numbers have to agree.\n\n",
    );
    // Of the program it is told above.
    let of_program = ["compiler", "build", "commit", "flags", "features"];
    let facts = record.host.facts().into_iter();
    let facts = facts.filter(|(name, _)| !of_program.contains(name) && !name.starts_with("SHA-256"));
    out.extend(facts.map(|(name, value)| format!("- {}: {}\n", escape(name), escape(&value))));
    let idle = record.settings.idle.iter().max().copied().unwrap_or(0);
    let active = record.settings.active.iter().max().copied().unwrap_or(0);
    let _ = write!(
        out,
        "\nServer and load hold {} connections each at the most, a descriptor for each: `ulimit -Hn` has to allow them, and \
         the command says so before it begins if it does not. Nothing else should run meanwhile.\n",
        grouped(u64::from(idle) + u64::from(active))
    );
    for warning in &record.warnings {
        let _ = write!(out, "\nThis run was not without a flaw, and said: {}\n", escape(warning));
    }
}

fn contestants(out: &mut String, record: &Record) {
    out.push_str("Those of the repository are built by `pollmark contestants --build`; it says what it takes.\n\n");
    for one in &record.contestants {
        let _ = writeln!(
            out,
            "- {}, {}, started by `{}`. {}",
            escape(&one.label),
            escape(&one.version),
            plain(&shell(&one.command)).replace('`', "'"),
            escape(&one.settings)
        );
    }
}

fn measurement(out: &mut String, summary: &Summary<'_>) {
    let record = summary.record;
    out.push_str("With the program that was built above as `pollmark`:\n\n");
    code(out, &[plain(&format!("{} --out again", text::repeat(summary)))]);
    let settings = &record.settings;
    if settings.budget_ns.is_some() {
        let _ = write!(
            out,
            "It makes as many rounds as fit into its time, and {} were made; with `--rounds {}` it makes as many.\n\n",
            settings.rounds_done, settings.rounds_done
        );
    }
    let asked = record.command.iter().any(|word| word == "--preset" || word.starts_with("--preset="));
    if let Some(about) = &record.workload {
        match asked {
            true => {
                let alone = ["pollmark", "compare", "--workload", &about.name, "--seed", &record.seed.to_string()];
                out.push_str("Of that command this is one workload of several. Alone:\n\n");
                code(out, &[plain(&shell(&alone.map(str::to_owned))) + " --out again"]);
            }
            false => {
                let _ = write!(
                    out,
                    "The workload is \"{}\". Where the command names a file, that has to be the same; what was asked for by it \
                     stands in `results.json` under \"settings\".\n\n",
                    escape(&about.name)
                );
            }
        }
    }
    out.push_str("The same seed gives the same order of visits, as long as the same rows are there.\n");
}

/// Lines of a shell, which nothing that a record says can leave.
fn code(out: &mut String, lines: &[String]) {
    out.extend(lines.iter().map(|line| format!("    {}\n", plain(line))));
    out.push('\n');
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "a target that the record does not name" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Host;
    use crate::report::sample;

    fn page(record: &Record) -> String {
        render(&Summary::of(record), &["results.json".to_owned()])
    }

    #[test]
    fn the_program_the_host_and_the_command_of_the_record_are_there() {
        let mut record = sample::ordinary();
        record.host = Host {
            commit: Some("0123abcd".into()),
            rustc: "rustc 1.90.0".into(),
            build: "x86_64-unknown-linux-gnu, release, opt-level 3".into(),
            features: "cli http".into(),
            flags: "-C target-cpu=native".into(),
            lock_sha256: Some("aa".repeat(32)),
            binary_sha256: Some("bb".repeat(32)),
            cpu: Some("A fast one".into()),
            ..Host::default()
        };
        let page = page(&record);
        for part in [
            "    git checkout 0123abcd\n",
            "RUSTFLAGS='-C target-cpu=native' cargo build --locked --release --no-default-features --features cli,http\n",
            "rustc 1.90.0",
            &"aa".repeat(32),
            &"bb".repeat(32),
            "A fast one",
            "    pollmark compare --idle 0,100,1000,5000 --seed 42 --out again\n",
            "pollmark diff THIS again",
            "5,100 connections",
            "- `results.json`",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
        assert!(!page.contains("differed from that commit"), "{page}");
        record.host.commit = Some("0123abcd+".into());
        assert!(super::tests::page(&record).contains("differed from that commit"));
    }

    #[test]
    fn what_the_record_does_not_know_is_said_and_not_made_up() {
        let page = page(&sample::empty());
        assert!(
            page.contains("cargo install --locked pollmark --version") && page.contains("does not say which commit")
        );
        assert!(!page.contains("git checkout") && page.contains("does not name"), "{page}");
    }

    #[test]
    fn of_a_preset_the_workload_alone_is_given_too() {
        let mut record = sample::ordinary();
        record.command = ["pollmark", "compare", "--preset", "full"].map(str::to_owned).to_vec();
        let name = record.workload.as_ref().map(|about| about.name.clone()).expect("the sample has one");
        let alone = format!("    pollmark compare --workload {name} --seed 42 --out again\n");
        assert!(page(&record).contains(&alone), "{alone}");
    }

    #[test]
    fn nothing_in_a_record_leaves_its_line_or_commands_the_reader() {
        for (name, record) in sample::all() {
            let page = page(&record);
            assert!(!page.contains('\u{1b}'), "{name}");
            let text = |line: &&str| !line.starts_with("    ");
            assert!(page.lines().filter(text).all(|line| !line.contains("<script")), "{name}: {page}");
        }
    }
}
