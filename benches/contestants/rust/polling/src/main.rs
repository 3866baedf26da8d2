//! An echo server on the `polling` crate: in its default mode, oneshot, or level-triggered with `--level`.
//!
//! Oneshot disarms a source with every event, so each is re-armed by a call before the next wait. Level needs that
//! only when the direction changes. `polling` itself makes further calls in every wait: it re-arms its notifier.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;

use contestant_start::{BATCH, BUFFER};
use polling::{Event, Events, PollMode, Poller};
use slab::Slab;

const LISTENER: usize = usize::MAX - 1; // usize::MAX is polling's own

struct Connection {
    stream: TcpStream,
    /// What the peer has not taken yet; nothing is read while there is any.
    owed: Vec<u8>,
}

fn main() -> io::Result<()> {
    let mode = match std::env::args().nth(2).as_deref() {
        None => PollMode::Oneshot,
        Some("--level") => PollMode::Level,
        Some(other) => panic!("not an option: {other}; there is --level"),
    };
    let listener = contestant_start::listener("polling");
    let poller = Poller::new()?;
    let mut events = Events::with_capacity(NonZeroUsize::new(BATCH).expect("not zero"));
    let mut connections: Slab<Connection> = Slab::new();
    let mut buffer = vec![0; BUFFER];
    // SAFETY: the listener outlives the poller's last wait: neither is dropped while the loop runs.
    unsafe { poller.add_with_mode(&listener, Event::readable(LISTENER), mode)? };

    loop {
        events.clear();
        poller.wait(&mut events, None)?;
        for event in events.iter() {
            if event.key == LISTENER {
                accept(&listener, &poller, mode, &mut connections)?;
                continue;
            }
            let Some(connection) = connections.get_mut(event.key) else { continue };
            let owed = !connection.owed.is_empty();
            match connection.serve(&mut buffer) {
                Ok(Open::Yes) => {
                    let owes = !connection.owed.is_empty();
                    if mode == PollMode::Oneshot || owes != owed {
                        let interest = if owes { Event::writable(event.key) } else { Event::readable(event.key) };
                        poller.modify_with_mode(&connection.stream, interest, mode)?;
                    }
                }
                // `polling` asks for this before a source is closed; the call is part of what it costs.
                Ok(Open::No) | Err(_) => {
                    poller.delete(&connection.stream)?;
                    connections.remove(event.key);
                }
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    poller: &Poller,
    mode: PollMode,
    connections: &mut Slab<Connection>,
) -> io::Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        let entry = connections.vacant_entry();
        // SAFETY: `main` deletes every stream from the poller before it drops it.
        unsafe { poller.add_with_mode(&stream, Event::readable(entry.key()), mode)? };
        entry.insert(Connection { stream, owed: Vec::new() });
    }
    if mode == PollMode::Oneshot {
        poller.modify(listener, Event::readable(LISTENER))?;
    }
    Ok(())
}

enum Open {
    Yes,
    No,
}

impl Connection {
    /// One write of what is owed, or one read and one write.
    fn serve(&mut self, buffer: &mut [u8]) -> io::Result<Open> {
        if !self.owed.is_empty() {
            let sent = again_later(self.stream.write(&self.owed))?.unwrap_or(0);
            self.owed.drain(..sent);
            if self.owed.is_empty() {
                self.owed = Vec::new();
            }
            return Ok(Open::Yes);
        }
        match again_later(self.stream.read(buffer))? {
            None => Ok(Open::Yes),
            Some(0) => Ok(Open::No),
            Some(length) => {
                let sent = again_later(self.stream.write(&buffer[..length]))?.unwrap_or(0);
                if sent < length {
                    self.owed.extend_from_slice(&buffer[sent..length]);
                }
                Ok(Open::Yes)
            }
        }
    }
}

/// `None` if the call has to wait for another event.
fn again_later(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
