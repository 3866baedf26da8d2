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
use crate::protocol::{Echo, Frame, Protocol, Proxied, Resp};
use crate::server::{Config, Server};

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
        let binding = Binding { mechanism, registry, config, proxies: self.proxies.clone() };
        match self.language {
            // What is measured: nothing stands between the loop and the poller.
            Language::Echo if self.proxies.is_none() => mechanism.bind(registry, binding.config, Echo),
            Language::Echo => binding.of(Echo),
            Language::Frame => binding.of(Frame::default()),
            #[cfg(feature = "http")]
            Language::Http => binding.of(Http::default()),
            Language::Resp => binding.of(Resp::default()),
            #[cfg(feature = "ws")]
            Language::Ws => binding.of(Ws::default()),
        }
    }
}

/// All that a server is bound with but its protocol.
struct Binding<'a> {
    mechanism: &'a Mechanism,
    registry: &'a Registry,
    config: Config,
    proxies: Option<Trusted>,
}

impl Binding<'_> {
    fn of<Q: Protocol>(self, protocol: Q) -> io::Result<Box<dyn Server>> {
        let Binding { mechanism, registry, config, proxies } = self;
        match proxies {
            None => mechanism.bind_boxed(registry, config, protocol),
            Some(trusted) => mechanism.bind_boxed(registry, config, Proxied::new(protocol, trusted)),
        }
    }
}
