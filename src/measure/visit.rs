//! One visit: a fresh server and a fresh load, one idle population, each active size in turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::counters::{self, Counters};
use super::placement::Placement;
use super::record::Trial;
use crate::child::wire::{Lap, LoadAnswer, LoadOrder, Ran, ServerAnswer, ServerOrder, Span};
use crate::child::{Child, Failure, Role};
use crate::workload;

/// How long a child may take to answer what it does at once, and what may take it a while.
const PROMPT: Duration = Duration::from_secs(15);
const PATIENT: Duration = Duration::from_secs(60);

/// What is to be visited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'a> {
    pub(super) mechanism: &'a str,
    pub(super) idle: usize,
    pub(super) active: &'a [usize],
    pub(super) size: usize,
    pub(super) warm_up: Duration,
    pub(super) interval: Duration,
    pub(super) placement: Placement,
    /// Counters spoil times, so this is for a round whose times are not used.
    pub(super) counted: bool,
}

/// What a visit brought back.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// A trial of each active size, in the order measured, void or not. One is lacking only where the visit was
    /// interrupted.
    pub(super) trials: Vec<Trial>,
    /// Why the processes are bound to no CPU, if they are not.
    pub(super) unpinned: Option<String>,
    /// Why instructions are not counted, if they were to be.
    pub(super) uncounted: Option<String>,
}

/// Makes the visit. Trouble with one active size voids it and those after it; what was measured before is kept.
pub(super) fn visit(errand: &Errand<'_>, stop: &AtomicBool) -> Report {
    let mut report = Report::default();
    let measured = Pair::start(errand, &mut report).and_then(|pair| pair.measure(errand, stop, &mut report));
    if let Err(Trouble(why)) = measured {
        for &active in &errand.active[report.trials.len()..] {
            report.trials.push(Trial { errors: 1, void: Some(why.clone()), ..errand.trial(active) });
        }
    }
    report
}

impl Errand<'_> {
    /// A trial of which nothing is known yet but what it is a trial of.
    fn trial(&self, active: usize) -> Trial {
        Trial {
            counted: self.counted,
            mechanism: self.mechanism.to_owned(),
            idle: self.idle as u32,
            active: active as u32,
            ..Trial::default()
        }
    }
}

/// Why a trial does not count.
#[derive(Debug)]
struct Trouble(String);

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble(failure.to_string())
    }
}

/// A server and its load. The load is dropped, and ends, first: its resets leave no port in TIME_WAIT.
struct Pair {
    load: Child<LoadOrder, LoadAnswer>,
    server: Child<ServerOrder, ServerAnswer>,
}

impl Pair {
    fn start(errand: &Errand<'_>, report: &mut Report) -> Result<Pair, Trouble> {
        // Both begin before either is waited for.
        let mut pair = Pair { load: Child::start(Role::Load)?, server: Child::start(Role::Server)? };
        let Placement { server: cpu, load: load_cpu } = errand.placement;
        let order = ServerOrder::Serve { mechanism: errand.mechanism.into(), cpu, count_instructions: errand.counted };
        let address = match pair.server.ask(&order, PROMPT)? {
            ServerAnswer::Serving { address, unpinned, uncounted } => {
                (report.unpinned, report.uncounted) = (unpinned, uncounted);
                address
            }
            ServerAnswer::Failed(why) => return Err(Trouble(why)),
            ServerAnswer::Lap(_) => return Err(out_of_turn("server")),
        };
        let order = LoadOrder::Target { address, size: errand.size, cpu: load_cpu };
        match pair.load.ask(&order, PROMPT)? {
            LoadAnswer::Ready { unpinned } => report.unpinned = report.unpinned.take().or(unpinned),
            answer => return Err(pair.cause(answer)),
        }
        Ok(pair)
    }

    fn measure(mut self, errand: &Errand<'_>, stop: &AtomicBool, report: &mut Report) -> Result<(), Trouble> {
        // What the server allocates once, for its first connection, is no connection's.
        self.tell(LoadOrder::OpenActive(1), PATIENT)?;
        self.run(Span::Requests(100))?;
        self.tell(LoadOrder::CloseActive, PROMPT)?;

        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let empty = self.lap(true)?.memory;
        self.tell(LoadOrder::OpenIdle(errand.idle), PATIENT)?;
        let populated = self.lap(true)?.memory;
        let grown = populated.zip(empty).map(|(populated, empty)| populated.saturating_sub(empty));
        let per_connection = grown.filter(|_| errand.idle > 0).map(|grown| grown as f64 / errand.idle as f64);

        for &active in errand.active {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let trial = self.trial(active, errand)?;
            report.trials.push(Trial { rss_per_connection_bytes: per_connection, ..trial });
        }
        Ok(())
    }

    fn trial(&mut self, active: usize, errand: &Errand<'_>) -> Result<Trial, Trouble> {
        let before = Counters::read();
        self.tell(LoadOrder::OpenActive(active), PATIENT)?;
        self.run(Span::Elapsed(errand.warm_up))?;
        self.lap(false)?;
        let ran = self.run(Span::Elapsed(errand.interval))?;
        let lap = self.lap(true)?;
        self.tell(LoadOrder::VerifyIdle, PROMPT)?;
        self.tell(LoadOrder::CloseActive, PROMPT)?;
        let now = Counters::read();
        let risen = before.risen(&now);

        let refused = (lap.refused > 0).then(|| format!("the server refused {} connections", lap.refused));
        let nothing = (ran.requests == 0).then(|| "not one request was completed".to_owned());
        let busy = ran.cpu.map(|cpu| workload::was_the_limit(cpu, ran.elapsed));
        Ok(Trial {
            duration_ns: nanos(ran.elapsed),
            requests: ran.requests,
            bytes: ran.bytes,
            server_cpu_ns: lap.cpu.map(nanos),
            server_user_ns: lap.user.map(nanos),
            server_system_ns: lap.system.map(nanos),
            client_cpu_ns: ran.cpu.map(nanos),
            ledger: lap.ledger,
            instructions_user: lap.instructions.map(|instructions| instructions.user),
            instructions_kernel: lap.instructions.and_then(|instructions| instructions.kernel),
            server_rss_bytes: lap.memory,
            latency: ran.latency,
            client_limited: busy,
            steal_ns: before.stolen(&now).map(nanos),
            void: counters::forbidden(&risen).or(refused).or(nothing),
            kernel: risen,
            ..errand.trial(active)
        })
    }

    /// What the server did since the last lap.
    fn lap(&mut self, memory: bool) -> Result<Lap, Trouble> {
        match self.server.ask(&ServerOrder::Lap { memory }, PROMPT)? {
            ServerAnswer::Lap(lap) => Ok(*lap),
            ServerAnswer::Failed(why) => Err(Trouble(why)),
            ServerAnswer::Serving { .. } => Err(out_of_turn("server")),
        }
    }

    fn run(&mut self, span: Span) -> Result<Ran, Trouble> {
        let patience = match span {
            Span::Elapsed(duration) => PATIENT + duration,
            Span::Requests(_) => PATIENT,
        };
        match self.load.ask(&LoadOrder::Run(span), patience)? {
            LoadAnswer::Ran(ran) => Ok(ran),
            answer => Err(self.cause(answer)),
        }
    }

    fn tell(&mut self, order: LoadOrder, patience: Duration) -> Result<(), Trouble> {
        match self.load.ask(&order, patience)? {
            LoadAnswer::Done => Ok(()),
            answer => Err(self.cause(answer)),
        }
    }

    /// What the load met; but if the server has failed, that is the cause.
    fn cause(&mut self, answer: LoadAnswer) -> Trouble {
        match (self.lap(false), answer) {
            (Err(cause), _) => cause,
            (Ok(_), LoadAnswer::Fault(why)) => Trouble(why),
            (Ok(_), _) => out_of_turn("load"),
        }
    }
}

fn out_of_turn(who: &str) -> Trouble {
    Trouble(format!("the {who} process answered out of turn"))
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
