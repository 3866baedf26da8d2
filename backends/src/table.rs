//! What a poller knows of each source, in a row at the source's number.
//!
//! For Unix, where the lowest free number is always taken, so that there are hardly more rows than sources.

use std::io;
use std::ops::{Index, IndexMut};

use crate::poller::{exists, unknown};
use crate::source::RawSource;

/// What is known of one number. The default is of one that was never added.
pub(crate) trait Row: Clone + Default {
    /// It was added, and not removed since. Of others there may still be something to remember.
    fn is_known(&self) -> bool;
}

/// A row for each number up to the highest that was ever added.
pub(crate) struct Table<R> {
    rows: Vec<R>,
    /// Whose it is, for those who are refused.
    mechanism: &'static str,
}

impl<R: Row> Table<R> {
    pub(crate) fn of(mechanism: &'static str) -> Table<R> {
        Table { rows: Vec::new(), mechanism }
    }

    /// The row of a source that is not known yet, and is to be. `AlreadyExists` if it is.
    pub(crate) fn vacant(&mut self, source: RawSource) -> io::Result<&mut R> {
        let at = source as usize;
        if at >= self.rows.len() {
            self.rows.resize(at + 1, R::default());
        }
        let row = &mut self.rows[at];
        if row.is_known() { Err(exists(self.mechanism)) } else { Ok(row) }
    }

    /// The row of a source that is known. `NotFound` if it is not.
    pub(crate) fn known(&mut self, source: RawSource) -> io::Result<&mut R> {
        self.rows.get_mut(source as usize).filter(|row| row.is_known()).ok_or_else(|| unknown(self.mechanism))
    }
}

impl<R> Table<R> {
    /// The row of whatever number, if there is one.
    #[cfg(any(uring, test))]
    pub(crate) fn get_mut(&mut self, source: RawSource) -> Option<&mut R> {
        self.rows.get_mut(source as usize)
    }

    /// All numbers that have a row.
    #[cfg(uring)]
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawSource> + use<R> {
        (0..self.rows.len()).map(|at| at as RawSource)
    }
}

/// Of a number that was added at some time.
impl<R> Index<RawSource> for Table<R> {
    type Output = R;

    fn index(&self, source: RawSource) -> &R {
        &self.rows[source as usize]
    }
}

impl<R> IndexMut<RawSource> for Table<R> {
    fn index_mut(&mut self, source: RawSource) -> &mut R {
        &mut self.rows[source as usize]
    }
}
