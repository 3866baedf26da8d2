//! The cheapest echo server: one thread, the mechanism the load waits by, and for each event one read and one write.
//!
//! It has no limits, no deadlines and no account, and nothing between the bytes and the socket. It is correct all the
//! same: what a write leaves is kept, and nothing more is read from that connection until it has gone.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;

use pollmark_backends::{AsSource, Event, Events, Interest, OwnedSource, Poller, Token, Trigger};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::child::serve::{on_a_free_port, own_name};
use crate::server::{Address, UnixName};
use crate::stream;
use crate::workload::{self, Transport};

const BATCH: usize = 256;
const BUFFER: usize = 64 * 1024;
const BACKLOG: i32 = 4_096;
/// No connection has it: there would have to be as many before it.
const LISTENER: Token = Token::new(u32::MAX, 0);

/// The server.
struct Echo {
    poller: Box<dyn Poller>,
    listener: Socket,
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Box<[u8]>,
}

struct Connection {
    stream: OwnedSource,
    unsent: Vec<u8>,
    watched: Interest,
}

/// Listens where nobody else does.
pub(in crate::child) fn bind(transport: Transport) -> io::Result<(Socket, Address)> {
    match transport {
        Transport::Tcp => on_a_free_port(Ipv4Addr::LOCALHOST.into(), |address| {
            let listener = listen(Domain::IPV4, &address.into())?;
            let bound = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok((listener, bound.into()))
        }),
        Transport::Unix => {
            let name = own_name();
            let address = match &name {
                UnixName::Path(path) => SockAddr::unix(path),
                UnixName::Abstract(name) => SockAddr::unix(format!("\0{name}")),
            };
            Ok((listen(Domain::UNIX, &address?)?, Address::Unix(name)))
        }
    }
}

/// Serves who connects, until waiting fails.
pub(super) fn serve(listener: Socket) -> io::Result<Infallible> {
    let mut poller = workload::mechanism()?;
    poller.add(listener.as_source(), LISTENER, Interest::READABLE, Trigger::Level)?;
    let buffer = vec![0; BUFFER].into_boxed_slice();
    Echo { poller, listener, places: Vec::new(), free: Vec::new(), buffer }.run()
}

impl Echo {
    fn run(mut self) -> io::Result<Infallible> {
        let mut events = Events::with_capacity(BATCH);
        loop {
            match self.poller.wait(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    _ => self.serve(event)?,
                }
            }
        }
    }

    /// One; if there are more, the listener stays ready.
    fn accept(&mut self) -> io::Result<()> {
        let Ok((socket, peer)) = self.listener.accept() else {
            // It went away again, or there are no descriptors; the load misses it, and says so.
            return Ok(());
        };
        socket.set_nonblocking(true)?;
        if !peer.is_unix() {
            socket.set_tcp_nodelay(true)?;
        }
        let slot = self.free.pop().unwrap_or(self.places.len());
        if slot == self.places.len() {
            self.places.push(None);
        }
        let (stream, watched) = (OwnedSource::from(socket), Interest::READABLE);
        self.poller.add(stream.as_source(), Token::new(slot as u32, 0), watched, Trigger::Level)?;
        self.places[slot] = Some(Connection { stream, unsent: Vec::new(), watched });
        Ok(())
    }

    /// An event may be of a connection that has gone in the same batch, even if another has its place by now: that one
    /// then has nothing to read, which does no harm.
    fn serve(&mut self, event: Event) -> io::Result<()> {
        let slot = event.token().slot() as usize;
        let Some(connection) = &mut self.places[slot] else { return Ok(()) };
        if connection.echo(&mut self.buffer).is_err() {
            self.free.push(slot);
            let gone = self.places[slot].take().map(|connection| connection.stream);
            return gone.map_or(Ok(()), |stream| self.poller.close(stream));
        }
        let wanted = if connection.unsent.is_empty() { Interest::READABLE } else { Interest::WRITABLE };
        if connection.watched != wanted {
            connection.watched = wanted;
            self.poller.modify(connection.stream.as_source(), event.token(), wanted, Trigger::Level)?;
        }
        Ok(())
    }
}

impl Connection {
    /// Sends what is unsent, or else reads once and sends that. An error is the end of the connection, in whichever way.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let sent = unless_not_now(stream::send(self.stream.as_source(), &self.unsent))?;
            self.unsent.drain(..sent.unwrap_or(0));
            return Ok(());
        }
        let Some(read) = unless_not_now(stream::recv(self.stream.as_source(), buffer))? else { return Ok(()) };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sent = unless_not_now(stream::send(self.stream.as_source(), &buffer[..read]))?.unwrap_or(0);
        self.unsent.extend_from_slice(&buffer[sent..read]);
        Ok(())
    }
}

fn unless_not_now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        other => other.map(Some),
    }
}

fn listen(domain: Domain, address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::target;
    use crate::workload::{Generator, Traffic, Until};

    #[test]
    fn every_byte_comes_back_however_much_is_under_way_and_however_often_connections_change() {
        let transports = [Transport::Tcp, Transport::Unix];
        for transport in transports.into_iter().filter(|transport| transport.lacking().is_none()) {
            let (listener, address) = bind(transport).expect("a free address");
            std::thread::spawn(move || serve(listener));
            let mut load = Generator::new(target(&address).expect("of connections"), 64).expect("a load");
            load.open_idle(20).expect("idle connections");
            load.open_active(10).expect("active connections");
            assert_eq!(load.run(Until::Requests(500)).expect("a faultless run").requests, 500);
            // More than the buffers of both ends hold, so that writes fall short.
            load.follow(Traffic { payload: 3 << 20, outstanding: 3, ..Traffic::default() });
            assert_eq!(load.run(Until::Requests(30)).expect("a faultless run").bytes, 30 * (3 << 20));
            load.follow(Traffic { exchanges: 2, ..Traffic::default() });
            assert_eq!(load.churn(5, Until::Requests(200)).expect("a faultless run").requests, 200);
            load.verify_idle().expect("idle connections stay quiet");
            if let Address::Unix(UnixName::Path(path)) = address {
                std::fs::remove_file(path).expect("ours");
            }
        }
    }
}
