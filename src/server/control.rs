//! Reaching a running server from another thread: stop it, ask it, hand it a socket.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use pollmark_backends::{OwnedSource, WakeSource, Waker, waker};

use super::Stats;

/// What other threads ask of a loop.
pub(super) enum Message {
    Stop,
    Stats(mpsc::Sender<Stats>),
    Adopt(OwnedSource),
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
    inbox: Arc<Mutex<Option<Vec<Message>>>>,
    waker: Waker,
}

impl Control {
    /// Ends the server: [`run`](super::Server::run) returns its statistics soon after. Connections are closed.
    pub fn stop(&self) {
        self.post(Message::Stop);
    }

    /// What the server has done until now, answered by the server itself between two waits.
    ///
    /// # Errors
    /// `NotConnected` if the server does not run any more.
    pub fn stats(&self) -> io::Result<Stats> {
        let (answer, answered) = mpsc::channel();
        self.post(Message::Stats(answer));
        answered.recv().map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the server has stopped"))
    }

    /// Hands the server a connected stream socket, to be served as if it had been accepted.
    pub fn adopt(&self, source: OwnedSource) {
        self.post(Message::Adopt(source));
    }

    fn post(&self, message: Message) {
        // None: the server is gone, and so is the message, with whatever sender is in it.
        if let Some(messages) = &mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) {
            messages.push(message);
            self.waker.wake();
        }
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
        let control = Control { inbox: Arc::clone(&messages), waker };
        Ok(Inbox { messages, source, control })
    }

    pub(super) fn control(&self) -> Control {
        self.control.clone()
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
