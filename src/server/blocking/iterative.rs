//! One client at a time: accept, read, write, close, accept the next. The first server of every textbook.
//!
//! Stevens calls it the iterative server. It is the floor under all others: nothing is waited for but the one
//! connection, so its requests show what a request costs without any waiting for many; and it shows what waiting for
//! many is for.

use std::io;
use std::sync::Arc;

use super::super::{Abilities, Address, Config, Control, Kernel, Net, Observer, Server, Stats};
use super::roster::{Guest, Leaving, Roster};
use super::service::Service;
use super::{Aside, Receive, Setup, serve};
use crate::protocol::Protocol;

/// One connection in service, all others in the listen queue until it is closed.
///
/// A client that stays silent keeps all others waiting for as long as it likes; only a deadline ends that, of the
/// limits or of the protocol. [`Abilities::concurrent`] says so to whoever means to open two connections. Its
/// [`Control`] is answered by a thread beside it; sockets that are [adopted](Control::adopt) wait their turn, and so do datagrams.
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, IterativeServer, Server};
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// # fn main() -> std::io::Result<()> {
/// let server = IterativeServer::bind(Config::listen("127.0.0.1:0".parse()?), Echo)?;
/// let (address, control) = (server.addresses()[0].tcp().expect("a TCP address"), server.control());
/// let running = std::thread::spawn(move || Box::new(server).run());
///
/// let (mut first, mut second) = (TcpStream::connect(address)?, TcpStream::connect(address)?);
/// second.write_all(b"me too")?; // waits in the queue
/// first.write_all(b"hello")?;
/// let mut answer = [0; 5];
/// first.read_exact(&mut answer)?;
/// drop(first);
/// second.read_exact(&mut answer)?; // its turn
/// assert_eq!(&answer, b"me to");
///
/// control.stop();
/// running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
pub struct IterativeServer<Q, N = Kernel, O = ()>(Setup<Q, N, O>);

impl<Q: Protocol> IterativeServer<Q> {
    /// Binds the listeners.
    ///
    /// # Errors
    /// What binding gives, with the address and what to do about it; `Unsupported` for any
    /// [`AcceptPolicy`](super::super::AcceptPolicy) but `One`.
    pub fn bind(config: Config, protocol: Q) -> io::Result<IterativeServer<Q>> {
        Ok(IterativeServer(Setup::bind(config, protocol, Abilities::ITERATIVE)?))
    }
}

impl<Q, N, O> IterativeServer<Q, N, O> {
    /// Reaches its sockets through `net` instead of the system.
    pub fn with_net<M: Net>(self, net: M) -> IterativeServer<Q, M, O> {
        IterativeServer(self.0.with_net(net))
    }

    /// Tells `observer` everything it does.
    pub fn with_observer<W: Observer>(self, observer: W) -> IterativeServer<Q, N, W> {
        IterativeServer(self.0.with_observer(observer))
    }
}

impl<Q: Protocol, N: Net, O: Observer> Server for IterativeServer<Q, N, O> {
    fn addresses(&self) -> &[Address] {
        &self.0.addresses
    }

    fn control(&self) -> Control {
        self.0.control()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        let Setup { config, protocol, net, observer, listeners, addresses, inbox } = self.0;
        let _span = tracing::debug_span!("serve", ?addresses, by = "iterative").entered();
        let (buffer, limits, ours) = (config.read_buffer, config.limits.clone(), net.clone());
        let aside = Aside::of(&config, &protocol);
        let begin = |roster: &Arc<Roster>| -> Box<Receive<'_>> {
            let roster = Arc::clone(roster);
            // One buffer for all of them: the textbook has no more.
            let mut service = Service::new((net, observer), protocol, &roster, buffer, &limits);
            Box::new(move |guest: Guest| {
                let _leaving = Leaving(Arc::clone(&roster), guest.id);
                service.serve(guest);
                Ok(())
            })
        };
        serve(Abilities::ITERATIVE, 1, (config, ours, aside, listeners, inbox), Box::new(begin))
    }
}
