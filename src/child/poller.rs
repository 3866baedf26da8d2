//! A poller alone, in a process that does nothing else and has one thread: with a second one the kernel counts
//! references to every descriptor at every scan, which what was published of pollers did not pay for.
//!
//! So orders are read between exercises and not during one; that nothing survives a parent that is killed, the kernel
//! sees to where it can (Linux), and elsewhere the end of the exercise.

use std::io::{self, BufRead};
use std::process;

use pollmark_backends::{Poller, Registry, Trigger, Visitor};

use super::instructions::{self, Counters};
use super::orders::answer;
use super::partner::Partner;
use super::wire::{Drill, Drilled, Instructions, PollerOrder};
use crate::exercise::{Course, Wait};
use crate::mechanism::Mechanism;
use crate::{cpus, usage};

/// Obeys until the parent is gone.
pub(super) fn run(registry: &Registry) {
    #[cfg(linux_like)]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    usage::raise_descriptor_limit();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match serde_json::from_slice(line.as_bytes()) {
            Ok(PollerOrder::Drill(drill)) => answer(&obey(registry, &drill)),
            Err(error) => {
                eprintln!("cannot understand the order {line:?}: {error}");
                process::exit(2);
            }
        }
    }
    process::exit(0);
}

fn obey(registry: &Registry, drill: &Drill) -> Result<Box<Drilled>, String> {
    let mechanism = Mechanism::parse(registry, &drill.mechanism).map_err(|error| error.to_string())?;
    let Some((entry, trigger)) = mechanism.poller(registry) else {
        return Err(format!("{mechanism} has no poller that could be measured alone"));
    };
    let unpinned = cpus::unpinned(drill.cpu);
    let drilled = entry.visit(Drilling { drill, trigger }).map_err(|error| error.to_string())??;
    Ok(Box::new(Drilled { unpinned, ..drilled }))
}

/// Goes over the course with the poller's own type, as a server would.
struct Drilling<'a> {
    drill: &'a Drill,
    trigger: Trigger,
}

impl Visitor for Drilling<'_> {
    type Output = Result<Drilled, String>;

    fn visit<P, F>(self, open: F) -> Result<Drilled, String>
    where
        P: Poller + 'static,
        F: Fn() -> io::Result<P> + Clone + Send + Sync + 'static,
    {
        let Drilling { drill, trigger } = self;
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let poller = open().map_err(|error| told(&error))?;
        let mut course = Course::open(poller, trigger, drill.terms).map_err(|fault| told(&fault))?;
        let mut partner = None;
        if drill.terms.exercise.wait == Wait::Sleeping {
            let started = course.awaited().try_clone_to_owned().and_then(|end| Partner::start(end, drill.partner_cpu));
            let (process, writer) = started.map_err(|error| format!("cannot start the partner: {error}"))?;
            course.written_by(writer);
            partner = Some(process);
        }
        // After the partner, which would inherit them.
        let (mut counters, uncounted) = instructions::open(drill.count_instructions);
        course.run(drill.warm_up).map_err(|fault| told(&fault))?;
        let before = Used::now(counters.as_mut());
        let done = course.run(drill.interval).map_err(|fault| told(&fault))?;
        let used = Used::now(counters.as_mut());
        drop(partner);
        Ok(Drilled {
            done,
            cpu: used.cpu.zip(before.cpu).map(|(now, before)| now.saturating_sub(before)),
            user: used.split.zip(before.split).map(|(now, before)| now.0.saturating_sub(before.0)),
            system: used.split.zip(before.split).map(|(now, before)| now.1.saturating_sub(before.1)),
            instructions: used.instructions.zip(before.instructions).map(|(now, before)| now - before),
            slept: used.slept.zip(before.slept).map(|(now, before)| now.saturating_sub(before)),
            unpinned: None,
            uncounted,
        })
    }
}

/// All that this process has used so far.
struct Used {
    cpu: Option<std::time::Duration>,
    split: Option<(std::time::Duration, std::time::Duration)>,
    instructions: Option<Instructions>,
    slept: Option<u64>,
}

impl Used {
    fn now(counters: Option<&mut Counters>) -> Used {
        Used {
            instructions: counters.and_then(Counters::read),
            slept: usage::times_slept(),
            split: usage::user_and_system(),
            cpu: usage::cpu_time(),
        }
    }
}
