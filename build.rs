//! Names groups of platforms once, so that no list of systems is repeated in the code, and notes what a record of a
//! measurement must say about the program: compiler, profile and commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let os = variable("CARGO_CFG_TARGET_OS");
    let groups = [
        ("linux_like", &["linux", "android"][..]),
        // Systems that have accept4(2).
        ("accept4", &["linux", "android", "freebsd", "netbsd", "openbsd", "dragonfly"][..]),
        // Systems whose clock of a process's CPU time rustix does not know.
        ("no_process_clock", &["netbsd"][..]),
        // Systems that bind a thread to a CPU.
        ("affinity", &["linux", "android", "freebsd"][..]),
        // Systems whose SO_REUSEPORT shares connections out among the listeners, and those with an option of its own
        // for it. To the others the option only says that two may bind, and one of them gets every connection.
        ("reuse_port", &["linux", "android", "dragonfly"][..]),
        ("reuse_port_lb", &["freebsd"][..]),
    ];
    // As the backends have the ring.
    let processor = variable("CARGO_CFG_TARGET_ARCH");
    let known = ["x86_64", "aarch64", "riscv64", "loongarch64", "powerpc64"].contains(&processor.as_str());
    println!("cargo::rustc-check-cfg=cfg(completion)");
    if os == "linux" && known && std::env::var_os("CARGO_FEATURE_IO_URING").is_some() {
        println!("cargo::rustc-cfg=completion");
    }
    for (name, members) in groups {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if members.contains(&os.as_str()) {
            println!("cargo::rustc-cfg={name}");
        }
    }
    if std::env::var_os("CARGO_FEATURE_REPORT").is_some() {
        let rustc = output(&variable("RUSTC"), &["--version"]).unwrap_or_default();
        println!("cargo::rustc-env=POLLMARK_RUSTC={rustc}");
        println!("cargo::rustc-env=POLLMARK_TARGET={}", variable("TARGET"));
        let (profile, level) = (variable("PROFILE"), variable("OPT_LEVEL"));
        println!("cargo::rustc-env=POLLMARK_PROFILE={profile}, opt-level {level}");
        println!("cargo::rustc-env=POLLMARK_COMMIT={}", commit().unwrap_or_default());
        println!("cargo::rustc-env=POLLMARK_FLAGS={}", variable("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " "));
        println!("cargo::rustc-env=POLLMARK_FEATURES={}", features());
        keep_lock();
    }
}

/// The features of this package that are on.
fn features() -> String {
    let names = std::env::vars().filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase));
    let mut names = names.filter(|name| name != "default").map(|name| name.replace('_', "-")).collect::<Vec<_>>();
    names.sort();
    names.join(" ")
}

/// Keeps the versions of what this is built from, for the program to name them by their hash; nothing where they are
/// not beside the sources.
fn keep_lock() {
    let lock = std::fs::read("Cargo.lock").inspect(|_| println!("cargo::rerun-if-changed=Cargo.lock"));
    let kept = Path::new(&variable("OUT_DIR")).join("Cargo.lock");
    std::fs::write(kept, lock.unwrap_or_default()).expect("cargo gives a directory to write to");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// The commit built, "+" after it if the sources differ from it; from git, or from the note `cargo package` leaves.
fn commit() -> Option<String> {
    // In an unpacked package, git would answer for whatever repository surrounds it: ours tracks this file.
    if output("git", &["ls-files", "--error-unmatch", "build.rs"]).is_some() {
        let sources = ["src", "backends/src", "Cargo.toml", "Cargo.lock"];
        let log = output("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
        for watched in sources.iter().copied().chain([log.as_str()]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={watched}");
        }
        let status = [&["status", "--porcelain", "--"][..], &sources].concat();
        let changed = if output("git", &status)?.is_empty() { "" } else { "+" };
        return Some(output("git", &["rev-parse", "HEAD"])? + changed);
    }
    let note = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, hash) = note.split_once("\"sha1\": \"")?;
    Some(hash.split('"').next()?.to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
