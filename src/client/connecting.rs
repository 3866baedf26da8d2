//! A connection being made: one address of a name after the other, within one deadline.

use std::error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, Events, Interest, OwnedSource, Poller, Token, Trigger};

use super::{Endpoint, Kernel, Net, Target};

/// Connects to the first address of `endpoint` that can be had within `timeout`, waiting by `poller`; [`Duration::MAX`]
/// waits for as long as the system does. The socket is non-blocking, and no longer registered.
///
/// The addresses are tried in their order. Each may take an equal part of the time that is left, so that one which does
/// not answer leaves some to those after it.
///
/// The poller should have no other source. What one reports meanwhile is passed over: of a level-triggered one it will
/// be reported again, but while it is ready this wait does not sleep. Whoever has others to serve uses [`Connecting`].
///
/// ```
/// use pollmark::client::connect;
/// use pollmark_backends::Registry;
/// use std::net::{TcpListener, TcpStream};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let mut poller = Registry::builtin().default_entry()?.open()?;
/// let stream = TcpStream::from(connect(&mut poller, &address.into(), Duration::from_secs(5))?);
/// assert_eq!(stream.peer_addr()?, address);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ConnectError`], with the reason for each address.
pub fn connect<P>(poller: &mut P, endpoint: &Endpoint, timeout: Duration) -> Result<OwnedSource, ConnectError>
where
    P: Poller + ?Sized,
{
    const TOKEN: Token = Token::new(u32::MAX, 0);
    let mut events = Events::with_capacity(16);
    let mut connecting = Connecting::begin(poller, &Kernel, endpoint, TOKEN, timeout, Instant::now())?;
    loop {
        let sleep = connecting.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match poller.wait(&mut events, sleep) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(connecting.fail(poller, error)),
            _ => {}
        }
        let now = Instant::now();
        let due = connecting.deadline().is_some_and(|deadline| deadline <= now);
        if !due && events.iter().all(|event| event.token() != TOKEN) {
            continue;
        }
        if let Some(source) = connecting.advance(poller, &Kernel, now)? {
            let _ = poller.remove(source.as_source()); // registered by `advance`, and nowhere else removed
            return Ok(source);
        }
    }
}

/// The same step by step, for a loop that has other sources to serve.
///
/// It registers its socket as the token it was given, level-triggered and for [`Interest::WRITABLE`], and that of the
/// next address as the same. [`advance`](Connecting::advance) is to be called when an event of the token came, or when
/// the [`deadline`](Connecting::deadline) has come, always with the same poller.
#[derive(Debug)]
pub struct Connecting {
    endpoint: Endpoint,
    token: Token,
    timeout: Duration,
    /// When the time of all addresses together is over.
    over: Option<Instant>,
    source: Option<OwnedSource>,
    /// How many addresses were tried, the present one included, and when its time is over.
    tried: usize,
    deadline: Option<Instant>,
    failures: Vec<Failure>,
}

impl Connecting {
    /// Begins with the first address. All may take `timeout` from `now`.
    ///
    /// # Errors
    /// [`ConnectError`] if every address fails at once.
    pub fn begin<P, N>(
        poller: &mut P,
        net: &N,
        endpoint: &Endpoint,
        token: Token,
        timeout: Duration,
        now: Instant,
    ) -> Result<Connecting, ConnectError>
    where
        P: Poller + ?Sized,
        N: Net,
    {
        let mut connecting = Connecting {
            endpoint: endpoint.clone(),
            token,
            timeout,
            over: now.checked_add(timeout),
            source: None,
            tried: 0,
            deadline: None,
            failures: Vec::new(),
        };
        connecting.try_next(poller, net, now)?;
        Ok(connecting)
    }

    /// Looks how it stands: the connected socket, still registered; or `None` if it takes longer, at this address or at
    /// the next.
    ///
    /// # Errors
    /// [`ConnectError`] when no address is left, or no time.
    pub fn advance<P, N>(&mut self, poller: &mut P, net: &N, now: Instant) -> Result<Option<OwnedSource>, ConnectError>
    where
        P: Poller + ?Sized,
        N: Net,
    {
        if let Some(source) = &self.source {
            let error = match net.connected(source.as_source()) {
                Ok(true) => return Ok(self.source.take()),
                Ok(false) if self.deadline.is_none_or(|deadline| now < deadline) => return Ok(None),
                Ok(false) => io::ErrorKind::TimedOut.into(),
                Err(error) => error,
            };
            self.give_up(poller, error);
        }
        self.try_next(poller, net, now)?;
        Ok(None)
    }

    /// When to [`advance`](Connecting::advance) though no event came; never, if there is no timeout.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Gives up, and closes the socket.
    pub fn abandon<P: Poller + ?Sized>(mut self, poller: &mut P) {
        self.close(poller);
    }

    fn try_next<P, N>(&mut self, poller: &mut P, net: &N, now: Instant) -> Result<(), ConnectError>
    where
        P: Poller + ?Sized,
        N: Net,
    {
        while let Some(target) = self.endpoint.targets().get(self.tried) {
            let left = self.over.map(|over| over.saturating_duration_since(now));
            if self.tried > 0 && left == Some(Duration::ZERO) {
                break;
            }
            let addresses = u32::try_from(self.endpoint.targets().len() - self.tried).unwrap_or(u32::MAX);
            self.deadline = left.and_then(|left| now.checked_add(left / addresses));
            self.tried += 1;
            let started = net.connect(target).and_then(|source| {
                poller.add(source.as_source(), self.token, Interest::WRITABLE, Trigger::Level)?;
                Ok(source)
            });
            match started {
                Ok(source) => {
                    self.source = Some(source);
                    return Ok(());
                }
                Err(error) => self.failures.push(Failure { target: target.clone(), error }),
            }
        }
        Err(self.error(now))
    }

    fn give_up<P: Poller + ?Sized>(&mut self, poller: &mut P, error: io::Error) {
        let target = self.endpoint.targets()[self.tried - 1].clone();
        self.failures.push(Failure { target, error });
        self.close(poller);
    }

    fn close<P: Poller + ?Sized>(&mut self, poller: &mut P) {
        if let Some(source) = self.source.take() {
            let _ = poller.close(source); // closed all the same
        }
    }

    /// The wait itself failed.
    fn fail<P: Poller + ?Sized>(mut self, poller: &mut P, error: io::Error) -> ConnectError {
        self.give_up(poller, error);
        self.over = None;
        self.error(Instant::now())
    }

    fn error(&mut self, now: Instant) -> ConnectError {
        let in_time = self.over.is_none_or(|over| now < over);
        ConnectError {
            endpoint: self.endpoint.clone(),
            failures: std::mem::take(&mut self.failures),
            untried: self.endpoint.targets().len() - self.tried,
            timeout: (!in_time).then_some(self.timeout),
        }
    }
}

/// Why no address of an [`Endpoint`] could be connected to.
///
/// As an [`io::Error`] it is `TimedOut` if the time was over, and otherwise of the kind of the last failure:
/// `ConnectionRefused`, `HostUnreachable`, `NetworkUnreachable`, `AddrNotAvailable` when this host has no port left to
/// come from, `WouldBlock` when a Unix socket's queue is full, or what else the kernel says.
#[derive(Debug)]
pub struct ConnectError {
    endpoint: Endpoint,
    failures: Vec<Failure>,
    untried: usize,
    timeout: Option<Duration>,
}

/// What happened at one address.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// Where.
    pub target: Target,
    /// Why; `TimedOut` if there was no answer in the time it had.
    pub error: io::Error,
}

impl ConnectError {
    /// Of each address that was tried, in order.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The timeout, if the time was over; addresses may then be left untried.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The kind it has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self.failures.last() {
            Some(last) if self.timeout.is_none() => last.error.kind(),
            _ => io::ErrorKind::TimedOut,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}", self.endpoint)?;
        if let Some(timeout) = self.timeout {
            write!(f, " within {timeout:?}")?;
        }
        for (at, Failure { target, error }) in self.failures.iter().enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            if self.endpoint.targets().len() > 1 {
                write!(f, "{target}: ")?;
            }
            match meaning(error.kind()) {
                Some(meaning) => f.write_str(meaning)?,
                None => error.fmt(f)?,
            }
        }
        match self.untried {
            0 => Ok(()),
            untried => write!(f, "; {untried} more not tried"),
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.failures.last().map(|failure| &failure.error as _)
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

/// What is behind the kernel's word, and what to do.
fn meaning(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::TimedOut => "no answer: the host is silent, or the server's queue is full",
        io::ErrorKind::ConnectionRefused => "refused: nobody listens there",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable: there is no way to it",
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => {
            "this host has no address or no port left to come from: a closed connection keeps its port for a minute \
             (TIME_WAIT), so keep connections and use them again, or widen the range of ports"
        }
        io::ErrorKind::WouldBlock => "the server's queue is full: it accepts more slowly than clients come",
        _ => return None,
    })
}
