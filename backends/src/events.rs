//! The buffer that events travel in: allocated once, filled by one wait after the other.

use std::fmt;

use crate::event::{Event, Raw, Token};

cfg_if::cfg_if! {
    if #[cfg(linux_like)] {
        use crate::event::Readiness;

        pub(crate) type KernelRecord = rustix::event::epoll::Event;

        #[inline]
        fn translate(record: &KernelRecord, polled: bool) -> Event {
            // Copied out field by field: the kernel's record is packed on x86-64.
            let (flags, data) = (record.flags, record.data);
            let bits = flags.bits();
            let raw = if polled { Raw::Poll(bits) } else { Raw::Epoll(bits) };
            Event::new(Token(data.u64()), Readiness::from_linux_poll(bits), raw)
        }
    } else {
        /// Here no mechanism's own records can be handed on as they are; all are pushed.
        #[derive(Clone, Copy)]
        pub(crate) enum KernelRecord {}

        #[inline]
        fn translate(record: &KernelRecord, _: bool) -> Event {
            match *record {}
        }
    }
}

/// Room for the events of one wait, allocated once and used for every wait.
///
/// Where the mechanism is a queue of records (epoll), the kernel writes straight into this buffer and each record is
/// translated as it is iterated; there is no second pass. poll(2)'s answers are kept in the same form. Everything else
/// pushes.
///
/// ```
/// use pollmark_backends::{Event, Events, Raw, Readiness, Token};
/// let mut events = Events::with_capacity(64);
/// events.push(Event::new(Token(1), Readiness::READABLE, Raw::None));
/// assert!(events.iter().all(|event| event.readable()));
/// ```
pub struct Events {
    capacity: usize,
    // At most one of the two is non-empty; each is allocated when first used.
    kernel: Vec<KernelRecord>,
    pushed: Vec<Event>,
    /// The kernel's records are answers of poll(2), not of epoll_wait(2).
    polled: bool,
}

impl Events {
    /// Room for `capacity` events, at least one.
    pub fn with_capacity(capacity: usize) -> Events {
        Events { capacity: capacity.max(1), kernel: Vec::new(), pushed: Vec::new(), polled: false }
    }

    /// The most events one wait may report into this buffer.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many events the last wait reported.
    #[inline]
    pub fn len(&self) -> usize {
        self.kernel.len() + self.pushed.len()
    }

    /// Whether the last wait reported nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more events [`push`](Events::push) would take.
    #[inline]
    pub fn room(&self) -> usize {
        self.capacity - self.len()
    }

    /// Forgets all events. Every `wait` does this first.
    #[inline]
    pub fn clear(&mut self) {
        self.kernel.clear();
        self.pushed.clear();
    }

    /// Adds an event, for pollers. Returns `false`, and does nothing, when there is no room.
    #[inline]
    pub fn push(&mut self, event: Event) -> bool {
        if self.room() == 0 {
            return false;
        }
        if self.pushed.capacity() == 0 {
            self.pushed.reserve_exact(self.capacity);
        }
        self.pushed.push(event);
        true
    }

    /// The events of the last wait, in the order the mechanism reported them.
    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        if self.pushed.is_empty() {
            Iter(Records::Kernel(self.kernel.iter(), self.polled))
        } else {
            Iter(Records::Pushed(self.pushed.iter()))
        }
    }

    /// An event already pushed in this wait, for a poller to merge another into.
    #[cfg(any(kqueue_like, all(unix, any(test, fuzzing)), all(linux_like, feature = "conformance")))]
    #[inline]
    pub(crate) fn pushed_at(&mut self, at: usize) -> &mut Event {
        &mut self.pushed[at]
    }

    /// Gives each event of the last wait another token.
    #[cfg(any(linux_like, kqueue_like))]
    pub(crate) fn rename(&mut self, mut name: impl FnMut(Token) -> Token) {
        #[cfg(linux_like)]
        for record in &mut self.kernel {
            let data = record.data; // Copied out, as above: it is not aligned.
            record.data = rustix::event::epoll::EventData::new_u64(name(Token(data.u64())).0);
        }
        for event in &mut self.pushed {
            *event = Event::new(name(event.token()), event.readiness(), event.raw());
        }
    }

    /// The kernel's own buffer, empty, with capacity for exactly the caller's room.
    #[cfg(linux_like)]
    #[inline]
    pub(crate) fn kernel_records(&mut self) -> &mut Vec<KernelRecord> {
        self.clear();
        self.polled = false;
        if self.kernel.capacity() == 0 {
            self.kernel.reserve_exact(self.capacity);
        }
        &mut self.kernel
    }

    /// The same buffer for the answers of poll(2), whose bits on Linux are those of epoll: a fifth of the instructions
    /// that pushing whole events takes.
    #[cfg(linux_like)]
    #[inline]
    pub(crate) fn polled_records(&mut self) -> Polled<'_> {
        self.kernel_records();
        self.polled = true;
        Polled { room: self.capacity, records: &mut self.kernel }
    }

    /// Where the kernel's records have another form, whole events are pushed.
    #[cfg(not(linux_like))]
    pub(crate) fn polled_records(&mut self) -> Polled<'_> {
        self.clear();
        Polled { events: self }
    }
}

/// Takes the answers of poll(2).
pub(crate) struct Polled<'a> {
    #[cfg(linux_like)]
    room: usize,
    #[cfg(linux_like)]
    records: &'a mut Vec<KernelRecord>,
    #[cfg(not(linux_like))]
    events: &'a mut Events,
}

impl Polled<'_> {
    /// Takes up to `most`, as far as there is room, and says how many that were. Does not ask for one more than that.
    #[cfg(linux_like)]
    #[inline(always)]
    pub(crate) fn fill(&mut self, most: usize, mut next: impl FnMut() -> Option<(Token, u32)>) -> usize {
        use rustix::event::epoll::{EventData, EventFlags};
        let taken = self.records.len();
        let room = most.min(self.room - taken);
        let mut free = self.records.spare_capacity_mut()[..room].iter_mut();
        let mut filled = room;
        while !free.as_slice().is_empty() {
            let Some((token, bits)) = next() else {
                filled = room - free.len();
                break;
            };
            let (flags, data) = (EventFlags::from_bits_retain(bits), EventData::new_u64(token.0));
            if let Some(record) = free.next() {
                record.write(KernelRecord { flags, data });
            }
        }
        // SAFETY: the loop has written the first `filled` elements beyond the length, all within the capacity.
        unsafe { self.records.set_len(taken + filled) };
        filled
    }

    /// As above.
    #[cfg(not(linux_like))]
    pub(crate) fn fill(&mut self, most: usize, next: impl FnMut() -> Option<(Token, u32)>) -> usize {
        let room = most.min(self.events.room());
        let answers = std::iter::from_fn(next).take(room);
        let events = answers.map(|(token, bits)| Event::new(token, crate::poll::readiness(bits), Raw::Poll(bits)));
        events.filter(|event| self.events.push(*event)).count()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = Event;
    type IntoIter = Iter<'a>;

    #[inline]
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterates over [`Events`].
#[derive(Clone)]
pub struct Iter<'a>(Records<'a>);

#[derive(Clone)]
enum Records<'a> {
    Kernel(std::slice::Iter<'a, KernelRecord>, bool),
    Pushed(std::slice::Iter<'a, Event>),
}

impl Iterator for Iter<'_> {
    type Item = Event;

    #[inline]
    fn next(&mut self) -> Option<Event> {
        match &mut self.0 {
            Records::Kernel(records, polled) => records.next().map(|record| translate(record, *polled)),
            Records::Pushed(records) => records.next().copied(),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Records::Kernel(records, _) => records.size_hint(),
            Records::Pushed(records) => records.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}
