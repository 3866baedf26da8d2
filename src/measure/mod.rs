//! Measuring: which mechanism costs what, under which load, on this machine, so that a stranger can repeat it.
//!
//! A *visit* is a fresh server process and a fresh load process, bound to different CPUs, for one mechanism and one
//! number of idle connections; within it each number of active connections is measured in turn, in random order. A
//! *round* is a visit to everything, in random order. Rounds are repeated, so that a machine that warms up, or a
//! neighbour who wakes, is no mechanism's advantage. One mechanism runs twice in every round, under two labels: what
//! it differs by from itself is noise.
//!
//! | idea | file |
//! |---|---|
//! | the whole: what is asked for, and the rounds | `comparison.rs` |
//! | the grid, the order, what is dropped | `plan.rs` |
//! | how many rounds, within a budget | `schedule.rs` |
//! | how cost grows, as gates | `shape.rs` |
//! | one visit | `visit.rs` |
//! | CPUs of server and load | `placement.rs` |
//! | what the host counted meanwhile | `counters.rs` |
//! | what is told while it runs | `progress.rs` |
//! | the record: every trial of a comparison, as it was | `record.rs` |
//! | the host it was measured on | `host.rs` |
//! | medians, intervals, slopes, and when two results cannot be told apart | `stats.rs` |

mod comparison;
mod counters;
pub mod host;
mod placement;
mod plan;
mod progress;
pub mod record;
mod schedule;
mod shape;
pub mod stats;
mod visit;

pub use comparison::{Comparison, Impossible};
pub use host::Host;
pub use plan::Subject;
pub use progress::{Progress, VisitDone};
pub use record::Record;
