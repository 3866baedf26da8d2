//! The command `pollmark`, over the mechanisms it is built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    pollmark::cli::run(&pollmark::backends::Registry::builtin(), std::env::args_os())
}
