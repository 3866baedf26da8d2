//! What a program is told, by whatever mechanism, and how that compares with what was to be expected.

use std::fmt;
use std::io;
use std::ops::BitOr;

use crate::event::{Event, Trigger};

/// What an [`Event`] states, as a program asks it: the answers of its methods, implications included.
///
/// ```
/// use pollmark_backends::semantics::Facts;
/// assert_eq!((Facts::READABLE | Facts::READ_CLOSED).to_string(), "readable, read_closed");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Facts(u8);

impl Facts {
    /// None.
    pub const NONE: Facts = Facts(0);
    /// [`Event::readable`].
    pub const READABLE: Facts = Facts(1);
    /// [`Event::writable`].
    pub const WRITABLE: Facts = Facts(2);
    /// [`Event::read_closed`].
    pub const READ_CLOSED: Facts = Facts(4);
    /// [`Event::write_closed`].
    pub const WRITE_CLOSED: Facts = Facts(8);
    /// [`Event::error`].
    pub const ERROR: Facts = Facts(16);
    /// [`Event::priority`].
    pub const PRIORITY: Facts = Facts(32);

    const NAMES: [(Facts, &str); 6] = [
        (Facts::READABLE, "readable"),
        (Facts::WRITABLE, "writable"),
        (Facts::READ_CLOSED, "read_closed"),
        (Facts::WRITE_CLOSED, "write_closed"),
        (Facts::ERROR, "error"),
        (Facts::PRIORITY, "priority"),
    ];

    /// Those of an event.
    pub fn of(event: &Event) -> Facts {
        let answers = [
            (event.readable(), Facts::READABLE),
            (event.writable(), Facts::WRITABLE),
            (event.read_closed(), Facts::READ_CLOSED),
            (event.write_closed(), Facts::WRITE_CLOSED),
            (event.error(), Facts::ERROR),
            (event.priority(), Facts::PRIORITY),
        ];
        answers.into_iter().filter(|(holds, _)| *holds).fold(Facts::NONE, |all, (_, fact)| all | fact)
    }

    /// The names of those that are stated: the methods of [`Event`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Facts::NAMES.into_iter().filter(move |(fact, _)| self.contains(*fact)).map(|(_, name)| name)
    }

    /// Both: what `|` gives, for constants.
    pub const fn and(self, other: Facts) -> Facts {
        Facts(self.0 | other.0)
    }

    /// These, but for `other`.
    pub const fn without(self, other: Facts) -> Facts {
        Facts(self.0 & !other.0)
    }

    /// Whether all of `other` is stated.
    pub const fn contains(self, other: Facts) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Facts {
    type Output = Facts;

    fn bitor(self, other: Facts) -> Facts {
        self.and(other)
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// What was seen at a moment of a scenario. Displays in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// One event of the source, which states these facts.
    Event(Facts),
    /// No event.
    Silence,
    /// What led to the moment was refused by the poller, with an error of this kind.
    Refused(io::ErrorKind),
    /// What was looked at is no event: an order, a number, a timeout.
    Found(String),
    /// The mechanism does not have the trigger that this is about.
    NoTrigger(Trigger),
    /// It cannot be played here, or not after what was seen before.
    NotPlayed(String),
    /// It could not be played, though it should have been.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Event(facts) => f.pad(&facts.to_string()),
            Outcome::Silence => f.pad("silence"),
            Outcome::Refused(kind) => f.pad(&format!("refused: {}", kind_name(*kind))),
            Outcome::Found(what) => f.pad(what),
            Outcome::NoTrigger(trigger) => f.pad(&format!("no {trigger} trigger")),
            Outcome::NotPlayed(why) => f.pad(why),
            Outcome::Failed(why) => f.pad(&format!("FAILED: {why}")),
        }
    }
}

/// The kind's name. One that Rust has no stable name for, EBADF's, is any kind: the kernel's error is passed on
/// untouched.
fn kind_name(kind: io::ErrorKind) -> String {
    match format!("{kind:?}") {
        name if name == "Uncategorized" => "the kernel's error".to_owned(),
        name => name,
    }
}

/// What a program is led to expect at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// An event with these facts.
    Event(Facts),
    /// No event.
    Silence,
    /// A refusal of this kind.
    Refused(io::ErrorKind),
    /// This finding.
    Found(&'static str),
}

impl Expected {
    /// How `outcome` differs, if it does and if there is anything to compare.
    pub(super) fn difference(self, outcome: &Outcome) -> Option<Difference> {
        match (self, outcome) {
            (_, Outcome::NoTrigger(_) | Outcome::NotPlayed(_) | Outcome::Failed(_)) => None,
            (Expected::Event(expected), Outcome::Event(seen)) => {
                let (missing, added) = (expected.without(*seen), seen.without(expected));
                (expected != *seen).then_some(Difference::Facts { missing, added })
            }
            (Expected::Silence, Outcome::Silence) => None,
            (Expected::Refused(expected), Outcome::Refused(seen)) if expected == *seen => None,
            (Expected::Found(expected), Outcome::Found(seen)) if expected == seen => None,
            (Expected::Event(_), Outcome::Silence) => Some(Difference::Silence),
            (Expected::Silence, Outcome::Event(_)) => Some(Difference::Event),
            (_, Outcome::Refused(_)) => Some(Difference::Refusal),
            (_, _) => Some(Difference::Other),
        }
    }
}

/// How an outcome differs from the expected one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Difference {
    /// It is an event, as expected, but states other facts.
    Facts { missing: Facts, added: Facts },
    /// There should have been an event.
    Silence,
    /// There should have been none.
    Event,
    /// It was refused, or for another reason.
    Refusal,
    /// It is something else.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_differs_by_what_it_states_and_anything_else_as_a_whole() {
        let both = Facts::READABLE | Facts::READ_CLOSED;
        let expected = Expected::Event(both);
        assert_eq!(expected.difference(&Outcome::Event(both)), None);
        assert_eq!(
            expected.difference(&Outcome::Event(Facts::READABLE | Facts::ERROR)),
            Some(Difference::Facts { missing: Facts::READ_CLOSED, added: Facts::ERROR })
        );
        assert_eq!(expected.difference(&Outcome::Silence), Some(Difference::Silence));
        assert_eq!(Expected::Found("a").difference(&Outcome::Found("b".into())), Some(Difference::Other));
        assert_eq!(expected.difference(&Outcome::NoTrigger(Trigger::Edge)), None);
    }
}
