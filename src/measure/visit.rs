//! One visit: a fresh server and a fresh load, one idle population, each active size in turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::contestant::Contestant;
use super::counters::{self, Counters};
use super::fairness::Served;
use super::firehose::{self, Firehoses};
use super::open_loop::{Capacity, OpenLoop};
use super::placement::Placement;
use super::population::Before;
use super::record::{Load, Population, Trial};
use super::sockets::{self, Census};
use crate::child::{self, Crew, Failure, Knobs, Lap, Loads, Ran, Servers, Service, Span, Target, Trouble};
use crate::server::Address;
use crate::speech::Speech;
use crate::workload::{Sources, Traffic};

/// What is to be visited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'a> {
    /// What is known of each trial before it is measured: whom, beside how many idle connections, and in which round.
    pub(super) trial: &'a Trial,
    pub(super) loads: &'a [Load],
    /// How it is started, if it is not ours.
    pub(super) contestant: Option<&'a Contestant>,
    /// Its threads, if there are several.
    pub(super) crew: Option<&'a Crew>,
    /// What it is set to.
    pub(super) knobs: Knobs,
    /// Server processes, and as many load processes.
    pub(super) processes: usize,
    /// Where connections come from.
    pub(super) sources: Option<&'a Sources>,
    pub(super) warm_up: Duration,
    pub(super) interval: Duration,
    pub(super) placement: Placement,
    /// When the comparison began.
    pub(super) began: Began,
}

/// When a comparison began: now, less the time it was not running in, for one that is resumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    pub(super) resumed: Instant,
    pub(super) before: Duration,
}

impl Began {
    /// How long ago that was, at a later moment.
    pub(super) fn until(self, moment: Instant) -> Duration {
        self.before + moment.duration_since(self.resumed)
    }
}

/// What a visit brought back.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// A trial of each load, in the order measured, void or not. One is lacking only where the visit was
    /// interrupted.
    pub(super) trials: Vec<Trial>,
    /// What it took to have the idle connections, if there were any.
    pub(super) population: Option<Population>,
    /// Why the processes are bound to no CPU, if they are not.
    pub(super) unpinned: Option<String>,
    /// Why instructions are not counted, if they were to be.
    pub(super) uncounted: Option<String>,
}

/// Makes the visit. Trouble with one load voids it and those after it; what was measured before is kept.
/// Each trial is told to `keep` at once.
pub(super) fn visit(errand: &Errand<'_>, stop: &AtomicBool, keep: &mut dyn FnMut(&Trial)) -> Report {
    let mut report = Report::default();
    let mut port = None;
    let measured = Pair::start(errand, &mut report).and_then(|pair| {
        port = pair.address.tcp().map(|address| address.port());
        pair.measure(errand, stop, &mut report, keep)
    });
    if let Some(population) = &mut report.population {
        population.time_wait_left = left(port);
    }
    if let Err(Trouble { why, .. }) = measured
        && !stop.load(Ordering::Relaxed)
    {
        for load in &errand.loads[report.trials.len()..] {
            let trial = Trial { errors: 1, void: Some(why.clone()), ..errand.trial(load) };
            keep(&trial);
            report.trials.push(trial);
        }
    }
    report
}

/// What of all this is left in TIME_WAIT, once it is closed.
fn left(port: Option<u16>) -> Option<u64> {
    Census::take(port?).map(|census| census.time_wait)
}

impl Errand<'_> {
    /// How many idle connections there are to be.
    pub(super) fn idle(&self) -> usize {
        self.trial.idle as usize
    }

    /// A trial of which nothing is known yet but what it is a trial of.
    pub(super) fn trial(&self, load: &Load) -> Trial {
        Trial {
            active: load.active,
            traffic: load.exercise.is_none().then_some(load.traffic),
            firehoses: load.firehoses,
            open_loop: load.offered.map(OpenLoop::begin),
            exercise: load.exercise,
            ..self.trial.clone()
        }
    }
}

/// Servers and their loads, as a rule one of each. The loads are dropped, and end, first: their resets leave no port in
/// TIME_WAIT.
struct Pair {
    loads: Loads,
    servers: Servers,
    address: Address,
    /// What a closed loop has found out for the open ones of this visit.
    capacities: BTreeMap<Load, Capacity>,
}

impl Pair {
    fn start(errand: &Errand<'_>, report: &mut Report) -> Result<Pair, Trouble> {
        // The load begins before the server is waited for.
        let loads = Loads::start(errand.processes)?;
        let Placement { server: cpu, load: load_cpu } = errand.placement;
        let &Trial { ref mechanism, ceiling, transport, counted: count_instructions, .. } = errand.trial;
        let mut servers = match errand.contestant {
            Some(contestant) => Servers::launch(&contestant.launch(), cpu, count_instructions)?,
            None => {
                let (crew, knobs, speech) = (errand.crew, errand.knobs, Speech::default());
                let service = Service { mechanism, ceiling, transport, speech, cpu, crew, knobs, count_instructions };
                Servers::start(errand.processes, &service)?
            }
        };
        (report.unpinned, report.uncounted) = (servers.unpinned.take(), servers.uncounted.take());
        let address = servers.addresses()[0].clone();
        let aim = child::target(&address).map_err(|error| Failure(error.to_string()))?;
        let mut pair = Pair { loads, servers, address, capacities: BTreeMap::new() };
        let size = errand.loads.first().map_or(1, |load| load.traffic.payload);
        let target = Target { address: aim, size, cpu: load_cpu, sources: errand.sources };
        let aimed = pair.loads.aim(&target);
        pair.judge(aimed)?;
        report.unpinned = report.unpinned.take().or(pair.loads.unpinned.take());
        Ok(pair)
    }

    fn measure(
        mut self,
        errand: &Errand<'_>,
        stop: &AtomicBool,
        report: &mut Report,
        keep: &mut dyn FnMut(&Trial),
    ) -> Result<(), Trouble> {
        // What a server allocates once, for its first connection, is no connection's. With several, the kernel chooses
        // which is given one: so many leave none without.
        let first = if errand.processes == 1 { 1 } else { 16 * errand.processes };
        self.open_active(first, stop)?;
        self.run(Span::Requests(100))?;
        if let Some(contestant) = errand.contestant.filter(|contestant| !contestant.warm_up.is_zero()) {
            let warmed = self.loads.run(Span::Elapsed(contestant.warm_up), Some(stop));
            self.judge(warmed)?;
        }
        self.close_active()?;

        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        if errand.idle() > 0 {
            report.population = Some(self.populate(errand, stop)?);
        }
        let grown = report.population.as_ref().and_then(|population| population.servers_bytes);
        let per_connection = grown.map(|grown| grown as f64 / errand.idle() as f64);

        for load in errand.loads {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let trial = self.trial(load, errand, stop)?;
            let trial = Trial { rss_per_connection_bytes: per_connection, ..trial };
            keep(&trial);
            report.trials.push(trial);
        }
        Ok(())
    }

    /// Opens the idle connections.
    fn populate(&mut self, errand: &Errand<'_>, stop: &AtomicBool) -> Result<Population, Trouble> {
        let before = Before::now(self.lap(true)?.memory, self.loads.memory()?);
        let opened = self.loads.open_idle(errand.idle(), stop);
        self.judge(opened)?;
        let took = before.elapsed();
        Ok(before.until_now(errand, took, self.lap(true)?.memory, self.loads.memory()?))
    }

    fn trial(&mut self, load: &Load, errand: &Errand<'_>, stop: &AtomicBool) -> Result<Trial, Trouble> {
        let before = Counters::read();
        self.follow(load.traffic)?;
        // Connections that do not stay are opened by the run, and closed by it.
        let stay = load.traffic.exchanges == 0;
        let active = load.active as usize;
        if stay {
            self.open_active(active, stop)?;
        }
        let firehoses = self.firehoses(load, errand, stop)?;
        let capacity = match load.offered {
            None => None,
            Some(offered) => {
                let capacity = self.capacity(load, errand)?;
                self.follow(Traffic { pace: offered.of(capacity.per_second), ..load.traffic })?;
                Some((offered, capacity))
            }
        };
        let run = |pair: &mut Pair, span| if stay { pair.run(span) } else { pair.churn(active, span, stop) };
        run(self, Span::Elapsed(errand.warm_up))?;
        self.lap(false)?;
        let began = errand.began.until(Instant::now());
        let ran = run(self, Span::Elapsed(errand.interval))?;
        if !stay && stop.load(Ordering::Relaxed) {
            // Connections that are opened may be interrupted, and then it has not lasted as long as it was to.
            return Err(Trouble { why: "interrupted".to_owned(), voids: false });
        }
        let lap = self.lap(true)?;
        let connections = (errand.idle() + load.firehoses as usize + if stay { active } else { 0 }) as u64;
        let established = sockets::established(&self.address, connections);
        let streamed = firehoses.map(Firehoses::end).transpose();
        let streamed = self.judge(streamed)?;
        let quiet = self.loads.verify_idle();
        self.judge(quiet)?;
        self.close_active()?;
        let now = Counters::read();
        let risen = before.risen(&now);

        let stats = lap.stats.unwrap_or_default();
        let refused = (stats.refused > 0).then(|| format!("the server refused {} connections", stats.refused));
        let others = established.filter(|listed| *listed != connections);
        let others = others.map(|listed| format!("the kernel lists {listed} connections instead of {connections}"));
        let nothing = nothing(&ran);
        // A clock that did not move, see `usage::cpu_tick`, tells nothing; least of all that requests are free.
        let server_cpu = lap.cpu.filter(|cpu| !cpu.is_zero());
        // Both loads share a CPU.
        let beside = streamed.and_then(|streamed| streamed.busy).unwrap_or(0.0);
        let cpu = ran.cpu.map(|cpu| cpu + ran.elapsed.mul_f64(beside));
        let limited = self.loads.were_the_limit(&Ran { cpu, elapsed: ran.elapsed, ..Ran::default() });
        // Whom the schedule chose, and how often, is not the server's doing.
        let served = if capacity.is_none() { Served::of(&ran.served) } else { None };
        let open_loop = capacity.zip(ran.open).map(|((offered, of), open)| OpenLoop::end(offered, of, open));
        Ok(Trial {
            began_ns: Some(nanos(began)),
            duration_ns: nanos(ran.elapsed),
            requests: ran.requests,
            bytes: ran.bytes,
            server_cpu_ns: server_cpu.map(nanos),
            server_user_ns: lap.user.map(nanos),
            server_system_ns: lap.system.map(nanos),
            client_cpu_ns: ran.cpu.map(nanos),
            slept: lap.slept,
            client_slept: ran.slept,
            ledger: stats.into(),
            instructions_user: lap.instructions.map(|instructions| instructions.user),
            instructions_kernel: lap.instructions.and_then(|instructions| instructions.kernel),
            server_rss_bytes: lap.memory,
            served,
            firehose_bytes_per_second: streamed.map(|streamed| streamed.per_second),
            client_limited: open_loop.as_ref().map_or(limited, |open| Some(open.is_late(&ran.latency))),
            latency: ran.latency,
            open_loop,
            steal_ns: before.stolen(&now).map(nanos),
            established,
            open: lap.stats.map(|stats| stats.open),
            open_by_thread: lap.open_by_thread,
            void: counters::forbidden(&risen).or(refused).or(others).or(nothing),
            kernel: risen,
            ..errand.trial(load)
        })
    }

    /// The firehoses of the load, streaming, if it has any.
    fn firehoses(&mut self, load: &Load, errand: &Errand<'_>, stop: &AtomicBool) -> Result<Option<Firehoses>, Trouble> {
        if load.firehoses == 0 {
            return Ok(None);
        }
        let address = child::target(&self.address).map_err(|error| Failure(error.to_string()))?;
        let target = Target { address, size: firehose::PAYLOAD, cpu: errand.placement.load, sources: errand.sources };
        let opened = Firehoses::open(load.firehoses, &target, stop);
        self.judge(opened).map(Some)
    }

    /// What the connections that are open can do in a closed loop, found out once.
    fn capacity(&mut self, load: &Load, errand: &Errand<'_>) -> Result<Capacity, Trouble> {
        let known = Load { offered: None, ..*load };
        if let Some(capacity) = self.capacities.get(&known) {
            return Ok(*capacity);
        }
        self.run(Span::Elapsed(errand.warm_up))?;
        let ran = self.run(Span::Elapsed(errand.interval))?;
        let per_second = ran.requests as f64 / ran.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let capacity = Capacity { per_second, limited: self.loads.were_the_limit(&ran) };
        self.capacities.insert(known, capacity);
        Ok(capacity)
    }

    fn follow(&mut self, traffic: Traffic) -> Result<(), Trouble> {
        let followed = self.loads.follow(traffic);
        self.judge(followed)
    }

    /// What the servers did since the last lap.
    fn lap(&mut self, memory: bool) -> Result<Lap, Failure> {
        self.servers.lap(memory)
    }

    fn open_active(&mut self, connections: usize, stop: &AtomicBool) -> Result<(), Trouble> {
        let opened = self.loads.open_active(connections, stop);
        self.judge(opened)
    }

    fn close_active(&mut self) -> Result<(), Trouble> {
        let closed = self.loads.close_active();
        self.judge(closed)
    }

    fn run(&mut self, span: Span) -> Result<Ran, Trouble> {
        // Not to be interrupted: it is short, and what was cut short is no measurement.
        let ran = self.loads.run(span, None);
        self.judge(ran)
    }

    fn churn(&mut self, connections: usize, span: Span, stop: &AtomicBool) -> Result<Ran, Trouble> {
        let ran = self.loads.churn(connections, span, stop);
        self.judge(ran)
    }

    /// What the load met; but if a server has failed, that is the cause.
    fn judge<T>(&mut self, met: Result<T, Trouble>) -> Result<T, Trouble> {
        met.map_err(|trouble| match self.lap(false) {
            Err(cause) => cause.into(),
            Ok(_) => trouble,
        })
    }
}

/// That nothing came of it, where something should have: at a low rate at random it may be that nothing was due.
fn nothing(ran: &Ran) -> Option<String> {
    let due = ran.open.as_ref().is_none_or(|open| !open.slip.is_empty());
    (ran.requests == 0 && due).then(|| "not one request was completed".to_owned())
}

pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Open;

    #[test]
    fn a_run_in_which_nothing_was_due_is_not_void_for_nothing_having_come() {
        let open = |slip: &[(u64, u64)]| Ran {
            open: Some(Open { from_send: Vec::new(), slip: slip.to_vec(), unsent: 0 }),
            ..Ran::default()
        };
        assert_eq!(nothing(&open(&[])), None);
        for void in [open(&[(100, 1)]), Ran::default()] {
            assert!(nothing(&void).is_some(), "{void:?}");
        }
        assert_eq!(nothing(&Ran { requests: 1, ..Ran::default() }), None);
    }
}
