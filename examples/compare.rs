//! A comparison from code: two mechanisms, your own load, the table printed and the report left in a directory.
//!
//!     cargo run --release --example compare
//!     cargo run --release --example compare -- some-directory

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use pollmark::backends::Registry;
use pollmark::measure::{Comparison, Progress};
use pollmark::report::{self, Summary, terminal};

/// Says what is being measured. `&mut ()` in its place says nothing.
struct Told;

impl Progress for Told {
    fn visiting(&mut self, subject: &str, idle: usize, remaining: Duration) {
        eprintln!("{subject} with {idle} idle connections; about {} s left", remaining.as_secs());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::builtin();
    // First of all: servers and loads are this program, executed again.
    pollmark::child::enter(&registry);

    let record = Comparison::new(&registry)
        .subjects(&["poll", "threads"])?
        .idle(vec![0, 200])
        .active(vec![1, 8])
        .interval(Duration::from_millis(20), Duration::from_millis(80))
        .rounds(3)
        .run(&mut Told)?;

    // The record holds every trial as it was; what is concluded from it is made here, and can be made again.
    let summary = Summary::of(&record);
    print!("{}", terminal::render(&summary, terminal::Style::default()));
    if let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) {
        report::write(&record, &directory)?;
        println!("\n{}", directory.join("report.html").display());
    }
    Ok(())
}
