//! The third style: one thread, which asks the kernel who is ready, written out by hand on a `Poller`.
//!
//!     cargo run --release --example readiness_loop                       # three clients of its own
//!     POLLMARK_BACKEND=poll cargo run --release --example readiness_loop -- 127.0.0.1:7000
//!
//! The others: `one_at_a_time`, `thread_each`, `completion_loop`. As a server to measure: `ReadinessServer`.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use pollmark::backends::{AsSource, Events, Interest, Poller, Registry, Token, Trigger};

#[path = "common/three_clients.rs"]
mod three_clients;

const LISTENER: Token = Token(0);

struct Client {
    stream: TcpStream,
    owed: Vec<u8>, // read, and not yet taken back by the kernel; nothing more is read until it is
}

fn main() -> io::Result<()> {
    let listener = three_clients::listen([3, 2, 1])?;
    listener.set_nonblocking(true)?; // nothing may sleep but the one wait below
    let mut poller = Registry::builtin().default_entry()?.open()?;
    poller.add(listener.as_source(), LISTENER, Interest::READABLE, Trigger::Level)?;
    let (mut clients, mut next, mut events) = (HashMap::new(), 1, Events::with_capacity(64));
    loop {
        // The only place where this program sleeps: for all of its sockets at once.
        poller.wait(&mut events, None).or_else(|error| unless(ErrorKind::Interrupted, error))?;
        for event in events.iter() {
            if event.token() == LISTENER {
                // Who was in the queue may have left it since: then there is nobody, and that is no error.
                let Ok((stream, _)) = listener.accept() else { continue };
                stream.set_nonblocking(true)?;
                poller.add(stream.as_source(), Token(next), Interest::READABLE, Trigger::Level)?;
                clients.insert(Token(next), Client { stream, owed: Vec::new() });
                next += 1; // never used again, so that an event of one that was closed finds nobody
            } else if let Some(client) = clients.get_mut(&event.token()) {
                let owed = !client.owed.is_empty();
                let goes_on = client.serve().unwrap_or(false); // one client's trouble is not the server's
                if !goes_on {
                    let gone = clients.remove(&event.token()).expect("it was found above");
                    poller.close(gone.stream.into())?;
                } else if client.owed.is_empty() == owed {
                    // Room is asked for only while something is owed: a socket nearly always has room, and would be ready
                    // in each wait.
                    let interest = if owed { Interest::READABLE } else { Interest::WRITABLE };
                    poller.modify(client.stream.as_source(), event.token(), interest, Trigger::Level)?;
                }
            }
        }
    }
}

impl Client {
    /// One read and one write, neither of which sleeps: ready is a hint, and only the call knows. False at the end.
    fn serve(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        if self.owed.is_empty() {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                read => read.or_else(|error| unless(ErrorKind::WouldBlock, error))?,
            };
            self.owed.extend_from_slice(&buffer[..count]);
        }
        let taken = self.stream.write(&self.owed).or_else(|error| unless(ErrorKind::WouldBlock, error))?;
        self.owed.drain(..taken);
        Ok(true)
    }
}

fn unless<T: Default>(kind: ErrorKind, error: io::Error) -> io::Result<T> {
    if error.kind() == kind { Ok(T::default()) } else { Err(error) }
}
