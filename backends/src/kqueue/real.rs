//! The sockets, pipes and files of Linux as kqueue(2)'s filters see them.
//!
//! (a) Whether a filter's condition is true, poll(2) says; how many bytes there are, FIONREAD; how many connections are
//!     pending, and whether the sending half was closed here, TCP_INFO.
//! (b) That something happened, poll(2) cannot say: bytes that arrive behind unread ones change no answer. An
//!     edge-triggered epoll(7) tells of those, one for each filter, because the kernel wakes readers and writers apart.
//! (c) Of an error poll(2) says that there is one. Asking which (SO_ERROR) would take it from the program, so it is
//!     always ECONNRESET here.
//! (d) epoll refuses what is always ready, with EPERM. A regular file is readable up to its end, as kqueue(2) has it.
//! (e) A number that was closed and given away again is found out by adding it once more: EEXIST says that it is the
//!     file it was. (epoll's entries go by number and open file. After a close(2) while the file has other numbers the
//!     entry stays behind; what it tells is for a filter that is gone.)

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::model::{Fact, Files};
use super::*;
use crate::time;

/// The files of this system.
pub struct Real {
    /// (b) By filter.
    happenings: [OwnedFd; 2],
    attached: BTreeMap<(RawSource, Filter), Attached>,
    /// What epoll's entries are marked with, each time another.
    last_mark: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Attached {
    Marked(u64),
    /// (d)
    AlwaysReady,
}

impl Real {
    pub(super) fn open() -> io::Result<Real> {
        let happenings = [epoll::create(epoll::CreateFlags::CLOEXEC)?, epoll::create(epoll::CreateFlags::CLOEXEC)?];
        Ok(Real { happenings, attached: BTreeMap::new(), last_mark: 0 })
    }

    fn add(&self, source: RawSource, filter: Filter, mark: u64) -> Result<(), Errno> {
        epoll::add(&self.happenings[filter as usize], lent(source), epoll::EventData::new_u64(mark), wakes(filter))
    }

    fn mark(&self, source: RawSource, filter: Filter, mark: u64) -> Result<(), Errno> {
        epoll::modify(&self.happenings[filter as usize], lent(source), epoll::EventData::new_u64(mark), wakes(filter))
    }

    fn marked(&self, mark: u64) -> Option<(RawSource, Filter)> {
        self.attached.iter().find(|(_, attached)| **attached == Attached::Marked(mark)).map(|(key, _)| *key)
    }
}

impl Files for Real {
    fn attach(&mut self, source: RawSource, filter: Filter) -> Result<(), i64> {
        self.last_mark += 1;
        let attached = match self.add(source, filter, self.last_mark) {
            Ok(()) => Attached::Marked(self.last_mark),
            Err(Errno::EXIST) => {
                // (e) The same file under the same number once more, and its entry had stayed behind.
                self.mark(source, filter, self.last_mark).map_err(|errno| i64::from(errno.raw_os_error()))?;
                Attached::Marked(self.last_mark)
            }
            Err(Errno::PERM) => Attached::AlwaysReady,
            Err(errno) => return Err(errno.raw_os_error().into()),
        };
        self.attached.insert((source, filter), attached);
        Ok(())
    }

    fn detach(&mut self, source: RawSource, filter: Filter) {
        let attached = self.attached.remove(&(source, filter));
        if matches!(attached, Some(Attached::Marked(_))) {
            // Closed, it is gone; or (e) it stays behind.
            let _ = epoll::delete(&self.happenings[filter as usize], lent(source));
        }
    }

    fn is_open(&mut self, source: RawSource) -> bool {
        rustix::io::fcntl_getfd(lent(source)).is_ok()
    }

    fn is_the_same(&mut self, source: RawSource, filter: Filter) -> bool {
        match self.add(source, filter, 0) {
            Err(Errno::EXIST) => true,
            Err(Errno::PERM) => self.attached.get(&(source, filter)) == Some(&Attached::AlwaysReady),
            Err(_) => false,
            Ok(()) => {
                let _ = epoll::delete(&self.happenings[filter as usize], lent(source));
                false
            }
        }
    }

    fn fact(&mut self, source: RawSource, filter: Filter) -> Option<Fact> {
        let source = lent(source);
        if self.attached.get(&(source.as_raw_fd(), filter)) == Some(&Attached::AlwaysReady) {
            return always_ready(source, filter);
        }
        let (asked, fires, ends) = match filter {
            Filter::Read => (PollFlags::IN | PollFlags::RDHUP, PollFlags::IN, PollFlags::RDHUP),
            Filter::Write => (PollFlags::OUT, PollFlags::OUT, PollFlags::empty()),
        };
        let mut asked = [PollFd::from_borrowed_fd(source, asked)];
        poll(&mut asked, Some(&time::timespec(Duration::ZERO))).ok()?;
        let said = asked[0].revents();
        let is_socket = socket2::SockRef::from(&source).r#type().is_ok();
        // An error wakes, but is no end: FreeBSD's filt_soread. Of a pipe it is what the loss of its reader is called.
        let ends = ends | PollFlags::HUP | if is_socket { PollFlags::empty() } else { PollFlags::ERR };
        if !said.intersects(fires | ends | PollFlags::ERR) {
            return None;
        }

        let tcp = tcp_info(source);
        let ended = said.intersects(ends) || filter == Filter::Write && tcp.is_some_and(|tcp| has_shut(tcp.tcpi_state));
        let failed = ended && is_socket && said.contains(PollFlags::ERR);
        let data = match (filter, tcp) {
            // The room is not asked for: the poller does not show it.
            (Filter::Write, _) => 0,
            (Filter::Read, Some(tcp)) if tcp.tcpi_state == LISTEN => tcp.tcpi_unacked.into(),
            (Filter::Read, _) => rustix::io::ioctl_fionread(source).map_or(0, |bytes| bytes as i64),
        };
        let fflags = if failed { Errno::CONNRESET.raw_os_error() as u32 } else { 0 }; // (c)
        Some(Fact { flags: if ended { flags::EOF } else { 0 }, fflags, data })
    }

    fn happenings(&mut self, timeout: Option<Duration>) -> io::Result<Vec<(RawSource, Filter)>> {
        let mut asked = self.happenings.each_ref().map(|queue| PollFd::new(queue, PollFlags::IN));
        poll(&mut asked, timeout.map(time::timespec).as_ref())?;
        let mut marks = Vec::new();
        for queue in &self.happenings {
            let mut found: Vec<epoll::Event> = Vec::with_capacity(256);
            // Edge-triggered, so those that found no room come with the next call.
            while epoll::wait(queue, spare_capacity(&mut found), Some(&time::timespec(Duration::ZERO)))? > 0 {
                marks.extend(found.drain(..).map(|event| event.data.u64()));
            }
        }
        Ok(marks.into_iter().filter_map(|mark| self.marked(mark)).collect())
    }
}

/// (b)
fn wakes(filter: Filter) -> EventFlags {
    let news = match filter {
        Filter::Read => EventFlags::IN | EventFlags::RDHUP,
        Filter::Write => EventFlags::OUT,
    };
    news | EventFlags::ET
}

/// (d) Readable up to its end, and always writable.
fn always_ready(source: BorrowedFd<'_>, filter: Filter) -> Option<Fact> {
    if filter == Filter::Write {
        return Some(Fact::default());
    }
    // A duplicate has the same position.
    let mut file = File::from(source.try_clone_to_owned().ok()?);
    let metadata = file.metadata().ok()?;
    let left = match metadata.is_file() {
        true => metadata.len() as i64 - file.stream_position().ok()? as i64,
        false => 1,
    };
    (left != 0).then_some(Fact { data: left, ..Fact::default() })
}

fn lent(source: RawSource) -> BorrowedFd<'static> {
    // SAFETY: kqueue(2) is given numbers, open or not, and so is its model. It lends each to one call at a time, which
    // asks about it and says so if it is not open; nothing is read from it, written to it, or closed.
    unsafe { BorrowedFd::borrow_raw(source) }
}

// Linux, include/net/tcp_states.h.
const LISTEN: u8 = 10;

/// Whether the sending half was closed, by this side.
fn has_shut(state: u8) -> bool {
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    const TIME_WAIT: u8 = 6;
    const LAST_ACK: u8 = 9;
    const CLOSING: u8 = 11;
    [FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING].contains(&state)
}

fn tcp_info(source: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    // SAFETY: a struct of integers, for which zero bits are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has `length` writable bytes, and both live until the call returns; any number may be asked about.
    let got = unsafe {
        libc::getsockopt(source.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &mut length)
    };
    (got == 0).then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    /// The matrix knows what is kqueue's own way, and no note is missing, as far as the model can stand in for a BSD.
    #[test]
    fn what_differs_over_the_model_is_explained() {
        use crate::semantics::{self, Column, Notes, Outcome};

        let registry = Registry::builtin().with("kqueue", || Ok(Box::new(Kqueue::open()?) as Box<dyn Poller>));
        let columns = Trigger::ALL.map(|trigger| Column::new("kqueue", trigger));
        let matrix = semantics::run(&registry, &columns).expect("it can be opened");
        for (row, step, column, cell) in matrix.cells() {
            let place = format!("{}, {}: {}", row.scenario.name, step.moment.when, column.name);
            assert!(!matches!(cell.outcome, Outcome::Failed(_)), "{place}: {}", cell.outcome);
            assert!(cell.notes != Notes::Unexplained, "{place} is told {} by {}", cell.outcome, cell.raw);
        }
    }
}
