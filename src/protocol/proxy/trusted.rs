//! Who is believed: addresses of proxies, and blocks of them, and whoever comes over a Unix socket.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::protocol::Peer;

/// Where proxies are whose headers are believed: addresses and blocks of them, with commas between, and `unix` for
/// those that come over a Unix socket.
///
/// A peer of which neither is known is not among them, whatever they are; one of IPv4 that has come to a socket of IPv6
/// is, if its address of IPv4 is. Over a Unix socket whoever may open its path is believed
/// ([`Config::unix_mode`](crate::server::Config::unix_mode)), and over one without a path whoever knows its name.
///
/// ```
/// use pollmark::protocol::{Peer, proxy::Trusted};
///
/// let trusted: Trusted = "127.0.0.1,10.0.0.0/8,2001:db8::/32".parse()?;
/// assert!(trusted.contains(&Peer::at("[::ffff:10.1.2.3]:4000".parse().expect("an address"))));
/// assert!(!trusted.contains(&Peer::default()) && !trusted.contains(&Peer::on_unix()));
/// assert!("10.0.0.0/8,unix".parse::<Trusted>()?.contains(&Peer::on_unix()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(
    feature = "report",
    derive(serde::Deserialize, serde::Serialize),
    serde(try_from = "String", into = "String")
)]
pub struct Trusted {
    blocks: Arc<[IpNet]>,
    unix: bool,
}

/// What is written for Unix sockets.
const UNIX: &str = "unix";

impl Trusted {
    /// Whether this peer is one of them.
    pub fn contains(&self, peer: &Peer) -> bool {
        let Some(address) = peer.address else { return self.unix && peer.is_on_unix };
        let address = address.ip().to_canonical();
        self.blocks.iter().any(|block| block.contains(&address))
    }
}

impl fmt::Display for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, block) in self.blocks.iter().enumerate() {
            write!(f, "{}{block}", if at == 0 { "" } else { "," })?;
        }
        match (self.unix, self.blocks.is_empty()) {
            (true, true) => f.write_str(UNIX),
            (true, false) => write!(f, ",{UNIX}"),
            (false, _) => Ok(()),
        }
    }
}

impl FromStr for Trusted {
    type Err = io::Error;

    /// # Errors
    /// `InvalidInput`, for the first that is neither an address, nor a block, nor `unix`.
    fn from_str(text: &str) -> io::Result<Trusted> {
        let (unix, blocks): (Vec<_>, Vec<_>) = text.split(',').partition(|word| *word == UNIX);
        let blocks = blocks.into_iter().map(block).collect::<io::Result<_>>()?;
        Ok(Trusted { blocks, unix: !unix.is_empty() })
    }
}

impl TryFrom<String> for Trusted {
    type Error = io::Error;

    /// # Errors
    /// As of reading it from a `str`.
    fn try_from(text: String) -> io::Result<Trusted> {
        text.parse()
    }
}

impl From<Trusted> for String {
    fn from(trusted: Trusted) -> String {
        trusted.to_string()
    }
}

fn block(text: &str) -> io::Result<IpNet> {
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(|_| {
        let why = format!(
            "{text:?} is neither an address, as 127.0.0.1 or ::1, nor a block of them, as 10.0.0.0/8; nor is it {UNIX}"
        );
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn an_address_is_trusted_if_it_is_named_or_within_a_block() {
        let trusted = "127.0.0.1,10.0.0.0/8,192.0.2.128/25,2001:db8::/32,::1".parse::<Trusted>().expect("blocks");
        let is_trusted = |address: &str| trusted.contains(&Peer::at(SocketAddr::new(ip(address), 80)));
        for address in ["127.0.0.1", "10.255.0.1", "192.0.2.128", "::1", "2001:db8:ffff::1", "::ffff:127.0.0.1"] {
            assert!(is_trusted(address), "{address}");
        }
        for address in ["127.0.0.2", "11.0.0.0", "192.0.2.127", "::2", "2001:db9::", "::ffff:127.0.0.2", "::127.0.0.1"]
        {
            assert!(!is_trusted(address), "{address}");
        }
        let all = "0.0.0.0/0,::/0".parse::<Trusted>().expect("all");
        assert!(!all.contains(&Peer::default()) && !all.contains(&Peer::on_unix()));
        let local = "unix".parse::<Trusted>().expect("no block at all");
        assert!(local.contains(&Peer::on_unix()) && !local.contains(&Peer::default()));
        assert!(!local.contains(&Peer::at(SocketAddr::new(ip("127.0.0.1"), 80))));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_written_is_read_as_the_same_and_what_is_neither_is_named() {
        for text in ["127.0.0.1,10.0.0.0/8", "unix", "unix,::1", "::1,unix"] {
            let trusted = text.parse::<Trusted>().expect(text);
            assert_eq!(trusted.to_string().parse::<Trusted>().expect("the same"), trusted);
        }
        for text in
            ["", "Unix", "unix,", "10.0.0.0/33", "localhost", "127.0.0.1,", "127.0.0.1:80", "::1/129", "10.0.0.0/8 "]
        {
            let error = text.parse::<Trusted>().expect_err(text);
            assert!(error.to_string().contains("neither an address"), "{error}");
        }
    }
}
