//! Too little of something: what, how much was needed, how much there is, and what to do.

use std::fmt;

/// Too little of something: what is needed, what there is, and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// Of what.
    pub resource: Resource,
    /// How much was needed.
    pub needed: u64,
    /// How much there is.
    pub available: u64,
    /// So many processes at each end would do.
    pub processes: Option<u64>,
}

/// What can be short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Descriptors of one process.
    Descriptors,
    /// Open files of all processes together.
    Files,
    /// Ports for outgoing connections, over all source addresses.
    Ports,
    /// Places in a queue of connections not yet accepted.
    Backlog,
    /// Memory, in bytes.
    Memory,
    /// Connections a packet filter keeps track of.
    Tracked,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { needed, available, processes, .. } = *self;
        match self.resource {
            Resource::Descriptors => {
                write!(
                    f,
                    "too few descriptors: {needed} needed by one process, {available} available; \
                     raise the limit (ulimit -n {needed}), "
                )?;
                match processes {
                    Some(processes) => {
                        write!(f, "split them (--processes {processes}), or ask for fewer connections")
                    }
                    None => f.write_str("or ask for fewer connections"),
                }
            }
            Resource::Files => write!(
                f,
                "too few open files: {needed} needed by all processes together, {available} available; \
                 raise the limit (sysctl fs.file-max), or ask for fewer connections"
            ),
            Resource::Ports => write!(
                f,
                "too few local ports: {needed} needed, {available} available; widen the range (sysctl {}), \
                 name more source addresses (--sources), or ask for fewer connections",
                if cfg!(linux_like) { "net.ipv4.ip_local_port_range" } else { "net.inet.ip.portrange.first" }
            ),
            Resource::Backlog => write!(
                f,
                "too short a listen queue: {needed} connections are opened at a time, {available} can wait to be \
                 accepted; lengthen it (sysctl net.core.somaxconn), or let fewer processes open them"
            ),
            Resource::Memory => write!(
                f,
                "too little memory: {} MiB needed, {} MiB available; ask for fewer connections",
                needed.div_ceil(1 << 20),
                available >> 20
            ),
            Resource::Tracked => write!(
                f,
                "too few connections tracked by the packet filter: {needed} needed, {available} available; \
                 raise the limit (sysctl net.netfilter.nf_conntrack_max), or do not track the loopback"
            ),
        }
    }
}

impl std::error::Error for Shortage {}
