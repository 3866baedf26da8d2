//! A blocking thread for each connection: the textbook server, in the same table as the loops.
//!
//! Threads are what it runs out of. Their number can be bounded: beyond it connections wait in the listen queue, as
//! those of [`IterativeServer`](super::IterativeServer) do beyond one. Where the system has none left, they are turned
//! away.

use std::io;
use std::sync::Arc;
use std::thread;

use super::super::{Abilities, Address, Config, Control, Kernel, Net, Observer, Server, Stats};
use super::roster::{Guest, Leaving, Roster};
use super::service::Service;
use super::{Aside, Receive, Setup, serve};
use crate::protocol::Protocol;

/// No thread is given less, or it could not run at all.
const LEAST_STACK: usize = 64 * 1024;
/// Each thread has a receive buffer of its own, so it is smaller than that of a loop.
const MOST_BUFFER: usize = 16 * 1024;

/// One thread for each connection, one that accepts, and one that answers its [`Control`].
///
/// Each connection has a clone of the protocol to itself. Bounded by
/// [`Limits::connections`](super::super::Limits::connections), beyond which connections are closed at once, and by
/// [`thread_limit`](Config::thread_limit), beyond which they wait in the listen queue until a thread has ended: the
/// smaller of the two is met first. A thread's stack is [`stack_size`](Config::stack_size). When it is stopped it ends
/// every thread's call, in recv(2) or in send(2), and returns when all have left.
///
/// What a connection [sends to another](crate::protocol::Context::send_to) its own thread writes, and waits if that one
/// does not read: until it does, or is given up, by its protocol's deadline or by
/// [`Limits::write`](super::super::Limits::write). Two that write to each other and read nothing wait for that limit
/// alone.
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, Server, ThreadServer};
///
/// # fn main() -> std::io::Result<()> {
/// let mut config = Config::listen("127.0.0.1:0".parse()?);
/// (config.thread_limit, config.stack_size) = (Some(200), 256 * 1024);
/// let server = ThreadServer::bind(config, Echo)?;
/// let control = server.control();
/// let running = std::thread::spawn(move || Box::new(server).run());
/// control.stop();
/// running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
pub struct ThreadServer<Q, N = Kernel, O = ()>(Setup<Q, N, O>);

impl<Q: Protocol> ThreadServer<Q> {
    /// Binds the listeners.
    ///
    /// # Errors
    /// What binding gives, with the address and what to do about it; `Unsupported` for
    /// [`AcceptPolicy::Multishot`](super::super::AcceptPolicy::Multishot).
    pub fn bind(config: Config, protocol: Q) -> io::Result<ThreadServer<Q>> {
        Ok(ThreadServer(Setup::bind(config, protocol, Abilities::THREADS)?))
    }
}

impl<Q, N, O> ThreadServer<Q, N, O> {
    /// Reaches its sockets through `net` instead of the system.
    pub fn with_net<M: Net>(self, net: M) -> ThreadServer<Q, M, O> {
        ThreadServer(self.0.with_net(net))
    }

    /// Tells clones of `observer`, one for each thread that serves, everything it does.
    pub fn with_observer<W: Observer + Clone>(self, observer: W) -> ThreadServer<Q, N, W> {
        ThreadServer(self.0.with_observer(observer))
    }
}

impl<Q: Protocol, N: Net + Sync, O: Observer + Clone> Server for ThreadServer<Q, N, O> {
    fn addresses(&self) -> &[Address] {
        &self.0.addresses
    }

    fn control(&self) -> Control {
        self.0.control()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        let Setup { config, protocol, net, observer, listeners, addresses, inbox } = self.0;
        let _span = tracing::debug_span!("serve", ?addresses, by = "threads").entered();
        let (buffer, limits) = (config.read_buffer.min(MOST_BUFFER), config.limits.clone());
        let (stack, most) = (config.stack_size.max(LEAST_STACK), config.thread_limit.unwrap_or(usize::MAX).max(1));
        let (ours, aside) = (net.clone(), Aside::of(&config, &protocol));
        let begin = |roster: &Arc<Roster>| -> Box<Receive<'_>> {
            let roster = Arc::clone(roster);
            Box::new(move |guest: Guest| {
                let service = Service::new((net.clone(), observer.clone()), protocol.clone(), &roster, buffer, &limits);
                let thread = thread::Builder::new().name("connection".into()).stack_size(stack);
                let roster = Arc::clone(&roster);
                let converse = move || {
                    let _leaving = Leaving(roster, guest.id);
                    let mut service = service; // a local, to be dropped before the one above
                    service.serve(guest);
                };
                thread.spawn(converse).map(drop)
            })
        };
        serve(Abilities::THREADS, most, (config, ours, aside, listeners, inbox), Box::new(begin))
    }
}
