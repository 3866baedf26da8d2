//! Good and bad peers together, for long: no leak of memory, descriptors or slots, and as many went as came.
//!
//!     POLLMARK_SOAK_SECONDS=60 cargo test --release --test hostile -- --ignored soak
//!
//! takes so long for each mechanism, and ten minutes if unset. Several are put through it at a time: one alone keeps
//! one CPU busy, for its peers wait for it and it for them, and each server is judged by its own account, its own
//! memory and its own descriptors.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pollmark::mechanism::Mechanism;

use crate::client::{Door, Peer};
use crate::garbage::{Chance, tell};
use crate::hosted::{Hosted, config, on_every_mechanism, on_every_mechanism_at_once};
use crate::spoken::Spoken;

/// How long, in seconds, on each mechanism.
const SECONDS: &str = "POLLMARK_SOAK_SECONDS";

#[test]
#[ignore = "ten minutes for each mechanism, six of them at a time"]
fn soak_for_ten_minutes_each() {
    let seconds = std::env::var(SECONDS).map(|text| text.parse().expect("a number of seconds"));
    let seconds = seconds.unwrap_or(600);
    on_every_mechanism_at_once(|mechanism| soak(mechanism, Duration::from_secs(seconds), 20));
}

#[test]
fn soak_for_a_moment_each() {
    on_every_mechanism(|mechanism| soak(mechanism, Duration::from_millis(800), 3));
}

/// What the peers of one kind have done.
#[derive(Clone, Copy, Default)]
struct Done {
    connections: u64,
    requests: u64,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Done) {
        self.connections += other.connections;
        self.requests += other.requests;
    }
}

/// So many rounds of load in so much time. After each everybody leaves but the neighbour, and the server is to be as it
/// was.
fn soak(mechanism: &Mechanism, whole: Duration, rounds: u32) {
    let mut limited = config();
    // Nobody is to meet them who is let run.
    let long = Some(Duration::from_secs(60));
    let limits = &mut limited.limits;
    (limits.idle, limits.header, limits.request, limits.write) = (long, long, long, long);
    let mut server = Hosted::start(mechanism, Spoken::Resp, limited);
    let mut done = Done::default();
    let mut first = None;
    for round in 0..rounds {
        done += load(&mut server, whole / rounds, u64::from(round));
        let neighbours = server.neighbours();
        let all = done.connections;
        server.until("all have gone", |stats| stats.open == neighbours);
        server.until("as many were met as came", |stats| stats.accepted + stats.refused == all + 1 + neighbours);
        server.has_its_descriptors_back();
        // By then an allocator has made its reserves.
        let before = *first.get_or_insert(server.memory());
        let grown = server.memory().saturating_sub(before);
        let most = server.may_keep();
        assert!(grown <= most, "{mechanism}: {grown} bytes more after round {round}; it may keep {most}");
    }
    let stats = server.end();
    let Done { connections, requests } = done;
    assert_eq!((stats.accepted, stats.refused), (connections, 0), "{mechanism}: {stats:?}");
    println!("{mechanism}: {connections} connections, {requests} requests answered");
    assert!(connections > 0 && requests > 0, "{mechanism}: that was no load");
}

/// Two that mean well and two that do not, for so long.
fn load(server: &mut Hosted, long: Duration, seed: u64) -> Done {
    let (door, is_over) = (server.door(), AtomicBool::new(false));
    let mut sum = Done::default();
    // Where one is served at a time, who stays keeps all others waiting.
    let room = if server.neighbours() > 0 { 30 } else { 0 };
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let good = [0, 1].map(|number| scope.spawn(move || well_meaning(door, seed * 4 + number, is_over)));
        let bad = [2, 3].map(|number| scope.spawn(move || ill_meaning(door, seed * 4 + number, room, is_over)));
        let began = Instant::now();
        while began.elapsed() < long {
            server.neighbour_is_served();
            std::thread::sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
        for peer in good.into_iter().chain(bad) {
            sum += peer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    sum
}

fn well_meaning(door: Door, seed: u64, is_over: &AtomicBool) -> Done {
    let (mut chance, mut done) = (Chance(seed), Done::default());
    while !is_over.load(Ordering::Relaxed) {
        let mut peer = door.guest();
        done.connections += 1;
        for _ in 0..1 + chance.below(50) {
            let (first, many) = (chance.below(1_000) as u32, 1 + chance.below(20) as u32);
            let asked = (first..first + many).flat_map(|number| door.spoken.request(number)).collect::<Vec<_>>();
            peer.says(&asked);
            (first..first + many).for_each(|number| peer.hears(door.spoken, number));
            done.requests += u64::from(many);
        }
    }
    done
}

fn ill_meaning(door: Door, seed: u64, room: usize, is_over: &AtomicBool) -> Done {
    let (mut chance, mut done) = (Chance(!seed), Done::default());
    let mut staying: VecDeque<Peer> = VecDeque::new();
    while !is_over.load(Ordering::Relaxed) {
        done.connections += 1;
        let request = door.spoken.request(chance.below(1_000) as u32);
        if chance.below(2) == 0 {
            let length = 1 + chance.below(3_000);
            let garbage = if chance.below(2) == 0 { chance.bytes(length) } else { chance.mutated(door.spoken) };
            tell(door, &mut chance, &garbage);
            continue;
        }
        let mut peer = door.guest();
        match chance.below(5) {
            0 => {}
            1 => peer.says(&request[..chance.below(request.len())]),
            2 => request.iter().for_each(|byte| peer.says(&[*byte])),
            // Answers that nobody hears.
            3 => peer.says(&request.repeat(1 + chance.below(300))),
            _ => {
                peer.says(&request);
                peer.shut_down();
            }
        }
        match chance.below(3) {
            0 => peer.resets(),
            1 => staying.push_back(peer),
            _ => drop(peer),
        }
        if staying.len() > room {
            staying.pop_front();
        }
    }
    done
}
