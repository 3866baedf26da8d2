//! Bytes that wait their turn: added at the end, taken from the front, and moved once at most on the average.

/// Room that is not given back while anything is left, in bytes.
const ORDINARY_ROOM: usize = 64 * 1024;

/// Bytes, of which the first may be gone already. Who holds none owns no memory.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    gone: usize,
}

impl Queue {
    /// What is left of `bytes` when the first `gone` are.
    pub(super) fn of(bytes: Vec<u8>, gone: usize) -> Queue {
        if gone < bytes.len() { Queue { bytes, gone } } else { Queue::default() }
    }

    #[inline]
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.gone
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds at the end. What is gone makes room first, once it is half of all: a slow peer may owe something for ever.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.gone >= self.len() {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `count` bytes are gone. So is the room they took, if much more was needed once than is left.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        self.gone += count;
        if self.is_empty() {
            *self = Queue::default();
        } else if self.bytes.capacity() > ORDINARY_ROOM + 4 * self.len() {
            self.bytes.drain(..self.gone);
            self.gone = 0;
            self.bytes.shrink_to_fit();
        }
    }

    /// Takes out the vector as it lies, and how many of its first bytes are gone.
    pub(super) fn take(&mut self) -> (Vec<u8>, usize) {
        let Queue { bytes, gone } = std::mem::take(self);
        (bytes, gone)
    }

    /// How much memory it holds.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_long_queue_took_is_given_back_while_it_gets_shorter() {
        let long = (0..8 * ORDINARY_ROOM).map(|at| at as u8).collect::<Vec<_>>();
        let mut queue = Queue::of(long.clone(), 1);
        for next in &long[1..] {
            assert_eq!(queue.rest()[0], *next);
            queue.advance(1);
            let room = queue.capacity();
            assert!(room <= ORDINARY_ROOM + 4 * queue.len().max(1), "{room} bytes for {}", queue.len());
        }
        assert_eq!((queue.len(), queue.capacity()), (0, 0));
    }
}
