//! What the host says happened meanwhile: connections dropped, segments sent again, and time the hypervisor took.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::observe::named;

/// Counters of trouble: in which file, under which heading, by which name, and whether it may not rise at all.
const TROUBLE: [(&str, &str, &str, bool); 5] = [
    ("/proc/net/netstat", "TcpExt:", "ListenOverflows", true),
    ("/proc/net/netstat", "TcpExt:", "ListenDrops", true),
    ("/proc/net/netstat", "TcpExt:", "TCPBacklogDrop", true),
    ("/proc/net/netstat", "TcpExt:", "TCPTimeouts", false),
    ("/proc/net/snmp", "Tcp:", "RetransSegs", false),
];

/// USER_HZ, which Linux promises to programs whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// What the counters stand at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counters {
    trouble: BTreeMap<&'static str, u64>,
    stolen: Option<Duration>,
}

impl Counters {
    /// Reads them now. Where a system has none of them, none is read.
    pub(super) fn read() -> Counters {
        let mut trouble = BTreeMap::new();
        for path in ["/proc/net/netstat", "/proc/net/snmp"] {
            let text = fs::read_to_string(path).unwrap_or_default();
            for (_, prefix, name, _) in TROUBLE.iter().filter(|(of, ..)| *of == path) {
                trouble.extend(named(&text, prefix, name).map(|figure| (*name, figure)));
            }
        }
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        Counters { trouble, stolen: stolen(&stat) }
    }

    /// How much each has risen until `now`; those that have not are left out.
    pub(super) fn risen(&self, now: &Counters) -> BTreeMap<String, u64> {
        let rises = self.trouble.iter().map(|(name, before)| {
            let now = now.trouble.get(name).copied().unwrap_or_default();
            ((*name).to_owned(), now.saturating_sub(*before))
        });
        rises.filter(|(_, rise)| *rise > 0).collect()
    }

    /// CPU time the hypervisor gave to others until `now`, over all CPUs.
    pub(super) fn stolen(&self, now: &Counters) -> Option<Duration> {
        Some(now.stolen?.saturating_sub(self.stolen?))
    }
}

/// The first of what has risen and may not: connections the kernel has dropped.
pub(super) fn forbidden(risen: &BTreeMap<String, u64>) -> Option<String> {
    let forbidden = TROUBLE.iter().filter(|(.., forbidden)| *forbidden);
    let (name, rise) = forbidden.filter_map(|(_, _, name, _)| Some((name, risen.get(*name)?))).next()?;
    Some(format!("the kernel dropped connections on this host meanwhile ({name} rose by {rise})"))
}

fn stolen(stat: &str) -> Option<Duration> {
    // user nice system idle iowait irq softirq steal
    let figures = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: u32 = figures.split_whitespace().nth(7)?.parse().ok()?;
    Some(TICK * ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_figure_of_all_cpus() {
        let stat = "cpu  10 0 20 60 0 0 0 12 5 5\ncpu0 1 2 3 4 5 6 7 8\n";
        assert_eq!(stolen(stat), Some(Duration::from_millis(120)));
    }

    #[test]
    fn drops_are_forbidden_and_retransmissions_are_not() {
        let risen = |name: &str| BTreeMap::from([(name.to_owned(), 2)]);
        assert!(forbidden(&risen("ListenDrops")).is_some_and(|why| why.contains("ListenDrops rose by 2")));
        assert_eq!(forbidden(&risen("RetransSegs")), None);
        assert_eq!(forbidden(&BTreeMap::new()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_host_tells_them_all() {
        let now = Counters::read();
        assert_eq!(now.trouble.len(), TROUBLE.len(), "{now:?}");
        assert!(now.stolen(&now).is_some());
        assert_eq!(now.risen(&now), BTreeMap::new());
    }
}
