//! What a loop of several has done outlives it, for as long as the others serve.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Stats;

/// How it stands with one loop of a group: told by the thread it runs on, asked by whoever it answers no more.
#[derive(Clone, Default)]
pub(super) struct Fate(Arc<Shared>);

#[derive(Default)]
struct Shared {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
enum Now {
    #[default]
    Serving,
    /// In good order.
    Ended(Box<Stats>),
    /// And so is the group, or soon will be.
    Over,
}

impl Fate {
    /// It has ended, and this is all it has done.
    pub(super) fn ended(&self, stats: Stats) {
        self.becomes(Now::Ended(Box::new(stats)));
    }

    /// It has failed, or nobody is left to be asked for all.
    pub(super) fn over(&self) {
        self.becomes(Now::Over);
    }

    /// All it has done, unless it is over.
    ///
    /// It is asked once the loop has let go of its inbox, so what is waited for here is that its thread says so.
    pub(super) fn last(&self) -> Option<Stats> {
        let mut now = self.now();
        loop {
            match &*now {
                Now::Serving => now = self.0.changed.wait(now).unwrap_or_else(PoisonError::into_inner),
                Now::Ended(stats) => return Some(**stats),
                Now::Over => return None,
            }
        }
    }

    fn becomes(&self, now: Now) {
        *self.now() = now;
        self.0.changed.notify_all();
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The loops of one group. When it is dropped they are over, whatever has become of them.
#[derive(Default)]
pub(super) struct Fates(Vec<Fate>);

impl Fates {
    /// One more loop.
    pub(super) fn another(&mut self) -> Fate {
        let fate = Fate::default();
        self.0.push(fate.clone());
        fate
    }
}

impl Drop for Fates {
    fn drop(&mut self) {
        self.0.iter().for_each(Fate::over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_loop_has_done_is_told_until_all_are_over_and_waited_for_only_until_it_is_known() {
        let mut fates = Fates::default();
        let (one, other) = (fates.another(), fates.another());
        let asked = std::thread::spawn({
            let one = one.clone();
            move || one.last()
        });
        one.ended(Stats { accepted: 7, ..Stats::default() });
        assert_eq!(asked.join().expect("no panic").map(|stats| stats.accepted), Some(7));
        assert_eq!(one.last().map(|stats| stats.accepted), Some(7), "again");
        let asked = std::thread::spawn(move || other.last());
        drop(fates);
        assert_eq!((asked.join().expect("no panic"), one.last()), (None, None));
    }
}
