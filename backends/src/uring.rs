//! io_uring(7) as readiness: polls queued in memory shared with the kernel, and one call that submits them and waits.
//!
//! What is odd about it:
//! (a) A poll is an operation: it is submitted, completes once, and is gone. Level-triggered is one poll after the
//!     other: a source that was reported is asked about again by the next wait, and the kernel looks before it sleeps.
//!     What `add` and `modify` want rides along too. Oneshot is a single poll, edge a multishot one.
//! (b) A poll holds the open file, not its number. A connection closed while polled would stay open, and its peer
//!     without an end, until the poll is cancelled; so `remove` and `close` cancel by a call of their own, if a poll is
//!     under way. Of a level-triggered source that was just reported none is.
//! (c) The completion of a cancelled poll may be in the queue already. Each poll has a serial number, the table knows
//!     the current one of each source, and a completion with another is nobody's.
//! (d) A poll that slept answers with what the waker said when it woke. Nobody looks again: what was read since is
//!     still told, what came since is not, and TCP says POLLPRI with every segment. So where polls may have woken
//!     before the wait began, poll(2) is asked about those that did, all in one call. Woken during the wait, they are
//!     believed, but for POLLPRI. An edge can always have woken before, and always wants POLLPRI: poll(2) is asked
//!     every time.
//! (e) A call that has submitted anything returns that count, whether a timeout, a signal or a completion ended it. The
//!     first two are told apart by the clock. It is read only where there is a timeout, and that is not zero.
//! (f) POLLRDHUP cannot be declined, no more than POLLERR. A single poll for room alone would complete at once, again
//!     and again, from the peer's half-close on. And POLLPRI wakes nobody who does not also ask for POLLIN. A source
//!     that is told what it did not want to know has a multishot poll from then on, which says it once.
//! (g) DEFER_TASKRUN: the kernel makes completions only inside our calls, which all ask for it (GETEVENTS), and takes
//!     submissions only from the thread that set up the ring. So `Uring` is not `Send`.
//! (h) Completions without room in the queue are kept by the kernel, and handed out by later calls; each of ours asks.
//! (i) Closing a ring cancels its polls some time later, on another thread of the kernel's. Ours are cancelled before,
//!     so that an address is free again when the poller is gone: one call, which no ledger tells.
//! (j) A few milliseconds after that, the kernel interrupts the thread that had the ring, without a signal: a call that
//!     waits with a timeout, recv(2) or epoll_wait(2), may once fail with EINTR, as it may after SIGCONT.

pub(crate) mod enter;
mod epoll;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
pub(crate) mod reasons;
mod ring;
#[cfg(all(test, feature = "conformance"))]
mod tests;
mod watch;

use std::io;
use std::time::{Duration, Instant};

use crate::event::{Interest, Token, Trigger};
use crate::events::{Events, Polled};
use crate::poll;
use crate::poller::{Calls, Capabilities, Growth, Ledger, Poller, is_exclusive, not_exclusively};
use crate::source::{RawSource, Source, raw};
use crate::table::Table;

use libc::pollfd as PollFd;
use ring::{COMPLETIONS, Completion, Full, POLLS, Ring};
use watch::{Question, Verdict, Watch, asked};

pub use epoll::EpollRing;

/// The io_uring(7) poller of Linux.
pub struct Uring {
    ring: Ring,
    table: Table<Watch>,
    noted: Vec<RawSource>, // (a) to be asked about by the next wait
    doubted: Vec<PollFd>,  // (d) of this wait
    serial: u32,           // (c) of the last poll
    /// Cancellations that the next call submits. It finds at least as many completions that are nobody's.
    cancelled: u32,
    ledger: Ledger,
}

/// One round of asking, sleeping and reading; a wait is one, or a few.
struct Look<'a, 'b> {
    answers: &'a mut Polled<'b>,
    /// How many events there may still be.
    room: usize,
    /// (d) The last poll of an earlier wait.
    before: u32,
    /// (d) Polls of earlier waits may have been woken before this one.
    woken: bool,
    events: usize,
    /// Completions that were read, whatever came of them.
    read: usize,
    /// A timeout or a signal ended the sleep: (e) does not say which.
    in_vain: bool,
}

impl Uring {
    /// Sets up a ring, for this thread.
    ///
    /// # Errors
    /// `Unsupported` if the kernel lacks io_uring (ENOSYS) or something of it, which the text names; `PermissionDenied`
    /// if a sysctl or a seccomp filter forbids it (EPERM); else the kernel's: too many descriptors, or no memory.
    pub fn open() -> io::Result<Uring> {
        Ring::open(POLLS).map(Uring::on)
    }

    /// Sets up a ring whose submissions a thread of the kernel takes.
    ///
    /// # Errors
    /// Those of [`open`](Uring::open); `PermissionDenied` also if it is only the thread that is forbidden.
    pub fn sqpoll() -> io::Result<Uring> {
        Ring::sqpoll(COMPLETIONS, POLLS).map(Uring::on)
    }

    fn on(ring: Ring) -> Uring {
        Uring {
            ring,
            table: Table::of("uring"),
            noted: Vec::new(),
            doubted: Vec::new(),
            serial: 0,
            cancelled: 0,
            ledger: Ledger::default(),
        }
    }

    /// As [`Poller::add`], of a source known by its number only.
    pub(crate) fn add_number(
        &mut self,
        source: RawSource,
        token: Token,
        interest: Interest,
        trigger: Trigger,
    ) -> io::Result<()> {
        let watch = self.table.vacant(source)?;
        let noted = watch.noted;
        *watch = Watch { token, asked: asked(interest, trigger), trigger, known: true, noted, ..Watch::default() };
        self.note(source);
        self.ledger.changes += 1;
        Ok(())
    }

    /// (a) Has the next wait see to this source.
    fn note(&mut self, source: RawSource) {
        if self.table[source].note() {
            self.noted.push(source);
        }
    }

    /// (c) Nothing that the poll under way has said or will say is of interest any more.
    fn cancel(&mut self, source: RawSource) -> io::Result<()> {
        let watch = &mut self.table[source];
        let target = user_data(watch.poll, source);
        while let Err(Full) = self.ring.cancel(target, NOBODYS) {
            self.make_room()?;
        }
        self.table[source].poll = 0;
        self.cancelled += 1;
        Ok(())
    }

    /// Submits what waits, without waiting for anything. Whatever is not taken goes with the next call.
    fn make_room(&mut self) -> io::Result<()> {
        self.change(|ring| ring.enter(0, None).map(drop))
    }

    /// (b) As above; what is cancelled then holds no file.
    fn let_go(&mut self) -> io::Result<()> {
        self.change(Ring::let_go)
    }

    fn change(&mut self, call: impl FnOnce(&mut Ring) -> io::Result<()>) -> io::Result<()> {
        let already = self.ring.calls();
        self.cancelled = 0;
        let called = call(&mut self.ring);
        self.ledger.change_calls += self.ring.calls() - already;
        match called {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Queues a poll of every source that is noted. One that is still polled is to be looked at afresh.
    fn ask(&mut self) -> io::Result<()> {
        let (mut done, mut asked) = (0, Ok(()));
        while asked.is_ok() && done < self.noted.len() {
            asked = self.ask_about(self.noted[done]);
            done += usize::from(asked.is_ok());
        }
        self.noted.drain(..done);
        asked
    }

    fn ask_about(&mut self, source: RawSource) -> io::Result<()> {
        if self.table[source].poll != 0 {
            self.cancel(source)?;
        }
        let question = self.table[source].question();
        let mut serial = 0;
        if let Some(Question { bits, multishot }) = question {
            serial = self.serial.checked_add(1).unwrap_or(1);
            while let Err(Full) = self.ring.poll(source, bits, multishot, user_data(serial, source)) {
                self.make_room()?;
            }
            self.serial = serial;
        }
        self.table[source].asked_about(serial, question);
        Ok(())
    }

    /// Asks, sleeps if nothing is there yet, and reports what is.
    fn look(&mut self, look: &mut Look<'_, '_>, timeout: Option<Duration>) -> io::Result<()> {
        self.doubted.clear();
        self.ask()?;
        self.call(Ring::meet)?;
        // What an earlier call left in the queue was there before the wait.
        let woken = std::mem::replace(&mut look.woken, true);
        self.collect(look);
        look.woken = woken;

        // What was woken for nothing is polled again first: nothing else would tell of it.
        let waits = look.events == 0 && self.doubted.is_empty() && self.noted.is_empty();
        let sleeps = waits && timeout != Some(Duration::ZERO);
        let cancelled = std::mem::take(&mut self.cancelled);
        let wanted = if sleeps { self.ring.wanted(cancelled) } else { 0 };
        let already = look.read;
        let entered = self.enter(wanted, timeout.filter(|_| sleeps));
        self.collect(look);
        look.in_vain = look.read - already < wanted as usize && self.ring.waiting() == 0;

        // A call makes no more than twenty completions of what happened before it. A full portion is not all.
        let mut portion = look.read - already;
        while portion >= PORTION && look.room > self.doubted.len() && self.ring.has_work() {
            let already = look.read;
            if self.enter(0, None).is_err() {
                break; // The rest is for the next wait, the error too if it lasts.
            }
            self.collect(look);
            portion = look.read - already;
        }
        self.make_sure(look)?;
        if look.events == 0 { entered } else { Ok(()) }
    }

    fn enter(&mut self, wanted: u32, timeout: Option<Duration>) -> io::Result<()> {
        self.call(|ring| ring.enter(wanted, timeout).map(drop))
    }

    fn call(&mut self, call: impl FnOnce(&mut Ring) -> io::Result<()>) -> io::Result<()> {
        let already = self.ring.calls();
        let called = call(&mut self.ring);
        self.ledger.wait_calls += self.ring.calls() - already;
        called
    }

    /// Reads completions, as long as there is room: reports them, or doubts them.
    fn collect(&mut self, look: &mut Look<'_, '_>) {
        while look.room > self.doubted.len() {
            let Some(completion) = self.ring.completion() else { return };
            look.read += 1;
            let (source, verdict) = self.judge(&completion, look);
            match verdict {
                Verdict::Nothing => {}
                Verdict::AskAgain => self.note(source),
                Verdict::Doubtful => self.doubt(source),
                Verdict::Told(bits) => self.report(source, bits, look),
            }
        }
    }

    /// Whose completion it is, and what it comes to.
    fn judge(&mut self, completion: &Completion, look: &Look<'_, '_>) -> (RawSource, Verdict) {
        let (serial, source) = serial_and_source(completion.user_data);
        let Some(watch) = self.table.get_mut(source) else { return (source, Verdict::Nothing) };
        // (d) The numbers may have begun again in between. Then one poll too many is doubted, or believed.
        let is_of_this_wait = serial.wrapping_sub(look.before) as i32 > 0;
        let is_trusted = is_of_this_wait || !look.woken;
        (source, watch.judge(serial, completion.result, completion.more, self.ring.read(), is_trusted))
    }

    /// (d) To be asked poll(2) about, each source once: an edge may have completed several times.
    fn doubt(&mut self, source: RawSource) {
        let watch = &mut self.table[source];
        if self.doubted.get(watch.at as usize).is_none_or(|doubted| doubted.fd != source) {
            watch.at = self.doubted.len() as u32;
            self.doubted.push(PollFd { fd: source, events: watch.asked as i16, revents: 0 });
        }
    }

    /// (d) Asks poll(2) about all that is doubted, and reports what is so.
    fn make_sure(&mut self, look: &mut Look<'_, '_>) -> io::Result<()> {
        if self.doubted.is_empty() {
            return Ok(());
        }
        let told = self.ring.read() + self.ring.unread();
        self.ledger.wait_calls += 1;
        if let Err(error) = poll::look(&mut self.doubted) {
            // What is lost of an edge would never be told again. Asked about afresh, it is.
            for at in 0..self.doubted.len() {
                self.note(self.doubted[at].fd);
            }
            return if look.events == 0 { Err(error) } else { Ok(()) };
        }
        for at in 0..self.doubted.len() {
            let PollFd { fd: source, revents, .. } = self.doubted[at];
            match self.table[source].confirm(revents as u16, told) {
                Verdict::Told(bits) => self.report(source, bits, look),
                Verdict::AskAgain => self.note(source),
                _ => {}
            }
        }
        Ok(())
    }

    fn report(&mut self, source: RawSource, bits: u32, look: &mut Look<'_, '_>) {
        let watch = &mut self.table[source];
        let mut answer = Some((watch.token, bits));
        let filled = look.answers.fill(1, || answer.take());
        look.events += filled;
        look.room -= filled;
        if watch.reported(bits) {
            self.note(source);
        }
    }
}

impl Poller for Uring {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.add_number(raw(source), token, interest, trigger)
    }

    fn add_exclusive(&mut self, source: Source<'_>, token: Token, interest: Interest) -> io::Result<()> {
        if !is_exclusive(interest) {
            return Err(not_exclusively("uring"));
        }
        self.add(source, token, interest, Trigger::Level)?;
        self.table[raw(source)].exclusive = true;
        Ok(())
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        let source = raw(source);
        if self.table.known(source)?.modify(token, asked(interest, trigger), trigger) {
            self.note(source);
        }
        self.ledger.changes += 1;
        Ok(())
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        let source = raw(source);
        let watch = self.table.known(source)?;
        (watch.known, watch.asked) = (false, 0);
        let polled = watch.poll != 0;
        self.ledger.changes += 1;
        if polled {
            self.cancel(source)?;
            self.let_go()?;
        }
        Ok(())
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let room = events.capacity();
        let mut answers = events.polled_records();
        self.ledger.waits += 1;
        let until =
            timeout.filter(|timeout| !timeout.is_zero()).and_then(|timeout| Instant::now().checked_add(timeout));
        let mut look =
            Look { answers: &mut answers, room, before: 0, woken: false, events: 0, read: 0, in_vain: false };
        let (mut left, mut is_late) = (timeout, false);
        let waited = loop {
            (look.before, look.woken) = (self.serial, self.ring.has_work());
            let waited = self.look(&mut look, left);
            if waited.is_err() || look.events > 0 {
                break waited;
            }
            // Only completions that are nobody's, or of what is past; or (e).
            if timeout != Some(Duration::ZERO) {
                left = until.map(|until| until.saturating_duration_since(Instant::now()));
            }
            if left == Some(Duration::ZERO) {
                // What was woken for nothing may be ready all the same. Nobody has asked about it since.
                if self.noted.is_empty() || is_late {
                    break Ok(());
                }
                is_late = true;
                continue;
            }
            if look.in_vain {
                break Err(io::Error::from_raw_os_error(libc::EINTR));
            }
        };
        self.ledger.events += look.events as u64;
        self.ledger.empty += u64::from(look.events == 0);
        match waited {
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(()),
            waited => waited,
        }
    }

    fn ledger(&self) -> Ledger {
        self.ledger
    }
}

pub(crate) const CAPABILITIES: Capabilities = Capabilities {
    edge: true,
    oneshot: true,
    exclusive: true,
    growth: Growth::Ready,
    resolution: Duration::from_nanos(1),
    half_close: true,
    errors: true,
    priority: true,
    regular_files: true,
    calls: Calls { wait: &["io_uring_enter", "ppoll"], change: &["io_uring_enter"] },
    ..Capabilities::least()
};

impl Drop for Uring {
    /// (i) Whatever fails here, the kernel does a little later.
    fn drop(&mut self) {
        for source in self.table.numbers() {
            if self.table[source].poll != 0 && self.cancel(source).is_err() {
                return;
            }
        }
        let _ = self.let_go();
    }
}

/// (c) As [`serial_and_source`] takes it apart.
fn user_data(serial: u32, source: RawSource) -> u64 {
    u64::from(serial) << 32 | source as u64
}

fn serial_and_source(user_data: u64) -> (u32, RawSource) {
    ((user_data >> 32) as u32, user_data as RawSource)
}

/// Of a cancellation that came too late: no source has the number -1.
const NOBODYS: u64 = u64::MAX;

/// IO_LOCAL_TW_DEFAULT_MAX of newer kernels; older ones know no portions.
const PORTION: usize = 20;
