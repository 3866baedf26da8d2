//! A server's datagram sockets, whatever waits for them: messages are taken in batches, answered, and what finds no
//! room is dropped and counted.
//!
//! Nothing is kept for later: a queue of answers would grow with whoever forges the most senders. So a socket is only
//! ever waited for to be readable, and what its send queue does not take is lost, as the network would lose it.

use std::io;
use std::sync::Arc;

use pollmark_backends::Token;
use pollmark_backends::datagrams::{BATCH, Inbound, Outbound};

use super::listener::Listener;
use super::{Address, Config, Net, Stats};
use crate::protocol::{DatagramProtocol, Protocol, Replies};

/// A loop's sockets of datagrams, and what it needs to serve them.
pub(super) struct DatagramSockets {
    sockets: Vec<(Token, Arc<Listener>)>,
    protocol: Box<dyn DatagramProtocol>,
    inbound: Inbound,
    outbound: Outbound,
    /// How many batches are taken from a socket before others have their turn.
    batches: u32,
    /// How many bytes may be said in answer to one.
    most: usize,
}

impl DatagramSockets {
    /// None if there is no datagram socket, or nothing to say.
    pub(super) fn of(config: &Config, protocol: &impl Protocol) -> Option<DatagramSockets> {
        if !config.addresses.iter().any(Address::is_of_datagrams) {
            return None;
        }
        Some(DatagramSockets {
            sockets: Vec::new(),
            protocol: protocol.datagrams()?,
            inbound: Inbound::new(config.max_datagram),
            outbound: Outbound::default(),
            batches: config.limits.read_budget.max(1),
            most: config.limits.high_water,
        })
    }

    /// One more socket, known by `token` to whoever waits for it.
    pub(super) fn add(&mut self, token: Token, socket: Arc<Listener>) {
        self.sockets.push((token, socket));
    }

    /// The socket of this token, if it is one of its own.
    #[cfg(completion)]
    pub(super) fn socket(&self, token: Token) -> Option<&Arc<Listener>> {
        self.sockets.iter().find(|(one, _)| *one == token).map(|(_, socket)| socket)
    }

    /// Takes messages from each socket, as if it had been said to have some.
    pub(super) fn exchange_all<N: Net>(&mut self, net: &N, stats: &mut Stats) {
        for at in 0..self.sockets.len() {
            self.exchange(self.sockets[at].0, net, stats);
        }
    }

    /// Takes messages from a socket, a bounded number, and answers them. Whoever waits is to look whether more are
    /// there.
    #[cold]
    pub(super) fn exchange<N: Net>(&mut self, token: Token, net: &N, stats: &mut Stats) {
        let DatagramSockets { sockets, protocol, inbound, outbound, batches, most } = self;
        let Some((_, socket)) = sockets.iter().find(|(one, _)| *one == token) else { return };
        let source = socket.as_source();
        for turn in 0..*batches {
            stats.read_calls += 1;
            let came = match net.recv_batch(source, inbound) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stats.spurious += u64::from(turn == 0);
                    return;
                }
                Err(error) => {
                    // A signal; or another host has told of a message of ours. Neither is about what is there.
                    tracing::trace!(%error, "a datagram socket had an error to tell");
                    continue;
                }
            };
            for datagram in inbound.iter() {
                stats.datagrams.received += 1;
                stats.bytes_in += datagram.bytes.len() as u64;
                if datagram.is_truncated {
                    stats.datagrams.truncated += 1; // a part of a message is none
                    continue;
                }
                let dropped = &mut stats.datagrams.dropped;
                protocol.received(datagram.bytes, datagram.from, &mut Replies::new(outbound, *most, dropped));
            }
            while outbound.left() > 0 {
                stats.write_calls += 1;
                let before = outbound.bytes_left();
                match net.send_batch(source, outbound) {
                    Ok(sent) => {
                        stats.datagrams.sent += sent as u64;
                        stats.bytes_out += (before - outbound.bytes_left()) as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // No room (EAGAIN, ENOBUFS), too long a message (EMSGSIZE), or nobody there: this one is lost.
                    Err(error) => {
                        tracing::trace!(%error, "a datagram is dropped");
                        stats.datagrams.dropped += 1;
                        outbound.give_up_one();
                    }
                }
            }
            outbound.clear();
            if came < BATCH && cfg!(target_os = "linux") {
                return; // the call would have taken more
            }
        }
    }
}

/// Whether `protocol` can be served at these addresses.
///
/// # Errors
/// `Unsupported`, with the reason.
pub(super) fn check<Q: Protocol>(config: &Config, protocol: &Q) -> io::Result<()> {
    match config.addresses.iter().find(|address| address.is_of_datagrams()) {
        Some(address) if protocol.datagrams().is_none() => {
            let why = format!("cannot listen on {address}: this protocol has connections, and knows no datagrams");
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        _ => Ok(()),
    }
}
