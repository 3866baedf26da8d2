//! kqueue.rs over a model of the kernel and made-up facts: the oddities of its header, on every Unix.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::model::{EBADF, Fact};
use super::told::{Call, Recorded};
use super::*;
use crate::source::AsSource;

const ECONNRESET: u32 = 54;

const DATA: Fact = Fact { flags: 0, fflags: 0, data: 5 };
const ROOM: Fact = Fact { flags: 0, fflags: 0, data: 60_000 };

fn both() -> Interest {
    Interest::READABLE | Interest::WRITABLE
}

fn poller() -> Kqueue<Recorded> {
    Kqueue::on(Recorded::default())
}

/// Lends its number; what is true of it, the model says.
fn file() -> File {
    File::open("/dev/null").expect("every Unix has it")
}

fn look(poller: &mut Kqueue<Recorded>) -> Vec<Event> {
    look_with_room(poller, 16)
}

fn look_with_room(poller: &mut Kqueue<Recorded>, room: usize) -> Vec<Event> {
    let mut events = Events::with_capacity(room);
    poller.wait(&mut events, Some(Duration::ZERO)).expect("the model does not fail by itself");
    events.iter().collect()
}

fn tokens(events: &[Event]) -> Vec<u64> {
    let mut tokens: Vec<u64> = events.iter().map(|event| event.token().0).collect();
    tokens.sort_unstable();
    tokens
}

fn last_changes(poller: &Kqueue<Recorded>) -> Vec<(Filter, u32)> {
    let call = poller.kernel.calls.last().expect("there was a call");
    call.changes.iter().map(|change| (change.filter, change.flags)).collect()
}

fn installed(poller: &Kqueue<Recorded>) -> Vec<(RawSource, Filter)> {
    poller.kernel.model.filters.keys().copied().collect()
}

#[test]
fn changes_ride_with_the_wait_and_cost_no_call() -> io::Result<()> {
    let (mut poller, a, b) = (poller(), file(), file());
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
    poller.add(b.as_source(), Token(2), both(), Trigger::Edge)?;
    assert!(poller.kernel.calls.is_empty());
    look(&mut poller);
    let expected = [
        (Filter::Read, flags::ADD),
        (Filter::Read, flags::ADD | flags::CLEAR),
        (Filter::Write, flags::ADD | flags::CLEAR),
    ];
    assert_eq!(last_changes(&poller), expected);
    look(&mut poller);
    assert_eq!(last_changes(&poller), []);
    let ledger = poller.ledger();
    assert_eq!((ledger.waits, ledger.wait_calls, ledger.change_calls, ledger.changes), (2, 2, 0, 2));
    assert_eq!(poller.kernel.calls.len(), 2);
    Ok(())
}

#[test]
fn only_the_last_of_many_states_reaches_the_kernel() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
    poller.modify(a.as_source(), Token(2), both(), Trigger::Level)?;
    poller.modify(a.as_source(), Token(3), Interest::WRITABLE, Trigger::Level)?;
    look(&mut poller);
    assert_eq!(last_changes(&poller), [(Filter::Write, flags::ADD)]);
    poller.modify(a.as_source(), Token(4), Interest::WRITABLE, Trigger::Level)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Write, ROOM);
    assert_eq!(tokens(&look(&mut poller)), [4], "the token is ours alone to change");
    assert_eq!(last_changes(&poller), []);
    Ok(())
}

#[test]
fn added_and_removed_between_two_waits_is_no_change_at_all() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    poller.remove(a.as_source())?;
    look(&mut poller);
    assert_eq!(last_changes(&poller), []);
    Ok(())
}

#[test]
fn a_new_trigger_deletes_before_it_adds() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    look(&mut poller);
    poller.modify(a.as_source(), Token(1), Interest::READABLE, Trigger::Edge)?;
    assert_eq!(look(&mut poller).len(), 1);
    assert_eq!(last_changes(&poller), [(Filter::Read, flags::DELETE), (Filter::Read, flags::ADD | flags::CLEAR)]);
    assert_eq!(look(&mut poller).len(), 0, "with EV_ADD alone it would have stayed level");
    Ok(())
}

#[test]
fn both_filters_of_a_source_make_one_event() -> io::Result<()> {
    let (mut poller, a, b) = (poller(), file(), file());
    for (file, token) in [(&a, 1), (&b, 2)] {
        poller.add(file.as_source(), Token(token), both(), Trigger::Level)?;
        poller.kernel.happen(file.as_raw_fd(), Filter::Read, DATA);
        poller.kernel.happen(file.as_raw_fd(), Filter::Write, ROOM);
    }
    let events = look(&mut poller);
    assert_eq!(tokens(&events), [1, 2]);
    for event in events {
        assert!(event.readable() && event.writable() && !event.more_than_bytes());
        assert_eq!(event.raw(), Raw::Kevent { filters: 3, flags: 0, fflags: 0, data: 5 });
    }
    assert_eq!(poller.ledger().events, 2);
    Ok(())
}

#[test]
fn with_more_ready_than_room_the_next_wait_returns_the_others() -> io::Result<()> {
    let (mut poller, files) = (poller(), [file(), file(), file(), file()]);
    for (file, token) in files.iter().zip(1..) {
        poller.add(file.as_source(), Token(token), Interest::READABLE, Trigger::Level)?;
    }
    look(&mut poller);
    for file in &files {
        poller.kernel.happen(file.as_raw_fd(), Filter::Read, DATA);
    }
    let mut seen = tokens(&look_with_room(&mut poller, 2));
    assert_eq!(poller.kernel.calls.last().map(|call| call.room), Some(2));
    seen.extend(tokens(&look_with_room(&mut poller, 2)));
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4]);
    Ok(())
}

#[test]
fn a_fin_leaves_the_bytes_before_it_and_the_other_direction() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, Fact { flags: flags::EOF, fflags: 0, data: 5 });
    let events = look(&mut poller);
    assert_eq!(events[0].readiness(), Readiness::READABLE | Readiness::READ_CLOSED);
    assert!(!events[0].writable() && !events[0].error() && events[0].more_than_bytes());
    assert!(matches!(events[0].raw(), Raw::Kevent { data: 5, .. }));
    Ok(())
}

#[test]
fn a_reset_wakes_every_armed_direction_and_is_an_error() -> io::Result<()> {
    for interest in [Interest::READABLE, Interest::WRITABLE, both()] {
        let (mut poller, a) = (poller(), file());
        poller.add(a.as_source(), Token(1), interest, Trigger::Level)?;
        for filter in [Filter::Read, Filter::Write] {
            poller.kernel.happen(a.as_raw_fd(), filter, Fact { flags: flags::EOF, fflags: ECONNRESET, data: 0 });
        }
        let events = look(&mut poller);
        assert_eq!(events.len(), 1);
        assert!(events[0].error() && events[0].readable() && events[0].writable(), "{interest:?}");
        assert!(matches!(events[0].raw(), Raw::Kevent { fflags: ECONNRESET, .. }));
    }
    Ok(())
}

#[test]
fn the_end_of_writing_is_not_the_end_of_the_peer() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    // After an own shutdown(SHUT_WR); some kernels add it to a peer's half-close.
    poller.kernel.happen(a.as_raw_fd(), Filter::Write, Fact { flags: flags::EOF, fflags: 0, data: 0 });
    let events = look(&mut poller);
    assert_eq!(events[0].readiness(), Readiness::WRITABLE | Readiness::WRITE_CLOSED);
    assert!(!events[0].read_closed() && !events[0].readable() && !events[0].error());
    Ok(())
}

#[test]
fn a_listener_shows_how_many_connections_are_pending() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, Fact { data: 3, ..DATA });
    assert_eq!(look(&mut poller)[0].raw(), Raw::Kevent { filters: 1, flags: 0, fflags: 0, data: 3 });
    Ok(())
}

#[test]
fn edge_reports_an_arrival_once_and_rearming_reports_what_is_there() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Edge)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(look(&mut poller).len(), 1);
    assert_eq!(look(&mut poller).len(), 0);
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(look(&mut poller).len(), 1);
    poller.modify(a.as_source(), Token(1), Interest::READABLE, Trigger::Edge)?;
    assert_eq!(look(&mut poller).len(), 1);
    Ok(())
}

#[test]
fn oneshot_disarms_the_source_both_directions() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Oneshot)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(look(&mut poller).len(), 1);
    poller.kernel.happen(a.as_raw_fd(), Filter::Write, ROOM);
    assert_eq!(look(&mut poller).len(), 0, "the other filter goes before anything is looked for");
    assert_eq!(last_changes(&poller), [(Filter::Write, flags::DELETE)]);
    assert_eq!(installed(&poller), []);

    poller.modify(a.as_source(), Token(2), both(), Trigger::Oneshot)?;
    let events = look(&mut poller);
    assert_eq!(tokens(&events), [2]);
    assert!(events[0].readable() && events[0].writable());
    assert_eq!(look(&mut poller).len(), 0);
    Ok(())
}

#[test]
fn a_rearmed_oneshot_does_not_repeat_what_had_found_no_room() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Oneshot)?;
    look(&mut poller);
    poller.kernel.happen(a.as_raw_fd(), Filter::Write, ROOM);
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    let events = look_with_room(&mut poller, 1);
    assert!(events[0].writable() && !events[0].readable());
    poller.kernel.drain(a.as_raw_fd(), Filter::Read); // the program read all the same
    poller.modify(a.as_source(), Token(1), Interest::READABLE, Trigger::Oneshot)?;
    assert_eq!(look(&mut poller).len(), 0);
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(look(&mut poller).len(), 1);
    Ok(())
}

#[test]
fn rearming_looks_again_at_a_oneshot_that_had_found_no_room_at_all() -> io::Result<()> {
    let (mut poller, a, b) = (poller(), file(), file());
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Oneshot)?;
    poller.add(b.as_source(), Token(2), Interest::READABLE, Trigger::Oneshot)?;
    look(&mut poller);
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    poller.kernel.happen(b.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(tokens(&look_with_room(&mut poller, 1)), [1]);
    poller.kernel.drain(b.as_raw_fd(), Filter::Read);
    poller.modify(b.as_source(), Token(2), Interest::READABLE, Trigger::Oneshot)?;
    assert_eq!(look(&mut poller).len(), 0);
    Ok(())
}

#[test]
fn empty_interest_leaves_no_filter() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    look(&mut poller);
    assert_eq!(installed(&poller).len(), 2);
    poller.modify(a.as_source(), Token(1), Interest::EMPTY, Trigger::Level)?;
    look(&mut poller);
    assert_eq!(installed(&poller), []);
    assert_eq!(
        poller.add(a.as_source(), Token(1), both(), Trigger::Level).unwrap_err().kind(),
        io::ErrorKind::AlreadyExists
    );
    poller.remove(a.as_source())?;
    assert_eq!(poller.remove(a.as_source()).unwrap_err().kind(), io::ErrorKind::NotFound);
    Ok(())
}

#[test]
fn remove_silences_what_is_already_ready() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(look(&mut poller).len(), 1);
    poller.remove(a.as_source())?;
    assert_eq!(look(&mut poller).len(), 0);
    assert_eq!(installed(&poller), []);
    Ok(())
}

#[test]
fn a_reused_number_is_registered_afresh() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    let number = a.as_raw_fd();
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    look(&mut poller);
    // Removed, closed by its owner and opened again as something else, all between two waits.
    poller.remove(a.as_source())?;
    poller.kernel.close(number);
    poller.kernel.open(number);
    poller.add(a.as_source(), Token(2), Interest::READABLE, Trigger::Level)?;
    poller.kernel.happen(number, Filter::Write, ROOM);
    assert_eq!(look(&mut poller).len(), 0);
    assert_eq!(installed(&poller), [(number, Filter::Read)]);
    poller.kernel.happen(number, Filter::Read, DATA);
    assert_eq!(tokens(&look(&mut poller)), [2]);
    Ok(())
}

#[test]
fn removed_and_closed_before_the_wait_is_no_error_and_no_early_return() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    look(&mut poller);
    poller.remove(a.as_source())?;
    poller.kernel.close(a.as_raw_fd());
    let before = poller.kernel.calls.len();
    let mut events = Events::with_capacity(4);
    let timeout = Some(Duration::from_millis(50));
    poller.wait(&mut events, timeout)?;
    assert!(events.is_empty());
    // The first call answered two EBADF and did not sleep; the second slept, and for the whole timeout.
    let calls = &poller.kernel.calls[before..];
    assert_eq!(calls.len(), 2);
    assert!(calls[1].changes.is_empty() && calls[1].timeout == timeout);
    assert_eq!(poller.ledger().wait_calls, poller.kernel.calls.len() as u64);
    Ok(())
}

#[test]
fn closed_behind_its_back_with_a_filter_yet_to_be_deleted_is_no_error_either() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    poller.add(a.as_source(), Token(1), both(), Trigger::Oneshot)?;
    look(&mut poller);
    poller.kernel.happen(a.as_raw_fd(), Filter::Read, DATA);
    assert_eq!(look(&mut poller).len(), 1);
    poller.kernel.close(a.as_raw_fd());
    assert_eq!(look(&mut poller).len(), 0, "EV_DELETE of the other filter said EBADF, and its goal is met");
    assert_eq!(installed(&poller), []);

    poller.modify(a.as_source(), Token(2), Interest::READABLE, Trigger::Oneshot)?;
    assert!(look(&mut poller)[0].error(), "but nothing new can be installed");
    Ok(())
}

#[test]
fn close_leaves_nothing_to_be_deleted_and_nothing_to_be_added() -> io::Result<()> {
    let (mut poller, a, b) = (poller(), file(), file());
    let numbers = [a.as_raw_fd(), b.as_raw_fd()];
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    look(&mut poller);
    poller.add(b.as_source(), Token(2), both(), Trigger::Level)?;
    poller.close(a.into())?;
    poller.close(b.into())?; // its changes were only noted
    numbers.iter().for_each(|number| poller.kernel.close(*number));
    let before = poller.kernel.calls.len();
    look(&mut poller);
    assert!(poller.kernel.calls[before..].iter().all(|call| call.changes.is_empty()));
    // Nor is anything left over from which a later `add` of the same number could conclude that it need not.
    assert!(numbers.iter().all(|number| poller.table[*number].installed.is_empty()));
    assert_eq!(poller.close(file().into()).unwrap_err().kind(), io::ErrorKind::NotFound);
    Ok(())
}

#[test]
fn a_refused_change_is_an_error_event_and_the_rest_is_made() -> io::Result<()> {
    let (mut poller, a, b) = (poller(), file(), file());
    poller.kernel.close(a.as_raw_fd());
    poller.add(a.as_source(), Token(1), both(), Trigger::Level)?;
    poller.add(b.as_source(), Token(2), Interest::READABLE, Trigger::Level)?;
    poller.kernel.happen(b.as_raw_fd(), Filter::Read, DATA);
    let events = look(&mut poller);
    assert_eq!(tokens(&events), [1]);
    assert!(events[0].error() && events[0].readable() && events[0].writable());
    assert!(matches!(events[0].raw(), Raw::Kevent { data: EBADF, .. }));
    assert_eq!(tokens(&look(&mut poller)), [2], "answers come alone; what was ready comes with the next wait");
    poller.remove(a.as_source())?;
    assert_eq!(tokens(&look(&mut poller)), [2]);
    Ok(())
}

#[test]
fn more_changes_than_room_go_ahead_in_calls_of_their_own() -> io::Result<()> {
    let (mut poller, files) = (poller(), [file(), file(), file(), file(), file()]);
    for (file, token) in files.iter().zip(1..) {
        poller.add(file.as_source(), Token(token), Interest::READABLE, Trigger::Level)?;
        poller.kernel.happen(file.as_raw_fd(), Filter::Read, DATA);
    }
    let mut seen = tokens(&look_with_room(&mut poller, 2));
    assert_eq!(seen.len(), 2);
    // 2 and 2 by themselves; the last rode with the wait.
    assert_eq!(poller.kernel.calls.iter().map(|call| call.changes.len()).collect::<Vec<_>>(), [2, 2, 1, 0][..3]);
    let receipts = |call: &Call| call.changes.iter().all(|change| change.flags & flags::RECEIPT != 0);
    assert_eq!(poller.kernel.calls.iter().map(receipts).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((poller.ledger().wait_calls, poller.ledger().change_calls), (1, 2));
    for _ in 0..2 {
        seen.extend(tokens(&look_with_room(&mut poller, 2)));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    Ok(())
}

#[test]
fn many_refusals_in_little_room_are_all_reported() -> io::Result<()> {
    let (mut poller, files) = (poller(), [file(), file(), file()]);
    for (file, token) in files.iter().zip(1..) {
        poller.kernel.close(file.as_raw_fd());
        poller.add(file.as_source(), Token(token), both(), Trigger::Level)?;
    }
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.extend(tokens(&look_with_room(&mut poller, 1)));
    }
    seen.dedup();
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(look_with_room(&mut poller, 1).len(), 0);
    Ok(())
}

#[test]
fn an_interrupted_wait_has_made_its_changes_and_a_failed_one_makes_them_again() -> io::Result<()> {
    let (mut poller, a) = (poller(), file());
    let mut events = Events::with_capacity(4);
    poller.add(a.as_source(), Token(1), Interest::READABLE, Trigger::Level)?;
    poller.kernel.failures = [io::ErrorKind::Interrupted, io::ErrorKind::OutOfMemory].into();
    assert_eq!(poller.wait(&mut events, None).unwrap_err().kind(), io::ErrorKind::Interrupted);

    poller.modify(a.as_source(), Token(1), Interest::READABLE, Trigger::Edge)?;
    assert_eq!(poller.wait(&mut events, None).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
    let failed = [(Filter::Read, flags::DELETE), (Filter::Read, flags::ADD | flags::CLEAR)];
    assert_eq!(last_changes(&poller), failed, "the EV_ADD was not repeated after the interruption");
    look(&mut poller);
    assert_eq!(last_changes(&poller), failed);
    look(&mut poller);
    assert_eq!(last_changes(&poller), []);
    Ok(())
}
