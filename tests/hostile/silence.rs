//! Peers of whom nothing is heard any more, not even an end: only a deadline tells.
//!
//! They are a process that is stopped: its connections stay, it reads nothing, says nothing and closes nothing. What no
//! test on one machine can have is a peer whose kernel is silent, too; to a server that waits, there is no difference.

use std::time::Duration;

use pollmark::mechanism::Mechanism;
use pollmark::server::Config;
use rustix::process::Signal;

use crate::child::Role;
use crate::hosted::{
    Hosted, Offspring, config, is_concurrent, on_every_mechanism, on_every_mechanism_at_once, say_once,
};
use crate::spoken::Spoken;

#[test]
fn whoever_falls_silent_in_any_state_is_given_up_and_leaves_nothing_behind() {
    // Time passes on all of them together.
    on_every_mechanism_at_once(|mechanism| {
        let mut limited = config();
        let soon = Some(Duration::from_secs(3));
        let limits = &mut limited.limits;
        (limits.idle, limits.header, limits.request, limits.write) = (soon, soon, soon, soon);
        let mut server = Hosted::start_alone(mechanism, Spoken::Frame, limited);
        // Of those that serve one at a time each waits for the one before to be given up.
        let connections = if mechanism.abilities().concurrent { 200 } else { 2 };
        let mut crowd = Offspring::start(&Role::Crowd { address: server.address, connections });
        assert_eq!(crowd.hear::<usize>(), connections);
        crowd.kill(Signal::STOP);
        let all = connections as u64 + 1;
        let stats = server.until("all were given up", |stats| stats.accepted == all && stats.open == 0);
        // One in five had ended its half, and was answered and closed.
        let ended = connections as u64 / 5;
        assert_eq!(stats.expired.sum(), connections as u64 - ended, "{mechanism}: {stats:?}");
        let done = server.end();
        assert_eq!(done.closed, connections as u64, "{mechanism}: {done:?}");
    });
}

#[test]
fn ten_thousand_idle_connections_meet_their_deadlines_apart_and_together() {
    const MANY: u64 = 10_000;
    const FEW: u64 = 500;
    let is_whole = |mechanism: &Mechanism| mechanism.is_common() && !mechanism.abilities().blocking;
    on_every_mechanism(|mechanism| {
        if is_whole(mechanism) {
            idle_connections_meet_their_deadlines(mechanism, MANY);
        }
    });
    on_every_mechanism_at_once(|mechanism| {
        if !is_whole(mechanism) && is_concurrent(mechanism, "an idle crowd") {
            say_once(&format!("{mechanism}: {FEW} idle connections: it is a variant, or has a thread for each"));
            idle_connections_meet_their_deadlines(mechanism, FEW);
        }
    });
}

fn idle_connections_meet_their_deadlines(mechanism: &Mechanism, many: u64) {
    let mut limited = config();
    limited.limits.idle = Some(Duration::from_millis(500));
    let mut server = Hosted::start_alone(mechanism, Spoken::Frame, limited);

    // Each after its own time, the first while others still come.
    let apart: Vec<_> = (0..many).map(|_| server.connect()).collect();
    let stats = server.until("all were given up", |stats| stats.accepted == 1 + many && stats.open == 0);
    assert_eq!(stats.expired.idle, many, "{mechanism}: {stats:?}");
    drop(apart);

    // As many as the queue has room for are there before one is accepted: they begin together, and end together.
    let room = many.min(room_of_a_queue(&server.config));
    let stopped = server.stopped();
    let together: Vec<_> = (0..room).map(|_| stopped.connect()).collect();
    drop(stopped);
    let all = many + room;
    let stats = server.until("all were given up", |stats| stats.accepted == 1 + all && stats.open == 0);
    assert_eq!(stats.expired.idle, all, "{mechanism}: {stats:?}");
    drop(together);
    server.end();
}

/// How many connections nobody has accepted yet the kernel keeps for a server, at least.
fn room_of_a_queue(config: &Config) -> u64 {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|most| most.trim().parse().ok());
    most.unwrap_or(128).min(u64::try_from(config.backlog).unwrap_or(0))
}
