//! The semantics matrix: every difference between mechanisms is explained, and what is seen is the same each time.

use std::io;
use std::time::Duration;

use pollmark_backends::poll::Poll;
use pollmark_backends::semantics::{self, Column, Facts, Matrix, NOTES, Notes, Outcome};
use pollmark_backends::{
    Capabilities, Entry, Event, Events, Interest, Ledger, Poller, Raw, Readiness, Registry, Source, System, Token,
    Trigger,
};

/// Every backend with every trigger it has; variants behind all others.
fn columns(registry: &Registry) -> Vec<Column> {
    let mut columns = Column::all(registry);
    let having = |trigger| {
        let has = move |entry: &&Entry| entry.probe().is_ok_and(|abilities| abilities.supports(trigger));
        registry.entries().filter(has).map(move |entry| Column::new(entry.name(), trigger))
    };
    for column in Trigger::ALL.into_iter().flat_map(having) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

/// What is made for this system and cannot be had here all the same: in a container that forbids io_uring, for one.
fn missing(registry: &Registry) -> Vec<&str> {
    let made_for_here = |systems: &[System]| System::HERE.is_some_and(|here| systems.contains(&here));
    let missing = registry.entries().filter(|entry| made_for_here(entry.systems()) && entry.probe().is_err());
    missing.map(|entry| entry.name()).collect()
}

/// A line for each cell: all that a reader would see.
fn lines(matrix: &Matrix) -> Vec<String> {
    let line = |(row, step, column, cell): (&semantics::Row, &semantics::Step, &Column, &semantics::Cell)| {
        let place = format!("{}, {}, {}", row.scenario.name, step.moment.when, column.name);
        format!("{place}: {:?} {:?} {:?}", cell.raw, cell.outcome, cell.notes)
    };
    matrix.cells().map(line).collect()
}

/// What could not be played. On other systems a situation may not come about; on Linux each of them does.
fn failed(matrix: &Matrix) -> Vec<String> {
    let failed = matrix.cells().filter(|(_, _, _, cell)| match &cell.outcome {
        Outcome::Failed(_) => true,
        Outcome::NotPlayed(why) => cfg!(target_os = "linux") && why != "–" && !why.starts_with("as "),
        _ => false,
    });
    failed.map(|(row, _, column, cell)| format!("{}, {}: {}", row.scenario.name, column.name, cell.outcome)).collect()
}

#[test]
fn every_difference_is_explained_every_note_is_needed_and_it_is_the_same_each_time() {
    let _turn = crate::alone();
    let registry = Registry::builtin();
    let columns = columns(&registry);
    let matrix = semantics::run(&registry, &columns).expect("every column is available");
    assert_eq!(failed(&matrix), Vec::<String>::new());

    // Elsewhere what is found is shown as it is, and marked where nobody has explained it yet.
    if cfg!(target_os = "linux") {
        for (row, step, column, cell) in matrix.cells() {
            assert!(
                cell.notes != Notes::Unexplained,
                "{}, {}: {} is told {:?} by {:?}; expected was {:?}, and no note says why",
                row.scenario.name,
                step.moment.when,
                column.name,
                cell.outcome,
                cell.raw,
                step.moment.expected
            );
        }
        // Which note is about a mechanism that this host forbids, only a host that has it can tell.
        let missing = missing(&registry);
        if !missing.is_empty() {
            println!("not judged, for want of {missing:?}: whether every note is needed");
        }
        for note in NOTES.iter().filter(|note| missing.is_empty() && note.systems.contains(&System::Linux)) {
            let needed = matrix.cells().any(|(_, _, _, cell)| match &cell.notes {
                Notes::Explained(notes) => notes.contains(&note),
                _ => false,
            });
            assert!(needed, "nothing differs in this way any more: {note:?}");
        }
    }

    let again = semantics::run(&registry, &columns).expect("as above");
    let (first, second) = (lines(&matrix), lines(&again));
    let changed = first.iter().zip(&second).find(|(first, second)| first != second);
    assert!(changed.is_none() && first.len() == second.len(), "what is seen must not change: {changed:#?}");
}

/// On Linux both read one and the same answer of the file, so what they say can only differ where no file was asked.
#[test]
#[cfg(target_os = "linux")]
fn epoll_and_poll_use_the_same_words() {
    let _turn = crate::alone();
    let columns = [Column::new("epoll", Trigger::Level), Column::new("poll", Trigger::Level)];
    let matrix = semantics::run(&Registry::builtin(), &columns).expect("both are here");
    let mut compared = 0;
    for step in matrix.rows.iter().flat_map(|row| &row.steps) {
        let [epoll, poll] = &step.cells[..] else { panic!("two columns") };
        if let (Outcome::Event(_), Outcome::Event(_), false) = (&epoll.outcome, &poll.outcome, poll.raw == "POLLNVAL") {
            assert_eq!(epoll.raw.replace("EPOLL", "POLL"), poll.raw, "{}", step.moment.when);
            compared += 1;
        }
    }
    assert!(compared >= 25, "only {compared} moments were compared");
}

/// Says of a source that ended only that it is readable, and of no source twice: two lies.
struct Lying(Poll, Option<Token>);

impl Poller for Lying {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.0.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.1 = None;
        self.0.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.0.remove(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.0.wait(events, timeout)?;
        let found = events.iter().collect::<Vec<_>>();
        events.clear();
        for event in found.iter().filter(|event| self.1 != Some(event.token())) {
            let readiness = if event.read_closed() { Readiness::READABLE } else { event.readiness() };
            events.push(Event::new(event.token(), readiness, Raw::None));
        }
        self.1 = found.first().map(Event::token);
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.0.ledger()
    }
}

#[test]
fn a_poller_that_differs_without_a_reason_is_found_out() {
    let registry = Registry::builtin().with("lying", || Ok(Box::new(Lying(Poll::open()?, None)) as Box<dyn Poller>));
    let columns = [Column::new("lying", Trigger::Level)];
    let wanted = ["data", "half-close", "level-unread"];
    let matrix = semantics::run_where(&registry, &columns, |name| wanted.contains(&name)).expect("it is registered");
    let cell = |name: &str, step: usize| &matrix.row(name).expect("wanted").steps[step].cells[0];
    let judged = |name: &str, step: usize| (&cell(name, step).outcome, &cell(name, step).notes);
    assert_eq!(judged("data", 1), (&Outcome::Event(Facts::READABLE), &Notes::AsExpected));
    assert_eq!(judged("level-unread", 1), (&Outcome::Silence, &Notes::Unexplained));
    assert_eq!(cell("half-close", 0).notes, Notes::Unexplained, "{}", cell("half-close", 0).outcome);
}

#[test]
fn a_column_that_cannot_be_had_is_refused_in_words() {
    let refused = |column| semantics::run(&Registry::builtin(), &[column]).err().expect("refused");
    let unknown = refused(Column::new("eqoll", Trigger::Level));
    assert_eq!(unknown.kind(), io::ErrorKind::InvalidInput);
    assert!(unknown.to_string().contains("eqoll"), "{unknown}");
    let lacking = refused(Column::new("poll", Trigger::Edge));
    assert_eq!(
        (lacking.kind(), lacking.to_string().as_str()),
        (io::ErrorKind::InvalidInput, "poll has no edge trigger")
    );
}
