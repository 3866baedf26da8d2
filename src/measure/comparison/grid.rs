//! What is to be measured: every subject with every population, but for those that cannot be here, and why not.

use std::net::Ipv4Addr;

use super::Comparison;
use crate::exercise::ENDS;
use crate::limits::{Demand, OTHER_DESCRIPTORS, preflight};
use crate::measure::impossible::Impossible;
use crate::measure::missing::absent;
use crate::measure::plan::{Plan, Subject};
use crate::measure::record::{Load, Missing, Record};
use crate::measure::workload::Shape;
use crate::mechanism::Mechanism;
use crate::workload::{Sources, Transport};

impl Comparison<'_> {
    /// What it asks of the host at most: for the largest of the populations it is to measure.
    pub fn demand(&self) -> Demand {
        let most = |sizes: &[usize]| sizes.iter().max().copied().unwrap_or(0);
        self.demand_for(most(&self.workload.grid.idle).saturating_add(most(&self.workload.grid.active)))
    }

    fn demand_for(&self, connections: usize) -> Demand {
        if let Some(exercise) = &self.workload.exercise {
            // One process has both ends of each, and numbers that none of them has.
            let numbers = exercise.numbers_from.iter().max().copied().unwrap_or(0);
            let connections = (ENDS * connections) as u64 + u64::from(numbers);
            return Demand { connections, servers: 1, loads: 0, sources: 0 };
        }
        let processes = self.workload.grid.processes as u64;
        let sources = self.sources_for(connections).map_or(1, |sources| sources.count());
        Demand { connections: connections as u64, servers: processes, loads: processes, sources }
    }

    /// Where so many connections come from, if not from where the kernel likes.
    pub(super) fn sources_for(&self, connections: usize) -> Option<Sources> {
        self.sources.clone().or_else(|| Sources::enough_for(connections as u64, self.workload.grid.processes))
    }

    /// The grid; what cannot be in it is put down as missing.
    ///
    /// Of the contestants, `present` are those that have been found to be there.
    pub(super) fn plan(&self, present: &[Subject], missing: &mut Vec<Missing>) -> Result<Plan, Impossible> {
        self.workload.check().map_err(|wrong| Impossible::Invalid(wrong.why.into()))?;
        let mut subjects = Vec::new();
        for subject in &self.subjects {
            let Some(mechanism) = subject.mechanism() else { continue };
            if self.workload.exercise.is_some()
                && let Some(why) = never_alone(mechanism)
            {
                missing.push(absent(subject, None, None, why.into()));
                continue;
            }
            if self.workload.gates.contains(&Shape::Growth) && mechanism.trigger().is_none() {
                let why = "left out of a run for shapes: it has no wait whose cost could grow";
                missing.push(absent(subject, None, None, why.into()));
                continue;
            }
            match mechanism.probe(self.registry) {
                Ok(_) => {
                    for row in self.by_threads(subject, missing) {
                        subjects.extend(self.set_to_each(&row, mechanism, missing));
                    }
                }
                Err(why) => missing.push(absent(subject, None, None, why.to_string())),
            }
        }
        let Some(first) = subjects.first() else {
            let reasons = missing.iter().map(|one| format!("{} ({})", one.subject, one.reason));
            return Err(Impossible::NothingAvailable(reasons.collect::<Vec<_>>().join(", ")));
        };
        subjects.insert(1, first.again());
        subjects.extend(present.iter().cloned());

        if let Some(sources) = &self.sources {
            sources.check((Ipv4Addr::LOCALHOST, 0).into()).map_err(Impossible::Invalid)?;
        }
        let mut loads = self.workload.loads();
        for &transport in &self.workload.grid.transport {
            let Some(why) = transport.lacking() else { continue };
            loads.retain(|load| load.transport != transport);
            if loads.is_empty() {
                return Err(Impossible::Invalid(why.into()));
            }
            missing.extend(subjects.iter().map(|subject| absent(subject, None, None, why.into())));
        }
        let most_active = loads.iter().map(|load| load.active as usize).max().expect("checked: at least one is active");
        let idle = self.idle_sizes(most_active, &subjects, missing)?;
        let plan = Plan::new(subjects, idle, loads, self.workload.time.warm_up, self.workload.time.interval);
        // Several loads would need as many ceilings.
        Ok(if self.workload.grid.processes == 1 { plan.with_ceiling() } else { plan })
    }

    /// A row for each number of threads, and for each way they can share a port in.
    fn by_threads(&self, subject: &Subject, missing: &mut Vec<Missing>) -> Vec<Subject> {
        let mut rows = Vec::new();
        let sharing = &self.workload.grid.sharing;
        for &threads in &self.workload.grid.threads {
            // One has nothing to share.
            for &sharing in if threads == 1 { &sharing[..1] } else { &sharing[..] } {
                let row = subject.by_threads(threads, sharing);
                let can_share = subject.mechanism().map_or(Ok(()), |one| one.can_share(self.registry, sharing));
                match can_share {
                    Err(why) if threads > 1 => {
                        let row = absent(&row, None, None, why.to_string());
                        if !missing.contains(&row) {
                            missing.push(row);
                        }
                    }
                    // Asked for twice, it is one row all the same.
                    _ if rows.contains(&row) => {}
                    _ => rows.push(row),
                }
            }
        }
        rows
    }

    /// A row for each way the server is to be set.
    fn set_to_each(&self, row: &Subject, mechanism: &Mechanism, missing: &mut Vec<Missing>) -> Vec<Subject> {
        let Some(tuning) = &self.workload.server else { return vec![row.clone()] };
        let (mut rows, blocks) = (Vec::new(), mechanism.abilities().blocking);
        for knobs in tuning.all() {
            let row = row.set_to(knobs);
            match knobs.events.filter(|_| blocks) {
                Some(_) => missing.push(absent(&row, None, None, "it takes no events from a wait".into())),
                None => rows.push(row),
            }
        }
        rows
    }

    fn idle_sizes(
        &self,
        most_active: usize,
        subjects: &[Subject],
        missing: &mut Vec<Missing>,
    ) -> Result<Vec<usize>, Impossible> {
        let allow = |idle: usize| preflight(self.demand_for(idle.saturating_add(most_active)));
        let asked = sorted(&self.workload.grid.idle);
        let (least, most) = (asked[0], asked[asked.len() - 1]);
        if !self.workload.grid.drop_idle_to_fit {
            allow(most).map_err(Impossible::Limit)?;
            return Ok(asked);
        }
        allow(least).map_err(Impossible::Limit)?;
        let mut fitting = Vec::new();
        for idle in asked {
            match allow(idle) {
                Ok(_) => fitting.push(idle),
                Err(short) => {
                    missing.extend(subjects.iter().map(|one| absent(one, Some(idle), None, short.to_string())));
                }
            }
        }
        Ok(fitting)
    }

    /// The loads that the subject can be measured under; the others are put down as missing.
    pub(super) fn possible(&self, subject: &Subject, idle: usize, loads: &[Load], record: &mut Record) -> Vec<Load> {
        let mut possible = Vec::new();
        for &load in loads {
            let active = load.active as usize;
            match self.obstacle(subject, idle + active + load.firehoses as usize, load.transport) {
                None => possible.push(load),
                Some(why) => {
                    let cell = absent(subject, Some(idle), Some(active), why);
                    if !record.missing.contains(&cell) {
                        record.missing.push(cell);
                    }
                }
            }
        }
        possible
    }

    /// What the mechanism itself cannot do, it need not be asked to.
    fn obstacle(&self, subject: &Subject, connections: usize, by: Transport) -> Option<String> {
        if subject.contestant().is_some() && by != Transport::Tcp {
            return Some(format!("unsupported: a server that is not ours is asked over TCP, and not by {by}"));
        }
        let mechanism = subject.mechanism()?;
        if connections > 1 && !mechanism.abilities().concurrent {
            return Some("unsupported: it serves one connection at a time, and the others would wait for ever".into());
        }
        let capabilities = mechanism.probe(self.registry).ok()??;
        let connections = self.demand_for(connections).share() as usize;
        let needed = connections + OTHER_DESCRIPTORS as usize;
        if let Some(below) = capabilities.numbers_below.filter(|below| needed as u64 > *below) {
            return Some(format!("it watches numbers below {below} only, and {connections} connections need more"));
        }
        let most = capabilities.most_sources.filter(|most| needed > *most)?;
        Some(format!("it watches at most {most} sources"))
    }
}

/// Why it cannot be measured without a server, if it cannot.
fn never_alone(mechanism: &Mechanism) -> Option<&'static str> {
    if cfg!(not(unix)) {
        return Some(
            "unsupported: on this system sockets can be watched, and there are neither pipes nor pairs of them",
        );
    }
    let alone = mechanism.trigger().is_some();
    (!alone).then_some("unsupported: it has no poller that could be measured without a server")
}

fn sorted(sizes: &[usize]) -> Vec<usize> {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}
