//! What every mechanism says of the same situation, to be read, kept, published, and laid beside another host's.
//!
//! The situations and the notes are [`pollmark_backends::semantics`]; here is what is made of them.
//!
//! ```
//! use pollmark::mechanism::Mechanism;
//! use pollmark::report::{semantics, terminal::Style};
//! use pollmark_backends::Registry;
//!
//! let registry = Registry::builtin();
//! let mechanisms = ["poll", "select"].map(|name| Mechanism::parse(&registry, name).expect("they are everywhere"));
//! let record = semantics::Record::gather(&registry, &mechanisms)?;
//! println!("{}", semantics::terminal::render(&record, Style::default()));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! | idea | file |
//! |---|---|
//! | what is kept: a matrix, the host it was made on, the notes it needs; as JSON | `record.rs` |
//! | what the kernel's words mean | `words.rs` |
//! | one exporter each | `terminal.rs` `markdown.rs` |
//! | two hosts side by side | `diff.rs` |

pub mod diff;
pub mod markdown;
mod record;
pub mod terminal;
mod words;

pub use record::{Absent, Cell, Host, Mechanism, Moment, Note, Record, SCHEMA, Said, Scenario};
