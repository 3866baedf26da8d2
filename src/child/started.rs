//! What every process that is started has coming to it: to be heard to the end, waited for within a time, and ended.

use std::convert::Infallible;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked whether a process has ended.
pub(super) const GLANCE: Duration = Duration::from_millis(2);

/// As much of a process's last words as is quoted in an error.
pub(super) const LAST_WORDS: usize = 2_048;

/// How long they may take to be read, once it has ended.
const SOON: Duration = Duration::from_secs(1);

/// Keeps a terminal's Ctrl-C from the process, and makes it the first of its group.
pub(super) fn apart(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt;
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }
}

/// Waits until it has ended, but not for longer than this: `None` then.
pub(crate) fn wait_at_most(process: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        match process.try_wait()? {
            None if began.elapsed() < patience => thread::sleep(GLANCE),
            ended => return Ok(ended),
        }
    }
}

/// What a process says through one pipe. All of it is read, so that the process never waits for a reader; the beginning
/// is kept.
pub(crate) struct Words {
    kept: Arc<Mutex<Vec<u8>>>,
    /// Disconnected when the pipe is at its end.
    end: Receiver<Infallible>,
}

impl Words {
    /// Listens, on a thread of its own, and keeps the first `most` bytes.
    pub(crate) fn of(mut from: impl Read + Send + 'static, most: usize) -> Words {
        let (kept, (until_end, end)) = (Arc::default(), mpsc::channel());
        let words = Words { kept: Arc::clone(&kept), end };
        thread::spawn(move || {
            let _until_end = until_end;
            let mut buffer = [0; 4_096];
            loop {
                match from.read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                    Ok(length) => {
                        let mut kept = lock(&kept);
                        let room = most - kept.len();
                        kept.extend_from_slice(&buffer[..length.min(room)]);
                    }
                }
            }
        });
        words
    }

    /// What a process that has ended has said. The pipe is at its end then, unless one that it has left behind holds it
    /// open: that one is not waited for.
    pub(crate) fn last(&self) -> String {
        // An error either way: nothing is ever sent.
        let _ = self.end.recv_timeout(SOON);
        String::from_utf8_lossy(&lock(&self.kept)).into_owned()
    }
}

fn lock(kept: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn all_is_read_the_beginning_is_kept_and_who_holds_the_pipe_is_not_waited_for() {
        let (reader, mut writer) = io::pipe().expect("two descriptors");
        let words = Words::of(reader, 10);
        // More than a pipe holds: written only if somebody reads.
        writer.write_all(&[b'x'; 1 << 20]).expect("read to the end");
        assert_eq!(words.last(), "x".repeat(10), "the writer is still here");
        drop(writer);
        assert_eq!(words.last().len(), 10);
    }
}
