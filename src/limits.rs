//! What the limits of this host allow, asked before anything is tried.

use std::fmt;
use std::fs;

use crate::usage;

/// Descriptors a process needs beside its connections: standard streams, listener, poller, waker, counters, a spare;
/// generously.
pub const OTHER_DESCRIPTORS: u64 = 64;

/// Source addresses a load has for a server on the loopback: on Linux the whole of 127.0.0.0/8 is this host, and the
/// generator uses 127.0.0.1 to 127.0.0.254.
const SOURCES: u64 = if cfg!(linux_like) { 254 } else { 1 };

/// The limits that decide how many connections there can be. What a system does not show is `None`, and taken for
/// no limit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Descriptors this process may have open now.
    pub descriptors: Option<u64>,
    /// How far it may raise that itself.
    pub descriptors_hard: Option<u64>,
    /// The longest queue of connections not yet accepted.
    pub backlog: Option<u64>,
    /// First and last of the ports outgoing connections are given.
    pub ports: Option<(u16, u16)>,
    /// Connections that are over but still hold their port.
    pub time_wait: Option<u64>,
}

impl Limits {
    /// Reads them.
    pub fn gather() -> Limits {
        let proc =
            |file: &str| if cfg!(linux_like) { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
        Limits {
            descriptors: usage::descriptor_limit(),
            descriptors_hard: usage::descriptor_hard_limit(),
            backlog: proc("/proc/sys/net/core/somaxconn").trim().parse().ok(),
            ports: ports(&proc("/proc/sys/net/ipv4/ip_local_port_range")),
            time_wait: time_wait(&proc("/proc/net/sockstat")),
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

    /// Whether a server and a load, each a process, can have this many connections between them over the loopback.
    ///
    /// # Errors
    /// The [`Shortage`] that forbids it.
    pub fn allow(&self, connections: u64) -> Result<(), Shortage> {
        self.allow_one_process(connections)?;
        let available = self.ports_for_a_source().map(|ports| ports.saturating_mul(SOURCES));
        if let Some(available) = available.filter(|available| *available < connections) {
            return Err(Shortage { resource: Resource::Ports, needed: connections, available });
        }
        Ok(())
    }

    /// Whether one process, at one end, can have this many connections.
    fn allow_one_process(&self, connections: u64) -> Result<(), Shortage> {
        let needed = connections.saturating_add(OTHER_DESCRIPTORS);
        match self.descriptors {
            Some(available) if available < needed => {
                Err(Shortage { resource: Resource::Descriptors, needed, available })
            }
            _ => Ok(()),
        }
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

/// Raises the descriptor limit as far as this process may, and tells what the limits then are, if they allow a server
/// and a load this many connections.
///
/// ```
/// let limits = pollmark::limits::preflight(10).expect("ten connections are possible anywhere");
/// assert!(limits.connections().is_none_or(|most| most >= 10));
/// ```
///
/// # Errors
/// The [`Shortage`] that forbids it.
pub fn preflight(connections: u64) -> Result<Limits, Shortage> {
    usage::raise_descriptor_limit();
    let limits = Limits::gather();
    limits.allow(connections).map(|()| limits)
}

/// Whether this process alone can have this many connections, at the limit it has now: what a load asks whose server
/// is somebody else's.
///
/// # Errors
/// The [`Shortage`] of descriptors that forbids it.
pub fn descriptors_for(connections: usize) -> Result<(), Shortage> {
    let limits = Limits { descriptors: usage::descriptor_limit(), ..Limits::default() };
    limits.allow_one_process(connections as u64)
}

/// Too little of something: what is needed, what there is, and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// Of what.
    pub resource: Resource,
    /// How much was needed.
    pub needed: u64,
    /// How much there is.
    pub available: u64,
}

/// What can be short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Descriptors of one process.
    Descriptors,
    /// Ports for outgoing connections, over all source addresses.
    Ports,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { needed, available, .. } = self;
        match self.resource {
            Resource::Descriptors => write!(
                f,
                "too few descriptors: {needed} needed by one process, {available} available; \
                 raise the limit (ulimit -n {needed}), or ask for fewer connections"
            ),
            Resource::Ports => write!(
                f,
                "too few local ports: {needed} needed, {available} available; \
                 widen the range (sysctl {}), or ask for fewer connections",
                if cfg!(linux_like) { "net.ipv4.ip_local_port_range" } else { "net.inet.ip.portrange.first" }
            ),
        }
    }
}

impl std::error::Error for Shortage {}

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
        assert_eq!(limits.allow(28_232 * SOURCES), Ok(()));
        let shortage = limits.allow(28_232 * SOURCES + 1).expect_err("one too many");
        assert_eq!(shortage.resource, Resource::Ports);
        assert!(shortage.to_string().contains("sysctl"), "{shortage}");
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
