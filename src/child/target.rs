//! Whom a load is aimed at: the address a server listens at, as one connects to it.

use std::io;

use crate::client::Target;
use crate::server::Address;
#[cfg(unix)]
use crate::server::UnixName;

/// Whom connections can be opened to at this address.
///
/// # Errors
/// `Unsupported` where there are none to be opened, with what to give instead.
pub(crate) fn target(address: &Address) -> io::Result<Target> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::Unsupported, format!("cannot load {address}: {why}")));
    match address {
        Address::Tcp(address) => Ok(Target::Tcp(*address)),
        #[cfg(unix)]
        Address::Unix(UnixName::Path(path)) => Ok(Target::Unix(path.clone())),
        #[cfg(linux_like)]
        Address::Unix(UnixName::Abstract(name)) => Ok(Target::Unix(format!("\0{name}").into())),
        #[cfg(not(linux_like))]
        Address::Unix(_) => refuse("this system has no such sockets; give a path where it has these, or HOST:PORT"),
        _ => refuse("the load is made of connections, and datagrams have none; give HOST:PORT or unix:/PATH"),
    }
}
