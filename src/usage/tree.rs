//! A process that is not this one, and all it has started: their CPU time and their memory.
//!
//! The clock of a process tells the time of all its threads, those that have ended included, to the nanosecond; the
//! times in /proc/PID/stat are in steps of 10 ms, which an interval of 150 ms is too short for.

use std::time::Duration;

/// The processes, and what each had used when it was last asked.
#[derive(Debug)]
pub(crate) struct Tree {
    root: u32,
    before: Vec<(u32, Duration)>,
}

impl Tree {
    /// Of the process `root` and those it will start. What it has used so far counts.
    pub(crate) const fn of(root: u32) -> Tree {
        Tree { root, before: Vec::new() }
    }

    /// CPU time since this was last asked. `None` where the system does not tell it of others, and if a process has
    /// ended meanwhile: nobody knows how much of its last bit belongs here.
    pub(crate) fn cpu_since(&mut self) -> Option<Duration> {
        let used = |process: u32| Some((process, sys::cpu_time(process)?));
        let now = sys::processes(self.root)?.into_iter().map(used).collect::<Option<Vec<_>>>()?;
        let before = std::mem::replace(&mut self.before, now.clone());
        let of = |process: u32| now.iter().find(|(other, _)| *other == process).map(|(_, used)| *used);
        let earlier = before.iter().map(|(process, used)| of(*process).map(|_| *used)).sum::<Option<Duration>>()?;
        Some(now.iter().map(|(_, used)| *used).sum::<Duration>().saturating_sub(earlier))
    }

    /// Bytes of memory that belong to each of them alone, added up; `None` where the system does not tell.
    pub(crate) fn memory(&self) -> Option<u64> {
        sys::processes(self.root)?.into_iter().map(|process| super::private_memory_of(&process.to_string())).sum()
    }
}

/// What the process has used since it began; `None` where the system does not tell it of others, or it has ended.
pub(crate) fn cpu_time_of(process: u32) -> Option<Duration> {
    sys::cpu_time(process)
}

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        mod sys {
            use std::fs;
            use std::time::Duration;

            use nix::time::clock_getcpuclockid;
            use nix::unistd::Pid;

            /// `root` and its descendants, it first. `None` if it is gone, or the kernel was built without such lists.
            pub(super) fn processes(root: u32) -> Option<Vec<u32>> {
                let mut all = vec![root];
                let mut at = 0;
                while let Some(&process) = all.get(at) {
                    match children(process) {
                        Some(children) => all.extend(children),
                        None if process == root => return None,
                        // It has ended just now.
                        None => {}
                    }
                    at += 1;
                }
                Some(all)
            }

            /// Those that any thread of it has started.
            fn children(process: u32) -> Option<Vec<u32>> {
                let mut children = Vec::new();
                for thread in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
                    let Ok(listed) = fs::read_to_string(thread.path().join("children")) else { continue };
                    children.extend(listed.split_whitespace().filter_map(|process| process.parse::<u32>().ok()));
                }
                // A thread that has ended has no list; but that there are lists at all one must show.
                fs::exists(format!("/proc/{process}/task/{process}/children")).ok()?.then_some(children)
            }

            pub(super) fn cpu_time(process: u32) -> Option<Duration> {
                let clock = clock_getcpuclockid(Pid::from_raw(process.try_into().ok()?)).ok()?;
                clock.now().ok().map(Duration::from)
            }
        }
    } else {
        mod sys {
            use std::time::Duration;

            pub(super) fn processes(_: u32) -> Option<Vec<u32>> {
                None
            }

            pub(super) fn cpu_time(_: u32) -> Option<Duration> {
                None
            }
        }
    }
}

#[cfg(all(test, linux_like))]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    #[test]
    fn the_time_of_a_process_that_was_started_counts_and_that_of_one_that_has_ended_is_unknown() {
        let busy = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; exec sleep 60";
        let script = format!("sh -c '{busy}' & wait; echo alone; exec cat");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = shell.expect("a shell");
        let mut lines = BufReader::new(shell.stdout.take().expect("piped")).lines();
        let mut heard = || lines.next().expect("a line").expect("text");
        let mut tree = Tree::of(shell.id());
        assert_eq!(heard(), "done");
        let root = sys::cpu_time(shell.id()).expect("it runs");
        let all = tree.cpu_since().expect("both run");
        assert!(all > root + Duration::from_millis(1), "30,000 additions: {all:?} of both, {root:?} of one");
        assert!(tree.memory().expect("both run") > 0);
        let busy = *sys::processes(shell.id()).expect("it runs").last().expect("the other is listed");
        let busy = Pid::from_raw(busy.try_into().expect("a process")).expect("not 0");
        kill_process(busy, Signal::KILL).expect("it runs");
        assert_eq!(heard(), "alone");
        assert_eq!(tree.cpu_since(), None, "one has ended");
        assert!(tree.cpu_since().is_some(), "from then on it is known again");
        drop(shell.stdin.take());
        shell.wait().expect("it ends");
        assert_eq!((tree.cpu_since(), tree.memory()), (None, None), "it is gone");
    }

    #[test]
    fn of_this_process_it_tells_what_the_process_itself_does() {
        let mut tree = Tree::of(std::process::id());
        let (before, told, after) = (crate::usage::cpu_time(), tree.cpu_since(), crate::usage::cpu_time());
        // Others of this test program may have started processes, whose time comes on top or makes it unknown.
        assert!(told.is_none() || told >= before, "{before:?} {told:?} {after:?}");
    }
}
