//! The parent's end: starting a child, asking it, and not waiting for ever.

use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use std::{fmt, io, process};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Role;
use super::started::{LAST_WORDS, Words, apart, wait_at_most};

/// A child, and the pipes to and from it. Dropping it ends it.
pub(super) struct Child<Order, Answer> {
    /// What it is called when something is said of it.
    name: String,
    process: process::Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    complaints: Words,
    /// How long it may take to end by itself before it is killed.
    grace: Duration,
    speaks: PhantomData<fn(Order) -> Answer>,
}

impl<Order: Serialize, Answer: DeserializeOwned> Child<Order, Answer> {
    /// Executes this program again, perhaps as one of several.
    pub(super) fn start(role: Role, of: Option<(usize, usize)>) -> Result<Child<Order, Answer>, Failure> {
        if super::is_unentered_child() {
            return Err(Failure("a child does not start children: call pollmark::child::enter first in main".into()));
        }
        let name = match of {
            None => format!("{} process", role.name()),
            Some((at, of)) => format!("{} process {at} of {of}", role.name()),
        };
        let failed = |error: io::Error| Failure(format!("cannot start the {name}: {error}"));
        let mut command = role.command().map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut command);
        let mut process = command.spawn().map_err(failed)?;
        let output = process.stdout.take().expect("piped above");
        let errors = process.stderr.take().expect("piped above");
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let complaints = Words::of(errors, LAST_WORDS);
        let orders = process.stdin.take();
        let grace = Duration::ZERO;
        Ok(Child { name, process, orders, answers, complaints, grace, speaks: PhantomData })
    }

    /// Gives an order, whose answer is still to be heard.
    pub(super) fn tell(&mut self, order: &Order) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(order).expect("orders have no map keys and no failing parts");
        line.push(b'\n');
        let Some(orders) = &mut self.orders else { return Err(self.gone()) };
        if orders.write_all(&line).and_then(|()| orders.flush()).is_err() {
            return Err(self.gone());
        }
        Ok(())
    }

    /// Waits for the answer to the earliest order that has had none, at most so long: `None` if it has not come.
    pub(super) fn hear(&mut self, wait: Duration) -> Result<Option<Answer>, Failure> {
        match self.answers.recv_timeout(wait) {
            Ok(line) => serde_json::from_slice(line.as_bytes())
                .map(Some)
                .map_err(|_| Failure(format!("the {} said {line:?}: call pollmark::child::enter first", self.name))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    /// What is said of one that has not answered.
    pub(super) fn silent(&self, patience: Duration) -> Failure {
        Failure(format!("the {} did not answer for {} s", self.name, patience.as_secs()))
    }

    /// Whether it still runs; asking is no order.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.gone()),
        }
    }

    /// Says how it ended.
    fn gone(&mut self) -> Failure {
        let name = &self.name;
        self.orders = None;
        // Its input is closed, so it is about to end; only killed, it could not say how.
        let _ = wait_at_most(&mut self.process, self.grace.max(Duration::from_secs(1)));
        let _ = self.process.kill();
        let status = self.process.wait().map(|status| status.to_string()).unwrap_or_default();
        match self.complaints.last().trim() {
            "" => Failure(format!("the {name} has ended ({status})")),
            words => Failure(format!("the {name} has ended ({status}): {words}")),
        }
    }
}

impl<Order, Answer> Child<Order, Answer> {
    /// Ends it, without waiting for that. It would end by itself when its input closes; killed, it ends sooner.
    pub(super) fn end(&mut self) {
        self.orders = None;
        if self.grace.is_zero() {
            let _ = self.process.kill();
        }
    }

    /// From now on it is not killed as long as it may be ending by itself: there is something that it has to end first.
    pub(super) fn give(&mut self, grace: Duration) {
        self.grace = grace;
    }
}

impl<Order, Answer> Drop for Child<Order, Answer> {
    fn drop(&mut self) {
        self.end();
        let _ = wait_at_most(&mut self.process, self.grace);
        let _ = self.process.kill();
        // Gone before the next visit begins.
        let _ = self.process.wait();
    }
}

/// Why a child is of no more use.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
