//! Whom a client asks: a name, and the addresses it stands for.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// One server by name, and its addresses in the order they are tried.
///
/// ```
/// use pollmark::client::Endpoint;
/// use std::net::SocketAddr;
///
/// # fn main() -> std::io::Result<()> {
/// let here: Endpoint = "localhost:6379".parse()?; // looked up now, which may take its time
/// let there = Endpoint::from("127.0.0.1:6379".parse::<SocketAddr>().expect("an address"));
/// assert_eq!(here.to_string(), "localhost:6379");
/// assert_eq!(there.targets().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    name: Arc<str>,
    targets: Arc<[Target]>,
}

/// One address to connect to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum Target {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket, by its path; on Linux an abstract one if the path begins with a zero byte.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Endpoint {
    /// The addresses in the order given, under a `name` for people to read.
    ///
    /// # Errors
    /// `InvalidInput` if there is no address.
    pub fn new(name: &str, targets: impl IntoIterator<Item = Target>) -> io::Result<Endpoint> {
        let targets: Arc<[Target]> = targets.into_iter().collect();
        if targets.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} has no address")));
        }
        Ok(Endpoint { name: name.into(), targets })
    }

    /// A Unix stream socket.
    #[cfg(unix)]
    pub fn unix(path: impl AsRef<Path>) -> Endpoint {
        Endpoint::one(Target::Unix(path.as_ref().to_owned()))
    }

    /// What is tried, in this order.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    fn one(target: Target) -> Endpoint {
        Endpoint { name: target.to_string().into(), targets: Arc::new([target]) }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint::one(Target::Tcp(address))
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Target {
        Target::Tcp(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Endpoint {
    type Err = io::Error;

    /// Reads `localhost:7000`, `127.0.0.1:7000`, `[::1]:7000`, any of them after `tcp://`; and on Unix `unix:PATH`,
    /// where on Linux `unix:@NAME` is an abstract one.
    ///
    /// A host's name is looked up here, once, by the system, which blocks: no timeout of a client covers it.
    fn from_str(text: &str) -> io::Result<Endpoint> {
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:") {
            let is_abstract = cfg!(linux_like) && path.starts_with('@');
            return Ok(Endpoint::unix(if is_abstract { path.replacen('@', "\0", 1) } else { path.to_owned() }));
        }
        let found = text.strip_prefix("tcp://").unwrap_or(text).to_socket_addrs().map_err(|error| {
            let form = if cfg!(unix) { "HOST:PORT or unix:PATH" } else { "HOST:PORT" };
            io::Error::new(error.kind(), format!("cannot look up {text:?}: {error}; write {form}"))
        })?;
        Endpoint::new(text, found.map(Target::Tcp))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Target::Unix(path) => write!(f, "unix:{}", path.to_string_lossy().replace('\0', "@")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_understood_or_answered_with_the_form() {
        for (text, first) in [("127.0.0.1:7000", "127.0.0.1:7000"), ("tcp://[::1]:80", "[::1]:80")] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.to_string().as_str(), endpoint.targets()[0].to_string().as_str()), (text, first));
        }
        for text in ["", "127.0.0.1", "127.0.0.1:seventy"] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
        assert_eq!(Endpoint::new("nobody", []).expect_err("no address").kind(), io::ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_is_told_from_a_host() {
        let endpoint: Endpoint = "unix:/run/a.sock".parse().expect("a path");
        assert_eq!(endpoint.targets(), [Target::Unix("/run/a.sock".into())]);
        assert_eq!(Endpoint::unix("\0name").to_string(), "unix:@name");
        let endpoint: Endpoint = "unix:@name".parse().expect("a name");
        let name = if cfg!(linux_like) { "\0name" } else { "@name" };
        assert_eq!(endpoint.targets(), [Target::Unix(name.into())]);
    }
}
