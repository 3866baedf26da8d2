//! What this process has used so far, and may use: CPU time, memory, descriptors. Of others, see `usage/tree.rs`.

pub(crate) mod tree;

use std::time::Duration;

/// The steps in which the system counts CPU time, where they are long beside an interval: Windows charges a whole tick
/// of its clock to whoever is running then.
pub fn cpu_tick() -> Option<Duration> {
    cfg!(windows).then_some(Duration::from_micros(15_625))
}

/// CPU time of all threads of this process, precise except for [`cpu_tick`]; `None` if the system does not tell.
pub fn cpu_time() -> Option<Duration> {
    sys::cpu_time()
}

/// The same, split into user and system. The kernel samples the split by its tick: an approximation.
pub fn user_and_system() -> Option<(Duration, Duration)> {
    sys::user_and_system()
}

/// How often threads of this process went to sleep, instead of being stopped; `None` if the system does not tell.
pub fn times_slept() -> Option<u64> {
    sys::times_slept()
}

/// Memory that belongs to this process alone, in bytes.
///
/// Linux counts pages (`smaps_rollup`); other Unix systems tell the most that was ever resident, which for a process
/// that only grows is the same. `None` elsewhere.
pub fn private_memory() -> Option<u64> {
    sys::private_memory()
}

/// The same of another process, by its number; only where the kernel lists it.
pub(crate) fn private_memory_of(process: &str) -> Option<u64> {
    sys::private_memory_of(process)
}

/// How many descriptors this process may have open; `None` where there is no such limit.
pub fn descriptor_limit() -> Option<u64> {
    sys::descriptor_limit()
}

/// How far this process may raise that itself; `None` for as far as it likes.
pub fn descriptor_hard_limit() -> Option<u64> {
    sys::descriptor_hard_limit()
}

/// Raises the limit on descriptors as far as this process may, and returns it.
pub fn raise_descriptor_limit() -> Option<u64> {
    sys::raise_descriptor_limit()
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        mod sys {
            use std::time::Duration;
            use nix::sys::resource::{UsageWho, getrusage};
            use nix::sys::time::TimeValLike;
            use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

            #[cfg(not(no_process_clock))]
            pub(super) fn cpu_time() -> Option<Duration> {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
            }

            /// The split is an approximation; its sum is not.
            #[cfg(no_process_clock)]
            pub(super) fn cpu_time() -> Option<Duration> {
                user_and_system().map(|(user, system)| user + system)
            }

            pub(super) fn user_and_system() -> Option<(Duration, Duration)> {
                let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
                let micros = |time: nix::sys::time::TimeVal| Duration::from_micros(time.num_microseconds() as u64);
                Some((micros(used.user_time()), micros(used.system_time())))
            }

            pub(super) fn times_slept() -> Option<u64> {
                let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
                u64::try_from(used.voluntary_context_switches()).ok()
            }

            pub(super) fn private_memory() -> Option<u64> {
                if cfg!(linux_like) {
                    return private_memory_of("self");
                }
                let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
                Some(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss() as u64 * unit)
            }

            pub(super) fn private_memory_of(process: &str) -> Option<u64> {
                let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
                // Clean pages are of the program's file, and private only for as long as no other process runs it.
                let dirty = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:"))?;
                Some(dirty.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
            }

            pub(super) fn descriptor_limit() -> Option<u64> {
                getrlimit(Resource::Nofile).current
            }

            pub(super) fn descriptor_hard_limit() -> Option<u64> {
                getrlimit(Resource::Nofile).maximum
            }

            pub(super) fn raise_descriptor_limit() -> Option<u64> {
                let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
                // Darwin calls "unlimited" invalid here, and takes at most OPEN_MAX.
                let highest = if cfg!(target_vendor = "apple") { maximum.min(Some(10_240)).or(Some(10_240)) } else { maximum };
                let _ = setrlimit(Resource::Nofile, Rlimit { current: highest, maximum });
                descriptor_limit()
            }
        }
    } else {
        mod sys {
            use std::time::Duration;

            pub(super) fn cpu_time() -> Option<Duration> {
                cpu_time::ProcessTime::try_now().ok().map(|now| now.as_duration())
            }

            pub(super) fn user_and_system() -> Option<(Duration, Duration)> {
                None
            }

            pub(super) fn times_slept() -> Option<u64> {
                None
            }

            pub(super) fn private_memory() -> Option<u64> {
                None
            }

            pub(super) fn private_memory_of(_: &str) -> Option<u64> {
                None
            }

            pub(super) fn descriptor_limit() -> Option<u64> {
                None
            }

            pub(super) fn descriptor_hard_limit() -> Option<u64> {
                None
            }

            pub(super) fn raise_descriptor_limit() -> Option<u64> {
                None
            }
        }
    }
}
