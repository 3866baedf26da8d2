//! Asks every mechanism what it can do here, and picks one for a server of N connections, with the reason.
//!
//!     cargo run --release --example choose -- 5000

use std::error::Error;

use pollmark::backends::{Capabilities, Growth, Registry, Trigger};
use pollmark::mechanism::Mechanism;

fn main() -> Result<(), Box<dyn Error>> {
    let connections: usize = std::env::args().nth(1).as_deref().unwrap_or("1000").parse()?;
    let registry = Registry::builtin();

    // The registry lists the preferred first, so of equals the first one stays.
    let mut best: Option<(u32, &str, Capabilities)> = None;
    for entry in registry.entries() {
        let verdict = match entry.probe() {
            Err(unavailable) => unavailable.to_string(),
            Ok(can) => match fitness(&can, connections) {
                Err(why) => format!("not for {connections} connections: {why}"),
                Ok(points) => {
                    if best.as_ref().is_none_or(|(most, ..)| points > *most) {
                        best = Some((points, entry.name(), can));
                    }
                    let triggers = Trigger::ALL.into_iter().filter(|trigger| can.supports(*trigger));
                    let triggers: Vec<_> = triggers.map(|trigger| trigger.to_string()).collect();
                    format!("a wait costs {}; {}", can.growth, triggers.join(", "))
                }
            },
        };
        println!("{:<10} {verdict}", entry.name());
    }

    let (_, name, can) = best.ok_or("nothing here can watch so many connections")?;
    let mechanism = Mechanism::parse(&registry, name)?;
    println!("\nfor {connections} connections: {mechanism}, because a wait costs {}", can.growth);
    println!("which one is faster under your load only a measurement tells: `pollmark compare`");
    Ok(())
}

/// How well this fits, by abilities alone: no mechanism is asked its name.
fn fitness(can: &Capabilities, connections: usize) -> Result<u32, String> {
    let others = 64; // listener, waker, files: what else a process has open
    if let Some(limit) = can.numbers_below.filter(|limit| *limit < (connections + others) as u64) {
        return Err(format!("descriptors must stay below {limit}"));
    }
    if let Some(limit) = can.most_sources.filter(|limit| *limit < connections + others) {
        return Err(format!("at most {limit} sources"));
    }
    let flat = can.growth == Growth::Ready;
    // Passing over a few dozen sources costs less than one system call to register one.
    let growth = if flat { 4 } else { u32::from(connections < 32) * 5 };
    Ok(growth + u32::from(can.half_close) + u32::from(can.errors))
}
