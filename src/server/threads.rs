//! A blocking thread for each connection: the textbook server, in the same table as the loops.
//!
//! The connection and the protocol are those of every other driver; only the waiting differs: each thread sleeps in
//! recv(2), and in send(2) when its peer is slow. The accepting thread waits with poll(2) for its listeners and for its
//! waker, so that it can be stopped: one call more per connection than a bare accept(2), none per request.
//!
//! What blocking cannot do: a deadline that passes while its thread sleeps in send(2) is met only after that, and
//! nothing is left to sleep in after the peer's half-close, so a protocol that outlives it is cut short.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pollmark_backends::poll::Poll;
use pollmark_backends::{AsSource, Events, Interest, OwnedSource, Poller, Token, Trigger};
use socket2::SockRef;

use super::accept::Trouble;
use super::control::{Inbox, Message};
use super::{Address, Config, Control, Kernel, Net, Server, Stats};
use crate::conn::Connection;
use crate::protocol::{Host, Peer, Protocol};

/// Enough for the core and for a protocol of ordinary depth; the system's default is 2 to 8 MiB of address space.
const STACK: usize = 128 * 1024;
/// Each thread has a receive buffer of its own, so it is smaller than that of a loop.
const MOST_BUFFER: usize = 16 * 1024;

const INBOX: Token = Token(u64::MAX);

/// One thread for each connection, and one that accepts.
pub struct ThreadServer<Q, N = Kernel> {
    config: Config,
    protocol: Q,
    net: N,
    listeners: Vec<OwnedSource>,
    addresses: Vec<Address>,
    inbox: Inbox,
}

impl<Q: Protocol> ThreadServer<Q> {
    /// Binds the listeners.
    ///
    /// # Errors
    /// What binding gives, with the address and what to do about it.
    pub fn bind(config: Config, protocol: Q) -> io::Result<ThreadServer<Q>> {
        let (listeners, addresses) = config.bind(true)?;
        Ok(ThreadServer { config, protocol, net: Kernel, listeners, addresses, inbox: Inbox::new()? })
    }
}

impl<Q, N> ThreadServer<Q, N> {
    /// Reaches its sockets through `net` instead of the system.
    pub fn with_net<M: Net>(self, net: M) -> ThreadServer<Q, M> {
        let ThreadServer { config, protocol, listeners, addresses, inbox, .. } = self;
        ThreadServer { config, protocol, net, listeners, addresses, inbox }
    }
}

impl<Q: Protocol, N: Net + Sync> Server for ThreadServer<Q, N> {
    fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    fn control(&self) -> Control {
        self.inbox.control()
    }

    fn run(self: Box<Self>) -> io::Result<Stats> {
        let ThreadServer { config, protocol, net, listeners, addresses, inbox } = *self;
        let _span = tracing::debug_span!("serve", ?addresses, by = "threads").entered();
        let mut poller = Poll::open()?;
        poller.add(inbox.source().as_source(), INBOX, Interest::READABLE, Trigger::Level)?;
        for (at, listener) in listeners.iter().enumerate() {
            poller.add(listener.as_source(), Token(at as u64), Interest::READABLE, Trigger::Level)?;
        }
        let roster = Arc::new(Roster::default());
        let mut hall =
            Hall { config, protocol, net, listeners, inbox, poller, roster, stats: Stats::default(), next: 0 };
        let ran = hall.run();
        hall.roster.send_home();
        ran.map(|()| hall.snapshot())
    }
}

/// The accepting thread.
struct Hall<Q, N> {
    config: Config,
    protocol: Q,
    net: N,
    listeners: Vec<OwnedSource>,
    inbox: Inbox,
    poller: Poll,
    roster: Arc<Roster>,
    stats: Stats,
    next: u64,
}

impl<Q: Protocol, N: Net> Hall<Q, N> {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(self.config.events);
        let mut resting = false;
        loop {
            match self.poller.wait(&mut events, resting.then_some(self.config.accept_pause)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                waited => waited?,
            }
            if resting {
                resting = false;
                self.watch(Interest::READABLE)?;
            }
            for event in &events {
                if event.token() == INBOX {
                    if self.read_inbox() {
                        return Ok(());
                    }
                } else if !self.accept(event.token().0 as usize) {
                    resting = true;
                }
            }
            if resting {
                self.watch(Interest::EMPTY)?;
            }
        }
    }

    fn watch(&mut self, interest: Interest) -> io::Result<()> {
        for (at, listener) in self.listeners.iter().enumerate() {
            self.poller.modify(listener.as_source(), Token(at as u64), interest, Trigger::Level)?;
        }
        Ok(())
    }

    /// Takes on what is queued. False: there is no descriptor, or no success, and the listeners have to rest.
    fn accept(&mut self, listener: usize) -> bool {
        let full = self.config.accept_budget.max(1);
        let mut in_vain = 0;
        for _ in 0..full {
            self.stats.accept_calls += 1;
            match self.net.accept(self.listeners[listener].as_source(), false) {
                Ok((source, peer)) => self.seat(source, peer, cfg!(linux_like)),
                Err(error) => match Trouble::of(&error) {
                    Trouble::Empty => return true,
                    Trouble::OfThisConnection => in_vain += 1,
                    Trouble::Exhausted => {
                        tracing::debug!(%error, "overload: cannot accept; the listeners rest");
                        return false;
                    }
                },
            }
        }
        in_vain < full
    }

    /// Gives a connection its thread. It `has_nodelay` if it inherited that of the listener.
    fn seat(&mut self, source: OwnedSource, peer: Peer, has_nodelay: bool) {
        if self.roster.present() >= self.config.max_connections.unwrap_or(usize::MAX) {
            tracing::debug!(%peer, "refused: the limit of connections is reached");
            self.stats.refused += 1;
            return;
        }
        if self.config.nodelay && !has_nodelay {
            self.stats.other_calls += 1;
            let _ = SockRef::from(&source).set_tcp_nodelay(true); // it may be no TCP socket
        }
        let id = Token(self.next);
        self.next += 1;
        let seat = Arc::new(Seat { source, pen: Mutex::new(()), counts: Counts::default() });
        self.roster.enter(id, Arc::clone(&seat));
        let guest = Guest {
            id,
            seat,
            net: self.net.clone(),
            host: Host::new(self.protocol.clone()),
            roster: Arc::clone(&self.roster),
            buffer: self.config.read_buffer.clamp(1, MOST_BUFFER),
            max_message: self.config.max_message,
            deadline: None,
        };
        let thread = thread::Builder::new().name("connection".into()).stack_size(STACK);
        match thread.spawn(move || guest.stay(&peer)) {
            Ok(_) => self.stats.accepted += 1,
            Err(error) => {
                tracing::debug!(%peer, %error, "refused: no thread to be had");
                self.stats.refused += 1;
                self.roster.forget(id);
            }
        }
    }

    /// Whether to stop.
    fn read_inbox(&mut self) -> bool {
        let mut stop = false;
        self.stats.other_calls += 1;
        for message in self.inbox.take() {
            match message {
                Message::Stop => stop = true,
                Message::Stats(answer) => {
                    let _ = answer.send(self.snapshot());
                }
                Message::Adopt(source) => match SockRef::from(&source).set_nonblocking(false) {
                    Ok(()) => self.seat(source, Peer::default(), false),
                    Err(error) => tracing::debug!(%error, "cannot adopt a socket"),
                },
            }
        }
        stop
    }

    fn snapshot(&self) -> Stats {
        let own = Stats { ledger: self.poller.ledger(), ..self.stats };
        own + self.roster.stats()
    }
}

/// Who is connected, and the account of those who left.
#[derive(Default)]
struct Roster {
    list: Mutex<List>,
    left: Condvar,
}

#[derive(Default)]
struct List {
    seats: HashMap<Token, Arc<Seat>>,
    account: Stats,
}

impl Roster {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> usize {
        self.list().seats.len()
    }

    fn enter(&self, id: Token, seat: Arc<Seat>) {
        self.list().seats.insert(id, seat);
    }

    fn forget(&self, id: Token) {
        self.list().seats.remove(&id);
    }

    fn leave(&self, id: Token) {
        let mut list = self.list();
        if let Some(seat) = list.seats.remove(&id) {
            list.account = list.account + seat.counts.stats();
            list.account.closed += 1;
        }
        self.left.notify_all();
    }

    fn seat(&self, id: Token) -> Option<Arc<Seat>> {
        self.list().seats.get(&id).cloned()
    }

    fn stats(&self) -> Stats {
        let list = self.list();
        let sum = list.seats.values().fold(list.account, |sum, seat| sum + seat.counts.stats());
        Stats { open: list.seats.len() as u64, ..sum }
    }

    /// Ends every connection, and waits for the threads to notice.
    fn send_home(&self) {
        let mut list = self.list();
        for seat in list.seats.values() {
            let _ = SockRef::from(&seat.source).shutdown(std::net::Shutdown::Both);
        }
        while !list.seats.is_empty() {
            list = self.left.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One connection's socket, as all threads see it.
struct Seat {
    source: OwnedSource,
    /// Held while writing: bytes sent from another thread must not fall into the middle of an answer.
    pen: Mutex<()>,
    counts: Counts,
}

/// Written by one thread, read by those who ask.
#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
    other: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counts {
    fn stats(&self) -> Stats {
        Stats {
            read_calls: self.reads.load(Ordering::Relaxed),
            write_calls: self.writes.load(Ordering::Relaxed),
            other_calls: self.other.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// One connection's thread.
struct Guest<Q, N> {
    id: Token,
    seat: Arc<Seat>,
    net: N,
    host: Host<Q>,
    roster: Arc<Roster>,
    buffer: usize,
    max_message: usize,
    deadline: Option<Instant>,
}

/// Takes a connection off the roster when dropped.
struct Leaving(Arc<Roster>, Token);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

impl<Q: Protocol, N: Net> Guest<Q, N> {
    fn stay(self, peer: &Peer) {
        // The roster is left even if the protocol panics, or stopping would wait for this thread for ever. Declared
        // before the guest, so dropped after it: the roster's hold on the socket is the last, and leaving closes it.
        let _leaving = Leaving(Arc::clone(&self.roster), self.id);
        let mut guest = self;
        let _span = tracing::debug_span!("connection", id = ?guest.id, %peer).entered();
        tracing::debug!("accepted");
        let mut connection = Connection::open(&mut guest.host, guest.id, peer);
        if let Err(error) = guest.converse(&mut connection) {
            tracing::debug!(%error, "lost");
        }
        if connection.aborted() {
            count(&guest.seat.counts.other, 1);
            let _ = SockRef::from(&guest.seat.source).set_linger(Some(Duration::ZERO));
        }
        tracing::debug!("closed");
    }

    fn converse(&mut self, connection: &mut Connection<Q>) -> io::Result<()> {
        let mut buffer = vec![0; self.buffer];
        loop {
            self.send(connection)?;
            self.mail();
            if connection.finished() || connection.kept() > self.max_message {
                return Ok(());
            }
            if let Some(deadline) = self.host.take_deadline() {
                self.deadline = deadline;
                self.wake_for_the_deadline()?;
            } else if let Some(deadline) = self.deadline {
                let is_due = deadline <= Instant::now();
                if is_due {
                    self.deadline = None;
                }
                // recv(2) counts its timeout anew each time: bytes that go on coming would put the deadline off.
                self.wake_for_the_deadline()?;
                if is_due {
                    connection.due(&mut self.host, self.id);
                    continue;
                }
            }
            self.host.turn.forget_time();
            count(&self.seat.counts.reads, 1);
            match self.net.recv(self.seat.source.as_source(), &mut buffer) {
                Ok(0) if connection.reads() => connection.eof(&mut self.host, self.id),
                // The protocol has been told, and neither closed nor anything more to hear.
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    count(&self.seat.counts.bytes_in, bytes);
                    connection.receive(&mut self.host, self.id, &buffer[..bytes]);
                }
                Err(error) => match error.kind() {
                    // The second and third: it is time to look at the deadline.
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sends all that is owed, however long the peer takes.
    fn send(&mut self, connection: &mut Connection<Q>) -> io::Result<()> {
        if connection.outgoing(&self.host).is_empty() {
            return Ok(());
        }
        let _pen = self.seat.pen.lock().unwrap_or_else(PoisonError::into_inner);
        while !connection.outgoing(&self.host).is_empty() {
            let taken = self.write(&self.seat, connection.outgoing(&self.host))?;
            connection.sent(&mut self.host, taken);
        }
        connection.settle(&mut self.host);
        Ok(())
    }

    /// Writes to other connections what this one sent them.
    fn mail(&mut self) {
        for (to, bytes) in std::mem::take(&mut self.host.turn.mail) {
            let Some(seat) = self.roster.seat(to) else { continue };
            let _pen = seat.pen.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                match self.write(&seat, rest) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(_) => break, // the other connection's trouble, which its own thread will find
                }
            }
        }
    }

    fn write(&self, seat: &Seat, bytes: &[u8]) -> io::Result<usize> {
        loop {
            count(&self.seat.counts.writes, 1);
            match self.net.send(seat.source.as_source(), bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    let taken = sent?;
                    count(&self.seat.counts.bytes_out, taken);
                    return Ok(taken);
                }
            }
        }
    }

    /// Makes recv(2) return in time.
    fn wake_for_the_deadline(&self) -> io::Result<()> {
        count(&self.seat.counts.other, 1);
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // A timeout of 0 would mean none at all.
        SockRef::from(&self.seat.source).set_read_timeout(left.map(|left| left.max(Duration::from_millis(1))))
    }
}
