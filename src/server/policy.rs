//! How connections are accepted, as values: how many for one event, and what is done when descriptors have run out.

use std::fmt;
use std::io;
use std::str::FromStr;

/// How many connections are accepted when a listener has some.
///
/// Fewer at a time is fairer to the connections that are open, and saves the accept(2) that finds the queue empty; more
/// at a time saves waits when many come at once. `benches/accept.rs` shows what each costs.
///
/// ```
/// use pollmark::server::AcceptPolicy;
///
/// # fn main() -> std::io::Result<()> {
/// assert_eq!("drain:16".parse::<AcceptPolicy>()?, AcceptPolicy::Drain(16));
/// assert_eq!(AcceptPolicy::One.to_string(), "one");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum AcceptPolicy {
    /// One for each event: one call of accept(2), and none in vain.
    One,
    /// Until the queue is empty, which one more call tells, but at most so many for each event, and at least one.
    Drain(u32),
    /// The kernel accepts by itself, whatever comes, until it is told to stop: for drivers that wait for completions.
    Multishot,
}

impl AcceptPolicy {
    /// What [`Drain`](AcceptPolicy::Drain) takes where no number is given.
    pub const DEFAULT_DRAIN: u32 = 64;

    /// How many attempts one event is worth to a driver that makes the calls itself.
    pub(super) const fn attempts(self) -> u32 {
        match self {
            AcceptPolicy::Drain(most) if most > 1 => most,
            _ => 1,
        }
    }
}

impl fmt::Display for AcceptPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptPolicy::One => f.pad("one"),
            AcceptPolicy::Drain(most) => f.pad(&format!("drain:{most}")),
            AcceptPolicy::Multishot => f.pad("multishot"),
        }
    }
}

/// Parses `one`, `drain`, `drain:N` and `multishot`.
impl FromStr for AcceptPolicy {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<AcceptPolicy> {
        let most = match text {
            "one" => return Ok(AcceptPolicy::One),
            "multishot" => return Ok(AcceptPolicy::Multishot),
            "drain" => Some(AcceptPolicy::DEFAULT_DRAIN),
            other => other.strip_prefix("drain:").and_then(|number| number.parse().ok()).filter(|most| *most > 0),
        };
        let unknown = || format!("{text:?} is no way to accept: one, drain, drain:N (at least 1) and multishot are");
        most.map(AcceptPolicy::Drain).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, unknown()))
    }
}

/// What is done with a connection that cannot be accepted because descriptors have run out (EMFILE, ENFILE), or memory
/// has (ENOBUFS, ENOMEM). It stays in the queue and keeps the listener readable, so to do nothing would be to spin.
///
/// ```
/// use pollmark::server::Exhaustion;
///
/// # fn main() -> std::io::Result<()> {
/// assert_eq!("pause".parse::<Exhaustion>()?, Exhaustion::Pause);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "report", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum Exhaustion {
    /// It is turned away: a descriptor held in reserve is given up for it, and it is closed at once, which its peer
    /// sees. Where even that fails, a pause. The remedy of libev and libuv.
    #[default]
    Shed,
    /// It waits in the queue: the listeners rest until [`accept_pause`](super::Config::accept_pause) is over, or until
    /// a connection has gone and left its descriptor. Its peer sees a server that is slow.
    Pause,
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Exhaustion::Shed => "shed",
            Exhaustion::Pause => "pause",
        })
    }
}

/// Parses `shed` and `pause`.
impl FromStr for Exhaustion {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Exhaustion> {
        match text {
            "shed" => Ok(Exhaustion::Shed),
            "pause" => Ok(Exhaustion::Pause),
            _ => {
                let why = format!("{text:?} is no remedy for want of descriptors: shed and pause are");
                Err(io::Error::new(io::ErrorKind::InvalidInput, why))
            }
        }
    }
}

/// What a driver can do, whatever it waits by. Whoever needs one of these asks for it, never for a driver's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Abilities {
    /// It serves more than one connection at a time. One that does not leaves the second unanswered until the first is
    /// closed.
    pub concurrent: bool,
    /// One instance of the protocol serves all connections of a loop, so that what one sends to another arrives.
    pub shared_protocol: bool,
    /// It sleeps in the calls on its connections, so that none of these ever finds nothing to do.
    pub blocking: bool,
    /// It can accept by [`AcceptPolicy::Drain`].
    pub drain: bool,
    /// It can accept by [`AcceptPolicy::Multishot`].
    pub multishot: bool,
}

impl Abilities {
    /// A readiness loop's.
    pub(crate) const READINESS: Abilities =
        Abilities { concurrent: true, shared_protocol: true, blocking: false, drain: true, multishot: false };
    /// A completion loop's.
    pub(crate) const COMPLETION: Abilities =
        Abilities { concurrent: true, shared_protocol: true, blocking: false, drain: false, multishot: true };
    /// A thread's for each connection.
    pub(crate) const THREADS: Abilities =
        Abilities { concurrent: true, shared_protocol: false, blocking: true, drain: true, multishot: false };
    /// One client's at a time.
    pub(crate) const ITERATIVE: Abilities =
        Abilities { concurrent: false, shared_protocol: true, blocking: true, drain: false, multishot: false };

    /// The policy to accept by: the one asked for, or the driver's own.
    ///
    /// ```
    /// use pollmark::mechanism::Mechanism;
    /// use pollmark::server::AcceptPolicy;
    /// use pollmark_backends::Registry;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let iterative = Mechanism::parse(&Registry::builtin(), "iterative")?.abilities();
    /// assert_eq!(iterative.accept_by(None)?, AcceptPolicy::One);
    /// assert!(iterative.accept_by(Some(AcceptPolicy::Drain(8))).is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Unsupported`, with the reason, if the driver cannot accept so.
    pub fn accept_by(&self, asked: Option<AcceptPolicy>) -> io::Result<AcceptPolicy> {
        let why = match asked {
            Some(AcceptPolicy::Drain(_)) if !self.drain && self.multishot => {
                "cannot drain the listen queue: this driver has the kernel accept, one connection or all that come"
            }
            Some(AcceptPolicy::Drain(_)) if !self.drain => {
                "cannot drain the listen queue: this driver serves each connection to its end before it accepts the next"
            }
            Some(AcceptPolicy::Multishot) if !self.multishot => {
                "cannot accept by multishot: this driver makes each call of accept(2) itself, the kernel makes none for \
                 it; a driver that waits for completions can"
            }
            Some(possible) => return Ok(possible),
            None if self.multishot => return Ok(AcceptPolicy::Multishot),
            None if self.drain => return Ok(AcceptPolicy::Drain(AcceptPolicy::DEFAULT_DRAIN)),
            None => return Ok(AcceptPolicy::One),
        };
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_parsed_as_it_is_printed() {
        for policy in [AcceptPolicy::One, AcceptPolicy::Drain(1), AcceptPolicy::Drain(64), AcceptPolicy::Multishot] {
            assert_eq!(policy.to_string().parse::<AcceptPolicy>().expect("as printed"), policy);
        }
        assert_eq!("drain".parse::<AcceptPolicy>().expect("without a number"), AcceptPolicy::Drain(64));
        for remedy in [Exhaustion::Shed, Exhaustion::Pause] {
            assert_eq!(remedy.to_string().parse::<Exhaustion>().expect("as printed"), remedy);
        }
    }

    #[test]
    fn what_is_no_policy_is_told_what_there_is() {
        for wrong in ["", "two", "drain:", "drain:0", "drain:-1", "drain:99999999999", "multi", "One"] {
            let error = wrong.parse::<AcceptPolicy>().expect_err(wrong);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("drain:N") && error.to_string().contains(wrong), "{error}");
        }
        let error = "panic".parse::<Exhaustion>().expect_err("no remedy");
        assert!(error.to_string().contains("shed and pause"), "{error}");
    }

    #[test]
    fn a_driver_has_a_policy_of_its_own_and_says_what_it_cannot() {
        let kind = |abilities: Abilities, asked| abilities.accept_by(asked).map_err(|error| error.kind());
        let loops = Abilities::READINESS;
        assert_eq!(kind(loops, None), Ok(AcceptPolicy::Drain(64)));
        assert_eq!(kind(loops, Some(AcceptPolicy::One)), Ok(AcceptPolicy::One));
        assert_eq!(kind(loops, Some(AcceptPolicy::Multishot)), Err(io::ErrorKind::Unsupported));
        let completions = Abilities { multishot: true, ..loops };
        assert_eq!(kind(completions, None), Ok(AcceptPolicy::Multishot));
        let one_at_a_time = Abilities::ITERATIVE;
        assert_eq!(kind(one_at_a_time, None), Ok(AcceptPolicy::One));
        assert_eq!(kind(one_at_a_time, Some(AcceptPolicy::Drain(2))), Err(io::ErrorKind::Unsupported));
    }
}
