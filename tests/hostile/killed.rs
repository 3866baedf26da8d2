//! A thousand clients are killed at once: nobody says goodbye but the kernel.

use rustix::process::Signal;

use crate::child::Role;
use crate::hosted::{Hosted, Offspring, config, is_concurrent, on_every_mechanism};
use crate::spoken::Spoken;

#[test]
fn a_thousand_clients_that_are_killed_at_once_leave_nothing_behind() {
    on_every_mechanism(|mechanism| {
        if !is_concurrent(mechanism, "a thousand clients that are killed") {
            return;
        }
        let mut server = Hosted::start(mechanism, Spoken::Frame, config());
        // A thread for each takes its time; and of what is a variant of another mechanism, fewer.
        let connections = if mechanism.is_common() { 1_000 } else { 250 };
        let mut crowd = Offspring::start(&Role::Crowd { address: server.address, connections });
        assert_eq!(crowd.hear::<usize>(), connections);
        // One in five has ended half of its connection, is answered and closed.
        let (there, gone) = ((connections - connections / 5) as u64 + 1, connections as u64 / 5);
        server.until("all are there", |stats| stats.accepted == connections as u64 + 2 && stats.closed == gone + 1);
        server.until("all but those are open", |stats| stats.open == there);
        server.neighbour_is_served();
        crowd.kill(Signal::KILL);
        server.neighbour_is_served();
        let done = server.end();
        assert_eq!(done.closed, connections as u64, "{mechanism}: {done:?}");
    });
}
