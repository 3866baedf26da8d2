//! Why there is no io_uring here, as exactly as can be found out.

use std::fs;
use std::io;

/// What the kernel said when it refused to set up a ring, and what that means on this host.
pub(crate) fn of_setup(error: io::Error) -> io::Error {
    let Some(errno) = error.raw_os_error() else { return error };
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    match explain(errno, sysctl.as_deref().map(str::trim), memlock) {
        Some(reason) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

/// What it means that a ring may be had, but none with a thread of the kernel's.
pub(crate) fn of_thread(error: io::Error) -> io::Error {
    let reason = "its thread that takes submissions is forbidden: before Linux 5.13 it takes CAP_SYS_NICE (EPERM)";
    io::Error::new(error.kind(), reason)
}

/// Refuses a ring that lacks one of these.
pub(crate) fn require(needed: &[(&str, bool)]) -> io::Result<()> {
    let missing: Vec<_> = needed.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let reason = format!("this kernel's io_uring lacks {}", missing.join(", "));
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

fn explain(errno: i32, sysctl: Option<&str>, memlock: impl Fn() -> String) -> Option<String> {
    Some(match (errno, sysctl) {
        (libc::ENOSYS, _) => "this kernel is built without io_uring, or a sandbox hides it (ENOSYS)".to_owned(),
        (libc::EPERM, Some(set @ "2")) => {
            format!("sysctl kernel.io_uring_disabled={set} forbids it to everybody (EPERM)")
        }
        (libc::EPERM, Some(set @ "1")) => {
            format!("sysctl kernel.io_uring_disabled={set} forbids it outside of kernel.io_uring_group (EPERM)")
        }
        (libc::EPERM, _) => "a seccomp filter forbids it, as containers' defaults do (EPERM)".to_owned(),
        (libc::EACCES, _) => "a security module forbids it (EACCES)".to_owned(),
        (libc::ENOMEM, _) => {
            format!(
                "no memory for it; before Linux 5.12 it counts as locked, and RLIMIT_MEMLOCK is {} (ENOMEM)",
                memlock()
            )
        }
        _ => return None,
    })
}

fn memlock() -> String {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit that outlives the call.
    match unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } {
        0 if limit.rlim_cur == libc::RLIM_INFINITY => "unlimited".to_owned(),
        0 => format!("{} bytes", limit.rlim_cur),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errno: i32, sysctl: Option<&str>) -> Option<String> {
        explain(errno, sysctl, || "8192 bytes".to_owned())
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let cases = [
            (libc::ENOSYS, None, "built without"),
            (libc::EPERM, Some("2"), "io_uring_disabled=2"),
            (libc::EPERM, Some("1"), "io_uring_group"),
            (libc::EPERM, Some("0"), "seccomp"),
            (libc::EPERM, None, "seccomp"),
            (libc::EACCES, Some("0"), "security module"),
            (libc::ENOMEM, Some("0"), "RLIMIT_MEMLOCK is 8192 bytes"),
        ];
        for (errno, sysctl, part) in cases {
            let reason = told(errno, sysctl).expect("explained");
            assert!(reason.contains(part), "{errno}, {sysctl:?}: {reason}");
        }
        assert_eq!(told(libc::EMFILE, None), None, "that one speaks for itself");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(require(&[("A", true), ("B", true)]).is_ok());
        let error = require(&[("A", false), ("B", true), ("C", false)]).expect_err("two are missing");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().ends_with("lacks A, C"), "{error}");
    }
}
