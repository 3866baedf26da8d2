//! The partner of a poller whose waits are to sleep: a process that writes once the poller is asleep.
//!
//! It is given each message over its standard input, and writes it to its standard output, which is what the poller
//! watches. Like any child it ends when its input closes.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, Stdio};
use std::thread;
use std::time::Duration;
use std::{env, fs};

use super::Role;
use crate::cpus;
use crate::exercise::MESSAGE;

/// How often the partner looks whether the poller sleeps.
const GLANCE: Duration = Duration::from_micros(20);
/// How long it gives the poller where it cannot look.
const BLIND: Duration = Duration::from_millis(3);

/// The process, from the poller's side. Dropping it ends it.
pub(super) struct Partner(process::Child);

impl Partner {
    /// Starts it, bound to `cpu`; it will write to `awaited`. Returned with it is where messages are given to it.
    pub(super) fn start(awaited: OwnedFd, cpu: Option<usize>) -> io::Result<(Partner, OwnedFd)> {
        let (given, giving) = io::pipe()?;
        let mut command = Role::Partner.command()?;
        command.arg(process::id().to_string()).args(cpu.map(|cpu| cpu.to_string()));
        let process = command.stdin(Stdio::from(given)).stdout(Stdio::from(awaited)).spawn()?;
        Ok((Partner(process), giving.into()))
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The partner itself: writes what it is given until nobody gives any more.
pub(super) fn run() {
    let mut arguments = env::args().skip(2).map_while(|argument| argument.parse::<usize>().ok());
    let Some(poller) = arguments.next() else { return eprintln!("a partner is started by pollmark, and told whose") };
    // Not to be bound is no error here: the poller tells whether the two could be.
    let _ = cpus::unpinned(arguments.next());
    hand_on(io::stdin().lock(), io::stdout().as_fd(), || until_asleep(poller));
    process::exit(0);
}

/// Each message by one call, and not through the standard output's buffer: it ends lines, and a byte of a message may
/// look like the end of one. The poller would be woken by a part of it.
fn hand_on(mut given: impl Read, awaited: BorrowedFd<'_>, wait: impl Fn()) {
    let mut message = [0; MESSAGE];
    while given.read_exact(&mut message).is_ok() {
        wait();
        if rustix::io::write(awaited, &message) != Ok(MESSAGE) {
            break;
        }
    }
}

/// Returns once the process sleeps, or is gone. It has given a message away, and has nothing left but to wait.
fn until_asleep(process: usize) {
    let path = format!("/proc/{process}/stat");
    loop {
        let Some(state) = fs::read_to_string(&path).ok().and_then(|text| state(&text)) else {
            return thread::sleep(BLIND);
        };
        match state {
            'R' | 'D' => thread::sleep(GLANCE),
            _ => return,
        }
    }
}

/// The state of a process in its line of proc(5): the first after its name, in which anything may stand.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_message_is_written_whole_whatever_is_in_it() {
        let (writer, reader) = UnixDatagram::pair().expect("two descriptors");
        let messages = [[b'\n', 1, 0, 0, 0, 0, 0, 0], [9, b'\n', b'\n', 0, 0, 0, 7, 0]];
        hand_on(messages.as_flattened(), writer.as_fd(), || {});
        for message in messages {
            let mut found = [0; 2 * MESSAGE];
            let length = reader.recv(&mut found).expect("what was written by one call");
            assert_eq!(found[..length], message);
        }
    }

    #[test]
    fn the_state_is_found_behind_any_name() {
        assert_eq!(state("17 (a) R (b) S 1 17 17 0"), Some('S'));
        assert_eq!(state("17 (pollmark) R 1 17"), Some('R'));
        assert_eq!(state(""), None);
    }
}
