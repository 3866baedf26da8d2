//! io_uring(7) as completion: operations are handed to the kernel, and it says when they are done and not when they
//! could be.
//!
//! What is odd about it, and how this ring goes about it:
//! (a) The kernel reads and writes our memory between calls. So the ring owns all of it: the buffers that are received
//!     into, the bytes that are sent. A caller lends slices, which are copied, or gives vectors away and gets them
//!     back.
//! (b) A receive is armed once and completes many times. Each time it takes a buffer from a ring of them that all
//!     receives share, so that an idle connection has none. When there is none left it ends (ENOBUFS), and when the
//!     kernel pleases (no MORE): whoever armed it arms it again.
//! (c) A completion for each send would be work for nothing: nearly all are taken whole and at once. A *silent* send is
//!     told not to wait (MSG_DONTWAIT) and to say nothing when all is taken (CQE_SKIP_SUCCESS, MSG_WAITALL). It is over
//!     when the call that submits it returns; only what fell short has completed. One send of a connection at a time:
//!     the next could find room that the first did not, and would leave a gap.
//! (d) What fell short is to be known before anything is answered that came after it. So the whole queue is read,
//!     completions the kernel kept back for want of room included, before [`Ring::turn`] returns.
//! (e) A buffer that was received into goes back to the kernel after the *next* call, which sends what is sent from it.
//!     Until then its bytes stay where they are.
//! (f) DEFER_TASKRUN: the kernel makes completions only inside our calls, and takes submissions only from the thread
//!     that set up the ring. So a ring is not `Send`.
//! (g) A cancelled operation completes too, some time. Tokens carry a generation: what comes for a slot that was
//!     vacated is nobody's, and costs a look.
//! (h) A socket that does not block would have its receives fail (EAGAIN) where others wait. Sources have to be
//!     blocking.
//! (i) Closing a ring cancels what is under way some time later. [`Ring`] cancels it before, and waits, so that an
//!     address is free again when it is gone, and no memory of ours is written to.
//! (j) Where a thread of the kernel's takes what is queued ([`Setup::thread`]), nothing is over when a call returns. An
//!     operation that does nothing closes each turn: when it has completed, all before it was taken.
//! (k) A send without a copy ([`Setup::zero_copy_from`]) completes twice: when the bytes are taken, and when nobody
//!     reads them any more. Only then is the memory given back.
//! (l) Of what comes in several buffers, only the first could be sent from where it lies: one send of a connection at a
//!     time, (c). A *bundle* ([`Setup::bundles`]) is one send of several buffers, from a group that the connection has
//!     for the turn: a group that two shared would have what one did not take sent to the other. What is left of a
//!     bundle that fell short stays in its group, so that group begins anew, by two calls. Where a thread of the
//!     kernel's takes what is queued there are no bundles: they would be taken while they grow.
//! (m) A receive that goes on may never tell the end of a stream on a Unix socket: where the last bytes and the end
//!     have both come before the kernel looks, it takes the bytes, and forgets that it was told twice. TCP has it look
//!     again. Reported as liburing's issue 1549, seen here on 6.18.44, a few times in a hundred on a busy machine. So
//!     those are received from one by one ([`Ring::receive_once`]): that is an operation for each, and no call.

mod buffers;
mod bundles;
mod end;
mod fate;
mod lent;
mod outcome;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
mod provided;
mod queue;
mod setup;
mod silent;
mod tags;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};

use crate::event::{Raw, Token};
use crate::poller::Ledger;
use crate::source::{OwnedSource, Source, raw};
use buffers::Buffers;
use bundles::Bundles;
use lent::{Lent, Loans};
use queue::{Done, Queue};
use silent::Silent;
use tags::{ACCEPT, BUNDLE, NOBODYS, RECEIVE, SENT, SILENT, TAGS, WATCH, tag, tagged};

#[cfg(feature = "conformance")]
pub use fate::Faulty;
pub use fate::{Act, Fate, Lot};
pub use outcome::{Completion, Next, Other};
pub use setup::{MinWait, Setup};
pub use silent::Short;

/// An io_uring that accepts, receives, sends and closes.
///
/// Operations are queued by its methods, and submitted by the next [`turn`](Ring::turn), in the order they were queued.
/// A source must live until then, and is to be closed by [`close`](Ring::close), which comes after what was queued
/// before. Tokens name slots below 2²⁸.
pub struct Ring<F: Fate = ()> {
    fate: F,
    queue: Queue,
    buffers: Buffers,
    bundles: Bundles,
    silent: Vec<Silent>,
    /// Those of the last round.
    sent: Vec<Silent>,
    outbox: Box<[u8]>,
    outbox_used: usize,
    loans: Loans,
    /// Completions that were read in the last turn, and how many of them were looked at.
    batch: Vec<cqueue::Entry>,
    looked_at: usize,
    short: VecDeque<Short>,
    /// Completions of what the kernel never saw, by fate.
    planted: Vec<Done>,
    /// Those of them that are to be looked at.
    grown: VecDeque<Done>,
    round: u32,
    /// Receives, accepts, watches and sends with memory that have not completed for the last time.
    under_way: usize,
    /// Nothing was queued since nothing was under way.
    finished: bool,
    /// (k) Sends with memory are without a copy from so many bytes on.
    zero_copy_from: usize,
    ledger: Ledger,
}

impl Ring {
    /// Sets up a ring, for this thread, and tries whether it does what is needed.
    ///
    /// # Errors
    /// `Unsupported` if the kernel lacks io_uring (ENOSYS) or something of it, which the text names; `PermissionDenied`
    /// if a sysctl or a seccomp filter forbids it (EPERM); else the kernel's: too many descriptors, or no memory.
    pub fn open(setup: &Setup) -> io::Result<Ring> {
        Ring::with_fate(setup, ())
    }
}

impl<F: Fate> Ring<F> {
    /// As [`open`](Ring::open), for a ring whose operations have a `fate`.
    ///
    /// # Errors
    /// As of [`open`](Ring::open).
    pub fn with_fate(setup: &Setup, fate: F) -> io::Result<Ring<F>> {
        let mut ring = Ring::untried(setup, fate)?;
        trial::run(&mut ring)?;
        ring.fate.begin();
        Ok(ring)
    }

    fn untried(setup: &Setup, fate: F) -> io::Result<Ring<F>> {
        let queue = Queue::open(setup)?;
        let buffers = Buffers::register(&queue, setup)?;
        let bundles = Bundles::register(&queue, if setup.thread { 0 } else { setup.bundles })?;
        Ok(Ring {
            fate,
            queue,
            buffers,
            bundles,
            silent: Vec::new(),
            sent: Vec::new(),
            outbox: vec![0; setup.outbox.max(LEAST_OUTBOX)].into_boxed_slice(),
            outbox_used: 0,
            loans: Loans::default(),
            batch: Vec::new(),
            looked_at: 0,
            short: VecDeque::new(),
            planted: Vec::new(),
            grown: VecDeque::new(),
            round: 1,
            under_way: 0,
            finished: false,
            zero_copy_from: setup.zero_copy_from,
            ledger: Ledger::default(),
        })
    }

    /// Has connections accepted, one after the other, until told otherwise.
    pub fn accept(&mut self, listener: Source<'_>, token: Token) {
        let accept = opcode::AcceptMulti::new(Fd(raw(listener))).flags(libc::SOCK_CLOEXEC);
        match self.fate.of(Act::Accept, listener, usize::MAX) {
            Lot::AsAsked => self.begin(accept.build().user_data(tagged(ACCEPT, token))),
            Lot::AtMost(_) => self.begin_accept_one(listener, token),
            Lot::Fails(error) => self.plant(tagged(ACCEPT, token), error),
        }
    }

    /// Has one connection accepted.
    pub fn accept_one(&mut self, listener: Source<'_>, token: Token) {
        match self.fate.of(Act::Accept, listener, 1) {
            Lot::AsAsked | Lot::AtMost(_) => self.begin_accept_one(listener, token),
            Lot::Fails(error) => self.plant(tagged(ACCEPT, token), error),
        }
    }

    fn begin_accept_one(&mut self, listener: Source<'_>, token: Token) {
        let (nowhere, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let accept = opcode::Accept::new(Fd(raw(listener)), nowhere, no_length).flags(libc::SOCK_CLOEXEC);
        self.begin(accept.build().user_data(tagged(ACCEPT, token)));
    }

    /// Ends what [`accept`](Ring::accept) or [`accept_one`](Ring::accept_one) began with `token`. Connections accepted
    /// until then still come, and in the end that it is over.
    pub fn stop_accepting(&mut self, token: Token) {
        let cancel = opcode::AsyncCancel::new(tagged(ACCEPT, token));
        self.begin_quietly(cancel.build());
    }

    /// How many buffers there are for receives to take from in the next turn, besides what those that are armed have
    /// taken without having told of it yet: whose bytes were told of in the last turn are back only after the next.
    pub fn free_buffers(&self) -> usize {
        self.buffers.free()
    }

    /// Has bytes received, as they come, until told otherwise. Of a Unix socket's stream the end may be missed: (m).
    pub fn receive(&mut self, source: Source<'_>, token: Token) {
        match self.fate.of(Act::Receive, source, self.buffers.size()) {
            Lot::AsAsked => {
                let receive = opcode::RecvMulti::new(Fd(raw(source)), buffers::GROUP).build();
                self.begin(receive.user_data(tagged(RECEIVE, token)));
            }
            Lot::AtMost(bytes) => self.begin_receive_once(source, token, bytes),
            Lot::Fails(error) => self.plant(tagged(RECEIVE, token), error),
        }
    }

    /// Has bytes received once: those that are there, as many as fit into a buffer.
    pub fn receive_once(&mut self, source: Source<'_>, token: Token) {
        match self.fate.of(Act::Receive, source, self.buffers.size()) {
            Lot::AsAsked => self.begin_receive_once(source, token, self.buffers.size()),
            Lot::AtMost(bytes) => self.begin_receive_once(source, token, bytes),
            Lot::Fails(error) => self.plant(tagged(RECEIVE, token), error),
        }
    }

    fn begin_receive_once(&mut self, source: Source<'_>, token: Token, bytes: usize) {
        let number = Fd(raw(source));
        let receive = opcode::Recv::new(number, std::ptr::null_mut(), bytes as u32).buf_group(buffers::GROUP);
        self.begin(receive.build().flags(Flags::BUFFER_SELECT).user_data(tagged(RECEIVE, token)));
    }

    /// Has it said once when `source` is readable.
    pub fn watch(&mut self, source: Source<'_>, token: Token) {
        let watch = opcode::PollAdd::new(Fd(raw(source)), libc::POLLIN as u32);
        self.begin(watch.build().user_data(tagged(WATCH, token)));
    }

    /// Ends the receive armed with `token`. What it has received until then still comes, and in the end that it is
    /// over.
    pub fn stop_receiving(&mut self, token: Token) {
        let cancel = opcode::AsyncCancel::new(tagged(RECEIVE, token));
        self.begin_quietly(cancel.build());
    }

    /// Sends the first `count` of the [`bytes`](Ring::bytes) just received, from where they lie, silently.
    ///
    /// It is known to be over, and taken whole if nothing [fell short](Ring::short), when the round is another one.
    /// Until then nothing else may be sent to this connection.
    ///
    /// # Panics
    /// If fewer were received.
    #[inline(always)]
    pub fn send_back(&mut self, source: Source<'_>, token: Token, count: usize) {
        let bytes = &self.buffers.received()[..count];
        let start = bytes.as_ptr();
        if self.bundles.have_room() && self.more_comes_to(token) {
            return self.send_bundle(source, token, start, count as u32);
        }
        self.send_silently(source, token, start, count as u32);
    }

    /// From how many bytes on it is better to give memory away by [`send`](Ring::send) than to have it copied.
    pub fn zero_copy_from(&self) -> usize {
        self.zero_copy_from
    }

    /// Sends a copy of `bytes`, silently, as [`send_back`](Ring::send_back) does. False if there is no room for the
    /// copy, or they had better not be copied: then nothing is sent.
    #[inline]
    pub fn send_copy(&mut self, source: Source<'_>, token: Token, bytes: &[u8]) -> bool {
        if bytes.len() >= self.zero_copy_from {
            return false;
        }
        let end = self.outbox_used + bytes.len();
        let Some(room) = self.outbox.get_mut(self.outbox_used..end) else { return false };
        room.copy_from_slice(bytes);
        let (start, count) = (room.as_ptr(), bytes.len() as u32);
        self.outbox_used = end;
        self.send_silently(source, token, start, count);
        true
    }

    #[inline(always)]
    fn send_silently(&mut self, source: Source<'_>, token: Token, bytes: *const u8, count: u32) {
        let lot = self.fate.of(Act::Send, source, count as usize);
        self.send_silently_by(lot, source, token, bytes, count);
    }

    #[inline(always)]
    fn send_silently_by(&mut self, lot: Lot, source: Source<'_>, token: Token, bytes: *const u8, count: u32) {
        let at = self.silent.len() as u64;
        self.silent.push(Silent { token, bytes, offered: count, taken: count });
        let (count, flags) = match lot {
            Lot::AsAsked => (count, Flags::SKIP_SUCCESS),
            Lot::AtMost(bytes) => (bytes as u32, Flags::empty()),
            Lot::Fails(error) => return self.planted.push(Done::failed(SILENT | at, error)),
        };
        let send = opcode::Send::new(Fd(raw(source)), bytes, count).flags(SILENTLY).build();
        // SAFETY: the bytes lie in the outbox or in a receive buffer, and neither changes before `end_round`, which
        // runs when the kernel has taken the whole queue. A send with MSG_DONTWAIT is over when it has been taken.
        unsafe { self.queue.push(send.flags(flags).user_data(SILENT | at)) };
    }

    /// Sends what `bytes` has from `from` on, as soon as there is room for some of it. Completes with how much was
    /// taken.
    pub fn send(&mut self, source: Source<'_>, token: Token, bytes: Vec<u8>, from: usize) {
        let rest = &bytes[from..];
        let (start, count) = (rest.as_ptr(), rest.len().min(MOST_SENT) as u32);
        let zero_copy = rest.len() >= self.zero_copy_from;
        let at = self.loans.lend(Lent { token, bytes, from, taken: None });
        let count = match self.fate.of(Act::Send, source, count as usize) {
            Lot::AsAsked => count,
            Lot::AtMost(bytes) => bytes as u32,
            Lot::Fails(error) => return self.plant(SENT | u64::from(at), error),
        };
        let source = Fd(raw(source));
        let send = if zero_copy {
            opcode::SendZc::new(source, start, count).flags(libc::MSG_NOSIGNAL).build()
        } else {
            opcode::Send::new(source, start, count).flags(libc::MSG_NOSIGNAL).build()
        };
        self.under_way += 1;
        // SAFETY: the vector is lent, where nobody reaches it, until the last completion takes it out; a ring that is
        // dropped before that leaks it.
        unsafe { self.queue.push(send.user_data(SENT | u64::from(at))) };
    }

    /// Closes `source`, after what was queued before. `busy`: something of it may be under way, and is cancelled. For
    /// that the kernel goes through all that is under way, of whatever source; a receive it finds at once if it is
    /// [stopped](Ring::stop_receiving) before.
    pub fn close(&mut self, source: OwnedSource, busy: bool) {
        use std::os::fd::IntoRawFd;
        let source = Fd(source.into_raw_fd());
        if busy {
            self.begin_quietly(opcode::AsyncCancel2::new(CancelBuilder::fd(source).all()).build());
        }
        self.begin_quietly(opcode::Close::new(source).build());
    }

    /// One call, as a rule: submits what was queued, and sleeps, if `sleep`, until there is a completion or `timeout`
    /// is over.
    ///
    /// # Errors
    /// The kernel's: `Interrupted` by a signal, `OutOfMemory` or `WouldBlock` for want of memory. What was queued and
    /// not taken goes with the next turn, and the round stays the same. What has completed is there in any case.
    pub fn turn(&mut self, sleep: bool, timeout: Option<Duration>) -> io::Result<()> {
        self.sent.clear();
        self.fate.of_turn()?;
        self.turn_now(sleep, timeout)
    }

    fn turn_now(&mut self, sleep: bool, timeout: Option<Duration>) -> io::Result<()> {
        if self.looked_at == self.batch.len() {
            self.batch.clear();
            self.looked_at = 0;
        }
        let already = self.batch.len();
        self.finished = false;
        self.ledger.waits += 1;
        let mut sleep =
            sleep && already == 0 && self.short.is_empty() && self.planted.is_empty() && self.grown.is_empty();
        self.bundles.close();
        self.queue.close_turn();
        loop {
            let (waiting, is_all) = self.queue.waiting();
            let sleeps = sleep && is_all;
            self.ledger.wait_calls += 1;
            let entered = self.queue.enter(waiting, sleeps, if sleeps { timeout } else { None });
            let read = self.reap();
            let taken = match entered {
                Ok(taken) => taken,
                Err(error) => self.survive(error, read)?,
            };
            if self.queue.has_taken(taken, waiting) && is_all && !self.queue.overflows() {
                break; // (d)
            }
            if taken == 0 && waiting > 0 && read == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // What has come in the meantime is to be dealt with first.
            sleep &= read == 0 && self.short.is_empty() && !sleeps;
        }
        let events = (self.batch.len() - already) as u64;
        self.ledger.events += events;
        self.ledger.empty += u64::from(events == 0);
        self.end_round();
        Ok(())
    }

    /// How many submissions a call has taken that failed: none.
    #[cold]
    fn survive(&mut self, error: io::Error, read: usize) -> io::Result<u32> {
        match error.raw_os_error() {
            Some(libc::ETIME) => Ok(0),
            // There was no room for completions. Now there is, if any were read.
            Some(libc::EBUSY) if read > 0 => Ok(0),
            Some(libc::EBUSY) => Err(io::ErrorKind::WouldBlock.into()),
            _ => Err(error),
        }
    }

    /// Reads all completions there are, and of silent sends what they lack.
    #[inline(always)]
    fn reap(&mut self) -> usize {
        let before = self.batch.len();
        self.queue.read(&mut self.batch);
        for done in &self.batch[before..] {
            let at = (done.user_data() & !TAGS) as usize;
            match tag(done.user_data()) {
                SILENT => self.short.push_back(self.silent[at].fell_short(done.result())),
                BUNDLE => {
                    let silent = &mut self.silent[self.bundles.silent(at)];
                    self.short.push_back(self.bundles.fell_short(at, silent, done.result()));
                }
                _ => {}
            }
        }
        if !self.planted.is_empty() {
            self.reap_planted();
        }
        self.batch.len() - before
    }

    #[cold]
    fn reap_planted(&mut self) {
        for done in std::mem::take(&mut self.planted) {
            if tag(done.user_data()) == SILENT {
                let silent = &mut self.silent[(done.user_data() & !TAGS) as usize];
                self.short.push_back(silent.fell_short(done.result()));
            } else {
                self.grown.push_back(done);
            }
        }
    }

    /// All that was sent silently is over, and the memory it came from is free.
    fn end_round(&mut self) {
        self.sent.clear();
        std::mem::swap(&mut self.silent, &mut self.sent);
        self.outbox_used = 0;
        if self.bundles.have_any() {
            self.bundles.end_round(&self.queue);
        }
        self.buffers.publish(); // (e)
        self.round = self.round.wrapping_add(1);
    }

    /// Changes with each turn that has submitted everything.
    #[inline(always)]
    pub fn round(&self) -> u32 {
        self.round
    }

    /// The silent sends of the last turn, if it has submitted everything: how much was taken, of how much.
    pub fn sent(&self) -> impl ExactSizeIterator<Item = (Token, usize, usize)> {
        self.sent.iter().map(|silent| (silent.token, silent.taken as usize, silent.offered as usize))
    }

    /// How many bytes were sent silently since the last turn: nobody knows yet what will be taken of them.
    pub fn unsent(&self) -> usize {
        self.silent.iter().map(|silent| silent.offered as usize).sum()
    }

    /// Something that fell short in the last turn. To be dealt with before its completions: they may have come later.
    #[inline]
    pub fn short(&mut self) -> Option<Short> {
        self.short.pop_front()
    }

    /// The next completion of the last turn.
    #[inline(always)]
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: the bytes belong to the last one")]
    pub fn next(&mut self) -> Option<Next> {
        let Some(done) = self.batch.get(self.looked_at) else {
            return self.grown.pop_front().map(|done| Next::Other(Other(done)));
        };
        self.looked_at += 1;
        if let Some(buffer) = outcome::received(done.user_data(), done.result(), done.flags()) {
            self.buffers.received_into(buffer, done.result() as u32);
            return Some(Next::Received(Token(done.user_data())));
        }
        Some(Next::Other(Other(Done::of(done))))
    }

    /// The completion that [`next`](Ring::next) has told last, in the kernel's own words, for those who teach or debug.
    /// [`Raw::None`] if there was none in the last turn.
    pub fn said(&self) -> Raw {
        let last = self.looked_at.checked_sub(1).and_then(|last| self.batch.get(last));
        last.map_or(Raw::None, |done| Raw::Completion { result: done.result(), flags: done.flags() })
    }

    /// What was told last to have been received.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.buffers.received()
    }

    /// Waits, completions and calls until now, those of the trial among them.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Queues an operation that completes, at least once.
    fn begin(&mut self, entry: io_uring::squeue::Entry) {
        self.under_way += 1;
        self.finished = false;
        // SAFETY: an accept, a receive into a buffer of the kernel's choice, or a poll. None points to memory of ours
        // but by the number of the group of buffers, which are unregistered before they are freed.
        unsafe { self.queue.push(entry) };
    }

    /// Has an operation that the kernel never sees complete with an error.
    #[cold]
    fn plant(&mut self, user_data: u64, error: i32) {
        self.under_way += 1;
        self.planted.push(Done::failed(user_data, error));
    }

    /// Queues an operation that says nothing if it succeeds, and nothing of interest if it fails.
    fn begin_quietly(&mut self, entry: io_uring::squeue::Entry) {
        self.finished = false;
        // SAFETY: a cancellation or a close. Neither points to memory.
        unsafe { self.queue.push(entry.flags(Flags::SKIP_SUCCESS).user_data(NOBODYS)) };
    }
}

/// (c)
const SILENTLY: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;

/// The trial needs some.
const LEAST_OUTBOX: usize = 64;

/// What fits in the count of a completion.
const MOST_SENT: usize = i32::MAX as usize;
