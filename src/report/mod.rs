//! What is made of a [`Record`]: a summary, and its exporters.

pub use crate::measure::record;
pub use record::Record;
