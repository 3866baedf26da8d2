//! Reading and writing one connection's socket until it has no more to say, with every call in the books.

use std::io;

use pollmark_backends::{Source, Token};

use super::{Net, Observer, Stats};
use crate::conn::Connection;
use crate::protocol::{Host, Protocol};

/// One connection's socket, and who keeps the books.
pub(super) struct Wire<'a, N, O> {
    pub(super) net: &'a N,
    pub(super) observer: &'a mut O,
    pub(super) stats: &'a mut Stats,
    pub(super) source: Source<'a>,
    pub(super) token: Token,
}

impl<N: Net, O: Observer> Wire<'_, N, O> {
    /// Receives: `Some(Some(0))` at the end, `Some(None)` when there is nothing yet, `None` when the peer is lost.
    #[inline]
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Option<Option<usize>> {
        loop {
            self.stats.read_calls += 1;
            match self.net.recv(self.source, buffer) {
                Ok(bytes) => {
                    self.stats.bytes_in += bytes as u64;
                    self.observer.read(self.token, bytes);
                    return Some(Some(bytes));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Some(None),
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        lost(self.token, "recv", &error);
                        return None;
                    }
                },
            }
        }
    }

    /// Sends until nothing is owed or the kernel takes no more. Says whether the connection lives.
    #[inline]
    pub(super) fn flush<Q: Protocol>(&mut self, connection: &mut Connection<Q>, host: &mut Host<Q>) -> bool {
        let alive = loop {
            let owed = connection.outgoing(host);
            if owed.is_empty() {
                break true;
            }
            let offered = owed.len();
            self.stats.write_calls += 1;
            match self.net.send(self.source, owed) {
                Ok(taken) => {
                    self.stats.bytes_out += taken as u64;
                    self.observer.wrote(self.token, taken, offered);
                    connection.sent(host, taken);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break true,
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        lost(self.token, "send", &error);
                        break false;
                    }
                },
            }
        };
        connection.settle(host);
        alive
    }

    /// Goes on with input that is held back, as long as the kernel takes the answers and the `budget` lasts. Says
    /// whether the connection lives.
    #[cold]
    pub(super) fn go_on<Q: Protocol>(
        &mut self,
        connection: &mut Connection<Q>,
        host: &mut Host<Q>,
        budget: &mut u32,
    ) -> bool {
        while *budget > 0 && connection.resume(host, self.token) {
            *budget -= 1;
            if !self.flush(connection, host) {
                return false;
            }
        }
        true
    }
}

#[cold]
pub(super) fn lost(connection: Token, call: &str, error: &io::Error) {
    tracing::debug!(?connection, %error, "lost in {call}");
}
