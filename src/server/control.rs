//! Reaching a running server from another thread: stop it, ask it, hand it a socket.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use pollmark_backends::{AsSource, OwnedSource, WakeSource, Waker, waker};
use socket2::SockRef;

use super::fate::Fate;
use super::listener::Unset;
use super::room::Place;
use super::{Account, Stats};
use crate::protocol::{Letter, Peer, Post};

/// What other threads ask of a loop.
pub(super) enum Message {
    Stop,
    Drain,
    Stats(mpsc::Sender<Stats>),
    Adopt(Adopted),
    /// For connections of this loop, and how many calls it took to wake it.
    Mail(Vec<Letter>, u64),
}

/// A connected socket that this loop did not accept.
pub(super) struct Adopted {
    source: OwnedSource,
    peer: Peer,
    /// The acceptor of a group took it from a listener of this configuration: it does not block.
    accepted: bool,
    /// It was counted against the limit of connections.
    place: Option<Place>,
    unset: Unset,
}

impl Adopted {
    /// The socket alone, to be closed.
    pub(super) fn into_source(self) -> OwnedSource {
        self.source
    }

    /// Makes of it what the loop's own accept(2) would have given: source, peer, and what is not set yet; and its place,
    /// if it has one. Counts the calls it takes.
    pub(super) fn prepare(self, nonblocking: bool, stats: &mut Stats) -> Option<(Arrival, Option<Place>)> {
        let Adopted { source, peer, accepted, place, unset } = self;
        if !(accepted && nonblocking) {
            stats.other_calls += 1;
            if let Err(error) = rustix::io::ioctl_fionbio(source.as_source(), nonblocking) {
                tracing::debug!(%error, "cannot adopt a socket");
                return None;
            }
        }
        Some((Arrival { source, peer, unset }, place))
    }
}

/// One who has come, and is not in service.
pub(super) struct Arrival {
    pub(super) source: OwnedSource,
    pub(super) peer: Peer,
    pub(super) unset: Unset,
}

/// A handle on a server, for other threads. Cheap to clone; outlives the server harmlessly.
///
/// ```
/// use pollmark::protocol::Echo;
/// use pollmark::server::{Config, Server, ThreadServer};
///
/// # fn main() -> std::io::Result<()> {
/// let server = ThreadServer::bind(Config::listen("127.0.0.1:0".parse()?), Echo)?;
/// let control = server.control();
/// let running = std::thread::spawn(move || Box::new(server).run());
///
/// let before = control.stats()?; // from any thread, while it serves
/// control.stop();
/// let served = running.join().expect("the server does not panic")? - before;
/// assert_eq!(served.accepted, 0);
/// assert!(control.stats().is_err(), "it has stopped");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Control {
    /// Those that serve.
    loops: Arc<[Line]>,
    /// One that only accepts.
    acceptor: Option<Line>,
    /// How many sockets were handed over, by whichever clone.
    handed: Arc<AtomicUsize>,
}

impl Control {
    fn of(loops: Arc<[Line]>) -> Control {
        Control { loops, acceptor: None, handed: Arc::default() }
    }

    /// Of all members of a group as one.
    pub(super) fn of_all(members: impl Iterator<Item = Control>) -> Control {
        let lines = members.flat_map(|member| member.lines().cloned().collect::<Vec<_>>());
        Control::of(lines.collect())
    }

    /// The same, and its acceptor.
    pub(super) fn with_acceptor(&self, acceptor: &Control) -> Control {
        Control { acceptor: acceptor.lines().next().cloned(), ..self.clone() }
    }

    /// The same, with `fate` to be asked when nobody answers any more.
    pub(super) fn outlived_by(&self, fate: &Fate) -> Control {
        let lines = self.loops.iter().map(|line| Line { fate: Some(fate.clone()), ..line.clone() });
        Control { loops: lines.collect(), ..self.clone() }
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.loops.iter().chain(&self.acceptor)
    }

    /// Ends the server at once: [`run`](super::Server::run) returns its statistics soon after. Connections are closed
    /// as they stand.
    pub fn stop(&self) {
        for line in self.lines() {
            line.post(Message::Stop);
        }
    }

    /// Ends the server in good order: it takes on whoever is in the listen queue, as far as its limits and the system's
    /// have room, and nobody more, nor [adopts](Control::adopt) anybody, and closes its listeners; what it was asked
    /// until now it answers, and what it owes it sends. A connection with no message under way is closed. (A server of
    /// one client at a time does all that when it is done with the one.) When all have gone, and after
    /// [`Limits::drain`](super::Limits::drain) at the latest, it stops. So it does at once when it is told to
    /// [`stop`](Control::stop) meanwhile. Where several threads serve, each ends when its own connections have gone;
    /// what it has done stays in the [`stats`](Control::stats) until all have ended.
    ///
    /// ```
    /// use pollmark::protocol::Echo;
    /// use pollmark::server::{Config, Server, ThreadServer};
    /// use std::io::{Read, Write};
    /// use std::net::TcpStream;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let server = ThreadServer::bind(Config::listen("127.0.0.1:0".parse()?), Echo)?;
    /// let (control, address) = (server.control(), server.addresses()[0].tcp().expect("a TCP address"));
    /// let running = std::thread::spawn(move || Box::new(server).run());
    ///
    /// let mut client = TcpStream::connect(address)?;
    /// client.write_all(b"one more thing")?;
    /// control.drain();
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "one more thing"); // and the end, in order
    /// assert_eq!(running.join().expect("the server does not panic")?.closed, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain(&self) {
        // One that only accepts tells the others, once it has handed over all that it will.
        match &self.acceptor {
            Some(acceptor) => {
                acceptor.post(Message::Drain);
            }
            None => self.loops.iter().for_each(|line| {
                line.post(Message::Drain);
            }),
        }
    }

    /// What the server has done until now, answered by the server itself between two waits.
    ///
    /// # Errors
    /// `NotConnected` if the server does not run any more.
    pub fn stats(&self) -> io::Result<Stats> {
        Ok(self.account()?.total)
    }

    /// The same, thread by thread. All are asked before any is awaited.
    ///
    /// # Errors
    /// As of [`stats`](Control::stats).
    pub fn account(&self) -> io::Result<Account> {
        let asked: Vec<_> = self.lines().map(|line| (line, line.ask())).collect();
        let answer =
            |(line, asked): (&Line, mpsc::Receiver<Stats>)| asked.recv().ok().or_else(|| line.fate.as_ref()?.last());
        let answers = asked.into_iter().map(answer).collect::<Option<Vec<_>>>();
        let mut threads =
            answers.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the server has stopped"))?;
        let acceptor = self.acceptor.is_some().then(|| threads.pop()).flatten();
        Ok(Account::new(threads, acceptor))
    }

    /// Hands the server a connected stream socket, to be served as if it had been accepted. Where several threads
    /// serve, they get them in turn. A server that [drains](Control::drain) turns it away.
    pub fn adopt(&self, source: OwnedSource) {
        let is_on_unix = SockRef::from(&source).local_addr().is_ok_and(|address| address.is_unix());
        let peer = if is_on_unix { Peer::on_unix() } else { Peer::default() };
        self.hand(Adopted { source, peer, accepted: false, place: None, unset: Unset::ADOPTED });
    }

    /// Hands over what an acceptor has accepted, without blocking, and perhaps taken a place for. Says how many calls
    /// that took, to wake the loop.
    pub(super) fn hand_over(&self, source: OwnedSource, peer: Peer, unset: Unset, place: Option<Place>) -> u64 {
        self.hand(Adopted { source, peer, accepted: true, place, unset })
    }

    fn hand(&self, adopted: Adopted) -> u64 {
        // In turn, and not to whoever has fewest: that would take a count that all loops write and the acceptor reads.
        let turn = self.handed.fetch_add(1, Ordering::Relaxed);
        self.loops[turn % self.loops.len()].post(Message::Adopt(adopted))
    }
}

/// The way to one loop.
#[derive(Clone)]
struct Line {
    inbox: Arc<Mutex<Option<Vec<Message>>>>,
    waker: Waker,
    /// Of one that is not alone.
    fate: Option<Fate>,
}

impl Line {
    /// Says how many calls that took.
    fn post(&self, message: Message) -> u64 {
        // None: the server is gone, and so is the message, with whatever sender is in it.
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(messages) = &mut *inbox else { return 0 };
        messages.push(message);
        self.waker.wake_and_count()
    }

    /// The calls are on the account of whoever reads it.
    fn mail(&self, letters: Vec<Letter>) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(messages) = &mut *inbox {
            // Woken before there is anything to be read, but not able to read it before this lock is given back.
            let calls = self.waker.wake_and_count();
            messages.push(Message::Mail(letters, calls));
        }
    }

    fn ask(&self) -> mpsc::Receiver<Stats> {
        let (answer, answered) = mpsc::channel();
        self.post(Message::Stats(answer));
        answered
    }
}

/// The server's end.
pub(super) struct Inbox {
    messages: Arc<Mutex<Option<Vec<Message>>>>,
    source: WakeSource,
    control: Control,
}

impl Inbox {
    pub(super) fn new() -> io::Result<Inbox> {
        let (waker, source) = waker()?;
        let messages = Arc::new(Mutex::new(Some(Vec::new())));
        let line = Line { inbox: Arc::clone(&messages), waker, fate: None };
        let control = Control::of(Arc::new([line]));
        Ok(Inbox { messages, source, control })
    }

    pub(super) fn control(&self) -> Control {
        self.control.clone()
    }

    /// For the protocol.
    pub(super) fn post(&self) -> Post {
        let loops = Arc::clone(&self.control.loops);
        Post::new(move |letters| loops[0].mail(letters))
    }

    pub(super) fn source(&self) -> &WakeSource {
        &self.source
    }

    /// Quietens the source, then takes what was left: in this order no message is missed.
    pub(super) fn take(&self) -> Vec<Message> {
        self.source.drain();
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // Senders of unanswered questions go too, so that nobody waits for a server that is gone.
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_hands_sockets_over_goes_on_where_others_were() -> io::Result<()> {
        let loops = [Inbox::new()?, Inbox::new()?];
        let acceptor = Inbox::new()?;
        let all = Control::of_all(loops.iter().map(Inbox::control));
        let handles = [all.clone(), all.with_acceptor(&acceptor.control())];
        for handle in &handles {
            handle.adopt(socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?.into());
        }
        assert_eq!(loops.each_ref().map(|one| one.take().len()), [1, 1]);
        Ok(())
    }
}
