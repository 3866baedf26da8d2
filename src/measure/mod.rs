//! Measuring: what is written down, on which host, and what may be concluded from it.
//!
//! | idea | file |
//! |---|---|
//! | the record: every trial of a comparison, as it was | `record.rs` |
//! | the host it was measured on | `host.rs` |
//! | medians, intervals, slopes, and when two results cannot be told apart | `stats.rs` |

pub mod host;
pub mod record;
pub mod stats;

pub use host::Host;
pub use record::Record;
