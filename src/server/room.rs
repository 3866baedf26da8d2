//! How many connections there may be: of one server, or of all the members of a group together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Config;

/// Places for connections. Without a limit nothing is counted.
pub(super) struct Room {
    most: Option<usize>,
    taken: Arc<AtomicUsize>,
    is_shared: bool,
}

impl Room {
    pub(super) fn of(config: &Config) -> Room {
        let (most, taken) = (config.limits.connections, config.part.taken.clone());
        Room { most, is_shared: taken.is_some(), taken: taken.unwrap_or_default() }
    }

    /// Takes a place, if one is left.
    pub(super) fn enter(&self) -> bool {
        // Nothing is read or written by leave of this count.
        let Some(most) = self.most else { return true };
        let more = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Whether no place is left, for whom the kernel accepts.
    #[cfg(completion)]
    pub(super) fn is_full(&self) -> bool {
        self.most.is_some_and(|most| self.taken.load(Ordering::Relaxed) >= most)
    }

    /// Whether others take and leave places, too, who will not say so.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// A place that was taken, for one who is handed over to whoever serves.
    pub(super) fn place(&self) -> Place {
        Place(self.most.map(|_| Arc::clone(&self.taken)))
    }

    /// Gives back a place that was taken.
    pub(super) fn leave(&self) {
        if self.most.is_some() {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A taken place on its way: given back when this is dropped, wherever that is, unless it is kept.
pub(super) struct Place(Option<Arc<AtomicUsize>>);

impl Place {
    /// It has come to whoever [leaves](Room::leave) the room for it.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(taken) = &self.0 {
            taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_one_group_share_the_places_and_others_do_not() {
        let mut config = Config::listen("127.0.0.1:0".parse().expect("an address"));
        config.limits.connections = Some(2);
        let apart = Room::of(&config.clone());
        let member = config.member();
        let (one, other) = (Room::of(&member), Room::of(&member.clone()));
        assert!(one.enter() && other.enter() && !one.enter() && !other.enter());
        assert!(apart.enter());
        other.leave();
        assert!(one.enter() && !other.enter());
    }

    #[test]
    fn a_place_that_never_comes_to_its_server_is_given_back_and_one_that_does_is_not() {
        let mut config = Config::listen("127.0.0.1:0".parse().expect("an address"));
        config.limits.connections = Some(1);
        let room = Room::of(&config);
        assert!(room.enter() && !room.enter());
        drop(room.place());
        assert!(room.enter());
        room.place().keep();
        assert!(!room.enter());
        config.limits.connections = None;
        let unlimited = Room::of(&config);
        drop(unlimited.place());
        assert!(unlimited.enter());
    }
}
