//! Where a server listens: parsed from what a person types, printed as a client needs it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// An address to listen on, or that is listened on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
}

impl Address {
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = io::Error;

    /// Reads `127.0.0.1:7000`, `[::1]:7000`, `localhost:7000`, or any of them after `tcp://`.
    fn from_str(text: &str) -> io::Result<Address> {
        let invalid = |why: &str| {
            let message = format!(
                "cannot understand address {text:?}: {why}; \
                 write HOST:PORT, as 127.0.0.1:7000, [::1]:7000 or localhost:0"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        };
        let host_port = text.strip_prefix("tcp://").unwrap_or(text);
        if host_port.contains("://") {
            return Err(invalid("only tcp:// is known"));
        }
        if let Ok(address) = host_port.parse() {
            return Ok(Address::Tcp(address));
        }
        let (host, port) = host_port.rsplit_once(':').ok_or_else(|| invalid("the port is missing"))?;
        port.parse::<u16>().map_err(|_| invalid("the port is not a number from 0 to 65535"))?;
        if host.is_empty() {
            return Err(invalid("the host is missing"));
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(invalid("an IPv6 address stands in brackets"));
        }
        let mut found = host_port.to_socket_addrs().map_err(|error| invalid(&error.to_string()))?;
        found.next().map(Address::Tcp).ok_or_else(|| invalid("the host has no address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        for (text, shown) in
            [("127.0.0.1:7000", "127.0.0.1:7000"), ("tcp://127.0.0.1:0", "127.0.0.1:0"), ("[::1]:80", "[::1]:80")]
        {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), shown);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_answered_with_the_reason_and_the_form() {
        for (text, why) in [
            ("", "port is missing"),
            ("127.0.0.1", "port is missing"),
            ("127.0.0.1:seventy", "not a number"),
            ("127.0.0.1:70000", "not a number"),
            (":7000", "host is missing"),
            ("::1:7000", "brackets"),
            ("udp://127.0.0.1:1", "only tcp://"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("HOST:PORT"), "{text:?}: {error}");
        }
    }
}
