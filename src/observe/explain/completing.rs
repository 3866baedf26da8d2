//! The life of a connection on completion: what the program hands to the kernel, and what has then been done.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use pollmark_backends::completion::{Completion, Next, Ring, Setup};
use pollmark_backends::{AsSource, OwnedSource, Token, raw};

use super::Evidence;
use super::experiment::{Experiment, PATIENCE};

/// By how many calls that was, where completion is to be had.
pub(super) fn live(experiment: &mut Experiment<'_>, bytes: usize) -> io::Result<Option<u64>> {
    experiment.note("the same once more on completion: the program says what is to be done, and waits until it is");
    let ring = match Ring::open(&Setup::default()) {
        Ok(ring) => ring,
        Err(error) => {
            experiment.evidence(Evidence::NotVisible(format!("completion cannot be had here: {error}")));
            return Ok(None);
        }
    };
    let before = ring.ledger().wait_calls;
    let mut program = Program { ring, done: VecDeque::new() };
    let (listener, address) = experiment.listen(16)?;
    program.ring.accept(listener.as_source(), LISTENER);
    program.hand_over(experiment, "IORING_OP_ACCEPT, of whoever comes")?;

    let (client, local) = experiment.connect(address)?;
    let Done::Accepted(source) = program.next(experiment, "IORING_OP_ACCEPT")? else { return unexpected() };
    let accepted = raw(source.as_source());
    // The completion does not tell it.
    let peer = socket2::SockRef::from(&source).peer_addr()?.as_socket();
    let peer = peer.map_or_else(|| "nobody".to_owned(), |peer| peer.to_string());
    experiment.claim("completion: whom the kernel has accepted", local.to_string(), peer);
    program.ring.receive(source.as_source(), CONNECTION);
    program.hand_over(experiment, &format!("IORING_OP_RECV from {accepted}, of whatever comes"))?;

    experiment.send(&client, &vec![b'x'; bytes])?;
    let mut received = Vec::new();
    while received.len() < bytes {
        let Done::Received { bytes, more } = program.next(experiment, "IORING_OP_RECV")? else { return unexpected() };
        received.extend(bytes);
        if !more {
            program.ring.receive(source.as_source(), CONNECTION);
        }
    }
    experiment.claim("completion: bytes that had been received when it said so", bytes, received.len());
    let (mut sent, mut memory) = (0, received);
    while sent < bytes {
        program.ring.send(source.as_source(), CONNECTION, memory, sent);
        let what = format!("IORING_OP_SEND to {accepted}");
        let Done::Sent { bytes, count } = program.next(experiment, &what)? else { return unexpected() };
        (memory, sent) = (bytes, sent + count);
    }
    experiment.arrived(&client, bytes)?;
    let answer = experiment.receive(&client, bytes)?;
    experiment.claim("completion: bytes that went there and back", bytes, answer.len());

    let (number, shut) = (raw(client.as_source()), || client.shutdown(Shutdown::Write));
    experiment.call(format!("shutdown({number}, SHUT_WR), by the client"), shut, |()| "0".to_owned())?;
    let Done::Ended(ended) = program.next(experiment, "IORING_OP_RECV")? else { return unexpected() };
    let ended = ended.map_or_else(|error| error.to_string(), |()| "the end of the stream".to_owned());
    experiment.claim("completion: the receive is over, by", "the end of the stream".to_owned(), ended);
    program.ring.close(source, false);
    program.hand_over(experiment, &format!("IORING_OP_CLOSE of {accepted}"))?;
    let end = experiment.receive(&client, 16)?;
    experiment.claim("completion: recv of the client, whose peer the kernel has closed", 0, end.len());
    let calls = program.ring.ledger().wait_calls - before;
    experiment.note("that was accept, recv, send and close of the server");
    experiment.figure("calls it took, with those to wait", calls, "the ring's ledger");
    program.ring.finish()?;
    Ok(Some(calls))
}

const LISTENER: Token = Token(1);
const CONNECTION: Token = Token(2);

/// What the kernel has done.
enum Done {
    Accepted(OwnedSource),
    Received { bytes: Vec<u8>, more: bool },
    Sent { bytes: Vec<u8>, count: usize },
    Ended(io::Result<()>),
}

struct Program {
    ring: Ring,
    /// What is done, in the kernel's words, and not yet asked for.
    done: VecDeque<(String, Done)>,
}

impl Program {
    /// One call that does not sleep.
    fn hand_over(&mut self, experiment: &mut Experiment<'_>, what: &str) -> io::Result<()> {
        self.turn(None)?;
        experiment.note(format!("io_uring_enter: {what}"));
        if self.done.is_empty() {
            show(experiment, what, "", "");
        }
        Ok(())
    }

    /// What is done next: it is certain to come.
    fn next(&mut self, experiment: &mut Experiment<'_>, what: &str) -> io::Result<Done> {
        let deadline = Instant::now() + PATIENCE;
        while self.done.is_empty() && Instant::now() < deadline {
            self.turn(Some(Duration::from_millis(100)))?;
        }
        let never = || io::Error::new(io::ErrorKind::TimedOut, format!("waited in vain for {what} to complete"));
        let (raw_words, done) = self.done.pop_front().ok_or_else(never)?;
        let told = match &done {
            Done::Accepted(source) => format!("descriptor {}, accepted", raw(source.as_source())),
            Done::Received { bytes, .. } => format!("{} bytes, received", bytes.len()),
            Done::Sent { count, .. } => format!("{count} bytes, sent"),
            Done::Ended(Ok(())) => "the end of the stream and of the receive".to_owned(),
            Done::Ended(Err(error)) => format!("the end of the receive: {error}"),
        };
        experiment.note("io_uring_enter: until something is done");
        show(experiment, what, &raw_words, &told);
        Ok(done)
    }

    fn turn(&mut self, sleep: Option<Duration>) -> io::Result<()> {
        match self.ring.turn(sleep.is_some(), sleep) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        while let Some(next) = self.ring.next() {
            let raw_words = self.ring.said().to_string();
            let received = |ring: &Ring, more| Done::Received { bytes: ring.bytes().to_vec(), more };
            let done = match next {
                Next::Received(_) => received(&self.ring, true),
                Next::Other(other) => match self.ring.learn(other) {
                    Completion::Accepted { source, .. } => Done::Accepted(source?),
                    Completion::Received { .. } => received(&self.ring, false),
                    Completion::Sent { bytes, result, .. } => Done::Sent { bytes, count: result? },
                    Completion::Ended { result, .. } => Done::Ended(result),
                    Completion::Readable { .. } | Completion::Nothing => continue,
                },
            };
            self.done.push_back((raw_words, done));
        }
        Ok(())
    }
}

fn show(experiment: &mut Experiment<'_>, what: &str, raw: &str, told: &str) {
    let (mechanism, registered) = ("completion".to_owned(), what.to_owned());
    experiment.evidence(Evidence::Event { mechanism, registered, raw: raw.to_owned(), told: told.to_owned() });
}

fn unexpected<T>() -> io::Result<T> {
    Err(io::Error::other("something has completed that was not to come yet"))
}
