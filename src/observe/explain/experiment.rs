//! What an experiment does and notes: a call, its result, what the kernel shows, and what of the prediction held.
//!
//! An experiment never looks once and hopes: what the kernel does by itself is waited for, and only a failure waits
//! long. So what it claims are states and counts, which a busy machine does not change.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Event, Registry, raw};
use socket2::{Domain, Protocol, SockAddr, Type};

use super::{Claim, Evidence, Settings, Step};
use crate::observe::{Socket, Sockets};

/// How long the kernel, and a machine that has much else to do, may take for something that is certain.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Where a figure was read.
pub(super) const SOCK_DIAG: &str = "sock_diag";
pub(super) const CALL: &str = "the call";

pub(super) struct Experiment<'a> {
    pub(super) registry: &'a Registry,
    settings: &'a Settings,
    told: &'a mut dyn FnMut(&Step),
    steps: Vec<Step>,
    claims: Vec<Claim>,
    /// How many of the steps have been told.
    over: usize,
}

impl<'a> Experiment<'a> {
    pub(super) fn new(registry: &'a Registry, settings: &'a Settings, told: &'a mut dyn FnMut(&Step)) -> Self {
        Experiment { registry, settings, told, steps: Vec::new(), claims: Vec::new(), over: 0 }
    }

    pub(super) fn finish(mut self) -> (Vec<Step>, Vec<Claim>) {
        self.tell();
        (self.steps, self.claims)
    }

    fn tell(&mut self) {
        for step in &self.steps[self.over..] {
            (self.told)(step);
        }
        self.over = self.steps.len();
    }

    pub(super) fn setting(&self, name: &str) -> u64 {
        self.settings.get(name)
    }

    pub(super) fn size(&self, name: &str) -> usize {
        self.setting(name) as usize
    }

    /// Makes a call, after the step before it has been told, and notes what it returned: as `result` puts it, or its
    /// error, which may be what is to be seen.
    pub(super) fn call<T>(
        &mut self,
        act: impl Into<String>,
        make: impl FnOnce() -> io::Result<T>,
        result: impl FnOnce(&T) -> String,
    ) -> io::Result<T> {
        self.tell();
        let made = make();
        let outcome = match &made {
            Ok(value) => result(value),
            Err(error) => error.to_string(),
        };
        self.steps.push(Step { act: act.into(), outcome, evidence: Vec::new() });
        made
    }

    /// Notes something that is no call.
    pub(super) fn note(&mut self, act: impl Into<String>) {
        self.tell();
        self.steps.push(Step { act: act.into(), outcome: String::new(), evidence: Vec::new() });
    }

    pub(super) fn evidence(&mut self, evidence: Evidence) {
        self.steps.last_mut().expect("evidence is of a step").evidence.push(evidence);
    }

    pub(super) fn figure(&mut self, what: impl Into<String>, value: impl Display, source: &'static str) {
        self.evidence(Evidence::Figure { what: what.into(), value: value.to_string(), source });
    }

    pub(super) fn socket(&mut self, whose: impl Into<String>, socket: &Socket) {
        self.evidence(Evidence::Socket { whose: whose.into(), socket: Box::new(socket.clone()) });
    }

    /// That `seen` is what was predicted.
    pub(super) fn claim<T: PartialEq + Display>(&mut self, what: impl Into<String>, predicted: T, seen: T) {
        let held = predicted == seen;
        let (what, predicted, seen) = (what.into(), predicted.to_string(), seen.to_string());
        self.claims.push(Claim { what, predicted, seen, held });
    }

    /// That it held, where more than one thing seen would do.
    pub(super) fn claim_that(
        &mut self,
        what: impl Into<String>,
        predicted: impl Display,
        seen: impl Display,
        held: bool,
    ) {
        let (what, predicted, seen) = (what.into(), predicted.to_string(), seen.to_string());
        self.claims.push(Claim { what, predicted, seen, held });
    }

    /// That a call failed so. `outcome` is how it ended.
    pub(super) fn claim_error<T>(&mut self, what: impl Into<String>, kind: io::ErrorKind, outcome: &io::Result<T>) {
        let seen = match outcome {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.kind().to_string(),
        };
        self.claim(what, kind.to_string(), seen);
    }

    /// Whether this system shows its sockets; where it does not, that is noted, and what would be read there is left
    /// out.
    pub(super) fn shows_sockets(&mut self) -> bool {
        if cfg!(linux_like) {
            return true;
        }
        let what = "the kernel's list of sockets: not visible on this OS";
        self.evidence(Evidence::NotVisible(what.to_owned()));
        false
    }

    /// Looks until there is something to see.
    pub(super) fn until<T>(&self, what: &str, look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        until(what, look)
    }

    /// The kernel's view of the end at `local` of a connection with `peer`, as soon as it is as wanted.
    pub(super) fn end(
        &mut self,
        what: &str,
        local: SocketAddr,
        peer: SocketAddr,
        wanted: impl Fn(&Socket) -> bool,
    ) -> io::Result<Socket> {
        until(what, || {
            let sockets = Sockets::at(local.port()).with_figures().list()?;
            Ok(sockets.into_iter().find(|one| one.local == local && one.peer == peer && wanted(one)))
        })
    }

    /// The kernel's view of whoever listens at `address`, as soon as it is as wanted.
    pub(super) fn listener(
        &mut self,
        what: &str,
        address: SocketAddr,
        wanted: impl Fn(&Socket) -> bool,
    ) -> io::Result<Socket> {
        self.end(what, address, (Ipv4Addr::UNSPECIFIED, 0).into(), wanted)
    }

    /// socket(2), bind(2), listen(2), at a free port.
    pub(super) fn listen(&mut self, backlog: u64) -> io::Result<(TcpListener, SocketAddr)> {
        let socket = self.stream_socket()?;
        self.bind(&socket, (Ipv4Addr::LOCALHOST, 0).into())?;
        let number = raw(socket.as_source());
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        self.call(format!("listen({number}, {backlog})"), || socket.listen(backlog), |()| "0".to_owned())?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    pub(super) fn stream_socket(&mut self) -> io::Result<socket2::Socket> {
        self.call(
            "socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)",
            || socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)),
            |socket| raw(socket.as_source()).to_string(),
        )
    }

    pub(super) fn bind(&mut self, socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
        let number = raw(socket.as_source());
        let bound =
            |address: Option<SocketAddr>| address.map_or("0".to_owned(), |address| format!("0, it is {address}"));
        self.call(
            format!("bind({number}, {address})"),
            || socket.bind(&SockAddr::from(address)),
            |()| bound(socket.local_addr().ok().and_then(|one| one.as_socket())),
        )
    }

    /// A connection to `address`, and where it comes from.
    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
        let client = self.call(
            format!("connect({address})"),
            || TcpStream::connect_timeout(&address, PATIENCE),
            |client| format!("{}, from {}", raw(client.as_source()), here(client)),
        )?;
        let local = client.local_addr()?;
        Ok((client, local))
    }

    pub(super) fn accept(&mut self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        self.call(
            format!("accept({})", raw(listener.as_source())),
            || listener.accept(),
            |(accepted, peer)| format!("{}, with {peer}", raw(accepted.as_source())),
        )
    }

    /// A listener, a client, and the server's end of their connection. Their calls are one step.
    pub(super) fn pair(&mut self) -> io::Result<(TcpListener, TcpStream, TcpStream)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let client = TcpStream::connect_timeout(&address, PATIENCE)?;
        let (server, peer) = listener.accept()?;
        if peer != client.local_addr()? {
            return Err(io::Error::other("somebody else has connected to this experiment: try again"));
        }
        for end in [&client, &server] {
            // Only a failure waits so long.
            end.set_read_timeout(Some(PATIENCE))?;
            end.set_write_timeout(Some(PATIENCE))?;
        }
        self.call(
            format!("a connection from {peer} to {address}"),
            || Ok((raw(client.as_source()), raw(server.as_source()))),
            |(client, server)| format!("{client} is the client's end, {server} the server's"),
        )?;
        Ok((listener, client, server))
    }

    /// Closes it; `who` is for the reader.
    pub(super) fn close(&mut self, source: impl AsSource, who: &str) {
        let act = format!("close({}), {who}", raw(source.as_source()));
        self.tell();
        drop(source);
        self.steps.push(Step { act, outcome: "0".to_owned(), evidence: Vec::new() });
    }

    pub(super) fn send(&mut self, stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        use std::io::Write;
        let number = raw(stream.as_source());
        let mut stream = stream;
        self.call(format!("send({number}, {} bytes)", bytes.len()), || again(|| stream.write(bytes)), usize::to_string)
    }

    pub(super) fn receive(&mut self, stream: &TcpStream, room: usize) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let number = raw(stream.as_source());
        let mut stream = stream;
        let mut buffer = vec![0; room];
        let count = self.call(
            format!("recv({number}, {room} bytes at most)"),
            || again(|| stream.read(&mut buffer)),
            usize::to_string,
        )?;
        buffer.truncate(count);
        Ok(buffer)
    }

    /// Until so many bytes can be read, without reading them.
    pub(super) fn arrived(&self, stream: &TcpStream, bytes: usize) -> io::Result<()> {
        let mut buffer = vec![0; bytes];
        until("bytes that were sent", || match again(|| stream.peek(&mut buffer)) {
            Ok(arrived) => Ok((arrived >= bytes).then_some(())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        })
    }
}

/// Makes a call until it is not interrupted: one that has a timeout is, whenever this process was stopped for a moment.
pub(super) fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Looks until there is something to see.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            let message = format!("waited {} s in vain for {what}", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn here(stream: &TcpStream) -> String {
    stream.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// What a program is told by an event.
pub(super) fn told(event: &Event) -> String {
    let facts = [
        (event.readable(), "readable"),
        (event.writable(), "writable"),
        (event.read_closed(), "read_closed"),
        (event.error(), "error"),
    ];
    facts.iter().filter(|(is, _)| *is).map(|(_, fact)| *fact).collect::<Vec<_>>().join(", ")
}
