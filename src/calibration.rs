//! What single calls of a server cost on this host: what is done to find out, and the CPU time it took.
//!
//! In each round of a comparison a process like the measured server makes calls of one kind at a time, beside a peer on the
//! load's CPU. What it used is in the record as [`Calibration`], a row for each phase. No cell has a part in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::workload::Transport;

/// So many watched descriptors are a crowd, what goes over which finds little of anything else in the caches afterwards.
pub(crate) const CROWD: u32 = 128;

/// So many bytes come in one piece whatever the buffers of a connection are set to.
pub(crate) const WHOLE: usize = 16 * 1024;

/// One phase of one calibration.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Calibration {
    /// The round it was made in, from 0: just before its visits.
    pub round: u32,
    /// What was done.
    pub phase: Phase,
    /// The mechanism that waited; `None` where nothing waited but recv(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// What carried the bytes.
    #[serde(skip_serializing_if = "Transport::is_usual")]
    pub transport: Transport,
    /// Bytes of each message.
    pub payload_bytes: u64,
    /// Descriptors that the mechanism watched.
    pub watched: u32,
    /// Events that a wait could return at most.
    pub batch: u32,
    /// Events returned.
    pub events: u64,
    /// The calls made, and the CPU time they took.
    pub calls: BTreeMap<Call, Spent>,
    /// How often the process went to sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slept: Option<u64>,
    /// How often its peer did, which it then had to wake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_slept: Option<u64>,
}

/// What is done in a phase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits that find something, receives and sends; nobody sleeps, nobody is woken.
    #[default]
    Awake,
    /// The same on one connection, to and fro: both ends sleep.
    Asleep,
    /// As above, without a mechanism: recv(2) waits.
    Blocking,
    /// Descriptors are registered, and taken out again.
    Registration,
    /// Connections are taken on, looked at in vain, and closed.
    Connections,
}

/// A call whose cost is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// A wait of the mechanism, whatever system calls that makes.
    Wait,
    /// recv(2) of a message.
    Receive,
    /// recv(2) that finds nothing.
    ReceiveNothing,
    /// send(2) of a message, with what the kernel does for it at the receiver's end.
    Send,
    /// Beginning to watch a descriptor, with the wait that tells the kernel, where one does.
    Add,
    /// Arming it again.
    Modify,
    /// Ceasing to watch it.
    Remove,
    /// accept(2) of a connection.
    Accept,
    /// close(2) of a connection that its peer has reset.
    Close,
}

/// How often, and for how long altogether.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Calls.
    pub times: u64,
    /// CPU time of all of them, in nanoseconds.
    pub cpu_ns: u64,
}

impl Calibration {
    /// What one such call took, on average.
    pub(crate) fn each(&self, call: Call) -> Option<f64> {
        let spent = self.calls.get(&call).filter(|spent| spent.times > 0)?;
        Some(spent.cpu_ns as f64 / spent.times as f64)
    }

    pub(crate) fn spent(&self, call: Call) -> Spent {
        self.calls.get(&call).copied().unwrap_or_default()
    }
}
