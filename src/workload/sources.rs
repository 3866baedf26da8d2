//! The addresses connections come from: each has its own ports, so more of them allow more connections.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// Addresses of this host, taken in turn by the connections a load opens.
///
/// ```
/// use pollmark::workload::Sources;
///
/// let sources: Sources = "127.0.0.1-127.0.0.3,127.0.0.9".parse().expect("a range and an address");
/// assert_eq!(sources.to_string(), "127.0.0.1-127.0.0.3,127.0.0.9");
/// assert_eq!((sources.count(), Sources::loopback(4).to_string()), (4, "127.0.0.1-127.0.0.4".to_owned()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sources {
    addresses: Vec<IpAddr>,
}

/// A list longer than this was not meant: with so many the ports of a target are not what is short.
const MOST: u32 = 4_096;

impl Sources {
    /// The first `count` addresses of the loopback network, at least one and at most 254. Only on Linux are they all
    /// this host's without being asked for.
    pub fn loopback(count: u64) -> Sources {
        let last = count.clamp(1, 254) as u8;
        Sources { addresses: (1..=last).map(|host| Ipv4Addr::new(127, 0, 0, host).into()).collect() }
    }

    /// As many of the loopback network as so many connections need, opened by so many processes, to find their ports at
    /// once; `None` where the kernel may as well choose, or has only one to offer.
    pub fn enough_for(connections: u64, processes: usize) -> Option<Sources> {
        let processes = processes.max(1) as u64;
        let limits = Limits::gather();
        let each = limits.sources_for(connections.div_ceil(processes));
        (cfg!(linux_like) && limits.sources_for(connections) > 1).then(|| Sources::loopback(processes * each))
    }

    /// How many there are; at least one.
    pub fn count(&self) -> u64 {
        self.addresses.len() as u64
    }

    /// Those of process `at` of `processes`: dealt out, so that no two share one as long as there are enough.
    pub(crate) fn dealt_to(&self, at: usize, processes: usize) -> Sources {
        let count = self.addresses.len();
        let dealt = match count < processes {
            true => vec![self.addresses[at % count]],
            false => self.addresses.iter().skip(at).step_by(processes).copied().collect(),
        };
        Sources { addresses: dealt }
    }

    /// Whether connections to `target` can come from each.
    ///
    /// # Errors
    /// Which cannot, and why.
    pub fn check(&self, target: SocketAddr) -> Result<(), String> {
        for address in &self.addresses {
            if address.is_ipv4() != target.is_ipv4() {
                return Err(format!("no connection to {target} can come from {address}: it is of the other family"));
            }
            TcpListener::bind((*address, 0))
                .map_err(|error| format!("no connection can come from {address}: {error}; is it this host's?"))?;
        }
        Ok(())
    }

    pub(super) fn at(&self, turn: usize) -> IpAddr {
        self.addresses[turn % self.addresses.len()]
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Sources, String> {
        let wrong = |part: &str| format!("{part:?} is no address: write 127.0.0.1, or 127.0.0.1-127.0.0.6");
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((first, last)) = part.split_once('-') else {
                addresses.push(part.parse().map_err(|_| wrong(part))?);
                continue;
            };
            let end = |end: &str| end.trim().parse::<Ipv4Addr>().map(u32::from).map_err(|_| wrong(part));
            let (first, last) = (end(first)?, end(last)?);
            if first > last {
                return Err(format!("{part:?} ends before it begins"));
            }
            if last - first >= MOST {
                return Err(format!("{part:?} is more than {MOST} addresses"));
            }
            addresses.extend((first..=last).map(|address| IpAddr::from(Ipv4Addr::from(address))));
        }
        let mut seen = std::collections::BTreeSet::new();
        match addresses.iter().find(|address| !seen.insert(**address)) {
            Some(twice) => Err(format!("{twice} is named twice")),
            None => Ok(Sources { addresses }),
        }
    }
}

/// As it is read: neighbours as a range.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let follows = |one: &IpAddr, next: &IpAddr| match (one, next) {
            (IpAddr::V4(one), IpAddr::V4(next)) => u32::from(*one).checked_add(1) == Some(u32::from(*next)),
            _ => false,
        };
        for (at, run) in self.addresses.chunk_by(follows).enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            match run {
                [first, .., last] => write!(f, "{first}-{last}")?,
                alone => write!(f, "{}", alone[0])?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Sources {
    type Error = String;

    fn try_from(text: String) -> Result<Sources, String> {
        text.parse()
    }
}

impl From<Sources> for String {
    fn from(sources: Sources) -> String {
        sources.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_addresses_is_refused_with_the_part_that_is_not() {
        for (text, why) in [
            ("", "no address"),
            ("localhost", "\"localhost\" is no address"),
            ("127.0.0.1,", "\"\" is no address"),
            ("127.0.0.3-127.0.0.1", "ends before it begins"),
            ("10.0.0.0-10.1.0.0", "more than 4096"),
            ("127.0.0.1-127.0.0.3,127.0.0.2", "127.0.0.2 is named twice"),
            ("::1-::2", "is no address"),
        ] {
            let error = text.parse::<Sources>().expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn they_are_dealt_out_and_shared_only_where_there_are_too_few() {
        let dealt = |text: &str, processes: usize| {
            let sources = text.parse::<Sources>().expect(text);
            (0..processes).map(|at| sources.dealt_to(at, processes).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(dealt("127.0.0.1-127.0.0.5", 2), ["127.0.0.1,127.0.0.3,127.0.0.5", "127.0.0.2,127.0.0.4"]);
        assert_eq!(dealt("127.0.0.1,127.0.0.2", 3), ["127.0.0.1", "127.0.0.2", "127.0.0.1"]);
        assert_eq!(dealt("::1", 1), ["::1"]);
    }

    #[test]
    fn an_address_that_is_not_this_hosts_is_named() {
        let target = "127.0.0.1:7".parse().expect("an address");
        assert_eq!(Sources::loopback(1).check(target), Ok(()));
        // Kept for documentation by RFC 5737: nobody's.
        let error = "192.0.2.1".parse::<Sources>().expect("an address").check(target).expect_err("not ours");
        assert!(error.contains("192.0.2.1") && error.contains("is it this host's?"), "{error}");
        let error = "::1".parse::<Sources>().expect("an address").check(target).expect_err("another family");
        assert!(error.contains("family"), "{error}");
    }
}
