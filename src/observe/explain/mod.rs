//! Questions about sockets, each answered by an experiment that is run now, on this host.
//!
//! A [`Topic`] is data and one function: a question, what is predicted, and the experiment, with its settings as
//! values. What comes of it is a [`Lesson`]: every call that was made and what it returned, what the kernel showed
//! then, and of each part of the prediction whether it held. No number in it is recited: change a setting, and the
//! lesson is another, or the prediction fails.
//!
//! | idea | file |
//! |---|---|
//! | what an experiment notes, and how it waits for the kernel | `experiment.rs` |
//! | what every mechanism of this host says of the same sockets | `watchers.rs` |
//! | the life of one connection, from socket(2) to TIME_WAIT, before every mechanism | `lifecycle.rs`, `completing.rs` |
//! | listening: two kinds of sockets, the handshake without accept, the queue, the address | `listening.rs` |
//! | one port and ten clients: eleven sockets | `ten_clients.rs` |
//! | bytes: no messages, no waiting, no room | `streams.rs` |
//! | endings: half-close, reset, TIME_WAIT | `endings.rs` |
//! | waiting: the same clients before every mechanism, level and edge | `waiting.rs` |
//! | limits: descriptors | `descriptors.rs` |
//! | addresses: four numbers, a path, a proxy's | `addresses.rs` |
//! | serving: whom a server keeps waiting, and for what | `serving.rs` |
//! | a thread for each connection | `threads.rs` |
//! | clients: connections kept, and waits that end | `clients.rs` |
//! | distance: what a connection costs before its first byte | `line.rs` |
//! | datagrams, and bytes that mean something | `datagrams.rs` |
//!
//! ```
//! use pollmark::backends::Registry;
//! use pollmark::observe::explain::Topic;
//!
//! # fn main() -> std::io::Result<()> {
//! let topic = Topic::find("byte-stream")?;
//! let lesson = topic.explain(&Registry::builtin(), &topic.settings(), &mut |step| println!("{}", step.act))?;
//! assert!(lesson.held(), "{:?}", lesson.claims);
//! println!("{}", lesson.text);
//! # Ok(())
//! # }
//! ```

mod addresses;
mod clients;
#[cfg(completion)]
mod completing;
mod datagrams;
mod descriptors;
mod endings;
mod experiment;
mod lifecycle;
mod line;
mod listening;
mod serving;
mod streams;
mod ten_clients;
mod threads;
mod waiting;
mod watchers;

use std::fmt;
use std::io;

use pollmark_backends::Registry;
use serde::Serialize;

use super::descriptors::Descriptor;
use super::socket::Socket;
use experiment::Experiment;

/// A question, what is predicted, and the experiment that answers it.
#[derive(Clone, Copy)]
pub struct Topic {
    /// What it is asked for by.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// What is predicted, before anything is tried.
    pub prediction: &'static str,
    /// What can be set, and is predicted for whatever is set, unless the meaning says otherwise.
    pub knobs: &'static [Knob],
    /// Where to read on: a manual page, an RFC.
    pub read_on: &'static [&'static str],
    run: fn(&mut Experiment<'_>) -> io::Result<String>,
}

/// One setting of an experiment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knob {
    /// What it is set by.
    pub name: &'static str,
    /// What it is unless it is set.
    pub default: u64,
    /// The least and the most it may be.
    pub range: (u64, u64),
    /// What it does, and its unit.
    pub meaning: &'static str,
}

impl Topic {
    /// Every topic, in the order to read them in.
    pub fn all() -> impl Iterator<Item = &'static Topic> {
        TOPICS.iter()
    }

    /// The topic of this name.
    ///
    /// # Errors
    /// `InvalidInput`, which lists the names there are.
    pub fn find(name: &str) -> io::Result<&'static Topic> {
        Topic::all().find(|topic| topic.name == name).ok_or_else(|| {
            let names = Topic::all().map(|topic| topic.name).collect::<Vec<_>>().join(", ");
            io::Error::new(io::ErrorKind::InvalidInput, format!("no topic \"{name}\"; there are: {names}"))
        })
    }

    /// What its settings are unless they are set.
    pub fn settings(&self) -> Settings {
        Settings { knobs: self.knobs, values: self.knobs.iter().map(|knob| knob.default).collect() }
    }

    /// Runs the experiment, which takes a few seconds at most, and tells each step when it is over: the next begins
    /// when `told` returns.
    ///
    /// # Errors
    /// `Unsupported` where this system cannot do or show it. `TimedOut` if the kernel does not do within seconds what
    /// the experiment needs to go on. Otherwise that of a call that was not to fail.
    pub fn explain(&self, registry: &Registry, settings: &Settings, told: &mut dyn FnMut(&Step)) -> io::Result<Lesson> {
        let mut experiment = Experiment::new(registry, settings, told);
        let text = (self.run)(&mut experiment)?;
        let (steps, claims) = experiment.finish();
        Ok(Lesson {
            topic: self.name,
            question: self.question,
            prediction: self.prediction,
            settings: settings.clone(),
            steps,
            claims,
            text,
            read_on: self.read_on,
        })
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.name).finish()
    }
}

/// What the settings of a topic are set to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    knobs: &'static [Knob],
    values: Vec<u64>,
}

impl Settings {
    /// Sets one of them.
    ///
    /// # Errors
    /// `InvalidInput` if the topic has no such setting, or it may not be set to that; what it has, or may be, is said.
    pub fn set(&mut self, name: &str, value: u64) -> io::Result<()> {
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        let Some(at) = self.knobs.iter().position(|knob| knob.name == name) else {
            let names = self.knobs.iter().map(|knob| knob.name).collect::<Vec<_>>().join(", ");
            return invalid(format!("this topic has no setting \"{name}\"; it has: {names}"));
        };
        let (least, most) = self.knobs[at].range;
        if !(least..=most).contains(&value) {
            return invalid(format!("{name} cannot be {value}: from {least} to {most}"));
        }
        self.values[at] = value;
        Ok(())
    }

    /// Each with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Knob, u64)> {
        self.knobs.iter().zip(self.values.iter().copied())
    }

    fn get(&self, name: &str) -> u64 {
        let value = self.iter().find(|(knob, _)| knob.name == name).map(|(_, value)| value);
        value.expect("an experiment asks for the settings of its own topic")
    }
}

impl Serialize for Settings {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(knob, value)| (knob.name, value)))
    }
}

/// What came of an experiment.
#[derive(Clone, Debug, Serialize)]
pub struct Lesson {
    /// The name of its topic.
    pub topic: &'static str,
    /// The question.
    pub question: &'static str,
    /// What was predicted, in words.
    pub prediction: &'static str,
    /// What it was run with.
    pub settings: Settings,
    /// What was done, and what was seen.
    pub steps: Vec<Step>,
    /// The prediction, part by part, and what was seen of it.
    pub claims: Vec<Claim>,
    /// What is to be learnt, from what was seen.
    pub text: String,
    /// Where to read on.
    pub read_on: &'static [&'static str],
}

impl Lesson {
    /// Whether all that was predicted was seen.
    pub fn held(&self) -> bool {
        self.claims.iter().all(|claim| claim.held)
    }
}

/// One call, or one thing done, and what was seen then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    /// The call with its arguments, or what was done.
    pub act: String,
    /// What it returned; empty if that says nothing.
    pub outcome: String,
    /// What was seen after it.
    pub evidence: Vec<Evidence>,
}

/// Something seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// One figure, and where it was read.
    Figure {
        /// Of what.
        what: String,
        /// With its unit.
        value: String,
        /// Where it was read: a list of the kernel's, or a call.
        source: &'static str,
    },
    /// A socket, as the kernel shows it.
    Socket {
        /// Whose end it is.
        whose: String,
        /// What is shown.
        socket: Box<Socket>,
    },
    /// A descriptor of this process.
    Descriptor(Box<Descriptor>),
    /// What a mechanism returned from a wait.
    Event {
        /// By its name.
        mechanism: String,
        /// What was registered.
        registered: String,
        /// The kernel's answer in its own words; empty if it said nothing.
        raw: String,
        /// What a program is told by it.
        told: String,
    },
    /// Something this system does not show.
    NotVisible(String),
}

/// A part of a prediction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Claim {
    /// About what.
    pub what: String,
    /// What was predicted.
    pub predicted: String,
    /// What was seen.
    pub seen: String,
    /// Whether that is what was predicted.
    pub held: bool,
}

const TOPICS: &[Topic] = &[
    lifecycle::LIFECYCLE,
    listening::TWO_SOCKETS,
    listening::HANDSHAKE_WITHOUT_ACCEPT,
    ten_clients::LISTEN_WITH_TEN_CLIENTS,
    listening::BACKLOG,
    addresses::FOUR_TUPLE,
    streams::BYTE_STREAM,
    datagrams::DATAGRAMS,
    datagrams::SERIALIZATION,
    streams::BLOCKING_AND_NONBLOCKING,
    serving::ONE_AT_A_TIME,
    threads::THREAD_PER_CONNECTION,
    waiting::EVENT_LOOP,
    serving::BLOCKING_CALL_IN_THE_LOOP,
    waiting::THUNDERING_HERD,
    waiting::LEVEL_AND_EDGE,
    streams::SLOW_READER,
    streams::NAGLE_AND_DELAYED_ACK,
    serving::HEAD_OF_LINE,
    endings::HALF_CLOSE,
    endings::RESET,
    endings::TIME_WAIT,
    listening::ADDRESS_IN_USE,
    clients::KEEP_ALIVE_AND_POOLS,
    line::CONNECTION_COST,
    clients::TIMEOUTS,
    descriptors::TOO_MANY_OPEN_FILES,
    addresses::UNIX_SOCKETS,
    addresses::PROXY_IN_BETWEEN,
    datagrams::REQUEST_REPLY_OVER_UDP,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_whole_and_has_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for topic in Topic::all() {
            assert!(names.insert(topic.name), "{} is there twice", topic.name);
            assert!(topic.question.ends_with('?'), "{}: {}", topic.name, topic.question);
            assert!(topic.prediction.ends_with('.') && !topic.read_on.is_empty(), "{}", topic.name);
            for knob in topic.knobs {
                assert!((knob.range.0..=knob.range.1).contains(&knob.default), "{}: {}", topic.name, knob.name);
            }
            assert_eq!(Topic::find(topic.name).expect("it is there").name, topic.name);
        }
    }

    #[test]
    fn what_cannot_be_set_or_is_not_there_is_said_with_what_can() {
        let said = |result: io::Result<()>| result.expect_err("wrong").to_string();
        let mut settings = Topic::find("backlog").expect("it is there").settings();
        assert!(said(settings.set("bakclog", 1)).contains("it has: backlog"));
        assert!(said(settings.set("backlog", 1 << 40)).contains("cannot be 1099511627776: from 0 to"));
        assert_eq!(settings, Topic::find("backlog").expect("it is there").settings());
        let error = Topic::find("bakclog").expect_err("no such");
        assert!(
            error.kind() == io::ErrorKind::InvalidInput
                && error.to_string().contains("two-sockets, handshake-without-accept, listen-with-ten-clients")
        );
    }
}
