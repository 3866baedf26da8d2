//! Several children of one role: ordered together, then heard one after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Role;
use super::parent::{Child, Failure};

/// How often somebody who may interrupt is asked whether he has.
const GLANCE: Duration = Duration::from_millis(20);

/// The children. Dropping it ends them all.
pub(super) struct Group<Order, Answer> {
    children: Vec<Child<Order, Answer>>,
}

/// Who may interrupt, and what the children are told then. They are still to answer.
pub(super) struct Interruption<'a, Order> {
    pub(super) flag: &'a AtomicBool,
    pub(super) order: Order,
}

impl<Order: Serialize, Answer: DeserializeOwned> Group<Order, Answer> {
    /// Executes this program again, `count` times.
    pub(super) fn start(role: Role, count: usize) -> Result<Group<Order, Answer>, Failure> {
        let children = (1..=count).map(|at| Child::start(role, (count > 1).then_some((at, count))));
        Ok(Group { children: children.collect::<Result<_, _>>()? })
    }

    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    /// Gives each its order, by its place, before the first is heard; waits for all answers, at most for `patience`.
    pub(super) fn ask(
        &mut self,
        order: impl Fn(usize) -> Order,
        patience: Duration,
        interruption: Option<Interruption<'_, Order>>,
    ) -> Result<Vec<Answer>, Failure> {
        for (at, child) in self.children.iter_mut().enumerate() {
            child.tell(&order(at))?;
        }
        let began = Instant::now();
        let mut interruption = interruption;
        let mut answers = Vec::with_capacity(self.children.len());
        while answers.len() < self.children.len() {
            if let Some(Interruption { order, .. }) =
                interruption.take_if(|interruption| interruption.flag.load(Ordering::Relaxed))
            {
                self.children.iter_mut().try_for_each(|child| child.tell(&order))?;
            }
            let left = patience.saturating_sub(began.elapsed());
            let wait = if interruption.is_some() { left.min(GLANCE) } else { left };
            match self.children[answers.len()].hear(wait)? {
                Some(answer) => answers.push(answer),
                None if wait < left => {}
                None => return Err(self.children[answers.len()].silent(patience)),
            }
        }
        Ok(answers)
    }

    /// As [`ask`](Group::ask), of each for itself: one that fails does not keep the others from being heard.
    pub(super) fn ask_each(&mut self, order: &Order, patience: Duration) -> Vec<Result<Answer, Failure>> {
        let told: Vec<_> = self.children.iter_mut().map(|child| child.tell(order)).collect();
        let began = Instant::now();
        let heard = self.children.iter_mut().zip(told).map(|(child, told)| {
            told?;
            let answer = child.hear(patience.saturating_sub(began.elapsed()))?;
            answer.ok_or_else(|| child.silent(patience))
        });
        heard.collect()
    }

    /// None of them is killed from now on before it has had so long to end by itself.
    pub(super) fn give(&mut self, grace: Duration) {
        self.children.iter_mut().for_each(|child| child.give(grace));
    }

    /// Whether all of them still run.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.children.iter_mut().try_for_each(Child::check)
    }
}

impl<Order, Answer> Drop for Group<Order, Answer> {
    fn drop(&mut self) {
        // All at once: with thousands of connections each of them takes its time to go.
        self.children.iter_mut().for_each(Child::end);
    }
}
