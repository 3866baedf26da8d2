//! What the host has counted since it started: connections dropped, segments sent again, of all processes together.

use std::{fs, io};

/// The counters of a host that tell of trouble with sockets: by which name, and what has then happened. They are of
/// /proc/net/netstat and /proc/net/snmp.
pub const COUNTERS: [(&str, &str); 7] = [
    ("ListenOverflows", "a handshake was done, and the accept queue was full"),
    ("ListenDrops", "a connection was not taken, for that or another reason"),
    ("TCPReqQFullDrop", "a SYN was dropped, for too many were half-open"),
    ("TCPAbortOnData", "a connection was reset, for it was closed with data that nobody had read"),
    ("TCPTimeouts", "nothing was acknowledged in time, and was sent again"),
    ("RetransSegs", "a segment was sent again, for whatever reason"),
    ("DelayedACKs", "an acknowledgement was sent because a timer ran out, not with an answer"),
];

/// What the counter of this name stands at now, for the whole host: others make it rise too, so that a difference of
/// two is at most what one has caused.
///
/// ```
/// match pollmark::observe::counter("ListenOverflows") {
///     Ok(overflows) => println!("{overflows} since this host started"),
///     Err(error) => println!("{error}"), // not on this system
/// }
/// ```
///
/// # Errors
/// `Unsupported` on a system that has no such list. `NotFound` if this kernel counts nothing by that name. Otherwise
/// the kernel's.
pub fn counter(name: &str) -> io::Result<u64> {
    let counters = Counters::read()?;
    counters
        .get(name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("this kernel has no counter {name}")))
}

/// What all of them stood at at one moment.
pub(super) struct Counters {
    netstat: String,
    snmp: String,
}

impl Counters {
    pub(super) fn read() -> io::Result<Counters> {
        if !cfg!(linux_like) {
            return Err(super::not_visible("the host's counters"));
        }
        Ok(Counters { netstat: fs::read_to_string("/proc/net/netstat")?, snmp: fs::read_to_string("/proc/net/snmp")? })
    }

    pub(super) fn get(&self, name: &str) -> Option<u64> {
        let lists = [(&self.netstat, "TcpExt:"), (&self.snmp, "Tcp:"), (&self.snmp, "Udp:")];
        lists.into_iter().find_map(|(text, heading)| named(text, heading, name))
    }
}

/// The figure called `name`: /proc/net has a line of names and below it a line of figures.
pub(crate) fn named(text: &str, heading: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(heading));
    while let (Some(names), Some(figures)) = (lines.next(), lines.next()) {
        if let Some(at) = names.split_whitespace().position(|one| one == name) {
            return figures.split_whitespace().nth(at)?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_under_their_names() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 2 3\nIpExt: InNoRoutes\nIpExt: 9\n";
        assert_eq!(named(text, "TcpExt:", "ListenDrops"), Some(3));
        assert_eq!(named(text, "IpExt:", "InNoRoutes"), Some(9));
        assert_eq!(named(text, "TcpExt:", "TCPTimeouts"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_host_tells_them_all_and_says_which_it_has_not() {
        for (name, _) in COUNTERS {
            assert!(counter(name).is_ok(), "{name}");
        }
        assert_eq!(counter("Miracles").expect_err("no such").kind(), io::ErrorKind::NotFound);
    }
}
