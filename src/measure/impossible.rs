//! Why nothing can be measured: found out before anything is.

use std::fmt;

use crate::limits::Shortage;

/// Why a comparison cannot be made at all.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Impossible {
    /// The process was started as a child, and has not entered its role.
    NotEntered,
    /// No mechanism asked for is available; each with the reason.
    NothingAvailable(String),
    /// More connections than the host, or this process and so its children, may have.
    Limit(Shortage),
    /// It was stopped before anything was measured.
    Interrupted,
    /// What was asked for makes no sense.
    Invalid(String),
    /// What was begun cannot be finished here: what differs.
    Differs(Vec<String>),
    /// What is measured cannot be kept: what the file system said, of which file.
    Unwritable(String),
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Impossible::NotEntered => {
                f.write_str("a child does not compare: call pollmark::child::enter first thing in main")
            }
            Impossible::NothingAvailable(reasons) => write!(f, "none of the mechanisms is available here: {reasons}"),
            Impossible::Limit(shortage) => shortage.fmt(f),
            Impossible::Interrupted => f.write_str("interrupted before anything was measured"),
            Impossible::Invalid(why) | Impossible::Unwritable(why) => f.write_str(why),
            Impossible::Differs(what) => {
                write!(f, "cannot resume: it would be another comparison. {}", what.join("; "))
            }
        }
    }
}

impl std::error::Error for Impossible {}
