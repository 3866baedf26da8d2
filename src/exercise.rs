//! A poller alone, without a server: what it is put through, and the course it goes over.
//!
//! What the field published before 2010 was measured so: messages go through pipes or socket pairs, one thread writes
//! them and waits for them, and nothing else is done. The cost of a wait then stands out as under no server.
//!
//! | idea | file |
//! |---|---|
//! | what is to be done | here |
//! | the pipes and socket pairs, and the messages in them | `channels.rs` |
//! | doing it, with any poller | `course.rs` |

#[cfg(unix)]
mod channels;
#[cfg(unix)]
mod course;
#[cfg(all(test, unix))]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(unix)]
pub(crate) use channels::MESSAGE;
#[cfg(unix)]
pub(crate) use course::{Course, Done, Terms};

/// What a poller is put through by itself.
///
/// ```
/// use pollmark::exercise::{Channel, Exercise, Wait};
///
/// let exercise = Exercise { channel: Channel::SocketPair, wait: Wait::Sleeping, ..Exercise::default() };
/// assert_eq!(exercise.to_string(), "socket pairs, sleeping waits");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exercise {
    /// What is done over and over.
    pub task: Task,
    /// What is watched.
    pub channel: Channel,
    /// How it is waited.
    pub wait: Wait,
    /// Which of the descriptors are ready at first.
    pub place: Place,
    /// Messages that are handed on: whoever reads one writes the next, to the next channel, until so many are written.
    pub chained_writes: u32,
    /// Watched descriptors have numbers from this on; 0 for as low as they come.
    pub numbers_from: u32,
}

impl Exercise {
    /// In words, but only what is not the same in all of `others`.
    pub(crate) fn apart_from<I: Iterator<Item = Exercise>>(&self, others: impl Fn() -> I) -> Vec<String> {
        let mut words = Vec::new();
        if others().any(|other| other.channel != self.channel) {
            words.push(self.channel.to_string());
        }
        if others().any(|other| other.wait != self.wait) {
            words.push(self.wait.to_string());
        }
        if others().any(|other| other.place != self.place) {
            words.push(self.place.to_string());
        }
        if others().any(|other| other.chained_writes != self.chained_writes) {
            words.push(match self.chained_writes {
                0 => "none handed on".to_owned(),
                some => format!("{some} handed on"),
            });
        }
        if others().any(|other| other.numbers_from != self.numbers_from) {
            words.push(match self.numbers_from {
                0 => "low numbers".to_owned(),
                from => format!("numbers from {}", from),
            });
        }
        words
    }
}

impl fmt::Display for Exercise {
    /// In words, but for what is usual.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.channel)?;
        match self.task {
            Task::Relay => write!(f, ", {} waits", self.wait)?,
            Task::SetUp => f.write_str(", set-up")?,
        }
        if self.place != Place::Spread {
            write!(f, ", {}", self.place)?;
        }
        if self.chained_writes > 0 {
            write!(f, ", {} chained writes", self.chained_writes)?;
        }
        if self.numbers_from > 0 {
            write!(f, ", numbers from {}", self.numbers_from)?;
        }
        Ok(())
    }
}

/// What is done over and over; of what is counted, and paid for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Messages are written, waited for and read; a message counts.
    #[default]
    Relay,
    /// All descriptors are registered, looked at once, and taken out again; each of them counts.
    SetUp,
}

/// What is watched: the reading end of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// pipe(2).
    #[default]
    Pipe,
    /// socketpair(2), of the Unix family and for streams.
    SocketPair,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Task::Relay => "relay",
            Task::SetUp => "set-up",
        })
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Channel::Pipe => "pipes",
            Channel::SocketPair => "socket pairs",
        })
    }
}

/// How it is waited: what select(2) and poll(2) do differs by this, and their cost by a factor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// With timeout zero: everything is looked at, and nothing is waited for. Something is ready each time.
    #[default]
    Spinning,
    /// Without a timeout, though something is ready: until that is found, the wait prepares to sleep.
    Ready,
    /// Without a timeout, and nothing is ready: a process of its own writes once the poller sleeps.
    Sleeping,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Wait::Spinning => "spinning",
            Wait::Ready => "ready",
            Wait::Sleeping => "sleeping",
        })
    }
}

/// Which of the descriptors are ready, by the order in which they were registered, which is that of their numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// At equal distances, from the first on.
    #[default]
    Spread,
    /// The first ones.
    Low,
    /// The last ones.
    High,
    /// Others each time.
    Random,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Place::Spread => "spread",
            Place::Low => "low",
            Place::High => "high",
            Place::Random => "random",
        })
    }
}

/// Descriptors that it takes to watch one: both ends are the poller's.
pub(crate) const ENDS: usize = 2;
