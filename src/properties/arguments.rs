//! What a person types is understood, or answered in one line that says what is wrong.

use std::ffi::OsString;

use pollmark_backends::Registry;

use crate::cli;
use crate::mechanism::Mechanism;
use crate::server::Address;

/// Takes each line of `text` for an argument of the command, and all of it for an address and for a mechanism. Nothing
/// is run, and no name is looked up.
///
/// # Panics
/// If what was understood is printed as something else, or an error is not a line that names what was wrong.
pub fn what_is_typed_is_understood_or_explained(text: &[u8]) {
    let arguments = text.split(|byte| *byte == b'\n').map(argument);
    if let Err((code, message)) = cli::understand(arguments.collect()) {
        // Whoever names no sub-command is shown them all.
        let lines = message.lines().filter(|_| !message.starts_with("no sub-command given\n")).count();
        assert!(code == 2 && lines <= 1, "{message:?}");
    }

    let text = String::from_utf8_lossy(text);
    match Address::understand(&text) {
        Ok(Ok(address)) => assert_eq!(address.to_string().parse::<Address>().expect("as printed"), address),
        Ok(Err((_, name))) => assert!(
            name.rsplit_once(':').is_some_and(|(host, port)| { !host.is_empty() && port.parse::<u16>().is_ok() })
        ),
        Err(error) => one_line(&error.to_string(), "HOST:PORT"),
    }
    let registry = Registry::builtin();
    match Mechanism::parse(&registry, &text) {
        Ok(mechanism) => assert_eq!(mechanism.name(), text),
        Err(error) => one_line(&error.to_string(), "poll"),
    }
}

fn one_line(message: &str, word: &str) {
    assert!(message.lines().count() == 1 && message.contains(word), "{message:?}");
}

#[cfg(unix)]
fn argument(bytes: &[u8]) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).to_owned()
}

#[cfg(not(unix))]
fn argument(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words a person may type, to be cut, joined and put in any order.
    const WORDS: [&str; 31] = [
        "serve",
        "load",
        "compare",
        "report",
        "backends",
        "--backend",
        "epoll-edge",
        "--listen",
        "127.0.0.1:0",
        "[::1]:7000",
        "tcp://localhost:80",
        "unix:@name",
        "udp://",
        "unix:/a path",
        "--target",
        "--size",
        "1073741824",
        "--duration",
        "1y 3s",
        "--requests",
        "18446744073709551615",
        "--idle",
        "0,100,,x",
        "--active=",
        "--seed=-1",
        "--quick",
        "--json",
        "-h",
        "--",
        "=",
        "--out=\u{85}",
    ];

    proptest! {
        #[test]
        fn any_arguments_are_understood_or_explained(
            words in prop::collection::vec(prop_oneof![
                prop::sample::select(&WORDS[..]).prop_map(str::to_owned),
                ".{0,12}",
                "[a-z0-9:.\\[\\]/-]{0,24}",
            ], 0..6),
        ) {
            what_is_typed_is_understood_or_explained(words.join("\n").as_bytes());
        }

        #[test]
        fn any_bytes_are_understood_or_explained(bytes: Vec<u8>) {
            what_is_typed_is_understood_or_explained(&bytes);
        }
    }
}
