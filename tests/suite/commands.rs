//! The command as a child: how it is started, and how it fails.

use std::process::{Command, Output, Stdio};

pub(crate) fn pollmark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pollmark"));
    command.args(arguments).env_remove("POLLMARK_BACKEND").stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    pollmark(arguments).output().expect("the command starts")
}

/// Fails with `code` and one line on stderr that contains all of `words`.
pub(crate) fn fails(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "not one line: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
}
