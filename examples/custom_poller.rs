//! A poller of your own, a first-class row: through the conformance suite, under a server, beside the built-in ones.
//!
//!     cargo run --release --example custom_poller
//!
//! This one looks a few times without sleeping before it sleeps: a bet that the next request is already on its way.

use std::error::Error;
use std::io;
use std::time::Duration;

use pollmark::backends::conformance;
use pollmark::backends::poll::Poll;
use pollmark::backends::{Capabilities, Events, Interest, Ledger, Poller, Registry, Source, Token, Trigger};
use pollmark::child;
use pollmark::measure::{Comparison, Workload};
use pollmark::report::{Summary, terminal};

const LOOKS: u32 = 5;

struct Spinning {
    poll: Poll,
    waits: u64,
    empty: u64,
}

impl Spinning {
    fn open() -> io::Result<Spinning> {
        Ok(Spinning { poll: Poll::open()?, waits: 0, empty: 0 })
    }
}

impl Poller for Spinning {
    fn capabilities(&self) -> Capabilities {
        self.poll.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.poll.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.poll.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.poll.remove(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear(); // without this line the suite says: "the_ledger_counts_waits_changes_and_events FAILED"
        self.waits += 1;
        let looks = if timeout == Some(Duration::ZERO) { 0 } else { LOOKS };
        let mut waited = Ok(());
        for _ in 0..looks {
            waited = self.poll.wait(events, Some(Duration::ZERO));
            if waited.is_err() || !events.is_empty() {
                break;
            }
        }
        if waited.is_ok() && events.is_empty() {
            waited = self.poll.wait(events, timeout);
        }
        self.empty += u64::from(events.is_empty());
        waited
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = self.poll.ledger(); // system calls and events as they were; the waits are ours
        (ledger.waits, ledger.empty) = (self.waits, self.empty);
        ledger
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::builtin().with("spinning", || Ok(Box::new(Spinning::open()?) as Box<dyn Poller>));
    child::enter(&registry); // the comparison starts this program again as server and as load

    let report = conformance::run("spinning", Spinning::open);
    println!("{report}");
    report.assert_passed();

    let quick = Workload::find("quick")?;
    let record = Comparison::new(&registry).workload(&quick)?.subjects(&["spinning", "poll"])?.run(&mut ())?;
    print!("{}", terminal::render(&Summary::of(&record), terminal::Style::default()));
    Ok(())
}
