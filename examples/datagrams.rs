//! Datagrams: one socket for all peers, messages that stay whole, nobody to accept; and nobody who says that one was lost.
//!
//!     cargo run --release --example datagrams                       # two peers of its own
//!     cargo run --release --example datagrams -- 127.0.0.1:7000     # then: nc -u 127.0.0.1 7000
//!
//! Waits on a `Poller`, as servers of streams do. In a server of ours: `DatagramProtocol`, `serve --listen udp://`.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pollmark::backends::datagrams::{Inbound, Outbound};
use pollmark::backends::{AsSource, Events, Interest, Poller, Registry, Token, Trigger};

/// Of a longer one the rest is lost: the receiver has to know the longest there is.
const LONGEST: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1);
    let socket = UdpSocket::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    socket.set_nonblocking(true)?;
    let listening = socket.local_addr()?;
    println!("waiting at {listening}");
    let visit = address.is_none().then(|| thread::spawn(move || visit(listening)));

    let mut poller = Registry::builtin().default_entry()?.open()?;
    poller.add(socket.as_source(), Token(0), Interest::READABLE, Trigger::Level)?;
    let mut events = Events::with_capacity(1);
    let (mut inbound, mut outbound) = (Inbound::new(LONGEST), Outbound::default());
    while !visit.as_ref().is_some_and(JoinHandle::is_finished) {
        poller.wait(&mut events, Some(Duration::from_millis(100)))?;
        match inbound.receive(socket.as_source()) {
            Ok(_) => {}
            // Nothing was there after all, or word that an answer has found nobody: neither ends a server.
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => println!("of an earlier one: {error}"),
        }
        for came in inbound.iter() {
            let Some(from) = came.from else { continue }; // a Unix socket without a name: there is nowhere to answer to
            println!("{} bytes from {from}{}", came.bytes.len(), if came.is_truncated { ", cut" } else { "" });
            outbound.push(from, came.bytes);
        }
        // What finds no room is dropped, and whoever misses it has to ask again: that is how it is with datagrams.
        if outbound.send(socket.as_source()).is_err() || outbound.left() > 0 {
            println!("an answer was dropped");
        }
        outbound.clear();
    }
    visit.map_or(Ok(()), |visit| visit.join().expect("nothing in it panics").map_err(Into::into))
}

/// Two peers, whose messages lie in one queue and are told apart by their addresses.
fn visit(address: SocketAddr) -> std::io::Result<()> {
    let peers = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    for (peer, words) in peers.iter().zip([["one", "two"], ["", "three"]]) {
        peer.set_read_timeout(Some(Duration::from_secs(10)))?;
        for word in words {
            peer.send_to(word.as_bytes(), address)?; // two writes are two messages, and one of nothing is a message, too
        }
    }
    let mut buffer = [0; LONGEST];
    for (peer, words) in peers.iter().zip([["one", "two"], ["", "three"]]) {
        for word in words {
            let (count, from) = peer.recv_from(&mut buffer)?;
            assert_eq!((&buffer[..count], from), (word.as_bytes(), address));
        }
    }
    println!("all four came back, each as it was");
    Ok(())
}
