//! From a source's number to its place in a poller's own table.
//!
//! On Unix numbers are small and dense, the lowest free one is always taken, so this is an array. On Windows a socket
//! is a handle of any value, so it is a hash map.

use crate::source::RawSource;

/// Where a source stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// At this index of the table of watched sources.
    At(usize),
    /// Known, with empty interest, and in no table.
    Parked,
}

const PARKED: u32 = u32::MAX - 1;

impl Place {
    fn encode(self) -> u32 {
        match self {
            Place::At(at) => u32::try_from(at).ok().filter(|at| *at < PARKED).expect("a process has fewer sources"),
            Place::Parked => PARKED,
        }
    }

    fn decode(code: u32) -> Place {
        if code == PARKED { Place::Parked } else { Place::At(code as usize) }
    }
}

cfg_if::cfg_if! {
    if #[cfg(unix)] {
        const ABSENT: u32 = u32::MAX;

        #[derive(Default)]
        pub(crate) struct Index(Vec<u32>);

        impl Index {
            pub(crate) fn get(&self, source: RawSource) -> Option<Place> {
                let code = *self.0.get(source as usize)?;
                (code != ABSENT).then(|| Place::decode(code))
            }

            pub(crate) fn set(&mut self, source: RawSource, place: Place) {
                let at = source as usize;
                if at >= self.0.len() {
                    self.0.resize(at + 1, ABSENT);
                }
                self.0[at] = place.encode();
            }

            pub(crate) fn forget(&mut self, source: RawSource) {
                self.0[source as usize] = ABSENT;
            }
        }
    } else {
        #[derive(Default)]
        pub(crate) struct Index(std::collections::HashMap<RawSource, u32>);

        impl Index {
            pub(crate) fn get(&self, source: RawSource) -> Option<Place> {
                self.0.get(&source).copied().map(Place::decode)
            }

            pub(crate) fn set(&mut self, source: RawSource, place: Place) {
                self.0.insert(source, place.encode());
            }

            pub(crate) fn forget(&mut self, source: RawSource) {
                self.0.remove(&source);
            }
        }
    }
}
