//! The kernel's own answers by name: `EPOLLIN|EPOLLRDHUP` for 0x2001.

use std::fmt;

use crate::event::Raw;

/// The names are those of this system's headers; what has no name here is shown as a number.
///
/// ```
/// use pollmark_backends::Raw;
/// assert_eq!(Raw::Select(1 | 4).to_string(), "read|except");
/// assert_eq!(Raw::None.to_string(), "not shown");
/// let received = Raw::Completion { result: 5, flags: 3 << 16 | 3 };
/// assert_eq!(received.to_string(), "res=5 IORING_CQE_F_BUFFER|IORING_CQE_F_MORE buffer=3");
/// assert_eq!(Raw::Completion { result: -125, flags: 0 }.to_string(), "res=-125");
/// # #[cfg(target_os = "linux")]
/// assert_eq!(Raw::Epoll(0x2001).to_string(), "EPOLLIN|EPOLLRDHUP");
/// ```
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Raw::None => "not shown".to_owned(),
            Raw::Poll(bits) => spell("", POLL, bits),
            Raw::Epoll(bits) => spell("E", POLL, bits),
            Raw::Select(sets) => spell("", SELECT, sets.into()),
            Raw::Kevent { filters, flags, fflags, data } => {
                let mut text = spell("", FILTERS, filters.into());
                if flags != 0 {
                    text = format!("{text} {}", spell("", FLAGS, flags));
                }
                if fflags != 0 {
                    text = format!("{text} fflags={fflags}");
                }
                format!("{text} data={data}")
            }
            Raw::Completion { result, flags: 0 } => format!("res={result}"),
            Raw::Completion { result, flags } => {
                let text = format!("res={result} {}", spell("IORING_CQE_F_", COMPLETION, flags & 0xffff));
                if flags & 1 == 0 { text } else { format!("{text} buffer={}", flags >> 16) }
            }
        };
        f.pad(&text)
    }
}

type Names = &'static [(u32, &'static str)];

/// The names of the set bits, each after `prefix`, then what is left as a number; 0 if none is set.
fn spell(prefix: &str, names: Names, bits: u32) -> String {
    let (mut left, mut words) = (bits, Vec::new());
    for (bit, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
        left &= !bit;
        words.push(format!("{prefix}{name}"));
    }
    if left != 0 || words.is_empty() {
        words.push(format!("{left:#x}"));
    }
    words.join("|")
}

const SELECT: Names = &[(1, "read"), (2, "write"), (4, "except")];

/// The lower half of a completion's flags.
const COMPLETION: Names = &[(1, "BUFFER"), (2, "MORE"), (4, "SOCK_NONEMPTY"), (8, "NOTIF"), (16, "BUF_MORE")];

/// As [`Raw::Kevent`] numbers them.
const FILTERS: Names = &[(1, "EVFILT_READ"), (2, "EVFILT_WRITE")];

/// Of those that a kernel gives back; the same on macOS and all BSDs.
const FLAGS: Names = &[
    (0x0001, "EV_ADD"),
    (0x0004, "EV_ENABLE"),
    (0x0010, "EV_ONESHOT"),
    (0x0020, "EV_CLEAR"),
    (0x4000, "EV_ERROR"),
    (0x8000, "EV_EOF"),
];

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        /// On Linux those of epoll(7) too, with an E before each.
        const POLL: Names = &[
            (libc::POLLIN as u32, "POLLIN"),
            (libc::POLLPRI as u32, "POLLPRI"),
            (libc::POLLOUT as u32, "POLLOUT"),
            (libc::POLLERR as u32, "POLLERR"),
            (libc::POLLHUP as u32, "POLLHUP"),
            (libc::POLLNVAL as u32, "POLLNVAL"),
            #[cfg(linux_like)]
            (libc::POLLRDHUP as u32, "POLLRDHUP"),
            #[cfg(target_os = "freebsd")]
            (0x4000, "POLLRDHUP"),
        ];
    } else {
        use windows_sys::Win32::Networking::WinSock;

        const POLL: Names = &[
            (WinSock::POLLRDNORM as u32, "POLLRDNORM"),
            (WinSock::POLLRDBAND as u32, "POLLRDBAND"),
            (WinSock::POLLWRNORM as u32, "POLLWRNORM"),
            (WinSock::POLLERR as u32, "POLLERR"),
            (WinSock::POLLHUP as u32, "POLLHUP"),
            (WinSock::POLLNVAL as u32, "POLLNVAL"),
        ];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_without_a_name_is_not_lost() {
        assert_eq!(spell("", SELECT, 0), "0x0");
        assert_eq!(spell("", SELECT, 2 | 64), "write|0x40");
    }

    #[test]
    fn a_kevent_shows_what_it_has() {
        let end = Raw::Kevent { filters: 1, flags: 0x8000, fflags: 0, data: 5 };
        assert_eq!(end.to_string(), "EVFILT_READ EV_EOF data=5");
        let reset = Raw::Kevent { filters: 3, flags: 0x8000, fflags: 54, data: 0 };
        assert_eq!(reset.to_string(), "EVFILT_READ|EVFILT_WRITE EV_EOF fflags=54 data=0");
    }
}
