//! Who watches a server: a type parameter, so that not watching costs nothing.

use pollmark_backends::Token;

use super::Expiry;
use crate::protocol::Peer;

/// Told of everything that a server does, as it does it, by the thread that does it. Every method is empty by default;
/// `()` observes nothing.
///
/// A loop has one observer. Of a server that blocks each thread that serves has a clone, and tells of its own connection:
/// receiving is what it waits by, and what other connections have it send goes untold.
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, Observer, ReadinessServer};
/// use pollmark_backends::{Trigger, poll::Poll};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// /// Remembers the most events that one wait returned.
/// struct Busiest(Arc<AtomicUsize>);
///
/// impl Observer for Busiest {
///     fn waited(&mut self, events: usize) {
///         self.0.fetch_max(events, Ordering::Relaxed);
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let busiest = Arc::new(AtomicUsize::new(0));
/// let config = Config::listen("127.0.0.1:0".parse()?);
/// let server = ReadinessServer::bind(config, Echo, Trigger::Level, Poll::open)?;
/// let server = server.with_observer(Busiest(Arc::clone(&busiest)));
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send + 'static {
    /// A wait begins.
    fn waiting(&mut self) {}

    /// A wait returned `events` events.
    fn waited(&mut self, events: usize) {
        let _ = events;
    }

    /// A connection was taken on.
    fn accepted(&mut self, connection: Token, peer: &Peer) {
        let _ = (connection, peer);
    }

    /// `bytes` were received; 0 is the end of the stream.
    fn read(&mut self, connection: Token, bytes: usize) {
        let _ = (connection, bytes);
    }

    /// The kernel took `bytes` of the `offered`. Of what was sent with others by one call of a completion loop, it is told
    /// when that is over.
    fn wrote(&mut self, connection: Token, bytes: usize, offered: usize) {
        let _ = (connection, bytes, offered);
    }

    /// The connection has met a deadline of the limits, and is about to be closed.
    fn expired(&mut self, connection: Token, expiry: Expiry) {
        let _ = (connection, expiry);
    }

    /// The connection is gone.
    fn closed(&mut self, connection: Token) {
        let _ = connection;
    }
}

impl Observer for () {}

/// Writes each read, write and wait to `tracing` at trace level, with the target [`Trace::TARGET`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

impl Trace {
    /// What its events are marked with, to tell them from others.
    pub const TARGET: &'static str = module_path!();
}

impl Observer for Trace {
    fn waiting(&mut self) {
        tracing::trace!("waiting");
    }

    fn waited(&mut self, events: usize) {
        tracing::trace!(events, "waited");
    }

    fn accepted(&mut self, connection: Token, peer: &Peer) {
        tracing::trace!(?connection, %peer, "accepted");
    }

    fn read(&mut self, connection: Token, bytes: usize) {
        tracing::trace!(?connection, bytes, "read");
    }

    fn wrote(&mut self, connection: Token, bytes: usize, offered: usize) {
        tracing::trace!(?connection, bytes, offered, "wrote");
    }

    fn expired(&mut self, connection: Token, expiry: Expiry) {
        tracing::trace!(?connection, %expiry, "expired");
    }

    fn closed(&mut self, connection: Token) {
        tracing::trace!(?connection, "closed");
    }
}
