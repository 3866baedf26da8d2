//! Commands of contestants: run to their end, within a time, with what they say.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::child::{Words, wait_at_most};

/// As much as is kept of what a command says.
const MOST: usize = 4_096;

/// What a command said, and whether it has succeeded.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) success: bool,
    pub(super) out: String,
    pub(super) errors: String,
}

/// Where a program is: a path is looked for from `folder`, a plain name by the system.
pub(super) fn program(name: &str, folder: &Path) -> PathBuf {
    if name.contains(['/', '\\']) { folder.join(name) } else { name.into() }
}

/// Runs `command` in `folder`, at most for `patience`. What it leaves running is not waited for.
///
/// The error says why it could not be run to its end.
pub(super) fn run(command: &[String], folder: &Path, patience: Duration) -> Result<Said, String> {
    let mut process = prepare(command, folder)?;
    let process = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = process.map_err(|error| cannot_run(command, &error))?;
    let (out, errors) = (process.stdout.take().expect("piped above"), process.stderr.take().expect("piped above"));
    let (out, errors) = (Words::of(out, MOST), Words::of(errors, MOST));
    let why = match wait_at_most(&mut process, patience) {
        Ok(Some(status)) => return Ok(Said { success: status.success(), out: out.last(), errors: errors.last() }),
        Ok(None) => format!("has not ended within {} s", patience.as_secs()),
        Err(error) => format!("cannot be waited for: {error}"),
    };
    let _ = process.kill();
    let _ = process.wait();
    Err(format!("`{}` {why}", command.join(" ")))
}

/// Runs `command` in `folder` for as long as it takes, its output among this program's errors.
pub(super) fn pass_through(command: &[String], folder: &Path) -> Result<(), String> {
    let status = prepare(command, folder)?.stdout(io::stderr()).status();
    let status = status.map_err(|error| cannot_run(command, &error))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` fails ({status})", command.join(" "))) }
}

fn prepare(command: &[String], folder: &Path) -> Result<Command, String> {
    let (name, arguments) = command.split_first().ok_or("a command is wanted")?;
    // From an absolute folder, for it is not said everywhere whether a program is looked for before or after going there.
    let folder = folder.canonicalize().map_err(|error| format!("cannot go to {}: {error}", folder.display()))?;
    let mut process = Command::new(program(name, &folder));
    process.args(arguments).current_dir(folder).stdin(Stdio::null());
    Ok(process)
}

fn cannot_run(command: &[String], error: &io::Error) -> String {
    let name = &command[0];
    match error.kind() {
        io::ErrorKind::NotFound => format!("{name} is not there"),
        _ => format!("cannot run {name}: {error}"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Result<Said, String> {
        run(&["sh", "-c", script].map(str::to_owned), Path::new("/"), patience)
    }

    #[test]
    fn what_a_command_says_is_heard_where_it_runs_and_a_stuck_one_is_ended() {
        let said = shell("pwd; echo no >&2; exit 3", Duration::from_secs(20)).expect("it runs");
        assert_eq!((said.success, said.out.as_str(), said.errors.as_str()), (false, "/\n", "no\n"));
        let stuck = shell("exec sleep 60", Duration::from_millis(20)).expect_err("it does not end");
        assert!(stuck.contains("has not ended within"), "{stuck}");
        let long = shell("yes | head -c 100000", Duration::from_secs(20)).expect("it runs");
        assert_eq!((long.success, long.out.len()), (true, MOST), "all is read, a part is kept");
    }

    #[test]
    fn what_a_command_leaves_running_with_its_output_is_not_waited_for() {
        use rustix::process::{Pid, Signal, kill_process};
        let said = shell("sleep 60 2>/dev/null & echo $!", Duration::from_secs(20)).expect("it runs");
        assert!(said.success, "{said:?}");
        let left = said.out.trim().parse().ok().and_then(Pid::from_raw).expect("its number");
        kill_process(left, Signal::KILL).expect("it still runs");
    }

    #[test]
    fn what_is_not_there_is_said_to_be() {
        let none = run(&["no-such-program".to_owned()], Path::new("/"), Duration::from_secs(1)).expect_err("none");
        assert_eq!(none, "no-such-program is not there");
        let nowhere = run(&["sh".to_owned()], Path::new("/no/such"), Duration::from_secs(1)).expect_err("nowhere");
        assert!(nowhere.contains("cannot go to /no/such"), "{nowhere}");
        let failing = pass_through(&["false".to_owned()], Path::new("/")).expect_err("it fails");
        assert!(failing.contains("`false` fails"), "{failing}");
    }
}
