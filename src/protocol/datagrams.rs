//! Protocols of datagrams: one message in, any number of messages out, and no connection.

use pollmark_backends::datagrams::{DatagramAddress, Outbound};

/// A protocol of datagrams, without any I/O. What a [`Protocol`](super::Protocol) says beside its connections: each
/// loop has one of its own.
///
/// ```
/// use pollmark::protocol::{DatagramProtocol, Replies};
/// use pollmark::backends::datagrams::DatagramAddress;
///
/// /// Tells whoever asks, and the one who asked before him, too.
/// #[derive(Default)]
/// struct Gossip {
///     before: Option<DatagramAddress>,
/// }
///
/// impl DatagramProtocol for Gossip {
///     fn received(&mut self, message: &[u8], from: Option<&DatagramAddress>, replies: &mut Replies<'_>) {
///         for to in from.into_iter().chain(&self.before) {
///             replies.send(to, message);
///         }
///         self.before = from.cloned();
///     }
/// }
/// ```
pub trait DatagramProtocol: Send {
    /// A whole message came, perhaps an empty one. On a Unix socket its sender may have no name; he cannot be answered.
    fn received(&mut self, message: &[u8], from: Option<&DatagramAddress>, replies: &mut Replies<'_>);
}

/// Takes what a protocol of datagrams sends.
#[derive(Debug)]
pub struct Replies<'a> {
    outbound: &'a mut Outbound,
    most: usize,
    dropped: &'a mut u64,
}

impl<'a> Replies<'a> {
    /// For `most` bytes at a time; what comes beyond them is counted as dropped.
    pub(crate) fn new(outbound: &'a mut Outbound, most: usize, dropped: &'a mut u64) -> Replies<'a> {
        Replies { outbound, most, dropped }
    }

    /// Sends a message, after those that were sent before. As always with datagrams, it may be lost: where the network
    /// has no room for it, or for a message of its length, and where this loop has no room for more.
    pub fn send(&mut self, to: &DatagramAddress, message: &[u8]) {
        if self.outbound.bytes() + message.len() > self.most {
            *self.dropped += 1;
        } else {
            self.outbound.push(to, message);
        }
    }
}

/// Sends each message back: RFC 862, of datagrams. Whoever forges a sender can have two of them answer each other for
/// ever: not for the open network.
#[derive(Clone, Copy, Debug, Default)]
pub struct EchoDatagrams;

impl DatagramProtocol for EchoDatagrams {
    fn received(&mut self, message: &[u8], from: Option<&DatagramAddress>, replies: &mut Replies<'_>) {
        if let Some(from) = from {
            replies.send(from, message);
        }
    }
}
