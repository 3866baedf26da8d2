//! Sockets of datagrams: messages that come by themselves, and must be answered, cut or lost, each of them once.
//!
//! Each message has a sender of its own, and what it says can be told from its number, so that an answer tells what it
//! is an answer to. A socket has room for a few; what comes beyond is lost on the way, and nobody's fault.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use fastrand::Rng;
use pollmark_backends::datagrams::{BATCH, Inbound, Outbound};
use rustix::io::Errno;

use super::faults::Fault;
use super::script::skewed;
use super::socket::Watch;
use super::trace::{Name, What};
use super::world::{Happening, World};

/// A socket's receive queue has room for so many.
const ROOM: usize = 40;

/// One socket of datagrams.
#[derive(Default)]
pub(super) struct Mailbox {
    pub(super) address: Option<SocketAddr>,
    pub(super) watch: Option<Watch>,
    /// Messages, by their numbers.
    pub(super) queue: VecDeque<u32>,
}

/// One message.
pub(super) struct Message {
    mailbox: u8,
    length: usize,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It has not come yet, or is queued, or was lost on the way.
    Unread,
    Read,
    /// It was read, and was too long.
    Cut,
    Answered,
}

/// Who has sent a message is told by its address.
fn sender(number: u32) -> SocketAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(11, high, middle, low), 53))
}

/// Which message is from there.
fn sent_by(address: Option<SocketAddr>) -> Option<u32> {
    match address {
        Some(SocketAddr::V4(address)) if address.ip().octets()[0] == 11 => Some(address.ip().to_bits() & 0x00ff_ffff),
        _ => None,
    }
}

impl World {
    /// Plans messages to the sockets there are for them, within `over` nanoseconds, often several at a time.
    pub(super) fn populate_mailboxes(&mut self, over: u64) {
        // Dice of its own: a world without such sockets is what it was.
        let mut rng = Rng::with_seed(self.seed ^ 0x6d61_696c);
        for mailbox in 0..self.mailboxes.len() as u8 {
            for _ in 0..1 + skewed(&mut rng, 40) {
                let at = rng.u64(..=over);
                for _ in 0..1 + skewed(&mut rng, 60) {
                    let length = [0, 1, 100, 200, 201, 300][rng.usize(..6)];
                    let number = self.messages.len() as u32;
                    self.messages.push(Message { mailbox, length, fate: Fate::Unread });
                    self.schedule(at, number, Happening::Message);
                }
            }
        }
    }

    /// A message comes.
    pub(super) fn message_comes(&mut self, number: u32) {
        let at = self.messages[number as usize].mailbox;
        let queue = &mut self.mailboxes[usize::from(at)].queue;
        if queue.len() < ROOM {
            queue.push_back(number);
            let length = self.messages[number as usize].length;
            self.note(Name::Mailbox(at), What::Arrives(length as u64));
        }
        self.touch(Name::Mailbox(at));
    }

    /// recvmmsg(2).
    pub(super) fn take_messages(&mut self, at: u8, into: &mut Inbound) -> Result<usize, Errno> {
        into.clear();
        if self.strike(Fault::ReadInterrupted) {
            return Err(Errno::INTR);
        }
        if self.strike(Fault::ReadReset) {
            return Err(Errno::CONNREFUSED); // what another host has told, of a message of before
        }
        let queued = self.mailboxes[usize::from(at)].queue.len();
        if queued == 0 || self.strike(Fault::ReadAgain) {
            return Err(Errno::WOULDBLOCK);
        }
        let mut most = queued.min(BATCH);
        if most > 1 && self.strike(Fault::ShortRead) {
            most = self.rng.usize(1..most);
        }
        for came in 0..most {
            let Some(number) = self.mailboxes[usize::from(at)].queue.pop_front() else { return Ok(came) };
            let mut bytes = vec![0; self.messages[number as usize].length];
            self.text_at(number, 0, &mut bytes);
            into.push(&bytes, Some(sender(number).into()));
            let is_cut = bytes.len() > self.config.max_datagram;
            self.messages[number as usize].fate = if is_cut { Fate::Cut } else { Fate::Read };
            self.books.messages_in += 1;
            self.books.messages_cut += u64::from(is_cut);
            self.books.bytes_in += bytes.len().min(self.config.max_datagram) as u64;
            self.progress += 1;
        }
        Ok(most)
    }

    /// sendmmsg(2). An error is about the first.
    pub(super) fn send_messages(&mut self, at: u8, from: &mut Outbound) -> Result<usize, Errno> {
        for (fault, error) in [
            (Fault::WriteInterrupted, Errno::INTR),
            (Fault::WriteAgain, Errno::WOULDBLOCK),
            (Fault::WriteReset, Errno::CONNREFUSED),
            (Fault::NoBuffers, Errno::NOBUFS),
        ] {
            if self.strike(fault) {
                return Err(error);
            }
        }
        let mut most = from.left().min(BATCH);
        if most > 1 && self.strike(Fault::ShortWrite) {
            most = self.rng.usize(1..most);
        }
        for _ in 0..most {
            let Some((to, bytes)) = from.pop() else { break };
            self.books.messages_out += 1;
            self.books.bytes_out += bytes.len() as u64;
            self.progress += 1;
            self.is_an_answer(at, sent_by(to.ip()), bytes);
        }
        Ok(most)
    }

    /// Of an echo: what is sent is what was said, to whom has said it, once.
    fn is_an_answer(&mut self, at: u8, number: Option<u32>, bytes: &[u8]) {
        if !self.echoes {
            return;
        }
        let who = Some(Name::Mailbox(at));
        let Some(number) = number.filter(|number| (*number as usize) < self.messages.len()) else {
            return self.fail(who, "a message is sent to nobody who has ever said anything");
        };
        let Message { mailbox, length, fate } = self.messages[number as usize];
        let mut said = vec![0; length];
        self.text_at(number, 0, &mut said);
        if fate != Fate::Read {
            self.fail(who, format!("message {number} is answered, and was {fate:?}"));
        } else if mailbox != at {
            self.fail(who, format!("message {number} is answered from another socket than it came to"));
        } else if said != bytes {
            self.fail(who, format!("message {number} of {length} bytes is answered by {} others", bytes.len()));
        }
        self.messages[number as usize].fate = Fate::Answered;
    }

    /// Nobody is to sleep on messages: a socket that is readable is told of until it is not.
    pub(super) fn no_message_is_left(&mut self) {
        if let Some(at) = self.mailboxes.iter().position(|mailbox| !mailbox.queue.is_empty()) {
            self.fail(Some(Name::Mailbox(at as u8)), "the server sleeps, and messages wait to be read");
        }
    }
}
