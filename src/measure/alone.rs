//! One visit without a server: a fresh process with a poller, which goes over a course for each load in turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::placement::Placement;
use super::record::{Ledger, Load, Scan, Trial};
use super::visit::{Errand, Report, nanos};
use crate::child::{Drill, Drilled, Drills, Failure};
use crate::exercise::{Exercise, Terms, Wait};
use crate::mechanism::Mechanism;

/// Makes the visit. A load with trouble is void; the others stand. Each trial is told to `keep` at once.
pub(super) fn visit(errand: &Errand<'_>, stop: &AtomicBool, keep: &mut dyn FnMut(&Trial)) -> Report {
    let mut report = Report::default();
    let mut drills = Drills::start();
    for load in errand.loads {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Some(exercise) = load.exercise else { continue };
        let before = Counters::read();
        let drilled = match &mut drills {
            Ok(drills) => drills.drill(errand.drill(load, exercise)),
            Err(Failure(why)) => Err(Failure(why.clone())),
        };
        let trial = match drilled {
            Ok(drilled) => {
                report.unpinned = report.unpinned.take().or_else(|| drilled.unpinned.clone());
                report.uncounted = report.uncounted.take().or_else(|| drilled.uncounted.clone());
                let steal_ns = before.stolen(&Counters::read()).map(nanos);
                Trial { steal_ns, ..errand.drilled(load, exercise, &drilled) }
            }
            // Not for what interrupted it.
            Err(_) if stop.load(Ordering::Relaxed) => break,
            Err(Failure(why)) => Trial { errors: 1, void: Some(why), ..errand.trial(load) },
        };
        keep(&trial);
        report.trials.push(trial);
    }
    report
}

/// Goes over `idle` pipes and one that is not empty, by waits that sleep, as a server's do. Starts the process on the
/// first call.
pub(super) fn scan(
    drills: &mut Option<Drills>,
    mechanism: &Mechanism,
    idle: usize,
    interval: Duration,
) -> Result<Scan, String> {
    let placement = Placement::choose();
    let exercise = Exercise { wait: Wait::Sleeping, ..Exercise::default() };
    let drill = Drill {
        mechanism: mechanism.name().to_owned(),
        terms: Terms { exercise, idle, active: 1 },
        cpu: placement.server,
        partner_cpu: placement.load,
        warm_up: interval / 4,
        interval,
        count_instructions: false,
    };
    let drills = match drills {
        Some(drills) => drills,
        none => none.insert(Drills::start().map_err(|Failure(why)| why)?),
    };
    let drilled = drills.drill(drill).map_err(|Failure(why)| why)?;
    let cpu = drilled.cpu.filter(|cpu| !cpu.is_zero()).ok_or("the CPU time of a process is not to be had")?;
    Ok(Scan { watched: idle as u32 + 1, waits: drilled.done.ledger.waits, cpu_ns: nanos(cpu) })
}

impl Errand<'_> {
    fn drill(&self, load: &Load, exercise: Exercise) -> Drill {
        Drill {
            mechanism: self.trial.mechanism.clone(),
            terms: Terms { exercise, idle: self.idle(), active: load.active as usize },
            cpu: self.placement.server,
            partner_cpu: self.placement.load,
            warm_up: self.warm_up,
            interval: self.interval,
            count_instructions: self.trial.counted,
        }
    }

    fn drilled(&self, load: &Load, exercise: Exercise, drilled: &Drilled) -> Trial {
        let Drilled { done, cpu, user, system, instructions, slept, .. } = drilled;
        let ledger = Ledger {
            reads: done.reads,
            writes: done.writes,
            would_block: done.would_block,
            calls: done.ledger.calls() + done.reads + done.writes,
            ..Ledger::from(done.ledger)
        };
        // Whoever was late to bed found its message there.
        let awake = slept.filter(|slept| exercise.wait == Wait::Sleeping && slept * 2 < ledger.waits);
        let awake = awake.map(|slept| format!("only {slept} of {} waits slept", ledger.waits));
        let nothing = (done.operations == 0).then(|| "not one message has come".to_owned());
        let began = self.began.until(Instant::now()).saturating_sub(done.elapsed);
        Trial {
            began_ns: Some(nanos(began)),
            duration_ns: nanos(done.elapsed),
            requests: done.operations,
            bytes: done.bytes,
            server_cpu_ns: cpu.filter(|cpu| !cpu.is_zero()).map(nanos),
            server_user_ns: user.map(nanos),
            server_system_ns: system.map(nanos),
            ledger,
            instructions_user: instructions.map(|instructions| instructions.user),
            instructions_kernel: instructions.and_then(|instructions| instructions.kernel),
            slept: *slept,
            void: awake.or(nothing),
            ..self.trial(load)
        }
    }
}
