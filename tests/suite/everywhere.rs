//! All that this host has, with a word about what it has not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use pollmark::backends::Registry;
use pollmark::mechanism::Mechanism;

/// The mechanisms of `registry` that are here. Says which are not.
pub(crate) fn mechanisms(registry: &Registry) -> Vec<Mechanism> {
    let is_here = |mechanism: &Mechanism| match mechanism.probe(registry) {
        Ok(_) => true,
        Err(why) => {
            println!("{mechanism}: skipped: {why}");
            false
        }
    };
    let here: Vec<_> = Mechanism::all(registry).into_iter().filter(is_here).collect();
    assert!(here.len() >= 4, "poll, select, threads and iterative are everywhere, but only {} are here", here.len());
    here
}

/// Does `what` for each of `all`, a few at a time: what takes time is to wait for peers, kernels and deadlines.
pub(crate) fn side_by_side<T: Sync>(all: &[T], what: impl Fn(&T) + Sync) {
    const AT_ONCE: usize = 6;
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            what(one);
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(some))));
}
