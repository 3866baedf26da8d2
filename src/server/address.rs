//! Where a server listens: parsed from what a person types, printed as a client needs it.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on, or that is listened on.
///
/// ```
/// use pollmark::server::Address;
///
/// # fn main() -> std::io::Result<()> {
/// assert_eq!("tcp://127.0.0.1:7000".parse::<Address>()?.to_string(), "127.0.0.1:7000");
/// assert_eq!("unix:/run/echo.sock".parse::<Address>()?.to_string(), "unix:/run/echo.sock");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A stream socket of this host alone, of Unix.
    Unix(UnixName),
    /// UDP over IPv4 or IPv6.
    Udp(SocketAddr),
    /// A datagram socket of this host alone, of Unix.
    UnixDatagram(UnixName),
}

/// What a Unix socket is called.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum UnixName {
    /// A file of the kind "socket", whose permissions say who may connect.
    Path(PathBuf),
    /// A name in a space of its own, which no file system knows and where no permissions hold: on Linux only.
    Abstract(String),
}

impl Address {
    /// The TCP address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// The address of UDP, if it is one.
    pub fn udp(&self) -> Option<SocketAddr> {
        match self {
            Address::Udp(address) => Some(*address),
            _ => None,
        }
    }

    /// Whether messages come there, and not connections.
    pub fn is_of_datagrams(&self) -> bool {
        matches!(self, Address::Udp(_) | Address::UnixDatagram(_))
    }

    /// The name of the Unix socket, if it is one, of whichever kind.
    pub fn unix(&self) -> Option<&UnixName> {
        match self {
            Address::Unix(name) | Address::UnixDatagram(name) => Some(name),
            _ => None,
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
            Address::Unix(name) => f.pad(&format!("unix:{name}")),
            Address::Udp(address) => f.pad(&format!("udp://{address}")),
            Address::UnixDatagram(name) => f.pad(&format!("unixgram:{name}")),
        }
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnixName::Path(path) => path.display().fmt(f),
            UnixName::Abstract(name) => f.pad(&format!("@{name}")),
        }
    }
}

impl FromStr for Address {
    type Err = io::Error;

    /// Reads `127.0.0.1:7000`, `[::1]:7000`, `localhost:7000`, or any of them after `tcp://`; `unix:` and a path, or
    /// `unix:@` and a name that is no path. A path that begins with `@` is written `unix:./@…`. For datagrams, `udp://`
    /// and `unixgram:` instead.
    fn from_str(text: &str) -> io::Result<Address> {
        match Address::understand(text)? {
            Ok(address) => Ok(address),
            Err((of, name)) => {
                let mut found = name.to_socket_addrs().map_err(|error| invalid(text, &error.to_string()))?;
                found.next().map(of).ok_or_else(|| invalid(text, "the host has no address"))
            }
        }
    }
}

impl Address {
    /// The address, if it is written in numbers; otherwise what is to be made of it, and `HOST:PORT`, of which the host
    /// is a name to look up.
    pub(crate) fn understand(text: &str) -> io::Result<Result<Address, Unresolved<'_>>> {
        if let Some(name) = text.strip_prefix("unix:") {
            return Ok(Ok(Address::Unix(unix_name(name).map_err(|why| invalid(text, why))?)));
        }
        if let Some(name) = text.strip_prefix("unixgram:") {
            return Ok(Ok(Address::UnixDatagram(unix_name(name).map_err(|why| invalid(text, why))?)));
        }
        let (of, host_port): (fn(SocketAddr) -> Address, _) = match text.strip_prefix("udp://") {
            Some(host_port) => (Address::Udp, host_port),
            None => (Address::Tcp, text.strip_prefix("tcp://").unwrap_or(text)),
        };
        if host_port.contains("://") {
            return Err(invalid(text, "only tcp://, udp://, unix: and unixgram: are known"));
        }
        if let Ok(address) = host_port.parse() {
            return Ok(Ok(of(address)));
        }
        let (host, port) = host_port.rsplit_once(':').ok_or_else(|| invalid(text, "the port is missing"))?;
        port.parse::<u16>().map_err(|_| invalid(text, "the port is not a number from 0 to 65535"))?;
        if host.is_empty() {
            return Err(invalid(text, "the host is missing"));
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(invalid(text, "an IPv6 address stands in brackets"));
        }
        Ok(Err((of, host_port)))
    }
}

/// What becomes of a host and a port, once the host is known.
pub(crate) type Unresolved<'a> = (fn(SocketAddr) -> Address, &'a str);

/// What stands behind `unix:`.
fn unix_name(text: &str) -> Result<UnixName, &'static str> {
    if text.contains('\0') {
        return Err("a name has no zero byte");
    }
    match text.strip_prefix('@') {
        Some("") => Err("the name behind the @ is missing"),
        Some(name) => Ok(UnixName::Abstract(name.to_owned())),
        None if text.is_empty() => Err("the path is missing"),
        None => Ok(UnixName::Path(text.into())),
    }
}

fn invalid(text: &str, why: &str) -> io::Error {
    let message = format!(
        "cannot understand address {text:?}: {why}; \
         write HOST:PORT, as 127.0.0.1:7000, [::1]:7000 or localhost:0, or unix:/PATH or unix:@NAME; \
         for datagrams udp://HOST:PORT or unixgram:/PATH"
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        for (text, shown) in [
            ("127.0.0.1:7000", "127.0.0.1:7000"),
            ("tcp://127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
            ("unix:/run/echo.sock", "unix:/run/echo.sock"),
            ("unix:here:1", "unix:here:1"),
            ("unix:@echo", "unix:@echo"),
            ("udp://[::1]:53", "udp://[::1]:53"),
            ("unixgram:/run/log", "unixgram:/run/log"),
            ("unixgram:@log", "unixgram:@log"),
            ("unix:./@echo", "unix:./@echo"),
        ] {
            assert_eq!(text.parse::<Address>().expect(text).to_string(), shown);
        }
        let abstract_name = "unix:@echo".parse::<Address>().expect("a name");
        assert_eq!(abstract_name.unix(), Some(&UnixName::Abstract("echo".to_owned())));
        assert_eq!((abstract_name.tcp(), "[::1]:80".parse::<Address>().expect("TCP").unix()), (None, None));
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
            ("sctp://127.0.0.1:1", "only tcp://"),
            ("udp://127.0.0.1", "port is missing"),
            ("unixgram:", "path is missing"),
            ("unix:", "path is missing"),
            ("unix:@", "name behind the @ is missing"),
            ("unix:/a\0b", "zero byte"),
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains("HOST:PORT"), "{text:?}: {error}");
        }
    }
}
