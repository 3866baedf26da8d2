//! Mail from other servers: delivered by a thread of its own, because whoever it is for may not read for a long time,
//! and neither who sends it nor who answers questions is to wait for that.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::super::{Expiry, Net};
use super::desk::STACK;
use super::roster::Roster;
use crate::protocol::Letter;

/// Delivers, from the first letter on. When it is dropped, it waits for the round it is on; the roster is to be closed
/// then, so that nobody keeps it waiting.
pub(super) struct Postman<N> {
    net: N,
    roster: Arc<Roster>,
    /// So long whoever it is for may take nothing of it.
    may: Option<Duration>,
    round: Option<Round>,
}

type Round = (mpsc::Sender<Vec<Letter>>, JoinHandle<()>);

impl<N: Net> Postman<N> {
    pub(super) fn new(net: N, roster: &Arc<Roster>, may: Option<Duration>) -> Postman<N> {
        Postman { net, roster: Arc::clone(roster), may, round: None }
    }

    /// Has these delivered after all before them.
    ///
    /// # Errors
    /// The system's: no thread to be had, so nothing is delivered.
    pub(super) fn take(&mut self, letters: Vec<Letter>) -> io::Result<()> {
        let (sender, _) = match &mut self.round {
            Some(round) => round,
            none => none.insert(begin(self.net.clone(), Arc::clone(&self.roster), self.may)?),
        };
        let _ = sender.send(letters); // if it has panicked, that is told when it is waited for
        Ok(())
    }
}

impl<N> Drop for Postman<N> {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.round.take() {
            drop(sender);
            if thread.join().is_err() {
                tracing::error!("the thread that delivers mail has panicked");
            }
        }
    }
}

fn begin<N: Net>(net: N, roster: Arc<Roster>, may: Option<Duration>) -> io::Result<Round> {
    let (sender, letters) = mpsc::channel::<Vec<Letter>>();
    let deliver = move || {
        for (to, bytes) in letters.into_iter().flatten() {
            if let Some(seat) = roster.seat(to)
                && !seat.pass_on((&net, &seat.counts), &bytes, may)
            {
                roster.expired(Expiry::Write);
            }
        }
    };
    Ok((sender, thread::Builder::new().name("mail".into()).stack_size(STACK).spawn(deliver)?))
}
