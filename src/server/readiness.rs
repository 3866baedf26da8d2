//! The server that is told when it can read and write, by any [`Poller`].

pub(super) mod turns;

use std::io;
use std::sync::Arc;

use pollmark_backends::{Poller, Trigger};

use super::control::Inbox;
use super::datagrams;
use super::listener::Listener;
use super::{Abilities, Address, Config, Control, Kernel, Net, Observer, Server, Stats};
use crate::clock::Clock;
use crate::protocol::Protocol;

/// One loop on one thread over any [`Poller`].
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, ReadinessServer, Server};
/// use pollmark_backends::{Trigger, select::Select};
///
/// # fn main() -> std::io::Result<()> {
/// let config = Config::listen("127.0.0.1:0".parse()?);
/// let server = ReadinessServer::bind(config, Echo, Trigger::Level, Select::open)?;
/// let control = server.control();
/// let running = std::thread::spawn(move || Box::new(server).run());
/// control.stop();
/// running.join().expect("the server does not panic")?;
/// # Ok(())
/// # }
/// ```
pub struct ReadinessServer<F, Q, N = Kernel, O = ()> {
    open: F,
    trigger: Trigger,
    config: Config,
    protocol: Q,
    net: N,
    observer: O,
    clock: Clock,
    listeners: Vec<Arc<Listener>>,
    addresses: Vec<Address>,
    inbox: Inbox,
    to: Option<Control>,
}

impl<F, P, Q> ReadinessServer<F, Q>
where
    F: FnOnce() -> io::Result<P> + Send,
    P: Poller,
    Q: Protocol,
{
    /// Binds the listeners. `open` will make the poller, on the thread that runs the server; connections are watched
    /// with `trigger`, which that poller must support. Listeners and waker are level-triggered in any case.
    ///
    /// # Errors
    /// What binding gives, with the address and what to do about it; `Unsupported` for
    /// [`AcceptPolicy::Multishot`](super::AcceptPolicy::Multishot), which needs a driver that waits for completions.
    pub fn bind(config: Config, mut protocol: Q, trigger: Trigger, open: F) -> io::Result<ReadinessServer<F, Q>> {
        Abilities::READINESS.accept_by(config.accept)?;
        datagrams::check(&config, &protocol)?;
        let (listeners, addresses) = config.bind(true)?;
        let inbox = Inbox::new()?;
        protocol.begin(&inbox.post());
        let (net, observer, clock, to) = (Kernel, (), Clock::default(), None);
        Ok(ReadinessServer { open, trigger, config, protocol, net, observer, clock, listeners, addresses, inbox, to })
    }
}

impl<F, Q, N, O> ReadinessServer<F, Q, N, O> {
    /// Reaches its sockets through `net` instead of the system: for faults and for simulation.
    pub fn with_net<M: Net>(self, net: M) -> ReadinessServer<F, Q, M, O> {
        let ReadinessServer {
            open, trigger, config, protocol, observer, clock, listeners, addresses, inbox, to, ..
        } = self;
        ReadinessServer { open, trigger, config, protocol, net, observer, clock, listeners, addresses, inbox, to }
    }

    /// Tells `observer` everything it does.
    pub fn with_observer<W: Observer>(self, observer: W) -> ReadinessServer<F, Q, N, W> {
        let ReadinessServer { open, trigger, config, protocol, net, clock, listeners, addresses, inbox, to, .. } = self;
        ReadinessServer { open, trigger, config, protocol, net, observer, clock, listeners, addresses, inbox, to }
    }

    /// Reads the time from `clock`, for simulation. A poller waits by the system's clock unless it knows of this one.
    pub fn with_clock(self, clock: impl Into<Clock>) -> ReadinessServer<F, Q, N, O> {
        ReadinessServer { clock: clock.into(), ..self }
    }

    /// Serves nobody: hands what it accepts to the loops of another server, in turn.
    pub(super) fn handing_to(self, loops: Control) -> ReadinessServer<F, Q, N, O> {
        ReadinessServer { to: Some(loops), ..self }
    }
}

impl<F, P, Q, N, O> Server for ReadinessServer<F, Q, N, O>
where
    F: FnOnce() -> io::Result<P> + Send,
    P: Poller,
    Q: Protocol,
    N: Net,
    O: Observer,
{
    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn control(&self) -> Control {
        self.inbox.control()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        let server = *self;
        let _span = tracing::debug_span!("serve", addresses = ?server.addresses, trigger = %server.trigger).entered();
        turns::serve(server)
    }
}
