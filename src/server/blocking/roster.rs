//! Who is in service, who waits to be, and the account of those who left: all that the threads of a server share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use pollmark_backends::{AsSource, OwnedSource, Token, Waker};

use super::super::accept::say_no;
use super::super::control::Arrival;
use super::super::room::{Place, Room};
use super::super::{Excess, Expiry, Stats};
use super::seat::Seat;
use crate::protocol::Peer;

/// Who is connected.
pub(super) struct Roster {
    list: Mutex<List>,
    left: Condvar,
    room: Room,
    most_in_service: usize,
    /// Whether, and what, is said to those who are turned away.
    refusal: (Excess, &'static [u8]),
    /// Who has no message under way is to leave, and nobody comes in any more.
    drains: AtomicBool,
}

struct List {
    /// Calls the hall. Given up on closing: a thread that has left may hold the roster a moment longer, but is to hold
    /// no descriptor.
    bell: Option<Waker>,
    seats: HashMap<Token, Arc<Seat>>,
    /// Those that came by another way than the listeners, and wait until they can be put in service.
    adopted: VecDeque<Arrival>,
    /// What the hall has done, as it last told.
    hall: Stats,
    /// All else, but for what those in service have done.
    account: Stats,
    next: u64,
    /// The hall is to be called when somebody leaves.
    is_awaited: bool,
}

/// One who is in service.
pub(super) struct Guest {
    pub(super) id: Token,
    pub(super) seat: Arc<Seat>,
    pub(super) peer: Peer,
}

impl Roster {
    /// Nobody is there yet. For whom there is no `room` is turned away; beyond `most_in_service` they wait.
    pub(super) fn new(bell: Waker, room: Room, most_in_service: usize, refusal: (Excess, &'static [u8])) -> Roster {
        let list = List {
            bell: Some(bell),
            seats: HashMap::new(),
            adopted: VecDeque::new(),
            hall: Stats::default(),
            account: Stats::default(),
            next: 0,
            is_awaited: false,
        };
        Roster {
            list: Mutex::new(list),
            left: Condvar::new(),
            room,
            most_in_service,
            refusal,
            drains: AtomicBool::new(false),
        }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may be in service. If not, the bell rings when somebody leaves.
    pub(super) fn has_room(&self) -> bool {
        let mut list = self.list();
        let has_room = list.seats.len() < self.most_in_service;
        list.is_awaited |= !has_room;
        has_room
    }

    /// Lets the bell ring when somebody leaves.
    pub(super) fn await_leaving(&self) {
        self.list().is_awaited = true;
    }

    /// The places there are.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Whether one more may come in at all, in service or not. If not, it has to be turned away.
    pub(super) fn admits(&self) -> bool {
        self.room.enter()
    }

    /// Puts a connection that was admitted in service; none if the server closes.
    pub(super) fn enter(&self, source: OwnedSource, peer: Peer) -> Option<Guest> {
        let mut list = self.list();
        if list.is_closing() {
            self.room.leave();
            return None;
        }
        let id = Token(list.next);
        list.next += 1;
        list.account.accepted += 1;
        let seat = Arc::new(Seat::of(source));
        list.seats.insert(id, Arc::clone(&seat));
        Some(Guest { id, seat, peer })
    }

    /// Takes one back who could not be served after all.
    pub(super) fn refuse(&self, id: Token) {
        let mut list = self.list();
        list.account.accepted -= 1;
        list.account.refused += 1;
        list.seats.remove(&id);
        self.room.leave();
    }

    fn leave(&self, id: Token) {
        let mut list = self.list();
        if let Some(seat) = list.seats.remove(&id) {
            list.account = list.account + seat.counts.stats();
            list.account.closed += 1;
            self.room.leave();
            // Dropped here, where it is the last hold on the socket: who waits for the last to leave must find all
            // descriptors closed.
        }
        if std::mem::take(&mut list.is_awaited) {
            list.ring();
        }
        self.left.notify_all();
    }

    /// Somebody has met a limit, and is about to leave.
    pub(super) fn expired(&self, expiry: Expiry) {
        let mut list = self.list();
        list.account.expired.count(expiry);
        expiry.tell(list.account.expired.of(expiry));
    }

    pub(super) fn seat(&self, id: Token) -> Option<Arc<Seat>> {
        self.list().seats.get(&id).cloned()
    }

    /// A connection that was not accepted here: waits for the hall to find time for it, or is turned away.
    pub(super) fn adopt(&self, arrival: Arrival, place: Option<Place>) {
        let mut list = self.list();
        if list.is_closing() || self.is_draining() {
            tracing::debug!(peer = %arrival.peer, "refused: the server ends");
            list.account.refused += 1;
            return;
        }
        match place {
            Some(place) => place.keep(),
            None if self.admits() => {}
            None => {
                tracing::debug!(peer = %arrival.peer, "refused: the limit of connections is reached");
                list.account.refused += 1;
                let (excess, word) = self.refusal;
                return say_no(excess, word, arrival.source.as_source(), &mut list.account);
            }
        }
        list.adopted.push_back(arrival);
        list.ring();
    }

    /// The adopted one that has waited longest.
    pub(super) fn next_adopted(&self) -> Option<Arrival> {
        self.list().adopted.pop_front()
    }

    /// The hall tells what it has done until now.
    pub(super) fn hall_did(&self, done: &Stats) {
        self.list().hall = *done;
    }

    /// The desk tells what it has done since it last told.
    pub(super) fn desk_did(&self, done: &Stats) {
        let mut list = self.list();
        list.account = list.account + *done;
    }

    pub(super) fn stats(&self) -> Stats {
        let list = self.list();
        let sum = list.seats.values().fold(list.account + list.hall, |sum, seat| sum + seat.counts.stats());
        Stats { open: list.seats.len() as u64, ..sum }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.list().is_closing()
    }

    /// Ends every connection, lets nobody in any more, and calls the hall.
    pub(super) fn close(&self) {
        let mut list = self.list();
        list.ring();
        list.bell = None;
        list.adopted.drain(..).for_each(|_| self.room.leave());
        list.seats.values().for_each(|seat| seat.end());
    }

    /// Lets everybody finish what is under way, and calls the hall.
    pub(super) fn drain(&self) {
        // In this order: who is idle and has not seen the one is seen by the other.
        self.drains.store(true, Ordering::SeqCst);
        let mut list = self.list();
        list.is_awaited = true;
        list.ring();
        list.seats.values().for_each(|seat| seat.end_if_idle());
    }

    /// Whether that was asked for.
    pub(super) fn is_draining(&self) -> bool {
        self.drains.load(Ordering::SeqCst)
    }

    /// Whether nobody is in service, or waits to be. If not, the bell rings when somebody leaves.
    pub(super) fn is_empty(&self) -> bool {
        let mut list = self.list();
        list.is_awaited = true;
        list.seats.is_empty() && list.adopted.is_empty()
    }

    /// Waits until everybody has noticed that.
    pub(super) fn wait_until_empty(&self) {
        let mut list = self.list();
        while !list.seats.is_empty() {
            list = self.left.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl List {
    fn is_closing(&self) -> bool {
        self.bell.is_none()
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.wake();
        }
    }
}

/// Takes a connection off the roster when dropped, even if the protocol panics: stopping would wait for it for ever.
///
/// To be dropped after all else that serves it: the guest, because the roster's hold on the socket is to be the last
/// one, so that leaving closes it; and the protocol's clone, which may hold descriptors of its own, because a server
/// that has returned is to have none left.
pub(super) struct Leaving(pub(super) Arc<Roster>, pub(super) Token);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}
