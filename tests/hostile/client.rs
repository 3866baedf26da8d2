//! A client, for better or worse, and what it has to know of a server.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::hosted::PATIENCE;
use crate::spoken::Spoken;

/// Where a server is to be found, and how it is spoken to: all that a peer has to know.
#[derive(Clone, Copy)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) spoken: Spoken,
}

impl Door {
    /// A client that has not said anything.
    pub(crate) fn connect(self) -> Peer {
        Peer::connect(self.address)
    }

    /// One that has been greeted, if that is the custom.
    pub(crate) fn guest(self) -> Peer {
        let mut peer = self.connect();
        peer.greet(self.spoken);
        peer
    }
}

/// A client, for better or worse.
pub(crate) struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Peer { stream: BufReader::new(stream) }
    }

    /// Its own buffers are small, so that what is under way is in the server's hands.
    pub(crate) fn with_small_buffers(self) -> Peer {
        let socket = socket2::SockRef::from(self.stream());
        socket.set_recv_buffer_size(32 * 1024).and(socket.set_send_buffer_size(32 * 1024)).expect("a socket");
        self
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub(crate) fn greet(&mut self, spoken: Spoken) {
        self.says(spoken.greeting());
        spoken.hear_greeting(&mut self.stream).expect("greeted");
    }

    pub(crate) fn says(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).expect("the server reads");
    }

    /// Hears the answer to the request of this number.
    pub(crate) fn hears(&mut self, spoken: Spoken, number: u32) {
        spoken.hear(number, &mut self.stream).expect("an answer");
    }

    pub(crate) fn exchange(&mut self, spoken: Spoken, number: u32) {
        self.says(&spoken.request(number));
        self.hears(spoken, number);
    }

    /// Will say no more.
    pub(crate) fn shut_down(&self) {
        self.stream().shutdown(Shutdown::Write).expect("connected");
    }

    /// Goes, by a reset.
    pub(crate) fn resets(self) {
        socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)).expect("TCP has SO_LINGER");
    }

    /// Takes in what comes until the server ends the connection, in order or not. How much that was.
    pub(crate) fn hears_to_the_end(&mut self) -> u64 {
        match io::copy(&mut self.stream, &mut io::sink()) {
            Ok(bytes) => bytes,
            Err(error) if is_an_end(&error) => 0,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }

    /// All that comes until the server ends the connection in order.
    pub(crate) fn hears_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("an end in order");
        bytes
    }
}

/// How a connection ends that is ended by the other side.
pub(crate) fn is_an_end(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | NotConnected)
}
