//! One connection as all threads see it: its socket, who may write to it, and how it is ended.

use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pollmark_backends::{AsSource, OwnedSource, end_blocked_calls};
use socket2::SockRef;

use super::super::wheel::TICK;
use super::super::{Net, Stats};

/// One connection's socket, as all threads see it.
pub(super) struct Seat {
    pub(super) source: OwnedSource,
    /// Held while an answer is written: bytes sent from another thread must not fall into the middle of it.
    pen: Mutex<Pen>,
    laid_down: Condvar,
    /// The peer has taken some of what others wrote to it, and its own thread has not noticed yet.
    took: AtomicBool,
    pub(super) counts: Counts,
    /// It waits for a message of which nothing has come.
    pub(super) is_idle: AtomicBool,
    has_ended: Mutex<bool>,
    ended: Condvar,
}

#[derive(Default)]
struct Pen {
    is_held: bool,
    /// How many wait for it: nobody is called in vain, which is a call of the system.
    awaited: usize,
    /// Its own thread is done with it: nobody would end then who writes to a peer that does not read.
    is_over: bool,
    /// The timeout set on calls that send. It is the socket's, so it is changed by who has the pen.
    bound: Option<Duration>,
}

/// The right to write to a connection, until it is dropped.
pub(super) struct Writing<'a> {
    seat: &'a Seat,
    bound: Option<Duration>,
}

impl Writing<'_> {
    /// Writes once, and for no longer than what is `left`, on the account of whoever's `counts` these are.
    pub(super) fn write<N: Net>(
        &mut self,
        (net, counts): (&N, &Counts),
        bytes: &[u8],
        left: Option<Duration>,
    ) -> io::Result<usize> {
        if !is_bound(self.bound, left) {
            count(&counts.other, 1);
            self.bound = left;
            SockRef::from(&self.seat.source).set_write_timeout(left)?;
        }
        loop {
            count(&counts.writes, 1);
            match net.send(self.seat.source.as_source(), bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => {
                    let taken = sent?;
                    count(&counts.bytes_out, taken);
                    return Ok(taken);
                }
            }
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut pen = self.seat.pen();
        (pen.is_held, pen.bound) = (false, self.bound);
        if pen.awaited > 0 {
            self.seat.laid_down.notify_one();
        }
    }
}

impl Seat {
    pub(super) fn of(source: OwnedSource) -> Seat {
        Seat {
            source,
            pen: Mutex::default(),
            laid_down: Condvar::new(),
            took: AtomicBool::new(false),
            counts: Counts::default(),
            is_idle: AtomicBool::new(false),
            has_ended: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the pen, to be held from the first byte of an answer to its last, when nobody else has it: waits for so
    /// long, or for ever.
    pub(super) fn take_the_pen(&self, patience: Option<Duration>) -> Option<Writing<'_>> {
        let mut pen = self.pen();
        if pen.is_held {
            let began = Instant::now();
            pen.awaited += 1;
            while pen.is_held {
                pen = match patience.map(|patience| patience.saturating_sub(began.elapsed())) {
                    Some(Duration::ZERO) => {
                        pen.awaited -= 1;
                        return None;
                    }
                    Some(left) => self.laid_down.wait_timeout(pen, left).unwrap_or_else(PoisonError::into_inner).0,
                    None => self.laid_down.wait(pen).unwrap_or_else(PoisonError::into_inner),
                };
            }
            pen.awaited -= 1;
        }
        pen.is_held = true;
        Some(Writing { seat: self, bound: pen.bound })
    }

    /// Nobody writes any more. Whoever is in the middle of it finishes, if this `waits`, or until the connection is
    /// ended.
    pub(super) fn put_the_pen_down(&self, waits: bool) {
        if !waits && self.pen().is_held {
            self.end();
        }
        let _last = self.take_the_pen(None);
        self.pen().is_over = true;
    }

    /// Whether the peer has taken anything, since this was last asked, of what others wrote to it.
    pub(super) fn took(&self) -> bool {
        self.took.load(Ordering::Relaxed) && self.took.swap(false, Ordering::Relaxed)
    }

    /// Writes all of what another connection has for this one. False if the peer took nothing for as long as it `may`:
    /// then it is ended, by a reset.
    pub(super) fn pass_on<N: Net>(&self, by: (&N, &Counts), bytes: &[u8], may: Option<Duration>) -> bool {
        let Some(mut writing) = self.take_the_pen(None) else { return true };
        let mut rest = if self.pen().is_over { &[] } else { bytes };
        let mut began = Instant::now();
        while !rest.is_empty() {
            let left = may.map(|may| may.saturating_sub(began.elapsed()));
            let is_late = left == Some(Duration::ZERO);
            match writing.write(by, rest, left.map(at_least_one_ms).or(writing.bound)) {
                Ok(taken) => {
                    rest = &rest[taken..];
                    began = Instant::now();
                    self.took.store(true, Ordering::Relaxed);
                }
                // Its own deadline bounds our calls too, and is no reason to leave a gap in what it is sent.
                Err(error) if !is_late && is_timeout(&error) => {}
                Err(error) => {
                    let is_late = is_timeout(&error);
                    if is_late {
                        count(&by.1.other, 1);
                        let _ = SockRef::from(&self.source).set_linger(Some(Duration::ZERO)); // it may be dead already
                    }
                    // This connection's trouble. Its own thread finds it ended, and nobody reads on beyond the gap.
                    self.end();
                    return !is_late;
                }
            }
        }
        true
    }

    /// Sleeps for so long, or for ever, unless the connection is ended. Says whether it lives.
    pub(super) fn rest(&self, duration: Option<Duration>) -> bool {
        let mut has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        while !*has_ended {
            has_ended = match duration.map(|duration| duration.saturating_sub(began.elapsed())) {
                Some(Duration::ZERO) => return true,
                Some(left) => self.ended.wait_timeout(has_ended, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.ended.wait(has_ended).unwrap_or_else(PoisonError::into_inner),
            };
        }
        false
    }

    /// Ends the connection, if it waits for the next message and nothing has come. If something has, its own thread is
    /// about to read it, and sees after that that it is to end.
    pub(super) fn end_if_idle(&self) {
        if self.is_idle.load(Ordering::SeqCst) && self.is_read_out() {
            let _ = SockRef::from(&self.source).shutdown(Shutdown::Read); // it may be dead already
            end_blocked_calls(self.source.as_source());
        }
    }

    /// Whether nothing has come that was not read. To shut a socket down is to throw that away, but on Linux.
    pub(super) fn is_read_out(&self) -> bool {
        !rustix::io::ioctl_fionread(self.source.as_source()).is_ok_and(|unread| unread > 0)
    }

    /// Ends the connection, whatever whoever serves it is asleep in.
    pub(super) fn end(&self) {
        let _ = SockRef::from(&self.source).shutdown(Shutdown::Both); // it may be dead already
        end_blocked_calls(self.source.as_source());
        *self.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }
}

/// Written by one thread, and by who delivers mail; read by those who ask.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) other: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

impl Counts {
    pub(super) fn stats(&self) -> Stats {
        Stats {
            read_calls: self.reads.load(Ordering::Relaxed),
            write_calls: self.writes.load(Ordering::Relaxed),
            other_calls: self.other.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }
}

/// Whether a call with this timeout set ends when it should: no later, and not so early that it would be made for
/// nothing.
pub(super) fn is_bound(set: Option<Duration>, left: Option<Duration>) -> bool {
    match (set, left) {
        (Some(set), Some(left)) => set <= left + TICK && left <= 2 * set,
        (set, left) => set == left,
    }
}

/// A timeout of 0 would mean none at all.
pub(super) fn at_least_one_ms(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

/// A call has taken as long as it may.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}
