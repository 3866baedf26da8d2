//! Where questions and orders from other threads are answered, whatever those that serve are asleep in.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pollmark_backends::poll::Poll;
use pollmark_backends::{Events, Interest, Poller, Token, Trigger};

use super::super::accept::later;
use super::super::control::{Inbox, Message};
use super::super::endurance::Endurance;
use super::super::{Control, Net, Stats};
use super::postman::Postman;
use super::roster::Roster;

/// What it takes is little: it reads messages and adds up figures.
pub(super) const STACK: usize = 128 * 1024;

/// The thread that answers, until it is told to stop.
pub(super) struct Desk {
    control: Control,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Desk {
    /// Begins to answer.
    ///
    /// # Errors
    /// The system's: no thread to be had.
    pub(super) fn open<N: Net>(
        inbox: Inbox,
        roster: &Arc<Roster>,
        mut postman: Postman<N>,
        drain: Duration,
    ) -> io::Result<Desk> {
        let (control, roster) = (inbox.control(), Arc::clone(roster));
        let answering = move || {
            let answered = answer(&inbox, &roster, &mut postman, drain);
            // Told to stop, or unable to go on: a server that nobody could stop any more must not stay.
            roster.close();
            answered
        };
        let thread = Some(thread::Builder::new().name("control".into()).stack_size(STACK).spawn(answering)?);
        Ok(Desk { control, thread })
    }

    /// Stops answering.
    ///
    /// # Errors
    /// What it failed by, if it did.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.control.stop();
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that answers has panicked")))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Here only when the server panics, and that has the better message.
        let _ = self.end();
    }
}

/// Answers until told to stop. A drain is cut short after so long, whatever those are asleep in who drain.
fn answer<N: Net>(inbox: &Inbox, roster: &Roster, postman: &mut Postman<N>, drain: Duration) -> io::Result<()> {
    let mut poller = Poll::open()?;
    poller.add(inbox.source().as_source(), Token(0), Interest::READABLE, Trigger::Level)?;
    let mut events = Events::with_capacity(1);
    let mut endurance = Endurance::default();
    let mut drains_until = None;
    loop {
        let timeout = drains_until.map(|until: Instant| until.saturating_duration_since(Instant::now()));
        if timeout == Some(Duration::ZERO) {
            roster.close();
            drains_until = None;
            continue;
        }
        match poller.wait(&mut events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                endurance.after(error, &poller.ledger())?;
                continue;
            }
        }
        // The wait, and what empties the inbox.
        let mut done = Stats { other_calls: 2, ..Stats::default() };
        let mut stops = false;
        for message in inbox.take() {
            match message {
                Message::Stop => stops = true,
                Message::Drain => {
                    drains_until.get_or_insert_with(|| later(Instant::now(), drain));
                    roster.drain();
                }
                Message::Stats(answer) => {
                    let _ = answer.send(roster.stats()); // whoever asked may be gone
                }
                Message::Mail(letters, calls) => {
                    done.other_calls += calls;
                    if let Err(error) = postman.take(letters) {
                        tracing::warn!(%error, "mail is lost: there is no thread to deliver it");
                    }
                }
                Message::Adopt(adopted) => {
                    if let Some((arrival, place)) = adopted.prepare(false, &mut done) {
                        roster.adopt(arrival, place);
                    }
                }
            }
        }
        roster.desk_did(&done);
        if stops {
            return Ok(());
        }
    }
}
