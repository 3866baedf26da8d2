//! What is made of a [`Record`]: a summary, and its exporters.
//!
//! | idea | file |
//! |---|---|
//! | figures, intervals, ranks: what every exporter stands on | `summary.rs` |

pub mod csv;
mod format;
pub mod json;
pub mod markdown;
#[cfg(test)]
mod sample;
mod summary;
mod table;
pub mod terminal;
mod text;

pub use crate::measure::record::{self, Record};
pub use summary::{Cell, Figures, Noise, Outcome, Standing, Subject, Summary};
