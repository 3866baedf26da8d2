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
//! | what is done, as data | `workload.rs`, `workload/`, and the files of `benches/workloads` |
//! | servers that are not ours, as data; their commands | `contestant.rs`, `contestant/command.rs` |
//! | their files, read strictly | `definition.rs` |
//! | the grid, the order, what is dropped | `plan.rs` |
//! | why nothing can be measured, or a cell was not | `impossible.rs`, `missing.rs` |
//! | how many rounds, within a budget | `schedule.rs` |
//! | how cost grows, as gates | `shape.rs` |
//! | one visit | `visit.rs` |
//! | one visit to a poller alone | `alone.rs` |
//! | what single calls cost here, and the part of the plan that finds out | `units.rs`, `calibrate.rs` |
//! | CPUs of server and load | `placement.rs` |
//! | what the host counted meanwhile | `counters.rs` |
//! | connections, counted by the kernel; its memory | `sockets.rs`, `memory.rs` |
//! | what it took to have a population | `population.rs` |
//! | what is told while it runs | `progress.rs` |
//! | the record: every trial of a comparison, as it was | `record.rs` |
//! | the record on disk while it is made, and read back | `journal.rs`, `journal/` |
//! | its cells, and which of their trials count | `cells.rs` |
//! | how its files are written | `file.rs` |
//! | the host it was measured on | `host.rs` |
//! | the open loop in a record, and when the load was late | `open_loop.rs` |
//! | who was served how often, and connections that never pause beside them | `fairness.rs`, `firehose.rs` |
//! | the cost model, and where two mechanisms cross | `fit.rs` |
//! | what a server would cost that is asked what another was seen to be asked | `advice.rs`, `advice/` |
//! | why a cell costs what it costs | `prediction.rs`, `prediction/` |
//! | medians, intervals, slopes, and when two results cannot be told apart | `stats.rs` |
//! | how sure one may be of each of many comparisons | `family.rs` |

pub mod advice;
#[cfg(unix)]
mod alone;
mod calibrate;
pub(crate) mod cells;
mod comparison;
mod contestant;
mod counters;
mod definition;
mod fairness;
pub(crate) mod family;
pub(crate) mod file;
mod firehose;
pub mod fit;
pub mod host;
mod impossible;
pub mod journal;
mod memory;
mod missing;
pub(crate) mod open_loop;
mod placement;
mod plan;
mod population;
pub(crate) mod prediction;
mod progress;
pub mod record;
mod schedule;
mod shape;
mod sockets;
pub mod stats;
pub(crate) mod units;
mod visit;
pub mod workload;

pub use comparison::Comparison;
pub use contestant::{Absent, Contestant};
pub use definition::BadDefinition;
pub use host::Host;
pub use impossible::Impossible;
pub use plan::Subject;
pub use progress::{Progress, VisitDone};
pub use record::Record;
pub use workload::Workload;
