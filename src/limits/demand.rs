//! What is asked of the host: so many connections, by so many processes, from so many addresses.

use super::{Limits, OPENING_AT_ONCE, OTHER_DESCRIPTORS, Resource, Shortage};

/// Kernel memory of one end of an idle connection, generously: 4.9 KiB of slabs were measured on Linux 6.18, see
/// benches/README.md.
const KERNEL_BYTES: u64 = 6 * 1024;

/// Connections, and how they are split.
///
/// ```
/// use pollmark::limits::Demand;
///
/// let demand = Demand { servers: 6, loads: 6, ..Demand::from(100_000) };
/// assert!(demand.share() > 16_667, "the kernel does not deal connections out evenly");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demand {
    /// How many.
    pub connections: u64,
    /// Server processes on this host. None if the server is somebody else's.
    pub servers: u64,
    /// Load processes on this host. None if the load is somebody else's.
    pub loads: u64,
    /// Addresses they come from. None if they need no ports, as those of Unix sockets.
    pub sources: u64,
}

/// Between one server and one load, over the loopback, from as many addresses as it takes.
impl From<u64> for Demand {
    fn from(connections: u64) -> Demand {
        Demand { connections, servers: 1, loads: 1, sources: super::LOOPBACK_SOURCES }
    }
}

impl Demand {
    /// The most connections one of the processes may have to hold.
    ///
    /// A load opens its share. Which of several servers is given a connection the kernel decides by a hash, so that
    /// one of them gets more than its part: five standard deviations are allowed for.
    pub fn share(&self) -> u64 {
        let server = match self.servers {
            0 => 0,
            1 => self.connections,
            servers => {
                let part = self.connections.div_ceil(servers);
                self.connections.min(part + 5 * part.isqrt())
            }
        };
        server.max(if self.loads == 0 { 0 } else { self.connections.div_ceil(self.loads) })
    }

    /// Descriptors the process that holds most needs.
    fn descriptors(&self) -> u64 {
        self.share().saturating_add(OTHER_DESCRIPTORS)
    }

    /// Ends of connections on this host.
    fn ends(&self) -> u64 {
        self.connections.saturating_mul(u64::from(self.servers > 0) + u64::from(self.loads > 0))
    }

    fn files(&self) -> u64 {
        self.ends().saturating_add((self.servers + self.loads).saturating_mul(OTHER_DESCRIPTORS))
    }

    fn memory(&self) -> u64 {
        self.ends().saturating_mul(KERNEL_BYTES)
    }

    /// Connections being opened at a time, by all loads together.
    fn opening(&self) -> u64 {
        self.loads.saturating_mul(OPENING_AT_ONCE).min(self.connections)
    }

    /// How many processes at each end would hold the connections, where one may have so many descriptors.
    fn processes(&self, descriptors: u64) -> Option<u64> {
        let least = self.connections / descriptors.saturating_sub(OTHER_DESCRIPTORS).max(1);
        let split = |processes: u64| Demand {
            servers: if self.servers == 0 { 0 } else { processes },
            loads: if self.loads == 0 { 0 } else { processes },
            ..*self
        };
        (least.max(2)..=least + 64).find(|processes| split(*processes).descriptors() <= descriptors)
    }
}

impl Limits {
    /// Whether the demand can be met.
    ///
    /// # Errors
    /// The first [`Shortage`] that forbids it.
    pub fn allow(&self, demand: impl Into<Demand>) -> Result<(), Shortage> {
        let demand = demand.into();
        let enough = |resource: Resource, needed: u64, available: Option<u64>| match available {
            Some(available) if available < needed => Err(Shortage { resource, needed, available, processes: None }),
            _ => Ok(()),
        };
        enough(Resource::Descriptors, demand.descriptors(), self.descriptors)
            .map_err(|short| Shortage { processes: demand.processes(short.available), ..short })?;
        enough(Resource::Files, demand.files(), self.files.map(|(used, most)| most.saturating_sub(used)))?;
        if demand.loads > 0 && demand.sources > 0 {
            let ports = self.ports_for_a_source().map(|ports| ports.saturating_mul(demand.sources));
            enough(Resource::Ports, demand.connections, ports)?;
        }
        if demand.servers > 0 {
            enough(Resource::Backlog, demand.opening(), self.backlog)?;
        }
        enough(Resource::Memory, demand.memory(), self.memory)?;
        // A filter that tracks nothing now does not track the loopback; and none sees what has no ports.
        let tracked =
            self.tracked.filter(|(now, _)| *now > 0 && demand.sources > 0).map(|(now, most)| most.saturating_sub(now));
        enough(Resource::Tracked, demand.connections, tracked)
    }

    /// What the demand takes of each limit there is: its name, and the figures.
    pub fn account(&self, demand: &Demand) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let mut line = |name: &'static str, figures: Option<String>| lines.extend(figures.map(|text| (name, text)));
        let hard = |limits: &Limits| limits.descriptors_hard.map_or("unlimited".to_owned(), |hard| hard.to_string());
        line(
            "descriptors",
            self.descriptors.map(|soft| {
                format!("{} of {soft} for one process (soft limit; hard {})", demand.descriptors(), hard(self))
            }),
        );
        line(
            "open files",
            self.files.map(|(used, most)| format!("{} of {most} (fs.file-max), {used} in use", demand.files())),
        );
        if demand.loads > 0 && demand.sources > 0 {
            let ports = self.ports.zip(self.ports_for_a_source());
            line(
                "local ports",
                ports.map(|((first, last), ports)| {
                    let each = demand.connections.div_ceil(demand.sources.max(1));
                    format!("{each} of {ports} ({first} to {last}) for each of {} source addresses", demand.sources)
                }),
            );
        }
        let queue = self.syn_queue.map(|most| format!("; tcp_max_syn_backlog {most}")).unwrap_or_default();
        line("listen queue", self.backlog.map(|most| format!("{} of {most} (somaxconn){queue}", demand.opening())));
        let most = self.time_wait_most.map(|most| format!(" of {most} (tcp_max_tw_buckets)")).unwrap_or_default();
        line(
            "TIME_WAIT",
            self.time_wait.map(|held| {
                format!("0 more, {held}{most} now: the load closes first, and by a reset, which leaves none")
            }),
        );
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        line(
            "memory",
            self.memory.map(|most| {
                let needed = mebibytes(demand.memory());
                format!("{needed} of {} MiB, {} KiB of the kernel's an end", mebibytes(most), KERNEL_BYTES / 1024)
            }),
        );
        line("conntrack", self.tracked.map(|(now, most)| format!("{now} of {most} tracked now (nf_conntrack_max)")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            descriptors: Some(20_000),
            descriptors_hard: Some(20_000),
            files: Some((1_000, 2_000_000)),
            backlog: Some(4_096),
            syn_queue: Some(1_024),
            ports: Some((32_768, 60_999)),
            time_wait: Some(3),
            time_wait_most: Some(131_072),
            memory: Some(20 << 30),
            tracked: None,
        }
    }

    const CROWD: Demand = Demand { connections: 100_000, servers: 6, loads: 6, sources: 12 };

    #[test]
    fn a_hundred_thousand_are_allowed_where_they_are_split() {
        assert_eq!(limits().allow(CROWD), Ok(()));
        let whole = limits().allow(100_000).expect_err("no process may hold them");
        assert_eq!((whole.resource, whole.needed, whole.available), (Resource::Descriptors, 100_064, 20_000));
        // Five would do if the kernel dealt evenly, and were allowed one more: it does not.
        assert_eq!(whole.processes, Some(6));
        let said = whole.to_string();
        assert!(said.contains("100064 needed") && said.contains("--processes 6"), "{said}");
    }

    #[test]
    fn each_shortage_is_told_with_its_figures_and_the_name_of_its_limit() {
        let short = |limits: Limits, demand: Demand| limits.allow(demand).expect_err("too little").to_string();
        let few = |descriptors| Limits { descriptors: Some(descriptors), ..limits() };
        for (said, words) in [
            (short(few(10_000), CROWD), ["17376 needed", "10000 available", "--processes 11"]),
            (short(Limits { files: Some((900, 1_000)), ..limits() }, CROWD), ["200768", "100 available", "file-max"]),
            (short(limits(), Demand { sources: 3, ..CROWD }), ["100000 needed", "84696 available", "--sources"]),
            (short(Limits { backlog: Some(128), ..limits() }, CROWD), ["384", "128", "somaxconn"]),
            (short(Limits { memory: Some(512 << 20), ..limits() }, CROWD), ["1172 MiB", "512 MiB", "fewer"]),
            (short(Limits { tracked: Some((1, 65_536)), ..limits() }, CROWD), ["100000", "65535", "nf_conntrack_max"]),
        ] {
            assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        }
    }

    #[test]
    fn what_is_somebody_elses_is_not_asked_for_here() {
        let alone = Demand { servers: 0, loads: 1, connections: 10_000, sources: 1 };
        assert_eq!((alone.ends(), Demand { servers: 1, ..alone }.ends()), (10_000, 20_000));
        assert_eq!(Limits { backlog: Some(1), ..limits() }.allow(alone), Ok(()));
        let serving = Demand { servers: 1, loads: 0, connections: 19_936, sources: 0 };
        assert_eq!(limits().allow(serving), Ok(()), "the ports are others'");
        assert_eq!((serving.share(), Demand { connections: 19_937, ..serving }.descriptors()), (19_936, 20_001));
    }

    #[test]
    fn an_account_has_a_line_for_each_limit_the_host_shows() {
        let account = limits().account(&CROWD);
        let line = |name: &str| account.iter().find(|(one, _)| *one == name).map(|(_, text)| text.as_str());
        assert!(line("descriptors").is_some_and(|text| text.starts_with("17376 of 20000")), "{account:?}");
        assert!(line("local ports").is_some_and(|text| text.starts_with("8334 of 28232")), "{account:?}");
        assert!(line("TIME_WAIT").is_some_and(|text| text.contains("131072")), "{account:?}");
        assert_eq!(line("conntrack"), None);
        assert!(Limits::default().account(&CROWD).is_empty());
    }
}
