//! The part of a comparison that measures what single calls cost: once a round, before its visits.

use std::time::Duration;

use super::placement::Placement;
use super::plan::Plan;
use super::units::LARGEST;
use crate::calibration::{CROWD, Calibration, WHOLE};
use crate::child::{self, CalibrationOrder, Failure};
use crate::mechanism::Mechanism;
use crate::usage;
use crate::workload::Transport;

/// Watched connections, at least: with fewer, what one of them costs is lost in the rest.
const FEWEST_WATCHED: usize = CROWD as usize;
/// And at most: to open more takes longer than the answer is worth, and what lies beyond is told apart in the report.
const MOST_WATCHED: usize = 5_000;
/// Bytes of messages where all are large.
const USUAL: usize = 64;
/// Descriptors for everything else.
const OTHER_DESCRIPTORS: u64 = 256;
/// A phase takes this part of the interval in which a cell is measured.
const PARTS: u32 = 15;
/// Nor does it take longer than this, however long a cell does.
const LONGEST_PHASE: Duration = Duration::from_millis(20);

// What it takes beside the phases, as seen on two cores: two processes; a connection opened, registered by each
// mechanism and closed.
const PROCESSES: Duration = Duration::from_millis(60);
const CONNECTION: Duration = Duration::from_micros(80);
/// Phases of a mechanism, of which some take twice as long; more of those that scan.
const PHASES: u32 = 9;

/// What is to be measured.
pub(super) struct Calibrator {
    order: CalibrationOrder,
    seed: u64,
}

impl Calibrator {
    /// For what the plan has in it; `None` if nothing of that waits by a poller.
    ///
    /// # Errors
    /// Why nothing is calibrated on this system.
    pub(super) fn of(
        plan: &Plan,
        processes: usize,
        interval: Duration,
        seed: u64,
    ) -> Result<Option<Calibrator>, &'static str> {
        let mut mechanisms: Vec<String> = Vec::new();
        for mechanism in plan.subjects.iter().filter_map(|subject| subject.mechanism()) {
            if mechanism.trigger().is_some() && !mechanisms.iter().any(|name| name == mechanism.name()) {
                mechanisms.push(Mechanism::name(mechanism).to_owned());
            }
        }
        let (mut transports, mut payloads): (Vec<Transport>, Vec<usize>) = Default::default();
        for load in plan.loads.iter().filter(|load| load.exercise.is_none()) {
            if !transports.contains(&load.transport) {
                transports.push(load.transport);
            }
            // Those that come together, and those that come in parts, are of any size up to the largest.
            let comes_otherwise = load.traffic.outstanding > 1 || load.traffic.payload > WHOLE;
            let all = load.traffic.payload.saturating_mul(load.traffic.outstanding);
            let sizes = [load.traffic.payload, WHOLE.min(all), LARGEST.min(all)];
            payloads.extend(if comes_otherwise { sizes.to_vec() } else { vec![load.traffic.payload] });
        }
        // Most phases are of the first; large ones are measured apart.
        let mut seen = Vec::new();
        payloads.retain(|size| {
            *size <= LARGEST && !seen.contains(size) && {
                seen.push(*size);
                true
            }
        });
        payloads.sort_by_key(|size| *size > WHOLE);
        if payloads.first().is_some_and(|size| *size > WHOLE) {
            payloads.insert(0, USUAL);
        }
        if mechanisms.is_empty() || transports.is_empty() || payloads.is_empty() {
            return Ok(None);
        }
        if cfg!(not(unix)) {
            return Err("none on this system, so that no cell is predicted: it is made by processes of Unix");
        }
        let room = usage::raise_descriptor_limit().unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS);
        let most = plan.idle.iter().max().map_or(0, |most| most / processes.max(1));
        let watched = most.clamp(FEWEST_WATCHED, MOST_WATCHED).min(usize::try_from(room).unwrap_or(usize::MAX));
        let Placement { server: cpu, load: peer_cpu } = Placement::choose();
        let span = (interval / PARTS).min(LONGEST_PHASE);
        let order = CalibrationOrder { mechanisms, transports, payloads, watched, cpu, peer_cpu, span, seed };
        Ok(Some(Calibrator { order, seed }))
    }

    /// How long each time takes, as far as can be told.
    pub(super) fn time(&self) -> Duration {
        let CalibrationOrder { mechanisms, transports, payloads, watched, span, .. } = &self.order;
        let phases = PHASES * mechanisms.len() as u32 + payloads.len() as u32;
        (PROCESSES + CONNECTION * *watched as u32 + *span * phases) * transports.len() as u32
    }

    /// Measures, before the visits of this round.
    pub(super) fn run(&self, round: u32) -> Result<Vec<Calibration>, Failure> {
        let order = CalibrationOrder { seed: self.seed.wrapping_add(round.into()), ..self.order.clone() };
        let rows = child::calibrate(&order)?;
        Ok(rows.into_iter().map(|row| Calibration { round, ..row }).collect())
    }
}
