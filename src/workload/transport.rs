//! What carries the bytes between the load and the server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What connections are made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP over the loopback.
    #[default]
    Tcp,
    /// Unix stream sockets: no segments, no acknowledgements, and what is sent lies with the receiver at once.
    Unix,
}

impl Transport {
    /// Whether it is what is meant where nothing is said.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Transport::default()
    }

    /// Why this system does not have it; `None` if it has.
    pub const fn lacking(self) -> Option<&'static str> {
        match self {
            Transport::Unix if !cfg!(unix) => Some("connections over Unix sockets are not made on this system"),
            _ => None,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Unix => "Unix sockets",
        })
    }
}
