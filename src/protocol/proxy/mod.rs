//! The PROXY protocol in front of any other: the address of the peer is what a trusted proxy says it is.
//!
//! | idea | file |
//! |---|---|
//! | one connection: the header, then the protocol behind it | this one |
//! | what a header is | `header.rs` |
//! | who is believed | `trusted.rs` |

mod header;
mod trusted;

use std::time::Duration;

use super::{Context, Peer, Post, Protocol};

pub use header::{Header, MOST, Malformed, read};
pub use trusted::Trusted;

/// How long a header may take, unless it is [said otherwise](Proxied::with_patience).
const PATIENCE: Duration = Duration::from_secs(5);

/// A protocol that is reached by way of proxies, each of which says before all else whose connection it passes on: in a
/// header of the PROXY protocol, version 1 or 2 ([specification]).
///
/// A connection of the protocol within begins when its header is complete, and its [`Peer`] is the one the header tells
/// of. Where the header tells of none, that is the proxy itself: it may connect on its own behalf (`LOCAL`), not know
/// for whom (`UNKNOWN`), or have been reached by something else than TCP.
///
/// Nothing is guessed, as the specification demands. On a server of this protocol each connection has to come from one
/// who is [`Trusted`], and to begin with a header; any other is reset: who is not trusted at once, unheard; who is, by
/// the first byte that belongs to no header, or when its patience is over. So one port cannot serve proxies and the
/// public: bind one for each.
///
/// [specification]: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
///
/// ```
/// use pollmark::conn::Connection;
/// use pollmark::protocol::{Echo, Host, Peer, Proxied};
/// use pollmark_backends::Token;
///
/// # fn main() -> std::io::Result<()> {
/// let (mut host, id) = (Host::new(Proxied::new(Echo, "10.0.0.0/8".parse()?)), Token(1));
/// let proxy = Peer::at("10.1.2.3:4000".parse().expect("an address"));
/// let mut connection = Connection::open(&mut host, id, &proxy);
/// connection.receive(&mut host, id, b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\nhello");
/// assert_eq!(connection.outgoing(&host), b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proxied<Q> {
    inner: Q,
    /// Everybody comes by himself, if there are none.
    trusted: Option<Trusted>,
    patience: Duration,
}

/// What is remembered of one connection.
#[derive(Debug)]
pub struct Session<S>(Stage<S>);

#[derive(Debug)]
enum Stage<S> {
    /// The header is still to come, from this peer.
    Header(Peer),
    Open(S),
    Refused,
}

impl<Q: Protocol> Proxied<Q> {
    /// `inner`, behind proxies that are `trusted`. A header may take five seconds.
    pub fn new(inner: Q, trusted: Trusted) -> Proxied<Q> {
        Proxied { inner, trusted: Some(trusted), patience: PATIENCE }
    }

    /// `inner`, behind nobody: no header is expected, nor read. For a server that is to be compiled once, whether it is behind
    /// proxies or not.
    ///
    /// ```
    /// use pollmark::conn::Connection;
    /// use pollmark::protocol::{Echo, Host, Peer, Proxied};
    /// use pollmark_backends::Token;
    ///
    /// let (mut host, id) = (Host::new(Proxied::direct(Echo)), Token(1));
    /// let mut connection = Connection::open(&mut host, id, &Peer::at("10.1.2.3:4000".parse().expect("an address")));
    /// connection.receive(&mut host, id, b"PROXY TCP4");
    /// assert_eq!(connection.outgoing(&host), b"PROXY TCP4");
    /// ```
    pub fn direct(inner: Q) -> Proxied<Q> {
        Proxied { inner, trusted: None, patience: PATIENCE }
    }

    /// Gives a header so much time. The specification advises three seconds at least: a lost segment is repeated by
    /// then.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Proxied<Q> {
        Proxied { patience, ..self }
    }

    /// Reads the header, and begins the connection of the protocol within.
    #[cold]
    fn introduce(
        &mut self,
        session: &mut Session<Q::Session>,
        peer: Peer,
        input: &[u8],
        cx: &mut Context<'_>,
    ) -> usize {
        let header = match read(input) {
            Ok(Some(header)) => header,
            Ok(None) => return 0,
            Err(why) => {
                tracing::debug!(connection = ?cx.connection(), %peer, %why, "refused: what came is no PROXY header");
                session.0 = Stage::Refused;
                cx.abort();
                return input.len();
            }
        };
        let peer = header.source.map_or(peer, Peer::at);
        tracing::debug!(connection = ?cx.connection(), %peer, "introduced by a proxy");
        cx.deadline(None);
        let mut inner = self.inner.open(&peer, cx);
        let mut consumed = header.length;
        let rest = &input[consumed..];
        if cx.is_closing() {
            consumed = input.len();
        } else if !rest.is_empty() {
            let taken = cx.skipping(consumed, |cx| self.inner.received(&mut inner, rest, cx));
            consumed += taken.min(rest.len());
        }
        session.0 = Stage::Open(inner);
        consumed
    }
}

impl<Q: Protocol> Protocol for Proxied<Q> {
    type Session = Session<Q::Session>;

    const ASKS_FOR_PEER: bool = true;

    fn begin(&mut self, post: &Post) {
        self.inner.begin(post);
    }

    fn refusal(&self) -> &'static [u8] {
        self.inner.refusal()
    }

    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> Session<Q::Session> {
        let Some(trusted) = &self.trusted else { return Session(Stage::Open(self.inner.open(peer, cx))) };
        if !trusted.contains(peer) {
            tracing::debug!(connection = ?cx.connection(), %peer, "refused: not a trusted proxy");
            cx.abort();
            return Session(Stage::Refused);
        }
        cx.deadline(Some(self.patience));
        Session(Stage::Header(*peer))
    }

    #[inline]
    fn received(&mut self, session: &mut Session<Q::Session>, input: &[u8], cx: &mut Context<'_>) -> usize {
        match &mut session.0 {
            Stage::Open(inner) => self.inner.received(inner, input, cx),
            Stage::Header(peer) => {
                let peer = *peer;
                self.introduce(session, peer, input, cx)
            }
            Stage::Refused => input.len(),
        }
    }

    fn eof(&mut self, session: &mut Session<Q::Session>, cx: &mut Context<'_>) {
        match &mut session.0 {
            Stage::Open(inner) => self.inner.eof(inner, cx),
            // Whoever only looks whether somebody listens says nothing, and is owed nothing.
            Stage::Header(_) | Stage::Refused => cx.close_when_flushed(),
        }
    }

    fn due(&mut self, session: &mut Session<Q::Session>, cx: &mut Context<'_>) {
        match &mut session.0 {
            Stage::Open(inner) => self.inner.due(inner, cx),
            Stage::Header(peer) => {
                tracing::debug!(connection = ?cx.connection(), %peer, "refused: no PROXY header in time");
                cx.abort();
            }
            Stage::Refused => cx.abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Connection;
    use crate::protocol::{Echo, Host};
    use pollmark_backends::Token;

    const ID: Token = Token(1);
    const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n";

    /// Tells its peer the address it was told, and each input; ends at "bye", in `open` if the peer is at port 1.
    #[derive(Clone)]
    struct Herald;

    impl Protocol for Herald {
        type Session = ();

        fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) {
            cx.send(format!("{peer};").as_bytes());
            cx.deadline(Some(Duration::from_secs(60)));
            if peer.address.is_some_and(|address| address.port() == 1) {
                cx.close_when_flushed();
            }
        }

        fn received(&mut self, _: &mut (), input: &[u8], cx: &mut Context<'_>) -> usize {
            if input == b"bye" {
                cx.close_when_flushed();
            }
            // The last byte is kept.
            cx.send_input(input.len() - 1);
            input.len() - 1
        }
    }

    fn open<Q: Protocol>(inner: Q, from: &str) -> (Host<Proxied<Q>>, Connection<Proxied<Q>>) {
        let trusted = "10.0.0.0/8".parse().expect("a block");
        let mut host = Host::new(Proxied::new(inner, trusted));
        let connection = Connection::open(&mut host, ID, &Peer::at(from.parse().expect("an address")));
        (host, connection)
    }

    fn hear<Q: Protocol>(connection: &mut Connection<Q>, host: &mut Host<Q>) -> String {
        let said = connection.outgoing(host).to_vec();
        connection.sent(host, said.len());
        connection.settle(host);
        String::from_utf8(said).expect("text")
    }

    #[test]
    fn the_protocol_begins_with_the_peer_it_is_told_of_when_the_header_is_whole() {
        for cut in 1..LINE.len() {
            let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
            assert!(matches!(host.take_deadline(), Some(Some(_))), "a header may not take for ever");
            connection.receive(&mut host, ID, &LINE[..cut]);
            assert_eq!((hear(&mut connection, &mut host), host.take_deadline()), (String::new(), None));
            connection.receive(&mut host, ID, &[&LINE[cut..], b"hello"].concat());
            assert_eq!(hear(&mut connection, &mut host), "192.0.2.7:5000;hell");
            assert!(matches!(host.take_deadline(), Some(Some(_))), "the protocol's own deadline stands");
            connection.receive(&mut host, ID, b" you");
            assert_eq!(hear(&mut connection, &mut host), "o yo");
        }
    }

    #[test]
    fn what_comes_with_the_header_is_returned_from_the_right_place() {
        let (mut host, mut connection) = open(Echo, "10.1.2.3:4000");
        connection.receive(&mut host, ID, &[LINE, b"hello"].concat());
        assert_eq!(hear(&mut connection, &mut host), "hello");
        assert_eq!(host.take_deadline(), Some(None), "the header came in time");
        connection.receive(&mut host, ID, b"world");
        assert_eq!(hear(&mut connection, &mut host), "world");
    }

    #[test]
    fn a_protocol_may_end_at_once() {
        let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
        connection.receive(&mut host, ID, b"PROXY TCP4 192.0.2.7 198.51.100.1 1 80\r\nunheard");
        assert_eq!((hear(&mut connection, &mut host), connection.finished()), ("192.0.2.7:1;".to_owned(), true));
        let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
        connection.receive(&mut host, ID, &[LINE, b"bye"].concat());
        assert_eq!((hear(&mut connection, &mut host), connection.finished()), ("192.0.2.7:5000;by".to_owned(), true));
    }

    #[test]
    fn who_speaks_for_nobody_else_is_the_peer_itself() {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        for header in [b"PROXY UNKNOWN\r\n", &local[..]] {
            let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
            connection.receive(&mut host, ID, header);
            assert_eq!(hear(&mut connection, &mut host), "10.1.2.3:4000;");
        }
    }

    #[test]
    fn nobody_is_served_without_a_header_and_trust() {
        let (_, connection) = open(Herald, "11.0.0.1:4000");
        assert!(connection.aborted(), "not trusted, whatever it would say");
        let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
        connection.receive(&mut host, ID, b"GET / HTTP/1.1\r\n");
        assert!(connection.aborted() && connection.outgoing(&host).is_empty());
        let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
        connection.receive(&mut host, ID, &LINE[..20]);
        connection.due(&mut host, ID);
        assert!(connection.aborted(), "it took too long");
        let (mut host, mut connection) = open(Herald, "10.1.2.3:4000");
        connection.receive(&mut host, ID, &LINE[..20]);
        connection.eof(&mut host, ID);
        assert!(connection.finished() && connection.outgoing(&host).is_empty());
    }
}
