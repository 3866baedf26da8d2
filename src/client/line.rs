//! One connection at work: a request goes out, an answer comes in, each as far as the socket allows.

use std::io;
use std::time::Instant;

use pollmark_backends::{AsSource, Interest, OwnedSource};

use super::{Connecting, Error, Exchange, Malformed, Moved, Net, Timeout, Timeouts};

/// What an answer is first given room for; an unused connection keeps no more than the second.
const FIRST_ROOM: usize = 4 * 1024;
const KEPT_ROOM: usize = 64 * 1024;

/// One slot of the pool.
pub(super) struct Line<X: Exchange> {
    pub(super) state: State,
    /// What the poller was told last.
    pub(super) interest: Interest,
    /// All of it is room; what was received is at its beginning.
    room: Vec<u8>,
    received: usize,
    progress: X::Progress,
}

pub(super) enum State {
    Vacant,
    /// For a task that has sent nothing.
    Connecting(Connecting, Task),
    Free(OwnedSource),
    Busy(OwnedSource, Task),
}

impl State {
    /// In use, by a request.
    pub(super) fn is_at_work(&self) -> bool {
        matches!(self, State::Connecting(..) | State::Busy(..))
    }
}

/// A request, on its way.
#[derive(Clone, Copy)]
pub(super) struct Task {
    /// Which of the batch.
    pub(super) index: usize,
    /// The connection had been used before.
    pub(super) reused: bool,
    /// Bytes of it that were sent.
    sent: usize,
    /// Since when no byte has moved that is waited for.
    since: Instant,
}

impl Task {
    pub(super) fn new(index: usize, now: Instant) -> Task {
        Task { index, reused: false, sent: 0, since: now }
    }

    /// The same on a connection that had been used before.
    pub(super) fn again(self) -> Task {
        Task { reused: true, ..self }
    }
}

/// What a line is served with.
pub(super) struct Ask<'a, X, N> {
    pub(super) net: &'a N,
    pub(super) exchange: &'a X,
    pub(super) request: &'a [u8],
    /// Bytes an unfinished answer may have.
    pub(super) most: usize,
    pub(super) now: Instant,
}

/// What came of serving a line.
pub(super) enum Step {
    /// It goes on when the socket is ready.
    Pending,
    /// The answer is so long.
    Answered(usize),
    Failed(Error),
}

impl<X: Exchange> Line<X> {
    pub(super) fn new() -> Line<X> {
        let (state, progress) = (State::Vacant, X::Progress::default());
        Line { state, interest: Interest::EMPTY, room: Vec::new(), received: 0, progress }
    }

    /// Takes a connection that was just opened, for a request.
    pub(super) fn open(&mut self, source: OwnedSource, task: Task) {
        self.interest = Interest::WRITABLE; // as it was registered while connecting
        self.begin(source, task);
    }

    /// Takes up a request, on a connection that is free.
    pub(super) fn take_up(&mut self, task: Task) {
        if let State::Free(source) = std::mem::replace(&mut self.state, State::Vacant) {
            self.begin(source, task);
        }
    }

    fn begin(&mut self, source: OwnedSource, task: Task) {
        self.state = State::Busy(source, task);
        self.received = 0;
        self.progress = X::Progress::default();
        if self.room.len() > KEPT_ROOM {
            self.room.truncate(FIRST_ROOM);
            self.room.shrink_to_fit();
        }
        if self.room.is_empty() {
            self.room.resize(FIRST_ROOM, 0);
        }
    }

    /// Whether another request may follow the answer that has come.
    pub(super) fn keeps(&self, exchange: &X) -> bool {
        exchange.keeps(&self.progress)
    }

    /// Is free again.
    pub(super) fn rest(&mut self) {
        if let State::Busy(source, _) = std::mem::replace(&mut self.state, State::Vacant) {
            self.state = State::Free(source);
        }
    }

    /// The first `bytes` of what was received, until the next request begins.
    pub(super) fn received(&self, bytes: usize) -> &[u8] {
        &self.room[..bytes]
    }

    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Free(_))
    }

    /// Whether the server has neither closed a free connection nor said anything.
    pub(super) fn is_quiet<N: Net>(&mut self, net: &N) -> bool {
        let State::Free(source) = &self.state else { return false };
        matches!(uninterrupted(|| net.recv(source.as_source(), &mut self.room)), Ok(None))
    }

    /// Sends once. One call each time the socket is ready is fair to the other connections.
    pub(super) fn send<N: Net>(&mut self, ask: &Ask<'_, X, N>) -> Step {
        let State::Busy(source, task) = &mut self.state else { return Step::Pending };
        let rest = &ask.request[task.sent..];
        if rest.is_empty() {
            return Step::Pending;
        }
        match uninterrupted(|| ask.net.send(source.as_source(), rest)) {
            Ok(None) => Step::Pending,
            Ok(Some(taken)) => {
                task.sent += taken;
                task.since = ask.now;
                Step::Pending
            }
            Err(error) => self.last_words(ask, error),
        }
    }

    /// Receives once, and looks whether the answer is there.
    pub(super) fn receive<N: Net>(&mut self, ask: &Ask<'_, X, N>) -> Step {
        let moved = self.moved(ask.request);
        let State::Busy(source, task) = &mut self.state else { return Step::Pending };
        if self.received == self.room.len() {
            self.room.resize((2 * self.received).max(FIRST_ROOM), 0);
        }
        match uninterrupted(|| ask.net.recv(source.as_source(), &mut self.room[self.received..])) {
            Ok(None) => return Step::Pending,
            Ok(Some(0)) => {
                let ended = ask.exchange.ended(&self.room[..self.received], &mut self.progress);
                return ended
                    .map_or(Step::Failed(Error::Closed { moved }), |end| Step::Answered(end.min(self.received)));
            }
            Ok(Some(bytes)) => self.received += bytes,
            Err(error) => return Step::Failed(Error::Lost { error, moved }),
        }
        // While something is still to be sent, it is waited for that it goes out.
        if moved.sent == moved.of {
            task.since = ask.now;
        }
        let failed = |why| Step::Failed(Error::Malformed { why, moved: Moved { received: self.received, ..moved } });
        if moved.sent == 0 && moved.of > 0 {
            return failed(Malformed::because("it came before anything was asked"));
        }
        match ask.exchange.end(ask.request, &self.room[..self.received], &mut self.progress) {
            Ok(Some(end)) => Step::Answered(end.min(self.received)),
            Ok(None) if self.received >= ask.most => {
                failed(Malformed::because(format!("longer than {} bytes", ask.most)))
            }
            Ok(None) => Step::Pending,
            Err(why) => failed(why),
        }
    }

    /// The request cannot be sent to its end. A server that does not want it may have said why.
    #[cold]
    fn last_words<N: Net>(&mut self, ask: &Ask<'_, X, N>, error: io::Error) -> Step {
        loop {
            let before = self.received;
            match self.receive(ask) {
                Step::Pending if self.received > before => {}
                Step::Answered(end) => return Step::Answered(end),
                _ => return Step::Failed(Error::Lost { error, moved: self.moved(ask.request) }),
            }
        }
    }

    /// How far its request has come.
    pub(super) fn moved(&self, request: &[u8]) -> Moved {
        let sent = match &self.state {
            State::Busy(_, task) => task.sent,
            _ => 0,
        };
        Moved { sent, of: request.len(), received: self.received }
    }

    /// Which of the timeouts that begin anew comes next, and when.
    pub(super) fn deadline(&self, request: &[u8], timeouts: &Timeouts) -> Option<(Instant, Timeout)> {
        let State::Busy(_, task) = &self.state else { return None };
        let which = if task.sent < request.len() { Timeout::Write } else { Timeout::Read };
        Some((task.since.checked_add(timeouts.limit(which))?, which))
    }
}

/// Makes a call until no signal ends it; `None` if it would block.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        return match call() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Ok(None),
                _ => Err(error),
            },
        };
    }
}
