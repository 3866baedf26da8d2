//! The simulated network, as a server calls it: accept, recv, send, and what can be wrong with each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use fastrand::Rng;
use pollmark_backends::datagrams::{Inbound, Outbound};
use pollmark_backends::{AsSource, OwnedSource, Source, raw};
use rustix::io::Errno;
use socket2::{Domain, Socket as SystemSocket, Type};

use super::faults::Fault;
use super::script::{MICROSECOND, MILLISECOND, SECOND, skewed};
use super::socket::{Bits, Cause, Phase};
use super::trace::{Name, What};
use super::world::{Shared, World};
use crate::protocol::Peer;
use crate::server::{Net, told};

/// The network of a simulation.
///
/// Each connection has a descriptor, that of a socket which is never bound: a name that the system gives out, and gives
/// out again once it is closed, as it does with real ones. Nothing is ever sent through it.
#[derive(Clone)]
pub struct SimulatedNet {
    pub(super) world: Shared,
}

impl Net for SimulatedNet {
    fn accept(&self, listener: Source<'_>, nonblocking: bool) -> io::Result<(OwnedSource, Peer)> {
        let mut world = self.world.lock();
        world.enter(None);
        world.books.accepts += 1;
        let Some(Name::Listener(at)) = world.name(listener) else {
            return Err(world.misused("accept on a source that is no listener"));
        };
        if !nonblocking {
            return Err(world.misused("accept of a connection that would block the loop"));
        }
        let id = match world.dequeue(at) {
            Ok(id) => id,
            Err(error) => {
                world.note(Name::Listener(at), What::Failed("accept", error.raw_os_error()));
                return Err(told(error));
            }
        };
        world.touch(Name::Listener(at));
        world.note(Name::Client(id), What::Accepted);
        let source = world.name_by_a_descriptor(id)?;
        world.fresh = Some(id);
        Ok((source, Peer::at(address(id))))
    }

    fn recv(&self, source: Source<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.lock();
        world.enter(None);
        world.books.receives += 1;
        let Some(id) = world.open_connection(source) else {
            return Err(world.misused("recv on a source that is no open connection"));
        };
        if buffer.is_empty() {
            return Err(world.misused("recv into no room"));
        }
        let received = world.receive(id, buffer);
        world.note(Name::Client(id), outcome("recv", &received, What::Received));
        world.touch(Name::Client(id));
        received.map_err(told)
    }

    fn send(&self, source: Source<'_>, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.lock();
        world.enter(None);
        world.books.sends += 1;
        let Some(id) = world.open_connection(source) else {
            return Err(world.misused("send on a source that is no open connection"));
        };
        if bytes.is_empty() {
            return Err(world.misused("send of nothing"));
        }
        let sent = world.send(id, bytes);
        world.note(Name::Client(id), outcome("send", &sent, |taken| What::Sent(taken, bytes.len())));
        world.touch(Name::Client(id));
        sent.map_err(told)
    }

    fn recv_batch(&self, source: Source<'_>, into: &mut Inbound) -> io::Result<usize> {
        let mut world = self.world.lock();
        world.enter(None);
        world.books.receives += 1;
        let Some(Name::Mailbox(at)) = world.name(source) else {
            return Err(world.misused("recvmmsg on a source that takes no messages"));
        };
        let came = world.take_messages(at, into);
        world.note(Name::Mailbox(at), outcome("recvmmsg", &came, What::Received));
        world.touch(Name::Mailbox(at));
        came.map_err(told)
    }

    fn send_batch(&self, source: Source<'_>, from: &mut Outbound) -> io::Result<usize> {
        let mut world = self.world.lock();
        world.enter(None);
        world.books.sends += 1;
        let left = from.left();
        let Some(Name::Mailbox(at)) = world.name(source).filter(|_| left > 0) else {
            return Err(world.misused("sendmmsg of nothing, or on a source that takes no messages"));
        };
        let sent = world.send_messages(at, from);
        world.note(Name::Mailbox(at), outcome("sendmmsg", &sent, |taken| What::Sent(taken, left)));
        sent.map_err(told)
    }
}

fn outcome(call: &'static str, result: &Result<usize, Errno>, what: impl FnOnce(usize) -> What) -> What {
    match result {
        Ok(bytes) => what(*bytes),
        Err(error) => What::Failed(call, error.raw_os_error()),
    }
}

/// The address a client seems to come from tells which it is.
pub(super) fn address(id: u32) -> SocketAddr {
    let [_, high, middle, low] = id.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, high, middle, low), 49_152))
}

/// Which client comes from there.
pub(super) fn client_at(address: SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V4(address) if address.ip().octets()[0] == 10 => Some(address.ip().to_bits() & 0x00ff_ffff),
        _ => None,
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        const SYSTEM_FULL: [Errno; 3] = [Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        const FORBIDDEN: Errno = Errno::PERM;
        const BROKEN: Errno = Errno::PIPE;
    } else {
        const SYSTEM_FULL: [Errno; 3] = [Errno::NOBUFS; 3];
        const FORBIDDEN: Errno = Errno::ACCESS;
        const BROKEN: Errno = Errno::CONNABORTED;
    }
}

impl World {
    /// Every call of the server begins here. `adding` is what it is about to register: a connection that it has
    /// accepted and does anything else after was dropped.
    pub(super) fn enter(&mut self, adding: Option<Name>) {
        if let Some(id) = self.fresh.filter(|id| adding != Some(Name::Client(*id))) {
            self.fresh = None;
            self.refused(id);
        }
        self.spend(2 * MICROSECOND);
        self.pump();
    }

    pub(super) fn name(&self, source: Source<'_>) -> Option<Name> {
        self.numbers.get(&raw(source)).copied()
    }

    fn open_connection(&self, source: Source<'_>) -> Option<u32> {
        match self.name(source) {
            Some(Name::Client(id)) if self.sockets[id as usize].phase == Phase::Open => Some(id),
            _ => None,
        }
    }

    pub(super) fn misused(&mut self, what: &str) -> io::Error {
        self.fail(None, what);
        io::Error::other(what.to_owned())
    }

    pub(super) fn refused(&mut self, id: u32) {
        let who = Name::Client(id);
        self.note(who, What::Refused);
        self.books.refused += 1;
        self.progress += 1;
        let socket = &mut self.sockets[id as usize];
        socket.phase = Phase::Closed;
        if let Some(number) = socket.number.take() {
            self.numbers.remove(&number);
        }
        if !self.sockets[id as usize].excused {
            self.fail(Some(who), "the server turned a connection away without cause");
        }
    }

    /// Takes a connection out of the listener's queue, or finds out why not.
    fn dequeue(&mut self, listener: u8) -> Result<u32, Errno> {
        let now = self.now();
        let was_given = std::mem::take(&mut self.spare_given);
        let queue = listener as usize;
        if self.starved.is_none_or(|(until, _)| until <= now) {
            self.starved = None;
            for fault in [Fault::NoDescriptors, Fault::SystemFull] {
                if self.strike(fault) {
                    let until = now + MILLISECOND + skewed(&mut self.rng, 10 * SECOND);
                    self.starved = Some((until, fault));
                }
            }
        }
        let helps = |rng: &mut Rng| was_given && rng.u8(..4) > 0;
        let shortage = match self.starved {
            None => None,
            // Whoever tries again at once has given a descriptor back, and gets it, unless another process is faster.
            Some((_, Fault::NoDescriptors)) if helps(&mut self.rng) => None,
            Some((_, Fault::NoDescriptors)) => Some(Errno::MFILE),
            Some(_) => Some(SYSTEM_FULL[self.rng.usize(..3)]),
        };
        if let Some(error) = shortage {
            self.spare_given = true;
            return Err(error);
        }
        if self.queues[queue].is_empty() {
            return Err(Errno::WOULDBLOCK);
        }
        if self.strike(Fault::AcceptInterrupted) {
            return Err(Errno::INTR);
        }
        if self.forbidden_until <= now && self.strike(Fault::AcceptForbidden) {
            self.forbidden_until = now + skewed(&mut self.rng, SECOND);
        }
        if self.forbidden_until > now {
            return Err(FORBIDDEN);
        }
        let Some(id) = self.queues[queue].pop_front() else { return Err(Errno::WOULDBLOCK) };
        self.progress += 1;
        self.touch(Name::Listener(listener));
        let died = self.sockets[id as usize].dead && self.kernel.reset_leaves_queue;
        if died || self.strike(Fault::AcceptAborted) {
            self.sockets[id as usize].phase = Phase::Closed;
            return Err(Errno::CONNABORTED);
        }
        let is_full = self.config.limits.connections.is_some_and(|most| self.open >= most);
        // What comes in on the spare descriptor, or in its place, is let in to be turned away.
        self.sockets[id as usize].excused = was_given || is_full;
        Ok(id)
    }

    /// A connection that the server did not accept, from another thread.
    pub(super) fn hand_in(&mut self, id: u32) {
        let Ok(source) = self.name_by_a_descriptor(id) else { return };
        self.note(Name::Client(id), What::HandedIn);
        self.handed_in.push(id);
        if let Some(control) = &self.control {
            control.adopt(source);
        }
        self.woken = true;
        self.touch(Name::Waker);
    }

    /// The server has emptied its inbox: what it did not take on, it dropped.
    pub(super) fn was_looked_through(&mut self) {
        for id in std::mem::take(&mut self.handed_in) {
            self.was_dropped(id);
        }
    }

    fn was_dropped(&mut self, id: u32) {
        let socket = &self.sockets[id as usize];
        if socket.phase == Phase::Fresh && socket.script.is_adopted {
            // Whether the limit was reached just then is not known any more.
            let was_full = self.config.limits.connections.is_some_and(|most| self.books.most_open >= most);
            self.sockets[id as usize].excused |= was_full;
            self.refused(id);
        }
    }

    fn name_by_a_descriptor(&mut self, id: u32) -> io::Result<OwnedSource> {
        let source = match SystemSocket::new(Domain::IPV4, Type::STREAM, None) {
            Ok(socket) => OwnedSource::from(socket),
            Err(error) => {
                self.fail(None, format!("this host gives no descriptor to name a connection by: {error}"));
                return Err(error);
            }
        };
        let number = raw(source.as_source());
        let who = Name::Client(id);
        // The system gives it out again: so it was closed, which is how a connection not taken on is dropped.
        if let Some(Name::Client(former)) = self.numbers.get(&number).copied() {
            self.was_dropped(former);
        }
        if let Some(former) = self.numbers.get(&number).copied() {
            self.fail(Some(former), format!("closed behind the poller's back: {who} got its descriptor"));
        }
        self.numbers.insert(number, who);
        let socket = &mut self.sockets[id as usize];
        (socket.phase, socket.number) = (Phase::Fresh, Some(number));
        Ok(source)
    }

    fn receive(&mut self, id: u32, buffer: &mut [u8]) -> Result<usize, Errno> {
        let now = self.now();
        let at = id as usize;
        if self.sockets[at].owed.len() > self.config.limits.high_water {
            let owed = self.sockets[at].owed.len();
            self.fail(Some(Name::Client(id)), format!("read from, although it owes {owed} bytes"));
        }
        if self.strike(Fault::ReadInterrupted) {
            return Err(Errno::INTR);
        }
        if now < self.sockets[at].hidden_until {
            return Err(Errno::WOULDBLOCK);
        }
        if self.strike(Fault::ReadReset) {
            self.reset(id, Errno::CONNRESET);
        }
        let there = (self.sockets[at].arrived - self.sockets[at].read).min(buffer.len() as u64) as usize;
        if there == 0 {
            return self.receive_nothing(id);
        }
        let is_broken = self.sockets[at].dead;
        if !is_broken && self.strike(Fault::ReadAgain) {
            self.hide(id);
            return Err(Errno::WOULDBLOCK);
        }
        let mut bytes = there;
        if there > 1 && !is_broken && self.strike(Fault::ShortRead) {
            bytes = self.rng.usize(1..there);
            // What is left of it comes a moment later; a short read is proof that nothing else was there.
            self.hide(id);
        }
        let position = self.sockets[at].read;
        self.text_at(id, position, &mut buffer[..bytes]);
        self.sockets[at].read += bytes as u64;
        self.books.bytes_in += bytes as u64;
        self.progress += 1;
        self.moves(id);
        self.let_more_arrive(id);
        Ok(bytes)
    }

    fn receive_nothing(&mut self, id: u32) -> Result<usize, Errno> {
        let socket = &mut self.sockets[id as usize];
        if let Some(error) = socket.error.take() {
            socket.cause = Some(Cause::Lost);
            return Err(error);
        }
        if socket.end_arrived || socket.dead {
            // To read the end again is no progress.
            let is_known = std::mem::replace(&mut socket.end_read, true);
            self.progress += u64::from(!is_known);
            return Ok(0);
        }
        Err(Errno::WOULDBLOCK)
    }

    fn send(&mut self, id: u32, bytes: &[u8]) -> Result<usize, Errno> {
        let now = self.now();
        let at = id as usize;
        self.is_as_owed(id, bytes);
        if self.failure.is_some() {
            return Err(BROKEN);
        }
        if self.strike(Fault::WriteInterrupted) {
            return Err(Errno::INTR);
        }
        if self.strike(Fault::WriteReset) {
            self.reset(id, Errno::CONNRESET);
        }
        if self.sockets[at].dead {
            let error = self.sockets[at].error.take().unwrap_or(BROKEN);
            self.sockets[at].cause = Some(Cause::Lost);
            return Err(error);
        }
        if self.strike(Fault::NoBuffers) {
            self.sockets[at].excused = true;
            return Err(Errno::NOBUFS);
        }
        if now >= self.sockets[at].blocked_until && self.strike(Fault::WriteAgain) {
            self.block(id);
        }
        let room = if now < self.sockets[at].blocked_until { 0 } else { self.sockets[at].room() };
        let mut taken = room.min(bytes.len() as u64) as usize;
        if taken == 0 {
            let socket = &mut self.sockets[at];
            socket.wants_room = true;
            socket.edges = socket.edges.without(Bits::WRITABLE);
            return Err(Errno::WOULDBLOCK);
        }
        if taken > 1 && self.strike(Fault::ShortWrite) {
            taken = self.rng.usize(1..taken);
        }
        self.sockets[at].taken += taken as u64;
        self.sockets[at].owed.drain(..taken);
        self.books.bytes_out += taken as u64;
        self.progress += 1;
        self.moves(id);
        self.stalls(id);
        self.let_take(id);
        Ok(taken)
    }
}
