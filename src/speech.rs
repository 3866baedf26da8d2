//! What a server is to say, as a value: a protocol by its name, and the proxies it is reached through. It can be passed
//! on to another process, which a protocol itself cannot.

use std::io;

use pollmark_backends::Registry;
use serde::{Deserialize, Serialize};

use crate::mechanism::Mechanism;
#[cfg(feature = "http")]
use crate::protocol::Http;
#[cfg(feature = "ws")]
use crate::protocol::Ws;
use crate::protocol::proxy::Trusted;
use crate::protocol::{Context, Echo, Frame, Peer, Post, Protocol, Proxied, Resp};
use crate::server::{Config, Server, Trace};

/// A protocol, directly or behind proxies. By default echo.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Speech {
    pub(crate) language: Language,
    /// Those that say, by the PROXY protocol, whose connections they pass on; others are refused.
    pub(crate) proxies: Option<Trusted>,
}

/// A protocol of ours, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub(crate) enum Language {
    /// Sends back every byte (RFC 862).
    #[default]
    Echo,
    /// Sends back frames: each message after its length, four bytes, the most significant first.
    Frame,
    /// HTTP/1.1: /plaintext, /json, and /echo for POST.
    #[cfg(feature = "http")]
    Http,
    /// Keeps keys and values, as Redis does.
    Resp,
    /// WebSockets: /echo sends each message back, /broadcast to all.
    #[cfg(feature = "ws")]
    Ws,
}

impl Language {
    /// What each of several processes would have for itself, if its connections have something in common.
    pub(crate) fn state(self) -> Option<&'static str> {
        match self {
            Language::Resp => Some("keys and values"),
            #[cfg(feature = "ws")]
            Language::Ws => Some("a broadcast"),
            _ => None,
        }
    }
}

impl Speech {
    /// Binds a server that speaks so.
    ///
    /// # Errors
    /// As of [`Mechanism::bind`].
    pub(crate) fn bind(
        &self,
        mechanism: &Mechanism,
        registry: &Registry,
        config: Config,
    ) -> io::Result<Box<dyn Server>> {
        match self.language {
            _ if self.proxies.is_some() => self.bind_traced(mechanism, registry, config),
            // What is measured: nothing stands between the loop and the poller.
            Language::Echo => mechanism.bind(registry, config, Echo),
            Language::Frame => mechanism.bind_boxed(registry, config, Frame::default()),
            #[cfg(feature = "http")]
            Language::Http => mechanism.bind_boxed(registry, config, Http::default()),
            Language::Resp => mechanism.bind_boxed(registry, config, Resp::default()),
            #[cfg(feature = "ws")]
            Language::Ws => mechanism.bind_boxed(registry, config, Ws::default()),
        }
    }

    /// As [`bind`](Speech::bind), for a server that tells `tracing` all it does. One is compiled for all
    /// languages, behind proxies or not; behind proxies there is no other.
    ///
    /// # Errors
    /// As of [`Mechanism::bind`].
    pub(crate) fn bind_traced(
        &self,
        mechanism: &Mechanism,
        registry: &Registry,
        config: Config,
    ) -> io::Result<Box<dyn Server>> {
        let protocol = Any::of(self.language);
        let protocol = match &self.proxies {
            Some(trusted) => Proxied::new(protocol, trusted.clone()),
            None => Proxied::direct(protocol),
        };
        mechanism.bind_observed(registry, config, protocol, Trace)
    }
}

/// Any of the languages, as one type: behind proxies, every driver is compiled once for all of them. Each connection
/// takes as much room there as one of the language that remembers most.
#[derive(Clone)]
enum Any {
    Echo(Echo),
    Frame(Frame),
    #[cfg(feature = "http")]
    Http(Http),
    Resp(Resp),
    #[cfg(feature = "ws")]
    Ws(Ws),
}

/// What is remembered of one connection, in the language of the protocol that opened it.
enum Session {
    Echo(<Echo as Protocol>::Session),
    Frame(<Frame as Protocol>::Session),
    #[cfg(feature = "http")]
    Http(<Http as Protocol>::Session),
    Resp(<Resp as Protocol>::Session),
    #[cfg(feature = "ws")]
    Ws(<Ws as Protocol>::Session),
}

impl Any {
    fn of(language: Language) -> Any {
        match language {
            Language::Echo => Any::Echo(Echo),
            Language::Frame => Any::Frame(Frame::default()),
            #[cfg(feature = "http")]
            Language::Http => Any::Http(Http::default()),
            Language::Resp => Any::Resp(Resp::default()),
            #[cfg(feature = "ws")]
            Language::Ws => Any::Ws(Ws::default()),
        }
    }
}

/// The same of whichever protocol it is; after a comma, with its session.
macro_rules! whichever {
    ($any:expr, $protocol:ident => $does:expr) => {
        match $any {
            Any::Echo($protocol) => $does,
            Any::Frame($protocol) => $does,
            #[cfg(feature = "http")]
            Any::Http($protocol) => $does,
            Any::Resp($protocol) => $does,
            #[cfg(feature = "ws")]
            Any::Ws($protocol) => $does,
        }
    };
    ($any:expr, $kept:expr, ($protocol:ident, $session:ident) => $does:expr) => {
        match ($any, $kept) {
            (Any::Echo($protocol), Session::Echo($session)) => $does,
            (Any::Frame($protocol), Session::Frame($session)) => $does,
            #[cfg(feature = "http")]
            (Any::Http($protocol), Session::Http($session)) => $does,
            (Any::Resp($protocol), Session::Resp($session)) => $does,
            #[cfg(feature = "ws")]
            (Any::Ws($protocol), Session::Ws($session)) => $does,
            _ => unreachable!("a server speaks one language, and opened its sessions in it"),
        }
    };
}

impl Protocol for Any {
    type Session = Session;

    fn begin(&mut self, post: &Post) {
        whichever!(self, protocol => protocol.begin(post));
    }

    fn refusal(&self) -> &'static [u8] {
        whichever!(self, protocol => protocol.refusal())
    }

    #[allow(clippy::unit_arg, reason = "of some languages nothing is remembered")]
    fn open(&mut self, peer: &Peer, cx: &mut Context<'_>) -> Session {
        match self {
            Any::Echo(protocol) => Session::Echo(protocol.open(peer, cx)),
            Any::Frame(protocol) => Session::Frame(protocol.open(peer, cx)),
            #[cfg(feature = "http")]
            Any::Http(protocol) => Session::Http(protocol.open(peer, cx)),
            Any::Resp(protocol) => Session::Resp(protocol.open(peer, cx)),
            #[cfg(feature = "ws")]
            Any::Ws(protocol) => Session::Ws(protocol.open(peer, cx)),
        }
    }

    fn received(&mut self, session: &mut Session, input: &[u8], cx: &mut Context<'_>) -> usize {
        whichever!(self, session, (protocol, session) => protocol.received(session, input, cx))
    }

    fn eof(&mut self, session: &mut Session, cx: &mut Context<'_>) {
        whichever!(self, session, (protocol, session) => protocol.eof(session, cx));
    }

    fn due(&mut self, session: &mut Session, cx: &mut Context<'_>) {
        whichever!(self, session, (protocol, session) => protocol.due(session, cx));
    }
}

#[cfg(test)]
mod tests {
    use pollmark_backends::Token;

    use super::*;
    use crate::conn::Connection;
    use crate::protocol::Host;

    const ID: Token = Token(1);

    /// All that is answered to `input`, in two parts, and then to the end of it.
    fn answer<Q: Protocol>(protocol: Q, input: &[u8]) -> (Vec<u8>, bool) {
        let mut host = Host::new(protocol);
        let mut connection = Connection::open(&mut host, ID, &Peer::at("10.1.2.3:4000".parse().expect("an address")));
        let mut said = Vec::new();
        let (first, rest) = input.split_at(input.len() - 3);
        for part in [Some(first), Some(rest), None] {
            match part {
                Some(bytes) => connection.receive(&mut host, ID, bytes),
                None => connection.eof(&mut host, ID),
            }
            let answer = connection.outgoing(&host).to_vec();
            connection.sent(&mut host, answer.len());
            connection.settle(&mut host);
            said.extend(answer);
        }
        // A second may pass between two answers.
        let dated = |line: &&[u8]| line.to_ascii_lowercase().starts_with(b"date: ");
        let said = said.split_inclusive(|byte| *byte == b'\n').filter(|line| !dated(line)).flatten().copied();
        (said.collect(), connection.finished())
    }

    fn says_the_same(language: Language, direct: impl Protocol, input: &[u8]) {
        let (said, ended) = answer(direct, input);
        assert!(!said.is_empty() && ended, "{language:?} answers {input:?}");
        let trusted = "10.0.0.0/8".parse().expect("a block");
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n";
        let behind = answer(Proxied::new(Any::of(language), trusted), &[header, input].concat());
        assert_eq!(behind, (said, true), "{language:?}");
    }

    #[test]
    fn behind_proxies_every_language_says_what_it_says_directly() {
        says_the_same(Language::Echo, Echo, b"hello");
        says_the_same(Language::Frame, Frame::default(), b"\0\0\0\x05hello");
        says_the_same(Language::Resp, Resp::default(), b"PING\r\nECHO hello\r\n");
        #[cfg(feature = "http")]
        says_the_same(
            Language::Http,
            Http::default(),
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        );
        #[cfg(feature = "ws")]
        says_the_same(
            Language::Ws,
            Ws::default(),
            b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
              \x81\x85\x01\x02\x03\x04\x69\x67\x6f\x68\x6e",
        );
    }

    #[test]
    fn whom_there_is_no_room_for_is_told_so_in_any_language() {
        assert_eq!(Any::of(Language::Resp).refusal(), Resp::default().refusal());
        assert!(!Any::of(Language::Resp).refusal().is_empty());
    }
}
