//! What is made of a [`Record`]: a summary, and its exporters.
//!
//! | idea | file |
//! |---|---|
//! | figures, intervals, ranks: what every exporter stands on | `summary.rs` |

#[cfg(test)]
mod sample;
mod summary;

pub use crate::measure::record::{self, Record};
pub use summary::{Cell, Figures, Noise, Outcome, Standing, Subject, Summary};
