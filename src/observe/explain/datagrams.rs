//! Datagrams: messages with borders and without promises, and how a program makes the promises itself.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use socket2::SockRef;

use super::experiment::{CALL, PATIENCE, again};
use super::{Knob, Topic};
use crate::observe::counter;

pub(super) const DATAGRAMS: Topic = Topic {
    name: "datagrams",
    question: "What is different if the same bytes are sent over UDP?",
    prediction: "Three sends are three receives, each whole, and a receive without room loses the rest of its message. \
                 What a full buffer has no room for is dropped, and the sender is told nothing.",
    knobs: &[
        Knob {
            name: "messages",
            default: 2_000,
            range: (500, 20_000),
            meaning: "how many messages of 1,000 bytes nobody reads",
        },
        Knob {
            name: "receive_buffer",
            default: 65_536,
            range: (4_096, 1 << 20),
            meaning: "bytes of SO_RCVBUF of the receiver",
        },
    ],
    read_on: &["udp(7)", "recv(2): MSG_TRUNC", "RFC 768", "`pollmark serve --listen udp://127.0.0.1:7000`"],
    run: |experiment| {
        let messages = experiment.size("messages");
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        receiver.set_read_timeout(Some(PATIENCE))?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        sender.connect(receiver.local_addr()?)?;
        experiment.note(format!(
            "a socket at {}, and one at {} that sends to it",
            receiver.local_addr()?,
            sender.local_addr()?
        ));
        let mut sizes = Vec::new();
        for size in [5, 7, 11] {
            experiment.call(format!("send({size} bytes)"), || sender.send(&vec![b'x'; size]), usize::to_string)?;
        }
        for _ in 0..3 {
            let mut buffer = [0; 2_000];
            let size = experiment.call(
                "recv(2000 bytes at most)",
                || again(|| receiver.recv(&mut buffer)),
                usize::to_string,
            )?;
            sizes.push(size.to_string());
        }
        experiment.claim("sizes received, of three sends", "5 7 11".to_owned(), sizes.join(" "));
        experiment.call("send(11 bytes)", || sender.send(&[b'x'; 11]), usize::to_string)?;
        let mut small = [MaybeUninit::uninit(); 4];
        let part = experiment.call(
            "recv(4 bytes at most)",
            || again(|| SockRef::from(&receiver).recv(&mut small)),
            usize::to_string,
        );
        receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
        let rest = experiment.call("recv again", || again(|| receiver.recv(&mut [0; 16])), usize::to_string);
        experiment.claim("the rest of a message without room is there", false, rest.is_ok());
        let part = part.map_or_else(|error| error.to_string(), |size| format!("{size} bytes"));

        SockRef::from(&receiver).set_recv_buffer_size(experiment.size("receive_buffer"))?;
        let dropped = counter("RcvbufErrors").ok();
        let mut accepted = 0;
        for _ in 0..messages {
            accepted += usize::from(sender.send(&[b'y'; 1_000]).is_ok());
        }
        let dropped = dropped.and_then(|before| Some(counter("RcvbufErrors").ok()?.saturating_sub(before)));
        let mut received = 0;
        while again(|| receiver.recv(&mut [0; 1_500])).is_ok() {
            received += 1;
        }
        experiment.note(format!("{messages} messages of 1000 bytes are sent, and then those received that are there"));
        experiment.figure("sends that succeeded", accepted, CALL);
        experiment.figure("messages received", received, CALL);
        if let Some(dropped) = dropped {
            experiment.figure("RcvbufErrors of this host has risen by", dropped, "/proc/net/snmp");
            let lost = (accepted - received) as u64;
            experiment.claim_that(
                "dropped for want of room, as this host counts",
                format!("{lost} or more"),
                dropped,
                dropped >= lost,
            );
        }
        if cfg!(linux_like) {
            // Others say at times that there is no room to send.
            experiment.claim("sends that succeeded", messages, accepted);
        }
        experiment.claim_that("messages received", format!("fewer than {messages}"), received, received < messages);
        Ok(format!(
            "Messages of 5, 7 and 11 bytes were received as {}; of one of 11 bytes, room for 4 gave {part}, and the \
             rest was gone. Of {messages} messages that were sent without an error {received} were received. Whoever \
             needs the others has to number them, to answer, and to send again: that is what TCP does, and DNS, and \
             QUIC.",
            sizes.join(", "),
        ))
    },
};

pub(super) const REQUEST_REPLY_OVER_UDP: Topic = Topic {
    name: "request-reply-over-udp",
    question: "How does DNS get answers over a network that loses messages?",
    prediction: "Each request has a number and is sent again if no answer with that number comes in time. All are \
                 answered in the end, by more messages than there are requests, and an answer to an older one is not \
                 taken for another.",
    knobs: &[
        Knob { name: "requests", default: 10, range: (1, 100), meaning: "how many requests are made" },
        Knob { name: "lose", default: 3, range: (2, 100), meaning: "of so many messages the server loses one" },
        Knob {
            name: "wait_ms",
            default: 250,
            range: (1, 1_000),
            meaning: "how long an answer is waited for, in ms, before it is asked again",
        },
        Knob {
            name: "tries",
            default: 4,
            range: (1, 10),
            meaning: "how often a request is sent; 1, and some are not answered",
        },
    ],
    read_on: &["RFC 1035, 4.2.1", "RFC 8085, 3.3: Reliability Guidelines", "resolv.conf(5): timeout, attempts"],
    run: |experiment| {
        let (requests, lose, tries) = (experiment.size("requests"), experiment.size("lose"), experiment.size("tries"));
        let wait = Duration::from_millis(experiment.setting("wait_ms"));
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = server.local_addr()?;
        let serving = std::thread::spawn(move || lossy(&server, lose));
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        client.connect(address)?;
        experiment.note(format!("a server at {address} that loses one message of {lose}"));
        let (mut sent, mut answered, mut strange) = (0, 0, 0);
        for number in 0..requests as u16 {
            'tries: for _ in 0..tries {
                client.send(&number.to_be_bytes())?;
                sent += 1;
                client.set_read_timeout(Some(wait))?;
                let mut answer = [0; 2];
                while let Ok(2) = again(|| client.recv(&mut answer)) {
                    if u16::from_be_bytes(answer) == number {
                        answered += 1;
                        break 'tries;
                    }
                    strange += 1;
                }
            }
        }
        // At an empty message it ends.
        client.send(&[])?;
        let lost = serving.join().map_err(|_| io::Error::other("the server has panicked"))??;
        experiment.note(format!("{requests} requests, each sent {tries} times at most, {} ms apart", wait.as_millis()));
        experiment.figure("messages sent", sent, CALL);
        experiment.figure("messages the server lost", lost, CALL);
        experiment.figure("answers to an older request", strange, CALL);
        experiment.claim("requests answered", requests, answered);
        experiment.claim_that("messages sent", format!("{} or more", requests + lost), sent, sent >= requests + lost);
        Ok(format!(
            "{requests} requests took {sent} messages, of which {lost} were lost, and {answered} were answered. A \
             number told the answers apart, of which {strange} came late. How long to wait before sending again is a \
             guess: too short, and the network carries everything twice; too long, and each loss is seen by a user."
        ))
    },
};

/// Answers each message by itself, but for those it loses; how many that were.
fn lossy(server: &UdpSocket, lose: usize) -> io::Result<usize> {
    server.set_read_timeout(Some(PATIENCE))?;
    let (mut seen, mut lost) = (0, 0);
    loop {
        let mut message = [0; 16];
        let (size, peer) = again(|| server.recv_from(&mut message))?;
        if size == 0 {
            return Ok(lost);
        }
        seen += 1;
        if seen % lose == 0 {
            lost += 1;
        } else {
            server.send_to(&message[..size], peer)?;
        }
    }
}

pub(super) const SERIALIZATION: Topic = Topic {
    name: "serialization",
    question: "A program has a number, and the network takes bytes. What has to be agreed on?",
    prediction: "How many bytes there are and in which order: read in the other order, the same four bytes are another \
                 number. And a text needs its length, in bytes and not in letters.",
    knobs: &[
        Knob { name: "number", default: 1, range: (0, u32::MAX as u64), meaning: "the number that is sent" },
        Knob { name: "swap", default: 0, range: (0, 1), meaning: "1: the receiver reads it in the other order" },
    ],
    read_on: &["byteorder(3): htonl", "RFC 1700: network byte order", "RFC 4506: XDR"],
    run: |experiment| {
        let number = experiment.setting("number") as u32;
        let (_listener, client, server) = experiment.pair()?;
        let word = "Grüße";
        let message = [&number.to_be_bytes()[..], &(word.len() as u16).to_be_bytes(), word.as_bytes()].concat();
        experiment.send(&client, &message)?;
        experiment.arrived(&server, message.len())?;
        let bytes = experiment.receive(&server, message.len())?;
        let hexadecimal = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        experiment.figure("the bytes", &hexadecimal, CALL);
        let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "fewer bytes than were sent"));
        };
        let (right, wrong) = (u32::from_be_bytes(*head), u32::from_le_bytes(*head));
        let read = if experiment.setting("swap") == 1 { wrong } else { right };
        let length = rest.first_chunk::<2>().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        let text = rest.get(2..2 + length).map(String::from_utf8_lossy).unwrap_or_default();
        experiment.claim("the number read", number, read);
        experiment.claim("the text read", word, &*text);
        experiment.claim_that("its length in bytes", "more than its letters", length, length > word.chars().count());
        Ok(format!(
            "The number {number} and the text \"{text}\" were the bytes {hexadecimal}. In the order they were written \
             in, the first four are {right}, and in the other {wrong}. The text has {} letters and {length} bytes: \
             what is agreed on is bytes, and a protocol says of each of them what it means.",
            text.chars().count(),
        ))
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lossy_server_loses_as_often_as_it_says() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = server.local_addr().expect("bound");
        let serving = std::thread::spawn(move || lossy(&server, 3));
        let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
        (0..7).for_each(|_| assert_eq!(client.send_to(b"x", address).expect("sent"), 1));
        client.send_to(b"", address).expect("sent");
        assert_eq!(serving.join().expect("it ends").expect("it works"), 2);
    }
}
