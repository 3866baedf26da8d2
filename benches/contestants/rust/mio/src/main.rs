//! An echo server on `mio`, as its guide would have one write it: edge-triggered, a slab of connections, no wake-ups.
//!
//! Registered once for both directions, so nothing is re-armed. A short read means drained unless the peer has closed
//! its side: that event does not come twice.

use std::io::{self, ErrorKind, Read, Write};

use contestant_start::{BATCH, BUFFER};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    /// What the peer has not taken yet; nothing is read while there is any.
    owed: Vec<u8>,
}

fn main() -> io::Result<()> {
    let mut listener = TcpListener::from_std(contestant_start::listener("mio"));
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(BATCH);
    let mut connections = Slab::new();
    let mut buffer = vec![0; BUFFER];
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
                continue;
            }
            let key = event.token().0;
            let Some(connection) = connections.get_mut(key) else { continue };
            if !matches!(connection.serve(event, &mut buffer), Ok(Open::Yes)) {
                connections.remove(key);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Slab<Connection>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let entry = connections.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(entry.key()), both)?;
        entry.insert(Connection { stream, owed: Vec::new() });
    }
}

enum Open {
    Yes,
    No,
}

impl Connection {
    fn serve(&mut self, event: &Event, buffer: &mut [u8]) -> io::Result<Open> {
        if !self.owed.is_empty() && !self.flush()? {
            return Ok(Open::Yes);
        }
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Ok(Open::No),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Open::Yes),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut written = 0;
            while written < length {
                match self.stream.write(&buffer[written..length]) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.owed.extend_from_slice(&buffer[written..length]);
                        return Ok(Open::Yes);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
            }
            if length < buffer.len() && !event.is_read_closed() {
                return Ok(Open::Yes);
            }
        }
    }

    /// Whether all that was owed is sent.
    fn flush(&mut self) -> io::Result<bool> {
        while !self.owed.is_empty() {
            match self.stream.write(&self.owed) {
                Ok(count) => drop(self.owed.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
        self.owed = Vec::new();
        Ok(true)
    }
}
