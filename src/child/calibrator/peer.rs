//! The peer of the calibrator: the load's part, a call at a time. It says when it is done, and then sleeps on its orders.
//!
//! Its connections are watched by what the load waits by, as they are in a cell: whoever sends to a connection that is
//! watched has something to put down there, whether or not anybody is woken.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::process::{self, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;
use std::{env, mem};

use pollmark_backends::{AsSource, Events, Interest, OwnedSource, Poller, Token, Trigger};
use socket2::{Domain, SockAddr, Socket, Type};

use super::make_room;
use crate::calibration::WHOLE;
use crate::child::Role;
use crate::client::Target;
use crate::{cpus, stream, usage, workload};

/// How long one that should have been sent to waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the peer is told: a word of it, and two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// To open so many connections on which nothing will ever be said.
    Watched(usize),
    /// To open so many that are to be served.
    Served(usize),
    /// To send messages of so many bytes from now on.
    Payload(usize),
    /// To send one message to each of these.
    Send(usize, usize),
    /// To take the answers to them.
    Take(usize, usize),
    /// To make so many exchanges on this connection, one after the other. The answer is how often it slept.
    Exchange(usize, usize),
    /// To reset the connections on which nothing was said.
    Reset,
}

const FRAME: usize = 3 * size_of::<u64>();

impl Order {
    fn to_bytes(self) -> [u8; FRAME] {
        let [word, one, other] = match self {
            Order::Watched(count) => [0, count, 0],
            Order::Served(count) => [1, count, 0],
            Order::Payload(bytes) => [2, bytes, 0],
            Order::Send(from, count) => [3, from, count],
            Order::Take(from, count) => [4, from, count],
            Order::Exchange(place, count) => [5, place, count],
            Order::Reset => [6, 0, 0],
        };
        let mut frame = [0; FRAME];
        for (place, number) in frame.chunks_exact_mut(size_of::<u64>()).zip([word, one, other]) {
            place.copy_from_slice(&(number as u64).to_le_bytes());
        }
        frame
    }

    fn from_bytes(frame: [u8; FRAME]) -> io::Result<Order> {
        let number = |at: usize| {
            let bytes = frame[at * size_of::<u64>()..][..size_of::<u64>()].try_into().expect("a part of this size");
            u64::from_le_bytes(bytes) as usize
        };
        Ok(match (number(0), number(1), number(2)) {
            (0, count, _) => Order::Watched(count),
            (1, count, _) => Order::Served(count),
            (2, bytes, _) => Order::Payload(bytes),
            (3, from, count) => Order::Send(from, count),
            (4, from, count) => Order::Take(from, count),
            (5, place, count) => Order::Exchange(place, count),
            (6, ..) => Order::Reset,
            (other, ..) => return Err(wrong(&format!("{other} is no order"))),
        })
    }
}

/// The process, from the calibrator's side. Dropping it ends it.
pub(super) struct Peer {
    process: process::Child,
    orders: ChildStdin,
    answers: ChildStdout,
}

impl Peer {
    /// Starts it, bound to `cpu`; it will connect to `target`.
    pub(super) fn start(target: &Target, cpu: Option<usize>) -> io::Result<Peer> {
        let mut command = Role::Peer.command()?;
        command.arg(serde_json::to_string(target)?).args(cpu.map(|cpu| cpu.to_string()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = process.stdin.take().expect("piped above");
        let answers = process.stdout.take().expect("piped above");
        Ok(Peer { process, orders, answers })
    }

    /// Has it do something, and waits until it is done. Returns what it says of it.
    pub(super) fn ask(&mut self, order: Order) -> io::Result<u64> {
        self.tell(order)?;
        self.hear()
    }

    /// Has it begin.
    pub(super) fn tell(&mut self, order: Order) -> io::Result<()> {
        self.orders.write_all(&order.to_bytes()).map_err(gone)
    }

    /// Waits until it is done.
    pub(super) fn hear(&mut self) -> io::Result<u64> {
        let mut answer = [0; size_of::<u64>()];
        self.answers.read_exact(&mut answer).map_err(gone)?;
        Ok(u64::from_le_bytes(answer))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn gone(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the calibrator's peer has ended: {error}"))
}

/// The peer itself: does what it is told until nobody tells it anything any more.
pub(in crate::child) fn run() {
    if let Err(error) = obey() {
        eprintln!("the calibrator's peer: {error}");
        process::exit(1);
    }
    process::exit(0);
}

fn obey() -> io::Result<()> {
    let mut arguments = env::args().skip(2);
    let target = arguments.next().ok_or_else(|| wrong("it is started by pollmark, and told whom to connect to"))?;
    let target: Target = serde_json::from_slice(target.as_bytes())?;
    // Not to be bound is told by the calibrator, which could not be either.
    let _ = cpus::unpinned(arguments.next().and_then(|cpu| cpu.parse().ok()));
    usage::raise_descriptor_limit();
    let (mut orders, mut answers) = (io::stdin().lock(), io::stdout().lock());
    let (poller, events) = (workload::mechanism()?, Events::with_capacity(64));
    let mut ends =
        Ends { target, poller, events, watched: Vec::new(), served: Vec::new(), payload: 1, buffer: Vec::new() };
    let mut frame = [0; FRAME];
    while orders.read_exact(&mut frame).is_ok() {
        let answer = ends.obey(Order::from_bytes(frame)?)?;
        answers.write_all(&answer.to_le_bytes())?;
        answers.flush()?;
    }
    Ok(())
}

/// The other ends of the calibrator's connections.
struct Ends {
    target: Target,
    poller: Box<dyn Poller>,
    events: Events,
    watched: Vec<OwnedSource>,
    served: Vec<Served>,
    payload: usize,
    buffer: Vec<u8>,
}

/// One that is served: how many messages were sent, and how many answered.
struct Served {
    source: OwnedSource,
    sent: u64,
    answered: u64,
}

impl Ends {
    fn obey(&mut self, order: Order) -> io::Result<u64> {
        match order {
            Order::Watched(count) => {
                for _ in 0..count {
                    let opened = open(&self.target)?;
                    self.watched.push(opened);
                }
            }
            Order::Served(count) => {
                for _ in 0..count {
                    let source = open(&self.target)?;
                    rustix::io::ioctl_fionbio(&source, true)?;
                    let token = Token::new(self.served.len() as u32, 1);
                    self.poller.add(source.as_source(), token, Interest::READABLE, Trigger::Level)?;
                    self.served.push(Served { source, sent: 0, answered: 0 });
                }
            }
            Order::Payload(bytes) => {
                self.payload = bytes;
                if bytes > WHOLE {
                    self.served.iter().try_for_each(|served| make_room(served.source.as_source()))?;
                }
            }
            Order::Send(from, count) => self.places(from, count)?.try_for_each(|place| self.send(place))?,
            Order::Take(from, count) => {
                for place in self.places(from, count)? {
                    while !self.take(place)? {
                        self.poller.wait(&mut self.events, Some(PATIENCE))?;
                    }
                }
            }
            Order::Exchange(place, count) => {
                let place = self.places(place, 1)?.start;
                let before = usage::times_slept();
                for _ in 0..count {
                    self.send(place)?;
                    loop {
                        self.poller.wait(&mut self.events, Some(PATIENCE))?;
                        if self.take(place)? {
                            break;
                        }
                        if self.events.is_empty() {
                            return Err(wrong("no answer has come"));
                        }
                    }
                }
                return Ok(usage::times_slept().zip(before).map_or(u64::MAX, |(now, before)| now - before));
            }
            Order::Reset => mem::take(&mut self.watched).into_iter().for_each(drop),
        }
        Ok(0)
    }

    fn places(&self, from: usize, count: usize) -> io::Result<Range<usize>> {
        let places = from..from.saturating_add(count);
        if places.end > self.served.len() { Err(wrong("there are not so many connections")) } else { Ok(places) }
    }

    fn send(&mut self, place: usize) -> io::Result<()> {
        let served = &mut self.served[place];
        message(&mut self.buffer, self.payload, place, served.sent);
        served.sent += 1;
        match stream::send(served.source.as_source(), &self.buffer)? {
            sent if sent == self.payload => Ok(()),
            sent => Err(wrong(&format!("{sent} of {} bytes were taken", self.payload))),
        }
    }

    /// Whether the answer is there; it must be what was sent.
    fn take(&mut self, place: usize) -> io::Result<bool> {
        let served = &mut self.served[place];
        let mut found = vec![0; self.payload + 1];
        let bytes = match stream::recv(served.source.as_source(), &mut found) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            received => received?,
        };
        message(&mut self.buffer, self.payload, place, served.answered);
        served.answered += 1;
        if found[..bytes] == self.buffer[..] { Ok(true) } else { Err(wrong("an answer is not what was sent")) }
    }
}

/// The nth message of a connection.
fn message(into: &mut Vec<u8>, bytes: usize, place: usize, nth: u64) {
    into.clear();
    let first = nth.wrapping_mul(7).wrapping_add(place as u64);
    into.extend((0..bytes as u64).map(|at| first.wrapping_add(at) as u8));
}

/// A connection whose close is a reset: none is left in TIME_WAIT.
fn open(target: &Target) -> io::Result<OwnedSource> {
    let (domain, address) = match target {
        Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if let Target::Tcp(_) = target {
        socket.set_tcp_nodelay(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
    }
    socket.connect(&address)?;
    Ok(socket.into())
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let orders = [
            Order::Watched(5_000),
            Order::Served(32),
            Order::Payload(16_384),
            Order::Send(32, 8),
            Order::Take(0, 32),
            Order::Exchange(3, 16),
            Order::Reset,
        ];
        for order in orders {
            assert_eq!(Order::from_bytes(order.to_bytes()).expect("ours"), order);
        }
        assert!(Order::from_bytes([0xff; FRAME]).is_err());
    }

    #[test]
    fn no_two_messages_in_a_row_are_the_same() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        message(&mut one, 64, 3, 0);
        message(&mut other, 64, 3, 1);
        assert!(one.len() == 64 && one != other);
        message(&mut other, 64, 4, 0);
        assert_ne!(one, other);
    }
}
