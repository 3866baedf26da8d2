//! What the limits of this host allow, asked before anything is tried.
//!
//! | idea | file |
//! |---|---|
//! | what is asked for, held against the limits | `demand.rs` |
//! | what there is too little of, and what to do | `shortage.rs` |

mod demand;
mod shortage;

use std::fs;

use crate::usage;

pub use demand::Demand;
pub use shortage::{Resource, Shortage};

/// Descriptors a process needs beside its connections: standard streams, listener, poller, waker, counters, a spare;
/// generously.
pub const OTHER_DESCRIPTORS: u64 = 64;

/// Connections one load opens at a time: fewer than any listen queue holds.
pub const OPENING_AT_ONCE: u64 = 64;

/// Source addresses a load has for a server on the loopback: on Linux the whole of 127.0.0.0/8 is this host, and the
/// generator uses 127.0.0.1 to 127.0.0.254.
pub const LOOPBACK_SOURCES: u64 = if cfg!(linux_like) { 254 } else { 1 };

/// The limits that decide how many connections there can be. What a system does not show is `None`, and taken for
/// no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Descriptors this process may have open now.
    pub descriptors: Option<u64>,
    /// How far it may raise that itself.
    pub descriptors_hard: Option<u64>,
    /// Files open in all processes together, and how many may be.
    pub files: Option<(u64, u64)>,
    /// The longest queue of connections not yet accepted.
    pub backlog: Option<u64>,
    /// The longest queue of connections not yet established, where the kernel sends no cookies instead.
    pub syn_queue: Option<u64>,
    /// First and last of the ports outgoing connections are given.
    pub ports: Option<(u16, u16)>,
    /// Connections that are over but still hold their port.
    pub time_wait: Option<u64>,
    /// How many of those there may be: of more, the kernel forgets some early.
    pub time_wait_most: Option<u64>,
    /// Memory that can be had without swapping, in bytes.
    pub memory: Option<u64>,
    /// Connections the packet filter keeps track of, and how many it may.
    pub tracked: Option<(u64, u64)>,
}

impl Limits {
    /// Reads them.
    pub fn gather() -> Limits {
        let proc =
            |file: &str| if cfg!(linux_like) { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
        let number = |file: &str| proc(file).trim().parse().ok();
        Limits {
            descriptors: usage::descriptor_limit(),
            descriptors_hard: usage::descriptor_hard_limit(),
            files: files(&proc("/proc/sys/fs/file-nr")),
            backlog: number("/proc/sys/net/core/somaxconn"),
            syn_queue: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
            ports: ports(&proc("/proc/sys/net/ipv4/ip_local_port_range")),
            time_wait: time_wait(&proc("/proc/net/sockstat")),
            time_wait_most: number("/proc/sys/net/ipv4/tcp_max_tw_buckets"),
            memory: available(&proc("/proc/meminfo")),
            tracked: number("/proc/sys/net/netfilter/nf_conntrack_count")
                .zip(number("/proc/sys/net/netfilter/nf_conntrack_max")),
        }
    }

    /// How many connections one process can have, server or load, at the limit it has now.
    pub fn connections(&self) -> Option<u64> {
        self.descriptors.map(|descriptors| descriptors.saturating_sub(OTHER_DESCRIPTORS))
    }

    /// How many connections there can be at once from one source address to one address and port.
    pub fn ports_for_a_source(&self) -> Option<u64> {
        self.ports.map(|(first, last)| u64::from(last.saturating_sub(first)) + 1)
    }

    /// How many source addresses let so many connections of one process find a port at once. A kernel looks for a free
    /// one among all of an address, longer the fewer are free, and Linux first among every second.
    pub fn sources_for(&self, connections: u64) -> u64 {
        let half = self.ports_for_a_source().map_or(u64::MAX, |ports| (ports / 2).max(1));
        connections.div_ceil(half).clamp(1, LOOPBACK_SOURCES)
    }

    /// What may spoil a measurement though it does not forbid it.
    pub fn warning(&self) -> Option<String> {
        let (held, ports) = (self.time_wait?, self.ports_for_a_source()?);
        (held > ports / 4).then(|| {
            format!(
                "{held} sockets of earlier connections are in TIME_WAIT and may hold some of the {ports} local ports: \
                 wait a minute before measuring"
            )
        })
    }
}

/// Raises the descriptor limit as far as this process may, and tells what the limits then are, if they allow this: a
/// number of connections between a server and a load, each a process, or a [`Demand`] that says more.
///
/// ```
/// let limits = pollmark::limits::preflight(10).expect("ten connections are possible anywhere");
/// assert!(limits.connections().is_none_or(|most| most >= 10));
/// ```
///
/// # Errors
/// The [`Shortage`] that forbids it.
pub fn preflight(demand: impl Into<Demand>) -> Result<Limits, Shortage> {
    usage::raise_descriptor_limit();
    let limits = Limits::gather();
    limits.allow(demand).map(|()| limits)
}

/// Whether this process alone can have this many connections, at the limit it has now: what a load asks whose server
/// is somebody else's.
///
/// # Errors
/// The [`Shortage`] of descriptors that forbids it.
pub fn descriptors_for(connections: usize) -> Result<(), Shortage> {
    let limits = Limits { descriptors: usage::descriptor_limit(), ..Limits::default() };
    limits.allow(Demand { servers: 0, ..Demand::from(connections as u64) })
}

/// First and last, as the kernel writes them.
fn ports(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    Some((first.parse().ok()?, last.trim().parse().ok()?))
}

/// The number after `tw` in the line of TCP.
fn time_wait(sockstat: &str) -> Option<u64> {
    let mut words = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_whitespace();
    words.find(|word| *word == "tw")?;
    words.next()?.parse().ok()
}

/// In use, free (which Linux has none of any more), and the most.
fn files(file_nr: &str) -> Option<(u64, u64)> {
    let mut numbers = file_nr.split_whitespace().map(|number| number.parse::<u64>().ok());
    let (used, free, most) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some((used.saturating_sub(free), most))
}

/// The line `MemAvailable`, which is in units of 1,024 bytes.
fn available(meminfo: &str) -> Option<u64> {
    let figures = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(figures.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            descriptors: Some(1_024),
            descriptors_hard: Some(20_000),
            backlog: Some(4_096),
            ports: Some((32_768, 60_999)),
            time_wait: Some(3),
            ..Limits::default()
        }
    }

    #[test]
    fn a_shortage_says_needed_available_and_what_to_do() {
        assert_eq!((limits().allow(960), limits().connections()), (Ok(()), Some(960)));
        let said = limits().allow(5_000).expect_err("more than 1,024").to_string();
        assert!(
            said.contains("5064 needed") && said.contains("1024 available") && said.contains("ulimit -n 5064"),
            "{said}"
        );
    }

    #[test]
    fn ports_are_counted_over_all_sources_the_load_has() {
        let limits = Limits { descriptors: None, ..limits() };
        assert_eq!(limits.ports_for_a_source(), Some(28_232));
        assert_eq!(limits.allow(28_232 * LOOPBACK_SOURCES), Ok(()));
        let shortage = limits.allow(28_232 * LOOPBACK_SOURCES + 1).expect_err("one too many");
        assert_eq!(shortage.resource, Resource::Ports);
        assert!(shortage.to_string().contains("sysctl"), "{shortage}");
    }

    #[test]
    fn there_are_sources_enough_for_each_to_use_half_its_ports() {
        for (connections, sources) in [(1, 1), (14_116, 1), (14_117, 2), (100_000, 8), (u64::MAX, LOOPBACK_SOURCES)] {
            // Not every system answers on all of 127.0.0.0/8.
            assert_eq!(limits().sources_for(connections), LOOPBACK_SOURCES.min(sources), "{connections}");
        }
        assert_eq!(Limits::default().sources_for(100_000), 1);
    }

    #[test]
    fn files_and_memory_are_read_as_the_kernel_writes_them() {
        assert_eq!((files("621\t21\t2466170\n"), files("")), (Some((600, 2_466_170)), None));
        let text = "MemTotal:       24661700 kB\nMemAvailable:    1024 kB\n";
        assert_eq!((available(text), available("")), (Some(1 << 20), None));
    }

    #[test]
    fn what_a_system_does_not_show_is_no_limit() {
        assert_eq!(Limits::default().allow(u64::from(u32::MAX)), Ok(()));
        assert_eq!((Limits::default().warning(), Limits::default().connections()), (None, None));
    }

    #[test]
    fn a_range_of_ports_is_read_as_the_kernel_writes_it() {
        assert_eq!((ports("32768\t60999\n"), ports("")), (Some((32_768, 60_999)), None));
    }

    #[test]
    fn sockets_in_time_wait_are_counted_against_the_ports() {
        let text =
            "sockets: used 61\nTCP: inuse 4 orphan 0 tw 20000 alloc 4 mem 1\nTCP6: inuse 0\nUDP: inuse 1 mem 1\n";
        assert_eq!((time_wait(text), time_wait("")), (Some(20_000), None));
        let crowded = Limits { time_wait: Some(20_000), ..limits() };
        assert!(crowded.warning().is_some_and(|said| said.contains("TIME_WAIT")) && limits().warning().is_none());
    }
}
