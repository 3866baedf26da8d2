//! What is asked of a server: made of what was seen at its port, and made into a workload that asks it of others.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::measure::Workload;
use crate::measure::workload::{Grid, LARGEST_PAYLOAD, MOST_PER_SECOND, Time};
use crate::observe::Activity;
use crate::server::Sharing;
use crate::workload::{Arrivals, Transport};

/// A connection for more exchanges than this costs less than the noise: it is taken to stay.
const STAYS: u64 = 1_000;
/// So many connections are kept busy at most, to find the cost model: from there on nothing changes.
const MOST_BUSY: usize = 100;
/// A population beside which a scan is told from noise.
const CROWD: usize = 100;

/// What is asked of a server.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Pattern {
    /// Connections that are open.
    pub connections: usize,
    /// Those of them that ask; at least one.
    pub active: usize,
    /// Those that ask at the same moment, or nearly; at least one.
    pub at_once: usize,
    /// Exchanges a second.
    pub per_second: f64,
    /// Bytes of a request, and of an answer, on average.
    pub bytes: (f64, f64),
    /// Bytes of a payload and of its echo that come to as many.
    pub payload: usize,
    /// Exchanges after which a connection is closed; `None` if they stay, or nearly.
    pub exchanges_per_connection: Option<u64>,
    /// Connections opened each second.
    pub opened_per_second: f64,
    /// Most connections came and went without being seen: what is opened is what the host has accepted, at all of its
    /// ports, and exchanges are as many as one that was seen had.
    pub by_host: bool,
}

/// Why nothing can be advised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unusable {
    /// The kernel tells no figures of the connections.
    Untold,
    /// No exchange was seen.
    Quiet {
        /// Connections that were open.
        open: usize,
        /// Those that were asked, and had not answered.
        unanswered: usize,
        /// Those that sent, and were asked nothing.
        unasked: usize,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Untold => f.write_str(
                "the kernel lists the connections and tells no figures of them: sock_diag(7) is missing or forbidden, as \
                 in some containers; watch from the host",
            ),
            Unusable::Quiet { open, unanswered, unasked } => {
                write!(f, "no request was answered while it was watched: of {open} connections {unanswered} asked without \
                           an answer, and {unasked} were sent data unasked; watch for longer (--for 60s), or when it is in use")
            }
        }
    }
}

impl std::error::Error for Unusable {}

impl Pattern {
    /// From what was seen, and how many connections the host has accepted meanwhile, if that is known.
    ///
    /// # Errors
    /// [`Unusable`]: nothing was asked, or the kernel does not tell.
    pub fn of(activity: &Activity, accepted: Option<u64>) -> Result<Pattern, Unusable> {
        let Activity { open, active, exchanges, .. } = *activity;
        if activity.untold > 0 {
            return Err(Unusable::Untold);
        }
        if exchanges == 0 {
            let Activity { unanswered, unasked, .. } = *activity;
            return Err(Unusable::Quiet { open, unanswered, unasked });
        }
        let seconds = activity.window.as_secs_f64().max(f64::MIN_POSITIVE);
        let bytes = (activity.received as f64 / exchanges as f64, activity.sent as f64 / exchanges as f64);
        let by_host = activity.fleeting && accepted.is_some_and(|accepted| accepted > activity.came);
        let opened = if by_host { accepted.unwrap_or(0) } else { activity.came };
        let each = if by_host { activity.most_exchanges.max(1) } else { exchanges.div_ceil(opened.max(1)) };
        let per_second = if by_host { (opened * each) as f64 } else { exchanges as f64 } / seconds;
        let active = active.max(activity.at_once).max(1);
        Ok(Pattern {
            connections: open.max(active),
            active,
            at_once: activity.at_once.clamp(1, active),
            per_second,
            bytes,
            payload: (((bytes.0 + bytes.1) / 2.0).round() as usize).clamp(1, LARGEST_PAYLOAD),
            exchanges_per_connection: (opened > 0 && each <= STAYS).then_some(each),
            opened_per_second: opened as f64 / seconds,
            by_host,
        })
    }

    /// Connections that do not ask.
    pub fn idle(&self) -> usize {
        self.connections - self.active.min(self.connections)
    }

    /// A workload that asks the same of every mechanism: at the rate that was seen, or where connections come and go, which
    /// an open loop has none of, by a closed loop of as many as asked at once. Each cell is measured for 200 ms, or for as
    /// long as fifty exchanges take, but for a second at most.
    pub fn workload(&self, name: &str, budget: Duration) -> Workload {
        let churns = self.exchanges_per_connection;
        let active = if churns.is_some() { self.at_once } else { self.active };
        let per_second = (self.per_second.round() as u32).clamp(1, MOST_PER_SECOND);
        let seconds = if churns.is_some() { 0.2 } else { (50.0 / self.per_second).clamp(0.2, 1.0) };
        let told = self.told();
        Workload {
            name: name.to_owned(),
            title: format!("What was asked of a live server: {told}"),
            shows: "What each mechanism costs a server that does nothing but echo, asked as that one was.".to_owned(),
            hides: "What the server itself does with a request; when requests came, of which only the mean is known; the path \
                    of its clients, who are on this host here; and sizes, of which only the mean is known."
                .to_owned(),
            expect: "What `pollmark advise` has predicted, to 15 %.".to_owned(),
            gates: Vec::new(),
            grid: Grid {
                idle: vec![self.connections.saturating_sub(active)],
                exchanges_per_connection: vec![churns.unwrap_or(0)],
                per_second: if churns.is_some() { Vec::new() } else { vec![per_second] },
                ..grid(vec![active], self.payload)
            },
            exercise: None,
            server: None,
            time: Time {
                warm_up: Duration::from_millis(20),
                interval: Duration::from_secs_f64(seconds),
                budget,
                rounds: None,
            },
        }
    }

    /// A workload that the cost model can be found from, at and around this pattern.
    pub fn model_workload(&self, budget: Duration) -> Workload {
        let most = self.connections.max(CROWD);
        let busy = self.active.clamp(10, MOST_BUSY);
        let idle = if most >= 10 * CROWD { vec![0, most / 10, most] } else { vec![0, most] };
        Workload {
            name: "cost-model".to_owned(),
            title: "Enough to find what a wait, a watched connection and a request cost".to_owned(),
            shows: "The three figures of the cost model, around what a live server was seen to be asked.".to_owned(),
            hides: "Everything that a longer comparison would tell; the intervals are wide.".to_owned(),
            expect: "A mechanism that scans costs more with each connection, the others do not.".to_owned(),
            gates: Vec::new(),
            grid: Grid { idle, drop_idle_to_fit: true, ..grid(vec![1, busy], self.payload) },
            exercise: None,
            server: None,
            time: Time {
                warm_up: Duration::from_millis(20),
                interval: Duration::from_millis(100),
                budget,
                rounds: None,
            },
        }
    }

    fn told(&self) -> String {
        let Pattern { connections, active, per_second, payload, .. } = self;
        let ends = match self.exchanges_per_connection {
            None => String::new(),
            Some(each) => format!(", a connection for each {each}"),
        };
        format!("{per_second:.0} exchanges of {payload} bytes a second on {active} of {connections} connections{ends}")
    }
}

fn grid(active: Vec<usize>, payload: usize) -> Grid {
    Grid {
        mechanisms: Vec::new(),
        idle: Vec::new(),
        drop_idle_to_fit: false,
        active,
        payload: vec![payload],
        outstanding: vec![1],
        exchanges_per_connection: vec![0],
        offered: Vec::new(),
        per_second: Vec::new(),
        arrivals: vec![Arrivals::Poisson],
        transport: vec![Transport::Tcp],
        firehoses: vec![0],
        threads: vec![1],
        sharing: vec![Sharing::default()],
        processes: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Activity {
        Activity {
            window: Duration::from_secs(5),
            looks: 20,
            listeners: 1,
            open: 1_005,
            active: 5,
            at_once: 2,
            exchanges: 10_000,
            received: 640_000,
            sent: 1_280_000,
            ..Activity::default()
        }
    }

    #[test]
    fn counts_become_rates_and_means() {
        let pattern = Pattern::of(&activity(), Some(3)).expect("it was asked");
        assert_eq!((pattern.connections, pattern.active, pattern.idle(), pattern.at_once), (1_005, 5, 1_000, 2));
        assert_eq!((pattern.per_second, pattern.bytes, pattern.payload), (2_000.0, (64.0, 128.0), 96));
        assert_eq!((pattern.exchanges_per_connection, pattern.opened_per_second, pattern.by_host), (None, 0.0, false));
    }

    #[test]
    fn connections_that_come_and_go_are_replayed_so_and_those_that_hardly_do_are_taken_to_stay() {
        let churning = |came| Activity { came, went: came, ..activity() };
        let pattern = Pattern::of(&churning(1_000), None).expect("it was asked");
        assert_eq!((pattern.exchanges_per_connection, pattern.opened_per_second), (Some(10), 200.0));
        let workload = pattern.workload("port-1", Duration::from_secs(1));
        assert_eq!((workload.grid.exchanges_per_connection, workload.grid.per_second), (vec![10], vec![]));
        assert_eq!((workload.grid.active, workload.grid.idle), (vec![2], vec![1_003]));
        let pattern = Pattern::of(&churning(5), None).expect("it was asked");
        assert_eq!((pattern.exchanges_per_connection, pattern.opened_per_second), (None, 1.0));
    }

    #[test]
    fn what_no_look_can_see_is_what_the_host_has_counted() {
        let fleeting =
            Activity { fleeting: true, came: 40, went: 40, most_exchanges: 2, open: 3, active: 3, ..activity() };
        let pattern = Pattern::of(&fleeting, Some(5_000)).expect("it was asked");
        assert!(pattern.by_host && pattern.exchanges_per_connection == Some(2), "{pattern:?}");
        assert_eq!((pattern.opened_per_second, pattern.per_second), (1_000.0, 2_000.0));
        for (fleeting, accepted) in [(true, None), (false, Some(5_000))] {
            let seen = Activity { fleeting, came: 40, ..activity() };
            assert!(!Pattern::of(&seen, accepted).expect("it was asked").by_host);
        }
    }

    #[test]
    fn a_server_that_nobody_asks_and_a_kernel_that_does_not_tell_are_told_apart() {
        let quiet = Activity { exchanges: 0, active: 0, unanswered: 2, ..activity() };
        let why = Pattern::of(&quiet, None).expect_err("nothing was asked");
        assert!(why.to_string().contains("1005 connections 2 asked") && why.to_string().contains("--for"), "{why}");
        let untold = Pattern::of(&Activity { untold: 9, ..quiet }, None).expect_err("nothing is known");
        assert_eq!(untold, Unusable::Untold);
    }

    #[test]
    fn a_pattern_is_a_workload_that_can_be_asked_for_and_its_file_says_the_same() {
        for came in [0, 1_000, 10_000] {
            for exchanges in [1, 30, 10_000, 4_000_000_000] {
                let seen = Activity { came, exchanges, ..activity() };
                let pattern = Pattern::of(&seen, None).expect("it was asked");
                let budget = Duration::from_secs(30);
                for workload in [pattern.workload("port-6379", budget), pattern.model_workload(budget)] {
                    assert_eq!(workload.check(), Ok(()), "{workload:?}");
                }
                let mut workload = pattern.workload("port-6379", budget);
                workload.grid.mechanisms = vec!["poll".to_owned(), "epoll".to_owned()];
                let read = Workload::parse(&workload.to_toml(), "saved.toml").expect("ours");
                assert_eq!(read, workload);
            }
        }
    }

    #[test]
    fn the_model_is_looked_for_where_the_pattern_lies() {
        let of = |open, active| Pattern::of(&Activity { open, active, ..activity() }, None).expect("it was asked");
        let grid = |pattern: Pattern| pattern.model_workload(Duration::ZERO).grid;
        assert_eq!(grid(of(20_000, 500)).idle, [0, 2_000, 20_000]);
        assert_eq!((grid(of(20, 5)).idle, grid(of(20, 5)).active), (vec![0, 100], vec![1, 10]));
        assert_eq!(grid(of(20_000, 500)).active, [1, 100]);
    }
}
