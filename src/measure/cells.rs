//! The cells of a record, and the one rule that says which of their trials count.
//!
//! One void trial voids its cell, in every round: who echoes a wrong byte in one round of five is not fast in the other
//! four. So whatever is made of a record, tables, fits, gates, noise, takes its trials from here.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Load, Record, Trial};

/// The trials of one row with one idle population under one load.
#[derive(Clone, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) idle: u32,
    pub(crate) load: Load,
    trials: Vec<&'a Trial>,
}

impl<'a> Cell<'a> {
    /// Why nothing of it counts, if that is so: every reason there is, once.
    pub(crate) fn void(&self) -> Option<String> {
        let reasons = self.trials.iter().filter_map(|trial| why_void(trial)).collect::<BTreeSet<_>>();
        (!reasons.is_empty()).then(|| reasons.into_iter().collect::<Vec<_>>().join("; "))
    }

    /// Whether nothing of it counts.
    pub(crate) fn is_void(&self) -> bool {
        self.trials.iter().any(|trial| is_void(trial))
    }

    /// The trials whose times may be used; none of a void cell.
    pub(crate) fn timed(&self) -> impl Iterator<Item = &'a Trial> + '_ {
        self.valid().filter(|trial| !trial.counted)
    }

    /// The trials whose instructions were counted; none of a void cell.
    pub(crate) fn counted(&self) -> impl Iterator<Item = &'a Trial> + '_ {
        self.valid().filter(|trial| trial.counted)
    }

    fn valid(&self) -> impl Iterator<Item = &'a Trial> + '_ {
        let is_void = self.is_void();
        self.trials.iter().copied().filter(move |_| !is_void)
    }
}

impl Record {
    /// The cell of this row, idle population and load; without trials, if it was not measured.
    pub(crate) fn cell(&self, subject: &str, idle: u32, load: Load) -> Cell<'_> {
        // Of thousands of trials most are told by a number, before anything is compared that takes longer.
        let near = |trial: &Trial| trial.idle == idle && trial.active == load.active && trial.subject == subject;
        let here = |trial: &&Trial| near(trial) && self.settings.load_of(trial) == load;
        Cell { idle, load, trials: self.trials.iter().filter(here).collect() }
    }

    /// All of them, for who asks for many: a record is gone through once.
    pub(crate) fn cells(&self) -> Cells<'_> {
        let mut cells: BTreeMap<(&str, u32, Load), Vec<&Trial>> = BTreeMap::new();
        for trial in &self.trials {
            cells.entry((&trial.subject, trial.idle, self.settings.load_of(trial))).or_default().push(trial);
        }
        Cells(cells)
    }

    /// Every cell of this row that was measured, the smallest population and load first.
    pub(crate) fn cells_of(&self, subject: &str) -> Vec<Cell<'_>> {
        let mut cells: BTreeMap<(u32, Load), Vec<&Trial>> = BTreeMap::new();
        for trial in self.trials.iter().filter(|trial| trial.subject == subject) {
            cells.entry((trial.idle, self.settings.load_of(trial))).or_default().push(trial);
        }
        cells.into_iter().map(|((idle, load), trials)| Cell { idle, load, trials }).collect()
    }
}

/// The cells of a record, by row, idle population and load.
#[derive(Clone, Debug)]
pub(crate) struct Cells<'a>(BTreeMap<(&'a str, u32, Load), Vec<&'a Trial>>);

impl<'a> Cells<'a> {
    /// As [`Record::cell`].
    pub(crate) fn cell(&self, subject: &str, idle: u32, load: Load) -> Cell<'a> {
        Cell { idle, load, trials: self.0.get(&(subject, idle, load)).cloned().unwrap_or_default() }
    }
}

fn is_void(trial: &Trial) -> bool {
    trial.void.is_some() || trial.errors > 0
}

fn why_void(trial: &Trial) -> Option<String> {
    // Errors without a reason of their own: a reason says more than their number.
    let failed = || (trial.errors > 0).then(|| format!("{} exchanges or connections failed", trial.errors));
    trial.void.clone().or_else(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Host;
    use crate::measure::record::Settings;

    fn record() -> Record {
        let mut record = Record::begin(Vec::new(), 1, Host::default(), Settings::default());
        for (round, idle, counted) in [(0, 0, false), (1, 0, false), (2, 0, true), (0, 9, false), (1, 9, false)] {
            record.trials.push(Trial { round, idle, counted, subject: "poll".into(), active: 1, ..Trial::default() });
        }
        record
    }

    #[test]
    fn a_void_trial_of_any_round_voids_its_cell_and_no_other() {
        let mut record = record();
        let load = record.settings.load_of(&record.trials[0]);
        let rounds = |record: &Record, idle| record.cell("poll", idle, load).timed().count();
        assert_eq!((rounds(&record, 0), record.cell("poll", 0, load).counted().count()), (2, 1));
        record.trials[2].void = Some("a wrong byte".into());
        let cell = record.cell("poll", 0, load);
        assert_eq!((cell.timed().count(), cell.counted().count(), cell.is_void()), (0, 0, true));
        assert_eq!(cell.void().as_deref(), Some("a wrong byte"));
        assert_eq!((rounds(&record, 9), record.cell("poll", 9, load).void()), (2, None));
    }

    #[test]
    fn trials_that_failed_are_void_and_say_so_once() {
        let mut record = record();
        record.trials.iter_mut().for_each(|trial| trial.errors = 3);
        record.trials[0].void = Some("a wrong byte".into());
        let cells = record.cells_of("poll");
        let told = cells.iter().map(|cell| (cell.idle, cell.void().expect("void"))).collect::<Vec<_>>();
        let failed = "3 exchanges or connections failed".to_owned();
        assert_eq!(told, [(0, format!("{failed}; a wrong byte")), (9, failed)]);
        assert!(record.cells_of("select").is_empty());
    }
}
