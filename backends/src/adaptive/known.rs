//! All that has to be known of a source to take it elsewhere, in a table by the source's number.

use crate::event::{Interest, Token, Trigger};
use crate::source::RawSource;

/// The sources of an adaptive poller.
#[derive(Default)]
pub(super) struct Known {
    table: Vec<Entry>,
    watched: usize,
    staying: usize,
}

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) token: Token,
    pub(super) interest: Interest,
    pub(super) trigger: Trigger,
    pub(super) standing: Standing,
    /// (d) Only the first mechanism takes it.
    pub(super) stays: bool,
}

/// How a source stands with the mechanism that is at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Nobody knows it.
    Unknown,
    /// It is watched there, and taken along by a move.
    Watched,
    /// It is known there, but not watched: the empty interest, or its oneshot was told. Not taken along.
    Idle,
    /// As `Idle`, and since a move it is known only here.
    Aside,
    /// It is not watched, but should be: only the first mechanism takes it, and the second is at work.
    Waiting,
}

const UNKNOWN: Entry = Entry {
    token: Token(0),
    interest: Interest::EMPTY,
    trigger: Trigger::Level,
    standing: Standing::Unknown,
    stays: false,
};

impl Known {
    pub(super) fn get(&self, source: RawSource) -> Option<Entry> {
        self.table.get(source as usize).copied().filter(|entry| entry.standing != Standing::Unknown)
    }

    pub(super) fn set(&mut self, source: RawSource, entry: Entry) {
        let at = source as usize;
        if at >= self.table.len() {
            self.table.resize(at + 1, UNKNOWN);
        }
        let before = std::mem::replace(&mut self.table[at], entry);
        let watched = |entry: Entry| usize::from(entry.standing == Standing::Watched);
        self.watched = self.watched + watched(entry) - watched(before);
        self.staying = self.staying + usize::from(entry.stays) - usize::from(before.stays);
    }

    pub(super) fn forget(&mut self, source: RawSource) {
        self.set(source, UNKNOWN);
    }

    /// How many the mechanism watches.
    pub(super) fn watched(&self) -> usize {
        self.watched
    }

    /// How many only the first mechanism takes.
    pub(super) fn staying(&self) -> usize {
        self.staying
    }

    /// All of them, by number.
    pub(super) fn all(&self) -> impl Iterator<Item = (RawSource, Entry)> {
        let known = self.table.iter().enumerate().filter(|(_, entry)| entry.standing != Standing::Unknown);
        known.map(|(at, entry)| (at as RawSource, *entry))
    }
}
