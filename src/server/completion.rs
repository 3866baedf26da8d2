//! The server of completions: it hands operations to the kernel, and is told when they are done.

mod turns;

use std::io;
use std::sync::Arc;

use pollmark_backends::completion::{Fate, Setup};

use super::control::Inbox;
use super::datagrams;
use super::listener::Listener;
use super::{Abilities, Address, Config, Control, Observer, Server, Stats};
use crate::protocol::Protocol;

/// One loop on one thread over a [`Ring`](pollmark_backends::completion::Ring) of io_uring(7).
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{CompletionServer, Config, Server};
///
/// # fn main() -> std::io::Result<()> {
/// let server = CompletionServer::bind(Config::listen("127.0.0.1:0".parse()?), Echo)?;
/// let control = server.control();
/// let running = std::thread::spawn(move || Box::new(server).run());
/// control.stop();
/// match running.join().expect("the server does not panic") {
///     Ok(stats) => assert_eq!(stats.open, 0),
///     Err(error) => println!("no io_uring here: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// Of [`Config`], `read_buffer` bounds a single receive from above, and `events` and `read_budget` are the kernel's
/// own. It accepts by multishot or one by one, and learns the address of whom it accepts only if the protocol
/// [asks for it](Protocol::ASKS_FOR_PEER).
pub struct CompletionServer<Q, O = (), F = ()> {
    setup: Setup,
    fate: F,
    config: Config,
    protocol: Q,
    observer: O,
    listeners: Vec<Arc<Listener>>,
    addresses: Vec<Address>,
    inbox: Inbox,
}

impl<Q: Protocol> CompletionServer<Q> {
    /// Binds the listeners. The ring is made by the thread that runs the server.
    ///
    /// # Errors
    /// What binding gives, with the address and what to do about it.
    pub fn bind(config: Config, mut protocol: Q) -> io::Result<CompletionServer<Q>> {
        Abilities::COMPLETION.accept_by(config.accept)?;
        datagrams::check(&config, &protocol)?;
        // An operation on a socket that does not block fails where another waits.
        let (listeners, addresses) = config.bind(false)?;
        let (setup, fate, observer, inbox) = (Setup::default(), (), (), Inbox::new()?);
        protocol.begin(&inbox.post());
        Ok(CompletionServer { setup, fate, config, protocol, observer, listeners, addresses, inbox })
    }
}

impl<Q, O, F> CompletionServer<Q, O, F> {
    /// Makes the ring as `setup` says.
    pub fn with_setup(self, setup: Setup) -> CompletionServer<Q, O, F> {
        CompletionServer { setup, ..self }
    }

    /// Tells `observer` everything it does. Of a silent send it hears when that is over.
    pub fn with_observer<W: Observer>(self, observer: W) -> CompletionServer<Q, W, F> {
        let CompletionServer { setup, fate, config, protocol, listeners, addresses, inbox, .. } = self;
        CompletionServer { setup, fate, config, protocol, observer, listeners, addresses, inbox }
    }

    /// Puts the ring's operations under a `fate`: for faults.
    pub fn with_fate<G: Fate>(self, fate: G) -> CompletionServer<Q, O, G> {
        let CompletionServer { setup, config, protocol, observer, listeners, addresses, inbox, .. } = self;
        CompletionServer { setup, fate, config, protocol, observer, listeners, addresses, inbox }
    }
}

impl<Q: Protocol, O: Observer, F: Fate + Send> Server for CompletionServer<Q, O, F> {
    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn control(&self) -> Control {
        self.inbox.control()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        let server = *self;
        let _span = tracing::debug_span!("serve", addresses = ?server.addresses, by = "completion").entered();
        turns::serve(server)
    }
}
