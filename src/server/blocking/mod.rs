//! Servers that block: what a thread for each connection and one client at a time have in common.
//!
//! A connection and its protocol are those of every other driver; only the waiting differs: whoever serves it sleeps in
//! recv(2), and in send(2) when its peer is slow. Whoever accepts waits with poll(2) for the listeners and for a bell,
//! so that it can be called away: one call more per connection than a bare accept(2), none per request. Questions and
//! orders are answered by a thread of their own, because the others may be asleep for as long as a peer likes.
//!
//! Datagrams are taken where connections are accepted, and by the same wait: so a server of one client at a time takes
//! none while it has a client, as it accepts nobody.
//!
//! | idea | file |
//! |---|---|
//! | a thread for each connection | `threads.rs` |
//! | one client at a time | `iterative.rs` |
//! | accepting, and when not to | `hall.rs` |
//! | serving one connection to its end | `service.rs` |
//! | who is there, and the account | `roster.rs` |
//! | stop, stats and adopt | `desk.rs` |
//! | mail from other servers | `postman.rs` |

mod desk;
mod hall;
mod iterative;
mod postman;
mod roster;
mod seat;
mod service;
mod threads;

use std::io;
use std::sync::Arc;

use pollmark_backends::waker;

use self::desk::Desk;
use self::hall::Hall;
pub use self::iterative::IterativeServer;
use self::postman::Postman;
use self::roster::{Guest, Roster};
pub use self::threads::ThreadServer;
use super::control::Inbox;
use super::datagrams::{self, DatagramSockets};
use super::listener::Listener;
use super::patience::Patience;
use super::room::Room;
use super::{Abilities, Address, Config, Control, Expiry, Kernel, Net, Stats};
use crate::protocol::Protocol;

/// A blocking server that is bound and not yet running.
struct Setup<Q, N, O> {
    config: Config,
    protocol: Q,
    net: N,
    observer: O,
    listeners: Vec<Arc<Listener>>,
    addresses: Vec<Address>,
    inbox: Inbox,
}

impl<Q: Protocol> Setup<Q, Kernel, ()> {
    fn bind(config: Config, mut protocol: Q, abilities: Abilities) -> io::Result<Setup<Q, Kernel, ()>> {
        abilities.accept_by(config.accept)?;
        datagrams::check(&config, &protocol)?;
        // Not even the listeners block: a connection that poll(2) has told of may be gone before it is accepted.
        let (listeners, addresses) = config.bind(true)?;
        let inbox = Inbox::new()?;
        protocol.begin(&inbox.post());
        Ok(Setup { config, protocol, net: Kernel, observer: (), listeners, addresses, inbox })
    }
}

impl<Q, N, O> Setup<Q, N, O> {
    fn with_net<M>(self, net: M) -> Setup<Q, M, O> {
        let Setup { config, protocol, observer, listeners, addresses, inbox, .. } = self;
        Setup { config, protocol, net, observer, listeners, addresses, inbox }
    }

    fn with_observer<W>(self, observer: W) -> Setup<Q, N, W> {
        let Setup { config, protocol, net, listeners, addresses, inbox, .. } = self;
        Setup { config, protocol, net, observer, listeners, addresses, inbox }
    }

    fn control(&self) -> Control {
        self.inbox.control()
    }
}

/// What is said beside the connections: to those who are turned away, and to whoever sends a message.
struct Aside {
    refusal: &'static [u8],
    datagrams: Option<DatagramSockets>,
}

impl Aside {
    fn of(config: &Config, protocol: &impl Protocol) -> Aside {
        Aside { refusal: protocol.refusal(), datagrams: DatagramSockets::of(config, protocol) }
    }
}

/// Puts a guest in service. An indirect call for each connection: whoever accepts is compiled once, and not for each
/// protocol.
type Receive<'a> = dyn FnMut(Guest) -> io::Result<()> + 'a;
type Begin<'a> = Box<dyn FnOnce(&Arc<Roster>) -> Box<Receive<'a>> + 'a>;

/// Runs a server that `can` so much, with at most `most` connections in service, until it is stopped. What `begin`
/// makes receives each guest in turn; whom it returns an error for is refused.
///
/// When this returns, nobody is in service any more.
fn serve<N: Net>(
    can: Abilities,
    most: usize,
    (config, net, aside, listeners, inbox): (Config, N, Aside, Vec<Arc<Listener>>, Inbox),
    begin: Begin<'_>,
) -> io::Result<Stats> {
    let (bell, rung) = waker()?;
    let roster = Arc::new(Roster::new(bell, Room::of(&config), most, (config.limits.excess, aside.refusal)));
    let drain = config.limits.drain;
    let postman = Postman::new(net.clone(), &roster, Patience::of(&config.limits).length(Expiry::Write));
    let mut hall = Hall::open(can, config, (net, aside), listeners, rung, Arc::clone(&roster))?;
    // A server that answers has all it needs.
    let desk = Desk::open(inbox, &roster, postman, drain)?;
    let ran = hall.run(&mut *begin(&roster));
    roster.close();
    roster.wait_until_empty();
    desk.close().and(ran)?;
    Ok(roster.stats())
}
