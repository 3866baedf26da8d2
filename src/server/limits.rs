//! What a server grants its connections: how many, how much memory each, and how much time. The same for every driver.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

/// Limits of a server, as part of its [`Config`](super::Config).
///
/// A deadline that is not set costs nothing, and one of more than 49 days is of 49 days. One that is set costs no system call and no look at the clock for an event: it
/// is never met early, and late by no more than 8 ms; in a busy loop, which looks at the clock once in 16 waits, by no
/// more than 80 ms and the time that it takes for its events. A connection that meets one is closed as it stands, and
/// counted in [`Stats::expired`](super::Stats::expired): in order if it is owed nothing, by a reset otherwise. They
/// hold for half-closed connections too, whose peers may be gone without anybody having noticed. A
/// [`ThreadServer`](super::ThreadServer) that has a connection's thread write to another one looks at the deadlines of
/// the first when that is done: bounded by the `write` of the second, or not at all.
///
/// ```
/// use pollmark::server::{Config, Excess};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let mut config = Config::listen("127.0.0.1:0".parse()?);
/// config.limits.connections = Some(10_000);
/// config.limits.excess = Excess::Pause;
/// config.limits.idle = Some(Duration::from_secs(60));
/// config.limits.header = Some(Duration::from_secs(10));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub struct Limits {
    /// So many connections at a time. Limited only by descriptors if unset.
    pub connections: Option<usize>,
    /// What is done about those beyond.
    pub excess: Excess,
    /// Neither side has sent anything for so long.
    pub idle: Option<Duration>,
    /// The first message has to be complete so long after the connection was accepted. A message is what a protocol
    /// consumes at once.
    pub header: Option<Duration>,
    /// Any message has to be complete so long after its first byte came.
    pub request: Option<Duration>,
    /// So long a peer may take nothing of what it is owed.
    pub write: Option<Duration>,
    /// No connection lives longer.
    pub total: Option<Duration>,
    /// How long a server that [drains](super::Control::drain) waits for what is under way.
    pub drain: Duration,
    /// How many full receive buffers one connection may have served before others get their turn. To go on with what
    /// was held back counts as one. Of no concern to a thread that serves one connection, and to a ring, where the
    /// kernel receives.
    pub read_budget: u32,
    /// A connection that owes more bytes than this is not read from, and no more is consumed of what was read already:
    /// so it never owes more than this, the longest answer to one message, and what others have sent it.
    pub high_water: usize,
    /// It goes on with what was read, and is read from again, when it owes no more than this.
    pub low_water: usize,
    /// A connection whose unfinished message grows beyond this many bytes is closed.
    pub message: usize,
}

impl Default for Limits {
    /// No deadlines, as many connections as there are descriptors for, and up to a mebibyte of each message.
    fn default() -> Limits {
        Limits {
            connections: None,
            excess: Excess::Close,
            idle: None,
            header: None,
            request: None,
            write: None,
            total: None,
            drain: Duration::from_secs(10),
            read_budget: 4,
            high_water: 256 * 1024,
            low_water: 64 * 1024,
            message: 1024 * 1024,
        }
    }
}

impl Limits {
    /// The deadline of each kind, if it is set.
    pub fn deadline(&self, expiry: Expiry) -> Option<Duration> {
        match expiry {
            Expiry::Idle => self.idle,
            Expiry::Header => self.header,
            Expiry::Request => self.request,
            Expiry::Write => self.write,
            Expiry::Total => self.total,
        }
    }

    /// Whether a server can be bound with these.
    ///
    /// # Errors
    /// `InvalidInput` for a deadline of zero, which no connection could meet.
    pub fn check(&self) -> io::Result<()> {
        match Expiry::ALL.into_iter().find(|expiry| self.deadline(*expiry) == Some(Duration::ZERO)) {
            None => Ok(()),
            Some(expiry) => {
                let why =
                    format!("a deadline of 0 ({expiry}) would end every connection at once; unset it to have none");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        }
    }
}

/// Which deadline of the [`Limits`] a connection has met.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Expiry {
    /// [`Limits::idle`].
    Idle,
    /// [`Limits::header`].
    Header,
    /// [`Limits::request`].
    Request,
    /// [`Limits::write`].
    Write,
    /// [`Limits::total`].
    Total,
}

impl Expiry {
    /// All of them.
    pub const ALL: [Expiry; 5] = [Expiry::Idle, Expiry::Header, Expiry::Request, Expiry::Write, Expiry::Total];
}

impl Expiry {
    /// Says that another connection has met this limit, the `count`th to do so: ever more rarely, for it may be a
    /// million.
    pub(super) fn tell(self, count: u64) {
        if count.is_power_of_two() {
            tracing::info!(limit = %self, connections = count, "closed at its deadline");
        }
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Expiry::Idle => "idle",
            Expiry::Header => "header",
            Expiry::Request => "request",
            Expiry::Write => "write",
            Expiry::Total => "total",
        })
    }
}

/// What is done about connections beyond [`Limits::connections`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum Excess {
    /// They are accepted, and closed at once.
    #[default]
    Close,
    /// They wait, not accepted, until one that is served has gone; of several threads, another thread's after
    /// [`accept_pause`](super::Config::accept_pause) at the latest. The kernel's queue has an end too: what does not fit
    /// there the system refuses, or leaves to try again.
    Pause,
    /// As `Close`, after what the protocol [has to say](crate::protocol::Protocol::refusal) to them: on a best effort,
    /// for it may be lost if they have spoken already.
    Reply,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Excess::Close => "close",
            Excess::Pause => "pause",
            Excess::Reply => "reply",
        })
    }
}

impl FromStr for Excess {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Excess> {
        match text {
            "close" => Ok(Excess::Close),
            "pause" => Ok(Excess::Pause),
            "reply" => Ok(Excess::Reply),
            _ => {
                let why = format!("{text:?} is nothing to do about too many connections: close, pause and reply are");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_nobody_could_meet_is_refused_by_name() {
        assert!(Limits::default().check().is_ok());
        for expiry in Expiry::ALL {
            let mut limits = Limits::default();
            match expiry {
                Expiry::Idle => limits.idle = Some(Duration::ZERO),
                Expiry::Header => limits.header = Some(Duration::ZERO),
                Expiry::Request => limits.request = Some(Duration::ZERO),
                Expiry::Write => limits.write = Some(Duration::ZERO),
                Expiry::Total => limits.total = Some(Duration::ZERO),
            }
            let error = limits.check().expect_err("nobody could meet it");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&expiry.to_string()), "{error}");
        }
    }

    #[test]
    fn what_is_done_beyond_the_limit_is_parsed_as_it_is_printed() {
        for excess in [Excess::Close, Excess::Pause, Excess::Reply] {
            assert_eq!(excess.to_string().parse::<Excess>().expect("as printed"), excess);
        }
        assert!("drop".parse::<Excess>().expect_err("nothing to do").to_string().contains("close, pause and reply"));
    }
}
