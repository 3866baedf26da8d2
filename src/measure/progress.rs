//! What a comparison tells while it runs.

use std::time::Duration;

/// Receives what happens during a comparison. Every method does nothing unless written; `()` watches nothing.
pub trait Progress {
    /// A round begins, after `done` others; of how many is an estimate that may still change.
    fn round(&mut self, done: usize, of: usize) {
        let _ = (done, of);
    }

    /// A visit begins. `remaining` is the estimate for all that is still to be done.
    fn visiting(&mut self, subject: &str, idle: usize, remaining: Duration) {
        let _ = (subject, idle, remaining);
    }

    /// A visit has ended.
    fn visited(&mut self, done: &VisitDone<'_>) {
        let _ = done;
    }

    /// Something a reader of the results should know.
    fn note(&mut self, text: &str) {
        let _ = text;
    }
}

impl Progress for () {}

/// A visit that has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct VisitDone<'a> {
    /// Which subject.
    pub subject: &'a str,
    /// With how many idle connections.
    pub idle: usize,
    /// Cells that were measured.
    pub measured: usize,
    /// Why cells were not, if any were not: the first reason.
    pub trouble: Option<&'a str>,
}
