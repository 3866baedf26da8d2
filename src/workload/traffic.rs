//! What each active connection does: how much it sends, how many payloads at a time, and when.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Pace;

/// What the active connections of a load do.
///
/// ```
/// use pollmark::workload::Traffic;
///
/// let traffic = Traffic { payload: 1_024, outstanding: 16, ..Traffic::default() };
/// assert_eq!(traffic.to_string(), "1024 bytes, 16 outstanding");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes of each payload, and of its echo; at least 1.
    #[serde(rename = "payload_bytes")]
    pub payload: usize,
    /// How many payloads may be under way on a connection at a time; at least 1. What can be sent together is.
    pub outstanding: usize,
    /// A connection is closed, by a reset, after so many exchanges, and another opened in its place; 0 for never.
    #[serde(rename = "exchanges_per_connection")]
    pub exchanges: u64,
    /// When exchanges begin. By a schedule, connections stay.
    pub pace: Pace,
}

impl Default for Traffic {
    /// 64 bytes at a time, each when the echo of the one before has come, on connections that stay.
    fn default() -> Traffic {
        Traffic { payload: 64, outstanding: 1, exchanges: 0, pace: Pace::Closed }
    }
}

impl fmt::Display for Traffic {
    /// In words, but for what is usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.payload, if self.payload == 1 { "" } else { "s" })?;
        if self.outstanding > 1 {
            write!(f, ", {} outstanding", self.outstanding)?;
        }
        match self.exchanges {
            0 => {}
            1 => f.write_str(", a connection for each")?,
            exchanges => write!(f, ", a connection for each {exchanges}")?,
        }
        match self.pace {
            Pace::Closed => Ok(()),
            pace => write!(f, ", {pace}"),
        }
    }
}
