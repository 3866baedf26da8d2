//! Keys and values: what the commands of RESP work on, one store for all loops of a process.
//!
//! A key whose time has passed is gone for whoever asks; its memory is given back when it is written to, or when there
//! is no more room and the store is swept.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What a key is taken to cost beside its own bytes and those of its value.
const PER_KEY: usize = 96;
/// What an element of a list is taken to cost beside its bytes.
const PER_ELEMENT: usize = 32;
/// A full store is swept no more often than this.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);

/// All there is. Its memory is bounded: who is about to write asks first whether it [has room](Store::has_room).
///
/// The hash is std's, keyed anew in each process: whoever may choose keys may not choose collisions. It is no more than
/// a few per cent of what the fastest request costs.
#[derive(Debug)]
pub(super) struct Store {
    keys: HashMap<Box<[u8]>, Entry>,
    used: usize,
    most: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    expires: Option<Instant>,
}

#[derive(Debug)]
pub(super) enum Value {
    /// With room of its own, so that to replace a value by one of its length costs no allocation.
    Text(Vec<u8>),
    List(Box<List>),
}

pub(super) type List = VecDeque<Box<[u8]>>;

/// The key holds a value of another kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WrongType;

/// What becomes of a key's deadline when its value is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expiry {
    Never,
    At(Instant),
    Unchanged,
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Front,
    Back,
}

/// The clock is read only for keys that have a deadline.
pub(super) trait Now: FnOnce() -> Instant {}
impl<F: FnOnce() -> Instant> Now for F {}

impl Store {
    /// A store of at most about `most` bytes.
    pub(super) fn new(most: usize) -> Store {
        Store { keys: HashMap::new(), used: 0, most, swept: None }
    }

    /// How many keys there are, with those whose time has passed unnoticed.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// About how many bytes are in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn clear(&mut self) {
        *self = Store { swept: self.swept, ..Store::new(self.most) };
    }

    /// Whether `bytes` more, in `pieces` keys or elements, have room, if need be after a sweep.
    #[inline]
    pub(super) fn has_room(&mut self, bytes: usize, pieces: usize, now: impl Now) -> bool {
        let wanted = pieces.saturating_mul(PER_KEY).saturating_add(bytes);
        self.used.saturating_add(wanted) <= self.most || self.sweep(wanted, now())
    }

    #[cold]
    fn sweep(&mut self, wanted: usize, now: Instant) -> bool {
        if self.swept.is_some_and(|swept| now < swept + BETWEEN_SWEEPS) {
            return false;
        }
        self.swept = Some(now);
        let used = &mut self.used;
        self.keys.retain(|key, entry| {
            let lives = entry.lives(|| now);
            if !lives {
                *used -= cost(key, entry);
            }
            lives
        });
        self.used.saturating_add(wanted) <= self.most
    }

    /// What `key` holds.
    #[inline]
    pub(super) fn get(&self, key: &[u8], now: impl Now) -> Option<&Value> {
        self.living(key, now).map(|entry| &entry.value)
    }

    /// The text `key` holds.
    #[inline]
    pub(super) fn text(&self, key: &[u8], now: impl Now) -> Result<Option<&[u8]>, WrongType> {
        match self.get(key, now) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(_)) => Err(WrongType),
            None => Ok(None),
        }
    }

    /// The list `key` holds.
    pub(super) fn list(&self, key: &[u8], now: impl Now) -> Result<Option<&List>, WrongType> {
        match self.get(key, now) {
            Some(Value::List(list)) => Ok(Some(list)),
            Some(Value::Text(_)) => Err(WrongType),
            None => Ok(None),
        }
    }

    /// When `key` expires, if ever; `None` if there is no such key.
    pub(super) fn expires(&self, key: &[u8], now: impl Now) -> Option<Option<Instant>> {
        self.living(key, now).map(|entry| entry.expires)
    }

    /// Gives `key` another deadline. Whether there is such a key.
    pub(super) fn set_expires(&mut self, key: &[u8], expires: Option<Instant>, now: impl Now) -> bool {
        let entry = self.keys.get_mut(key).filter(|entry| entry.lives(now));
        entry.map(|entry| entry.expires = expires).is_some()
    }

    /// Makes `key` hold `text`, whatever it held.
    #[inline]
    pub(super) fn set(&mut self, key: &[u8], text: &[u8], expiry: Expiry) {
        if let Some(entry) = self.keys.get_mut(key) {
            self.used -= entry.bytes();
            match expiry {
                Expiry::Unchanged => {}
                Expiry::Never => entry.expires = None,
                Expiry::At(at) => entry.expires = Some(at),
            }
            match &mut entry.value {
                Value::Text(old) => {
                    old.clear();
                    old.extend_from_slice(text);
                    // A short value does not hold the room of a long one.
                    if old.capacity() > 2 * text.len() + PER_KEY {
                        old.shrink_to_fit();
                    }
                }
                other => *other = Value::Text(text.to_vec()),
            }
        } else {
            let expires = if let Expiry::At(at) = expiry { Some(at) } else { None };
            self.used += key.len() + PER_KEY;
            self.keys.insert(key.into(), Entry { value: Value::Text(text.to_vec()), expires });
        }
        self.used += text.len();
    }

    /// Adds `more` to the text `key` holds, where it lies, or makes it hold that. How long it is then.
    pub(super) fn append(&mut self, key: &[u8], more: &[u8], now: impl Now) -> Result<usize, WrongType> {
        match self.keys.get_mut(key).filter(|entry| entry.lives(now)).map(|entry| &mut entry.value) {
            Some(Value::Text(text)) => {
                text.extend_from_slice(more);
                self.used += more.len();
                Ok(text.len())
            }
            Some(Value::List(_)) => Err(WrongType),
            None => {
                self.set(key, more, Expiry::Never);
                Ok(more.len())
            }
        }
    }

    /// Removes `key`. Whether it was there.
    pub(super) fn remove(&mut self, key: &[u8], now: impl Now) -> bool {
        let Some((key, entry)) = self.keys.remove_entry(key) else { return false };
        self.used -= cost(&key, &entry);
        entry.lives(now)
    }

    /// Adds an element to a list, which is made if there is none. How long it is then.
    pub(super) fn push(&mut self, key: &[u8], element: &[u8], end: End, now: impl Now) -> Result<usize, WrongType> {
        if !self.keys.contains_key(key) {
            self.used += key.len() + PER_KEY;
            self.keys.insert(key.into(), Entry { value: Value::List(Box::default()), expires: None });
        }
        let entry = self.keys.get_mut(key).expect("it was there, or was put there");
        if !entry.lives(now) {
            self.used -= entry.bytes();
            *entry = Entry { value: Value::List(Box::default()), expires: None };
        }
        let Value::List(list) = &mut entry.value else { return Err(WrongType) };
        self.used += element.len() + PER_ELEMENT;
        match end {
            End::Front => list.push_front(element.into()),
            End::Back => list.push_back(element.into()),
        }
        Ok(list.len())
    }

    /// Takes an element from a list, which goes with its last one.
    pub(super) fn pop(&mut self, key: &[u8], end: End, now: impl Now) -> Result<Option<Box<[u8]>>, WrongType> {
        let Some(entry) = self.keys.get_mut(key).filter(|entry| entry.lives(now)) else { return Ok(None) };
        let Value::List(list) = &mut entry.value else { return Err(WrongType) };
        let element = match end {
            End::Front => list.pop_front(),
            End::Back => list.pop_back(),
        };
        self.used -= element.as_ref().map_or(0, |element| element.len() + PER_ELEMENT);
        if list.is_empty() {
            self.used -= key.len() + PER_KEY;
            self.keys.remove(key);
        }
        Ok(element)
    }

    #[inline]
    fn living(&self, key: &[u8], now: impl Now) -> Option<&Entry> {
        self.keys.get(key).filter(|entry| entry.lives(now))
    }
}

impl Entry {
    #[inline]
    fn lives(&self, now: impl Now) -> bool {
        self.expires.is_none_or(|expires| now() < expires)
    }

    #[inline]
    fn bytes(&self) -> usize {
        match &self.value {
            Value::Text(text) => text.len(),
            Value::List(list) => list.iter().map(|element| element.len() + PER_ELEMENT).sum(),
        }
    }
}

fn cost(key: &[u8], entry: &Entry) -> usize {
    key.len() + PER_KEY + entry.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(store: &Store) -> usize {
        store.keys.iter().map(|(key, entry)| cost(key, entry)).sum()
    }

    #[test]
    fn the_account_of_memory_is_what_is_there() {
        let mut store = Store::new(1_000_000);
        let start = Instant::now();
        for round in 0..2_000_usize {
            let key = [b'k', (round * 7 % 11) as u8];
            let text = vec![b'x'; round * 13 % 97];
            let expires = start + Duration::from_millis(round as u64 % 50);
            let now = || start + Duration::from_millis(25);
            match round % 10 {
                0 => store.set(&key, &text, Expiry::Never),
                1 => store.set(&key, &text, Expiry::At(expires)),
                2 => store.set(&key, &text, Expiry::Unchanged),
                3 => drop(store.remove(&key, now)),
                4 | 5 => drop(store.push(&key, &text, End::Front, now)),
                6 => drop(store.pop(&key, End::Back, now)),
                7 => drop(store.set_expires(&key, Some(expires), now)),
                8 => drop(store.append(&key, &text, now)),
                _ => drop(store.push(&key, &text, End::Back, now)),
            }
            assert_eq!(store.used(), used(&store), "after {round}");
        }
        assert!(store.len() > 3);
        store.clear();
        assert_eq!((store.used(), store.len()), (0, 0));
    }

    #[test]
    fn what_is_added_to_a_text_does_not_move_it_if_there_is_room_and_keeps_its_deadline() {
        let start = Instant::now();
        let (now, ends) = (|| start, start + Duration::from_secs(1));
        let mut store = Store::new(10_000);
        assert_eq!(store.append(b"a", b"", now), Ok(0), "there is an empty text now");
        store.set(b"a", &[7; 1_000], Expiry::At(ends));
        let lies = |store: &Store| store.text(b"a", now).map(|text| text.expect("a text").as_ptr());
        let before = lies(&store);
        assert_eq!(store.append(b"a", b"", now), Ok(1_000));
        assert_eq!(lies(&store), before);
        assert_eq!(store.append(b"a", b"more", now), Ok(1_004));
        assert_eq!(store.text(b"a", now).map(|text| text.map(<[u8]>::len)), Ok(Some(1_004)));
        assert_eq!(store.expires(b"a", now), Some(Some(ends)));
        assert_eq!(store.append(b"a", b"anew", || ends), Ok(4), "its time had passed");
        assert_eq!((store.expires(b"a", || ends), store.used()), (Some(None), used(&store)));
        assert_eq!(store.push(b"list", b"element", End::Back, now), Ok(1));
        assert_eq!(store.append(b"list", b"", now), Err(WrongType));
    }

    #[test]
    fn a_full_store_gives_room_to_what_has_expired_and_to_no_more() {
        let start = Instant::now();
        let later = |seconds| move || start + Duration::from_secs(seconds);
        let mut store = Store::new(5 * (PER_KEY + 10));
        for key in 0..5 {
            assert!(store.has_room(10, 1, later(0)));
            let expiry = if key < 2 { Expiry::At(later(10)()) } else { Expiry::Never };
            store.set(&[key], b"nine byte", expiry);
        }
        assert!(!store.has_room(10, 1, later(9)), "nothing has expired");
        assert!(!store.has_room(10, 1, || start + Duration::from_millis(9_999)), "not swept again so soon");
        assert!(store.has_room(20, 2, later(11)));
        assert_eq!(store.len(), 3);
        assert!(!store.has_room(usize::MAX, usize::MAX, later(20)));
    }

    #[test]
    fn a_key_whose_time_has_passed_is_gone_for_everyone() {
        let start = Instant::now();
        let now = || start;
        let mut store = Store::new(10_000);
        let dead = Expiry::At(start);
        store.set(b"a", b"text", dead);
        assert_eq!(store.text(b"a", now), Ok(None));
        assert_eq!((store.expires(b"a", now), store.set_expires(b"a", None, now)), (None, false));
        assert!(!store.remove(b"a", now));
        store.set(b"a", b"text", dead);
        assert_eq!(store.push(b"a", b"element", End::Back, now), Ok(1), "the text is gone, and no longer in the way");
        assert_eq!(store.text(b"a", now), Err(WrongType));
        assert_eq!(store.expires(b"a", now), Some(None));
    }
}
