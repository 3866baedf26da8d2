//! What kevent(2) was observed to do, asked of the kernel of this system: the real one where there is one, elsewhere
//! the model. What the model is built on is so checked wherever these tests are taken.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use super::*;

const ECONNRESET: u32 = libc::ECONNRESET as u32;

#[cfg(kqueue_like)]
fn kernel() -> impl Kernel {
    kernel::system::Queue::open().expect("a queue can be opened")
}

#[cfg(not(kqueue_like))]
fn kernel() -> impl Kernel {
    model::Model::over(real::Real::open().expect("a queue can be opened"))
}

/// Two connected sockets.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let far = listener.accept().expect("it is pending").0;
    near.set_nodelay(true).expect("TCP has TCP_NODELAY");
    far.set_nodelay(true).expect("TCP has TCP_NODELAY");
    (near, far)
}

fn change(source: &impl AsRawFd, filter: Filter, flags: u32) -> Change {
    Change { source: source.as_raw_fd(), filter, flags }
}

fn call(kernel: &mut impl Kernel, changes: &[Change], room: usize) -> io::Result<Vec<Record>> {
    // Ended by what is awaited, or else by the test.
    kernel.kevent(changes, room, Some(Duration::from_secs(5))).map(Iterator::collect)
}

fn look(kernel: &mut impl Kernel, changes: &[Change]) -> Vec<Record> {
    kernel.kevent(changes, 16, Some(Duration::ZERO)).expect("no signal comes").collect()
}

/// The errors among the records: their sources and errnos.
fn errors(records: &[Record]) -> Vec<(RawSource, i64)> {
    let errors = records.iter().filter(|record| record.flags & flags::ERROR != 0);
    errors.map(|record| (record.source, record.data)).collect()
}

#[test]
fn the_mode_of_a_filter_is_fixed_when_it_is_first_added() -> io::Result<()> {
    let (mut kernel, (near, mut far)) = (kernel(), pair());
    far.write_all(b"x")?;
    let add = change(&near, Filter::Read, flags::ADD);
    assert_eq!(call(&mut kernel, &[add], 4)?.len(), 1);
    let renewed = change(&near, Filter::Read, flags::ADD | flags::CLEAR);
    for changes in [&[renewed][..], &[], &[]] {
        assert_eq!(look(&mut kernel, changes).len(), 1, "still level");
    }
    let delete = change(&near, Filter::Read, flags::DELETE);
    assert_eq!(look(&mut kernel, &[delete, renewed]).len(), 1);
    assert_eq!(look(&mut kernel, &[]).len(), 0, "by its edge");
    far.write_all(b"x")?;
    assert_eq!(call(&mut kernel, &[], 4)?.len(), 1, "what arrives behind unread bytes is an edge");
    Ok(())
}

#[test]
fn without_room_a_failing_change_fails_the_call_and_those_behind_it_are_not_made() -> io::Result<()> {
    let (mut kernel, (near, far)) = (kernel(), pair());
    let absent = change(&near, Filter::Read, flags::DELETE);
    let fine = change(&far, Filter::Write, flags::ADD);
    let failed = call(&mut kernel, &[absent, fine], 0).expect_err("there is no room for the answer");
    assert_eq!(failed.raw_os_error(), Some(ENOENT));
    assert_eq!(look(&mut kernel, &[]), []);

    let answered = call(&mut kernel, &[absent, fine], 4)?;
    assert_eq!(errors(&answered), [(near.as_raw_fd(), i64::from(ENOENT))]);
    assert_eq!(look(&mut kernel, &[]).len(), 1, "what was behind it is made");
    Ok(())
}

#[test]
fn a_receipt_answers_every_change_and_nothing_is_looked_for() -> io::Result<()> {
    let (mut kernel, (near, far)) = (kernel(), pair());
    let add = flags::ADD | flags::RECEIPT;
    let answers = call(&mut kernel, &[change(&near, Filter::Write, add), change(&far, Filter::Write, add)], 4)?;
    assert_eq!(errors(&answers), [(near.as_raw_fd(), 0), (far.as_raw_fd(), 0)]);
    assert_eq!(answers.len(), 2, "although both have room");
    assert_eq!(look(&mut kernel, &[]).len(), 2);
    Ok(())
}

#[test]
fn a_oneshot_filter_is_gone_once_it_has_fired() -> io::Result<()> {
    let (mut kernel, (near, _far)) = (kernel(), pair());
    assert_eq!(call(&mut kernel, &[change(&near, Filter::Write, flags::ADD | flags::ONESHOT)], 4)?.len(), 1);
    let answer = call(&mut kernel, &[change(&near, Filter::Write, flags::DELETE)], 4)?;
    assert_eq!(errors(&answer), [(near.as_raw_fd(), i64::from(ENOENT))]);
    Ok(())
}

#[test]
fn the_two_directions_report_apart() -> io::Result<()> {
    let (mut kernel, (near, mut far)) = (kernel(), pair());
    let both = [Filter::Read, Filter::Write].map(|filter| change(&near, filter, flags::ADD));
    assert_eq!(call(&mut kernel, &both, 4)?.len(), 1, "there is room, and nothing to read");
    far.write_all(b"five!")?;
    while near.peek(&mut [0; 8])? < 5 {}
    let mut records = look(&mut kernel, &[]);
    records.sort_by_key(|record| record.filter);
    assert_eq!(records.iter().map(|record| record.filter).collect::<Vec<_>>(), [Filter::Read, Filter::Write]);
    assert_eq!(records[0].data, 5);
    Ok(())
}

#[test]
fn a_fin_ends_reading_and_leaves_the_bytes_before_it() -> io::Result<()> {
    let (mut kernel, (mut near, mut far)) = (kernel(), pair());
    far.write_all(b"five!")?;
    far.shutdown(Shutdown::Write)?;
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let mut records = call(&mut kernel, &[change(&near, Filter::Read, flags::ADD)], 4)?;
    while records[0].flags & flags::EOF == 0 {
        assert!(std::time::Instant::now() < deadline, "the FIN never comes: {records:?}");
        records = call(&mut kernel, &[], 4)?;
    }
    assert_eq!((records.len(), records[0].data, records[0].fflags), (1, 5, 0));
    near.read_exact(&mut [0; 5])?;
    let end = call(&mut kernel, &[], 4)?;
    assert!(end[0].flags & flags::EOF != 0 && end[0].data == 0, "{end:?}");
    Ok(())
}

#[test]
fn a_reset_ends_both_directions_and_says_so_by_errno() -> io::Result<()> {
    let (mut kernel, (near, far)) = (kernel(), pair());
    socket2::SockRef::from(&far).set_linger(Some(Duration::ZERO))?;
    drop(far);
    call(&mut kernel, &[change(&near, Filter::Read, flags::ADD)], 4)?;
    let mut records = look(&mut kernel, &[change(&near, Filter::Write, flags::ADD)]);
    records.sort_by_key(|record| record.filter);
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.flags & flags::EOF != 0 && record.fflags == ECONNRESET), "{records:?}");
    Ok(())
}

#[test]
fn an_own_shutdown_ends_writing_only() -> io::Result<()> {
    let (mut kernel, (near, _far)) = (kernel(), pair());
    near.shutdown(Shutdown::Write)?;
    let both = [Filter::Read, Filter::Write].map(|filter| change(&near, filter, flags::ADD));
    let records = call(&mut kernel, &both, 4)?;
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(records[0].filter == Filter::Write && records[0].flags & flags::EOF != 0 && records[0].fflags == 0);
    Ok(())
}

#[test]
fn a_listener_says_how_many_connections_are_pending() -> io::Result<()> {
    let mut kernel = kernel();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let _clients = [TcpStream::connect(address)?, TcpStream::connect(address)?];
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    let mut records = call(&mut kernel, &[change(&listener, Filter::Read, flags::ADD)], 4)?;
    while records[0].data < 2 {
        assert!(std::time::Instant::now() < deadline, "the second never comes: {records:?}");
        records = call(&mut kernel, &[], 4)?;
    }
    assert_eq!(records[0].data, 2);
    Ok(())
}

#[test]
fn closing_a_descriptor_removes_its_filters() -> io::Result<()> {
    let (mut kernel, (near, far)) = (kernel(), pair());
    let add = change(&near, Filter::Write, flags::ADD);
    assert_eq!(call(&mut kernel, &[add], 4)?.len(), 1);
    // Moved to a number that no other test is given meanwhile, watched there, and closed.
    let lost = rustix::io::fcntl_dupfd_cloexec(&near, 700)?;
    let gone = change(&lost, Filter::Write, flags::ADD);
    assert_eq!(look(&mut kernel, &[gone]).len(), 2);
    drop(lost);
    assert_eq!(look(&mut kernel, &[]).len(), 1, "although the file itself is still open");
    let answer = look(&mut kernel, &[Change { flags: flags::DELETE, ..gone }]);
    assert_eq!(errors(&answer), [(gone.source, i64::from(libc::EBADF))]);
    drop(far);
    Ok(())
}

#[test]
fn with_four_ready_and_room_for_two_the_next_call_returns_the_others() -> io::Result<()> {
    let (mut kernel, pairs) = (kernel(), [pair(), pair()]);
    let ends = pairs.iter().flat_map(|(near, far)| [near, far]);
    let changes: Vec<_> = ends.map(|end| change(end, Filter::Write, flags::ADD)).collect();
    let mut seen: Vec<_> = Vec::new();
    for changes in [&changes[..], &[]] {
        let records = call(&mut kernel, changes, 2)?;
        assert_eq!(records.len(), 2);
        seen.extend(records.iter().map(|record| record.source));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    Ok(())
}

#[test]
fn a_regular_file_is_readable_up_to_its_end() -> io::Result<()> {
    let mut kernel = kernel();
    let mut file = std::fs::File::open(std::env::current_exe()?)?;
    let length = file.metadata()?.len() as i64;
    let records = call(&mut kernel, &[change(&file, Filter::Read, flags::ADD)], 4)?;
    assert_eq!((records.len(), records[0].data), (1, length));
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
    assert_eq!(look(&mut kernel, &[]), []);
    Ok(())
}
