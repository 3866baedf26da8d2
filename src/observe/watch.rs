//! Looking at a port again and again, at a two-hundredth of a CPU.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::counters::{COUNTERS, Counters};
use super::descriptors::Descriptor;
use super::port::{Owner, Port};
use crate::usage;

/// A look is followed by a pause this many times as long as it took: less than a hundredth of what a server uses that
/// is busy half of the time.
const THRIFT: u32 = 200;

/// Looks at a port, and keeps what need not be asked again.
///
/// ```
/// use pollmark::observe::Watch;
/// use std::net::TcpListener;
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut watch = Watch::new(listener.local_addr()?.port());
/// match watch.look() {
///     Ok(view) => assert_eq!((view.port.listeners.len(), view.port.waiting()), (1, 0)),
///     Err(error) => println!("{error}"), // not on this system
/// }
/// assert!(watch.pause(Duration::from_secs(1)) >= Duration::from_secs(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watch {
    port: u16,
    descriptors: bool,
    /// Whose the sockets of these inodes are.
    owners: Option<(Vec<u64>, Vec<Owner>)>,
    before: BTreeMap<&'static str, u64>,
    cost: Duration,
}

impl Watch {
    /// Of this port of this host. What the host has counted before is not told.
    pub fn new(port: u16) -> Watch {
        let before = standing().into_iter().flatten().collect();
        Watch { port, descriptors: false, owners: None, before, cost: Duration::ZERO }
    }

    /// Tells also what each descriptor of its processes is.
    #[must_use]
    pub fn with_descriptors(self) -> Watch {
        Watch { descriptors: true, ..self }
    }

    /// Looks now.
    ///
    /// # Errors
    /// As [`Sockets::list`](super::Sockets::list). That it is not told whose the port is, is none.
    pub fn look(&mut self) -> io::Result<View> {
        let began = usage::cpu_time();
        let port = Port::observe(self.port)?;
        let listeners = port.listeners.iter().map(|one| one.inode).collect::<Vec<_>>();
        if self.owners.as_ref().is_none_or(|(of, _)| *of != listeners) {
            self.owners = Some((listeners, port.owners().unwrap_or_default()));
        }
        let owners = self.owners.as_ref().map(|(_, owners)| owners.clone()).unwrap_or_default();
        let mut descriptors = BTreeMap::new();
        if self.descriptors {
            for owner in &owners {
                descriptors.extend(owner.descriptors().ok().map(|theirs| (owner.process, theirs)));
            }
        }
        let risen = standing().into_iter().flatten().filter_map(|(name, now)| {
            let rise = now.saturating_sub(*self.before.get(name)?);
            (rise > 0).then(|| (name.to_owned(), rise))
        });
        let view = View { port, owners, descriptors, risen: risen.collect() };
        self.cost = usage::cpu_time().zip(began).map_or(Duration::ZERO, |(now, began)| now.saturating_sub(began));
        Ok(view)
    }

    /// How long to wait before the next look: `asked`, or, where a look takes longer because there is much to see, so
    /// long that it took a two-hundredth of that.
    pub fn pause(&self, asked: Duration) -> Duration {
        asked.max(self.cost * THRIFT)
    }

    /// The CPU time of the last look.
    pub fn cost(&self) -> Duration {
        self.cost
    }
}

/// What each of the host's counters stands at, if it tells them.
fn standing() -> Option<impl Iterator<Item = (&'static str, u64)>> {
    let counters = Counters::read().ok()?;
    Some(COUNTERS.iter().filter_map(move |(name, _)| Some((*name, counters.get(name)?))))
}

/// What one look has seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct View {
    /// The port.
    #[serde(flatten)]
    pub port: Port,
    /// Whose it is, as far as that is told.
    pub owners: Vec<Owner>,
    /// Their descriptors, by the number of the process, if they were asked for.
    pub descriptors: BTreeMap<u32, Vec<Descriptor>>,
    /// How much the [`COUNTERS`] of the host have risen since watching began; those that have not are left out.
    pub risen: BTreeMap<String, u64>,
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::SocketAddr;

    #[test]
    fn a_look_that_costs_much_is_paid_for_by_a_longer_pause() {
        let mut watch = Watch::new(1);
        watch.cost = Duration::from_millis(30);
        assert_eq!(watch.pause(Duration::from_secs(1)), Duration::from_secs(6));
        assert_eq!(watch.pause(Duration::from_secs(10)), Duration::from_secs(10));
    }

    #[test]
    fn the_owner_is_looked_for_again_when_the_listener_is_another() {
        let [first, second] = [(); 2].map(|()| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_reuse_port(true).expect("on Linux");
            socket
        });
        first.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("a port");
        let address = first.local_addr().expect("bound");
        // It keeps the port while nobody listens.
        second.bind(&address).expect("they share it");
        let address = address.as_socket().expect("of IPv4");
        let mut watch = Watch::new(address.port()).with_descriptors();
        let us = std::process::id();
        let mut ours = || {
            let view = watch.look().expect("on Linux");
            let listens = view.port.listeners.iter().any(|one| one.local == address);
            (listens, view.owners.iter().any(|one| one.process == us), view.descriptors.contains_key(&us))
        };
        first.listen(1).expect("bound");
        assert_eq!(ours(), (true, true, true));
        drop(first);
        assert!(!ours().0);
        second.listen(1).expect("bound");
        assert_eq!(ours(), (true, true, true));
    }
}
