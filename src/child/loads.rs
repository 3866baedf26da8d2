//! Load processes, used as one load: each opens its share, and what they did is added up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use super::Role;
use super::group::{Group, Interruption};
use super::parent::Failure;
use super::wire::{LoadAnswer, LoadOrder, Open, Ran, Span};
use crate::client;
use crate::workload::{self, Fault, Pace, Sources, Traffic};

/// How long a load may take for what it does at once, and for what may take it a while.
const PROMPT: Duration = Duration::from_secs(15);
const PATIENT: Duration = Duration::from_secs(60);
/// How long one more connection may take to open, where the server looks through all it has for each. That nothing
/// comes back at all a load finds out by itself, and much sooner.
const CONNECTION: Duration = Duration::from_millis(5);

/// What is loaded, and how.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) address: client::Target,
    pub(crate) size: usize,
    pub(crate) cpu: Option<usize>,
    /// From where the kernel likes, if none are given; else each process has some of them.
    pub(crate) sources: Option<&'a Sources>,
}

/// The processes. Dropping it ends them, and resets their connections.
pub(crate) struct Loads {
    group: Group<LoadOrder, LoadAnswer>,
    traffic: Traffic,
    /// The first so many have an active connection, and share what is to be done.
    busy: usize,
    /// CPUs they have between them.
    cpus: usize,
    /// Why they are bound to no CPU, if they are not.
    pub(crate) unpinned: Option<String>,
}

/// Why a load was not opened, or what it did does not count.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) why: String,
    /// The server answered, and wrongly.
    pub(crate) voids: bool,
}

impl Loads {
    /// Starts `count` of them. They open nothing yet.
    pub(crate) fn start(count: usize) -> Result<Loads, Failure> {
        let group = Group::start(Role::Load, count)?;
        Ok(Loads { group, traffic: Traffic::default(), busy: count, cpus: 1, unpinned: None })
    }

    /// Tells them what to load: first of all, and once.
    pub(crate) fn aim(&mut self, target: &Target<'_>) -> Result<(), Trouble> {
        let count = self.group.count();
        let order = |at: usize| LoadOrder::Target {
            address: target.address.clone(),
            size: target.size,
            cpu: target.cpu,
            first: (at as u32).wrapping_mul(u32::MAX / count as u32),
            sources: target.sources.map(|sources| sources.dealt_to(at, count)),
        };
        for answer in self.group.ask(order, PROMPT, None)? {
            match answer {
                LoadAnswer::Ready { unpinned } => self.unpinned = self.unpinned.take().or(unpinned),
                answer => return Err(refusal(answer)),
            }
        }
        let pinned = target.cpu.is_some() && self.unpinned.is_none();
        let available = thread::available_parallelism().map_or(1, |cpus| cpus.get());
        self.cpus = if pinned { 1 } else { count.min(available) };
        Ok(())
    }

    /// Tells them what connections are to do from now on.
    pub(crate) fn follow(&mut self, traffic: Traffic) -> Result<(), Trouble> {
        self.traffic = traffic;
        // Each keeps its share of the pace.
        let busy = self.busy;
        let share_at = |at| traffic.pace.per_second().map_or(0, |all| share(all as usize, at, busy) as u32);
        let order = |at| LoadOrder::Follow(Traffic { pace: traffic.pace.at(share_at(at)), ..traffic });
        done(self.group.ask(order, PROMPT, None)?)
    }

    /// Opens idle connections, `connections` of them in all, unless `stop` is raised.
    pub(crate) fn open_idle(&mut self, connections: usize, stop: &AtomicBool) -> Result<(), Trouble> {
        self.open(LoadOrder::OpenIdle, connections, stop)
    }

    /// Opens the active connections, and closes those of before.
    pub(crate) fn open_active(&mut self, connections: usize, stop: &AtomicBool) -> Result<(), Trouble> {
        self.open(LoadOrder::OpenActive, connections, stop)?;
        let busy = connections.clamp(1, self.group.count());
        let before = std::mem::replace(&mut self.busy, busy);
        // What is offered is offered by those who have a connection.
        if busy != before && self.traffic.pace != Pace::Closed { self.follow(self.traffic) } else { Ok(()) }
    }

    fn open(&mut self, order: fn(usize) -> LoadOrder, connections: usize, stop: &AtomicBool) -> Result<(), Trouble> {
        let count = self.group.count();
        let interruption = Interruption { flag: stop, order: LoadOrder::Stop };
        let order = |at| order(share(connections, at, count));
        let patience = PATIENT + CONNECTION.saturating_mul(u32::try_from(connections).unwrap_or(u32::MAX));
        done(self.group.ask(order, patience, Some(interruption))?)
    }

    /// Keeps the active connections busy. Requests are shared out among those who have any.
    pub(crate) fn run(&mut self, span: Span, stop: Option<&AtomicBool>) -> Result<Ran, Trouble> {
        let busy = self.busy;
        self.drive(|at, _| LoadOrder::Run(part(span, at, busy)), span, stop)
    }

    /// Opens `connections` at a time, each for one exchange, or for as many as the traffic says.
    pub(crate) fn churn(&mut self, connections: usize, span: Span, stop: &AtomicBool) -> Result<Ran, Trouble> {
        let part = |at, count: usize| part(span, at, connections.clamp(1, count));
        let order = |at, count| LoadOrder::Churn(share(connections, at, count), part(at, count));
        self.drive(order, span, Some(stop))
    }

    fn drive(
        &mut self,
        order: impl Fn(usize, usize) -> LoadOrder,
        span: Span,
        stop: Option<&AtomicBool>,
    ) -> Result<Ran, Trouble> {
        let patience = match span {
            Span::Elapsed(duration) => PATIENT.saturating_add(duration),
            // However long they take; a server that says nothing is found out by the load itself.
            Span::Requests(_) => Duration::MAX,
        };
        let count = self.group.count();
        let interruption = stop.map(|flag| Interruption { flag, order: LoadOrder::Stop });
        let mut all = Ran { cpu: Some(Duration::ZERO), slept: Some(0), ..Ran::default() };
        for answer in self.group.ask(|at| order(at, count), patience, interruption)? {
            match answer {
                LoadAnswer::Ran(ran) => all = all.and(ran),
                answer => return Err(refusal(answer)),
            }
        }
        Ok(all)
    }

    /// Makes sure that every idle connection is still open and quiet.
    pub(crate) fn verify_idle(&mut self) -> Result<(), Trouble> {
        done(self.group.ask(|_| LoadOrder::VerifyIdle, PROMPT, None)?)
    }

    /// Closes the active connections, once they have been found quiet.
    pub(crate) fn close_active(&mut self) -> Result<(), Trouble> {
        done(self.group.ask(|_| LoadOrder::CloseActive, PROMPT, None)?)
    }

    /// Bytes of memory that belong to the processes alone, where the system tells of each.
    pub(crate) fn memory(&mut self) -> Result<Option<u64>, Trouble> {
        let answers = self.group.ask(|_| LoadOrder::Memory, PROMPT, None)?;
        let bytes = answers.into_iter().map(|answer| match answer {
            LoadAnswer::Memory(bytes) => Ok(bytes),
            answer => Err(refusal(answer)),
        });
        bytes.sum()
    }

    /// Whether the load was itself the limit in this run.
    pub(crate) fn were_the_limit(&self, ran: &Ran) -> Option<bool> {
        Some(workload::was_the_limit(ran.cpu? / self.cpus as u32, ran.elapsed))
    }
}

impl Ran {
    /// Both, done at the same time.
    fn and(self, other: Ran) -> Ran {
        let open = match (self.open, other.open) {
            (Some(one), Some(other)) => Some(Open {
                from_send: together(one.from_send, other.from_send),
                slip: together(one.slip, other.slip),
                unsent: one.unsent + other.unsent,
            }),
            (one, other) => one.or(other),
        };
        Ran {
            requests: self.requests + other.requests,
            bytes: self.bytes + other.bytes,
            elapsed: self.elapsed.max(other.elapsed),
            cpu: self.cpu.zip(other.cpu).map(|(one, other)| one + other),
            slept: self.slept.zip(other.slept).map(|(one, other)| one + other),
            waits: self.waits + other.waits,
            latency: together(self.latency, other.latency),
            served: [self.served, other.served].concat(),
            open,
        }
    }
}

/// Two histograms as one.
fn together(one: Vec<(u64, u64)>, other: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut all: BTreeMap<u64, u64> = one.into_iter().collect();
    other.into_iter().for_each(|(bucket, times)| *all.entry(bucket).or_default() += times);
    all.into_iter().collect()
}

/// What falls to one of `count`: the first of them have one more if it does not come out even, and nothing falls to any
/// beyond them.
fn share(all: usize, at: usize, count: usize) -> usize {
    if at < count { all / count + usize::from(at < all % count) } else { 0 }
}

fn part(span: Span, at: usize, count: usize) -> Span {
    match span {
        Span::Elapsed(duration) => Span::Elapsed(duration),
        Span::Requests(requests) => Span::Requests(share(requests as usize, at, count) as u64),
    }
}

fn done(answers: Vec<LoadAnswer>) -> Result<(), Trouble> {
    answers.into_iter().try_for_each(|answer| match answer {
        LoadAnswer::Done => Ok(()),
        answer => Err(refusal(answer)),
    })
}

fn refusal(answer: LoadAnswer) -> Trouble {
    match answer {
        LoadAnswer::Fault { why, voids } => Trouble { why, voids },
        _ => Trouble { why: "the load process answered out of turn".to_owned(), voids: false },
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Trouble {
        Trouble { why: failure.to_string(), voids: false }
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble { why: fault.to_string(), voids: fault.voids() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.voids {
            f.write_str("void: ")?;
        }
        f.write_str(&self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_differ_by_one_at_most_and_come_to_the_whole() {
        for (all, count) in [(0, 1), (5, 6), (100, 6), (99_900, 6), (7, 7)] {
            let shares = (0..count).map(|at| share(all, at, count)).collect::<Vec<_>>();
            assert_eq!(shares.iter().sum::<usize>(), all);
            assert!(shares.iter().max().expect("one") - shares.iter().min().expect("one") <= 1, "{shares:?}");
        }
        // By six processes, of which three have a connection.
        let all = (0..6).map(|at| match part(Span::Requests(100), at, 3) {
            Span::Requests(requests) => requests,
            Span::Elapsed(_) => panic!("a number of requests"),
        });
        assert_eq!(all.collect::<Vec<_>>(), [34, 33, 33, 0, 0, 0]);
    }

    #[test]
    fn what_was_done_at_the_same_time_is_added_up_and_took_as_long_as_the_longest() {
        let ran = |requests: u64, millis: u64, latency: &[(u64, u64)]| Ran {
            requests,
            bytes: requests * 64,
            elapsed: Duration::from_millis(millis),
            cpu: Some(Duration::from_millis(millis / 2)),
            slept: Some(millis),
            waits: 1,
            latency: latency.to_vec(),
            served: vec![requests],
            open: None,
        };
        let both = ran(3, 10, &[(100, 2), (200, 1)]).and(ran(4, 8, &[(50, 1), (200, 3)]));
        assert_eq!(
            both,
            Ran {
                waits: 2,
                cpu: Some(Duration::from_millis(9)),
                slept: Some(18),
                served: vec![3, 4],
                ..ran(7, 10, &both.latency)
            }
        );
        assert_eq!(both.latency, [(50, 1), (100, 2), (200, 4)]);
        assert_eq!(both.and(Ran::default()).cpu, None, "what one does not know, all do not");
    }
}
