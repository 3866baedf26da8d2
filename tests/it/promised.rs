//! What the machine is known to have is not skipped.
//!
//! A mechanism that cannot be had is left out of every suite, with its reason printed: a container may forbid io_uring,
//! and nobody there can do anything about that. Where something else than our own probes knows better, as `.ci/run`
//! does by asking the kernel itself, a probe that says no is a defect, and so is a suite that skips.

use pollmark::mechanism::Mechanism;
use pollmark_backends::Registry;

/// Names of mechanisms, with commas between.
const PROMISED: &str = "POLLMARK_PROMISED";

#[test]
fn every_mechanism_that_was_promised_can_be_had() {
    let promised = std::env::var(PROMISED).unwrap_or_default();
    let registry = Registry::builtin();
    for name in promised.split(',').filter(|name| !name.is_empty()) {
        let mechanism = Mechanism::parse(&registry, name).unwrap_or_else(|error| panic!("{PROMISED}: {error}"));
        if let Err(why) = mechanism.probe(&registry) {
            panic!("{PROMISED} says that this machine has {name}, and the probe says: {why}");
        }
    }
}
