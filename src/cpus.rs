//! Which CPUs this process may run on, which of them share a core, and binding threads to them.

use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;

/// The CPUs this process may run on, in ascending order; none where the system does not tell.
pub fn allowed() -> Vec<usize> {
    sys::allowed()
}

/// The same, those first that share no core with one before them.
pub fn apart() -> Vec<usize> {
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for cpu in allowed() {
        let is_taken = siblings(cpu).iter().any(|sibling| first.contains(sibling));
        if is_taken { &mut others } else { &mut first }.push(cpu);
    }
    first.append(&mut others);
    first
}

/// Binds this thread, and all it will start, to one CPU.
///
/// # Errors
/// `Unsupported` where the system offers no such thing (macOS, OpenBSD, …); else what the kernel said.
pub fn pin(cpu: usize) -> io::Result<()> {
    sys::pin(cpu)
}

/// Binds this thread, and all it will start, to `cpu`, if one is given. Returns why that could not be.
#[cfg(feature = "report")]
pub(crate) fn unpinned(cpu: Option<usize>) -> Option<String> {
    pin(cpu?).err().map(|error| error.to_string())
}

/// Which CPUs the threads of a server are bound to.
///
/// ```
/// use pollmark::cpus::Pinning;
/// assert_eq!("0,4-6".parse::<Pinning>()?, Pinning::To(vec![0, 4, 5, 6]));
/// assert_eq!("auto".parse::<Pinning>()?, Pinning::Auto);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
pub enum Pinning {
    /// None: the system moves them as it likes.
    #[default]
    None,
    /// Each to one of those the process may use, in the order of [`apart`].
    Auto,
    /// Each to one of these, in this order.
    To(Vec<usize>),
}

impl Pinning {
    /// The CPU of each of so many threads. Where there are more threads than CPUs, the first CPUs get another.
    ///
    /// # Errors
    /// `Unsupported` where threads cannot be bound, and `InvalidInput` if this process may not use a CPU of the list,
    /// or the list is empty.
    pub fn of(&self, threads: usize) -> io::Result<Vec<Option<usize>>> {
        let cpus = match self {
            Pinning::None => return Ok(vec![None; threads]),
            Pinning::Auto => apart(),
            Pinning::To(cpus) => cpus.clone(),
        };
        let allowed = allowed();
        let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        if allowed.is_empty() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, UNSUPPORTED));
        }
        if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            return invalid(format!("cannot bind a thread to CPU {cpu}: this process may use {}", list(&allowed)));
        }
        if cpus.is_empty() {
            return invalid("cannot bind threads to CPUs: no CPU was given".to_owned());
        }
        Ok(cpus.into_iter().map(Some).cycle().take(threads).collect())
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pinning::None => f.pad("none"),
            Pinning::Auto => f.pad("auto"),
            Pinning::To(cpus) => f.pad(&list(cpus)),
        }
    }
}

impl FromStr for Pinning {
    type Err = io::Error;

    /// # Errors
    /// `InvalidInput` unless it is `none`, `auto` or a list of CPUs.
    fn from_str(text: &str) -> io::Result<Pinning> {
        match (text, parse(text)) {
            ("none", _) => Ok(Pinning::None),
            ("auto", _) => Ok(Pinning::Auto),
            (_, Some(cpus)) => Ok(Pinning::To(cpus)),
            (_, None) => {
                let why = format!("{text:?} names no CPUs: a list like 0,2-3, auto and none do");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        }
    }
}

const UNSUPPORTED: &str = "this system binds no thread to a CPU";

/// The CPUs that share a core with `cpu`, as far as the system tells.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).ok().and_then(|list| parse(&list)).unwrap_or_default()
}

/// Reads `0-1,8`.
fn parse(list: &str) -> Option<Vec<usize>> {
    // No system has more, and a range with a digit too many should not be counted out.
    const MOST: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

cfg_if::cfg_if! {
    if #[cfg(affinity)] {
        mod sys {
            use std::io;
            use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

            pub(super) fn allowed() -> Vec<usize> {
                let allowed = sched_getaffinity(None).unwrap_or_default();
                (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
            }

            pub(super) fn pin(cpu: usize) -> io::Result<()> {
                let mut set = CpuSet::new();
                set.set(cpu);
                Ok(sched_setaffinity(None, &set)?)
            }
        }
    } else {
        mod sys {
            use std::io;

            pub(super) fn allowed() -> Vec<usize> {
                Vec::new()
            }

            pub(super) fn pin(_cpu: usize) -> io::Result<()> {
                Err(io::Error::new(io::ErrorKind::Unsupported, super::UNSUPPORTED))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse("0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse("0,64\n"), Some(vec![0, 64]));
        assert_eq!(parse("2-3,8"), Some(vec![2, 3, 8]));
        for wrong in ["", "a", "1-", "-1", "3-2", "0,,1", "0-99999999999"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for pinning in [Pinning::None, Pinning::Auto, Pinning::To(vec![1, 0, 3])] {
            assert_eq!(pinning.to_string().parse::<Pinning>().expect("as written"), pinning);
        }
        let error = "each".parse::<Pinning>().expect_err("no list");
        assert!(error.to_string().contains("0,2-3"), "{error}");
    }

    #[test]
    fn those_apart_are_those_allowed() {
        let (mut apart, allowed) = (apart(), allowed());
        apart.sort_unstable();
        assert_eq!(apart, allowed);
    }

    #[test]
    fn more_threads_than_cpus_go_round_and_a_cpu_that_is_not_ours_is_named() {
        assert_eq!(Pinning::None.of(2).expect("nothing is asked"), [None, None]);
        let Some(&last) = allowed().last() else {
            assert_eq!(Pinning::Auto.of(2).expect_err("no affinity").kind(), io::ErrorKind::Unsupported);
            return;
        };
        assert_eq!(Pinning::To(vec![last]).of(3).expect("ours"), [Some(last); 3]);
        assert_eq!(Pinning::Auto.of(2).expect("ours").len(), 2);
        let error = Pinning::To(vec![last + 1]).of(1).expect_err("not ours");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("CPU {}", last + 1)), "{error}");
        assert_eq!(Pinning::To(Vec::new()).of(1).expect_err("none").kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_thread_that_is_bound_may_use_that_cpu_only() {
        let Some(&cpu) = allowed().last() else { return };
        let bound = std::thread::spawn(move || pin(cpu).map(|()| allowed()));
        assert_eq!(bound.join().expect("no panic").expect("ours"), [cpu]);
    }
}
