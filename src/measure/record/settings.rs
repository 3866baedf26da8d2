//! What a comparison was asked to do, and the loads that follow from it.

use serde::{Deserialize, Serialize};

use super::Trial;
use crate::exercise::Exercise;
use crate::workload::{Offered, Traffic, Transport};

/// What a comparison was asked to do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Rounds planned. Each visits every mechanism with every idle population once.
    pub rounds: u32,
    /// Rounds completed.
    pub rounds_done: u32,
    /// How long each cell runs before it is measured.
    pub warmup_ns: u64,
    /// How long each cell is measured.
    pub measure_ns: u64,
    /// Size of a request, and of its echo; the first, if there are several.
    pub payload_bytes: u64,
    /// Idle populations, ascending.
    pub idle: Vec<u32>,
    /// Numbers of active connections, ascending.
    pub active: Vec<u32>,
    /// What they do, each of it with each number of them; in records of before one thing, of
    /// [`Settings::payload_bytes`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<Traffic>,
    /// The rates of an open loop, each with each traffic; a closed loop if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<Offered>,
    /// What carries the bytes, each with each load; TCP if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transport: Vec<Transport>,
    /// Numbers of firehoses beside the active connections, each with each load; none if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub firehoses: Vec<u32>,
    /// What pollers are put through by themselves, without a server: then there are no connections, but watched
    /// descriptors; no requests, but messages; and no [`Settings::traffic`]. Empty for servers under a load.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exercises: Vec<Exercise>,
    /// The subjects, in the order they are listed: row labels, without the control.
    pub mechanisms: Vec<String>,
    /// Server processes of each visit, and as many load processes; one if `None`.
    pub processes: Option<u32>,
    /// Time the whole may take, where it was the budget that decided about rounds.
    pub budget_ns: Option<u64>,
}

impl Settings {
    /// Every load, each with every idle population.
    pub fn loads(&self) -> impl Iterator<Item = Load> + '_ {
        let before = Some(self.traffic_of_before()).filter(|_| self.traffic.is_empty() && self.exercises.is_empty());
        let traffic = self.traffic.iter().copied().chain(before);
        let rates = move || self.offered.iter().copied().map(Some).chain(self.offered.is_empty().then_some(None));
        let usual = self.transport.is_empty().then(Transport::default);
        let transports = move || self.transport.iter().copied().chain(usual);
        let without = self.firehoses.is_empty().then_some(0);
        let beside = move |load| {
            let all = self.firehoses.iter().copied().chain(without);
            all.map(move |firehoses| Load { firehoses, ..load })
        };
        let served = traffic.flat_map(move |traffic| {
            let by = move |offered| {
                transports().map(move |transport| Load { traffic, offered, transport, ..Load::default() })
            };
            rates().flat_map(by).flat_map(beside)
        });
        let alone = self.exercises.iter().map(|&exercise| Load { exercise: Some(exercise), ..Load::default() });
        served.chain(alone).flat_map(|load| self.active.iter().map(move |&active| Load { active, ..load }))
    }

    /// The load of a trial.
    pub fn load_of(&self, trial: &Trial) -> Load {
        let traffic = match (trial.traffic, trial.exercise) {
            (Some(traffic), _) => traffic,
            (None, Some(_)) => Traffic::default(),
            (None, None) => self.traffic_of_before(),
        };
        let offered = trial.open_loop.as_ref().map(|open_loop| open_loop.offered);
        let Trial { exercise, active, transport, firehoses, .. } = *trial;
        Load { traffic, exercise, active, offered, transport, firehoses }
    }

    fn traffic_of_before(&self) -> Traffic {
        Traffic { payload: self.payload_bytes as usize, ..Traffic::default() }
    }
}

/// What keeps a server busy in one cell, or what a poller alone is put through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// What each active connection does; the pace is a closed loop's, whatever is offered. Nothing to a poller alone.
    pub traffic: Traffic,
    /// What the poller does by itself; `None` for a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exercise: Option<Exercise>,
    /// How many there are.
    pub active: u32,
    /// The rate of an open loop; `None` for a closed one.
    pub offered: Option<Offered>,
    /// What carries the bytes.
    pub transport: Transport,
    /// Connections beside the active ones that never pause.
    #[serde(default)]
    pub firehoses: u32,
}
