//! What was asked for and is not in the record: which cell, and why.

use super::plan::{Plan, Subject};
use super::record::{Missing, Record, Trial};

/// What is in the plan, has no trial, and no reason for that yet: an interruption came first.
pub(super) fn name_what_is_missing(plan: &Plan, record: &mut Record) {
    for subject in &plan.subjects {
        let label = subject.label();
        for (&idle, load) in plan.idle.iter().flat_map(|idle| plan.loads.iter().map(move |load| (idle, load))) {
            let (of_idle, of_active) = (idle as u32, load.active);
            let tried = |trial: &Trial| {
                trial.subject == label && trial.idle == of_idle && record.settings.load_of(trial) == *load
            };
            let named = |one: &Missing| {
                let concerns = |size: Option<u32>, of: u32| size.is_none_or(|size| size == of);
                one.subject == label && concerns(one.idle, of_idle) && concerns(one.active, of_active)
            };
            if !record.trials.iter().any(tried) && !record.missing.iter().any(named) {
                let why = "interrupted before it was measured".to_owned();
                record.missing.push(absent(subject, Some(idle), Some(of_active as usize), why));
            }
        }
    }
}

pub(super) fn absent(subject: &Subject, idle: Option<usize>, active: Option<usize>, reason: String) -> Missing {
    let number = |number: usize| number as u32;
    Missing { subject: subject.label(), idle: idle.map(number), active: active.map(number), reason }
}
