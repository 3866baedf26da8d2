//! A server at work, clients that know what they lost, and what must hold when both are done.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pollmark::backends::conformance::fault::{Faults, Kind, Tally};
use pollmark::server::{Account, Address, Control, Server, Stats, UnixName};
use socket2::{SockAddr, Socket};

/// A server on a thread of its own. When the test is done with it, it is stopped and its account checked.
pub(crate) struct Running {
    pub(crate) control: Control,
    pub(crate) addresses: Vec<Address>,
    faults: Option<Faults>,
    patience: Duration,
    herd: u64,
    thread: Option<JoinHandle<std::io::Result<Account>>>,
}

impl Running {
    pub(crate) fn start(server: Box<dyn Server>, faults: Option<Faults>, patience: Duration) -> Running {
        let addresses = server.addresses().to_vec();
        let control = server.control();
        let thread = Some(std::thread::spawn(move || server.run_to_account()));
        Running { control, addresses, faults, patience, herd: 0, thread }
    }

    /// Each connection may wake so many threads in vain.
    pub(crate) fn with_herd(mut self, herd: u64) -> Running {
        self.herd = herd;
        self
    }

    /// The first of its addresses, where that is of TCP.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))] // under faults only what is of Linux alone asks for it
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.addresses[0].tcp().expect("TCP")
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_to(&self.addresses[0])
    }

    pub(crate) fn connect_to(&self, address: &Address) -> Client {
        Client::new(connect(address).expect("the server listens"), self.patience)
    }

    /// Whether anybody can connect to it.
    pub(crate) fn listens(&self) -> bool {
        connect(&self.addresses[0]).is_ok()
    }

    /// A client at the end of a connection that the server has not accepted, and gets otherwise.
    pub(crate) fn adopted(&self) -> Client {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        self.control.adopt(listener.accept().expect("queued").0.into());
        Client::new(client.into(), self.patience)
    }

    pub(crate) fn stop(mut self) -> Stats {
        self.end().expect("stopped once")
    }

    /// Whether it serves no more, without having been stopped here.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn stats(&self) -> Stats {
        self.control.stats().expect("the server runs")
    }

    /// What has gone wrong on purpose until now.
    pub(crate) fn tally(&self) -> Tally {
        self.faults.as_ref().map_or_else(Tally::default, Faults::tally)
    }

    /// Whether a receive may have found nothing where there was something. Then a server that drains thinks that it has
    /// read to the end, and may leave some of what it was asked unanswered.
    pub(crate) fn may_be_misled(&self) -> bool {
        self.tally().of(Kind::WouldBlock) > 0
    }

    /// Waits until the server's own account satisfies `what`. With a connection killed by a fault it may never come to
    /// that, and the case is lost.
    pub(crate) fn until(&self, what: &str, satisfied: impl Fn(&Stats) -> bool) -> Result<Stats, Lost> {
        let mut killed = None;
        let stats = self.settled(what, |stats| {
            killed = self.faults.as_ref().and_then(|faults| faults.victims().pop());
            killed.is_some() || satisfied(stats)
        });
        let how = || "it may have ended by a fault, and the account is off by it".to_owned();
        killed.map_or(Ok(stats), |peer| Err(Lost { peer: Some(peer), how: how() }))
    }

    /// As [`until`](Running::until), for what must come whoever was killed.
    pub(crate) fn settled(&self, what: &str, mut satisfied: impl FnMut(&Stats) -> bool) -> Stats {
        let began = Instant::now();
        loop {
            let stats = self.stats();
            if satisfied(&stats) {
                return stats;
            }
            assert!(began.elapsed() < self.patience, "never came to this: {what}; {stats:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end(&mut self) -> Option<Stats> {
        let thread = self.thread.take()?;
        self.control.stop();
        let ended = thread.join();
        if std::thread::panicking() {
            return None; // whoever panicked has the better message
        }
        let account = ended.expect("the server does not panic").expect("the server serves");
        let stats = account.total;
        let served = |stats: &Stats| [stats.accepted, stats.refused, stats.closed, stats.bytes_in, stats.bytes_out];
        let by_thread = account.threads.iter().copied().reduce(|sum, one| sum + one).expect("a thread");
        assert_eq!(served(&stats), served(&by_thread), "the threads' parts are not the whole: {account:?}");
        assert_eq!((stats.open, stats.accepted), (0, stats.closed), "a slot is left: {stats:?}");
        self.assert_no_spin(&stats);
        // Each wait of a loop is counted once, by what it returned; one that failed is in the poller's ledger alone.
        let (batches, ledger) = (stats.batches, stats.ledger);
        let least = batches.iter().map(|(least, waits)| least * waits).sum::<u64>();
        assert!(batches.waits() <= ledger.waits && least <= ledger.events, "waits counted that were not: {stats:?}");
        Some(stats)
    }

    /// Every wait must have had a reason: a call that did something, or a fault.
    fn assert_no_spin(&self, stats: &Stats) {
        const SLACK: u64 = 200; // for deadlines and pauses, a few waits each
        let faults = self.tally().total();
        let calls = stats.accept_calls + stats.read_calls + stats.write_calls + stats.other_calls;
        // A fault may be followed by a wait that finds nothing, and by one that finds what was kept back. What was closed
        // is told of while a child that other tests spawn has not come to its exec(2).
        let (waits, most) = (stats.ledger.waits, SLACK + calls + 4 * faults + stats.stale);
        assert!(waits <= most, "spun: {waits} waits for {calls} calls and {faults} faults: {stats:?}");
        let most = SLACK + faults + self.herd * (stats.accepted + stats.refused);
        assert!(stats.spurious <= most, "spun: {} events of nothing, {faults} faults: {stats:?}", stats.spurious);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection that the server lost, or may have lost, and how that was found.
pub(crate) struct Lost {
    /// The end that the server did not hold, if it has an address.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) how: String,
}

// Written for whoever reads a failed test.
impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "the connection of {peer} was lost: {}", self.how),
            None => write!(f, "a connection was lost: {}", self.how),
        }
    }
}

/// One connection to a server.
pub(crate) struct Client {
    stream: Socket,
    address: Option<SocketAddr>,
}

impl Client {
    pub(crate) fn new(stream: Socket, patience: Duration) -> Client {
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        stream.set_write_timeout(Some(patience)).expect("a timeout");
        let address = stream.local_addr().expect("connected").as_socket();
        Client { stream, address }
    }

    /// For what only the socket itself can do.
    pub(crate) fn stream(&mut self) -> &mut Socket {
        &mut self.stream
    }

    /// A second handle, for another thread.
    pub(crate) fn handle(&self) -> Client {
        Client { stream: self.stream.try_clone().expect("a second handle"), address: self.address }
    }

    /// Whether its end is known by an address, and can be reset: not on a Unix socket.
    pub(crate) fn has_address(&self) -> bool {
        self.address.is_some()
    }

    /// Whether it is told of a reset: not on a Unix socket, and under wine, which asks for a socket's error and keeps
    /// it to itself, only now and then.
    pub(crate) fn is_told_of_resets(&self) -> bool {
        self.has_address() && pollmark::backends::wine().is_none()
    }

    /// Ends the connection, when it is dropped, by a reset, where there is such a thing.
    pub(crate) fn reset_on_close(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.stream.write_all(bytes).map_err(|error| self.lost("written to", &error))
    }

    pub(crate) fn shut_down(&mut self) -> Result<(), Lost> {
        self.stream.shutdown(Shutdown::Write).map_err(|error| self.lost("shut down", &error))
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<(), Lost> {
        self.stream.read_exact(buffer).map_err(|error| self.lost("read from", &error))
    }

    /// Reads until the server closes in order.
    pub(crate) fn read_to_end(&mut self) -> Result<Vec<u8>, Lost> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.lost("read to the end", &error)),
        }
    }

    /// One byte, or `None` at the end: in order or by a reset.
    pub(crate) fn read_byte_or_end(&mut self) -> Option<u8> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => None,
            Ok(_) => Some(byte[0]),
            Err(error) => {
                let _ = self.lost("read from", &error); // a panic unless it is an end
                None
            }
        }
    }

    /// A line without its end, or what came before the end of the stream.
    pub(crate) fn line(&mut self) -> String {
        let mut text = Vec::new();
        while let Some(byte) = self.read_byte_or_end().filter(|byte| *byte != b'\n') {
            text.push(byte);
        }
        String::from_utf8(text).expect("text")
    }

    /// The line that must come, unless the connection is lost.
    pub(crate) fn expect_line(&mut self, expected: &str) -> Result<(), Lost> {
        match self.line() {
            line if line == expected => Ok(()),
            line if expected.starts_with(&line) => {
                Err(self.gone(&format!("{line:?} came of {expected:?}, then an end")))
            }
            line => panic!("{line:?} came instead of {expected:?}"),
        }
    }

    /// Sends, and expects the same back.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.write(bytes)?;
        let mut echoed = vec![0; bytes.len()];
        self.read(&mut echoed)?;
        assert!(echoed == bytes, "the echo differs");
        Ok(())
    }

    /// The server's end is gone, which this one had no reason to expect.
    pub(crate) fn gone(&self, how: &str) -> Lost {
        Lost { peer: self.address, how: how.to_owned() }
    }

    /// Silence is never forgiven, whatever has been injected.
    pub(crate) fn lost(&self, what: &str, error: &std::io::Error) -> Lost {
        use ErrorKind::*;
        let is_an_end =
            matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | NotConnected);
        assert!(is_an_end, "a client cannot be {what}: {error}");
        self.gone(&format!("could not be {what}: {error}"))
    }
}

/// A client's socket, connected to `address`.
pub(crate) fn connect(address: &Address) -> std::io::Result<Socket> {
    let name = match address {
        Address::Unix(UnixName::Path(path)) => SockAddr::unix(path)?,
        Address::Unix(UnixName::Abstract(name)) => SockAddr::unix(format!("\0{name}"))?,
        address => return Ok(TcpStream::connect(address.tcp().expect("TCP"))?.into()),
    };
    let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.connect(&name).map(|()| socket)
}
